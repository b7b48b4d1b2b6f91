"""Many drawings of every noun of the storybook world, by many hands.

The drawings lie in one sheet per hand in `assets/sprites/hands/`, with a manifest that names noun, hand and set of
each, says which pixels of a thing take another colour, and splits them in three columns: `known`, the only ones a
model is trained on; `new drawings`, held out, of hands it knows; `new hands`, all drawings of two hands it never saw.
`python -m pipelines.training.hands` makes sheets and manifest. This module knows numpy and Pillow only.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SHEETS = Path(__file__).parents[2] / "assets" / "sprites" / "hands"
SIDE = 128  # pixels, the longer side of every drawing on its sheet
COLUMNS = ("known", "new drawings", "new hands")

HANDS = {
    "noto": "Noto",
    "noto-v1": "Noto, the earlier set",
    "fluent": "Fluent",
    "fluent-flat": "Fluent, flat",
    "twemoji": "Twemoji",
    "streamline": "Streamline Emojis",
    "icons": "Streamline and Icons8 icons",
    "clipart": "Open Clip Art",
    "patchlight": "Patchlight",
    "emojione": "EmojiOne",
    "fxemoji": "FxEmoji",
}
NEW_HANDS = ("emojione", "fxemoji")

# Which pixels of a thing are painted: around a hue in degrees, or of little saturation and of values in a range.
Paint = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture of one noun. `box` is its place (x, y, width, height) on the sheet of its hand, in pixels."""

    noun: str
    hand: str
    name: str  # the set and the name the picture has there
    column: str  # one of COLUMNS
    box: tuple[int, int, int, int]
    paint: Paint  # empty for animals, which keep their colours

    @property
    def key(self) -> str:
        return f"{self.hand}/{self.name}"


@functools.cache
def _all() -> tuple[Drawing, ...]:
    listed = json.loads((SHEETS / "manifest.json").read_text(encoding="utf-8"))["drawings"]
    return tuple(
        Drawing(
            noun=d["noun"],
            hand=d["hand"],
            name=d["name"],
            column=d["column"],
            box=tuple(d["box"]),
            paint=tuple((kind, low, high) for kind, low, high in d["paint"]),
        )
        for d in listed
    )


@functools.cache
def drawings(noun: str | None = None, hand: str | None = None, column: str | None = None) -> tuple[Drawing, ...]:
    """The drawings of a noun, of a hand and in a column of COLUMNS, each None for any; a hand's first drawing of a
    noun is the plainest."""
    return tuple(d for d in _all() if noun in (None, d.noun) and hand in (None, d.hand) and column in (None, d.column))


@functools.cache
def _sheet(hand: str) -> Image.Image:
    return Image.open(SHEETS / f"{hand}.webp").convert("RGBA")


def hue_saturation_value(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(..., 3) floats in [0, 1] -> hue in degrees, saturation and value in [0, 1]."""
    value, low = rgb.max(-1), rgb.min(-1)
    spread = np.maximum(value - low, 1e-6)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    sector = np.select(
        [value == red, value == green], [(green - blue) / spread, 2 + (blue - red) / spread], 4 + (red - green) / spread
    )
    return sector * 60 % 360, (value - low) / np.maximum(value, 1e-6), value


def paint_weight(rgb: np.ndarray, paint: Paint) -> np.ndarray:
    """(H, W, 3) in [0, 1] -> (H, W) in [0, 1], how much of each pixel takes another colour.

    Args:
        paint: ("hue", degrees, reach) are the coloured pixels up to `reach` degrees away; ("gray", low, high) those of
            hardly any colour, with a value in the range.
    """
    hue, saturation, value = hue_saturation_value(rgb)
    weight = np.zeros(value.shape, np.float32)
    for kind, first, second in paint:
        if kind == "hue":
            distance = np.abs((hue - first + 180) % 360 - 180)
            found = np.clip((second - distance) / 12, 0, 1) * np.clip((saturation - 0.18) / 0.14, 0, 1)
        else:
            inside = np.minimum(value - first, second - value)
            found = np.clip(inside / 0.06 + 0.5, 0, 1) * np.clip((0.32 - saturation * value) / 0.14, 0, 1)
        weight = np.maximum(weight, found)
    return weight


def recoloured(rgba: np.ndarray, weight: np.ndarray, colour: Sequence[int]) -> np.ndarray:
    """(H, W, 4) floats in [0, 1], its weighed pixels in another colour: light and shade stay as they were, around it.

    Args:
        colour: sRGB in [0, 255], of the mid-tone.
    """
    light = rgba[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    painted = (weight > 0.5) & (rgba[..., 3] > 0.5)
    middle = float(np.median(light[painted])) if painted.any() else 0.5
    if middle < 0.35:  # a ratio of two dark tones is no shade
        light = light + 0.35 - middle
        middle = 0.35
    light = light / middle
    target = np.array(colour, np.float32) / 255
    shade = target * np.minimum(light, 1)[..., None]
    shine = (1 - shade) * np.clip(0.55 * (light - 1), 0, 0.8)[..., None]
    found = rgba.copy()
    found[..., :3] += weight[..., None] * (shade + shine - rgba[..., :3])
    return found


@functools.lru_cache(maxsize=4096)
def picture(drawing: Drawing, colour: tuple[int, int, int] | None = None) -> Image.Image:
    """The drawing as it lies on its sheet, RGBA with straight alpha, in another colour (sRGB) if it can be painted."""
    x, y, width, height = drawing.box
    cut = _sheet(drawing.hand).crop((x, y, x + width, y + height))
    if colour is None or not drawing.paint:
        return cut
    rgba = np.asarray(cut, np.float32) / 255
    painted = recoloured(rgba, paint_weight(rgba[..., :3], drawing.paint), colour)
    return Image.fromarray((painted * 255).round().clip(0, 255).astype(np.uint8))


@functools.lru_cache(maxsize=4096)
def cutout(drawing: Drawing, colour: tuple[int, int, int] | None, side: int, flip: bool = False) -> np.ndarray:
    """The drawing with its longer side `side` pixels long: (h, w, 4) uint8, straight alpha. Do not write to it."""
    image = picture(drawing, colour).convert("RGBa")
    size = [max(1, round(length * side / max(image.size))) for length in image.size]
    image = image.resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(image)
    pixels.flags.writeable = False
    return pixels
