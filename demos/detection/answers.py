"""What a detector found, held against the ground truth: words to ask for, true boxes, and what is drawn of both."""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import regex

from demos.ui import drawing
from demos.ui.pictures import Given
from demos.ui.text import named, say
from pipelines.errors import UserError
from pipelines.phrases import key, place_of, tidy
from pipelines.world import storybook

if TYPE_CHECKING:
    from pipelines.detection.pipeline import Curve, Detection, Encoded, Matching


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One model's detections in one picture at the present thresholds."""

    given: Given
    encoded: "Encoded"
    threshold: float  # that a score has to reach: the higher one of the box's and the text's
    unnamed: bool  # whether it is the text's
    kept: "list[Detection]"  # detections that are shown, best first
    below: "list[Detection]"  # those that do not reach the threshold
    suppressed: int  # boxes that reach the threshold and overlap a better one of their phrase
    hidden: tuple[str, ...]
    true: list | None  # (phrase, box) of everything that should be found; None where that is not known
    matching: "Matching"  # of `kept` and `true`
    curve: "Curve"  # over all thresholds

    def query_at(self, x: float, y: float, faint: bool) -> int | None:
        """The smallest shown box around a point in pixels of the picture."""
        around = [d for d in (*self.kept, *(self.below if faint else ())) if _within(d.box, x, y)]
        return min(around, key=lambda d: _area(d.box)).query if around else None


def _within(box: Sequence[float], x: float, y: float) -> bool:
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def evaluate(
    pipeline: Any,
    given: Given,
    encoded: "Encoded",
    true: list | None,
    limits: tuple[float, float, float],
    hidden: Sequence[str],
) -> Answer:
    """Detections at these limits (box threshold, text threshold, NMS), without a model."""
    box, text, nms = limits
    threshold = max(box, text)
    unseen = {key(phrase) for phrase in hidden}

    def visible(detections: list) -> list:
        return [d for d in detections if key(d.phrase) not in unseen]

    kept = visible(pipeline.select(encoded, box, text, nms))
    everything = visible(pipeline.select(encoded, 0, 0, nms))
    without_nms = visible(pipeline.select(encoded, box, text, None))
    true = true if true is None else [(phrase, each) for phrase, each in true if key(phrase) not in unseen]
    return Answer(
        given=given,
        encoded=encoded,
        threshold=threshold,
        unnamed=text > box,
        kept=kept,
        below=[d for d in everything if d.score < threshold],
        suppressed=len(without_nms) - len(kept),
        hidden=tuple(phrase for phrase in encoded.phrases if key(phrase) in unseen),
        true=true,
        matching=pipeline.match(kept, true or []),
        curve=pipeline.curve(everything, true or []),
    )


def frames_of(answer: Answer, faint: bool, picked: int | None) -> list[drawing.Frame]:
    """What is drawn: boxes in the colour of their phrase, true ones dashed, the rest faintly if wanted."""

    def frame(d, style: str) -> drawing.Frame:
        return drawing.Frame(
            box=d.box, label=f"{named(d.phrase)} {d.score:.2f}", colour=drawing.colour_of(d.place), style=style
        )

    drawn = [frame(d, "faint") for d in answer.below] if faint else []
    drawn += [
        drawing.Frame(box=box, label=named(phrase), colour=(255, 255, 255), style="truth")
        for phrase, box in answer.true or ()
    ]
    drawn += [frame(d, "picked" if d.query == picked else "solid") for d in answer.kept]
    return drawn + [frame(d, "picked") for d in answer.below if faint and d.query == picked]


# --------------------------------------------------------------------------------------------------------------- words


def _present(scene: storybook.Scene) -> list[str]:
    """The phrases of a scene that a detector can be asked for, each once."""
    return list(dict.fromkeys(o.phrase for o in scene.objects if o.noun not in storybook.UNSEEN))


