"""The wide world is deterministic, its truth is exact, its steps can be left out, and what is held out stays out."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

from pipelines.detection.pipeline import Detection
from pipelines.errors import UserError
from pipelines.evaluation import columns
from pipelines.evaluation.clip import PHOTOGRAPHS
from pipelines.training.pairs import LESSON, World
from pipelines.world import drawings, grounds, storybook, wide
from pipelines.world.wide import CLEAN, WIDE

STEPS = [each.name for each in fields(wide.World)]


def same(a: storybook.Scene, b: storybook.Scene) -> bool:
    boxes = [o.box for o in a.objects] == [o.box for o in b.objects]
    return np.array_equal(a.picture, b.picture) and a.caption == b.caption and boxes


# ----------------------------------------------------------------------------------------------------------- drawings


def test_every_noun_has_many_drawings_by_many_hands():
    counts = {noun: len(drawings.drawings(noun)) for noun in storybook.NOUNS}
    assert np.mean(list(counts.values())) >= 8 and min(counts.values()) >= 8, counts
    assert len({d.hand for d in drawings.drawings()}) >= 6
    assert len({d.key + d.noun for d in drawings.drawings()}) == len(drawings.drawings()), "one key for two drawings"
    size = sum(file.stat().st_size for file in drawings.SHEETS.iterdir())
    assert size < 10_000_000


def test_two_hands_and_one_drawing_in_six_of_the_others_are_held_out():
    for noun in storybook.NOUNS:
        known, new, hands = (drawings.drawings(noun, column=column) for column in drawings.COLUMNS)
        assert known and new, noun
        assert 0.1 <= len(new) / (len(known) + len(new)) <= 0.25, noun
        assert not {d.hand for d in known + new} & set(drawings.NEW_HANDS)
        assert {d.hand for d in hands} <= set(drawings.NEW_HANDS)
        assert hands or noun == "bench", "nobody but Patchlight drew a bench"


def test_flat_and_shaded_twins_are_held_out_together():
    column = {d.key: d.column for d in drawings.drawings()}
    pairs = [(key, key.replace("fluent/fluent-emoji:", "fluent-flat/fluent-emoji-flat:")) for key in column]
    pairs = [(a, b) for a, b in pairs if a != b and b in column]
    assert len(pairs) > 40 and all(column[a] == column[b] for a, b in pairs)


def test_pictures_are_on_their_sheets():
    for d in drawings.drawings():
        image = drawings.picture(d)
        assert max(image.size) == drawings.SIDE, d.key
        opaque = np.asarray(image)[..., 3] > 128
        assert opaque.mean() > 0.04 and opaque.any(0)[[0, -1]].sum() + opaque.any(1)[[0, -1]].sum() >= 1, d.key


@pytest.mark.parametrize("noun", storybook.THINGS)
def test_every_drawing_of_a_thing_shows_its_colour(noun):
    """What changes between two colours is, in each colour, nearest to the one that was asked for."""
    names, values = list(storybook.COLOURS), np.array(list(storybook.COLOURS.values()), float)
    for d in drawings.drawings(noun):
        shown = {name: np.asarray(drawings.picture(d, storybook.COLOURS[name]), float) for name in names}
        changed = (np.abs(shown["red"] - shown["blue"]).max(-1) > 60) & (shown["red"][..., 3] > 200)
        assert changed.sum() > 0.06 * (shown["red"][..., 3] > 200).sum(), f"{d.key} is hardly painted"
        wrong = [
            name
            for name in names
            if names[np.linalg.norm(values - np.median(shown[name][changed][:, :3], 0), axis=1).argmin()] != name
        ]
        assert len(wrong) <= 1, (d.key, wrong)


def test_animals_keep_their_colours():
    assert all(bool(d.paint) == (d.noun in storybook.THINGS) for d in drawings.drawings())


def test_sets_and_hands_are_credited():
    credits = (drawings.SHEETS / "CREDITS.md").read_text(encoding="utf-8")
    assert all(title in credits for title in drawings.HANDS.values())
    assert all(licence in credits for licence in ("Apache-2.0", "MIT", "CC-BY-4.0", "public domain"))
    assert "SA" not in credits.replace("EMOJIS", ""), "no set that asks for sharing alike"
    for name in ("contact_sheet", "recolourings"):
        with Image.open(drawings.SHEETS / f"{name}.webp") as sheet:
            assert sheet.width > 500


# ------------------------------------------------------------------------------------------------------------- scenes


def test_a_seed_is_a_scene():
    assert same(wide.draw(7), wide.draw(7))
    assert not same(wide.draw(7), wide.draw(8))
    wide.drawings.picture.cache_clear()
    assert same(wide.draw(9), wide.draw(9))


@pytest.mark.parametrize("seed", range(60))
def test_boxes_and_masks_tell_the_truth(seed):
    scene = wide.draw(storybook.TEST[seed])
    height, width = scene.picture.shape[:2]
    assert scene.picture.dtype == np.uint8 and min(height, width) == 128 and max(height, width) <= 256
    assert 1 <= len(scene.objects) <= 3
    assert sum(o.mask.astype(int) for o in scene.objects).max() == 1, "two objects claim a pixel"
    for thing in scene.objects:
        x0, y0, x1, y1 = thing.box
        assert thing.mask.shape == (height, width)
        assert thing.mask[y0:y1, x0:x1].sum() == thing.mask.sum() > 0, "mask outside its box"
        assert thing.mask[y0, x0:x1].any() and thing.mask[y1 - 1, x0:x1].any(), "box not tight"
        assert thing.mask[y0:y1, x0].any() and thing.mask[y0:y1, x1 - 1].any(), "box not tight"
        assert thing.noun in scene.caption
        assert (thing.colour is None) == (thing.noun in storybook.ANIMALS)
    assert scene.ground in wide.GROUNDS and (scene.ground == "places") == bool(scene.background)
    assert scene.full_caption


def test_masks_are_the_pixels_that_things_change(monkeypatch):
    """Paint the same scene without one of its things: outside its mask and its soft edge nothing changes, covered,
    cut and turned as it may be."""
    real, cameraless = wide._paint, replace(WIDE, **dict.fromkeys(wide.CAMERA, False))
    checked = 0

    def twice(placed, canvas):
        plain = canvas.copy()
        objects = real(placed, canvas)
        if objects is None:
            return None
        nonlocal checked
        things = [i for i, each in enumerate(placed) if each.drawing is not None]
        for index, thing in zip(things, objects, strict=True):
            without = plain.copy()
            for i, each in enumerate(placed):
                if i != index:
                    h, w = each.pixels.shape[:2]
                    top, left = max(0, each.y), max(0, each.x)
                    bottom, right = min(canvas.shape[0], each.y + h), min(canvas.shape[1], each.x + w)
                    if bottom > top and right > left:
                        part = each.pixels[top - each.y : bottom - each.y, left - each.x : right - each.x]
                        alpha = part[..., 3:].astype(np.float32) / 255
                        without[top:bottom, left:right] += alpha * (part[..., :3] - without[top:bottom, left:right])
            changed = np.abs(canvas - without).max(-1) > 0.5
            own = np.zeros(changed.shape, bool)
            each = placed[index]
            for y, x in np.argwhere(each.pixels[..., 3] > 0):
                if 0 <= y + each.y < own.shape[0] and 0 <= x + each.x < own.shape[1]:
                    own[y + each.y, x + each.x] = True
            assert not (changed & ~own).any(), "a pixel changed where the thing is not"
            assert not (thing.mask & ~own).any(), "the mask claims a pixel the thing does not have"
            checked += 1
        return objects

    monkeypatch.setattr(wide, "_paint", twice)
    for seed in range(25):
        wide.draw(storybook.TEST[seed], cameraless)
    assert checked > 25


def test_held_out_drawings_are_in_no_training_picture():
    """What the training's own data sets draw."""
    seen = Counter()
    source = iter(World(seed=3, size=128, views=1, smallest=0.5))
    real = wide.draw

    def noted(*arguments, **keywords):
        scene = real(*arguments, **keywords)
        seen.update(o.drawing for o in scene.objects)
        return scene

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wide, "draw", noted)
        for _ in range(400):
            next(source)
    known = {d.key for d in drawings.drawings(column="known")}
    assert seen and set(seen) <= known
    assert len(seen) > 150, "a wide world shows many drawings"


