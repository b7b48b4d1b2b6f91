"""Is everything in the picture that was asked for? A detector's answer, subject by subject, and what went wrong.

The detector is asked twice: which things are there, in the words by which its errors were measured, and which colour
the coloured ones have. Boxes around one place are one thing, and presence is an assignment: things are given to
subjects, each to one at most, so that the scores add up to as much as they can. A subject is there when the thing it
was given has a score of THERE for it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from pipelines.models.registry import BUNDLED, MODELS
from pipelines.phrases import key, one_phrase, parts, place_of, singular
from pipelines.world import storybook

THERE = 0.3  # score from which a box shows a thing: the authors' own; how often that errs stands in the detector's card
SAME = 0.6  # IoU from which two boxes are one thing, whatever it is called
PART = 0.3  # IoU from which two boxes of one noun are one thing
NEAR = 0.5  # IoU from which a colour is that of a thing
OTHER_COLOUR = 0.5  # of its score a thing is worth to a subject of another colour
HINT = 1e-3  # of its score a thing is worth that does not reach the threshold: only to tell how near it came
FAULTS = ("missing", "mixed", "wrong colour", "duplicated")


Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A subject of a prompt."""

    noun: str
    colour: str | None = None  # None where none was asked for
    or_colours: tuple[str, ...] = ()  # others that it may be seen in, as "a red and blue car" may in blue

    @property
    def colours(self) -> tuple[str, ...]:
        return (self.colour, *self.or_colours) if self.colour else ()

    @property
    def meaning(self) -> tuple:
        """What two subjects have in common that ask for the same."""
        return key(self.noun), tuple(sorted(self.colours))

    @property
    def plural(self) -> bool:
        """Asked for as several: then another one is not one too many."""
        return any(word != singular(word) for word in parts(self.noun)[-1:])


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Of one picture, subject by subject in the order asked for."""

    present: tuple[bool, ...]
    scores: tuple[float, ...]  # for the noun: of the thing it was given, or of the one it lost to another noun
    boxes: tuple[Box | None, ...]  # of that thing; None where nothing was left
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
    """What a detector says to one question, such as `pipelines.detection.pipeline.Encoded`."""

    @property
    def phrases(self) -> tuple[str, ...]: ...  # P

    @property
    def scores(self) -> np.ndarray: ...  # (Q, P) of every query for every phrase, in [0, 1]

    @property
    def boxes(self) -> np.ndarray: ...  # (Q, 4) x0 y0 x1 y1


def _measured(detector: str) -> dict:
    file = BUNDLED / MODELS[detector].source / "quality.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def strict_threshold(detector: str) -> float:
    """The score at which only nine of ten true objects are found, and hardly anything that is absent; THERE for a
    detector that was not measured."""
    return _measured(detector).get("threshold_at_90_recall", THERE)


def wanted_of(noun: str, adjectives: Sequence[str]) -> Wanted:
    colours = [word for word in parts(" ".join(adjectives)) if word in storybook.COLOURS]
    return Wanted(noun=noun, colour=colours[0] if colours else None, or_colours=tuple(colours[1:]))


def things_of(wanted: Sequence[Wanted], detector: str) -> list[str]:
    """The first question: the nouns; of a detector whose errors were measured with all nouns of the drawn world in
    the prompt, all of them, for a score depends on what else is asked for."""
    others = storybook.NOUNS if _measured(detector) else ()
    return _each_once([*others, *(each.noun for each in wanted)])


def colours_of(wanted: Sequence[Wanted]) -> list[str]:
    """The second question: every colour of the things whose colour matters; empty where there is none."""
    nouns = _each_once([each.noun for each in wanted if each.colour])
    return [f"{colour} {noun}" for noun in nouns for colour in storybook.COLOURS]


def _each_once(nouns: Sequence[str]) -> list[str]:
    found: dict[str, str] = {}
    for noun in nouns:
        found.setdefault(key(noun), one_phrase(noun))
    return list(found.values())


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
        threshold: a thing of at least this score shows the noun.
    """
    scores, boxes = _things(things, [_column(things, each.noun) for each in wanted])
    shown = scores >= threshold
    colours = [
        [
            seen_colour(each.noun, box, colouring) if each.colour and there and colouring is not None else None
            for box, there in zip(boxes[number], shown[number], strict=True)
        ]
        for number, each in enumerate(wanted)
    ]
    worth = np.where(shown, scores, HINT * scores)
    for number, each in enumerate(wanted):
        other = [each.colour is not None and colour not in each.colours for colour in colours[number]]
        worth[number, other] *= OTHER_COLOUR
    given = _assigned(wanted, worth)
    owner = {thing: number for number, thing in enumerate(given) if thing is not None and shown[number, thing]}

    present, faults, kept, seen = [], [], [], []
    for number, each in enumerate(wanted):
        thing, fault, colour = given[number], "", None
        there = False
        if thing is not None and owner.get(thing) == number:
            there = True
            colour = colours[number][thing]
            spare = [other for other in np.flatnonzero(shown[number]).tolist() if other not in owner]
            if each.colour and colour not in each.colours:
                fault = "wrong colour"
            elif spare and not each.plural:
                fault = "duplicated"
        else:
            claimed = [other for other in np.flatnonzero(shown[number]).tolist() if other in owner]
            nouns = {other: key(wanted[owner[other]].noun) for other in claimed}
            lost = [other for other, noun in nouns.items() if noun != key(each.noun)]
            fault = "mixed" if lost else "missing"
            if lost:
                thing = max(lost, key=lambda other: scores[number, other])
        present.append(there)
        faults.append(fault)
        seen.append(colour)
        kept.append(None if thing is None or not scores[number, thing] else (number, thing))
    return Verdict(
        present=tuple(present),
        scores=tuple(0.0 if at is None else float(scores[at]) for at in kept),
        boxes=tuple(None if at is None else _box(boxes[at]) for at in kept),
        colours=tuple(seen),
        faults=tuple(faults),
    )


