"""Text-prompted detectors: Grounding DINO and its relatives."""

import functools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.errors import UserError
from pipelines.models.parts import Loaded, closed_vocabulary, device, not_known
from pipelines.models.registry import ModelSpec
from pipelines.phrases import DETERMINERS, parts, singular


@dataclass(frozen=True, eq=False, kw_only=True)
class Detector(Loaded):
    """A text-prompted detector in memory."""

    spec: ModelSpec
    module: Any  # transformers' own object, in eval mode, without gradients
    processor: Any  # transformers' image processor: picture -> pixels of the size the model was trained on
    tokenizer: Any  # a fast tokenizer of transformers, which knows where in the text each token stands
    vocabulary: frozenset[str] | None  # the only words it knows; None when it can spell
    features: OrderedDict = field(default_factory=OrderedDict)  # of the last pictures: see pipelines.detection.pipeline
    views: dict[str, Any] = field(default_factory=dict)  # of `faster`, by precision

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


# ------------------------------------------------------------------------------------------------------------ phrases


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Phrases as the model reads them."""

    phrases: tuple[str, ...]
    ids: Tensor  # (1, T) token ids
    caption: str  # "cat . red car ."
    tokens: tuple[int, ...]  # places in `ids` of the W tokens that belong to a phrase
    words: tuple[str, ...]  # the text of each of them; a word the tokenizer has to spell gives several
    spans: tuple[tuple[int, int], ...]  # of each phrase: its words are words[start:end]


def read(phrases: Sequence[str], detector: Detector) -> Prompt:
    """Tokens of parsed phrases, each assigned to its phrase by where its characters stand: no phrase can be taken for
    the beginning of another. A model with few words reads "the red-cars" as "red car".

    Raises:
        UserError: for words the model does not know, named beside the known ones; for more tokens than it reads.
    """
    spelled = [_in_known_words(phrase, detector.vocabulary) for phrase in phrases]
    caption = " . ".join(spelled) + " ."
    ends = np.cumsum([len(phrase) + 3 for phrase in spelled]) - 3
    encoded = detector.tokenizer(caption, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    tokens: list[int] = []
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    unknown: list[str] = []
    for phrase, end in zip(spelled, ends, strict=True):
        first, start = len(tokens), end - len(phrase)
        for place, (left, right) in enumerate(offsets):
            if start <= left < right <= end:
                tokens.append(place)
                words.append(caption[left:right])
                if ids[place] in detector.tokenizer.all_special_ids:
                    unknown.append(words[-1])
        spans.append((first, len(tokens)))
        if first == len(tokens):  # characters the tokenizer drops altogether
            unknown.append(phrase)
    if unknown:
        raise not_known(detector.spec, list(dict.fromkeys(unknown)), detector.vocabulary)
    most = detector.module.config.max_text_len
    if len(ids) > most:
        raise UserError(
            "{model} reads at most {most} pieces of words, dots included, and this makes {count}. Take some phrases "
            "away.",
            model=detector.spec.name,
            most=most,
            count=len(ids),
        )
    return Prompt(
        phrases=tuple(phrases),
        ids=torch.tensor([ids]),
        caption=caption,
        tokens=tuple(tokens),
        words=tuple(words),
        spans=tuple(spans),
    )


def _in_known_words(phrase: str, vocabulary: frozenset[str] | None) -> str:
    """For a model that cannot spell: without articles and hyphens, a plural it does not know in the singular."""
    if vocabulary is None:
        return phrase
    known = [singular(word) if singular(word) in vocabulary else word for word in parts(phrase)]
    return " ".join([word for word in known if word not in DETERMINERS] or known) or phrase
