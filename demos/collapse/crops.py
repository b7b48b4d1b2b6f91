"""Who is pulled together and who is pushed apart: global and local crops. Wraps pipelines/collapse/multicrop."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from demos.ui import charts, drawing, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say
from pipelines.collapse import numbers, verdicts
from pipelines.collapse.settings import LOCAL_LOCAL, MultiCrop, expected_seconds

if TYPE_CHECKING:
    from pipelines.collapse.multicrop import Cosine, Example, Frame, Step

SCALE = 4  # pixels of the page for one of the scene
GLOBALS = 2  # crops that come first
PULL, PUSH = (16, 185, 129), (239, 68, 68)

pipeline = lazily("pipelines.collapse.multicrop")


@on_device(seconds=lab.LONGEST)
def run(settings: MultiCrop) -> Iterator:
    yield from pipeline.run(settings)


def layout(tab: Tab) -> None:
    lab.lay_out(
        tab,
        verdicts.MULTICROP,
        verdicts.MULTICROP_ANSWERS,
        ("local_local", "beside", "local_global", "global_global"),
        ("strength", "local_least", "local_most", "start", "steps", "batch", "learning_rate", "seed"),
        "Crops of one scene in the end: who pulls (green) and pushes (red) whom, A and B",
    )


def wire(tab: Tab) -> None:
    lab.wire(tab, expected_seconds, listen=("steps", "batch"), samples=lambda: pipeline.samples())


def crops(settings: MultiCrop, guess: str = "") -> Iterator[dict]:
    """Train on big and small crops of scenes with two objects, with one arrow changed between A and B."""
    lab.affordable(expected_seconds(settings))
    yield from lab.follow(SHOW, run(settings), settings, guess)


# ------------------------------------------------------------------------------------------------------ what is shown


def new_film(first: "Frame", settings: MultiCrop) -> film.Film:
    assert first.a.look is not None
    known, count = first.baselines, len(first.a.look.points)
    scenes = np.arange(count) // 9  # eight small crops of a scene, and the whole
    panels = {
        "example": film.picture(say("crops of one scene: green pulls, red pushes")),
        "map": film.points(say("crops of twelve never-seen scenes, a colour each (PCA)"), scenes, 12),
    }
    held = [(known.chance, say("chance")), (known.pixels, say("raw pixels")), (known.untrained, say("untrained"))]
    curves = {
        "different": film.curve(say("cosine, two objects of a scene"), ends=(-0.2, 1)),
        "same": film.curve(say("cosine, one object"), ends=(-0.2, 1)),
        "unrelated": film.curve(say("cosine, two scenes"), ends=(-0.2, 1)),
        "knn": film.curve(say("5-NN by noun"), held, ends=(0, 1)),
    }
    names = [f"{run} · {_arrow(way)}" for run, way in (("A", settings.local_local), ("B", settings.beside))]
    return film.Film(names, first.a.steps, panels, curves)


def _arrow(way: str) -> str:
    return say("small crops: {arrow}", arrow=say(LOCAL_LOCAL[way]))


def add(played: film.Film, frames: list["Frame"]) -> None:
    a, b = frames[-1].a, frames[-1].b
    if a.look is None or b.look is None:
        return
    for name in ("different", "same", "unrelated"):
        played.measure(a.step, **{name: (getattr(a.look, name).mean, getattr(b.look, name).mean)})
    played.measure(a.step, knn=(a.look.knn, b.look.knn))
    examples = [None if step.example is None else arrows(step.example) for step in (a, b)]
    played.frame(a.step, [_told(a), _told(b)], ("", ""), example=examples, map=(a.look.points, b.look.points))


def _told(step: "Step") -> str:
    assert step.look is not None
    return say(
        "two objects {different} · one {same} · 5-NN {knn}",
        different=f"{step.look.different.mean:.2f}",
        same=f"{step.look.same.mean:.2f}",
        knn=f"{step.look.knn:.0%}",
    )


def arrows(example: "Example") -> Image.Image:
    """The scene with its crops, and how the last step moved them: each arrow from a crop, wide where it moved far."""
    picture = Image.fromarray(example.picture)
    image = picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    boxes = example.boxes * SCALE
    for place, box in enumerate(boxes):
        draw.rectangle([*map(float, box)], outline=(255, 255, 255) if place < GLOBALS else (250, 204, 21), width=2)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    strongest = max(float(np.abs(example.pulls).max()), 1e-12)
    for i, row in enumerate(example.pulls):
        for j, pull in enumerate(row):
            share = abs(float(pull)) / strongest
            if share > 0.08:
                _draw_arrow(draw, middles[i], middles[j], 1 + round(4 * share), PULL if pull > 0 else PUSH)
    return image


def ends(frame: "Frame") -> dict:
    """The scene of both runs."""
    if frame.a.example is None or frame.b.example is None:
        return {}
    pictures = [arrows(each) for each in (frame.a.example, frame.b.example)]
    return {"pictures": drawing.strip(pictures, ["A", "B"], 256)}


def _draw_arrow(draw: ImageDraw.ImageDraw, start: np.ndarray, end: np.ndarray, width: int, colour: tuple) -> None:
    """From one point a good part of the way to the other; away from it where it pushes."""
    way = (end - start) * (0.42 if colour == PULL else -0.3)
    tip, length = start + way, max(float(np.hypot(*way)), 1e-6)
    along, across = way / length, np.array([-way[1], way[0]]) / length
    draw.line([*map(float, start), *map(float, tip)], fill=colour, width=width)
    corners = (tip + along * 7, tip + across * 4, tip - across * 4)
    draw.polygon([tuple(map(float, corner)) for corner in corners], fill=colour)


def facts(frames: list["Frame"], settings: MultiCrop) -> str:
    """Cosines with their intervals beside what unrelated crops have, and 5-NN beside what is known without training."""
    last = next(frame for frame in reversed(frames) if frame.a.look is not None)
    a, b, known = last.a.look, last.b.look, last.baselines
    assert a is not None and b is not None

    def cell(cosine: "Cosine") -> str:
        return f"{cosine.mean:.3f} ± {1.96 * cosine.error:.3f}"

    rows = [
        [say("Small crops on the two objects of a scene"), cell(a.different), cell(b.different), say("question")],
        [say("Small crops on one object"), cell(a.same), cell(b.same), say("should be higher")],
        [say("Small crops and their whole scene"), cell(a.local_global), cell(b.local_global), ""],
        [say("Small crops of two scenes"), cell(a.unrelated), cell(b.unrelated), say("nothing in common")],
        [
            say("Affinity: one picture | two"),
            *(f"{look.affinity_same:.1f} | {look.affinity_other:.1f}" for look in (a, b)),
            say("logits; the first should be higher"),
        ],
        [
            say("5-NN of h by noun"),
            f"{a.knn:.1%}",
            f"{b.knn:.1%}",
            say(
                "raw pixels {pixels}, untrained {untrained}, chance {chance}",
                pixels=f"{known.pixels:.0%}",
                untrained=f"{known.untrained:.0%}",
                chance=f"{known.chance:.0%}",
            ),
        ],
    ]
    return charts.grid_table(["", "A", "B", say("beside")], rows)


def measured() -> str:
    """Every arrow over many seeds."""
    return studies.table(
        "multicrop",
        {
            "different_objects": (say("two objects"), ".3f"),
            "same_object": (say("one object"), ".3f"),
            "gap": (say("gap"), ".3f"),
            "local_global": (say("to the whole"), ".3f"),
            "unrelated": (say("two scenes"), ".3f"),
            "knn": (say("5-NN"), ".1%"),
        },
    )


SHOW = lab.Show(
    answers=verdicts.MULTICROP_ANSWERS,
    film=new_film,
    add=add,
    facts=facts,
    verdict=verdicts.of_multicrop,
    numbers=numbers.of_pair,
    pictures=ends,
)

LESSON = Lesson(
    slug="crops",
    title="Big and small crops",
    chapter="collapse",
    claim="Two small crops of one picture need not show the same thing.",
    settings=MultiCrop,
    layout=layout,
    main=crops,
    shows=lab.FOLLOWED,
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"What breaks if it is removed": measured},
)
