"""Text-prompted detectors: Grounding DINO and its relatives."""

import functools
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines.models.parts import closed_vocabulary, device, megabytes_of
from pipelines.models.registry import ModelSpec


@dataclass(frozen=True, eq=False, kw_only=True)
class Detector:
    """A text-prompted detector in memory."""

    spec: ModelSpec
    module: Any  # transformers' own object, in eval mode, without gradients
    processor: Any  # transformers' image processor: picture -> pixels of the size the model was trained on
    tokenizer: Any  # a fast tokenizer of transformers, which knows where in the text each token stands
    vocabulary: frozenset[str] | None  # the only words it knows; None when it can spell
    features: OrderedDict = field(default_factory=OrderedDict)  # of the last pictures: see pipelines.detection.pipeline
    views: dict[str, Any] = field(default_factory=dict)  # of `faster`, by precision

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def megabytes(self) -> float:
        return megabytes_of(self.module)

    def faster(self, precision: str = "float32") -> Any:
        """The same weights computed sooner: see `fast_grounding_dino.faster`, which says what it raises."""
        from pipelines.models.fast_grounding_dino import faster

        if precision not in self.views:
            self.views[precision] = faster(self.module, precision)
        return self.views[precision]

    @functools.cached_property
    def groundingdino(self) -> Any:
        """The same weights in the model of groundingdino-py. Raises what `groundingdino_backend.build` raises."""
        from pipelines.models.groundingdino_backend import build

        return build(self.module, self.tokenizer).to(self.device).eval().requires_grad_(False)


def open_grounding_dino(spec: ModelSpec, folder: Path) -> Detector:
    from transformers import AutoImageProcessor, AutoModelForZeroShotObjectDetection, AutoTokenizer

    module = AutoModelForZeroShotObjectDetection.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    mend_word_positions(module)
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Detector(
        spec=spec,
        module=module.to(device()).eval().requires_grad_(False),
        processor=processor,
        tokenizer=tokenizer,
        vocabulary=closed_vocabulary(tokenizer),
    )


def mend_word_positions(module: Any) -> None:
    """Let a GroundingDino or MMGroundingDino count words from the beginning of their phrase, as the authors' code does.

    transformers before 5.23, of which 5.20 is the last for Python 3.10, counts the full stop of a phrase as its first
    word and rounds the sines of the positions to whole numbers. Newer versions compute the same with this.
    """
    module.model.text_backbone.register_forward_pre_hook(_count_for_text)
    for layer in module.model.encoder.layers:
        layer.register_forward_pre_hook(_count_for_fusion, with_kwargs=True)


def _count_for_text(_: nn.Module, given: tuple) -> tuple:
    ids, together, types, _ = given  # (B, 1, T, T), True where two words are of one phrase
    return ids, together, types, together[:, 0].tril(-1).sum(-1)


def _count_for_fusion(_: nn.Module, given: tuple, named: dict) -> tuple[tuple, dict]:
    apart = named["text_self_attention_masks"]  # (B, T, T)
    return given, named | {"text_position_ids": (~apart).tril(-1).sum(-1).float()}
