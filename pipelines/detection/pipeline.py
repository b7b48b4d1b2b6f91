"""Text-prompted detection: Grounding DINO (Liu et al. 2023, https://arxiv.org/abs/2303.05499) with words you type.

`encode` runs the model once and keeps what every query says about every word; `select` turns that into detections at
any threshold without a model, and the last part holds them against the ground truth. The image backbone does not read
the text, so its features of the last pictures are kept, and new words on the same picture skip it.

A score is a sigmoid for one box and one word, not a probability among the words: nothing sums to 1.
"""

import copy
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

from pipelines.detection.settings import MOST_CHARACTERS, Backend
from pipelines.errors import OTHER_MODEL, UserError, require_finite
from pipelines.models.detectors import Detector, Prompt, read
from pipelines.models.fast_grounding_dino import Precision, checked
from pipelines.models.loading import load
from pipelines.phrases import key, split

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the picture that was given
MOST_ELONGATED = 64  # longer than wide: the bundled detector then sees one patch of its backbone across
PICTURES_KEPT = 4  # whose image features stay with a model


# ------------------------------------------------------------------------------------------------------------ phrases


def parse(text: str | Sequence[str]) -> list[str]:
    """Phrases from chips, or from one line with dots, commas or line breaks in between, of any script: lower case, each
    once.

    Raises:
        UserError: for something else than text, nothing but dots, or more than MOST_CHARACTERS.
    """
    chips = [text] if isinstance(text, str) else text
    if not isinstance(chips, Sequence) or not all(isinstance(chip, str) for chip in chips):
        raise UserError("Type what to look for: words with dots in between, such as: cat . red car")
    length = sum(map(len, chips))
    if length > MOST_CHARACTERS:
        raise UserError(
            "The words have {length} characters; at most {most} are read.",
            length=f"{length:,}",
            most=f"{MOST_CHARACTERS:,}",
        )
    phrases = list(dict.fromkeys(phrase for chip in chips for phrase in split(chip)))
    if not phrases:
        raise UserError("There is no word to look for. Type some with dots in between, such as: cat . red car")
    return phrases


