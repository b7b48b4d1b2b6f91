"""What a class expects before a run, and what the run says to it. The right answer is computed, never looked up."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.errors import UserError
from pipelines.settings import shown


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a run says of a prediction. `message` is a template of `values`, so that a page can translate it."""

    answer: str  # the key of the answer that the run gives
    guess: str | None  # the key that was chosen; None where nothing was
    message: str
    values: dict[str, object] = field(default_factory=dict)

    @property
    def right(self) -> bool | None:
        return None if self.guess is None else self.guess == self.answer

    @property
    def text(self) -> str:
        return self.message.format(**self.values)

    def record(self) -> dict:
        """For the JSON of an endpoint."""
        return {"answer": self.answer, "guess": self.guess, "right": self.right, "text": self.text}


def judge(answers: Mapping[str, str], guess: str | None, answer: str, message: str, **values: object) -> Verdict:
    """The verdict on a guess.

    Args:
        answers: what could be chosen: key -> text.
        guess: the key that was chosen, or nothing.
        answer: the key that the run gives.

    Raises:
        UserError: for a guess that could not be chosen.
    """
    assert answer in answers, f"the run gives {answer}, which is no answer"
    if guess in (None, ""):
        guess = None
    elif guess not in answers:
        raise UserError(
            "The answer must be one of {allowed}, not {value}.", allowed=", ".join(answers), value=shown(guess)
        )
    return Verdict(answer=answer, guess=guess, message=message, values=values)
