"""Crops of different sizes through one layer: packed, padded, one by one. Wraps pipelines/collapse/packing."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from demos.ui import charts, drawing, lab
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.collapse import numbers, verdicts
from pipelines.collapse.settings import Packing, expected_seconds

if TYPE_CHECKING:
    from pipelines.collapse.packing import Timing

WAYS = {
    "packed": "packed: one sequence under a mask",
    "padded": "padded: all filled up to the longest",
    "separate": "one pass for each crop",
}
DEPTH = {
    "plain": "no stochastic depth",
    "masked": "computed, then multiplied by 0",
    "skipped": "not computed at all",
}
CROPS = ((99, 102, 241), (16, 185, 129))  # colours of big and small crops in the mask
SIDE = 384  # pixels of the mask on the page

pipeline = lazily("pipelines.collapse.packing")


@on_device
def run(settings: Packing) -> Iterator:
    yield from pipeline.run(settings)


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, verdicts.PACKING, verdicts.PACKING_ANSWERS)
            for name in ("big", "small", "drop"):
                tab.control(name)
            with gr.Accordion(t("More settings"), open=False):
                for name in ("big_tokens", "small_tokens", "width", "rounds", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            lab.answered(tab)
            with gr.Row():
                tab.panel("mask", "Who may attend to whom in the packed sequence", height=SIDE, min_width=260)
                with gr.Column(min_width=300):
                    tab.html("bars")
            tab.html("facts")
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def wire(tab: Tab) -> None:
    lab.wire(tab, expected_seconds, listen=("rounds",))


def packing(settings: Packing, guess: str = "") -> Iterator[dict]:
    """Send the same crops through one layer in three ways, and compare the results and the milliseconds."""
    chosen, start, seen = lab.guessed(verdicts.PACKING_ANSWERS, guess), time.monotonic(), []
    yield {"status": say("Getting ready …"), "verdict": ""}
    for now, due in lab.paced(run(settings)):
        seen.append(now)
        if due:
            yield {"status": lab.progress(now.round, now.rounds), **present(now, settings)}
    found = verdicts.of_packing(seen, chosen)
    told = {**numbers.of_packing(seen[-1], settings), "seconds": time.monotonic() - start, "verdict": found.record()}
    yield {
        "status": "",
        **present(seen[-1], settings),
        "verdict": lab.verdict(found, verdicts.PACKING_ANSWERS),
        "numbers": told,
    }


# ------------------------------------------------------------------------------------------------------ what is shown


def present(now: "Timing", settings: Packing) -> dict:
    return {"mask": mask_picture(now.mask, settings), "bars": bars(now), "facts": facts(now)}


def mask_picture(mask: np.ndarray, settings: Packing) -> Image.Image:
    """The blocks of the mask, a colour for big and one for small crops."""
    lengths = [settings.big_tokens] * settings.big + [settings.small_tokens] * settings.small
    kinds = np.repeat([0] * settings.big + [1] * settings.small, lengths)
    shown = np.full((*mask.shape, 3), 225, np.uint8)
    rows, columns = np.nonzero(mask)
    shown[rows, columns] = np.array(CROPS, np.uint8)[kinds[rows]]
    shown[rows, columns] -= ((rows + columns) % 2 * 12)[:, None].astype(np.uint8)  # a grid, so that tokens can be seen
    return drawing.to_image(shown).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def bars(now: "Timing") -> str:
    """Milliseconds of every way."""
    rows = [_bars(say("Milliseconds of a layer over all crops"), [*WAYS.items()], now.milliseconds)]
    title = say("Milliseconds of a layer with stochastic depth")
    rows.append(_bars(title, [*DEPTH.items()], now.milliseconds))
    return "".join(rows)


def _bars(title: str, names: Sequence[tuple[str, str]], milliseconds: dict[str, float]) -> str:
    return charts.value_bars([say(text) for _, text in names], [milliseconds[name] for name, _ in names], title)


def facts(now: "Timing") -> str:
    """What each way computes, and how far its result is from one pass each."""
    differences = {"packed": now.difference, "padded": now.difference_padded, "separate": 0.0}
    rows = [
        [
            say(text),
            f"{now.milliseconds[name]:.2f}",
            f"{now.milliseconds[name] / now.milliseconds['separate']:.2f}",
            f"{now.tokens[name]:,}",
            f"{now.scores[name]:,}",
            f"{differences[name]:.1g}",
        ]
        for name, text in WAYS.items()
    ]
    rows.append([say("needed"), "", "", f"{now.tokens['needed']:,}", f"{now.scores['needed']:,}", ""])
    head = ["", say("ms"), say("of one by one"), say("tokens"), say("attention scores"), say("largest difference")]
    return charts.grid_table(head, rows)


LESSON = Lesson(
    slug="packing",
    title="Packed crops",
    chapter="collapse",
    claim="Filling up is computing for nothing.",
    settings=Packing,
    layout=layout,
    main=packing,
    shows=("mask", "bars", "status", "verdict", "facts", "numbers"),
    wire=wire,
)
