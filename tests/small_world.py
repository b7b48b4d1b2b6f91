"""The collapse lessons on few pictures, for as long as a test module runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipelines.collapse import data, greedy, multicrop
from pipelines.world import storybook


@contextmanager
def small_world() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    caches = (data._data, data.baselines, multicrop.scenes, greedy.baselines)
    for cache in caches:
        cache.cache_clear()
    for module, training, bank, queries in ((data, 64, 96, 48), (greedy, 32, 64, 32)):
        patch.setattr(module, "TRAINING", storybook.TRAIN[:training])
        patch.setattr(module, "BANK", storybook.VALIDATION[:bank])
        patch.setattr(module, "QUERIES", storybook.TEST[:queries])
    patch.setattr(multicrop, "TRAINING", storybook.TRAIN[:32])
    patch.setattr(multicrop, "QUERIES", storybook.TEST[:24])
    yield
    patch.undo()
    for cache in caches:
        cache.cache_clear()
