"""Who may ask, how much, and for how long: Gradio's queue, in which nothing goes on that nobody will read.

What is asked for begins at once; whose step is next on the device, `turns` says. Gradio ends a run when its answer
stream breaks. But it does not miss a page that posts and is gone before it opens that stream, or a program that never
fetches its answer; and a cancel is answered while its thread still computes. It also ends a page's stream with the last
answer, and a page that asks again at that moment takes the ended stream for an open one and waits for ever.
"""

import asyncio
import collections
import contextlib
import time
import weakref
from collections.abc import Iterator
from typing import cast

from gradio import queueing, routes
from gradio.context import LocalContext
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import run_coro_in_background
from starlette.requests import Request
from starlette.types import Scope

from demos.ui.limits import SHARE
from demos.ui.records import RECORDS, Outcome
from demos.ui.text import say

PATIENCE = 6.0  # seconds without a listener after which a request ends
HASTE = 2.0  # the same while somebody is there who listens to another; a busy browser needs a second
TICK = 0.25  # seconds between two looks; silence is counted in them, so that a server out of breath blames nobody
LINGER = 2.0  # seconds that a page's answer stream stays open when all is answered; a browser opens only six at a time
FORGET = 60.0  # seconds after which what a page has not fetched is dropped
HEARD = 0.3  # seconds after which a page knows that its stream has ended: until then it is not told of new events
REST = "rest"  # stands among the events that a page waits for, so that Gradio leaves the stream open
# An answer that refuses no input at all: to the page the event is over, with neither an error nor what follows success.
QUIETLY: dict = {"error": []}
CLOSING = "The server is being restarted. Please ask again in a minute."

_lines: "weakref.WeakSet[Line]" = weakref.WeakSet()


