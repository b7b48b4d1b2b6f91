"""Two players: the losses of two moments are equal, and their pictures could not differ more.

A generator makes points out of noise, a discriminator tells them from true ones, eight Gaussians on a circle, of which
everything is known. The discriminator's loss is L_D = -E ln D(x) - E ln(1 - D(G(z))), the generator's the one that does
not saturate, L_G = -E ln D(G(z)) (Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, section 3). Where D cannot
tell, D = 1/2, they are 2 ln 2 and ln 2, whether the points are good or D is blind: a loss is a reading of the *game*,
not of the points. The critic of WGAN-GP (Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, equation 3) estimates
a distance instead, as far as it is trained well.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from pipelines.errors import NotFinite
from pipelines.games.settings import PlayersSettings
from pipelines.games.verdicts import of_players
from pipelines.one_core import one_core

MODES, SPREAD = 8, 0.05  # Gaussians on the unit circle, and their standard deviation
NOISE, WIDTH, BATCH = 8, 64, 128
BETAS = {"gan": (0.5, 0.999), "wgan": (0.5, 0.9)}  # of Adam
EVERY = 100  # steps between two frames; losses are means over them
SAMPLES = 1024  # points that quality is measured on
SHOWN = 512
NEAR = 4  # standard deviations from a mode a good point is at most away
FOUND = 0.01  # share of the points that makes a mode found
DIRECTIONS = 64
FIELD, REACH = 32, 1.6  # the discriminator's opinion: places along a side, and how far out
PENALTY = 0.1  # the paper's 10 is for photographs; its authors' code has 0.1 for points of a plane
ALIKE = 0.03  # losses that differ by no more are called equal


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The game after some steps."""

    step: int
    steps: int
    loss_critic: float  # mean of the last EVERY steps; of the first batch before the first
    loss_generator: float
    distance: float  # sliced Wasserstein-1 distance of the points to true ones
    floor: float  # the same between two sets of true points
    modes: int  # found, of MODES
    good: float  # share of points within NEAR standard deviations of a mode
    points: np.ndarray  # (SHOWN, 2) float32
    field: np.ndarray  # (FIELD, FIELD) uint8: the discriminator's opinion, from -REACH to REACH, 0 to 255
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Two frames whose losses agree within ALIKE."""

    earlier: int  # places in the film
    later: int
    ratio: float  # of their distances, the larger by the smaller


# ------------------------------------------------------------------------------------------------- points and quality


def modes() -> Tensor:
    """(MODES, 2) on the unit circle."""
    angles = 2 * math.pi * torch.arange(MODES) / MODES
    return torch.stack([angles.cos(), angles.sin()], 1)


def true_points(count: int, rng: torch.Generator) -> Tensor:
    """(count, 2)."""
    which = torch.randint(MODES, (count,), generator=rng)
    return modes()[which] + SPREAD * torch.randn(count, 2, generator=rng)


def sliced_distance(one: Tensor, two: Tensor) -> float:
    """Mean over DIRECTIONS of the Wasserstein-1 distance of two equally large sets of points, (N, 2), seen from there.

    Bonneel et al. 2015, https://doi.org/10.1007/s10851-014-0506-3; in one dimension, of sorted points.
    """
    angles = math.pi * torch.arange(DIRECTIONS) / DIRECTIONS
    directions = torch.stack([angles.cos(), angles.sin()])
    return float(((one @ directions).sort(0).values - (two @ directions).sort(0).values).abs().mean())


def quality(points: Tensor) -> tuple[int, float]:
    """How many modes are found, and the share of points near one."""
    nearest = torch.cdist(points, modes()).min(1)
    near = nearest.values <= NEAR * SPREAD
    counts = torch.bincount(nearest.indices[near], minlength=MODES)
    return int((counts >= FOUND * len(points)).sum()), float(near.double().mean())


# ---------------------------------------------------------------------------------------------------------- the players


def perceptron(inside: int, outside: int, rng: torch.Generator) -> nn.Sequential:
    """Two hidden layers of WIDTH; weights within one over the root of the inputs, biases 0."""
    layers = [nn.Linear(inside, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, outside)]
    for layer in layers:
        nn.init.kaiming_uniform_(layer.weight, math.sqrt(5), generator=rng)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def critic_loss(true: Tensor, made: Tensor, method: str = "gan") -> Tensor:
    """Of the discriminator's logits, or the critic's scores, of true and made points; without the penalty."""
    return F.softplus(-true).mean() + F.softplus(made).mean() if method == "gan" else made.mean() - true.mean()


def generator_loss(made: Tensor, method: str = "gan") -> Tensor:
    return F.softplus(-made).mean() if method == "gan" else -made.mean()


def gradient_penalty(critic: nn.Module, true: Tensor, made: Tensor, rng: torch.Generator) -> Tensor:
    """PENALTY times the mean squared distance of the slope's length from 1, between true and made points."""
    share = torch.rand(len(true), 1, generator=rng)
    between = (share * true + (1 - share) * made).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return PENALTY * (slope.norm(dim=1) - 1).square().mean()


