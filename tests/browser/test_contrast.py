"""The chapter Contrast as a class uses it: predict, run, break it, see the alarm, reset, open the address again."""

import re

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.test_tabs import ADDRESS, Watched, watched  # noqa: F401  (a fixture)


def answer(page: Page, slug: str, text: str) -> None:
    """Choose an answer; only then the run button wakes."""
    run = page.locator(f"#{slug}-run")
    expect(run).to_be_disabled()
    page.locator(f"#{slug}-guess").get_by_label(text).check()
    expect(run).to_be_enabled()


def test_the_matrix_is_foreseen_run_broken_reset_and_kept_in_the_address(watched, connections_elsewhere):  # noqa: F811
    page: Page = watched.page
    watched.open("contrast")
    matrix, verdict = page.locator("#contrast-matrix"), page.locator("#contrast-verdict")
    expect(matrix.locator("table")).to_have_count(2)
    answer(page, "contrast", "the right one is pulled as hard as all wrong ones")
    page.locator("#contrast-run").click()
    expect(matrix.locator("table")).to_have_count(3)
    expect(verdict).to_contain_text("You were right")
    expect(page.locator("#contrast-score")).to_contain_text("1 of 1 runs")
    matrix.locator("[data-cell='2 5']").first.click()
    expect(matrix).to_contain_text("Picture 3 with caption 6")
    matrix.locator("[data-cell='4 1']").last.press("Enter")
    expect(page.locator("#contrast-plane")).to_contain_text("Where picture 5 is moved")
    page.locator("#contrast-break-formula").click()
    expect(matrix.locator(".off")).to_have_count(8)
    expect(page).to_have_url(re.compile("tab=contrast&formula=wrong$"))
    watched.set_slider("#contrast-temperature", 0.5)
    expect(page).to_have_url(re.compile("temperature=0.5&formula=wrong$"))
    assert watched.errors == []
    page.reload()
    watched.errors.clear()  # a page that is left tells that its open stream has ended
    expect(page.locator("#contrast-temperature input[type=number]")).to_have_value("0.5")
    expect(page.locator("#contrast-score")).to_contain_text("1 of 1 runs")
    answer(page, "contrast", "All wrong ones alike")
    page.locator("#contrast-run").click()
    expect(verdict).to_contain_text("You said: All wrong ones alike. It came out differently: None")
    page.locator("#contrast-reset").click()
    expect(matrix.locator("table")).to_have_count(2)
    expect(verdict.locator(".verdict")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"\?tab=contrast$"))
    assert watched.outside == [] and watched.errors == [] and connections_elsewhere == []


def test_your_own_pictures_make_a_matrix_and_a_ninth_is_refused(watched, tmp_path):  # noqa: F811
    page: Page = watched.page
    files = []
    for n in range(9):
        files.append(tmp_path / f"{n}.png")
        Image.fromarray(np.full((30, 40, 3), 25 * n, np.uint8)).save(files[-1])
    watched.open("contrast")
    matrix = page.locator("#contrast-matrix")
    expect(matrix.locator("table")).to_have_count(2)
    page.get_by_role("button", name="Your own pictures and captions").click()
    page.locator("#contrast-pictures input[type=file]").first.set_input_files(files[:3])
    expect(page.locator("#contrast-pictures img")).to_have_count(3)
    page.locator("#contrast-captions textarea").fill("a cat\na dog\na red car")
    page.locator("#contrast-use").click()
    expect(matrix.locator("table").first.locator("[data-cell]")).to_have_count(9)
    expect(matrix).to_contain_text("ln 3")
    page.locator("#contrast-pictures input[type=file]").first.set_input_files(files[3:])
    expect(page.locator("#contrast-pictures img")).to_have_count(9)
    page.locator("#contrast-use").click()
    expect(page.get_by_test_id("toast-body").first).to_contain_text("2 to 8 pairs of a picture and a caption, not 9")
    expect(matrix.locator("table").first.locator("[data-cell]")).to_have_count(9)
    page.locator("#contrast-clear").click()
    expect(matrix.locator("table").first.locator("[data-cell]")).to_have_count(64)


def test_a_batch_cannot_tell_more_than_ln_n(watched, connections_elsewhere):  # noqa: F811
    page: Page = watched.page
    watched.page.goto(f"{watched.url}{ADDRESS['information_bound']}&batch=16&critic=trained&steps=30")
    expect(page.locator("#information_bound-guess")).to_contain_text("The truth is 9.3 nats")
    expect(page.locator("#information_bound-guess")).to_contain_text("N = 16")
    answer(page, "information_bound", "More than the truth")
    page.locator("#information_bound-run").click()
    expect(page.locator("#information_bound-verdict")).to_contain_text("You said: More than the truth")
    expect(page.locator("#information_bound-chart svg.chart")).to_have_count(2)
    expect(page.locator("#information_bound-estimate")).to_contain_text("the truth is 9.31, ln 16 = 2.77")
    watched.set_slider("#information_bound-correlation", 0)
    expect(page.locator("#information_bound-guess")).to_contain_text("The truth is 0.0 nats")
    page.locator("#information_bound-reset").click()
    expect(page.locator("#information_bound-chart svg")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"\?tab=information_bound$"))
    assert watched.outside == [] and watched.errors == [] and connections_elsewhere == []


