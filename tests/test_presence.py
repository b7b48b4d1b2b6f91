"""Verdicts from a detector's scores, by hand, and the interval of a share."""

import types

import numpy as np
import pytest

from pipelines import storybook
from pipelines.presence import (
    THERE,
    Wanted,
    answers,
    colours_of,
    examine,
    judge,
    strict_threshold,
    things_of,
    wanted_of,
    wilson,
)
from pipelines.training.diffusion_quality import Outcome, summary

LEFT, RIGHT, ALMOST_LEFT = (0, 0, 50, 50), (60, 0, 110, 50), (2, 0, 52, 50)


def answer(phrases: list[str], found: list[tuple[tuple, dict]]):
    """`found`: of every box the scores that are not 0."""
    scores = np.float32([[told.get(phrase, 0) for phrase in phrases] for _, told in found])
    return types.SimpleNamespace(phrases=tuple(phrases), scores=scores, boxes=np.float32([box for box, _ in found]))


def verdict(wanted: list[Wanted], found: list[tuple[tuple, dict]], threshold: float = 0.5):
    things, colours = (answer(names, found) for names in (things_of(wanted, HUB), colours_of(wanted)))
    return judge(wanted, things, colours, threshold)


HUB = "grounding-dino-tiny"
CAT, FROG, CAR = Wanted("cat", None), Wanted("frog", None), Wanted("car", "red")


def test_both_there():
    said = verdict([CAT, FROG], [(LEFT, {"cat": 0.9, "frog": 0.1}), (RIGHT, {"frog": 0.8})])
    assert said.present == (True, True) and said.all_present and said.fault == ""
    assert said.boxes == (LEFT, RIGHT) and said.scores == pytest.approx((0.9, 0.8))


def test_missing():
    said = verdict([CAT, FROG], [(LEFT, {"cat": 0.9, "frog": 0.2}), (RIGHT, {"frog": 0.3})])
    assert said.present == (True, False) and said.faults == ("", "missing") and said.fault == "missing"


def test_mixed_into_one():
    """One creature that is a bit of both: the word with less right to it goes without."""
    said = verdict([CAT, FROG], [(LEFT, {"cat": 0.7}), (ALMOST_LEFT, {"frog": 0.9}), (RIGHT, {"frog": 0.1})])
    assert said.present == (False, True) and said.faults[0] == "mixed" and not said.all_present


def test_wrong_colour_is_there_but_wrong():
    said = verdict([CAT, CAR], [(LEFT, {"cat": 0.9}), (RIGHT, {"car": 0.9, "red car": 0.2, "blue car": 0.8})])
    assert said.all_present and said.fault == "wrong colour" and said.colours == (None, "blue")
    right = verdict([CAT, CAR], [(LEFT, {"cat": 0.9}), (RIGHT, {"car": 0.9, "red car": 0.8, "blue car": 0.2})])
    assert right.fault == "" and right.colours == (None, "red")


def test_one_too_many():
    said = verdict([CAT], [(LEFT, {"cat": 0.9}), (RIGHT, {"cat": 0.8})])
    assert said.all_present and said.fault == "duplicated"
    twice = verdict([CAT, CAT], [(LEFT, {"cat": 0.9}), (RIGHT, {"cat": 0.8})])
    assert twice.fault == "", "two were asked for"
    same = verdict([CAT], [(LEFT, {"cat": 0.9}), (ALMOST_LEFT, {"cat": 0.8})])
    assert same.fault == "", "two boxes around one thing are one thing"


def test_adjectives_that_are_colours():
    assert wanted_of("car", ("small", "grey")) == Wanted("car", "gray")
    assert wanted_of("cat", ()) == CAT


def test_questions_are_those_by_which_the_errors_were_measured():
    assert things_of([CAT, CAR, CAT], HUB) == ["cat", "car"]
    assert things_of([CAT, CAR], "storybook-grounding-dino") == list(storybook.NOUNS)
    assert colours_of([CAT]) == [] and colours_of([CAT, CAR, CAR])[:2] == ["red car", "orange car"]
    assert len(colours_of([CAT, CAR])) == len(storybook.COLOURS)
    asked = []

    def ask(phrases: list[str]):
        asked.append(phrases)
        return answer(phrases, [(LEFT, {"cat": 0.31}), (RIGHT, {"car": 0.9, "red car": 0.4})])

    said = examine([CAT, CAR], HUB, ask)
    assert asked == [["cat", "car"], colours_of([CAR])] and said.all_present and said.colours == (None, "red")
    assert not judge([CAT], *answers([CAT], HUB, ask), 0.32).all_present


def test_a_colour_is_that_of_the_box():
    """Another car elsewhere may have another colour; without a box there is none."""
    things = answer(["car"], [(LEFT, {"car": 0.9}), (RIGHT, {"car": 0.2})])
    seen = [(ALMOST_LEFT, {"red car": 0.5}), (RIGHT, {"blue car": 0.9})]
    assert judge([CAR], things, answer(colours_of([CAR]), seen), 0.5).colours == ("red",)
    far = judge([CAR], things, answer(colours_of([CAR]), seen[1:]), 0.5)
    assert far.colours == (None,) and far.fault == "wrong colour"


def test_the_strict_threshold_is_the_measured_one():
    assert 0.5 < strict_threshold("storybook-grounding-dino") < 1 and strict_threshold(HUB) == THERE == 0.3


def test_shares_are_counted_under_both_thresholds():
    """Two pictures of a cat and a red car under one method, one of them under the other."""
    fine = verdict([CAT, CAR], [(LEFT, {"cat": 0.9}), (RIGHT, {"car": 0.9, "red car": 0.5})])
    weak = verdict([CAT, CAR], [(LEFT, {"cat": 0.9}), (RIGHT, {"car": 0.3})])
    blue = verdict([CAT, CAR], [(LEFT, {"cat": 0.9}), (RIGHT, {"car": 0.9, "blue car": 0.5})])
    found = [
        Outcome("a cat and a red car", 0, "none", fine, weak),
        Outcome("a cat and a red car", 1, "none", weak, weak),
        Outcome("a cat and a red car", 0, "attend-and-excite", blue, blue),
    ]
    plain, excited = summary(found).values()
    assert plain["pictures"] == 2 and plain["present"] == 0.5 and plain["faults"] == {"none": 1, "missing": 1}
    assert plain["colour_right"] == 1 and excited["colour_right"] == 0 and excited["present"] == 1
    assert plain["interval"] == wilson(1, 2) and summary(found, "strict")["none"]["present"] == 0


def test_wilson_against_published_values():
    """Newcombe 1998 (https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I,
    method 3."""
    for successes, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
