"""The one device of the computer, what was computed on it, and the waiting for it."""

import contextvars
import hashlib
import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradio.context import LocalContext
from PIL import Image

from pipelines.errors import UserError

DEVICE = threading.Lock()  # one at a time: a slider whose picture is not `Remembered` computes beside the queue
MAY_WAIT = contextvars.ContextVar("may wait in this thread", default=True)
WAIT_SECONDS = 120


class Busy(UserError):
    """The device, or somebody's turn, is not to be had, or not without waiting."""

    def __init__(self):
        super().__init__("The computer is busy with other visitors. Please try again in a minute.")


def is_awaited() -> bool:
    """Whether the visitor whose event this thread works for is still there."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    waiting = blocks._queue.event_ids_to_events.get(event_id) if blocks and event_id else None
    return waiting is None or waiting.alive


@contextmanager
def held(lock: threading.Lock) -> Iterator[None]:
    """Hold what only one may have at once until the block is left."""
    if not lock.acquire(blocking=False):
        if not MAY_WAIT.get():
            raise Busy
        for _ in range(WAIT_SECONDS):
            if lock.acquire(timeout=1):
                break
            if not is_awaited():
                raise Busy
        else:
            raise Busy
    try:
        yield
    finally:
        lock.release()


def _lent(function: Callable, seconds: int) -> Callable:
    """On a borrowed GPU where the `spaces` package lends one."""
    if importlib.util.find_spec("spaces"):
        import spaces

        return spaces.GPU(duration=seconds)(function)
    return function


def heavy(function: Callable, seconds: int = 60) -> Callable:
    """Run `function` alone on the device, on a borrowed GPU where there is one."""
    function = _lent(function, seconds)

    def run(*arguments, **keywords):
        with held(DEVICE):
            return function(*arguments, **keywords)

    return run


def heavy_steps(function: Callable, seconds: int = 120) -> Callable:
    """`heavy` for a generator: alone on the device until it ends or is closed."""
    function = _lent(function, seconds)

    def run(*arguments, **keywords):
        with held(DEVICE):
            yield from function(*arguments, **keywords)

    return run


class Remembered:
    """A function of (picture, ...) whose last results are kept, by content; equal requests at once run once.

    This is why a slider costs nothing: it asks again for what was encoded, and gets it back. A result takes up to 4 MB;
    the size is for a class of thirty with two pictures each.
    """

    def __init__(self, function: Callable, size: int = 64):
        self.function, self.size = function, size
        self.results: OrderedDict[tuple, object] = OrderedDict()
        self.lock, self.running = threading.Lock(), {}

    def __call__(self, picture: Image.Image, *arguments: object):
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        key = (digest, picture.size, *arguments)
        with self.lock:
            if key in self.results:
                self.results.move_to_end(key)
                return self.results[key]
            turn = self.running.setdefault(key, threading.Lock())
        with held(turn):
            with self.lock:
                if key in self.results:
                    return self.results[key]
            result = self.function(picture, *arguments)
            with self.lock:
                self.results[key] = result
                while len(self.results) > self.size:
                    self.results.popitem(last=False)
                self.running.pop(key, None)
            return result
