"""Graphs, tables of numbers, shares and pictures with their captions as SVG and HTML that follow light and dark mode.

All text is escaped here."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demos.ui import charts
from demos.ui.drawing import source_of

SIDE, RADIUS = 300, 13  # of a drawn graph and its nodes, in its own pixels
BLUE, RED = "59 130 246", "239 68 68"  # as in charts.SERIES


def graph(
    places: np.ndarray,
    numbers: Sequence[int],
    names: Sequence[str],
    joined: np.ndarray,
    picture: np.ndarray | None,
    changed: np.ndarray | None,
    title: str,
) -> str:
    """Nodes with their numbers where they are, and their edges.

    Args:
        places: (n, 2) from the upper left corner, 0 to 1.
        joined: (n, n) bool.
        picture: (H, W, 3) uint8, behind it.
        changed: (n,) bool, whose answer changed with the numbers; None where that is not told yet.
    """
    at = places * SIDE
    parts = [] if picture is None else [f'<image href="{source_of(picture)}" width="{SIDE}" height="{SIDE}"/>']
    for i, j in zip(*np.nonzero(np.triu(joined)), strict=True):
        (x0, y0), (x1, y1) = at[i], at[j]
        parts.append(f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" class="edge"/>')
    for place, (x, y) in enumerate(at):
        kind = "" if changed is None else " changed" if changed[place] else " kept"
        parts.append(
            f'<g class="node{kind}"><circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"/>'
            f'<text x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle">{numbers[place]}</text>'
            f"<title>{html.escape(names[place])}</title></g>"
        )
    drawn = f'<svg class="graph" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{html.escape(title)}">'
    return f'<figure class="graph">{drawn}{"".join(parts)}</svg><figcaption>{html.escape(title)}</figcaption></figure>'


def signed(values: np.ndarray, rows: Sequence[str], title: str, most: float | None = None, digits: int = 1) -> str:
    """(R, C) numbers as a table, blue below 0 and red above.

    Args:
        rows: what stands before each row; may be empty.
        most: the size of the strongest colour; that of the largest number when None.
    """
    strongest = max(float(np.abs(values).max()) if most is None else most, 1e-300)
    lines = []
    for place, row in enumerate(values):
        head = f'<th scope="row">{html.escape(rows[place])}</th>' if rows else ""
        cells = []
        for value in row.tolist():
            share = min(abs(value) / strongest, 1)
            text = f"{abs(value):.{digits}f}"
            text = text.removeprefix("0") if float(text) else "0"
            text = f"−{text}" if value < 0 and text != "0" else text
            cells.append(f'<td style="background:rgb({BLUE if value < 0 else RED} / {0.8 * share:.3f})">{text}</td>')
        lines.append(f"<tr>{head}{''.join(cells)}</tr>")
    named = "named" if rows else ""
    return (
        f'<figure class="heat signed {named}"><figcaption><b>{html.escape(title)}</b></figcaption>'
        f"<table>{''.join(lines)}</table></figure>"
    )


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of a count, as a bar."""

    name: str
    share: float
    interval: tuple[float, float] | None = None  # 95 %
    told: str = ""  # what stands behind it; the share when empty
    stands_out: bool = False


def shares(rows: Sequence[Share], mark: float | None = None) -> str:
    """Bars from 0 to 1, one below the other, with their intervals; a line at `mark`, such as chance."""
    found = []
    for row in rows:
        colour = charts.SERIES[0 if row.stands_out else 5]
        bars = f'<i style="width:{row.share:.1%};background:{colour}"></i>'
        told = row.told or f"{row.share:.1%}"
        if row.interval is not None:
            low, high = row.interval
            bars += f'<u style="inset-inline-start:{low:.1%};width:{high - low:.1%}"></u>'
            told += f" ({low:.0%} – {high:.0%})"
        if mark is not None:
            bars += f'<u class="chance" style="inset-inline-start:{mark:.1%}"></u>'
        found.append(
            f'<div class="share"><span>{html.escape(row.name)}</span><div class="track">{bars}</div>'
            f"<span>{html.escape(told)}</span></div>"
        )
    return f'<div class="shares">{"".join(found)}</div>'


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two pictures that belong together, or one, and what is said of them."""

    pictures: Sequence[np.ndarray]  # (H, W, 3) uint8 each
    told: str
    good: bool | None = None  # a green frame or a red one; none when None


def pairs(found: Sequence[Pair]) -> str:
    """Small pictures in rows, with a line under each pair."""
    cells = []
    for each in found:
        frame = {None: "", True: "good", False: "bad"}[each.good]
        images = "".join(f'<img class="{frame}" alt="" src="{source_of(picture)}">' for picture in each.pictures)
        alone = " alone" if len(each.pictures) == 1 else ""
        cells.append(
            f'<figure><div class="pair{alone}">{images}</div><figcaption>{html.escape(each.told)}</figcaption></figure>'
        )
    return f'<div class="seeds">{"".join(cells)}</div>'
