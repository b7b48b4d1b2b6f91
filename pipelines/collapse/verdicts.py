"""What a class expects of each lesson before it runs, and what the run says. Everything is computed from the run.

A verdict is about knowledge where two accuracies differ by more than chance would: 1.96 standard errors of their
difference over the pictures asked about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.predictions import Verdict, judge

if TYPE_CHECKING:
    from pipelines.collapse import greedy, lab, multicrop, packing, pretext

QUERIES = 500  # pictures a 5-NN is measured on
PROBED = 400  # and a probe of the greedy modules
COLLAPSED = 0.1  # feature_std of z below which a run has collapsed


def differ(first: float, second: float, queries: int = QUERIES) -> bool:
    """Whether two shares of `queries` pictures are further apart than chance."""
    error = math.sqrt((first * (1 - first) + second * (1 - second)) / queries)
    return abs(first - second) > 1.96 * error


# ------------------------------------------------------------------------------------------------------------ the lab

LAB = "Which run ends with the lower loss, and which one knows more?"
LAB_ANSWERS = {
    "both_whole": "The whole one has the lower loss and knows more",
    "crossed": "The broken one has the lower loss, the whole one knows more",
    "broken": "The broken one knows more",
    "alike": "They know the same",
}


def collapsed_at(steps: Sequence[lab.Step]) -> int | None:
    """The first step from which the feature_std of z stays below COLLAPSED, if there is one."""
    last = next((step.step for step in reversed(steps) if step.feature_std >= COLLAPSED), None)
    if last is None:
        return steps[0].step
    return next((step.step for step in steps if step.step > last), None)


def of_lab(frames: Sequence[lab.Frame], guess: str | None = None) -> Verdict:
    """Of a run of the lab, all its frames."""
    a, b = frames[-1].a, frames[-1].b
    assert a.knn is not None and b.knn is not None and a.loss is not None and b.loss is not None
    if not differ(a.knn, b.knn):
        answer = "alike"
    elif b.knn > a.knn:
        answer = "broken"
    else:
        answer = "crossed" if b.loss < a.loss else "both_whole"
    when = collapsed_at([frame.b for frame in frames])
    message = (
        "After {steps} steps the whole method has loss {loss_a:.3f} and names {knows_a:.0%}; the other one has loss "
        "{loss_b:.3f} and names {knows_b:.0%}. The spread of its features is {std:.3f} in the end: it has not become a "
        "single point."
    )
    if when is not None:
        message = (
            "After {steps} steps the whole method has loss {loss_a:.3f} and names {knows_a:.0%}; the other one has "
            "loss {loss_b:.3f} and names {knows_b:.0%}. The spread of its features is below {limit} from step {when} "
            "on, {std:.3f} in the end."
        )
    return judge(
        LAB_ANSWERS,
        guess,
        answer,
        message,
        steps=a.step,
        loss_a=a.loss,
        loss_b=b.loss,
        knows_a=a.knn,
        knows_b=b.knn,
        std=b.feature_std,
        when=when,
        limit=COLLAPSED,
    )


# --------------------------------------------------------------------------------------------------------- the sweeps

SWEEP = "From random weights: which batch ends up knowing most?"
SWEEP_ANSWERS = {
    "small": "The smallest",
    "middle": "One in the middle",
    "large": "The largest",
    "alike": "No difference that can be measured",
}


def of_sweep(knows: dict[int, float], guess: str | None = None) -> Verdict:
    """Of the 5-NN by batch size."""
    sizes, best = sorted(knows), max(knows, key=lambda size: knows[size])
    answer = "small" if best == sizes[0] else "large" if best == sizes[-1] else "middle"
    if not any(differ(knows[best], each) for each in knows.values()):
        answer = "alike"
    return judge(
        SWEEP_ANSWERS,
        guess,
        answer,
        "Batch {best} names {most:.0%}, the smallest, {small}, {few:.0%}, and the largest, {large}, {many:.0%}.",
        best=best,
        most=knows[best],
        small=sizes[0],
        few=knows[sizes[0]],
        large=sizes[-1],
        many=knows[sizes[-1]],
    )


# ------------------------------------------------------------------------------------------------ big and small crops

MULTICROP = "If small crops attract each other: will the crop of the cat and the crop of the car get the same vector?"
MULTICROP_ANSWERS = {
    "closer": "Closer than when they are pushed apart",
    "alike": "It makes no difference that can be measured",
    "further": "Further apart",
}


def of_multicrop(frames: Sequence[multicrop.Frame], guess: str | None = None) -> Verdict:
    """Of the two objects' small crops, B beside A; 1.96 standard errors over scenes."""
    a, b = (step.look.different for step in (frames[-1].a, frames[-1].b) if step.look is not None)
    by = b.mean - a.mean
    sure = 1.96 * math.hypot(a.error, b.error)
    answer = "alike" if abs(by) <= sure else "closer" if by > 0 else "further"
    return judge(
        MULTICROP_ANSWERS,
        guess,
        answer,
        "Crops of the two objects of a scene have the cosine {a:.2f} in A and {b:.2f} in B, a difference of {by:+.2f}; "
        "chance makes ±{sure:.2f}.",
        a=a.mean,
        b=b.mean,
        by=by,
        sure=sure,
    )


