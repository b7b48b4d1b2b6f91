"""Threshold and base rate: one question about 300 pictures, four boxes, and which measure tells what.

A CLIP says how similar each picture is to the words "a cat". From a threshold on that is a *yes*, right or wrong: true
and false positives, false and true negatives. The rates among pictures that hold a cat (TPR, recall) and among those
that hold none (FPR) belong to the model and its threshold; everything else belongs to the world as well. With base rate
p, by Bayes' rule,

    precision = p TPR / (p TPR + (1 - p) FPR),        accuracy = p TPR + (1 - p) (1 - FPR),

so that pictures weigh p / P where they hold a cat, of P, and (1 - p) / N where they do not. ROC does not move with p,
precision against recall does (Fawcett 2006, https://doi.org/10.1016/j.patrec.2005.10.010, section 4.2; Saito and
Rehmsmeier 2015, https://doi.org/10.1371/journal.pone.0118432).
"""

import functools
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.detection.settings import ThresholdSettings
from pipelines.detection.verdicts import of_always_no, of_curves
from pipelines.models.loading import load
from pipelines.shares import wilson
from pipelines.world import storybook

SCENES = storybook.TEST[:300]
BATCH = 50
PARTS = range(0, len(SCENES), BATCH)
RARER = 10  # times fewer pictures that hold one, for the curves beside


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The pictures, what they hold, and what a model says of every word. Do not write to its arrays."""

    pictures: np.ndarray  # (M, H, W, 3) uint8, sRGB
    holds: np.ndarray  # (M, 24) bool, by storybook.NOUNS
    scores: np.ndarray  # (M, 24) float64, cosines of picture and words
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What a model does at every threshold, at one base rate. The first point says no to everything."""

    thresholds: np.ndarray  # (T + 1,) falling; the first is infinite
    tpr: np.ndarray  # (T + 1,) share of pictures with one that are found: recall
    fpr: np.ndarray  # (T + 1,) share of pictures without one that are accused
    prevalence: float
    price: float  # of a false accusation, in misses

    @property
    def precision(self) -> np.ndarray:
        """(T + 1,) share of the accused that hold one; 1 where nobody is accused, as the limit of a curve has it."""
        hits = self.prevalence * self.tpr
        said = hits + (1 - self.prevalence) * self.fpr
        return np.divide(hits, said, out=np.ones_like(said), where=said > 0)

    @property
    def accuracy(self) -> np.ndarray:
        return self.prevalence * self.tpr + (1 - self.prevalence) * (1 - self.fpr)

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall; 0 where nothing is found."""
        hits = self.prevalence * self.tpr
        return 2 * hits / (hits + (1 - self.prevalence) * self.fpr + self.prevalence)

    @property
    def cost(self) -> np.ndarray:
        """(T + 1,) of a picture, in misses."""
        return self.price * (1 - self.prevalence) * self.fpr + self.prevalence * (1 - self.tpr)

    @property
    def roc_area(self) -> float:
        return float(np.trapezoid(self.tpr, self.fpr))

    @property
    def average_precision(self) -> float:
        """The sum of precision times the steps of recall."""
        return float((np.diff(self.tpr) * self.precision[1:]).sum())


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The four boxes at one threshold, and the curves they are a point of."""

    true_positives: np.ndarray  # indices of pictures, most similar first, as are the next three
    false_positives: np.ndarray
    false_negatives: np.ndarray
    true_negatives: np.ndarray
    threshold: float
    curves: Curves  # at the chosen base rate
    rarer: Curves  # at a tenth of it
    at: int  # the point of the curves at this threshold
    drawn: float  # share of the pictures that do hold one
    scores: np.ndarray  # (M,) float64 of each picture
    seconds: float

    @property
    def recall(self) -> float:
        """TPR."""
        return float(self.curves.tpr[self.at])

    @property
    def false_alarm(self) -> float:
        """FPR."""
        return float(self.curves.fpr[self.at])

    @property
    def precision(self) -> float | None:
        """None where nobody is accused."""
        return float(self.curves.precision[self.at]) if self.recall or self.false_alarm else None

    @property
    def accuracy(self) -> float:
        return float(self.curves.accuracy[self.at])

    @property
    def f1(self) -> float:
        return float(self.curves.f1[self.at])

    @property
    def cost(self) -> float:
        return float(self.curves.cost[self.at])

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """95 %, of recall and of false alarms: so few pictures hold one."""
        found, accused = len(self.true_positives), len(self.false_positives)
        return (
            wilson(found, found + len(self.false_negatives)),
            wilson(accused, accused + len(self.true_negatives)),
        )

    @property
    def best_f1(self) -> tuple[float, float]:
        """Threshold and F1."""
        best = int(self.curves.f1.argmax())
        return float(self.curves.thresholds[best]), float(self.curves.f1[best])

    @property
    def cheapest(self) -> tuple[float, float]:
        """Threshold and cost a picture; an infinite threshold says no to everything."""
        best = int(self.curves.cost.argmin())
        return float(self.curves.thresholds[best]), float(self.curves.cost[best])

    @property
    def always_no(self) -> float:
        """Its accuracy."""
        return float(self.curves.accuracy[0])


