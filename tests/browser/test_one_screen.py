"""One screen, one run: what stands beside a picture is of that picture, and a click names the place it points at."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import app
from demos.ui.page import address_of

LESSONS = {lesson.slug: lesson for lesson in app.LESSONS}
OF_A_PICTURE = ("self_distillation", "token_removal", "reconstruction", "detection")


@pytest.fixture
def opened(browser, app_url):
    """A lesson's page, its first results there."""
    contexts = []

    def open_page(slug: str) -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{app_url}{address_of(LESSONS[slug], app.LESSONS)}")
        expect(page.locator(f"#{slug}-facts table")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()


def field(page: Page, name: str):
    return page.locator(f"#{name} textarea, #{name} input").first


def upload(page: Page, slug: str, path) -> None:
    page.locator(f"#{slug}-image input[type=file]").first.set_input_files(str(path))


@pytest.mark.parametrize("slug", OF_A_PICTURE)
def test_a_picture_that_cannot_be_looked_at_leaves_no_numbers_beside_it(opened, slug, tmp_path):
    page = opened(slug)
    facts = page.locator(f"#{slug}-facts table")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    upload(page, slug, bad)
    expect(page.get_by_test_id("toast-body").first).to_contain_text("not a picture")
    expect(facts).to_have_count(0)
    shown = next(name for name in LESSONS[slug].shows if page.locator(f"#{slug}-{name.replace('_', '-')}").count())
    expect(page.locator(f"#{slug}-{shown.replace('_', '-')} img")).to_have_count(0)
    page.locator(f"#{slug}-next").click()
    expect(facts).to_be_visible()
    expect(page.locator(f"#{slug}-told .stale")).to_have_count(0)


def shown_in(page: Page, name: str) -> np.ndarray:
    """(H, W) int of a panel."""
    source = page.locator(f"#{name} img").first.get_attribute("src")
    assert source
    return np.asarray(Image.open(io.BytesIO(page.request.get(source).body())).convert("L")).astype(int)


def draw_corners(page: Page) -> None:
    page.get_by_text("Two models side by side, and your own ground truth").click()
    page.get_by_label("sets a corner of a true box").check()


def click_at(page: Page, share: tuple[float, float]) -> None:
    """On the picture itself, which may be smaller than the frame it stands in."""
    image = page.locator("#detection-boxes img").first
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    assert box
    width, height = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    scale = min(box["width"] / width, box["height"] / height, 1)
    x = box["x"] + (box["width"] - scale * width) / 2 + share[0] * scale * width
    y = box["y"] + (box["height"] - scale * height) / 2 + share[1] * scale * height
    page.mouse.click(x, y)
    page.wait_for_timeout(1500)


def test_a_second_click_on_the_same_point_is_no_true_box(opened):
    page = opened("detection")
    draw_corners(page)
    click_at(page, (0.5, 0.5))
    click_at(page, (0.5, 0.5))
    expect(page.get_by_test_id("toast-body").first).to_contain_text("apart in both directions")
    expect(field(page, "detection-truth")).to_have_value("")
    click_at(page, (0.2, 0.2))
    expect(field(page, "detection-truth")).to_have_value(re.compile(r"^[\w ]+: 26 26 64 64$"))
    expect(page.locator("#detection-facts")).to_contain_text("of 1 true boxes")
    page.locator("#detection-absent").click()  # its phrase is no longer asked for
    expect(field(page, "detection-truth")).to_have_value("")
    expect(page.locator("#detection-facts")).to_contain_text("of 0 true boxes")


@pytest.mark.parametrize("size", [(90, 60), (700, 500), (2400, 1000), (500, 3000)], ids=str)
def test_a_click_names_the_same_place_in_the_uploaded_picture(opened, size, tmp_path):
    page = opened("detection")
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)).save(picture)
    upload(page, "detection", picture)
    expect(page.locator("#detection-note")).to_contain_text("only ever seen drawn")
    draw_corners(page)
    corners = (0.25, 0.25), (0.75, 0.8)
    for corner in corners:
        click_at(page, corner)
    truth = field(page, "detection-truth")
    expect(truth).to_have_value(re.compile(r": \d+ \d+ \d+ \d+$"))
    found = [int(number) for number in truth.input_value().split(":")[1].split()]
    image = page.locator("#detection-boxes img").first
    shown, box = image.evaluate("image => image.naturalWidth"), image.bounding_box()
    screen = size[0] / shown / min(1, box["width"] / shown, box["height"] / image.evaluate("i => i.naturalHeight"))
    expected = [share * side for corner in corners for share, side in zip(corner, size, strict=True)]
    assert np.abs(np.subtract(found, expected)).max() <= max(1, screen) + 0.5, (
        "a pixel of the screen, or of the picture"
    )