def _absent(scene: storybook.Scene, count: int) -> list[str]:
    """Words that are not in the scene: its coloured things in another colour first, then other nouns."""
    rng, nouns = random.Random(scene.full_caption), {o.noun for o in scene.objects}
    twins = [
        f"{rng.choice([c for c in storybook.COLOURS if c != o.colour])} {o.noun}" for o in scene.objects if o.colour
    ]
    others = rng.sample([noun for noun in storybook.NOUNS if noun not in nouns], count)
    return [*twins, *others][:count]


def asked_of(scene: storybook.Scene) -> str:
    """The line of words a scene comes with: what is there, and two that are not."""
    return " . ".join([*_present(scene), *_absent(scene, 2)]) + " ."


def fill(kind: str, given: Given) -> str:
    """The line of words of a button: `there`, `absent` or `all`.

    Raises:
        UserError: for a picture whose truth is not known, but for `all`.
    """
    if kind == "all":
        return " . ".join(storybook.NOUNS) + " ."
    if given.scene is None:
        raise UserError(say("What is in this picture is not known here; it is known of storybook scenes."))
    words = _present(given.scene) if kind == "there" else _absent(given.scene, 6)
    return " . ".join(words) + " ."


# -------------------------------------------------------------------------------------------------------- ground truth


TRUE_BOX = regex.compile(r"\s*(.+?)\s*:\s*" + r"[\s,]+".join([r"(-?\d+(?:\.\d+)?)"] * 4) + r"\s*")


def _lines(text: str) -> list[str]:
    return [line for line in regex.split(r"[;؛]|\R", unicodedata.normalize("NFKC", text)) if line.strip()]


def kept_truth(text: str, phrases: Sequence[str]) -> tuple[str, list[str]]:
    """The true boxes without those of phrases that are not asked for, and these phrases. What is no true box stays, for
    whoever typed it to mend."""
    kept, gone = [], []
    for line in _lines(text):
        form = TRUE_BOX.fullmatch(line)
        if form and place_of(tidy(form[1]), phrases) is None:
            gone.append(tidy(form[1]))
        else:
            kept.append(line.strip())
    return "; ".join(kept), list(dict.fromkeys(gone))


def truth_line(phrase: str, box: Sequence[float]) -> str:
    return f"{phrase}: {' '.join(f'{side:.0f}' for side in box)}"


def truth_of(given: Given, phrases: Sequence[str], text: str) -> list | None:
    """(phrase, box) of what should be found for these phrases: as typed or drawn, else the scene's own.

    An object of the scene counts for the most exact phrase of it that was asked for, "red car" before "car"; "a red
    car", "Red cars" mean the same.

    Raises:
        UserError: for a line that is no box, a box outside the picture or without an area, a phrase not asked for.
    """
    if not text.strip():
        if given.scene is None:
            return None
        true: list[tuple[str, tuple[float, ...]]] = []
        for o in given.scene.objects:
            places = (place_of(name, phrases) for name in (o.phrase, o.noun))
            place = next((place for place in places if place is not None), None)
            if place is not None:
                true.append((phrases[place], o.box))
        return true
    true = []
    for line in _lines(text):
        form = TRUE_BOX.fullmatch(line)
        if not form:
            raise UserError(say("{line} is no true box. Write: cat: 12 30 70 96", line=repr(line.strip()[:60])))
        phrase, (x0, y0, x1, y1) = tidy(form[1]), map(float, form.groups()[1:])
        width, height = given.picture.size
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise UserError(
                say(
                    "The true box of {phrase} is not inside the picture of {width} by {height} pixels, or has no area.",
                    phrase=phrase,
                    width=width,
                    height=height,
                )
            )
        place = place_of(phrase, phrases)
        if place is None:
            raise UserError(
                say("{phrase} is not among the words to look for: {words}.", phrase=phrase, words=", ".join(phrases))
            )
        true.append((phrases[place], (x0, y0, x1, y1)))
    return true
