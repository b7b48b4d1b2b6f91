"""Order does not matter: which functions of a node's neighbours are valid, and what tells a transformer the order.
Wraps pipelines/cues/equivariance and positions."""

from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from demos.cues import drawings, questions
from demos.ui import address, charts, drawing, lab
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.pictures import draw_scene
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.cues.settings import FUNCTIONS, EquivarianceSettings
from pipelines.cues.verdicts import (
    EQUIVARIANCE,
    EQUIVARIANCE_ANSWERS,
    PATCHES,
    PATCHES_ANSWERS,
    ROUNDING,
    of_equivariance,
    of_patches,
)

if TYPE_CHECKING:
    from pipelines.cues.equivariance import Renumbered
    from pipelines.cues.positions import Patches

SHIFTED = 16  # numbers of the position whose shift is drawn
OPENS = ("function", "graph")  # a change of one of these is another question
WRITTEN = ("edges", "order")  # texts, read when they are finished

pipeline = lazily("pipelines.cues.equivariance")
positions = lazily("pipelines.cues.positions")


@on_device
def patches_of(picture: Image.Image, seed: int) -> "Patches":
    return positions.run(picture, seed=seed)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            tab.control("function", menu=True)
            lab.ask(tab, EQUIVARIANCE, EQUIVARIANCE_ANSWERS)
            tab.control("depth")
            with gr.Row():
                tab.button("again", "Shuffle again", size="sm", min_width=120)
                tab.button("swap", "Swap the first two", size="sm", min_width=120)
            with gr.Accordion(t("More settings"), open=False):
                for name in ("graph", "nodes", "edges", "order", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            tab.html("difference")
            tab.html("graphs")
            lab.answered(tab)
            tab.html("answers")
            with tab.accordion("functions_box", "All functions at once: this gives the other answers away"):
                tab.html("functions")
            with tab.accordion("positions_box", "Positions: a shift is a linear map"):
                tab.control("shift")
                tab.html("positions")
            with tab.accordion("patches_box", "The same question, of the patches of a picture"):
                _lay_out_patches(tab)
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def _lay_out_patches(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=260):
            questions.ask(tab, "patches", PATCHES, PATCHES_ANSWERS, "Move the patches")
        with gr.Column(scale=6, min_width=300):
            tab.panel("patches", "The patches of a picture, and the same patches in another order", height=260)
            questions.answered(tab, "patches")


def wire(tab: Tab) -> None:
    run = lab.wire(tab, seconds=lambda settings: 1)
    restored = address.keep(tab)
    for name in OPENS:
        tab.quick(tab[name].change, preview, LESSON.shows)
    moved = [tab[name].change for name in ("depth", "nodes", "seed")]
    written = [listen for name in WRITTEN for listen in (tab[name].submit, tab[name].blur)]
    tab.quick([*moved, *written], redraw, LESSON.shows)
    tab.quick(restored.then, preview, LESSON.shows)
    tab.quick(tab["numbers"].change, after_reset, ["difference", "graphs"])
    for name, handler in (("again", shuffle_again), ("swap", swap_two)):
        done = tab.quick(tab[name].click, handler, ["order"])
        tab.quick(done.then, redraw, LESSON.shows)
    tab.when_open("functions_box", show_functions, ["functions"], run.success)
    tab.when_open("positions_box", show_positions, ["positions"], tab["shift"].change)
    tab.quick(tab["patches_guess"].change, wake_patches, ["patches_run"])
    public: dict[str, Any] = {"api_name": f"{tab.slug}_patches", "api_visibility": "public"}
    shows = ["patches", "patches_verdict", "patches_numbers"]
    tab.compute(tab["patches_run"].click, equivariance_patches, shows, **public)


# ----------------------------------------------------------------------------------------------------------- handlers


def equivariance(settings: EquivarianceSettings, guess: str | None = None) -> dict:
    """Number the nodes of a graph anew, and see whether a function of their neighbours notices."""
    guess = lab.guessed(EQUIVARIANCE_ANSWERS, guess)
    found = pipeline.run(settings)
    return {
        "difference": headline(found),
        "graphs": graphs(found, changes(found)),
        "answers": answers(found),
        "status": "",
        "verdict": lab.verdict(of_equivariance(found, guess), EQUIVARIANCE_ANSWERS),
        "numbers": pipeline.numbers(settings, found, guess),
    }


def preview(settings: EquivarianceSettings) -> dict:
    """What is there to be seen before an answer: the graph, and its new numbers."""
    found = pipeline.run(settings)
    told = say("largest change of an answer: predict first")
    opened = {"difference": charts.headline(("?", told)), "graphs": graphs(found, None)}
    return {**dict.fromkeys(LESSON.shows), **opened, "status": say("Choose an answer, then run.")}


def redraw(settings: EquivarianceSettings, numbers: dict | None) -> dict:
    """After a control moved: everything again where the question is answered."""
    return equivariance(settings) if numbers else preview(settings)


def after_reset(settings: EquivarianceSettings, numbers: dict | None) -> dict | None:
    """The graph does not go with the answer."""
    if numbers:
        return None
    shown = preview(settings)
    return {name: shown[name] for name in ("difference", "graphs")}


def shuffle_again(settings: EquivarianceSettings) -> dict:
    """Another order of the same nodes."""
    before = pipeline.order_of(settings).tolist()
    order = np.random.default_rng(before).permutation(settings.nodes)
    return {"order": " ".join(str(i + 1) for i in order)}


def swap_two(settings: EquivarianceSettings) -> dict:
    order = [2, 1, *range(3, settings.nodes + 1)]
    return {"order": " ".join(map(str, order))}


def show_functions(settings: EquivarianceSettings) -> dict:
    """The largest difference of every function on this graph."""
    found = pipeline.run(settings)
    rows = [
        [say(text), size(found.table[name]), say("valid") if found.table[name] <= ROUNDING else say("not valid")]
        for name, text in FUNCTIONS.items()
    ]
    return {"functions": charts.grid_table(["", say("largest difference"), say("with this order")], rows)}


def show_positions(shift: int) -> dict:
    """The matrix that moves a sinusoidal position, wherever it is."""
    told = say(
        "f(t + {shift}) = M f(t) for every t: the largest error over {count} positions of {width} numbers is {error}. "
        "M depends on the shift alone; this is its beginning for {drawn} numbers, one rotation for each pair.",
        shift=shift,
        count=positions.POSITIONS,
        width=positions.POSITIONS,
        drawn=SHIFTED,
        error=f"{positions.shift_error(shift):.0e}",
    )
    matrix = positions.shift_matrix(shift, SHIFTED).numpy()
    title = say("M, a shift by {shift}", shift=shift)
    return {"positions": f"<p>{told}</p>{drawings.signed(matrix, (), title, most=1, digits=2)}"}


def wake_patches(patches_guess: str | None) -> dict:
    return {"patches_run": questions.awake(patches_guess)}


def equivariance_patches(seed: int, patches_guess: str | None = None) -> dict:
    """List the patches of a scene in another order, with their positions and without, and ask CLIP."""
    guess = lab.guessed(PATCHES_ANSWERS, patches_guess)
    scene = draw_scene({"seed": seed})
    found = patches_of(Image.fromarray(scene.picture), seed)
    captions = [say("as it is"), say("patches moved")]
    pictures = [Image.fromarray(each) for each in (found.picture, found.moved)]
    return {
        "patches": drawing.strip(pictures, captions),
        "patches_verdict": lab.verdict(of_patches(found, guess), PATCHES_ANSWERS),
        "patches_numbers": positions.numbers(found, seed, guess),
    }


# ------------------------------------------------------------------------------------------------------ what is shown


def headline(found: "Renumbered") -> str:
    told = say("largest change of an answer; of the sum, which is valid: {sum}", sum=size(found.table["sum"]))
    return charts.headline((size(found.difference), told))


def size(gap: float) -> str:
    """A difference: by its power of ten where it is rounding."""
    return f"{gap:.0e}" if 0 < gap <= ROUNDING else f"{gap:.2g}"


def changes(found: "Renumbered") -> np.ndarray:
    """(n,) bool, in the old order: whose answer changed."""
    changed = np.empty(len(found.order), bool)
    changed[list(found.order)] = np.abs(found.before - found.after).max(1) > ROUNDING
    return changed


def graphs(found: "Renumbered", changed: np.ndarray | None) -> str:
    """The graph with its numbers, and with its new ones."""
    graph, count = found.graph, len(found.order)
    new = np.argsort(found.order) + 1
    drawn = [
        drawings.graph(graph.places, numbers, graph.names, graph.joined.numpy(), graph.picture, each, title)
        for numbers, each, title in (
            (range(1, count + 1), None, say("Numbered")),
            (new.tolist(), changed, say("Numbered anew")),
        )
    ]
    return f'<div class="graphs">{"".join(drawn)}</div>'


def answers(found: "Renumbered") -> str:
    """The answers, moved along with their nodes, beside those on the renumbered graph."""
    rows = [f"{i} · {found.graph.names[old]}" for i, old in enumerate(found.order, 1)]
    most = float(max(np.abs(found.before).max(), np.abs(found.after).max()))
    gaps = found.after - found.before
    tables = [
        drawings.signed(found.before, rows, say("P F(X, A): computed, then renumbered"), most),
        drawings.signed(found.after, rows, say("F(PX, PAPᵀ): renumbered, then computed"), most),
        drawings.signed(np.where(np.abs(gaps) > ROUNDING, gaps, 0), rows, say("Difference"), most),
    ]
    told = say("After 1, 2, … layers the largest difference is {gaps}.", gaps=", ".join(map(size, found.by_depth)))
    return f'<div class="heats">{"".join(tables)}</div><p class="cell-told">{told}</p>'


LESSON = Lesson(
    slug="equivariance",
    title="Order",
    chapter="cues",
    claim="A function that reads its neighbours as a list sees an order that is not there.",
    settings=EquivarianceSettings,
    layout=layout,
    main=equivariance,
    shows=("difference", "graphs", "answers", "status", "verdict", "numbers"),
    wire=wire,
)
