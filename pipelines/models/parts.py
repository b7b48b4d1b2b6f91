"""What models of every family have: a device, a size in memory, pixels as they want them, words they know."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipelines.errors import UserError
from pipelines.models.registry import ModelSpec


def device() -> torch.device:
    """Where this thread computes: its present GPU, or the processor."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def device_count() -> int:
    """GPUs, or 1 for the processor."""
    return max(1, torch.cuda.device_count())


def on_device(number: int) -> AbstractContextManager:
    """In the block this thread computes on that GPU; nothing to choose where there is none."""
    return torch.cuda.device(number) if torch.cuda.is_available() else nullcontext()


def megabytes_of(module: nn.Module) -> float:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers())) / 1e6


class Loaded:
    """A model in memory; the library's own object is its `module`."""

    module: Any

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def megabytes(self) -> float:
        return megabytes_of(self.module)


def normalised(pictures: Sequence[Image.Image], size: int, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """Square pictures -> (B, 3, size, size), resized, in units of a model's deviation around its mean."""
    squares = [picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC) for picture in pictures]
    array = np.stack([np.asarray(square, np.float32) / 255 for square in squares])
    found = (array - np.array(mean, np.float32)) / np.array(deviation, np.float32)
    return torch.from_numpy(found).permute(0, 3, 1, 2)


def closed_vocabulary(tokenizer: Callable | None) -> frozenset[str] | None:
    """The words of a tokenizer that turns every other word into one unknown token; None for one that can spell."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return (
        frozenset(backend.get_vocab()) if backend is not None and type(backend.model).__name__ == "WordLevel" else None
    )


def not_known(spec: ModelSpec, words: list[str], vocabulary: frozenset[str] | None) -> UserError:
    """What to say about words a model does not know: at most eight of them, and all that it knows where it cannot
    spell."""
    return UserError(
        "{model} does not know {words}. Its words are: {known}." if vocabulary else "{model} does not know {words}.",
        model=spec.name,
        words=", ".join(repr(word[:30]) for word in words[:8]),
        known=", ".join(sorted(w for w in vocabulary or () if w.isalpha())),
    )


def refuse_words(spec: ModelSpec, tokenizer: Any, vocabulary: frozenset[str], texts: Sequence[str], most: int) -> None:
    """Raises UserError for a word that is none of the vocabulary, and for more than so many words in a text.

    Args:
        tokenizer: of transformers, at the level of words.
    """
    backend = tokenizer.backend_tokenizer
    for text in texts:
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))]
        unknown = [word for word in dict.fromkeys(words) if word not in vocabulary]
        if unknown:
            raise not_known(spec, unknown, vocabulary)
        if len(words) > most:
            raise UserError(
                "{model} reads at most {most} words and commas, not {count}.",
                model=spec.name,
                most=most,
                count=len(words),
            )
