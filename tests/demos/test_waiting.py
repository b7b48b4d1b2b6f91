"""The device belongs to those who wait for it: whoever leaves, or never listens, frees it within one step."""

import asyncio
import inspect
import json
import time
import uuid
from collections.abc import Iterator

import gradio as gr
import httpx
import pytest
from anyio import to_thread
from gradio.utils import get_upload_folder
from gradio_client import Client

from demos.ui import device, events, turns, waiting
from tests.visitor import PATIENCE


@pytest.fixture(scope="module")
def served():
    """A page of its own, so that its queue can be looked at, and its address."""
    import app
    from demos.ui.serving import launch_settings

    page = app.build()
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **launch_settings(page))
    yield page, url + "gradio_api/"
    page.close()


@pytest.fixture
def hasty(monkeypatch, request):
    """Patience for a fifth of a second, except for those who are about to listen on a busy computer."""
    way = request.node.callspec.params["way"] if hasattr(request.node, "callspec") else None
    if way in (None, "never listens"):
        monkeypatch.setattr(waiting, "PATIENCE", 0.2)
        monkeypatch.setattr(waiting, "TICK", 0.05)


def slot(page) -> list:
    """What runs in the compute slot or waits for it."""
    return [event for event in page._queue.events() if event.concurrency_id == "compute"]


