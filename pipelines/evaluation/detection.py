"""Measure a storybook detector on scenes it has never seen, with pycocotools, and write its model card.

    python -m pipelines.evaluation.detection
    python -m pipelines.evaluation.detection --folder .checkpoints/grounding-dino/model --scenes 200

What is measured is what the app shows: every box given to one word, overlapping boxes of a word suppressed at 0.5. The
scenes are those of `storybook.TEST`, the pairs of `storybook.HELD_OUT` among them. With `--write` the figures go into
`quality.json` and the tables of the model's README.md.
"""

import argparse
import contextlib
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.detection.pipeline import Detection, GroundTruth, encode_with, match, select
from pipelines.diffusion import presence
from pipelines.evaluation.clip import scenes, table, write_between
from pipelines.models.detectors import Detector, open_grounding_dino
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.world import storybook

SPEC = MODELS["storybook-grounding-dino"]
Pictures = list[tuple[GroundTruth, list[Detection]]]  # what is in each picture, and what was found in it

IOUS = np.linspace(0.4, 0.95, 12)
RECALL = 0.9  # at whose threshold false alarms are counted
ABSENT = 4  # words of a colour prompt that have nothing to do with the picture


def coco_average_precision(pictures: Pictures, categories: Sequence[str]) -> dict:
    """COCO's figures over these categories, those without a true box left out.

    Returns:
        `ap50`, `ap50_95`, `ar40`, `ar50`, `ar60` (recall of all boxes at that IoU), means over the categories; and
        `classes`, {category: (ap50, ap50_95, number of true boxes)}.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    number = {name: i + 1 for i, name in enumerate(categories)}

    def entry(picture: int, name: str, box: Sequence[float], **more: float) -> dict:
        x, y, right, bottom = map(float, box)
        sides = right - x, bottom - y
        return {
            "image_id": picture,
            "category_id": number[name],
            "bbox": [x, y, *sides],
            "area": sides[0] * sides[1],
        } | more

    true, found = [], []
    for picture, (truth, detections) in enumerate(pictures):
        true += [entry(picture, name, box, iscrowd=0) for name, box in truth if name in number]
        found += [entry(picture, d.phrase, d.box, score=d.score) for d in detections if d.phrase in number]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(len(pictures))],
            "categories": [{"id": i, "name": name} for name, i in number.items()],
            "annotations": [{"id": i + 1, **each} for i, each in enumerate(true)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found) if found else COCO(), "bbox")
        evaluation.params.iouThrs = IOUS
        evaluation.params.imgIds, evaluation.params.catIds = list(range(len(pictures))), list(number.values())
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1].mean(1)  # (IoU, category), -1 without a true box
    recall = evaluation.eval["recall"][:, :, 0, -1]
    counted = [k for k, name in enumerate(categories) if precision[0, k] > -1]
    precision, recall = precision[:, counted], recall[:, counted]
    amount = {name: sum(each["category_id"] == number[name] for each in true) for name in categories}
    return {
        "ap50": float(precision[2].mean()),
        "ap50_95": float(precision[2:].mean()),
        **{f"ar{percent}": float(recall[i].mean()) for i, percent in ((0, 40), (2, 50), (4, 60))},
        "classes": {
            categories[k]: (float(precision[2, column]), float(precision[2:, column].mean()), amount[categories[k]])
            for column, k in enumerate(counted)
        },
    }


def find(detector: Detector, world: list[storybook.Scene], prompts: list[list[str]], colours: bool) -> Pictures:
    """What is in each scene, by noun or by phrase, and what the detector finds of the scene's prompt, at any score."""
    found: Pictures = []
    for scene, prompt in zip(world, prompts, strict=True):
        encoded = encode_with(detector, Image.fromarray(scene.picture), prompt)
        truth = []
        for thing in scene.objects:
            x0, y0, x1, y1 = map(float, thing.box)
            truth.append((thing.phrase if colours else thing.noun, (x0, y0, x1, y1)))
        found.append((truth, select(encoded, 0, 0, 0.5)))
    return found


def threshold_at(pictures: Pictures, recall: float) -> float:
    """The highest threshold at which that share of the true boxes is found with an IoU of 0.5; 0 if there is none."""
    scores, boxes = [], 0
    for truth, detections in pictures:
        boxes += len(truth)
        scores += [
            d.score for d, hit in zip(detections, match(detections, truth).truth, strict=True) if hit is not None
        ]
    needed = int(np.ceil(recall * boxes))
    return sorted(scores, reverse=True)[needed - 1] if len(scores) >= needed else 0.0


def alarm_rate(pictures: Pictures, absent: list[list[str]], threshold: float) -> float:
    """Share of the absent words, over all pictures, that are found somewhere at this threshold."""
    alarms, asked = 0, 0
    for (_, detections), missing in zip(pictures, absent, strict=True):
        seen = {d.phrase for d in detections if d.score >= threshold}
        alarms += len(seen & set(missing))
        asked += len(missing)
    return alarms / asked


def presence_errors(detector: Detector, world: list[storybook.Scene]) -> dict[str, float]:
    """How often the question of `presence`, is this thing there?, is answered wrongly of true pictures: `missed`, the
    share of the nouns that are there, and `alarms`, the share of those that are not."""
    wrong: dict[bool, list[bool]] = {True: [], False: []}
    for scene in world:
        encoded = encode_with(detector, Image.fromarray(scene.picture), list(storybook.NOUNS))
        nouns = {o.noun for o in scene.objects}
        for noun, score in zip(encoded.phrases, encoded.scores.max(0), strict=True):
            wrong[noun in nouns].append((score >= presence.THERE) != (noun in nouns))
    return {"missed": float(np.mean(wrong[True])), "alarms": float(np.mean(wrong[False]))}


