"""The numbers of each lesson for its endpoint: plain values, none of the pictures."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.collapse.settings import PROTOTYPES, Batches, Greedy, Lab, MultiCrop, Packing, Pretext, broken

if TYPE_CHECKING:
    from pipelines.collapse import greedy, lab, multicrop, packing, pretext, sweeps


def plain(found: Any) -> Any:
    """A record without its arrays, for JSON."""
    if is_dataclass(found):
        values = {each.name: getattr(found, each.name) for each in fields(found)}
        return {name: plain(value) for name, value in values.items() if not isinstance(value, np.ndarray)}
    if isinstance(found, dict):
        return {name: plain(value) for name, value in found.items()}
    if isinstance(found, tuple | list):
        return [plain(value) for value in found]
    return found


def _of_run(step: lab.Step, frame: lab.Frame) -> dict[str, Any]:
    dino = step.teacher_entropy is not None
    return {
        **{name: value for name, value in plain(step).items() if name not in ("look", "views")},
        "knn_accuracy": step.knn,
        "chance": frame.baselines.chance,
        "teacher_entropy_max": math.log(PROTOTYPES) if dino else None,
        "collapsed": step.collapsed,
    }


def of_lab(frame: lab.Frame, settings: Lab) -> dict[str, Any]:
    """Of the last frame: run B, and the whole method under "whole"."""
    return {
        **_of_run(frame.b, frame),
        "whole": _of_run(frame.a, frame),
        "lacks": list(broken(settings)),
        "settings": asdict(settings),
        "seed": settings.seed,
        "steps": frame.b.step,
        "baseline": plain(frame.baselines),
    }


def of_pair(
    frame: multicrop.Frame | pretext.Frame | greedy.Frame, settings: MultiCrop | Pretext | Greedy
) -> dict[str, Any]:
    """Of the last frame of a lesson with two runs."""
    return {
        "a": plain(frame.a),
        "b": plain(frame.b),
        "settings": asdict(settings),
        "seed": settings.seed,
        "steps": frame.a.step,
        "baseline": plain(frame.baselines),
    }


def of_sweep(now: sweeps.Progress, settings: Batches) -> dict[str, Any]:
    """Of the last step: every batch size, by its number."""
    points = {str(batch): plain(point) for batch, point in now.points.items()}
    return {
        "batches": points,
        "settings": asdict(settings),
        "seed": settings.seed,
        "steps": {batch: point["steps"] for batch, point in points.items()},
        "baseline": plain(now.baselines),
    }


def of_packing(found: packing.Timing, settings: Packing) -> dict[str, Any]:
    """Of the last round; the baseline is one pass for each crop."""
    return {
        **plain(found),
        "settings": asdict(settings),
        "seed": settings.seed,
        "steps": found.round,
        "baseline": {"separate": found.milliseconds["separate"], "plain": found.milliseconds["plain"]},
    }
