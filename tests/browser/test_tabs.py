"""What a visitor sees: every tab opens, takes a photograph, follows its main control, and nothing leaves the computer.

A system Chromium is used where there is one; otherwise Playwright's own, fetched once. No browser is a failure, not a
skip.
"""

import io
import re
import time
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, expect

import app
from demos import clip_synthesis
from demos.ui import pictures
from demos.ui.page import address_of
from pipelines.clip_synthesis.steps import Comparison

MAIN = {lesson.slug: lesson for lesson in app.LESSONS if lesson.measure}
FAR = {"detection": 0.02}  # where the main slider is moved to; 0.8 elsewhere
PICTURED = [lesson for lesson in app.LESSONS if "guess" not in signature(lesson.main).parameters]  # no labs
SHOWN = {lesson.slug: lesson.measure.follows if lesson.measure else "picture" for lesson in PICTURED}
SHOWN |= {"clip_synthesis": "compared"}  # it opens on a recorded comparison
SLIDERS = {"self_distillation": "keep_ratio"}  # where another one than the measured changes the picture
ADDRESS = {lesson.slug: address_of(lesson, app.LESSONS) for lesson in app.LESSONS}


def _of_leaving(message: ConsoleMessage) -> bool:
    """A page that is left breaks its answer stream off, and Gradio writes that down."""
    return message.text.startswith("AbortError: signal is aborted")


class Watched:
    """A page, and everything on it that should not have happened."""

    def __init__(self, page: Page, url: str):
        self.url, self._page, self._opened = url, page, False
        self.outside: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else self.outside.append(r.url))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" and not _of_leaving(m) else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.set_default_timeout(60_000)

    @property
    def page(self) -> Page:
        """Shows the app's first page where none was opened."""
        if not self._opened:
            self._opened = True
            self._page.goto(self.url)
        return self._page

    def open(self, tab: str) -> None:
        self._opened = True
        self.page.goto(self.url + ADDRESS[tab])

    def picture(self, selector: str) -> np.ndarray:
        image = self.page.locator(f"{selector} img").first
        expect(image).to_be_visible(timeout=60_000)
        body = self.page.request.get(image.get_attribute("src") or "").body()
        return np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int)

    def changed_picture(self, selector: str, before: np.ndarray) -> np.ndarray:
        for _ in range(120):
            now = self.picture(selector)
            if now.shape != before.shape or np.abs(now - before).mean() > 1:
                return now
            self.page.wait_for_timeout(250)
        raise AssertionError(f"{selector} did not change")

    def set_slider(self, selector: str, value: float) -> None:
        field = self.page.locator(f"{selector} input[type=number]")
        field.fill(str(value))
        field.press("Enter")
        field.blur()


@pytest.fixture
def watched(browser, app_url):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = Watched(context.new_page(), app_url)
    yield page
    context.close()


@pytest.mark.parametrize("tab", MAIN)
def test_photograph_in_slider_moved_picture_changed(watched, tab, tmp_path, connections_elsewhere):
    measure = MAIN[tab].measure
    assert measure
    slider, shown = SLIDERS.get(tab, measure.slider).replace("_", "-"), measure.follows
    value = FAR.get(tab, 0.8)
    watched.open(tab)
    first = watched.picture(f"#{tab}-{shown}")
    photograph = tmp_path / "cat.png"
    pictures.photograph("cat (fur)").save(photograph)
    watched.page.locator(f"#{tab}-image input[type=file]").set_input_files(str(photograph))
    uploaded = watched.changed_picture(f"#{tab}-{shown}", first)
    if tab == "detection":
        watched.set_slider("#detection-text-threshold", 0)  # the higher threshold counts
    watched.set_slider(f"#{tab}-{slider}", value)
    watched.changed_picture(f"#{tab}-{shown}", uploaded)
    expect(watched.page.locator(f"#{tab}-note")).to_contain_text("only ever seen drawn storybook scenes")
    assert watched.outside == [] and watched.errors == [] and connections_elsewhere == []


