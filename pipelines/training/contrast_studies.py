"""What the lessons of `pipelines.contrast` say of many seeds. Run by `python -m pipelines.training.studies`."""

import math
from typing import Any

from pipelines.contrast import information, negatives, word_vectors
from pipelines.contrast.settings import LOSSES, InformationSettings, NegativesSettings, WordsSettings
from pipelines.contrast.verdicts import of_words

CASES = {"0.45 nats": (2, 0.6), "4.09 nats": (8, 0.8), "9.31 nats": (8, 0.95)}  # dimensions and correlation


def information_study(seed: int) -> dict[str, dict[str, float | None]]:
    """The estimate at several N with both critics, beside the truth and ln N."""
    rows: dict[str, dict[str, float | None]] = {}
    for name, (dimensions, correlation) in CASES.items():
        for batch in (4, 16, 64, 256, 1024):
            known: dict[str, Any] = {"dimensions": dimensions, "correlation": correlation, "batch": batch, "seed": seed}
            *_, exact = information.run(InformationSettings(**known))
            row: dict[str, float | None] = {
                "truth": exact.truth,
                "ln N": math.log(batch),
                "exact critic": exact.estimate,
                "trained critic": None,
            }
            if batch == 64:
                *_, trained = information.run(InformationSettings(**known, critic="trained"))
                row |= {"trained critic": trained.estimate, "untrained critic": trained.untrained}
            rows[f"{name}, N = {batch}"] = row
    return rows


TEXTS: dict[str, dict[str, Any]] = {
    "captions, skip-gram": {},
    "captions, CBOW": {"method": "cbow"},
    **{f"tales, {count} sentences": {"corpus": "tales", "sentences": count} for count in (50, 100, 200, 400, 1000)},
    "tales, CBOW": {"corpus": "tales", "sentences": 400, "method": "cbow"},
    "tales that do not tell the age": {"corpus": "tales", "sentences": 400, "age_told": False},
    "captions, skip-gram, 4,000 sentences and 2,000 steps": {"sentences": 4000, "steps": 2000},
}


def words_study(seed: int) -> dict[str, dict[str, float | None]]:
    """Purity, analogies and PMI of every text, each beside its baseline."""
    rows = {}
    for name, known in TEXTS.items():
        settings = WordsSettings(**known, seed=seed)
        *_, found = word_vectors.run(settings)
        said = word_vectors.numbers(settings, found)
        rows[name] = {figure: said[figure] for figure in ("purity", "analogies", "pmi_correlation", "pmi_error")}
        rows[name] |= {f"{figure}, baseline": value for figure, value in said["baseline"].items() if figure != "loss"}
        rows[name]["cat beside its kind"] = float(of_words(found).answer == "kind")
    return rows


def negatives_study(seed: int) -> dict[str, dict[str, float | None]]:
    """5-NN after the default run of each loss, at a high and at a low temperature."""
    list(negatives.preparing())
    before, rows = negatives.baselines(seed), {}
    for temperature in (0.5, 0.2):
        for name in LOSSES:
            settings = NegativesSettings(temperature=temperature, seed=seed)
            (end,) = negatives.arm(settings, name, observed=False)
            rows[f"{name}, temperature {temperature}"] = {
                "5-NN": end.knn,
                "weight of false negatives": end.weight_false_negatives,
                "clamped": end.clamped,
                "5-NN, pixels": before.pixels,
                "5-NN, untrained": before.untrained,
            }
    return rows
