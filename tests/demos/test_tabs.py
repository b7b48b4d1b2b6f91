"""The tabs around their pipelines: what runs a model and what does not, and what is shown for known results."""

import inspect
import types

import gradio as gr
import numpy as np
import pytest

from demos import reconstruction, self_distillation, token_removal
from demos.detection import boxes
from demos.ui import pictures
from demos.ui.page import build
from pipelines.reconstruction import pipeline as reconstruction_pipeline
from pipelines.self_distillation import pipeline as self_distillation_pipeline
from pipelines.token_removal import pipeline as token_removal_pipeline
from pipelines.token_removal.settings import Settings
from pipelines.world import storybook
from tests.demos.served import Served, counting, last


@pytest.fixture(autouse=True)
def empty_caches():
    """What is counted here was not computed before."""
    for tab in (self_distillation, token_removal, reconstruction, boxes):
        tab.encode.cache_clear()


@pytest.fixture
def counted(monkeypatch):
    """A tab over its own pipeline, whose calls are counted."""

    def of(tab: types.ModuleType, pipeline: types.ModuleType, *names: str) -> tuple[Served, dict[str, int]]:
        fake, calls = counting(pipeline, *names)
        monkeypatch.setattr(tab, "pipeline", fake)
        return Served(tab.LESSON), calls

    return of


def test_temperatures_centring_and_keep_ratio_encode_once(scene_file, counted):
    served, calls = counted(self_distillation, self_distillation_pipeline, "encode")
    handler = served["self_distillation"]
    answers = [
        last(handler(scene_file, keep_ratio=keep, teacher_temperature=t, student_temperature=s, centering=c))["numbers"]
        for keep, t, s, c in (
            (0.5, 0.07, 0.1, True),
            (0.3, 0.07, 0.1, True),
            (0.5, 0.2, 0.1, True),
            (0.5, 0.07, 0.3, False),
        )
    ]
    assert calls["encode"] == 1
    assert len({a["patch_kl_mean"] for a in answers}) == 4, "every slider changes the answer"
    last(handler(scene_file, rule="random"))
    assert calls["encode"] == 2


def test_keep_ratio_looks_at_the_whole_picture_once(scene_file, counted):
    served, calls = counted(token_removal, token_removal_pipeline, "encode", "query")
    handler = served["token_removal"]
    for keep_ratio in (0.3, 0.5, 0.7):
        last(handler(scene_file, keep_ratio=keep_ratio))
    assert calls == {"encode": 1, "query": 3}


def test_a_description_is_left_out_for_a_model_that_reads_none(scene_file, monkeypatch):
    monkeypatch.setattr(token_removal, "at_hand", lambda model: None)
    monkeypatch.setattr(token_removal, "encode", lambda *_: types.SimpleNamespace(attention=np.zeros((12, 12, 1, 1))))
    asked = [Settings(prompt="a cat", seed=1, model=m) for m in ("dino-vits16", "storybook-clip-b")]
    assert [token_removal.look(scene_file, each)[-1].prompt for each in asked] == ["", "a cat"]


def test_finished_figure_follows_the_slider(scene_file):
    handlers = Served(token_removal.LESSON)
    assert last(handlers["token_removal"](scene_file, keep_ratio=0.3))["chart"] == ""
    *steps, kept = handlers["token_removal_sweep"](scene_file, "", 0.3, 42, "storybook-detailclip")
    assert len(steps) == len(token_removal_pipeline.SWEEP_RATIOS) and len(steps[-1]["points"]) == 8 * len(steps)
    charts = [
        last(handlers["token_removal"](scene_file, keep_ratio=keep, curves=kept["curves"]))["chart"]
        for keep in (0.3, 0.6)
    ]
    assert charts[0].count("<polyline") == 4 and charts[0] != charts[1]


@pytest.mark.parametrize(
    ("tab", "slider", "others"),
    [(self_distillation, "keep_ratio", {}), (boxes, "box_threshold", {"prompt": "cat. dog."})],
)
def test_a_slow_answer_does_not_outlive_the_slider(tab, slider, others, scene_file):
    """Every run is followed by a look at the sliders, which draws again exactly where they have moved since."""
    served, slug = Served(tab.LESSON), tab.LESSON.slug
    fns = served.page.fns
    runs = [number for number, fn in fns.items() if fn.concurrency_id == "compute" and fn.name == slug]
    followed = {fn.trigger_after: fn for fn in fns.values() if fn.trigger_after in runs and fn.name == "redraw"}
    assert runs and set(followed) == set(runs)
    given = {name: p.default for name, p in inspect.signature(fns[runs[0]].fn).parameters.items()}
    given |= {"image": scene_file, **others}
    numbers = last(served[slug](**given))["numbers"]
    for value, moved in ((numbers["settings"][slider], False), (0.9, True)):
        given[slider] = value
        for follow in followed.values():
            told = served.called(follow.fn)(numbers, *given.values())
            assert (told["numbers"]["settings"][slider] == 0.9) if moved else told is None


def test_leaving_a_sweep_stops_the_work(scene_file, counted):
    served, calls = counted(token_removal, token_removal_pipeline, "sweep")
    run = served["token_removal_sweep"](scene_file, "", 0.5, 42, "storybook-detailclip")
    next(run)
    run.close()
    assert calls["sweep"] == 1


def test_share_of_object_patches_is_counted_on_the_truth(scene_file):
    numbers = token_removal.token_removal(scene_file, Settings())["numbers"]
    objects = storybook.object_share(storybook.scene(storybook.TEST[3]), 16) >= 0.5
    assert numbers["object_patches_kept"] == pytest.approx(np.array(numbers["keep_mask"], bool)[objects].mean())


