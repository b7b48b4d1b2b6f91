"""What the lessons of `pipelines.contrast` say of many seeds. Run by `python -m pipelines.training.studies`."""

import math

from pipelines.contrast import information

CASES = {"0.45 nats": (2, 0.6), "4.09 nats": (8, 0.8), "9.31 nats": (8, 0.95)}  # dimensions and correlation


def information_study(seed: int) -> dict[str, dict[str, float]]:
    """The estimate at several N with both critics, beside the truth and ln N."""
    rows = {}
    for name, (dimensions, correlation) in CASES.items():
        for batch in (4, 16, 64, 256, 1024):
            known = {"dimensions": dimensions, "correlation": correlation, "batch": batch, "seed": seed}
            *_, exact = information.run(information.Settings(**known))
            row = {
                "truth": exact.truth,
                "ln N": math.log(batch),
                "exact critic": exact.estimate,
                "trained critic": None,
            }
            if batch == 64:
                *_, trained = information.run(information.Settings(**known, critic="trained"))
                row |= {"trained critic": trained.estimate, "untrained critic": trained.untrained}
            rows[f"{name}, N = {batch}"] = row
    return rows
