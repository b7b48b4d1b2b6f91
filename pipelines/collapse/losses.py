"""The objectives of four methods, each with the value it takes when everything has become one."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss (Chen et al. 2020, https://arxiv.org/abs/2002.05709, equation 1), over both views as queries.

    Args:
        first, second: (B, d) projections of the two views, of any length.
        temperature: above 0.
    """
    z = F.normalize(torch.cat([first, second]), dim=1)
    count = len(first)
    scores = (z @ z.T / temperature).masked_fill(torch.eye(2 * count, dtype=torch.bool), -math.inf)
    partner = torch.arange(2 * count).roll(count)
    return F.cross_entropy(scores, partner)


def nt_xent_collapsed(batch: int) -> float:
    """ln(2B - 1): all similarities equal, every one of the 2B - 1 others as likely as the partner."""
    return math.log(2 * batch - 1)


def negative_cosine(guess: Tensor, target: Tensor) -> Tensor:
    """Minus the mean cosine of rows: -1 at best, and when all vectors are one. SimSiam (Chen and He 2021,
    https://arxiv.org/abs/2011.10566, equation 1); BYOL's loss (Grill et al. 2020, https://arxiv.org/abs/2006.07733,
    equation 2) is 2 plus twice this."""
    return -F.cosine_similarity(guess, target, dim=1).mean()


def distillation(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """DINO's cross-entropy (Caron et al. 2021, https://arxiv.org/abs/2104.14294, equation 3, two global views).

    Args:
        student: (2, B, K) logits of the two views.
        teacher: (2, B, K) probabilities; view 1 teaches view 2 and the other way round.
    """
    return -(teacher.flip(0) * F.log_softmax(student / temperature, dim=-1)).sum(-1).mean()


def sinkhorn(logits: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """(N, K) assignments whose rows sum to 1 and whose columns share the rows evenly, after SwAV (Caron et al. 2020,
    https://arxiv.org/abs/2006.09882, section 3) and DINOv2 (Oquab et al. 2023, https://arxiv.org/abs/2304.07193,
    section 4)."""
    scaled = logits / temperature
    shares = torch.exp(scaled - scaled.max())
    for _ in range(rounds):
        shares = shares / shares.sum(0).clamp(min=1e-30)
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-30)
    return shares
