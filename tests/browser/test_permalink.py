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


def test_back_and_forward_go_from_tab_to_tab(watched: Watched):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}?tab=token_removal")
    expect(page.locator("#token_removal-facts")).to_contain_text("%")
    watched.set_slider("#token_removal-keep-ratio", 0.3)
    expect(page).to_have_url(re.compile(r"tab=token_removal&.*keep_ratio=0\.3"))
    page.get_by_role("tab", name="Reconstruction").click()
    expect(page).to_have_url(re.compile("tab=reconstruction"))
    page.go_back()
    expect(page.locator("#token_removal-facts")).to_be_visible()
    expect(page).to_have_url(re.compile(r"tab=token_removal&.*keep_ratio=0\.3"))
    page.go_forward()
    expect(page.locator("#reconstruction-facts")).to_be_visible()
    expect(page).to_have_url(re.compile("tab=reconstruction"))
    assert watched.outside == [] and watched.errors == []


def test_arrow_keys_go_along_the_tabs(watched: Watched):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}?tab=token_removal")
    tab = page.get_by_role("tab", name="Token removal")
    expect(tab).to_have_attribute("aria-selected", "true")
    tab.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Reconstruction")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tab", name="Reconstruction")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(tab).to_have_attribute("aria-selected", "true")
    slider = page.locator("#token_removal-keep-ratio input[type=range]")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(tab).to_have_attribute("aria-selected", "true")


def test_a_teacher_hides_controls_in_a_link(watched: Watched):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}?tab=reconstruction")
    pattern, ratio = page.locator("#reconstruction-pattern"), page.locator("#reconstruction-mask-ratio")
    expect(page.locator("#reconstruction-facts")).to_contain_text("PSNR")
    page.get_by_role("button", name="Share").click()
    page.locator("#hide-see").get_by_label("Which patches to hide").check()
    expect(page.locator(".link-card input")).to_have_value(re.compile(r"tab=reconstruction&hide=pattern$"))
    expect(pattern).to_be_visible()
    watched.set_slider("#reconstruction-mask-ratio", 0.7)
    expect(page).to_have_url(re.compile(r"hide=pattern&tab=reconstruction&mask_ratio=0\.7"))
    page.reload()
    watched.errors.clear()  # a page that is left tells that its open stream has ended
    expect(page.locator("#reconstruction-facts")).to_contain_text("PSNR")
    expect(ratio).to_be_visible()
    expect(pattern).to_be_hidden()
    page.get_by_role("button", name="Share").click()
    expect(page.locator("#hide-see").get_by_label("Which patches to hide")).to_be_checked()
    page.locator("#hide-see").get_by_label("Which patches to hide").uncheck()
    expect(page).not_to_have_url(re.compile("hide"))
    assert watched.outside == [] and watched.errors == []


def test_a_link_that_hides_what_is_not_there_says_so(watched: Watched):  # noqa: F811
    watched.page.goto(f"{watched.url}?tab=reconstruction&hide=griffin")
    expect(watched.page.get_by_text("The address hides 'griffin'").first).to_be_visible()


def test_a_photograph_is_named_by_a_network_that_has_seen_some(watched: Watched):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}?tab=token_removal&picture=coffee")
    box, names = page.get_by_role("button", name="A network that has seen photographs"), "#token_removal-names"
    box.locator("visible=true").click()
    expect(page.locator(names)).to_contain_text("what speaks for “espresso”")
    page.locator("#token_removal-name textarea, #token_removal-name input").fill("eggnog")
    page.keyboard.press("Enter")
    expect(page.locator(names)).to_contain_text("what speaks for “eggnog”")
    page.get_by_role("button", name="Next scene").locator("visible=true").click()
    expect(box.locator("visible=true")).to_have_count(0)
    assert watched.outside == [] and watched.errors == []


def test_an_exported_figure_brings_its_state_back(watched: Watched, tmp_path):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}?tab=token_removal&picture=coffee&keep_ratio=0.3")
    keep, photo = page.locator("#token_removal-keep-ratio input[type=number]"), "#token_removal-photo input"
    expect(page.locator("#token_removal-facts")).to_contain_text(re.compile(r"3\d%"))
    page.get_by_role("button", name="Numbers as JSON, and export").locator("visible=true").click()
    links = page.locator("#token_removal-files a")
    page.locator("#token_removal-export").click()
    expect(links).to_have_count(2)  # the slide, the numbers
    took = page.locator("#token_removal-facts").inner_text()
    page.locator("#token_removal-prompt textarea, #token_removal-prompt input").first.press("Enter")
    expect(page.locator("#token_removal-facts")).not_to_have_text(took, use_inner_text=True)  # another time, in ms
    page.wait_for_timeout(1000)
    expect(links).to_have_count(2)
    address = links.nth(0).get_attribute("href")
    assert address is not None
    (tmp_path / "slide.png").write_bytes(page.request.get(address).body())
    watched.set_slider("#token_removal-keep-ratio", 0.4)
    expect(page.locator("#token_removal-facts")).to_contain_text(re.compile(r"4\d%"))
    expect(links).to_have_count(0)  # they are of another run now
    page.goto(f"{watched.url}?tab=token_removal")
    watched.errors.clear()  # a page that is left tells that its open stream has ended
    expect(page.locator("#token_removal-facts")).to_contain_text(re.compile(r"5\d%"))
    expect(keep).to_have_value("0.5")
    page.locator("#token_removal-image input[type=file]").set_input_files(tmp_path / "slide.png")
    expect(keep).to_have_value("0.3")
    expect(page.locator(photo)).to_have_value("coffee")
    expect(page).to_have_url(re.compile("picture=coffee"))
    expect(page).to_have_url(re.compile(r"keep_ratio=0\.3"))
    expect(page.locator("#token_removal-facts")).to_contain_text(re.compile(r"3\d%"))
    assert watched.outside == [] and watched.errors == []
