"""Borrowed eyes: four things a model has never met, told apart with what it learned of others; and which of its blocks
to freeze when it learns them. Wraps pipelines/cues/transfer."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from demos.cues import questions
from demos.cues.drawings import Pair, Share, pairs, shares
from demos.ui import address, charts, controls, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.cues.settings import BLOCKS, STARTS, BorrowSettings, FreezeSettings
from pipelines.cues.verdicts import (
    BORROWED,
    BORROWED_ANSWERS,
    FROZEN,
    FROZEN_ANSWERS,
    QUARTER,
    borrowed_asked,
    frozen_asked,
    of_borrowed,
    of_frozen,
)
from pipelines.settings import checked, settings_of
from pipelines.world import storybook

if TYPE_CHECKING:
    from pipelines.cues.transfer import Borrowed, Shares, Step

FREEZE = {name: known for name, known in settings_of(FreezeSettings).items() if name not in ("model", "seed")}
AT_ONCE = ("block", "examples", "unlabelled", "permuted")  # once the features are there
DEFAULT = FreezeSettings()

pipeline = lazily("pipelines.cues.transfer")


def seconds(settings: BorrowSettings) -> float:
    """What a run is expected to take on two cores, where nothing of it is there yet."""
    return 20


def freezing_seconds(settings: FreezeSettings) -> float:
    """What a training is expected to take on two cores."""
    learns = 1 - max(0, settings.frozen - 0.2) / BLOCKS  # of the tower
    looks = settings.steps / 10 + 1
    return 6 + learns * (settings.steps * 0.02 * min(16, 4 * settings.examples) + 1.4 * looks)


@on_device
def look(settings: BorrowSettings) -> "Borrowed":
    return pipeline.look(settings)


@on_device(seconds=lab.LONGEST)
def freeze(settings: FreezeSettings) -> Iterator:
    yield from pipeline.run(settings)


@on_device
def things(settings: BorrowSettings) -> np.ndarray:
    """(4, S, S, 3) uint8, a picture of each."""
    return pipeline.one_of_each(pipeline.asked(settings))


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, BORROWED.format(**borrowed_asked(BorrowSettings())), BORROWED_ANSWERS)
            for name in ("examples", "block", "noise"):
                tab.control(name)
            with gr.Accordion(t("More settings"), open=False):
                tab.control("unlabelled")
                tab.control("permuted")
                tab.control("model", menu=True)
                tab.control("seed")
        with gr.Column(scale=8, min_width=320):
            tab.html("share")
            tab.html("things")
            lab.answered(tab)
            tab.html("beside")
            tab.html("charts")
            with tab.accordion("freeze_box", "Let it learn them: which blocks to freeze?"):
                _lay_out_freezing(tab)
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def _lay_out_freezing(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=260):
            questions.ask(tab, "freeze", FROZEN.format(**frozen_asked(DEFAULT)), FROZEN_ANSWERS, "Train")
            for name, known in FREEZE.items():
                tab.add(f"freeze_{name}", controls.control(known, elem_id=tab.id(f"freeze_{name}")))
        with gr.Column(scale=6, min_width=300):
            tab.markdown("freeze_status")
            questions.answered(tab, "freeze")
            tab.add("freeze_film", film.FilmPlayer(elem_id=tab.id("freeze_film")))
            tab.html("freeze_facts")


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds)
    restored = address.keep(tab)
    tab.quick([tab[name].change for name in AT_ONCE], redraw, LESSON.shows)
    tab.quick([tab[name].change for name in ("noise", "model", "seed")], preview, LESSON.shows)
    tab.quick(restored.then, preview, LESSON.shows)
    tab.quick(tab["numbers"].change, after_reset, ["share", "things"])
    tab.quick(tab["examples"].change, ask_again, ["guess"])
    tab.quick(tab["freeze_guess"].change, wake_freeze, ["freeze_run"])
    public: dict[str, Any] = {"api_name": f"{tab.slug}_freezing", "api_visibility": "public"}
    shows = [f"freeze_{name}" for name in ("film", "facts", "status", "verdict", "numbers")]
    tab.compute(tab["freeze_run"].click, transfer_freezing, shows, seconds=lab.LONGEST + 60, **public)


# ----------------------------------------------------------------------------------------------------------- handlers


def transfer(settings: BorrowSettings, guess: str | None = None) -> Iterator[dict]:
    """Tell four things apart that a model has never met, by the nearest mean of a few examples of each."""
    guess = lab.guessed(BORROWED_ANSWERS, guess)
    yield {"status": say("Looking at 400 pictures, once …"), "things": drawn(things(settings), None)}
    yield answered(settings, guess)


def answered(settings: BorrowSettings, guess: str | None) -> dict:
    found = look(settings)
    return {
        "share": headline(found),
        "things": drawn(found.pictures, found.called),
        "beside": beside(found),
        "charts": curves(found, settings),
        "status": "",
        "verdict": lab.verdict(of_borrowed(found, guess), BORROWED_ANSWERS),
        "numbers": pipeline.borrowed_numbers(settings, found, guess),
    }


def redraw(settings: BorrowSettings, numbers: dict | None) -> dict | None:
    """After a control moved that needs no new features: everything again where the question is answered."""
    return answered(settings, None) if numbers else None


def preview(settings: BorrowSettings) -> dict:
    """What is there to be seen before an answer: the four things."""
    told = say("of the never-seen pictures are right: predict first")
    shown = {"share": charts.headline(("?", told)), "things": drawn(things(settings), None)}
    return {**dict.fromkeys(LESSON.shows), **shown, "status": say("Choose an answer, then run.")}


def after_reset(settings: BorrowSettings, numbers: dict | None) -> dict | None:
    if numbers:
        return None
    shown = preview(settings)
    return {name: shown[name] for name in ("share", "things")}


def ask_again(settings: BorrowSettings) -> dict:
    """The question, with the number of examples that is set now."""
    return {"guess": gr.Radio(label=say(BORROWED, **borrowed_asked(settings)))}


def wake_freeze(freeze_guess: str | None) -> dict:
    return {"freeze_run": questions.awake(freeze_guess)}


def transfer_freezing(
    model: str,
    seed: int,
    freeze_frozen: int = DEFAULT.frozen,
    freeze_start: str = DEFAULT.start,
    freeze_examples: int = DEFAULT.examples,
    freeze_noise: int = DEFAULT.noise,
    freeze_permuted: bool = DEFAULT.permuted,
    freeze_steps: int = DEFAULT.steps,
    freeze_rate: float = DEFAULT.rate,
    freeze_guess: str | None = None,
) -> Iterator[dict]:
    """Train the model on a few examples of the four things, its first blocks frozen."""
    given = (freeze_frozen, freeze_start, freeze_examples, freeze_noise, freeze_permuted, freeze_steps, freeze_rate)
    settings = checked(FreezeSettings, {"model": model, "seed": seed, **dict(zip(FREEZE, given, strict=True))})
    guess = lab.guessed(FROZEN_ANSWERS, freeze_guess)
    lab.affordable(freezing_seconds(settings))
    yield {"freeze_status": say("Getting ready …"), "freeze_film": None, "freeze_verdict": "", "freeze_facts": ""}
    played, first = new_film(settings), None
    for now, due in lab.paced(freeze(settings)):
        first = first or now
        add(played, now)
        if due:
            yield {"freeze_status": lab.progress(now.step, now.steps), "freeze_film": played.value()}
    assert first is not None
    yield {
        "freeze_status": "",
        "freeze_film": played.value(),
        "freeze_facts": freezing_facts(now, first),
        "freeze_verdict": lab.verdict(of_frozen(now, guess), FROZEN_ANSWERS),
        "freeze_numbers": pipeline.numbers(settings, now, guess),
    }


# ---------------------------------------------------------------------------------------------------- borrowed features


def spread(shares: "Shares") -> str:
    return f"{shares.mean:.1%} ± {shares.spread:.1%}"


def headline(found: "Borrowed") -> str:
    told = say(
        "of {count} never-seen pictures, with {examples} of each; raw pixels {pixels}, random weights {random}",
        count=found.queries,
        examples=found.examples,
        pixels=f"{found.pixels.mean:.0%}",
        random=f"{found.random.mean:.0%}",
    )
    return charts.headline((f"{found.features.mean:.1%}", told))


def drawn(pictures: np.ndarray, called: Mapping[str, Mapping[str, float]] | None) -> str:
    """The four things, and what the model calls them without having the words."""
    found = []
    for picture, thing in zip(pictures, storybook.UNSEEN, strict=True):
        told = say(thing)
        if called is not None:
            names = ", ".join(f"{say(name)} {share:.0%}" for name, share in called[thing].items())
            told = say("{thing}: called {names}", thing=told, names=names)
        found.append(Pair(pictures=[picture], told=told))
    return f'<div class="small">{pairs(found)}</div>'


def beside(found: "Borrowed") -> str:
    """The share right beside pixels, random weights, and chance."""
    rows = [
        Share(name=name, share=shares.mean, told=spread(shares), stands_out=not place)
        for place, (name, shares) in enumerate(
            (
                (say("borrowed features"), found.features),
                (say("the same tower with random weights"), found.random),
                (say("raw pixels"), found.pixels),
            )
        )
    ]
    told = say(
        "± is the spread over {draws} choices of examples; the line is chance, {chance}.",
        draws=pipeline.DRAWS,
        chance=f"{QUARTER:.0%}",
    )
    return f"{shares(rows, mark=QUARTER)}<p>{told}</p>"


def curves(found: "Borrowed", settings: BorrowSettings) -> str:
    """Against examples, and against blocks."""
    by_examples = _curve(found.curve, say("examples of each"), say("More examples"), settings.examples)
    by_block = _curve(found.blocks, say("features after block"), say("Deeper features"), settings.block)
    return f'<div class="charts">{by_examples}{by_block}</div>'


def _curve(known: Mapping[int, "Shares"], x_label: str, title: str, mark: float) -> str:
    line = charts.Line(
        name=say("right, ± spread over choices of examples"),
        x=list(known),
        y=[each.mean for each in known.values()],
        low=[each.mean - each.spread for each in known.values()],
        high=[min(1.0, each.mean + each.spread) for each in known.values()],
    )
    chance = [(QUARTER, say("chance"))]
    return charts.curves([line], x_label, say("right"), mark_x=mark, levels=chance, y_range=(0, 1), title=title)


# ----------------------------------------------------------------------------------------------------- borrowed weights


def new_film(settings: FreezeSettings) -> film.Film:
    """The course of a training."""
    curves = {
        "right": film.curve(say("right about never-seen pictures"), [(QUARTER, say("chance"))], ends=(0, 1)),
        "loss": film.curve(say("loss on the examples")),
    }
    start = say(STARTS[settings.start])
    name = say("{frozen} blocks frozen, from {start}", frozen=settings.frozen, start=start)
    return film.Film([name], settings.steps, {}, curves)


def add(played: film.Film, now: "Step") -> None:
    """The next step; a frame where somebody looked."""
    if now.loss is not None:
        played.measure(now.step, loss=[now.loss])
    if now.right is not None:
        played.measure(now.step, right=[now.right])
        played.frame(now.step, [say("{right} right", right=f"{now.right:.0%}")], [""])


def freezing_facts(now: "Step", first: "Step") -> str:
    assert now.right is not None and first.right is not None
    before = say("before training {before}, chance {chance}", before=f"{first.right:.0%}", chance=f"{QUARTER:.0%}")
    learns = say("of {of}", of=f"{now.of:,}")
    return charts.facts(
        [
            (say("Right"), f"{now.right:.1%}", before),
            (say("Numbers that learn"), f"{now.learns:,}", learns),
            (say("Largest change of a frozen one"), f"{now.moved:g}", say("0: frozen to the bit")),
        ]
    )


def measured() -> str:
    """Features by block, and trainings by frozen blocks, over many seeds."""
    return studies.table("transfer", {"right": (say("right"), ".1%"), "loss": (say("loss on the examples"), ".3f")})


LESSON = Lesson(
    slug="transfer",
    title="Borrowed eyes",
    chapter="cues",
    claim="Who has learned to see many things needs few examples of a new one.",
    settings=BorrowSettings,
    layout=layout,
    main=transfer,
    shows=("share", "things", "beside", "charts", "status", "verdict", "numbers"),
    wire=wire,
    tables={"Good and bad numbers": measured},
)
