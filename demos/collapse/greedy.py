"""Modules that each have a loss of their own, and a wall between their gradients. Wraps pipelines/collapse/greedy."""

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
from pipelines.collapse.settings import Greedy, expected_seconds

if TYPE_CHECKING:
    from pipelines.collapse.greedy import Frame, Step

MODULES = (0, 1, 2)

data = lazily("pipelines.collapse.data")
pipeline = lazily("pipelines.collapse.greedy")


@on_device(seconds=lab.LONGEST)
def run(settings: Greedy) -> Iterator:
    yield from pipeline.run(settings)


def layout(tab: Tab) -> None:
    lab.lay_out(
        tab,
        verdicts.GREEDY,
        verdicts.GREEDY_ANSWERS,
        ("steps",),
        ("batch", "learning_rate", "seed"),
        "The patch it predicts from, and the one below, which it must find among 65",
    )


def wire(tab: Tab) -> None:
    lab.wire(
        tab,
        expected_seconds,
        listen=("steps", "batch"),
        samples=lambda: data.samples(pipeline.TRAINING, pipeline.LARGER),
    )


def greedy(settings: Greedy, guess: str = "") -> Iterator[dict]:
    """Train three modules by three losses that do not know of each other (A), and end to end (B)."""
    lab.affordable(expected_seconds(settings))
    yield from lab.follow(SHOW, run(settings), settings, guess)


# ------------------------------------------------------------------------------------------------------ what is shown


def new_film(first: "Frame", settings: Greedy) -> film.Film:
    known = first.baselines
    panels = {
        "gradients": film.picture(say("whose loss (rows) moves whose weights (columns)"), size="half"),
        "found": film.bars(say("how likely each of 65 patches is; the first bar is the right one"), size="half"),
    }
    curves = {
        f"loss{m}": film.curve(say("loss of module {n}", n=m + 1), [(known.loss, "ln 65")], ends=(1, 6))
        for m in MODULES
    }
    for m in MODULES:
        levels = [(known.untrained[m], say("untrained")), (known.chance, say("chance"))]
        curves[f"nouns{m}"] = film.curve(say("probe of module {n}: nouns", n=m + 1), levels, ends=(0, 0.7))
    return film.Film((f"A · {say('greedy')}", f"B · {say('end to end')}"), first.a.steps, panels, curves)


def add(played: film.Film, frames: list["Frame"]) -> None:
    a, b = frames[-1].a, frames[-1].b
    played.measure(a.step, **{f"loss{m}": (a.losses[m], b.losses[m]) for m in MODULES})
    if a.nouns is None or b.nouns is None:
        return
    played.measure(a.step, **{f"nouns{m}": (a.nouns[m], b.nouns[m]) for m in MODULES})
    shown = {"gradients": (wall(a), wall(b)), "found": (a.probabilities, b.probabilities)}
    played.frame(a.step, [_told(a), _told(b)], ("", ""), **shown)


def _told(step: "Step") -> str:
    assert step.nouns is not None
    nouns = " ".join(f"{share:.0%}" for share in step.nouns)
    losses = " ".join(f"{loss:.2f}" for loss in step.losses)
    return say("losses {losses} · nouns {nouns}", losses=losses, nouns=nouns)


def wall(step: "Step") -> Image.Image:
    """The gradient of every module's loss by every module's weights; black where there is none at all."""
    assert step.gradients is not None
    lengths = step.gradients / max(float(np.nanmax(step.gradients)), 1e-12)
    cells = drawing.viridis(np.sqrt(lengths))
    cells[np.isnan(lengths)] = 0
    cells[[not each for each in step.taught]] //= 3  # a loss that is measured, and not followed
    return drawing.enlarge(Image.fromarray(cells), 120)


def facts(frames: list["Frame"], settings: Greedy) -> str:
    """Every module: its loss and its probe, beside the untrained one."""
    a, b, known = frames[-1].a, frames[-1].b, frames[-1].baselines
    probed = next(frame for frame in reversed(frames) if frame.a.nouns is not None)
    assert probed.a.nouns is not None and probed.b.nouns is not None
    head = ["", say("loss, greedy"), say("end to end"), say("chance")]
    head += [say("nouns, greedy"), say("end to end"), say("untrained")]
    rows = [
        [
            say("module {n}", n=m + 1),
            *(f"{step.losses[m]:.2f}{'' if step.taught[m] else ' *'}" for step in (a, b)),
            f"{known.loss:.2f}",
            *(f"{nouns[m]:.1%}" for nouns in (probed.a.nouns, probed.b.nouns, known.untrained)),
        ]
        for m in MODULES
    ]
    beside = say(
        "* measured, not followed. Nouns: linear probe on never-seen pictures; raw grey pixels {pixels}, chance "
        "{chance}. Activations kept for the gradients: greedy {a} MB, end to end {b} MB.",
        pixels=f"{known.pixels:.0%}",
        chance=f"{known.chance:.0%}",
        a=f"{a.memory / 1e6:.1f}",
        b=f"{b.memory / 1e6:.1f}",
    )
    return f"{charts.grid_table(head, rows)}<p>{beside}</p>"


def patches(frame: "Frame") -> dict:
    """The two patches of the choice that is shown."""
    if frame.a.patches_shown is None:
        return {}
    images = [Image.fromarray(patch).convert("RGB") for patch in frame.a.patches_shown]
    return {"pictures": drawing.strip(images, [say("from here …"), say("… to this one")], 160)}


def measured() -> str:
    """Every module over many seeds."""
    return studies.table(
        "greedy",
        {"loss": (say("loss"), ".2f"), "nouns": (say("probe, nouns"), ".1%"), "untrained": (say("untrained"), ".1%")},
    )


SHOW = lab.Show(
    answers=verdicts.GREEDY_ANSWERS,
    film=new_film,
    add=add,
    facts=facts,
    verdict=verdicts.of_greedy,
    numbers=numbers.of_pair,
    pictures=patches,
)

LESSON = Lesson(
    slug="greedy",
    title="Greedy modules",
    chapter="collapse",
    claim="A layer can learn without being told what the next one needs.",
    settings=Greedy,
    layout=layout,
    main=greedy,
    shows=lab.FOLLOWED,
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"What breaks if it is removed": measured},
)
