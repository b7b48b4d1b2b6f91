"""One question about many pictures: four boxes, and what each measure makes of them. Wraps
pipelines/detection/threshold."""

import html
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from demos.ui import charts, controls, drawing, lab
from demos.ui.cache import lru_cached
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.models import at_hand, model_names
from demos.ui.tab import Tab
from demos.ui.text import named, say, t
from pipelines.detection.settings import ThresholdSettings
from pipelines.detection.verdicts import (
    ALWAYS_NO,
    ALWAYS_NO_ANSWERS,
    CURVES,
    CURVES_ANSWERS,
    of_always_no,
    of_curves,
)
from pipelines.world import storybook

if TYPE_CHECKING:
    from pipelines.detection.threshold import Counted, Curves, Scored

SHOWN = 24  # pictures in a box
SIDE = 44  # pixels of one
IMAGINED = 10_000  # pictures of a world with the chosen base rate
BOXES = {  # field of `Counted` -> name; in the page's order, what holds one first
    "true_positives": "True positives",
    "false_positives": "False positives",
    "false_negatives": "False negatives",
    "true_negatives": "True negatives",
}

pipeline = lazily("pipelines.detection.threshold")


def models() -> list[str]:
    """Image-text models, the setting's default first."""
    return sorted(model_names("openclip"), key=lambda name: name != ThresholdSettings().model)


@on_device
def score_part(model: str, first: int) -> None:
    pipeline.scored_part(model, first)


@lru_cached
def scored(model: str) -> "Scored":
    """All pictures; between two parts of them others have the device."""
    for first in pipeline.PARTS:
        score_part(model, first)
    return pipeline.scored(model)


@lru_cached
def thumbnails(model: str) -> list[str]:
    """A source of an image for each picture."""
    small = (Image.fromarray(picture).resize((SIDE, SIDE)) for picture in scored(model).pictures)
    return [drawing.source_of(picture) for picture in small]


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, ALWAYS_NO, ALWAYS_NO_ANSWERS)
            tab.control("threshold")
            tab.control("prevalence")
            tab.control("word", menu=True)
            with gr.Accordion(t("More settings"), open=False):
                tab.control("cost")
                tab.model_menu(models())
        with gr.Column(scale=8, min_width=320):
            tab.html("measures")
            tab.html("boxes")
            lab.answered(tab)
            tab.html("charts")
            tab.html("facts")
            answers = [(t(text), key) for key, text in CURVES_ANSWERS.items()]
            moves = controls.Radio(answers, label=t(CURVES), elem_id=tab.id("moves"), elem_classes="ask")
            tab.add("moves", moves)
            tab.html("moved")
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def wire(tab: Tab) -> None:
    run = lab.wire(tab, seconds=lambda settings: 3, empties=("moves", "moved"))
    moved = [tab[name].change for name in tab.settings if name != "model"]  # a chosen model is fetched first
    shows = [*LESSON.shows, "moved"]
    tab.quick([*moved, *tab.chosen], redraw, shows)
    tab.quick(tab.fetched.success, redraw, shows)
    tab.quick(tab["numbers"].change, preview, ["boxes"])  # after Reset
    for listen in (tab["moves"].input, run.success):
        tab.quick(listen, which_moves, ["moved"])


# ----------------------------------------------------------------------------------------------------------- handlers


def threshold(settings: ThresholdSettings, guess: str | None = None) -> dict:
    """Say yes to every picture that is similar enough to a word, and count what was right and what was not."""
    guess = lab.guessed(ALWAYS_NO_ANSWERS, guess)
    found = look(settings)
    return present(found, settings) | {
        "verdict": lab.verdict(of_always_no(found, guess), ALWAYS_NO_ANSWERS),
        "status": "",
        "numbers": pipeline.numbers(settings, found, guess),
    }


def redraw(settings: ThresholdSettings, moves: str | None, numbers: dict | None) -> dict | None:
    """After a control moved: everything again; before the question is answered, the pictures alone."""
    if not numbers:
        return preview(settings, None)
    return threshold(settings) | (which_moves(settings, moves) or {})