# ------------------------------------------------------------------------------------------------------------- encode


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What the model says about one picture and one prompt, before any threshold."""

    model: str
    backend: Backend
    size: tuple[int, int]  # (width, height) of the picture in pixels
    phrases: tuple[str, ...]  # P of them
    words: tuple[str, ...]  # W of them, see Prompt
    spans: tuple[tuple[int, int], ...]  # (P) which words a phrase is made of
    word_scores: np.ndarray  # (Q, W) float32 in [0, 1], of every query for every word
    scores: np.ndarray  # (Q, P) float32, of every query for every phrase: the highest of its words
    boxes: np.ndarray  # (Q, 4) float32, x0 y0 x1 y1 in pixels of the picture, not cut off at its border
    milliseconds: float  # of the model's pass, without resizing and tokens
    backbone_skipped: bool  # whether the picture's features were still there


class CachedBackbone(nn.Module):
    """Stands where an image backbone was, and answers with the features it gave before."""

    def __init__(self, features: tuple[list, list], position: Any):
        super().__init__()
        self.features, self.position_embedding = features, position

    def __getitem__(self, index: int) -> Any:
        """groundingdino-py's backbone is a pair, transformers' has names; both ask for the position embedding."""
        return (self, self.position_embedding)[index]

    def forward(self, *_) -> tuple[list, list]:
        return list(self.features[0]), list(self.features[1])  # the models append their coarser levels to these


def _replaced(module: Any, name: str, child: Any) -> Any:
    """A second view of the same weights in which one child is another; `module` itself stays as it is."""
    view = copy.copy(module)
    view._modules = {**module._modules, name: child}
    return view


def _transformers_features(detector: Detector, precision: Precision, pixels: Tensor) -> tuple[list, list]:
    mask = torch.ones_like(pixels[:, 0], dtype=torch.long)
    return detector.faster(precision).model.backbone(pixels, mask)


def _transformers_answer(
    detector: Detector, precision: Precision, features: tuple, pixels: Tensor, prompt: Prompt
) -> tuple[Tensor, Tensor]:
    module = detector.faster(precision)
    stored = CachedBackbone(features, module.model.backbone.position_embedding)
    view = _replaced(module, "model", _replaced(module.model, "backbone", stored))
    found = view(pixel_values=pixels, input_ids=prompt.ids.to(pixels.device))
    return found.logits[0], found.pred_boxes[0]


def _groundingdino_features(detector: Detector, _: Precision, pixels: Tensor) -> tuple[list, list]:
    from pipelines.models.groundingdino_backend import unpadded

    return detector.groundingdino.backbone(unpadded(pixels))


def _groundingdino_answer(
    detector: Detector, _: Precision, features: tuple, pixels: Tensor, prompt: Prompt
) -> tuple[Tensor, Tensor]:
    from pipelines.models.groundingdino_backend import unpadded

    model = detector.groundingdino
    view = _replaced(model, "backbone", CachedBackbone(features, model.backbone[1]))
    found = view(unpadded(pixels), captions=[prompt.caption])
    return found["pred_logits"][0], found["pred_boxes"][0]


BACKENDS: dict[Backend, tuple[Callable, Callable]] = {
    "transformers": (_transformers_features, _transformers_answer),
    "groundingdino": (_groundingdino_features, _groundingdino_answer),
}


def encode(
    picture: Image.Image,
    phrases: str | Sequence[str],
    model: str,
    backend: Backend = "transformers",
    precision: Precision = "float32",
) -> Encoded:
    """Run the model of that name once. Arguments and errors as in `encode_with`."""
    return encode_with(load(model, Detector), picture, phrases, backend, precision)


@torch.no_grad()
def encode_with(
    detector: Detector,
    picture: Image.Image,
    phrases: str | Sequence[str],
    backend: Backend = "transformers",
    precision: Precision = "float32",
) -> Encoded:
    """Run the model once: 1 the words, 2 the image backbone unless this picture was seen before, 3 the rest.

    Args:
        phrases: as `parse` takes them.
        backend: whose code runs the weights; both give the same boxes.
        precision: of the products of the linear layers. bfloat16 moves boxes and scores a little, and takes half the
            time where the processor multiplies in it.

    Raises:
        UserError: as `parse` and `read`; for an unknown backend or precision; for a backend that cannot run this
            model here, or not in this precision; for a picture that is too elongated.
        NotFinite: when a score or a box holds NaN or infinity.
    """
    if backend not in BACKENDS:
        raise UserError(
            "The backend must be one of {allowed}, not {value}.", allowed=", ".join(BACKENDS), value=repr(backend)
        )
    if checked(precision) != "float32" and backend == "groundingdino":
        raise UserError("The groundingdino backend knows float32 alone. Choose the transformers backend.")
    look, answer = BACKENDS[backend]
    width, height = picture.size
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise UserError(
            "The picture must be at most {most} times as long as wide, not {width} by {height} pixels: a detector sees "
            "it so small that nothing of its width is left. Cut out a part of it.",
            most=MOST_ELONGATED,
            width=width,
            height=height,
        )
    prompt = read(parse(phrases), detector)
    picture = picture.convert("RGB")
    pixels = detector.processor(picture, return_tensors="pt")["pixel_values"].to(detector.device)  # (1, 3, H, W)
    key = backend, precision, picture.size, hashlib.sha256(picture.tobytes()).digest()

    start = time.perf_counter()
    features = detector.features.get(key)
    skipped = features is not None
    if not skipped:
        features = look(detector, precision, pixels)
        detector.features[key] = features
        while len(detector.features) > PICTURES_KEPT:
            detector.features.popitem(last=False)
    logits, boxes = answer(detector, precision, features, pixels, prompt)
    word_scores = logits[:, list(prompt.tokens)].sigmoid().float().cpu().numpy()
    centres, sizes = boxes.float().cpu().numpy().reshape(-1, 2, 2).transpose(1, 0, 2)  # (Q, 2) each, shares of 1
    milliseconds = 1000 * (time.perf_counter() - start)
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    require_finite("the boxes and scores of this picture", OTHER_MODEL, word_scores, corners)
    return Encoded(
        model=detector.spec.name,
        backend=backend,
        size=picture.size,
        phrases=prompt.phrases,
        words=prompt.words,
        spans=prompt.spans,
        word_scores=word_scores,
        scores=np.stack([word_scores[:, first:last].max(1) for first, last in prompt.spans], axis=1),
        boxes=corners * np.array([*picture.size, *picture.size], np.float32),
        milliseconds=milliseconds,
        backbone_skipped=skipped,
    )


# ------------------------------------------------------------------------------------------------------------- select


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One box and the phrase it was given."""

    phrase: str
    score: float  # in [0, 1]
    box: Box
    query: int  # its row in Encoded
    words: tuple[str, ...]  # those words of the phrase that reach the text threshold themselves
    place: int = 0  # of the phrase in Encoded


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, 4), (m, 4) corners -> (n, m) intersection over union in [0, 1]; 0 where both boxes are empty."""
    boxes = [torch.from_numpy(np.asarray(each, float).reshape(-1, 4)) for each in (first, second)]
    return box_iou(*boxes).nan_to_num(0).numpy()


def suppress(boxes: np.ndarray, scores: np.ndarray, limit: float) -> list[int]:
    """Non-maximum suppression: indices that stay, best first; overlapping a better box by more than `limit` goes."""
    return nms(torch.from_numpy(np.asarray(boxes, float)), torch.from_numpy(np.asarray(scores, float)), limit).tolist()


def _share(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
        raise UserError("The {name} must be a number from 0 to 1, not {value}.", name=name, value=repr(str(value)[:30]))
    return float(value)


def select(
    encoded: Encoded, box_threshold: float = 0.3, text_threshold: float = 0.25, nms_iou: float | None = 0.5
) -> list[Detection]:
    """The detections at these thresholds, best first. No model runs.

    Every box is given to one phrase, the one with its highest score. It is kept when that score reaches both
    thresholds: the box threshold keeps it, the text threshold names it. `select(encoded, 0, 0, nms_iou)` gives all
    boxes, those below the thresholds included: greedy suppression never lets a lower box remove a higher one.

    Args:
        nms_iou: boxes of one phrase, or of phrases that mean the same, are dropped where they overlap a better one by
            more than this share; None keeps them.

    Raises:
        UserError: for a threshold that is no number from 0 to 1.
    """
    keep_from, name_from = _share("box threshold", box_threshold), _share("text threshold", text_threshold)
    best, highest = encoded.scores.argmax(1), encoded.scores.max(1)
    above = np.flatnonzero(highest >= max(keep_from, name_from))
    kept = above.tolist()
    if nms_iou is not None:
        limit = _share("overlap limit (NMS)", nms_iou)
        meanings = np.array([key(phrase) for phrase in encoded.phrases])[best[above]]
        groups = [above[meanings == meaning] for meaning in sorted(set(meanings))]
        kept = [int(group[i]) for group in groups for i in suppress(encoded.boxes[group], highest[group], limit)]
    found = []
    for query in sorted(kept, key=lambda q: -highest[q]):
        first, last = encoded.spans[best[query]]
        words = tuple(encoded.words[w] for w in range(first, last) if encoded.word_scores[query, w] >= name_from)
        x0, y0, x1, y1 = map(float, encoded.boxes[query])
        place = int(best[query])
        found.append(
            Detection(
                phrase=encoded.phrases[place],
                score=float(highest[query]),
                box=(x0, y0, x1, y1),
                query=query,
                words=words,
                place=place,
            )
        )
    return found


# -------------------------------------------------------------------------------------------------------- ground truth

GroundTruth = Sequence[tuple[str, Box]]  # phrase and box of everything that should be found


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Detections held against the ground truth."""

    truth: tuple[int | None, ...]  # of each detection: which true box it found; None for a false positive
    overlap: tuple[float, ...]  # of each detection: its IoU with the closest true box of the same phrase, 0 without
    missed: tuple[int, ...]  # true boxes that nothing found

    @property
    def true_positives(self) -> int:
        return sum(found is not None for found in self.truth)

    @property
    def false_positives(self) -> int:
        return len(self.truth) - self.true_positives

    @property
    def false_negatives(self) -> int:
        return len(self.missed)

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN); None when there is nothing and nothing was found."""
        doubled = 2 * self.true_positives
        everything = doubled + self.false_positives + self.false_negatives
        return doubled / everything if everything else None


def match(detections: Sequence[Detection], truth: GroundTruth, least_iou: float = 0.5) -> Matching:
    """Greedy, best score first, as pycocotools does it: a detection finds the true box of its phrase, not found yet,
    that it overlaps most, where that is at least `least_iou`. Phrases are compared by `phrases.key`: "a cat" finds
    a "cat"."""
    _share("least overlap", least_iou)
    overlaps = iou(np.array([d.box for d in detections]), np.array([box for _, box in truth]))
    true = [key(phrase) for phrase, _ in truth]
    same = np.array([[key(d.phrase) == each for each in true] for d in detections], bool).reshape(overlaps.shape)
    overlaps = np.where(same, overlaps, 0)
    found: list[int | None] = [None] * len(detections)
    for index in sorted(range(len(detections)), key=lambda i: -detections[i].score):
        open_ones = [t for t in range(len(truth)) if t not in found and same[index, t]]
        best = max(open_ones, key=lambda t: overlaps[index, t], default=None)
        if best is not None and overlaps[index, best] >= least_iou:
            found[index] = best
    closest = overlaps.max(1) if len(truth) else np.zeros(len(detections))
    return Matching(
        truth=tuple(found),
        overlap=tuple(map(float, closest)),
        missed=tuple(t for t in range(len(truth)) if t not in found),
    )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Precision and recall at every threshold that changes them, from the highest score down."""

    thresholds: np.ndarray  # (n,) the scores of the detections, descending
    precision: np.ndarray  # (n,) TP / (TP + FP) of the detections that reach the threshold
    recall: np.ndarray  # (n,) TP / (TP + FN)
    average_precision: float | None  # None without ground truth

    def at(self, threshold: float) -> tuple[float | None, float | None]:
        """(precision, recall) at a threshold; precision is None where nothing reaches it, recall without truth."""
        reached = int((self.thresholds >= threshold).sum())
        if self.average_precision is None:
            return (0.0 if reached else None), None
        return (float(self.precision[reached - 1]), float(self.recall[reached - 1])) if reached else (None, 0.0)


