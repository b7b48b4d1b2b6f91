"""Texture or shape: pictures hold the cues they should, and what a network took is counted right."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipelines.cues import texture_shape, verdicts
from pipelines.cues.settings import TEXTURES, TextureSettings
from pipelines.cues.texture_shape import SHAPES, compose, drawn, numbers, run, silhouette, texture
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
    """Both cues perfect."""
    return list(run(TextureSettings(steps=45)))


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


# ---------------------------------------------------------------------------------------------------------- the lesson


def test_where_both_cues_are_perfect_the_texture_wins(film):
    end = film[-1].look
    assert end.cue > 0.4 and end.bias < 0.3 and end.interval[1] < 0.5
    assert end.shape + end.texture + end.neither == 120 and end.flat < 0.3, "and of shape alone nothing is known"
    assert verdicts.of_texture(film[-1], "texture").right
    assert film[-1].loss < film[1].loss and film[1].look is None


def test_a_bag_whose_patches_hold_no_outline_follows_the_texture():
    *_, last = run(TextureSettings(network="bag", steps=150))
    assert last.look.bias < 0.25 and last.look.cue > 0.4


def test_the_verdict_is_where_the_interval_lies(film):
    for shape, pattern, answer in ((90, 5, "shape"), (5, 90, "texture"), (10, 10, "both"), (0, 0, "both")):
        look = replace(film[-1].look, shape=shape, texture=pattern, neither=120 - shape - pattern)
        assert verdicts.of_texture(replace(film[-1], look=look)).answer == answer
    assert replace(film[-1].look, shape=0, texture=0).bias is None
    assert replace(film[-1].look, shape=3, texture=1).bias == 0.75


def test_the_seed_is_all_a_film_comes_from(film):
    again, other = run(TextureSettings(steps=45)), run(TextureSettings(steps=45, seed=1))
    for first in film[:3]:
        second, third = next(again), next(other)
        assert first.loss == second.loss and np.array_equal(first.examples.pictures, second.examples.pictures)
        assert not np.array_equal(first.examples.pictures, third.examples.pictures)
    again.close()
    other.close()


def test_examples_can_be_looked_at(film):
    examples = film[0].examples
    assert (
        examples.pictures.shape == (texture_shape.SHOWN, 32, 32, 3) and len(film[-1].look.said) == texture_shape.SHOWN
    )
    assert texture_shape.enlarged(examples.pictures[0]).size == (192, 192)


@pytest.mark.parametrize("known", [{"share": 1.1}, {"period": 3}, {"network": "mlp"}, {"batch": 4}])
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        TextureSettings(**known)


def test_numbers_are_json_with_their_baselines(film):
    said = json.loads(json.dumps(numbers(TextureSettings(steps=45), film[-1], "shape"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["verdict"]["right"] is False and said["shape_bias"] < 0.3
