"""Handlers as Gradio calls them: friendly messages, deadlines, and a turn at the device for every step."""

import asyncio
import contextlib
import functools
import importlib
import inspect
import logging
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
from anyio import to_thread
from gradio.context import LocalContext

from demos.ui.device import MAY_WAIT, Busy, NeedsDevice, computing_on, is_awaited, least_busy
from demos.ui.text import explained, say
from demos.ui.turns import Device, Work, turn_of
from pipelines.errors import UserError

log = logging.getLogger("patchlight")

COMPUTE: dict[str, Any] = {"concurrency_id": "compute", "concurrency_limit": None}  # whose turn it is, turns.py says
WAIT_SECONDS = 120  # for one turn
TOLD_AFTER, TOLD_AGAIN = 2.0, 15.0  # seconds of waiting
OFTEN = 0.25  # seconds between two answers of one run: a page that is told more than it can draw hears no click
_END = object()
LINES: "weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock]" = weakref.WeakValueDictionary()


class lazily:
    """A module that is imported when first used: nothing heavy happens before the page is up."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self._name), attribute)


def _friendly(error: Exception) -> gr.Error:
    """UserError is meant for the visitor; anything else is ours to mend: logged whole, shown without its insides."""
    queued = _queued()
    if queued is not None:
        queued.outcome = "refused" if isinstance(error, gr.Error | UserError) else "failed"
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, UserError):
        return gr.Error(explained(error), print_exception=False)
    log.error("unexpected error in an event", exc_info=error)
    return gr.Error(
        say("Something went wrong on our side; it has been logged. Your picture and settings are still here."),
        print_exception=False,
    )


class Left(Exception):
    """Nobody is there any more to hear the answer."""


class Turns:
    """The turns of one request at a device, which is the same for all of its steps.

    What a visitor asks of one tab is done in the order of asking: whoever asks again wants the later answer to stay.
    """

    def __init__(self, kind: str, tab: str | None = None):
        event = _queued()
        request = LocalContext.request.get(None)
        visitor = event.visitor if event else getattr(request, "session_hash", None) or "nobody"
        self.work = Work(visitor=visitor, kind=kind)
        self.device: Device | None = None
        self.told_at = 0.0
        self.before = LINES.setdefault((visitor, tab), asyncio.Lock()) if tab else None
        self.is_first = False  # of those of this visitor and tab that are not done

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Device]:
        """Wait for the next turn without a thread, and have it until the block is left.

        Raises:
            Left: where the visitor has gone meanwhile.
            Busy: after WAIT_SECONDS.
        """
        if self.before is not None and not self.is_first:
            await self._be_first(self.before)
        device = self.device = self.device or await in_thread(least_busy)
        self.since = time.monotonic()
        await turn_of(self.work, device, self._look)
        try:
            yield device
        finally:
            device.give_back(self.work)

    async def _be_first(self, line: asyncio.Lock) -> None:
        waiting = asyncio.ensure_future(line.acquire())
        try:
            while not (await asyncio.wait({waiting}, timeout=0.25))[0]:
                if not is_awaited():
                    raise Left
        except BaseException:
            if not waiting.cancel():  # it has just become the first
                line.release()
            raise
        self.is_first = True

    def _look(self) -> None:
        """While waiting for a turn."""
        now = time.monotonic()
        if not is_awaited():
            raise Left
        if now - self.since > WAIT_SECONDS:
            raise Busy
        if now - max(self.told_at + TOLD_AGAIN - TOLD_AFTER, self.since) > TOLD_AFTER:
            self.told_at = now
            gr.Info(self._told(), duration=TOLD_AGAIN)

    def _told(self) -> str:
        assert self.device is not None, "it waits for one"
        place, count = self.device.place_of(self.work)
        told = say("The computer is shared: you are number {place} of {count} in turn.", place=place, count=count)
        seconds = self.device.seconds_left(self.work)
        if seconds is None:
            return told
        return f"{told} {say('Your result should be there in about {seconds} s.', seconds=max(1, round(seconds)))}"

    def end(self, done: bool) -> None:
        if self.before is not None and self.is_first:
            self.before.release()
        if self.device is not None:
            self.device.end(self.work, done)


def _queued() -> Any:
    """The event of Gradio's queue that this request is; None for one that is called without a queue."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    return blocks._queue.event_ids_to_events.get(event_id) if blocks and event_id else None


