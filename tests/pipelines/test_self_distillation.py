"""Distributions, losses and collapse numbers are those of the method, and sliders never run the model."""

import math

import numpy as np
import pytest
import torch

from pipelines.models import loading
from pipelines.models.detailclip import DetailCLIP
from pipelines.self_distillation import pipeline as self_distillation
from pipelines.self_distillation.settings import Settings

MODEL = "storybook-detailclip"


@pytest.fixture(scope="module")
def encoded(scene_image):
    return self_distillation.encode(scene_image, MODEL)


def test_result_is_the_training_losses_own(encoded):
    """The same picture through DetailCLIP.forward gives the same L_CLS with its crop as the other view, and the same
    L_Patch with itself as the other view (both views averaged there)."""
    model = loading.load(MODEL)
    detail: DetailCLIP = model.detail
    views = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in encoded.pictures])[:, None]
    views = (views - model.mean[0]) / model.deviation[0]
    trained = detail.settings
    asked = Settings(
        teacher_temperature=trained.teacher_temperature_patch, student_temperature=trained.student_temperature
    )
    found = self_distillation.query(encoded, asked)
    with torch.no_grad():
        across = detail(views, model.tokenize(["a cat"]), keep_ratio=0.5)
        alone = detail(views[[0, 0]], model.tokenize(["a cat"]), keep_ratio=0.5)
    assert found.loss_cls == pytest.approx(across.cls.item(), abs=2e-3)
    assert found.cross_entropy[found.removed].mean() == pytest.approx(alone.patch.item(), abs=2e-3)


def test_kl_is_cross_entropy_above_its_floor(encoded):
    found = self_distillation.query(encoded, Settings())
    np.testing.assert_allclose(found.cross_entropy - found.teacher_entropy, found.kl, atol=1e-4)
    assert (
        (found.kl >= 0).all()
        and found.teacher.sum(-1) == pytest.approx(1)
        and found.student.sum(-1) == pytest.approx(1)
    )


def test_student_that_equals_the_teacher_has_no_kl():
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(4, 4, 8))
    patches /= np.linalg.norm(patches, axis=-1, keepdims=True)
    prototypes = rng.normal(size=(5, 8))
    student = self_distillation.StudentView(kept=np.ones((2, 4, 4), bool), cls=patches[0, :2], patches=patches)
    same = self_distillation.Encoded(
        model="m",
        pictures=np.zeros((2, 8, 8, 3)),
        teacher_cls=patches[0, :2],
        teacher_patches=patches,
        students={1.0: student},
        teacher_prototypes=prototypes,
        student_prototypes=prototypes,
        center_cls=np.zeros(5),
        center_patch=np.zeros(5),
        class_temperature=0.04,
    )
    found = self_distillation.query(same, Settings(keep_ratio=1.0, teacher_temperature=0.1, student_temperature=0.1))
    assert found.kl.max() < 1e-6 and found.agreement == 1.0


def test_sliders_never_run_the_model(encoded, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a model was run")

    monkeypatch.setattr(torch.nn.Module, "__call__", forbidden)
    monkeypatch.setattr(self_distillation, "load", forbidden)
    for keep_ratio in self_distillation.RATIOS:
        temperatures = {"teacher_temperature": 0.05, "student_temperature": 0.2}
        asked = Settings(keep_ratio=keep_ratio, centering=keep_ratio < 0.5, **temperatures)
        self_distillation.query(encoded, asked)
        self_distillation.principal_colours(encoded, keep_ratio)


def test_sharper_teacher_has_less_entropy_and_flat_ones_read_ln_k(encoded):
    limit = math.log(encoded.teacher_prototypes.shape[0])
    entropies = [
        self_distillation.query(encoded, Settings(teacher_temperature=t)).teacher_entropy.mean()
        for t in (0.01, 0.07, 0.2, 5.0)
    ]
    assert np.all(np.diff(entropies) > 0) and entropies[-1] == pytest.approx(limit, abs=0.01)
    flat = self_distillation.query(encoded, Settings(teacher_temperature=5.0, student_temperature=5.0))
    assert flat.cross_entropy.mean() == pytest.approx(limit, abs=0.01), "a uniform collapse reads ln K"
    assert self_distillation.query(encoded, Settings(teacher_temperature=0.001)).teacher_entropy.mean() < 0.1 * limit


def test_centring_only_shifts_the_teachers_logits(encoded):
    with_center, without = (self_distillation.query(encoded, Settings(centering=c)) for c in (True, False))
    logits = encoded.teacher_patches @ encoded.teacher_prototypes.T
    np.testing.assert_allclose(without.teacher, self_distillation.softmax(logits / 0.07), atol=1e-6)
    np.testing.assert_allclose(
        with_center.teacher, self_distillation.softmax((logits - encoded.center_patch) / 0.07), atol=1e-6
    )
    assert np.array_equal(with_center.student, without.student)


def test_nothing_removed_is_learnt_from_everywhere(encoded):
    found = self_distillation.query(encoded, Settings(keep_ratio=1.0))
    assert not found.removed.any() and found.learnt_from.all()


def test_two_views_and_seeds(scene_image, encoded):
    again = self_distillation.encode(scene_image, MODEL, ratios=(0.5,))
    assert np.array_equal(again.pictures, encoded.pictures) and not np.array_equal(again.pictures[0], again.pictures[1])
    other = self_distillation.encode(scene_image, MODEL, seed=7, ratios=(0.5,))
    assert np.array_equal(other.pictures[0], again.pictures[0]) and not np.array_equal(
        other.pictures[1], again.pictures[1]
    )


def test_picked_patch_shows_its_likeliest_prototypes(encoded):
    found = self_distillation.query(encoded, Settings())
    top = found.at(3, 5, most=6)
    assert len(top) == 6 and top[0][1:] == (found.teacher[3, 5, top[0][0]], found.student[3, 5, top[0][0]])
    assert max(found.teacher[3, 5].max(), found.student[3, 5].max()) == max(top[0][1:])


def test_equal_features_get_equal_colours(encoded):
    teacher, student = self_distillation.principal_colours(encoded, 0.5)
    assert teacher.shape == student.shape == (16, 16, 3) and 0 <= teacher.min() and teacher.max() <= 1
    again = self_distillation.principal_colours(encoded, 0.5)[0]
    assert np.array_equal(teacher, again), "the sign of a component is fixed"


def test_training_log_is_the_runs_own():
    log = self_distillation.training_log(MODEL)
    assert log["records"][-1]["step"] == log["steps"] and log["prototypes"] == 512
    assert {"clip", "cls", "patch", "rec", "entropy_patch", "entropy_mean_patch", "prototypes_used"} <= set(
        log["records"][0]
    )
    first, last = log["records"][0], log["records"][-1]
    assert all(last[name] < first[name] for name in ("cls", "patch", "rec"))
    assert self_distillation.training_log("storybook-clip-b") is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"keep_ratio": 0.33}, "must be one of 0.1"),
        ({"teacher_temperature": 0.0}, "temperature must be a number from 0.001"),
        ({"student_temperature": math.nan}, "temperature must be a number from 0.001"),
        ({"teacher_temperature": math.inf}, "temperature must be a number from 0.001"),
    ],
)
def test_bad_settings_say_what_is_allowed(encoded, settings, told):
    with pytest.raises(ValueError, match=told):
        self_distillation.query(encoded, Settings(**settings))


def test_a_model_without_a_teacher_is_refused(scene_image):
    with pytest.raises(ValueError, match="no teacher.*storybook-detailclip"):
        self_distillation.encode(scene_image, "storybook-clip-b")