def test_next_scene_and_composed_scene(watched):
    watched.open("token_removal")
    first = watched.picture("#token_removal-kept")
    watched.page.locator("#token_removal-next").click()
    second = watched.changed_picture("#token_removal-kept", first)
    sentence = watched.page.locator("#token_removal-compose textarea, #token_removal-compose input").first
    sentence.fill("a cat left of a red car on grass")
    sentence.press("Enter")
    watched.changed_picture("#token_removal-kept", second)
    expect(watched.page.locator("#token_removal-prompt textarea, #token_removal-prompt input").first).to_have_value(
        "a cat and a red car on grass"
    )
    expect(watched.page.locator("#token_removal-facts")).to_contain_text("Object patches kept")
    sentence.fill("a zebra")
    sentence.press("Enter")
    expect(watched.page.get_by_test_id("toast-body")).to_contain_text("does not know 'zebra'")


def test_comparison_of_all_rules_draws_its_figure(watched):
    watched.open("token_removal")
    watched.picture("#token_removal-kept")
    watched.page.locator("#token_removal-compare").click()
    expect(watched.page.locator("#token_removal-chart svg polyline")).to_have_count(
        8, timeout=60_000
    )  # four rules, two charts
    watched.set_slider("#token_removal-keep-ratio", 0.3)
    expect(watched.page.locator("#token_removal-facts")).to_contain_text("80 / 256")


def test_break_buttons_show_the_collapse_number(watched):
    watched.picture("#self_distillation-kl")
    watched.page.get_by_role("button", name="Equal temperatures").click()
    verdict = watched.page.locator("#self_distillation-verdict")
    expect(verdict).to_contain_text("Uniform")
    entropy = verdict.locator(".gauge b").nth(1)
    assert float(entropy.inner_text()) == pytest.approx(6.238, abs=0.15)  # ln 512
    watched.page.get_by_role("button", name="Too sharp").click()
    expect(verdict).to_contain_text("Too sharp: the teacher is nearly certain")
    watched.page.get_by_role("button", name="Healthy").click()
    expect(verdict).to_contain_text("Alive", timeout=30_000)


def test_click_on_a_patch_shows_its_words(watched):
    watched.picture("#self_distillation-kl")
    heading = watched.page.locator("#self_distillation-bars h2")
    watched.page.locator("#self_distillation-kl img").first.click(position={"x": 20, "y": 60})
    expect(heading).to_contain_text("column 1,", timeout=30_000)
    assert watched.page.locator("#self_distillation-bars tr").count() == 8


def test_training_curves_are_the_models_own(watched):
    watched.picture("#self_distillation-kl")
    watched.page.get_by_text("How this model was trained").click()
    expect(watched.page.locator("#self_distillation-training polyline")).to_have_count(8)


def test_a_model_that_cannot_be_had_leaves_the_bundled_one_selected(watched):
    watched.open("token_removal")
    watched.picture("#token_removal-kept")
    menu = watched.page.locator("#token_removal-model input")
    menu.click()
    watched.page.get_by_role("option", name="dinov2-small · to download, 88 MB · Apache-2.0").click()
    expect(watched.page.get_by_test_id("toast-body")).to_contain_text("not in this computer's cache")
    expect(menu).to_have_value(re.compile("storybook-detailclip"))
    watched.set_slider("#token_removal-keep-ratio", 0.3)
    expect(watched.page.locator("#token_removal-facts")).to_contain_text("80 / 256")


def test_clearing_the_picture_asks_for_one(watched):
    watched.open("reconstruction")
    watched.picture("#reconstruction-pasted")
    watched.page.locator("#reconstruction-image").get_by_label("Remove Image").click()
    expect(watched.page.get_by_test_id("toast-body").first).to_contain_text("Choose or upload a picture first")


def test_export_gives_a_picture_with_its_settings_inside(watched):
    import json

    watched.open("reconstruction")
    watched.picture("#reconstruction-pasted")
    watched.page.locator("#tab-reconstruction, [role=tabpanel]").get_by_text("Numbers as JSON, and export").locator(
        "visible=true"
    ).first.click()
    watched.page.locator("#reconstruction-export").click()
    links = watched.page.locator("#reconstruction-files a")
    expect(links).to_have_count(2, timeout=60_000)
    for i in range(2):
        address = links.nth(i).get_attribute("href")
        body = watched.page.request.get(address).body()
        if ".png" in address:
            record = json.loads(Image.open(io.BytesIO(body)).info["patchlight"])
        else:
            record = json.loads(body)
        assert record["settings"]["mask_ratio"] == 0.5 and record["numbers"]["psnr_masked"] > 0