def test_words_find_their_places_in_a_film_that_can_be_scrubbed(watched):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}{ADDRESS['word_vectors']}&steps=200&corpus=tales")
    expect(page.locator("#word_vectors-corpus").get_by_label("tales of old and young animals")).to_be_checked()
    answer(page, "word_vectors", "Beside a word that could stand in its place")
    page.locator("#word_vectors-run").click()
    expect(page.locator("#word_vectors-verdict .verdict")).to_be_visible()
    film = page.locator("#word_vectors-film")
    expect(film).to_contain_text("200 / 200")
    film.locator("input[type=range]").fill("0")
    expect(film).to_contain_text("0 / 200")
    expect(film.locator("text.name").first).to_be_attached()
    expect(page.locator("#word_vectors-analogy")).to_contain_text("cat is to kitten as")
    page.get_by_role("button", name="Your own text").click()
    page.locator("#word_vectors-text textarea").fill(
        "The gardener waters red roses and the old gardener plants ten white tulips. " * 9
    )
    page.locator("#word_vectors-corpus").get_by_label("your own text").check()
    expect(page.locator("#word_vectors-guess")).to_contain_text("where will gardener land")
    assert "gardener" not in page.url, "a text is too long for an address"
    assert watched.outside == [] and watched.errors == []


SLOW_DRAWING = """
    const before = Element.prototype.replaceChildren;
    Element.prototype.replaceChildren = function (...nodes) {
        const begun = performance.now();
        while (this.tagName === "g" && performance.now() - begun < 200);
        return before.apply(this, nodes);
    };
"""


def test_a_browser_that_draws_slowly_still_hears_stop(watched):  # noqa: F811
    """Three curves at 0.2 seconds each are more than fits between two pictures of a run."""
    page: Page = watched.page
    page.add_init_script(SLOW_DRAWING)
    page.goto(f"{watched.url}{ADDRESS['negatives']}&steps=400&batch=4")
    answer(page, "negatives", "It helps")
    page.locator("#negatives-run").click()
    status = page.locator("#negatives-status")
    expect(status).to_contain_text(re.compile("Step [1-9][0-9]* of 400"))
    page.wait_for_timeout(2000)
    page.locator("#negatives-stop").click()
    expect(status).to_contain_text("Stopped")
    expect(page.locator("#negatives-verdict .verdict")).to_have_count(0)  # it was heard before the end


def test_two_trainings_are_stopped_run_and_read(watched):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}{ADDRESS['negatives']}&steps=400&batch=4")
    answer(page, "negatives", "It helps")
    page.locator("#negatives-run").click()
    status = page.locator("#negatives-status")
    expect(page.locator("#negatives-pictures img")).to_be_visible()
    expect(status).to_contain_text(re.compile("Step [1-9][0-9]* of 400"))
    page.locator("#negatives-stop").click()
    expect(status).to_contain_text("Stopped")
    page.goto(f"{watched.url}{ADDRESS['negatives']}&steps=4&batch=4")
    watched.errors.clear()  # a page that is left tells that its open stream has ended
    answer(page, "negatives", "It helps")
    page.locator("#negatives-run").click()
    expect(page.locator("#negatives-verdict .verdict")).to_be_visible()
    expect(page.locator("#negatives-film .run")).to_have_count(2)
    expect(page.locator("#negatives-facts")).to_contain_text("untrained")
    page.get_by_role("button", name="Read it in a matrix").click()
    reading = page.locator("#negatives-reading")
    expect(reading.locator("table").first.locator(".marked")).to_have_count(4)
    expect(reading).to_contain_text(re.compile(r"Their mean weight\s*1.00"))
    watched.set_slider("#negatives-read-beta", 4)
    expect(reading).not_to_contain_text(re.compile(r"Their mean weight\s*1.00"))
    assert watched.outside == [] and watched.errors == []


def test_three_readers_read_a_picture_and_sit_an_exam(watched):  # noqa: F811
    page: Page = watched.page
    watched.open("readers")
    readings = page.locator("#readers-readings")
    expect(readings.locator("section")).to_have_count(3)
    expect(readings.locator(".reach svg")).to_have_count(6)
    before = readings.locator("section").last.inner_text()
    page.locator("#readers-beginning").locator("input, textarea").fill("a red")
    page.locator("#readers-beginning").locator("input, textarea").press("Enter")
    expect(readings.locator("section").last).to_contain_text("given")
    expect(page).to_have_url(re.compile("beginning=a\\+red"))
    page.reload()
    watched.errors.clear()  # a page that is left tells that its open stream has ended
    expect(page.locator("#readers-beginning").locator("input, textarea")).to_have_value("a red")
    expect(readings.locator("section").last).to_contain_text("given")
    page.locator("#readers-next").click()
    expect(readings.locator("section").last).not_to_have_text(before)
    assert watched.errors == []
    page.goto(f"{watched.url}{ADDRESS['readers']}&pictures=10")
    watched.errors.clear()  # a page that is left tells that its open stream has ended
    answer(page, "readers", "CoCa, which learned to find as well")
    page.locator("#readers-run").click()
    expect(page.locator("#readers-verdict .verdict")).to_be_visible()
    expect(page.locator("#readers-facts tr")).to_have_count(10)
    assert watched.outside == [] and watched.errors == []
