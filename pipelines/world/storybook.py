"""The storybook world: small captioned pictures whose truth is known to the pixel.

One to three cut-outs (12 animals, 12 things in 11 colours) stand on one of five smooth backgrounds. `scene(seed)` draws
one at random and `compose(...)` draws what was asked for; both return the picture together with its caption and, for
every object, its name, colour, bounding box and visible mask. Nouns and colours are those of the prompt set of
Attend-and-Excite (Chefer et al. 2023, https://arxiv.org/abs/2301.13826), so its 276 prompts can be measured here.

This module knows numpy and Pillow only: no torch, no model.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.errors import UserError
from pipelines.phrases import parts, singular
from pipelines.world import drawings

SPRITES = Path(__file__).parents[2] / "assets" / "sprites"
SIZE = 128  # pixels, the side of every `scene`

ANIMALS = ("cat", "dog", "bird", "bear", "lion", "horse", "elephant", "monkey", "frog", "turtle", "rabbit", "mouse")
THINGS = (
    "backpack",
    "glasses",
    "crown",
    "suitcase",
    "chair",
    "balloon",
    "bow",
    "car",
    "bowl",
    "bench",
    "clock",
    "apple",
)
NOUNS = ANIMALS + THINGS
UNSEEN = ("tree", "fox", "umbrella", "bus")  # never in `scene`: for lessons about words a model was not trained on

COLOURS = {  # sRGB of the mid-tone; highlights and shadows of the sprite are kept around it
    "red": (214, 38, 40),
    "orange": (246, 128, 28),
    "yellow": (250, 208, 44),
    "green": (56, 160, 70),
    "blue": (44, 104, 214),
    "purple": (134, 62, 180),
    "pink": (246, 138, 186),
    "brown": (122, 76, 44),
    "gray": (134, 137, 142),
    "black": (42, 42, 48),
    "white": (240, 240, 240),
}
PLACES = {"grass": "on grass", "sand": "on sand", "snow": "in snow", "night": "at night", "sky": "in the sky"}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}  # columns, rows from the second

# (colour, thing) pairs the detector is never trained on, two for each colour: what it finds of them it was not taught.
HELD_OUT = frozenset(
    (colour, THINGS[(2 * i + step) % len(THINGS)]) for i, colour in enumerate(COLOURS) for step in (0, 5)
)

# Seeds never cross: a model is trained on TRAIN, tuned on VALIDATION and reported on TEST.
TRAIN = range(0, 10**9)
VALIDATION = range(10**9, 2 * 10**9)
TEST = range(2 * 10**9, 3 * 10**9)

TOP_BOTTOM = {  # sRGB of the background's gradient
    "grass": ((158, 206, 104), (88, 154, 62)),
    "sand": ((243, 226, 180), (222, 188, 124)),
    "snow": ((240, 246, 252), (208, 222, 238)),
    "night": ((14, 18, 50), (46, 50, 104)),
    "sky": ((112, 182, 238), (200, 228, 248)),
}
_BASE_HUE = {  # degrees, the hue of the sprite's recolourable pixels
    "backpack": 3,
    "glasses": 12,
    "crown": 45,
    "suitcase": 207,
    "chair": 25,
    "balloon": 4,
    "bow": 356,
    "car": 358,
    "bowl": 211,
    "bench": 27,
    "clock": 358,
    "apple": 12,
}


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One thing in a picture. `box` is the tight bound (x0, y0, x1, y1) of `mask` in pixels, x1 and y1 exclusive."""

    noun: str
    colour: str | None  # None for animals, which keep their own
    box: tuple[int, int, int, int]
    mask: np.ndarray  # (H, W) bool, the pixels of it that can be seen
    drawing: str = ""  # whose picture it is, the key of a `pipelines.world.drawings.Drawing`; empty for the classic one

    @property
    def phrase(self) -> str:
        return f"{self.colour} {self.noun}" if self.colour else self.noun


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture and its truth."""

    picture: np.ndarray  # (H, W, 3) uint8, sRGB
    caption: str
    objects: tuple[SceneObject, ...]
    background: str  # a key of PLACES; empty where the ground has no name
    ground: str = "clean"  # of `pipelines.world.wide.GROUNDS`, what kind of ground it is

    @property
    def full_caption(self) -> str:
        """The caption that leaves nothing out: every colour and the place."""
        return caption_of([o.phrase for o in self.objects], self.background)


# ---------------------------------------------------------------------------------------------------------- sprites


@functools.lru_cache(maxsize=256)
def _full_size(noun: str, colour: str | None) -> Image.Image:
    """The sprite as cut out, recoloured. Pixels near the base hue take the new colour and keep their relative light."""
    sprite = np.asarray(Image.open(SPRITES / f"{noun}.png").convert("RGBA"), np.float32) / 255
    if colour:
        rgb = sprite[..., :3]
        hue, saturation, _ = drawings.hue_saturation_value(rgb)
        distance = np.abs((hue - _BASE_HUE[noun] + 180) % 360 - 180)
        weight = np.clip((46 - distance) / 12, 0, 1) * np.clip((saturation - 0.18) / 0.14, 0, 1)
        light = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
        painted = (weight > 0.5) & (sprite[..., 3] > 0.5)
        light = light / np.median(light[painted])
        target = np.array(COLOURS[colour], np.float32) / 255
        shade = target * np.minimum(light, 1)[..., None]
        shine = (1 - shade) * np.clip(0.55 * (light - 1), 0, 0.8)[..., None]
        sprite[..., :3] = rgb + weight[..., None] * (shade + shine - rgb)
    return Image.fromarray((sprite * 255).round().astype(np.uint8))


@functools.lru_cache(maxsize=4096)
def sprite(noun: str, colour: str | None, side: int, flip: bool = False) -> np.ndarray:
    """The cut-out with its longer side `side` pixels long: (h, w, 4) uint8, straight alpha. Do not write to it."""
    image = _full_size(noun, colour)
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(image)
    pixels.flags.writeable = False
    return pixels


def by_hand(noun: str, colour: str | None, side: int, flip: bool, hand: str | None) -> np.ndarray:
    """The plainest drawing of that hand, a key of `drawings.HANDS`; the classic `sprite` for None.

    Raises:
        UserError: where it drew none.
    """
    if hand is None:
        return sprite(noun, colour, side, flip)
    if hand not in drawings.HANDS:
        known = ", ".join(drawings.HANDS)
        raise UserError("Unknown hand {hand}. Known: {known}.", hand=repr(hand), known=known)
    found = drawings.drawings(noun, hand)
    if not found:
        have = ", ".join(key for key in drawings.HANDS if drawings.drawings(noun, key)) or "only the classic one"
        raise UserError("{hand} drew no {noun}. Who did: {have}.", hand=drawings.HANDS[hand], noun=noun, have=have)
    return drawings.cutout(found[0], COLOURS[colour] if colour else None, side, flip)


# ------------------------------------------------------------------------------------------------------ backgrounds


@functools.lru_cache(maxsize=16)
def _smooth_basis(length: int, knots: int = 5) -> np.ndarray:
    """(length, knots) weights of a cosine interpolation between `knots` values: a soft, large-scale texture."""
    position = np.linspace(0, knots - 1, length)
    distance = np.clip(np.abs(position[:, None] - np.arange(knots)), 0, 1)
    return ((1 + np.cos(np.pi * distance)) / 2).astype(np.float32)


def ground_of(name: str, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32 in [0, 255]: a vertical gradient, a random brightness and a soft texture."""
    width, height = size
    top, bottom = np.array(TOP_BOTTOM[name], np.float32)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    knots = rng.standard_normal((5, 5)).astype(np.float32)
    texture = _smooth_basis(height) @ knots @ _smooth_basis(width).T
    return np.clip(top + (bottom - top) * down + 5 * texture[..., None] + rng.uniform(-8, 8), 0, 255)


