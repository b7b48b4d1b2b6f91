"""Vectors as points of a film: their two main axes, turned so that nothing jumps."""

import numpy as np


def two_axes(vectors: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """(N, 2) float64: the first two principal components of (N, d), rotated or mirrored to lie on the points before,
    for PCA's axes have no sign (Schönemann 1966, https://doi.org/10.1007/BF02289451)."""
    centred = vectors.astype(float) - vectors.mean(0)
    points = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    if before is None:
        return points
    left, _, right = np.linalg.svd(points.T @ before)
    return points @ (left @ right)
