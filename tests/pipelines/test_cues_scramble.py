"""Scrambled parts: who cannot notice, exactly; and that left and right is lost where the order is."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.cues import scramble, small, verdicts
from pipelines.cues.pieces import order_of, rearranged, shuffled
from pipelines.cues.settings import GRIDS, NAMERS, PiecesSettings, ScrambleSettings
from pipelines.errors import NotFinite, UserError
from pipelines.evaluation.classifier import photograph
from pipelines.world import storybook


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    patch = pytest.MonkeyPatch()
    patch.setattr(scramble, "TRAINING", storybook.TRAIN[:192])
    patch.setattr(scramble, "QUERIES", storybook.TEST[:96])
    yield
    patch.undo()


@pytest.fixture(scope="module")
def relation_film():
    """Convolutions and a bag, on left and right."""
    settings = ScrambleSettings(task="relation", a="cnn", b="bag", steps=30, batch=32, grid=2)
    return settings, [each for each in scramble.run(settings) if isinstance(each, scramble.Frame)]


def random_pixels(count: int = 3, side: int = 32, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=dtype)


# -------------------------------------------------------------------------------------------------------------- pieces


def test_pieces_are_put_where_they_are_sent():
    pixels = random_pixels(1, 4)
    moved = rearranged(pixels, torch.tensor([3, 1, 2, 0]), 2)
    assert torch.equal(moved[..., :2, :2], pixels[..., 2:, 2:]) and torch.equal(moved[..., 2:, 2:], pixels[..., :2, :2])
    assert torch.equal(moved[..., :2, 2:], pixels[..., :2, 2:])
    order = shuffled(3, 4, torch.Generator().manual_seed(1))
    back = rearranged(rearranged(random_pixels(), order, 4), order.argsort(1), 4)
    assert torch.equal(back, random_pixels()), "every picture by its own order, and back"
    assert torch.equal(rearranged(random_pixels(), torch.arange(16), 4), random_pixels())


def test_two_pieces_change_places_and_only_movable_ones_move():
    rng = torch.Generator().manual_seed(0)
    two = order_of(8, "two", rng)
    assert (two != torch.arange(64)).sum() == 2
    free = torch.zeros(64, dtype=torch.bool)
    free[10:20] = True
    order = order_of(8, "all", rng, free)
    assert torch.equal(order[~free], torch.arange(64)[~free]) and sorted(order[free].tolist()) == list(range(10, 20))
    assert torch.equal(order_of(8, "two", rng, torch.zeros(64, dtype=torch.bool)), torch.arange(64)), "none may move"


# ----------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("network, notices", [("cnn", True), ("bag", False), ("vit", True), ("blind", False)])
def test_bags_and_attention_without_positions_cannot_notice(network, notices):
    """Pieces of 8 and of 16 pixels are multiples of their patch of 8."""
    net = small.naming(network, 24, 0).double().eval()
    pixels = random_pixels()
    for grid in (2, 4):
        moved = rearranged(pixels, shuffled(3, grid, torch.Generator().manual_seed(grid)), grid)
        difference = float((net(pixels) - net(moved)).abs().max().detach())
        assert difference > 1e-5 if notices else difference < 1e-10


def test_left_and_right_is_lost_in_pieces(relation_film):
    settings, film = relation_film
    end = film[-1]
    assert end.a.whole > 0.95 and set(end.a.by_grid) == set(scramble.TRIED)
    assert abs(end.a.scrambled - 0.5) < 0.2, "a guess"
    assert abs(end.b.whole - 0.5) < 0.2, "and the bag never knew"
    assert end.a.by_grid[2] == end.a.scrambled and end.a.by_grid[1] == end.a.whole
    said = verdicts.of_scramble(end, "neither")
    assert said.right, said.text


def test_a_cat_on_the_left_is_on_the_left():
    pictures, left = zip(*map(scramble.relation, storybook.TEST[:20]), strict=True)
    assert 4 < sum(left) < 16 and pictures[0].shape == (32, 32, 3)
    for seed, side in zip(storybook.TEST[:20], left, strict=True):
        again = scramble.relation(seed)
        assert np.array_equal(again[0], pictures[seed - storybook.TEST[0]]) and again[1] == side


def test_the_seed_is_all_a_film_comes_from_and_closing_ends_it(relation_film):
    settings, film = relation_film
    again = scramble.run(settings)
    frames = (each for each in again if isinstance(each, scramble.Frame))
    for first in film[:3]:
        second = next(frames)
        assert (first.a, first.b) == (second.a, second.b) and np.array_equal(first.examples, second.examples)
    again.close()
    with pytest.raises(StopIteration):
        next(again)


def test_naming_learns_something_and_draws_step_by_step():
    each = list(scramble.run(ScrambleSettings(steps=2, batch=16, a="bag", b="blind")))
    drawn = [one for one in each if isinstance(one, scramble.Preparing)]
    assert [one.done for one in drawn] == [128, 192, 96] and len(each) - len(drawn) == 3
    end = each[-1]
    for step in (end.a, end.b):
        assert len({step.by_grid[grid] for grid in (1, 2, 4)}) == 1, "blind to the order of whole patches"


def test_a_rate_that_breaks_the_numbers_is_said():
    settings = ScrambleSettings(task="relation", a="vit", b="vit", steps=40, rate=0.1, batch=8)
    object.__setattr__(settings, "rate", 1e30)
    with pytest.raises(NotFinite, match="learning rate 1e\\+30 is too high"):
        list(scramble.run(settings))


# ------------------------------------------------------------------------------------------------------- one picture


@pytest.mark.parametrize("grid", [1, 8])
def test_every_bundled_namer_is_asked(grid):
    scene = storybook.scene(storybook.TEST[3], count=1)
    found = scramble.look(PiecesSettings(grid=grid), Image.fromarray(scene.picture))
    assert [answer.model for answer in found.answers] == list(NAMERS) and len(NAMERS) == 3
    assert found.picture.shape == found.scrambled.shape == (224, 224, 3)
    assert np.array_equal(found.picture, found.scrambled) == (grid == 1)
    by_model = {answer.model: answer for answer in found.answers}
    assert by_model["storybook-clip-b"].whole == scene.objects[0].noun
    if grid == 1:
        assert all(answer.kept and answer.whole_probability == answer.pieces_probability for answer in found.answers)
    else:
        assert by_model["storybook-clip-b"].kept, "measured: 99.5 % of names survive 8 x 8 pieces"


def test_the_background_can_stay():
    scene = storybook.scene(storybook.TEST[3], count=1)
    mask = scene.objects[0].mask
    found = scramble.look(PiecesSettings(grid=8, background=False), Image.fromarray(scene.picture), mask)
    still = ~scramble.movable(mask, 8).view(8, 8).numpy()
    whole = np.kron(still, np.ones((28, 28), bool))
    assert still.any() and np.array_equal(found.picture[whole], found.scrambled[whole])


def test_a_curve_begins_with_all_names_kept():
    pictures = [photograph("skimage/data/coffee.png"), photograph("skimage/data/chelsea.png")]
    found = dict(scramble.curve("efficientnet-lite0", pictures))
    assert list(found) == list(GRIDS) and found[1] == 1.0 and found[32] == 0.0


@pytest.mark.parametrize("known", [{"grid": 3}, {"how": "none"}, {"seed": 1.5}])
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        PiecesSettings(**known)
    with pytest.raises(UserError):
        ScrambleSettings(batch=4)


def test_numbers_are_json_with_their_baselines(relation_film):
    settings, film = relation_film
    said = json.loads(json.dumps(scramble.numbers(settings, film[-1], "both"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["verdict"]["right"] is False and said["a"]["by_grid"]["1"] == said["a"]["whole"]
