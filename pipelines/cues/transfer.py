"""Borrowed eyes: four things a model has never met, told apart with what it learned of others.

`look` borrows features: each thing is the mean of a few examples, a picture is the nearest mean (Snell et al. 2017,
https://arxiv.org/abs/1703.05175); pictures without labels may join the mean they are nearest to. `run` borrows weights:
the first blocks are frozen, the others learn with a last layer (Yosinski et al. 2014,
https://arxiv.org/abs/1411.1792; Zhuang et al. 2020, https://arxiv.org/abs/1911.02685, on transfer at large). Beside
them stand raw pixels and the same tower with random weights.
"""

import copy
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines import crops
from pipelines.cues.namers import clip_namer
from pipelines.cues.settings import BLOCKS, BorrowSettings, FreezeSettings
from pipelines.cues.verdicts import of_borrowed, of_frozen
from pipelines.errors import NotFinite
from pipelines.models.encoders import Model, untrained
from pipelines.models.loading import load
from pipelines.models.vision import residual_block
from pipelines.one_core import one_core
from pipelines.world import storybook

THINGS = storybook.UNSEEN
BANK, QUERIES = storybook.VALIDATION[:200], storybook.TEST[:200]
MOST = 30  # examples of each thing
COUNTS = (1, 2, 5, 10, 30)
DRAWS = 20  # choices of examples
ROUNDS = 5  # of joining the nearest mean
BATCH = 16
EVERY = 10  # steps between two looks


# -------------------------------------------------------------------------------------------------------- the features


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Of the four things, one a picture, in a loose square."""

    pixels: Tensor  # (N, 3, S, S) in [0, 1]
    things: Tensor  # (N,) index into THINGS


@functools.lru_cache(maxsize=4)
def pictures(seeds: range, size: int, noise: int, seed: int) -> Pictures:
    """With normal noise of `noise` levels. Do not write to its tensors."""
    pool = crops.pool(seeds, size, nouns=THINGS)
    rng = torch.Generator().manual_seed(seed + seeds[0])
    pixels = pool.pixels + noise / 255 * torch.randn(pool.pixels.shape, generator=rng)
    return Pictures(pixels=pixels.clamp(0, 1), things=torch.from_numpy(pool.nouns))


def embedded(visual: Any, pixels: Tensor) -> Tensor:
    """(B, 1 + N, D): class token and patches before the first block of an OpenCLIP tower, from normalised pixels."""
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    cls = visual.class_embedding.expand(len(x), 1, -1)
    return visual.ln_pre(torch.cat([cls, x], 1) + visual.positional_embedding)


def through(visual: Any, tokens: Tensor, first: int, last: int) -> Tensor:
    """(B, 1 + N, D): tokens after the blocks from `first` to before `last`."""
    for block in visual.transformer.resblocks[first:last]:
        tokens, _ = residual_block(block, tokens)
    return tokens


def normalised(model: Model, pixels: Tensor) -> Tensor:
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (model.mean, model.deviation))
    return ((pixels - mean) / deviation).to(model.device)


@torch.no_grad()
def features(model: Model, pixels: Tensor, batch: int = 50) -> list[Tensor]:
    """BLOCKS + 1 times (N, D): the mean over patches before the first block, after one, two, …"""
    visual, parts = model.module.visual, []
    for part in pixels.split(batch):
        tokens = [embedded(visual, normalised(model, part))]
        for block in range(BLOCKS):
            tokens.append(through(visual, tokens[-1], block, block + 1))
        parts.append([each[:, 1:].mean(1).cpu() for each in tokens])
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def small(pixels: Tensor) -> Tensor:
    """(N, 3 * 16 * 16): raw pixels, as few as help a nearest mean."""
    return F.adaptive_avg_pool2d(pixels, 16).flatten(1)


# --------------------------------------------------------------------------------------------------------- nearest mean


def means(known: Tensor, things: Tensor) -> Tensor:
    """(4, D) of each thing's examples."""
    return torch.stack([known[things == thing].mean(0) for thing in range(len(THINGS))])


def nearest(asked: Tensor, centres: Tensor) -> Tensor:
    """(M,) the centre with the smallest distance."""
    return torch.cdist(asked, centres).argmin(1)


def joined_means(known: Tensor, things: Tensor, others: Tensor) -> Tensor:
    """(4, D) after ROUNDS in which every picture without a label joins the mean it is nearest to."""
    centres = means(known, things)
    for _ in range(ROUNDS):
        guessed = nearest(others, centres)
        centres = means(torch.cat([known, others]), torch.cat([things, guessed]))
    return centres


def chosen(things: Tensor, examples: int, rng: torch.Generator) -> Tensor:
    """(4 * examples,) places of so many random examples of each thing."""
    found = []
    for thing in range(len(THINGS)):
        places = (things == thing).nonzero().flatten()
        found.append(places[torch.randperm(len(places), generator=rng)[:examples]])
    return torch.cat(found)


