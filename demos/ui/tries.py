"""Predict, then run: the lines of "What to try" as buttons. One sets the state that its question is about and asks; an
answer changes the state, runs the lesson, and is held against what came out.

The right answer is read from the numbers of the run, never from here: on another picture or model it may be another.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.events import Dependency

from demos.ui import controls, lab
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.predictions import Verdict, judge

Numbers = Mapping[str, Any]
NO_YES = ("no", "yes")


@dataclass(frozen=True, kw_only=True)
class Try:
    """One line: what is done, what is asked, and how the run answers.

    `state` and `then` are settings by name, and `picture` as an address names it (demos/ui/scenes.py). What neither
    names takes its default, the model too: the line is about that one.
    """

    name: str
    line: str
    question: str
    answers: Sequence[str]
    state: Mapping[str, object] = field(default_factory=dict)
    then: Mapping[str, object]
    answer: Callable[[Numbers, Numbers], int]  # of the numbers before and after: the place of the answer
    message: str  # a template of `values`: what was measured
    values: Callable[[Numbers, Numbers], dict[str, object]]

    @property
    def keyed(self) -> dict[str, str]:
        """The answers as a page sends them: key -> text."""
        return {str(place): text for place, text in enumerate(self.answers)}


def among(value: float, *bounds: float) -> int:
    """The place of a number among rising bounds: 0 below the first, 1 from the first on, and so on."""
    return bisect.bisect_right(bounds, value)


def both(name: str, form: str) -> Callable[[Numbers, Numbers], dict[str, object]]:
    """The values {before} and {after} of a message: the number of this name, in this format."""
    return lambda before, after: {"before": format(before[name], form), "after": format(after[name], form)}


def button_of(each: Try) -> str:
    """The name of its part."""
    return f"try_{each.name}"


def question_of(each: Try) -> str:
    """The name of its part."""
    return f"guess_{each.name}"


# ------------------------------------------------------------------------------------------------------------- layout


def lay_out(tab: Tab) -> None:
    """Parts: the button of each line and its question, which comes when the button was pressed; `foretold`, the
    verdict; `score` and `tally`, which the browser keeps; `trying`, for `connect`.
    """
    with gr.Accordion(t("What to try: predict, then run"), elem_id=tab.id("tries"), elem_classes="tries"):
        for each in tab.lesson.tries:
            tab.button(button_of(each), each.line, size="sm")
            tab.question(question_of(each), each.question, each.keyed, visible=False)
        tab.html("foretold")
        tab.markdown("score", elem_classes="note")
    lab.keep_tally(tab)
    tab.state("trying")  # (place of what is tried, key of the guess, numbers before it)


def connect(tab: Tab, runs_first: bool = True, **settings: Any) -> list[Dependency]:
    """Connect what `lay_out` laid out. The returned events run the lesson.

    Args:
        runs_first: whether a button runs the lesson, so that the question stands beside what it is about; else it is
            about what a recorded run shows.
        settings: of the lesson's main event.
    """
    asking = Asking(tab)
    pressed = [button.click for button in asking.buttons]
    begun = tab.quick(pressed, asking.begin, [*asking.state, *asking.questions, "foretold", "trying"])
    runs = [tab.main(begun.success, **settings)] if runs_first else []
    tab.quick((runs[0] if runs else begun).success, asking.ask, [*asking.questions, "trying"])
    chosen = [tab[name].select for name in asking.questions]
    guessed = tab.quick(chosen, asking.guess, [*asking.state, "foretold", "trying"])
    ran = tab.main(guessed.success, **settings)
    tab.quick(ran.success, asking.reveal, [*asking.questions, "foretold", "tally", "score", "trying"])
    tab.quick(tab.chosen, lab.score, ["score"])
    return [*runs, ran]


# ----------------------------------------------------------------------------------------------------------- handlers


class Asking:
    """The handlers of a tab's questions, in the order of their running. `trying` is what they hand on."""

    def __init__(self, tab: Tab):
        self.tab, self.tries = tab, tab.lesson.tries
        self.buttons = [tab[button_of(each)] for each in self.tries]
        self.questions = [question_of(each) for each in self.tries]
        self.settings = [name for name in tab.settings if name in tab.parts]
        fills = [part for each in tab.addressed.values() for part in each.fills]
        self.state = list(dict.fromkeys([*self.settings, *fills]))

    def begin(self, pressed: gr.EventData) -> dict | None:
        """The state that the question of a button is about."""
        if pressed.target not in self.buttons:
            return None
        place = self.buttons.index(pressed.target)
        hidden = {name: controls.Radio(value="", visible=False, interactive=True) for name in self.questions}
        return {**self._shown(self.tries[place].state), **hidden, "foretold": "", "trying": (place, "", None)}

    def ask(self, trying: tuple | None, numbers: dict | None) -> dict | None:
        """The question, once the state is on show."""
        if trying is None:
            return None
        place, *_ = trying
        return {self.questions[place]: controls.Radio(visible=True), "trying": (place, "", numbers)}

    def guess(self, trying: tuple | None, chosen: gr.SelectData) -> dict | None:
        """An answer, and what is changed now; of the rest, what was moved meanwhile goes back."""
        if trying is None:
            return None
        place, _, before = trying
        asked = self.tries[place]
        key = controls.choice(say("The answer"), str(chosen.index), asked.keyed)
        return {**self._shown({**asked.state, **asked.then}), "foretold": "", "trying": (place, key, before)}

    def reveal(self, trying: tuple | None, numbers: dict | None, tally: dict | None) -> dict | None:
        """What the run says of the answer."""
        if trying is None or not trying[1] or not numbers:
            return None
        place, key, before = trying
        asked = self.tries[place]
        said = verdict_of(asked, key, before or {}, numbers)
        closed = {self.questions[place]: controls.Radio(interactive=False), "trying": None}
        return {**closed, "foretold": lab.verdict(said, asked.keyed), **lab.counted(tally, bool(said.right))}

    def _shown(self, state: Mapping[str, object]) -> dict:
        """What the page shows of a state, all else as usual: a picture brings its own words, which a setting may
        change.
        """
        usual = {name: self.tab.settings[name].default for name in self.settings}
        shown = {name: list(value) if isinstance(value, tuple) else value for name, value in usual.items()}
        for name, known in self.tab.addressed.items():
            shown |= known.restore(str(state.get(name, known.default)))
        return shown | {name: value for name, value in state.items() if name not in self.tab.addressed}


def verdict_of(asked: Try, key: str | None, before: Numbers, after: Numbers) -> Verdict:
    """What a run says of a guess."""
    answer = str(int(asked.answer(before, after)))
    return judge(asked.keyed, key, answer, asked.message, **asked.values(before, after))
