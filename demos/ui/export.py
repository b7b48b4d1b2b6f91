"""Figures and numbers to take away: a slide with everything on it that made it, charts as SVG, and all of it as JSON.

A slide carries the address of what it shows. Dropped as a picture on its tab, it brings back its picture and settings.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

import numpy as np
from gradio.processing_utils import save_bytes_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image, ImageDraw, ImageOps

from demos.ui import drawing
from demos.ui.controls import in_address
from demos.ui.lesson import Lesson
from demos.ui.text import PERSIAN, language, say
from pipelines.settings import Setting, settings_of

KEY = "patchlight"  # PNG text chunk of what an exported figure shows
WIDTH, HEIGHT, MARGIN, GAP = 1920, 1080, 60, 28  # pixels
TITLE, CLAIM, CAPTION, SMALL = 48, 30, 26, 22  # pixels, sizes of type
INK, PALE = (17, 24, 39), (75, 85, 99)
LINE = 1.3  # heights of type between two lines
SCALE = 44  # pixels that a scale takes below its map
CHART_STYLE = (  # of assets/style.css, for a file that has no page around it
    "text{font:12px sans-serif;fill:#111827}.title{font-weight:600;font-size:13px}.grid{stroke:#e5e7eb}"
    ".level{stroke:#111827;stroke-dasharray:5 4;opacity:.7}.point{fill:#ef4444;stroke:#111827;stroke-width:1.5}"
    ".above{fill:#3b82f6}.below{fill:#94a3b8}.mark{stroke:#111827;stroke-width:1.4}"
)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A picture of a slide, and what is written under it."""

    picture: Image.Image
    caption: str
    scale: tuple[str, str] | None = None  # what the darkest and the lightest colour of a map stand for


# -------------------------------------------------------------------------------------------------------------- files


def settings_as_json(settings: object) -> dict:
    """What an export records of a settings class: everything but pictures."""
    known = settings if isinstance(settings, dict) else vars(settings)
    return {name: value for name, value in known.items() if not isinstance(value, Image.Image)}


def export_files(
    lesson: Lesson, panels: Sequence[Panel], settings: object, numbers: dict, picture: str = "", charts: str = ""
) -> list[str]:
    """Paths for a `gr.File`: the slide as PNG, with everything in its metadata; each chart as SVG; everything as JSON.

    Args:
        picture: which one it is, as in an address; "" where there is none.
        charts: HTML that may hold some.
    """
    known = settings_as_json(settings)
    address = query_of(lesson, known, picture)
    record = {"app": "Patchlight", "tab": lesson.slug, "settings": known, "numbers": numbers, "address": address}
    text, folder = json.dumps(record, indent=1), get_upload_folder()
    figure = slide(lesson, panels, lines_of(lesson, known, numbers, picture, address))
    figure.info[KEY] = text
    name = f"patchlight-{lesson.slug}"
    files = [save_pil_to_cache(figure, folder, name=name, format="png")]
    files += [
        save_bytes_to_cache(chart.encode(), f"{name}-{place}.svg", folder)
        for place, chart in enumerate(drawn_in(charts), 1)
    ]
    return [*files, save_bytes_to_cache(text.encode(), f"{name}.json", folder)]


def drawn_in(shown: str) -> list[str]:
    """Every chart of a part of the page, as a file of its own."""
    head = '<svg xmlns="http://www.w3.org/2000/svg" class="chart"'
    charts = re.findall(r'<svg class="chart"(.*?)>(.*?)</svg>', shown, re.DOTALL)
    return [f"{head}{known}><style>{CHART_STYLE}</style>{inside}</svg>" for known, inside in charts]


# ------------------------------------------------------------------------------------------------------------ address


def query_of(lesson: Lesson, settings: dict, picture: str) -> str:
    """What opens a tab with these settings and this picture: the settings that are not as usual."""
    found = {"tab": lesson.slug} | ({"picture": picture} if picture else {})
    for name, known in settings_of(lesson.settings).items():
        value = settings.get(name)
        if in_address(known) and value not in (None, "", known.default):
            found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return urlencode(found)


