"""Recorded studies, as `python -m pipelines.training.studies` writes them: read, never typed. None where one is not
recorded, and the lesson then says nothing of it."""

import json
from collections.abc import Mapping, Sequence

from demos.ui import charts
from demos.ui.text import ASSETS, say

FOLDER = ASSETS / "studies"


def recorded(name: str) -> dict | None:
    """The whole record of a study, if it is there."""
    file = FOLDER / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def cell(figures: Mapping[str, dict], figure: str, form: str) -> str:
    """A figure of a row as mean ± standard deviation; – where the row has none.

    Args:
        form: of a number, such as ".2f" or ".0%".
    """
    found = figures.get(figure)
    if found is None:
        return "–"
    mean, sd = format(found["mean"], form), format(found["sd"], form)
    return f"{mean} ± {sd}" if found["seeds"] > 1 else mean


def table(name: str, head: Mapping[str, tuple[str, str]], rows: Sequence[str] = ()) -> str:
    """A study as a table with what it is of; "" where it is not recorded.

    Args:
        head: figure -> its name on the page and the form of its numbers.
        rows: some of the study's, in this order; all when empty.
    """
    found = recorded(name)
    if found is None:
        return ""
    lines = [
        [say(row), *(cell(found["summary"][row], figure, form) for figure, (_, form) in head.items())]
        for row in rows or found["summary"]
        if row in found["summary"]
    ]
    titles = ["", *(title for title, _ in head.values())]
    return f"{charts.grid_table(titles, lines)}<p>{source(found)}</p>"


def source(found: dict) -> str:
    """Where recorded numbers come from."""
    return say(
        "Recorded: mean ± standard deviation over {seeds} seeds, {minutes} minutes on one core, by {command}.",
        seeds=len(found["seeds"]),
        minutes=max(1, round(found["seconds"] / 60)),
        command=found["command"],
    )
