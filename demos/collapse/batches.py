"""How many pictures a step, and how different the views: three batch sizes live, the sweeps recorded. Wraps
pipelines/collapse/sweeps."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from demos.ui import charts, drawing, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.collapse import numbers, verdicts
from pipelines.collapse.settings import BATCHES, Batches, expected_seconds

if TYPE_CHECKING:
    from pipelines.collapse.sweeps import Progress

STUDY = "collapse_sweeps"

pipeline = lazily("pipelines.collapse.sweeps")


@on_device(seconds=lab.LONGEST)
def run(settings: Batches) -> Iterator:
    yield from pipeline.run(settings)


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, verdicts.SWEEP, verdicts.SWEEP_ANSWERS, button="Run three batches")
            for name in ("equal", "method"):
                tab.control(name)
            tab.control("removed", menu=True)
            with gr.Accordion(t("More settings"), open=False):
                for name in ("pictures", "steps", "learning_rate", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            lab.answered(tab)
            tab.add("film", film.FilmPlayer(elem_id=tab.id("film")))
            tab.html("facts")
            tab.panel("sheet", "Pictures of the training set", visible=False)
            if studies.recorded(STUDY) is not None:
                with tab.accordion("recorded_box", "Recorded: more batches, views and optimisers, over several seeds"):
                    tab.html("recorded")
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def wire(tab: Tab) -> None:
    lab.wire(tab, expected_seconds, listen=("pictures", "steps"))
    if "recorded_box" in tab.parts:
        tab.quick(tab["recorded_box"].expand, show_recorded, ["recorded"])


def batch_and_views(settings: Batches, guess: str = "") -> Iterator[dict]:
    """Train with 16, 64 and 256 pictures a step, from random weights, on equally many pictures or steps."""
    chosen, start = lab.guessed(verdicts.SWEEP_ANSWERS, guess), time.monotonic()
    lab.affordable(expected_seconds(settings))
    yield {"status": say("Getting ready …"), "film": None, "verdict": "", "facts": ""}
    played = now = None
    for now, due in lab.paced(run(settings)):
        if not hasattr(now, "baselines"):
            yield {"status": lab.drawing_pictures(now), "sheet": drawing.sheet(now.pictures, 12)}
            continue
        played = played or new_film(now)
        add(played, now)
        if due:
            point = now.points[now.moved]
            status = say("{batch} a step: {told}", batch=now.moved, told=lab.progress(point.step, point.steps))
            yield {"status": status, "film": played.value(), "facts": facts(now)}
    assert played is not None and now is not None
    found = verdicts.of_sweep({batch: point.knn for batch, point in now.points.items()}, chosen)
    record = {"seconds": time.monotonic() - start, "verdict": found.record()}
    yield {
        "status": "",
        "film": played.value(),
        "facts": facts(now),
        "verdict": lab.verdict(found, verdicts.SWEEP_ANSWERS),
        "numbers": {**numbers.of_sweep(now, settings), **record},
    }


def show_recorded() -> dict:
    return {"recorded": recorded()}


# ------------------------------------------------------------------------------------------------------ what is shown


def new_film(first: "Progress") -> film.Film:
    known = first.baselines
    held = [(known.chance, say("chance")), (known.pixels, say("raw pixels")), (known.untrained, say("untrained"))]
    most = max(point.steps * point.batch for point in first.points.values())
    curves = {
        "knn": film.curve(say("5-NN by noun, against pictures seen"), held, ends=(0, 0.8)),
        "loss": film.curve(say("loss, against pictures seen")),
    }
    names = [say("{batch} pictures a step", batch=batch) for batch in BATCHES]
    return film.Film(names, most, {}, curves)


def add(played: film.Film, now: "Progress") -> None:
    """The step of the batch that has moved; a frame where it was measured."""
    point = now.points[now.moved]
    place = BATCHES.index(now.moved)

    def alone(value: float | None) -> list[float | None]:
        return [value if run == place else None for run in range(len(BATCHES))]

    played.measure(point.pictures, loss=alone(point.loss))
    if point.knn is not None:
        played.measure(point.pictures, knn=alone(point.knn))
    told = []
    for each in now.points.values():
        knn = "–" if each.knn is None else f"{each.knn:.0%}"
        told.append(say("step {step} of {steps} · 5-NN {knn}", step=each.step, steps=each.steps, knn=knn))
    if point.knn is not None or not played.data["steps"]:
        played.frame(max(p.pictures for p in now.points.values()), told, [""] * len(BATCHES))


def facts(now: "Progress") -> str:
    known = now.baselines
    head = [
        "",
        say("negatives of a view"),
        say("steps"),
        say("pictures"),
        say("seconds"),
        say("std·√d of z"),
        say("5-NN"),
    ]
    rows = [
        [
            say("batch {batch}", batch=batch),
            str(2 * (batch - 1)),
            str(point.step),
            f"{point.pictures:,}",
            f"{point.seconds:.0f}",
            f"{point.feature_std:.2f}",
            "…" if point.knn is None else f"{point.knn:.1%}",
        ]
        for batch, point in now.points.items()
    ]
    beside = say(
        "5-NN of raw pixels {pixels}, of the untrained network {untrained}, chance {chance}.",
        pixels=f"{known.pixels:.0%}",
        untrained=f"{known.untrained:.0%}",
        chance=f"{known.chance:.0%}",
    )
    return f"{charts.grid_table(head, rows)}<p>{beside}</p>"


def recorded() -> str:
    """The sweeps as recorded: both batch sweeps as curves with their spread, all rows as a table."""
    found = studies.recorded(STUDY)
    if found is None:
        return ""
    drawn = "".join(_sweep(found["summary"], equal) for equal in ("pictures", "steps"))
    head = {
        "steps": (say("steps"), ".0f"),
        "knn_before": (say("5-NN before"), ".1%"),
        "knn": (say("5-NN after"), ".1%"),
        "feature_std": (say("std·√d of z"), ".2f"),
    }
    return f'<div class="charts">{drawn}</div>{studies.table(STUDY, head)}'


def _sweep(summary: Mapping[str, Any], equal: str) -> str:
    """5-NN against batch size, of both methods."""
    lines = []
    for method, name in (("simclr", "SimCLR"), ("byol", "BYOL")):
        rows = {
            int(row.split()[1]): figures["knn"]
            for row, figures in summary.items()
            if row.startswith(f"{method}, ") and row.endswith(f"equal {equal}")
        }
        places = [float(place) for place in range(len(rows))]
        of = [rows[batch] for batch in sorted(rows)]
        lines.append(
            charts.Line(
                name=name,
                x=places,
                y=[each["mean"] for each in of],
                low=[each["least"] for each in of],
                high=[each["most"] for each in of],
            )
        )
    sizes = " · ".join(map(str, sorted(rows)))
    titles = {"pictures": say("Equally many pictures"), "steps": say("Equally many steps")}
    return charts.curves(lines, say("batch: {sizes}", sizes=sizes), say("5-NN"), title=titles[equal])


LESSON = Lesson(
    slug="batch_and_views",
    title="Batch and views",
    chapter="collapse",
    claim="Compare batches, and say what you hold equal.",
    settings=Batches,
    layout=layout,
    main=batch_and_views,
    shows=("film", "status", "verdict", "facts", "sheet", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
)
