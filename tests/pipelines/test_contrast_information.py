"""What InfoNCE can know: never more than ln N, and the truth where that is little."""

import json
import math

import numpy as np
import pytest
import torch

from pipelines.contrast import information
from pipelines.contrast.information import bound, exact_logits, numbers, run
from pipelines.contrast.settings import CRITICS
from pipelines.contrast.settings import InformationSettings as Settings
from pipelines.contrast.verdicts import INFORMATION, information_asked, of_information
from pipelines.errors import UserError


def last(settings: Settings) -> information.Estimate:
    *_, end = run(settings)
    return end


@pytest.mark.parametrize("scale", [0, 1, 1e3, 1e6])
def test_no_critic_says_more_than_ln_n(scale):
    rng = torch.Generator().manual_seed(0)
    for size in (2, 17, 64):
        logits = scale * (torch.randn(size, size, generator=rng, dtype=torch.float64) + 3 * torch.eye(size))
        assert bound(logits) <= math.log(size)
    assert bound(torch.zeros(5, 5)) == pytest.approx(0, abs=1e-6), "a critic that knows nothing says nothing"


def test_the_exact_critic_is_the_density_ratio():
    """Against torch's own densities, y given x being normal with mean r x and variance 1 - r^2."""
    rng, r = torch.Generator().manual_seed(1), 0.7
    x, y = information.draw(6, 3, r, rng)
    given = torch.distributions.Normal(r * x[:, None], math.sqrt(1 - r * r)).log_prob(y[None]).sum(-1)
    alone = torch.distributions.Normal(0.0, 1.0).log_prob(y).sum(-1)
    assert torch.allclose(exact_logits(x, y, r), given - alone[None], atol=1e-12)


def test_the_truth_is_the_mean_of_the_density_ratio():
    rng = torch.Generator().manual_seed(2)
    x, y = information.draw(40_000, 2, 0.8, rng)
    pointwise = exact_logits(x[:, None], y[:, None], 0.8)[:, 0, 0]
    assert float(pointwise.mean()) == pytest.approx(Settings(dimensions=2, correlation=0.8).truth, abs=0.02)


def test_estimates_reach_a_small_truth_and_stop_at_ln_n():
    """The figures the lesson was specified by: 0.45 is found at N = 64, of 9.31 nats 4.12 are."""
    little, much = last(Settings(dimensions=2, correlation=0.6)), last(Settings())
    assert abs(little.truth - 0.446) < 1e-3 and abs(little.estimate - little.truth) < 0.05
    assert abs(much.truth - 9.31) < 0.01 and 4.0 < much.estimate < math.log(64)
    assert (much.exact <= np.log(much.sizes)).all() and (np.diff(much.exact) > 0.5).all()
    assert of_information(little).answer == "truth" and of_information(much, "truth").right is False
    assert of_information(much).answer == "ceiling" and "4.16" in of_information(much).text


def test_a_trained_critic_starts_knowing_nothing_and_stays_under_the_bound():
    found = last(Settings(critic="trained", steps=60))
    assert found.untrained < 0.2 and found.estimate > 3 and found.course[-1, 0] == 60
    assert (found.course[:, 1] <= math.log(64)).all()


def test_nothing_in_common_is_nothing_to_know():
    found = last(Settings(correlation=0.0))
    assert found.truth == 0 and abs(found.estimate) < 1e-9 and of_information(found, "truth").right


def test_simclr_counts():
    """Section 2.2 of the paper: a batch of 8,192 gives 16,382 negatives; all vectors equal cost ln(2B - 1)."""
    assert information.negatives_of(8192) == 16_382
    same = torch.zeros(16, 16).fill_diagonal_(-torch.inf)
    loss = torch.nn.functional.cross_entropy(same, torch.arange(16).roll(8))
    assert float(loss) == pytest.approx(information.collapsed_loss(8), abs=1e-6)


@pytest.mark.parametrize("critic", CRITICS)
def test_the_same_seed_is_the_same_run_on_one_and_on_two_threads(critic):
    settings, runs, before = Settings(critic=critic, steps=20, batch=256), [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs.append([(step.estimate, step.logits.tobytes(), step.exact.tobytes()) for step in run(settings)])
    torch.set_num_threads(before)
    assert runs[0] == runs[1] and len(runs[0]) >= 10
    assert runs[0] != [(s.estimate, s.logits.tobytes(), s.exact.tobytes()) for s in run(Settings(seed=1, steps=20))]


@pytest.mark.parametrize("bad", [{"correlation": 1.0}, {"correlation": float("nan")}, {"batch": 1}, {"batch": 2048}])
def test_what_cannot_be_estimated_is_said(bad):
    with pytest.raises(UserError, match="must be"):
        next(run(Settings(**bad)))


def test_numbers_are_json_with_their_baselines():
    said = json.loads(json.dumps(numbers(Settings(), last(Settings()), "ceiling"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said) and said["verdict"]["right"]
    assert said["negatives"] == 126 and said["baseline"]["ln_n"] == math.log(64)
    assert "{truth" in INFORMATION and "9.3 nats" in INFORMATION.format(**information_asked(Settings()))
