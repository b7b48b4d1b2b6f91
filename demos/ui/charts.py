"""Charts, bars and tables as SVG and HTML: numbers in, text out. No Gradio, no torch."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SERIES = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#64748b")  # lines of a chart, in order


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

    def point(self, x: float, y: float, name: str) -> str:
        across, up = self.at(x, y)
        after = across < (LEFT + WIDTH - RIGHT) / 2  # the name stands where there is room
        told = f'<text x="{across + (10 if after else -10):.1f}" y="{up + 4:.1f}"'
        told += f' text-anchor="{"start" if after else "end"}">{html.escape(name)}</text>'
        return f'<circle cx="{across:.1f}" cy="{up:.1f}" r="6" class="point"/>{told if name else ""}'


def curves(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    mark_x: float | None = None,
    levels: Sequence[tuple[float, str]] = (),
    y_range: tuple[float, float] | None = None,
    title: str = "",
    x_range: tuple[float, float] | None = None,
    points: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """A line chart as SVG. `mark_x` and `points`, by name, draw the present settings; `levels` are horizontal lines
    with a name."""
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return ""
    axes = _Axes.around(lines, levels, x_range, y_range, top=26 if title else 12)
    parts = [*axes.scales(), *(axes.level(y, name) for y, name in levels)]
    if mark_x is not None and axes.x[0] <= mark_x <= axes.x[1]:
        parts.append(axes.mark(mark_x))
    colours = [SERIES[place % len(SERIES)] for place in range(len(lines))]
    parts += [axes.line(line, colour) for line, colour in zip(lines, colours, strict=True)]
    parts += [axes.point(x, y, name) for name, (x, y) in (points or {}).items()]
    legend = _legend([line.name for line in lines], colours)
    return f'<figure class="chart">{_chart(parts, title, x_label, y_label, axes.top)}{legend}</figure>'


def scatter(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, x_label: str, y_label: str, title: str
) -> str:
    """Dots as SVG on two axes of the same range, with the line on which both are equal."""
    ends = (min(*x, *y), max(*x, *y))
    ends = ends if ends[1] > ends[0] else (ends[0] - 1, ends[1] + 1)
    axes = _Axes(x=ends, y=ends, top=26)
    places = (axes.at(a, b) for a, b in zip(x, y, strict=True))
    dots = [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{SERIES[0]}" opacity="0.5"/>' for a, b in places]
    equal = f'<polyline points="{axes.points(ends, ends)}" fill="none" class="level"/>'
    return f'<figure class="chart">{_chart([*axes.scales(), equal, *dots], title, x_label, y_label, axes.top)}</figure>'


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


def score_bars(
    names: Sequence[str], scores: Sequence[float], mark: float, title: str, attributes: Sequence[str] = ()
) -> str:
    """One bar from 0 to 1 per name with a line at `mark`: every word's score of one box.

    `attributes` are of its rows' tags (demos/ui/links.py).
    """
    rows = []
    for name, score, tag in zip(names, scores, attributes or [""] * len(names), strict=True):
        bar = _bar(100 * score, SERIES[0] if score >= mark else SERIES[5], score, mark)
        rows.append(f"<tr{tag}><th>{html.escape(name)}</th><td>{bar}</td></tr>")
    return f'<figure class="bars"><h2>{html.escape(title)}</h2><table>{"".join(rows)}</table></figure>'


def value_bars(names: Sequence[str], values: Sequence[float], title: str) -> str:
    """One bar per name, the longest one full, with its value."""
    most = max(*values, 1e-9)
    rows = [
        f"<tr><th>{html.escape(name)}</th><td>{_bar(100 * value / most, SERIES[0], value)}</td></tr>"
        for name, value in zip(names, values, strict=True)
    ]
    return f'<figure class="bars"><h2>{html.escape(title)}</h2><table>{"".join(rows)}</table></figure>'


def pair_bars(
    names: Sequence[str],
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    labels: tuple[str, str],
) -> str:
    """Two bars per name, the longest one full, with their values: the teacher's and the student's distributions."""
    rows, longest = [], max(*first, *second, 1e-9)
    for name, a, b in zip(names, first, second, strict=True):
        bars = "".join(_bar(100 * max(value, 0) / longest, SERIES[i], value) for i, value in enumerate((a, b)))
        rows.append(f"<tr><th>{html.escape(name)}</th><td>{bars}</td></tr>")
    return f'<figure class="bars"><table>{"".join(rows)}</table>{_legend(labels, SERIES[:2])}</figure>'


def _bar(percent: float, colour: str, value: float, mark: float | None = None) -> str:
    line = "" if mark is None else f'<u style="inset-inline-start:{100 * mark:.1f}%"></u>'
    return f'<div class="bar"><i style="width:{percent:.1f}%;background:{colour}"></i>{line}<b>{value:.3f}</b></div>'


def headline(*numbers: tuple[str, str]) -> str:
    """The number, or the two, that a lesson is about: (value with its unit, what it says, what to hold it against)."""
    told = "".join(f"<p><b>{html.escape(value)}</b> <span>{html.escape(text)}</span></p>" for value, text in numbers)
    return f'<div class="headline">{told}</div>'


def facts(rows: Sequence[tuple[str, str, str]]) -> str:
    """The numbers beside the pictures: (name, value with its unit, what it is to be compared with)."""
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td><td>{html.escape(context)}</td></tr>"
        for name, value, context in rows
    )
    return f'<table class="facts">{cells}</table>'


def grid_table(head: Sequence[str], rows: Sequence[Sequence[str]], attributes: Sequence[str] = ()) -> str:
    """A plain table with a head; `attributes` are of its rows' tags (demos/ui/links.py)."""
    top = "".join(f"<th>{html.escape(cell)}</th>" if cell else "<td></td>" for cell in head)
    body = "".join(
        f"<tr{tag}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row, tag in zip(rows, attributes or [""] * len(rows), strict=True)
    )
    return f'<div class="scroll" tabindex="0"><table class="plain"><tr>{top}</tr>{body}</table></div>'