def _box(corners: np.ndarray) -> Box:
    x0, y0, x1, y1 = map(float, corners)
    return x0, y0, x1, y1


def _column(answer: Answer, phrase: str) -> int:
    place = place_of(phrase, answer.phrases)
    assert place is not None, f"{phrase} was not asked for"
    return place


def _things(answer: Answer, columns: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes gathered to things: (S, T) the score of every thing for every subject, and (S, T, 4) its best box for it.

    A box belongs to the first better one that it overlaps by SAME. Of things of one noun that overlap by PART, the best
    alone keeps its score.

    Args:
        columns: S, of the subjects among the phrases.
    """
    scores, boxes = np.asarray(answer.scores)[:, list(columns)], np.asarray(answer.boxes)
    groups: list[list[int]] = []
    for query in np.argsort(-scores.max(1, initial=0), kind="stable"):
        near = overlap(boxes[query], boxes[[group[0] for group in groups]]) >= SAME
        if near.any():
            groups[int(near.argmax())].append(int(query))
        else:
            groups.append([int(query)])
    best = np.array([[group[int(scores[group, n].argmax())] for group in groups] for n in range(len(columns))], int)
    best = best.reshape(len(columns), len(groups))
    found, places = np.take_along_axis(scores.T, best, 1).astype(float), boxes[best]
    for row, around in zip(found, places, strict=True):
        kept: list[int] = []
        for thing in np.argsort(-row, kind="stable"):
            if (overlap(around[thing], around[kept]) >= PART).any():
                row[thing] = 0
            else:
                kept.append(int(thing))
    return found, places


def _assigned(wanted: Sequence[Wanted], worth: np.ndarray) -> list[int | None]:
    """The thing of each subject, by a matching of maximum weight; None for those that got none. Of subjects that ask
    for the same, the first has the best. The order of the subjects changes nothing else.

    Args:
        worth: (S, T) of every thing for every subject.
    """
    from scipy.optimize import linear_sum_assignment

    order = sorted(range(len(wanted)), key=lambda number: wanted[number].meaning)
    rows, things = linear_sum_assignment(worth[order], maximize=True)
    given: list[int | None] = [None] * len(wanted)
    for row, thing in zip(rows, things, strict=True):
        given[order[row]] = int(thing)
    for meaning in {each.meaning for each in wanted}:
        alike = [number for number, each in enumerate(wanted) if each.meaning == meaning]
        had = [given[number] for number in alike]
        had.sort(key=lambda thing: np.inf if thing is None else -worth[alike[0], thing])
        for number, thing in zip(alike, had, strict=True):
            given[number] = thing
    return given


def seen_colour(noun: str, box: Sequence[float], answer: Answer) -> str | None:
    """The colour whose best box near this one scores highest; None where there is no box."""
    near = overlap(box, answer.boxes) >= NEAR
    if not near.any():
        return None
    columns = [_column(answer, f"{colour} {noun}") for colour in storybook.COLOURS]
    return tuple(storybook.COLOURS)[int(answer.scores[near][:, columns].max(0).argmax())]


def overlap(box: ArrayLike, others: ArrayLike) -> np.ndarray:
    """(4), (N, 4) -> (N) IoU of one box with others."""
    one, many = np.asarray(box, float), np.asarray(others, float).reshape(-1, 4)
    sides = (np.minimum(one[2:], many[:, 2:]) - np.maximum(one[:2], many[:, :2])).clip(0)
    areas = [(each[..., 2:] - each[..., :2]).clip(0).prod(-1) for each in (one, many)]
    shared = sides.prod(-1)
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
