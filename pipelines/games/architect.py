"""The architect: a controller learns which networks to train, beside random search and evolution, on a known table.

The controller is an LSTM that decides input size, layers and channels one after another; what it chose is trained, and
the accuracy is its reward. It follows the policy gradient E[(R - b) d ln p(choice)], REINFORCE with a moving mean as
the baseline b (Zoph and Le 2017, https://arxiv.org/abs/1611.01578, section 3.2). Random search is a strong opponent (Li
and Talwalkar 2020, https://arxiv.org/abs/1902.07638); evolution changes one decision of the best of a few and forgets
its eldest (Real et al. 2019, https://arxiv.org/abs/1802.01548, algorithm 1). All children are in the table, so the
optimum is known, and a search takes a second.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.games.children import multiplications
from pipelines.games.settings import CHILDREN, DECISIONS, ArchitectSettings, child_name
from pipelines.games.verdicts import of_architect
from pipelines.one_core import one_core

OPTIONS = tuple(len(values) for values in DECISIONS.values())  # 3, 4, 3
HIDDEN = 32
BATCH = 4  # children between two updates of the controller
MOMENTUM = 0.8  # of the baseline
POPULATION, TOURNAMENT = 12, 4
LAST = 10  # children that "in the end" means
WAYS = ("controller", "random", "evolution")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What one way of choosing has trained, in order."""

    chosen: np.ndarray  # (n,) index into CHILDREN
    rewards: np.ndarray  # (n,)

    @property
    def best(self) -> np.ndarray:
        """(n,) the highest reward so far."""
        return np.maximum.accumulate(self.rewards)

    @property
    def in_the_end(self) -> float:
        """Mean reward of the LAST children."""
        return float(self.rewards[-LAST:].mean())


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One seed's searches are done; the controller's film is that of the first seed."""

    seed: int
    done: int
    of: int
    searches: tuple[dict[str, Search], ...]  # of every seed so far, by WAYS
    film: (
        np.ndarray
    )  # (updates + 1, 10) float32: probabilities of the 3, 4 and 3 options, at the first decision's state
    table: np.ndarray  # (36,) reward of each of CHILDREN
    seconds: float

    @property
    def optimum(self) -> float:
        return float(self.table.max())

    def mean(self, way: str, what: str) -> tuple[float, float]:
        """Mean and standard deviation over seeds of "best" or "in_the_end"."""
        values = [getattr(each[way], what) for each in self.searches]
        last = [float(value[-1]) if isinstance(value, np.ndarray) else value for value in values]
        return float(np.mean(last)), float(np.std(last, ddof=1)) if len(last) > 1 else 0.0


# ------------------------------------------------------------------------------------------------------ the controller


class Controller(nn.Module):
    """An LSTM that makes three decisions, each seen by the next."""

    def __init__(self, rng: torch.Generator):
        super().__init__()
        self.cell = nn.LSTMCell(HIDDEN, HIDDEN)
        self.begin = nn.Parameter(torch.zeros(HIDDEN))
        self.told = nn.ModuleList(nn.Embedding(count, HIDDEN) for count in OPTIONS[:-1])
        self.heads = nn.ModuleList(nn.Linear(HIDDEN, count) for count in OPTIONS)
        with torch.no_grad():
            for weight in self.parameters():
                weight.uniform_(-0.1, 0.1, generator=rng)  # as in section 4.1 of the paper, nearly even choices

    def forward(self, choices: Tensor) -> list[Tensor]:
        """(B, 3) integers -> for each decision (B, options) log-probabilities, given the choices before it."""
        state = None
        seen = self.begin.expand(len(choices), -1)
        found = []
        for decision, head in enumerate(self.heads):
            state = self.cell(seen, state)
            found.append(head(state[0]).log_softmax(1))
            if decision < len(self.told):
                seen = self.told[decision](choices[:, decision])
        return found

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """(count, 3)."""
        choices = torch.zeros(count, len(OPTIONS), dtype=torch.long)
        for decision in range(len(OPTIONS)):
            shares = self(choices)[decision].exp()
            choices[:, decision] = torch.multinomial(shares, 1, generator=rng)[:, 0]
        return choices

    def log_probability(self, choices: Tensor) -> Tensor:
        """(B,) of whole children."""
        parts = zip(self(choices), choices.T, strict=True)
        return torch.stack([each.gather(1, column[:, None])[:, 0] for each, column in parts]).sum(0)


ALL = torch.cartesian_prod(*(torch.arange(count) for count in OPTIONS))  # (36, 3), in the order of CHILDREN


def index_of(choices: Tensor) -> Tensor:
    """(B, 3) -> (B,) place in CHILDREN."""
    return (choices[:, 0] * OPTIONS[1] + choices[:, 1]) * OPTIONS[2] + choices[:, 2]


def surrogate(log_probability: Tensor, rewards: Tensor, baseline: Tensor | float) -> Tensor:
    """(B,) whose gradient is one sample of the policy gradient: (R - b) ln p."""
    return (rewards - baseline) * log_probability


def marginals(controller: Controller) -> np.ndarray:
    """(10,) float32: how likely each option of each decision is, over all children."""
    with torch.no_grad():
        shares = controller.log_probability(ALL).exp()
    parts = [F.one_hot(ALL[:, d], count).to(shares).T @ shares for d, count in enumerate(OPTIONS)]
    return torch.cat(parts).float().numpy()


def by_controller(table: Tensor, settings: ArchitectSettings, seed: int) -> tuple[Search, np.ndarray]:
    """What a controller trains while it learns, and its film (updates + 1, 10)."""
    rng = torch.Generator().manual_seed(seed)
    controller = Controller(rng)
    optimizer = torch.optim.Adam(controller.parameters(), settings.rate)
    chosen: list[Tensor] = []
    film = [marginals(controller)]
    baseline: Tensor | None = None
    while len(chosen) * BATCH < settings.children:
        choices = controller.sample(BATCH, rng)
        places = index_of(choices)
        rewards = table[places]
        usual = baseline if baseline is not None else rewards.mean()
        gain = surrogate(controller.log_probability(choices), rewards, usual if settings.baseline else 0.0).mean()
        if settings.entropy:
            shares = [each.exp() * each for each in controller(choices)]
            gain = gain - settings.entropy * torch.cat(shares, 1).sum(1).mean()
        optimizer.zero_grad()
        (-gain).backward()
        optimizer.step()
        baseline = MOMENTUM * usual + (1 - MOMENTUM) * rewards.mean()
        chosen.append(places)
        film.append(marginals(controller))
    return _search(torch.cat(chosen), table), np.stack(film)


def by_random(table: Tensor, count: int, seed: int) -> Search:
    return _search(torch.randint(len(table), (count,), generator=torch.Generator().manual_seed(seed)), table)


def by_evolution(table: Tensor, count: int, seed: int) -> Search:
    """Regularised evolution: the best of TOURNAMENT gets a child with one decision changed, the eldest leaves."""
    rng = np.random.default_rng(seed)
    chosen = [int(place) for place in rng.integers(len(table), size=min(POPULATION, count))]
    alive = list(chosen)
    while len(chosen) < count:
        asked = rng.choice(alive, TOURNAMENT)
        parent = ALL[int(asked[np.argmax(table[asked].numpy())])].clone()
        decision = int(rng.integers(len(OPTIONS)))
        parent[decision] = (parent[decision] + 1 + int(rng.integers(OPTIONS[decision] - 1))) % OPTIONS[decision]
        chosen.append(int(index_of(parent[None])))
        alive = [*alive[1:], chosen[-1]]
    return _search(torch.tensor(chosen), table)


def _search(chosen: Tensor, table: Tensor) -> Search:
    return Search(chosen=chosen.numpy(), rewards=table[chosen].double().numpy())


# ----------------------------------------------------------------------------------------------------------- the lesson


@one_core
def run(settings: ArchitectSettings, accuracies: np.ndarray) -> Iterator[Frame]:
    """All three ways on the table, seed after seed; about a second each.

    Args:
        accuracies: (36,) of CHILDREN, in their order: `children.recorded()`, or a class's own.
    """
    start = time.perf_counter()
    assert accuracies.shape == (len(CHILDREN),), "the table holds every child once"
    costs = np.array([multiplications(child) for child in CHILDREN])
    table = torch.from_numpy(accuracies - settings.price * costs).float()
    searches: list[dict[str, Search]] = []
    film = np.empty(0)
    for seed in range(settings.seed, settings.seed + settings.seeds):
        learned, course = by_controller(table, settings, seed)
        film = film if searches else course
        searches.append(
            {
                "controller": learned,
                "random": by_random(table, settings.children, seed),
                "evolution": by_evolution(table, settings.children, seed),
            }
        )
        yield Frame(
            seed=seed,
            done=len(searches),
            of=settings.seeds,
            searches=tuple(searches),
            film=film,
            table=table.double().numpy(),
            seconds=time.perf_counter() - start,
        )


def numbers(settings: ArchitectSettings, found: Frame, guess: str | None = None) -> dict:
    """The JSON of the endpoint, of the last frame. The baseline is random search."""

    def told(way: str) -> dict:
        (best, spread), (end, wide) = found.mean(way, "best"), found.mean(way, "in_the_end")
        return {
            "best": best,
            "best_spread": spread,
            "regret": found.optimum - best,
            "mean_of_the_last": end,
            "mean_of_the_last_spread": wide,
        }

    return {
        "seed": settings.seed,
        "steps": settings.children,
        "seconds": round(found.seconds, 3),
        "seeds": found.done,
        "optimum": found.optimum,
        "optimum_child": child_name(CHILDREN[int(found.table.argmax())]),
        "median": float(np.median(found.table)),
        "worst": float(found.table.min()),
        "controller": told("controller"),
        "evolution": told("evolution"),
        "baseline": told("random"),
        "verdict": of_architect(found, guess).record(),
    }
