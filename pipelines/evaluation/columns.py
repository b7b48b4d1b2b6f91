"""Measure how far a storybook model knows more than the drawings it was trained on, and write it into its card.

    python -m pipelines.evaluation.columns storybook-detailclip
    python -m pipelines.evaluation.columns storybook-clip-b --write
    python -m pipelines.evaluation.columns storybook-grounding-dino --folder .checkpoints/world-dino/model --scenes 200

Three columns (`pipelines.world.drawings`): drawings of training in scenes it has never seen, held-out drawings of hands
it knows, and hands it has never seen. All scenes are of the wide world (`pipelines.world.wide`), square, every step on,
from the seeds of `storybook.TEST`, whose photographs are others than in training. Besides, on known drawings, the first
row again for each kind of ground, each range of sizes, turned, and blurred pictures.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.detection.pipeline import iou
from pipelines.diffusion import presence
from pipelines.evaluation import clip as clips
from pipelines.evaluation import detection as boxes
from pipelines.evaluation.clip import write_between
from pipelines.models.loading import Detector, Model, open_folder
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.world import wide
from pipelines.world.drawings import COLUMNS
from pipelines.world.storybook import NOUNS, SIZE, TEST, Scene
from pipelines.world.wide import WIDE

SINGLES, SCENES = 20_000_000, 30_000_000  # the first seed of each kind within TEST
ROWS = {  # name: what it says, format
    "naming": ("Names one thing, among 24", "{:.1%}"),
    "image_to_text": ("Picture to caption, 1 of 100", "{:.1%}"),
    "text_to_image": ("Caption to picture, 1 of 100", "{:.1%}"),
    "object_patches_kept": ("Object patches kept at 0.5", "{:.3f}"),
    "object_patches_kept_random": ("The same at random", "{:.3f}"),
    "gain": ("Half hidden at random: gain over harmonic interpolation, dB", "{:+.2f}"),
    "psnr": ("The same in dB of the hidden patches", "{:.2f}"),
    "ap50": ("AP at IoU 0.5, all 24 nouns asked", "{:.3f}"),
    "any_name": (f"Things with a box under any name: IoU 0.5, score {presence.THERE}", "{:.3f}"),
    "precision": (f"Boxes from a score of {presence.THERE} on that are right", "{:.3f}"),
    "recall": ("Things found by them, under their name", "{:.3f}"),
    "false_alarms": ("Absent nouns found at the score where 90 % of known things are", "{:.1%}"),
}
SIDES = ((0.0, 0.35), (0.35, 0.6), (0.6, 1.01))  # of a thing, as a share of the picture's


def drawn(count: int, column: str, start: int, objects: int | None = None, always: bool = False, **steps: bool) -> list:
    world = replace(WIDE, **steps)
    return [wide.draw(TEST[start + i], world, objects, column, None, (SIZE, SIZE), always=always) for i in range(count)]


def distinct(count: int, column: str) -> list[Scene]:
    """Scenes whose full captions differ within each group of 100 in more than the order of the words."""
    chosen: list[Scene] = []
    told: set = set()
    seed = SCENES
    while len(chosen) < count:
        if len(chosen) % clips.GROUP == 0:
            told = set()
        (scene,) = drawn(1, column, seed)
        seed += 1
        content = (frozenset(o.phrase for o in scene.objects), scene.background)
        if content not in told:
            told.add(content)
            chosen.append(scene)
    return chosen


def side(scene: Scene) -> float:
    x0, y0, x1, y1 = scene.objects[0].box
    return max(x1 - x0, y1 - y0) / SIZE


def conditions(count: int) -> dict[str, list[Scene]]:
    """Scenes of one known thing each: by kind of ground, by size, turned, and blurred."""
    off = dict.fromkeys(wide.GROUNDS, False)
    few = max(1, count // 3)
    found = {f"ground: {name}": drawn(few, "known", SINGLES, 1, **off | {name: True}) for name in wide.GROUNDS}
    plain = drawn(count, "known", SINGLES, 1)
    for low, high in SIDES:
        found[f"side {low:.0%} to {min(high, 1):.0%}"] = [s for s in plain if low <= side(s) < high]
    sharp = dict.fromkeys(wide.CAMERA, False)
    found["turned"] = drawn(few, "known", SINGLES, 1, always=True, **sharp)
    found["blurred"] = drawn(few, "known", SINGLES, 1, always=True, **sharp | {"blur": True, "turned": False})
    return found


# ---------------------------------------------------------------------------------------------------------------- CLIPs


def reconstruction(model: Model, scenes: list[Scene]) -> tuple[float, float]:
    """Mean dB of the hidden patches, half of them hidden at random, and what interpolation leaves of it."""
    rng, ours, other = torch.Generator().manual_seed(0), [], []
    for part, pixels in clips.batches(model, scenes):
        for i, scene in enumerate(part):
            truth = scene.picture.astype(np.float32) / 255
            visible = clips.half_at_random(model.encoder.grid, rng)
            mine, neighbours = clips.rebuilt(model, pixels[i : i + 1], truth, visible)
            ours.append(mine.psnr)
            other.append(neighbours.psnr)
    return float(np.mean(ours)), float(np.mean(ours) - np.mean(other))


def clip_figures(model: Model, count: int) -> dict:
    figures: dict = {"scenes": count, "columns": {}, "conditions": {}}
    for column in COLUMNS:
        singles, scenes = drawn(count, column, SINGLES, 1), distinct(count, column)
        features = clips.image_features(model, scenes)
        to_text, to_image = clips.retrieval(model, features, scenes)
        kept, by_chance = clips.object_patches_kept(model, scenes)
        figures["columns"][column] = {
            "naming": clips.naming(model, clips.image_features(model, singles), singles),
            "image_to_text": to_text,
            "text_to_image": to_image,
            "object_patches_kept": kept,
            "object_patches_kept_random": by_chance,
        }
        if model.detail is not None:
            psnr, gain = reconstruction(model, scenes[: max(1, count // 4)])
            figures["columns"][column] |= {"gain": gain, "psnr": psnr}
    for name, scenes in conditions(count).items():
        figures["conditions"][name] = clips.naming(model, clips.image_features(model, scenes), scenes)
    return figures


# ------------------------------------------------------------------------------------------------------------ detector


def any_name(pictures: boxes.Pictures, threshold: float) -> float:
    """Share of the things that some box reaches with an IoU of 0.5, whatever it is called."""
    hit: list[bool] = []
    for truth, detections in pictures:
        found = [d.box for d in detections if d.score >= threshold]
        overlaps = iou(np.reshape([box for _, box in truth], (-1, 4)), np.reshape(found, (-1, 4)))
        hit += (overlaps.max(1, initial=0) >= 0.5).tolist()
    return float(np.mean(hit))


def right_and_found(pictures: boxes.Pictures, threshold: float) -> tuple[float, float]:
    """Precision and recall of the boxes from this score on, by name and IoU 0.5."""
    given = hits = things = 0
    for truth, detections in pictures:
        strong = [d for d in detections if d.score >= threshold]
        given, things = given + len(strong), things + len(truth)
        hits += sum(which is not None for which in boxes.match(strong, truth).truth)
    return hits / max(1, given), hits / things


def box_figures(detector: Detector, count: int) -> dict:
    figures: dict = {"scenes": count, "columns": {}, "conditions": {}}

    def found(scenes: list[Scene]) -> boxes.Pictures:
        return boxes.find(detector, scenes, [list(NOUNS)] * len(scenes), colours=False)

    threshold = 0.0
    for column in COLUMNS:
        pictures = found(drawn(count, column, SCENES))
        if column == "known":
            threshold = boxes.threshold_at(pictures, boxes.RECALL)
        absent = [[n for n in NOUNS if n not in {name for name, _ in truth}] for truth, _ in pictures]
        precision, recall = right_and_found(pictures, presence.THERE)
        figures["columns"][column] = {
            "ap50": boxes.coco_average_precision(pictures, NOUNS)["ap50"],
            "any_name": any_name(pictures, presence.THERE),
            "precision": precision,
            "recall": recall,
            "false_alarms": boxes.alarm_rate(pictures, absent, threshold),
        }
    figures["threshold_at_90_recall"] = threshold
    for name, scenes in conditions(count).items():
        figures["conditions"][name] = right_and_found(found(scenes), presence.THERE)[1]
    return figures


# --------------------------------------------------------------------------------------------------------------- report


def table(figures: dict) -> str:
    columns = figures["columns"]
    lines = ["| never-seen scenes of the wide world | known drawings | new drawings | new hands |", "|---|---|---|---|"]
    for name, (told, form) in ROWS.items():
        if name in columns[COLUMNS[0]]:
            lines.append(f"| {told} | " + " | ".join(form.format(columns[c][name]) for c in COLUMNS) + " |")
    first = "recall" if "recall" in columns[COLUMNS[0]] else "naming"
    lines += ["", f"| {ROWS[first][0]}: known drawings | |", "|---|---|"]
    lines += [f"| {name} | {value:.1%} |" for name, value in figures["conditions"].items()]
    return "\n".join(lines)


def evaluate(name: str, folder: Path, count: int) -> dict:
    opened: Any = open_folder(MODELS[name], folder)
    return box_figures(opened, count) if name == boxes.SPEC.name else clip_figures(opened, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="storybook-detailclip", help="name in the registry")
    parser.add_argument("--folder", type=Path, help="measure the model in this folder instead")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="write columns.json and the README's table")
    arguments = parser.parse_args()
    folder = arguments.folder or BUNDLED / MODELS[arguments.model].source
    start = time.monotonic()
    figures = evaluate(arguments.model, folder, arguments.scenes)
    print(table(figures))
    print(f"\nmeasured in {time.monotonic() - start:.0f} s")
    if arguments.write:
        rounded = json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 5))
        (folder / "columns.json").write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
        write_between(folder / "README.md", "columns", table(figures))


if __name__ == "__main__":
    main()
