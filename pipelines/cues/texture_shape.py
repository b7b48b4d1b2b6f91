"""Texture or shape: twelve silhouettes, twelve textures, and a network that could learn either.

While it learns, shape k wears texture k, except for a share of pictures whose texture is random. Both cues are perfect
where that share is 0; what the network took is seen where they disagree (Geirhos et al. 2019,
https://arxiv.org/abs/1811.12231, sections 2 and 3). Shape bias is the share of answers that follow the shape among
those that follow one of the two.
"""

import functools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from pipelines.cues.namers import in_range
from pipelines.cues.settings import TEXTURES, TextureSettings
from pipelines.cues.small import SIZE, Batch, accuracy, naming, teach, told
from pipelines.cues.verdicts import of_texture
from pipelines.one_core import one_core, side_by_side
from pipelines.shares import wilson
from pipelines.world import storybook

SHAPES = storybook.ANIMALS
TRAINING, ASKED = 2048, 240  # pictures
EVERY = 15  # steps between two looks
SHOWN = 12
SIDES = (24, 30)  # pixels, the longer side of a silhouette
FAR = 0.35  # least difference of two colours in brightness


# ------------------------------------------------------------------------------------------------------- the pictures


def texture(name: str, size: int, period: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size) float in [0, 1], somewhere in the pattern.

    Args:
        name: a key of settings.TEXTURES.
        period: pixels, after how many the pattern repeats; the grain of the noises.
    """
    y, x = np.mgrid[:size, :size] + rng.integers(period, size=2)[:, None, None]
    turn, half = 2 * math.pi / period, period // 2
    along = {"across": y, "upright": x, "rising": x + y, "falling": x - y}
    if name in along:
        return (along[name] % period < half).astype(float)
    if name in ("fine noise", "coarse noise"):
        grain = 1 if name == "fine noise" else period
        values = rng.random((size // grain + 2,) * 2)
        return np.kron(values, np.ones((grain, grain)))[:size, :size]
    patterns = {
        "checks": (x // half + y // half) % 2,
        "dots": np.hypot(x % period - half, y % period - half) < period / 3,
        "waves": (x + np.rint(period / 3 * np.sin(turn * y))) % period < half,
        "grid": (x % period < period / 4) | (y % period < period / 4),
        "bricks": (y % half < 1) | ((x + half * (y // half % 2)) % period < 1),
        "soft": (np.sin(turn * x) + np.sin(turn * y) + 2) / 4,
    }
    return patterns[name].astype(float)


@functools.lru_cache(maxsize=256)
def silhouette(shape: str, side: int, flip: bool) -> np.ndarray:
    """(h, w) float in [0, 1]: how much of each pixel the thing covers."""
    return storybook.sprite(shape, None, side, flip)[..., 3] / 255


def compose(shape: str | None, pattern: str | None, period: int, rng: np.random.Generator) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8: a silhouette filled with a pattern of two random colours, on a third.

    Args:
        shape: one of SHAPES; None fills the whole picture.
        pattern: a key of settings.TEXTURES; None fills with one colour.
    """
    ground, one, two = rng.random((3, 3))
    while abs(one.mean() - two.mean()) < FAR:
        one, two = rng.random((2, 3))
    cover = np.ones((SIZE, SIZE, 1))
    if shape:
        cover = np.zeros((SIZE, SIZE, 1))
        mask = silhouette(shape, int(rng.integers(SIDES[0], SIDES[1] + 1)), bool(rng.integers(2)))
        top, left = (int(rng.integers(SIZE - side + 1)) for side in mask.shape)
        cover[top : top + mask.shape[0], left : left + mask.shape[1], 0] = mask
    # Last, as patterns draw different numbers: whatever it wears, the thing stands where it stood.
    share = texture(pattern, SIZE, period, rng)[..., None] if pattern else np.ones((SIZE, SIZE, 1))
    filled = one * share + two * (1 - share)
    return np.rint(255 * (cover * filled + (1 - cover) * ground)).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures with what they show and what it wears, each an index, or -1."""

    pictures: np.ndarray  # (N, SIZE, SIZE, 3) uint8
    shapes: np.ndarray  # (N,)
    textures: np.ndarray  # (N,)

    def batch(self, names: np.ndarray) -> Batch:
        return Batch(pixels=in_range(self.pictures), names=torch.from_numpy(names))

    def first(self, count: int) -> "Pictures":
        return Pictures(pictures=self.pictures[:count], shapes=self.shapes[:count], textures=self.textures[:count])


def drawn(kind: str, count: int, settings: TextureSettings, seed: int) -> Pictures:
    """So many pictures. Whatever the share, they are of the same things in the same places and colours.

    Args:
        kind: "training", where shape k wears texture k but for a share; "conflict", where it wears another one; "flat",
            shapes without a texture.
    """
    rng, names = np.random.default_rng((0x7E87, seed)), tuple(TEXTURES)
    shapes = rng.integers(len(SHAPES), size=count)
    if kind == "training":
        textures = np.where(rng.random(count) < settings.share, rng.integers(len(names), size=count), shapes)
    elif kind == "conflict":
        textures = (shapes + rng.integers(1, len(names), size=count)) % len(names)
    else:
        textures = np.full(count, -1)
    patterns = [None if t < 0 else names[t] for t in textures]
    pictures = [
        compose(SHAPES[shape], pattern, settings.period, own)
        for shape, pattern, own in zip(shapes, patterns, rng.spawn(count), strict=True)
    ]
    return Pictures(pictures=np.stack(pictures), shapes=shapes, textures=textures)


def conflicts(settings: TextureSettings) -> Pictures:
    """The ASKED pictures whose cues disagree."""
    return drawn("conflict", ASKED, settings, settings.seed + 2)


# ---------------------------------------------------------------------------------------------------------- the lesson


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the network says of never-seen pictures."""

    cue: float  # share right where both cues agree
    shape: int  # answers that follow the shape, of pictures whose cues disagree
    texture: int
    neither: int
    flat: float  # share right of shapes in one colour
    said: np.ndarray  # (SHOWN,) what the first of the disagreeing pictures are called, index into SHAPES

    @property
    def bias(self) -> float | None:
        """Shape bias; None where no answer follows either cue."""
        both = self.shape + self.texture
        return self.shape / both if both else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, of the shape bias."""
        return wilson(self.shape, self.shape + self.texture)


@dataclass(frozen=True, kw_only=True)
class Step:
    step: int
    steps: int
    loss: float | None  # nats; None before the first
    look: Look | None  # where somebody looked
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Both networks at the same step."""

    a: Step
    b: Step
    examples: Pictures  # SHOWN pictures whose cues disagree


