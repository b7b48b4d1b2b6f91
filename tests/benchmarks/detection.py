"""Seconds of a full-size Grounding DINO: ours, transformers' own call and groundingdino-py's own `predict`.

Swin-T, BERT base, 900 queries, random weights; one picture of 640x480, whose pixels all three are given; processor
only. They take turns. A parity figure holds boxes and scores against transformers', box by box, each beside ours that
overlaps it most: proposals that tie may change places.
"""

import statistics
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipelines.detection.pipeline import encode_with, iou, read
from pipelines.models.detectors import Detector
from pipelines.models.fast_grounding_dino import Precision
from pipelines.models.registry import MODELS
from pipelines.training import detection as training
from pipelines.training import tokenizer

PHRASES = ["red car", "cat"]


def full_size(seed: int = 0) -> Any:
    """Grounding DINO tiny of random weights, whose boxes are neither all alike nor tiny.

    All queries are the same. Random ones would make every box hang on the rank of its proposal, and 6,380 random
    proposals have scores 0.001 apart.
    """
    torch.manual_seed(seed)
    vision = training.VISION | {"image_size": 224, "embed_dim": 96, "depths": [2, 2, 6, 2], "window_size": 7}
    module = training.build({}, vision | {"num_heads": [3, 6, 12, 24], "out_indices": [2, 3, 4]}, {}).eval()
    with torch.no_grad():
        for head in (module.bbox_embed, module.model.encoder_output_bbox_embed):
            for parameter in head.parameters():
                parameter += 0.01 * torch.randn(parameter.shape)
        queries = module.model.query_position_embeddings.weight
        queries[:] = queries[:1].clone()
    return module.requires_grad_(False)


def detector(module: Any, pixels: Tensor) -> Detector:
    """Around a module and (1, 3, H, W) pixels that every picture has."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer.build_phrases(), pad_token="[PAD]")
    return Detector(
        spec=MODELS["grounding-dino-tiny"],
        module=module,
        processor=lambda *_, **__: {"pixel_values": pixels},
        tokenizer=fast,
        vocabulary=None,
    )


@dataclass(frozen=True)
class Parity:
    """Boxes and scores held against transformers'."""

    box: float  # largest difference of a coordinate, as a share of the picture's side
    logit: float  # largest difference of a word's logit
    overlap: np.ndarray  # (Q) IoU of each box with its counterpart


def parity(theirs: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor]) -> Parity:
    """Of (Q, W) logits and (Q, 4) boxes, centre and size as shares of the picture's sides."""
    corners = [training.corners(boxes).numpy() for _, boxes in (theirs, ours)]
    overlap = iou(*corners)
    which = overlap.argmax(1)
    logits = (theirs[0] - ours[0][which]).abs().max()
    return Parity(float(abs(corners[0] - corners[1][which]).max()), float(logits), overlap.max(1))


def found(module: Any, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(Q, T) logits and (Q, 4) boxes."""
    answer = module(pixel_values=pixels, input_ids=ids)
    return answer.logits[0, :, : ids.shape[1]], answer.pred_boxes[0]


def rate(dtype: torch.dtype) -> float:
    """FLOP per second of the widest products of the model, the best of some."""
    tokens, weight = torch.randn(1024, 256, dtype=dtype), torch.randn(2048, 256, dtype=dtype)
    return 2 * 1024 * 256 * 2048 / min(seconds(lambda: F.linear(tokens, weight)) for _ in range(20))


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@torch.no_grad()
def measure(rounds: int = 3) -> list[tuple[str, ...]]:
    """Rows of text: what, seconds, share of something, and what there is to say of it."""
    from PIL import Image

    generator = torch.Generator().manual_seed(1)
    picture = Image.fromarray(torch.randint(0, 256, (480, 640, 3), generator=generator, dtype=torch.uint8).numpy())
    pixels = torch.randn(1, 3, 480, 640, generator=generator)
    ours = detector(full_size(), pixels)
    prompt, other = read(PHRASES, ours), ["dog"]
    theirs = types.SimpleNamespace(transformers=ours.module, groundingdino=ours.groundingdino)
    from groundingdino.util.inference import predict  # only now are its warnings silenced

    def afresh(precision: Precision) -> None:
        ours.features.clear()
        encode_with(ours, picture, PHRASES, precision=precision)

    contenders = {
        "transformers": lambda: theirs.transformers(pixel_values=pixels, input_ids=prompt.ids),
        "groundingdino-py": lambda: predict(theirs.groundingdino, pixels[0], prompt.caption, 0.35, 0.25, device="cpu"),
        "ours, bfloat16": lambda: afresh("bfloat16"),
        "ours, float32": lambda: afresh("float32"),  # and on the picture it leaves behind:
        "ours, new words": lambda: encode_with(ours, picture, other),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):  # the first one warms up
        for name, call in contenders.items():
            taken = seconds(call)
            times[name] += [taken] * (turn > 0)
    middle = {name: statistics.median(taken) for name, taken in times.items()}

    peer = min(middle["transformers"], middle["groundingdino-py"])
    reference = found(theirs.transformers, pixels, prompt.ids)
    rows = [(name, f"{middle[name]:.2f}", "", "") for name in ("transformers", "groundingdino-py")]
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with FlopCounterMode(display=False) as counter:
            answer = found(ours.faster(precision), pixels, prompt.ids)
        same, floor = parity(reference, answer), counter.get_total_flops() / rate(dtype)
        said = (
            f"boxes within {same.box:.0e}, logits within {same.logit:.0e}"
            if precision == "float32"
            else f"IoU {np.median(same.overlap):.3f}, {(same.overlap >= 0.98).mean():.1%} of them 0.98 or more"
        )
        taken = middle[f"ours, {precision}"]
        rows.append((f"ours, {precision}", f"{taken:.2f}", f"{taken / peer:.2f} of the faster peer", said))
        told = f"{counter.get_total_flops() / 1e9:.0f} GFLOP of products at the rate of the widest of them"
        rows.append((f"floor, {precision}", f"{floor:.2f}", f"{floor / taken:.2f} of ours", told))
    taken = middle["ours, new words"]
    whole = taken / middle["ours, float32"]
    return [*rows, ("ours, new words", f"{taken:.2f}", f"{whole:.2f} of a full run", "float32, the same picture")]
