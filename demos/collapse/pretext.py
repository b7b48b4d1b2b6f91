"""What a task that needs no labels teaches, and what it does not. Wraps pipelines/collapse/pretext."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from demos.ui import charts, drawing, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say
from pipelines.collapse import numbers, verdicts
from pipelines.collapse.settings import TASKS, Pretext, expected_seconds
from pipelines.world import storybook

if TYPE_CHECKING:
    from pipelines.collapse.pretext import Frame, Step

ANGLES = ("0°", "90°", "180°", "270°")

data = lazily("pipelines.collapse.data")
pipeline = lazily("pipelines.collapse.pretext")


@on_device(seconds=lab.LONGEST)
def run(settings: Pretext) -> Iterator:
    yield from pipeline.run(settings)


def layout(tab: Tab) -> None:
    lab.lay_out(
        tab,
        verdicts.PRETEXT,
        verdicts.PRETEXT_ANSWERS,
        ("task", "beside"),
        ("steps", "batch", "learning_rate", "seed"),
        "One picture, turned four ways, and what run A says of it in the end",
    )


def wire(tab: Tab) -> None:
    lab.wire(tab, expected_seconds, listen=("steps", "batch"), samples=lambda: data.samples())


def pretext(settings: Pretext, guess: str = "") -> Iterator[dict]:
    """Train on a task that is not the one we want (A) beside another (B), and ask both what things are called."""
    lab.affordable(expected_seconds(settings))
    yield from lab.follow(SHOW, run(settings), settings, guess)


# ------------------------------------------------------------------------------------------------------ what is shown


def new_film(first: "Frame", settings: Pretext) -> film.Film:
    assert first.a.look is not None
    known = first.baselines
    nouns, angles = first.a.look.nouns, first.a.look.angles
    held = [(known.chance, say("chance")), (known.pixels, say("raw pixels")), (known.untrained, say("untrained"))]
    panels = {
        "nouns": film.points(say("h of never-seen pictures, each at four angles, coloured by noun"), nouns, 24),
        "angles": film.points(say("the same points, coloured by angle"), angles, 4),
    }
    curves = {
        "task": film.curve(say("task solved"), [(first.a.task_chance or 0, say("chance of A"))], ends=(0, 1)),
        "noun": film.curve(say("5-NN by noun"), held, ends=(0, 1)),
        "angle": film.curve(say("5-NN by angle"), [(0.25, say("chance"))], ends=(0, 1)),
    }
    names = (f"A · {say(TASKS[settings.task])}", f"B · {say(TASKS[settings.beside])}")
    return film.Film(names, first.a.steps, panels, curves)


def add(played: film.Film, frames: list["Frame"]) -> None:
    a, b = frames[-1].a, frames[-1].b
    played.measure(a.step, task=(a.task_accuracy, b.task_accuracy))
    if a.look is None or b.look is None:
        return
    played.measure(a.step, noun=(a.look.knn, b.look.knn), angle=(a.look.knn_angle, b.look.knn_angle))
    points = (a.look.points, b.look.points)
    played.frame(a.step, [_told(a), _told(b)], ("", ""), nouns=points, angles=points)


def _told(step: "Step") -> str:
    assert step.look is not None
    solved = "–" if step.task_accuracy is None else f"{step.task_accuracy:.0%}"
    return say("task {solved} · 5-NN by noun {knn}", solved=solved, knn=f"{step.look.knn:.0%}")


def facts(frames: list["Frame"], settings: Pretext) -> str:
    """What each layer knows, before and after; during a run, before."""
    first, last = frames[0], frames[-1]
    assert first.a.layers is not None
    after_a, after_b = last.a.layers, last.b.layers
    head = ["", say("5-NN by noun: before"), "A", "B", say("ridge probe, noun: before"), "A", "B"]
    head += [say("ridge probe, colour: before"), "A", "B"]
    rows = []
    for place, before in enumerate(first.a.layers):
        now = [layers[place] if layers and last is not first else None for layers in (after_a, after_b)]
        cells = [say(before.name)]
        for figure in ("nouns_knn", "nouns_ridge", "colours_ridge"):
            cells.append(f"{getattr(before, figure):.0%}")
            cells += ["…" if layer is None else f"{getattr(layer, figure):.0%}" for layer in now]
        rows.append(cells)
    known = first.baselines
    beside = say(
        "Chance: noun {chance}, colour {colour}. 5-NN of raw pixels {pixels}, of the untrained network {untrained}. h "
        "is what the encoder gives, z what the head makes of it.",
        chance=f"{known.chance:.0%}",
        colour=f"{first.colours_chance:.0%}",
        pixels=f"{known.pixels:.0%}",
        untrained=f"{known.untrained:.0%}",
    )
    return f"{charts.grid_table(head, rows)}<p>{beside}</p>{_by_noun(last)}"


def _by_noun(frame: "Frame") -> str:
    """Which things are told upright best and worst."""
    look = frame.a.look
    if look is None or look.accuracy_by_noun is None:
        return ""
    order = [place for place in np.argsort(-look.accuracy_by_noun) if not np.isnan(look.accuracy_by_noun[place])]

    shares = look.accuracy_by_noun

    def named(places: list) -> str:
        return ", ".join(f"{say(storybook.NOUNS[place])} {shares[place]:.0%}" for place in places)

    return f"<p>{say('Angles told best: {best}; worst: {worst}.', best=named(order[:4]), worst=named(order[-4:]))}</p>"


def turned(frame: "Frame") -> dict:
    """The four rotations, each with what run A says."""
    look = frame.a.look
    if look is None or look.example is None or look.probabilities is None:
        return {}
    captions = []
    for truth, shares in zip(ANGLES, look.probabilities, strict=True):
        says = int(shares.argmax())
        captions.append(
            say("{truth}: says {angle}, {share}", truth=truth, angle=ANGLES[says], share=f"{shares[says]:.0%}")
        )
    pictures = [Image.fromarray(each) for each in look.example]
    return {"pictures": drawing.strip(pictures, captions, 160)}


def measured() -> str:
    """Every task over many seeds."""
    return studies.table(
        "pretext",
        {
            "task_accuracy": (say("task"), ".0%"),
            "knn": (say("5-NN of h, noun"), ".1%"),
            "knn_angle": (say("5-NN of h, angle"), ".1%"),
            "h_nouns_ridge": (say("probe of h, noun"), ".1%"),
            "z_nouns_ridge": (say("probe of z, noun"), ".1%"),
            "h_colours_ridge": (say("probe of h, colour"), ".1%"),
            "z_colours_ridge": (say("probe of z, colour"), ".1%"),
            "angle_accuracy_animals": (say("angles told: animals"), ".0%"),
            "angle_accuracy_round": (say("angles told: round things"), ".0%"),
        },
    )


SHOW = lab.Show(
    answers=verdicts.PRETEXT_ANSWERS,
    film=new_film,
    add=add,
    facts=facts,
    verdict=verdicts.of_pretext,
    numbers=numbers.of_pair,
    pictures=turned,
)

LESSON = Lesson(
    slug="pretext",
    title="Pretexts",
    chapter="collapse",
    claim="A task that is solved is not yet the thing that was wanted.",
    settings=Pretext,
    layout=layout,
    main=pretext,
    shows=lab.FOLLOWED,
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"What breaks if it is removed": measured},
)
