"""Batch, views and LARS: what a class cannot wait for is recorded, and any point of it can be run.

Batches are compared twice, after equal pictures and after equal steps, never at equal epochs alone: a large batch takes
fewer steps for the same pictures. SimCLR's section 2.2 has 2(B - 1) negatives for a batch of B, and the linear rule of
the learning rate; BYOL's figure 3 the two robustness plots that are measured here on a small scale.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.collapse import lab
from pipelines.collapse.data import Baselines, Preparing, accuracy, baselines_once, preparing
from pipelines.collapse.settings import REMOVED, Batches, Lab, batch_runs, whole
from pipelines.one_core import one_core

RECORDED = Path(__file__).parents[2] / "assets" / "studies" / "collapse_sweeps.json"
METHODS = ("simclr", "byol")
BATCHES = (16, 64, 256, 512)
PICTURES, STEPS = 12_800, 100  # of a run: as many pictures for every batch, or as many steps
RATES = {"simclr": 2e-3, "byol": 5e-4}  # AdamW's; a higher one stops BYOL from learning at all
OPTIMIZERS = ("sgd", "lars")
BASE_RATES = {"sgd": 0.2, "lars": 4.0}  # for 256 pictures a step


KNN_TIMES = 8  # between the first step and the last


@dataclass(frozen=True, kw_only=True)
class Point:
    """One batch size after a step."""

    batch: int
    step: int
    steps: int
    pictures: int  # seen so far
    loss: float | None  # None before the first step
    feature_std: float
    knn: float | None  # None where it was not measured at this step
    seconds: float  # of this batch's steps so far


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where every batch size is. `moved` is the one that has just taken a step."""

    moved: int
    points: dict[int, Point]
    baselines: Baselines


def train(settings: Batches, known: Baselines) -> Iterator[Progress]:
    """Three runs on one clock, that of the share of pictures seen: whoever is behind takes the next step."""
    runs = {batch: lab.Run(each) for batch, each in batch_runs(settings).items()}
    steps = {batch: lab.train(run.settings, run, observed=False) for batch, run in runs.items()}
    points: dict[int, Point] = {}
    while True:
        waiting = [b for b, run in runs.items() if b not in points or points[b].step < run.settings.steps]
        if not waiting:
            return
        batch = min(waiting, key=lambda b: points[b].step / points[b].steps if b in points else -1)
        start, before = time.perf_counter(), points.get(batch)
        now = next(steps[batch])
        spent = time.perf_counter() - start + (before.seconds if before else 0.0)
        due = max(1, now.steps // KNN_TIMES)
        knn = now.knn if now.knn is not None or now.step % due else accuracy(runs[batch].net.encoder)
        points[batch] = Point(
            batch=batch,
            step=now.step,
            steps=now.steps,
            pictures=now.step * batch,
            loss=now.loss,
            feature_std=now.feature_std,
            knn=knn,
            seconds=spent,
        )
        if len(points) == len(runs):
            yield Progress(moved=batch, points=dict(points), baselines=known)


def run(settings: Batches) -> Iterator[Preparing | Progress]:
    """Draw what is not drawn yet, then train every batch size."""
    yield from preparing()
    (known,) = one_core(baselines_once)(settings.seed)
    yield from one_core(train)(settings, known)


def negatives(batch: int) -> int:
    """How many other views push each view away: 2(B - 1)."""
    return 2 * (batch - 1)


def linear_rate(optimizer: str, batch: int) -> float:
    """Base rate x batch / 256 (Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.1)."""
    return BASE_RATES[optimizer] * batch / 256


def points(seed: int) -> dict[str, Lab]:
    """Every run of the sweeps, by the name of its row: "simclr, 64 pictures a step, equal steps"."""
    found = {}
    for method in METHODS:
        run = whole(Lab(method=method, start="scratch", learning_rate=RATES[method], seed=seed))
        for batch in BATCHES:
            found[row(method, batch, "pictures")] = replace(run, batch=batch, steps=PICTURES // batch)
            found[row(method, batch, "steps")] = replace(run, batch=batch, steps=STEPS)
        for removed in REMOVED:
            if removed != "nothing":  # that is the row of 64 pictures
                found[f"{method}, without {removed}"] = replace(run, removed=removed, steps=PICTURES // run.batch)
    run = whole(Lab(start="scratch", seed=seed))
    for optimizer in OPTIMIZERS:
        for batch in (64, 512):
            rate = linear_rate(optimizer, batch)
            found[f"{optimizer}, {batch} pictures a step"] = replace(
                run, optimizer=optimizer, batch=batch, learning_rate=rate, steps=PICTURES // batch
            )
    return found


def row(method: str, batch: int, equal: str) -> str:
    """The name of a point of the batch sweep; `equal` is "pictures" or "steps"."""
    return f"{method}, {batch} pictures a step, equal {equal}"


def recorded() -> dict | None:
    """What `python -m pipelines.training.studies collapse_sweeps` has written, if it has."""
    return json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else None


def curve(found: dict, method: str, equal: str) -> dict[int, dict[str, float]]:
    """Of a recorded sweep: batch -> mean, sd, least and most of the 5-NN."""
    return {batch: found["summary"][row(method, batch, equal)]["knn"] for batch in BATCHES}