def dealt(things: Tensor, permuted: bool, rng: torch.Generator) -> Tensor:
    """The labels, or the same labels dealt out at random."""
    return things[torch.randperm(len(things), generator=rng)] if permuted else things


def draws(bank: Tensor, asked: Tensor, settings: BorrowSettings, examples: int, data: tuple[Tensor, Tensor]) -> Tensor:
    """(DRAWS,) shares right, of features of bank and queries, for DRAWS choices of examples.

    Args:
        data: things of the bank and of the queries.
    """
    rng, (things, truth) = torch.Generator().manual_seed(settings.seed), data
    scale = bank.std(0).clamp(min=1e-6)
    bank, asked = bank / scale, asked / scale
    found = []
    for _ in range(DRAWS):
        places = chosen(things, examples, rng)
        labels = dealt(things[places], settings.permuted, rng)
        if settings.unlabelled:
            rest = torch.ones(len(things), dtype=torch.bool)
            rest[places] = False
            centres = joined_means(bank[places], labels, bank[rest])
        else:
            centres = means(bank[places], labels)
        found.append((nearest(asked, centres) == truth).double().mean())
    return torch.stack(found)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Mean and standard deviation over choices of examples."""

    mean: float
    spread: float


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    examples: int
    queries: int
    features: Shares  # with the chosen number of examples, as are the next two
    pixels: Shares
    random: Shares  # the same tower with random weights
    curve: dict[int, Shares]  # by examples of each
    blocks: dict[int, Shares]  # by block, 0 to 6
    called: dict[str, dict[str, float]]  # thing -> what the model calls it, and how often, most first
    pictures: np.ndarray  # (4, S, S, 3) uint8, one of each thing
    seconds: float


def called(model: str, known: Pictures) -> dict[str, dict[str, float]]:
    """What a model that does not have the words calls the things: the three commonest names and their shares."""
    who = clip_namer(model)
    said, found = who.told(known.pixels), {}
    for thing, name in enumerate(THINGS):
        counts = torch.bincount(said[known.things == thing], minlength=len(who.names)).double()
        top = (counts / counts.sum()).topk(3)
        found[name] = {who.names[i]: float(s) for s, i in zip(top.values, top.indices.tolist(), strict=True) if s > 0}
    return found


@functools.lru_cache(maxsize=4)
def _all_features(model: str, noise: int, seed: int) -> tuple[list[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """Of bank and queries after every block, and of the random tower after the last."""
    loaded = load(model)
    bank, queries = (pictures(seeds, loaded.size, noise, seed) for seeds in (BANK, QUERIES))
    blank = untrained(loaded, seed)
    by_block = zip(features(loaded, bank.pixels), features(loaded, queries.pixels), strict=True)
    return list(by_block), (features(blank, bank.pixels)[-1], features(blank, queries.pixels)[-1])


def one_of_each(known: Pictures) -> np.ndarray:
    """(4, S, S, 3) uint8."""
    first = [int((known.things == thing).nonzero()[0]) for thing in range(len(THINGS))]
    return (known.pixels[first].permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


def asked(settings: BorrowSettings) -> Pictures:
    """The never-seen pictures, as the model gets them.

    Raises:
        ModelUnavailable: when the model's files cannot be had.
    """
    return pictures(QUERIES, load(settings.model).size, settings.noise, settings.seed)


def look(settings: BorrowSettings) -> Borrowed:
    """Nearest means of borrowed features, beside pixels and random features. Slow once for each model and noise.

    Raises:
        ModelUnavailable: when the model's files cannot be had.
    """
    start = time.perf_counter()
    size = load(settings.model).size
    bank, queries = (pictures(seeds, size, settings.noise, settings.seed) for seeds in (BANK, QUERIES))
    by_block, blank = _all_features(settings.model, settings.noise, settings.seed)
    data = (bank.things, queries.things)

    def shares(of: tuple[Tensor, Tensor], examples: int) -> Shares:
        found = draws(*of, settings, examples, data)
        return Shares(mean=float(found.mean()), spread=float(found.std()))

    return Borrowed(
        examples=settings.examples,
        queries=len(queries.things),
        features=shares(by_block[settings.block], settings.examples),
        pixels=shares((small(bank.pixels), small(queries.pixels)), settings.examples),
        random=shares(blank, settings.examples),
        curve={examples: shares(by_block[settings.block], examples) for examples in COUNTS},
        blocks={block: shares(found, settings.examples) for block, found in enumerate(by_block)},
        called=called(settings.model, queries),
        pictures=one_of_each(queries),
        seconds=time.perf_counter() - start,
    )


def borrowed_numbers(settings: BorrowSettings, found: Borrowed, guess: str | None = None) -> dict:
    """The JSON of the endpoint."""

    def told(shares: dict[int, Shares]) -> dict:
        return {str(key): vars(value) for key, value in shares.items()}

    return {
        "seed": settings.seed,
        "steps": 0,
        "seconds": round(found.seconds, 3),
        "examples": settings.examples,
        "block": settings.block,
        "accuracy": vars(found.features),
        "by_examples": told(found.curve),
        "by_block": told(found.blocks),
        "called_before": found.called,
        "baseline": {"chance": 1 / len(THINGS), "pixels": vars(found.pixels), "random": vars(found.random)},
        "verdict": of_borrowed(found, guess).record(),
    }


# ---------------------------------------------------------------------------------------------------------- the weights


@dataclass(frozen=True, kw_only=True)
class Step:
    """A model after some steps. Shares are of never-seen pictures."""

    step: int
    steps: int
    loss: float | None  # nats; None before the first
    right: float | None  # None where nobody looked
    moved: float  # largest change of a frozen weight so far: 0, or something is wrong
    learns: int  # how many numbers do
    of: int  # and how many there are
    seconds: float


class Borrower(nn.Module):
    """An OpenCLIP tower whose first blocks are frozen, and one layer on the mean over its patches."""

    def __init__(self, model: Model, frozen: int, seed: int):
        super().__init__()
        self.visual = copy.deepcopy(model.module.visual)
        self.frozen = frozen
        self.head = nn.Linear(model.encoder.width, len(THINGS))
        rng = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.head.weight, 0, 1e-3, generator=rng)
        nn.init.zeros_(self.head.bias)
        self.visual.requires_grad_(False)
        learning = [self.visual.transformer.resblocks[frozen:]] if frozen else [self.visual]
        for part in learning:
            part.requires_grad_()

    @torch.no_grad()
    def begin(self, pixels: Tensor, batch: int = 50) -> Tensor:
        """What never changes, once: tokens after the frozen blocks; the pixels themselves where nothing is frozen."""
        if not self.frozen:
            return pixels
        parts = (embedded(self.visual, part) for part in pixels.split(batch))
        return torch.cat([through(self.visual, part, 0, self.frozen) for part in parts])

    def forward(self, begun: Tensor) -> Tensor:
        """(B, 4) from what `begin` returned."""
        tokens = begun if self.frozen else embedded(self.visual, begun)
        tokens = through(self.visual, tokens, self.frozen, BLOCKS)
        return self.head(F.layer_norm(tokens[:, 1:].mean(1), tokens.shape[-1:]))


@one_core
def run(settings: FreezeSettings) -> Iterator[Step]:
    """The model from before its first step to its last. Closing it ends the training.

    Raises:
        NotFinite: when the loss is no number any more.
        ModelUnavailable: when the model's files cannot be had.
    """
    start, rng = time.perf_counter(), torch.Generator().manual_seed(settings.seed)
    loaded = load(settings.model)
    source = untrained(loaded, settings.seed) if settings.start == "random" else loaded
    net = Borrower(source, settings.frozen, settings.seed).to(loaded.device)
    bank, queries = (pictures(seeds, loaded.size, settings.noise, settings.seed) for seeds in (BANK, QUERIES))
    places = chosen(bank.things, settings.examples, rng)
    labels = dealt(bank.things[places], settings.permuted, rng).to(loaded.device)
    known, asked = (net.begin(normalised(loaded, pixels)) for pixels in (bank.pixels[places], queries.pixels))
    learning = [weight for weight in net.parameters() if weight.requires_grad]
    still = [(weight, weight.clone()) for weight in net.parameters() if not weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, settings.rate, weight_decay=1e-2)
    loss = None
    for step in range(settings.steps + 1):
        if step:
            some = torch.randperm(len(labels), generator=rng)[:BATCH]
            error = F.cross_entropy(net(known[some]), labels[some])
            if not torch.isfinite(error):
                raise NotFinite(
                    "The loss is no number any more: the learning rate {rate} is too high. Choose a smaller one.",
                    rate=f"{settings.rate:g}",
                )
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            loss = error.item()
        right = None
        if step % EVERY == 0 or step == settings.steps:
            with torch.no_grad():
                told = torch.cat([net(part).argmax(1).cpu() for part in asked.split(50)])
            right = float((told == queries.things).double().mean())
        yield Step(
            step=step,
            steps=settings.steps,
            loss=loss,
            right=right,
            moved=max((float((weight - before).abs().max()) for weight, before in still), default=0.0),
            learns=sum(weight.numel() for weight in learning),
            of=sum(weight.numel() for weight in net.parameters()),
            seconds=time.perf_counter() - start,
        )


def numbers(settings: FreezeSettings, found: Step, guess: str | None = None) -> dict:
    """The JSON of the endpoint, of the last step."""
    return {
        "seed": settings.seed,
        "steps": found.step,
        "seconds": round(found.seconds, 3),
        "frozen": settings.frozen,
        "start": settings.start,
        "examples": settings.examples,
        "accuracy": found.right,
        "loss": found.loss,
        "numbers_that_learn": found.learns,
        "numbers": found.of,
        "largest_change_of_a_frozen_weight": found.moved,
        "baseline": {"chance": 1 / len(THINGS)},
        "verdict": of_frozen(found, guess).record(),
    }
