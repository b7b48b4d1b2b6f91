"""The lessons on collapse as a page and a program get them: few steps, small batches."""

import base64
import json

import gradio as gr
import numpy as np
import pytest

from demos.collapse import lab as collapse_lab
from pipelines.collapse.settings import BREAKS, SWITCHES, Lab, preset
from tests.demos.served import Served, last

FEW = {"start": "scratch", "steps": 4, "batch": 4}


def test_the_lab_answers_with_a_film_that_grows_and_a_verdict():
    *steps, told = collapse_lab.collapse(Lab(**FEW), "crossed")
    film, numbers = told["film"], told["numbers"]
    assert film["steps"] == [0, 2, 4] and film["of"] == 4 and len(film["runs"]) == 2
    assert {panel["key"] for panel in film["layout"]} == {"points", "circle", "similarities", "values"}
    points = np.frombuffer(base64.b64decode(film["panels"]["points"][2][1]), np.uint8)
    assert points.shape == (2 * 192,) and "without negatives" in film["runs"][1]
    assert [len(curve["x"]) for curve in film["curves"]] == [5, 5, 2]
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(numbers)
    assert numbers["verdict"]["guess"] == "crossed" and numbers["verdict"]["text"] in told["verdict"]
    assert "untrained" in told["facts"] and "raw pixels" in told["facts"] and "chance" in told["facts"]
    json.dumps({"film": film, "numbers": numbers}, allow_nan=False)
    films = [step["film"] for step in (*steps, told) if step.get("film")]
    for before, after in zip(films, films[1:], strict=False):  # what is sent is the difference of two copies
        assert after is not before and after["steps"][: len(before["steps"])] == before["steps"]
        assert after["begun"] == before["begun"]
    pairs = next(step["pairs"] for step in steps if "Drawing" not in step["status"] and "pairs" in step)
    assert pairs.width == 3 * 4 * 32 and pairs.height == 3 * 2 * 32


def test_dino_shows_its_prototypes():
    settings = Lab(method="dino", sharpening=False, **FEW | {"steps": 2})
    told = last(collapse_lab.collapse(settings))
    assert "prototypes" in told["film"]["panels"] and len(told["film"]["curves"]) == 4
    assert "ln 128 = 4.85" in told["facts"]


@pytest.mark.parametrize("name", BREAKS)
def test_a_preset_sets_its_switches_and_is_found_again(name):
    made = collapse_lab.take_preset(name)
    assert {key: made[key] for key in BREAKS[name]} == BREAKS[name]
    shown = collapse_lab.follow_switches(preset(name))
    assert shown["broken"] == name
    visible = {part for part in collapse_lab.PARTS if shown[part]["visible"]}
    assert visible == set(SWITCHES[preset(name).method])


def test_a_whole_method_is_no_preset():
    assert collapse_lab.follow_switches(Lab(negatives=True))["broken"] is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"batch": 1}, "Batch must be a number from 2 to 512, not 1"),
        ({"temperature": 0}, "Temperature must be a number from 0.02 to 2, not 0"),
        ({"momentum": float("nan")}, "Momentum of the teacher must be a number from 0 to 1, not nan"),
        ({"momentum": 1.5}, "Momentum of the teacher must be a number from 0 to 1"),
        ({"method": "moco"}, "Method must be one of 'simclr'"),
        ({"guess": "nobody"}, "The answer must be one of"),
        ({"steps": 1000, "batch": 512}, "would take about 15 minutes; at most 5"),
    ],
)
def test_the_lab_refuses_in_words(given, told):
    with pytest.raises(gr.Error, match=told):
        last(Served(collapse_lab.LESSON)["collapse"](**given))


def test_leaving_the_lab_ends_the_training():
    run = collapse_lab.collapse(Lab(**FEW | {"steps": 400}))
    while not next(run).get("film"):
        pass
    run.close()
