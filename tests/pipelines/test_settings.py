"""One spelling for every setting: what is allowed, what is said of the rest."""

import math
from dataclasses import dataclass

import pytest

from pipelines.errors import UserError
from pipelines.settings import checked, setting, settings_of


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One field of each kind."""

    ratio: float = setting(0.5, "Ratio", noun="The ratio", low=0, high=1, step=0.1, slider=(0.1, 1))
    steps: int = setting(20, "Steps", low=1, high=100)
    centring: bool = setting(True, "Centring")
    rule: str = setting("attention", "Who decides", choices={"attention": "by attention", "random": "by chance"})
    factor: int = setting(1, "Resolution", choices={1: "full", 2: "half"})
    prompt: str = setting("", "Prompt", most=10)


def test_what_is_allowed_comes_back_as_its_kind():
    given = {"ratio": 0, "steps": 7.0, "centring": False, "rule": "random", "factor": 2, "prompt": " a cat "}
    found = checked(Sample, given)
    assert found == Sample(ratio=0, steps=7, centring=False, rule="random", factor=2, prompt="a cat")
    assert type(found.steps) is int and checked(Sample, {}) == Sample()
    assert checked(Sample, list(given.values())) == found
    assert checked(Sample, {"prompt": None}).prompt == ""


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("prompt", "a \ud83d cat", "Prompt holds half of a character, at place 3"),
        ("ratio", 7, "The ratio must be a number from 0 to 1, not 7"),
        ("ratio", "0.5", "not '0.5'"),
        ("ratio", math.nan, "not nan"),
        ("ratio", -math.inf, "not -inf"),
        ("ratio", None, "not None"),
        ("ratio", True, "not True"),
        ("ratio", [0.5], "must be a number"),
        ("steps", 1.5, "Steps must be a whole number, not 1.5"),
        ("steps", 0, "from 1 to 100"),
        ("steps", 10**400, "from 1 to 100"),
        ("centring", "yes", "true or false, not 'yes'"),
        ("centring", 1, "true or false, not 1"),
        ("rule", "best", "must be one of 'attention', 'random', not 'best'"),
        ("rule", {"a": 1}, "must be one of"),
        ("factor", "2", "must be one of 1, 2, not '2'"),
        ("factor", True, "must be one of 1, 2, not True"),
        ("factor", 3, "must be one of 1, 2, not 3"),
        ("prompt", 5, "must be text, not 5"),
        ("prompt", "x" * 11, "11 characters of at most 10"),
        ("colour", 5, "no setting 'colour'"),
    ],
)
def test_what_is_not_allowed_is_told_apart_and_named(name, value, told):
    with pytest.raises(UserError) as caught:
        checked(Sample, {name: value})
    assert told in str(caught.value) and len(str(caught.value)) < 200


def test_a_setting_knows_everything_about_itself():
    ratio = settings_of(Sample)["ratio"]
    assert (ratio.kind, ratio.default, ratio.low, ratio.high, ratio.slider) == (float, 0.5, 0, 1, (0.1, 1))
    assert list(settings_of(Sample)) == ["ratio", "steps", "centring", "rule", "factor", "prompt"]