def test_tabs_can_be_reached_by_keyboard(watched):
    tab = watched.page.get_by_role("tab", name="2 · Token removal", exact=True)
    tab.focus()
    tab.press("Enter")
    assert watched.picture("#token_removal-heat").std() > 5


def test_words_typed_threshold_moved_boxes_appear_and_vanish(watched):
    watched.open("detection")
    watched.picture("#detection-boxes")
    sentence = watched.page.locator("#detection-compose textarea, #detection-compose input").first
    sentence.fill("a cat left of a red car on grass")
    sentence.press("Enter")
    words = watched.page.locator("#detection-prompt textarea, #detection-prompt input").first
    expect(words).to_have_value(re.compile("cat . red car ."))
    words.fill("cat . red car")
    words.press("Enter")
    facts, table = watched.page.locator("#detection-facts"), watched.page.locator("#detection-table table").first
    expect(facts).to_contain_text("of 2 true boxes")
    expect(table).to_contain_text("red car")
    found = watched.picture("#detection-boxes")
    watched.set_slider("#detection-box-threshold", 0.99)
    expect(table).to_contain_text("nothing reaches the threshold")
    expect(facts).to_contain_text("0, 0, 2")
    empty = watched.changed_picture("#detection-boxes", found)
    watched.set_slider("#detection-box-threshold", 0.3)
    watched.changed_picture("#detection-boxes", empty)
    expect(table.locator("tr")).to_have_count(3)
    watched.page.locator("#detection-boxes img").first.click(position={"x": 5, "y": 5})  # no box there: the best one
    expect(watched.page.locator("#detection-bars tr")).to_have_count(4)  # cat, red car, red, car
    assert watched.outside == [] and watched.errors == []


def test_boxes_drawn_by_hand_are_the_truth(watched):
    watched.open("detection")
    watched.picture("#detection-boxes")
    watched.page.get_by_text("Two models side by side, and your own ground truth").click()
    watched.page.get_by_text("sets a corner of a true box").click()
    picture, truth = (
        watched.page.locator("#detection-boxes img").first,
        watched.page.locator("#detection-truth textarea"),
    )
    picture.click(position={"x": 30, "y": 40})
    expect(watched.page.get_by_test_id("toast-body")).to_contain_text("Click the opposite one")
    picture.click(position={"x": 130, "y": 160})
    expect(truth).to_have_value(re.compile(r"^[\w ]+: \d+ \d+ \d+ \d+$"))
    expect(watched.page.locator("#detection-facts")).to_contain_text("of 1 true boxes")
    watched.page.locator("#detection-next").click()  # another picture has its own truth
    expect(truth).to_have_value("")
    watched.page.locator("#detection-all").click()
    expect(watched.page.locator("#detection-prompt textarea, #detection-prompt input").first).to_have_value(
        re.compile("cat . dog . bird . ")
    )
    expect(watched.page.locator("#detection-table table").nth(1).locator("tr")).to_have_count(25)


def test_prompt_drawn_scrubbed_and_excited(watched, connections_elsewhere):
    page = watched.page
    watched.open("diffusion")
    expect(page.locator("#diffusion-chips label", has_text="frog").locator("input")).to_be_checked()
    player = page.locator("#diffusion-player .player")
    expect(player.locator(".numbers")).to_contain_text("Step 20 of 20", timeout=90_000)
    prompt = page.locator("#diffusion-prompt textarea, #diffusion-prompt input").first
    prompt.fill("a red car and a turtle")
    expect(page.locator("#diffusion-chips label", has_text="turtle").locator("input")).to_be_checked()
    watched.set_slider("#diffusion-steps", 6)
    prompt.press("Enter")
    expect(player.locator(".numbers")).to_contain_text("Step 6 of 6", timeout=90_000)
    expect(player.locator(".names")).to_contain_text("turtle")

    slider, clean = player.locator("input[type=range]"), player.locator(".stage figure:nth-child(2) img")
    last = clean.get_attribute("src")
    slider.focus()
    slider.press("ArrowLeft")
    expect(player.locator(".numbers")).to_contain_text("Step 5 of 6")
    assert clean.get_attribute("src") != last
    player.get_by_title("One step on").click()
    expect(player.locator(".numbers")).to_contain_text("Step 6 of 6")
    assert clean.get_attribute("src") == last
    player.get_by_title("Play").click()
    expect(player.locator(".numbers")).to_contain_text(re.compile("Step [1-5] of 6"))
    expect(player.locator(".numbers")).to_contain_text("Step 6 of 6")
    player.locator(".sheet").click(position={"x": 5, "y": 5})
    expect(player.locator(".numbers")).to_contain_text("Step 1 of 6")

    page.locator("#diffusion-method").get_by_text("Attend-and-Excite").click()
    page.locator("#diffusion-draw").click()
    expect(player.locator(".numbers")).to_contain_text("Step 6 of 6", timeout=90_000)
    slider.focus()
    slider.press("Home")
    expect(player.locator(".numbers")).to_contain_text("latents nudged by")
    expect(page.locator("#diffusion-charts")).to_contain_text("thresholds")
    verdict = page.locator("#diffusion-verdict")
    expect(verdict).to_contain_text("red car")
    expect(verdict).to_contain_text(re.compile("[✓✗] 0"))
    assert watched.outside == [] and watched.errors == [] and connections_elsewhere == []


