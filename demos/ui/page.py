"""The page: chapters with an address each, in every chapter its lessons as tabs."""

from collections.abc import Sequence

import gradio as gr

from demos.ui.lesson import CHAPTERS, Lesson
from demos.ui.serving import Page
from demos.ui.tab import Tab
from demos.ui.text import t
from demos.ui.words import lay_out_words


def build(lessons: Sequence[Lesson]) -> gr.Blocks:
    """The whole page. Lessons are numbered in their order; each chapter opens on its first."""
    chapters = [chapter for chapter in CHAPTERS if any(lesson.chapter == chapter for lesson in lessons)]
    with Page(title="Patchlight", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as page:
        if len(chapters) > 1:
            gr.Navbar(main_page_name=CHAPTERS[chapters[0]])
        _chapter(page, chapters[0], lessons)
    for chapter in chapters[1:]:
        with page.route(CHAPTERS[chapter], f"/{chapter}"):
            _chapter(page, chapter, lessons)
    page.queue(max_size=64, default_concurrency_limit=4, api_open=False)
    return page


def title_of(lesson: Lesson, lessons: Sequence[Lesson]) -> str:
    """As the page shows it: with its number in the order of all."""
    return f"{[each.slug for each in lessons].index(lesson.slug) + 1} · {lesson.title}"


def address_of(lesson: Lesson, lessons: Sequence[Lesson]) -> str:
    """Of the page and the tab, such as `find?tab=detection`."""
    return f"{'' if lesson.chapter == lessons[0].chapter else lesson.chapter}?tab={lesson.slug}"


def _chapter(page: gr.Blocks, chapter: str, lessons: Sequence[Lesson]) -> None:
    gr.Markdown(
        t(
            "# Patchlight\nSee how vision models look, forget, rebuild, find and imagine. "
            "Every picture comes from a model that ran."
        ),
        elem_id=f"masthead-{chapter}",
        elem_classes="masthead",
    )
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


def _lay_out(lesson: Lesson, lessons: Sequence[Lesson]) -> Tab:
    tab = Tab(lesson)
    with gr.Tab(t(title_of(lesson, lessons)), id=lesson.slug, elem_id=f"tab-{lesson.slug}") as tab.opened:
        gr.Markdown(t(f"**{lesson.claim}**"))
        lesson.layout(tab)
        lay_out_words(lesson)
    return tab
