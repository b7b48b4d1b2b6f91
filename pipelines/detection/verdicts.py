"""What a class expects before it sees the four boxes, and what they say. Everything is computed from the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.predictions import Verdict, judge

if TYPE_CHECKING:
    from pipelines.detection import masks, threshold
    from pipelines.detection.settings import MaskSettings

ALWAYS_NO = "Somebody looks at no picture and always says no. How often is that right?"
ALWAYS_NO_ANSWERS = {
    "never": "Hardly ever",
    "half": "About as often as a coin",
    "often": "More often than a coin, less often than the model",
    "better": "At least as often as the model at this threshold",
}


def of_always_no(found: threshold.Counted, guess: str | None = None) -> Verdict:
    """Beside the accuracy at the chosen threshold."""
    no, model = found.always_no, found.accuracy
    if no >= model:
        answer = "better"
    else:
        answer = "never" if no < 0.4 else "half" if no <= 0.6 else "often"
    message = "Always no is right in {no:.1%} of pictures and finds nothing; the model is right in {model:.1%}."
    return judge(ALWAYS_NO_ANSWERS, guess, answer, message, no=no, model=model)


CURVES = "Fewer pictures hold one, and the model stays what it is. Which curve moves?"
CURVES_ANSWERS = {
    "both": "Both",
    "roc": "ROC: true positives against false ones",
    "precision": "Precision against recall",
    "none": "None: the model stays what it is",
}


def of_curves(found: threshold.Counted, guess: str | None = None) -> Verdict:
    """Of the two areas at a tenth of the base rate, beside those at the base rate."""
    before, after = found.curves, found.rarer
    moves = {
        "roc": abs(after.roc_area - before.roc_area) > 1e-9,
        "precision": abs(after.average_precision - before.average_precision) > 1e-9,
    }
    moved = [name for name, does in moves.items() if does]
    return judge(
        CURVES_ANSWERS,
        guess,
        "both" if len(moved) == 2 else moved[0] if moved else "none",
        "At a tenth of the base rate the area under ROC goes from {roc:.3f} to {roc_rarer:.3f}, the average precision "
        "from {precision:.3f} to {precision_rarer:.3f}.",
        roc=before.roc_area,
        roc_rarer=after.roc_area,
        precision=before.average_precision,
        precision_rarer=after.average_precision,
    )


MASKS = "It has never had a mask of a {thing}. What of it comes out right?"
MASKS_ANSWERS = {
    "mask": "Not even the mask",
    "name": "The mask, not the name",
    "words": "Mask and name; with random word vectors the mask alone",
    "both": "Mask and name, with random word vectors too",
}


def masks_asked(settings: MaskSettings) -> dict[str, object]:
    """The values of MASKS."""
    return {"thing": settings.unseen}


def of_masks(settings: MaskSettings, found: masks.Result, guess: str | None = None) -> Verdict:
    """Of the six unseen things together, by majority: of one there are few."""
    masked, named, random = (
        found.masked["unseen"],
        found.named[settings.namer]["unseen"],
        found.named["random"]["unseen"],
    )
    if masked <= 0.5:
        answer = "mask"
    elif named <= 0.5:
        answer = "name"
    else:
        answer = "words" if random <= 0.5 else "both"
    own = found.unseen[settings.unseen]
    return judge(
        MASKS_ANSWERS,
        guess,
        answer,
        "Of the six things without a mask {masked:.0%} get a right one, and {named:.0%} of these the right name; with "
        "random word vectors {random:.0%}. Of {things} pictures with a {thing}: {own} right masks, {right} right "
        "names.",
        masked=masked,
        named=named,
        random=random,
        thing=settings.unseen,
        things=own.things,
        own=own.found,
        right=own.called.get(settings.unseen, 0),
    )
