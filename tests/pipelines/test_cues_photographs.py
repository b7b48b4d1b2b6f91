"""The skin of a photograph: cut from its middle, laid on a silhouette, and named; and a noise laid over it."""

import json

import numpy as np
import pytest
from PIL import Image

from pipelines.cues import photographs
from pipelines.evaluation.classifier import photograph


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return photograph("skimage/data/chelsea.png")


def test_a_skin_is_the_middle_in_mirrors():
    picture = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    found = photographs.skin(picture)
    piece = round(100 * photographs.PIECE)
    assert np.array_equal(found[:piece, :piece], picture[35 : 35 + piece, 35 : 35 + piece])
    assert np.array_equal(found[:piece, piece : 2 * piece], found[:piece, :piece][:, ::-1])
    assert np.array_equal(found[: 2 * piece], found[: 2 * piece][::-1]) and found.shape == picture.shape


def test_a_silhouette_holds_its_skin_and_nothing_else():
    skin = np.zeros((100, 100, 3), np.uint8)
    found = photographs.dressed("elephant", skin)
    dark = (found == 0).all(-1)
    assert 0.2 < dark.mean() < 0.8 and (found[0, 0] == photographs.GROUND).all()
    assert (
        abs((dark.any(0).sum() / 100) - photographs.SHAPE) < 0.06 or abs(dark.any(1).mean() - photographs.SHAPE) < 0.06
    )


def test_four_pictures_are_named_with_their_maps(cat):
    found = photographs.look(cat, "elephant")
    assert found.pictures.shape == (4, 224, 224, 3) and found.maps.shape == (4, 7, 7)
    assert found.names[0][0][0] in ("tabby", "tiger cat", "Egyptian cat")
    assert all(0 < share <= 1 for names in found.names for _, share in names)
    said = json.loads(json.dumps(photographs.numbers(found), allow_nan=False))
    assert [len(said[made]) for made in photographs.MADE] == [photographs.MOST] * 4


def test_no_noise_changes_nothing_and_noise_is_added_within_the_levels(cat):
    (still,) = photographs.under(np.zeros((128, 128, 3), np.int8), [cat])
    assert still.names[0] == still.names[1] and np.array_equal(*still.pictures)
    noise = np.full((128, 128, 3), 16, np.int8)
    (found,) = photographs.under(noise, [cat])
    assert np.array_equal(found.pictures[1], np.minimum(found.pictures[0].astype(int) + 16, 255))
    assert photographs.tiled(noise, 224).shape == (224, 224, 3)
