"""The chapter on collapse as a class uses it: predict, run, break it, see the alarm, scrub, reset, reload the address.

Runs are of a few steps, set in the address. With a learning rate of 0.1 SimCLR without negatives is one point by then.
"""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import predict

LONG = 240_000  # milliseconds: pictures are drawn first, once


def scrub(page: Page, slug: str, frame: int) -> None:
    page.locator(f"#{slug}-film .controls input").evaluate(
        "(slider, frame) => { slider.value = frame; slider.dispatchEvent(new Event('input')); }", frame
    )


def test_predict_run_break_alarm_scrub_reset_and_reload(opened):
    settings = "&learning_rate=0.1&steps=30&batch=8"
    page = opened("collapse", settings)
    predict(page, "collapse", 1)
    expect(page.locator("#collapse-announced")).to_contain_text("about 3 s")
    page.locator("#collapse-run").click()
    film, verdict = page.locator("#collapse-film"), page.locator("#collapse-verdict .verdict")
    expect(film.locator(".run")).to_have_count(2, timeout=LONG)
    expect(verdict).to_be_visible(timeout=LONG)
    expect(verdict).to_contain_text(re.compile("You were right|You said"))
    expect(page.locator("#collapse-score")).to_contain_text(re.compile(r"You foresaw [01] of 1 runs"))
    expect(page.locator("#collapse-facts")).to_contain_text("untrained")

    alarm = film.locator(".r1 .alarm")
    expect(alarm).to_have_text("ALARM: everything is one point")
    expect(film.locator(".r0 .alarm")).to_have_text("")
    scrub(page, "collapse", 0)
    expect(alarm).to_have_text("")
    expect(film.locator(".step")).to_have_text("0 / 30")
    page.locator("#collapse-film .controls button").nth(2).click()
    expect(film.locator(".step")).to_have_text("2 / 30")

    page.locator("#collapse-broken input").click()
    page.get_by_role("option", name="DINO without sharpening").click()
    expect(page.locator("#collapse-sharpening input")).not_to_be_checked()
    expect(page.locator("#collapse-negatives")).to_have_count(0)
    expect(page).to_have_url(re.compile("method=dino.*sharpening=false"))
    expect(page).to_have_url(re.compile("steps=30"))
    page.reload()
    expect(page.locator("#collapse-sharpening input")).not_to_be_checked()
    expect(page.locator("#collapse-broken input")).to_have_value("DINO without sharpening")
    expect(page.locator("#collapse-score")).to_contain_text("of 1 runs")

    page.locator("#collapse-reset").click()
    expect(page.locator("#collapse-broken input")).to_have_value("SimCLR without negatives")
    expect(page).to_have_url(re.compile(r"\?tab=collapse$"))
    expect(page.locator("#collapse-run")).to_be_disabled()


def test_an_address_that_cannot_be_says_so(opened):
    page = opened("collapse", "&steps=9999")
    expect(page.get_by_test_id("toast-body")).to_contain_text("Steps must be a number from 2 to 1000, not 9999")


def test_stop_ends_the_training_and_leaves_the_film(opened):
    page = opened("collapse", "&steps=1000&batch=4")
    predict(page, "collapse", 0)
    page.locator("#collapse-run").click()
    step = page.locator("#collapse-film .step")
    expect(step).to_contain_text("/ 1000", timeout=LONG)
    page.locator("#collapse-stop").click()
    expect(page.locator("#collapse-status")).to_contain_text("Stopped.")
    page.wait_for_timeout(1000)
    stood = step.inner_text()
    page.wait_for_timeout(2000)
    assert step.inner_text() == stood
    scrub(page, "collapse", 0)
    expect(step).to_have_text("0 / 1000")


@pytest.mark.parametrize(
    ("slug", "settings"),
    [("crops", "&start=scratch&steps=2&batch=4"), ("pretext", "&steps=2&batch=4"), ("greedy", "&steps=2&batch=4")],
)
def test_the_other_films_are_drawn(opened, slug, settings):
    page = opened(slug, settings)
    predict(page, slug, 0)
    page.locator(f"#{slug}-run").click()
    expect(page.locator(f"#{slug}-verdict .verdict")).to_be_visible(timeout=LONG)
    film = page.locator(f"#{slug}-film")
    expect(film.locator(".run")).to_have_count(2)
    expect(film.locator(".panels").first.locator("circle, rect, img[src]")).not_to_have_count(0)
    expect(film.locator(".curves polyline[points]").nth(5)).to_be_attached()
    expect(page.locator(f"#{slug}-pictures img")).to_be_visible()


def test_packing_needs_no_film(opened):
    page = opened("packing", "&rounds=2")
    predict(page, "packing", 0)
    page.locator("#packing-run").click()
    expect(page.locator("#packing-verdict .verdict")).to_be_visible()
    expect(page.locator("#packing-mask img")).to_be_visible()