def preview(settings: ThresholdSettings, numbers: dict | None) -> dict | None:
    """What is there to be seen before the first run."""
    return None if numbers else {"boxes": boxes(look(settings), settings, counted=False)}


def which_moves(settings: ThresholdSettings, moves: str | None) -> dict | None:
    """The second question is answered: both curves, at the base rate and at a tenth of it."""
    guess = lab.guessed(CURVES_ANSWERS, moves)
    if guess is None:
        return None
    found = look(settings)
    told = lab.verdict(of_curves(found, guess), CURVES_ANSWERS)
    both = roc(found, found.rarer) + precision_recall(found, found.rarer)
    return {"moved": f'{told}<div class="charts">{both}</div>'}


def look(settings: ThresholdSettings) -> "Counted":
    at_hand(settings.model)
    scored(settings.model)
    return pipeline.run(settings)


# ------------------------------------------------------------------------------------------------------ what is shown


def present(found: "Counted", settings: ThresholdSettings) -> dict:
    """What each part shows."""
    return {
        "measures": measures(found, settings),
        "boxes": boxes(found, settings),
        "charts": f'<div class="charts">{roc(found)}{precision_recall(found)}{costs(found)}</div>',
        "facts": facts(found, settings),
    }


def measures(found: "Counted", settings: ThresholdSettings) -> str:
    """The headline: both numbers beside what needs no model."""
    right = say("always no: {no}, always yes: {yes}", no=f"{found.always_no:.1%}", yes=f"{settings.prevalence:.1%}")
    precision = "–" if found.precision is None else f"{found.precision:.1%}"
    return charts.headline(
        (say("{share} right", share=f"{found.accuracy:.1%}"), right),
        (
            say("{share} of the accused hold one", share=precision),
            say("picked blindly: {share}", share=f"{settings.prevalence:.1%}"),
        ),
    )


def boxes(found: "Counted", settings: ThresholdSettings, counted: bool = True) -> str:
    """Where every picture has fallen. Columns: what it holds; rows: what is said.

    Args:
        counted: whether to tell how many.
    """
    hits, alarms = settings.prevalence * found.recall, (1 - settings.prevalence) * found.false_alarm
    shares = (hits, alarms, settings.prevalence - hits, 1 - settings.prevalence - alarms)
    sources = thumbnails(settings.model)
    cells = []
    for (name, title), share in zip(BOXES.items(), shares, strict=True):
        places = getattr(found, name)
        counts = say("{count} of {all}", count=f"{round(IMAGINED * share):,}", all=f"{IMAGINED:,}")
        told = f"<b>{len(places)}</b> <i>{html.escape(counts)}</i>" if counted else ""
        right = "right" if name.startswith("true") else "wrong"
        cells.append(
            f'<section class="{right}" data-box="{name}"><header>{html.escape(say(title))} {told}</header>'
            f"<div>{_pictures(places, found.scores, sources, counted)}</div></section>"
        )
    heads = [say("holds {thing}", thing=named(storybook.article(settings.word))), say("holds none")]
    head = "".join(f"<h2>{html.escape(text)}</h2>" for text in heads)
    note = say("Bold: of the {drawn} pictures here. Beside it: at this base rate.", drawn=len(found.scores))
    return f'<div class="confusion">{head}{"".join(cells)}</div><p class="cell-told">{html.escape(note)}</p>'


def _pictures(places: np.ndarray, scores: np.ndarray, sources: list[str], counted: bool) -> str:
    """The first of a box, the most similar of all first."""
    shown = [f'<img src="{sources[place]}" alt="{place + 1}" title="{scores[place]:.2f}">' for place in places[:SHOWN]]
    if counted and len(places) > SHOWN:
        shown.append(f"<span>{html.escape(say('and {count} more', count=len(places) - SHOWN))}</span>")
    return "".join(shown)


def roc(found: "Counted", beside: "Curves | None" = None) -> str:
    """True positives against false ones."""
    lines = [charts.Line(name=_named(found.curves), x=found.curves.fpr.tolist(), y=found.curves.tpr.tolist())]
    if beside is not None:
        lines.append(charts.Line(name=_named(beside), x=beside.fpr.tolist(), y=beside.tpr.tolist()))
    lines.append(charts.Line(name=say("a coin"), x=[0, 1], y=[0, 1]))
    return charts.curves(
        lines,
        say("false alarms, FPR"),
        say("found, TPR"),
        x_range=(0, 1),
        y_range=(0, 1.02),
        title=say("ROC: area {area}, a coin 0.5", area=f"{found.curves.roc_area:.3f}"),
        points={"": (found.false_alarm, found.recall)},
    )