def curve(detections: Sequence[Detection], truth: GroundTruth, least_iou: float = 0.5) -> Curve:
    """The precision-recall curve of these detections, all phrases together: give it those of `select(encoded, 0, 0)`.

    Average precision is COCO's: the mean, over the recalls 0, 0.01, ..., 1, of the best precision at that recall or a
    higher one, and 0 where that recall is never reached.
    """
    ranked = sorted(detections, key=lambda d: -d.score)
    hits = np.array([found is not None for found in match(ranked, truth, least_iou).truth], float)
    true_positives = hits.cumsum()
    precision = true_positives / np.arange(1, len(hits) + 1)
    recall = true_positives / max(1, len(truth))
    return Curve(
        thresholds=np.array([d.score for d in ranked]),
        precision=precision,
        recall=recall,
        average_precision=_average(precision, recall) if len(truth) else None,
    )


def _average(precision: np.ndarray, recall: np.ndarray) -> float:
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(best_from_here, 0.0)[np.minimum(first, len(precision))].mean())


def false_alarms(detections: Sequence[Detection], phrases: Sequence[str], truth: GroundTruth) -> dict[str, int]:
    """How often each phrase was found that is not in the picture at all."""
    present = {key(phrase) for phrase, _ in truth}
    return {p: sum(d.phrase == p for d in detections) for p in phrases if key(p) not in present}
