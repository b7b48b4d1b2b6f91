"""The lessons on cues as a page and a program get them: few steps, few pictures."""

import html
import json
import re

import gradio as gr
import numpy as np
import pytest
from PIL.PngImagePlugin import PngInfo

from demos.cues import LESSONS, drawings, order, scramble, texture_shape, transfer, universal
from demos.ui import studies, text
from demos.ui.pictures import photograph, scene_picture
from pipelines.cues import scramble as scramble_pipeline
from pipelines.cues import texture_shape as texture_pipeline
from pipelines.cues import transfer as transfer_pipeline
from pipelines.cues import universal as universal_pipeline
from pipelines.cues.settings import (
    FUNCTIONS,
    NAMERS,
    BorrowSettings,
    EquivarianceSettings,
    ScrambleSettings,
    TextureSettings,
    UniversalSettings,
)
from pipelines.errors import UserError
from pipelines.world import persian, storybook
from tests.demos.served import Served, last


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    patch = pytest.MonkeyPatch()
    patch.setattr(texture_pipeline, "TRAINING", 64)
    patch.setattr(texture_pipeline, "ASKED", 24)
    patch.setattr(scramble_pipeline, "TRAINING", storybook.TRAIN[:64])
    patch.setattr(scramble_pipeline, "QUERIES", storybook.TEST[:32])
    patch.setattr(universal_pipeline, "UNSEEN", 12)
    patch.setattr(universal_pipeline, "WATCHED", 8)
    patch.setattr(transfer_pipeline, "BANK", storybook.VALIDATION[:60])
    patch.setattr(transfer_pipeline, "QUERIES", storybook.TEST[:40])
    caches = (transfer_pipeline.pictures, transfer_pipeline._all_features)
    for cache in caches:
        cache.cache_clear()
    yield
    patch.undo()
    for cache in caches:
        cache.cache_clear()


def shown(steps) -> dict:
    """All parts at the end, each as it was last filled; what a lesson must answer with is checked."""
    whole: dict = {}
    for step in steps:
        whole |= step
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(whole["numbers"])
    assert html.escape(whole["numbers"]["verdict"]["text"]) in whole["verdict"] and whole["status"] == ""
    json.dumps({"film": whole.get("film"), "numbers": whole["numbers"]}, allow_nan=False)
    return whole


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_every_lesson_refuses_an_answer_that_is_none(lesson):
    with pytest.raises(gr.Error, match="The answer must be one of"):
        last(Served(lesson)[lesson.slug](guess="nobody"))


# --------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nodes_are_green_or_red_as_the_verdict_says(function):
    told = shown([order.equivariance(EquivarianceSettings(function=function), "valid")])
    valid = told["numbers"]["verdict"]["answer"] == "valid"
    assert ('class="node changed"' in told["graphs"]) is not valid
    assert told["graphs"].count('class="node kept"') == 6 if valid else told["graphs"].count("changed") >= 1
    assert ("You were right" in told["verdict"]) is valid
    numbers = re.findall(r">(\d)</text>", told["graphs"])
    new = {old: i for i, old in enumerate(told["numbers"]["order"], 1)}
    assert numbers == [*"123456", *(str(new[i]) for i in range(1, 7))], "the same nodes in the same places, renumbered"


def test_the_answers_are_hidden_until_the_question_is_answered():
    before = order.redraw(EquivarianceSettings(), None)
    assert before["numbers"] is before["answers"] is before["verdict"] is None
    assert "?" in before["difference"] and "kept" not in before["graphs"] and "image href" in before["graphs"]
    after = order.redraw(EquivarianceSettings(depth=3), {"seed": 42})
    assert after["numbers"]["difference_by_depth"] and after["answers"].count("<table>") == 3
    assert order.after_reset(EquivarianceSettings(), {"seed": 42}) is None
    assert set(order.after_reset(EquivarianceSettings(), None)) == {"difference", "graphs"}


def test_depth_does_not_add_up_for_a_valid_function():
    told = order.equivariance(EquivarianceSettings(function="attention", depth=6))
    gaps = re.search(r"difference is ([^<]+)\.<", told["answers"])[1].split(", ")
    assert len(gaps) == 6 and all(float(gap) < 1e-12 for gap in gaps)


