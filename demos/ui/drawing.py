"""Pictures and charts: arrays and numbers in, Pillow images, SVG and HTML out. Knows numpy and Pillow only.

Pictures are drawn by whole patches, nearest neighbour, so that a pixel on the screen is a pixel of the model. Charts
are SVG that takes its colours from the page, so they follow light and dark mode. All text that reaches SVG or HTML is
escaped here.
"""

import colorsys
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

SIDE = 448  # pixels, the side at which square pictures are shown

_VIRIDIS = np.array(
    [  # ten stops of the viridis map (CC0), dark to light
        (68, 1, 84),
        (72, 40, 120),
        (62, 74, 137),
        (49, 104, 142),
        (38, 130, 142),
        (31, 158, 137),
        (53, 183, 121),
        (109, 205, 89),
        (180, 222, 44),
        (253, 231, 37),
    ],
    np.float32,
)
SERIES = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#64748b")  # lines of a chart, in order


# ------------------------------------------------------------------------------------------------------------ pictures


def viridis(values: np.ndarray) -> np.ndarray:
    """(...,) in [0, 1] -> (..., 3) uint8; values that are not numbers become grey."""
    place = np.clip(np.nan_to_num(values), 0, 1) * (len(_VIRIDIS) - 1)
    low = np.minimum(place.astype(int), len(_VIRIDIS) - 2)
    colour = _VIRIDIS[low] + (place - low)[..., None] * (_VIRIDIS[low + 1] - _VIRIDIS[low])
    return np.where(np.isnan(values)[..., None], 150, colour).round().astype(np.uint8)


def to_image(array: np.ndarray) -> Image.Image:
    """(H, W, 3) float in [0, 1], or uint8 -> image."""
    if array.dtype != np.uint8:
        array = (np.clip(array, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))


def enlarge(image: Image.Image | np.ndarray, side: int = SIDE) -> Image.Image:
    """Enlarge to about `side` pixels by a whole factor, so that every pixel of the model stays a clean square."""
    image = image if isinstance(image, Image.Image) else to_image(image)
    factor = _factor(image.size, side)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _factor(size: tuple[int, int], side: int = SIDE) -> int:
    return max(1, round(side / max(size)))


def stretch(grid: np.ndarray, side: int) -> np.ndarray:
    """(g, g, ...) -> (side, side, ...), each cell repeated. `side` is a multiple of g."""
    times = side // grid.shape[0]
    return grid.repeat(times, axis=0).repeat(times, axis=1)


def normalised(values: np.ndarray) -> np.ndarray:
    """Shift and scale to [0, 1], leaving out what is not a number; a flat map becomes 0."""
    low, high = np.nanmin(values), np.nanmax(values)
    return (values - low) / (high - low) if high > low else values * 0


def heat_over(picture: np.ndarray, heat: np.ndarray, strength: float = 0.65) -> Image.Image:
    """A (g, g) map of values in [0, 1] over an (S, S, 3) float picture; NaN cells show the picture alone."""
    image = np.asarray(enlarge(picture), np.float32)
    cells = stretch(heat, len(image))
    weight = np.where(np.isnan(cells), 0, strength)[..., None]
    return to_image((image * (1 - weight) + viridis(cells) * weight).round().astype(np.uint8))


def keep_patches(picture: np.ndarray, kept: np.ndarray, ghost: float = 0.18) -> Image.Image:
    """The picture with removed patches dark and hatched: (S, S, 3) float and (g, g) bool. `ghost` is how much shines
    through.
    """
    image = np.asarray(enlarge(picture), np.float32)
    side, cell = len(image), len(image) // len(kept)
    visible = stretch(kept, side)[..., None]
    dimmed = image.mean(-1, keepdims=True) * ghost + 22
    across, down = np.arange(side)[None, :] % cell, np.arange(side)[:, None] % cell
    hatch = ((across + down) % 8 == 0)[..., None] & ~visible
    image = np.where(visible, image, dimmed) + hatch * 26
    edge = ((across == 0) | (down == 0))[..., None]
    return to_image((image * np.where(edge, 0.86, 1)).clip(0, 255).astype(np.uint8))


