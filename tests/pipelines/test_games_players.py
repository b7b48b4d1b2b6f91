"""Two players: losses of a blind discriminator, quality against closed forms, and twins found by search."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import wasserstein_distance

from pipelines.errors import NotFinite, UserError
from pipelines.games import players, verdicts
from pipelines.games.players import critic_loss, generator_loss, modes, numbers, quality, run, sliced_distance, twins
from pipelines.games.settings import PlayersSettings


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def film():
    """The first tenth of a game."""
    return list(run(PlayersSettings(steps=600)))


@pytest.fixture(scope="module")
def frame(film):
    return film[0]


# ----------------------------------------------------------------------------------------------------------- the losses


def test_a_blind_discriminator_costs_2_ln_2_and_ln_2():
    nothing = torch.zeros(8, 1, dtype=torch.float64)
    assert critic_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2), abs=1e-15)
    assert generator_loss(nothing).item() == pytest.approx(math.log(2), abs=1e-15)
    assert critic_loss(nothing, nothing, "wgan").item() == 0


def test_losses_are_the_papers():
    """Section 3, with the generator's that does not saturate."""
    true, made = torch.randn(2, 50, 1, generator=rng(), dtype=torch.float64)
    d_true, d_made = true.sigmoid(), made.sigmoid()
    wanted = -d_true.log().mean() - (1 - d_made).log().mean()
    assert torch.allclose(critic_loss(true, made), wanted, atol=1e-12)
    peer = F.binary_cross_entropy_with_logits(true, torch.ones_like(true))
    peer = peer + F.binary_cross_entropy_with_logits(made, torch.zeros_like(made))
    assert torch.allclose(critic_loss(true, made), peer, atol=1e-12)
    assert torch.allclose(generator_loss(made), -d_made.log().mean(), atol=1e-12)
    assert critic_loss(true, made, "wgan") == made.mean() - true.mean() and generator_loss(made, "wgan") == -made.mean()


@pytest.mark.parametrize("steep, penalty", [(1.0, 0.0), (0.0, 0.1), (3.0, 0.4)])
def test_the_penalty_of_a_plane(steep, penalty):
    """Its slope has the same length everywhere: 0.1 (steep - 1)^2."""
    plane = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        plane.weight.copy_(torch.tensor([[0.6 * steep, 0.8 * steep]]))
    true, made = torch.randn(2, 16, 2, generator=rng())
    assert players.gradient_penalty(plane, true, made, rng()).item() == pytest.approx(penalty, abs=1e-5)


# ---------------------------------------------------------------------------------------------------------- the quality


def test_true_points_are_good_and_all_modes_are_found():
    points = players.true_points(4000, rng())
    found, good = quality(points)
    assert found == 8 and good > 0.999, "4 standard deviations in two dimensions: 99.97 %"
    assert quality(modes()[:3].repeat(100, 1)) == (3, 1.0)
    assert quality(torch.zeros(100, 2)) == (0, 0.0)


def test_the_distance_is_scipys_seen_from_every_side():
    one, two = players.true_points(300, rng(1)), torch.randn(300, 2, generator=rng(2))
    angles = np.pi * np.arange(players.DIRECTIONS) / players.DIRECTIONS
    seen = [np.array([np.cos(a), np.sin(a)], np.float32) for a in angles]
    wanted = np.mean([wasserstein_distance(one.numpy() @ d, two.numpy() @ d) for d in seen])
    assert sliced_distance(one, two) == pytest.approx(wanted, rel=1e-4)
    shift = torch.tensor([0.3, 0.0])
    assert sliced_distance(one, one + shift) == pytest.approx(0.3 * 2 / math.pi, rel=1e-3), "mean of |cos| is 2 / pi"
    assert sliced_distance(one, one.flip(0)) == 0


def test_the_floor_is_what_chance_leaves(frame):
    assert 0.01 < frame.floor < 0.06 and frame.distance > 5 * frame.floor, "untrained points are far off"


# ----------------------------------------------------------------------------------------------------------- the twins


