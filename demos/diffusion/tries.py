"""What to try in diffusion, foretold: demos/ui/tries.py asks it."""

from demos.ui.text import named, say
from demos.ui.tries import NO_YES, Numbers, Try


def _there(before: Numbers, after: Numbers) -> dict[str, object]:
    found = [f"{named(name)} {'✓' if there else '✗'}" for name, there in (after["presence"] or {}).items()]
    return {"found": ", ".join(found) or say("nothing was judged"), "seconds": f"{after['seconds']:.1f}"}


def _drawing(name: str, line: str, **then: object) -> Try:
    return Try(
        name=name,
        line=line,
        question="Will everything that was asked for be there?",
        answers=NO_YES,
        then=then,
        answer=lambda before, after: bool(after["presence_all"]),
        message="The detector says: {found}. It took {seconds} s.",
        values=_there,
    )


TRIES = (
    _drawing("excite", "Draw the same seed again, with Attend-and-Excite.", method="attend-and-excite"),
    _drawing("unguided", "Draw it without guidance: set it to 1.", guidance_scale=1.0),
    _drawing("few", "Draw it in 4 steps.", steps=4),
    _drawing("turned", "Turn the words around: a frog and a cat.", prompt="a frog and a cat"),
)
