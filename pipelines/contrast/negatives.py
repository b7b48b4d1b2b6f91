"""False negatives and hard negatives: debiased and hard contrastive losses, read and trained.

With positive logit s+ and N negatives s_j (cosines over the temperature t), each of these losses is

    -s+ + ln(e^(s+) + N g)       and NT-Xent has g = mean_j e^(s_j).

Some of the negatives are false: pictures of the same thing. The debiased loss (Chuang et al. 2020,
https://arxiv.org/abs/2007.00224, section 3, one positive) takes a share `eta` of them off the estimate and clamps it
at the least it can be, g = max((mean_j e^(s_j) - eta e^(s+)) / (1 - eta), e^(-1/t)); the hard one (Robinson et al.
2021, https://arxiv.org/abs/2010.04592, section 3) weighs the mean by w_j proportional to e^(beta s_j), of mean 1. Told
the labels, g is the mean over true negatives alone: what the others estimate.
"""

import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines import crops, probes
from pipelines.contrast.matrix import Encoded
from pipelines.contrast.settings import NegativesSettings, ReadingSettings
from pipelines.contrast.verdicts import ASKED, of_negatives
from pipelines.errors import UserError
from pipelines.one_core import one_core, side_by_side
from pipelines.projection import principal_plane
from pipelines.settings import checked
from pipelines.small_nets import PatchCNN, initialised
from pipelines.world import storybook

NOUNS = ("cat", "dog", "lion", "car", "apple", "chair")  # six, so that one negative in six is false
SIZE, LARGER = 32, 40  # pixels: of a view, and of what it is cut from
TRAINING, BANK, TEST = storybook.TRAIN[:1536], storybook.VALIDATION[:600], storybook.TEST[:ASKED]
POINTS = 192  # of TEST are the points that are shown
PROJECTION = 64
POINTS_EVERY, KNN_EVERY = 2, 20  # steps

