"""The diffusion tab around a tiny model: what arrives step by step, what is counted, what is saved and opened again."""

import types
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from demos import diffusion as tab
from demos.diffusion import player, seeds, verdicts
from pipelines.diffusion import pipeline, recording
from pipelines.diffusion.presence import Verdict
from pipelines.models.registry import MODELS
from pipelines.models.text_to_image import TextToImage
from pipelines.shares import wilson
from tests import tiny_diffusion
from tests.demos.served import Served

PROMPT = "a cat and a red car"


@pytest.fixture(scope="module")
def model() -> TextToImage:
    pipe = tiny_diffusion.pipeline()
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.eval().requires_grad_(False)
    return TextToImage(
        spec=MODELS["storybook-diffusion"], pipe=pipe, previewer=None, vocabulary=frozenset(pipe.tokenizer.get_vocab())
    )


def verdict_of(present, scores, boxes, faults) -> Verdict:
    return Verdict(present=present, scores=scores, boxes=boxes, colours=(None,) * len(present), faults=faults)


class Detector:
    """Sees the cat always, and the car on every second picture; asked for things and colours of each."""

    def __init__(self):
        self.asked = 0

    def encode(self, picture, phrases, model):
        self.asked += 1
        told = {"cat": (0.95, 0), "car": (0, 0.9 if self.asked % 4 == 3 else 0.1), "blue car": (0, 0.8)}
        scores = np.float32([told.get(phrase, (0, 0)) for phrase in phrases]).T
        boxes = np.float32([[0, 0, 60, 60], [64, 0, 120, 60]])
        return types.SimpleNamespace(phrases=tuple(phrases), scores=scores, boxes=boxes)


@pytest.fixture
def page(model, monkeypatch):
    """The tab's handlers by name, over the tiny model and a detector whose answers are known."""
    monkeypatch.setattr(pipeline, "load", lambda *_: model)
    monkeypatch.setattr(tab, "model_names", lambda *families: ["storybook-diffusion"])
    monkeypatch.setattr(pipeline, "clip_score", lambda *_: 0.25)
    detector = Detector()
    monkeypatch.setattr(tab, "detector", detector)
    served = Served(tab.LESSON)
    return types.SimpleNamespace(
        draw=served["diffusion"],
        count=lambda many, *given: served["count_missing"](*given, many),
        saved=served["save"],
        exported=served["export"],
        reopened=served["reopen"],
        detector=detector,
    )


def settings(**changed) -> list:
    given = {
        "prompt": PROMPT,
        "negative_prompt": "",
        "image": None,
        "strength": 0.6,
        "steps": 4,
        "guidance_scale": 7.5,
        "method": "none",
        "subjects": "",
        "seed": 1,
        "model": "storybook-diffusion",
        "sampler": "ddim",
        "scale": 20,
        "refine": True,
    }
    return list((given | changed).values())


def test_pictures_arrive_step_by_step_and_numbers_last(page):
    *steps, measuring, done = page.draw(PROMPT, steps=4)
    assert list(measuring) == ["status"], "the picture stays while it is measured"
    assert len(steps) == 4 and all(isinstance(step["picture"], Image.Image) for step in steps)
    assert "Step 1 of 4" in steps[0]["status"] and "Step 4 of 4" in steps[3]["status"]
    kept, numbers = done["kept"], done["numbers"]
    assert numbers["seed"] == 42 and numbers["steps"] == 4 and numbers["subjects"] == ["cat", "red car"]
    assert set(numbers["presence"]) == set(numbers["attention_peak"]) == {"cat", "red car"}
    assert numbers["clip_score"] == 0.25 and numbers["seconds"] > 0
    assert isinstance(kept, recording.Recording) and len(kept.moments) == 4


def test_verdict_is_the_detectors(page):
    missing, there = (list(page.draw(PROMPT, steps=2))[-1]["numbers"] for _ in range(2))
    assert missing["presence"] == {"cat": True, "red car": False} and not missing["presence_all"]
    assert there["presence_all"] and there["faults"] == {"cat": "", "red car": "wrong colour"}


def test_counting_shows_every_seed_under_both_methods(page):
    *steps, done = page.count(3, *settings())
    numbers = done["numbers"]
    assert numbers["seeds"] == [1, 2, 3]
    assert numbers["plain"]["presence_all"] == 0 and numbers["excited"]["presence_all"] == 1
    assert numbers["plain"]["presence"] == {"cat": 1, "red car": 0}
    assert set(numbers["plain"]["faults"]) == {"1", "2", "3"}, "JSON has no other keys than text"
    assert numbers["plain"]["interval"] == list(wilson(0, 3))
    strip = done["strip"]
    assert strip.count("<figure") == 3 and strip.count('class="good"') == strip.count('class="bad"') == 3
    assert "0/3 = 0% (0% – 56%)" in strip and "3/3 = 100% (44% – 100%)" in strip
    arrived = [step["strip"] for step in steps if isinstance(step.get("strip"), str)]
    assert [text.count("<figure") for text in arrived] == [1, 2], "each seed appears when it is ready"


