"""Whose step is next: short work first, visitors in turn, nobody starves, no device is lost."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator

import gradio as gr
import pytest

from demos.ui import device, events, turns
from demos.ui.turns import Device, Work, turn_of
from tests.demos.served import stepped
from tests.visitor import Visitor, function_of


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(turns.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def play(clock: Clock, runs: dict[str, tuple[str, float, int]], seconds: float) -> list[str]:
    """Runs on one device, each asking again after every step; the names of the steps in their order.

    Args:
        runs: name -> (visitor, seconds of a step, steps).
    """
    first, order = Device(), []
    left = {name: steps for name, (_, _, steps) in runs.items()}
    works = {name: Work(visitor=visitor, kind=name) for name, (visitor, _, _) in runs.items()}
    asked = {name: first.ask(work) for name, work in works.items()}
    while asked and clock.now < seconds:
        (name,) = [name for name, turn in asked.items() if turn.done()]
        order.append(name)
        clock.now += runs[name][1]
        left[name] -= 1
        if left[name]:
            turn = asked.pop(name)
            asked[name] = first.ask(works[name])
            assert turn.done()
        else:
            del asked[name]
        first.give_back(works[name])
        if not left[name]:
            first.end(works[name], done=True)
    return order


def test_runs_of_several_visitors_go_on_in_turn(clock):
    order = play(clock, {name: (name, 1.0, 100) for name in "abc"}, 30)
    assert order[3:] == list("abc") * 9, "each has a third of the device"


def test_long_steps_are_no_larger_share(clock):
    """Steps of four seconds beside steps of half a second: each visitor has half of the time."""
    runs = {"slow": ("slow", 4.0, 100), "fast": ("fast", 0.5, 1000)}
    order = play(clock, runs, 200)
    assert abs(4.0 * order.count("slow") - 0.5 * order.count("fast")) <= 8, order


def test_who_comes_late_does_not_catch_up_what_others_have_had(clock):
    first, old, new = Device(), Work(visitor="old", used=5.0), Work(visitor="new", used=5.0)
    for _ in range(10):
        first.ask(old)
        clock.now += 10
        first.give_back(old)
    order, asked = [], {}
    for work in (old, new):
        asked[work] = first.ask(work)
    for _ in range(6):
        work = next(work for work, turn in asked.items() if turn.done())
        order.append(work.visitor)
        clock.now += 1
        del asked[work]
        asked[work] = first.ask(work)
        first.give_back(work)
    assert order.count("new") == order.count("old") == 3, order


def test_a_visitor_with_many_runs_has_one_share(clock):
    runs = {f"a{n}": ("a", 1.0, 100) for n in range(5)} | {"b": ("b", 1.0, 100)}
    order = play(clock, runs, 60)
    assert abs(order.count("b") - 30) <= 4, order


def test_short_work_waits_for_one_step_of_a_run(clock):
    first, run = Device(), Work(visitor="long", used=50.0)
    first.ask(run)
    other = Work(visitor="another", used=20.0)
    long_turn, short_turn = first.ask(other), first.ask(Work(visitor="new"))
    first.give_back(run)
    assert short_turn.done() and not long_turn.done(), "whoever came first, the short one is next"


def test_nobody_starves_behind_a_stream_of_short_work(clock):
    """New visitors come for ever, each with work of .4 seconds; a run still gets a fifth of the steps or more."""
    first, run = Device(), Work(visitor="run", used=9.0)
    newcomers = [Work(visitor=f"new {n}") for n in range(200)]
    turns_of = {work: first.ask(work) for work in newcomers}
    mine, steps = first.ask(run), 0
    for _ in range(100):
        clock.now += 0.4
        if mine.done():
            steps += 1
            mine = first.ask(run)
            first.give_back(run)
        else:
            first.give_back(next(work for work in newcomers if turns_of[work].done() and not work.used))
    assert 12 <= steps <= 20, steps


def test_who_leaves_the_line_holds_nothing():
    """Also where the turn comes at the very moment of leaving."""
    first, holder = Device(), Work(visitor="holder")

    async def leave() -> None:
        def gone() -> None:
            first.give_back(holder)  # the turn comes now
            raise events.Left

        await turn_of(holder, first, lambda: None)
        with pytest.raises(events.Left):
            await turn_of(Work(visitor="leaves"), first, gone, every=0.01)

    asyncio.run(leave())
    assert first.ask(Work(visitor="next")).done()


def test_place_and_seconds_are_told(clock):
    first = Device()
    first.usual["draw"] = 20.0
    runs = [Work(visitor=name, kind="draw", used=used) for name, used in (("a", 10.0), ("b", 10.0), ("c", 15.0))]
    for run in runs:
        first.ask(run)
    assert first.place_of(runs[2]) == (3, 3)
    assert first.seconds_left(runs[2]) == 15.0, "its own five seconds, and as many of each of the others"
    assert first.seconds_left(runs[0]) == 10 + 10 + 5
    assert first.seconds_left(Work(visitor="d", kind="never seen")) is None


def test_each_gpu_has_turns_of_its_own_and_a_request_keeps_its_device(monkeypatch):
    pair = (Device(0), Device(1))
    monkeypatch.setattr(device, "devices", lambda: pair)
    inside, most, seen = [0], [0], {}

    def work(name: str):
        for _ in range(6):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1
            held = device.HELD.get()
            seen.setdefault(name, set()).add(held and held.number)
            yield name

    threads = [threading.Thread(target=lambda n=n: list(stepped(events.event(work)(n)))) for n in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [2] and all(len(numbers) == 1 for numbers in seen.values())
    assert {number for numbers in seen.values() for number in numbers} == {0, 1}
    assert not pair[0].under_way and not pair[1].under_way


def test_a_deadline_counts_the_devices_seconds_and_not_the_waiting():
    """Six runs that share the device would all be past their limit by the clock on the wall."""
    done = []

    def work(name: int):
        for _ in range(4):
            time.sleep(0.2)
            yield name
        done.append(name)

    threads = [threading.Thread(target=lambda n=n: list(stepped(events.event(work, 3)(n)))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(6))


def test_what_needs_no_device_does_not_ask_for_one():
    first, holder = device.devices()[0], Work(visitor="holder")
    first.ask(holder).result(timeout=10)
    try:
        assert asyncio.run(events.light(lambda: "at once")()) == "at once"
        assert list(stepped(events.event(lambda: "a download", computes=False)()))[1:] == ["a download"]
    finally:
        first.give_back(holder)
        first.end(holder, done=False)


def test_steps_that_come_faster_than_a_page_can_draw_reach_it_together(monkeypatch):
    """Each answer costs the page some 30 ms: one that gets them faster never comes to the click on Stop."""
    monkeypatch.setattr(events, "OFTEN", 0.25)

    def quick():
        for n in range(200):
            time.sleep(0.005)
            yield {"step": n, "picture": n - n % 3} if n % 3 == 0 else {"step": n}

    begun = time.monotonic()
    told = [answer for answer in stepped(events.event(quick)()) if "step" in answer]
    assert len(told) <= 2 + (time.monotonic() - begun) / events.OFTEN
    assert told[0] == {"step": 0, "picture": 0} and told[-1] == {"step": 199, "picture": 198}
    assert all(answer["picture"] == answer["step"] - answer["step"] % 3 for answer in told)


def test_what_is_said_before_a_long_step_is_not_kept_back(monkeypatch):
    monkeypatch.setattr(events, "OFTEN", 0.25)

    def slow():
        yield {"status": "begun"}
        yield {"status": "the long step"}
        time.sleep(4 * events.OFTEN)
        yield {"status": "done"}

    at = {answer.get("status"): time.monotonic() for answer in stepped(events.event(slow)())}
    assert at["done"] - at["the long step"] > 2 * events.OFTEN


@pytest.mark.parametrize("tabs", [("a", "a"), ("a", "b")])
def test_what_a_visitor_asks_of_one_tab_is_done_in_the_order_of_asking(tabs):
    """So that the later answer stays; what goes on in another tab goes on beside it."""
    order: list[str] = []

    async def ask(name: str, tab: str) -> None:
        def work() -> Iterator[None]:
            for _ in range(4):
                order.append(name)
                time.sleep(0.1)
                yield

        work.tab = tab  # type: ignore[attr-defined]  # as a tab marks its handlers
        async for _ in events.event(work)():
            pass

    async def both() -> None:
        await asyncio.gather(ask("first", tabs[0]), ask("then", tabs[1]))

    asyncio.run(both())
    assert (order == ["first"] * 4 + ["then"] * 4) == (tabs == ("a", "a")), order


def test_whoever_leaves_while_an_earlier_request_runs_keeps_nobody_waiting(monkeypatch):
    """The second of three is gone before its turn; the third goes on when the first is done."""
    gone, done = set(), []
    name_of = contextvars.ContextVar[str]("name")
    monkeypatch.setattr(events, "is_awaited", lambda: name_of.get() not in gone)

    async def ask(name: str) -> None:
        name_of.set(name)

        def work() -> Iterator[None]:
            for _ in range(3):
                time.sleep(0.3)
                gone.add("second")
                yield
            done.append(name)

        work.tab = "a"  # type: ignore[attr-defined]
        async for _ in events.event(work)():
            pass

    async def all_three() -> None:
        await asyncio.gather(*(asyncio.create_task(ask(name)) for name in ("first", "second", "third")))

    asyncio.run(asyncio.wait_for(all_three(), 60))
    assert done == ["first", "third"]


# ---------------------------------------------------------------------------------------------------- on a whole page


@pytest.fixture(scope="module")
def page():
    """A long run in steps of .2 seconds and short work of .1, served as the app is."""
    from demos.ui.serving import Page, launch_settings

    @device.on_device
    def computed(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def draw(count: float) -> Iterator[int]:
        for n in range(int(count)):
            computed(0.2)
            yield n

    def short() -> float:
        return computed(0.1)

    with Page() as page:
        count, shown, button = gr.Number(40), gr.Number(), gr.Button()
        button.click(events.event(draw), count, shown, **events.COMPUTE)
        button.click(events.event(short), None, shown, **events.COMPUTE)
    page.queue(max_size=128, default_concurrency_limit=None, api_open=False)
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **launch_settings(page))
    yield page, url
    page.close()


def drawn(page, url: str, count: int, found: list) -> threading.Thread:
    """A visitor who draws; what he was told is added to `found` when he is done, with the seconds it took."""

    def draw() -> None:
        visitor, start = Visitor(page, url), time.monotonic()
        visitor.ask(function_of(page, "draw"), count=count)
        last, said = visitor.answer()
        found.append((time.monotonic() - start, last["success"], [m["log"] for m in said if m["msg"] == "log"]))

    thread = threading.Thread(target=draw)
    thread.start()
    return thread


def test_short_work_of_newcomers_beside_three_long_runs(page):
    """Its p95 is below two seconds, and each run has its share."""
    alone: list = []
    drawn(*page, 20, alone).join()
    together: list = []
    threads, waits = [drawn(*page, 20, together) for _ in range(3)], []
    time.sleep(2)
    while any(thread.is_alive() for thread in threads):
        newcomer, start = Visitor(*page), time.monotonic()
        newcomer.ask(function_of(page[0], "short"))
        last, _ = newcomer.answer()
        assert last["success"]
        waits.append(time.monotonic() - start)
    assert len(waits) > 5 and sorted(waits)[round(0.95 * (len(waits) - 1))] < 2, waits
    for seconds, success, _ in together:
        assert success and seconds < 1.3 * (3 * alone[0][0] + len(waits) * 0.1), (seconds, alone, len(waits))


def test_whoever_waits_is_told_so_in_words(page, monkeypatch):
    monkeypatch.setattr(events, "TOLD_AFTER", 0.3)
    found: list = []
    threads = [drawn(*page, 8, found) for _ in range(5)]
    for thread in threads:
        thread.join()
    told = [text for _, _, texts in found for text in texts]
    assert any(text.startswith("The computer is shared: you are number ") for text in told), found
    assert any("Your result should be there in about " in text for text in told), "one has ended before"