def test_twins_are_found_among_frames_made_up(frame):
    def moment(critic: float, generator: float, distance: float) -> players.Frame:
        return replace(frame, loss_critic=critic, loss_generator=generator, distance=distance)

    made = [moment(1.386, 0.70, 0.6), moment(1.0, 0.7, 0.1), moment(1.40, 0.69, 0.03), moment(1.38, 0.9, 0.001)]
    pair = twins(made)
    assert (pair.earlier, pair.later) == (0, 2) and pair.ratio == pytest.approx(20)
    assert twins(made[:2]) is None and verdicts.of_players(made[:2], None, 1).answer == "b"
    for seed, later in ((1, "b"), (2, "a")):
        said = verdicts.of_players(made, pair, seed, later)
        assert said.right and "differ 20 times" in said.text


def test_a_game_gets_better_while_its_loss_stays_in_place(film):
    first, last = film[0], film[-1]
    assert last.distance < first.distance / 2 and last.modes > first.modes
    assert abs(last.loss_critic - first.loss_critic) < 0.5, "no number of this says so"
    pair = twins(film)
    assert pair is not None and pair.ratio > 1.3
    assert [frame.step for frame in film] == list(range(0, 601, players.EVERY))
    assert last.points.shape == (players.SHOWN, 2) and last.field.shape == (players.FIELD, players.FIELD)


def test_the_seed_is_all_a_film_comes_from(film):
    again, other = run(PlayersSettings(steps=600)), run(PlayersSettings(steps=600, seed=7))
    for first in film[:2]:
        second, third = next(again), next(other)
        assert np.array_equal(first.points, second.points) and first.loss_critic == second.loss_critic
        assert not np.array_equal(first.points, third.points)
    again.close()
    other.close()


# --------------------------------------------------------------------------------------------------------- the meddling


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def test_a_frozen_discriminator_does_not_move_and_a_restarted_one_is_new():
    game = players.Game(PlayersSettings())
    game.step()
    game.frozen, before, generator = True, weights(game.critic), weights(game.generator)
    game.step()
    assert torch.equal(weights(game.critic), before) and not torch.equal(weights(game.generator), generator)
    game.restart()
    assert not torch.equal(weights(game.critic), before) and game.frozen


def test_half_way_is_half_way(monkeypatch):
    monkeypatch.setattr(players, "EVERY", 10)
    films = (list(run(PlayersSettings(steps=100, meddling=how))) for how in ("none", "freeze", "restart"))
    plain, frozen, restarted = films
    for other in (frozen, restarted):
        assert np.array_equal(plain[4].points, other[4].points)
        assert not np.array_equal(plain[10].points, other[10].points)
    assert np.array_equal(frozen[5].field, frozen[10].field) and not np.array_equal(plain[5].field, plain[10].field)


def test_wgan_estimates_a_distance():
    film = list(run(PlayersSettings(method="wgan", steps=100, critic_steps=3)))
    assert film[-1].loss_critic < -0.2, "the critic's estimate, with its sign turned"


def test_a_rate_that_breaks_the_numbers_is_said():
    settings = PlayersSettings(steps=100)
    object.__setattr__(settings, "rate_critic", 1e30)
    with pytest.raises(NotFinite, match="too high"):
        list(run(settings))


@pytest.mark.parametrize("known", [{"steps": 50}, {"critic_steps": 0}, {"rate_critic": 1.0}, {"method": "vae"}])
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        PlayersSettings(**known)


def test_numbers_are_json_with_their_baselines(film):
    said = json.loads(json.dumps(numbers(PlayersSettings(steps=600), film, "a"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["baseline"]["loss_critic_blind"] == 2 * math.log(2)
    assert set(said["rank_correlation_with_distance"]) == {
        f"loss_{who}_{when}" for who in ("critic", "generator") for when in ("all", "before_the_floor")
    }


def test_a_page_reads_controls_questions_and_answers_without_torch():
    command = "import sys; from pipelines.games import settings, verdicts; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
