"""Which picture a tab works on stands in its address, and an address is input like any other."""

from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

import app
from demos.ui import pictures, scenes
from pipelines.world import storybook
from tests.demos.served import Served

LESSONS = {lesson.slug: lesson for lesson in app.LESSONS if lesson.chapter in ("see", "find")}
ON_PICTURES = ["self_distillation", "token_removal", "reconstruction", "detection"]


@pytest.fixture(scope="module", params=ON_PICTURES)
def served(request) -> Served:
    return Served(LESSONS[request.param])


def restored(served: Served, **query: str) -> dict:
    return served["restore"](SimpleNamespace(query_params={"tab": served.tab.slug, **query}))


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"))


def test_a_scene_is_named_by_its_number(served):
    told = restored(served, picture="123")
    scene = storybook.scene(storybook.TEST[123])
    assert np.array_equal(pixels(told["image"]), scene.picture) and told["picture"] == "123"
    assert served["next_scene"](told["counter"])["picture"] == "124"


def test_a_composed_scene_is_named_by_its_sentence(served):
    sentence = "a cat left of a red car on grass"
    told = restored(served, picture=sentence)
    assert np.array_equal(pixels(told["image"]), storybook.compose_text(sentence, seed=0).picture)
    assert served["compose_scene"](sentence)["picture"] == sentence


def test_a_photograph_is_named_by_its_name(served):
    told = restored(served, picture="coffee")
    assert np.array_equal(pixels(told["image"]), pixels(pictures.photograph("coffee"))) and told["photo"] == "coffee"


def test_settings_and_picture_come_together_and_run_once(served):
    told = restored(served, picture="7", seed="5") if "seed" in served.tab.parts else restored(served, picture="7")
    assert told["picture"] == "7" and told.get("seed", 5) == 5 and "picture=7" in told["address"]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (scenes.UPLOADED, "was uploaded, so it is not part of it"),
        ("99999999", "from 0 to 999999, not 99999999"),
        ("9" * 400, "from 0 to 999999"),
        ("a griffin on grass", "griffin"),
        ("x" * 5000, "at most"),
    ],
)
def test_a_picture_that_an_address_cannot_name_is_refused(served, picture, message):
    with pytest.raises(gr.Error, match=message):
        restored(served, picture=picture)


def test_an_uploaded_picture_is_named_as_not_included(served):
    assert served["forget"]()["picture"] == scenes.UPLOADED
