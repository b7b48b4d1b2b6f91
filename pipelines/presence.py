"""Is everything in the picture that was asked for? A detector's answer, word by word, and what went wrong.

The detector is asked for every subject's noun, and for coloured things in every colour. A subject is there when some
box of it reaches the threshold and no other subject claims that box with more right.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines import storybook
from pipelines.registry import BUNDLED, MODELS

SAME = 0.6  # IoU from which two boxes are one thing
FAULTS = ("missing", "mixed", "wrong colour", "duplicated")


@dataclass(frozen=True)
class Wanted:
    """A subject of a prompt."""

    noun: str
    colour: str | None  # None where none was asked for


@dataclass(frozen=True)
class Verdict:
    """Of one picture, subject by subject in the order asked for."""

    present: tuple[bool, ...]
    scores: tuple[float, ...]  # the best score of a box for the noun
    boxes: tuple[tuple[float, float, float, float], ...]  # of that box
    colours: tuple[str | None, ...]  # the colour the detector sees there, where one was asked for
    faults: tuple[str, ...]  # of each subject: one of FAULTS, or empty

    @property
    def all_present(self) -> bool:
        return all(self.present)

    @property
    def fault(self) -> str:
        """The one to name for the whole picture: the first of FAULTS that occurs."""
        return next((fault for fault in FAULTS if fault in self.faults), "")


def threshold_of(detector: str) -> float:
    """The score from which a box counts: where nine of ten true objects are found, if that was measured for this
    detector, else the authors' own 0.3."""
    measured = BUNDLED / MODELS[detector].source / "quality.json"
    return json.loads(measured.read_text())["threshold_at_90_recall"] if measured.exists() else 0.3


def wanted_of(noun: str, adjectives: Sequence[str]) -> Wanted:
    colours = [{"grey": "gray"}.get(word, word) for word in adjectives]
    return Wanted(noun, next((word for word in colours if word in storybook.COLOURS), None))


def phrases_of(wanted: Sequence[Wanted]) -> list[str]:
    """What to ask the detector for: the nouns, and every colour of the things whose colour matters."""
    phrases = [each.noun for each in wanted]
    for each in wanted:
        if each.colour:
            phrases += [f"{colour} {each.noun}" for colour in storybook.COLOURS]
    return list(dict.fromkeys(phrases))


def judge(
    wanted: Sequence[Wanted], phrases: Sequence[str], scores: np.ndarray, boxes: np.ndarray, threshold: float
) -> Verdict:
    """What a detector's answer to `phrases_of(wanted)` means.

    Args:
        scores: (Q, P) of every query for every phrase, in [0, 1].
        boxes: (Q, 4) x0 y0 x1 y1.
        threshold: a box of at least this score shows the noun.
    """
    place = {phrase: n for n, phrase in enumerate(phrases)}
    columns = [place[each.noun] for each in wanted]
    best = [int(scores[:, column].argmax()) for column in columns]
    score = [float(scores[query, column]) for query, column in zip(best, columns, strict=True)]
    present, faults, colours = [], [], []
    for number, each in enumerate(wanted):
        rivals = [
            other
            for other in range(len(wanted))
            if other != number
            and wanted[other].noun != each.noun
            and overlap(boxes[best[number]], boxes[best[other]]) >= SAME
            and (score[other], -other) > (score[number], -number)
        ]
        there = score[number] >= threshold
        colour = None
        if each.colour:
            asked = [place[f"{name} {each.noun}"] for name in storybook.COLOURS]
            colour = tuple(storybook.COLOURS)[int(scores[best[number], asked].argmax())]
        fault = ""
        if not there:
            fault = "missing"
        elif rivals:
            there, fault = False, "mixed"
        elif each.colour and colour != each.colour:
            fault = "wrong colour"
        present.append(there)
        faults.append(fault)
        colours.append(colour)
    for number, column in enumerate(columns):
        count = _apart(boxes[scores[:, column] >= threshold], scores[scores[:, column] >= threshold, column])
        asked = sum(each.noun == wanted[number].noun for each in wanted)
        if not faults[number] and count > asked:
            faults[number] = "duplicated"
    kept = tuple(tuple(float(side) for side in boxes[query]) for query in best)
    return Verdict(tuple(present), tuple(score), kept, tuple(colours), tuple(faults))


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU of two boxes."""
    sides = [min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1)]
    if min(sides) <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


def _apart(boxes: np.ndarray, scores: np.ndarray) -> int:
    """How many things these boxes show: those that do not overlap a better one."""
    kept: list[np.ndarray] = []
    for box in boxes[np.argsort(-scores)]:
        if all(overlap(box, other) < SAME / 2 for other in kept):
            kept.append(box)
    return len(kept)


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share; Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953, equation 1."""
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    total = 1 + z * z / trials
    return max(0.0, (middle - half) / total), min(1.0, (middle + half) / total)
