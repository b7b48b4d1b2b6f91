"""False and hard negatives: each loss against NT-Xent, the papers' formulas, lightly, and the truth."""

import json
import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from lightly.loss import NTXentLoss

from pipelines.contrast import matrix, negatives
from pipelines.contrast.negatives import Frame, Preparing, loss_of, numbers, of_views, read, run, terms
from pipelines.contrast.settings import LOSSES, MatrixSettings
from pipelines.contrast.settings import NegativesSettings as Settings
from pipelines.contrast.settings import ReadingSettings as Reading
from pipelines.contrast.verdicts import of_negatives
from pipelines.errors import UserError
from tests.pipelines.test_contrast_matrix import made

RNG = torch.Generator().manual_seed(0)
Z = torch.randn(24, 6, generator=RNG, dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 3, 3])


def nt_xent(z: torch.Tensor, temperature: float) -> torch.Tensor:
    """SimCLR, equation 1, as written in the paper."""
    z, count = torch.nn.functional.normalize(z, dim=1), len(z) // 2
    losses = []
    for i in range(len(z)):
        scores = torch.stack([torch.exp(z[i] @ z[k] / temperature) for k in range(len(z)) if k != i])
        losses.append(-torch.log(torch.exp(z[i] @ z[(i + count) % len(z)] / temperature) / scores.sum()))
    return torch.stack(losses).mean()


def mean(name: str, z=Z, labels=LABELS, temperature=0.5, eta=0.0, beta=0.0) -> float:
    return float(loss_of(name, z, labels, temperature, eta, beta)[0].loss.mean())


@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.5, 1.0])
def test_without_eta_and_beta_all_losses_are_nt_xent(temperature):
    expected = float(nt_xent(Z, temperature))
    for name in ("ntxent", "debiased", "hard"):
        assert abs(mean(name, temperature=temperature) - expected) < 1e-12, name
    peer = NTXentLoss(temperature=temperature)(*Z.chunk(2))
    assert abs(float(peer) - expected) < 1e-12, "lightly"


def test_told_distinct_labels_is_nt_xent():
    assert abs(mean("unbiased", labels=torch.arange(12)) - mean("ntxent")) < 1e-12
    assert mean("unbiased") != pytest.approx(mean("ntxent"), abs=1e-3)


def test_equal_vectors_cost_ln_2b_minus_1():
    for name in LOSSES:
        assert mean(name, z=torch.ones(24, 6, dtype=torch.float64)) == pytest.approx(math.log(23), abs=1e-12)


def test_debiased_and_hard_are_the_papers():
    """Robinson et al. 2021, section 3, query by query; with beta = 0 Chuang et al. 2020, section 3."""
    temperature, eta = 0.3, 0.1
    z, count = torch.nn.functional.normalize(Z, dim=1), 12
    for beta in (0.0, 1.0, 2.5):
        expected = []
        for i in range(24):
            others = [k for k in range(24) if k not in (i, (i + count) % 24)]
            positive = math.exp(float(z[i] @ z[(i + count) % 24]) / temperature)
            negative = np.array([math.exp(float(z[i] @ z[k]) / temperature) for k in others])
            importance = negative**beta
            reweighed = (importance * negative).sum() / importance.mean()
            total = (reweighed - eta * len(others) * positive) / (1 - eta)
            total = max(total, len(others) * math.exp(-1 / temperature))
            expected.append(-math.log(positive / (positive + total)))
        assert abs(mean("hard", temperature=temperature, eta=eta, beta=beta) - np.mean(expected)) < 1e-12


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_weights_have_mean_one_and_grow_with_similarity(beta):
    positive, others, _ = of_views(Z, LABELS, 0.1)
    weights = terms(positive, others, 0.1, beta=beta).weights
    assert torch.allclose(weights.mean(1), torch.ones(24, dtype=torch.float64), atol=1e-12)
    order = others[0].argsort()
    assert (weights[0][order].diff() >= 0).all() and (beta == 0) == (weights == 1).all()


