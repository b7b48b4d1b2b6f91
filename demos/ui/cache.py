"""An LRU cache keyed by content: a slider asks again for what was encoded, and gets it back.

Equal requests at once run once; what fails is not kept and keeps nobody waiting.
"""

import hashlib
import sys
import threading
from collections.abc import Callable
from dataclasses import fields, is_dataclass

import cachetools
from PIL import Image

from demos.ui.device import HELD

MOST_BYTES = 256_000_000  # of one function's results: a class of thirty with two pictures each, 4 MB a result


def lru_cached(function: Callable, most_bytes: int = MOST_BYTES) -> Callable:
    """The function with its last results kept, up to so many bytes of them.

    Pictures among the arguments count by their pixels. The result has `cache_info()` and `cache_clear()`.
    """
    cache: cachetools.LRUCache = cachetools.LRUCache(most_bytes, size_of)
    return cachetools.cached(cache, key=_key, condition=threading.Condition(), info=True)(function)


def _key(*arguments: object) -> tuple:
    device = HELD.get()  # what one GPU has computed, another cannot go on with
    return device.number if device else 0, *(
        _digest(each) if isinstance(each, Image.Image) else each for each in arguments
    )


def _digest(picture: Image.Image) -> tuple:
    return picture.mode, picture.size, hashlib.sha256(picture.tobytes()).hexdigest()


def size_of(value: object) -> int:
    """Bytes of a result: of its arrays, tensors and pictures, and a little for the rest."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    if is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, dict):
        return sum(size_of(each) for each in value.values())
    if isinstance(value, list | tuple):
        return sum(size_of(each) for each in value)
    return sys.getsizeof(value)