def train(settings: TextureSettings) -> Iterator[Step]:
    """Network A from before its first step to its last. Closing it ends the training."""
    start = time.perf_counter()
    training = drawn("training", TRAINING, settings, settings.seed)
    known = training.batch(training.shapes)
    agree = drawn("training", ASKED, TextureSettings(share=0, period=settings.period), settings.seed + 1)
    conflict, flat = conflicts(settings), drawn("flat", ASKED, settings, settings.seed + 2)
    asked = {"agree": agree.batch(agree.shapes), "conflict": conflict.batch(conflict.shapes)}
    asked["flat"] = flat.batch(flat.shapes)
    net = naming(settings.network, len(SHAPES), settings.seed)
    rng = torch.Generator().manual_seed(settings.seed)

    def batch() -> Batch:
        chosen = torch.randint(len(known.names), (settings.batch,), generator=rng)
        return Batch(pixels=known.pixels[chosen], names=known.names[chosen])

    def look() -> Look:
        said = told(net, asked["conflict"].pixels).numpy()
        shape, pattern = (int((said == truth).sum()) for truth in (conflict.shapes, conflict.textures))
        return Look(
            cue=accuracy(net, asked["agree"].pixels, asked["agree"].names),
            shape=shape,
            texture=pattern,
            neither=len(said) - shape - pattern,
            flat=accuracy(net, asked["flat"].pixels, asked["flat"].names),
            said=said[:SHOWN],
        )

    for step, loss in enumerate(teach(net, batch, settings.steps, settings.rate)):
        looked = step % EVERY == 0 or step == settings.steps
        yield Step(
            step=step,
            steps=settings.steps,
            loss=loss,
            look=look() if looked else None,
            seconds=time.perf_counter() - start,
        )


def arms(settings: TextureSettings) -> tuple[TextureSettings, TextureSettings]:
    """The settings of both runs, each as those of network A."""
    return settings, replace(settings, network=settings.network_b, share=settings.share_b)


def run(settings: TextureSettings) -> Iterator[Frame]:
    """Both networks, each on one core. Closing it ends the training."""
    examples = conflicts(settings).first(SHOWN)
    for a, b in side_by_side(*(functools.partial(train, arm) for arm in arms(settings))):
        yield Frame(a=a, b=b, examples=examples)


def alone(settings: TextureSettings) -> Iterator[Step]:
    """Network A by itself."""
    yield from one_core(train)(settings)


def enlarged(picture: np.ndarray, times: int = 6) -> Image.Image:
    """A picture to look at, its pixels as squares."""
    return Image.fromarray(picture).resize((times * picture.shape[1],) * 2, Image.Resampling.NEAREST)


def numbers(settings: TextureSettings, found: Frame, guess: str | None = None) -> dict:
    """The JSON of the endpoint, of the last frame."""

    def told(arm: TextureSettings, step: Step) -> dict:
        end = step.look
        assert end is not None, "the last step is looked at"
        return {
            "network": arm.network,
            "share_of_random_textures": arm.share,
            "shape_bias": end.bias,
            "shape_bias_interval": list(end.interval),
            "follows_shape": end.shape,
            "follows_texture": end.texture,
            "follows_neither": end.neither,
            "accuracy_where_both_agree": end.cue,
            "accuracy_flat_shapes": end.flat,
        }

    a, b = (told(arm, step) for arm, step in zip(arms(settings), (found.a, found.b), strict=True))
    return {
        "seed": settings.seed,
        "steps": found.a.step,
        "seconds": round(found.a.seconds, 3),
        **a,
        "b": b,
        "baseline": {"chance": 1 / len(SHAPES), "shape_bias_of_a_guess": 0.5},
        "verdict": of_texture(found, guess).record(),
    }
