"""A lesson is passed on by its address: tab, picture and settings; opening it shows the same."""

import re

from playwright.sync_api import Page, expect

from tests.browser.test_tabs import Watched, watched  # noqa: F401  (a fixture)


def test_a_link_opens_on_its_picture_and_settings_and_follows_both(watched: Watched):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}?tab=token_removal&picture=coffee&keep_ratio=0.3&rule=inverse")
    keep, facts = page.locator("#token_removal-keep-ratio input[type=number]"), page.locator("#token_removal-facts")
    expect(keep).to_have_value("0.3")
    expect(page.locator("#token_removal-photo input")).to_have_value("coffee")
    expect(facts).to_contain_text(re.compile(r"3\d%"))
    before = facts.inner_text()
    watched.set_slider("#token_removal-keep-ratio", 0.6)
    expect(page).to_have_url(re.compile(r"tab=token_removal&.*keep_ratio=0\.6"))
    expect(facts).not_to_have_text(before)
    page.reload()
    watched.errors.clear()  # a page that is left tells that its open stream has ended
    expect(keep).to_have_value("0.6")
    expect(facts).to_contain_text(re.compile(r"6\d%"))
    page.get_by_role("button", name="Next scene").locator("visible=true").click()
    expect(page).to_have_url(re.compile("picture=17"))
    expect(page.locator("#token_removal-photo input")).to_have_value("")
    assert watched.outside == [] and watched.errors == []


def test_a_link_that_names_no_picture_says_so(watched: Watched):  # noqa: F811
    watched.page.goto(f"{watched.url}?tab=reconstruction&picture=a+griffin")
    expect(watched.page.get_by_text("griffin").first).to_be_visible()
    expect(watched.page.locator("#reconstruction-facts")).to_contain_text("PSNR")


def test_share_shows_what_is_in_the_address_and_closes_again(watched: Watched):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}?tab=reconstruction&mask_ratio=0.7")
    expect(page.locator("#reconstruction-facts")).to_contain_text("PSNR")
    page.get_by_role("button", name="Share").click()
    expect(page.locator(".link-card svg")).to_be_visible()
    expect(page.locator(".link-card input")).to_have_value(re.compile(r"\?tab=reconstruction&mask_ratio=0\.7$"))
    page.get_by_role("button", name="Share").click()
    expect(page.locator(".link-card")).to_have_count(0)
    assert watched.outside == [] and watched.errors == []
