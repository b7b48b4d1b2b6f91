"""The one device of the computer, and the waiting for it."""

import contextvars
import functools
import importlib.util
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradio.context import LocalContext

from pipelines.errors import UserError

DEVICE = threading.Lock()  # one at a time: a slider whose picture is not cached computes beside the queue
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


def on_device(function: Callable | None = None, *, seconds: int = 60) -> Callable:
    """Decorator: the function, or the generator, runs alone on the device, on a borrowed GPU where there is one.

    The `spaces` package is given the function itself: it asks whether that is a generator function, and runs it in
    another process.
    """
    if function is None:
        return functools.partial(on_device, seconds=seconds)
    lent = function
    if importlib.util.find_spec("spaces"):
        import spaces

        lent = spaces.GPU(duration=seconds)(function)

    @functools.wraps(function)
    def run(*arguments, **keywords):
        with held(DEVICE):
            return lent(*arguments, **keywords)

    @functools.wraps(function)
    def steps(*arguments, **keywords):
        with held(DEVICE):
            yield from lent(*arguments, **keywords)

    return steps if inspect.isgeneratorfunction(function) else run
