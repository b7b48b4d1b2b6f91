"""Zero-shot masks on the page: scenes at once, masks in two paints, scores beside their controls. What is learned is
tested in tests/pipelines."""

import html
import json
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest

from demos.detection import masks
from pipelines.detection import masks as pipeline
from pipelines.detection.settings import SPLITS, MaskSettings
from tests.demos.served import Served, last
from tests.small_world import few_scenes

GIVEN = MaskSettings(steps=20)


@pytest.fixture(scope="module", autouse=True)
def few():
    with few_scenes():
        yield


@pytest.fixture(scope="module")
def lesson() -> Served:
    return Served(masks.LESSON)


@pytest.fixture(scope="module")
def answers() -> list[dict]:
    return list(masks.zero_shot_masks(GIVEN, "words"))


@pytest.fixture(scope="module")
def shown(answers) -> dict:
    whole: dict = {}
    for answer in answers:
        whole |= answer
    return whole


@pytest.fixture(scope="module")
def result() -> pipeline.Result:
    return pipeline.tested(GIVEN)


def test_it_says_what_it_waits_for(answers):
    told = [answer["status"] for answer in answers]
    looking = [answer for answer in answers if answer["status"].startswith("A frozen CLIP")]
    assert looking and all("<img" in answer["masks"] for answer in looking), "nobody waits before an empty page"
    assert told[0] == "Getting ready …" and told[-1] == ""
    assert any(text.startswith("A frozen CLIP looks at the scenes: ") and text.endswith(" of 124") for text in told)
    assert any(text.startswith("Step ") and text.endswith(" of 20") for text in told)


def test_everything_is_shown_and_numbers_hold_it(shown):
    numbers = shown["numbers"]
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(numbers) and numbers["steps"] == 20
    assert html.escape(numbers["verdict"]["text"]) in shown["verdict"]
    assert f"{numbers['unseen']['ap50']:.2f}" in shown["precision"] and "with random word vectors" in shown["precision"]
    assert shown["table"].count("<tr>") == 1 + 3 * 4 and "filled boxes in place of these masks" in shown["table"]
    for name in ("ap40", "ap50", "ap60", "ar40", "ar50", "ar60"):
        assert f"<td>{numbers['seen'][name]:.2f}</td>" in shown["table"]
    for noun in SPLITS["lion"]:
        assert f"<th>{noun}</th>" in shown["fates"]
    assert shown["fates"].count(", no such word") == 4 and shown["fates"].count("0 names") == 4
    json.dumps({"film": shown["film"], "numbers": numbers}, allow_nan=False)


def test_the_film_has_seen_and_unseen_things_on_one_clock(shown):
    film = shown["film"]
    assert film["steps"] == [0, 5, 10, 15, 20] and film["runs"] == ["seen things", "unseen things"]
    assert all(each.startswith("data:image/webp") for frame in film["panels"]["maps"] for each in frame)
    assert all(len(curve["x"]) == 5 and len(curve["runs"]) == 2 for curve in film["curves"])


def test_before_a_run_the_scenes_are_there_and_nothing_is_told(lesson):
    shown = masks.preview(MaskSettings(), None)
    assert shown["masks"].count("<figure>") == 8 and "<b>?</b>" in shown["precision"]
    assert shown["masks"].count("▨") == shown["masks"].count("■") == 8 + 1, "one of each in every scene, and the legend"
    assert masks.preview(MaskSettings(), {"seed": 1}) is None
    other = masks.preview(MaskSettings(unseen="horse"), None)
    assert other["masks"] != shown["masks"]


def test_the_question_names_the_thing():
    assert "a mask of a horse" in masks.ask_again(MaskSettings(unseen="horse"))["guess"].label


def test_unseen_things_have_another_colour_and_stripes(result):
    mask = np.zeros((128, 128), bool)
    mask[32:96, 32:96] = True
    grey = np.full((128, 128, 3), 128, np.uint8)
    one = pipeline.Mask(mask=mask, name="cat", thing="dog", kind="seen")
    seen, unseen = (masks.painted(grey, [replace(one, kind=kind)])[80:170, 80:170] for kind in ("seen", "unseen"))
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) == 1 and len(np.unique(unseen.reshape(-1, 3), axis=0)) == 2
    assert masks.called(one) == "dog, called cat" and masks.called(replace(one, thing="cat")) == "cat"
    assert masks.called(replace(one, thing="", kind="")) == "nothing, called cat"
    drawn = masks.present(result, GIVEN)["masks"]
    assert drawn.count("<figure>") == 8


def test_who_swallowed_it_is_told(result):
    fate = pipeline.Unseen(things=18, found=14, called={"lion": 9, "cat": 4, "bear": 1})
    told = masks.fates(replace(result, unseen={"lion": fate}), GIVEN)
    assert "9 of 18 right" in told and "swallowed by: cat 4, bear 1" in told


def test_another_namer_takes_the_first_rows(result):
    rows = masks.table(result, replace(GIVEN, namer="cutout"))
    assert rows.index("CLIP on what is under the mask") < rows.index("filled boxes") < rows.index("learned projection")


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"unseen": "cat"}, "Without a mask must be one of 'lion', 'horse'"),
        ({"unseen": ["lion"]}, "Without a mask must be one of"),
        ({"namer": "dice"}, "Who names the masks must be one of 'learned'"),
        ({"candidates": "all"}, "Candidates must be one of 'generalised', 'conventional'"),
        ({"steps": 601}, "Steps must be a number from 1 to 600, not 601"),
        ({"steps": float("nan")}, "Steps must be a number from 1 to 600, not nan"),
        ({"decoder": "yes"}, "Decoder is true or false"),
        ({"guess": "nobody"}, "The answer must be one of 'mask'"),
    ],
)
def test_what_cannot_be_is_said(lesson, bad, told):
    with pytest.raises(gr.Error, match=told):
        last(lesson["zero_shot_masks"](**bad))


def test_a_long_run_is_announced():
    assert masks.seconds(MaskSettings()) < 60 and masks.seconds(MaskSettings(steps=600)) < 120
