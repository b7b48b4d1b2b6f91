"""Pictures by captions: CLIP's loss as a table, and what its derivative pushes and pulls. Wraps
pipelines/contrast/matrix."""

import functools
import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from demos.contrast.drawings import Heat, heat_maps, tangent_plane, thumbnail
from demos.ui import address, charts, controls, lab, pictures
from demos.ui.cache import lru_cached
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.models import at_hand, model_names
from demos.ui.tab import Tab
from demos.ui.text import ASSETS, named, say, t
from pipelines.contrast.settings import MatrixSettings
from pipelines.contrast.verdicts import MATRIX, MATRIX_ANSWERS, of_matrix

if TYPE_CHECKING:
    from pipelines.contrast.matrix import Encoded, Matrix

MOST_LINES = 2600  # characters of eight captions, each as long as it may be
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
WHOLE = {"formula": "right", "equal": False, "shuffle": "none"}
BREAKS: dict[str, dict[str, Any]] = {  # name -> title of the button, and what it sets
    "formula": {"title": "Wrong derivative", "formula": "wrong"},
    "equal": {"title": "Equal similarities", "equal": True},
    "shuffle": {"title": "Captions moved on", "shuffle": "captions"},
    "whole": {"title": "Whole again"},
}
CLICKS = (ASSETS / "cells.js").read_text(encoding="utf-8")

pipeline = lazily("pipelines.contrast.matrix")


def models() -> list[str]:
    """Image-text models, the setting's default first."""
    return sorted(model_names("openclip"), key=lambda name: name != MatrixSettings().model)


@lru_cached
def drawn(seed: int) -> tuple[list[Image.Image], list[str], list[str]]:
    """The drawn pictures, their captions and nouns."""
    found, captions, nouns = pipeline.example(seed)
    return found, captions, nouns


@lru_cached
@on_device
def encode(settings: MatrixSettings, captions: tuple[str, ...], *given: Image.Image) -> "Encoded":
    return pipeline.encode(settings, given, captions)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, MATRIX, MATRIX_ANSWERS)
            tab.control("temperature")
            with gr.Row():
                for name, preset in BREAKS.items():
                    tab.button(f"break_{name}", preset["title"], size="sm", min_width=150)
            tab.button("next", "Other pictures", size="sm")
            with gr.Accordion(t("Your own pictures and captions"), open=False):
                _own(tab)
            with gr.Accordion(t("More settings"), open=False):
                for name in ("direction", "formula", "equal", "shuffle"):
                    tab.control(name)
                tab.model_menu(models())
                tab.control("seed")
        with gr.Column(scale=8, min_width=320):
            tab.html("matrix", js_on_load=CLICKS)
            lab.answered(tab)
            with gr.Row():
                tab.html("facts", scale=3, min_width=320)
                tab.html("plane", scale=2, min_width=220)
            with tab.accordion("beside_box", "The formula beside automatic differentiation"):
                tab.html("beside")
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def _own(tab: Tab) -> None:
    """2 to 8 pictures, and a line of text for each."""
    sources: list[Any] = ["upload", "clipboard"]
    gallery = gr.Gallery(
        label=t("2 to 8 pictures"),
        type="filepath",
        format="png",
        columns=4,
        height=180,
        interactive=True,
        sources=sources,
        elem_id=tab.id("pictures"),
    )
    tab.add("pictures", gallery)
    lines = controls.Textbox(
        value="",
        label=t("A caption for each, one a line"),
        info=t("Of the drawn pictures, where there are none of your own."),
        lines=4,
        max_lines=8,
        max_length=MOST_LINES,
        elem_id=tab.id("captions"),
    )
    tab.add("captions", lines)
    with gr.Row():
        tab.button("use", "Make the matrix", variant="primary", min_width=120)
        tab.button("clear", "Back to drawn pictures", min_width=120)


def wire(tab: Tab) -> None:
    run = lab.wire(tab, seconds=lambda settings: 2, empties=("beside",))
    moved = [tab[name].change for name in tab.settings if name != "model"]  # a chosen model is fetched first
    restored = address.keep(tab)
    tab.quick([*moved, tab["use"].click], redraw, LESSON.shows)
    for after in (restored.then, tab.fetched.success):
        tab.quick(after, redraw, LESSON.shows)
    tab.quick(tab["numbers"].change, preview, ["matrix"])  # after Reset
    for name in BREAKS:
        tab.quick(tab[f"break_{name}"].click, functools.partial(break_it, name), list(WHOLE))
    tab.quick(tab["next"].click, other_pictures, ["seed"])
    cleared = tab.quick(tab["clear"].click, back_to_drawn, ["pictures", "captions"])
    tab.quick(cleared.then, redraw, LESSON.shows)
    tab.quick(tab["matrix"].select, pick, ["matrix", "plane", "facts"])
    tab.when_open("beside_box", show_beside, ["beside"], run.success)


# ----------------------------------------------------------------------------------------------------------- handlers