class Game:
    """Both players, their optimisers and their random numbers."""

    def __init__(self, settings: PlayersSettings):
        self.settings, self.betas = settings, BETAS[settings.method]
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.generator = perceptron(NOISE, 2, self.rng)
        self.by_generator = torch.optim.Adam(
            self.generator.parameters(), settings.rate_generator, BETAS[settings.method]
        )
        self.frozen = False
        self.restart()

    def restart(self) -> None:
        """A discriminator with random weights."""
        self.critic = perceptron(2, 1, self.rng)
        self.by_critic = torch.optim.Adam(
            self.critic.parameters(), self.settings.rate_critic, BETAS[self.settings.method]
        )

    def made(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        return self.generator(torch.randn(count, NOISE, generator=rng or self.rng))

    def losses(self) -> tuple[Tensor, Tensor]:
        """Of one batch, both; nobody learns."""
        with torch.no_grad():
            made = self.critic(self.made(BATCH))
            true = self.critic(true_points(BATCH, self.rng))
            return critic_loss(true, made, self.settings.method), generator_loss(made, self.settings.method)

    def step(self) -> tuple[Tensor, Tensor]:
        """The discriminator's steps, then one of the generator: their losses, as each saw it."""
        method = self.settings.method
        for _ in range(self.settings.critic_steps):
            true = true_points(BATCH, self.rng)
            with torch.no_grad():
                made = self.made(BATCH)
            loss = critic_loss(self.critic(true), self.critic(made), method)
            if not self.frozen:
                penalty = gradient_penalty(self.critic, true, made, self.rng) if method == "wgan" else 0.0
                self.by_critic.zero_grad()
                (loss + penalty).backward()
                self.by_critic.step()
        hers = generator_loss(self.critic(self.made(BATCH)), method)
        self.by_generator.zero_grad()
        hers.backward()
        self.by_generator.step()
        return loss.detach(), hers.detach()

    @torch.no_grad()
    def field(self) -> np.ndarray:
        """(FIELD, FIELD) uint8: D from 0 to 1; of a critic, its scores from the least to the most."""
        line = torch.linspace(-REACH, REACH, FIELD)
        places = torch.stack(torch.meshgrid(line, line.flip(0), indexing="xy"), 2).view(-1, 2)
        scores = self.critic(places).view(FIELD, FIELD)
        if self.settings.method == "gan":
            shares = scores.sigmoid()
        else:
            shares = (scores - scores.min()) / (scores.max() - scores.min()).clamp(min=1e-9)
        return (255 * shares).round().to(torch.uint8).numpy()


# ----------------------------------------------------------------------------------------------------------- the lesson


@one_core
def run(settings: PlayersSettings) -> Iterator[Frame]:
    """The game, a frame every EVERY steps. Closing it ends the game.

    Raises:
        NotFinite: when a loss is no number any more.
    """
    start, game = time.perf_counter(), Game(settings)
    apart = torch.Generator().manual_seed(settings.seed + 1)
    asked = torch.randn(SAMPLES, NOISE, generator=apart)
    truth, again = true_points(SAMPLES, apart), true_points(SAMPLES, apart)
    floor = sliced_distance(truth, again)
    seen = [game.losses()]
    for step in range(settings.steps + 1):
        if step:
            if 2 * step == settings.steps and settings.meddling != "none":
                game.frozen = settings.meddling == "freeze"
                if settings.meddling == "restart":
                    game.restart()
            seen.append(game.step())
        if step % EVERY:
            continue
        critic, generator = (float(torch.stack(each).mean()) for each in zip(*seen, strict=True))
        seen = []
        if not math.isfinite(critic + generator):
            raise NotFinite("The losses are no numbers any more: a learning rate is too high. Choose smaller ones.")
        with torch.no_grad():
            points = game.generator(asked)
        found, good = quality(points)
        yield Frame(
            step=step,
            steps=settings.steps,
            loss_critic=critic,
            loss_generator=generator,
            distance=sliced_distance(points, truth),
            floor=floor,
            modes=found,
            good=good,
            points=points[:SHOWN].numpy().copy(),
            field=game.field(),
            seconds=time.perf_counter() - start,
        )


def twins(film: Sequence[Frame]) -> Twins | None:
    """The two moments with equal losses and the most different distances; None where no losses are equal."""
    best: Twins | None = None
    for i, one in enumerate(film):
        for j in range(i + 1, len(film)):
            two = film[j]
            gaps = (one.loss_critic - two.loss_critic, one.loss_generator - two.loss_generator)
            if max(map(abs, gaps)) > ALIKE:
                continue
            ratio = max(one.distance, two.distance) / max(min(one.distance, two.distance), 1e-9)
            if best is None or ratio > best.ratio:
                best = Twins(earlier=i, later=j, ratio=ratio)
    return best


def correlations(film: Sequence[Frame]) -> dict[str, float | None]:
    """Spearman's rank correlation of each loss with the distance, of all frames and of those before the distance first
    comes within half of its floor; None of fewer than three, or where nothing changes."""
    first = next((i for i, frame in enumerate(film) if frame.distance < 1.5 * frame.floor), len(film))
    found: dict[str, float | None] = {}
    for when, frames in (("all", film), ("before_the_floor", film[:first])):
        for name in ("loss_critic", "loss_generator"):
            losses = [getattr(frame, name) for frame in frames]
            few = len(frames) < 3 or len(set(losses)) < 2
            value = math.nan if few else spearmanr(losses, [frame.distance for frame in frames]).statistic
            found[f"{name}_{when}"] = float(value) if math.isfinite(value) else None
    return found


def numbers(settings: PlayersSettings, film: Sequence[Frame], guess: str | None = None) -> dict:
    """The JSON of the endpoint, of the whole film."""
    last, pair = film[-1], twins(film)

    def told(frame: Frame) -> dict:
        names = ("step", "loss_critic", "loss_generator", "distance", "modes", "good")
        return {name: getattr(frame, name) for name in names}

    return {
        "seed": settings.seed,
        "steps": last.step,
        "seconds": round(last.seconds, 3),
        "method": settings.method,
        **told(last),
        "twins": pair and {"first": told(film[pair.earlier]), "second": told(film[pair.later]), "ratio": pair.ratio},
        "rank_correlation_with_distance": correlations(film),
        "baseline": {
            "distance_floor": last.floor,
            "distance_untrained": film[0].distance,
            "loss_critic_blind": 2 * math.log(2) if settings.method == "gan" else 0.0,
            "loss_generator_blind": math.log(2) if settings.method == "gan" else None,
        },
        "verdict": of_players(film, pair, settings.seed, guess).record(),
    }
