"""Two pages of one class: a room from Share, each one's guess, bars that grow, nothing shown before the own guess."""

import re

from playwright.sync_api import expect


def test_guesses_of_two_pages_are_counted_together(opened):
    teacher = opened("collapse")
    teacher.get_by_role("button", name="Share").click()
    teacher.get_by_role("button", name="Count a class's guesses together").click()
    link = teacher.locator(".link-card input")
    expect(link).to_have_value(re.compile(r"room=[a-z2-9]{6}"))
    room = re.findall("room=([a-z2-9]+)", link.input_value())[0]
    expect(teacher.locator(".link-card")).to_contain_text(f"Room {room}")
    pupil = opened("collapse", f"&room={room}")
    question = pupil.locator("#collapse-guess input[type=radio]")
    expect(pupil.locator(".tally")).to_have_count(0)
    question.nth(1).check()
    bars = pupil.locator(".tally[data-of=collapse-guess]")
    expect(bars).to_contain_text(f"room {room}: 1")
    pupil.wait_for_timeout(2500)
    expect(teacher.locator(".tally")).to_have_count(0)
    teacher.get_by_role("button", name="Present").click()
    shown = teacher.locator(".tally[data-of=collapse-guess]")
    expect(shown.locator("p b").nth(1)).to_have_text("1")
    question.nth(0).check()
    expect(shown.locator("p b").nth(1)).to_have_text("0")
    expect(shown.locator("p b").nth(0)).to_have_text("1")
    teacher.wait_for_function("bar => bar.offsetWidth > 40", arg=shown.locator("p i").nth(0).element_handle())
    pupil.locator(".masthead a", has_text="Games").click()
    expect(pupil).to_have_url(re.compile(f"games.*room={room}"))
