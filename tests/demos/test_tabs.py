"""The tabs around their pipelines: what runs a model and what does not, and what is shown for known results."""

import inspect
import types

import gradio as gr
import numpy as np
import pytest

from demos import detection, reconstruction, self_distillation, token_removal
from demos.ui import pictures
from pipelines.detection import pipeline as detection_pipeline
from pipelines.reconstruction import pipeline as reconstruction_pipeline
from pipelines.self_distillation import pipeline as self_distillation_pipeline
from pipelines.token_removal import pipeline as token_removal_pipeline
from pipelines.world import storybook


def counting(module: types.ModuleType, *names: str) -> tuple[types.SimpleNamespace, dict[str, int]]:
    """The pipeline itself, with the calls of some of its functions counted."""
    calls = dict.fromkeys(names, 0)
    fake = types.SimpleNamespace(**{n: getattr(module, n) for n in dir(module) if not n.startswith("__")})

    def counted(name: str):
        def call(*arguments, **keywords):
            calls[name] += 1
            return getattr(module, name)(*arguments, **keywords)

        return call

    for name in names:
        setattr(fake, name, counted(name))
    return fake, calls


def served(tab: types.ModuleType, fake) -> dict:
    """The tab's functions by their endpoint, as the server would call them."""
    with gr.Blocks() as page:
        tab.build(fake)
    return {fn.api_name: fn.fn for fn in page.fns.values() if fn.api_visibility == "public"}


def last(steps):
    *_, result = steps
    return result


