"""The lessons on collapse as a page and a program get them: few steps, small batches."""

import base64
import html
import json

import gradio as gr
import numpy as np
import pytest

from demos.collapse import LESSONS, batches, crops, greedy, packing, pretext
from demos.collapse import lab as collapse_lab
from pipelines.collapse.settings import (
    BATCHES,
    BREAKS,
    SWITCHES,
    Batches,
    Greedy,
    Lab,
    MultiCrop,
    Packing,
    Pretext,
    preset,
)
from tests.demos.served import Served, last
from tests.small_world import small_world


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    with small_world():
        yield


FEW = {"start": "scratch", "steps": 4, "batch": 4}


def test_the_lab_answers_with_a_film_that_grows_and_a_verdict():
    *steps, told = collapse_lab.collapse(Lab(**FEW), "crossed")
    film, numbers = told["film"], told["numbers"]
    assert film["steps"] == [0, 2, 4] and film["of"] == 4 and len(film["runs"]) == 2
    assert {panel["key"] for panel in film["layout"]} == {"points", "circle", "similarities", "values"}
    points = np.frombuffer(base64.b64decode(film["panels"]["points"][2][1]), np.uint8)
    assert points.shape == (2 * 48,) and "without negatives" in film["runs"][1]
    assert [len(curve["x"]) for curve in film["curves"]] == [5, 5, 2]
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(numbers)
    assert numbers["verdict"]["guess"] == "crossed" and numbers["verdict"]["text"] in told["verdict"]
    assert "untrained" in told["facts"] and "raw pixels" in told["facts"] and "chance" in told["facts"]
    json.dumps({"film": film, "numbers": numbers}, allow_nan=False)
    films = [step["film"] for step in (*steps, told) if step.get("film")]
    for before, after in zip(films, films[1:], strict=False):  # what is sent is the difference of two copies
        assert after is not before and after["steps"][: len(before["steps"])] == before["steps"]
        assert after["begun"] == before["begun"]
    pairs = next(step["pictures"] for step in steps if "Drawing" not in step["status"] and "pictures" in step)
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


# ---------------------------------------------------------------------------------------------------- the other lessons


def shown(steps) -> dict:
    """All parts at the end, each as it was last filled; what a lesson must answer with is checked."""
    whole: dict = {}
    for step in steps:
        whole |= step
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(whole["numbers"])
    assert html.escape(whole["numbers"]["verdict"]["text"]) in whole["verdict"] and whole["status"] == ""
    json.dumps({"film": whole.get("film"), "numbers": whole["numbers"]}, allow_nan=False)
    return whole


def test_crops_show_who_pulls_whom():
    told = shown(crops.crops(MultiCrop(**FEW), "alike"))
    film = told["film"]
    assert film["steps"] == [0, 4] and film["panels"]["example"][0] == [None, None]
    assert all(source.startswith("data:image/webp") for source in film["panels"]["example"][1])
    assert "pushed apart" in film["runs"][0] and "pulled together" in film["runs"][1]
    assert "untrained" in told["facts"] and "±" in told["facts"] and told["pictures"].width > 500


def test_pretexts_show_both_colourings_and_every_layer():
    told = shown(pretext.pretext(Pretext(steps=2, batch=4), "less"))
    film = told["film"]
    assert film["layout"][0]["classes"] != film["layout"][1]["classes"]
    assert film["panels"]["nouns"] == film["panels"]["angles"]
    assert told["facts"].count("<tr>") == 1 + 6 and "…" not in told["facts"]
    assert "Angles told best" in told["facts"] and told["pictures"].width > 600


def test_greedy_modules_show_the_wall():
    told = shown(greedy.greedy(Greedy(steps=2, batch=4), "more"))
    film = told["film"]
    assert len(film["curves"]) == 6 and film["curves"][0]["levels"] == [[pytest.approx(4.174, abs=1e-3), "ln 65"]]
    a, b = film["panels"]["gradients"][-1]
    assert a != b and "end to end" in film["runs"][1] and "*" in told["facts"] and "MB" in told["facts"]


def test_the_wall_is_black():
    step = greedy.pipeline.Step(
        **dict.fromkeys(("nouns", "probabilities", "patches_shown"), None),
        **dict(step=0, steps=1, losses=(4.0, 4.0, 4.0), taught=(True, True, True), accuracy=(0.1, 0.1, 0.1), memory=1),
        gradients=np.where(np.eye(3, dtype=bool), 1.0, np.nan),
    )
    cells = np.asarray(greedy.wall(step).resize((3, 3), 0)).sum(-1)
    assert (cells > 0).tolist() == np.eye(3, dtype=bool).tolist()


def test_packing_shows_its_mask_and_its_milliseconds():
    told = shown(packing.packing(Packing(rounds=2), "packed"))
    assert told["mask"].size == (packing.SIDE, packing.SIDE) and told["bars"].count("<tr>") == 6
    pixels = np.asarray(told["mask"])
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 5, "two kinds of blocks, each with its grid, and the rest"
    assert "65,536" in told["facts"] and "10,240" in told["facts"]


def test_three_batches_run_on_one_clock():
    told = shown(batches.batch_and_views(Batches(equal="steps", steps=2), "large"))
    film, numbers = told["film"], told["numbers"]
    assert len(film["runs"]) == len(BATCHES) == 3 and film["steps"] == sorted(film["steps"])
    assert numbers["steps"] == {"16": 2, "64": 2, "256": 2} and numbers["batches"]["256"]["pictures"] == 512
    assert "30" in told["facts"] and "510" in told["facts"], "2(B - 1) negatives"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_every_lesson_refuses_an_answer_that_is_none(lesson):
    with pytest.raises(gr.Error, match="The answer must be one of"):
        last(Served(lesson)[lesson.slug](guess="nobody"))


def test_recorded_studies_are_shown_with_their_spread(tmp_path, monkeypatch):
    """As the command writes them; without a file nothing is said."""
    from demos.ui import studies
    from pipelines.training import studies as training

    monkeypatch.setattr(studies, "FOLDER", tmp_path)
    assert collapse_lab.measured() == batches.recorded() == ""
    runs = [
        {"seed": seed, "seconds": 90.0, "rows": {"SimCLR": {"loss": 2.0 + seed, "knn": 0.8, "knn_teacher": None}}}
        for seed in range(2)
    ]
    (tmp_path / "collapse.json").write_text(json.dumps(training.record("collapse", runs)), encoding="utf-8")
    told = collapse_lab.measured()
    assert "2.500 ± 0.707" in told and "80.0% ± 0.0%" in told and "–" in told and "over 2 seeds, 3 minutes" in told
