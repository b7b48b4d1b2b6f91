"""A class's guesses are counted together: bounded, without accounts, and forgotten."""

import httpx
import pytest

from demos.ui import tally
from demos.ui.tally import Rooms
from pipelines.errors import UserError
from tests.visitor import PATIENCE

QUESTIONS = {"collapse-guess": ["a", "b"], "gan-guess": ["a", "c"]}
PAGES = [f"{n:032x}" for n in range(tally.GUESSES + 1)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rooms(clock) -> Rooms:
    return Rooms(QUESTIONS, clock)


def test_a_new_guess_of_a_page_replaces_its_old_one(rooms):
    assert rooms.guess("abcd", "collapse-guess", PAGES[0], "a") == {"a": 1, "b": 0}
    assert rooms.guess("abcd", "collapse-guess", PAGES[1], "a") == {"a": 2, "b": 0}
    assert rooms.guess("abcd", "collapse-guess", PAGES[0], "b") == {"a": 1, "b": 1}


def test_rooms_and_questions_are_apart(rooms):
    rooms.guess("abcd", "collapse-guess", PAGES[0], "a")
    assert rooms.counts("efgh", "collapse-guess") == {"a": 0, "b": 0}
    assert rooms.counts("abcd", "gan-guess") == {"a": 0, "c": 0}
    assert rooms.counts("abcd", "collapse-guess") == {"a": 1, "b": 0}


def test_a_room_is_forgotten_an_hour_after_its_last_guess(rooms, clock):
    rooms.guess("abcd", "collapse-guess", PAGES[0], "a")
    clock.now = tally.IDLE - 1
    rooms.guess("abcd", "collapse-guess", PAGES[1], "b")
    clock.now = 2 * tally.IDLE - 2
    assert rooms.counts("abcd", "collapse-guess") == {"a": 1, "b": 1}
    clock.now += 2
    assert rooms.counts("abcd", "collapse-guess") == {"a": 0, "b": 0} and not rooms.rooms


def test_rooms_and_guesses_are_bounded_and_looking_makes_no_room(rooms, clock):
    for page in PAGES[:-1]:
        rooms.guess("full", "collapse-guess", page, "a")
    with pytest.raises(UserError, match=r"guesses"):
        rooms.guess("full", "collapse-guess", PAGES[-1], "a")
    assert rooms.guess("full", "collapse-guess", PAGES[0], "b")["b"] == 1, "who is counted may change"
    for n in range(tally.ROOMS - 1):
        rooms.guess("r" + "".join("abcdefghij"[int(d)] for d in f"{n:03}"), "gan-guess", PAGES[0], "a")
    rooms.counts("more", "gan-guess")
    with pytest.raises(UserError, match=r"rooms"):
        rooms.guess("more", "gan-guess", PAGES[0], "a")
    clock.now = tally.IDLE + 1
    assert rooms.guess("more", "gan-guess", PAGES[0], "a")["a"] == 1


@pytest.mark.parametrize(
    ("room", "question", "page", "answer"),
    [
        ("abc", "gan-guess", PAGES[0], "a"),
        ("a" * 13, "gan-guess", PAGES[0], "a"),
        ("ABCD", "gan-guess", PAGES[0], "a"),
        ("<b>x", "gan-guess", PAGES[0], "a"),
        (None, "gan-guess", PAGES[0], "a"),
        ("abcd", "other", PAGES[0], "a"),
        ("abcd", ["gan-guess"], PAGES[0], "a"),
        ("abcd", "gan-guess", "Ann", "a"),
        ("abcd", "gan-guess", None, "a"),
        ("abcd", "gan-guess", PAGES[0], "b"),
        ("abcd", "gan-guess", PAGES[0], {}),
    ],
)
def test_what_cannot_be_is_refused_and_not_kept(rooms, room, question, page, answer):
    with pytest.raises(UserError):
        rooms.guess(room, question, page, answer)
    assert not rooms.rooms


def test_the_served_app_counts_and_refuses(app_url):
    url = f"{app_url}tally"
    guess = {"room": "xyz234", "question": "collapse-guess", "page": PAGES[5], "answer": "nothing"}
    refused = httpx.post(url, json=guess, timeout=PATIENCE)
    assert refused.status_code == 400 and "The answer must be one of" in refused.json()["detail"]
    known = httpx.get(url, params={"room": "xyz234", "question": "collapse-guess"}, timeout=PATIENCE).json()["counts"]
    told = httpx.post(url, json={**guess, "answer": next(iter(known))}, timeout=PATIENCE).json()
    assert "room xyz234: 1" in told["told"] and sum(told["counts"].values()) == 1
    for body in (b"[]", b"nonsense", b"null"):
        assert httpx.post(url, content=body, timeout=PATIENCE).status_code == 400
    assert httpx.post(url, json=guess, headers={"Origin": "https://else.example"}, timeout=PATIENCE).status_code == 403
