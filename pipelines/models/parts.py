"""What models of every family have: a device, a size in memory, words they know."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

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


def closed_vocabulary(tokenizer: Callable | None) -> frozenset[str] | None:
    """The words of a tokenizer that turns every other word into one unknown token; None for one that can spell."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return (
        frozenset(backend.get_vocab()) if backend is not None and type(backend.model).__name__ == "WordLevel" else None
    )


def not_known(spec: ModelSpec, words: list[str], vocabulary: frozenset[str] | None) -> str:
    """What to say about words a model does not know: at most eight of them, and all that it knows where it cannot
    spell."""
    told = f"{spec.name} does not know {', '.join(repr(word[:30]) for word in words[:8])}."
    return f"{told} Its words are: {', '.join(sorted(w for w in vocabulary if w.isalpha()))}." if vocabulary else told
