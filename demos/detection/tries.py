"""What to try in detection, foretold: demos/ui/tries.py asks it."""

from demos.ui.text import named, say
from demos.ui.tries import NO_YES, Numbers, Try, among, both
from pipelines.world import storybook

ALL = " . ".join(storybook.NOUNS) + " ."
COLOURED = "green car"


def _found(before: Numbers, after: Numbers) -> dict[str, object]:
    shown = [f"{named(found['phrase'])} {found['score']:.2f}" for found in after["detections"]]
    return {"found": ", ".join(shown) or say("nothing")}


TRIES = (
    Try(
        name="unknown",
        line="Show it a tree and an umbrella, which it has never seen, and ask for all 24 nouns that it knows.",
        question="How many boxes will there be?",
        answers=("none", "one", "more"),
        state={"picture": "a tree and an umbrella", "prompt": "cat . dog ."},
        then={"prompt": ALL},
        answer=lambda before, after: among(len(after["detections"]), 1, 2),
        message="Found: {found}. None of the 24 nouns is there.",
        values=_found,
    ),
    Try(
        name="colours",
        line="A red car left of a blue car: ask for a red car, a green car and a car.",
        question="Is there a box for the green car?",
        answers=NO_YES,
        state={"picture": "a red car left of a blue car", "prompt": "car ."},
        then={"prompt": f"red car . {COLOURED} . car ."},
        answer=lambda before, after: COLOURED in [found["phrase"] for found in after["detections"]],
        message="Found: {found}.",
        values=_found,
    ),
    Try(
        name="lax",
        line="Ask for all 24 nouns and lower the threshold to 0.05.",
        question="How many false alarms come in?",
        answers=("none", "one or two", "more"),
        state={"prompt": ALL, "text_threshold": 0.0},
        then={"box_threshold": 0.05},
        answer=lambda before, after: among(after["false_positives"] - before["false_positives"], 1, 3),
        message="False alarms: {before} before, {after} now. Found: {found}.",
        values=lambda before, after: {**both("false_positives", "d")(before, after), **_found(before, after)},
    ),
    Try(
        name="strict",
        line="Ask for all 24 nouns and raise the threshold to 0.92.",
        question="How many of the two things are still found?",
        answers=("none", "one", "both"),
        state={"prompt": ALL},
        then={"box_threshold": 0.92},
        answer=lambda before, after: min(2, after["true_positives"]),
        message="True things found: {before} before, {after} now. Found: {found}.",
        values=lambda before, after: {**both("true_positives", "d")(before, after), **_found(before, after)},
    ),
    Try(
        name="print",
        line="Show it a printed page and ask for all 24 nouns.",
        question="What does a model of drawings find there?",
        answers=("nothing", "one thing", "several things"),
        state={"picture": "printed page", "prompt": "cat . dog ."},
        then={"prompt": ALL},
        answer=lambda before, after: among(len(after["detections"]), 1, 2),
        message="Found: {found}. There is none of these on the page.",
        values=_found,
    ),
)
