"""One lesson on a page of its own, its handlers called as the server calls them."""

import asyncio
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import gradio as gr

from demos.ui.lesson import Lesson
from demos.ui.tab import Tab


class Served:
    """`served["export"](…)` answers with what each part shows; a handler of the compute slot in steps."""

    def __init__(self, lesson: Lesson):
        with gr.Blocks() as self.page:
            self.tab = Tab(lesson)
            lesson.layout(self.tab)
            self.tab.chosen = [self.page.load]
            lesson.wire(self.tab)
            self.tab.connect()
        self.names = {id(part): name for name, part in self.tab.parts.items()}
        self.functions: dict[str, Any] = {}
        for fn in self.page.fns.values():
            self.functions.setdefault(fn.api_name if fn.api_visibility == "public" else fn.name, fn.fn)

    def __getitem__(self, name: str) -> Callable:
        return self.called(self.functions[name])

    def called(self, function: Callable) -> Callable:
        def steps(*values: object, **keywords: object) -> Iterator[dict]:
            for answer in stepped(function(*values, **keywords)):
                if answer != gr.skip():
                    yield self.shown(answer)

        def once(*values: object, **keywords: object) -> dict | None:
            answer = asyncio.run(function(*values, **keywords))
            return None if answer == gr.skip() else self.shown(answer)

        return steps if inspect.isasyncgenfunction(function) else once

    def shown(self, answer: dict) -> dict:
        return {self.names[id(part)]: value for part, value in answer.items()}


def stepped(run: AsyncGenerator) -> Iterator:
    """The steps of a handler, one by one; it is closed with the loop that asks for them."""
    loop = asyncio.new_event_loop()
    try:
        while True:
            yield loop.run_until_complete(anext(run))
    except StopAsyncIteration:
        return
    finally:
        loop.run_until_complete(run.aclose())
        loop.close()


def counting(module: types.ModuleType, *names: str) -> tuple[types.SimpleNamespace, dict[str, int]]:
    """The pipeline itself, with the calls of some of its functions counted."""
    calls = dict.fromkeys(names, 0)
    fake = types.SimpleNamespace(**{n: getattr(module, n) for n in dir(module) if not n.startswith("__")})

    def counted(name: str):
        def call(*arguments, **keywords):
            calls[name] += 1
            return getattr(module, name)(*arguments, **keywords)

        return call

    for name in names:
        setattr(fake, name, counted(name))
    return fake, calls


def last(steps):
    *_, result = steps
    return result
