"""Lessons on few pictures, for as long as a test module runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipelines.collapse import data, greedy, multicrop
from pipelines.detection import mask_scenes, masks
from pipelines.world import storybook


@contextmanager
def small_world() -> Iterator[None]:
    """The collapse lessons."""
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


@contextmanager
def few_scenes() -> Iterator[None]:
    """Zero-shot masks. The test scenes are of the first four seen things, each beside all six unseen ones."""
    patch = pytest.MonkeyPatch()
    mask_scenes._looked_at.cache_clear()
    for name, count in (("training", 96), ("test", 24), ("strangers", 4)):
        patch.setitem(mask_scenes.PARTS, name, mask_scenes.PARTS[name][:count])
    patch.setattr(masks, "WATCHED", range(0, 24, 3))
    yield
    patch.undo()
    mask_scenes._looked_at.cache_clear()
