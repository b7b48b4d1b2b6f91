"""The same seed gives the same run on every number of cores: runs that compute in a thread of their own, on one core.

Sums in float32 depend on how they are split, and torch splits them over as many cores as it may use. How many is one
setting of the process and a copy of it in every thread that has computed: `torch.set_num_threads` changes both. A run
therefore gets a new thread whose copy is set to 1, and the process its old number back at once; the thread lives as
long as the run, so nothing else is slowed down. Two runs side by side take one core each.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")
_END = object()


def _take_one_core() -> None:
    torch.get_num_threads()  # a thread copies the number at its first question, over what was set before
    torch.set_num_threads(1)


class _Steps(Iterator[T]):
    """An iterator whose steps are all computed in one thread, on one core. `end` ends it, after the running step."""

    def __init__(self, make: Callable[[], Iterator[T]]):
        threads = torch.get_num_threads()
        self.thread = ThreadPoolExecutor(1, "one core")
        self.thread.submit(_take_one_core).result()
        torch.set_num_threads(threads)
        self.steps: Any = self.thread.submit(make).result()

    def begin(self) -> Future:
        return self.thread.submit(next, self.steps, _END)

    def __next__(self) -> T:
        step = self.begin().result()
        if step is _END:
            raise StopIteration
        return step

    def end(self) -> None:
        self.thread.submit(self.steps.close)  # the generator's own `finally` runs where it computed
        self.thread.shutdown()


def one_core(run: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Of a generator function: every step of what it returns is computed in a thread of its own, on one core."""

    @functools.wraps(run)
    def apart(*arguments: P.args, **keywords: P.kwargs) -> Iterator[T]:
        steps = _Steps(functools.partial(run, *arguments, **keywords))
        try:
            yield from steps
        finally:
            steps.end()

    return apart


def side_by_side(*runs: Callable[[], Iterator[T]]) -> Iterator[tuple[T, ...]]:
    """The steps of several generators on one clock, each computed on a core of its own; the shortest ends them all."""
    together = [_Steps(run) for run in runs]
    try:
        while True:
            begun = [steps.begin() for steps in together]
            now = tuple(step.result() for step in begun)
            if any(step is _END for step in now):
                return
            yield now
    finally:
        for steps in together:
            steps.end()
