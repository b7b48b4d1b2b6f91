"""What features know, and whether they have collapsed, in numbers that need no training loop.

Features are (N, d) float tensors, labels (N,) integers.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.errors import UserError

NEIGHBOURS = 5


def _need_two(labels: Tensor) -> None:
    if len(labels.unique()) < 2:
        raise UserError("All pictures have the same label: there is nothing to tell apart. Take two kinds at least.")


def _prepared(bank: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    middle = bank.mean(0)
    return F.normalize(bank - middle, dim=1), F.normalize(queries - middle, dim=1)


def knn(bank: Tensor, labels: Tensor, queries: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """(M,) the label most of the nearest neighbours have, by the cosine of centred features; the nearer wins a tie.

    Centring makes features comparable that share a large common part, as those of a network after ReLU do.

    Raises:
        UserError: when all labels are the same.
    """
    _need_two(labels)
    bank, queries = _prepared(bank, queries)
    near = (queries @ bank.T).topk(min(neighbours, len(bank)), dim=1).indices
    votes = F.one_hot(labels[near], int(labels.max()) + 1).double()
    order = torch.linspace(1e-3, 0, near.shape[1], dtype=torch.float64)[:, None]  # breaks ties, changes no majority
    return (votes + votes * order / near.shape[1]).sum(1).argmax(1)


def knn_accuracy(bank: Tensor, labels: Tensor, queries: Tensor, truth: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Share of `queries`, (M, d), whose neighbours in `bank` tell their label."""
    return float((knn(bank, labels, queries, neighbours) == truth).double().mean())


def ridge_accuracy(bank: Tensor, labels: Tensor, queries: Tensor, truth: Tensor, strength: float = 1.0) -> float:
    """Share that a linear classifier tells right: ridge regression to one-hot labels, in closed form.

    Args:
        strength: of the penalty, on features of unit variance, times their number.

    Raises:
        UserError: when all labels are the same.
    """
    _need_two(labels)
    middle, spread = bank.mean(0), bank.std(0).clamp(min=1e-6)
    known, unknown = ((x - middle) / spread for x in (bank, queries))
    known, unknown = known.double(), unknown.double()
    wanted = F.one_hot(labels, int(labels.max()) + 1).double()
    offset, penalty = wanted.mean(0), strength * known.shape[1]
    if known.shape[1] <= len(known):
        system = known.T @ known + penalty * torch.eye(known.shape[1], dtype=torch.float64)
        answer = unknown @ torch.linalg.solve(system, known.T @ (wanted - offset))
    else:  # the same by a system of N equations instead of d
        system = known @ known.T + penalty * torch.eye(len(known), dtype=torch.float64)
        answer = unknown @ known.T @ torch.linalg.solve(system, wanted - offset)
    return float(((answer + offset).argmax(1) == truth).double().mean())


def feature_std(features: Tensor) -> float:
    """std·√d of the unit vectors: 1 when they point everywhere, 0 when they all point the same way.

    SimSiam's measure of collapse: Chen and He 2021, https://arxiv.org/abs/2011.10566, section 4.1.
    """
    return float(F.normalize(features, dim=1).std(0, unbiased=False).mean() * math.sqrt(features.shape[1]))


def singular_values(features: Tensor) -> Tensor:
    """(min(N, d),) of the centred unit vectors, largest first, as shares of their sum; zeros if that is 0."""
    unit = F.normalize(features, dim=1)
    values = torch.linalg.svdvals((unit - unit.mean(0)).double())
    return values / values.sum() if values.sum() > 0 else values


def effective_rank(features: Tensor) -> float:
    """e to the entropy of the singular values: how many directions are in use, 1 to d; 0 for a single point.

    Roy and Vetterli 2007, https://ieeexplore.ieee.org/document/7098875, definition 1.
    """
    shares = singular_values(features)
    return float(torch.exp(entropy(shares))) if shares.sum() > 0 else 0.0


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of the two unit vectors of each pair: 0 when views agree, 2 when they tell nothing of each
    other. Wang and Isola 2020, https://arxiv.org/abs/2005.10242, section 4.1.1, exponent 2."""
    return float((F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean())


def uniformity(features: Tensor) -> float:
    """Logarithm of the mean of e^(-2 distance²) over pairs of unit vectors: 0 for a single point, about -4 when they
    are spread evenly over many dimensions. Wang and Isola 2020, section 4.1.2, t = 2."""
    unit = F.normalize(features, dim=1)
    rows, columns = torch.triu_indices(len(unit), len(unit), 1)
    squared = (2 - 2 * (unit @ unit.T)[rows, columns]).clamp(min=0)
    return float(squared.mul(-2).exp().mean().log())


def entropy(shares: Tensor) -> Tensor:
    """(...) nats, of distributions along the last dimension, which sum to 1; 0 ln 0 is 0."""
    return torch.special.entr(shares).sum(-1)
