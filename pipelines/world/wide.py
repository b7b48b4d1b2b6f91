"""The wide storybook world: many hands, many grounds, turned and covered things, and a camera that is not perfect.

`draw(seed, ...)` is `storybook.scene` with steps that can each be switched on and off (`World`). The truth stays exact
to the pixel: masks are what can be seen once everything lies on top of everything else, boxes are the bounds of the
masks, and no step of the camera moves a pixel. What is drawn depends on the arguments alone.

A model is trained on the column `known` of `pipelines.world.drawings` and on seeds of `storybook.TRAIN`; with seeds of
`storybook.TEST` photographs in the ground are others than in training.
"""

import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipelines.errors import UserError
from pipelines.settings import setting
from pipelines.world import drawings, grounds, storybook
from pipelines.world.drawings import Drawing
from pipelines.world.grounds import Rng, Size
from pipelines.world.storybook import COLOURS, NOUNS, PLACES, SIZE, THINGS, Scene, SceneObject


@dataclass(frozen=True, kw_only=True)
class World:
    """Which steps a scene goes through. All of them off is the clean world of `storybook.scene`, in any hand."""

    places: bool = setting(True, "Varied places", "the five named places in other light, with grass, waves, stars")
    gradients: bool = setting(True, "Gradients", "grounds between any two colours, along any direction")
    stripes: bool = setting(True, "Stripes", "grounds of stripes of two colours")
    checks: bool = setting(True, "Checks", "grounds of squares of two colours")
    blobs: bool = setting(True, "Blobs", "grounds of soft or sharp blobs of two colours")
    clouds: bool = setting(True, "Noise", "grounds of coloured noise of several scales")
    photographs: bool = setting(True, "Photographs", "crops of photographs as grounds, gray ones tinted")
    clutter: bool = setting(True, "Clutter", "shapes without a name lie behind the things")
    sizes: bool = setting(True, "All sizes", "things have sides from 18 to 90 % of the picture's shorter side")
    turned: bool = setting(True, "Turned", "things are turned by up to 25 degrees")
    mirrored: bool = setting(True, "Mirrored", "half of the things look the other way")
    covered: bool = setting(True, "Partly covered", "things and shapes may cover up to 40 % of a thing")
    cut: bool = setting(True, "Cut by the border", "a part of a thing, up to 40 %, lies outside the picture")
    shapes: bool = setting(True, "Not square", "pictures of sides from 1:1 to 1:2, unless a size is given")
    restyled: bool = setting(True, "Restyled", "outlines, shading, stretching, and other tones for animals")
    small: bool = setting(True, "Low resolution", "made smaller by 1.3 to 2.5 and enlarged again")
    blur: bool = setting(True, "Blur", "out of focus, by a Gaussian of 0.4 to 1.6 pixels")
    light: bool = setting(True, "Light", "darker or brighter, with more or less contrast and a cast")
    grain: bool = setting(True, "Grain", "Gaussian noise of 2 to 14 of 255")
    jpeg: bool = setting(True, "JPEG", "compressed at qualities from 20 to 75")


GROUNDS = ("places", "gradients", "stripes", "checks", "blobs", "clouds", "photographs")
CAMERA = ("small", "blur", "light", "grain", "jpeg")  # in this order
WIDE = World()
CLEAN = World(**{each.name: False for each in fields(World)})

SMALLEST, LARGEST = 0.18, {1: 0.9, 2: 0.65, 3: 0.5}  # sides, as shares of the picture's shorter side
MOST_TURNED = 25  # degrees
LEAST_SEEN = 0.6  # share of a thing that is neither covered nor outside
OFTEN = {"small": 0.12, "blur": 0.15, "light": 0.4, "grain": 0.2, "jpeg": 0.2}  # share of pictures


# ------------------------------------------------------------------------------------------------------------- things


def _ground(world: World, size: Size, rng: Rng, test: bool) -> tuple[np.ndarray, str, str]:
    """(H, W, 3) float32, the place if it has a name, and which of GROUNDS it is."""
    chosen = [name for name in GROUNDS if getattr(world, name)]
    place = tuple(PLACES)[rng.integers(len(PLACES))]
    if not chosen:
        return storybook.ground_of(place, size, rng), place, "clean"
    # Named places as often as all others together, so that captions name places often enough.
    if world.places and (len(chosen) == 1 or rng.random() < 0.5):
        return grounds.place(place, size, rng), place, "places"
    kind = [name for name in chosen if name != "places"][int(rng.integers(len(chosen) - world.places))]
    if kind == "photographs":
        return grounds.photograph(size, rng, test), "", kind
    return grounds.UNNAMED[kind](size, rng), "", kind


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """What lies at (x, y): a thing, or a shape without a name (drawing None)."""

    drawing: Drawing | None
    colour: str | None
    pixels: np.ndarray  # (h, w, 4) uint8
    x: int
    y: int


