"""One Chromium for the tests of a module."""

import shutil
import subprocess
import sys

import pytest
from playwright.sync_api import Error, Page, expect, sync_playwright

import app
from demos.ui.page import address_of

expect.set_options(timeout=60_000)  # a busy computer takes its time over a model, and over a canvas without a GPU
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except Error:
            if path:
                raise
            subprocess.run([sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"], check=True)
            chromium = playwright.chromium.launch(args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, app_url):
    """Opens a lab by its slug, with settings as they stand in an address."""
    contexts, lessons = [], {lesson.slug: lesson for lesson in app.LESSONS}

    def open_page(slug: str, settings: str = "", width: int = 1280, scheme: str = "light") -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{app_url}{address_of(lessons[slug], app.LESSONS)}{settings}")
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