# ---------------------------------------------------------------------------------------------------------- the losses


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The loss of R queries with N negatives each, and what it is made of."""

    loss: Tensor  # (R,) nats
    weights: Tensor  # (R, N) of the negatives, mean 1 of those that count
    estimate: Tensor  # (R,) g
    clamped: Tensor  # (R,) bool: the estimate would have been less than it can be


def terms(
    positive: Tensor,
    negatives: Tensor,
    temperature: float,
    eta: float = 0.0,
    beta: float = 0.0,
    false_negatives: Tensor | None = None,
) -> Terms:
    """The loss of each query.

    Args:
        positive: (R,) logits, cosines over the temperature.
        negatives: (R, N) logits.
        eta: the share of false ones among the negatives, as the loss believes, 0 to below 1.
        beta: 0 weighs all negatives alike.
        false_negatives: (R, N) which they are; given, they are left out, and `eta` and `beta` are to be 0.
    """
    if false_negatives is None:
        weights = torch.exp(beta * (negatives - negatives.amax(1, keepdim=True)))  # the same after division by the mean
        weights = weights / weights.mean(1, keepdim=True)
    else:
        weights = (~false_negatives).to(negatives.dtype)
        weights = weights / weights.mean(1, keepdim=True).clamp(min=1e-12)
    estimate = ((weights * negatives.exp()).mean(1) - eta * positive.exp()) / (1 - eta)
    least = math.exp(-1 / temperature)  # a cosine is at least -1
    loss = torch.log(positive.exp() + negatives.shape[1] * estimate.clamp(min=least)) - positive
    return Terms(loss=loss, weights=weights, estimate=estimate.clamp(min=least), clamped=estimate < least)


def of_views(z: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the positive (2B,) and the negatives (2B, 2B - 2) of two views each, and which negatives are false.

    Args:
        z: (2B, d) of any length, the first views before the second.
        labels: (B,) integers.
    """
    z, count = F.normalize(z, dim=1), len(z)
    scores, twice = z @ z.T / temperature, labels.repeat(2)
    places = torch.arange(count)
    partner = places.roll(count // 2)
    others = torch.ones(count, count, dtype=torch.bool)
    others[places, places] = others[places, partner] = False
    false_negatives = twice[:, None] == twice
    return scores[places, partner], scores[others].view(count, -1), false_negatives[others].view(count, -1)


def loss_of(name: str, z: Tensor, labels: Tensor, temperature: float, eta: float, beta: float) -> tuple[Terms, Tensor]:
    """One of LOSSES on two views, and which negatives are false."""
    positive, negatives, false_negatives = of_views(z, labels, temperature)
    known: dict[str, dict[str, Any]] = {
        "ntxent": {},
        "debiased": {"eta": eta},
        "hard": {"eta": eta, "beta": beta},
        "unbiased": {"false_negatives": false_negatives},
    }
    return terms(positive, negatives, temperature, **known[name]), false_negatives


# ----------------------------------------------------------------------------------------------------------------- read


@dataclass(frozen=True, kw_only=True)
class Read:
    """A matrix of pictures and captions, its false negatives marked. (N, N) arrays are 0 on the diagonal; float64."""

    similarity: np.ndarray  # (N, N) cosines
    false_negatives: np.ndarray  # (N, N) bool: wrong captions that are right
    weights: np.ndarray  # (N, N) of the negatives, mean 1 in a row
    pushes: np.ndarray  # (N, N) dL/d(s_ij / t) of the mean loss: how hard each negative is pushed
    pushes_plain: np.ndarray  # (N, N) by NT-Xent
    estimate: np.ndarray  # (N,) g
    clamped: np.ndarray  # (N,) bool
    loss: float  # nats
    loss_plain: float  # by NT-Xent

    @property
    def share_false_negatives(self) -> float:
        """Share of the negatives that are none: the truth that η⁺ guesses."""
        return float(self.false_negatives.sum() / (len(self.false_negatives) * (len(self.false_negatives) - 1)))

    @property
    def weight_false_negatives(self) -> float | None:
        """Mean weight of the false negatives; 1 would be that of any negative. None where there are none."""
        return float(self.weights[self.false_negatives].mean()) if self.false_negatives.any() else None

    @property
    def push_false_negatives(self) -> tuple[float, float]:
        """Share of all pushing that goes to false negatives, by this loss and by NT-Xent."""
        ours, plain = (
            float(p[self.false_negatives].sum() / max(p.sum(), 1e-300)) for p in (self.pushes, self.pushes_plain)
        )
        return ours, plain


def read(settings: ReadingSettings, encoded: Encoded, labels: Sequence[str] | None = None) -> Read:
    """What each negative of each picture counts. Milliseconds.

    Args:
        encoded: from `pipelines.contrast.matrix.encode`, at least 3 pairs.
        labels: what each pair shows; the captions when None, so that equal captions are false negatives.

    Raises:
        UserError: for a setting out of its limits, fewer than 3 pairs, one label for all, labels that are not as many.
    """
    settings = checked(ReadingSettings, vars(settings))
    labels = [" ".join(str(label).lower().split()) for label in (labels if labels is not None else encoded.captions)]
    n = len(encoded.captions)
    if n < 3:
        raise UserError("With {count} pairs there is one negative: nothing to weigh. Give at least 3.", count=n)
    if len(labels) != n:
        raise UserError("Each pair needs a label: got {labels} for {pairs} pairs.", labels=len(labels), pairs=n)
    if len(set(labels)) == 1:
        raise UserError(
            "All pairs show the same, {label}: there is no negative. Give at least two kinds.", label=labels[0][:40]
        )
    others = ~torch.eye(n, dtype=torch.bool)
    false_negatives = torch.tensor([[one == other for other in labels] for one in labels]) & others
    similarity = encoded.images @ encoded.texts.T

    def push(**known) -> tuple[Terms, np.ndarray]:
        logits = torch.from_numpy(similarity / settings.temperature).requires_grad_()
        found = terms(logits.diagonal(), logits[others].view(n, n - 1), settings.temperature, **known)
        (slope,) = torch.autograd.grad(found.loss.mean(), logits)
        return found, np.where(others.numpy(), slope.numpy(), 0)

    if settings.unbiased:
        found, pushes = push(false_negatives=false_negatives[others].view(n, n - 1))
    else:
        found, pushes = push(eta=settings.eta, beta=settings.beta)
    plain, pushes_plain = push()
    weights = np.zeros((n, n))
    weights[others.numpy()] = found.weights.detach().numpy().ravel()
    return Read(
        similarity=similarity,
        false_negatives=false_negatives.numpy(),
        weights=weights,
        pushes=pushes,
        pushes_plain=pushes_plain,
        estimate=found.estimate.detach().numpy(),
        clamped=found.clamped.numpy(),
        loss=found.loss.mean().item(),
        loss_plain=plain.loss.mean().item(),
    )


def read_numbers(found: Read) -> dict:
    """For the JSON of the endpoint: the reading beside NT-Xent's, and beside the truth."""
    return {
        "loss": found.loss,
        "false_negatives": found.share_false_negatives,
        "weight_false_negatives": found.weight_false_negatives,
        "push_false_negatives": found.push_false_negatives[0],
        "clamped": float(found.clamped.mean()),
        "weights": found.weights.tolist(),
        "baseline": {"loss": found.loss_plain, "weight": 1.0, "push_false_negatives": found.push_false_negatives[1]},
    }


# ---------------------------------------------------------------------------------------------------------------- train


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """Pictures are being drawn, once per process."""

    done: int
    of: int
    pictures: np.ndarray  # (n, S, S, 3) uint8, the last ones


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """5-NN by noun of what was not trained here."""

    chance: float
    pixels: float
    untrained: float


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the two runs after some steps."""

    step: int
    loss: float | None  # of the step, nats; None before the first
    share_false_negatives: float | None  # of the batch's negatives
    weight_false_negatives: float | None  # mean, by this arm's loss
    clamped: float | None  # share of queries whose estimate was clamped
    knn: float  # 5-NN by noun of h, measured every KNN_EVERY steps and at the last
    measured: int  # the step of that
    points: np.ndarray  # (POINTS, 2) float32, main axes of h, of length 1 at most: every POINTS_EVERY steps
    placed: int  # the step of that


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Both runs at the same step."""

    a: Arm
    b: Arm
    steps: int
    nouns: np.ndarray  # (POINTS,) of the points, index into NOUNS
    baselines: Baselines
    seconds: float


def preparing() -> Iterator[Preparing]:
    """Draw the pictures a part at a time; quick where they are there already."""
    wanted, done = ((TEST, SIZE), (BANK, SIZE), (TRAINING, LARGER)), 0
    for seeds, size in wanted:
        for part in crops.parts(seeds, size, nouns=NOUNS):
            done += len(part)
            yield Preparing(done=done, of=sum(len(each) for each, _ in wanted), pictures=part.pictures)


def _features(encoder: nn.Module, pixels: Tensor) -> Tensor:
    encoder.eval()
    with torch.no_grad():
        found = torch.cat([encoder(part) for part in pixels.split(250)])
    encoder.train()
    return found


def samples(count: int = 10) -> np.ndarray:
    """(count, LARGER, LARGER, 3) uint8: the first that are learned from."""
    return next(crops.parts(TRAINING[:count], LARGER, nouns=NOUNS)).pictures


def _pools() -> tuple[crops.Pool, crops.Pool, crops.Pool]:
    training, bank, asked = (
        crops.pool(seeds, size, nouns=NOUNS) for seeds, size in ((TRAINING, LARGER), (BANK, SIZE), (TEST, SIZE))
    )
    return training, bank, asked


def _accuracy(of) -> float:
    _, bank, asked = _pools()
    labels = (torch.from_numpy(pool.nouns) for pool in (bank, asked))
    known, truth = labels
    return probes.knn_accuracy(of(bank.pixels), known, of(asked.pixels), truth)


@functools.lru_cache(maxsize=8)
def baselines(seed: int) -> Baselines:
    """Chance, raw pixels, and the network with its first weights."""
    net = initialised(PatchCNN(), seed)
    return Baselines(
        chance=1 / len(NOUNS),
        pixels=_accuracy(lambda p: p.flatten(1)),
        untrained=_accuracy(functools.partial(_features, net)),
    )


@one_core
def _before(seed: int) -> Iterator[Baselines]:
    yield baselines(seed)


def arm(settings: NegativesSettings, name: str, observed: bool = True) -> Iterator[Arm]:
    """One run. Its batches and views depend on the seed alone, not on its loss.

    Args:
        name: one of LOSSES; those of the settings are for `run`.
        observed: False yields the last step alone.
    """
    training, _, asked = _pools()
    net = nn.Sequential(
        PatchCNN(), nn.Linear(128, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, PROJECTION)
    )
    initialised(net, settings.seed).to(memory_format=torch.channels_last)
    encoder, rng = net[0], torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-4)
    labels = torch.from_numpy(training.nouns)
    points, placed, said, false_negatives, loss, knn, measured = None, 0, None, None, None, math.nan, 0
    for step in range(settings.steps + 1):
        if step:
            chosen = torch.randperm(len(labels), generator=rng)[: settings.batch]
            seen = torch.cat([crops.views(training.pixels[chosen], rng, size=SIZE) for _ in range(2)])
            z = net(seen.contiguous(memory_format=torch.channels_last))
            said, false_negatives = loss_of(name, z, labels[chosen], settings.temperature, settings.eta, settings.beta)
            mean = said.loss.mean()
            optimizer.zero_grad()
            mean.backward()
            optimizer.step()
            loss = mean.item()
        last = step == settings.steps
        if not (last or observed):
            continue
        if last or step % KNN_EVERY == 0:
            knn, measured = _accuracy(functools.partial(_features, encoder)), step
        if last or step % POINTS_EVERY == 0:
            known = F.normalize(_features(encoder, asked.pixels[:POINTS]), dim=1).numpy()
            points, placed = principal_plane(known, points), step
        assert points is not None, "they are placed before the first step, and at the last"
        yield Arm(
            step=step,
            loss=loss,
            share_false_negatives=None if false_negatives is None else float(false_negatives.float().mean()),
            weight_false_negatives=None
            if said is None or false_negatives is None or not false_negatives.any()
            else float(said.weights.detach()[false_negatives].mean()),
            clamped=None if said is None else float(said.clamped.float().mean()),
            knn=knn,
            measured=measured,
            points=points.astype(np.float32),
            placed=placed,
        )