def _in_size(drawing: Drawing, colour: tuple[int, int, int] | None, side: int) -> Image.Image:
    image = _premultiplied(drawing, colour, side <= drawings.SIDE // 2)
    scale = side / max(image.size)
    return image.resize([max(1, round(n * scale)) for n in image.size], Image.Resampling.HAMMING).convert("RGBA")


@functools.lru_cache(maxsize=8192)
def _premultiplied(drawing: Drawing, colour: tuple[int, int, int] | None, half: bool) -> Image.Image:
    """The drawing in RGBa, whole or at half its size, from which small ones are faster made."""
    image = drawings.picture(drawing, colour).convert("RGBa")
    return image.resize([max(1, n // 2) for n in image.size], Image.Resampling.HAMMING) if half else image


def _restyled(image: Image.Image, animal: bool, rng: Rng) -> Image.Image:
    """As another hand might have drawn it: other tones, a shade from one side, an outline."""
    pixels = np.asarray(image, np.float32)
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    if rng.random() < 0.6:
        gray = rgb.mean(-1, keepdims=True)
        strength = np.float32(rng.uniform(0.3, 1.5) if animal else rng.uniform(0.8, 1.25))
        rgb = gray + (rgb - gray) * strength
        light = rng.normal(1, 0.2 if animal else 0.07), rng.normal(0, 16 if animal else 5)
        cast = rng.normal(0, 12 if animal else 0, 3).astype(np.float32)
        rgb = rgb * np.float32(light[0]) + np.float32(light[1]) + cast
        if animal and rng.random() < 0.15:  # channels in another order: a blue cat
            rgb = rgb[..., rng.permutation(3)]
    if rng.random() < 0.3:
        along = grounds.along_a_line(image.size, rng)
        along = (along - along.min()) / max(1.0, float(along.max() - along.min())) - np.float32(0.5)
        rgb = rgb * (1 + np.float32(rng.uniform(0.1, 0.5)) * along[..., None])
    if rng.random() < 0.3 and min(image.size) > 12:
        wide = int(rng.choice((3, 3, 5)))
        padded = np.pad(alpha, wide // 2 + 1)
        grown = np.asarray(Image.fromarray(padded.astype(np.uint8)).filter(ImageFilter.MaxFilter(wide)), np.float32)
        rgb = np.pad(rgb, ((wide // 2 + 1,) * 2,) * 2 + ((0, 0),))
        pale = np.full(3, 245, np.float32)
        ink = grounds.colour(rng) * np.float32(0.35) if rng.random() < 0.75 else pale
        share = (padded / 255)[..., None]
        rgb, alpha = np.asarray(ink + (rgb - ink) * share, np.float32), grown
    return Image.fromarray(np.concatenate([rgb.clip(0, 255), alpha[..., None]], -1).astype(np.uint8))


_OPAQUE = [255 * (alpha > 8) for alpha in range(256)]


def _thing(drawing: Drawing, colour: str | None, side: int, world: World, rng: Rng, always: bool) -> np.ndarray:
    """The drawing as it will lie in the picture, cropped to what is not transparent: (h, w, 4) uint8."""
    image = _in_size(drawing, COLOURS[colour] if colour else None, side)
    if world.mirrored and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if world.restyled and rng.random() < 0.6:
        image = _restyled(image, colour is None, rng)
        stretch = math.exp(rng.uniform(-0.18, 0.18))
        image = image.resize([max(4, round(image.width * stretch)), max(4, round(image.height / stretch))])
    if world.turned and (rng.random() < 0.6 or always):
        image = image.rotate(rng.uniform(-MOST_TURNED, MOST_TURNED), Image.Resampling.BICUBIC, expand=True)
    image = image.crop(image.getchannel("A").point(_OPAQUE).getbbox())
    return np.asarray(image)


def _corner(box: Size, size: Size, cut: bool, rng: Rng) -> tuple[int, int]:
    """Where the upper left corner of something of size `box` goes."""
    place = []
    for mine, whole in zip(box, size, strict=True):
        outside = 0.4 * mine if cut else 0.0
        place.append(int(rng.uniform(-outside, max(whole - mine + outside, -outside) + 1)))
    return place[0], place[1]


def _arrange(
    things: Sequence[tuple[Drawing, str | None]], size: Size, world: World, rng: Rng, always: bool
) -> list[_Placed] | None:
    """Every thing at some place; None where no room was found."""
    close = world.covered and rng.random() < 0.35
    largest = LARGEST[len(things)] if world.sizes else {1: 0.75, 2: 0.59, 3: 0.47}[len(things)]
    smallest = SMALLEST if world.sizes else {1: 0.375, 2: 0.31, 3: 0.28}[len(things)]
    placed: list[_Placed] = []
    boxes: list[tuple[int, int, int, int]] = []
    for drawing, colour in things:
        side = rng.uniform(smallest, largest) * min(size)
        pixels = _thing(drawing, colour, max(12, round(side)), world, rng, always)
        height, width = pixels.shape[:2]
        cut = world.cut and rng.random() < 0.2
        for _ in range(12):
            x, y = _corner((width, height), size, cut, rng)
            if close or not any(storybook.overlap_too_much((x, y, width, height), other) for other in boxes):
                boxes.append((x, y, width, height))
                placed.append(_Placed(drawing=drawing, colour=colour, pixels=pixels, x=x, y=y))
                break
        else:
            return None
        if world.covered and rng.random() < 0.12:
            placed.append(_cover(boxes[-1], rng))
    return placed


def _cover(box: tuple[int, int, int, int], rng: Rng) -> _Placed:
    """A shape that lies over an edge of the box (x, y, w, h)."""
    x, y, width, height = box
    radius = rng.uniform(0.15, 0.4) * max(width, height)
    side = math.ceil(2 * radius) + 2
    image = Image.new("RGBA", (side, side))
    grounds.shape(ImageDraw.Draw(image), (side / 2, side / 2), radius, rng, (*map(int, grounds.colour(rng)), 255), None)
    angle = rng.uniform(0, 2 * math.pi)
    centre = x + width * (0.5 + 0.5 * math.cos(angle)), y + height * (0.5 + 0.5 * math.sin(angle))
    corner = round(centre[0] - side / 2), round(centre[1] - side / 2)
    return _Placed(drawing=None, colour=None, pixels=np.asarray(image), x=corner[0], y=corner[1])


def _paint(placed: Sequence[_Placed], canvas: np.ndarray) -> tuple[SceneObject, ...] | None:
    """Paint all in order; None where too little of a thing could be seen."""
    height, width = canvas.shape[:2]
    masks: list[np.ndarray] = []
    for each in placed:
        left, top = max(0, each.x), max(0, each.y)
        right, bottom = min(width, each.x + each.pixels.shape[1]), min(height, each.y + each.pixels.shape[0])
        mask = np.zeros((height, width), bool)
        if right > left and bottom > top:
            part = each.pixels[top - each.y : bottom - each.y, left - each.x : right - each.x]
            alpha = part[..., 3:].astype(np.float32) / 255
            window = canvas[top:bottom, left:right]
            window += alpha * (part[..., :3] - window)
            mask[top:bottom, left:right] = part[..., 3] >= 128
            for other in masks:
                other[top:bottom, left:right] &= ~mask[top:bottom, left:right]
        masks.append(mask)
    objects = []
    for each, mask in zip(placed, masks, strict=True):
        if each.drawing is None:
            continue
        whole = np.count_nonzero(each.pixels[..., 3] >= 128)
        if np.count_nonzero(mask) < max(1, LEAST_SEEN * whole):
            return None
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        drawing = each.drawing
        objects.append(SceneObject(noun=drawing.noun, colour=each.colour, box=box, mask=mask, drawing=drawing.key))
    return tuple(objects)


# ------------------------------------------------------------------------------------------------------------- camera


@functools.cache
def _grain() -> np.ndarray:
    """Gaussian noise to cut from: drawing it anew would take half of a scene's time."""
    return np.random.default_rng(0).standard_normal((1024, 1024, 3), np.float32)


def _small(canvas: np.ndarray, rng: Rng) -> np.ndarray:
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    less = [max(8, round(side / rng.uniform(1.3, 2.5))) for side in image.size]
    way = Image.Resampling.BICUBIC if rng.random() < 0.7 else Image.Resampling.NEAREST
    return np.asarray(image.resize(less, Image.Resampling.BOX).resize(image.size, way), np.float32)


def _blur(canvas: np.ndarray, rng: Rng) -> np.ndarray:
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6))), np.float32)


def _light(canvas: np.ndarray, rng: Rng) -> np.ndarray:
    contrast, light = np.float32(rng.uniform(0.6, 1.25)), np.float32(rng.uniform(-35, 35))
    cast = rng.normal(0, 7, 3).astype(np.float32)
    return (canvas - 128) * contrast + (128 + light + cast)


def _with_grain(canvas: np.ndarray, rng: Rng) -> np.ndarray:
    height, width = canvas.shape[:2]
    pool = _grain()
    y, x = rng.integers(0, pool.shape[0] - height), rng.integers(0, pool.shape[1] - width)
    return canvas + np.float32(rng.uniform(2, 14)) * pool[y : y + height, x : x + width]


def _jpeg(canvas: np.ndarray, rng: Rng) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(buffer, "jpeg", quality=int(rng.integers(20, 76)))
    return np.asarray(Image.open(buffer), np.float32)


_STEPS = {"small": _small, "blur": _blur, "light": _light, "grain": _with_grain, "jpeg": _jpeg}


# -------------------------------------------------------------------------------------------------------------- scenes


def _size(world: World, rng: Rng) -> Size:
    if not world.shapes or rng.random() < 0.5:
        return SIZE, SIZE
    longer = int(rng.integers(SIZE, 2 * SIZE + 1))
    return (longer, SIZE) if rng.random() < 0.5 else (SIZE, longer)


def draw(
    seed: int,
    world: World = WIDE,
    count: int | None = None,
    column: str | None = "known",
    hand: str | None = None,
    size: Size | None = None,
    held_out: frozenset[tuple[str, str]] = frozenset(),
    always: bool = False,
) -> Scene:
    """Draw one random scene of the wide world, the same for the same arguments.

    Args:
        seed: any non-negative integer; see `storybook.TRAIN`, `VALIDATION` and `TEST`.
        world: which steps it goes through.
        count: how many things, 1 to 3; random when None.
        column: one of `drawings.COLUMNS`, whose drawings are used; None for all.
        hand: one of `drawings.HANDS`, whose drawings are used; None for all.
        size: (width, height) in pixels; None for 128x128, or for any shape if the world has them.
        held_out: (colour, noun) pairs that must not appear.
        always: every step of the camera that is on shows in every picture, not in its share of them, and every thing is
            turned if any is.

    Raises:
        UserError: for another count, and where column and hand have too few nouns in common.
    """
    rng = np.random.default_rng((seed, 1))
    if count is None:
        count = int(rng.choice(3, p=(0.45, 0.4, 0.15))) + 1
    if count not in LARGEST:
        raise UserError("A scene has 1 to 3 objects, not {count}.", count=count)
    nouns = [noun for noun in NOUNS if drawings.drawings(noun, hand, column)]
    if len(nouns) < count:
        raise UserError("There are no {count} nouns by {hand} among {column}.", count=count, hand=hand, column=column)
    size = size or _size(world, rng)
    while True:
        things = []
        for index in rng.permutation(len(nouns))[:count]:
            noun = nouns[index]
            stock = drawings.drawings(noun, hand, column)
            allowed = [c for c in COLOURS if (c, noun) not in held_out]
            colour = allowed[rng.integers(len(allowed))] if noun in THINGS else None
            things.append((stock[rng.integers(len(stock))], colour))
        placed = _arrange(things, size, world, rng, always)
        if placed is None:
            continue
        canvas, place, kind = _ground(world, size, rng, seed in storybook.TEST)
        if world.clutter:
            canvas = grounds.clutter(canvas, size, rng)
        canvas = np.ascontiguousarray(canvas)
        if not canvas.flags.writeable:
            canvas = canvas.copy()
        objects = _paint(placed, canvas)
        if objects is not None:
            break
    for name in CAMERA:
        if getattr(world, name) and (always or rng.random() < OFTEN[name]):
            canvas = _STEPS[name](canvas, rng)
    picture = canvas.clip(0, 255).round().astype(np.uint8)
    caption = storybook.random_caption(objects, place, rng)
    return Scene(picture=picture, caption=caption, objects=objects, background=place, ground=kind)
