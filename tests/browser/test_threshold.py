"""Threshold and base rate as a class uses it: predict, run, move both sliders, answer again, open the address again."""

import re

from playwright.sync_api import Page, expect

from tests.browser.test_contrast import answer
from tests.browser.test_tabs import ADDRESS, Watched, watched  # noqa: F401  (a fixture)


def counted(page: Page, name: str) -> tuple[int, int]:
    """Of the drawn pictures in a box, and of ten thousand."""
    head = page.locator(f"#threshold-boxes [data-box={name}] header")
    drawn, imagined = head.locator("b").inner_text(), head.locator("i").inner_text()
    return int(drawn), int(imagined.split(" of ")[0].replace(",", ""))


def test_always_no_is_foreseen_and_pictures_follow_both_sliders(watched, connections_elsewhere):  # noqa: F811
    page: Page = watched.page
    watched.open("threshold")
    boxes, measures = page.locator("#threshold-boxes"), page.locator("#threshold-measures")
    expect(boxes.locator("img").first).to_be_visible()
    expect(boxes.locator("header b")).to_have_count(0)
    answer(page, "threshold", "More often than a coin, less often than the model")
    page.locator("#threshold-run").click()
    expect(page.locator("#threshold-verdict")).to_contain_text("You were right")
    expect(measures).to_contain_text("always no: 93.0%")
    expect(page.locator("#threshold-score")).to_contain_text("1 of 1 runs")
    found, accused = counted(page, "true_positives"), counted(page, "false_positives")

    watched.set_slider("#threshold-prevalence", 0.5)
    expect(measures).to_contain_text("always no: 50.0%")
    assert counted(page, "true_positives")[0] == found[0] and counted(page, "true_positives")[1] > 5 * found[1]
    watched.set_slider("#threshold-threshold", 0)
    expect(page).to_have_url(re.compile("tab=threshold&threshold=0&prevalence=0.5$"))
    expect(boxes.locator("[data-box=false_positives] header b")).not_to_have_text(str(accused[0]))
    assert counted(page, "false_positives")[0] > accused[0] and counted(page, "true_positives")[0] > found[0]

    page.locator("#threshold-moves").get_by_label("Precision against recall").check()
    expect(page.locator("#threshold-moved")).to_contain_text("You were right")
    expect(page.locator("#threshold-moved svg.chart")).to_have_count(2)
    assert watched.errors == []
    page.reload()
    watched.errors.clear()  # a page that is left tells that its open stream has ended
    expect(page.locator("#threshold-prevalence input[type=number]")).to_have_value("0.5")
    expect(page.locator("#threshold-score")).to_contain_text("1 of 1 runs")
    answer(page, "threshold", "Hardly ever")
    page.locator("#threshold-run").click()
    expect(page.locator("#threshold-verdict")).to_contain_text("You said: Hardly ever. It came out differently")
    page.locator("#threshold-reset").click()
    expect(page).to_have_url(re.compile(r"\?tab=threshold$"))
    expect(boxes.locator("header b")).to_have_count(0)
    expect(boxes.locator("img").first).to_be_visible()
    expect(page.locator("#threshold-moved .verdict")).to_have_count(0)
    assert watched.outside == [] and watched.errors == [] and connections_elsewhere == []


def test_an_address_that_cannot_be_says_so(watched):  # noqa: F811
    watched.page.goto(f"{watched.url}{ADDRESS['threshold']}&prevalence=2")
    told = watched.page.get_by_test_id("toast-body")
    expect(told).to_contain_text("Base rate must be a number from 0.001 to 0.999, not 2")


def test_boxes_and_sliders_stand_on_the_first_screen(watched):  # noqa: F811
    watched.open("threshold")
    page = watched.page
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(page.locator("#threshold-boxes img").first).to_be_visible()
    answer(page, "threshold", "Hardly ever")
    page.locator("#threshold-run").click()
    expect(page.locator("#threshold-measures b").first).to_be_visible()
    for part in ("#threshold-measures", "#threshold-threshold", "#threshold-prevalence", "[data-box=true_positives]"):
        box = page.locator(part).bounding_box()
        assert box is not None and box["y"] + box["height"] <= 800, part
