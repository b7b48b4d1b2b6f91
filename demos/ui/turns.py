"""Whose step is next on a device that visitors share.

Work comes in steps, and a device is given for one step at a time. Between two steps it goes

1. to work that has had it for less than `SHORT` seconds: what is done within a second waits for one step of somebody
   else's, never for a run;
2. to the runs that take longer.

In both, the next is the visitor who has had the device for the shortest time since he came, so that all have equal
shares of its time, however much each has asked for and however long the steps are (fair queuing). Nobody starves: where
short work has had the device for `PATIENCE` seconds while a run waited, the run has the next step. Whoever waits holds
no thread.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

SHORT = 1.0  # seconds of the device
PATIENCE = 2.0  # seconds of it that short work may have in a row while a run waits


@dataclass(eq=False, kw_only=True)
class Work:
    """Something that needs a device, in one step or in many."""

    visitor: str
    kind: str = ""  # works of one kind take about as long
    used: float = 0.0  # seconds of the device so far


class Device:
    """One device, and who waits for it. May be used from every thread."""

    def __init__(self, number: int = 0):
        self.number = number
        self.under_way: set[Work] = set()  # between their first step and their end
        self.usual: dict[str, float] = {}  # kind -> seconds of the device, of the last works that ended
        self.lock = threading.Lock()
        self._lanes: tuple[dict[str, deque], ...] = ({}, {})  # short, long: by visitor, in the order of asking
        self._had: dict[str, float] = {}  # visitor -> seconds of the device; newcomers begin with the least of them
        self._holder: Work | None = None
        self._begun = self._passed_over = 0.0

    def ask(self, work: Work) -> "Future[None]":
        """Done when it is this work's turn. Cancel it, or call `give_back` after the step."""
        turn: Future[None] = Future()
        with self.lock:
            self._had.setdefault(work.visitor, min(self._had.values(), default=0.0))
            self.under_way.add(work)
            self._lanes[work.used >= SHORT].setdefault(work.visitor, deque()).append((work, turn))
            if self._holder is None:
                self._next()
        return turn

    def give_back(self, work: Work) -> None:
        with self.lock:
            assert self._holder is work, "only who has the device can give it back"
            seconds = time.monotonic() - self._begun
            short, waiting = work.used < SHORT, bool(self._lanes[1])
            self._passed_over = self._passed_over + seconds if short and waiting else 0.0
            work.used += seconds
            self._had[work.visitor] += seconds
            self._next()

    def end(self, work: Work, done: bool) -> None:
        """There will be no more steps; `done`: because it has come to its end."""
        with self.lock:
            self.under_way.discard(work)
            if all(each.visitor != work.visitor for each in self.under_way):
                self._had.pop(work.visitor, None)
            if done:
                self.usual[work.kind] = (self.usual.get(work.kind, work.used) + work.used) / 2

    def _next(self) -> None:
        short, long = self._lanes
        for lane in (long, short) if self._passed_over > PATIENCE else (short, long):
            while lane:
                visitor = min(lane, key=self._spent)
                asked = lane.pop(visitor)
                work, turn = asked.popleft()
                if asked:
                    lane[visitor] = asked  # behind all others
                if turn.set_running_or_notify_cancel():
                    self._holder, self._begun = work, time.monotonic()
                    turn.set_result(None)
                    return
        self._holder = None

    def _spent(self, visitor: str) -> float:
        return self._had.get(visitor, 0.0)  # none: gone, and still in the lane

    def place_of(self, work: Work) -> tuple[int, int]:
        """Which one in turn it is, and of how many."""
        with self.lock:
            waiting = [
                each for lane in self._lanes for visitor in sorted(lane, key=self._spent) for each, _ in lane[visitor]
            ]
            place = waiting.index(work) + 1 if work in waiting else 0
            return place + (self._holder is not None), len(waiting) + (self._holder is not None)

    def seconds_left(self, work: Work) -> float | None:
        """Until this work is done, if all others go on in turn; None where no work of its kind has ended yet."""
        with self.lock:
            if work.kind not in self.usual:
                return None
            own = max(self.usual[work.kind] - work.used, 0.0)
            others = [self.usual.get(each.kind, own + each.used) - each.used for each in self.under_way - {work}]
            return own + sum(min(max(other, 0.0), own) for other in others)


async def turn_of(work: Work, device: Device, look: Callable[[], None], every: float = 0.25) -> None:
    """Wait for this work's turn; `look` is called on the way, and ends the waiting by raising."""
    turn = device.ask(work)
    waiting = asyncio.wrap_future(turn)
    try:
        while not (await asyncio.wait({waiting}, timeout=every))[0]:
            look()
    except BaseException:
        if not turn.cancel():  # it came at this very moment
            device.give_back(work)
        raise
