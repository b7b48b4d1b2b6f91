"""Threshold and base rate: pictures in four boxes, numbers beside always no, two questions. The measures themselves are
tested in tests/pipelines."""

import json
import re

import gradio as gr
import pytest

from demos.detection import threshold
from pipelines.detection import threshold as pipeline
from pipelines.detection.settings import ThresholdSettings
from pipelines.errors import UserError
from pipelines.world import storybook
from tests.demos.served import Served, last

NO_NUMBERS = (None, None)  # the second question is open, nothing has run


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    """A hundred of them, once for all tests."""
    caches = (pipeline.scored, threshold.scored, threshold.thumbnails)
    patch = pytest.MonkeyPatch()
    patch.setattr(pipeline, "PARTS", pipeline.PARTS[:2])
    for cache in caches:
        cache.cache_clear()
    yield
    patch.undo()
    for cache in caches:
        cache.cache_clear()


@pytest.fixture(scope="module")
def lesson() -> Served:
    return Served(threshold.LESSON)


def box(shown: dict, name: str) -> tuple[list[int], str]:
    """The pictures in a box, and what its head says."""
    found = re.search(rf'data-box="{name}"><header>(.*?)</header><div>(.*?)</div>', shown["boxes"])
    assert found
    return [int(n) for n in re.findall(r'alt="(\d+)"', found[2])], found[1]


def test_pictures_fall_into_four_boxes_with_defaults(lesson):
    shown = last(lesson["threshold"](guess="often"))
    numbers = shown["numbers"]
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(numbers) and shown["status"] == ""
    seen = []
    for name in threshold.BOXES:
        places, head = box(shown, name)
        assert f"<b>{numbers[name]}</b>" in head and len(places) == min(numbers[name], threshold.SHOWN)
        seen += places
    assert len(seen) == len(set(seen)), "no picture is in two boxes"
    holds = pipeline.scored("storybook-clip-b").holds[:, storybook.NOUNS.index("cat")]
    assert all(holds[place - 1] for place in box(shown, "true_positives")[0] + box(shown, "false_negatives")[0])
    assert "You were right" in shown["verdict"] and "always no: 93.0%" in shown["measures"]
    assert f"{numbers['accuracy']:.1%} right" in shown["measures"]
    assert shown["charts"].count("<svg") == 3 and f"{numbers['roc_area']:.3f}" in shown["charts"]
    json.dumps(numbers, allow_nan=False)


def test_before_an_answer_the_pictures_are_there_and_nothing_is_counted(lesson):
    before = lesson["redraw"]("cat", 0.25, 0.07, 1.0, "storybook-clip-b", *NO_NUMBERS)
    assert list(before) == ["boxes"] and "<img" in before["boxes"] and "<b>" not in before["boxes"]
    assert lesson["preview"]("cat", 0.25, 0.07, 1.0, "storybook-clip-b", {"seed": 1}) is None


def test_ten_thousand_pictures_follow_the_base_rate_and_the_drawn_ones_do_not():
    common, rare = (threshold.threshold(ThresholdSettings(prevalence=share)) for share in (0.5, 0.001))
    told = re.compile(r"<b>(\d+)</b> <i>([\d,]+) of 10,000</i>")
    both = [[told.search(box(shown, name)[1]).groups() for name in threshold.BOXES] for shown in (common, rare)]
    counts = [[int(all_of.replace(",", "")) for _, all_of in of_one] for of_one in both]
    assert [drawn for drawn, _ in both[0]] == [drawn for drawn, _ in both[1]]
    for (found, accused, missed, left), share in zip(counts, (0.5, 0.001), strict=True):
        assert found + accused + missed + left == pytest.approx(10_000, abs=2)
        assert found + missed == pytest.approx(10_000 * share, abs=1)
    assert "99.9%" in rare["measures"] and "picked blindly: 0.1%" in rare["measures"]


def test_all_are_accused_or_nobody():
    everybody, nobody = (threshold.threshold(ThresholdSettings(threshold=at), "better") for at in (-1, 1))
    assert box(everybody, "true_negatives")[0] == box(everybody, "false_negatives")[0] == []
    assert "and " in everybody["boxes"] and "7.0% of the accused hold one" in everybody["measures"]
    assert "– of the accused" in nobody["measures"] and "You were right: At least as often" in nobody["verdict"]
    assert nobody["charts"].count('class="point"') == 1, "without anyone accused there is no precision"


def test_the_second_question_is_judged_by_both_curves(lesson):
    given = ("cat", 0.25, 0.07, 1.0, "storybook-clip-b")
    told = lesson["which_moves"](*given, "precision")["moved"]
    assert "You were right: Precision against recall." in told and told.count("base rate 0.70%") == 2
    assert "You said: Both. It came out differently" in lesson["which_moves"](*given, "both")["moved"]
    assert lesson["which_moves"](*given, None) is None
    after = lesson["redraw"](*given, "both", {"seed": 1})
    assert "moved" in after and after["numbers"]["verdict"]["guess"] is None
    with pytest.raises(gr.Error, match="The answer must be one of 'both'"):
        lesson["which_moves"](*given, "nobody")


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"threshold": float("nan")}, "Threshold must be a number from -1 to 1, not nan"),
        ({"prevalence": 0}, "Base rate must be a number from 0.001 to 0.999, not 0"),
        ({"cost": 0}, "Cost of a false accusation must be a number from 0.01"),
        ({"word": "zeppelin"}, "The word must be one of"),
        ({"guess": "nobody"}, "The answer must be one of 'never'"),
        ({"model": "openclip-vit-b-32"}, "not on this computer yet"),
    ],
)
def test_what_cannot_be_is_said(lesson, bad, told):
    with pytest.raises(gr.Error, match=told):
        last(lesson["threshold"](**bad))


def test_the_measures_follow_the_word():
    cat, dog = (threshold.threshold(ThresholdSettings(word=word)) for word in ("cat", "dog"))
    assert "holds a cat" in cat["boxes"] and "holds a dog" in dog["boxes"] and cat["facts"] != dog["facts"]


def test_costs_choose_a_threshold():
    dear = threshold.threshold(ThresholdSettings(cost=1000.0, prevalence=0.001))
    assert "a false accusation: 1000" in dear["charts"] and "always no: 0.0010" in dear["facts"]
    with pytest.raises(UserError):
        ThresholdSettings(cost=1e9)
