"""Batch, views and LARS: what a class cannot wait for is recorded, and any point of it can be run.

Batches are compared twice, after equal pictures and after equal steps, never at equal epochs alone: a large batch takes
fewer steps for the same pictures. SimCLR's section 2.2 has 2(B - 1) negatives for a batch of B, and the linear rule of
the learning rate; BYOL's figure 3 the two robustness plots that are measured here on a small scale.
"""

import json
from dataclasses import replace
from pathlib import Path

from pipelines.collapse.settings import REMOVED, Lab, whole

RECORDED = Path(__file__).parents[2] / "assets" / "studies" / "collapse_sweeps.json"
METHODS = ("simclr", "byol")
BATCHES = (16, 64, 256, 512)
PICTURES, STEPS = 12_800, 100  # of a run: as many pictures for every batch, or as many steps
RATES = {"simclr": 2e-3, "byol": 5e-4}  # AdamW's; a higher one stops BYOL from learning at all
OPTIMIZERS = ("sgd", "lars")
BASE_RATES = {"sgd": 0.2, "lars": 4.0}  # for 256 pictures a step


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
