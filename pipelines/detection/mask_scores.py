"""Masks without names, and what COCO's measures say of them once they have names. Knows no network."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from pipelines.detection.mask_scenes import NAMES, Scenes

SMALLEST = 48  # pixels of an object; what is smaller is a speck
IOUS = (0.4, 0.5, 0.6)


@dataclass(frozen=True, kw_only=True)
class Found:
    """K masks in some scenes, without names."""

    scene: np.ndarray  # (K,)
    masks: np.ndarray  # (K, S, S) bool
    sure: np.ndarray  # (K,) mean probability under the mask

    def overlaps(self, truth: Scenes) -> np.ndarray:
        """(M, K) IoU of true objects and masks; 0 in another scene."""
        size = truth.masks[0].size
        a, b = (each.reshape(-1, size).astype(np.float32) for each in (truth.masks, self.masks))
        both = a @ b.T
        same = truth.scene[:, None] == self.scene
        return same * both / np.maximum(a.sum(1)[:, None] + b.sum(1) - both, 1)

    def best(self, truth: Scenes) -> tuple[np.ndarray, np.ndarray]:
        """(M,) the mask that covers each true object best, and its IoU: 0 where there is none."""
        overlap = np.pad(self.overlaps(truth), ((0, 0), (0, 1)))
        return overlap.argmax(1), overlap.max(1)


def cut(maps: np.ndarray, side: int) -> Found:
    """Objects are what does not touch in maps (N, SIDE, SIDE) of probabilities, enlarged to `side`."""
    large = F.interpolate(torch.from_numpy(maps)[:, None], size=(side, side), mode="bilinear")[:, 0].numpy()
    scene, masks, sure = [], [], []
    for place, probability in enumerate(large):
        labels, count = ndimage.label(probability > 0.5)
        for label in range(1, count + 1):
            mask = labels == label
            if mask.sum() >= SMALLEST:
                scene.append(place)
                masks.append(mask)
                sure.append(probability[mask].mean())
    shape = (-1, side, side)
    return Found(
        scene=np.array(scene, int), masks=np.array(masks, bool).reshape(shape), sure=np.array(sure, np.float32)
    )


def filled_boxes(found: Found) -> Found:
    """The same with the box of each mask in its place: what is a shape worth?"""
    masks = np.zeros_like(found.masks)
    for mask, box in zip(found.masks, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return Found(scene=found.scene, masks=masks, sure=found.sure)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of the words of one kind, at each of IOUS."""

    ap: np.ndarray  # (3,) average precision, mean over the words whose things are there, as is the next
    ar: np.ndarray  # (3,) recall


def said(probabilities: np.ndarray, words: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(K,) the likeliest of these words, places in NAMES, and its probability among them."""
    among = probabilities[:, words] / np.maximum(probabilities[:, words].sum(1, keepdims=True), 1e-12)
    return np.asarray(words)[among.argmax(1)], among.max(1)


def scores(
    truth: Scenes, found: Found, probabilities: np.ndarray, counted: Sequence[int], candidates: Sequence[int]
) -> Scores:
    """COCO's AP and AR of masks, by pycocotools.

    Args:
        probabilities: (K, 24) of each mask's names.
        counted: the words whose mean is taken, places in NAMES.
        candidates: the words that compete. Where they are fewer than all, objects of other names are left out of the
            count, as conventional zero-shot scores have it: a mask of one of them is neither right nor wrong.
    """
    from pycocotools import mask as runs
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def encoded(masks: np.ndarray) -> list[dict]:
        return runs.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))) if len(masks) else []

    def entry(scene: int, noun: int, mask: dict, **more: float) -> dict:
        where = {"image_id": int(scene), "category_id": int(noun) + 1, "segmentation": mask}
        return where | {"area": float(runs.area(mask)), "bbox": runs.toBbox(mask).tolist()} | more

    true, side = [], truth.masks.shape[1]
    for scene, noun, mask in zip(truth.scene, truth.noun, encoded(truth.masks), strict=True):
        if noun in candidates:
            true.append(entry(scene, noun, mask, iscrowd=0))
        else:  # COCO's way to leave a region out, for every word
            true += [entry(scene, word, mask, iscrowd=1) for word in counted]
    noun, likely = said(probabilities, candidates)
    masks = zip(found.scene, noun, encoded(found.masks), likely * found.sure, strict=True)
    told = [entry(scene, name, mask, score=float(score)) for scene, name, mask, score in masks]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": place, "height": side, "width": side} for place in range(len(truth))],
            "categories": [{"id": place + 1, "name": name} for place, name in enumerate(NAMES)],
            "annotations": [{"id": place + 1, **each} for place, each in enumerate(true)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(told) if told else COCO(), "segm")
        evaluation.params.iouThrs = np.array(IOUS)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.imgIds, evaluation.params.catIds = range(len(truth)), [place + 1 for place in counted]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"][:, :, :, 0, -1].mean(1), evaluation.eval["recall"][:, :, 0, -1]
    there = np.isin(counted, truth.noun)  # the other words have no score
    return Scores(ap=precision[:, there].mean(1), ar=recall[:, there].mean(1))


def harmonic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of two scores: high where both are; 0 where one is."""
    return 2 * first * second / np.maximum(first + second, 1e-12)