def test_the_estimate_never_falls_under_what_a_cosine_can_be():
    temperature = 0.5
    for eta in (0.0, 0.3, 0.9):
        positive, others, _ = of_views(Z, LABELS, temperature)
        found = terms(positive, others, temperature, eta=eta)
        assert (found.estimate >= math.exp(-1 / temperature)).all() and torch.isfinite(found.loss).all()
    assert found.clamped.any(), "at 0.9 it would"


def test_false_negatives_are_the_other_pictures_of_the_same():
    _, others, false_negatives = of_views(Z, LABELS, 0.5)
    assert others.shape == false_negatives.shape == (24, 22)
    assert false_negatives.sum(1).tolist() == [4] * 24, "two other pictures in two views each"


# ----------------------------------------------------------------------------------------------------------------- read


def test_what_is_read_is_the_matrix():
    """With everything off the pushes are those of the lesson before, whose closed form is the derivative."""
    encoded = made()
    found = read(Reading(), encoded)
    slope = matrix.read(MatrixSettings(temperature=0.2, direction="rows"), encoded).slope
    assert np.abs(found.pushes - np.where(np.eye(8), 0, slope)).max() < 1e-12
    assert np.array_equal(found.pushes, found.pushes_plain) and abs(found.loss - found.loss_plain) < 1e-15
    assert not found.false_negatives.any() and found.weight_false_negatives is None and found.share_false_negatives == 0


def test_hardness_weighs_false_negatives_most_and_labels_leave_them_out():
    pictures, captions, nouns = matrix.example(5, kinds=4)
    encoded = matrix.encode(MatrixSettings(), pictures, captions)
    plain, hard = read(Reading(), encoded, nouns), read(Reading(beta=2.0), encoded, nouns)
    assert plain.share_false_negatives == pytest.approx(1 / 7) and plain.weight_false_negatives == 1
    assert hard.weight_false_negatives > 1.5 and hard.push_false_negatives[0] > hard.push_false_negatives[1]
    told = read(Reading(unbiased=True), encoded, nouns)
    assert told.weight_false_negatives == 0 and told.push_false_negatives[0] == 0 and told.loss < plain.loss
    said = json.loads(json.dumps(negatives.read_numbers(hard), allow_nan=False))
    assert said["weight_false_negatives"] == hard.weight_false_negatives and said["baseline"]["loss"] == plain.loss
    less = read(Reading(eta=1 / 7), encoded, nouns)
    assert less.estimate.mean() < plain.estimate.mean() and less.loss < plain.loss


def test_equal_captions_are_false_negatives():
    encoded = made(4)
    same = replace(encoded, captions=("a cat", "A  cat", "a dog", "a car"))
    assert read(Reading(), same).false_negatives.sum() == 2


@pytest.mark.parametrize(
    "labels, n, said",
    [(["cat"] * 8, 8, "All pairs show the same, cat"), (["cat", "dog"], 8, "got 2 for 8"), (None, 2, "at least 3")],
)
def test_what_has_no_negatives_is_said(labels, n, said):
    with pytest.raises(UserError, match=said):
        read(Reading(), made(n), labels)


@pytest.mark.parametrize("bad", [{"eta": 1.0}, {"beta": float("nan")}, {"temperature": 0}, {"unbiased": "yes"}])
def test_readings_have_limits(bad):
    with pytest.raises(UserError):
        read(Reading(**bad), made())


# ---------------------------------------------------------------------------------------------------------------- train


