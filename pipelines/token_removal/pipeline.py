"""Attention-based token removal: which patches a vision transformer can do without.

`encode` looks at the whole picture once; `query` runs the model again on the patches one rule keeps; `sweep` does
that over all rules and ratios, one point at a time. The rule `attention` is DetailCLIP's (as in A-CLIP, Yang et al.
2023, https://arxiv.org/abs/2212.08653): the class token's attention, averaged over all layers and heads, by 2x2
blocks.

Attention says what the model looked at, not why it decided so.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from pipelines.errors import UserError
from pipelines.models.detailclip import keep_highest
from pipelines.models.encoders import Model
from pipelines.models.loading import load
from pipelines.models.vision import Tokens, centre_square
from pipelines.token_removal.settings import RULES, Rule, Settings

SWEEP_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
RANDOM_SEEDS = 5  # how many random choices the sweep averages over


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The whole picture, looked at once."""

    model: str
    pixels: torch.Tensor  # (1, 3, S, S) on the CPU, normalised
    picture: np.ndarray  # (S, S, 3) float32 in [0, 1], what the model sees
    attention: np.ndarray  # (L, h, g, g) float32, class token to patch; a head's row and its class token sum to 1
    features: np.ndarray  # (E,) unit length, of all patches
    milliseconds: float  # for that pass


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is left, and what it cost."""

    heat: np.ndarray  # (g, g) the score of each patch, sums to 1
    kept: np.ndarray  # (g, g) bool
    cosine_to_full: float  # between the features of the kept patches and of all
    similarity_full: float | None  # cosine of picture and prompt; None without a prompt
    similarity_kept: float | None
    guesses_full: list[tuple[str, float]]  # best three names and their probabilities; empty for a model without words
    guesses_kept: list[tuple[str, float]]
    flops_ratio: float
    milliseconds: float
    milliseconds_full: float

    @property
    def attention_mass_kept(self) -> float:
        return float(self.heat[self.kept].sum())


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the figure of all rules. `seed` is None but for the rule `random`."""

    rule: Rule
    keep_ratio: float
    seed: int | None
    cosine: float
    similarity: float | None


def encode(picture: Image.Image, model: str) -> Encoded:
    """Look at the middle square of the picture once, with all patches."""
    loaded = load(model)
    pixels = loaded.pixels(centre_square(picture))
    milliseconds, tokens = _timed(lambda: loaded.encoder.encode(pixels))
    if loaded.chooser is not loaded.encoder:  # DetailCLIP: the teacher decides what the student may see
        attention = loaded.chooser.encode(pixels).attention
    else:
        attention = tokens.attention
    assert attention is not None, "encoders tell what the class token attends to"
    grid = loaded.encoder.grid
    return Encoded(
        model=model,
        pixels=pixels.cpu(),
        picture=loaded.picture(pixels[0]),
        attention=attention[0].unflatten(-1, (grid, grid)).cpu().numpy(),
        features=loaded.image_features(tokens.cls)[0].cpu().numpy(),
        milliseconds=milliseconds,
    )


def score(encoded: Encoded, layer: int | None = None, head: int | None = None) -> np.ndarray:
    """(g, g) attention of the class token, of one layer and head or (None) averaged over them, scaled to sum to 1."""
    chosen = encoded.attention if layer is None else encoded.attention[layer : layer + 1]
    chosen = chosen if head is None else chosen[:, head : head + 1]
    mean = chosen.mean((0, 1), dtype=np.float64)
    return mean / mean.sum()


def keep(heat: np.ndarray, keep_ratio: float, rule: Rule, seed: int = 0) -> np.ndarray:
    """(g, g) scores -> (g, g) bool, the patches that stay. Every rule keeps the same number: see `tokens_kept`.

    Raises:
        UserError: for an unknown rule, a ratio outside [0, 1], or blocks on an odd grid.
    """
    if rule not in RULES:
        raise UserError("The rule must be one of {allowed}, not {value}.", allowed=", ".join(RULES), value=repr(rule))
    values = torch.from_numpy(heat.reshape(1, -1)).float()
    if rule == "random":
        values = torch.rand(values.shape, generator=torch.Generator().manual_seed(seed))
    index = keep_highest(-values if rule == "inverse" else values, keep_ratio, blocks=rule != "attention-patch")
    return torch.zeros(values.shape[1], dtype=torch.bool).scatter(0, index[0], True).view(heat.shape).numpy()


