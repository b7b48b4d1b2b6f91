"""Texture or shape: pictures hold the cues they should, and what a network took is counted right."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipelines.cues import texture_shape, verdicts
from pipelines.cues.settings import TEXTURES, TextureSettings
from pipelines.cues.texture_shape import SHAPES, alone, compose, drawn, numbers, run, silhouette, texture
from pipelines.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    patch = pytest.MonkeyPatch()
    patch.setattr(texture_shape, "TRAINING", 512)
    patch.setattr(texture_shape, "ASKED", 120)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def film():
    """A learns from perfect cues, B from random textures alone."""
    return list(run(TextureSettings(steps=45, share_b=1)))


# ------------------------------------------------------------------------------------------------------- the pictures


def test_there_is_a_texture_for_every_shape():
    assert len(SHAPES) == len(TEXTURES) == 12


@pytest.mark.parametrize("name", TEXTURES)
@pytest.mark.parametrize("period", [4, 6, 10])
def test_textures_repeat_and_are_not_flat(name, period):
    found = texture(name, 40, period, np.random.default_rng(0))
    assert found.shape == (40, 40) and found.min() >= 0 and found.max() <= 1 and found.std() > 0.1
    if "noise" not in name:
        assert np.allclose(found[: -2 * period, : -2 * period], found[2 * period :, 2 * period :])


def test_textures_differ_from_each_other():
    made = [texture(name, 32, 6, np.random.default_rng(0)) for name in TEXTURES]
    for i, one in enumerate(made):
        assert all(abs(one - other).mean() > 0.05 for other in made[:i])


def test_a_flat_shape_has_two_colours_and_its_silhouette():
    picture = compose("cat", None, 6, np.random.default_rng(1))
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    assert np.sort(counts)[-2:].sum() > 0.7 * 32 * 32, "but for its edge"
    assert silhouette("cat", 28, False).max() == 1 and len(colours) > 2
    assert len(np.unique(compose(None, "across", 6, np.random.default_rng(1)).reshape(-1, 3), axis=0)) == 2


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_shapes_wear_their_texture_but_for_the_share(share):
    found = drawn("training", 400, TextureSettings(share=share), 3)
    assert abs((found.shapes != found.textures).mean() - share * 11 / 12) < 0.08
    conflict, flat = (drawn(kind, 200, TextureSettings(share=share), 3) for kind in ("conflict", "flat"))
    assert (conflict.shapes != conflict.textures).all() and (flat.textures == -1).all()
    assert len(set(conflict.textures)) == 12 and np.bincount(conflict.shapes, minlength=12).min() > 4


def test_a_and_b_learn_the_same_things_in_other_textures():
    """One switch apart: what wears the same in both is the same picture."""
    a, b = (drawn("training", 60, TextureSettings(share=share), 3) for share in (0, 0.5))
    same = a.textures == b.textures
    assert np.array_equal(a.shapes, b.shapes) and 20 < same.sum() < 50
    equal = (a.pictures == b.pictures).all((1, 2, 3))
    assert np.array_equal(equal, same)
    outside = [(one == other).all(2).mean() for one, other in zip(a.pictures[~same], b.pictures[~same], strict=True)]
    assert min(outside) > 0.25, "the ground has the same colour, and the thing its place"


# ---------------------------------------------------------------------------------------------------------- the lesson


def test_where_both_cues_are_perfect_the_texture_wins(film):
    end = film[-1].a.look
    assert end.cue > 0.4 and end.bias < 0.3 and end.interval[1] < 0.5
    assert end.shape + end.texture + end.neither == 120 and end.flat < 0.3, "and of shape alone nothing is known"
    assert film[-1].a.loss < film[1].a.loss and film[1].a.look is None


def test_random_textures_alone_leave_the_shape(film):
    a, b = film[-1].a.look, film[-1].b.look
    assert b.bias > 0.6 > a.bias and verdicts.of_texture(film[-1], "b").right is (b.interval[0] > 0.5)
    assert film[0].a.look.said.tolist() == film[0].b.look.said.tolist(), "they begin with the same weights"


def test_a_run_by_itself_is_network_a(film):
    *_, last = alone(TextureSettings(steps=45))
    assert last.loss == film[-1].a.loss and last.look.bias == film[-1].a.look.bias


def test_a_bag_whose_patches_hold_no_outline_follows_the_texture():
    *_, last = alone(TextureSettings(network="bag", steps=150))
    assert last.look.bias < 0.25 and last.look.cue > 0.4


def test_the_verdict_is_where_the_interval_lies(film):
    def step(shape: int, pattern: int) -> texture_shape.Step:
        one = film[-1].a
        return replace(one, look=replace(one.look, shape=shape, texture=pattern, neither=120 - shape - pattern))

    for a, b, answer in (
        ((90, 5), (80, 10), "both"),
        ((90, 5), (5, 90), "a"),
        ((5, 90), (90, 5), "b"),
        ((10, 10), (0, 0), "neither"),
    ):
        assert verdicts.of_texture(replace(film[-1], a=step(*a), b=step(*b))).answer == answer
    assert step(0, 0).look.bias is None and step(3, 1).look.bias == 0.75


def test_the_seed_is_all_a_film_comes_from(film):
    again, other = (run(TextureSettings(steps=45, share_b=1, seed=seed)) for seed in (42, 1))
    for first in film[:3]:
        second, third = next(again), next(other)
        assert (first.a.loss, first.b.loss) == (second.a.loss, second.b.loss)
        assert np.array_equal(first.examples.pictures, second.examples.pictures)
        assert not np.array_equal(first.examples.pictures, third.examples.pictures)
    again.close()
    other.close()


def test_examples_can_be_looked_at(film):
    examples = film[0].examples
    assert (
        examples.pictures.shape == (texture_shape.SHOWN, 32, 32, 3) and len(film[-1].b.look.said) == texture_shape.SHOWN
    )
    assert texture_shape.enlarged(examples.pictures[0]).size == (192, 192)


@pytest.mark.parametrize("known", [{"share": 1.1}, {"period": 3}, {"network": "mlp"}, {"batch": 4}])
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        TextureSettings(**known)


def test_numbers_are_json_with_their_baselines(film):
    said = json.loads(json.dumps(numbers(TextureSettings(steps=45), film[-1], "both"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["verdict"]["right"] is False and said["shape_bias"] < 0.3 < said["b"]["shape_bias"]
