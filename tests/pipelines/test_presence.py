"""Verdicts from a detector's scores, by hand, and the interval of a share."""

import itertools
import types

import numpy as np
import pytest
from PIL import Image

from pipelines.detection import pipeline as detection
from pipelines.diffusion.presence import (
    THERE,
    Wanted,
    answers,
    colours_of,
    examine,
    judge,
    strict_threshold,
    things_of,
    wanted_of,
)
from pipelines.evaluation.diffusion import Outcome, summary
from pipelines.shares import wilson
from pipelines.world import storybook

LEFT, RIGHT, ALMOST_LEFT = (0, 0, 50, 50), (60, 0, 110, 50), (2, 0, 52, 50)


def answer(phrases: list[str], found: list[tuple[tuple, dict]]):
    """`found`: of every box the scores that are not 0."""
    scores = np.array([[told.get(phrase, 0) for phrase in phrases] for _, told in found], np.float32)
    boxes = np.array([box for box, _ in found], np.float32)
    return types.SimpleNamespace(phrases=tuple(phrases), scores=scores, boxes=boxes)


def verdict(wanted: list[Wanted], found: list[tuple[tuple, dict]], threshold: float = 0.5):
    things, colours = (answer(names, found) for names in (things_of(wanted, HUB), colours_of(wanted)))
    return judge(wanted, things, colours, threshold)


HUB = "grounding-dino-tiny"
CAT, FROG, CAR = Wanted(noun="cat", colour=None), Wanted(noun="frog", colour=None), Wanted(noun="car", colour="red")


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
    assert wanted_of("car", ("small", "grey")) == Wanted(noun="car", colour="gray")
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
        Outcome(prompt="a cat and a red car", seed=0, method="none", verdict=fine, strict=weak),
        Outcome(prompt="a cat and a red car", seed=1, method="none", verdict=weak, strict=weak),
        Outcome(prompt="a cat and a red car", seed=0, method="attend-and-excite", verdict=blue, strict=blue),
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


# ------------------------------------------------------------------------------------------------- one thing, one box

PLACES = [(60 * n, 0, 60 * n + 50, 50) for n in range(6)]
RED, BLUE, ANY = Wanted(noun="car", colour="red"), Wanted(noun="car", colour="blue"), Wanted(noun="car", colour=None)


def car(place: int, colour: str, score: float = 0.9):
    """A car of that colour in that place, which the detector takes for another colour now and then."""
    return PLACES[place], {"car": score, f"{colour} car": 0.8, "green car": 0.3}


def test_two_things_of_one_noun_have_their_own_colours():
    """GenEval 18, Attend-and-Excite 27: the best car is one of them, and the other colour is asked of the other."""
    for found in ([car(0, "red"), car(1, "blue", 0.8)], [car(0, "blue"), car(1, "red", 0.8)]):
        for wanted in ([RED, BLUE], [BLUE, RED]):
            said = verdict(wanted, found)
            assert said.all_present and said.faults == ("", "") and said.boxes[0] != said.boxes[1]
            assert said.colours == tuple(each.colour for each in wanted)


def test_one_thing_does_not_make_two():
    said = verdict([RED, BLUE], [car(0, "blue")])
    assert said.present == (False, True) and said.faults == ("missing", "") and said.boxes[0] is None
    said = verdict([ANY, RED], [car(0, "red")])
    assert said.present.count(True) == 1 and "missing" in said.faults
    said = verdict([ANY, RED], [car(0, "blue")])
    assert said.present == (True, False), "a car of any colour has more right to a blue one"


def test_the_right_one_of_several_is_taken():
    said = verdict([RED], [car(0, "blue", 0.95), car(1, "red", 0.8)])
    assert said.boxes == (PLACES[1],) and said.colours == ("red",) and said.fault == "duplicated"
    assert verdict([RED], [car(0, "blue", 0.95), car(1, "red", 0.1)]).fault == "wrong colour"
    assert verdict([RED, BLUE], [car(0, "red"), car(1, "blue"), car(2, "pink")]).faults == ("duplicated",) * 2


