"""Vectors as points of a plane, from step to step: their first two principal components, aligned so that nothing jumps.

PCA's axes have no sign and may change places from one step to the next. Each time the points are rotated or mirrored to
lie as near as possible to those of the time before: the orthogonal Procrustes problem (Schönemann 1966,
https://doi.org/10.1007/BF02289451).
"""

import numpy as np
import torch.nn.functional as F
from scipy.linalg import orthogonal_procrustes
from torch import Tensor


def principal_plane(vectors: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """(N, 2) float64, the first two principal components of (N, d), aligned with the points `before`."""
    centred = vectors.astype(float) - vectors.mean(0, dtype=float)
    points = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    return points if before is None else points @ orthogonal_procrustes(points, before)[0]


def as_bytes(values: np.ndarray) -> np.ndarray:
    """-1 to 1 as 0 to 255."""
    return np.clip(np.rint((values + 1) * 127.5), 0, 255).astype(np.uint8)


class Plane:
    """The plane of unit vectors over a training run. What is one point stays one point."""

    def __init__(self) -> None:
        self.before: np.ndarray | None = None

    def points(self, features: Tensor) -> np.ndarray:
        """(N, 2) uint8, -1 to 1 as 0 to 255, of (N, d)."""
        self.before = principal_plane(F.normalize(features, dim=1).double().numpy(), self.before)
        return as_bytes(self.before)
