"""Borrowed eyes: what is frozen stays to the bit, dealt labels teach nothing, features beat pixels."""

import json

import numpy as np
import pytest
import torch

from pipelines.cues import transfer, verdicts
from pipelines.cues.settings import BLOCKS, BorrowSettings, FreezeSettings
from pipelines.errors import NotFinite, UserError
from pipelines.models.loading import load
from pipelines.models.vision import openclip_tokens
from pipelines.world import storybook

MODEL = "storybook-clip-b"


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    patch = pytest.MonkeyPatch()
    patch.setattr(transfer, "BANK", storybook.VALIDATION[:60])
    patch.setattr(transfer, "QUERIES", storybook.TEST[:40])
    for cache in (transfer.pictures, transfer._all_features):
        cache.cache_clear()
    yield
    patch.undo()
    for cache in (transfer.pictures, transfer._all_features):
        cache.cache_clear()


@pytest.fixture(scope="module")
def borrowed():
    return transfer.look(BorrowSettings())


def film(**known) -> list[transfer.Step]:
    return list(transfer.run(FreezeSettings(**{"steps": 4, **known})))


def test_the_tower_in_parts_is_the_tower():
    visual = load(MODEL).module.visual
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    whole = openclip_tokens(visual, pixels, attention=False)
    with torch.no_grad():
        for middle in (0, 3, BLOCKS):
            tokens = transfer.through(visual, transfer.embedded(visual, pixels), 0, middle)
            tokens = visual.ln_post(transfer.through(visual, tokens, middle, BLOCKS))
            assert torch.allclose(tokens[:, 0], whole.cls, atol=1e-4)
            assert torch.allclose(tokens[:, 1:], whole.patches, atol=1e-4)


@pytest.mark.parametrize("frozen", [0, 3, 6])
def test_what_is_frozen_stays_to_the_bit(frozen):
    loaded = load(MODEL)
    before = {name: weight.clone() for name, weight in loaded.module.visual.named_parameters()}
    steps = film(frozen=frozen, steps=2)
    assert all(step.moved == 0.0 for step in steps) and steps[-1].loss is not None
    assert (steps[-1].learns == 4 * 225) == (frozen == 6), "the last layer alone: 224 weights and a bias for each"
    if frozen == 0:
        assert steps[-1].learns > 0.9 * steps[-1].of
    for name, weight in loaded.module.visual.named_parameters():
        assert torch.equal(weight, before[name]), "the borrowed model itself never changes"


def test_a_frozen_weight_that_moved_would_be_seen(monkeypatch):
    def meddling(net: transfer.Borrower, begun: torch.Tensor) -> torch.Tensor:
        net.visual.conv1.weight.data.add_(1)
        return net.head(begun[:, 1:].mean(1))

    monkeypatch.setattr(transfer.Borrower, "forward", meddling)
    assert all(step.moved > 0 for step in film(frozen=6, steps=1))


def test_the_blocks_after_the_frozen_ones_learn():
    learned = film(frozen=5, examples=5, noise=0, steps=20)
    assert learned[-1].right > 0.5 and learned[-1].loss < learned[1].loss
    assert [step.right is None for step in learned[1:10]] == [True] * 9


def test_dealt_labels_teach_nothing(borrowed):
    """Over twenty draws of two examples each."""
    dealt = transfer.look(BorrowSettings(permuted=True, examples=2))
    assert abs(dealt.features.mean - 0.25) < 0.12 and abs(dealt.pixels.mean - 0.25) < 0.12
    assert borrowed.features.mean > dealt.features.mean + 0.15


def test_features_beat_pixels_and_random_weights(borrowed):
    assert borrowed.features.mean > borrowed.pixels.mean + 0.1
    assert borrowed.features.mean > borrowed.random.mean + 0.1
    assert borrowed.curve[10].mean > borrowed.curve[1].mean and borrowed.curve[1] == borrowed.features
    assert borrowed.blocks[BLOCKS] == borrowed.features and set(borrowed.blocks) == set(range(BLOCKS + 1))
    said = verdicts.of_borrowed(borrowed, "chance")
    assert said.right is False and said.answer in ("more", "nearly")


def test_it_calls_them_by_words_it_has(borrowed):
    assert set(borrowed.called) == set(storybook.UNSEEN)
    for names in borrowed.called.values():
        assert not set(names) & set(storybook.UNSEEN) and list(names.values()) == sorted(names.values(), reverse=True)
    assert next(iter(borrowed.called["bus"])) == "car", "measured: most buses are cars"


def test_means_from_their_definition():
    known = torch.tensor([[0.0, 0], [2, 0], [10, 0], [20, 0], [30, 0]])
    centres = transfer.means(known, torch.tensor([0, 0, 1, 2, 3]))
    assert centres.tolist() == [[1, 0], [10, 0], [20, 0], [30, 0]]
    assert transfer.nearest(torch.tensor([[4.0, 0], [27, 0]]), centres).tolist() == [0, 3]
    others = torch.tensor([[3.0, 0], [12, 0], [40, 0]])
    joined = transfer.joined_means(known, torch.tensor([0, 0, 1, 2, 3]), others)
    assert joined[0, 0] == pytest.approx(5 / 3) and joined[1, 0] == 11 and joined[3, 0] == 35


def test_the_seed_is_all_it_comes_from():
    one, again, other = (film(frozen=6, seed=seed) for seed in (1, 1, 2))
    assert [(s.loss, s.right) for s in one] == [(s.loss, s.right) for s in again] != [(s.loss, s.right) for s in other]


def test_a_rate_that_breaks_the_numbers_is_said():
    settings = FreezeSettings(frozen=6, steps=4)
    object.__setattr__(settings, "rate", float("inf"))
    with pytest.raises(NotFinite, match="learning rate inf is too high"):
        list(transfer.run(settings))


@pytest.mark.parametrize("known", [{"examples": 0}, {"block": 7}, {"noise": -8}, {"model": "efficientnet-lite0"}])
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        BorrowSettings(**known)


def test_numbers_are_json_with_their_baselines(borrowed):
    settings = BorrowSettings()
    said = json.loads(json.dumps(transfer.borrowed_numbers(settings, borrowed, "nearly"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    frozen = FreezeSettings(frozen=6, steps=1)
    *_, last = transfer.run(frozen)
    told = json.loads(json.dumps(transfer.numbers(frozen, last, "nearly"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(told)
    assert np.isfinite(told["loss"]) and told["baseline"]["chance"] == 0.25
