"""Vectors as points of a plane that does not jump from step to step."""

import numpy as np
import pytest
import torch

from pipelines.projection import Plane, principal_plane

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(40, 8)) * np.linspace(3, 1, 8)


def test_the_plane_holds_the_two_largest_variances():
    points = principal_plane(VECTORS)
    values = np.linalg.eigvalsh(np.cov(VECTORS.T))[::-1]
    assert points.var(0, ddof=1) == pytest.approx(values[:2]) and abs(points.mean(0)).max() < 1e-12


def test_a_turned_or_mirrored_beginning_is_met_again():
    points = principal_plane(VECTORS)
    turn = np.array([[np.cos(2.0), np.sin(2.0)], [np.sin(2.0), -np.cos(2.0)]])  # with a reflection
    np.testing.assert_allclose(principal_plane(VECTORS, points @ turn), points @ turn, atol=1e-9)


def test_small_changes_move_points_little():
    plane, moved = Plane(), torch.from_numpy(VECTORS)
    first = plane.points(moved).astype(int)
    for _ in range(5):
        moved = moved + 0.01 * torch.randn(moved.shape, generator=torch.Generator().manual_seed(1))
        assert np.abs(plane.points(moved).astype(int) - first).max() < 12
    assert first.min() >= 0 and first.max() <= 255 and len(np.unique(first)) > 20
