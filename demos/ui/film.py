"""Two runs on one clock, as the browser plays them: the data of assets/film.js, and the component that shows it.

Everything that moves is sent as bytes, and only what is new is sent during a run. The film stays in the browser: it is
scrubbed there, and nothing of it is kept here.
"""

import base64
import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import numpy as np

from demos.ui.drawing import source_of
from demos.ui.text import ASSETS, say

_NUMBERS = itertools.count()  # of films, so that a browser tells a new one from one that goes on


class FilmPlayer(gr.HTML):
    """The player. Its value is a film's `value()`, or None. To the server it is plain HTML."""

    is_template = True

    def __init__(self, value: dict | None = None, **settings):
        own = {
            "html_template": '<div class="film"></div>',
            "js_on_load": (ASSETS / "film.js").read_text(encoding="utf-8"),
        }
        super().__init__(value=value, **(settings | own))


# -------------------------------------------------------------------------------------------------- panels and curves


SIZES = (
    "small",
    "half",
    "large",
    "wide",
)  # of a panel: a quarter of the run's width, half, half and twice as high, all


def points(
    title: str, classes: Sequence[int] | np.ndarray, of: int, names: Sequence[str] = (), size: str = "large"
) -> dict:
    """Points in a square; a frame of it is (N, 2) uint8, -1 to 1 as 0 to 255.

    Args:
        classes: (N,) which of `of` colours a point has.
        names: of the points, where they have names.
    """
    return {
        "kind": "points",
        "title": title,
        "classes": _text(np.asarray(classes, np.uint8)),
        "of": of,
        "names": [*names],
        "size": size,
    }


def circle(title: str, classes: Sequence[int] | np.ndarray, of: int) -> dict:
    """Points on a circle; a frame of it is (N,) uint8, the whole turn as 0 to 255."""
    return points(title, classes, of, size="small") | {"kind": "circle"}


def bars(title: str, size: str = "small") -> dict:
    """Bars side by side; a frame of it is one array of numbers, or several that are drawn over each other. The longest
    bar of each is full."""
    return {"kind": "bars", "title": title, "size": size}


def picture(title: str, size: str = "large") -> dict:
    """A picture; a frame of it is an image, (H, W, 3) or (H, W) uint8, or None where the one before stays."""
    return {"kind": "picture", "title": title, "size": size}


def curve(title: str, levels: Sequence[tuple[float, str]] = (), ends: tuple[float, float] | None = None) -> dict:
    """A curve of every run over the steps.

    Args:
        levels: horizontal lines with a name.
        ends: of the y axis; as far as the values go when None.
    """
    return {"title": title, "levels": [[*level] for level in levels], "ends": ends}


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _heights(values: np.ndarray) -> str:
    found = np.asarray(values, float)
    return _text(np.rint(255 * found / max(found.max(), 1e-12)).astype(np.uint8))


def _frame(kind: str, shown: Any) -> Any:
    if kind == "bars":
        return [_heights(each) for each in (shown if isinstance(shown, tuple) else (shown,))]
    if kind == "picture":
        return None if shown is None else source_of(shown)
    return _text(shown)


# ----------------------------------------------------------------------------------------------------------- the film


class Film:
    """What is shown of runs that go on together."""

    def __init__(
        self,
        runs: Sequence[str],
        steps: int,
        panels: Mapping[str, dict],
        curves: Mapping[str, dict],
    ):
        """
        Args:
            runs: their names.
            steps: how many the runs will take.
            panels: name -> `points`, `circle`, `bars` or `picture`; every run has each.
            curves: name -> `curve`; each has every run.
        """
        self.kinds = {name: panel["kind"] for name, panel in panels.items()}
        self.places = {name: place for place, name in enumerate(curves)}
        self.data: dict[str, Any] = {
            "begun": next(_NUMBERS),
            "runs": [*runs],
            "of": steps,
            "steps": [],
            "told": [],
            "alarms": [],
            "panels": {name: [] for name in panels},
            "curves": [{**each, "x": [], "runs": [[] for _ in runs]} for each in curves.values()],
        }
        self.still: dict[str, Any] = {
            "layout": [{"key": name, **panel} for name, panel in panels.items()],
            "say": {
                "back": say("one step back"),
                "next": say("one step on"),
                "play": say("play"),
                "slider": say("step of the run"),
            },
        }

    def measure(self, step: int, **values: Sequence[float | None]) -> None:
        """The next point of some curves, a value for every run; None where it was not measured."""
        for name, of_runs in values.items():
            told = self.data["curves"][self.places[name]]
            told["x"].append(step)
            for run, value in zip(told["runs"], of_runs, strict=True):
                run.append(None if value is None else float(f"{value:.4g}"))

    def frame(self, step: int, told: Sequence[str], alarms: Sequence[str], **shown: Sequence[Any]) -> None:
        """The next frame: of every run a line, an alarm or "", and what each panel shows."""
        self.data["steps"].append(step)
        self.data["told"].append([*told])
        self.data["alarms"].append([*alarms])
        for name, of_runs in shown.items():
            self.data["panels"][name].append([_frame(self.kinds[name], each) for each in of_runs])

    def value(self) -> dict:
        """For the player: a copy, as what is sent is what differs from the one before."""
        return copy.deepcopy(self.data) | self.still