# --------------------------------------------------------------------------------------------------------- captions


def article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeio" else f"a {phrase}"


def caption_of(phrases: Sequence[str], background: str | None = None, with_last: bool = False) -> str:
    """ "a cat and a red car on grass". `with_last` joins the last phrase by "with" instead of "and"."""
    named = [article(phrase) for phrase in phrases]
    text = named[-1]
    if len(named) > 1:
        text = f"{', '.join(named[:-1])} {'with' if with_last else 'and'} {named[-1]}"
    return f"{text} {PLACES[background]}" if background else text


def random_caption(
    objects: Sequence[SceneObject], background: str, rng: np.random.Generator, colours: float = 0.8
) -> str:
    """The grammar of the prompt set: objects in random order, colours told in that share of captions, the place told
    half of the time."""
    order = [objects[i] for i in rng.permutation(len(objects))]
    tell_colour = rng.random() < colours
    phrases = [o.phrase if tell_colour else o.noun for o in order]
    with_last = len(order) == 2 and order[0].colour is None and order[1].colour is not None and rng.random() < 0.5
    text = caption_of(phrases, background if rng.random() < 0.5 else None, with_last)
    return f"a picture of {text}" if rng.random() < 0.15 else text


# ----------------------------------------------------------------------------------------------------------- scenes


