"""The skeleton of the labs: a question whose answers come before the run, a verdict computed from the run, a tally.

A lab's main handler takes `settings` and `guess` (the key of an answer, or nothing: a program need not guess), and its
answer has the parts `status`, `verdict` (made by `verdict`) and `numbers` (whose key "verdict" is `Verdict.record()`).
"""

import html
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from gradio.events import Dependency

from demos.ui import address, controls, drawing
from demos.ui.events import OFTEN
from demos.ui.film import Film, FilmPlayer
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.errors import UserError
from pipelines.predictions import Verdict

SECRET = "patchlight"  # the same after a restart: a tally is no secret
LONGEST = 300  # seconds that a run may be expected to take


# ------------------------------------------------------------------------------------------------------------- layout


def ask(tab: Tab, question: str, answers: Mapping[str, str], button: str = "Run") -> None:
    """Lay out the question with its answers, the button that wakes with one of them, Stop, Reset, and the tally.

    Parts: `guess`, `run`, `stop`, `reset`, `announced`, `score`, and `tally`, which the browser keeps.

    Args:
        answers: key -> text, of `pipelines.<method>.verdicts`.
    """
    tab.question("guess", question, answers)
    with gr.Row(elem_classes="act"):
        tab.button("run", button, variant="primary", size="md", interactive=False, scale=3, min_width=120)
        tab.stop(size="md", scale=1, min_width=70)
        tab.button("reset", "Reset", size="md", scale=1, min_width=70)
    with gr.Row():
        tab.markdown("announced", elem_classes="note")
        tab.markdown("score", elem_classes="note")
    keep_tally(tab)


def keep_tally(tab: Tab) -> None:
    """The part `tally`: how many runs were foreseen, of how many; the browser keeps it."""
    tab.add("tally", gr.BrowserState({}, storage_key=f"patchlight-{tab.slug}", secret=SECRET))


def answered(tab: Tab) -> None:
    """Lay out what is said of the run. Parts: `status` and `verdict`."""
    tab.markdown("status", value=t("Choose an answer, then run."))
    tab.html("verdict")


def lay_out(
    tab: Tab, question: str, answers: Mapping[str, str], settings: Sequence[str], more: Sequence[str], pictures: str
) -> None:
    """A whole page for `follow`.

    Args:
        settings: whose controls stand below the question.
        more: whose controls stand in an accordion.
        pictures: the label of the part `pictures`.
    """
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            ask(tab, question, answers, button="Run A and B")
            for name in settings:
                tab.control(name)
            with gr.Accordion(t("More settings"), open=False):
                for name in more:
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            results(tab, pictures)


def results(tab: Tab, pictures: str) -> None:
    """Lay out what `follow` fills, and the part `samples`."""
    answered(tab)
    tab.html("samples")
    tab.add("film", FilmPlayer(elem_id=tab.id("film")))
    tab.html("facts")
    tab.panel("pictures", pictures)
    with gr.Accordion(t("Numbers as JSON"), open=False):
        tab.numbers()


def wire(
    tab: Tab,
    seconds: Callable[[Any], float],
    listen: Sequence[str] = (),
    empties: Sequence[str] = (),
    samples: Callable[[], np.ndarray] | None = None,
) -> Dependency:
    """Connect the parts of `ask` and `answered`, and the settings with the address. The returned event is the run.

    Args:
        seconds: how long a run with these settings is expected to take.
        listen: the sliders it depends on.
        empties: parts besides the lesson's that Reset empties.
        samples: draws some of the pictures that are learned from, (n, S, S, 3) uint8; the part `samples` shows them.
    """
    settings = [name for name in tab.settings if name in tab.parts]

    def announce(settings: Any) -> dict:
        return {"announced": announced(seconds(settings))}

    def wake(settings: Any, guess: str | None) -> dict:
        """Who has chosen an answer may run."""
        return {"run": gr.Button(interactive=bool(guess)), **announce(settings)}

    def reset() -> dict:
        shown = {name: tab.settings[name].default for name in settings}
        return {**shown, **dict.fromkeys([*tab.lesson.shows, *empties]), **_asleep(), "status": ""}

    for handler in (announce, wake):
        handler.__annotations__["settings"] = tab.lesson.settings
    tab.quick([*tab.chosen, *(tab[name].change for name in listen)], announce, ["announced"])
    tab.quick(address.keep(tab).then, announce, ["announced"])
    tab.quick(tab["guess"].input, wake, ["run", "announced"])
    run = tab.main(tab["run"].click)
    tab.quick(run.success, count, ["tally", "score", "guess", "run"])
    tab.quick(tab.chosen, score, ["score"])
    if samples is not None:
        draw = samples

        def show_samples() -> dict:
            """So that nobody waits before an empty page."""
            return {"samples": strip(draw(), say("Some of the pictures they learn from"))}

        tab.quick(tab.chosen, show_samples, ["samples"])
    emptied = dict.fromkeys([*settings, *tab.lesson.shows, *empties, "guess", "run", "status"])
    undone = tab.quick(tab["reset"].click, reset, list(emptied))
    address.clear(tab, undone.then)
    return run


# ----------------------------------------------------------------------------------------------------------- handlers


def _asleep() -> dict:
    """The question is open again."""
    return {"guess": "", "run": gr.Button(interactive=False)}


def count(numbers: dict | None, tally: dict | None) -> dict | None:
    """After a run with a guess: one more in the tally, and the question is open again."""
    right = ((numbers or {}).get("verdict") or {}).get("right")
    if right is None:
        return None
    return {**counted(tally, right), **_asleep()}


