"""Probes against what is known by hand, and against scikit-learn's where that is installed."""

import math

import pytest
import torch
import torch.nn.functional as F

from pipelines import probes
from pipelines.errors import UserError


def clusters(spread: float, seed: int = 0, count: int = 200, kinds: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    middles = torch.randn(kinds, 16, generator=torch.Generator().manual_seed(9))
    labels = torch.randint(kinds, (count,), generator=rng)
    return middles[labels] + spread * torch.randn(count, 16, generator=rng), labels


@pytest.mark.parametrize("accuracy", [probes.knn_accuracy, probes.ridge_accuracy])
def test_clear_clusters_are_named_and_noise_is_not(accuracy):
    assert accuracy(*clusters(0.1, 0), *clusters(0.1, 1)) == 1
    assert abs(accuracy(*clusters(100.0, 0, 1000), *clusters(100.0, 1, 1000)) - 0.2) < 0.08


def test_one_class_only_is_told():
    features, labels = clusters(1.0)
    for accuracy in (probes.knn_accuracy, probes.ridge_accuracy):
        with pytest.raises(UserError, match="same label"):
            accuracy(features, torch.zeros_like(labels), features, labels)


def test_a_ridge_probe_is_the_same_with_more_features_than_examples():
    """Features that are all 0 change nothing but the penalty, which grows with their number."""
    bank, labels = clusters(3.0, 0, 40)
    queries, truth = clusters(3.0, 1, 300)
    wide = torch.zeros(1, 16 * 9)
    many = [torch.cat([x, wide.expand(len(x), -1)], 1) for x in (bank, queries)]
    plain = probes.ridge_accuracy(bank, labels, queries, truth, 10.0)
    assert 0.2 < plain < 1 and probes.ridge_accuracy(many[0], labels, many[1], truth, 1.0) == plain


def test_neighbours_do_not_see_what_all_features_share():
    bank, labels = clusters(1.0, 0)
    queries, truth = clusters(1.0, 1)
    plain = probes.knn_accuracy(bank, labels, queries, truth)
    assert probes.knn_accuracy(bank + 50, labels, queries + 50, truth) == pytest.approx(plain, abs=0.02)


def test_a_majority_wins_and_then_the_nearest():
    bank = F.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [-3.4, -0.6]]), dim=1)
    queries = torch.tensor([[1.0, 0.0]])
    assert probes.knn(bank, torch.tensor([2, 1, 1, 0, 0]), queries, 3).item() == 1
    assert probes.knn(bank, torch.tensor([2, 1, 0, 0, 0]), queries, 3).item() == 2


def test_a_single_point_has_no_spread_and_no_rank():
    point = torch.ones(50, 8)
    assert probes.feature_std(point) < 1e-6 and probes.effective_rank(point) < 1.01 and probes.uniformity(point) > -1e-5
    assert probes.alignment(point, 3 * point) < 1e-12


def test_directions_everywhere_have_spread_one_and_all_ranks():
    normal = torch.randn(5000, 8, generator=torch.Generator().manual_seed(0))
    other = torch.randn(5000, 8, generator=torch.Generator().manual_seed(1))
    assert probes.feature_std(normal) == pytest.approx(1, abs=0.01)
    assert probes.effective_rank(normal) == pytest.approx(8, abs=0.05)
    assert probes.alignment(normal, other) == pytest.approx(2, abs=0.03)
    line = torch.randn(500, 1) * torch.randn(1, 8)
    assert probes.effective_rank(line) == pytest.approx(1, abs=1e-3)
    assert torch.isclose(probes.singular_values(normal).sum(), torch.ones((), dtype=torch.float64))


def test_uniformity_is_its_formula():
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
    wanted = torch.pdist(F.normalize(features, dim=1)).pow(2).mul(-2).exp().mean().log()
    assert probes.uniformity(features) == pytest.approx(float(wanted), abs=1e-5)


def test_entropy_of_the_even_and_the_certain():
    assert float(probes.entropy(torch.full((128,), 1 / 128))) == pytest.approx(math.log(128), abs=1e-5)
    assert float(probes.entropy(torch.tensor([1.0, 0, 0]))) == 0
