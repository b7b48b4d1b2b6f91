"""The table of children: 36 small networks that name 24 things, from 3 input sizes, 4 depths and 3 widths.

Each layer is a 3x3 convolution, norm, ReLU and a halving; then the mean over places and one linear layer. All are
trained alike, and briefly, so that a class can make the whole table itself.
"""

import functools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines import crops
from pipelines.errors import UserError
from pipelines.games.settings import CHILDREN, SIZES, ChildSettings, child_name
from pipelines.one_core import one_core
from pipelines.small_nets import initialised
from pipelines.world import storybook

STUDY = Path(__file__).parents[2] / "assets" / "studies" / "children.json"
TRAINING, QUERIES = storybook.TRAIN[:1024], storybook.TEST[:300]
BATCH = 64
RATE = 3e-3
EVERY = 10  # steps between two looks


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """Pictures are being drawn, once per process."""

    done: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One child after some steps."""

    child: tuple[int, int, int]
    step: int
    steps: int
    loss: float | None  # nats; None before the first
    right: float | None  # share of never-seen pictures; None where nobody looked
    seconds: float


class Child(nn.Module):
    """(B, 3, S, S) in [0, 1] to (B, 24)."""

    def __init__(self, layers: int, channels: int):
        super().__init__()
        stages: list[nn.Module] = []
        for layer in range(layers):
            stages += [
                nn.Conv2d(channels if layer else 3, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, len(storybook.NOUNS))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.stages(2 * pixels - 1).mean((2, 3)))


def multiplications(child: tuple[int, int, int]) -> float:
    """Millions of them, for one picture: what a child costs, the same on every computer."""
    size, layers, channels = child
    count, inside = 0, 3
    for layer in range(layers):
        count += 9 * inside * channels * (size // 2**layer) ** 2
        inside = channels
    return (count + channels * len(storybook.NOUNS)) / 1e6


def drawing() -> Iterator[Preparing]:
    """Draws what `data` needs, part by part."""
    done, of = 0, len(TRAINING) + len(QUERIES)
    for seeds in (TRAINING, QUERIES):
        for part in crops.parts(seeds, max(SIZES)):
            done += len(part)
            yield Preparing(done=done, of=of)


@functools.lru_cache(maxsize=3)
def data(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures and nouns to learn from, and never-seen ones. Do not write to them."""
    training, queries = crops.pool(TRAINING, max(SIZES)), crops.pool(QUERIES, max(SIZES))

    def smaller(pixels: Tensor) -> Tensor:
        return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True).clamp(0, 1)

    nouns = (torch.from_numpy(pool.nouns) for pool in (training, queries))
    return smaller(training.pixels), next(nouns), smaller(queries.pixels), next(nouns)


def train(settings: ChildSettings) -> Iterator[Step]:
    """One child from before its first step to its last. Closing it ends the training."""
    start, rng = time.perf_counter(), torch.Generator().manual_seed(settings.seed)
    pixels, nouns, asked, truth = data(settings.size)
    net = initialised(Child(settings.layers, settings.channels), settings.seed)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-2)
    loss = None
    for step in range(settings.steps + 1):
        if step:
            chosen = torch.randint(len(nouns), (BATCH,), generator=rng)
            error = F.cross_entropy(net(pixels[chosen]), nouns[chosen])
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            loss = error.item()
        right = None
        if step == settings.steps or step % EVERY == 0:
            net.eval()
            with torch.no_grad():
                right = float((net(asked).argmax(1) == truth).double().mean())
            net.train()
        yield Step(
            child=settings.child,
            step=step,
            steps=settings.steps,
            loss=loss,
            right=right,
            seconds=time.perf_counter() - start,
        )


@one_core
def run(settings: ChildSettings) -> Iterator[Preparing | Step]:
    """Draw what is not drawn yet, then train one child."""
    yield from drawing()
    yield from train(settings)


@one_core
def make_table(seed: int = 42, steps: int = 70) -> Iterator[Preparing | Step]:
    """All children one after another, with one seed: the last step of each, about a second apart."""
    yield from drawing()
    for size, layers, channels in CHILDREN:
        for step in train(ChildSettings(size=size, layers=layers, channels=channels, steps=steps, seed=seed)):
            if step.step == step.steps:
                yield step


def recorded() -> np.ndarray:
    """(36,) mean accuracy of each of CHILDREN over the seeds of the recorded study.

    Raises:
        UserError: where the study is not there.
    """
    if not STUDY.exists():
        raise UserError("The recorded table of children is missing: python -m pipelines.training.studies children")
    summary = json.loads(STUDY.read_text(encoding="utf-8"))["summary"]
    return np.array([summary[child_name(child)]["accuracy"]["mean"] for child in CHILDREN])