def counted(tally: dict | None, right: bool) -> dict:
    """One run more in the tally."""
    kept = tally_of(tally)
    kept = {"right": kept["right"] + int(right), "of": kept["of"] + 1}
    return {"tally": kept, **score(kept)}


def score(tally: dict | None) -> dict:
    """How many runs were foreseen so far."""
    kept = tally_of(tally)
    return {"score": say("You foresaw {right} of {of} runs.", **kept) if kept["of"] else ""}


def tally_of(kept: object) -> dict[str, int]:
    """What a browser has kept, if it can be one."""
    if isinstance(kept, dict) and all(isinstance(kept.get(name), int) for name in ("right", "of")):
        return {"right": kept["right"], "of": kept["of"]}
    return {"right": 0, "of": 0}


# ------------------------------------------------------------------------------------------------------- a run on show


@dataclass(frozen=True, kw_only=True)
class Show:
    """How a lab with a film shows its run. A frame is a record of the pipeline; it has `a`, with a step, and `b`."""

    answers: Mapping[str, str]
    film: Callable[[Any, Any], Film]  # of the first frame and the settings: an empty one
    add: Callable[[Film, list], None]  # the last of these frames to the film
    facts: Callable[[list, Any], str]  # of all frames so far and the settings
    verdict: Callable[[list, str | None], Verdict]  # of all frames and the guess
    numbers: Callable[[Any, Any], dict]  # of the last frame and the settings
    pictures: Callable[[Any], dict] = lambda frame: {}  # other parts, of one frame


def follow(show: Show, frames: Iterable[Any], settings: Any, guess: object) -> Iterator[dict]:
    """A run as the page shows it: the parts `pictures`, `film`, `status`, `verdict`, `facts` and `numbers`.

    Args:
        frames: of the pipeline, after records of pictures that are being drawn.
    """
    chosen, start = guessed(show.answers, guess), time.monotonic()
    yield {"status": say("Getting ready …"), "film": None, "verdict": "", "facts": ""}
    seen: list[Any] = []
    film: Film | None = None
    for now, due in paced(frames):
        if not hasattr(now, "baselines"):
            yield {"status": drawing_pictures(now), "pictures": drawing.sheet(now.pictures, 12)}
            continue
        film = film or show.film(now, settings)
        seen.append(now)
        show.add(film, seen)
        if due or len(seen) == 1:
            told = {"status": progress(now.a.step, now.a.steps), "facts": show.facts(seen, settings)}
            yield {**told, "film": film.value(), **show.pictures(now)}
    assert film is not None, "a run has frames"
    found = show.verdict(seen, chosen)
    record = {"seconds": time.monotonic() - start, "verdict": found.record()}
    yield {
        "status": "",
        "film": film.value(),
        "facts": show.facts(seen, settings),
        "verdict": verdict(found, show.answers),
        "numbers": {**show.numbers(seen[-1], settings), **record},
        **show.pictures(seen[-1]),
    }


FOLLOWED = ("pictures", "film", "status", "verdict", "facts", "numbers")  # what `follow` fills


# ------------------------------------------------------------------------------------------------------ what is shown


def guessed(answers: Mapping[str, str], guess: object) -> str | None:
    """The key of an answer that arrived over the wire, before anything is computed for it; None where there is none.

    Raises:
        UserError: for a guess that could not be chosen.
    """
    return None if guess in (None, "") else controls.choice(say("The answer"), guess, answers)


def strip(pictures: np.ndarray, told: str) -> str:
    """Some pictures in a row, and below them what they are."""
    images = "".join(f'<img alt="" src="{drawing.source_of(picture)}">' for picture in pictures)
    return f'<figure class="samples"><div>{images}</div><figcaption>{html.escape(told)}</figcaption></figure>'


def affordable(expected: float) -> None:
    """Refuse a run that is expected to take longer than LONGEST.

    Raises:
        UserError: says how long it would take.
    """
    if expected > LONGEST:
        raise UserError(
            say(
                "This would take about {minutes} minutes; at most {most} are given. Choose fewer steps or a smaller "
                "batch.",
                minutes=round(expected / 60),
                most=LONGEST // 60,
            )
        )


def announced(seconds: float) -> str:
    """Said before a run."""
    return say("Takes about {seconds} s on two cores.", seconds=max(1, round(seconds)))


def progress(step: int, steps: int) -> str:
    """Said during a run."""
    return say("Step {step} of {steps}", step=step, steps=steps)


def drawing_pictures(now: Any) -> str:
    """Said while the pictures are drawn: of `pipelines.collapse.data.Preparing` and others with its two numbers."""
    return say("Drawing the pictures, once: {done} of {of}", done=now.done, of=now.of)


def paced(steps: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """The steps of a run, and whether the page is to show them: the first one, and not more often than OFTEN."""
    shown = -float("inf")
    for step in steps:
        due = time.monotonic() - shown >= OFTEN
        if due:
            shown = time.monotonic()
        yield step, due


def verdict(found: Verdict, answers: Mapping[str, str]) -> str:
    """What the run says, and what was expected of it, as HTML."""
    told = html.escape(say(found.message, **found.values))
    answer = html.escape(say(answers[found.answer]))
    if found.guess is None:
        return f'<div class="verdict"><p>{answer}.</p>{told}</div>'
    if found.right:
        head = say("You were right: {answer}.", answer=answer)
    else:
        guess = html.escape(say(answers[found.guess]))
        head = say("You said: {guess}. It came out differently: {answer}.", guess=guess, answer=answer)
    return f'<div class="verdict{"" if found.right else " bad"}"><p>{head}</p>{told}</div>'
