"""The lessons on cues as a page and a program get them: few steps, few pictures."""

import html
import json
import re

import gradio as gr
import pytest

from demos.cues import LESSONS, drawings, order
from pipelines.cues.settings import FUNCTIONS, EquivarianceSettings
from pipelines.errors import UserError
from tests.demos.served import Served, last


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
    import numpy as np

    table = drawings.signed(np.array([[0.25, -0.25, -0.01]]), ["<a>"], "t", digits=1)
    assert "&lt;a&gt;" in table and ">.2<" in table and ">−.2<" in table and ">0<" in table
