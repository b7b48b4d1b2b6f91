"""What a contrastive loss can know: a bound on mutual information that never says more than ln N.

Two vectors of `d` Gaussian numbers, pairwise correlated by r, tell -d/2 ln(1 - r^2) nats of each other. InfoNCE with N
pairs estimates that by ln N - L, where L is the loss of picking the partner among N (van den Oord et al. 2018,
https://arxiv.org/abs/1807.03748, section 2.3): a lower bound in the mean, and because L >= 0 never above ln N (Poole et
al. 2019, https://arxiv.org/abs/1905.06922, section 2.2). The exact critic is the density ratio p(y | x) / p(y); the
trained one is a product of two small networks that starts knowing nothing.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.contrast.settings import SIZES, InformationSettings
from pipelines.contrast.verdicts import of_information
from pipelines.one_core import one_core
from pipelines.settings import checked

PAIRS = 8192  # each exact estimate is the mean over so many pairs, in batches of N
EVERY = 10  # steps of the trained critic between two pictures
SHOWN = 32  # rows and columns of the drawn logits, at most


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The estimates so far. Everything in nats."""

    step: int  # of training; with the exact critic, how many sizes are done
    steps: int
    truth: float
    sizes: np.ndarray  # (S,) the N estimated so far with the exact critic
    exact: np.ndarray  # (S,) ln N - L with the exact critic
    batch: int  # the chosen N
    estimate: float  # ln N - L at the chosen N with the chosen critic
    course: np.ndarray  # (T, 2) step and estimate on never-seen pairs, of the trained critic; its first is untrained
    logits: np.ndarray  # (n, n) of the chosen critic on some of the pairs, n at most SHOWN
    critic: str
    seconds: float

    @property
    def ceiling(self) -> float:
        """ln N of the chosen N."""
        return math.log(self.batch)

    @property
    def untrained(self) -> float | None:
        return float(self.course[0, 1]) if len(self.course) else None


def negatives_of(batch: int) -> int:
    """Negatives of one view in SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709, section 2.2): 2 (B - 1)."""
    return 2 * (batch - 1)


def collapsed_loss(batch: int) -> float:
    """NT-Xent where all vectors are equal: ln(2B - 1), the positive being one of 2B - 1 alike."""
    return math.log(negatives_of(batch) + 1)


def draw(count: int, dimensions: int, correlation: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two (count, d) float64, standard normal, correlated number by number."""
    x, noise = torch.randn(2, count, dimensions, generator=rng, dtype=torch.float64)
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def exact_logits(x: Tensor, y: Tensor, correlation: float) -> Tensor:
    """ln p(y | x) / p(y) of every x (..., N, d) with every y (..., N, d): (..., N, N)."""
    scale = 1 / (1 - correlation**2)
    squares = (correlation * x).square().sum(-1)[..., :, None] + (correlation * y).square().sum(-1)[..., None, :]
    constant = x.shape[-1] / 2 * math.log(scale)
    return constant + scale * (correlation * x @ y.transpose(-1, -2) - squares / 2)


def bound(logits: Tensor) -> float:
    """ln N - L of logits (..., N, N): at most ln N, whatever the critic."""
    surprise = logits.logsumexp(-1) - logits.diagonal(dim1=-2, dim2=-1)  # rounding must not make it negative
    return math.log(logits.shape[-1]) - float(surprise.clamp(min=0).mean())


def exact_estimate(size: int, dimensions: int, correlation: float, rng: torch.Generator) -> float:
    """The mean of the bound over PAIRS pairs, batches of `size`."""
    x, y = draw(PAIRS, dimensions, correlation, rng)
    pieces = zip(x.view(-1, size, dimensions).split(64), y.view(-1, size, dimensions).split(64), strict=True)
    found = [(bound(exact_logits(a, b, correlation)), len(a)) for a, b in pieces]
    return sum(value * count for value, count in found) / sum(count for _, count in found)


class Critic(nn.Module):
    """Scores every x with every y by the product of what two networks make of them."""

    def __init__(self, dimensions: int, rng: torch.Generator, width: int = 128, code: int = 64):
        super().__init__()

        def tower() -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(dimensions, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, code)
            )

        self.x, self.y = tower(), tower()
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.kaiming_normal_(weight, generator=rng)
            else:
                nn.init.zeros_(weight)
        self.requires_grad_()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        codes, others = self.x(x.float()), self.y(y.float())
        return codes @ others.transpose(-1, -2) / codes.shape[-1] ** 0.5


@one_core
def run(settings: InformationSettings) -> Iterator[Estimate]:
    """The estimate for one N after the other; with the trained critic, its course at the chosen N as well.

    Raises:
        UserError: for a setting out of its limits.
    """
    settings = checked(InformationSettings, vars(settings))
    start = time.perf_counter()
    d, r, batch = settings.dimensions, settings.correlation, settings.batch
    rng = torch.Generator().manual_seed(settings.seed)
    truth, trains = settings.truth, settings.critic == "trained"
    steps = settings.steps if trains else len(SIZES)
    test_x, test_y = (each.view(-1, batch, d) for each in draw(max(2048, batch), d, r, rng))
    critic: Critic | Callable[[Tensor, Tensor], Tensor]
    critic = Critic(d, rng) if trains else lambda x, y: exact_logits(x, y, r)
    sizes: list[int] = []
    exact: list[float] = []
    course: list[tuple[int, float]] = []

    def now(step: int) -> Estimate:
        with torch.no_grad():
            logits = critic(test_x, test_y)
            estimate = bound(logits)
        if trains and len(sizes) == len(SIZES):
            course.append((step, estimate))
        return Estimate(
            step=step,
            steps=steps,
            truth=truth,
            sizes=np.array(sizes),
            exact=np.array(exact),
            batch=batch,
            estimate=estimate if trains or batch not in sizes else exact[sizes.index(batch)],
            course=np.array(course).reshape(-1, 2),
            logits=logits[0, :SHOWN, :SHOWN].double().numpy(),
            critic=settings.critic,
            seconds=time.perf_counter() - start,
        )

    for size in SIZES:
        sizes.append(size)
        exact.append(exact_estimate(size, d, r, rng))
        yield now(0 if trains else len(sizes))
    if not isinstance(critic, Critic):
        return
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)  # the first of a process takes its time
    for step in range(1, steps + 1):
        logits = critic(*draw(batch, d, r, rng))
        loss = nn.functional.cross_entropy(logits, torch.arange(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVERY == 0 or step == steps:
            yield now(step)


def numbers(settings: InformationSettings, found: Estimate, guess: str | None = None) -> dict:
    """The JSON of the endpoint."""
    return {
        "seed": settings.seed,
        "steps": found.step,
        "seconds": round(found.seconds, 3),
        "truth": found.truth,
        "batch": found.batch,
        "estimate": found.estimate,
        "ln_n": found.ceiling,
        "sizes": found.sizes.tolist(),
        "estimates_exact": found.exact.tolist(),
        "critic": found.critic,
        "negatives": negatives_of(found.batch),
        "collapsed_loss": collapsed_loss(found.batch),
        "baseline": {"critic_that_knows_nothing": 0.0, "untrained": found.untrained, "ln_n": found.ceiling},
        "verdict": of_information(found, guess).record(),
    }