def test_orders_are_written_by_buttons():
    settings = EquivarianceSettings(nodes=4)
    assert order.swap_two(settings) == {"order": "2 1 3 4"}
    again = order.shuffle_again(settings)["order"]
    assert sorted(again.split()) == [*"1234"]
    assert order.shuffle_again(EquivarianceSettings(nodes=4, order=again))["order"] != again
    assert order.equivariance(EquivarianceSettings(nodes=4, order=again))["numbers"]["order"] == list(
        map(int, again.split())
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"graph": "drawn", "edges": "1-1"}, "1-1' is no edge. Write pairs of two different nodes"),
        ({"order": "1 2 3"}, "The new order names each node from 1 to 6 once"),
        ({"order": "x" * 301}, "The new order is too long"),
        ({"nodes": 13}, "Nodes must be a number from 2 to 12, not 13"),
        ({"depth": float("nan")}, "Layers must be a number from 1 to 6, not nan"),
        ({"function": "min"}, "Function of the neighbours must be one of 'sum'"),
    ],
)
def test_graphs_that_are_none_are_refused_in_words(given, told):
    with pytest.raises(gr.Error, match=told):
        last(Served(order.LESSON)["equivariance"](**given))


def test_the_table_names_every_function():
    table = order.show_functions(EquivarianceSettings())["functions"]
    assert table.count("not valid") == 3 and all(text in table for text in FUNCTIONS.values())


def test_a_shift_is_a_matrix_of_rotations():
    told = order.show_positions(0)["positions"]
    assert told.count(">1.00</td>") == order.SHIFTED and "f(t + 0) = M f(t)" in told
    assert order.show_positions(5)["positions"] != told


def test_patches_may_move_with_their_positions():
    told = order.equivariance_patches(42, "without")
    assert "You were right" in told["patches_verdict"] and told["patches"].width > 400
    assert told["patches_numbers"]["with_positions"] < 1e-9 < told["patches_numbers"]["without_positions"]
    assert order.wake_patches("never")["patches_run"].interactive is True
    assert order.wake_patches("")["patches_run"].interactive is False
    with pytest.raises(UserError, match="The answer must be one of"):
        order.equivariance_patches(42, "nobody")


def test_numbers_in_a_table_are_short_and_signed():
    table = drawings.signed(np.array([[0.25, -0.25, -0.01]]), ["<a>"], "t", digits=1)
    assert "&lt;a&gt;" in table and ">.2<" in table and ">−.2<" in table and ">0<" in table


# ---------------------------------------------------------------------------------------------------- texture or shape


def test_what_will_be_asked_is_there_before_the_run():
    before = texture_shape.preview(TextureSettings(), None)
    assert "?" in before["bias"] and before["examples"].count("<figure>") == texture_pipeline.SHOWN
    assert "good" not in before["examples"] and texture_shape.preview(TextureSettings(), {"seed": 1}) is None


def test_texture_or_shape_is_counted_and_framed():
    told = shown(texture_shape.texture_shape(TextureSettings(steps=2, batch=8), "neither"))
    for numbers in (told["numbers"], told["numbers"]["b"]):
        of = [numbers[f"follows_{cue}"] for cue in ("shape", "texture", "neither")]
        assert sum(of) == 24 and all(f"{count} / 24" in told["answers"] for count in of)
    assert told["film"]["runs"] == ["A · convolutions, 0% random", "B · convolutions, 100% random"]
    assert told["film"]["steps"] == [0, 2] and len(told["film"]["curves"]) == 4
    assert told["answers"].count("chance: 8%") == 2 and told["examples"].count("Green frame") == 1
    assert told["examples"].count("<figure>") == 2 * texture_pipeline.SHOWN
    assert re.findall(r"<b>[^<]*</b> <span>(.): ", told["bias"]) == ["A", "B"]


