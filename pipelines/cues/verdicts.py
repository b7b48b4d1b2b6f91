"""What a class expects of each lesson before it runs, and what the run says. Everything is computed from the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.predictions import Verdict, judge
from pipelines.shares import differ

if TYPE_CHECKING:
    from pipelines.cues import equivariance, positions, scramble, texture_shape, transfer, universal
    from pipelines.cues.settings import BorrowSettings, FreezeSettings, UniversalSettings

ROUNDING = 1e-9  # a difference below it, in float64, is rounding

# ------------------------------------------------------------------------------------------------ order does not matter

EQUIVARIANCE = "Number the nodes anew. Does every node keep its answer?"
EQUIVARIANCE_ANSWERS = {
    "valid": "Valid: every node keeps its answer, whatever its number",
    "invalid": "Not valid: some answers change with the numbers",
}


def of_equivariance(found: equivariance.Renumbered, guess: str | None = None) -> Verdict:
    """Of the permutation that is shown and of further random ones."""
    if found.most <= ROUNDING:
        message = "No permutation that was tried changes an answer by more than {most:.0e}: that is rounding."
        return judge(EQUIVARIANCE_ANSWERS, guess, "valid", message, most=found.most)
    message = "This new order changes answers by up to {shown:.2g}; another one by {most:.2g}."
    if found.difference <= ROUNDING:
        message = "This new order changes nothing, but another one changes answers by up to {most:.2g}."
    return judge(EQUIVARIANCE_ANSWERS, guess, "invalid", message, shown=found.difference, most=found.most)


PATCHES = "The patches of a picture come in another order. When does CLIP notice?"
PATCHES_ANSWERS = {
    "never": "Never",
    "without": "Only if the positions stay where they were",
    "with": "Only if each patch takes its position along",
    "always": "Always",
}


def of_patches(found: positions.Patches, guess: str | None = None) -> Verdict:
    """Of one permutation."""
    noticed = (found.with_positions > ROUNDING, found.without > ROUNDING)
    answer = {(False, False): "never", (False, True): "without", (True, False): "with", (True, True): "always"}[noticed]
    return judge(
        PATCHES_ANSWERS,
        guess,
        answer,
        "With their positions the patches give the same answer to {along:.0e}; without, it changes by {apart:.2g}.",
        along=found.with_positions,
        apart=found.without,
    )


# ------------------------------------------------------------------------------------------- one noise for all pictures

UNIVERSAL = "One noise, at most {epsilon}/255, added to {count} never-seen pictures: how many change their name?"
UNIVERSAL_ANSWERS = {
    "random": "No more than under random signs of the same strength",
    "some": "More than that, but less than half",
    "most": "More than half",
}


def universal_asked(settings: UniversalSettings) -> dict[str, object]:
    """The values of UNIVERSAL."""
    return {"epsilon": settings.epsilon, "count": 200}


def of_universal(found: universal.Step, guess: str | None = None) -> Verdict:
    """Of the last step: learned beside random, further apart than chance or not."""
    learned, random = found.tried["learned"], found.tried["random"]
    other = found.tried.get("other")
    told = (
        "The learned noise changes the name of {learned:.1%} of {count} pictures, random signs of the same strength "
        "{random:.1%}, the learned noise with its pixels shuffled {shuffled:.1%}."
    )
    if other:
        told = (
            "The learned noise changes the name of {learned:.1%} of {count} pictures, random signs of the same "
            "strength {random:.1%}, the learned noise with its pixels shuffled {shuffled:.1%}; another network is "
            "fooled in {other:.1%}."
        )
    more = learned.rate > random.rate and differ(learned.rate, random.rate, learned.pictures)
    return judge(
        UNIVERSAL_ANSWERS,
        guess,
        "random" if not more else "most" if learned.rate > 0.5 else "some",
        told,
        learned=learned.rate,
        random=random.rate,
        shuffled=found.tried["shuffled"].rate,
        count=learned.pictures,
        **({"other": other.rate} if other else {}),
    )


# ------------------------------------------------------------------------------------------------------ scrambled parts

SCRAMBLE = "Both networks have learned from whole pictures. Which one is as good at pictures in pieces?"
SCRAMBLE_ANSWERS = {
    "both": "Both",
    "a": "Network A alone",
    "b": "Network B alone",
    "neither": "Neither",
}


def of_scramble(found: scramble.Frame, guess: str | None = None) -> Verdict:
    """Of the last frame: whether the share right falls by more than chance. Who knows nothing keeps nothing."""

    def keeps(step: scramble.Step) -> bool:
        assert step.whole is not None and step.scrambled is not None
        knows = step.whole > found.chance and differ(step.whole, found.chance, found.queries)
        return knows and not (step.scrambled < step.whole and differ(step.whole, step.scrambled, found.queries))

    kept = (keeps(found.a), keeps(found.b))
    answer = {(True, True): "both", (True, False): "a", (False, True): "b", (False, False): "neither"}[kept]
    return judge(
        SCRAMBLE_ANSWERS,
        guess,
        answer,
        "A is right about {a:.1%} of whole and {a_pieces:.1%} of scrambled pictures, B about {b:.1%} and "
        "{b_pieces:.1%}; the commonest answer to everything is right about {chance:.1%}.",
        a=found.a.whole,
        a_pieces=found.a.scrambled,
        b=found.b.whole,
        b_pieces=found.b.scrambled,
        chance=found.chance,
    )


# -------------------------------------------------------------------------------------------------------- borrowed eyes

BORROWED = "It has never met these four things. With {examples} of each: how many of {count} pictures are right?"
BORROWED_ANSWERS = {
    "chance": "A quarter: it has never met them",
    "pixels": "No more than raw pixels get",
    "more": "More than raw pixels, but less than nine in ten",
    "nearly": "Nine in ten or more",
}
QUARTER = 0.25


def borrowed_asked(settings: BorrowSettings) -> dict[str, object]:
    """The values of BORROWED."""
    return {"examples": settings.examples, "count": 200}


def of_borrowed(found: transfer.Borrowed, guess: str | None = None) -> Verdict:
    """Of the mean over choices of examples."""
    share, pixels = found.features.mean, found.pixels.mean
    if not share > QUARTER or not differ(share, QUARTER, found.queries):
        answer = "chance"
    elif not share > pixels or not differ(share, pixels, found.queries):
        answer = "pixels"
    else:
        answer = "nearly" if share >= 0.9 else "more"
    return judge(
        BORROWED_ANSWERS,
        guess,
        answer,
        "Borrowed features are right about {share:.1%} (±{spread:.1%} over choices of examples), raw pixels about "
        "{pixels:.1%}, the same tower with random weights about {random:.1%}.",
        share=share,
        spread=found.features.spread,
        pixels=pixels,
        random=found.random.mean,
    )


FROZEN = "After training: how many of {count} never-seen pictures are right?"
FROZEN_ANSWERS = {
    "chance": "A quarter: no more than a guess",
    "half": "More than a quarter, but less than half",
    "more": "Half to nine in ten",
    "nearly": "Nine in ten or more",
}


def frozen_asked(settings: FreezeSettings) -> dict[str, object]:
    """The values of FROZEN."""
    return {"count": 200}


def of_frozen(found: transfer.Step, guess: str | None = None) -> Verdict:
    """Of the last step."""
    assert found.right is not None
    if not found.right > QUARTER or not differ(found.right, QUARTER, 200):
        answer = "chance"
    else:
        answer = "half" if found.right < 0.5 else "more" if found.right < 0.9 else "nearly"
    return judge(
        FROZEN_ANSWERS,
        guess,
        answer,
        "{right:.1%} are right after {steps} steps in which {learns:,} of {of:,} numbers learned; no frozen one moved "
        "by more than {moved:g}.",
        right=found.right,
        steps=found.step,
        learns=found.learns,
        of=found.of,
        moved=found.moved,
    )


# ----------------------------------------------------------------------------------------------------- texture or shape

TEXTURE = "Both could learn the shape or the texture. Which one calls a cat in another animal's stripes by its shape?"
TEXTURE_ANSWERS = {
    "both": "Both",
    "a": "Network A alone",
    "b": "Network B alone",
    "neither": "Neither",
}


def of_texture(found: texture_shape.Frame, guess: str | None = None) -> Verdict:
    """Of the last frame: who has the whole interval of its shape bias above one half."""
    a, b = found.a.look, found.b.look
    assert a is not None and b is not None
    shapes = (a.interval[0] > 0.5, b.interval[0] > 0.5)
    answer = {(True, True): "both", (True, False): "a", (False, True): "b", (False, False): "neither"}[shapes]
    return judge(
        TEXTURE_ANSWERS,
        guess,
        answer,
        "Of {count} pictures whose cues disagree A calls {a_shape} by their shape and {a_texture} by their texture, B "
        "{b_shape} and {b_texture}: their shape bias lies between {a_low:.2f} and {a_high:.2f}, and between "
        "{b_low:.2f} and {b_high:.2f}. Of flat shapes they name {a_flat:.1%} and {b_flat:.1%}.",
        count=a.shape + a.texture + a.neither,
        a_shape=a.shape,
        a_texture=a.texture,
        b_shape=b.shape,
        b_texture=b.texture,
        a_low=a.interval[0],
        a_high=a.interval[1],
        b_low=b.interval[0],
        b_high=b.interval[1],
        a_flat=a.flat,
        b_flat=b.flat,
    )
