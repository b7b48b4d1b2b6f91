"""The chapter Games as a class uses it: play, predict, see the points, search, reset, open the address again.

Games are short, set in the address.
"""

import re

from playwright.sync_api import Page, expect

from tests.browser.test_contrast import answer
from tests.browser.test_tabs import ADDRESS, Watched, watched  # noqa: F401  (a fixture)

LONG = 240_000  # milliseconds


def test_two_players_are_asked_about_before_their_points_are_shown(watched, connections_elsewhere):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}{ADDRESS['gan']}&steps=200&seed=3")
    expect(page.locator("#gan-announced")).to_contain_text("about 2 s")  # the address is read
    twins, film = page.locator("#gan-twins"), page.locator("#gan-film")
    expect(twins).to_contain_text("come here when they have played")
    page.locator("#gan-play").click()
    expect(page.locator("#gan-status")).to_contain_text("The game is over", timeout=LONG)
    expect(twins.locator("header")).to_have_count(2)
    expect(twins).to_contain_text("losses")
    expect(twins.locator("img")).to_have_count(0)
    expect(film.locator(".curves figure")).to_have_count(2)
    answer(page, "gan", "A")
    page.locator("#gan-run").click()
    expect(twins.locator("img")).to_have_count(2, timeout=LONG)
    expect(page.locator("#gan-verdict")).to_contain_text(re.compile("You were right|You said"))
    expect(page.locator("#gan-score")).to_contain_text("of 1 runs")
    expect(film).to_contain_text("200 / 200")
    film.locator("input[type=range]").fill("0")
    expect(film).to_contain_text("0 / 200")
    assert film.locator(".points circle").count() > 500
    expect(page.locator("#gan-facts")).to_contain_text("2 ln 2 = 1.386")
    page.locator("#gan-next").click()
    expect(page).to_have_url(re.compile("steps=200&seed=4$"))
    assert watched.errors == []
    page.reload()
    watched.errors.clear()  # a page that is left tells that its open stream has ended
    expect(page.locator("#gan-announced")).to_contain_text("about 2 s")
    expect(page.locator("#gan-score")).to_contain_text("of 1 runs")
    page.locator("#gan-reset").click()
    expect(page).to_have_url(re.compile(r"\?tab=gan$"))
    assert watched.outside == [] and watched.errors == [] and connections_elsewhere == []


def test_three_ways_search_a_table_that_is_known(watched):  # noqa: F811
    page: Page = watched.page
    page.goto(f"{watched.url}{ADDRESS['architecture_search']}&children=40&seeds=2")
    expect(page.locator("#architecture_search-guess")).to_contain_text("40 networks for each")
    expect(page.locator("#architecture_search-table img")).to_be_visible()
    answer(page, "architecture_search", "No difference")
    page.locator("#architecture_search-run").click()
    verdict = page.locator("#architecture_search-verdict")
    expect(verdict).to_contain_text(re.compile("You were right|You said"), timeout=LONG)
    expect(page.locator("#architecture_search-best")).to_contain_text("random search")
    film = page.locator("#architecture_search-film")
    expect(film.locator(".run")).to_have_count(3)
    expect(film).to_contain_text("40 / 40")
    film.locator("input[type=range]").fill("0")
    expect(film).to_contain_text("nothing trained yet")
    expect(page.locator("#architecture_search-charts svg.chart")).to_have_count(2)
    page.locator("#architecture_search-reset").click()
    expect(page.locator("#architecture_search-guess")).to_contain_text("200 networks for each")
    expect(page.locator("#architecture_search-table img")).to_be_visible()
    expect(verdict.locator(".verdict")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"\?tab=architecture_search$"))
    assert watched.outside == [] and watched.errors == []