def test_collapse_is_named():
    def result(teacher: np.ndarray) -> self_distillation_pipeline.Result:
        entropy = self_distillation_pipeline.entropy(teacher)
        mean = float(self_distillation_pipeline.entropy(teacher.mean((0, 1))))
        blank = np.zeros((2, 2), bool)
        return self_distillation_pipeline.Result(
            removed=blank,
            teacher=teacher,
            student=teacher,
            cross_entropy=entropy,
            kl=entropy * 0,
            teacher_entropy=entropy,
            mean_entropy=mean,
            loss_cls=0.0,
            cls_pair=(teacher[0, 0],) * 2,
        )

    uniform = np.full((2, 2, 4), 0.25)
    one = np.zeros((2, 2, 4))
    one[..., 1] = 1
    certain = np.eye(4).reshape(2, 2, 4)
    sure_and_different = 0.8 * certain + 0.05
    named = [self_distillation.collapse_of(result(p)) for p in (uniform, one, certain, sure_and_different)]
    assert named == ["uniform", "one", "hard", "none"]


def test_click_means_the_same_patch_in_every_panel(scene_file):
    """The panels are equally large, and a click on the last patch of any of them picks the last patch."""
    settings = self_distillation.Settings()
    shown = self_distillation.self_distillation(scene_file, settings)
    sizes = {shown[panel].size for panel in ("kl", "ids_teacher", "ids_student")}
    assert len(sizes) == 1
    width, height = sizes.pop()
    click = types.SimpleNamespace(index=[width - 1, height - 1])
    assert self_distillation.pick(scene_file, settings, click)["picked"] == (15, 15)
    numbers = self_distillation.self_distillation(scene_file, settings, picked=(99, 99))["numbers"]
    assert numbers["patches"] == 256, "a patch of another model's larger grid is forgotten"


def test_nothing_hidden_has_no_interpolation_to_compare_with(scene_file):
    shown = reconstruction.reconstruction(scene_file, reconstruction.Settings(mask_ratio=0.0, pattern="random"))
    facts, numbers = shown["facts"], shown["numbers"]
    assert numbers["psnr_neighbours"] is None and numbers["psnr_mean_colour"] < 40 and "interpolated" not in facts


def test_formulas_carry_the_present_values(scene_file):
    shown = token_removal.token_removal(scene_file, Settings(keep_ratio=0.25))
    formula, numbers = shown["formula"], shown["numbers"]
    assert r"64 \cdot 0.25 \rfloor + 1" in formula and f"= {numbers['tokens_kept']}" in formula
    assert f"{numbers['cosine_to_full']:.3f}" in formula and numbers["tokens_kept"] == 68
    shown = reconstruction.reconstruction(scene_file, reconstruction.Settings())
    formula, numbers = shown["formula"], shown["numbers"]
    assert f"{numbers['mse_masked']:.5f}" in formula and f"{numbers['psnr_masked']:.1f}" in formula


def test_export_refuses_a_layer_that_is_not_there(scene_file):
    export = Served(token_removal.LESSON)["export"]
    with pytest.raises(gr.Error, match="6 layers"):
        last(export(scene_file, "", 0.5, "attention", "11", "mean", 42, "storybook-detailclip"))


def test_painted_patches_are_those_under_the_paint(scene_file, monkeypatch):
    monkeypatch.setattr(pictures, "read_layer", lambda layer: layer)
    layer = np.zeros((448, 448, 4), np.uint8)
    layer[0:28, 28:56] = 255  # exactly one patch of a 16x16 grid
    layer[100:104, 100:104] = 255  # a dab that covers too little of its patch
    painted = reconstruction.painted_patches([layer], 16)
    assert np.argwhere(painted).tolist() == [[0, 1]]
    for empty in (None, {}, {"layers": []}, {"layers": [layer * 0]}):
        with pytest.raises(ValueError, match="Nothing is painted"):
            reconstruction.take_paint(empty, "storybook-detailclip", scene_file)


def test_painting_hides_those_patches(scene_file, counted):
    served, calls = counted(reconstruction, reconstruction_pipeline, "reconstruct")
    handler = served["reconstruction"]
    painted = np.zeros((16, 16), bool)
    painted[5:8, 5:8] = True
    numbers = last(handler(scene_file, pattern="painted", painted=(scene_file, painted)))["numbers"]
    assert np.array_equal(np.array(numbers["mask"], bool), painted) and calls["reconstruct"] == 1
    with pytest.raises(gr.Error, match="Nothing is painted"):
        last(handler(scene_file, pattern="painted", painted=("another picture", painted)))


def test_low_resolution_shows_both_numbers(scene_file):
    shown = reconstruction.reconstruction(scene_file, reconstruction.Settings(mask_ratio=0.0, low_resolution=4))
    facts, note, numbers = shown["facts"], shown["note"], shown["numbers"]
    assert (
        "bicubic" in facts and f"{numbers['psnr_bicubic']:.1f}" in facts and f"{numbers['psnr_sharpened']:.1f}" in facts
    )
    assert "storybook scenes" in note


def test_unseen_things_can_be_drawn_without_breaking_the_description():
    _, fox = pictures.scene_picture({"text": "a fox and a bus", "seed": 0})
    _, cat = pictures.scene_picture({"text": "a cat and a red car", "seed": 0})
    assert "fox" in fox.full_caption and pictures.told_of(fox) == ""
    assert pictures.told_of(cat) == cat.full_caption


@pytest.mark.parametrize("tab", [self_distillation, token_removal, reconstruction])
def test_each_tab_runs_alone(tab):
    page = build([tab.LESSON])
    (endpoint,) = (fn for fn in page.fns.values() if fn.api_name == tab.LESSON.slug)
    assert callable(endpoint.fn) and endpoint.inputs and endpoint.outputs
