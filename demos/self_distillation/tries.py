"""What to try in self-distillation, foretold: demos/ui/tries.py asks it."""

from demos.ui.tries import Numbers, Try, among, both

STATES = ("alive: a few likely ones for each patch", "too sharp: sure of one", "uniform: all equally likely")


def _state(before: Numbers, after: Numbers) -> int:
    return {"none": 0, "hard": 1, "one": 1, "uniform": 2}[after["collapse"]]


def _entropies(before: Numbers, after: Numbers) -> dict[str, object]:
    return {**both("teacher_entropy", ".2f")(before, after), "most": f"{after['teacher_entropy_max']:.2f}"}


def _breaking(name: str, line: str, **then: object) -> Try:
    return Try(
        name=name,
        line=line,
        question="What becomes of the teacher's answers?",
        answers=STATES,
        then=then,
        answer=_state,
        message="Its entropy was {before} nats and is {after}, of at most ln K = {most}.",
        values=_entropies,
    )


def _agreeing(name: str, line: str, state: dict, **then: object) -> Try:
    return Try(
        name=name,
        line=line,
        question="For how many hidden patches is its first choice still the teacher's?",
        answers=("less than half", "half to three quarters", "more than three quarters"),
        state=state,
        then=then,
        answer=lambda before, after: among(after["agreement"], 0.5, 0.75),
        message="Same first choice: {before} before, {after} now; chance would be {chance}.",
        values=lambda before, after: {
            **both("agreement", ".0%")(before, after),
            "chance": f"{1 / after['prototypes']:.1%}",
        },
    )


TRIES = (
    _agreeing("few", "Show the student a tenth of the patches, not nine tenths.", {"keep_ratio": 0.9}, keep_ratio=0.1),
    _agreeing("lowest", "Show the student the background: the patches with the lowest attention.", {}, rule="inverse"),
    _breaking("sharp", "Sharpen the teacher: temperature 0.01.", teacher_temperature=0.01),
    _breaking("flat", "Make both soft: temperatures of 0.5.", teacher_temperature=0.5, student_temperature=0.5),
    _breaking("centring", "Switch centring off.", centering=False),
)
