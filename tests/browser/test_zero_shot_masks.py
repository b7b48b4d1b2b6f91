"""Zero-shot masks as a class uses it: scenes at once, predict, learn, stop, open the address again."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import predict
from tests.small_world import few_scenes

LONG = 240_000  # milliseconds: a frozen tower looks at the scenes once
SLUG = "zero_shot_masks"


@pytest.fixture(scope="module", autouse=True)
def few():
    with few_scenes():
        yield


def test_masks_are_foreseen_learned_and_kept_in_the_address(opened):
    page = opened(SLUG, "&steps=10&unseen=horse")
    scenes, verdict = page.locator(f"#{SLUG}-masks figure"), page.locator(f"#{SLUG}-verdict .verdict")
    expect(scenes).to_have_count(8)
    expect(page.locator(f"#{SLUG}-guess")).to_contain_text("a mask of a horse")
    expect(page.locator(f"#{SLUG}-precision")).to_contain_text("?")
    predict(page, SLUG, 3)
    expect(page.locator(f"#{SLUG}-announced")).to_contain_text("s on two cores")
    page.locator(f"#{SLUG}-run").click()
    expect(page.locator(f"#{SLUG}-status")).to_contain_text("A frozen CLIP looks at the scenes")
    expect(verdict).to_be_visible(timeout=LONG)
    expect(page.locator(f"#{SLUG}-film .picture img")).to_have_count(2)
    expect(page.locator(f"#{SLUG}-table tr")).to_have_count(13)
    expect(page.locator(f"#{SLUG}-fates tr")).to_have_count(10)
    expect(page.locator(f"#{SLUG}-score")).to_contain_text("of 1 runs")

    page.locator(f"#{SLUG}-candidates input").click()
    page.get_by_role("option", name="conventional").click()
    expect(page).to_have_url(re.compile(r"candidates=conventional"))
    page.reload()
    expect(page.locator(f"#{SLUG}-candidates input")).to_have_value(re.compile("^conventional"))
    predict(page, SLUG, 0)
    page.locator(f"#{SLUG}-run").click()
    expect(verdict).to_be_visible(timeout=LONG)
    page.locator(f"#{SLUG}-reset").click()
    expect(page).to_have_url(re.compile(r"\?tab=zero_shot_masks$"))
    expect(page.locator(f"#{SLUG}-precision")).to_contain_text("?")
    expect(scenes).to_have_count(8)


def test_a_run_is_stopped(opened):
    page = opened(SLUG, "&steps=600&unseen=horse")
    predict(page, SLUG, 0)
    page.locator(f"#{SLUG}-run").click()
    expect(page.locator(f"#{SLUG}-status")).to_contain_text(re.compile(r"looks at|Step"), timeout=LONG)
    page.locator(f"#{SLUG}-stop").click()
    expect(page.locator(f"#{SLUG}-run")).to_be_enabled()
    expect(page.locator(f"#{SLUG}-verdict .verdict")).to_have_count(0)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_question_and_scenes_are_on_the_first_screen(opened, width, scheme):
    page = opened(SLUG, width=width, scheme=scheme)
    expect(page.locator(f"#{SLUG}-masks img").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 1280:
        for part in ("run", "precision", "namer"):
            box = page.locator(f"#{SLUG}-{part}").bounding_box()
            assert box is not None and box["y"] + box["height"] <= 800, part