def contrast(
    settings: MatrixSettings, pictures: list | None = None, captions: str = "", guess: str | None = None
) -> dict:
    """The matrix of pictures and captions, its loss, and what the derivative does to each pair."""
    guess = lab.guessed(MATRIX_ANSWERS, guess)
    seen = look(settings, pictures, captions)
    said = lab.verdict(of_matrix(seen.found, guess), MATRIX_ANSWERS)
    return present(seen, hardest(seen.found)) | {
        "verdict": said,
        "numbers": pipeline.numbers(settings, seen.found, guess),
    }


def redraw(settings: MatrixSettings, pictures: list | None, captions: str, numbers: dict | None) -> dict | None:
    """After a control moved: everything again; before the question is answered, all but the derivative."""
    return contrast(settings, pictures, captions) if numbers else preview(settings, pictures, captions, None)


def preview(settings: MatrixSettings, pictures: list | None, captions: str, numbers: dict | None) -> dict | None:
    """What is there to be seen before the first run."""
    if numbers:
        return None
    seen = look(settings, pictures, captions)
    return {"matrix": _headline(seen.found) + heat_maps(heats_of(seen.found)[:-1], seen.thumbs) + _captions(seen.found)}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is on the screen."""

    found: "Matrix"
    thumbs: list[str]


def look(settings: MatrixSettings, pictures: list | None, captions: str) -> Seen:
    """The matrix of the visitor's pictures, or of drawn ones."""
    at_hand(settings.model)
    given, lines = pairs_of(settings, pictures, captions)
    slow = MatrixSettings(model=settings.model, shuffle=settings.shuffle, seed=settings.seed)
    found = pipeline.read(settings, encode(slow, tuple(lines), *given))
    return Seen(found=found, thumbs=[thumbnail(picture) for picture in given])


def pairs_of(settings: MatrixSettings, given: list | None, captions: str) -> tuple[list[Image.Image], list[str]]:
    """The pictures and captions: the visitor's own, else drawn ones, whose captions may be the visitor's."""
    lines = [line for line in controls.words(say("The captions"), captions, MOST_LINES).splitlines() if line.strip()]
    if not given:
        found, told, _ = drawn(settings.seed)
        return found, pipeline.pairs(found, lines or told)
    files = [each[0] if isinstance(each, list | tuple) else each for each in given]
    lines = pipeline.pairs(files, lines)  # how many there may be, before any is opened
    return [pictures.read_picture(file).picture for file in files], lines


def pick(settings: MatrixSettings, pictures: list | None, captions: str, at: gr.SelectData) -> dict:
    """A cell was clicked."""
    seen = look(settings, pictures, captions)
    most = len(seen.found.captions) - 1
    row, column = (controls.whole(say("The cell"), place, 0, most) for place in at.index)
    return present(seen, (row, column))


def break_it(name: str) -> dict:
    """What one of the buttons sets; all the others are whole again."""
    return WHOLE | {key: value for key, value in BREAKS[name].items() if key != "title"}


def other_pictures(seed: int) -> dict:
    return {"seed": seed + 1}


def back_to_drawn() -> dict:
    return {"pictures": None, "captions": ""}


def show_beside(settings: MatrixSettings, pictures: list | None, captions: str) -> dict:
    """The derivative by the formula beside torch's own, and how far they are apart."""
    seen = look(settings, pictures, captions)
    found = seen.found
    by = {say("By the formula"): found.slope, say("By automatic differentiation"): found.slope_autograd}
    heats = [
        Heat(title=name, told=in_units(slope)[1], values=in_units(slope)[0], signed=True, digits=0)
        for name, slope in by.items()
    ]
    told = say(
        "Largest difference: {error} here, {vectors} in the derivative by the pictures' vectors.",
        error=f"{found.errors[0]:.1e}",
        vectors=f"{found.errors[1]:.1e}",
    )
    return {"beside": heat_maps(heats, seen.thumbs) + f"<p>{told}</p>"}


# ------------------------------------------------------------------------------------------------------ what is shown


def present(seen: Seen, cell: tuple[int, int]) -> dict:
    """What each part shows."""
    found = seen.found
    return {
        "matrix": "".join(
            [_headline(found), heat_maps(heats_of(found), seen.thumbs, cell), _captions(found), said_of(found, cell)]
        ),
        "plane": plane_of(found, cell[0]),
        "facts": facts_of(found),
    }


def _headline(found: "Matrix") -> str:
    """The loss beside what knowing nothing costs."""
    told = say("equal similarities cost ln {n} = {chance}", n=len(found.captions), chance=f"{found.chance:.3f}")
    if found.untrained_loss is not None:
        told += say(", random weights {loss}", loss=f"{found.untrained_loss:.3f}")
    loss = say("Loss {loss} nats", loss=f"{found.loss:.3f}")
    return charts.headline((loss, told))


def _captions(found: "Matrix") -> str:
    texts = "".join(
        f"<span><b>{j}</b> {html.escape(named(caption))}</span>" for j, caption in enumerate(found.captions, 1)
    )
    return f'<p class="captions">{texts}</p>'