def precision_recall(found: "Counted", beside: "Curves | None" = None) -> str:
    """Precision against recall; a coin is as precise as the base rate."""
    lines = [charts.Line(name=_named(found.curves), x=found.curves.tpr.tolist(), y=found.curves.precision.tolist())]
    if beside is not None:
        lines.append(charts.Line(name=_named(beside), x=beside.tpr.tolist(), y=beside.precision.tolist()))
    return charts.curves(
        lines,
        say("recall, TPR"),
        say("precision"),
        levels=[(found.curves.prevalence, say("a coin"))],
        x_range=(0, 1),
        y_range=(0, 1.02),
        title=say("Precision: average {area}", area=f"{found.curves.average_precision:.3f}"),
        points={} if found.precision is None else {"": (found.recall, found.precision)},
    )


def _named(curve: "Curves") -> str:
    return say("base rate {share}", share=f"{curve.prevalence:.2%}")


def costs(found: "Counted") -> str:
    """What a picture costs at every threshold."""
    curve = found.curves
    return charts.curves(
        [charts.Line(name=say("the model"), x=curve.thresholds[1:].tolist(), y=curve.cost[1:].tolist())],
        say("threshold"),
        say("misses a picture"),
        mark_x=found.threshold,
        levels=[(float(curve.cost[0]), say("always no"))],
        title=say("Expected cost; a false accusation: {price}", price=f"{curve.price:g}"),
    )


def facts(found: "Counted", settings: ThresholdSettings) -> str:
    """Every measure beside what needs no model, and what it depends on."""
    (found_low, found_high), (alarm_low, alarm_high) = found.intervals
    curve, (cheap_at, cheap) = found.curves, found.cheapest
    cheapest = say("say no to all") if np.isinf(cheap_at) else f"{cheap_at:.2f}"
    return charts.facts(
        [
            (
                say("Recall, TPR"),
                f"{found.recall:.1%}",
                say(
                    "95 %: {low} – {high}, of {count} pictures; the base rate is no part of it",
                    low=f"{found_low:.0%}",
                    high=f"{found_high:.0%}",
                    count=len(found.true_positives) + len(found.false_negatives),
                ),
            ),
            (
                say("False alarms, FPR"),
                f"{found.false_alarm:.1%}",
                say(
                    "95 %: {low} – {high}; the base rate is no part of it",
                    low=f"{alarm_low:.1%}",
                    high=f"{alarm_high:.1%}",
                ),
            ),
            (
                say("Precision"),
                "–" if found.precision is None else f"{found.precision:.1%}",
                say("picked blindly: {share}, the base rate", share=f"{settings.prevalence:.1%}"),
            ),
            (
                say("F1"),
                f"{found.f1:.3f}",
                say("best: {f1} at {at}; always no: 0", f1=f"{found.best_f1[1]:.3f}", at=f"{found.best_f1[0]:.2f}"),
            ),
            (say("Accuracy"), f"{found.accuracy:.1%}", say("always no: {no}", no=f"{found.always_no:.1%}")),
            (
                say("Expected cost a picture"),
                f"{found.cost:.4f}",
                say(
                    "least: {least} at {at}; always no: {no}, always yes: {yes}",
                    least=f"{cheap:.4f}",
                    at=cheapest,
                    no=f"{curve.cost[0]:.4f}",
                    yes=f"{curve.cost[-1]:.4f}",
                ),
            ),
        ]
    )


LESSON = Lesson(
    slug="threshold",
    title="Threshold and base rate",
    chapter="find",
    claim="Some measures tell of the model, some of your threshold, and some of the world you ask in.",
    settings=ThresholdSettings,
    layout=layout,
    main=threshold,
    shows=("boxes", "measures", "charts", "facts", "status", "verdict", "numbers"),
    wire=wire,
)