def test_frames_say_by_which_cue_a_picture_is_called():
    asked = texture_pipeline.conflicts(TextureSettings()).first(3)
    said = np.array([asked.shapes[0], asked.textures[1], (set(range(12)) - {asked.shapes[2], asked.textures[2]}).pop()])
    look = texture_pipeline.Look(cue=1.0, shape=1, texture=1, neither=1, flat=0.5, said=said)
    told = texture_shape.sheet(asked, look)
    assert re.findall(r'<img class="(\w*)"', told) == ["good", "bad", ""]
    assert texture_shape.headline([look, look]).startswith('<div class="headline"><p><b>0.50</b>')


def test_a_recorded_curve_carries_these_runs_as_points(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "FOLDER", tmp_path)
    said = np.zeros(0, int)
    a, b = (
        texture_pipeline.Look(cue=1.0, shape=shape, texture=10 - shape, neither=0, flat=0.5, said=said)
        for shape in (1, 9)
    )
    assert texture_shape.chart(TextureSettings(), [a, b]) == texture_shape.measured() == ""
    figures = {"mean": 0.4, "sd": 0.1, "least": 0.3, "most": 0.5, "seeds": 2}
    rows = {f"convolutions, {share}% random": {"shape bias": figures} for share in (0, 10, 50, 100)}
    found = {"summary": rows, "seeds": [0, 1], "seconds": 60, "command": "python -m x"}
    (tmp_path / "texture_shape.json").write_text(json.dumps(found), encoding="utf-8")
    drawn = texture_shape.chart(TextureSettings(share=0.5), [a, b])
    assert drawn.count("<polyline") == 1 and drawn.count('class="point"') == 2 and ">A</text>" in drawn
    assert "0.40 ± 0.10" in texture_shape.measured()


def test_a_shape_wears_the_skin_of_a_photograph(tmp_path):
    file = tmp_path / "cat.png"
    photograph("cat (fur)").save(file)
    told = texture_shape.texture_shape_skin(str(file), "elephant")
    assert told["skin"].count("<figure>") == 8 and "an elephant in this skin" in told["skin"]
    numbers = told["skin_numbers"]
    assert {"photograph", "skin", "dressed", "flat", "seconds"} == set(numbers)
    assert "cat" in numbers["photograph"][0]["name"] or numbers["photograph"][0]["name"] == "tabby"
    with pytest.raises(UserError, match="The shape must be one of 'cat'"):
        texture_shape.texture_shape_skin(str(file), "sofa")
    with pytest.raises(UserError, match="Choose or upload a picture first"):
        texture_shape.texture_shape_skin(None)


def test_a_skin_is_told_of_in_the_visitors_language(tmp_path, monkeypatch):
    """Every animal with its article, whichever phrases the pages have laid out before."""
    monkeypatch.setattr(text, "language", lambda: "fa")
    file = tmp_path / "cat.png"
    photograph("cat (fur)").save(file)
    for animal in storybook.ANIMALS[:2]:
        told = texture_shape.texture_shape_skin(str(file), animal)["skin"]
        assert storybook.article(animal) not in told and persian.from_english(storybook.article(animal)) in told


# ----------------------------------------------------------------------------------------------------- scrambled parts


def test_two_networks_are_asked_about_pieces():
    told = shown(scramble.scramble(ScrambleSettings(steps=2, batch=8, b="blind"), "both"))
    assert len(told["film"]["runs"]) == 2 and len(told["film"]["curves"]) == 3
    assert "without positions" in told["film"]["runs"][1]
    assert told["facts"].count("<tr>") == 1 + len(scramble_pipeline.TRIED) + 2 and "untrained" in told["facts"]


@pytest.fixture
def scene(tmp_path) -> str:
    picture, _ = scene_picture({"seed": storybook.TEST[scramble.SCENE]})
    info = PngInfo()
    for key, value in picture.info.items():
        info.add_text(str(key), str(value))
    picture.save(tmp_path / "scene.png", pnginfo=info)
    return str(tmp_path / "scene.png")


