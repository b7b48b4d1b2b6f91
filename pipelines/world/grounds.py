"""What things stand on in the wide world (`pipelines.world.wide`): named places in any light, and unnamed grounds.

Each is a function of (size, rng) to (H, W, 3) float32, about [0, 255]; sizes are (width, height) in pixels. Knows numpy
and Pillow only, and scikit-image's sample photographs if they are installed.
"""

import functools
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipelines.errors import UserError
from pipelines.world import storybook

Rng = np.random.Generator
Size = tuple[int, int]  # width and height in pixels

# In scikit-image; none of those that the cards call never seen.
TRAINING_PHOTOGRAPHS = ("brick", "grass", "gravel", "camera", "coins", "hubble_deep_field", "moon", "motorcycle_left")
TEST_PHOTOGRAPHS = ("coffee", "rocket", "retina", "ihc")


def colour(rng: Rng) -> np.ndarray:
    return rng.uniform(0, 255, 3).astype(np.float32)


def along_a_line(size: Size, rng: Rng) -> np.ndarray:
    """(H, W) pixels along a random direction."""
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.arange(size[1], dtype=np.float32)[:, None], np.arange(size[0], dtype=np.float32)
    return rows * np.float32(math.sin(angle)) + columns * np.float32(math.cos(angle))