def test_missing_objects_are_counted_and_the_count_can_be_stopped(watched):
    page = watched.page
    watched.open("diffusion")
    expect(page.locator("#diffusion-player .numbers")).to_contain_text("Step 20 of 20", timeout=90_000)
    watched.set_slider("#diffusion-steps", 4)
    watched.set_slider("#diffusion-many", 12)
    page.locator("#diffusion-count").click()
    strip = page.locator("#diffusion-strip")
    expect(strip.locator("figure")).to_have_count(1, timeout=90_000)
    expect(strip).to_contain_text(re.compile(r"[01]/1 = "))
    expect(strip.locator("figure")).to_have_count(2, timeout=90_000)
    page.locator("#diffusion-stop").click()
    expect(page.locator("#diffusion-other img").first).to_be_visible()
    page.wait_for_timeout(3000)
    stood = strip.locator("figure").count()
    page.wait_for_timeout(3000)
    assert strip.locator("figure").count() == stood < 12
    page.locator("#diffusion-draw").click()
    expect(page.locator("#diffusion-player .numbers")).to_contain_text("Step 4 of 4", timeout=90_000)
    assert watched.errors == []


def test_a_run_saved_here_opens_there(browser, watched, tmp_path):
    """Another server, which has no diffusion model at hand, shows the same run."""
    from demos.ui.serving import launch_settings

    page = watched.page
    watched.open("diffusion")
    expect(page.locator("#diffusion-status")).to_contain_text("Recorded: a cat and a frog")
    watched.set_slider("#diffusion-steps", 4)
    page.locator("#diffusion-draw").click()
    expect(page.locator("#diffusion-player .numbers")).to_contain_text("Step 4 of 4", timeout=90_000)
    told = page.locator("#diffusion-player .numbers").inner_text()
    page.get_by_role("button", name="Recorded runs, numbers as JSON, export").click()
    page.locator("#diffusion-save").click()
    link = page.locator("#diffusion-files a[href]").first
    expect(link).to_be_visible()
    saved = tmp_path / "run.safetensors"
    saved.write_bytes(page.request.get(link.get_attribute("href")).body())

    elsewhere = app.build()
    _, url, _ = elsewhere.launch(
        prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **launch_settings(elsewhere)
    )
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    other = Watched(context.new_page(), url)
    other.open("diffusion")
    other.page.get_by_role("button", name="Recorded runs, numbers as JSON, export").click()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nonsense")
    upload = other.page.locator("#diffusion-open input[type=file]")
    upload.set_input_files(str(bad))
    expect(other.page.get_by_test_id("toast-body")).to_contain_text("not a run that Patchlight can open")
    other.page.locator("#diffusion-open").get_by_label("Clear").click()
    other.page.locator("#diffusion-open input[type=file]").set_input_files(str(saved))
    expect(other.page.locator("#diffusion-player .numbers")).to_contain_text("Step 4 of 4", timeout=90_000)
    expect(other.page.locator("#diffusion-note")).to_contain_text("without a model")
    expect(other.page.locator("#diffusion-player .numbers")).to_have_text(told)
    context.close()
    elsewhere.close()


