"""One noise for all pictures: its bound is exact, it beats random signs, and it is tried where it was not learned."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.cues import universal, verdicts
from pipelines.cues.namers import Namer, clip_namer, detector_namer, in_range
from pipelines.cues.settings import UniversalSettings
from pipelines.cues.universal import CONTROLS, LEVELS, ascend, defended, disturbed, numbers, random_signs, run
from pipelines.detection.pipeline import encode
from pipelines.errors import UserError
from pipelines.world import grounds, storybook


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    """Never-seen pictures of a test: a dozen."""
    patch = pytest.MonkeyPatch()
    patch.setattr(universal, "UNSEEN", 12)
    patch.setattr(universal, "WATCHED", 8)
    yield
    patch.undo()


def brightness() -> Namer:
    """Calls a picture bright or dark; whatever is added evenly changes that."""

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        mean = pixels.mean((1, 2, 3))
        return 40 * torch.stack([mean - 0.5, 0.5 - mean], 1)

    return Namer(model="brightness", names=("bright", "dark"), size=8, logits=logits)


def grey(levels: list[float]) -> torch.Tensor:
    return torch.tensor(levels)[:, None, None, None].expand(-1, 3, 8, 8).clone()


@pytest.fixture(scope="module")
def film():
    """Eight steps at the greatest strength, learned from 32 pictures."""
    return list(run(UniversalSettings(epsilon=16, steps=8, pictures=32)))


def test_learned_noise_fools_and_random_signs_do_not(film):
    end = film[-1].tried
    assert list(end) == list(CONTROLS)
    assert end["random"].rate < 0.05 and end["learned"].rate > 5 * max(end["random"].rate, 0.05)
    assert end["shuffled"].rate < 0.1, "the pattern matters, not how much of each colour it has"
    assert verdicts.of_universal(film[-1]).answer in ("some", "most")


def test_it_is_tried_a_few_pictures_at_a_time(monkeypatch):
    """The counts grow, end where they do in one go, and nothing is done before the last of them."""
    settings = UniversalSettings(epsilon=16, steps=1, pictures=4)
    ends, films = [], []
    for part in (5, 12):
        monkeypatch.setattr(universal, "PART", part)
        films.append([step for step in run(settings) if step.tried])
        ends.append({name: (each.changed, each.pictures) for name, each in films[-1][-1].tried.items()})
    assert ends[0] == ends[1] and set(pictures for _, pictures in ends[0].values()) == {12}
    assert [step.tried["learned"].pictures for step in films[0][:4]] == [5, 10, 12, 12]
    assert [step.names is None for step in films[0][:4]] == [True, True, False, False]
    assert [step.done for step in films[0]] == [False] * (len(films[0]) - 1) + [True]


def test_the_bound_holds_at_every_step(film):
    assert not film[0].noise.any() and film[0].rate == 0 and film[0].loss is None
    for step in film[1:]:
        assert step.noise.dtype == np.int8 and np.abs(step.noise.astype(int)).max() <= 16
    assert np.abs(film[-1].noise.astype(int)).max() == 16
    assert [step.step for step in film] == list(range(9)) + [8] * len(CONTROLS)
    changed = film[-1].names.disturbed.astype(int) - film[-1].names.pictures
    assert np.abs(changed).max() <= 16


def test_names_are_counted_once_each(film):
    names = film[-1].names
    assert names.flow.sum() == 12 and names.right_before >= 0.9
    moved = names.flow.sum() - np.trace(names.flow)
    assert moved == film[-1].tried["learned"].changed
    assert all(name in storybook.NOUNS for name in names.before + names.after) and len(names.before) == universal.SHOWN


def test_the_seed_is_all_it_comes_from(film):
    again = run(UniversalSettings(epsilon=16, steps=8, pictures=32))
    other = run(UniversalSettings(epsilon=16, steps=8, pictures=4, seed=1))
    for step in film[:3]:
        same, different = next(again), next(other)
        assert np.array_equal(step.noise, same.noise) and step.loss == same.loss
    assert not np.array_equal(film[2].noise, different.noise)
    again.close()
    other.close()


@pytest.mark.parametrize("target", ["", "dark"])
def test_ascent_climbs_where_the_way_is_known(target):
    """Pictures a little brighter than grey: the noise must darken every pixel, all the way."""
    levels = grey([130.0, 131, 132, 133])
    settings = UniversalSettings(epsilon=8, steps=10)
    object.__setattr__(settings, "target", target)
    *_, (noise, _) = ascend(brightness(), levels, settings, torch.Generator().manual_seed(0))
    assert torch.equal(noise, torch.full_like(noise, -8)), "exactly as strong as allowed"
    assert brightness().told(levels / LEVELS).tolist() == [0] * 4
    assert brightness().told(disturbed(levels, noise) / LEVELS).tolist() == [1] * 4


def test_no_strength_no_noise():
    film = run(UniversalSettings(epsilon=0, steps=1, pictures=4))
    for _ in range(2 + 2):  # before and after the step, the learned noise, random signs
        last = next(film)
    film.close()
    assert not last.noise.any() and last.tried["learned"].changed == last.tried["random"].changed == 0


def test_pixels_stay_pixels():
    noise = random_signs(torch.Size([3, 8, 8]), 16, torch.Generator().manual_seed(0))
    assert set(noise.unique().tolist()) == {-16.0, 16.0}
    found = disturbed(grey([0.0, 3, 250, 255]), noise)
    assert found.min() == 0 and found.max() == 255 and torch.equal(found, found.round())


def test_defences_keep_a_picture_a_picture():
    levels = torch.randint(256, (2, 3, 128, 128), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(defended(levels, "none"), levels)
    moved = defended(levels, "shift")
    assert torch.equal(moved[:, :, 8:, 8:], levels[:, :, :-8, :-8])
    blurred = defended(levels, "blur")
    assert blurred.shape == levels.shape and blurred.std() < levels.std() / 2
    assert torch.allclose(blurred[:, :, 5, 5], levels[:, :, 4:7, 4:7].mean((2, 3)), atol=1e-3)


def test_a_clip_names_as_its_own_method_does():
    namer = clip_namer("storybook-clip-b")
    levels, nouns = universal.pictures(storybook.TEST[40:48])
    shares = namer.probabilities(levels / LEVELS)
    assert torch.allclose(shares.sum(1), torch.ones(8)) and shares.shape == (8, 24)
    assert (namer.told(levels / LEVELS) == nouns).float().mean() >= 7 / 8


def test_a_detector_calls_a_picture_what_its_surest_box_is_called():
    """Beside the pipeline of the tab Detection, which goes through the image processor and faster forwards."""
    namer, scenes = detector_namer("storybook-grounding-dino"), [storybook.scene(seed, count=1) for seed in range(3)]
    told = namer.logits(in_range(np.stack([scene.picture for scene in scenes]))).sigmoid().numpy()
    for scene, scores in zip(scenes, told, strict=True):
        known = encode(Image.fromarray(scene.picture), list(storybook.NOUNS), "storybook-grounding-dino")
        assert np.allclose(scores, known.scores.max(0), atol=1e-5)
        assert storybook.NOUNS[int(scores.argmax())] == scene.objects[0].noun


def test_a_detector_can_be_the_victim():
    *_, end = run(UniversalSettings(victim="storybook-grounding-dino", epsilon=16, steps=2, pictures=4))
    assert end.done and list(end.tried) == list(CONTROLS) and end.noise.shape == (128, 128, 3)
    assert end.names.right_before >= 0.9 and end.labels == storybook.NOUNS
    assert end.loss is not None and end.loss > 0 and np.abs(end.noise.astype(int)).max() <= 16


@pytest.mark.parametrize("known", [{"epsilon": 17}, {"epsilon": -1}, {"pictures": 3}, {"target": "zeppelin"}])
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        UniversalSettings(**known)


def test_numbers_are_json_with_their_baselines(film):
    settings = UniversalSettings(epsilon=16, steps=8, pictures=32)
    said = json.loads(json.dumps(numbers(settings, film[-1], "random"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["verdict"]["right"] is False and said["largest"] <= said["epsilon"]
    assert set(said["baseline"]) == {"random", "shuffled", "mirrored", "other_random"}


# -------------------------------------------------------------------------------------------------------- photographs


def test_a_classifier_learns_it_from_some_photographs_and_is_tried_on_others():
    settings = UniversalSettings(victim="efficientnet-lite0", epsilon=10, steps=3, pictures=8)
    *_, end = run(settings)
    assert end.done and list(end.tried) == ["learned", "random", "shuffled", "mirrored"] == list(end.controls)
    assert end.noise.shape == (224, 224, 3) and 0 < np.abs(end.noise.astype(int)).max() <= 10
    assert len(end.labels) == 1000 and end.names.right_before is None and end.tried["learned"].pictures == 12
    said = json.loads(json.dumps(numbers(settings, end, "some"), allow_nan=False))
    assert said["other_model"] is None and set(said["baseline"]) == {"random", "shuffled", "mirrored"}
    assert "another network" not in verdicts.of_universal(end).text


def test_pieces_to_try_are_of_photographs_that_were_not_learned_from():
    assert not set(grounds.TRAINING_PHOTOGRAPHS) & set(grounds.TEST_PHOTOGRAPHS)
    learned, seen = (universal.pieces(4, 32, 0, test) for test in (False, True))
    assert learned.shape == seen.shape == (4, 3, 32, 32) and not torch.equal(learned, seen)
    assert torch.equal(learned, learned.round()) and learned.min() >= 0 and learned.max() <= LEVELS
    assert torch.equal(learned, universal.pieces(4, 32, 0, test=False))


def test_a_target_that_has_no_name_is_refused():
    with pytest.raises(UserError, match="efficientnet-lite0 has no name 'cat'"):
        next(run(UniversalSettings(victim="efficientnet-lite0", target="cat")))