def query(encoded: Encoded, settings: Settings, names: tuple[str, ...] = ()) -> Result:
    """Run the model on the kept patches alone and compare with the whole picture.

    Args:
        settings: without a prompt the similarities are None.
        names: what the picture might show; the three most probable come back.

    Raises:
        UserError: as `keep`; for unknown words; for a prompt given to a model without words.
    """
    loaded = load(encoded.model)
    heat = score(encoded, settings.layer_index, settings.head_index)
    kept = keep(heat, settings.keep_ratio, settings.rule, settings.seed)
    pixels, index = encoded.pixels.to(loaded.device), torch.from_numpy(np.flatnonzero(kept))[None].to(loaded.device)
    milliseconds, tokens = _timed(lambda: loaded.encoder.encode(pixels, index))
    features = loaded.image_features(tokens.cls)[0].cpu().numpy()
    full, part = _similarities(loaded, settings.prompt, encoded.features, features)
    reads = loaded.tokenize is not None
    return Result(
        heat=heat,
        kept=kept,
        cosine_to_full=float(encoded.features @ features),
        similarity_full=full,
        similarity_kept=part,
        guesses_full=_guesses(loaded, encoded.features, names) if reads else [],
        guesses_kept=_guesses(loaded, features, names) if reads else [],
        flops_ratio=flops(loaded, int(kept.sum())) / flops(loaded, kept.size),
        milliseconds=milliseconds,
        milliseconds_full=encoded.milliseconds,
    )


def sweep(encoded: Encoded, keep_ratio: float, settings: Settings) -> list[Point]:
    """Every rule at one keep ratio, the random one with RANDOM_SEEDS seeds: similarity and cosine."""
    loaded, prompt = load(encoded.model), settings.prompt
    heat = score(encoded, settings.layer_index, settings.head_index)
    pixels = encoded.pixels.to(loaded.device)
    text = loaded.text_features([prompt])[0].cpu().numpy() if prompt.strip() else None
    plans: list[tuple[Rule, int | None]] = [(rule, None) for rule in RULES if rule != "random"]
    plans += [("random", settings.seed + i) for i in range(RANDOM_SEEDS)]
    index = [torch.from_numpy(np.flatnonzero(keep(heat, keep_ratio, rule, number or 0))) for rule, number in plans]
    stacked = torch.stack(index).to(loaded.device)  # all rules keep the same number, so they make one batch
    tokens = loaded.encoder.encode(pixels.expand(len(plans), -1, -1, -1), stacked)
    features = loaded.image_features(tokens.cls).cpu().numpy()
    return [
        Point(
            rule=rule,
            keep_ratio=keep_ratio,
            seed=number,
            cosine=float(encoded.features @ each),
            similarity=None if text is None else float(text @ each),
        )
        for (rule, number), each in zip(plans, features, strict=True)
    ]


def flops(model: Model, patches: int) -> int:
    """Operations of one pass of the image tower with that many patches, a multiply-add counted as two.

    One layer of width D costs 24 T D^2 + 4 T^2 D for T tokens.
    """
    width = model.encoder.width
    tokens = patches + model.encoder.prefix
    patch = model.size // model.encoder.grid
    embedding = 2 * model.encoder.grid**2 * width * 3 * patch**2  # before any patch is dropped
    return embedding + model.encoder.layers * (24 * tokens * width**2 + 4 * tokens**2 * width)


def _timed(run: Callable[[], Tokens]) -> tuple[float, Tokens]:
    """Milliseconds of the fastest of three runs, or of two where one takes longer than 0.2 s; and the run's result."""
    times: list[float] = []
    while len(times) < 3 and not (len(times) == 2 and min(times) > 200):
        start = time.perf_counter()
        result = run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return min(times), result


def _similarities(loaded: Model, prompt: str, *features: np.ndarray) -> list[float | None]:
    if not prompt.strip():
        return [None for _ in features]
    text = loaded.text_features([prompt])[0].cpu().numpy()
    return [float(text @ each) for each in features]


def _guesses(loaded: Model, features: np.ndarray, names: tuple[str, ...], most: int = 3) -> list[tuple[str, float]]:
    """Zero-shot classification among `names`, as CLIP does it: softmax of the scaled similarities."""
    if not names:
        return []
    logits = loaded.module.logit_scale.exp().item() * (_name_features(loaded.spec.name, names) @ features)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    return [(names[i], float(probabilities[i])) for i in np.argsort(-probabilities)[:most]]


@functools.lru_cache(maxsize=16)
def _name_features(model: str, names: tuple[str, ...]) -> np.ndarray:
    """(n, E): a slider asks for the same names again and again."""
    texts = [f"a picture of {'an' if name[0] in 'aeio' else 'a'} {name}" for name in names]
    return load(model).text_features(texts).cpu().numpy()


def layers_and_heads(model: str) -> tuple[int, int]:
    """How many layers, and heads in each, the model's attention has."""
    encoder = load(model).chooser
    return encoder.layers, encoder.heads
