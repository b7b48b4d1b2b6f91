"""The word-level tokenizers of the storybook models, in the format of transformers (and so of OpenCLIP).

A full CLIP vocabulary of 49,408 words would be most of the parameters of a model this small. One word is one token;
words outside the list become `[UNK]`, which the app reports instead of passing on.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from pipelines.world import storybook

CONTEXT_LENGTH = 24  # the longest caption has 22 tokens with its start and end


def vocabulary() -> list[str]:
    """Special tokens and words in the order of their ids. The end must come last: CLIP pools the highest id."""
    grammar = ["a", "and", "with", ",", "picture", "of"]
    places = sorted({word for place in storybook.PLACES.values() for word in place.split()})
    return ["[PAD]", "[UNK]", "[START]", *grammar, *places, *storybook.COLOURS, *storybook.NOUNS, "[END]"]


def build() -> Tokenizer:
    words = vocabulary()
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    # "an" and "a" are one word here, so that "a elephant", as in published prompt sets, means "an elephant".
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\ban\b"), "a"),
            normalizers.Replace(Regex(r"\bgrey\b"), "gray"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[START] $A [END]", special_tokens=[(t, words.index(t)) for t in ("[START]", "[END]")]
    )
    return tokenizer


def save(folder: Path) -> None:
    """Write the two files by which `AutoTokenizer`, and so OpenCLIP, opens a folder."""
    build().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT_LENGTH,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "bos_token": "[START]",
        "eos_token": "[END]",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def pretrained() -> Any:
    """The same words as transformers' own object, for libraries that take no folder."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=build(),
        model_max_length=CONTEXT_LENGTH,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[START]",
        eos_token="[END]",
        clean_up_tokenization_spaces=False,
    )


PHRASE_IDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}


def phrase_vocabulary() -> dict[str, int]:
    """Words of the detector and their ids: colours and nouns. Everything around them has the id it has in BERT, because
    transformers' Grounding DINO looks for separators by these numbers."""
    return PHRASE_IDS | {word: 2 + i for i, word in enumerate((*storybook.COLOURS, *storybook.NOUNS))}


def build_phrases() -> Tokenizer:
    """The detector's tokenizer: phrases with dots in between, articles passed over."""
    tokenizer = Tokenizer(models.WordLevel(phrase_vocabulary(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\b(an?|the)\s+"), ""),
            normalizers.Replace(Regex(r"\bgrey\b"), "gray"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, PHRASE_IDS[token]) for token in ("[CLS]", "[SEP]")]
    )
    return tokenizer
