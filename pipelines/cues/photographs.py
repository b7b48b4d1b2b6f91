"""What a classifier of photographs makes of a photograph's skin on another thing's silhouette, and of a noise.

Geirhos et al. 2019 (https://arxiv.org/abs/1811.12231, section 2) ask ImageNet networks about cats in elephant skin,
made by style transfer. Here the skin is cut from the middle of a photograph and laid out in mirrored tiles, so that
nothing but the photograph's texture is left of it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipelines.cues.namers import in_range, namer, speaks_for, square
from pipelines.world import storybook

MODEL = "efficientnet-lite0"
GROUND = 190  # grey level, of 255, around a silhouette
PIECE = 0.3  # side of the skin that is cut out, in sides of the photograph
SHAPE = 0.9  # longer side of the silhouette, in sides of the picture
MOST = 3  # names
MADE = ("photograph", "skin", "dressed", "flat")


@dataclass(frozen=True, kw_only=True)
class Dressed:
    """Four pictures by MADE: the photograph, its skin alone, the silhouette in that skin, the silhouette in grey."""

    pictures: np.ndarray  # (4, S, S, 3) uint8
    names: tuple[tuple[tuple[str, float], ...], ...]  # (4, MOST) likeliest names and their probabilities
    maps: np.ndarray  # (4, h, w) what each place adds to the first name
    seconds: float


def skin(photograph: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8: the middle of a photograph of that size, repeated as in mirrors."""
    side = len(photograph)
    piece = max(1, round(PIECE * side))
    first = (side - piece) // 2
    cut = photograph[first : first + piece, first : first + piece]
    tile = np.concatenate([cut, cut[:, ::-1]], 1)
    tile = np.concatenate([tile, tile[::-1]], 0)
    times = -(-side // len(tile))
    return np.tile(tile, (times, times, 1))[:side, :side]


def dressed(shape: str, texture: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8: a silhouette in the middle, filled with a texture (S, S, 3), on grey.

    Args:
        shape: a noun of the world.
    """
    side = len(texture)
    mask = storybook.sprite(shape, None, round(SHAPE * side))[..., 3] / 255
    cover = np.zeros((side, side, 1))
    top, left = ((side - length) // 2 for length in mask.shape)
    cover[top : top + mask.shape[0], left : left + mask.shape[1], 0] = mask
    return np.rint(cover * texture + (1 - cover) * GROUND).astype(np.uint8)


def look(photograph: Image.Image, shape: str) -> Dressed:
    """Raises ModelUnavailable when the model's files cannot be had."""
    start, who = time.perf_counter(), namer(MODEL)
    whole = square(photograph, who.size)
    texture = skin(whole)
    flat = np.full_like(texture, 60)
    pictures = np.stack([whole, texture, dressed(shape, texture), dressed(shape, flat)])
    top = who.probabilities(in_range(pictures)).topk(MOST)
    names = tuple(
        tuple((who.names[i], float(share)) for i, share in zip(indices, shares, strict=True))
        for indices, shares in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    )
    maps = speaks_for(MODEL, pictures, [each[0][0] for each in names])
    assert maps is not None, "a classifier has maps"
    return Dressed(pictures=pictures, names=names, maps=maps, seconds=time.perf_counter() - start)


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """A photograph without a noise and with it."""

    pictures: np.ndarray  # (2, S, S, 3) uint8
    names: tuple[str, str]  # the likeliest
    probabilities: tuple[float, float]
    maps: np.ndarray  # (2, h, w) what each place adds to the name


def tiled(noise: np.ndarray, side: int) -> np.ndarray:
    """(side, side, 3): a noise (H, W, 3), repeated."""
    times = -(-side // len(noise))
    return np.tile(noise, (times, times, 1))[:side, :side]


def under(noise: np.ndarray, photographs: Sequence[Image.Image]) -> list[Noisy]:
    """Photographs under a noise that was learned elsewhere, (H, W, 3) in levels of 255.

    Raises:
        ModelUnavailable: when the model's files cannot be had.
    """
    who, found = namer(MODEL), []
    for photograph in photographs:
        whole = square(photograph, who.size)
        pictures = np.stack([whole, np.clip(whole + tiled(noise.astype(int), who.size), 0, 255).astype(np.uint8)])
        top = who.probabilities(in_range(pictures)).max(1)
        names = [who.names[i] for i in top.indices.tolist()]
        maps = speaks_for(MODEL, pictures, names)
        assert maps is not None, "a classifier has maps"
        first, second = top.values.tolist()
        found.append(Noisy(pictures=pictures, names=(names[0], names[1]), probabilities=(first, second), maps=maps))
    return found


def numbers(found: Dressed) -> dict:
    """The JSON of the endpoint. The photograph as it is is the baseline."""
    told = {
        made: [{"name": name, "probability": share} for name, share in names]
        for made, names in zip(MADE, found.names, strict=True)
    }
    return {"seconds": round(found.seconds, 3), **told}