def test_no_detector_training_picture_has_a_held_out_drawing():
    """What the detector's data set draws, in squares and in other shapes."""
    from pipelines.training import detection

    seen, real = Counter(), wide.draw

    def noted(*arguments, **keywords):
        scene = real(*arguments, **keywords)
        seen.update(o.drawing for o in scene.objects)
        assert not {(o.colour, o.noun) for o in scene.objects} & storybook.HELD_OUT
        return scene

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wide, "draw", noted)
        batches = [detection.Scenes(3, 8, wide=True).make(index) for index in range(detection.WIDE_EVERY)]
    assert seen and set(seen) <= {d.key for d in drawings.drawings(column="known")}
    assert batches[0].pixels.shape[2:] == (128, 128) and batches[-1].pixels.shape[2:] != (128, 128)
    for batch in batches:
        corners = detection.corners(batch.boxes[batch.phrase >= 0])
        assert (corners > -1e-6).all() and (corners < 1 + 1e-6).all()


def test_a_drawn_scene_is_seen_in_several_views():
    data = World(seed=3, size=64, views=1, smallest=0.5)
    turn = 2 * LESSON
    assert [data.drawn(i) for i in (0, turn - 1, turn, World.USES * turn)] == [0, turn - 1, 0, turn]
    again = World(seed=3, size=64, views=1, smallest=0.5, start=turn)
    (first, caption), (other, same_caption) = next(iter(data)), next(iter(again))
    assert caption == same_caption and not np.array_equal(first, other)


