"""The chapter Cues as a class uses it: predict, run, be told, and open the address again."""

import re

import pytest
from playwright.sync_api import Page, expect

import app
from demos.ui.page import address_of

expect.set_options(timeout=60_000)  # a busy computer takes its time

LESSONS = {lesson.slug: lesson for lesson in app.LESSONS}
CHAPTER = [lesson.slug for lesson in app.LESSONS if lesson.chapter == "cues"]


@pytest.fixture
def opened(browser, app_url):
    contexts = []

    def open_page(slug: str, settings: str = "", width: int = 1280, scheme: str = "light") -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{app_url}{address_of(LESSONS[slug], app.LESSONS)}{settings}")
        expect(page.locator(f"#{slug}-run")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()


def predict(page: Page, name: str, place: int) -> None:
    """Choose an answer; only then the button wakes."""
    expect(page.locator(f"#{name}-run")).to_be_disabled()
    page.locator(f"#{name}-guess input[type=radio]").nth(place).check()
    expect(page.locator(f"#{name}-run")).to_be_enabled()


def test_order_is_foreseen_run_deepened_and_kept_in_the_address(opened):
    page = opened("equivariance")
    graphs, verdict = page.locator("#equivariance-graphs"), page.locator("#equivariance-verdict .verdict")
    expect(graphs.locator("svg")).to_have_count(2)
    expect(graphs.locator(".kept, .changed")).to_have_count(0)
    predict(page, "equivariance", 0)
    page.locator("#equivariance-run").click()
    expect(verdict).to_contain_text("You were right: Valid")
    expect(graphs.locator(".kept")).to_have_count(6)
    expect(page.locator("#equivariance-score")).to_contain_text("1 of 1 runs")

    page.locator("#equivariance-function input").click()
    page.get_by_role("option", name="a GRU reads the list").click()
    expect(verdict).to_have_count(0)
    expect(graphs.locator(".kept, .changed")).to_have_count(0)
    predict(page, "equivariance", 0)
    page.locator("#equivariance-run").click()
    expect(verdict).to_contain_text("You said: Valid")
    expect(graphs.locator(".changed").first).to_be_visible()
    page.locator("#equivariance-swap").click()
    expect(page).to_have_url(re.compile(r"function=gru&order=2\+1\+3\+4\+5\+6$"))
    expect(graphs.locator("svg").last).to_contain_text("2")

    page.reload()
    expect(page.locator("#equivariance-function input")).to_have_value("a GRU reads the list")
    expect(graphs.locator("svg").last.locator("text").first).to_have_text("2")
    expect(page.locator("#equivariance-score")).to_contain_text("1 of 2 runs")
    page.locator("#equivariance-reset").click()
    expect(page).to_have_url(re.compile(r"\?tab=equivariance$"))
    expect(graphs.locator("svg")).to_have_count(2)
    expect(page.locator("#equivariance-difference")).to_contain_text("?")


def test_patches_of_a_picture_have_a_question_of_their_own(opened):
    page = opened("equivariance")
    page.get_by_role("button", name="The same question, of the patches of a picture").click()
    predict(page, "equivariance-patches", 1)
    page.locator("#equivariance-patches-run").click()
    expect(page.locator("#equivariance-patches-verdict .verdict")).to_contain_text("You were right")
    expect(page.locator("#equivariance-patches img")).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1920, "light"), (390, "light"), (390, "dark")])
def test_the_chapter_fits_every_screen(opened, width, scheme):
    for slug in CHAPTER:
        page = opened(slug, width=width, scheme=scheme)
        page.wait_for_timeout(1000)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, slug