def test_temperatures_centring_and_keep_ratio_encode_once(scene_file):
    fake, calls = counting(self_distillation_pipeline, "encode")
    handler = served(self_distillation, fake)["self_distillation"]
    answers = [
        last(handler(scene_file, keep_ratio=keep, teacher_temperature=t, student_temperature=s, centering=c))[-1]
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


def test_keep_ratio_looks_at_the_whole_picture_once(scene_file):
    fake, calls = counting(token_removal_pipeline, "encode", "query")
    handler = served(token_removal, fake)["token_removal"]
    for keep_ratio in (0.3, 0.5, 0.7):
        last(handler(scene_file, keep_ratio=keep_ratio))
    assert calls == {"encode": 1, "query": 3}


def test_a_description_is_left_out_for_a_model_that_reads_none():
    checked = [
        token_removal._checked("a cat", 0.5, "attention", "mean", "mean", 1, m)
        for m in ("dino-vits16", "storybook-clip-b")
    ]
    assert [c["prompt"] for c in checked] == ["", "a cat"]


def test_finished_figure_follows_the_slider(scene_file):
    handlers = served(token_removal, token_removal_pipeline)
    assert last(handlers["token_removal"](scene_file, keep_ratio=0.3))[5] == ""
    steps = [
        s
        for s in handlers["token_removal_sweep"](scene_file, "", 0.3, 42, "storybook-detailclip")
        if isinstance(s, tuple)
    ]
    assert len(steps) == len(token_removal_pipeline.SWEEP_RATIOS) and len(steps[-1][1]) == 8 * len(steps)
    charts = [last(handlers["token_removal"](scene_file, keep_ratio=keep))[5] for keep in (0.3, 0.6)]
    assert charts[0].count("<polyline") == 4 and charts[0] != charts[1]


@pytest.mark.parametrize(
    ("tab", "pipeline", "slider", "others"),
    [
        (self_distillation, self_distillation_pipeline, "keep_ratio", ()),
        (detection, detection_pipeline, "box_threshold", ("cat. dog.",)),
    ],
)
def test_a_slow_answer_does_not_outlive_the_slider(tab, pipeline, slider, others, scene_file):
    """Every run is followed by a look at the sliders, which draws again exactly where they have moved since."""
    with gr.Blocks() as page:
        tab.build(pipeline)
    runs = [number for number, fn in page.fns.items() if fn.concurrency_id == "compute" and fn.name == tab.TAB]
    followed = {fn.trigger_after: fn for fn in page.fns.values() if fn.trigger_after in runs}
    assert runs and set(followed) == set(runs)
    numbers = last(page.fns[runs[0]].fn(scene_file, *others))[-1]
    given = inspect.signature(page.fns[runs[0]].fn).parameters
    arguments = {name: p.default for name, p in list(given.items())[1 + len(others) :]} | {"hide": []}
    for value, moved in ((numbers["settings"][slider], False), (0.9, True)):
        arguments[slider] = value
        settings = [arguments[name] for name in list(given)[1 + len(others) :]]
        for follow in followed.values():
            told = follow.fn(numbers, scene_file, *others, *settings)
            assert (told[-1]["settings"][slider] == 0.9) if moved else told == gr.skip()


def test_leaving_a_sweep_stops_the_work(scene_file):
    fake, calls = counting(token_removal_pipeline, "sweep")
    run = served(token_removal, fake)["token_removal_sweep"](scene_file, "", 0.5, 42, "storybook-detailclip")
    next(run)
    next(run)
    run.close()
    assert calls["sweep"] == 1


def test_share_of_object_patches_is_counted_on_the_truth(scene_file):
    numbers = last(served(token_removal, token_removal_pipeline)["token_removal"](scene_file))[-1]
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
    handlers = {}
    with gr.Blocks() as page:
        self_distillation.build(self_distillation_pipeline)
    for fn in page.fns.values():
        handlers.setdefault(fn.name, fn.fn)
    shown = last(handlers["self_distillation"](scene_file))
    sizes = {picture.size for picture in shown[1:4]}
    assert len(sizes) == 1
    width, height = sizes.pop()
    click = types.SimpleNamespace(index=[width - 1, height - 1])
    settings = (scene_file, 0.5, "attention", 0.07, 0.1, True, 42, "storybook-detailclip")
    (row, column), *_ = handlers["pick"](*settings, click)
    assert (row, column) == (15, 15)
    numbers = last(handlers["self_distillation"](scene_file, picked=(99, 99)))[-1]
    assert numbers["patches"] == 256, "a patch of another model's larger grid is forgotten"


def test_nothing_hidden_has_no_interpolation_to_compare_with(scene_file):
    handler = served(reconstruction, reconstruction_pipeline)["reconstruction"]
    *_, facts, _, _, numbers = last(handler(scene_file, 0.0, pattern="random"))
    assert numbers["psnr_neighbours"] is None and numbers["psnr_mean_colour"] < 40 and "interpolated" not in facts


def test_formulas_carry_the_present_values(scene_file):
    *_, formula, _, _, numbers = last(
        served(token_removal, token_removal_pipeline)["token_removal"](scene_file, "", 0.25)
    )
    assert r"64 \cdot 0.25 \rfloor + 1" in formula and f"= {numbers['tokens_kept']}" in formula
    assert f"{numbers['cosine_to_full']:.3f}" in formula and numbers["tokens_kept"] == 68
    *_, formula, _, numbers = last(served(reconstruction, reconstruction_pipeline)["reconstruction"](scene_file))
    assert f"{numbers['mse_masked']:.5f}" in formula and f"{numbers['psnr_masked']:.1f}" in formula


def test_export_refuses_a_layer_that_is_not_there(scene_file):
    with gr.Blocks() as page:
        token_removal.build(token_removal_pipeline)
    export = next(fn.fn for fn in page.fns.values() if fn.name == "export")
    with pytest.raises(gr.Error, match="6 layers"):
        last(export(scene_file, "", 0.5, "attention", "11", "mean", 42, "storybook-detailclip"))


def test_painted_patches_are_those_under_the_paint():
    layer = np.zeros((448, 448, 4), np.uint8)
    layer[0:28, 28:56] = 255  # exactly one patch of a 16x16 grid
    layer[100:104, 100:104] = 255  # a dab that covers too little of its patch
    painted = reconstruction.painted_patches({"layers": [layer]}, 16)
    assert np.argwhere(painted).tolist() == [[0, 1]]
    for empty in (None, {}, {"layers": []}, {"layers": [layer * 0]}):
        with pytest.raises(ValueError, match="Nothing is painted"):
            reconstruction.painted_patches(empty, 16)


def test_painting_hides_those_patches(scene_file):
    fake, calls = counting(reconstruction_pipeline, "reconstruct")
    handler = served(reconstruction, fake)["reconstruction"]
    painted = np.zeros((16, 16), bool)
    painted[5:8, 5:8] = True
    numbers = last(handler(scene_file, pattern="painted", painted=(scene_file, painted)))[-1]
    assert np.array_equal(np.array(numbers["mask"], bool), painted) and calls["reconstruct"] == 1
    with pytest.raises(gr.Error, match="Nothing is painted"):
        last(handler(scene_file, pattern="painted", painted=("another picture", painted)))


def test_low_resolution_shows_both_numbers(scene_file):
    *_, facts, _, note, numbers = last(
        served(reconstruction, reconstruction_pipeline)["reconstruction"](scene_file, 0.0, low_resolution=4)
    )
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
    with gr.Blocks() as page:
        handler, inputs, outputs = tab.build(types.SimpleNamespace())
    assert callable(handler) and inputs and outputs and page.fns
