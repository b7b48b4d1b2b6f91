"""Threshold and base rate: every measure held against scikit-learn, every law against a world drawn anew."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from pipelines.detection import threshold, verdicts
from pipelines.detection.settings import ThresholdSettings
from pipelines.detection.threshold import curves, numbers, run
from pipelines.errors import UserError
from pipelines.shares import wilson
from pipelines.world import storybook


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    """A hundred of them, once for all tests."""
    patch = pytest.MonkeyPatch()
    patch.setattr(threshold, "PARTS", threshold.PARTS[:2])
    threshold.scored.cache_clear()
    yield
    patch.undo()
    threshold.scored.cache_clear()


def of(**known) -> threshold.Counted:
    return run(ThresholdSettings(**known))


def made(seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    holds = rng.random(400) < 0.2
    scores = rng.standard_normal(400) + 1.2 * holds
    return (scores.round(1) if ties else scores), holds


def weights_of(holds: np.ndarray, prevalence: float) -> np.ndarray:
    return np.where(holds, prevalence / holds.sum(), (1 - prevalence) / (~holds).sum())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("prevalence", [0.001, 0.2, 0.9])
def test_the_curves_are_scikit_learns(prevalence, ties):
    scores, holds = made(ties=ties)
    found, weigh = curves(scores, holds, prevalence), weights_of(holds, prevalence)
    fpr, tpr, at = metrics.roc_curve(holds, scores, sample_weight=weigh, drop_intermediate=False)
    assert np.allclose(found.fpr, fpr) and np.allclose(found.tpr, tpr) and np.allclose(found.thresholds, at)
    assert found.roc_area == pytest.approx(metrics.roc_auc_score(holds, scores, sample_weight=weigh), abs=1e-12)
    precision, recall, at = metrics.precision_recall_curve(holds, scores, sample_weight=weigh)
    assert np.allclose(found.precision, precision[::-1]) and np.allclose(found.tpr, recall[::-1])
    average = metrics.average_precision_score(holds, scores, sample_weight=weigh)
    assert found.average_precision == pytest.approx(average, abs=1e-12)


@pytest.mark.parametrize("prevalence", [0.01, 0.07, 0.5])
@pytest.mark.parametrize("at", [-0.5, 0.2, 0.3, 0.45])
def test_every_measure_is_scikit_learns(at, prevalence):
    found = of(threshold=at, prevalence=prevalence)
    holds = threshold.scored("storybook-clip-b").holds[:, storybook.NOUNS.index("cat")]
    yes, weigh = found.scores >= at, weights_of(holds, prevalence)
    boxes = metrics.confusion_matrix(holds, yes)
    four = (found.true_negatives, found.false_positives, found.false_negatives, found.true_positives)
    assert boxes.flatten().tolist() == [len(box) for box in four]
    assert sorted(np.concatenate(four)) == list(range(100)), "every picture is in one box"
    told = {"y_true": holds, "y_pred": yes, "sample_weight": weigh}
    assert found.accuracy == pytest.approx(metrics.accuracy_score(**told), abs=1e-12)
    assert found.recall == pytest.approx(metrics.recall_score(**told), abs=1e-12)
    assert found.f1 == pytest.approx(metrics.f1_score(**told), abs=1e-12)
    assert found.precision == pytest.approx(metrics.precision_score(**told), abs=1e-12)


def test_precision_follows_bayes_and_roc_does_not_move():
    scores, holds = made()
    rare, common = (curves(scores, holds, prevalence) for prevalence in (0.01, 0.6))
    assert np.array_equal(rare.tpr, common.tpr) and np.array_equal(rare.fpr, common.fpr)
    assert rare.roc_area == common.roc_area and rare.average_precision < common.average_precision / 3
    tpr, fpr = rare.tpr[1:], rare.fpr[1:]
    assert np.allclose(rare.precision[1:], 0.01 * tpr / (0.01 * tpr + 0.99 * fpr))


def test_weights_are_what_drawing_anew_would_give():
    """A hundred thousand pictures drawn with the base rate, from those that hold one and those that do not."""
    scores, holds = made()
    rng = np.random.default_rng(1)
    kinds = rng.random(100_000) < 0.05
    drawn = np.where(kinds, rng.choice(scores[holds], 100_000), rng.choice(scores[~holds], 100_000))
    found = curves(scores, holds, 0.05)
    assert found.average_precision == pytest.approx(metrics.average_precision_score(kinds, drawn), abs=0.02)
    assert found.roc_area == pytest.approx(metrics.roc_auc_score(kinds, drawn), abs=0.01)


def test_always_no_is_as_right_as_pictures_are_empty():
    found = of(threshold=1, prevalence=0.07)
    assert found.always_no == found.accuracy == pytest.approx(0.93) and found.precision is None and found.f1 == 0
    assert not len(found.true_positives) and not len(found.false_positives)
    assert verdicts.of_always_no(found, "better").right
    assert verdicts.of_always_no(of(threshold=0.3, prevalence=0.5), "half").right
    assert verdicts.of_always_no(of(threshold=-1, prevalence=0.5)).answer == "better", "a coin beside always yes"


def test_a_dearer_false_accusation_asks_for_a_higher_threshold():
    cheap, even, dear = (of(cost=cost, prevalence=0.3) for cost in (0.01, 1, 100))
    assert cheap.cheapest[0] < even.cheapest[0] < dear.cheapest[0]
    for found in (cheap, even, dear):
        curve = found.curves
        by_hand = curve.price * 0.7 * curve.fpr + 0.3 * (1 - curve.tpr)
        assert np.allclose(by_hand, curve.cost) and found.cheapest[1] == by_hand.min()
        assert by_hand.min() <= min(curve.cost[0], curve.cost[-1]), "no dearer than always no or always yes"


def test_a_picture_at_the_threshold_is_a_yes():
    score = float(of().scores.max())
    assert len(of(threshold=score).true_positives) + len(of(threshold=score).false_positives) == 1


@pytest.mark.parametrize("word", ["cat", "car"])
def test_clip_is_better_than_chance(word):
    found = of(word=word)
    assert found.curves.roc_area > 0.8 and found.curves.average_precision > 4 * 0.07
    assert found.best_f1[1] >= found.f1 and found.best_f1[1] == found.curves.f1.max()
    assert verdicts.of_curves(found, "precision").right and verdicts.of_curves(found, "roc").right is False
    assert found.intervals[0] == wilson(len(found.true_positives), round(found.drawn * 100))


@pytest.mark.parametrize(
    "known", [{"prevalence": 0}, {"prevalence": 1}, {"threshold": float("nan")}, {"cost": 0}, {"word": "zeppelin"}]
)
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        ThresholdSettings(**known)


def test_numbers_are_json_with_their_baselines():
    for settings in (ThresholdSettings(), ThresholdSettings(threshold=1, cost=1000)):
        said = json.loads(json.dumps(numbers(settings, run(settings), "half"), allow_nan=False))
        assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
        assert said["verdict"]["right"] is False and said["baseline"]["always_no_accuracy"] == pytest.approx(0.93)
    assert said["least_cost"]["threshold"] is None or said["least_cost"]["cost"] < 0.07


def test_words_are_asked_one_by_one():
    one, other = of(word="cat"), of(word="dog")
    assert not np.array_equal(one.scores, other.scores)
    assert replace(one, threshold=0.1).recall == one.recall, "read from the curve, not from the number"
