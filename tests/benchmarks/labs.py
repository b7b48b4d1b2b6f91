"""How long each lab's default run takes: until a class sees the first picture of it, until the verdict, and how often
the page moves in between. Each lab runs in a process of its own that has warmed up as the server does, so that its
pictures are drawn within the time, as for the first class of a day. Handlers are called as the server calls them.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import app
from demos.ui.models import warm
from tests.demos.served import stepped

ROOT = Path(__file__).parents[2]
LABS = [lesson for lesson in app.LESSONS if "guess" in signature(lesson.main).parameters]


def measure() -> Iterator[tuple[str, ...]]:
    """(lab, seconds to the first picture, seconds of the run, answers a second that show something) of every lab."""
    for lesson in LABS:
        ran = subprocess.run(
            [sys.executable, "-m", __name__, lesson.slug], cwd=ROOT, capture_output=True, text=True, check=True
        )
        first, whole, shown = json.loads(ran.stdout.splitlines()[-1])
        yield lesson.title, f"{first:.1f}", f"{whole:.1f}", f"{shown / max(whole, 1e-9):.1f}"


def default_run(slug: str) -> tuple[float, float, int]:
    """Seconds to the first thing to see and to the end, and how many answers showed something."""
    page = app.build()
    warm()  # as `app.py` does once it listens
    handler = next(fn for fn in page.fns.values() if fn.api_name == slug)
    assert handler.fn is not None
    shows = [part for part in handler.outputs if not (part.elem_id or "").endswith("-status")]
    begun, moments = time.perf_counter(), []
    for answer in stepped(handler.fn()):
        if any(answer.get(part) for part in shows):
            moments.append(time.perf_counter() - begun)
    return moments[0], time.perf_counter() - begun, len(moments)


if __name__ == "__main__":
    print(json.dumps(default_run(sys.argv[1])))
