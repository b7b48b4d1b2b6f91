"""The one class of errors whose words reach a visitor. Everything else is ours to mend, and is logged instead."""

from typing import Any

import numpy as np


class UserError(ValueError):
    """Something the user can do something about: says what was got, what is allowed, and what to do.

    `message` may hold {names} of `values`, so that a page can show it in another language. A library's own ValueError
    is not one of these, and its text is never shown.
    """

    def __init__(self, message: str, **values: object):
        super().__init__(message.format(**values) if values else message)
        self.message, self.values = message, values


class NotFinite(UserError):
    """A computation has left the numbers: it ends where this happens, and nothing is judged or saved of it."""


OTHER_MODEL = "Choose another picture or another model."


def require_finite(what: str, advice: str, *values: Any) -> None:
    """Stop where a value, a NumPy array or a tensor holds NaN or an infinity.

    Args:
        what: is computed here, as in "the features of the picture".
        advice: a sentence: what the user can do.

    Raises:
        NotFinite: says both.
    """
    for value in values:
        finite = value.isfinite() if hasattr(value, "isfinite") else np.isfinite(value)
        if not finite.all():
            raise NotFinite(
                "The numbers got out of hand (NaN or infinity) in {what}, so it ends here and nothing is made of it. "
                "{advice}",
                what=what,
                advice=advice,
            )
