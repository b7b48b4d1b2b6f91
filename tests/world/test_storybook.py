"""The world is deterministic and its truth is exact."""

import time

import numpy as np
import pytest
from PIL import Image

from pipelines.world import storybook


def same(a: storybook.Scene, b: storybook.Scene) -> bool:
    return np.array_equal(a.picture, b.picture) and a.caption == b.caption


def test_a_seed_is_a_scene():
    assert same(storybook.scene(7), storybook.scene(7))
    assert not same(storybook.scene(7), storybook.scene(8))


def test_seed_ranges_never_cross():
    ranges = (storybook.TRAIN, storybook.VALIDATION, storybook.TEST)
    assert not any(edge in b for a in ranges for b in ranges if a is not b for edge in (a[0], a[-1]))


@pytest.mark.parametrize("seed", range(40))
def test_boxes_and_masks_tell_the_truth(seed):
    scene = storybook.scene(storybook.TEST[seed])
    assert scene.picture.shape == (128, 128, 3) and scene.picture.dtype == np.uint8
    assert 1 <= len(scene.objects) <= 3
    covered = sum(o.mask.astype(int) for o in scene.objects)
    assert covered.max() == 1, "two objects claim a pixel"
    for thing in scene.objects:
        x0, y0, x1, y1 = thing.box
        assert thing.mask[y0:y1, x0:x1].sum() == thing.mask.sum() > 0, "mask outside its box"
        assert thing.mask[y0, x0:x1].any() and thing.mask[y1 - 1, x0:x1].any(), "box not tight"
        assert thing.mask[y0:y1, x0].any() and thing.mask[y0:y1, x1 - 1].any(), "box not tight"
        assert thing.noun in scene.caption and thing.noun in storybook.NOUNS
        assert (thing.colour is None) == (thing.noun in storybook.ANIMALS)
        assert thing.phrase in scene.full_caption


def test_masked_pixels_are_where_the_object_was_painted():
    """Take the object away: exactly the pixels around its mask change."""
    with_car = storybook.compose([("cat", None), ("car", "red")], [(0.25, 0.5, 0.4), (0.75, 0.5, 0.4)], seed=3)
    without = storybook.compose([("cat", None)], [(0.25, 0.5, 0.4)], seed=3)
    changed = np.abs(with_car.picture.astype(int) - without.picture).max(-1) > 60
    assert (changed & ~with_car.objects[1].mask).sum() < 0.02 * changed.sum()


def test_every_thing_shows_its_colour():
    """The median of the recoloured pixels is nearest to the colour that was asked for."""
    names, values = list(storybook.COLOURS), np.array(list(storybook.COLOURS.values()), float)
    for noun in storybook.THINGS:
        plain = storybook.sprite(noun, names[0], 96).astype(int), storybook.sprite(noun, names[4], 96).astype(int)
        painted = np.abs(plain[0][..., :3] - plain[1][..., :3]).max(-1) > 60
        for colour in names:
            median = np.median(storybook.sprite(noun, colour, 96)[painted][:, :3], axis=0)
            assert names[np.linalg.norm(values - median, axis=1).argmin()] == colour, (noun, colour)


def test_speed_of_scenes():
    for seed in range(300):
        storybook.scene(seed)
    start = time.process_time()
    for seed in range(300, 600):
        storybook.scene(seed)
    assert 300 / (time.process_time() - start) >= 300, "scenes per second on one core"


def test_held_out_pairs_do_not_appear():
    held_out = frozenset((colour, noun) for colour in storybook.COLOURS if colour != "red" for noun in storybook.THINGS)
    colours = {o.colour for seed in range(60) for o in storybook.scene(seed, held_out=held_out).objects}
    assert colours == {None, "red"}


def test_composed_sentence_is_drawn_as_said():
    scene = storybook.compose_text("a cat left of a red car on sand")
    cat, car = scene.objects
    assert (cat.noun, car.noun, car.colour, scene.background) == ("cat", "car", "red", "sand")
    assert cat.box[2] <= car.box[0]
    plain = storybook.compose_text("a cat and a gray car on sand")
    for text in ("A CAT, and the grey-car; on sand!", "cats and grey cars on sand", "ｃａｔ and ｇｒｅｙ car on sand"):
        assert np.array_equal(storybook.compose_text(text).picture, plain.picture)
    frog, bowl = storybook.compose_text("a frog above a white bowl in snow").objects
    assert frog.box[3] <= bowl.box[1]


def test_composed_picture_of_another_shape():
    scene = storybook.compose([("lion", None)], [(0.5, 0.5, 0.8)], size=(300, 100))
    assert scene.picture.shape == (100, 300, 3)
    x0, y0, x1, y1 = scene.objects[0].box
    assert abs((x0 + x1) / 2 - 150) < 3 and max(x1 - x0, y1 - y0) == pytest.approx(80, abs=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a zebra and a cat", "'zebra'"),
        ("", "1 to 4 objects"),
        ("red", "no thing after it"),
        ("a cat red", "no thing after it"),
        ("a red blue car", "two colours"),
        ("a cat on a bench", "Only a place can follow 'on'"),
        ("a cat left a car", "left of"),
        ("a red cat", "red cat"),
        ("cat left of dog above horse right of frog and cat", "1 to 4 objects"),
        ("گربه", "does not know"),
    ],
)
def test_sentences_that_cannot_be_drawn(text, told):
    with pytest.raises(ValueError, match=told):
        storybook.compose_text(text)


def test_hidden_object_is_refused():
    with pytest.raises(ValueError, match="hidden"):
        storybook.compose([("mouse", None), ("elephant", None)], [(0.5, 0.5, 0.1), (0.5, 0.5, 1.0)], seed=1)


def test_object_share_counts_pixels(scene):
    share = storybook.object_share(scene, 16)
    assert share.shape == (16, 16)
    assert share.sum() * 64 == pytest.approx(scene.objects[0].mask.sum())
    odd = storybook.object_share(scene, 14)  # the grid of a 224-pixel model does not divide 128
    assert odd.shape == (14, 14) and odd.mean() == pytest.approx(share.mean(), abs=0.005)


def test_sprites_are_there_and_credited():
    assert {f.stem for f in storybook.SPRITES.glob("*.png")} == {*storybook.NOUNS, *storybook.UNSEEN, "contact_sheet"}
    credits = (storybook.SPRITES / "CREDITS.md").read_text(encoding="utf-8")
    assert "Noto" in credits and "Apache" in credits and "bench" in credits
    with Image.open(storybook.SPRITES / "contact_sheet.png") as sheet:
        assert sheet.width > 500