async def unbroken(step: Coroutine) -> Any:
    """What is begun in a thread goes on to its end, so whoever is cancelled waits for it."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def in_thread(function: Callable, *arguments: Any) -> Any:
    blocks = LocalContext.blocks.get(None)
    return await to_thread.run_sync(function, *arguments, limiter=blocks.limiter if blocks else None)


class Pace:
    """Answers of one run, those joined that come within OFTEN: what the last one says of a part holds."""

    def __init__(self) -> None:
        self.untold: Any = None
        self.at = -float("inf")  # when the page was told last

    def is_due(self, answer: Any, last: bool) -> bool:
        """Take an answer; whether the page is to be told now."""
        nothing = answer is None or (isinstance(answer, dict) and "__type__" in answer)  # gr.skip()
        if isinstance(self.untold, dict) and isinstance(answer, dict) and not nothing:
            answer = {**self.untold, **answer}
        self.untold = self.untold if nothing else answer
        return self.untold is not None and (last or time.monotonic() - self.at >= OFTEN)

    async def passes_before(self, coming: asyncio.Future) -> bool:
        """Whether something is to be told before the next answer comes."""
        if self.untold is None:
            return False
        return not (await asyncio.wait({coming}, timeout=max(self.at + OFTEN - time.monotonic(), 0)))[0]

    def told(self) -> Any:
        untold, self.untold, self.at = self.untold, None, time.monotonic()
        return untold


def event(function: Callable, seconds: float = 120, computes: bool = True) -> Callable:
    """Wrap a handler that takes its time: friendly messages, a turn at the device for each step, a deadline.

    A plain handler is one step. The deadline is in seconds of the device, looked at after every step. Steps that come
    faster than OFTEN reach the page together.

    Args:
        computes: False for one that needs no device.
    """
    stepwise = inspect.isgeneratorfunction(function)

    def steps(arguments: tuple, keywords: dict) -> Iterator:
        yield from function(*arguments, **keywords) if stepwise else [function(*arguments, **keywords)]

    async def next_of(made: Iterator, turns: Turns) -> Any:
        if not computes:
            return await in_thread(next, made, _END)
        async with turns.next() as device:
            return await unbroken(in_thread(_on, device, next, made, _END))

    @functools.wraps(function)
    async def run(*arguments, **keywords):
        turns = Turns(function.__name__, getattr(function, "tab", None) if computes else None)
        made, done, coming = steps(arguments, keywords), False, None
        queued, start = _queued(), time.monotonic()
        pace = Pace()
        try:
            if queued is not None:
                queued.ended = asyncio.Event()
            yield gr.skip()  # the page shows that it has begun
            while not done:
                coming = asyncio.ensure_future(next_of(made, turns))
                if await pace.passes_before(coming):
                    yield pace.told()
                step = await coming
                done = step is _END
                if not done and not is_awaited():
                    raise Left
                if pace.is_due(None if done else step, last=done):
                    yield pace.told()
                if not done and (turns.work.used if computes else time.monotonic() - start) > seconds:
                    raise UserError(
                        say("Stopped after {seconds} seconds, the limit for one request.", seconds=round(seconds))
                    )
        except Left:
            return
        except Exception as error:
            raise _friendly(error) from None
        finally:
            if coming is not None:  # closed while it waits or computes: the step is its last
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            turns.end(done)
            await in_thread(_close, made)
            if queued is not None:
                queued.device_seconds = turns.work.used
                queued.ended.set()

    run.seconds = seconds  # type: ignore[attr-defined]  # for the table of limits
    return run


def light(function: Callable) -> Callable:
    """Wrap a plain handler that needs no model, or only what is cached: friendly messages, and no turn.

    Where it does need the device, it is called again when its turn has come.
    """

    @functools.wraps(function)
    async def run(*arguments, **keywords):
        call = functools.partial(function, *arguments, **keywords)
        try:
            try:
                return await in_thread(_without_device, call)
            except NeedsDevice:
                turns, done = Turns(function.__name__), False
                try:
                    async with turns.next() as device:
                        answer = await in_thread(_on, device, call)
                    done = True
                    return answer
                finally:
                    turns.end(done)
                    queued = _queued()
                    if queued is not None:
                        queued.device_seconds = turns.work.used
        except Left:
            return gr.skip()
        except Exception as error:
            raise _friendly(error) from None

    return run


def _close(made: Any) -> None:
    with contextlib.suppress(ValueError):  # of a step that still computes, when the server ends
        made.close()


def _on(device: Device, function: Callable, *arguments: Any) -> Any:
    with computing_on(device):
        return function(*arguments)


def _without_device(function: Callable) -> Any:
    MAY_WAIT.set(False)  # in this call's own context
    return function()
