"""Zero-shot masks: nothing unseen in training, perfect masks score 1, dice name nothing unseen, the seed decides."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipelines.detection import mask_scenes, mask_scores, masks, verdicts
from pipelines.detection.mask_scenes import (
    NAMES,
    STRANGERS,
    TEST,
    TRAINING,
    Scenes,
    kinds,
    looking,
    places_of,
    scene_of,
)
from pipelines.detection.mask_scores import IOUS, Found, cut, filled_boxes, scores
from pipelines.detection.masks import Step
from pipelines.detection.settings import SPLITS, MaskSettings
from pipelines.errors import UserError
from pipelines.models.loading import load
from pipelines.world import storybook
from tests.small_world import few_scenes

EVERYTHING = range(len(NAMES))
SEEN, UNSEEN = (places_of(words) for words in kinds("lion").values())


@pytest.fixture(scope="module", autouse=True)
def few():
    with few_scenes():
        yield


@pytest.fixture(scope="module")
def parts() -> dict[str, Scenes]:
    found: dict[str, Scenes] = {}
    list(looking("lion", found))
    return found


@pytest.fixture(scope="module")
def film() -> list[Step]:
    return learned(steps=60)


def learned(**known) -> list[Step]:
    return [step for step in masks.run(MaskSettings(**known)) if isinstance(step, Step)]


def perfect(truth: Scenes) -> tuple[Found, np.ndarray]:
    """The true masks with all of the probability on the true names."""
    found = Found(scene=truth.scene, masks=truth.masks, sure=np.ones(len(truth.scene), np.float32))
    return found, np.eye(len(NAMES))[truth.noun]


# ---------------------------------------------------------------------------------------------------------- the scenes


@pytest.mark.parametrize("unseen", SPLITS)
def test_no_training_scene_holds_an_unseen_noun(unseen):
    for place in range(0, len(TRAINING), 4):
        nouns = {thing.noun for thing in scene_of("training", unseen, place).objects}
        assert not nouns & set(SPLITS[unseen]) and not nouns & set(storybook.UNSEEN)


def test_what_is_learned_from_is_seen(parts):
    assert set(parts["training"].noun) == set(SEEN)
    assert not {*TRAINING} & {*TEST, *STRANGERS} and not {*TEST} & {*STRANGERS}
    assert len(parts["training"].features) == len(parts["training"].masks) == len(parts["training"].scene)


def test_every_noun_is_unseen_in_one_split():
    assert sorted(noun for split in SPLITS.values() for noun in split) == sorted(NAMES)
    for name, split in SPLITS.items():
        assert len(split) == 6 and name in split and set(kinds(name)["seen"]) == set(NAMES) - set(split)


def test_every_seen_thing_stands_beside_every_unseen_one_once():
    world = [scene_of("test", "lion", place) for place in range(len(TEST))]
    pairs = [frozenset(thing.noun for thing in scene.objects) for scene in world]
    assert len(set(pairs)) == len(pairs) == 18 * 6
    assert all(len(pair & set(SPLITS["lion"])) == 1 and len(pair) == 2 for pair in pairs)


def test_what_stands_beside_a_thing_does_not_reach_its_features():
    model, rng = load(mask_scenes.MODEL), np.random.default_rng(0)
    mask = np.zeros((1, 128, 128), bool)
    mask[0, 32:64, 40:80] = True
    one = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    other = torch.where(torch.from_numpy(mask)[:, None], one, torch.from_numpy(rng.normal(size=one.shape)).float())
    first, second = (mask_scenes.under(model, pixels, np.zeros(1, int), mask) for pixels in (one, other))
    assert first.shape == (1, 192) and torch.equal(first, second)
    thin = np.zeros((1, 128, 128), bool)
    thin[0, 0, 0] = True
    assert mask_scenes.under(model, one, np.zeros(1, int), thin).isfinite().all(), "a speck is under its own patch"


# -------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("candidates", [EVERYTHING, None])
def test_perfect_masks_and_names_score_one(parts, candidates):
    found, probabilities = perfect(parts["test"])
    for words in (SEEN, UNSEEN):
        told = scores(parts["test"], found, probabilities, words, candidates or words)
        assert told.ap == pytest.approx([1, 1, 1]) and told.ar == pytest.approx([1, 1, 1])
        assert mask_scores.harmonic(told.ap, told.ar) == pytest.approx([1, 1, 1])


def test_a_mask_counts_up_to_its_iou(parts):
    """One column of each thing is missing, then more and more of them: right at the IoUs that are reached."""
    truth = parts["test"]
    half = truth.masks.copy()
    for mask in half:
        rows = np.flatnonzero(mask.any(1))
        share = np.cumsum(mask.sum(1)) / mask.sum()
        mask[rows[0] : np.searchsorted(share, 0.45) + 1] = False
    found = replace(perfect(truth)[0], masks=half)
    iou = found.best(truth)[1]
    assert (iou > 0.4).mean() > 0.8 and (iou < 0.6).all()
    told = scores(truth, found, perfect(truth)[1], UNSEEN, EVERYTHING)
    unseen = np.isin(truth.noun, UNSEEN)
    assert told.ar == pytest.approx([(iou[unseen] >= least).mean() for least in IOUS])
    assert told.ap[2] == 0


def test_wrong_names_score_nothing_and_no_masks_neither(parts):
    truth = parts["test"]
    found, probabilities = perfect(truth)
    assert scores(truth, found, np.roll(probabilities, 1, 1), UNSEEN, EVERYTHING).ap.max() < 0.1
    none = cut(np.zeros((len(truth), 32, 32), np.float32), 128)
    told = scores(truth, none, np.zeros((0, len(NAMES))), UNSEEN, EVERYTHING)
    assert len(none.scene) == 0 and (told.ap == 0).all() and (told.ar == 0).all()
    assert (none.best(truth)[1] == 0).all() and masks.drawn(truth, none, np.zeros(0, int), {}) == [[]] * 8


def test_conventional_is_never_below_generalised_on_the_unseen(parts):
    truth = parts["test"]
    found, right = perfect(truth)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        told = right * rng.uniform(0, 2) + rng.dirichlet(np.full(len(NAMES), 0.3), len(right))
        told /= told.sum(1, keepdims=True)
        every, own = (scores(truth, found, told, UNSEEN, among) for among in (EVERYTHING, UNSEEN))
        assert (own.ap >= every.ap - 1e-9).all() and (own.ar >= every.ar - 1e-9).all()


def test_filled_boxes_hold_their_masks(parts):
    found, _ = perfect(parts["test"])
    filled = filled_boxes(found)
    assert (filled.masks >= found.masks).all()
    for mask, thing in zip(filled.masks, scene_of("test", "lion", 0).objects, strict=False):
        x0, y0, x1, y1 = thing.box
        assert mask[y0:y1, x0:x1].all() and mask.sum() == (y1 - y0) * (x1 - x0)


def test_a_map_is_cut_where_objects_do_not_touch():
    maps = np.zeros((2, 32, 32), np.float32)
    maps[0, 4:12, 4:12] = maps[0, 20:28, 20:30] = 0.9
    maps[1, 4:12, 4:12] = maps[1, 11:20, 4:12] = 0.7
    maps[1, 30, 30] = 0.6
    found = cut(maps, 128)
    assert found.scene.tolist() == [0, 0, 1], "two apart, two that touch are one, a speck is none"
    assert 0.5 < found.sure[2] < 0.7 < found.sure[0] < 0.9


# ------------------------------------------------------------------------------------------------------ what is learned


def test_without_a_decoder_no_decoder_has_a_gradient(parts):
    names = {}
    for decoder in (True, False):
        learner = masks.Learner(MaskSettings(decoder=decoder), parts["training"])
        before = learner.namers["learned"].words.clone()
        learner.step()
        names[decoder] = {n for n, w in learner.namers["learned"].named_parameters() if w.grad.abs().sum() > 0}
        assert torch.equal(before, learner.namers["learned"].words), "words are fixed"
    assert names[False] == {"encoder.weight", "encoder.bias"}
    assert names[True] - names[False] == {"decoder.weight", "decoder.bias"}


def test_unseen_words_are_no_part_of_the_loss(parts):
    learner = masks.Learner(MaskSettings(decoder=False), parts["training"])
    namer = learner.namers["learned"]
    given = (parts["training"].features[:8], learner.targets[:8], learner.seen)
    before = namer.loss(*given)
    namer.words[UNSEEN] = torch.randn(6, 128)
    assert torch.equal(namer.loss(*given), before)
    assert (learner.seen[learner.targets].numpy() == parts["training"].noun).all()


def test_masks_form_and_random_words_name_nothing_unseen(film):
    first, looked = film[0], film[-2]
    assert looked.iou["unseen"] > first.iou["unseen"] + 0.3 and looked.iou["seen"] > first.iou["seen"] + 0.3
    assert [step.iou is None for step in film[1:6]] == [True] * 4 + [False] and looked.film["unseen"].shape == (
        8,
        64,
        64,
        3,
    )
    result = film[-1].result
    assert result.named["random"]["unseen"] <= 0.1 < result.named["random"]["seen"]
    assert result.named["cutout"]["unseen"] > 0.5, "CLIP knows the words, and so few scenes teach no projection"
    assert result.scores["random"]["unseen"].ap.max() < 0.05 < result.scores["cutout"]["unseen"].ap[1]
    assert set(result.unseen) == set(SPLITS["lion"]) and sum(each.things for each in result.unseen.values()) == 24
    assert set(result.strangers) == set(storybook.UNSEEN), "what CLIP has no word for is called something else"
    for each in (*result.unseen.values(), *result.strangers.values()):
        assert sum(each.called.values()) == each.found <= each.things and set(each.called) <= set(NAMES)
    assert len(result.masks) == len(result.pictures) == 8 and any(mask.kind == "unseen" for mask in result.masks[0])


def test_candidates_are_the_words_of_its_kind_where_that_is_told():
    step = learned(steps=2, candidates="conventional")[-1]
    assert all(set(each.called) <= set(SPLITS["lion"]) for each in step.result.unseen.values())


def test_the_seed_decides():
    one, again, other = (learned(steps=3, seed=seed) for seed in (7, 7, 8))
    assert [step.loss_mask for step in one] == [step.loss_mask for step in again]
    assert [step.loss_name for step in one] == [step.loss_name for step in again]
    assert one[-2].named == again[-2].named and np.array_equal(one[-2].film["seen"], again[-2].film["seen"])
    assert one[-1].loss_mask != other[-1].loss_mask and one[-1].loss_name != other[-1].loss_name


def test_numbers_are_json_with_their_baselines(film):
    for settings in (MaskSettings(steps=60), MaskSettings(steps=60, namer="cutout")):
        said = json.loads(json.dumps(masks.numbers(settings, film[-1], "words"), allow_nan=False))
        assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said) and said["steps"] == 60
        assert said["baseline"]["filled_boxes"]["seen"]["ap60"] < said["seen"]["ap60"]
        low, high = sorted((said["seen"]["ap50"], said["unseen"]["ap50"]))
        assert low <= said["harmonic"]["ap50"] <= high


@pytest.mark.parametrize(
    ("masked", "named", "random", "answer"),
    [(0.4, 0.9, 0.0, "mask"), (0.8, 0.3, 0.0, "name"), (0.8, 0.7, 0.1, "words"), (0.8, 0.7, 0.6, "both")],
)
def test_the_verdict_follows_the_run(masked, named, random, answer):
    lion = masks.Unseen(things=18, found=14, called={"lion": 10, "cat": 4})
    found = SimpleNamespace(
        masked={"unseen": masked},
        named={"learned": {"unseen": named}, "random": {"unseen": random}},
        unseen={"lion": lion},
    )
    told = verdicts.of_masks(MaskSettings(), found, answer)
    assert told.right and "18 pictures with a lion: 14 right masks, 10 right names" in told.text
    assert all(
        not verdicts.of_masks(MaskSettings(), found, key).right for key in verdicts.MASKS_ANSWERS if key != answer
    )


def test_a_run_that_is_left_ends():
    run = masks.run(MaskSettings(steps=600))
    next(run)
    run.close()
    assert list(run) == []


@pytest.mark.parametrize("known", [{"unseen": "cat"}, {"namer": "me"}, {"steps": 0}, {"decoder": 1}, {"seed": -1}])
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        MaskSettings(**known)