def greyed(image: Image.Image) -> Image.Image:
    """Pale and without colour: what is of another run than the picture beside it."""
    return Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, (150, 150, 150)), 0.6)


def outline(image: Image.Image, mask: np.ndarray, colour: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Draw the border of an (S, S) bool mask, two pixels wide, with a dark rim so that it shows on any ground."""
    side = image.width
    large = np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))
    pixels = np.asarray(image).copy()
    for width, paint in ((3, (20, 20, 20)), (1, colour)):
        inner = large.copy()
        for axis in (0, 1):
            for step in range(1, width + 1):
                inner &= np.roll(large, step, axis) & np.roll(large, -step, axis)
        pixels[large & ~inner] = paint
    return Image.fromarray(pixels)


def mark_cell(image: Image.Image, row: int, column: int, grid: int) -> Image.Image:
    """A frame around one patch."""
    image = image.copy()
    cell = image.width // grid
    box = [column * cell, row * cell, (column + 1) * cell - 1, (row + 1) * cell - 1]
    draw = ImageDraw.Draw(image)
    draw.rectangle([box[0] - 3, box[1] - 3, box[2] + 3, box[3] + 3], outline=(0, 0, 0), width=3)
    draw.rectangle(box, outline=(255, 255, 255), width=2)
    return image


def palette(ids: np.ndarray, most: int = 20) -> dict[int, tuple[int, int, int]]:
    """A colour for each of the `most` frequent ids, by falling frequency; ids not in it are drawn grey."""
    names, counts = np.unique(ids, return_counts=True)
    order = names[np.argsort(-counts, kind="stable")][:most]
    colours: dict[int, tuple[int, int, int]] = {}
    for place, name in enumerate(order):
        hue = place * 0.618034 % 1  # the golden ratio keeps neighbours apart
        value, saturation = (0.95, 0.72, 0.52)[place % 3], (0.75, 0.55, 0.85)[place // 3 % 3]
        colours[int(name)] = _rgb(hue, saturation, value)
    return colours


def paint_ids(ids: np.ndarray, colours: dict[int, tuple[int, int, int]], side: int = SIDE) -> Image.Image:
    """(g, g) ids -> picture, one colour per id, grey for those without one."""
    cells = np.array([[colours.get(int(i), (140, 140, 140)) for i in row] for row in ids], np.uint8)
    return enlarge(cells, side)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One box on a picture."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the picture
    label: str
    colour: tuple[int, int, int]
    style: str = "solid"  # "faint": thin, without a label; "truth": dashed white; "picked": twice as thick


def frames(image: Image.Image, found: Sequence[Frame], scale: float) -> Image.Image:
    """Boxes with their labels on a picture that is shown `scale` times as large as it is; faint ones lie below."""
    image = image.copy()
    draw = ImageDraw.Draw(image, "RGBA")
    font = ImageFont.load_default(15)
    for frame in sorted(found, key=lambda f: ("faint", "truth", "solid", "picked").index(f.style)):
        x0, y0, x1, y1 = (round(side * scale) for side in frame.box)
        if frame.style == "faint":
            draw.rectangle([x0, y0, max(x0, x1), max(y0, y1)], outline=(*frame.colour, 90), width=1)
        elif frame.style == "truth":
            _dashed(draw, (x0, y0, x1, y1))
        else:
            width = 6 if frame.style == "picked" else 3
            draw.rectangle([x0, y0, max(x0, x1), max(y0, y1)], outline=frame.colour, width=width)
            _tag(draw, frame, (x0, y0, y1), image.size, font)
    return image


def _tag(draw: ImageDraw.ImageDraw, frame: Frame, at: tuple[int, int, int], size: tuple[int, int], font) -> None:
    """The label: above its box, below it at the upper border, and never over the picture's edge."""
    long, high = round(font.getlength(frame.label)) + 8, 20
    left, top, bottom = at
    x = max(0, min(left, size[0] - long))
    y = max(0, top - high) if top >= high or bottom + high > size[1] else bottom
    draw.rectangle([x, y, x + long, y + high], fill=frame.colour)
    light = 0.299 * frame.colour[0] + 0.587 * frame.colour[1] + 0.114 * frame.colour[2] > 140
    draw.text((x + 4, y + 1), frame.label, font=font, fill=(0, 0, 0) if light else (255, 255, 255))


def _dashed(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], dash: int = 7) -> None:
    x0, y0, x1, y1 = box
    for width, paint in ((4, (0, 0, 0)), (2, (255, 255, 255))):
        for x in range(x0, x1, 2 * dash):
            for y in (y0, y1):
                draw.line([x, y, min(x + dash, x1), y], fill=paint, width=width)
        for y in range(y0, y1, 2 * dash):
            for x in (x0, x1):
                draw.line([x, y, x, min(y + dash, y1)], fill=paint, width=width)