def test_an_image_grows_is_stopped_goes_on_and_is_compared(watched, connections_elsewhere):
    page = watched.page
    watched.open("clip_synthesis")
    status, picture = page.locator("#clip_synthesis-status"), page.locator("#clip_synthesis-picture img").first
    expect(status).to_contain_text("Recorded")
    expect(page.locator("#clip_synthesis-compared img").first).to_be_visible()
    page.locator("#clip_synthesis-start").click()
    expect(status).to_contain_text(re.compile(r"Step \d+ of 80"), timeout=60_000)
    page.locator("#clip_synthesis-stop").click()
    watched.set_slider("#clip_synthesis-steps", 500)
    prompt = page.locator("#clip_synthesis-prompt textarea, #clip_synthesis-prompt input").first
    prompt.fill("a red car")
    prompt.press("Enter")
    expect(status).to_contain_text("of 500", timeout=60_000)
    frames = {picture.get_attribute("src")}
    for _ in range(600):
        page.wait_for_timeout(100)
        frames.add(picture.get_attribute("src"))
        if len(frames) > 3:
            break
    assert len(frames) > 3, "frames arrive"
    page.locator("#clip_synthesis-stop").click()
    expect(status).to_have_text("Stopped.")
    page.wait_for_timeout(2000)
    stood = picture.get_attribute("src")
    page.wait_for_timeout(2000)
    assert picture.get_attribute("src") == stood
    expect(status).to_have_text("Stopped.")
    expect(page.locator("#clip_synthesis-facts")).to_contain_text("rank among 100 captions")
    watched.set_slider("#clip_synthesis-steps", 10)
    page.locator("#clip_synthesis-continue").click()
    expect(status).to_have_text("", timeout=60_000)
    page.locator("#clip_synthesis-compare").click()
    table = page.locator("#clip_synthesis-table tr")
    expect(table.filter(has_text="raw pixels")).to_have_count(1, timeout=60_000)
    expect(table.filter(has_text="an autoencoder's latents")).to_have_count(1, timeout=60_000)
    expect(page.locator("#clip_synthesis-compared img").first).to_be_visible()
    assert watched.outside == [] and watched.errors == [] and connections_elsewhere == []


def test_a_stop_never_ends_in_an_error(watched):
    page = watched.page
    watched.open("clip_synthesis")
    status = page.locator("#clip_synthesis-status")
    watched.set_slider("#clip_synthesis-steps", 500)
    for turn in range(8):
        page.locator("#clip_synthesis-start").click()
        expect(status).to_contain_text(re.compile(r"Step \d+ of"), timeout=60_000)
        page.wait_for_timeout(40 * turn)  # at another moment of a step each time
        page.locator("#clip_synthesis-stop").click()
        expect(status).to_have_text("Stopped.")
        page.wait_for_timeout(700)
        expect(status).to_have_text("Stopped.")
        assert page.get_by_test_id("toast-body").count() == 0
        assert page.locator("#tab-clip_synthesis .error, [role=tabpanel] .error").locator("visible=true").count() == 0
    assert watched.outside == [] and watched.errors == []


def test_a_slow_page_hears_a_click_however_fast_the_steps_come(watched, monkeypatch):
    recorded = Comparison.load(clip_synthesis.OPENING).ways[0][1]
    look = replace(recorded.look, views=np.zeros((8, 64, 64, 3), np.uint8))

    def flood(settings):
        for n in range(1, settings.steps + 1):
            time.sleep(0.005)
            yield replace(recorded, iteration=n, steps=settings.steps, look=look if n % 5 == 0 else None)

    monkeypatch.setattr(clip_synthesis, "run", flood)
    watched.page.goto(f"{watched.url}{ADDRESS['clip_synthesis']}&steps=500")
    slow = watched.page.context.new_cdp_session(watched.page)
    slow.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    status = watched.page.locator("#clip_synthesis-status")
    expect(status).to_contain_text("Recorded")
    for _ in range(3):
        watched.page.locator("#clip_synthesis-start").click()
        expect(status).to_contain_text(re.compile(r"Step \d+ of 500"))
        watched.page.locator("#clip_synthesis-stop").click()
        expect(status).to_have_text("Stopped.", timeout=10_000)