def hardest(found: "Matrix") -> tuple[int, int]:
    """The wrong pair that is pushed hardest."""
    wrong = np.where(np.eye(len(found.slope), dtype=bool), -np.inf, found.slope)
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    return int(row), int(column)


def in_units(slope: np.ndarray) -> tuple[np.ndarray, str]:
    """In a power of ten that leaves the largest two digits, and its name."""
    power = math.floor(math.log10(max(float(np.abs(slope).max()), 1e-300))) - 1
    return slope / 10.0**power, f"10{str(power).translate(RAISED)}"


def heats_of(found: "Matrix") -> list[Heat]:
    """Similarities, the softmax of those who choose, and the derivative."""
    heats = [
        Heat(
            title=say("1 · How alike"),
            told=say("cosine of each picture (row) with each caption (column)"),
            values=found.similarity,
        )
    ]
    if "rows" in found.sides:
        losses = say("−ln p"), [f"{loss:.2f}" for loss in found.losses[0]]
        told = say("softmax(s / τ) along the row: each picture chooses a caption")
        heats.append(Heat(title=say("2 · Who is chosen"), told=told, values=found.rows, scale=(0, 1), beside=losses))
    if "columns" in found.sides:
        losses = say("−ln p"), [f"{loss:.2f}" for loss in found.losses[1]]
        told = say("softmax(s / τ) down the column: each caption chooses a picture")
        heats.append(Heat(title=say("2 · Who is chosen"), told=told, values=found.columns, scale=(0, 1), below=losses))
    heats.append(_derivative(found))
    return heats


def _derivative(found: "Matrix") -> Heat:
    """With the sums of the lines in which a softmax was taken: 0 where the formula is right."""
    values, unit = in_units(found.slope)
    told = say("∂L / ∂(s / τ), in units of {unit}: blue pulls closer, red pushes away", unit=unit)
    sums = say("sum"), [f"{total:.3f}".replace("-0.000", "0.000") for total in found.row_sums]
    edges: dict[str, Any] = {"rows": {"beside": sums}, "columns": {"below": sums}, "both": {}}
    return Heat(
        title=say("3 · What the loss does"),
        told=told,
        values=values,
        signed=True,
        digits=0,
        alarm=bool(np.abs(found.row_sums).max() > 1e-9),
        **edges[found.direction],
    )


def said_of(found: "Matrix", cell: tuple[int, int]) -> str:
    """The pair that was clicked, in a sentence."""
    i, j = cell
    columns = found.direction == "columns"
    slope = found.slope[i, j]
    told = [
        say(
            "Picture {i} with caption {j}, “{caption}”: cosine {cosine}, chosen with {share}; it is {does} by {size}.",
            i=i + 1,
            j=j + 1,
            caption=named(found.captions[j]),
            cosine=f"{found.similarity[i, j]:.2f}",
            share=f"{(found.columns if columns else found.rows)[i, j]:.1%}",
            does=say("pushed away") if slope > 0 else say("pulled closer"),
            size=f"{abs(slope):.4f}",
        )
    ]
    if found.direction != "both":
        line, own = (found.slope[:, j], j) if columns else (found.slope[i], i)
        told.append(
            say(
                "In this line the right one is pulled by {pull}, all wrong ones together are {does} by {push}.",
                pull=f"{-line[own]:.4f}",
                does=say("pushed") if line.sum() >= line[own] else say("pulled"),
                push=f"{abs(line.sum() - line[own]):.4f}",
            )
        )
    return f'<p class="cell-told">{html.escape(" ".join(told))}</p>'


def plane_of(found: "Matrix", picture: int) -> str:
    title = say("Where picture {n} is moved", n=picture + 1)
    return tangent_plane(
        found.plane_captions[picture], found.plane_arrows[picture], picture, found.slope[picture], found.captions, title
    )


def facts_of(found: "Matrix") -> str:
    count, chance = len(found.captions), say("chance: 1 / {n}", n=len(found.captions))
    right = [f"{share * count:.0f} / {count}" for share in found.accuracy]
    return charts.facts(
        [
            (say("Pictures that find their caption"), right[0], chance),
            (say("Captions that find their picture"), right[1], chance),
            (say("Probability on the diagonal"), f"{found.mass:.0%}", say("chance: {n}", n=f"{1 / count:.0%}")),
            (
                say("Sum of a line's derivative"),
                f"{np.abs(found.row_sums).max():.1e}",
                say("largest; 0 where the formula is right"),
            ),
            (say("Formula against autograd"), f"{found.errors[0]:.1e}", say("largest difference, float64")),
        ]
    )


LESSON = Lesson(
    slug="contrast",
    title="The matrix",
    chapter="contrast",
    claim="The right caption is pulled exactly as hard as all wrong ones together are pushed, the most similar most.",
    settings=MatrixSettings,
    layout=layout,
    main=contrast,
    shows=("matrix", "plane", "facts", "status", "verdict", "numbers"),
    wire=wire,
)
