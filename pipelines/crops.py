"""Small pictures for networks that are trained while a class watches, and the random views contrastive learning makes.

A `Pool` is drawn once per process, in parts, so that the first of it can be shown while the rest is drawn. Its
pictures are of one object each, and the truth about it comes along.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipelines.errors import UserError
from pipelines.world import storybook

Kind = Literal["crop", "scene"]
KINDS: tuple[Kind, ...] = ("crop", "scene")
PART = 128  # pictures drawn at a time
LOOSE = (1.15, 1.5)  # side of a crop, in longer sides of its object
SIDES = (48, 96)  # pixels, the longer side of an object in its scene, as in `storybook.scene`
SALT = 0x70017  # keeps what is drawn here apart from what `storybook.compose` draws from the same seed
LUMA = (0.299, 0.587, 0.114)  # Rec. 601
ASPECT = 4 / 3  # of a view, at most, as in SimCLR
DRAWS = 10  # random numbers behind one view


@dataclass(frozen=True, kw_only=True)
class Pool:
    """N small pictures and their truth."""

    pictures: np.ndarray  # (N, S, S, 3) uint8, sRGB
    nouns: np.ndarray  # (N,) int64, index into `names`
    colours: np.ndarray  # (N,) int64, index into the keys of storybook.COLOURS; -1 for animals, which keep their own
    places: np.ndarray  # (N,) int64, index into the keys of storybook.PLACES
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @functools.cached_property
    def pixels(self) -> Tensor:
        """(N, 3, S, S) float32 in [0, 1]."""
        return torch.from_numpy(self.pictures).permute(0, 3, 1, 2).contiguous().float() / 255

    @property
    def chance(self) -> float:
        """The share a guess gets right, if all nouns are equally frequent."""
        return 1 / len(self.names)


def _draw(seed: int, size: int, kind: Kind, names: tuple[str, ...]) -> tuple[np.ndarray, int, int, int]:
    rng = np.random.default_rng((SALT, seed))
    noun, place = int(rng.integers(len(names))), int(rng.integers(len(storybook.PLACES)))
    colour = int(rng.integers(len(storybook.COLOURS))) if names[noun] in storybook.THINGS else -1
    side = int(rng.integers(SIDES[0], SIDES[1] + 1)) / storybook.SIZE
    x, y = side / 2 + (1 - side) * rng.random(2)
    paint = tuple(storybook.COLOURS)[colour] if colour >= 0 else None
    scene = storybook.compose(
        ((names[noun], paint),), ((x, y, side),), tuple(storybook.PLACES)[place], (storybook.SIZE,) * 2, seed
    )
    frame = (0.0, 0.0, float(storybook.SIZE), float(storybook.SIZE))
    if kind == "crop":
        x0, y0, x1, y1 = scene.objects[0].box
        wide = min(float(storybook.SIZE), rng.uniform(*LOOSE) * max(x1 - x0, y1 - y0))
        # The square holds the whole object and stays inside the scene: nothing is mirrored or made up at its border.
        left = rng.uniform(max(0.0, x1 - wide), min(x0, storybook.SIZE - wide))
        top = rng.uniform(max(0.0, y1 - wide), min(y0, storybook.SIZE - wide))
        frame = (left, top, left + wide, top + wide)
    picture = Image.fromarray(scene.picture).resize((size, size), Image.Resampling.BILINEAR, box=frame)
    return np.asarray(picture), noun, colour, place


@functools.lru_cache(maxsize=256)
def _part(seeds: range, size: int, kind: Kind, names: tuple[str, ...]) -> Pool:
    pictures, nouns, colours, places = zip(*(_draw(seed, size, kind, names) for seed in seeds), strict=True)
    truth = {"nouns": np.array(nouns), "colours": np.array(colours), "places": np.array(places)}
    return Pool(pictures=np.stack(pictures), **truth, names=names)


def parts(seeds: range, size: int = 40, kind: Kind = "crop", nouns: Sequence[str] = storybook.NOUNS) -> Iterator[Pool]:
    """The pool of `pool`, PART pictures at a time; about a millisecond a picture, and nothing when drawn before.

    Raises:
        UserError: for no seeds, an unknown kind or noun.
    """
    names = tuple(nouns)
    if kind not in KINDS:
        raise UserError("The pictures must be one of {allowed}, not {value}.", allowed=", ".join(KINDS), value=kind)
    unknown = [name for name in names if name not in storybook.NOUNS + storybook.UNSEEN]
    if unknown or not names:
        raise UserError(
            "The nouns must be some of {allowed}, not {value}.",
            allowed=", ".join(storybook.NOUNS + storybook.UNSEEN),
            value=", ".join(unknown) or "none",
        )
    if not len(seeds):
        raise UserError("A pool needs at least one picture.")
    for first in range(0, len(seeds), PART):
        yield _part(seeds[first : first + PART], size, kind, names)


def joined(found: Sequence[Pool]) -> Pool:
    """Several pools of the same size and nouns as one."""
    columns = ("pictures", "nouns", "colours", "places")
    whole = {name: np.concatenate([getattr(part, name) for part in found]) for name in columns}
    return Pool(**whole, names=found[0].names)


@functools.lru_cache(maxsize=8)
def _pool(seeds: range, size: int, kind: Kind, names: tuple[str, ...]) -> Pool:
    return joined(list(parts(seeds, size, kind, names)))


def pool(seeds: range, size: int = 40, kind: Kind = "crop", nouns: Sequence[str] = storybook.NOUNS) -> Pool:
    """One picture per seed, drawn once per process. Do not write to its arrays.

    Args:
        seeds: see storybook.TRAIN, VALIDATION and TEST; those of a probe must not be those of the training.
        size: pixels, the side of the pictures.
        kind: "crop", a square of 1.15 to 1.5 longer sides of the object around it, or "scene", the whole scene.
        nouns: what may be drawn; those of storybook.UNSEEN are allowed.

    Raises:
        UserError: for no seeds, an unknown kind or noun.
    """
    return _pool(seeds, size, kind, tuple(nouns))


# ------------------------------------------------------------------------------------------------------------ views


@dataclass(frozen=True, kw_only=True)
class Views:
    """How a view differs from its picture, after SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709, appendix
    A). A strength of 0 leaves that property alone, and what is drawn for the others stays the same."""

    area: tuple[float, float] = (0.3, 1.0)  # share of the picture's area that is seen
    flip: bool = True
    hue: float = 0.3  # most turn of the hue, in half circles: from 0.6 on colour tells nothing any more
    saturation: float = 0.6  # most change, as a share
    brightness: float = 0.4
    contrast: float = 0.4
    grey: float = 0.2  # how often all colour is taken away


def frames(draws: Tensor, how: Views) -> Tensor:
    """(B, 2, 3) maps from a view's coordinates to the picture's, both -1 to 1, for `cut`.

    Args:
        draws: (B, 5) uniform random numbers in [0, 1).
    """
    low, high = how.area
    side = (low + (high - low) * draws[:, 0]).sqrt()
    stretch = torch.exp((2 * draws[:, 1] - 1) * math.log(ASPECT) / 2)
    stretch = stretch.clamp(side, 1 / side)  # a view of nearly all is nearly square
    wide, tall = side * stretch, side / stretch
    maps = torch.zeros(len(draws), 2, 3)
    maps[:, 0, 0] = torch.where(draws[:, 4] < 0.5, -wide, wide) if how.flip else wide
    maps[:, 1, 1] = tall
    maps[:, 0, 2], maps[:, 1, 2] = (1 - wide) * (2 * draws[:, 2] - 1), (1 - tall) * (2 * draws[:, 3] - 1)
    return maps


def cut(pixels: Tensor, maps: Tensor, size: int) -> Tensor:
    """(B, C, size, size): what `maps`, (B, 2, 3), show of `pixels`, (B, C, H, W)."""
    grid = F.affine_grid(maps, [*pixels.shape[:2], size, size], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def recolour(pixels: Tensor, draws: Tensor, how: Views) -> Tensor:
    """Hue, saturation, brightness, contrast and grey by one 3x3 matrix and one offset per picture, kept in [0, 1].

    Args:
        pixels: (B, 3, H, W) in [0, 1].
        draws: (B, 5) uniform random numbers in [0, 1).
    """
    around = 2 * draws - 1
    turn = math.pi * how.hue * around[:, 0]
    # A rotation around the grey axis (1, 1, 1): Rodrigues' formula.
    cosine, sine = torch.cos(turn)[:, None, None], torch.sin(turn)[:, None, None] / math.sqrt(3)
    across = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    rotation = cosine * torch.eye(3) + (1 - cosine) / 3 + sine * across
    saturation = torch.where(draws[:, 4] < how.grey, torch.zeros(()), 1 + how.saturation * around[:, 1])[:, None, None]
    luma = torch.tensor(LUMA)
    colour = (saturation * torch.eye(3) + (1 - saturation) * luma) @ rotation
    colour = colour * (1 + how.brightness * around[:, 2])[:, None, None]
    contrast = (1 + how.contrast * around[:, 3])[:, None]
    middle = (colour @ pixels.mean((2, 3))[..., None]).squeeze(-1) @ luma  # (B,) grey of the recoloured picture
    flat = contrast[..., None] * (colour @ pixels.flatten(2)) + ((1 - contrast) * middle[:, None])[..., None]
    return flat.view_as(pixels).clamp(0, 1)


def views(pixels: Tensor, rng: torch.Generator, how: Views | None = None, size: int | None = None) -> Tensor:
    """One random view of every picture, for the whole batch at once.

    Args:
        pixels: (B, 3, H, W) float32 in [0, 1].
        rng: takes the same numbers from it whatever `how` says, so that two runs can share their batches.
        size: pixels, the side of the views; that of the pictures when None.

    Returns:
        (B, 3, size, size) float32 in [0, 1].
    """
    how = how or Views()
    draws = torch.rand(len(pixels), DRAWS, generator=rng)
    seen = cut(pixels, frames(draws[:, :5], how), size or pixels.shape[-1])
    return recolour(seen, draws[:, 5:], how)
