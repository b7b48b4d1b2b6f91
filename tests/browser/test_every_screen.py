"""Every lesson on a projector, a laptop and a telephone, in light and dark: nothing has to be scrolled sideways, and
axe-core finds nothing in it that is ours."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

import app
from demos.ui.page import address_of


def is_light(page: Page) -> bool:
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(v) for v in background.removeprefix("rgb(").removesuffix(")").split(",")[:3]) > 380


GRADIOS = {  # what axe-core finds in Gradio's own components: rule, part of the element
    "aria-prohibited-attr": 'aria-label="Empty value"',  # a picture that is not there yet
    "button-name": "image-frame",  # a picture that can be enlarged
    "image-redundant-alt": 'alt="Settings"',  # of the footer
    "scrollable-region-focusable": "katex-display",  # a long formula on a telephone
}


def violations(page: Page) -> list[str]:
    """What axe-core finds in our own markup and colours."""
    found = Axe().run(page).response["violations"]
    nodes = [(each["id"], node["html"], node["failureSummary"]) for each in found for node in each["nodes"]]
    return [f"{rule}: {html[:200]} {told}" for rule, html, told in nodes if GRADIOS.get(rule, "\0") not in html]


@pytest.mark.parametrize("lesson", app.LESSONS, ids=lambda lesson: lesson.slug)
def test_a_lesson_fits_every_screen(browser, app_url, lesson):
    page = browser.new_page(viewport={"width": 1920, "height": 1080})
    page.set_default_timeout(60_000)
    page.goto(f"{app_url}{address_of(lesson, app.LESSONS)}")
    expect(page.locator(f"#{lesson.slug}-run, .headline b").locator("visible=true").first).to_be_visible()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width, height in ((1920, 1080), (1280, 800), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(250)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (scheme, width)
            assert is_light(page) == (scheme == "light")
        assert violations(page) == [], scheme
    page.close()
