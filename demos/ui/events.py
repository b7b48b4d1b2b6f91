"""Handlers as Gradio calls them: friendly messages, deadlines, and who takes the one place at the device."""

import asyncio
import functools
import importlib
import inspect
import logging
import time
from collections.abc import Callable

import gradio as gr
from anyio import to_thread
from gradio.context import LocalContext

from demos.ui.device import MAY_WAIT, WAIT_SECONDS, Busy, is_awaited
from demos.ui.text import say
from pipelines.errors import UserError

log = logging.getLogger("patchlight")

COMPUTE = {"concurrency_id": "compute", "concurrency_limit": 1}  # one queue slot: models are loaded on one device


class lazily:
    """A module that is imported when first used: nothing heavy happens before the page is up."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self._name), attribute)


def _friendly(error: Exception) -> gr.Error:
    """UserError is meant for the visitor; anything else is ours to mend: logged whole, shown without its insides."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, UserError):
        told = say(error.message, **error.values) if error.values or isinstance(error, Busy) else str(error)
        return gr.Error(told, print_exception=False)
    log.error("unexpected error in an event", exc_info=error)
    return gr.Error(
        say("Something went wrong on our side; it has been logged. Your picture and settings are still here."),
        print_exception=False,
    )


def event(function: Callable, seconds: float = 120) -> Callable:
    """Wrap a handler: friendly messages, a first yield so that a cancel is clean, a deadline between steps.

    A plain handler is one step and is not interrupted.
    """
    generator = inspect.isgeneratorfunction(function)

    @functools.wraps(function)
    def run(*arguments, **keywords):
        yield gr.skip()
        start = time.monotonic()
        try:
            if not generator:
                yield function(*arguments, **keywords)
                return
            for step in function(*arguments, **keywords):
                yield step
                if time.monotonic() - start > seconds:
                    raise UserError(
                        say("Stopped after {seconds} seconds, the limit for one request.", seconds=round(seconds))
                    )
        except GeneratorExit:
            raise
        except Exception as error:
            raise _friendly(error) from None

    return run


def light(function: Callable) -> Callable:
    """Wrap a plain handler that needs no model, or only what is cached: friendly messages, no queue slot.

    Where it does need the device, it asks again until that is free, and takes no thread from those who compute.
    """

    def at_once(arguments: tuple, keywords: dict):
        MAY_WAIT.set(False)  # in this call's own context
        return function(*arguments, **keywords)

    @functools.wraps(function)
    async def run(*arguments, **keywords):
        blocks, start = LocalContext.blocks.get(None), time.monotonic()
        try:
            while True:
                try:
                    return await to_thread.run_sync(
                        at_once, arguments, keywords, limiter=blocks.limiter if blocks else None
                    )
                except Busy:
                    if time.monotonic() - start > WAIT_SECONDS or not is_awaited():
                        raise
                    await asyncio.sleep(0.2)
        except Exception as error:
            raise _friendly(error) from None

    return run