def until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def post(url: str, page, fn, session: str, user: str = "app", **changed) -> str:
    """Send an event what stands on the page, or what `changed` says of its parameters; its id.

    `user`: "app" as a page says, "api" as a program does.
    """
    state = {component["id"]: component["props"].get("value") for component in page.config["components"]}
    data = [state[block._id] for block in fn.inputs]
    names = [name for name in inspect.signature(fn.fn).parameters]
    for name, value in changed.items():
        data[names.index(name)] = value
    body = {"fn_index": fn._id, "data": data, "session_hash": session}
    answer = httpx.post(url + "queue/join", json=body, headers={"x-gradio-user": user}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["event_id"]


def listening(url: str, session: str):
    return httpx.stream("GET", url + "queue/data", params={"session_hash": session}, timeout=60)


def compute_events(page) -> list:
    return [fn for fn in page.fns.values() if fn.concurrency_id == "compute"]


def computing(page) -> list:
    """Every event of the compute slot that yields steps; the others are one step."""
    return [fn for fn in compute_events(page) if inspect.isgeneratorfunction(inspect.unwrap(fn.fn))]


class Endless:
    """A handler's stand-in whose steps never come to an end; counts them, and knows when it was closed.

    `at_once` are the runs that have begun and were not closed; `most` are the steps that were computed at one time.
    """

    def __init__(self):
        self.steps, self.closed, self.at_once, self.computing, self.most = 0, 0, 0, 0, 0

    def __call__(self, *_):
        self.at_once += 1
        try:
            while True:
                self.computing += 1
                self.most = max(self.most, self.computing)
                time.sleep(0.05)
                self.computing -= 1
                self.steps += 1
                yield
        finally:
            self.at_once -= 1
            self.closed += 1


@pytest.fixture
def endless(served, monkeypatch):
    """Every event of the compute slot goes on for ever, in steps, as its wrapper lets it."""
    page, _ = served
    work = Endless()
    for fn in page.fns.values():
        if fn.concurrency_id == "compute":
            count = len(fn.outputs)

            def steps(*_, count=count):
                for _ in device.on_device(lambda: (yield from work()))():
                    yield (gr.skip(),) * count if count > 1 else gr.skip()

            monkeypatch.setattr(fn, "fn", events.event(steps))
    return work


@pytest.mark.parametrize("way", ["breaks the stream", "cancels"])
def test_whatever_runs_ends_within_one_step_of_the_leaving(served, endless, hasty, way):
    """Every event that may compute, one after another."""
    page, url = served
    for fn in compute_events(page):
        session, before = uuid.uuid4().hex, endless.closed
        event = post(url, page, fn, session)
        with listening(url, session) as stream:
            lines = stream.iter_lines()  # the stream is closed with it
            next(line for line in lines if "process_generating" in line)
            until(lambda: endless.at_once)
            if way == "cancels":
                body = {"session_hash": session, "fn_index": fn._id, "event_id": event}
                httpx.post(url + "cancel", json=body, timeout=30)
                assert endless.closed > before, "the cancel answers when the slot is free"
        left = endless.steps
        until(lambda before=before: endless.closed > before)
        assert endless.steps <= left + 2, "the step it was in, and one that had begun"
        until(lambda: not slot(page))
    assert endless.most == 1


def test_whatever_runs_ends_when_nobody_ever_listens(served, endless, hasty):
    """Every event that may compute, as many at once as the queue takes without making room."""
    page, url = served
    fns, at_once = compute_events(page), page._queue.max_size - 1
    for first in range(0, len(fns), at_once):
        before, group = endless.closed, fns[first : first + at_once]
        for fn in group:
            post(url, page, fn, uuid.uuid4().hex)
        until(lambda: not slot(page))
        assert before < endless.closed <= before + len(group), "some began, and each of them was closed"
    assert endless.most == 1 and not endless.at_once


@pytest.mark.parametrize("way", ["never listens", "breaks the stream"])
def test_real_work_that_is_abandoned_leaves_the_slot(served, hasty, way):
    """With the models themselves, every handler that works in steps: others are one step."""
    page, url = served
    for fn in computing(page):
        session = uuid.uuid4().hex
        post(url, page, fn, session)
        if way == "breaks the stream":
            with listening(url, session) as stream:
                next(line for line in stream.iter_lines() if "process_generating" in line)
        until(lambda: not slot(page), 60)


def test_nobody_waits_behind_requests_that_nobody_reads(served, endless):
    page, url = served
    fn = next(fn for fn in page.fns.values() if fn.api_name == "diffusion")
    for _ in range(5):
        httpx.post(url + "call/diffusion", json={"data": [None] * len(fn.inputs)}, timeout=30)
    session = uuid.uuid4().hex
    post(url, page, fn, session)
    with listening(url, session) as stream:
        lines = stream.iter_lines()  # the stream is closed with it
        for _ in range(3):
            next(line for line in lines if "process_generating" in line)
        until(lambda: endless.closed == 5, 2 * waiting.PATIENCE)
    until(lambda: not slot(page))


def test_who_comes_late_is_told_why_there_is_no_answer(served, endless, hasty):
    page, url = served
    fn = next(fn for fn in page.fns.values() if fn.api_name == "diffusion")
    event = httpx.post(url + "call/diffusion", json={"data": [None] * len(fn.inputs)}, timeout=30).json()["event_id"]
    until(lambda: not slot(page))
    assert "Nobody was listening" in httpx.get(f"{url}call/diffusion/{event}", timeout=30).text


def test_an_answer_that_was_made_in_time_is_kept(served, scene_file):
    _, url = served
    with open(scene_file, "rb") as file:
        path = httpx.post(url + "upload", files={"files": file}, timeout=PATIENCE).json()[0]
    assert path.startswith(get_upload_folder())
    data = [{"path": path}, "", 0.5, "attention", "mean", "mean", 42, "storybook-detailclip"]
    event = httpx.post(url + "call/token_removal", json={"data": data}, timeout=30).json()["event_id"]
    time.sleep(3)
    assert "event: complete" in httpx.get(f"{url}call/token_removal/{event}", timeout=60).text


@pytest.mark.parametrize("one_page", [True, False])
def test_one_visitor_holds_a_small_share_of_the_queue(served, endless, one_page):
    page, url = served
    fn = next(fn for fn in page.fns.values() if fn.api_name == "diffusion")
    session, refused = uuid.uuid4().hex, 0
    for _ in range(waiting.SHARE + 8):
        body = {"data": [None] * len(fn.inputs)} | ({"session_hash": session} if one_page else {})
        answer = httpx.post(url + "call/diffusion", json=body, timeout=30)
        refused += answer.status_code == 400 and "requests under way" in answer.text
    assert refused == 8 and len(slot(page)) == waiting.SHARE <= page._queue.max_size / 10
    post(url, page, fn, uuid.uuid4().hex)  # another visitor is let in
    for event in slot(page):
        page._queue.end(event, {"error": ""})
    until(lambda: not slot(page))


def test_a_flood_of_made_up_visitors_makes_room(served, endless):
    page, url = served
    fn = next(fn for fn in page.fns.values() if fn.api_name == "diffusion")
    for _ in range(page._queue.max_size + 6):
        post(url, page, fn, uuid.uuid4().hex)
    assert len(slot(page)) <= page._queue.max_size + 1
    for event in slot(page):
        page._queue.end(event, {"error": ""})
    until(lambda: not slot(page))


def test_sliders_go_before_a_run_and_take_no_thread_while_they_wait(served, endless):
    """More of them than there are threads."""
    page, url = served
    fn = next(fn for fn in page.fns.values() if fn.api_name == "diffusion")
    session, moved = uuid.uuid4().hex, []
    post(url, page, fn, session)

    def slider():
        with device.held():
            moved.append(endless.steps)

    async def many():
        holder, (first,) = turns.Work(visitor="somebody"), device.devices()
        await turns.turn_of(holder, first, lambda: None)
        waits = [asyncio.create_task(events.light(slider)()) for _ in range(40)]
        await asyncio.sleep(1)
        assert not moved and to_thread.current_default_thread_limiter().borrowed_tokens == 0
        first.give_back(holder)
        first.end(holder, done=True)
        await asyncio.wait_for(asyncio.gather(*waits), 30)

    with listening(url, session) as stream:
        lines = stream.iter_lines()  # the stream is closed with it
        next(line for line in lines if "process_generating" in line)
        until(lambda: endless.steps > 25)  # it is a long run now
        asyncio.run(many())
        assert max(moved) - min(moved) <= 2, "all of them between two steps"
        before = endless.steps
        until(lambda: endless.steps > before + 3)
    until(lambda: not slot(page))


def test_stop_is_the_last_word_and_no_error(served, endless):
    """The message of the button comes after the last step, and what the cancel says is no error."""
    page, url = served
    ran = next(fn for fn in page.fns.values() if fn.api_name == "diffusion")
    button = next(fn.targets for fn in page.fns.values() if ran._id in fn.cancels)
    stop = next(fn for fn in page.fns.values() if fn.api_name.startswith("stopped") and fn.targets == button)
    for _ in range(5):
        session = uuid.uuid4().hex
        run = post(url, page, ran, session)
        with listening(url, session) as stream:
            lines, said = stream.iter_lines(), []
            next(line for line in lines if "process_generating" in line)
            told = post(url, page, stop, session)
            body = {"session_hash": session, "fn_index": ran._id, "event_id": run}
            assert httpx.post(url + "cancel", json=body, timeout=30).status_code == 200
            for line in filter(None, lines):
                said.append(json.loads(line.removeprefix("data:")))
                if said[-1]["msg"] == "close_stream":
                    break
        ends = [m["output"] for m in said if m["msg"] == "process_completed" and m["event_id"] == run]
        assert ends == [waiting.QUIETLY]
        end = next(i for i, m in enumerate(said) if m["msg"] == "process_completed" and m["event_id"] == told)
        assert said[end]["output"]["data"][0].startswith("Stopped.")
        assert not [m for m in said[end:] if m.get("event_id") == run and m["msg"] == "process_generating"]
        until(lambda: not slot(page))


def test_a_cancelled_job_of_a_program_ends(served, endless):
    page, url = served
    client = Client(url.removesuffix("gradio_api/"), verbose=False, httpx_kwargs={"timeout": PATIENCE})
    job = client.submit("a cat", image=None, api_name="/diffusion")
    until(lambda: endless.at_once)
    job.cancel()
    until(lambda: not slot(page))
    until(job.done)


def quick_event(page):
    """One that needs no device and is answered at once."""
    return next(fn for fn in page.fns.values() if fn.name == "find_subjects")


def messages(lines) -> Iterator[dict]:
    return (json.loads(line[6:]) for line in lines if line.startswith("data: "))


def test_a_page_that_asks_again_as_it_is_answered_is_heard(served):
    """The page takes its stream for open until it has read that it is not, so it must not end with an answer."""
    page, url = served
    session, fn = uuid.uuid4().hex, quick_event(page)
    asked = [post(url, page, fn, session)]
    answered = []
    with listening(url, session) as stream:
        for message in messages(stream.iter_lines()):
            assert message["msg"] != "close_stream" or len(answered) == 5, "an answer went to a stream that had ended"
            if message["msg"] == "process_completed" and message["event_id"] in asked:
                answered.append(message["event_id"])
                if len(asked) < 5:
                    asked.append(post(url, page, fn, session))
            if message["msg"] == "close_stream":
                break
    assert answered == asked
    assert not page._queue.pending_event_ids_session[session] and session not in page._queue.resting


def test_a_page_whose_stream_ends_is_told_of_new_events_when_it_knows(served, monkeypatch):
    page, url = served
    monkeypatch.setattr(waiting, "LINGER", 0.1)
    monkeypatch.setattr(waiting, "HEARD", 1.0)
    session, fn = uuid.uuid4().hex, quick_event(page)
    post(url, page, fn, session)
    with listening(url, session) as stream:
        assert [message["msg"] for message in messages(stream.iter_lines())][-1] == "close_stream"
    ended = time.monotonic()
    post(url, page, fn, session)
    assert time.monotonic() - ended > 0.7
    with listening(url, session) as stream:
        assert any(message["msg"] == "process_completed" for message in messages(stream.iter_lines()))


def test_a_programs_stream_ends_with_its_last_answer(served, monkeypatch):
    page, url = served
    monkeypatch.setattr(waiting, "LINGER", 60)
    session = uuid.uuid4().hex
    post(url, page, quick_event(page), session, user="api")
    with listening(url, session) as stream:
        assert [message["msg"] for message in messages(stream.iter_lines())][-1] == "close_stream"


def test_what_is_kept_of_a_page_that_has_gone_is_dropped(served, monkeypatch):
    page, url = served
    monkeypatch.setattr(waiting, "FORGET", 0.5)
    session, line = uuid.uuid4().hex, page._queue
    post(url, page, quick_event(page), session)
    assert session in line.pending_messages_per_session
    kept = [line.resting, line.pending_event_ids_session, line.pending_messages_per_session]
    until(lambda: all(session not in each for each in kept))
