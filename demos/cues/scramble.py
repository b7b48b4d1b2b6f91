"""Scrambled parts: two networks that learn from whole pictures and are asked about pieces; and one picture of your own,
in pieces, for networks that are trained already. Wraps pipelines/cues/scramble."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from demos.ui import charts, controls, drawing, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.pictures import photograph, read_picture
from demos.ui.scenes import picture_controls
from demos.ui.tab import Tab, tell_stopped
from demos.ui.text import say, t
from pipelines.cues.settings import GRIDS, NAMERS, NETWORKS, PiecesSettings, ScrambleSettings
from pipelines.cues.verdicts import SCRAMBLE, SCRAMBLE_ANSWERS, of_scramble
from pipelines.settings import checked, settings_of
from pipelines.world import storybook

if TYPE_CHECKING:
    from pipelines.cues.scramble import Frame, Pieces, Step

PIECES = settings_of(PiecesSettings)
SCENE = 3  # the picture that the page opens with, counted within the test range
DRAWN = 24  # pictures shown while more are drawn
SCENES, PHOTOGRAPHS = 60, ("cat (fur)", "coffee", "rocket")  # of the curve: what each kind of network can name

pipeline = lazily("pipelines.cues.scramble")


def seconds(settings: ScrambleSettings) -> float:
    """What a run is expected to take on two cores, the drawing of the pictures included."""
    return 8 + settings.steps * (0.02 + 0.08 * settings.batch / 64)


@on_device(seconds=lab.LONGEST)
def run(settings: ScrambleSettings) -> Iterator:
    yield from pipeline.run(settings)


@on_device
def look(settings: PiecesSettings, picture: Image.Image, mask: np.ndarray | None) -> "Pieces":
    return pipeline.look(settings, picture, mask)


@on_device
def curve(model: str) -> Iterator[tuple[int, float]]:
    """Pieces along a side and the share of names that are kept, of pictures that this model can name."""
    scenes = [Image.fromarray(storybook.scene(seed, count=1).picture) for seed in storybook.TEST[:SCENES]]
    yield from pipeline.curve(model, scenes if model.startswith("storybook") else [*map(photograph, PHOTOGRAPHS)])


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, SCRAMBLE, SCRAMBLE_ANSWERS, button="Train A and B")
            tab.control("task")
            tab.control("a", menu=True)
            tab.control("b", menu=True)
            tab.control("grid")
            with gr.Accordion(t("More settings"), open=False):
                for name in ("steps", "batch", "rate", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            lab.answered(tab)
            tab.add("film", film.FilmPlayer(elem_id=tab.id("film")))
            tab.html("facts")
            with tab.accordion(
                "pieces_box", "One picture in pieces: three networks that know names already", open=True
            ):
                _lay_out_pieces(tab)
            with tab.accordion("curve_box", "How many pieces until the name is lost?"):
                tab.html("curve")
            tab.panel("pictures", "What both networks are asked: whole, and in pieces", visible=False)
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def _lay_out_pieces(tab: Tab) -> None:
    tab.html("pieces")
    with gr.Row():
        for name in ("grid", "how", "background", "seed"):
            menu = {"menu": True} if name == "grid" else {}
            part = controls.control(PIECES[name], elem_id=tab.id(f"pieces_{name}"), min_width=150, **menu)
            tab.add(f"pieces_{name}", part)
    with gr.Accordion(t("Another picture, or your own"), open=False):
        picture_controls(tab, SCENE)
    tab.stopped = tell_stopped  # a training is of no picture
    tab.add("pieces_numbers", gr.JSON(visible=False))


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("steps", "batch"))
    moved = [tab[f"pieces_{name}"].change for name in PIECES]
    public: dict[str, Any] = {"api_name": f"{tab.slug}_pieces", "api_visibility": "public"}
    shown = ["pieces", "pieces_numbers"]
    tab.compute(
        [*tab.chosen, tab["image"].change, *moved], scramble_pieces, shown, trigger_mode="always_last", **public
    )
    tab.when_open("curve_box", show_curve, ["curve"])


# ----------------------------------------------------------------------------------------------------------- handlers


def scramble(settings: ScrambleSettings, guess: str | None = None) -> Iterator[dict]:
    """Train two small networks on whole pictures, and ask both about pictures whose pieces changed places."""
    guess = lab.guessed(SCRAMBLE_ANSWERS, guess)
    lab.affordable(seconds(settings))
    yield {"status": say("Getting ready …"), "film": None, "verdict": "", "facts": ""}
    played, first = None, None
    for now, due in lab.paced(run(settings)):
        if isinstance(now, pipeline.Preparing):
            if due:
                drawn = gr.Image(drawing.sheet(now.pictures[:DRAWN], DRAWN // 2), visible=True)
                yield {"status": lab.drawing_pictures(now), "pictures": drawn}
            continue
        played, first = played or new_film(now, settings), first or now
        add(played, now)
        if due:
            status = lab.progress(now.a.step, now.a.steps)
            yield {"status": status, "film": played.value(), "pictures": asked(now)}
    assert played is not None and first is not None
    yield {
        "status": "",
        "film": played.value(),
        "pictures": asked(now),
        "facts": facts(now, first, settings),
        "verdict": lab.verdict(of_scramble(now, guess), SCRAMBLE_ANSWERS),
        "numbers": pipeline.numbers(settings, now, guess),
    }


def scramble_pieces(
    image: str,
    pieces_grid: int = PiecesSettings().grid,
    pieces_how: str = PiecesSettings().how,
    pieces_background: bool = PiecesSettings().background,
    pieces_seed: int = PiecesSettings().seed,
) -> dict:
    """Cut one picture into pieces, move them, and ask every bundled network that names pictures."""
    given = dict(zip(PIECES, (pieces_grid, pieces_how, pieces_background, pieces_seed), strict=True))
    settings, known = checked(PiecesSettings, given), read_picture(image)
    mask = None
    if known.scene is not None:
        mask = np.any([thing.mask for thing in known.scene.objects], axis=0)
    found = look(settings, known.picture, mask)
    return {"pieces": pieces(found), "pieces_numbers": piece_numbers(found)}


def show_curve() -> Iterator[dict]:
    """The share of names that are kept, against pieces, of one network after another."""
    told = say(
        "The storybook networks are asked about {scenes} scenes with one thing, the other one about {photographs} "
        "photographs.",
        scenes=SCENES,
        photographs=len(PHOTOGRAPHS),
    )
    lines: list[charts.Line] = []
    for model, title in NAMERS.items():
        x: list[float] = []
        y: list[float] = []
        lines.append(charts.Line(name=f"{model}: {say(title)}", x=x, y=y))
        for grid, kept in curve(model):
            x.append(math.log2(grid))
            y.append(kept)
            drawn = charts.curves(
                lines,
                say("pieces along a side, 2^x"),
                say("names that are kept"),
                y_range=(0, 1),
                x_range=(0, math.log2(GRIDS[-1])),
            )
            yield {"curve": f"{drawn}<p>{told}</p>"}


# ----------------------------------------------------------------------------------------------------------- training


def new_film(first: "Frame", settings: ScrambleSettings) -> film.Film:
    """Curves of both networks."""
    assert first.a.whole is not None and first.b.whole is not None
    levels = [(first.chance, say("commonest answer"))]
    curves = {
        "whole": film.curve(say("right about whole pictures"), levels, ends=(0, 1)),
        "scrambled": film.curve(say("right about pictures in pieces"), levels, ends=(0, 1)),
        "loss": film.curve(say("loss, of whole pictures")),
    }
    names = [f"{run} · {say(NETWORKS[name])}" for run, name in (("A", settings.a), ("B", settings.b))]
    return film.Film(names, first.a.steps, {}, curves)


def add(played: film.Film, now: "Frame") -> None:
    """The next step; a frame where both were asked."""
    both = (now.a, now.b)
    if now.a.step:
        played.measure(now.a.step, loss=[step.loss for step in both])
    if now.a.whole is None:
        return
    played.measure(now.a.step, whole=[step.whole for step in both], scrambled=[step.scrambled for step in both])
    played.frame(now.a.step, [_told(step) for step in both], ["", ""])


def _told(step: "Step") -> str:
    assert step.whole is not None and step.scrambled is not None
    return say("whole {whole} · in pieces {pieces}", whole=f"{step.whole:.0%}", pieces=f"{step.scrambled:.0%}")


def asked(now: "Frame") -> gr.Image:
    """Whole pictures above the same ones in pieces."""
    both = np.concatenate([now.examples[:, 0], now.examples[:, 1]])
    return gr.Image(drawing.sheet(both, len(now.examples)), visible=True)


def facts(now: "Frame", first: "Frame", settings: ScrambleSettings) -> str:
    """Both networks by number of pieces, beside what they knew before, and the commonest answer."""
    assert now.a.by_grid is not None and now.b.by_grid is not None
    rows = [
        [
            say("whole") if grid == 1 else say("{n}×{n} pieces", n=grid),
            f"{now.a.by_grid[grid]:.1%}",
            f"{now.b.by_grid[grid]:.1%}",
        ]
        for grid in now.a.by_grid
    ]
    rows.append([say("whole, untrained"), f"{first.a.whole:.1%}", f"{first.b.whole:.1%}"])
    rows.append([say("the commonest answer to everything"), *[f"{now.chance:.1%}"] * 2])
    head = [
        say("right, of {count} never-seen pictures", count=now.queries),
        *(f"{run} · {say(NETWORKS[name])}" for run, name in (("A", settings.a), ("B", settings.b))),
    ]
    return charts.grid_table(head, rows)


# --------------------------------------------------------------------------------------------------------- one picture


def pieces(found: "Pieces") -> str:
    """The picture whole and in pieces, with what speaks for each name where that can be seen, and all answers."""
    kept = sum(answer.kept for answer in found.answers)
    told = say("networks of {count} give the pieces the name of the whole", count=len(found.answers))
    shown: list[tuple[np.ndarray | Image.Image, str]] = [
        (found.picture, say("whole")),
        (found.scrambled, say("in pieces")),
    ]
    for answer in found.answers:
        if answer.maps is not None:
            for picture, name, heat in zip(
                (found.picture, found.scrambled), (answer.whole, answer.pieces), answer.maps, strict=True
            ):
                over = drawing.heat_over(picture / 255, drawing.normalised(heat))
                shown.append((over, say("what speaks for “{name}”", name=name)))
    rows = [
        [
            say(NAMERS[answer.model]),
            f"{say(answer.whole)}, {answer.whole_probability:.0%}",
            f"{say(answer.pieces)}, {answer.pieces_probability:.0%}",
        ]
        for answer in found.answers
    ]
    table = charts.grid_table(["", say("whole"), say("in pieces")], rows)
    return f"{charts.headline((str(kept), told))}{drawing.figures(shown)}{table}"


def piece_numbers(found: "Pieces") -> dict:
    """The answers as JSON."""
    answers = {
        answer.model: {
            "whole": {"name": answer.whole, "probability": answer.whole_probability},
            "pieces": {"name": answer.pieces, "probability": answer.pieces_probability},
            "kept": answer.kept,
        }
        for answer in found.answers
    }
    return {"seconds": found.seconds, "answers": answers}


def measured() -> str:
    """Every network on both tasks, over many seeds."""
    grids = {f"{grid}x{grid}": (say("whole") if grid == 1 else f"{grid}×{grid}", ".1%") for grid in (1, 2, 4, 8, 16)}
    return studies.table("scramble", {**grids, "chance": (say("commonest answer"), ".1%")})


LESSON = Lesson(
    slug="scramble",
    title="Scrambled parts",
    chapter="cues",
    claim="To name a thing its parts can be enough; to say what is left of what they never are.",
    settings=ScrambleSettings,
    layout=layout,
    main=scramble,
    shows=("pictures", "film", "facts", "status", "verdict", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"Good and bad numbers": measured},
)