def test_paint_hides_the_patches_under_it(opened):
    page = opened("reconstruction")
    page.get_by_text("Paint what to hide").click()
    canvas = page.locator("#reconstruction-canvas canvas").first
    expect(canvas).to_be_visible()
    page.wait_for_timeout(3000)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    side = 448 * int(re.search(r"(\d+)%", page.locator("#reconstruction-canvas").inner_text())[1]) / 100
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2  # of the picture in it
    page.mouse.move(left + 0.2 * side, top + 0.8 * side)
    page.mouse.down()
    page.mouse.move(left + 0.4 * side, top + 0.8 * side, steps=3)  # without a GPU each takes seconds
    page.mouse.up()
    page.wait_for_timeout(1500)
    page.locator("#reconstruction-use-paint").click()
    expect(page.locator("#reconstruction-pattern").get_by_label("painted by hand")).to_be_checked()
    facts = page.locator("#reconstruction-facts")
    expect(facts).to_contain_text(re.compile(r"Hidden patches\s*([4-9]|1[0-6]) / 256"))
    left, original = (shown_in(page, f"reconstruction-{name}") for name in ("left", "original"))
    dark = np.argwhere(original - left > 70) / left.shape  # shares of the height and the width
    (high, first), (low, last) = dark.min(0), dark.max(0)
    assert (high + low) / 2 == pytest.approx(0.8, abs=1 / 16) and (first + last) / 2 == pytest.approx(0.3, abs=1 / 16)
    assert 0.2 <= last - first <= 0.4 and low - high <= 0.2
    page.locator("#reconstruction-next").click()  # paint does not outlive its picture
    expect(page.locator("#reconstruction-pattern").get_by_label("painted by hand")).not_to_be_checked()
    expect(page.locator("#reconstruction-told .stale")).to_have_count(0)
    assert page.get_by_test_id("toast-body").count() == 0


def test_a_stopped_run_shows_nothing_of_the_run_before(opened):
    page = opened("diffusion")
    verdict = page.locator("#diffusion-verdict")
    expect(verdict).to_contain_text("frog")
    field(page, "diffusion-prompt").fill("an elephant")
    steps = page.locator("#diffusion-steps input[type=number]")
    steps.fill("100")
    steps.press("Enter")
    page.locator("#diffusion-draw").click()
    status = page.locator("#diffusion-status")
    expect(status).to_contain_text("of 100")
    page.locator("#diffusion-stop").click()
    expect(status).to_contain_text("Stopped. The picture is as far as this run came")
    for part in ("verdict", "facts", "charts", "strip", "note"):
        expect(page.locator(f"#diffusion-{part} .prose").first).to_be_empty()
    assert page.locator("#diffusion-player .numbers").locator("visible=true").count() == 0
    page.get_by_role("button", name="Recorded runs, numbers as JSON, export").click()
    page.locator("#diffusion-save").click()
    expect(page.get_by_test_id("toast-body").first).to_contain_text("no finished run to save")
    page.wait_for_timeout(1000)
    expect(status).to_contain_text("Stopped. The picture is as far as this run came")