@pytest.fixture
def small(monkeypatch):
    """A fifth of the pictures."""
    for name, seeds in (("TRAINING", negatives.TRAINING), ("BANK", negatives.BANK), ("TEST", negatives.TEST)):
        monkeypatch.setattr(negatives, name, seeds[: len(seeds) // 5])
    monkeypatch.setattr(negatives, "POINTS", 64)
    negatives.baselines.cache_clear()
    yield
    negatives.baselines.cache_clear()


def frames(settings: Settings) -> list[Frame]:
    return [each for each in run(settings) if isinstance(each, Frame)]


def test_two_runs_share_weights_and_batches(small):
    found = frames(Settings(a="ntxent", b="debiased", eta=0.0, batch=32, steps=4))
    assert [frame.a.step for frame in found] == [0, 1, 2, 3, 4], "so that a curve moves at every step"
    assert [frame.a.placed for frame in found] == [0, 0, 2, 2, 4]
    for frame in found:
        assert np.array_equal(frame.a.points, frame.b.points)
        assert frame.a.share_false_negatives == frame.b.share_false_negatives
    assert found[0].a.loss is None and found[0].a.knn == found[0].baselines.untrained
    assert 0.08 < found[-1].a.share_false_negatives < 0.25 and found[-1].a.weight_false_negatives == 1


def test_a_run_begins_with_the_pictures_as_they_are_drawn(small):
    first = next(run(Settings(steps=2)))
    assert isinstance(first, Preparing) and first.done <= first.of and first.pictures.shape[1:] == (32, 32, 3)


def test_the_same_seed_is_the_same_run_on_one_and_on_two_threads(small):
    runs, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs.append([(f.a.loss, f.b.loss, f.a.knn, f.b.points.tobytes()) for f in frames(Settings(batch=32, steps=4))])
    torch.set_num_threads(before)
    assert runs[0] == runs[1]
    assert runs[0][-1][0] != frames(Settings(batch=32, steps=4, seed=1))[-1].a.loss


def test_leaving_ends_the_training(small):
    import threading

    before = threading.active_count()
    running = run(Settings(batch=32, steps=400))
    list(islice(running, 9))
    running.close()
    assert threading.active_count() == before


def test_training_learns(small):
    found = frames(Settings(a="ntxent", b="unbiased", batch=48, steps=16))
    for arm in (found[-1].a, found[-1].b):
        assert arm.loss < math.log(95) - 0.1, "below that of equal vectors"
    assert found[-1].b.weight_false_negatives == 0 and found[-1].b.knn > found[-1].baselines.chance * 2


@pytest.mark.parametrize("bad", [{"batch": 1}, {"temperature": 0.0}, {"steps": 10**6}, {"a": "triplet"}])
def test_training_has_limits(bad):
    with pytest.raises(UserError, match="must be"):
        next(run(Settings(**bad)))


def test_the_smallest_batch_is_two(small):
    assert math.isfinite(frames(Settings(batch=2, steps=2))[-1].b.loss)


def frame(a: float, b: float) -> Frame:
    one, other = (
        negatives.Arm(
            step=160,
            loss=4.0,
            share_false_negatives=1 / 6,
            weight_false_negatives=1.2,
            clamped=0.0,
            knn=knn,
            measured=160,
            points=np.zeros((1, 2)),
            placed=160,
        )
        for knn in (a, b)
    )
    before = negatives.Baselines(chance=1 / 6, pixels=0.8, untrained=0.65)
    return Frame(a=one, b=other, steps=160, nouns=np.zeros(1, int), baselines=before, seconds=35.0)


@pytest.mark.parametrize("b, answer", [(0.954, "more"), (0.885, "same"), (0.80, "less")])
def test_a_difference_is_one_from_1_96_standard_errors_on(b, answer):
    said = of_negatives(frame(0.87, b), "more")
    assert said.answer == answer and said.right == (answer == "more") and "87.0%" in said.text


def test_numbers_are_json_with_their_baselines():
    said = json.loads(json.dumps(numbers(Settings(), frame(0.87, 0.954), "same"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["a"]["method"] == "ntxent" and said["baseline"]["untrained"] == 0.65
    assert said["verdict"]["right"] is False