def run(settings: NegativesSettings) -> Iterator[Preparing | Frame]:
    """Both runs on one clock, each on one core, after the pictures are drawn. Closing it ends the training.

    Raises:
        UserError: for a setting out of its limits.
    """
    settings = checked(NegativesSettings, vars(settings))
    start = time.perf_counter()
    yield from preparing()
    (before,) = _before(settings.seed)
    nouns = _pools()[2].nouns[:POINTS]
    for a, b in side_by_side(*(functools.partial(arm, settings, name) for name in (settings.a, settings.b))):
        yield Frame(
            a=a,
            b=b,
            steps=settings.steps,
            nouns=nouns,
            baselines=before,
            seconds=time.perf_counter() - start,
        )


def numbers(settings: NegativesSettings, found: Frame, guess: str | None = None) -> dict:
    """The JSON of the endpoint, of the last frame."""

    def told(one: Arm, name: str) -> dict:
        return {
            "method": name,
            "loss": one.loss,
            "knn_accuracy": one.knn,
            "false_negatives": one.share_false_negatives,
            "weight_false_negatives": one.weight_false_negatives,
            "clamped": one.clamped,
        }

    return {
        "seed": settings.seed,
        "steps": found.a.step,
        "seconds": round(found.seconds, 3),
        "a": told(found.a, settings.a),
        "b": told(found.b, settings.b),
        "baseline": {
            "chance": found.baselines.chance,
            "pixels": found.baselines.pixels,
            "untrained": found.baselines.untrained,
            "false_negatives": 1 / len(NOUNS),
            "weight": 1.0,
        },
        "verdict": of_negatives(found, guess).record(),
    }
