"""On a projector: two pictures, one slider, one large number, and a remote that goes from tab to tab."""

from playwright.sync_api import Page, expect

from tests.browser.test_tabs import Watched, watched  # noqa: F401  (a fixture)


def test_a_key_leaves_what_a_class_looks_at(watched: Watched):  # noqa: F811
    page: Page = watched.page
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.goto(f"{watched.url}?tab=token_removal")
    number, prompt = page.locator("#token_removal-facts .headline b"), page.locator("#token_removal-prompt textarea")
    expect(number).to_be_visible()
    prompt.press("p")
    expect(page.locator(".masthead").first).to_be_visible()
    prompt.blur()
    page.keyboard.press("p")
    expect(prompt).to_be_hidden()
    expect(page.locator(".masthead").first).to_be_hidden()
    expect(page.locator("#token_removal-chart")).to_be_hidden()
    assert number.evaluate("part => parseFloat(getComputedStyle(part).fontSize)") >= 40
    for part in ("heat", "kept", "keep-ratio"):
        box = page.locator(f"#token_removal-{part}").bounding_box()
        assert box is not None and box["y"] + box["height"] <= 1080 and (box["width"] > 900), part
    page.keyboard.press("PageDown")
    expect(page.locator("#reconstruction-facts .headline b")).to_be_visible()
    page.keyboard.press("PageUp")
    expect(number).to_be_visible()
    page.keyboard.press("s")
    page.mouse.move(300, 400)
    shade = page.evaluate("getComputedStyle(document.body, '::after').backgroundImage")
    assert shade.startswith("radial-gradient(circle at 300px 400px, rgba(0, 0, 0, 0)"), shade
    page.keyboard.press("p")  # ends the spotlight with it
    expect(prompt).to_be_visible()
    page.keyboard.press("p")
    expect(prompt).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body, '::after').content") == "none"
    page.keyboard.press("s")
    page.keyboard.press("Escape")
    expect(prompt).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body, '::after').content") == "none"
    page.get_by_role("button", name="Present").click()
    expect(prompt).to_be_hidden()
    assert watched.outside == [] and watched.errors == []
