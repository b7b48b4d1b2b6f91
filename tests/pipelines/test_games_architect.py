"""The architect: its gradient is the enumerated one, it is never better than the best, and it learns a policy."""

import json

import numpy as np
import pytest
import torch

from pipelines.errors import UserError
from pipelines.games import architect, children, verdicts
from pipelines.games.architect import ALL, Controller, index_of, marginals, numbers, run, surrogate
from pipelines.games.settings import CHILDREN, DECISIONS, ArchitectSettings, ChildSettings, child_name
from pipelines.world import storybook


def table(seed: int = 0) -> np.ndarray:
    """Accuracies that rise with every decision, with some noise: the last child is the best."""
    rng = np.random.default_rng(seed)
    places = ALL.numpy() / (np.array(architect.OPTIONS) - 1)
    return 0.2 + 0.15 * places.sum(1) + 0.01 * rng.random(36)


def controller(seed: int = 0, louder: float = 10.0) -> Controller:
    """In float64, and far from even."""
    made = Controller(torch.Generator().manual_seed(seed)).double()
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(louder)
    return made


def gradient(value: torch.Tensor, made: Controller) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(made.parameters()))])


@pytest.fixture(scope="module")
def searched():
    settings = ArchitectSettings(seeds=3, rate=0.05)
    return settings, list(run(settings, table()))


# ----------------------------------------------------------------------------------------------------------- the policy


def test_the_table_has_every_child_once_in_its_order():
    assert len(set(CHILDREN)) == 36 and torch.equal(index_of(ALL), torch.arange(36))
    for child, choices in zip(CHILDREN, ALL.tolist(), strict=True):
        assert child == tuple(values[c] for values, c in zip(DECISIONS.values(), choices, strict=True))


def test_probabilities_of_all_children_sum_to_one():
    made = controller()
    shares = made.log_probability(ALL).exp()
    assert shares.sum().item() == pytest.approx(1, abs=1e-12) and shares.max() > 3 / 36, "not even"
    found = marginals(made)
    assert np.allclose([found[:3].sum(), found[3:7].sum(), found[7:].sum()], 1)
    first = made(ALL)[0][0].exp()
    assert np.allclose(found[:3], first.detach().numpy())


def test_a_decision_sees_the_ones_before_it_and_none_after():
    parts = controller()(ALL)
    assert torch.allclose(parts[0], parts[0][:1].expand(36, -1)), "the first sees nothing"
    assert torch.allclose(parts[1][:3], parts[1][:1].expand(3, -1)) and not torch.allclose(parts[1][0], parts[1][35])
    assert not torch.allclose(parts[2][0], parts[2][3])


@pytest.mark.parametrize("baseline", [0.0, 0.37])
def test_the_policy_gradient_is_the_enumerated_one(baseline):
    """Its mean over all 36 children, each as often as the policy chooses it, whatever the baseline."""
    made, rewards = controller(), torch.from_numpy(table())
    wanted = gradient((made.log_probability(ALL).exp() * rewards).sum(), made)
    terms = surrogate(made.log_probability(ALL), rewards, baseline)
    weigh = made.log_probability(ALL).exp().detach()
    assert torch.allclose(gradient((weigh * terms).sum(), made), wanted, atol=1e-12) and wanted.abs().max() > 1e-3