class Line(queueing.Queue):
    """Gradio's queue with a share for each visitor, in which runs that nobody listens to end between steps.

    A visitor is a page, or an address for those who come without one. `max_size` counts what waits and what runs.
    """

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.listeners: collections.Counter[str] = collections.Counter()  # open answer streams, by session or event
        self.runs: dict[asyncio.Task, list[queueing.Event]] = {}
        self.resting: dict[str, float] = {}  # page -> when it last asked or was answered, while its stream stays open
        self.ended: dict[str, float] = {}  # page -> when its stream was ended
        self.closing = False
        self.loop: asyncio.AbstractEventLoop | None = None
        _lines.add(self)

    def under_way(self) -> int:
        return sum(event.alive for event in self.events())

    def events(self) -> Iterator[queueing.Event]:
        """All that wait or run."""
        for waiting in self.event_queue_per_concurrency_id.values():
            yield from tuple(waiting.queue)
        for events in tuple(self.runs.values()):
            yield from events

    def is_awaited(self, event: queueing.Event) -> bool:
        return bool(self.listeners[event.session_hash] or self.listeners[event._id])

    def send_message(self, event, event_message):
        if event.session_hash in self.pending_messages_per_session:  # forgotten with a stream that broke
            if isinstance(event_message, ProcessCompletedMessage) and event.session_hash in self.resting:
                self._keep_open(event.session_hash)
            super().send_message(event, event_message)

    def _keep_open(self, page: str) -> None:
        self.resting[page] = time.monotonic()
        self.pending_event_ids_session.setdefault(page, set()).add(REST)

    def _end_streams(self) -> None:
        """Of the pages that have all their answers and were quiet for a while; and forget those that have gone."""
        now = time.monotonic()
        for page, since in tuple(self.resting.items()):
            messages = self.pending_messages_per_session.get(page)
            if not self.listeners[page] or messages is None:
                if now - since > FORGET:
                    del self.resting[page]
                    self.pending_event_ids_session.pop(page, None)
                    self.pending_messages_per_session.pop(page, None)
            elif now - since > LINGER and self.pending_event_ids_session.get(page) == {REST}:
                del self.resting[page]
                self.ended[page] = now
                messages.put_nowait(ProcessCompletedMessage(output={}, success=True, event_id=REST))
        for page, since in tuple(self.ended.items()):
            if now - since > HEARD:
                del self.ended[page]

    async def push(self, body, request, username):
        is_page = body.session_hash is not None and request.headers.get("x-gradio-user") == "app"
        if is_page:
            await asyncio.sleep(self.ended.get(body.session_hash, -HEARD) + HEARD - time.monotonic())
        if self.closing:
            LocalContext.request.set(request)
            return False, say(CLOSING), "error"
        visitor = body.session_hash or (request.client.host if request.client else "?")
        if sum(event.alive and event.visitor == visitor for event in self.events()) >= SHARE:
            LocalContext.request.set(request)
            told = say("You have {count} requests under way. Please wait for an answer first.", count=SHARE)
            return False, told, "error"
        if self.max_size is not None and self.under_way() >= self.max_size:
            self._make_room()
            if self.under_way() >= self.max_size:
                return False, f"{self.max_size} requests are under way.", "queue_full"
        success, told, state = await super().push(body, request, username)
        if success:
            self.event_ids_to_events[told].visitor = visitor
            if is_page:
                self._keep_open(body.session_hash)
        return success, told, state

    def _make_room(self) -> None:
        """The oldest one without a listener gives way to the newcomer."""
        unread = [event for event in self.events() if event.alive and not self.is_awaited(event)]
        if unread:
            self._end_unread(min(unread, key=lambda event: event.enqueue_time))

    async def process_events(self, events, *arguments):
        task = asyncio.current_task()
        self.runs[task] = events
        try:
            await super().process_events(events, *arguments)
        finally:
            for event in cast("list[Event]", events):  # closed by Python, not by Gradio, and therefore a little later
                if event.ended is not None:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(event.ended.wait(), PATIENCE)
                seconds = time.monotonic() - event.enqueue_time
                outcome: Outcome = event.outcome if event.alive else "left"
                RECORDS.add(event.fn.api_name or "", outcome, seconds, event.device_seconds)
            del self.runs[task]

    def start(self):
        self.loop = asyncio.get_running_loop()
        self.max_thread_count = self.max_size or 1  # tasks, not threads: who waits for a turn has none
        super().start()
        run_coro_in_background(self._watch)

    async def _watch(self) -> None:
        """End what nobody awaits, and the streams of pages that await nothing."""
        while not self.stopped:
            now = cast("list[Event]", list(self.events()))
            awaited = {event.concurrency_id for event in now if self.is_awaited(event)}
            for event in now:
                in_the_way = event.concurrency_id in awaited
                event.silence = 0 if self.is_awaited(event) else event.silence + TICK
                if event.alive and event.silence > min(PATIENCE, HASTE if in_the_way else PATIENCE):
                    self._end_unread(event)
            self._end_streams()
            await asyncio.sleep(TICK)

    def _end_unread(self, event: queueing.Event) -> None:
        LocalContext.request.set(event.request)  # type: ignore[arg-type]  # for the language; Starlette's will do
        self.end(event, {"error": say("Nobody was listening, so this request has ended. Please ask again.")})

    def end(self, event: queueing.Event, told: dict) -> None:
        """Take a waiting event out of the queue; a running one ends, and gives its slot back, after its present step.

        `told` is the last thing its listener hears.
        """
        self.send_message(event, ProcessCompletedMessage(output=told, success=False))
        event.alive = False
        self.pending_event_ids_session.get(event.session_hash, set()).discard(event._id)
        waiting = self.event_queue_per_concurrency_id[event.concurrency_id].queue
        if event in waiting:
            waiting.remove(event)
            self.event_ids_to_events.pop(event._id, None)

    async def stop(self, session: str, functions: set[int], wait: bool = False) -> None:
        """End what a visitor has under way of these functions; `wait` until the slot is free."""
        ours = [event for event in self.events() if event.session_hash == session and event.fn._id in functions]
        tasks = [task for task, events in self.runs.items() if any(event in ours for event in events)]
        for event in ours:
            if event.alive:
                self.end(event, QUIETLY)
        if wait:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def shut_down(self, seconds: float) -> None:
        """Nothing new begins; whoever waits or computes is told, and has so many seconds to hear it."""
        self.closing = True
        for event in list(self.events()):
            if event.alive:
                LocalContext.request.set(event.request)  # type: ignore[arg-type]  # for the language
                self.end(event, {"error": say(CLOSING)})
        await asyncio.sleep(seconds)

    def compute_analytics_summary(self, records):
        return {}  # nobody reads it, and Gradio makes a data frame of the last ten thousand requests at every one


class Event(queueing.Event):
    """With who it is for, and for how many seconds nobody has been there to hear the answer."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.visitor, self.silence = self.session_hash, 0.0
        self.outcome: Outcome = "answered"
        self.device_seconds = 0.0
        self.ended: asyncio.Event | None = None  # set when its handler is closed; None for one without steps


async def _cancel_tasks(task_ids: set[str]) -> list[str]:
    """For Gradio's own, which throws into the run and frees its slot at once."""
    for task_id in task_ids:
        session, _, function = task_id.rpartition("_")
        for line in _lines:
            await line.stop(session, {int(function)}, wait=True)
    return []


queueing.Queue, queueing.Event = Line, Event  # type: ignore[misc]  # Gradio makes its queue itself
routes.cancel_tasks = _cancel_tasks


def listener_of(scope: Scope) -> str | None:
    """The session or event whose answers a request asks for; None for any other request."""
    parts = scope["path"].rstrip("/").split("/")
    if scope["method"] != "GET":
        return None
    if parts[-2:] == ["queue", "data"]:
        return Request(scope).query_params.get("session_hash")
    return parts[-1] if "call" in parts[:-2] else None
