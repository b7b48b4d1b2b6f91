"""One screen, one picture: results carry the mark of the picture they are of.

As soon as another one is given they are greyed, until a run for it is done; where that fails they go.
"""

import hashlib

from demos.ui.text import say

STALE = '<i class="stale"></i>'  # assets/style.css greys what stands beside it


def mark_of(image: str | None) -> str:
    """Names an uploaded file without saying where it lies."""
    return hashlib.sha256((image or "").encode()).hexdigest()[:16]


def is_of(image: str | None, numbers: object) -> bool:
    """Whether these numbers are of this picture."""
    return isinstance(numbers, dict) and numbers.get("picture") == mark_of(image)


# Handlers of the part `told`, the line above a tab's results: empty while they are of the picture that was given.


def tell_done(image: str | None, numbers: dict | None) -> dict:
    return {"told": "" if is_of(image, numbers) else STALE}


def tell_stopped(image: str | None, numbers: dict | None) -> dict:
    """What the screen holds when nothing goes on."""
    held = "" if is_of(image, numbers) else " " + say("What is shown is not of this picture.") + STALE
    return {"told": say("Stopped.") + held}