def query_in(told: str) -> dict[str, str]:
    """The address in the text of a PNG, by name; empty where there is none. It is to be checked like any input."""
    try:
        return dict(parse_qsl(json.loads(told)["address"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}  # somebody else's metadata, or none


# -------------------------------------------------------------------------------------------------------------- slide


def lines_of(lesson: Lesson, settings: dict, numbers: dict, picture: str, address: str) -> list[str]:
    """What made it, what came out, and what it is of."""
    known = {name: value for name, value in settings.items() if value not in (None, "", [], ())}
    all_settings = settings_of(lesson.settings).items()
    made = [f"{say(each.label)}: {_named(each, known[name])}" for name, each in all_settings if name in known]
    came = [f"{name.replace('_', ' ')} {_shown(value)}" for name, value in numbers.items() if _is_number(value)]
    of = [say("Picture: {name}", name=picture)] if picture else []
    return [" · ".join(parts) for parts in (made, came, [*of, f"Patchlight ?{address}"]) if parts]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(setting: Setting, value: object) -> str:
    """A choice by its text, as the page shows it."""
    texts = setting.choices or {}
    return say(texts[value]) if isinstance(value, str) and value in texts else _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return say("yes") if value else say("no")
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:60]


def slide(lesson: Lesson, panels: Sequence[Panel], lines: Sequence[str]) -> Image.Image:
    """1920 x 1080: the lesson's title and claim, the pictures with their captions and scales, and small lines below.

    In Persian it begins at the right.
    """
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, across = ImageDraw.Draw(sheet), WIDTH - 2 * MARGIN
    below = _write(pen, say(lesson.title), (MARGIN, MARGIN // 2), across, TITLE, INK, most=1)
    below = _write(pen, say(lesson.claim), (MARGIN, below), across, CLAIM, PALE, most=2)
    small = [part for line in lines for part in _wrapped(line, SMALL, across)[:3]]
    bottom = HEIGHT - MARGIN // 2 - round(LINE * SMALL) * len(small)
    for place, line in enumerate(small):
        _write(pen, line, (MARGIN, bottom + place * round(LINE * SMALL)), across, SMALL, PALE, most=1)
    _lay_out(sheet, pen, panels, below + GAP, bottom - GAP // 2)
    return sheet


def _lay_out(sheet: Image.Image, pen: ImageDraw.ImageDraw, panels: Sequence[Panel], top: int, bottom: int) -> None:
    """In one row, or in two where there are more than four."""
    rows = 1 if len(panels) <= 4 else 2
    columns = -(-len(panels) // rows)
    wide = (WIDTH - 2 * MARGIN - GAP * (columns - 1)) // columns
    high = (bottom - top) // rows
    captions = [_wrapped(panel.caption, CAPTION, wide)[:2] for panel in panels]
    under = round(LINE * CAPTION) * max(map(len, captions), default=0) + 10
    under += SCALE if any(panel.scale for panel in panels) else 0
    box = wide, high - under - GAP // 2
    for place, (panel, told) in enumerate(zip(panels, captions, strict=True)):
        column, row = place % columns, place // columns
        left, upper = MARGIN + (columns - 1 - column if _from_right() else column) * (wide + GAP), top + row * high
        enlarged = min(box[0] / panel.picture.width, box[1] / panel.picture.height)
        how = Image.Resampling.NEAREST if enlarged >= 2 else Image.Resampling.LANCZOS
        fitted = ImageOps.contain(panel.picture.convert("RGB"), box, how)
        inner = left + wide - fitted.width if _from_right() else left
        sheet.paste(fitted, (inner, upper))
        edge = upper + fitted.height + 8
        if panel.scale:
            edge = _scale(sheet, pen, panel.scale, (inner, edge), fitted.width)
        for line in told:
            edge = _write(pen, line, (left, edge), wide, CAPTION, INK, most=1)


def _scale(sheet: Image.Image, pen: ImageDraw.ImageDraw, ends: tuple[str, str], at: tuple[int, int], wide: int) -> int:
    """The colours of a map from its least value to its largest: where the next line begins."""
    bar = drawing.viridis(np.linspace(0, 1, wide))[None].repeat(10, axis=0)
    sheet.paste(Image.fromarray(bar), at)
    font = drawing.typeface(SMALL)
    pen.text((at[0], at[1] + 12), ends[0], font=font, fill=PALE)
    pen.text((at[0] + wide - font.getlength(ends[1]), at[1] + 12), ends[1], font=font, fill=PALE)
    return at[1] + SCALE


def _from_right() -> bool:
    return language() == PERSIAN


def _wrapped(text: str, size: int, width: int) -> list[str]:
    return drawing.wrap(text, drawing.typeface(size), width)


def _write(
    pen: ImageDraw.ImageDraw,
    text: str,
    at: tuple[int, int],
    width: int,
    size: int,
    paint: tuple[int, int, int],
    most: int,
) -> int:
    """Lines of text from a place down: where the next one begins."""
    x, y = at
    font = drawing.typeface(size)
    for line in _wrapped(text, size, width)[:most]:
        indent = width - pen.textlength(line, font) if _from_right() else 0
        pen.text((x + indent, y), line, font=font, fill=paint)
        y += round(LINE * size)
    return y