def test_leaving_the_count_leaves_the_model_as_it_was(page, model):
    processors = dict(model.pipe.unet.attn_processors)
    run = page.count(2, *settings(method="attend-and-excite"))
    for _ in range(3):
        next(run)
    run.close()
    now = model.pipe.unet.attn_processors
    assert all(now[name] is processors[name] for name in processors)
    assert list(page.draw(PROMPT, steps=1))[-1]["numbers"]["steps"] == 1, "the device is free again"


def test_nothing_to_count_without_a_subject(page):
    with pytest.raises(gr.Error, match="Click the words"):
        list(page.count(1, *settings(prompt="on grass")))


def test_a_saved_run_is_opened_without_a_model(page, monkeypatch):
    done = list(page.draw(PROMPT, steps=3))[-1]
    (path,) = page.saved(done["kept"])["files"]
    assert path.endswith("patchlight-a-cat-and-a-red-car-42.safetensors")
    monkeypatch.setattr(pipeline, "load", lambda *_: pytest.fail("a model was loaded"))
    again = page.reopened(path)
    assert again["player"]["count"] == 3 and again["player"]["tracks"] == done["player"]["tracks"]
    assert (
        again["numbers"]["attention_peak"] == done["numbers"]["attention_peak"] and "without a model" in again["note"]
    )


def test_a_file_that_is_no_run_leaves_everything_as_it_is(page, tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nonsense")
    with pytest.raises(gr.Error, match="not a run that Patchlight can open"):
        page.reopened(str(bad))


def test_nothing_to_save_yet(page):
    for handler in (lambda: page.saved(None), lambda: page.exported(None, None)):
        with pytest.raises(gr.Error, match="Press Draw first"):
            handler()


def test_export_has_the_figure_and_its_settings(page):
    import json

    done = list(page.draw(PROMPT, steps=3))[-1]
    picture, data = page.exported(done["kept"], done["numbers"])["files"]
    record = json.loads(Path(data).read_text(encoding="utf-8"))
    assert record["settings"]["prompt"] == PROMPT and record["numbers"]["steps"] == 3
    with Image.open(picture) as figure:
        assert json.loads(figure.info["patchlight"]) == record


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"prompt": ""}, "nothing to draw"),
        ({"prompt": "cat " * 5000}, "too long"),
        ({"prompt": 7}, "must be text"),
        ({"prompt": "a zebra"}, "does not know 'zebra'"),
        ({"subjects": "dog"}, "not in the prompt"),
        ({"steps": 0}, "Steps must be a number from 1 to 100"),
        ({"steps": 10**9}, "Steps must be a number from 1 to 100"),
        ({"steps": 2.5}, "whole number"),
        ({"strength": float("nan")}, "strength must be a number"),
        ({"strength": 0}, "strength must be a number"),
        ({"guidance_scale": 1e308}, "Guidance must be a number"),
        ({"method": "magic"}, "method must be one of 'none'"),
        ({"sampler": "magic"}, "sampler must be one of"),
        ({"model": "gpt"}, "model must be one of"),
        ({"seed": -1}, "seed must be a number"),
        ({"scale": float("inf")}, "size of an update must be a number"),
        ({"refine": "yes"}, "true or false"),
    ],
)
def test_bad_settings_say_what_is_wrong_and_the_next_request_works(page, changed, message):
    with pytest.raises(gr.Error, match=message):
        list(page.draw(*settings(**changed)))
    assert list(page.draw(PROMPT, steps=1))[-1]["numbers"]["steps"] == 1


def test_chips_follow_the_prompt_and_correct_it():
    found = tab.find_subjects("a green bowl and a red car on grass")
    box, line = found["chips"], found["subjects"]
    assert [name for name, _ in box.choices] == "a green bowl and a red car on grass".split()
    assert box.value == ["2", "6"] and line == ""
    from pipelines.diffusion import prompts

    first = [str(subject.word) for subject in prompts.sketch(tab.EXAMPLES[0]).subjects]
    assert first == tab.FIRST_SUBJECTS, "what is chosen before anything is imported"
    assert tab.take_subjects("a green bowl and a red car", ["6"])["subjects"] == "red car #7"
    assert tab.take_subjects("a green bowl and a red car", ["1", "2"])["subjects"] == "green #2, green bowl #3"
    with pytest.raises(ValueError, match="words of the prompt"):
        tab.take_subjects("a cat", ["99"])


