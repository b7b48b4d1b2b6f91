"""In Persian: chosen on the page or by a link, from right to left, with digits of its own and words the models know."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_tabs import Watched, watched  # noqa: F401  (a fixture)

PERSIAN_LETTERS = "[\u0600-\u06ff]"


def test_the_language_is_switched_on_the_page_and_kept(watched: Watched):  # noqa: F811
    page = watched.page
    page.goto(f"{watched.url}?tab=token_removal")
    expect(page.locator("#token_removal-facts .headline")).to_contain_text("of 1: how near")
    assert page.evaluate("document.documentElement.dir") == "ltr"
    page.locator("#language-see").click()
    expect(page.locator("#tab-token_removal-button")).to_contain_text("حذف توکن")
    watched.errors.clear()  # of the page that was left, whose requests broke off
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("#token_removal-facts .headline")).to_contain_text("از ۱")  # said by the server
    assert "tab=token_removal" in page.url
    family = page.locator("#token_removal-facts .headline b").evaluate("part => getComputedStyle(part).fontFamily")
    assert family.startswith('"Vazirmatn FD"')  # its digits are Persian ones
    page.wait_for_function("document.fonts.check('16px \"Vazirmatn FD\"', '۱گ')")
    # no value of a control became a translation: the rule is still chosen, and a change runs
    expect(page.locator("#token_removal-rule input:checked")).to_have_value("attention")
    number = page.locator("#token_removal-facts .headline b").first
    before = number.inner_text()
    page.locator("#token_removal-rule input").last.check()
    expect(number).not_to_have_text(before)
    assert page.locator(".toast-wrap").inner_text() == ""
    assert watched.outside == [] and watched.errors == []
    page.locator("#language-see").click()
    expect(page.locator("#tab-token_removal-button")).to_contain_text("Token removal")
    expect(page.locator("html")).to_have_attribute("dir", "ltr")


def test_a_link_opens_in_persian_and_persian_words_are_drawn(watched: Watched):  # noqa: F811
    page = watched.page
    page.goto(f"{watched.url}find?tab=detection&lang=fa")
    expect(page.locator("html")).to_have_attribute("lang", "fa")
    expect(page.locator("#detection-table")).to_contain_text("فیل")
    words = page.locator("#detection-prompt :is(textarea, input)").first
    words.fill("پاپیون زرد . گربه")
    words.press("Enter")
    table = page.locator("#detection-table")
    expect(table).to_contain_text("گربه")
    expect(table).not_to_contain_text("فیل")
    for code in ("#detection-prompt textarea, #detection-prompt input", ".katex", "code"):
        inner = page.locator(code)
        if inner.count():
            assert inner.first.evaluate("part => getComputedStyle(part).unicodeBidi") in ("plaintext", "isolate")
    number = page.locator("#detection-box-threshold input[type=number]").first
    number.fill("")
    number.focus()
    page.keyboard.insert_text("۰٫۴")
    expect(number).to_have_value("0.4")
    assert watched.outside == [] and watched.errors == []


@pytest.mark.parametrize(("locale", "shown"), [("fa-IR", ("rtl", "خودتقطیری")), ("ar", ("ltr", "Self-distillation"))])
def test_without_a_choice_the_browser_says_and_without_a_translation_it_is_english(browser, app_url, locale, shown):
    context = browser.new_context(locale=locale, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(app_url)
    direction, title = shown
    expect(page.locator("#tab-self_distillation-button").first).to_contain_text(title)
    expect(page.locator("html")).to_have_attribute("dir", direction)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
