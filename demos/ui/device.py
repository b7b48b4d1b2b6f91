"""The devices of the computer: one for each GPU, or the processor; and what computes on them, one step at a time."""

import contextvars
import functools
import importlib.util
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gradio.context import LocalContext

from demos.ui.turns import Device, Work
from pipelines.errors import UserError

HELD: contextvars.ContextVar[Device | None] = contextvars.ContextVar("the device that computes this step", default=None)
MAY_WAIT = contextvars.ContextVar("may wait in this thread", default=True)
_END = object()


class NeedsDevice(Exception):
    """Work that began without a device, and may not wait in its thread, needs one after all."""


class Busy(UserError):
    """No turn came for a long time."""

    def __init__(self):
        super().__init__("The computer is busy with other visitors. Please try again in a minute.")


@functools.cache
def devices() -> tuple[Device, ...]:
    """All there are. The first call imports what knows."""
    from pipelines.models import parts

    return tuple(Device(number) for number in range(parts.device_count()))


def least_busy() -> Device:
    return min(devices(), key=lambda device: len(device.under_way))


def is_awaited() -> bool:
    """Whether the visitor whose event this thread works for is still there."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    waiting = blocks._queue.event_ids_to_events.get(event_id) if blocks and event_id else None
    return waiting is None or waiting.alive


@contextmanager
def held() -> Iterator[None]:
    """Hold a device until the block is left, if this step does not already.

    Raises:
        NeedsDevice: where it may not wait in this thread.
    """
    if HELD.get() is not None:
        yield
        return
    if not MAY_WAIT.get():
        raise NeedsDevice
    device, work = least_busy(), Work(visitor=f"thread {threading.get_ident()}")
    device.ask(work).result()
    try:
        with computing_on(device):
            yield
    finally:
        device.give_back(work)
        device.end(work, done=False)


@contextmanager
def computing_on(device: Device) -> Iterator[None]:
    """What this thread computes in the block goes to this device, which it holds."""
    from pipelines.models import parts

    before = HELD.set(device)
    try:
        with parts.on_device(device.number):
            yield
    finally:
        HELD.reset(before)


def on_device(function: Callable | None = None, *, seconds: int | Callable[..., int] = 60) -> Callable:
    """Decorator: a function, or every step of a generator, has a device to itself; a borrowed GPU on Spaces.

    The `spaces` package is given the function itself: it asks whether that is a generator function, and runs it in
    another process.

    Args:
        seconds: for which a GPU is borrowed at most; or a function of the same arguments, which says so. The shorter,
            the sooner it is lent, and the less of a visitor's daily share it takes.
    """
    if function is None:
        return functools.partial(on_device, seconds=seconds)
    lent = function
    if importlib.util.find_spec("spaces"):
        import spaces

        lent = spaces.GPU(duration=seconds)(function)

    @functools.wraps(function)
    def run(*arguments, **keywords):
        with held():
            return lent(*arguments, **keywords)

    @functools.wraps(function)
    def steps(*arguments, **keywords):
        made: Any = lent(*arguments, **keywords)
        try:
            while True:
                with held():
                    step = next(made, _END)
                if step is _END:
                    return
                yield step
        finally:
            made.close()

    return steps if inspect.isgeneratorfunction(function) else run
