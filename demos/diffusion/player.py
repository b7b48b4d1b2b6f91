"""A recorded run as the browser shows it: the data of the player in assets/player.js, and charts of the whole run."""

import base64
import io
import math
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from demos.ui import charts, drawing
from demos.ui.events import lazily
from demos.ui.text import ASSETS, named, say

if TYPE_CHECKING:
    from pipelines.diffusion.recording import Recording

CELL = 16  # pixels of a small map in the strip
SIGMAS_SHOWN = 60


class Player(gr.HTML):
    """The player. Its value is what `played` returns, or None. To the server it is plain HTML."""

    is_template = True

    def __init__(self, value: dict | None = None, **settings):
        own = {
            "html_template": '<div class="player"></div>',
            "js_on_load": (ASSETS / "player.js").read_text(encoding="utf-8"),
        }
        super().__init__(value=value, **(settings | own))


def _source(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def decibels(snr: float) -> float:
    return 10 * math.log10(max(snr, 1e-12))


def _told(run: "Recording", place: int) -> str:
    moment, count = run.moments[place], len(run.moments)
    parts = [
        say("Step {step} of {count}", step=place + 1, count=count),
        say("time {time} of 999", time=moment.time),
        f"σ {moment.sigma:.3g}",
        f"SNR {decibels(moment.snr):.1f} dB",
    ]
    if moment.gap:
        parts.append(f"‖ε_c − ε_u‖ {moment.gap:.2f}")
    if moment.peaks:
        peaks = ", ".join(f"{named(name)} {peak:.2f}" for name, peak in zip(run.names, moment.peaks, strict=True))
        parts.append(say("highest attention: {peaks}", peaks=peaks))
    if moment.tries >= 0:
        parts.append(
            say("latents nudged by {share}, {tries} refinements", share=f"{moment.moved:.1%}", tries=moment.tries)
        )
    return " · ".join(parts)


def strip_of(attention: np.ndarray) -> Image.Image:
    """(N, R, rows, columns) shares -> one small map per word (down) and step (across), every word on its own scale."""
    count, rows = attention.shape[:2]
    sheet = np.full((rows * (CELL + 1), count * (CELL + 1), 3), 128, np.uint8)
    for row in range(rows):
        highest = max(float(attention[:, row].max()), 1e-9)
        for step in range(count):
            cell = drawing.viridis(attention[step, row] / highest)
            small = drawing.to_image(cell).resize((CELL, CELL), Image.Resampling.BOX)
            y, x = row * (CELL + 1), step * (CELL + 1)
            sheet[y : y + CELL, x : x + CELL] = np.asarray(small.convert("RGB"))
    return Image.fromarray(sheet)


def played(run: "Recording") -> dict:
    """What the player shows of a pipelines.diffusion.recording.Recording."""
    out = io.BytesIO()
    strip_of(run.attention).save(out, "PNG")
    places = np.unique(np.linspace(0, len(run.sigmas) - 1, SIGMAS_SHOWN).round().astype(int))
    nouns = set(run.subject_words)
    return {
        "count": len(run.moments),
        "guided": any(moment.gap for moment in run.moments),
        "tracks": {name: [_source(frame, "webp") for frame in frames] for name, frames in run.frames.items()},
        "moments": [
            {"time": moment.time, "sigma": moment.sigma, "text": _told(run, place)}
            for place, moment in enumerate(run.moments)
        ],
        "sigmas": [[int(place), float(run.sigmas[place])] for place in places if run.sigmas[place] < 1e3],
        "strip": _source(out.getvalue(), "png"),
        "rows": [
            {"text": say("(start)"), "subject": False},
            *({"text": named(word), "subject": place in nouns} for place, word in enumerate(run.words)),
        ],
        "say": {
            "noisy": say("what the model sees"),
            "clean": say("what it expects at the end"),
            "conditional": say("expected with the prompt"),
            "unconditional": say("expected without it"),
            "difference": say("their difference, ×3: what guidance multiplies"),
            "curve": say("how much noise is left (σ): a dot for each step, noise on the left"),
            "strip": say("Which pixels each word owns, step by step; each word on its own scale. Click a step."),
            "slider": say("Step"),
            "back": say("One step back"),
            "next": say("One step on"),
            "play": say("Play"),
        },
    }


def peaks_chart(runs: "list[tuple[str, Recording]]", refine: bool) -> str:
    """Highest attention of every subject over the steps, of one or two recordings of the same length, beside the
    thresholds of Attend-and-Excite."""
    lines = []
    for name, run in runs:
        steps = list(range(1, len(run.moments) + 1))
        for place, subject in enumerate(run.names):
            label = f"{named(subject)}, {name}" if name else named(subject)
            lines.append(charts.Line(name=label, x=steps, y=[moment.peaks[place] for moment in run.moments]))
    if not lines:
        return ""
    count, excite = len(runs[0][1].moments), lazily("pipelines.diffusion.attend_excite")
    stairs = excite.Schedule(steps=count).staircase() if refine else []
    if stairs:
        x = [x for place in range(len(stairs)) for x in (place + 0.5, place + 1.5)]
        lines.append(charts.Line(name=say("thresholds"), x=x, y=[y for y in stairs for _ in range(2)]))
    title = say("The patch that cares most for each subject")
    return charts.curves(lines, say("step"), say("attention, 0 to 1"), y_range=(0, 1), title=title)
