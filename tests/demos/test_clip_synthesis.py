"""The CLIP synthesis tab: what arrives while a picture grows, going on, comparing, exporting, and every bad setting."""

import html
import json
import types
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from demos import clip_synthesis as tab
from demos.ui import pictures
from pipelines.clip_synthesis import parametrizations as canvas
from tests import tiny_diffusion
from tests.demos.served import Served

GIVEN = {
    "prompt": "a cat",
    "parametrization": "fourier",
    "steps": 6,
    "cutouts": 2,
    "augment": True,
    "seed": 1,
    "model": "storybook-clip-b",
    "image": None,
    "wanted": None,
    "wanted_weight": 0.5,
    "variation": 0,
    "saturation": 0,
    "noise": 0.1,
    "autoencoder": "storybook-autoencoder",
}
PICTURE, STATUS, CHARTS, FACTS = "picture", "status", "charts", "facts"
COMPARED, TABLE, NOTE, KEPT, NUMBERS = "compared", "table", "note", "kept", "numbers"


@pytest.fixture(scope="module")
def page():
    """The tab's handlers by name."""
    served = Served(tab.LESSON)
    return types.SimpleNamespace(
        clip_synthesis=served["clip_synthesis"],
        continued=lambda kept, *given: served["go_on"](*given, kept),
        compare=served["compare_parametrizations"],
        compare_views=served["compare_views"],
        exported=served["export"],
    )


