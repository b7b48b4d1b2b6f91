"""The house of lessons: a whole tab in forty lines, and what every lesson of the app must keep to."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import pytest

import app
from demos.ui.lesson import CHAPTERS, Lesson, Measure
from demos.ui.page import build, title_of
from demos.ui.tab import Tab
from pipelines.settings import setting, settings_of
from tests.demos.served import stepped

ROOT = Path(__file__).parents[2]


# ------------------------------------------------------------------------------------- a tab, from settings to lesson


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be set in counting."""

    upto: int = setting(3, "Count up to", "A whole number", low=1, high=9, step=1)
    way: str = setting("up", "Direction", noun="The direction", choices={"up": "upwards", "down": "downwards"})


def layout(tab: Tab) -> None:
    tab.control("upto")
    tab.control("way")
    tab.button("go", "Count")
    tab.html("figure")
    tab.numbers()
    tab.stop()


def wire(tab: Tab) -> None:
    tab.main([tab["go"].click, *tab.chosen])
    tab.quick(tab["upto"].input, forget, ["figure"])


def counting(settings: Settings) -> Iterator[dict]:
    """Count, one number at a time."""
    for n in range(1, settings.upto + 1):
        shown = n if settings.way == "up" else settings.upto + 1 - n
        yield {"figure": f"<b>{shown}</b>", "numbers": {"last": shown, "way": settings.way}}


def forget() -> dict:
    return {"figure": ""}


COUNTING = Lesson(
    slug="counting",
    title="Counting",
    chapter="collapse",
    claim="One follows another.",
    settings=Settings,
    layout=layout,
    main=counting,
    shows=("figure", "numbers"),
    wire=wire,
    measure=Measure(slider="upto", through=(2, 3), follows="figure"),
)


@pytest.fixture
def page(monkeypatch, tmp_path):
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "counting.md").write_text(
        "# Counting\n\n## The idea in 60 seconds\n\nOne, two, three.\n", encoding="utf-8"
    )
    monkeypatch.setattr("demos.ui.words.ASSETS", tmp_path)
    return build([COUNTING])


def test_a_lesson_is_its_declaration(page):
    """Its endpoint has its settings' names and defaults, and answers in steps with the parts that a handler named."""
    event = next(fn for fn in page.fns.values() if fn.api_name == "counting")
    assert [part.elem_id for part in event.inputs] == ["counting-upto", "counting-way"]
    ids = [part.elem_id for part in event.outputs]
    assert ids == ["counting-figure", "counting-numbers"]
    _, *steps = stepped(event.fn(2, "down"))
    assert [list(step.values())[1] for step in steps] == [{"last": 2, "way": "down"}, {"last": 1, "way": "down"}]
    _, *steps = stepped(event.fn())
    assert list(steps[-1].values())[1] == {"last": 3, "way": "up"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((10,), "Count up to must be a number from 1 to 9, not 10"),
        (("2",), "Count up to must be a number from 1 to 9, not '2'"),
        ((2, "left"), "The direction must be one of 'up', 'down', not 'left'"),
    ],
)
def test_a_lesson_checks_what_arrives(page, given, told):
    event = next(fn for fn in page.fns.values() if fn.api_name == "counting")
    with pytest.raises(gr.Error, match=told):
        list(stepped(event.fn(*given)))


def test_a_handler_is_called_without_a_page():
    assert list(counting(Settings(upto=1))) == [{"figure": "<b>1</b>", "numbers": {"last": 1, "way": "up"}}]


# ------------------------------------------------------------------------------------------------- lessons of the app


def test_every_lesson_has_its_place():
    """One name for module, pipeline, words and endpoint; chapters in order; numbers from the order."""
    for number, lesson in enumerate(app.LESSONS, 1):
        assert (ROOT / "assets" / "lessons" / f"{lesson.slug}.md").exists(), lesson.slug
        assert title_of(lesson, app.LESSONS) == f"{number} · {lesson.title}"
    chapters = [lesson.chapter for lesson in app.LESSONS]
    assert chapters == sorted(chapters, key=list(CHAPTERS).index), "lessons of a chapter stand together"


def test_tables_belong_to_sections_that_are_there():
    for lesson in app.LESSONS:
        words = (ROOT / "assets" / "lessons" / f"{lesson.slug}.md").read_text(encoding="utf-8")
        assert all(f"## {section}\n" in words for section in lesson.tables), lesson.slug


def test_measures_move_real_sliders():
    for lesson in app.LESSONS:
        if lesson.measure:
            known = settings_of(lesson.settings)[lesson.measure.slider]
            assert known.step and all(known.low <= value <= known.high for value in lesson.measure.through)
            assert lesson.measure.through[-1] == known.default and lesson.measure.follows in lesson.shows


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_function_of_a_tab_is_longer_than_a_screen():
    for file in sorted((ROOT / "demos").rglob("*.py")):
        for node in functions(file):
            assert node.end_lineno - node.lineno < 60, f"{file.name}: {node.name}"


def test_public_functions_say_what_they_take():
    """Every parameter of a public function is annotated, in the whole tree but its tests."""
    for file in [ROOT / "app.py", *(ROOT / "demos").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        public = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
        for node in public:
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert all(each.annotation for each in parameters), f"{file.relative_to(ROOT)}: {node.name}"


def test_records_are_built_by_name():
    """Dataclasses are keyword-only: nothing depends on the order of a record's fields."""
    for file in sorted((ROOT / "pipelines").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "dataclass":
                        assert any(k.arg == "kw_only" for k in mark.keywords), f"{file.name}: {node.name}"
