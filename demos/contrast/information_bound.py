"""What a contrastive loss can know: at most ln N, whatever is there. Wraps pipelines/contrast/information."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np

from demos.ui import charts, drawing, lab, studies
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.contrast.settings import InformationSettings
from pipelines.contrast.verdicts import INFORMATION, INFORMATION_ANSWERS, information_asked, of_information

if TYPE_CHECKING:
    from pipelines.contrast.information import Estimate

LARGEST = 8192  # SimCLR's largest batch (Chen et al. 2020, https://arxiv.org/abs/2002.05709, section 2.2)

pipeline = lazily("pipelines.contrast.information")


def seconds(settings: InformationSettings) -> float:
    """What a run is expected to take on two cores."""
    return 2 + (settings.steps * (4 + settings.batch / 25) / 1000 if settings.critic == "trained" else 0)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            asked = information_asked(InformationSettings())
            lab.ask(tab, INFORMATION.format(**asked), INFORMATION_ANSWERS)
            tab.control("batch", menu=True)
            tab.control("correlation")
            tab.control("dimensions")
            tab.control("critic")
            with gr.Accordion(t("More settings"), open=False):
                tab.control("steps")
                tab.control("seed")
        with gr.Column(scale=8, min_width=320):
            tab.html("estimate")
            with gr.Row():
                with gr.Column(scale=3, min_width=320):
                    tab.html("chart")
                with gr.Column(scale=2, min_width=240):
                    tab.panel("logits", "Scores of pairs", height=300)
            lab.answered(tab)
            tab.html("facts")
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("critic", "steps", "batch"))
    tab.quick([tab[name].change for name in ("dimensions", "correlation", "batch")], ask_again, ["guess"])


# ----------------------------------------------------------------------------------------------------------- handlers


def information_bound(settings: InformationSettings, guess: str | None = None) -> Iterator[dict]:
    """Estimate a known mutual information by InfoNCE with more and more pairs in a batch."""
    guess = lab.guessed(INFORMATION_ANSWERS, guess)
    lab.affordable(seconds(settings))
    for found, due in lab.paced(pipeline.run(settings)):
        if due:
            done = "" if found.critic == "exact" else lab.progress(found.step, found.steps)
            yield present(found) | {"status": done, "verdict": ""}
    yield present(found) | {
        "status": "",
        "verdict": lab.verdict(of_information(found, guess), INFORMATION_ANSWERS),
        "numbers": pipeline.numbers(settings, found, guess),
    }


def ask_again(settings: InformationSettings) -> dict:
    """The question, with the truth and N that are set now."""
    return {"guess": gr.Radio(label=say(INFORMATION, **information_asked(settings)))}


# ------------------------------------------------------------------------------------------------------ what is shown


def present(found: "Estimate") -> dict:
    """What each part shows."""
    return {
        "logits": drawing.enlarge(drawing.viridis(drawing.normalised(found.logits)), 320),
        "estimate": headline(found),
        "chart": chart(found),
        "facts": facts(found),
    }


def headline(found: "Estimate") -> str:
    told = say(
        "the truth is {truth}, ln {batch} = {most}",
        truth=f"{found.truth:.2f}",
        batch=found.batch,
        most=f"{found.ceiling:.2f}",
    )
    return charts.headline((say("It says {nats} nats", nats=f"{found.estimate:.2f}"), told))


def chart(found: "Estimate") -> str:
    """The estimate against N, between its ceiling and the truth; with a trained critic, against its steps as well."""
    doublings = np.log2(found.sizes).tolist()
    lines = [
        charts.Line(name=say("the estimate, ln N − L, with the exact critic"), x=doublings, y=found.exact.tolist()),
        charts.Line(
            name=say("ln N: no estimate lies above"), x=range(1, 11), y=[k * math.log(2) for k in range(1, 11)]
        ),
    ]
    drawn = charts.curves(
        lines,
        say("pairs in a batch, N = 2^x"),
        say("nats"),
        mark_x=math.log2(found.batch),
        levels=[(found.truth, say("the truth"))],
        x_range=(1, 10),
        title=say("What the loss can say"),
    )
    if len(found.course):
        steps, estimates = found.course.T.tolist()
        drawn += charts.curves(
            [charts.Line(name=say("trained critic, on pairs it has not seen"), x=steps, y=estimates)],
            say("step"),
            say("nats"),
            levels=[
                (found.truth, say("the truth")),
                (found.ceiling, say("ln {n}", n=found.batch)),
                (0.0, say("knows nothing")),
            ],
            x_range=(0, found.steps),
            title=say("Learning to score, N = {n}", n=found.batch),
        )
    return f'<div class="charts">{drawn}</div>'


def facts(found: "Estimate") -> str:
    loss, most = found.ceiling - found.estimate, say("knowing nothing: ln N = {most}", most=f"{found.ceiling:.3f}")
    untrained = "" if found.untrained is None else say("before training: {nats}", nats=f"{found.untrained:.2f}")
    return charts.facts(
        [
            (say("Loss, L"), say("{loss} nats", loss=f"{loss:.3f}"), most),
            (
                say("ln N − L"),
                say("{nats} nats", nats=f"{found.estimate:.3f}"),
                untrained or say("truth: {nats}", nats=f"{found.truth:.3f}"),
            ),
            *(_of_simclr(batch) for batch in (found.batch, LARGEST)),
        ]
    )


def _of_simclr(batch: int) -> tuple[str, str, str]:
    """How SimCLR counts the same batch."""
    return (
        say("SimCLR with a batch of {batch}", batch=f"{batch:,}"),
        say("{count} negatives", count=f"{pipeline.negatives_of(batch):,}"),
        say(
            "collapsed, its loss is ln {n} = {loss}",
            n=f"{2 * batch - 1:,}",
            loss=f"{pipeline.collapsed_loss(batch):.2f}",
        ),
    )


def measured() -> str:
    """Both critics over many seeds."""
    return studies.table(
        "information",
        {
            "truth": (say("truth"), ".2f"),
            "ln N": ("ln N", ".2f"),
            "exact critic": (say("exact critic"), ".2f"),
            "trained critic": (say("trained critic"), ".2f"),
            "untrained critic": (say("before training"), ".2f"),
        },
    )


LESSON = Lesson(
    slug="information_bound",
    title="What it can know",
    chapter="contrast",
    claim="A batch of N pairs can tell ln N nats and no more, however much there is to know.",
    settings=InformationSettings,
    layout=layout,
    main=information_bound,
    shows=("logits", "estimate", "chart", "facts", "status", "verdict", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"Good and bad numbers": measured},
)
