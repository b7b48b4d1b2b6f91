"""A second question of a lesson, in a fold of its own: its answers, a button that wakes with one, and its verdict."""

from collections.abc import Mapping

import gradio as gr

from demos.ui.tab import Tab


def ask(tab: Tab, name: str, question: str, answers: Mapping[str, str], button: str) -> None:
    """Lay out the parts `<name>_guess` and `<name>_run`; a handler of the lesson wakes the button by `awake`."""
    tab.question(f"{name}_guess", question, answers)
    tab.button(f"{name}_run", button, variant="primary", size="md", interactive=False)


def answered(tab: Tab, name: str) -> None:
    """Lay out the parts `<name>_verdict` and `<name>_numbers`; the page does not show the numbers."""
    tab.html(f"{name}_verdict")
    tab.add(f"{name}_numbers", gr.JSON(visible=False))


def awake(guess: str | None) -> gr.Button:
    """The button of a question that has this answer."""
    return gr.Button(interactive=bool(guess))