def colour_of(place: int) -> tuple[int, int, int]:
    """A strong colour for the place-th of any number of things; neighbours are far apart."""
    value, saturation = (0.95, 0.72)[place // 6 % 2], (0.85, 0.6)[place // 12 % 2]
    hue = place * 0.618034 % 1
    return _rgb(hue, saturation, value)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    """From shares of a turn and of the whole to 0 to 255."""
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def shown_size(size: tuple[int, int], most: int = 1024) -> tuple[int, int]:
    """The size in pixels at which a picture of this size is shown."""
    if max(size) <= SIDE:
        factor = _factor(size)
        return size[0] * factor, size[1] * factor
    scale = min(1, most / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def show(picture: Image.Image, most: int = 1024) -> tuple[Image.Image, float]:
    """A picture at the size at which it is shown, and how many times larger that is: small ones clean squares."""
    if max(picture.size) <= SIDE:
        large = enlarge(picture)
    else:
        large = picture.resize(shown_size(picture.size, most), Image.Resampling.LANCZOS, reducing_gap=2)
    return large, max(large.size) / max(picture.size)


def place_in(size: tuple[int, int], at: tuple[float, float]) -> tuple[float, float]:
    """Where a point of the shown picture lies in the one of this size, each axis by its own scale: a long narrow
    picture cannot be shown at exactly its proportions."""
    x, y = (place * side / shown for place, side, shown in zip(at, size, shown_size(size), strict=True))
    return x, y


def strip(images: Sequence[Image.Image], captions: Sequence[str], side: int = 240, gap: int = 12) -> Image.Image:
    """Pictures in one row with a caption under each, on white: a figure to export or to print."""
    font = ImageFont.load_default(15)
    lines = [_wrap(caption, font, side) for caption in captions]
    height = side + 8 + 19 * max(len(text) for text in lines)
    sheet = Image.new("RGB", (len(images) * (side + gap) - gap, height), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (image, text) in enumerate(zip(images, lines, strict=True)):
        left = place * (side + gap)
        fitted = ImageOps.contain(image.convert("RGB"), (side, side), Image.Resampling.NEAREST)
        sheet.paste(fitted, (left + (side - fitted.width) // 2, (side - fitted.height) // 2))
        for row, line in enumerate(text):
            draw.text((left, side + 6 + 19 * row), line, font=font, fill=(30, 30, 30))
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        trial = f"{lines[-1]} {word}".strip()
        if font.getlength(trial) <= width or not lines[-1]:
            lines[-1] = trial
        else:
            lines.append(word)
    return lines


# -------------------------------------------------------------------------------------------------------------- charts


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart, with an optional shaded band."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / count))
    step = next(step * m for m in (1, 2, 2.5, 5, 10) if (high - low) / (step * m) <= count)
    first = math.ceil(low / step - 1e-9) * step
    return [first + i * step for i in range(int((high - first) / step + 1e-9) + 1)]


WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 560, 300, 52, 14, 40  # of a chart, and the margins of its axes, in pixels


@dataclass(frozen=True, kw_only=True)
class _Axes:
    """The part of a chart that has coordinates."""

    x: tuple[float, float]
    y: tuple[float, float]
    top: int  # margin

    @classmethod
    def around(
        cls,
        lines: Sequence[Line],
        levels: Sequence[tuple[float, str]],
        x_range: tuple[float, float] | None,
        y_range: tuple[float, float] | None,
        top: int,
    ) -> "_Axes":
        """Wide enough for everything, where no range is given."""
        xs = [x for line in lines for x in line.x]
        ys = [y for line in lines for y in (*line.y, *(line.low or ()), *(line.high or ()))] + [y for y, _ in levels]
        low, high = y_range or (min(ys), max(ys))
        margin = 0 if y_range else 0.06 * (high - low or 1)
        x_range = x_range or (min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1)
        return cls(x=x_range, y=(low - margin, high + margin), top=top)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point; what is too high or too low lies on the border."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        up = (min(max(y, y0), y1) - y0) / (y1 - y0) * (HEIGHT - BOTTOM - self.top)
        return across, HEIGHT - BOTTOM - up

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        return " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in zip(xs, ys, strict=True))

    def across(self, y: float, kind: str) -> str:
        """A line from the left end to the right."""
        (left, up), (right, _) = self.at(self.x[0], y), self.at(self.x[1], y)
        return f'<line x1="{left:.1f}" y1="{up:.1f}" x2="{right:.1f}" y2="{up:.1f}" class="{kind}"/>'

    def scales(self) -> list[str]:
        """Ticks of both axes."""
        parts = []
        for tick in _ticks(*self.y):
            _, up = self.at(self.x[0], tick)
            parts.append(
                self.across(tick, "grid") + f'<text x="{LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
            )
        for tick in _ticks(*self.x):
            across, _ = self.at(tick, self.y[0])
            parts.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:.4g}</text>')
        return parts

    def level(self, y: float, name: str) -> str:
        right, up = self.at(self.x[1], y)
        told = f'<text x="{right - 4:.1f}" y="{up - 4:.1f}" text-anchor="end">{html.escape(name)}</text>'
        return self.across(y, "level") + told

    def line(self, line: Line, colour: str) -> str:
        """One line, over its band."""
        band = ""
        if line.low is not None and line.high is not None:
            there, back = self.points(line.x, line.high), self.points([*reversed(line.x)], [*reversed(line.low)])
            band = f'<polygon points="{there} {back}" fill="{colour}" opacity="0.18"/>'
        points = self.points(line.x, line.y)
        return f'{band}<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.2"/>'

    def mark(self, x: float) -> str:
        (across, down), (_, up) = self.at(x, self.y[0]), self.at(x, self.y[1])
        return f'<line x1="{across:.1f}" y1="{down:.1f}" x2="{across:.1f}" y2="{up:.1f}" class="mark"/>'

    def point(self, x: float, y: float) -> str:
        across, up = self.at(x, y)
        return f'<circle cx="{across:.1f}" cy="{up:.1f}" r="6" class="point"/>'


def curves(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    mark_x: float | None = None,
    levels: Sequence[tuple[float, str]] = (),
    y_range: tuple[float, float] | None = None,
    title: str = "",
    x_range: tuple[float, float] | None = None,
    point: tuple[float, float] | None = None,
) -> str:
    """A line chart as SVG. `mark_x` and `point` draw the present setting, `levels` are horizontal lines with a name."""
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return ""
    axes = _Axes.around(lines, levels, x_range, y_range, top=26 if title else 12)
    parts = [*axes.scales(), *(axes.level(y, name) for y, name in levels)]
    if mark_x is not None and axes.x[0] <= mark_x <= axes.x[1]:
        parts.append(axes.mark(mark_x))
    colours = [SERIES[place % len(SERIES)] for place in range(len(lines))]
    parts += [axes.line(line, colour) for line, colour in zip(lines, colours, strict=True)]
    if point is not None:
        parts.append(axes.point(*point))
    legend = _legend([line.name for line in lines], colours)
    return f'<figure class="chart">{_chart(parts, title, x_label, y_label, axes.top)}{legend}</figure>'


def _chart(parts: Sequence[str], title: str, x_label: str, y_label: str, top: int) -> str:
    """What is drawn between two axes, with all that is written around it."""
    told = f'<text x="{LEFT}" y="15" class="title">{html.escape(title)}</text>' if title else ""
    middle = (LEFT + WIDTH - RIGHT) / 2, (top + HEIGHT - BOTTOM) / 2
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title or y_label)}">'
        f"{told}{''.join(parts)}"
        f'<text x="{middle[0]}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
        f'<text transform="translate(13 {middle[1]}) rotate(-90)" text-anchor="middle">{html.escape(y_label)}</text>'
        "</svg>"
    )


def _legend(names: Sequence[str], colours: Sequence[str]) -> str:
    entries = zip(names, colours, strict=True)
    spans = "".join(f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>' for name, colour in entries)
    return f'<div class="legend">{spans}</div>'


def histogram(values: Sequence[float], x_label: str, y_label: str, mark_x: float, title: str, bins: int = 40) -> str:
    """How many values lie where between 0 and 1, as SVG; those from `mark_x` on stand out. Heights are square roots,
    so that a single value beside hundreds can still be seen."""
    top = 26
    counts, edges = np.histogram(np.clip(values, 0, 1), bins=bins, range=(0, 1))
    most = max(1, counts.max()) ** 0.5

    def x(value: float) -> float:
        return LEFT + value * (WIDTH - LEFT - RIGHT)

    def y(count: float) -> float:
        return HEIGHT - BOTTOM - count**0.5 / most * (HEIGHT - top - BOTTOM)

    parts = []
    for tick in sorted({0, 1, *(int(counts.max() * share) for share in (0.06, 0.3, 1))}):
        parts.append(
            f'<line x1="{LEFT}" y1="{y(tick):.1f}" x2="{WIDTH - RIGHT}" y2="{y(tick):.1f}" class="grid"/>'
            f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>'
        )
    for tick in range(6):
        parts.append(f'<text x="{x(tick / 5):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick / 5:g}</text>')
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        if count:
            kind = "above" if (low + high) / 2 >= mark_x else "below"
            parts.append(
                f'<rect x="{x(low) + 0.5:.1f}" y="{y(count):.1f}" width="{x(high) - x(low) - 1:.1f}" '
                f'height="{HEIGHT - BOTTOM - y(count):.1f}" class="{kind}"/>'
            )
    across = f"{x(mark_x):.1f}"
    parts.append(f'<line x1="{across}" y1="{HEIGHT - BOTTOM}" x2="{across}" y2="{top}" class="mark"/>')
    return f'<figure class="chart">{_chart(parts, title, x_label, y_label, top)}</figure>'


def score_bars(names: Sequence[str], scores: Sequence[float], mark: float, title: str) -> str:
    """One bar from 0 to 1 per name with a line at `mark`: every word's score of one box."""
    rows = []
    for name, score in zip(names, scores, strict=True):
        bar = _bar(100 * score, SERIES[0] if score >= mark else SERIES[5], score, mark)
        rows.append(f"<tr><th>{html.escape(name)}</th><td>{bar}</td></tr>")
    return f'<figure class="bars"><h4>{html.escape(title)}</h4><table>{"".join(rows)}</table></figure>'


def pair_bars(names: Sequence[str], first: Sequence[float], second: Sequence[float], labels: tuple[str, str]) -> str:
    """Two bars per name, the longest one full, with their values: the teacher's and the student's distributions."""
    rows, longest = [], max(*first, *second, 1e-9)
    for name, a, b in zip(names, first, second, strict=True):
        bars = "".join(_bar(100 * max(value, 0) / longest, SERIES[i], value) for i, value in enumerate((a, b)))
        rows.append(f"<tr><th>{html.escape(name)}</th><td>{bars}</td></tr>")
    return f'<figure class="bars"><table>{"".join(rows)}</table>{_legend(labels, SERIES[:2])}</figure>'


def _bar(percent: float, colour: str, value: float, mark: float | None = None) -> str:
    line = "" if mark is None else f'<u style="inset-inline-start:{100 * mark:.1f}%"></u>'
    return f'<div class="bar"><i style="width:{percent:.1f}%;background:{colour}"></i>{line}<b>{value:.3f}</b></div>'


def facts(rows: Sequence[tuple[str, str, str]]) -> str:
    """The numbers beside the pictures: (name, value with its unit, what it is to be compared with)."""
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td><td>{html.escape(context)}</td></tr>"
        for name, value, context in rows
    )
    return f'<table class="facts">{cells}</table>'


def grid_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table with a head."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="plain"><tr>{top}</tr>{body}</table></div>'