# ------------------------------------------------------------------------------------------------------- three columns


def test_boxes_count_under_any_name_and_under_their_own():
    truth = [("cat", (0.0, 0.0, 40.0, 40.0)), ("dog", (60.0, 60.0, 100.0, 100.0))]
    found = [
        Detection(phrase="cat", score=0.9, box=(1.0, 0.0, 40.0, 41.0), query=0, words=()),
        Detection(phrase="frog", score=0.6, box=(60.0, 62.0, 100.0, 100.0), query=1, words=()),
        Detection(phrase="dog", score=0.2, box=(0.0, 60.0, 30.0, 90.0), query=2, words=()),
    ]
    assert columns.any_name([(truth, found)], 0.3) == 1
    assert columns.right_and_found([(truth, found)], 0.3) == (0.5, 0.5)
    assert columns.right_and_found([(truth, found)], 0.95) == (0, 0)


def test_columns_are_measured_on_their_drawings():
    for column in drawings.COLUMNS:
        allowed = {d.key for d in drawings.drawings(column=column)}
        scenes = columns.drawn(8, column, columns.SCENES)
        assert {o.drawing for s in scenes for o in s.objects} <= allowed
        assert {s.picture.shape for s in scenes} == {(128, 128, 3)}
    told = columns.distinct(30, "known")
    assert len({(frozenset(o.phrase for o in s.objects), s.background) for s in told}) == 30


@pytest.mark.parametrize("column", drawings.COLUMNS)
def test_a_column_shows_its_drawings_alone(column):
    allowed = {d.key for d in drawings.drawings(column=column)}
    shown = {o.drawing for seed in range(60) for o in wide.draw(seed, column=column).objects}
    assert shown and shown <= allowed


def test_a_hand_draws_alone():
    for hand in drawings.HANDS:
        scene = wide.draw(5, CLEAN, count=1, column=None, hand=hand)
        assert scene.objects[0].drawing.startswith(f"{hand}/")