def test_samples_come_as_often_as_the_policy_says():
    made = controller()
    drawn = made.sample(20_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(index_of(drawn), minlength=36) / 20_000
    assert (shares - made.log_probability(ALL).exp()).abs().max() < 0.015


def test_a_constant_reward_teaches_nothing_with_a_baseline():
    settings = ArchitectSettings(children=40)
    _, film = architect.by_controller(torch.full((36,), 0.5), settings, 1)
    assert np.allclose(film, film[0], atol=1e-7), "nothing is better than usual"
    _, film = architect.by_controller(torch.full((36,), 0.5), ArchitectSettings(children=40, baseline=False), 1)
    assert not np.allclose(film, film[0], atol=1e-3), "without one it believes in whatever it did"


# --------------------------------------------------------------------------------------------------------- the searches


def test_nobody_is_better_than_the_best(searched):
    _, frames = searched
    for searches in frames[-1].searches:
        assert set(searches) == set(architect.WAYS)
        for found in searches.values():
            assert len(found.chosen) == len(found.rewards) == 200 and found.best[-1] <= frames[-1].optimum
            assert np.allclose(found.rewards, frames[-1].table[found.chosen]) and (np.diff(found.best) >= 0).all()


def test_the_controller_learns_a_policy(searched):
    _, frames = searched
    end = frames[-1]
    controller_end, random_end = end.mean("controller", "in_the_end")[0], end.mean("random", "in_the_end")[0]
    assert controller_end > random_end + 0.1 and end.mean("evolution", "in_the_end")[0] > random_end
    assert end.film.shape == (51, 10) and end.film[-1, 2] + end.film[-1, 6] + end.film[-1, 9] > 2
    assert verdicts.of_architect(end).answer in ("policy", "finds")


def test_a_price_makes_small_networks_win():
    *_, end = run(ArchitectSettings(seeds=1, price=1.0), table())
    assert children.multiplications(CHILDREN[int(end.table.argmax())]) < 1


def test_the_seed_decides(searched):
    settings, frames = searched
    again = next(run(settings, table()))
    assert np.array_equal(again.film, frames[0].film)
    one, two = frames[-1].searches[:2]
    assert not np.array_equal(one["random"].chosen, two["random"].chosen)


def test_numbers_are_json_with_their_baselines(searched):
    settings, frames = searched
    said = json.loads(json.dumps(numbers(settings, frames[-1], "random"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["verdict"]["right"] is False and said["optimum_child"] == "48 px, 4 layers, 32 channels"
    assert said["controller"]["regret"] >= 0 and said["baseline"]["best"] <= said["optimum"]


# --------------------------------------------------------------------------------------------------------- the children


@pytest.fixture
def few_pictures(monkeypatch):
    monkeypatch.setattr(children, "TRAINING", storybook.TRAIN[:96])
    monkeypatch.setattr(children, "QUERIES", storybook.TEST[:48])
    children.data.cache_clear()
    yield
    children.data.cache_clear()


def test_a_child_is_trained_and_the_seed_is_all_it_comes_from(few_pictures):
    settings = ChildSettings(size=16, layers=2, channels=8, steps=20)
    one, again = ([s for s in children.run(settings) if isinstance(s, children.Step)] for _ in range(2))
    assert len(one) == 21 and one[-1].loss < one[1].loss and one[0].right is not None and one[1].right is None
    assert [(s.loss, s.right) for s in one] == [(s.loss, s.right) for s in again]


def test_every_child_takes_pictures_of_its_size():
    for size, layers, channels in CHILDREN:
        net = children.Child(layers, channels).eval()
        assert net(torch.rand(2, 3, size, size)).shape == (2, 24)


def test_multiplications_are_counted_by_hand():
    assert children.multiplications((16, 1, 8)) == pytest.approx((9 * 3 * 8 * 256 + 8 * 24) / 1e6)
    assert children.multiplications((32, 2, 16)) == pytest.approx(
        (9 * 3 * 16 * 1024 + 9 * 16 * 16 * 256 + 16 * 24) / 1e6
    )


def test_the_recorded_table_is_read_in_the_order_of_the_children(monkeypatch, tmp_path):
    summary = {child_name(child): {"accuracy": {"mean": place / 100}} for place, child in enumerate(CHILDREN)}
    monkeypatch.setattr(children, "STUDY", tmp_path / "children.json")
    with pytest.raises(UserError, match="pipelines.training.studies children"):
        children.recorded()
    children.STUDY.write_text(json.dumps({"summary": dict(reversed(summary.items()))}), encoding="utf-8")
    assert np.allclose(children.recorded(), np.arange(36) / 100)
    assert child_name((16, 1, 8)) == "16 px, 1 layer, 8 channels"


@pytest.mark.parametrize("known", [{"children": 4}, {"rate": 0}, {"seeds": 0}, {"price": 2}])
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        ArchitectSettings(**known)
    with pytest.raises(UserError):
        ChildSettings(layers=5)
