"""Is everything in the picture that was asked for? A detector's answer, word by word, and what went wrong.

The detector is asked twice: which things are there, in the words by which its errors were measured, and which colour
the coloured ones have. A subject is there when some box of it reaches THERE and no other subject claims that box with
more right.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipelines import storybook
from pipelines.registry import BUNDLED, MODELS

THERE = 0.3  # score from which a box shows a thing: the authors' own; how often that errs stands in the detector's card
SAME = 0.6  # IoU from which two boxes are one thing
NEAR = 0.5  # IoU from which a colour is that of a thing
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


class Answer(Protocol):
    """What a detector says to one question, such as `pipelines.detection.Encoded`."""

    phrases: tuple[str, ...]  # P
    scores: np.ndarray  # (Q, P) of every query for every phrase, in [0, 1]
    boxes: np.ndarray  # (Q, 4) x0 y0 x1 y1


def _measured(detector: str) -> dict:
    file = BUNDLED / MODELS[detector].source / "quality.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def strict_threshold(detector: str) -> float:
    """The score at which only nine of ten true objects are found, and hardly anything that is absent; THERE for a
    detector that was not measured."""
    return _measured(detector).get("threshold_at_90_recall", THERE)


def wanted_of(noun: str, adjectives: Sequence[str]) -> Wanted:
    colours = [{"grey": "gray"}.get(word, word) for word in adjectives]
    return Wanted(noun, next((word for word in colours if word in storybook.COLOURS), None))


def things_of(wanted: Sequence[Wanted], detector: str) -> list[str]:
    """The first question: the nouns; of a detector whose errors were measured with all nouns of the drawn world in
    the prompt, all of them, for a score depends on what else is asked for."""
    others = storybook.NOUNS if _measured(detector) else ()
    return list(dict.fromkeys([*others, *(each.noun for each in wanted)]))


def colours_of(wanted: Sequence[Wanted]) -> list[str]:
    """The second question: every colour of the things whose colour matters; empty where there is none."""
    nouns = dict.fromkeys(each.noun for each in wanted if each.colour)
    return [f"{colour} {noun}" for noun in nouns for colour in storybook.COLOURS]


def answers(
    wanted: Sequence[Wanted], detector: str, ask: Callable[[list[str]], Answer]
) -> tuple[Answer, Answer | None]:
    """What the detector says to both questions, to the second only where a colour matters.

    Args:
        detector: its name, which says what to ask.
        ask: what the detector says of the picture to these phrases.
    """
    colours = colours_of(wanted)
    return ask(things_of(wanted, detector)), ask(colours) if colours else None


def examine(wanted: Sequence[Wanted], detector: str, ask: Callable[[list[str]], Answer]) -> Verdict:
    """Ask both questions, as `answers` does, and judge from THERE on."""
    return judge(wanted, *answers(wanted, detector, ask), THERE)


def judge(wanted: Sequence[Wanted], things: Answer, colouring: Answer | None, threshold: float) -> Verdict:
    """What a detector's answers to `things_of(wanted)` and `colours_of(wanted)` mean.

    Args:
        threshold: a box of at least this score shows the noun.
    """
    scores, boxes = things.scores, things.boxes
    columns = [things.phrases.index(each.noun) for each in wanted]
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
        colour = seen_colour(each.noun, boxes[best[number]], colouring) if each.colour else None
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


def seen_colour(noun: str, box: Sequence[float], answer: Answer) -> str | None:
    """The colour whose best box near this one scores highest; None where there is no box."""
    near = np.array([overlap(box, other) >= NEAR for other in answer.boxes])
    if not near.any():
        return None
    columns = [answer.phrases.index(f"{colour} {noun}") for colour in storybook.COLOURS]
    return tuple(storybook.COLOURS)[int(answer.scores[near][:, columns].max(0).argmax())]


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