@pytest.fixture(autouse=True)
def small_autoencoder(monkeypatch):
    """In place of the diffusion model's: random weights."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    vae = AutoencoderTiny(**tiny_diffusion.DECODER).eval().requires_grad_(False)
    monkeypatch.setattr(canvas, "load", lambda *_: types.SimpleNamespace(module=vae))


def settings(**changed) -> list:
    return list((GIVEN | changed).values())


def last_of(steps: list, part: str):
    """The newest value of this part: one that is not named stays as it was."""
    return [step[part] for step in steps if part in step][-1]


def numbers_of(steps: list) -> dict:
    return last_of(steps, NUMBERS)


def test_every_step_is_told_and_pictures_arrive_on_the_way(page):
    steps = list(page.clip_synthesis(*settings(steps=11)))
    told = [step[STATUS] for step in steps]
    assert [text.split(",")[0] for text in told] == [f"Step {n} of 11" for n in range(1, 12)] + [""]
    drawn = [step[PICTURE] for step in steps if PICTURE in step]
    assert len(drawn) == 5, "after 1, 5, 10 and 11 steps, and the last answer is whole"
    assert len({picture.tobytes() for picture in drawn}) == 4
    numbers = numbers_of(steps)
    assert numbers["iterations"] == [1, 5, 10, 11] and numbers["gap"] == pytest.approx(
        numbers["similarity"] - numbers["similarity_held_out"]
    )
    assert 1 <= numbers["rank_held_out"] <= 100 and numbers["iterations_per_second"] > 0
    assert "real pictures" in last_of(steps, FACTS) and last_of(steps, CHARTS).count("<polyline") >= 2
    assert "storybook-clip-b is followed, storybook-detailclip judges" in last_of(steps, NOTE)
    json.dumps(numbers, allow_nan=False)


def test_the_prompt_alone_is_enough(page):
    run = page.clip_synthesis("a cat")
    assert next(run)[STATUS].startswith("Step 1 of 80")
    run.close()
    assert numbers_of(list(page.clip_synthesis(*settings(steps=1))))["steps"] == 1, "the device is free again"


def test_going_on_continues_the_curve_even_after_a_stop(page):
    run = page.clip_synthesis(*settings(steps=100))
    steps = [next(run) for _ in range(7)]
    run.close()
    kept = last_of(steps, KEPT)
    assert [step.iteration for step in kept[1]] == [1, 5]
    more = list(page.continued(kept, *settings(steps=5)))
    numbers = numbers_of(more)
    assert numbers["iterations"] == [1, 5, 6, 10] and numbers["similarities"][:2] == [
        step.look.similarity for step in kept[1]
    ]
    assert numbers["similarities"][2] > numbers["similarities"][0], "not from noise again"
    with pytest.raises(gr.Error, match="no picture yet"):
        list(page.continued(None, *settings()))


def test_parametrizations_are_compared_in_one_row_beside_a_real_picture(page):
    *_, done = page.compare(*settings(steps=2))
    assert set(done[NUMBERS]) == set(tab.PARAMETRIZATIONS.values())
    for name in tab.PARAMETRIZATIONS.values():
        assert html.escape(name) in done[TABLE]
    assert "real pictures, mean" in done[TABLE]
    row = done[COMPARED]["value"]
    assert row.width > 4 * row.height, "five pictures side by side"
    *_, two = page.compare_views(*settings(steps=2))
    assert set(two[NUMBERS]) == {"with views", "without"}
    assert two[NUMBERS]["with views"]["similarity"] != two[NUMBERS]["without"]["similarity"]


def test_a_caption_the_world_cannot_draw_has_no_yardstick(page):
    steps = list(page.clip_synthesis(*settings(prompt="grass", steps=1)))
    assert numbers_of(steps)["real"] is None and "real pictures" not in last_of(steps, FACTS)


def test_begins_from_a_picture_and_comes_close_to_another(page, tmp_path):
    path = tmp_path / "cat.png"
    pictures.photograph("cat (fur)").save(path)
    steps = list(page.clip_synthesis(*settings(steps=1, image=str(path), wanted=str(path), augment=False)))
    assert "the example" in numbers_of(steps)["parts"]
    cat = np.asarray(pictures.photograph("cat (fur)").convert("L").resize((8, 8)), float)
    drawn = np.asarray(last_of(steps, PICTURE).convert("L").resize((8, 8)), float)
    assert np.abs(drawn - np.asarray(Image.new("L", (8, 8), 128))).mean() > 10 and cat.shape == drawn.shape
    with pytest.raises(gr.Error, match="picture"):
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"nonsense")
        list(page.clip_synthesis(*settings(wanted=str(bad))))


def test_export_has_the_growing_picture_and_its_settings(page):
    steps = list(page.clip_synthesis(*settings()))
    picture, data = page.exported(last_of(steps, KEPT), numbers_of(steps))["files"]
    record = json.loads(Path(data).read_text(encoding="utf-8"))
    assert record["settings"]["prompt"] == "a cat" and record["numbers"]["steps"] == 6
    with Image.open(picture) as figure:
        assert json.loads(figure.info["patchlight"]) == record
    with pytest.raises(gr.Error, match="Press Start first"):
        page.exported(None, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompt": ""}, "no prompt yet"),
        ({"prompt": "a cat:-1"}, "All prompts are negative"),
        ({"prompt": "a cat:nan"}, "is no weight"),
        ({"prompt": "a cat:1e38"}, "Weights are from"),
        ({"prompt": "a zebra"}, "does not know 'zebra'"),
        ({"prompt": "cat " * 5000}, "too long"),
        ({"prompt": 7}, "must be text"),
        ({"parametrization": "oil"}, "parametrization must be one of 'latent'"),
        ({"steps": 0}, "Steps must be a number from 1 to 500"),
        ({"steps": 10**9}, "Steps must be a number from 1 to 500"),
        ({"steps": float("nan")}, "Steps must be a number"),
        ({"cutouts": 10**6}, "number of views must be a number from 1 to 64"),
        ({"cutouts": 2.5}, "whole number"),
        ({"augment": "yes"}, "true or false"),
        ({"seed": -1}, "seed must be a number"),
        ({"model": "gpt"}, "model must be one of"),
        ({"model": "openclip-vit-b-32"}, "not on this computer yet"),
        ({"wanted_weight": float("inf")}, "weight of the picture must be a number"),
        ({"variation": 1e308}, "Smoothness must be a number"),
        ({"saturation": None}, "Saturation must be a number"),
        ({"noise": -1}, "noise must be a number"),
        ({"autoencoder": "../../etc"}, "autoencoder must be one of"),
        ({"autoencoder": "taesd", "parametrization": "latent"}, "not on this computer yet"),
    ],
)
def test_bad_settings_say_what_is_wrong_and_the_next_request_works(page, changed, message):
    with pytest.raises(gr.Error, match=message):
        list(page.clip_synthesis(*settings(**changed)))
    assert numbers_of(list(page.clip_synthesis(*settings(steps=1))))["steps"] == 1


def test_a_comparison_leaves_nothing_of_the_run_before(page):
    run = page.compare(*settings(steps=2))
    shown = next(run)
    run.close()
    assert [shown[part] for part in (CHARTS, FACTS, TABLE, NOTE, NUMBERS)] == [None] * 5
    assert shown[COMPARED]["value"] is None
    assert shown[KEPT] is False
    with pytest.raises(gr.Error, match="no picture yet"):
        list(page.continued(shown[KEPT], *settings()))
    with pytest.raises(gr.Error, match="no single run"):
        page.exported(shown[KEPT], None)
