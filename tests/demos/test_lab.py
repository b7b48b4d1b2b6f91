"""The skeleton of the labs: predict, run, be told, be counted; the settings stand in the address."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import gradio as gr
import pytest

import app
from demos.ui import lab
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from pipelines.errors import UserError
from pipelines.predictions import judge
from pipelines.settings import setting
from tests.demos.served import Served, last

ANSWERS = {"heads": "Heads", "tails": "Tails"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be set in tossing."""

    coin: str = setting("fair", "Coin", choices={"fair": "fair", "two": "two heads"})
    count: int = setting(3, "Tosses", low=1, high=9, step=1)
    weight: float = setting(0.5, "Weight", low=0, high=1, step=0.1)
    shiny: bool = setting(True, "Shiny")


def layout(tab: Tab) -> None:
    lab.ask(tab, "What comes up?", ANSWERS)
    for name in tab.settings:
        tab.control(name)
    lab.answered(tab)
    tab.numbers()


def wire(tab: Tab) -> None:
    lab.wire(tab, lambda settings: 2 * settings.count, listen=["count"])


def tossing(settings: Settings, guess: str = "") -> Iterator[dict]:
    """Toss."""
    found = judge(ANSWERS, lab.guessed(ANSWERS, guess), "heads", "It was {n} times heads.", n=settings.count)
    yield {"status": "", "verdict": lab.verdict(found, ANSWERS), "numbers": {"verdict": found.record()}}


@pytest.fixture
def served() -> Served:
    return Served(
        Lesson(
            slug="tossing",
            title="Tossing",
            chapter="collapse",
            claim="It comes up.",
            settings=Settings,
            layout=layout,
            main=tossing,
            shows=("status", "verdict", "numbers"),
            wire=wire,
        )
    )


def test_the_run_button_wakes_with_an_answer(served):
    assert served.tab["run"].interactive is False
    awake = served["wake"]("fair", 4, 0.5, True, "heads")
    assert awake["run"].interactive is True and "8 s" in awake["announced"]
    assert served["wake"]("fair", 3, 0.5, True, None)["run"].interactive is False


def test_a_program_need_not_guess(served):
    told = last(served["tossing"]())
    assert told["numbers"]["verdict"] == {
        "answer": "heads",
        "guess": None,
        "right": None,
        "text": "It was 3 times heads.",
    }
    assert "You" not in told["verdict"] and "Heads." in told["verdict"]
    with pytest.raises(gr.Error, match="The answer must be one of 'heads', 'tails', not 'edge'"):
        last(served["tossing"]("fair", 3, 0.5, True, "edge"))


@pytest.mark.parametrize(("guess", "right", "told"), [("heads", 1, "You were right: Heads."), ("tails", 0, "Tails")])
def test_a_run_is_counted_and_the_question_is_open_again(served, guess, right, told):
    answer = last(served["tossing"](guess=guess))
    assert told in answer["verdict"]
    after = served["count"](answer["numbers"], {"right": 4, "of": 6})
    assert after["tally"] == {"right": 4 + right, "of": 7} and f"{4 + right} of 7" in after["score"]
    assert after["guess"] == "" and after["run"].interactive is False


def test_a_tally_that_was_tampered_with_begins_anew(served):
    numbers = {"verdict": {"right": True}}
    for kept in (None, [], {"right": "many"}, "x"):
        assert served["count"](numbers, kept)["tally"] == {"right": 1, "of": 1}
    assert served["count"]({"verdict": {"right": None}}, {}) is None and served["count"](None, {}) is None


def test_seconds_are_told_before_and_too_many_are_refused(served):
    assert "6 s" in served["announce"]("fair", 3, 0.5, True)["announced"]
    lab.affordable(lab.LONGEST)
    with pytest.raises(UserError, match="about 10 minutes; at most 5"):
        lab.affordable(600)


def test_reset_puts_everything_back(served):
    told = served["reset"]()
    assert (told["coin"], told["count"], told["weight"], told["shiny"]) == ("fair", 3, 0.5, True)
    assert told["verdict"] is told["numbers"] is None and told["guess"] == "" and told["run"].interactive is False


# --------------------------------------------------------------------------------------------------------- the address


def restored(served: Served, query: dict) -> dict | None:
    return served["restore"](SimpleNamespace(query_params=query))


def test_an_address_sets_what_it_names(served):
    told = restored(served, {"tab": "tossing", "coin": "two", "count": "5", "shiny": "false", "__theme": "dark"})
    assert told == {"coin": "two", "count": 5, "shiny": False}
    assert restored(served, {"tab": "other", "count": "5"}) is restored(served, {"tab": "tossing"}) is None
    assert restored(served, {"count": "5"}) is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("count", "12", "from 1 to 9, not 12"),
        ("count", "many", "from 1 to 9, not 'many'"),
        ("weight", "nan", "from 0 to 1, not nan"),
        ("weight", "1e999", "from 0 to 1, not inf"),
        ("shiny", "1", "true or false, not '1'"),
        ("coin", "<b>", "must be one of 'fair', 'two', not '<b>'"),
        ("count", "9" * 400, "from 1 to 9"),
    ],
)
def test_an_address_is_checked_like_any_input(served, name, value, told):
    with pytest.raises(gr.Error, match=told):
        restored(served, {"tab": "tossing", name: value})


def test_the_address_knows_every_setting_and_its_default(served):
    written = next(fn for fn in served.page.fns.values() if fn.inputs and "replaceState" in str(fn.js))
    assert [part.elem_id for part in written.inputs] == [f"tossing-{name}" for name in served.tab.settings]
    assert '["tossing", [["coin", "fair"], ["count", 3], ["weight", 0.5], ["shiny", true]]]' in str(written.js)


@pytest.mark.parametrize("slug", ["negatives", "collapse", "crops", "pretext", "greedy"])
def test_a_lab_that_is_opened_shows_what_it_learns_from(slug):
    lesson = next(each for each in app.LESSONS if each.slug == slug)
    shown = Served(lesson)["show_samples"]()["samples"]
    assert shown.count('<img alt="" src="data:image/webp;base64,') == 10 and len(set(shown.split("<img"))) == 11
