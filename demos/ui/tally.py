"""The guesses of a class, counted together: whoever opens a link with the same `room=CODE` is in one room.

Kept in memory alone: for each question of a room the answer of each page, under a number that the page makes up. A
room is forgotten an hour after its last guess. `assets/tally.js` sends guesses and draws the bars.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from demos.ui.controls import choice
from demos.ui.text import explained, say
from pipelines.errors import UserError

CODE = re.compile(r"[a-z2-9]{4,12}")  # of a room; those that Share makes have six characters
PAGE = re.compile(r"[0-9a-f]{32}")
ROOMS = 100
GUESSES = 500  # of one question in one room
IDLE = 3600.0  # seconds


@dataclass
class Room:
    """The guesses of one class."""

    used: float  # when its last guess came
    guesses: dict[str, dict[str, str]] = field(default_factory=dict)  # question -> page -> answer


class Rooms:
    """All rooms of a server. May be used from every thread.

    Args:
        questions: the keys of the answers of each, by the id of its part of the page.
        now: seconds, for tests.
    """

    def __init__(self, questions: Mapping[str, list[str]], now: Callable[[], float] = time.monotonic):
        self.questions, self.now = questions, now
        self.rooms: dict[str, Room] = {}
        self.lock = threading.Lock()

    def guess(self, room: object, question: object, page: object, answer: object) -> dict[str, int]:
        """Count a guess, instead of an earlier one of the same page.

        Raises:
            UserError: for a room, question, page or answer that cannot be, and where there are too many.
        """
        code, asked = self._checked(room, question)
        if not isinstance(page, str) or not PAGE.fullmatch(page):
            raise UserError("This is no page of a class.")
        chosen = choice(say("The answer"), answer, self.questions[asked])
        with self.lock:
            self._forget()
            if code not in self.rooms and len(self.rooms) >= ROOMS:
                raise UserError("There are {count} rooms, as many as this server keeps.", count=ROOMS)
            found = self.rooms.setdefault(code, Room(self.now()))
            guesses = found.guesses.setdefault(asked, {})
            if page not in guesses and len(guesses) >= GUESSES:
                raise UserError("This room has {count} guesses, as many as are counted.", count=GUESSES)
            guesses[page], found.used = chosen, self.now()
        return self.counts(code, asked)

    def counts(self, room: object, question: object) -> dict[str, int]:
        """How often each answer was given. Raises UserError as `guess` does."""
        code, asked = self._checked(room, question)
        with self.lock:
            self._forget()
            found = self.rooms.get(code)
            given = Counter(found.guesses.get(asked, {}).values()) if found else Counter()
        return {answer: given[answer] for answer in self.questions[asked]}

    def _checked(self, room: object, question: object) -> tuple[str, str]:
        if not isinstance(room, str) or not CODE.fullmatch(room):
            raise UserError("The code of a room has 4 to 12 letters a to z or digits 2 to 9.")
        return room, choice(say("The question"), question, self.questions)

    def _forget(self) -> None:
        late = self.now() - IDLE
        self.rooms = {code: room for code, room in self.rooms.items() if room.used > late}


def questions_of(page: gr.Blocks) -> dict[str, list[str]]:
    """Every question of the page's lessons that is asked before a run, and the keys of its answers."""
    asked = [part for part in page.blocks.values() if isinstance(part, gr.Radio) and "ask" in part.elem_classes]
    return {str(part.elem_id): [str(value) for _, value in part.choices] for part in asked}


def routes(page: gr.Blocks) -> list[Route]:
    """`/tally`: look at the guesses of a room, or add one. Beside the queue, so that nobody waits for the device."""
    rooms = Rooms(questions_of(page))

    def told(request: Request, count: Callable[..., dict[str, int]], given: Mapping[str, Any]) -> JSONResponse:
        LocalContext.request.set(request)  # type: ignore[arg-type]  # for the language
        try:
            counts = count(**given)
        except UserError as error:
            return JSONResponse({"detail": explained(error)}, 400)
        head = say("Guesses of the class, room {room}: {count}", room=given["room"], count=sum(counts.values()))
        return JSONResponse({"counts": counts, "told": head})

    async def tally(request: Request) -> JSONResponse:
        if request.method == "GET":
            return told(request, rooms.counts, {name: request.query_params.get(name) for name in ("room", "question")})
        try:
            body = await request.json()
        except ValueError:
            body = None
        given = body if isinstance(body, dict) else {}
        names = ("room", "question", "page", "answer")
        return told(request, rooms.guess, {name: given.get(name) for name in names})

    return [Route("/tally", tally, methods=["GET", "POST"])]
