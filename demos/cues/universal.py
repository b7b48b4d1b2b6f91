"""One noise for all pictures: learned on some, tried on others, beside its controls. Wraps pipelines/cues/universal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from demos.cues.drawings import Pair, Share, pairs, shares
from demos.ui import charts, drawing, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.pictures import photograph
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.cues.settings import UniversalSettings
from pipelines.cues.verdicts import UNIVERSAL, UNIVERSAL_ANSWERS, of_universal, universal_asked

if TYPE_CHECKING:
    from pipelines.cues.photographs import Noisy
    from pipelines.cues.universal import Step

SECONDS = {  # of a step, and of being tried once
    "storybook-clip-b": (0.33, 1.3),
    "storybook-detailclip": (0.68, 2.5),
    "storybook-grounding-dino": (1.2, 6.0),
    "efficientnet-lite0": (1.3, 7.0),
}
TIMES = 8  # the noise is shown so many times as strong
NAMES = 8  # of the confusion flow

PHOTOGRAPHED = ("cat (fur)", "coffee", "rocket")

pipeline = lazily("pipelines.cues.universal")
photographs = lazily("pipelines.cues.photographs")


def seconds(settings: UniversalSettings) -> float:
    """What a run is expected to take on two cores."""
    step, trial = SECONDS[settings.victim]
    return 4 + settings.steps * step + 5 * trial  # whole pictures, and four of the controls


@on_device(seconds=lab.LONGEST)
def run(settings: UniversalSettings) -> Iterator:
    yield from pipeline.run(settings)


@on_device
def on_photographs(noise: np.ndarray) -> "list[Noisy]":
    return photographs.under(noise, [photograph(name) for name in PHOTOGRAPHED])


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            asked = universal_asked(UniversalSettings())
            lab.ask(tab, UNIVERSAL.format(**asked), UNIVERSAL_ANSWERS, button="Learn the noise")
            tab.control("epsilon")
            tab.control("victim", menu=True)
            tab.control("defence", menu=True)
            with gr.Accordion(t("More settings"), open=False):
                tab.control("target", menu=True)
                for name in ("steps", "pictures", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            tab.html("rate")
            lab.answered(tab)
            tab.html("before")
            tab.html("controls")
            tab.add("film", film.FilmPlayer(elem_id=tab.id("film")))
            tab.html("flow")
            tab.html("photographs")
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("steps", "victim"))
    tab.quick(tab["epsilon"].change, ask_again, ["guess"])


# ----------------------------------------------------------------------------------------------------------- handlers


def universal(settings: UniversalSettings, guess: str | None = None) -> Iterator[dict]:
    """Learn one noise that changes what a network calls most pictures, and try it on pictures it has never seen."""
    guess = lab.guessed(UNIVERSAL_ANSWERS, guess)
    lab.affordable(seconds(settings))
    yield {
        "status": say("Getting ready …"),
        **dict.fromkeys(("film", "verdict", "rate", "controls", "flow", "photographs")),
        "before": lab.strip(pipeline.first_seen(settings.victim), say("Some of the pictures it will be tried on")),
    }
    played = new_film(settings)
    for now, due in lab.paced(run(settings)):
        if not now.tried:
            add(played, now)
        if due:
            trying = say("Trying it: {done} of {of}", done=len(now.tried), of=len(now.controls))
            status = trying if now.tried else lab.progress(now.step, now.steps)
            yield {"status": status, "film": played.value(), **present(now)}
    yield {
        "status": "",
        "film": played.value(),
        **present(now),
        "photographs": photographed(on_photographs(now.noise)),
        "verdict": lab.verdict(of_universal(now, guess), UNIVERSAL_ANSWERS),
        "numbers": pipeline.numbers(settings, now, guess),
    }


def ask_again(settings: UniversalSettings) -> dict:
    """The question, with the strength that is set now."""
    return {"guess": gr.Radio(label=say(UNIVERSAL, **universal_asked(settings)))}


# ------------------------------------------------------------------------------------------------------ what is shown


def new_film(settings: UniversalSettings) -> film.Film:
    """The noise, and how many pictures it fools."""
    panels = {"noise": film.picture(say("the noise, {times} times as strong", times=TIMES))}
    curves = {
        "rate": film.curve(say("fooled, of pictures it has not learned from"), ends=(0, 1)),
        "loss": film.curve(say("loss of the names to be changed")),
    }
    return film.Film(
        [say("{victim}, ε = {epsilon}/255", victim=settings.victim, epsilon=settings.epsilon)],
        settings.steps,
        panels,
        curves,
    )


def add(played: film.Film, now: "Step") -> None:
    """The next frame, where it was looked at."""
    if now.loss is not None:
        played.measure(now.step, loss=[now.loss])
    if now.rate is None:
        return
    played.measure(now.step, rate=[now.rate])
    shown = np.clip(128 + TIMES * now.noise.astype(int), 0, 255).astype(np.uint8)
    told = say("{rate} fooled", rate=f"{now.rate:.0%}")
    played.frame(now.step, [told], [""], noise=[shown])


def present(now: "Step") -> dict:
    """What each part shows of a step."""
    if now.tried:
        shown = {"rate": headline(now), "controls": controls(now)}
        return shown if now.names is None else {**shown, "before": before_and_after(now), "flow": flow(now)}
    if now.rate is None:
        return {}
    return {"rate": charts.headline((f"{now.rate:.0%}", say("fooled, of the few pictures that are watched")))}


def headline(now: "Step") -> str:
    learned, random = now.tried["learned"], now.tried.get("random")
    told = say("of {count} never-seen pictures change their name", count=learned.pictures)
    beside = (f"{random.rate:.1%}", say("under random signs of the same strength")) if random else ("…", "")
    return charts.headline((f"{learned.rate:.1%}", told), beside)


def before_and_after(now: "Step") -> str:
    """The first never-seen pictures, whole and with the noise, and what each is called."""
    assert now.names is not None
    names = now.names
    return pairs(
        [
            Pair(
                pictures=(names.pictures[i], names.disturbed[i]),
                told=f"{say(before)} → {say(after)}",
                good=before == after,
            )
            for i, (before, after) in enumerate(zip(names.before, names.after, strict=True))
        ]
    )


def controls(now: "Step") -> str:
    """The fooling rate beside what it must be held against; and that it is no error rate."""
    rows = [
        Share(name=say(pipeline.CONTROLS[name]), share=fooled.rate, interval=fooled.interval, stands_out=not place)
        for place, (name, fooled) in enumerate(now.tried.items())
    ]
    told = say("Fooled is a picture whose name changes.")
    if now.names is None:
        return f"{shares(rows)}<p>{told}</p>"
    before, after = now.names.right_before, now.names.right_after
    if before is None:
        more = say("It was learned from pieces of some photographs and tried on pieces of others.")
    else:
        more = say(
            "Right names: {before} before, {after} with the noise.", before=f"{before:.1%}", after=f"{after:.1%}"
        )
    return f"{shares(rows)}<p>{told} {more}</p>"


def flow(now: "Step") -> str:
    """What the pictures are called before and after: the names that are said most often under the noise."""
    assert now.names is not None
    part = now.names.flow / now.names.flow.sum()
    most = np.argsort(-part.sum(0), kind="stable")[:NAMES]
    names = [say(now.labels[i]) for i in most]
    title = say("Share of pictures by name; the commonest names under the noise")
    bars = charts.pair_bars(names, part.sum(1)[most], part.sum(0)[most], (say("before"), say("with the noise")))
    return f"<h2>{title}</h2>{bars}"


def photographed(found: "list[Noisy]") -> str:
    """Photographs without the noise and with it, for a network that has seen photographs, and what it looks at."""
    told = []
    for each in found:
        for picture, name, share in zip(each.pictures, each.names, each.probabilities, strict=True):
            told.append((Image.fromarray(picture), f"{name}, {share:.0%}"))
        for picture, name, heat in zip(each.pictures, each.names, each.maps, strict=True):
            over = drawing.heat_over(picture / 255, drawing.normalised(heat))
            told.append((over, say("what speaks for “{name}”", name=name)))
    title = say("The same noise on photographs, for a network that has seen photographs and not this noise")
    return f"<h2>{title}</h2>{drawing.figures(told)}"


def measured() -> str:
    """Both victims and three strengths, over many seeds."""
    return studies.table("universal", {name: (say(text), ".1%") for name, text in pipeline.CONTROLS.items()})


LESSON = Lesson(
    slug="universal",
    title="One noise for all",
    chapter="cues",
    claim="One faint pattern, the same for every picture, can change what a network calls them.",
    settings=UniversalSettings,
    layout=layout,
    main=universal,
    shows=("rate", "before", "controls", "film", "flow", "photographs", "status", "verdict", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"Good and bad numbers": measured},
)
