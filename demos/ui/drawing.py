"""Pictures and charts: arrays and numbers in, Pillow images, SVG and HTML out.

Pictures are drawn by whole patches, nearest neighbour, so that a pixel on the screen is a pixel of the model. Charts
are SVG that takes its colours from the page, so they follow light and dark mode. All text that reaches SVG or HTML is
escaped here.
"""

import base64
import colorsys
import functools
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from demos.ui.text import ASSETS, PERSIAN, language

VAZIRMATN = ASSETS / "fonts" / "Vazirmatn-FD-Regular.woff2"
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


def sheet(pictures: np.ndarray, columns: int, side: int = 96) -> Image.Image:
    """(N, S, S, 3) uint8 -> rows of so many pictures, each about `side` pixels wide."""
    rows = -(-len(pictures) // columns)
    size = pictures.shape[1]
    grid = np.zeros((rows * columns, size, size, 3), np.uint8)
    grid[: len(pictures)] = pictures
    whole = grid.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)
    return enlarge(whole, round(side / size) * max(whole.shape[:2]))


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


def typeface(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """What is written in pictures with, `size` pixels high: Persian needs one that has its letters."""
    return _typeface(size, language() == PERSIAN)


@functools.lru_cache(maxsize=32)
def _typeface(size: int, persian: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(VAZIRMATN, size) if persian else ImageFont.load_default(size)


def frames(image: Image.Image, found: Sequence[Frame], scale: float) -> Image.Image:
    """Boxes with their labels on a picture that is shown `scale` times as large as it is; faint ones lie below."""
    image = image.copy()
    draw = ImageDraw.Draw(image, "RGBA")
    font = typeface(15)
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
    font = typeface(15)
    lines = [wrap(caption, font, side) for caption in captions]
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


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines that fit; a word that is wider than a line is cut."""
    lines = [""]
    for word in text.split():
        while font.getlength(word) > width:
            word = word[:-1]
        trial = f"{lines[-1]} {word}".strip()
        if font.getlength(trial) <= width:
            lines[-1] = trial
        else:
            lines.append(word)
    return lines


# ---------------------------------------------------------------------------------------------------------------- HTML


def source_of(picture: np.ndarray | Image.Image) -> str:
    """A picture, or (H, W, 3) or (H, W) uint8, as the source of an image."""
    out = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(out, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def figures(found: Sequence[tuple[np.ndarray | Image.Image, str]]) -> str:
    """Pictures with a line under each, four in a row."""
    cells = "".join(
        f'<figure><img alt="" src="{source_of(picture)}"><figcaption>{html.escape(told)}</figcaption></figure>'
        for picture, told in found
    )
    return f'<div class="four">{cells}</div>'
