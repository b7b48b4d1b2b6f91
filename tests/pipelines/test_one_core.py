"""Runs on one core of their own: the same frames whatever the process may use, and nothing left behind."""

import threading

import pytest
import torch
from torch import nn

from pipelines.one_core import one_core, side_by_side


def train(seed: int, steps: int = 3):
    """A convolution trained a little: with two cores its sums are split otherwise than with one."""
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(32, 3, 5, 5, generator=rng).requires_grad_()
    for _ in range(steps):
        pixels = torch.randn(64, 3, 33, 33, generator=rng)
        (slope,) = torch.autograd.grad(nn.functional.conv2d(pixels, weight).square().mean(), weight)
        with torch.no_grad():
            weight -= slope
        yield torch.get_num_threads(), weight.detach().clone()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_same_frames_on_one_and_on_two_threads(threads):
    runs = []
    for number in (1, 2):
        torch.set_num_threads(number)
        runs.append(list(one_core(train)(0)))
        assert torch.get_num_threads() == number
    for (one, first), (two, second) in zip(*runs, strict=True):
        assert one == two == 1 and torch.equal(first, second)


def test_other_threads_keep_their_cores(threads):
    torch.set_num_threads(2)
    running = one_core(train)(0)
    next(running)
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    running.close()
    assert found == [2] and torch.get_num_threads() == 2


def test_side_by_side_is_each_alone():
    pairs = list(side_by_side(lambda: train(0), lambda: train(1, steps=9)))
    assert len(pairs) == 3
    for (first, second), one, two in zip(pairs, train(0), train(1), strict=True):
        assert first[0] == second[0] == 1
        assert torch.allclose(first[1], one[1], atol=1e-5) and torch.allclose(second[1], two[1], atol=1e-5)


def test_a_run_that_is_left_ends_and_its_thread_with_it():
    ended = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            ended.append(threading.current_thread().name)

    before = threading.active_count()
    running = one_core(endless)()
    next(running)
    running.close()
    assert len(ended) == 1 and ended[0].startswith("one core") and threading.active_count() == before


def test_what_a_run_raises_arrives():
    def broken():
        yield 0
        raise KeyError("what broke")

    running = one_core(broken)()
    assert next(running) == 0
    with pytest.raises(KeyError, match="what broke"):
        next(running)
