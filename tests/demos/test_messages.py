"""What a visitor is told: our words alone, values that show whether they are text, and no promise in vain."""

import asyncio

import gradio as gr
import pytest

import app
from demos.diffusion import seeds
from demos.ui import controls, events
from pipelines import settings
from pipelines.errors import UserError
from pipelines.settings import MOST_TEXT
from tests.demos.served import stepped


@pytest.fixture(scope="module")
def page() -> gr.Blocks:
    return app.build()


@pytest.mark.parametrize(
    ("check", "value", "told"),
    [
        (lambda v: controls.choice("The size", v, [1, 2, 3]), "2", "The size must be one of 1, 2, 3, not '2'."),
        (lambda v: controls.choice("The size", v, [1, 2, 3]), True, "The size must be one of 1, 2, 3, not True."),
        (lambda v: controls.choice("The head", v, ["mean", "2"]), 2, "The head must be one of 'mean', '2', not 2."),
        (lambda v: controls.choice("The head", v, ["mean"]), ["mean"], "must be one of 'mean', not ['mean']."),
        (lambda v: controls.number("The ratio", v, 0, 1), "0.5", "must be a number from 0 to 1, not '0.5'."),
        (lambda v: controls.number("The ratio", v, 0, 1), float("nan"), "must be a number from 0 to 1, not nan."),
        (lambda v: controls.number("The ratio", v, 0, 1), float("inf"), "must be a number from 0 to 1, not inf."),
        (lambda v: controls.number("The ratio", v, 0, 1), 10**400, "must be a number from 0 to 1, not 1000"),
        (lambda v: controls.whole("The seed", v, 0, 9), 1.5, "must be a whole number, not 1.5."),
        (lambda v: controls.flag("Blur", v), "true", "Blur is true or false, not 'true'."),
        (lambda v: controls.words("The prompt", v), 5, "The prompt must be text, not 5."),
        (lambda v: controls.words("The prompt", v), "x" * 301, f"too long: 301 characters of at most {MOST_TEXT}."),
    ],
)
def test_a_text_and_a_number_look_different(check, value, told):
    with pytest.raises(UserError) as caught:
        check(value)
    assert told in str(caught.value)


def test_what_the_api_says_of_a_choice_is_what_its_check_wants(page):
    """A client that sends a documented value, as the documented type, is understood."""
    seen = 0
    for function in page.fns.values():
        for component in function.inputs if function.api_visibility == "public" else ():
            if not isinstance(component, gr.Radio | gr.Dropdown | gr.CheckboxGroup):
                continue
            seen += 1
            schema, values = component.api_info(), [value for _, value in component.choices]
            schema = schema.get("items", schema)
            kind = {"string": str, "integer": int}[schema["type"]]
            assert all(type(value) is kind for value in values), (component.label, schema)
            assert schema.get("enum", values) == values
            assert all(str(value) in schema["description"] for value in values if kind is int)
    assert seen > 15


def test_a_list_of_seeds_holds_distinct_ones_or_is_refused():
    last = settings.SEED_LIMIT
    assert [*seeds.in_a_row(7, 3)] == [7, 8, 9] and [*seeds.in_a_row(last, 1)] == [last]
    assert len({*seeds.in_a_row(last - 9, 10)}) == 10
    with pytest.raises(UserError, match=f"10 seeds from {last - 8} on.*at most {last - 9}"):
        seeds.in_a_row(last - 8, 10)


@pytest.mark.parametrize("fault", [ValueError, RuntimeError, KeyError, OSError, FloatingPointError])
def test_a_librarys_words_are_logged_and_never_shown(fault, caplog):
    def handler():
        raise fault("mat1 and mat2 must have the same dtype")

    for wrapped in (lambda: list(stepped(events.event(handler)())), lambda: asyncio.run(events.light(handler)())):
        with pytest.raises(gr.Error) as caught:
            wrapped()
        assert "Something went wrong on our side" in str(caught.value) and "mat1" not in str(caught.value)
        assert "mat1" in caplog.text
        caplog.clear()


def test_braces_of_a_visitor_are_shown_as_they_are():
    def handler():
        raise UserError("{name} is not {value}.", name="The prompt", value="'{0} {name}'")

    with pytest.raises(gr.Error) as caught:
        asyncio.run(events.light(handler)())
    assert caught.value.message == "The prompt is not '{0} {name}'."
