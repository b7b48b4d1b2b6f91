"""What tells a transformer the order: positions.

Sinusoidal ones make a shift a linear map (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5). The
patches of a CLIP may be listed in any order as long as each keeps its position.
"""

import copy
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.cues.pieces import rearranged
from pipelines.cues.verdicts import of_patches
from pipelines.models.loading import load
from pipelines.models.vision import centre_square, openclip_tokens

POSITIONS = 64  # length of a sinusoidal position, and how many are checked


def rates(width: int) -> Tensor:
    """(width // 2,) float64 radians a step: 1 / 10000^(2k / width)."""
    return 10000.0 ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)


def sinusoids(at: Tensor, width: int) -> Tensor:
    """(n, width) float64: sines and cosines in turns; an odd width ends with a sine of the next rate."""
    angles = at.double()[:, None] * rates(width + width % 2)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :width]


def shift_matrix(shift: int, width: int) -> Tensor:
    """(width, width) M with f(t + shift) = M f(t) for every t: a turn of each pair of sine and cosine.

    In complex numbers, f(t)_k = e^(i t w_k), it is diag(f(shift)), and the product of two of them is the sum of shifts.
    """
    turns = [
        torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]], dtype=torch.float64)
        for a in (shift * rates(width)).tolist()
    ]
    return torch.block_diag(*turns)


def shift_error(shift: int, width: int = POSITIONS) -> float:
    """The largest |f(t + shift) - M f(t)| over t = 0, 1, …, POSITIONS - 1."""
    at = torch.arange(POSITIONS)
    return float((sinusoids(at + shift, width) - sinusoids(at, width) @ shift_matrix(shift, width).T).abs().max())


# ------------------------------------------------------------------------------------------------ patches of a picture


@dataclass(frozen=True, kw_only=True)
class Patches:
    """A picture's patches in another order, with their positions and without, through a CLIP's image tower."""

    order: tuple[int, ...]  # (N,) old number of the patch that now comes first, second, …
    picture: np.ndarray  # (H, W, 3) uint8, as the model sees it
    moved: np.ndarray  # (H, W, 3) uint8, the patches moved
    with_positions: float  # largest difference of the outputs where each patch keeps its position, float64
    with_positions_float32: float
    without: float  # where the patches move and the positions stay, float64
    grid: int
    seconds: float

    @property
    def shuffled(self) -> bool:
        return self.order != tuple(range(len(self.order)))


def run(picture: Image.Image, model: str = "storybook-clip-b", seed: int = 42) -> Patches:
    """One picture through an OpenCLIP image tower, its patches shuffled.

    Raises:
        ModelUnavailable: when the model's files cannot be had.
    """
    start = time.perf_counter()
    loaded = load(model)
    pixels = loaded.pixels(centre_square(picture))
    grid = loaded.encoder.grid
    order = torch.randperm(grid * grid, generator=torch.Generator().manual_seed(seed))
    moved = rearranged(pixels, order, grid)
    exact = copy.deepcopy(loaded.module.visual).double()

    def difference(visual: torch.nn.Module, other: Tensor, kept: Tensor | None, pixels: Tensor) -> float:
        with torch.no_grad():
            plain = openclip_tokens(visual, pixels, attention=False)
            new = openclip_tokens(visual, other, kept, attention=False)
        gaps = (plain.patches[:, order.to(pixels.device)] - new.patches, plain.cls - new.cls)
        return max(float(each.abs().max()) for each in gaps)

    listed = order[None].to(loaded.device)
    return Patches(
        order=tuple(order.tolist()),
        picture=np.rint(255 * loaded.picture(pixels[0])).astype(np.uint8),
        moved=np.rint(255 * loaded.picture(moved[0])).astype(np.uint8),
        with_positions=difference(exact, pixels.double(), listed, pixels.double()),
        with_positions_float32=difference(loaded.module.visual, pixels, listed, pixels),
        without=difference(exact, moved.double(), None, pixels.double()),
        grid=grid,
        seconds=time.perf_counter() - start,
    )


def numbers(found: Patches, seed: int, guess: str | None = None) -> dict:
    """The JSON of the patches. The baseline is float32 rounding."""
    return {
        "seed": seed,
        "steps": 0,
        "seconds": round(found.seconds, 3),
        "with_positions": found.with_positions,
        "without_positions": found.without,
        "baseline": {"with_positions_float32": found.with_positions_float32},
        "verdict": of_patches(found, guess).record(),
    }
