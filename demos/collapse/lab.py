"""SimCLR, BYOL, SimSiam and DINO, whole and with parts taken out, on one clock. Wraps pipelines/collapse/lab."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np

from demos.ui import charts, drawing, film, lab, studies
from demos.ui.controls import Dropdown, choice
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.collapse import numbers, verdicts
from pipelines.collapse.settings import (
    BREAKS,
    METHODS,
    PROTOTYPES,
    SWITCHES,
    Lab,
    broken,
    expected_seconds,
    preset,
)
from pipelines.settings import settings_of
from pipelines.world import storybook

if TYPE_CHECKING:
    from pipelines.collapse.data import Baselines
    from pipelines.collapse.lab import Frame, Step

PARTS = ("negatives", "predictor", "stop_gradient", "ema", "centring", "sharpening")
COLOURS = len(storybook.NOUNS)

data = lazily("pipelines.collapse.data")
pipeline = lazily("pipelines.collapse.lab")


@on_device(seconds=lab.LONGEST)
def run(settings: Lab) -> Iterator:
    yield from pipeline.run(settings)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            names, first = [(t(name), name) for name in BREAKS], next(iter(BREAKS))
            label = t("Break it: run B is")
            tab.add("broken", Dropdown(names, value=first, label=label, elem_id=tab.id("broken")))
            lab.ask(tab, verdicts.LAB, verdicts.LAB_ANSWERS, button="Run A and B")
            tab.control("method")
            for name in PARTS:
                tab.control(name, visible=name in SWITCHES[Lab().method])
            tab.control("start")
            with gr.Accordion(t("More settings"), open=False):
                for name in ("steps", "batch", "temperature", "momentum", "learning_rate", "seed"):
                    tab.control(name)
                for name in ("optimizer", "removed"):
                    tab.control(name, menu=True)
        with gr.Column(scale=8, min_width=320):
            lab.results(tab, "Two views of the same pictures: these are pulled together")


def wire(tab: Tab) -> None:
    lab.wire(tab, expected_seconds, listen=("steps", "batch"), samples=lambda: data.samples())
    tab.quick(tab["broken"].input, take_preset, ["method", "steps", *PARTS])
    tab.quick([tab[name].change for name in ("method", *PARTS)], follow_switches, ["broken", *PARTS])


# ----------------------------------------------------------------------------------------------------------- handlers


def collapse(settings: Lab, guess: str = "") -> Iterator[dict]:
    """Train a method whole (A) and without some of its parts (B), and see which one collapses."""
    lab.affordable(expected_seconds(settings))
    yield from lab.follow(SHOW, run(settings), settings, guess)


def take_preset(broken: str) -> dict:
    """What to break first."""
    name = choice(say("The preset"), broken, BREAKS)
    shown = ("method", *PARTS, *(["steps"] if "steps" in BREAKS[name] else []))
    return {part: getattr(preset(name), part) for part in shown}


def follow_switches(settings: Lab) -> dict:
    """Only the switches of the method are shown, and the preset that they make, if they make one."""
    made = next((name for name in BREAKS if _parts(preset(name)) == _parts(settings)), None)
    return {"broken": made, **{name: gr.update(visible=name in SWITCHES[settings.method]) for name in PARTS}}


def _parts(settings: Lab) -> tuple:
    return settings.method, *(getattr(settings, name) for name in SWITCHES[settings.method])


# ------------------------------------------------------------------------------------------------------ what is shown


def names_of(settings: Lab) -> tuple[str, str]:
    """Of the two runs."""
    method = METHODS[settings.method]
    return f"A · {method}, {say('whole')}", f"B · {method}, {_without(settings)}"


def _without(settings: Lab) -> str:
    known = settings_of(Lab)
    lacks = [say(known[name].label).lower() for name in broken(settings)]
    return say("without {parts}", parts=", ".join(lacks)) if lacks else say("whole as well")


def new_film(first: "Frame", settings: Lab) -> film.Film:
    """Its panels and curves, from the first frame."""
    known, dino = first.baselines, settings.method == "dino"
    nouns = data.data().query_nouns[: data.POINTS].numpy()
    panels = {
        "points": film.points(say("never-seen pictures, by noun (PCA)"), nouns, COLOURS),
        "circle": film.circle(say("on a circle"), nouns, COLOURS),
        "similarities": film.bars(say("cosines: two views (green), two pictures")),
        "values": film.bars(say("singular values"), size="small" if dino else "half"),
    }
    if dino:
        panels["prototypes"] = film.bars(say("views per prototype"))
    constants = {first.a.loss_collapsed: "A", first.b.loss_collapsed: "B"}
    if len(constants) == 1:
        constants = {first.a.loss_collapsed: ""}
    levels = [(value, say("collapsed {run}", run=name).strip()) for value, name in constants.items()]
    curves = {
        "loss": film.curve(say("loss"), levels),
        "std": film.curve(say("std·√d of z: 0 is one point"), ends=(0, 1.2)),
        "knn": film.curve(say("5-NN names of h"), baselines(known), ends=(0, 1)),
    }
    if dino:
        most = math.log(PROTOTYPES)
        curves["entropy"] = film.curve(say("teacher's entropy of the mean"), [(most, "ln K")], ends=(0, 5.2))
    return film.Film(names_of(settings), first.a.steps, panels, curves)


def baselines(known: "Baselines") -> list[tuple[float, str]]:
    """What a 5-NN is held against."""
    return [(known.chance, say("chance")), (known.pixels, say("raw pixels")), (known.untrained, say("untrained"))]


def add(played: film.Film, frames: list["Frame"]) -> None:
    """The last frame: its curves, and its pictures where it has some."""
    now = frames[-1]
    a, b = now.a, now.b
    played.measure(a.step, loss=(a.loss, b.loss), std=(a.feature_std, b.feature_std))
    if a.knn is not None:
        played.measure(a.step, knn=(a.knn, b.knn))
    if a.teacher_entropy_of_mean is not None:
        played.measure(a.step, entropy=(a.teacher_entropy_of_mean, b.teacher_entropy_of_mean))
    if a.look is None or b.look is None:
        return
    shown = {
        "points": (a.look.points, b.look.points),
        "circle": (a.look.angles, b.look.angles),
        "similarities": [(look.negatives, look.positives) for look in (a.look, b.look)],
        "values": (a.look.singular_values, b.look.singular_values),
    }
    if a.look.prototypes is not None:
        shown["prototypes"] = (a.look.prototypes, b.look.prototypes)
    told = [_told([frame.a for frame in frames]), _told([frame.b for frame in frames])]
    played.frame(a.step, told, [alarm(a), alarm(b)], **shown)


def alarm(step: "Step") -> str:
    """Said of a run that has collapsed."""
    return {
        "point": say("ALARM: everything is one point"),
        "few": say("ALARM: few prototypes for everything"),
        "even": say("ALARM: the teacher says the same of everything"),
    }.get(step.collapse, "")


def _known(steps: Sequence["Step"]) -> float | None:
    """The last 5-NN that was measured."""
    return next((step.knn for step in reversed(steps) if step.knn is not None), None)


def _told(steps: Sequence["Step"]) -> str:
    step, knn = steps[-1], _known(steps)
    loss = "–" if step.loss is None else f"{step.loss:.3f}"
    return say(
        "loss {loss} · std {std} · rank {rank} · 5-NN {knn}",
        loss=loss,
        std=f"{step.feature_std:.2f}",
        rank=f"{step.effective_rank:.1f}",
        knn="–" if knn is None else f"{knn:.0%}",
    )


def facts(frames: list["Frame"], settings: Lab) -> str:
    """The numbers of both runs beside what they are to be compared with."""
    a, b, known = frames[-1].a, frames[-1].b, frames[-1].baselines
    held = say(
        "raw pixels {pixels}, untrained {untrained}, chance {chance}",
        pixels=f"{known.pixels:.0%}",
        untrained=f"{known.untrained:.0%}",
        chance=f"{known.chance:.0%}",
    )

    def row(name: str, attribute: str, form: str, beside: str) -> list[str]:
        values = [getattr(step, attribute) for step in (a, b)]
        return [name, *("–" if value is None else format(value, form) for value in values), beside]

    collapsed = say("collapsed: A {a}, B {b}", a=f"{a.loss_collapsed:.3f}", b=f"{b.loss_collapsed:.3f}")
    rows = [
        row(say("Loss"), "loss", ".4f", collapsed),
        row(say("Spread of z, std·√d"), "feature_std", ".3f", say("1: everywhere on the sphere, 0: one point")),
        row(say("Effective rank of z"), "effective_rank", ".1f", say("of 64 directions")),
        row(say("Cosine of two views"), "cosine_positive", ".3f", say("1 is what the loss asks for")),
        row(say("Cosine of different pictures"), "cosine_negative", ".3f", say("1: they cannot be told apart")),
        [
            say("5-NN of h by noun"),
            *(
                "–" if knn is None else f"{knn:.1%}"
                for knn in (_known([f.a for f in frames]), _known([f.b for f in frames]))
            ),
            held,
        ],
    ]
    if a.knn_teacher is not None or b.knn_teacher is not None:
        rows.append(row(say("5-NN of the teacher"), "knn_teacher", ".1%", say("beside the student's, above")))
    if a.teacher_entropy is not None:
        most = f"ln {PROTOTYPES} = {math.log(PROTOTYPES):.2f}"
        rows.append(row(say("Teacher's entropy"), "teacher_entropy", ".2f", say("{most}: it takes no side", most=most)))
        mean = say("{most}: all prototypes in turn", most=most)
        rows.append(row(say("Entropy of its mean"), "teacher_entropy_of_mean", ".2f", mean))
        rows.append(row(say("Prototypes in use"), "prototypes_in_use", "d", say("of {k}", k=PROTOTYPES)))
    return charts.grid_table(["", say("A, whole"), f"B, {_without(settings)}", say("beside")], rows)


def _pairs(now: "Frame") -> dict:
    """The views of the first batch, once."""
    if now.a.views is None:
        return {}
    views = np.concatenate([now.a.views[:, 0], now.a.views[:, 1]])
    return {"pictures": drawing.sheet(views, len(now.a.views))}


def measured() -> str:
    """Every method whole and every preset, over many seeds."""
    return studies.table(
        "collapse",
        {
            "loss": (say("loss"), ".3f"),
            "loss_collapsed": (say("when collapsed"), ".3f"),
            "feature_std": (say("std·√d of z"), ".2f"),
            "effective_rank": (say("rank"), ".1f"),
            "collapsed": (say("collapsed"), ".0%"),
            "knn": (say("5-NN"), ".1%"),
            "knn_teacher": (say("of the teacher"), ".1%"),
        },
    )


SHOW = lab.Show(
    answers=verdicts.LAB_ANSWERS,
    film=new_film,
    add=add,
    facts=facts,
    verdict=verdicts.of_lab,
    numbers=numbers.of_lab,
    pictures=_pairs,
)

LESSON = Lesson(
    slug="collapse",
    title="The lab",
    chapter="collapse",
    claim="The run with the lower loss knows less.",
    settings=Lab,
    layout=layout,
    main=collapse,
    shows=lab.FOLLOWED,
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"What breaks if it is removed": measured},
)