def test_held_out_pairs_and_unseen_nouns_do_not_appear():
    held_out = frozenset((colour, noun) for colour in storybook.COLOURS if colour != "red" for noun in storybook.THINGS)
    objects = [o for seed in range(80) for o in wide.draw(seed, held_out=held_out).objects]
    assert {o.colour for o in objects} == {None, "red"}
    assert not {d.noun for d in drawings.drawings()} & set(storybook.UNSEEN)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_alone_changes_the_picture_and_only_what_it_says(step):
    one = replace(CLEAN, **{step: True})
    plain = [wide.draw(seed, CLEAN, size=(128, 128)) for seed in range(24)]
    stepped = [wide.draw(seed, one, size=None if step == "shapes" else (128, 128), always=True) for seed in range(24)]
    assert any(not np.array_equal(a.picture, b.picture) for a, b in zip(plain, stepped, strict=True))
    if step in wide.CAMERA:  # no step of the camera moves anything
        assert all(
            np.array_equal(p.mask, q.mask)
            for a, b in zip(plain, stepped, strict=True)
            for p, q in zip(a.objects, b.objects, strict=True)
        )
    if step in wide.GROUNDS:
        assert {scene.ground for scene in stepped} == {step}


def outside(scene: storybook.Scene) -> bool:
    height, width = scene.picture.shape[:2]
    return any(0 in o.box[:2] or o.box[2] == width or o.box[3] == height for o in scene.objects)


def test_sizes_go_from_small_to_large_and_cuts_reach_the_border():
    one = replace(CLEAN, sizes=True)
    sides = [
        max(o.mask.any(0).sum(), o.mask.any(1).sum()) / 128 for s in range(150) for o in wide.draw(s, one, 1).objects
    ]
    assert min(sides) < 0.22 and max(sides) > 0.85
    at_border = [np.mean([outside(wide.draw(s, w)) for s in range(100)]) for w in (CLEAN, replace(CLEAN, cut=True))]
    assert at_border[1] > at_border[0] + 0.1


def test_clean_world_is_the_clean_world():
    scene = wide.draw(3, CLEAN, hand="noto", column=None)
    assert scene.picture.shape == (128, 128, 3) and scene.ground == "clean" and scene.background in storybook.PLACES


def test_test_seeds_have_other_photographs_than_training():
    assert not set(grounds.TRAINING_PHOTOGRAPHS) & (set(grounds.TEST_PHOTOGRAPHS) | set(PHOTOGRAPHS))


def test_a_scene_costs_a_few_resizings(monkeypatch):
    """Drawing is faster than training needs as long as it does this little."""
    counts, real = Counter(), Image.Image.resize

    def counted(image, *arguments, **keywords):
        counts["resize"] += 1
        return real(image, *arguments, **keywords)

    for seed in range(50):
        wide.draw(seed)
    monkeypatch.setattr(Image.Image, "resize", counted)
    for seed in range(50):
        wide.draw(seed)
    assert counts["resize"] <= 50 * 9


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(UserError, match="1 to 3"):
        wide.draw(0, count=5)
    with pytest.raises(UserError, match="no 1 nouns"):
        wide.draw(0, count=1, column="known", hand="emojione")


# --------------------------------------------------------------------------------------------- hands in the clean world


def test_a_composed_sentence_in_another_hand():
    classic = storybook.compose_text("a cat left of a red car on sand")
    other = storybook.compose_text("a cat left of a red car on sand", hand="twemoji")
    assert [o.noun for o in classic.objects] == [o.noun for o in other.objects]
    assert not np.array_equal(classic.picture, other.picture)
    assert classic.background == other.background


def test_a_hand_that_drew_no_such_thing_says_who_did():
    with pytest.raises(UserError, match="EmojiOne drew no bench.*patchlight"):
        storybook.compose_text("a bench", hand="emojione")
    with pytest.raises(UserError, match="Unknown hand"):
        storybook.compose_text("a cat", hand="picasso")


def test_scenes_by_hand_hold_what_the_hand_drew():
    nouns = {o.noun for seed in range(60) for o in storybook.scene(seed, hand="fxemoji").objects}
    assert nouns <= {d.noun for d in drawings.drawings(hand="fxemoji")} and len(nouns) > 10