def _paint(placed: Sequence[tuple[str, str | None, np.ndarray, int, int]], canvas: np.ndarray) -> list[SceneObject]:
    """Paint (noun, colour, sprite, x, y) onto the canvas in order; later ones cover earlier ones, masks included."""
    height, width = canvas.shape[:2]
    masks: list[np.ndarray] = []
    for _, _, cutout, x, y in placed:
        left, top = max(0, x), max(0, y)
        right, bottom = min(width, x + cutout.shape[1]), min(height, y + cutout.shape[0])
        part = cutout[top - y : bottom - y, left - x : right - x]
        alpha = part[..., 3:].astype(np.float32) / 255
        window = canvas[top:bottom, left:right]
        window += alpha * (part[..., :3] - window)
        visible = np.zeros((height, width), bool)
        visible[top:bottom, left:right] = part[..., 3] >= 128
        for mask in masks:
            mask &= ~visible
        masks.append(visible)
    objects = []
    for (noun, colour, *_), mask in zip(placed, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            raise UserError("The {noun} is hidden completely; give it a place of its own.", noun=noun)
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        objects.append(SceneObject(noun=noun, colour=colour, box=box, mask=mask))
    return objects


def overlap_too_much(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether boxes (x, y, w, h) reach into each other by more than 20 % of the smaller side, in both directions."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return across > 0.2 * min(a[2], b[2]) and down > 0.2 * min(a[3], b[3])


def scene(
    seed: int,
    count: int | None = None,
    held_out: frozenset[tuple[str, str]] = frozenset(),
    hand: str | None = None,
    nouns: Sequence[str] = NOUNS,
) -> Scene:
    """Draw one random scene, the same for the same arguments.

    Args:
        seed: any non-negative integer; see TRAIN, VALIDATION and TEST.
        count: how many objects, 1 to 3; random when None.
        held_out: (colour, noun) pairs that must not appear.
        hand: whose drawings, a key of `drawings.HANDS`; None for the classic ones.
        nouns: the only ones that may appear, as many as objects or more. UNSEEN nouns are allowed here.
    """
    rng = np.random.default_rng(seed)
    if count is None:
        count = int(rng.choice(3, p=(0.35, 0.45, 0.2))) + 1
    if count not in (1, 2, 3):
        raise UserError("A scene has 1 to 3 objects, not {count}.", count=count)
    background = tuple(PLACES)[rng.integers(len(PLACES))]
    chosen = []
    known = [noun for noun in nouns if hand is None or drawings.drawings(noun, hand)]
    for noun in rng.permutation(known)[:count].tolist():
        allowed = [c for c in COLOURS if (c, noun) not in held_out]
        colour = allowed[rng.integers(len(allowed))] if noun in THINGS else None
        chosen.append((noun, colour))

    smallest, largest = {1: (48, 96), 2: (40, 76), 3: (36, 60)}[count]
    while True:  # a crowded draw starts again: at these sizes one in a few hundred needs a third try
        placed: list[tuple[str, str | None, np.ndarray, int, int]] = []
        boxes: list[tuple[int, int, int, int]] = []
        for noun, colour in chosen:
            cutout = by_hand(noun, colour, int(rng.integers(smallest, largest + 1)), bool(rng.integers(2)), hand)
            height, width = cutout.shape[:2]
            for x, y in rng.random((12, 2)):
                box = int(x * (SIZE - width + 1)), int(y * (SIZE - height + 1)), width, height
                if not any(overlap_too_much(box, other) for other in boxes):
                    boxes.append(box)
                    placed.append((noun, colour, cutout, box[0], box[1]))
                    break
        if len(placed) == count:
            break
    canvas = ground_of(background, (SIZE, SIZE), rng)
    objects = _paint(placed, canvas)
    text = random_caption(objects, background, rng)
    return Scene(picture=canvas.round().astype(np.uint8), caption=text, objects=tuple(objects), background=background)


def compose(
    objects: Sequence[tuple[str, str | None]],
    places: Sequence[tuple[float, float, float]],
    background: str = "grass",
    size: tuple[int, int] = (SIZE, SIZE),
    seed: int = 0,
    hand: str | None = None,
) -> Scene:
    """Draw exactly these objects at exactly these places.

    Args:
        objects: (noun, colour); colour None keeps the sprite's own. UNSEEN nouns are allowed here.
        places: one (x, y, side) per object: centre as fractions of width and height, longer side as a fraction of the
            picture's shorter side. Later objects cover earlier ones.
        background: a key of PLACES.
        size: (width, height) of the picture in pixels.
        seed: decides the background's texture and which way objects look.
        hand: whose drawings, a key of `drawings.HANDS`; None for the classic ones.

    Raises:
        UserError: for an unknown noun, colour or background, an animal with a colour, or places that do not fit.
    """
    if len(objects) != len(places) or not objects:
        raise UserError(
            "Give one place per object: got {objects} objects and {places} places.",
            objects=len(objects),
            places=len(places),
        )
    if background not in PLACES:
        raise UserError(
            "Unknown background {background}. Known: {known}.", background=repr(background), known=", ".join(PLACES)
        )
    rng = np.random.default_rng(seed)
    canvas = ground_of(background, size, rng)
    placed = []
    for (noun, colour), (x, y, side) in zip(objects, places, strict=True):
        if noun not in NOUNS + UNSEEN:
            raise UserError("Unknown noun {noun}. Known: {known}.", noun=repr(noun), known=", ".join(NOUNS + UNSEEN))
        if colour and (colour not in COLOURS or noun not in THINGS):
            raise UserError(
                "No {colour} {noun}: colours ({colours}) go with things ({things}).",
                colour=colour,
                noun=noun,
                colours=", ".join(COLOURS),
                things=", ".join(THINGS),
            )
        cutout = by_hand(noun, colour, max(8, round(side * min(size))), bool(rng.integers(2)), hand)
        corner = round(x * size[0] - cutout.shape[1] / 2), round(y * size[1] - cutout.shape[0] / 2)
        placed.append((noun, colour, cutout, *corner))
    painted = tuple(_paint(placed, canvas))
    return Scene(
        picture=canvas.round().astype(np.uint8),
        caption=caption_of([o.phrase for o in painted], background),
        objects=painted,
        background=background,
    )


_GRAMMAR_WORDS = {"a", "an", "and", "with", "the", "on", "in", "at", "of", "left", "right", "above", "below"}


def compose_text(text: str, size: tuple[int, int] = (SIZE, SIZE), seed: int = 0, hand: str | None = None) -> Scene:
    """Draw a sentence such as "a cat left of a red car on grass".

    One to four objects, joined by "and", "with", a comma, "left of", "right of", "above" or "below"; the place, a key
    of PLACES, after "on", "in" or "at" or by itself. Without relations the objects stand side by side.

    Raises:
        UserError: for words the storybook world does not have, naming them and the ones it has; for a sentence that
            says more than can be drawn.
    """
    known = _GRAMMAR_WORDS | set(NOUNS) | set(UNSEEN) | set(COLOURS) | set(PLACES)
    words = [word if word in known else singular(word) for word in parts(text)]
    unknown = [w for w in words if w not in known]
    if unknown:
        raise UserError(
            "The storybook world does not know {words}. It has {nouns}; colours {colours}; places {places}; and left "
            "of, right of, above, below.",
            words=", ".join(map(repr, unknown[:8])),
            nouns=", ".join(NOUNS + UNSEEN),
            colours=", ".join(COLOURS),
            places=", ".join(PLACES),
        )
    objects: list[tuple[str, str | None]] = []
    cells: list[tuple[int, int]] = []
    background, colour, step = "grass", None, None
    for position, word in enumerate(words):
        relation = word if word in RELATIONS else f"{word} of" if words[position + 1 : position + 2] == ["of"] else None
        if relation in RELATIONS:
            step = RELATIONS[relation]
        elif word in PLACES:
            background = word
        elif word in COLOURS:
            if colour:
                told = "{text} gives one thing two colours, {first} and {second}. Choose one."
                raise UserError(told, text=repr(text), first=colour, second=word)
            colour = word
        elif word in ("left", "right"):
            raise UserError("Write '{word} of' in {text}: a cat {word} of a red car.", word=word, text=repr(text))
        elif word in ("on", "in", "at"):
            after = next((w for w in words[position + 1 :] if w != "the"), None)
            if after not in PLACES:
                raise UserError(
                    "Only a place can follow {word}, not {after}: {places}. Things stand left of, right of, above or "
                    "below each other."
                    if after
                    else "Only a place can follow {word}, not 'nothing': {places}. Things stand left of, right of, "
                    "above or below each other.",
                    word=repr(word),
                    after=repr(after),
                    places=", ".join(PLACES),
                )
        elif word in NOUNS + UNSEEN:
            if cells:  # "cat left of car": the car stands one cell to the right of the cat
                across, down = step or (-1, 0)
                cells.append((cells[-1][0] - across, cells[-1][1] - down))
            else:
                cells.append((0, 0))
            objects.append((word, colour))
            colour, step = None, None
    if colour:
        told = "{text} has a colour, {colour}, with no thing after it. Try: a {colour} car."
        raise UserError(told, text=repr(text), colour=colour)
    if not 1 <= len(objects) <= 4:
        raise UserError(
            "A composed scene has 1 to 4 objects; {text} names {count}. Try: a cat left of a red car.",
            text=repr(text),
            count=len(objects),
        )
    if len(set(cells)) < len(cells):
        raise UserError("Two objects of {text} would stand in the same place. Try another relation.", text=repr(text))
    across, down = np.array(cells).T
    columns, rows = across - across.min(), down - down.min()
    side = min(0.7, 0.92 / (max(columns.max(), rows.max()) + 1))
    places = [
        ((c + 0.5) / (columns.max() + 1), (r + 0.5) / (rows.max() + 1), side)
        for c, r in zip(columns, rows, strict=True)
    ]
    return compose(objects, places, background, size, seed, hand)


def object_share(scene: Scene, grid: int) -> np.ndarray:
    """(grid, grid) float32: the share of each patch's pixels that belong to some object."""
    mask = Image.fromarray(np.any([o.mask for o in scene.objects], axis=0).astype(np.float32))
    return np.asarray(mask.resize((grid, grid), Image.Resampling.BOX))
