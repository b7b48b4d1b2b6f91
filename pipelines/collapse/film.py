"""Points of a film: small enough to be sent, and turned so that they do not jump."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def as_bytes(values: Tensor | np.ndarray) -> np.ndarray:
    """-1 to 1 as 0 to 255."""
    return np.clip(np.rint((np.asarray(values) + 1) * 127.5), 0, 255).astype(np.uint8)


class Plane:
    """The first two principal components of unit vectors, each time turned to be as near as possible to the time
    before: components alone change their signs and places from frame to frame. What is one point stays one point."""

    def __init__(self) -> None:
        self.before: Tensor | None = None

    def points(self, features: Tensor) -> np.ndarray:
        """(N, 2) uint8, -1 to 1 as 0 to 255, of (N, d)."""
        unit = F.normalize(features, dim=1).double()
        left, values, _ = torch.linalg.svd(unit - unit.mean(0), full_matrices=False)
        flat = left[:, :2] * values[:2]
        if self.before is not None:  # the best turn: Schönemann 1966, https://doi.org/10.1007/BF02289451
            u, _, v = torch.linalg.svd(flat.T @ self.before)
            flat = flat @ u @ v
        self.before = flat
        return as_bytes(flat)
