"""Small pictures with their truth, and random views of them."""

import colorsys
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import crops
from pipelines.errors import UserError
from pipelines.world import storybook

FIRST = storybook.VALIDATION.start
STILL = crops.Views(area=(1.0, 1.0), flip=False, hue=0, saturation=0, brightness=0, contrast=0, grey=0)


def test_a_pool_is_drawn_from_its_seeds_and_once():
    seeds = range(FIRST, FIRST + 150)
    pool = crops.pool(seeds, 32)
    assert pool.pictures.shape == (150, 32, 32, 3) and pool.pictures.dtype == np.uint8 and len(pool) == 150
    assert pool.pixels.shape == (150, 3, 32, 32) and 0 <= pool.pixels.min() < pool.pixels.max() <= 1
    assert crops.pool(seeds, 32) is pool
    later = crops.pool(range(FIRST + 100, FIRST + 150), 32)  # its parts begin elsewhere
    assert np.array_equal(later.pictures, pool.pictures[100:]) and np.array_equal(later.nouns, pool.nouns[100:])
    assert [len(part) for part in crops.parts(seeds, 32)] == [128, 22]
    assert pool.chance == 1 / 24 and set(pool.nouns) <= set(range(24))


def test_truth_is_that_of_the_picture():
    """Only things have colours, all nouns and places occur, and no truth tells another."""
    pool = crops.pool(range(FIRST, FIRST + 600), 16)
    things = np.array([name in storybook.THINGS for name in pool.names])[pool.nouns]
    assert np.array_equal(things, pool.colours >= 0)
    assert len(set(pool.nouns)) == 24 and len(set(pool.places)) == 5 and len(set(pool.colours)) == 12
    assert abs(np.corrcoef(pool.nouns, pool.places)[0, 1]) < 0.15
    night = pool.pictures[pool.places == list(storybook.PLACES).index("night")].mean()
    assert night < pool.pictures[pool.places == list(storybook.PLACES).index("snow")].mean() - 40


def test_a_crop_is_filled_by_its_object_and_a_scene_is_not():
    seeds = range(FIRST, FIRST + 64)
    crop, scene = (crops.pool(seeds, 32, kind, ("balloon",)) for kind in crops.KINDS)
    assert not crop.nouns.any() and np.array_equal(crop.colours, scene.colours) and crop.chance == 1
    edges = [np.abs(np.diff(pool.pictures.astype(int), axis=2)).mean() for pool in (crop, scene)]
    assert edges[0] != edges[1] and not np.array_equal(crop.pictures, scene.pictures)


@pytest.mark.parametrize(
    "wrong", [{"kind": "photograph"}, {"nouns": ("cat", "unicorn")}, {"nouns": ()}, {"seeds": range(0)}]
)
def test_what_cannot_be_drawn_is_told(wrong):
    with pytest.raises(UserError):
        crops.pool(**{"seeds": range(2), "size": 16, **wrong})


def test_views_come_from_the_generator_alone():
    pixels = crops.pool(range(FIRST, FIRST + 8), 40).pixels
    one, again, other = (crops.views(pixels, torch.Generator().manual_seed(seed), size=32) for seed in (1, 1, 2))
    assert one.shape == (8, 3, 32, 32) and torch.equal(one, again) and not torch.equal(one, other)
    assert 0 <= one.min() and one.max() <= 1


def test_a_view_that_changes_nothing_is_the_picture():
    pixels = crops.pool(range(FIRST, FIRST + 8), 40).pixels
    assert torch.allclose(crops.views(pixels, torch.Generator(), STILL), pixels, atol=1e-4)


def test_a_property_left_alone_leaves_the_others_as_they_were():
    """A and B of a lesson see the same crops, whether or not colours are changed as well."""
    pixels = crops.pool(range(FIRST, FIRST + 8), 40).pixels
    how = crops.Views(hue=0, saturation=0, brightness=0, contrast=0, grey=0)
    draws = torch.rand(8, crops.DRAWS, generator=torch.Generator().manual_seed(3))
    seen = crops.cut(pixels, crops.frames(draws[:, :5], crops.Views()), 40)
    assert torch.allclose(crops.views(pixels, torch.Generator().manual_seed(3), how), seen, atol=1e-5)


def test_views_stay_inside_their_picture_and_as_large_as_asked():
    how = crops.Views(area=(0.3, 0.5))
    maps = crops.frames(torch.rand(4000, 5, generator=torch.Generator().manual_seed(0)), how)
    wide, tall = maps[:, 0, 0].abs(), maps[:, 1, 1]
    assert (maps[:, 0, 2].abs() + wide).max() <= 1 + 1e-6 and (maps[:, 1, 2].abs() + tall).max() <= 1 + 1e-6
    assert 0.3 - 1e-6 <= (wide * tall).min() and (wide * tall).max() <= 0.5 + 1e-6
    assert 0.45 < (maps[:, 0, 0] < 0).double().mean() < 0.55


def test_colours_change_as_their_names_say():
    red = torch.tensor([0.6, 0.2, 0.2])[None, :, None, None].expand(1, 3, 4, 4)

    def changed(column: int, value: float, **how: float) -> torch.Tensor:
        draws = torch.full((1, 5), 0.5)
        draws[0, column] = value
        still: dict[str, Any] = dict(hue=0, saturation=0, brightness=0, contrast=0, grey=0)
        return crops.recolour(red, draws, crops.Views(**{**still, **how}))[0, :, 0, 0]

    grey = changed(4, 0.1, grey=0.2)
    assert torch.allclose(grey, torch.full((3,), 0.6 * 0.299 + 0.2 * 0.701), atol=1e-6)
    assert torch.allclose(changed(2, 1.0, brightness=0.5), torch.tensor([0.9, 0.3, 0.3]), atol=1e-6)
    green = changed(0, 1.0, hue=2 / 3)  # a third of the circle
    assert torch.allclose(green, torch.tensor([0.2, 0.6, 0.2]), atol=1e-5)
    assert abs(colorsys.rgb_to_hsv(*green.tolist())[0] - 1 / 3) < 1e-3
    assert torch.allclose(changed(1, 0.0, saturation=1.0), grey, atol=1e-6)
    assert torch.allclose(changed(3, 0.0, contrast=1.0), grey, atol=1e-6)  # one colour, no contrast: its own grey
