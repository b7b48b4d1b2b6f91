"""The pictures all lessons of this package train and are measured on, and what is known without training."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines import crops, probes
from pipelines.small_nets import PatchCNN, initialised
from pipelines.world import storybook

SIZE, LARGER = 32, 40  # pixels: what a network sees, and what views are cut from
TRAINING = storybook.TRAIN[:2048]
BANK = storybook.VALIDATION[:1000]  # neighbours are looked up among these
QUERIES = storybook.TEST[:500]  # and these are looked up
POINTS = 192  # of them are the points that are shown
SHOWN = 24  # pictures shown while more are drawn
SAMPLES = 10  # and before a run


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """Pictures are being drawn, once per process."""

    done: int
    of: int
    pictures: np.ndarray  # (n, S, S, 3) uint8, the last ones


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """5-NN by noun: what everything is to be held against."""

    chance: float
    pixels: float
    untrained: float

    @property
    def best(self) -> float:
        return max(self.chance, self.pixels, self.untrained)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Pictures, (N, 3, S, S) in [0, 1], their nouns and colours, (N,); colour -1 is an animal's own."""

    training: Tensor
    training_nouns: Tensor
    bank: Tensor
    bank_nouns: Tensor
    bank_colours: Tensor
    queries: Tensor
    query_nouns: Tensor
    query_colours: Tensor
    chance: float


_DRAWN: set[tuple[range, int]] = set()


def drawing(*wanted: tuple[range, int]) -> Iterator[Preparing]:
    """Draw pools of `crops.pool`, seeds and size, a part at a time; yields nothing for what is there already."""
    missing = [each for each in wanted if each not in _DRAWN]
    done, of = 0, sum(len(seeds) for seeds, _ in missing)
    for seeds, size in missing:
        for part in crops.parts(seeds, size):
            done += len(part)
            yield Preparing(done=done, of=of, pictures=part.pictures[:SHOWN])
        _DRAWN.add((seeds, size))


def samples(seeds: range = TRAINING, size: int = LARGER) -> np.ndarray:
    """(SAMPLES, size, size, 3) uint8: the first that are learned from."""
    return next(crops.parts(seeds[:SAMPLES], size)).pictures


def preparing() -> Iterator[Preparing]:
    """What `data` needs."""
    yield from drawing((QUERIES, SIZE), (BANK, SIZE), (TRAINING, LARGER))


@functools.lru_cache(maxsize=1)
def _data() -> Data:
    training, bank, queries = crops.pool(TRAINING, LARGER), crops.pool(BANK, SIZE), crops.pool(QUERIES, SIZE)
    return Data(
        training=training.pixels,
        training_nouns=torch.from_numpy(training.nouns),
        bank=bank.pixels,
        bank_nouns=torch.from_numpy(bank.nouns),
        bank_colours=torch.from_numpy(bank.colours),
        queries=queries.pixels,
        query_nouns=torch.from_numpy(queries.nouns),
        query_colours=torch.from_numpy(queries.colours),
        chance=bank.chance,
    )


def data() -> Data:
    """Drawn once per process, in about four seconds; `preparing` draws the same step by step."""
    return _data()


def features(net: torch.nn.Module, pixels: Tensor, batch: int = 250) -> Tensor:
    """(N, d) of a network as it is used: no gradient, its norms by their running means. It is left as it was."""
    before = net.training
    net.eval()
    try:
        with torch.no_grad():
            return torch.cat([net(part) for part in pixels.split(batch)])
    finally:
        net.train(before)


def accuracy(net: torch.nn.Module) -> float:
    """5-NN by noun of what a network makes of the pictures."""
    known = data()
    return probes.knn_accuracy(
        features(net, known.bank), known.bank_nouns, features(net, known.queries), known.query_nouns
    )


@functools.lru_cache(maxsize=8)
def baselines(seed: int) -> Baselines:
    """`seed` is of the untrained network's weights."""
    known = data()
    pixels = probes.knn_accuracy(known.bank.flatten(1), known.bank_nouns, known.queries.flatten(1), known.query_nouns)
    return Baselines(chance=known.chance, pixels=pixels, untrained=accuracy(initialised(PatchCNN(), seed)))


def baselines_once(seed: int) -> Iterator[Baselines]:
    """The same as a run of one step, for `one_core`."""
    yield baselines(seed)
