"""What a class expects of each lesson before it runs, and what the run says. Everything is computed from the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.predictions import Verdict, judge

if TYPE_CHECKING:
    from pipelines.games import architect, players
    from pipelines.games.settings import ArchitectSettings

# ---------------------------------------------------------------------------------------------------------- two players

PLAYERS = "Two moments of the game, their losses and no points: which one is later?"
PLAYERS_ANSWERS = {"a": "A", "b": "B"}


def players_order(pair: players.Twins, seed: int) -> tuple[int, int]:
    """Places in the film of A and B: which of the twins is shown first is the seed's choice."""
    return (pair.earlier, pair.later) if seed % 2 else (pair.later, pair.earlier)


def of_players(
    film: Sequence[players.Frame], pair: players.Twins | None, seed: int, guess: str | None = None
) -> Verdict:
    """Of the twins of the film; without twins, of its first and last frame."""
    if pair is None:
        return judge(
            PLAYERS_ANSWERS,
            guess,
            "b",
            "No two moments of this game have equal losses: the later one, B, is the end.",
        )
    places = players_order(pair, seed)
    a, b = (film[place] for place in places)
    return judge(
        PLAYERS_ANSWERS,
        guess,
        "a" if places[0] > places[1] else "b",
        "A is step {step_a}: losses {critic_a:.3f} and {generator_a:.3f}, {modes_a} of 8 places found, distance "
        "{distance_a:.2f}. B is step {step_b}: losses {critic_b:.3f} and {generator_b:.3f}, {modes_b} of 8, distance "
        "{distance_b:.2f}. The losses agree, the distances differ {ratio:.0f} times.",
        step_a=a.step,
        critic_a=a.loss_critic,
        generator_a=a.loss_generator,
        modes_a=a.modes,
        distance_a=a.distance,
        step_b=b.step,
        critic_b=b.loss_critic,
        generator_b=b.loss_generator,
        modes_b=b.modes,
        distance_b=b.distance,
        ratio=pair.ratio,
    )


# -------------------------------------------------------------------------------------------------------- the architect

ARCHITECT = "{children} networks for each: does the controller beat random search?"
ARCHITECT_ANSWERS = {
    "finds": "Yes: the best network it finds is better",
    "policy": "It finds no better one, but what it trains in the end is better than what random search trains",
    "alike": "No difference",
    "random": "No: random search does better",
}


def architect_asked(settings: ArchitectSettings) -> dict[str, object]:
    """The values of ARCHITECT."""
    return {"children": settings.children}


def of_architect(found: architect.Frame, guess: str | None = None) -> Verdict:
    """Over seeds: 1.96 standard errors of the difference of two means tell more from less."""

    def more(what: str) -> int:
        """1 where the controller has more, -1 where random search has, 0 where that cannot be told."""
        (one, spread), (two, wide) = (found.mean(way, what) for way in ("controller", "random"))
        error = 1.96 * math.sqrt((spread**2 + wide**2) / found.done)
        return 0 if abs(one - two) <= error else 1 if one > two else -1

    best, end = more("best"), more("in_the_end")
    if best > 0:
        answer = "finds"
    elif end > 0:
        answer = "policy"
    else:
        answer = "random" if best < 0 or end < 0 else "alike"
    return judge(
        ARCHITECT_ANSWERS,
        guess,
        answer,
        "Over {seeds} seeds the best network the controller found gets {best:.3f}, that of random search {random:.3f}, "
        "that of evolution {evolution:.3f}, and the best there is {optimum:.3f}. The last ten it trained get {end:.3f} "
        "in the mean, those of random search {random_end:.3f}.",
        seeds=found.done,
        best=found.mean("controller", "best")[0],
        random=found.mean("random", "best")[0],
        evolution=found.mean("evolution", "best")[0],
        optimum=found.optimum,
        end=found.mean("controller", "in_the_end")[0],
        random_end=found.mean("random", "in_the_end")[0],
    )
