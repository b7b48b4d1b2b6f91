"""Controls made from settings. They pass their values on as they came: every check is the setting's own.

Gradio's checks raise what a visitor never sees. To the browser these are the plain components.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from demos.ui.text import t
from pipelines.settings import MOST_TEXT, Setting


def _as_it_came(self, payload):
    return payload


class Slider(gr.Slider):
    is_template = True
    preprocess = _as_it_came


class Number(gr.Number):
    is_template = True
    preprocess = _as_it_came


def _told(title: str, choices: Sequence[tuple], told: dict) -> dict:
    """What the API says of a choice; Gradio's says that every one is a text."""
    values = [value for _, value in choices]
    if not values or not all(isinstance(value, int) for value in values):
        return told
    return {"title": title, "type": "integer", "description": f"one of {', '.join(map(str, values))}"}


class Radio(gr.Radio):
    is_template = True
    preprocess = _as_it_came

    def api_info(self) -> dict:
        return _told("Radio", self.choices, super().api_info())


class Dropdown(gr.Dropdown):
    is_template = True
    preprocess = _as_it_came

    def api_info(self) -> dict:
        return _told("Dropdown", self.choices, super().api_info())


class Checkbox(gr.Checkbox):
    is_template = True
    preprocess = _as_it_came


class CheckboxGroup(gr.CheckboxGroup):
    is_template = True
    preprocess = _as_it_came


class Textbox(gr.Textbox):
    is_template = True
    preprocess = _as_it_came


# What arrived over the wire, where it is no field of a method's settings. Raise UserError, as `Setting.check` does.


def words(name: str, value: object, most: int = MOST_TEXT) -> str:
    """A line of text, stripped; None is empty."""
    return Setting(name=name, kind=str, default="", label=name, most=most).check(value)


def in_address(known: Setting) -> bool:
    """Whether the page's address can hold a setting: no picture, and no whole text."""
    return known.kind in (bool, int, float, str) and known.most <= MOST_TEXT


def number(name: str, value: object, low: float, high: float) -> float:
    """A finite number within its limits."""
    return Setting(name=name, kind=float, default=low, label=name, low=low, high=high).check(value)


def whole(name: str, value: object, low: int, high: int) -> int:
    """`number`, but whole."""
    return Setting(name=name, kind=int, default=low, label=name, low=low, high=high).check(value)


def flag(name: str, value: object) -> bool:
    return Setting(name=name, kind=bool, default=False, label=name).check(value)


def choice(name: str, value: object, allowed: Iterable[str | int]):
    return Setting(name=name, kind=object, default=None, label=name, choices=dict.fromkeys(allowed, "")).check(value)


def control(known: Setting, *, menu: bool = False, **changes: Any) -> Component:
    """What a setting is changed with on the page. Every value is passed on as it came and checked by its setting."""
    shown = {"label": t(known.label), **({"info": t(known.help)} if known.help else {}), **changes}
    if known.choices is not None or "choices" in shown:  # names of models are no fixed choices
        kind = Dropdown if menu or known.choices is None else Radio
        allowed = shown.pop("choices", known.choices)
        texts = {**(known.choices or {}), **(allowed if isinstance(allowed, Mapping) else {})}
        names = [(t(texts[value]) if value in texts else value, value) for value in allowed]
        return kind(names, **{"value": known.default, **shown})
    if known.kind is tuple:
        return CheckboxGroup([], **shown)
    if known.kind is bool:
        return Checkbox(**{"value": known.default, **shown})
    if known.kind is str:
        return Textbox(**{"value": known.default, "max_length": known.most, **shown})
    if known.step is None:
        return Number(**{"value": known.default, **shown})
    low, high = known.ends
    return Slider(low, high, step=known.step, **{"value": known.default, **shown})
