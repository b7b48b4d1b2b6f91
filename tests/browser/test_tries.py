"""What to try: a button sets the state and asks, an answer runs, the run says whether it was foreseen."""

import re

from playwright.sync_api import expect

from tests.browser.test_tabs import Watched, watched  # noqa: F401


def test_a_line_is_pressed_answered_and_revealed(watched: Watched):  # noqa: F811
    page = watched.page
    page.goto(f"{watched.url}?tab=token_removal&keep_ratio=0.9&rule=random&picture=coffee")

    def part(name: str):
        return page.locator(f"#token_removal-{name}")

    ratio = part("keep-ratio").locator("input[type=number]")
    expect(ratio).to_have_value("0.9")
    expect(part("guess-few")).to_have_count(0)
    part("try-few").click()
    expect(part("guess-few")).to_be_visible()
    expect(ratio).to_have_value("0.5")
    expect(part("prompt").locator("input, textarea").first).to_have_value(re.compile("bird"))
    expect(part("facts")).to_contain_text("132 / 256")
    part("guess-few").get_by_text("yes", exact=True).click()
    expect(part("foretold").locator(".verdict")).to_be_visible()
    expect(part("facts")).to_contain_text("16 / 256")
    expect(part("foretold")).to_contain_text("Of 16 of 256 patches")
    right = "You were right" in part("foretold").inner_text()
    expect(part("score")).to_contain_text(f"You foresaw {int(right)} of 1 runs")
    expect(part("guess-few").locator("input").first).to_be_disabled()
    expect(page).to_have_url(re.compile("keep_ratio=0.05"))
    part("try-chance").click()
    expect(part("guess-chance")).to_be_visible()
    expect(part("guess-few")).to_have_count(0)
    expect(part("foretold").locator(".verdict")).to_have_count(0)
    expect(ratio).to_have_value("0.5")