def _between(share: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first + (second - first) * share[..., None]


def _smooth(size: Size, cells: int, rng: Rng, channels: int = 1) -> np.ndarray:
    """(H, W) or (H, W, 3) in about [-1, 1]: noise of `cells` cells a side, smoothly enlarged."""
    shape = (cells, cells) if channels == 1 else (cells, cells, channels)
    noise = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
    return (np.asarray(noise.resize(size, Image.Resampling.BICUBIC), np.float32) - 128) / 128


def _gradient(size: Size, rng: Rng) -> np.ndarray:
    along = along_a_line(size, rng)
    if rng.random() < 0.3:  # around a point
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        rows, columns = np.arange(size[1], dtype=np.float32)[:, None], np.arange(size[0], dtype=np.float32)
        along = np.hypot(rows - np.float32(y), columns - np.float32(x))
    low, high = float(along.min()), float(along.max())
    return _between((along - low) / (high - low), colour(rng), colour(rng))


def _edge(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """A wave in [-1, 1] as a share of two colours, with sharp edges or soft ones."""
    return (wave * np.float32(math.exp(rng.uniform(math.log(0.5), math.log(12)))) + 0.5).clip(0, 1)


def _stripes(size: Size, rng: Rng) -> np.ndarray:
    period = np.float32(math.exp(rng.uniform(math.log(5), math.log(48))))
    return _between(_edge(np.sin(along_a_line(size, rng) * (2 * math.pi / period)), rng), colour(rng), colour(rng))


def _checks(size: Size, rng: Rng) -> np.ndarray:
    period = math.exp(rng.uniform(math.log(10), math.log(64)))
    angle = rng.uniform(0, math.pi) if rng.random() < 0.5 else 0.0
    rows, columns = np.arange(size[1], dtype=np.float32)[:, None], np.arange(size[0], dtype=np.float32)
    scale = np.float32(2 * math.pi / period)
    one = np.sin((rows * np.float32(math.sin(angle)) + columns * np.float32(math.cos(angle))) * scale)
    other = np.sin((rows * np.float32(math.cos(angle)) - columns * np.float32(math.sin(angle))) * scale)
    return _between(_edge(one * other, rng), colour(rng), colour(rng))


def _blobs(size: Size, rng: Rng) -> np.ndarray:
    return _between(_edge(_smooth(size, int(rng.integers(3, 14)), rng) * 2, rng), colour(rng), colour(rng))


def _clouds(size: Size, rng: Rng) -> np.ndarray:
    canvas = np.broadcast_to(colour(rng), (size[1], size[0], 3)).astype(np.float32)
    for cells in (3, 8, 24, min(64, min(size))):
        if rng.random() < 0.6:
            if rng.random() < 0.5:
                canvas += np.float32(rng.uniform(8, 70)) * _smooth(size, cells, rng, 3)
            else:
                canvas += np.float32(rng.uniform(8, 70)) * _smooth(size, cells, rng)[..., None]
    return canvas


@functools.cache
def _photographs(test: bool) -> tuple[Image.Image, ...]:
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise UserError("Grounds of photographs need scikit-image. Install it, or switch photographs off.")
    folder = Path(package.origin).parent / "data"
    found = []
    for name in TEST_PHOTOGRAPHS if test else TRAINING_PHOTOGRAPHS:
        image = Image.open(next(folder.glob(f"{name}.[pj][np]g")))
        image.thumbnail((384, 384))
        found.append(image.convert("L" if image.mode in ("L", "I;16", "P", "1") else "RGB"))
    return tuple(found)


def photograph(size: Size, rng: Rng, test: bool) -> np.ndarray:
    stock = _photographs(test)
    image = stock[rng.integers(len(stock))]
    height = rng.uniform(0.25, 1) * min(image.height, image.width * size[1] / size[0])
    width = height * size[0] / size[1]
    x, y = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    part = image.resize(size, Image.Resampling.BILINEAR, box=(x, y, x + width, y + height))
    pixels = np.asarray(part, np.float32)
    return _between(pixels / 255, colour(rng), colour(rng)) if pixels.ndim == 2 else pixels


def place(name: str, size: Size, rng: Rng) -> np.ndarray:
    """A named place in another light, with what can be found there."""
    width, height = size
    top, bottom = (np.array(colour, np.float32) for colour in storybook.TOP_BOTTOM[name])
    cast, lift = rng.normal(0, 9, 3), rng.normal(0, 14)
    top, bottom = top + np.float32(cast + lift), bottom + np.float32(cast + lift + rng.normal(0, 8))
    down = np.linspace(0, 1, height, dtype=np.float32) ** np.float32(math.exp(rng.normal(0, 0.5)))
    if rng.random() < 0.25:  # a horizon
        down = np.float32(0.3) * down + np.float32(0.7) * (down > rng.uniform(0.15, 0.6))
    canvas = np.repeat(_between(down, top, bottom)[:, None], width, 1)
    for cells, most in ((4, 12), (12, 9), (40, 7)):
        if rng.random() < 0.6:
            canvas += np.float32(rng.uniform(2, most)) * _smooth(size, min(cells, min(size)), rng)[..., None]
    if rng.random() < 0.6:
        image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
        _details(name, ImageDraw.Draw(image), size, rng)
        canvas = np.asarray(image, np.float32)
    return canvas


def _details(name: str, draw: ImageDraw.ImageDraw, size: Size, rng: Rng) -> None:
    """Blades of grass, waves of sand, flakes of snow, stars and a moon, clouds."""
    width, height = size
    count = int(rng.integers(6, 50))
    xs, ys, shades = rng.uniform(0, width, count), rng.uniform(0, height, count), rng.uniform(-34, 34, count)
    middle = [(a + b) / 2 for a, b in zip(*storybook.TOP_BOTTOM[name], strict=True)]
    tones = [tuple(int(min(255, max(0, c + shade))) for c in middle) for shade in shades]
    if name == "grass":
        for x, y, tone, lean in zip(xs, ys, tones, rng.uniform(-3, 3, count), strict=True):
            draw.line((x, y, x + lean, y - 4 - abs(lean)), fill=tone, width=1)
    elif name == "sand":
        for x, y, tone in zip(xs, ys, tones, strict=True):
            draw.arc((x - 12, y - 3, x + 12, y + 3), 180, 360, fill=tone)
    elif name == "snow":
        for x, y, r in zip(xs, ys, rng.uniform(0.5, 2.2, count), strict=True):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    elif name == "night":
        for x, y, r in zip(xs, ys, rng.uniform(0, 1.2, count), strict=True):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(240, 236, 200))
        if rng.random() < 0.4:
            x, y, r = rng.uniform(0, width), rng.uniform(0, height / 2), rng.uniform(6, 14)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(246, 240, 208))
    else:
        for x, y, tone in zip(xs[:6], ys[:6], tones, strict=False):
            white = tuple((255 * 3 + c) // 4 for c in tone)
            for i in range(3):
                r = rng.uniform(5, 12)
                draw.ellipse((x + 9 * i - r, y - r * 0.7, x + 9 * i + r, y + r * 0.7), fill=white)


UNNAMED: dict[str, Callable[[Size, Rng], np.ndarray]] = {
    "gradients": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "blobs": _blobs,
    "clouds": _clouds,
}


# ----------------------------------------------------------------------------------------------------- nameless shapes


def shape(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    radius: float,
    rng: Rng,
    fill: tuple[int, ...] | None,
    ink: tuple[int, ...] | None,
) -> None:
    """An ellipse, a polygon, a star or a bar."""
    x, y = centre
    kind = rng.integers(4)
    if kind == 0:
        flat = rng.uniform(0.4, 1)
        draw.ellipse((x - radius, y - radius * flat, x + radius, y + radius * flat), fill=fill, outline=ink)
        return
    corners = int(rng.integers(3, 8))
    angles = np.arange(corners) * (2 * math.pi / corners) + rng.uniform(0, 6.3)
    reach = np.full(corners, radius)
    if kind == 2:
        angles = np.arange(2 * corners) * (math.pi / corners) + rng.uniform(0, 6.3)
        reach = np.where(np.arange(2 * corners) % 2, radius, radius * rng.uniform(0.35, 0.7))
    elif kind == 3:
        width = rng.uniform(0.12, 0.4)
        angles = np.array([-width, width, math.pi - width, math.pi + width]) + rng.uniform(0, 6.3)
        reach = np.full(4, radius)
    points = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1).ravel().tolist()
    draw.polygon(points, fill=fill, outline=ink)


def clutter(canvas: np.ndarray, size: Size, rng: Rng) -> np.ndarray:
    count = int(rng.integers(-3, 7))
    if count <= 0:
        return canvas
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        centre = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        fill = tuple(map(int, colour(rng)))
        ink = tuple(map(int, colour(rng))) if rng.random() < 0.3 else None
        shape(draw, centre, rng.uniform(0.03, 0.2) * min(size), rng, fill, ink)
    return np.asarray(image, np.float32)