# ---------------------------------------------------------------------------------------------------------- pretexts

PRETEXT = "It tells which way a picture was turned. Are its neighbours of the same kind now?"
PRETEXT_ANSWERS = {
    "more": "More often than before training",
    "alike": "As often as before training",
    "less": "Less often than before training",
}


def of_pretext(frames: Sequence[pretext.Frame], guess: str | None = None) -> Verdict:
    """Of run A's 5-NN by noun, before and after."""
    first, last = frames[0].a, frames[-1].a
    assert first.look is not None and last.look is not None
    before, after = first.look.knn, last.look.knn
    answer = "alike" if not differ(before, after) else "more" if after > before else "less"
    message = "Of the pictures' neighbours {after:.0%} tell the noun; before training it was {before:.0%}."
    if last.task_accuracy is not None:
        message = (
            "It solves its task for {task:.0%}, where chance is {chance:.1%}. Of the pictures' neighbours {after:.0%} "
            "tell the noun; before training it was {before:.0%}."
        )
    return judge(
        PRETEXT_ANSWERS,
        guess,
        answer,
        message,
        task=last.task_accuracy,
        chance=last.task_chance,
        before=before,
        after=after,
    )


# ------------------------------------------------------------------------------------------------------ greedy modules

GREEDY = "No one tells the first module what the second needs. Does the second still know more than the first?"
GREEDY_ANSWERS = {
    "more": "Yes, the second one knows more",
    "alike": "They know the same",
    "less": "No, it knows less",
}


def of_greedy(frames: Sequence[greedy.Frame], guess: str | None = None) -> Verdict:
    """Of the probes of run A's first and second module."""
    nouns, end = frames[-1].a.nouns, frames[-1].b.nouns
    assert nouns is not None and end is not None
    untrained = frames[-1].baselines.untrained
    first, second = nouns[:2]
    answer = "alike" if not differ(first, second, PROBED) else "more" if second > first else "less"
    return judge(
        GREEDY_ANSWERS,
        guess,
        answer,
        "Greedy modules name {one:.0%}, {two:.0%} and {three:.0%}; untrained {raw_one:.0%}, {raw_two:.0%} and "
        "{raw_three:.0%}; the last one of the network taught end to end {end:.0%}.",
        one=first,
        two=second,
        three=nouns[2],
        raw_one=untrained[0],
        raw_two=untrained[1],
        raw_three=untrained[2],
        end=end[2],
    )


# -------------------------------------------------------------------------------------------------------- packed crops

PACKING = "Which way is the fastest, and does it change the result?"
PACKING_ANSWERS = {
    "packed": "One sequence under a mask; the same result",
    "padded": "All filled up to the longest; the same result",
    "separate": "One pass for each; the same result",
    "changes": "The fastest changes the result",
}
SAME = 1e-5  # largest difference that is rounding, in float32


def of_packing(frames: Sequence[packing.Timing], guess: str | None = None) -> Verdict:
    """Of the median milliseconds."""
    last = frames[-1]
    ways = {name: last.milliseconds[name] for name in ("packed", "padded", "separate")}
    best = min(ways, key=lambda name: ways[name])
    changed = {"packed": last.difference, "padded": last.difference_padded, "separate": 0.0}[best]
    return judge(
        PACKING_ANSWERS,
        guess,
        best if changed <= SAME else "changes",
        "Packed {packed:.1f} ms, padded {padded:.1f} ms, one by one {separate:.1f} ms; the outputs of packed and one "
        "by one differ by {difference:.1g}.",
        **ways,
        difference=last.difference,
    )
