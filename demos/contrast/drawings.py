"""Heat maps with their numbers, and arrows: arrays in, HTML and SVG out that follow light and dark mode.

Knows numpy and Pillow only. All text is escaped here.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

BLUE, RED = "59 130 246", "239 68 68"  # as in charts.SERIES


def thumbnail(picture: Image.Image, side: int = 56) -> str:
    """A small copy as the source of an <img>."""
    out = io.BytesIO()
    picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS, reducing_gap=2).save(out, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


@dataclass(frozen=True, kw_only=True)
class Heat:
    """One heat map: pictures down, captions across."""

    title: str
    told: str  # what it says, a line or two
    values: np.ndarray  # (N, N)
    digits: int = 2
    signed: bool = False  # blue below 0, red above; else the darker the more
    scale: tuple[float, float] | None = None  # of the colour, where it is not the values' own range
    marks: np.ndarray | None = None  # (N, N) bool: cells that get a dotted frame
    beside: tuple[str, Sequence[str]] | None = None  # a column at the right end: its head and a text for each row
    below: tuple[str, Sequence[str]] | None = None  # a row at the lower end
    alarm: bool = False  # what stands beside or below is not as it ought to be

    def colours(self) -> np.ndarray:
        """(N, N) CSS colours."""
        if self.signed:
            most = max(float(np.abs(self.values).max()), 1e-12)
            strength, hues = np.abs(self.values) / most, np.where(self.values < 0, BLUE, RED)
        else:
            low, high = self.scale or (float(self.values.min()), float(self.values.max()))
            strength = np.clip((self.values - low) / max(high - low, 1e-12), 0, 1)
            hues = np.full(self.values.shape, BLUE)
        return np.array(
            [
                [f"rgb({h} / {0.75 * s:.3f})" for h, s in zip(*row, strict=True)]
                for row in zip(hues, strength, strict=True)
            ],
        )


def number(value: float, digits: int) -> str:
    """Short enough for a cell: no zero before the point, a true minus."""
    text = f"{abs(value):.{digits}f}"
    text = text.removeprefix("0") if digits else text
    return ("−" if value < 0 and float(text or 0) else "") + text


def heat_map(heat: Heat, thumbs: Sequence[str], chosen: tuple[int, int] | None) -> str:
    """A heat map as a table whose cells can be clicked and reached by Tab; `data-cell` says which one it is."""
    colours, size = heat.colours(), len(heat.values)
    edge = "beside off" if heat.alarm else "beside"
    rows = [
        "<tr><td></td>"
        + "".join(f'<th scope="col">{j + 1}</th>' for j in range(size))
        + (f'<th class="beside">{html.escape(heat.beside[0])}</th>' if heat.beside else "")
        + "</tr>"
    ]
    for i, row in enumerate(heat.values):
        cells = [f'<th scope="row"><img src="{thumbs[i]}" alt="{i + 1}"></th>']
        for j, value in enumerate(row):
            kinds = ["own"] * (i == j) + ["chosen"] * ((i, j) == chosen)
            kinds += ["marked"] * bool(heat.marks is not None and heat.marks[i, j])
            cells.append(
                f'<td data-cell="{i} {j}" tabindex="0" class="{" ".join(kinds)}" '
                f'style="background:{colours[i, j]}">{number(value, heat.digits)}</td>'
            )
        if heat.beside:
            cells.append(f'<td class="{edge}">{html.escape(heat.beside[1][i])}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    if heat.below:
        ends = "".join(f'<td class="{edge}">{html.escape(text)}</td>' for text in heat.below[1])
        rows.append(f'<tr><th class="beside">{html.escape(heat.below[0])}</th>{ends}</tr>')
    return (
        f'<figure class="heat"><figcaption><b>{html.escape(heat.title)}</b> {html.escape(heat.told)}</figcaption>'
        f"<table>{''.join(rows)}</table></figure>"
    )


def heat_maps(heats: Sequence[Heat], thumbs: Sequence[str], chosen: tuple[int, int] | None = None) -> str:
    """Heat maps of the same pairs beside each other."""
    return f'<div class="heats">{"".join(heat_map(heat, thumbs, chosen) for heat in heats)}</div>'


# ------------------------------------------------------------------------------------------------------------- arrows

SIDE, RIM = 300, 26  # of the drawing, and of the free space around it, in its own pixels


def tangent_plane(
    captions: np.ndarray, arrow: np.ndarray, own: int, pushes: np.ndarray, names: Sequence[str], title: str
) -> str:
    """What a picture's vector sees along the sphere, as SVG.

    Args:
        captions: (N, 2) where the captions lie, seen from the vector.
        arrow: (2,) where it is moved; drawn as long as there is room, for its length is a matter of the rate.
        own: which caption is its own.
        pushes: (N,) what the derivative does to each: negative pulls.
        names: what is written when the mouse rests on a caption.
    """
    reach = max(float(np.abs(captions).max()), 1e-9)
    middle = SIDE / 2

    def at(point: np.ndarray) -> tuple[float, float]:
        x, y = point / reach * (middle - RIM)
        return middle + x, middle - y

    parts = [
        f'<line x1="0" y1="{middle}" x2="{SIDE}" y2="{middle}" class="grid"/>'
        f'<line x1="{middle}" y1="0" x2="{middle}" y2="{SIDE}" class="grid"/>'
    ]
    for j, (point, name) in enumerate(zip(captions, names, strict=True)):
        x, y = at(point)
        colour = RED if pushes[j] > 0 else BLUE
        parts.append(
            f'<g><circle cx="{x:.1f}" cy="{y:.1f}" r="{9 if j == own else 7}" fill="rgb({colour} / 0.75)"/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{j + 1}</text>'
            f"<title>{html.escape(name)}</title></g>"
        )
    length = float(np.linalg.norm(arrow))
    if length > 1e-12:
        x, y = at(arrow / length * reach * 0.6)
        parts.append(
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 8 4 0 8z" class="tip"/></marker></defs>'
            f'<line x1="{middle}" y1="{middle}" x2="{x:.1f}" y2="{y:.1f}" class="arrow" marker-end="url(#tip)"/>'
        )
    parts.append(f'<circle cx="{middle}" cy="{middle}" r="4" class="here"/>')
    drawn = f'<svg class="chart plane" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{html.escape(title)}">'
    head = f"<figcaption><b>{html.escape(title)}</b></figcaption>"
    return f'<figure class="chart">{head}{drawn}{"".join(parts)}</svg></figure>'


def parallelogram(points: np.ndarray, names: Sequence[str], title: str) -> str:
    """An analogy, a to b as c to d, as SVG.

    Args:
        points: (5, 2) a, b, c, d and b - a + c.
        names: of the first four.
    """
    low, span = points.min(0), max(float(np.ptp(points, axis=0).max()), 1e-9)
    shift = (span - np.ptp(points, axis=0)) / 2  # the shorter side is centred
    places = (points - low + shift) / span * (SIDE - 4 * RIM) + 2 * RIM
    places[:, 1] = SIDE - places[:, 1]
    a, b, c, d, end = (f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polygon points="{a} {b} {end} {c}" class="frame"/><polyline points="{end} {d}" class="miss"/>']
    for (x, y), name in zip(places, [*names, "?"], strict=True):
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{"here" if name == "?" else "word"}"/>'
            f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{html.escape(name)}</text>'
        )
    head = f"<figcaption><b>{html.escape(title)}</b></figcaption>"
    drawn = f'<svg class="chart plane" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{html.escape(title)}">'
    return f'<figure class="chart">{head}{drawn}{"".join(parts)}</svg></figure>'
