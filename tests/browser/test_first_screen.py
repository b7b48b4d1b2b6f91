"""What a class sees before anyone scrolls: picture, main control and the number the lesson is about."""

import pytest
from playwright.sync_api import Page, expect

import app
from demos.ui.page import address_of
from tests.browser.test_tabs import PICTURED

LESSONS = {lesson.slug: lesson for lesson in PICTURED}
MAIN = {"self_distillation": "keep_ratio", "diffusion": "draw", "clip_synthesis": "start"}  # not the measured slider


def edges(page: Page, slug: str) -> dict[str, tuple[float, float]]:
    """Top and bottom of what a lesson shows first, in pixels of the page."""
    measure = LESSONS[slug].measure
    control = MAIN.get(slug) or (measure.slider if measure else "")
    control = f"#{slug}-{control.replace('_', '-')}"
    figures = page.locator(f".columns:has({control}) > .column").last
    found = {
        "picture": figures.locator("img").locator("visible=true").first,
        "control": page.locator(control),
        "number": page.locator(".headline b").locator("visible=true").first,
    }
    shown = {}
    for name, part in found.items():
        expect(part).to_be_visible()
        box = part.bounding_box()
        assert box is not None
        shown[name] = (box["y"], box["y"] + box["height"])
    return shown


@pytest.mark.parametrize("slug", LESSONS)
def test_picture_control_and_number_need_no_scrolling(browser, app_url, slug):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(60_000)
    page.goto(f"{app_url}{address_of(LESSONS[slug], app.LESSONS)}")
    expect(page.locator(".headline b").locator("visible=true").first).to_be_visible(timeout=60_000)
    shown = edges(page, slug)
    assert all(bottom <= 800 for _, bottom in shown.values()), shown
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(500)
    narrow = edges(page, slug)
    if LESSONS[slug].measure:
        assert narrow["picture"][0] < narrow["control"][0] < narrow["number"][0], narrow
    assert narrow["picture"][1] <= 844 and narrow["number"][1] <= 844, narrow
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
