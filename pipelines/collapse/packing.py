"""Packed crops: big and small crops as one sequence, without padding and without one pass each.

DINOv2 (Oquab et al. 2023, https://arxiv.org/abs/2304.07193, section 5) lays all tokens end to end and lets each attend
inside its own crop alone, by a block-diagonal mask. And where stochastic depth drops a layer for a picture, it is
skipped: dropping costs nothing, instead of being computed and multiplied by 0.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.collapse.settings import Packing
from pipelines.one_core import one_core
from pipelines.small_nets import Block, initialised

HEADS = 4


@dataclass(frozen=True, kw_only=True)
class Timing:
    """After some rounds. Everything but the milliseconds is the same for the same settings."""

    round: int
    rounds: int
    milliseconds: dict[str, float]  # median over the rounds so far: "packed", "padded", "separate", "plain", "masked",
    # "skipped": a layer over all sequences; the last three are one layer with stochastic depth
    mask: np.ndarray  # (T, T) bool, who may attend to whom in the packed sequence
    scores: dict[str, int]  # attention scores computed by each of the three ways; "needed": inside the crops
    tokens: dict[str, int]  # that go through the layer's linear maps
    difference: float  # largest, of packed and separate outputs
    difference_padded: float


def block_mask(lengths: list[int]) -> Tensor:
    """(T, T) bool, T the sum: whether two tokens are of the same sequence."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return owner[:, None] == owner[None]


def separate(layer: nn.Module, sequences: list[Tensor]) -> list[Tensor]:
    """One pass for each (L, d) sequence."""
    return [layer(x[None])[0] for x in sequences]


def packed(layer: nn.Module, sequences: list[Tensor], mask: Tensor) -> list[Tensor]:
    """One pass for all of them, end to end."""
    return list(layer(torch.cat(sequences)[None], mask)[0].split([len(x) for x in sequences]))


def padded(layer: nn.Module, sequences: list[Tensor]) -> list[Tensor]:
    """One pass for all of them, each filled up to the longest; nobody attends to what was filled in."""
    batch = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    lengths = torch.tensor([len(x) for x in sequences])
    real = torch.arange(batch.shape[1]) < lengths[:, None]
    return [x[:length] for x, length in zip(layer(batch, real[:, None, None]), lengths, strict=True)]


def masked_depth(branch: Callable[[Tensor], Tensor], x: Tensor, kept: Tensor) -> Tensor:
    """Stochastic depth (Huang et al. 2016, https://arxiv.org/abs/1603.09382) as it is often written: computed for all
    (N, L, d), then multiplied by 0 for those not `kept`, and by N / kept for the others."""
    scale = torch.zeros(len(x))
    scale[kept] = len(x) / len(kept) if len(kept) else 0.0
    return x + scale[:, None, None] * branch(x)


def skipped_depth(branch: Callable[[Tensor], Tensor], x: Tensor, kept: Tensor) -> Tensor:
    """The same, computed for the kept pictures alone."""
    if not len(kept):
        return x
    return x.index_add(0, kept, branch(x[kept]), alpha=len(x) / len(kept))


def _measure(settings: Packing) -> Iterator[Timing]:
    rng = torch.Generator().manual_seed(settings.seed)
    layer = initialised(Block(settings.width, HEADS), settings.seed).eval()
    lengths = [settings.big_tokens] * settings.big + [settings.small_tokens] * settings.small
    sequences = [torch.randn(length, settings.width, generator=rng) for length in lengths]
    mask, total = block_mask(lengths), sum(lengths)
    pictures = torch.randn(16, settings.big_tokens, settings.width, generator=rng)
    kept = torch.randperm(16, generator=rng)[: round(16 * (1 - settings.drop))].sort().values

    def branch(x: Tensor) -> Tensor:
        return layer(x) - x

    ways: dict[str, Callable[[], object]] = {
        "packed": lambda: packed(layer, sequences, mask),
        "padded": lambda: padded(layer, sequences),
        "separate": lambda: separate(layer, sequences),
        "plain": lambda: pictures + branch(pictures),
        "masked": lambda: masked_depth(branch, pictures, kept),
        "skipped": lambda: skipped_depth(branch, pictures, kept),
    }
    needed = sum(length**2 for length in lengths)
    scores = {
        "needed": needed,
        "packed": total**2,
        "padded": len(lengths) * max(lengths) ** 2,
        "separate": needed,
    }
    tokens = {"needed": total, "packed": total, "padded": len(lengths) * max(lengths), "separate": total}
    with torch.inference_mode():
        alone, together = separate(layer, sequences), packed(layer, sequences, mask)
        filled = padded(layer, sequences)
        difference = max(float((a - b).abs().max()) for a, b in zip(alone, together, strict=True))
        difference_padded = max(float((a - b).abs().max()) for a, b in zip(alone, filled, strict=True))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(1, settings.rounds + 1):
        for name, way in ways.items():  # one after the other in each round: what slows the computer slows all
            with torch.inference_mode():
                start = time.perf_counter()
                way()
                times[name].append((time.perf_counter() - start) * 1000)
        medians = {name: float(np.median(found)) for name, found in times.items()}
        yield Timing(
            round=turn,
            rounds=settings.rounds,
            milliseconds=medians,
            mask=mask.numpy(),
            scores=scores,
            tokens=tokens,
            difference=difference,
            difference_padded=difference_padded,
        )


def run(settings: Packing) -> Iterator[Timing]:
    """One layer over the same crops in three ways, again and again; medians settle within some rounds."""
    yield from one_core(_measure)(settings)
