"""The chapter Cues as a class uses it: predict, run, be told, and open the address again."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import predict

LONG = 240_000  # milliseconds: models are loaded first, and pictures drawn, once


def test_order_is_foreseen_run_deepened_and_kept_in_the_address(opened):
    page = opened("equivariance")
    graphs, verdict = page.locator("#equivariance-graphs"), page.locator("#equivariance-verdict .verdict")
    expect(graphs.locator("svg")).to_have_count(2)
    expect(graphs.locator(".kept, .changed")).to_have_count(0)
    predict(page, "equivariance", 0)
    page.locator("#equivariance-run").click()
    expect(verdict).to_contain_text("You were right: Valid")
    expect(graphs.locator(".kept")).to_have_count(6)
    expect(page.locator("#equivariance-score")).to_contain_text("1 of 1 runs")

    page.locator("#equivariance-function input").click()
    page.get_by_role("option", name="a GRU reads the list").click()
    expect(verdict).to_have_count(0)
    expect(graphs.locator(".kept, .changed")).to_have_count(0)
    predict(page, "equivariance", 0)
    page.locator("#equivariance-run").click()
    expect(verdict).to_contain_text("You said: Valid")
    expect(graphs.locator(".changed").first).to_be_visible()
    page.locator("#equivariance-swap").click()
    expect(page).to_have_url(re.compile(r"function=gru&order=2\+1\+3\+4\+5\+6$"))
    expect(graphs.locator("svg").last).to_contain_text("2")

    page.reload()
    expect(page.locator("#equivariance-function input")).to_have_value("a GRU reads the list")
    expect(graphs.locator("svg").last.locator("text").first).to_have_text("2")
    expect(page.locator("#equivariance-score")).to_contain_text("1 of 2 runs")
    page.locator("#equivariance-reset").click()
    expect(page).to_have_url(re.compile(r"\?tab=equivariance$"))
    expect(graphs.locator("svg")).to_have_count(2)
    expect(page.locator("#equivariance-difference")).to_contain_text("?")


def test_patches_of_a_picture_have_a_question_of_their_own(opened):
    page = opened("equivariance")
    page.get_by_role("button", name="The same question, of the patches of a picture").click()
    predict(page, "equivariance-patches", 1)
    page.locator("#equivariance-patches-run").click()
    expect(page.locator("#equivariance-patches-verdict .verdict")).to_contain_text("You were right")
    expect(page.locator("#equivariance-patches img")).to_be_visible()


def test_a_network_is_foreseen_trained_and_kept_in_the_address(opened):
    page = opened("texture_shape", "&steps=2&batch=8&share=0.5")
    examples, verdict = page.locator("#texture_shape-examples"), page.locator("#texture_shape-verdict .verdict")
    expect(examples.locator("figure")).to_have_count(12)
    expect(page.locator("#texture_shape-bias")).to_contain_text("?")
    predict(page, "texture_shape", 0)
    page.locator("#texture_shape-run").click()
    expect(verdict).to_contain_text(re.compile("You were right|You said"), timeout=LONG)
    expect(examples).to_contain_text("Green frame")
    expect(page.locator("#texture_shape-answers")).to_contain_text("chance: 8%")
    expect(page.locator("#texture_shape-film .run")).to_have_count(2)
    expect(examples.locator("figure")).to_have_count(24)
    page.locator("#texture_shape-network input").click()
    page.get_by_role("option", name="a bag of patches").click()
    expect(page).to_have_url(re.compile("network=bag&share=0.5&steps=2&batch=8"))
    page.reload()
    expect(page.locator("#texture_shape-network input")).to_have_value("a bag of patches")
    expect(page.locator("#texture_shape-score")).to_contain_text("of 1 runs")


def test_a_shape_wears_the_skin_of_a_photograph(opened):
    page = opened("texture_shape")
    page.get_by_role("button", name="A network that has seen photographs").click()
    skin = page.locator("#texture_shape-skin")
    expect(skin.locator("figure")).to_have_count(8, timeout=LONG)
    expect(skin).to_contain_text("an elephant in this skin")
    page.locator("#texture_shape-shape").get_by_label("horse").check()
    expect(skin).to_contain_text("a horse in this skin", timeout=LONG)


def test_pieces_are_there_at_once_and_two_networks_learn(opened):
    page = opened("scramble", "&steps=2&batch=8&task=relation")
    pieces = page.locator("#scramble-pieces")
    expect(pieces.locator("img")).to_have_count(4, timeout=LONG)
    before = pieces.inner_text()
    page.locator("#scramble-pieces-grid input").click()
    page.get_by_role("option", name="32×32").click()
    expect(pieces).not_to_have_text(before, timeout=LONG)
    predict(page, "scramble", 3)
    page.locator("#scramble-run").click()
    expect(page.locator("#scramble-verdict .verdict")).to_be_visible(timeout=LONG)
    expect(page.locator("#scramble-film .run")).to_have_count(2)
    expect(page.locator("#scramble-facts")).to_contain_text("untrained")
    page.reload()
    expect(page.locator("#scramble-task").get_by_label("is the cat left of the car?")).to_be_checked()


def test_one_noise_is_learned_and_tried(opened):
    page = opened("universal", "&steps=1&pictures=4&epsilon=16")
    expect(page.locator("#universal-guess")).to_contain_text("at most 16/255")
    predict(page, "universal", 0)
    page.locator("#universal-run").click()
    expect(page.locator("#universal-verdict .verdict")).to_be_visible(timeout=LONG)
    expect(page.locator("#universal-controls .share")).to_have_count(6)
    expect(page.locator("#universal-before .pair")).to_have_count(8)
    expect(page.locator("#universal-film .picture img")).to_be_visible()
    page.reload()
    expect(page.locator("#universal-epsilon input[type=number]")).to_have_value("16")


def test_eyes_are_borrowed_and_blocks_frozen(opened):
    page = opened("transfer", "&examples=2")
    expect(page.locator("#transfer-guess")).to_contain_text("With 2 of each")
    expect(page.locator("#transfer-things figure")).to_have_count(4, timeout=LONG)
    predict(page, "transfer", 3)
    page.locator("#transfer-run").click()
    expect(page.locator("#transfer-verdict .verdict")).to_be_visible(timeout=LONG)
    expect(page.locator("#transfer-things")).to_contain_text("called")
    expect(page.locator("#transfer-charts svg")).to_have_count(2)
    page.reload()
    expect(page.locator("#transfer-examples input[type=number]")).to_have_value("2")
    page.get_by_role("button", name="Let it learn them").click()
    for name, value in (("frozen", "6"), ("steps", "2")):
        field = page.locator(f"#transfer-freeze-{name} input[type=number]")
        field.fill(value)
        field.press("Enter")
    predict(page, "transfer-freeze", 1)
    page.locator("#transfer-freeze-run").click()
    expect(page.locator("#transfer-freeze-verdict .verdict")).to_be_visible(timeout=LONG)
    expect(page.locator("#transfer-freeze-facts")).to_contain_text("frozen to the bit")
