"""What to try, foretold: every line begins in a state that is valid, and its run gives one of its answers."""

import functools
import inspect
import types
from typing import Any

import gradio as gr
import pytest
from gradio.processing_utils import get_pil_metadata
from PIL import Image

import app
from demos.ui.text import LANGUAGES, PERSIAN
from demos.ui.tries import Asking, Try, among, verdict_of
from pipelines.errors import UserError
from pipelines.settings import settings_of
from tests.demos.served import Served, last

LESSONS = {lesson.slug: lesson for lesson in app.LESSONS if lesson.tries}
HEAVY = ("diffusion", "clip_synthesis")


@functools.cache
def served_of(slug: str) -> Served:
    return Served(LESSONS[slug])


class Page:
    """A page with one tab: the values of its parts, and what its handlers do to them."""

    def __init__(self, slug: str, folder):
        self.served, self.folder = served_of(slug), folder
        self.asking = Asking(self.served.tab)
        self.values: dict[str, Any] = {
            name: getattr(part, "value", None) for name, part in self.served.tab.parts.items()
        }
        self.show({"image": None})

    def show(self, answer: dict | None) -> None:
        for name, value in (answer or {}).items():
            if isinstance(value, Image.Image) and name == "image":
                path = self.folder / "picture.png"
                value.save(path, pnginfo=get_pil_metadata(value))
                value = str(path)
            self.values[name] = value.value if isinstance(value, gr.CheckboxGroup | gr.Dropdown) else value

    def do(self, handler, **given: object) -> None:
        names = [name for name in inspect.signature(handler).parameters if name in self.values]
        self.show(handler(**{name: self.values[name] for name in names}, **given))

    def run(self) -> None:
        function = self.served.functions[self.served.tab.slug]
        names = inspect.signature(function).parameters
        self.show(last(self.served.called(function)(**{name: self.values.get(name) for name in names})))


def chosen(place: int) -> gr.SelectData:
    return types.SimpleNamespace(index=place)  # type: ignore[return-value]


def lines(light_alone: bool) -> list:
    found = [(slug, each) for slug, lesson in LESSONS.items() for each in lesson.tries]
    return [
        pytest.param(slug, each, id=f"{slug}-{each.name}")
        for slug, each in found
        if not (light_alone and slug in HEAVY)
    ]


def line_of(slug: str, name: str) -> Try:
    return next(each for each in LESSONS[slug].tries if each.name == name)


@pytest.mark.parametrize(("slug", "line"), lines(light_alone=True))
def test_a_line_sets_its_state_asks_runs_and_is_held_against_the_run(slug, line, tmp_path):
    page = Page(slug, tmp_path)
    place, settings = LESSONS[slug].tries.index(line), page.served.tab.settings
    question, moved = page.asking.questions[place], {"seed": 7, "nms_iou": 0.1}  # by somebody who has played before
    page.values |= moved
    page.do(page.asking.begin, pressed=types.SimpleNamespace(target=page.asking.buttons[place]))
    assert all(page.values[name] == settings[name].default for name in moved if name in settings)
    assert all(page.values[name] == value for name, value in line.state.items())
    page.run()
    page.do(page.asking.ask)
    assert page.values[question].visible, "the question comes when the state is on show"
    before = page.values["numbers"]
    page.values |= moved  # meanwhile
    page.do(page.asking.guess, chosen=chosen(0))
    assert all(page.values[name] == settings[name].default for name in moved if name in settings)
    assert all(page.values[name] == value for name, value in {**line.state, **line.then}.items())
    page.run()
    said = verdict_of(line, "0", before, page.values["numbers"])
    page.values["tally"] = {"right": 3, "of": 5}
    page.do(page.asking.reveal)
    assert page.values["tally"] == {"right": 3 + bool(said.right), "of": 6}
    assert line.answers[int(said.answer)] in page.values["foretold"]
    assert said.text.splitlines()[0][:20] in page.values["foretold"]
    assert page.values["trying"] is None
    page.do(page.asking.reveal)
    assert page.values["tally"]["of"] == 6, "a run is counted once"


@pytest.mark.parametrize(("slug", "line"), lines(light_alone=False))
def test_a_line_is_valid_and_in_both_languages(slug, line):
    settings = settings_of(LESSONS[slug].settings)
    for name, value in {**line.state, **line.then}.items():
        if name != "picture":
            assert settings[name].check(value) == value
    assert len(set(line.answers)) == len(line.answers) >= 2
    assert line.message in LANGUAGES[PERSIAN]


def test_a_heavy_lesson_is_judged_by_what_its_run_says():
    excited = line_of("diffusion", "excite")
    there = {"presence": {"cat": True, "frog": True}, "presence_all": True, "seconds": 3.0}
    lost = {"presence": {"cat": True, "frog": False}, "presence_all": False, "seconds": 1.0}
    assert verdict_of(excited, "1", {}, there).right and not verdict_of(excited, "1", {}, lost).right
    assert "frog ✗" in verdict_of(excited, "1", {}, lost).text
    raw = line_of("clip_synthesis", "raw")
    for rank, answer in ((1, "0"), (2, "1"), (10, "1"), (11, "2"), (97, "2")):
        numbers = {"rank_held_out": rank, "similarity": 0.9, "similarity_held_out": -0.3}
        assert verdict_of(raw, None, {}, numbers).answer == answer


def test_an_answer_that_is_none_is_refused_and_nothing_is_asked_without_a_button(tmp_path):
    page = Page("token_removal", tmp_path)
    assert page.asking.begin(types.SimpleNamespace(target=page.served.tab["stop"])) is None
    assert page.asking.guess(None, chosen(0)) is None and page.asking.reveal(None, {}, {}) is None
    for wrong in (3, -1, "0; drop", None):
        with pytest.raises(UserError):
            page.asking.guess((0, "", {}), chosen(wrong))


def test_a_number_falls_among_its_bounds():
    assert [among(value, 0.7, 0.95) for value in (0.1, 0.7, 0.94, 0.95, 1)] == [0, 1, 1, 2, 2]