def colour_prompts(world: list[storybook.Scene], seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """A prompt for each scene: its phrases and ABSENT others, in half of the scenes also a wrong-coloured twin of every
    thing; and the twins alone."""
    prompts, twins = [], []
    pairs = [f"{colour} {noun}" for noun in storybook.THINGS for colour in storybook.COLOURS]
    for index, scene in enumerate(world):
        rng = np.random.default_rng((seed, index))
        present = list(dict.fromkeys(o.phrase for o in scene.objects))
        nouns = {o.noun for o in scene.objects}
        wrong = []
        for o in scene.objects if index % 2 else ():
            if o.colour:
                wrong.append(f"{rng.choice([c for c in storybook.COLOURS if c != o.colour])} {o.noun}")
        others = [*(p for p in pairs if p.split()[1] not in nouns), *(a for a in storybook.ANIMALS if a not in nouns)]
        prompt = [*present, *wrong, *rng.choice(others, ABSENT, replace=False)]
        prompts.append([str(phrase) for phrase in rng.permutation(prompt)])
        twins.append(wrong)
    return prompts, twins


def harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0


def evaluate(detector: Detector, count: int) -> dict:
    """All figures of the card, and under `classes` those of each noun."""
    world = scenes(count)
    nouns = find(detector, world, [list(storybook.NOUNS)] * count, colours=False)
    prompts, twins = colour_prompts(world)
    colours = find(detector, world, prompts, colours=True)

    whole = coco_average_precision(nouns, storybook.NOUNS)
    threshold = threshold_at(nouns, RECALL)
    absent = [[n for n in storybook.NOUNS if n not in {name for name, _ in truth}] for truth, _ in nouns]
    figures: dict = {
        "scenes": count,
        "ap50": whole["ap50"],
        "ap50_95": whole["ap50_95"],
        "threshold_at_90_recall": threshold,
        "false_alarms": alarm_rate(nouns, absent, threshold),
        **presence_errors(detector, world),
        "twin_alarms": alarm_rate(colours, twins, threshold_at(colours, RECALL)),
    }
    pairs = [(colour, noun) for noun in storybook.THINGS for colour in storybook.COLOURS]
    splits = {
        "seen": [f"{colour} {noun}" for colour, noun in pairs if (colour, noun) not in storybook.HELD_OUT],
        "unseen": [f"{colour} {noun}" for colour, noun in pairs if (colour, noun) in storybook.HELD_OUT],
    }
    found = {split: coco_average_precision(colours, phrases) for split, phrases in splits.items()}
    for name in ("ap50", "ap50_95", "ar40", "ar50", "ar60"):
        figures |= {f"colour_{name}_{split}": found[split][name] for split in splits}
        figures[f"colour_{name}_harmonic"] = harmonic(*(found[split][name] for split in splits))
    return figures | {"classes": whole["classes"]}


_SPLITS = (("seen", "pairs of training"), ("unseen", "pairs held out"), ("harmonic", "harmonic mean of both"))
_MEASURES = (
    ("ap50", "AP at IoU 0.5"),
    ("ap50_95", "AP at IoU 0.5 to 0.95"),
    ("ar40", "recall at IoU 0.4"),
    ("ar50", "recall at IoU 0.5"),
    ("ar60", "recall at IoU 0.6"),
)
ROWS = (  # name, what it says, format
    ("ap50", "Nouns, all 24 in the prompt: AP at IoU 0.5", "{:.3f}"),
    ("ap50_95", "The same at IoU 0.5 to 0.95", "{:.3f}"),
    ("threshold_at_90_recall", "Score at which 90 % of the objects are found", "{:.2f}"),
    ("false_alarms", "Absent nouns that are found somewhere at that score", "{:.1%}"),
    (
        "missed",
        f"Things that are there and whose noun has no score of {presence.THERE}",
        "{:.1%}",
    ),
    ("alarms", "Absent nouns with such a score", "{:.1%}"),
    ("twin_alarms", "Wrong-coloured twins found at the score where 90 % of the phrases are", "{:.1%}"),
    *(
        (f"colour_{name}_{split}", f"Colour and noun, {pairs}: {told}", "{:.3f}")
        for name, told in _MEASURES
        for split, pairs in _SPLITS
    ),
)


def class_table(classes: dict[str, Sequence[float]]) -> str:
    lines = ["| noun | AP at IoU 0.5 | at 0.5 to 0.95 | objects |", "|---|---|---|---|"]
    lines += [f"| {name} | {ap50:.3f} | {ap:.3f} | {number} |" for name, (ap50, ap, number) in sorted(classes.items())]
    return "\n".join(lines)


def write_card(folder: Path, figures: dict) -> None:
    """Put the figures into quality.json and between the marks of the README."""
    rounded = json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 5))
    (folder / "quality.json").write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    write_between(folder / "README.md", "quality", table(figures, ROWS))
    write_between(folder / "README.md", "classes", class_table(figures["classes"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=BUNDLED / SPEC.source, help="the model's folder")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="write quality.json and the README's tables")
    arguments = parser.parse_args()
    start = time.monotonic()
    figures = evaluate(open_grounding_dino(SPEC, arguments.folder), arguments.scenes)
    print(table(figures, ROWS), class_table(figures["classes"]), sep="\n\n")
    print(f"\nmeasured in {time.monotonic() - start:.0f} s")
    if arguments.write:
        write_card(arguments.folder, figures)


if __name__ == "__main__":
    main()