def test_one_picture_is_named_whole_and_in_pieces(scene):
    whole = scramble.scramble_pieces(scene, pieces_grid=1)
    assert whole["pieces"].count("<figure>") == 4 and "what speaks for" in whole["pieces"]
    answers = whole["pieces_numbers"]["answers"]
    assert set(answers) == set(NAMERS) and all(each["kept"] for each in answers.values())
    assert f"<b>{len(NAMERS)}</b>" in whole["pieces"]
    moved = scramble.scramble_pieces(scene, pieces_grid=8, pieces_background=False)
    assert moved["pieces"] != whole["pieces"]
    with pytest.raises(UserError, match="Pieces must be one of 1, 2, 4, 8, 16, 32, not 3"):
        scramble.scramble_pieces(scene, pieces_grid=3)


def test_the_curve_grows_by_a_point_at_a_time(monkeypatch):
    monkeypatch.setattr(scramble, "curve", lambda model: [(1, 1.0), (2, 0.5)])
    steps = list(scramble.show_curve())
    assert [step["curve"].count("<polyline") for step in steps] == [1, 1, 2, 2, 3, 3]


# -------------------------------------------------------------------------------------------------- one noise for all


def test_the_noise_is_shown_beside_its_controls():
    told = shown(universal.universal(UniversalSettings(steps=2, pictures=4, epsilon=16), "random"))
    assert told["controls"].count('class="share"') == len(universal_pipeline.CONTROLS)
    assert told["before"].count("<figure>") == universal_pipeline.SHOWN and " → " in told["before"]
    assert "under random signs of the same strength" in told["rate"] and "Right names:" in told["controls"]
    assert told["film"]["steps"] == [0, 2] and told["film"]["panels"]["noise"][0][0].startswith("data:image/webp")
    assert "before" in told["flow"] and told["photographs"].count("<figure>") == 4 * len(universal.PHOTOGRAPHED)


def test_the_question_names_the_strength():
    assert "at most 16/255" in universal.ask_again(UniversalSettings(epsilon=16))["guess"].label


# ------------------------------------------------------------------------------------------------------- borrowed eyes


def test_features_are_borrowed_beside_pixels_and_random_weights():
    assert "?" in transfer.preview(BorrowSettings())["share"]
    told = shown(transfer.transfer(BorrowSettings(), "nearly"))
    assert told["things"].count("<figure>") == 4 and "called" in told["things"]
    assert told["beside"].count('class="share"') == 3 and told["beside"].count('class="chance"') == 3
    assert told["charts"].count("<svg") == 2
    assert transfer.redraw(BorrowSettings(examples=5), None) is None
    assert transfer.redraw(BorrowSettings(examples=5), {"seed": 42})["numbers"]["examples"] == 5
    assert "With 5 of each" in transfer.ask_again(BorrowSettings(examples=5))["guess"].label


def test_frozen_blocks_have_a_question_of_their_own():
    steps = list(
        transfer.transfer_freezing("storybook-clip-b", 42, freeze_steps=2, freeze_frozen=6, freeze_guess="half")
    )
    told = steps[-1]
    assert told["freeze_film"]["steps"] == [0, 2] and "frozen to the bit" in told["freeze_facts"]
    assert told["freeze_numbers"]["largest_change_of_a_frozen_weight"] == 0 and "half" in str(told["freeze_numbers"])
    with pytest.raises(UserError, match="Frozen blocks must be a number from 0 to 6, not 7"):
        next(transfer.transfer_freezing("storybook-clip-b", 42, freeze_frozen=7))


@pytest.mark.parametrize(
    ("lesson", "given", "told"),
    [
        ("texture_shape", {"share": 1.5}, "Random textures of A must be a number from 0 to 1, not 1.5"),
        ("texture_shape", {"batch": 1}, "Batch must be a number from 8 to 256, not 1"),
        ("scramble", {"task": "all"}, "Task must be one of 'naming', 'relation'"),
        ("scramble", {"rate": float("nan")}, "Learning rate must be a number"),
        ("universal", {"epsilon": 17}, "must be a number from 0 to 16, not 17"),
        ("universal", {"victim": "../etc"}, "Victim must be one of"),
        ("transfer", {"examples": 0}, "Examples of each must be a number from 1 to 30, not 0"),
    ],
)
def test_lessons_refuse_in_words(lesson, given, told):
    (known,) = (each for each in LESSONS if each.slug == lesson)
    with pytest.raises(gr.Error, match=told):
        last(Served(known)[lesson](**given))