def test_a_chip_is_a_place_and_not_a_word(page):
    """Of two cats the one that was clicked, in the line and in the run."""
    text = "a cat and a cat and a red and white car"
    for place in (1, 4):
        line = tab.take_subjects(text, [str(place)])["subjects"]
        done = list(page.draw(text, steps=1, subjects=line))[-1]
        assert done["kept"].subject_words == (place,) and done["numbers"]["subjects"] == ["cat"]
    assert tab.find_subjects(text)["chips"].value == ["1", "4", "10"]


def test_equal_subjects_keep_their_own_numbers(page):
    """Nothing is keyed by a text that occurs twice: the second cat is called "cat (2)"."""
    numbers = list(page.draw("a cat and a cat and a red car", steps=2))[-1]["numbers"]
    names = ["cat", "cat (2)", "red car"]
    assert numbers["subjects"] == names
    for told in ("presence", "faults", "attention_peak"):
        assert list(numbers[told]) == names
    assert numbers["presence"] == {"cat": True, "cat (2)": False, "red car": False}
    assert numbers["faults"]["cat (2)"] == "missing"
    *_, done = page.count(1, *settings(prompt="a cat and a cat"))
    assert done["numbers"]["plain"]["presence"] == {"cat": 1, "cat (2)": 0}


def test_a_model_brings_the_settings_that_suit_it():
    assert tuple(tab.take_usual("sd-turbo").values()) == (4, 1.0, "ddim"), "made for few steps without guidance"
    assert tuple(tab.take_usual("stable-diffusion-1.5").values()) == (20, 7.5, "ddim")
    with pytest.raises(ValueError, match="model must be one of"):
        tab.take_usual("../../etc")


def test_strip_of_maps_shows_every_word_on_its_own_scale():
    attention = np.zeros((3, 2, 16, 16), np.float32)
    attention[0, 0, 0, 0], attention[2, 1, 15, 15] = 0.9, 0.001
    sheet = np.asarray(player.strip_of(attention), int)
    assert sheet.shape == (2 * 17, 3 * 17, 3)
    bright = sheet[:, :, 0] > 200
    assert bright[0, 0] and bright[17 + 15, 2 * 17 + 15] and bright.sum() == 2, "yellow is the maximum of each row"


def test_words_in_the_strip_are_escaped(model):
    """Names of seeds and faults reach the page as text."""
    verdict = Verdict(present=(True,), scores=(0.9,), boxes=((0, 0, 1, 1),), colours=(None,), faults=("",))
    drawn = seeds.Drawn(picture=Image.new("RGB", (8, 8)), verdict=verdict, seconds=1.0)
    shown = seeds.strip([seeds.Pair(seed=1, plain=drawn, excited=drawn)], ["<script>alert(1)</script>"])
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_boxes_are_drawn_where_the_detector_saw_them():
    verdict = Verdict(
        present=(True, False),
        scores=(0.9, 0.2),
        boxes=((10, 10, 60, 60), (70, 70, 120, 120)),
        colours=(None, None),
        faults=("", "missing"),
    )
    plain = Image.new("RGB", (128, 128), (10, 10, 10))
    shown = np.asarray(verdicts.boxed(plain, verdict, ["cat", "frog"]), int)
    scale = shown.shape[0] / 128
    solid, faint = (shown[int((y + 20) * scale), int(x * scale)].sum() for x, y in ((10, 10), (70, 70)))
    assert solid > 60 and solid > faint >= 30


def test_nothing_of_the_run_before_stands_beside_a_new_picture(page):
    """From its first step on; what is not finished is neither saved nor exported."""
    for run, at in ((page.draw(PROMPT, steps=3), 1), (page.count(2, *settings(steps=2)), 1)):
        shown = [next(run) for _ in range(at)][-1]
        emptied = ("verdict", "strip", "player", "charts", "facts", "note")
        assert [shown[name] for name in emptied] == [None] * 6
        assert shown["kept"] is False and shown["files"] == [] and shown["numbers"] is None
        run.close()
        with pytest.raises(gr.Error, match="no finished run to save"):
            page.saved(shown["kept"])
        with pytest.raises(gr.Error, match="no finished run to export"):
            page.exported(shown["kept"], shown["numbers"])
    assert "nothing has judged it" in tab._held(False, None)
    assert "finished run" in tab._held(object(), {"seed": 1})
    assert "Counted are the 2 seeds" in tab._held(False, {"seeds": [1, 2]})


def test_a_seed_being_drawn_has_no_verdict_of_the_seed_before(page):
    steps = list(page.count(2, *settings(steps=2)))
    ended = next(i for i, step in enumerate(steps) if isinstance(step.get("strip"), str))
    following = steps[ended + 1]
    assert following["verdict"] is None and following["player"] is None and following["kept"] is False
    grey = np.asarray(following["other"]["value"])
    assert np.ptp(grey.reshape(-1, 3), axis=1).max() == 0, "the excited picture of the seed before is greyed"
