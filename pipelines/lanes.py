"""Runs side by side, each on one core: how fast they go depends on the computer, what they compute does not.

A sum over two threads is rounded in another order than over one. A run that is to be the same film everywhere computes
in a lane, whose thread has no helpers; two lanes use two cores.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


class Lanes:
    """`with Lanes(2) as lanes: a, b = lanes.run(f, g)`. What a call raises is raised by `run`."""

    def __init__(self, count: int):
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="lane")
        before, together = torch.get_num_threads(), threading.Barrier(count)

        def prepare(_: int) -> None:
            together.wait()  # so that every thread comes by once
            torch.get_num_threads()  # a thread's first question takes over the process's number, for good
            torch.set_num_threads(1)

        list(self._threads.map(prepare, range(count)))
        torch.set_num_threads(before)  # threads that begin later would take over the 1 otherwise

    def run(self, *calls: Callable[[], T]) -> list[T]:
        """What the calls return, in order; they compute at the same time."""
        return [future.result() for future in [self._threads.submit(call) for call in calls]]

    def __enter__(self) -> "Lanes":
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown()