@functools.lru_cache(maxsize=4)
def _words(model: str) -> Tensor:
    """(24, D) features of storybook.NOUNS."""
    return load(model).text_features([storybook.article(noun) for noun in storybook.NOUNS])


@functools.lru_cache(maxsize=4 * len(PARTS))
def scored_part(model: str, first: int) -> Scored:
    """Some of the pictures, the first of them by its place, one of PARTS: short work, so that others take turns."""
    start = time.perf_counter()
    loaded = load(model)
    world = [storybook.scene(seed) for seed in SCENES[first : first + BATCH]]
    pixels = torch.cat([loaded.pixels(Image.fromarray(scene.picture)) for scene in world])
    images = loaded.image_features(loaded.encoder.encode(pixels).cls)
    held = [{each.noun for each in scene.objects} for scene in world]
    return Scored(
        pictures=np.stack([scene.picture for scene in world]),
        holds=np.array([[noun in nouns for noun in storybook.NOUNS] for nouns in held]),
        scores=(images @ _words(model).T).double().cpu().numpy(),
        seconds=time.perf_counter() - start,
    )


@functools.lru_cache(maxsize=4)
def scored(model: str) -> Scored:
    """The pictures and their scores, once per process and model; a few seconds.

    Raises:
        ModelUnavailable: when the model's files cannot be had.
    """
    parts = [scored_part(model, first) for first in PARTS]
    return Scored(
        pictures=np.concatenate([part.pictures for part in parts]),
        holds=np.concatenate([part.holds for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        seconds=sum(part.seconds for part in parts),
    )


def curves(scores: np.ndarray, holds: np.ndarray, prevalence: float, price: float = 1.0) -> Curves:
    """Of scores (M,) of pictures that hold one or not, (M,) bool, some of both.

    Pictures of the same score are said yes to together, so every threshold is one of the scores.
    """
    order = np.argsort(-scores, kind="stable")
    falling, right = scores[order], holds[order]
    last = np.flatnonzero(np.append(np.diff(falling) < 0, True))  # of each run of equal scores
    return Curves(
        thresholds=np.append(np.inf, falling[last]),
        tpr=np.append(0.0, np.cumsum(right)[last] / right.sum()),
        fpr=np.append(0.0, np.cumsum(~right)[last] / (~right).sum()),
        prevalence=prevalence,
        price=price,
    )


def run(settings: ThresholdSettings) -> Counted:
    """Milliseconds, once the pictures have their scores: see `scored`.

    Raises:
        UserError: when the model does not know the word.
        ModelUnavailable: when the model's files cannot be had.
    """
    start = time.perf_counter()
    known, column = scored(settings.model), storybook.NOUNS.index(settings.word)
    scores, holds = known.scores[:, column], known.holds[:, column]
    order = np.argsort(-scores, kind="stable")
    yes = scores >= settings.threshold
    found = curves(scores, holds, settings.prevalence, settings.cost)
    return Counted(
        true_positives=order[(yes & holds)[order]],
        false_positives=order[(yes & ~holds)[order]],
        false_negatives=order[(~yes & holds)[order]],
        true_negatives=order[(~yes & ~holds)[order]],
        threshold=settings.threshold,
        curves=found,
        rarer=replace(found, prevalence=settings.prevalence / RARER),
        at=int(np.count_nonzero(found.thresholds >= settings.threshold)) - 1,
        drawn=float(holds.mean()),
        scores=scores,
        seconds=time.perf_counter() - start,
    )


def numbers(settings: ThresholdSettings, found: Counted, guess: str | None = None) -> dict:
    """The JSON of the endpoint. The seed is of the pictures: those of the test range."""
    at, cost = found.cheapest
    finite = at if np.isfinite(at) else None
    return {
        "seed": SCENES[0],
        "steps": 0,
        "seconds": round(found.seconds, 3),
        "word": settings.word,
        "threshold": found.threshold,
        "prevalence": settings.prevalence,
        "prevalence_drawn": found.drawn,
        "true_positives": len(found.true_positives),
        "false_positives": len(found.false_positives),
        "false_negatives": len(found.false_negatives),
        "true_negatives": len(found.true_negatives),
        "accuracy": found.accuracy,
        "precision": found.precision,
        "recall": found.recall,
        "recall_interval": list(found.intervals[0]),
        "false_positive_rate": found.false_alarm,
        "false_positive_rate_interval": list(found.intervals[1]),
        "f1": found.f1,
        "best_f1": {"threshold": found.best_f1[0], "f1": found.best_f1[1]},
        "cost": found.cost,
        "least_cost": {"threshold": finite, "cost": cost},
        "roc_area": found.curves.roc_area,
        "average_precision": found.curves.average_precision,
        "baseline": {
            "always_no_accuracy": found.always_no,
            "always_no_cost": float(found.curves.cost[0]),
            "always_yes_cost": float(found.curves.cost[-1]),
            "roc_area": 0.5,
            "average_precision": settings.prevalence,
        },
        "verdict": of_always_no(found, guess).record(),
        "curves": of_curves(found).record(),
    }
