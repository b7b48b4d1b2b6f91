"""The page: chapters with an address each, in every chapter its lessons as tabs."""

from collections.abc import Sequence

import gradio as gr

from demos.ui import share
from demos.ui.controls import in_address
from demos.ui.language import SWITCH
from demos.ui.lesson import CHAPTERS, Lesson
from demos.ui.limits import KEPT_SECONDS, UNDER_WAY
from demos.ui.present import TOGGLE
from demos.ui.serving import Page
from demos.ui.tab import Tab
from demos.ui.text import ASSETS, numbered, t
from demos.ui.words import lay_out_words
from pipelines.settings import settings_of

MARK = (ASSETS / "mark.svg").read_text(encoding="utf-8")


def build(lessons: Sequence[Lesson]) -> gr.Blocks:
    """The whole page. Lessons are numbered in their order; each chapter opens on its first."""
    chapters = [chapter for chapter in CHAPTERS if any(lesson.chapter == chapter for lesson in lessons)]
    with Page(title="Patchlight", analytics_enabled=False, fill_width=True, delete_cache=(600, KEPT_SECONDS)) as page:
        _chapter(page, chapters[0], chapters, lessons)
    for chapter in chapters[1:]:
        with page.route(CHAPTERS[chapter], f"/{chapter}", show_in_navbar=False):
            _chapter(page, chapter, chapters, lessons)
    page.queue(max_size=UNDER_WAY, default_concurrency_limit=None, api_open=False)
    return page


def number_of(lesson: Lesson, lessons: Sequence[Lesson]) -> int:
    """In the order of all."""
    return [each.slug for each in lessons].index(lesson.slug) + 1


def title_of(lesson: Lesson, lessons: Sequence[Lesson]) -> str:
    """As the page shows it: with its number."""
    return f"{number_of(lesson, lessons)} · {lesson.title}"


def address_of(lesson: Lesson, lessons: Sequence[Lesson]) -> str:
    """Of the page and the tab, such as `find?tab=detection`."""
    return f"{'' if lesson.chapter == lessons[0].chapter else lesson.chapter}?tab={lesson.slug}"


def _chapter(page: gr.Blocks, chapter: str, chapters: Sequence[str], lessons: Sequence[Lesson]) -> None:
    own = {each.slug: _labels(each) for each in lessons if each.chapter == chapter}
    _masthead(chapter, chapters, own)
    tabs = []
    with gr.Tabs(overflow_behavior="menu") as bar:
        for lesson in lessons:
            if lesson.chapter == chapter:
                tabs.append(_lay_out(lesson, lessons))
    for place, tab in enumerate(tabs):
        tab.chosen = [tab.opened.select, *([page.load] if place == 0 else [])]
        tab.lesson.wire(tab)
        tab.connect()
    known = {tab.slug for tab in tabs}

    def choose(request: gr.Request) -> object:
        wanted = request.query_params.get("tab")
        return gr.Tabs(selected=wanted) if wanted in known else gr.skip()

    page.load(choose, None, bar, api_visibility="private", show_progress="hidden")


def _labels(lesson: Lesson) -> dict[str, str]:
    """Of its settings, by name."""
    return {name: known.label for name, known in settings_of(lesson.settings).items() if in_address(known)}


def _masthead(here: str, chapters: Sequence[str], controls: share.Controls) -> None:
    """Name, chapters and what the app is for, in one line: the pictures are what the screen is for."""
    with gr.Row(elem_id=f"masthead-{here}", elem_classes="masthead"):
        gr.HTML(f'<a class="brand" href="./"><h1>{MARK}Patchlight</h1></a>', padding=False)
        links = [t(CHAPTERS[chapter]) for chapter in chapters]
        for chapter, name in zip(chapters, links, strict=True):
            address = "./" if chapter == chapters[0] else f"./{chapter}"
            chosen = "chosen" if chapter == here else ""
            gr.Button(name, link=address, size="sm", elem_classes=["chapter", chosen])
        pressed = share.button(here)
        present = gr.Button(t("Present"), size="sm", elem_id=f"present-{here}", elem_classes="chapter")
        present.click(None, js=TOGGLE)
        switch = gr.Button(t("فارسی"), size="sm", elem_id=f"language-{here}", elem_classes="chapter")
        switch.click(None, js=SWITCH)
        gr.Markdown(t("Every picture comes from a model that ran."))
    share.connect(pressed, here, controls)


def _lay_out(lesson: Lesson, lessons: Sequence[Lesson]) -> Tab:
    tab = Tab(lesson)
    title = numbered(number_of(lesson, lessons), lesson.title)
    with gr.Tab(title, id=lesson.slug, elem_id=f"tab-{lesson.slug}") as tab.opened:
        gr.Markdown(t(lesson.claim), elem_classes="claim")
        lesson.layout(tab)
        lay_out_words(lesson)
    return tab