@pytest.mark.parametrize("shown", range(6))
@pytest.mark.parametrize("asked", range(1, 6))
def test_k_equal_things_satisfy_exactly_k_equal_subjects(asked, shown):
    """Each is seen twice, in almost the same place: a box more is no thing more."""
    found = [(PLACES[n], {"cat": 0.9 - n / 10, "frog": 0.05}) for n in range(shown)]
    found += [
        ((x + 2, y, right + 2, low), {"cat": 0.85 - n / 10}) for n, (x, y, right, low) in enumerate(PLACES[:shown])
    ]
    said = verdict([CAT] * asked, found or [(PLACES[0], {"dog": 0.9})], 0.3)
    assert sum(said.present) == min(asked, shown) and said.present == tuple(sorted(said.present, reverse=True))
    boxes = [box for box, there in zip(said.boxes, said.present, strict=True) if there]
    assert len(set(boxes)) == len(boxes)
    assert said.fault == ("missing" if asked > shown else "duplicated" if asked < shown else "")


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_the_subjects_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    kinds = [CAT, FROG, ANY, RED, BLUE, Wanted(noun="cat", colour=None)]
    wanted = [kinds[n] for n in rng.integers(len(kinds), size=rng.integers(1, 5))]
    names = ["cat", "frog", "car", "red car", "blue car", "green car"]
    found = []
    for _ in range(rng.integers(1, 9)):
        x, y = rng.uniform(0, 100, 2)
        found.append(((x, y, x + 40, y + 40), dict(zip(names, rng.random(len(names)), strict=True))))
    said = verdict(wanted, found)
    order = rng.permutation(len(wanted))
    again = verdict([wanted[n] for n in order], found)
    rows = [
        [(v.present[n], v.scores[n], v.boxes[n], v.colours[n], v.faults[n]) for n in range(len(wanted))]
        for v in (said, again)
    ]
    for kind in {each.meaning for each in wanted}:
        first = [row for row, each in zip(rows[0], wanted, strict=True) if each.meaning == kind]
        second = [row for row, n in zip(rows[1], order, strict=True) if wanted[n].meaning == kind]
        assert first == second
    there = [box for box, present in zip(said.boxes, said.present, strict=True) if present]
    assert len(set(there)) == len(there), "no box for two"


@pytest.mark.parametrize("seed", range(20))
def test_no_other_assignment_is_worth_more(seed):
    """Against all of them, where the scores alone decide."""
    rng = np.random.default_rng(seed)
    nouns = ["cat", "frog", "dog"]
    scores = rng.random((4, 3))
    found = [(PLACES[n], dict(zip(nouns, scores[n], strict=True))) for n in range(4)]
    said = verdict([Wanted(noun=noun) for noun in nouns], found, 0.5)
    worth = np.where(scores >= 0.5, scores, 0)
    best = max(sum(worth[thing, n] for n, thing in enumerate(things)) for things in itertools.permutations(range(4), 3))
    assert sum(s for s, there in zip(said.scores, said.present, strict=True) if there) == pytest.approx(best)


def test_a_thing_that_was_lost_to_another_noun_is_mixed_and_to_an_equal_one_missing():
    chimera = [(LEFT, {"cat": 0.7, "frog": 0.9})]
    assert verdict([CAT, FROG], chimera).faults == ("mixed", "")
    assert verdict([FROG, FROG], chimera).faults == ("", "missing")
    free = verdict([CAT, FROG], [*chimera, (RIGHT, {"frog": 0.6})])
    assert free.all_present and free.boxes == (LEFT, RIGHT), "both are there where the frog has another place"


def test_a_plural_asks_for_several():
    two = [(LEFT, {"cat": 0.9, "cats": 0.9}), (RIGHT, {"cat": 0.8, "cats": 0.8})]
    assert verdict([Wanted(noun="cats")], two).faults == ("",) and verdict([CAT], two).fault == "duplicated"
    assert things_of([CAT, Wanted(noun="cats"), Wanted(noun="Cat")], HUB) == ["cat"]


def test_a_thing_of_two_colours_may_be_seen_in_either():
    wanted = wanted_of("car", ("red", "blue"))
    assert wanted.colours == wanted_of("car", ("red-and-blue",)).colours == ("red", "blue")
    assert [verdict([wanted], [car(0, colour)]).fault for colour in ("red", "blue", "pink")] == ["", "", "wrong colour"]


@pytest.mark.parametrize(
    "text, wanted, present",
    [
        ("a red car and a blue car", [("car", "red"), ("car", "blue")], (True, True)),
        ("a blue car", [("car", "red"), ("car", "blue")], (False, True)),
        ("a cat", [("cat", None), ("cat", None)], (True, False)),
        ("a cat and a cat", [("cat", None), ("cat", None)], (True, True)),
        ("a cat and a dog", [("cats", None), ("cats", None), ("dog", None)], (True, False, True)),
        ("a green apple, a red apple", [("apple", "red"), ("apple", "green")], (True, True)),
    ],
)
def test_scenes_are_judged_as_they_are(text, wanted, present):
    name = "storybook-grounding-dino"
    picture = Image.fromarray(storybook.compose_text(text, seed=0).picture)
    said = examine(
        [Wanted(noun=noun, colour=colour) for noun, colour in wanted],
        name,
        lambda phrases: detection.encode(picture, phrases, name),
    )
    assert said.present == present and not set(said.faults) - {"", "missing"}
    boxes = [box for box, there in zip(said.boxes, said.present, strict=True) if there]
    assert len(set(boxes)) == len(boxes)
