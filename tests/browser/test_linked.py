"""A patch, a word or a box under the pointer, or chosen by the keyboard, is marked in every part of its tab."""

from playwright.sync_api import Page, expect

from tests.browser.test_tabs import Watched, watched  # noqa: F401  (a fixture)


def boxes(page: Page) -> list[dict]:
    """Where the marks lie, as shares of their picture: x, y, width."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.patch-mark')].map(mark => {
             const img = mark.parentElement.querySelector('img').getBoundingClientRect();
             const at = mark.getBoundingClientRect(), side = Math.min(img.width, img.height);
             const [left, top] = [img.left + (img.width - side) / 2, img.top + (img.height - side) / 2];
             return {x: (at.left - left) / side, y: (at.top - top) / side, width: at.width / side};
           })"""
    )


def test_a_patch_is_marked_in_every_picture(watched: Watched):  # noqa: F811
    page = watched.page
    watched.open("token_removal")
    picture = page.locator("#token_removal-heat img")
    expect(page.locator("#token_removal-facts .patches")).to_have_count(1)
    expect(picture).to_be_visible()
    at = picture.bounding_box()
    assert at is not None
    side = min(at["width"], at["height"])
    left, top = at["x"] + (at["width"] - side) / 2, at["y"] + (at["height"] - side) / 2
    page.mouse.move(left + side * (3.5 / 16), top + side * (5.5 / 16))
    expect(page.locator(".patch-mark")).to_have_count(2)
    for each in boxes(page):
        assert abs(each["x"] - 3 / 16) < 0.01 and abs(each["y"] - 5 / 16) < 0.01
        assert abs(each["width"] - 1 / 16) < 0.01
    page.mouse.move(2, 2)
    expect(page.locator(".patch-mark")).to_have_count(0)
    assert watched.outside == [] and watched.errors == []


def test_the_keyboard_goes_from_patch_to_patch_and_chooses(watched: Watched):  # noqa: F811
    page = watched.page
    watched.open("self_distillation")
    note, bars = page.locator("#self_distillation-facts .patches"), page.locator("#self_distillation-bars")
    expect(page.locator("#self_distillation-kl img")).to_be_visible()
    expect(note).to_have_count(1)
    before = bars.inner_text()
    note.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowUp"):
        note.press(key)
    expect(note.locator("b")).to_have_text("1, 3")  # row and column; the border holds it
    assert {round(each["x"] * 16) for each in boxes(page)} == {2} and len(boxes(page)) >= 4
    note.press("ArrowDown")
    note.press("Enter")
    expect(bars).not_to_have_text(before)
    assert watched.outside == [] and watched.errors == []


def test_a_word_marks_its_boxes_and_a_box_its_words(watched: Watched):  # noqa: F811
    page = watched.page
    watched.open("detection")  # an elephant and a yellow bow, and two words for what is not there
    rows, marks = page.locator("#detection-table tr.link"), page.locator(".patch-mark")
    linked = page.locator(".linked")
    expect(rows).to_have_count(6)  # two boxes, four words
    found = [
        page.locator(f"#detection-table tr[data-boxes][data-word='{word}']") for word in ("elephant", "yellow bow")
    ]
    shares = [[float(side) for side in (row.get_attribute("data-boxes") or "").split()] for row in found]
    assert shares[0][2] < shares[1][0], "the elephant is left of the bow"
    found[0].focus()
    expect(marks).to_have_count(1)
    (mark,) = boxes(page)
    assert abs(mark["x"] - shares[0][0]) < 0.01 and abs(mark["width"] - (shares[0][2] - shares[0][0])) < 0.01
    expect(linked).to_have_count(3)  # its box, its word, its bar
    page.locator("#detection-bars tr[data-word=balloon]").hover()
    expect(linked).to_have_count(2)
    expect(marks).to_have_count(0)  # no box has this word
    picture = page.locator("#detection-boxes img")
    at = picture.bounding_box()
    assert at is not None
    side = min(at["width"], at["height"])
    left, top = at["x"] + (at["width"] - side) / 2, at["y"] + (at["height"] - side) / 2
    x0, y0, x1, y1 = shares[1]
    page.mouse.move(left + side * (x0 + x1) / 2, top + side * (y0 + y1) / 2)
    expect(found[1]).to_have_class("link linked")
    expect(marks).to_have_count(1)
    page.mouse.move(2, 2)
    expect(linked).to_have_count(0)
    assert watched.outside == [] and watched.errors == []
