"""False and hard negatives: what each counts, and what it does to a training. Wraps pipelines/contrast/negatives."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from demos.contrast.drawings import Heat, heat_maps, thumbnail
from demos.contrast.matrix import drawn, encode
from demos.ui import charts, controls, drawing, film, lab, studies
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.contrast.settings import LOSSES, MatrixSettings, NegativesSettings, ReadingSettings
from pipelines.contrast.verdicts import NEGATIVES, NEGATIVES_ANSWERS, of_negatives
from pipelines.settings import checked, settings_of

if TYPE_CHECKING:
    from pipelines.contrast.negatives import Arm, Frame, Read

READING = settings_of(ReadingSettings)

pipeline = lazily("pipelines.contrast.negatives")
projection = lazily("pipelines.projection")


def seconds(settings: NegativesSettings) -> float:
    """What a run is expected to take on two cores, the drawing of the pictures included."""
    return 8 + settings.steps * (0.02 + 0.18 * settings.batch / 128)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, NEGATIVES, NEGATIVES_ANSWERS, button="Train A and B")
            tab.control("temperature")
            tab.control("a", menu=True)
            tab.control("b", menu=True)
            with gr.Accordion(t("More settings"), open=False):
                for name in ("eta", "beta", "steps", "batch", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            lab.answered(tab)
            tab.html("samples")
            tab.add("film", film.FilmPlayer(elem_id=tab.id("film")))
            tab.html("facts")
            tab.panel("pictures", "Six things to tell apart: one negative in six is the same thing")
            with tab.accordion("reading_box", "Read it in a matrix: how much does each negative count?"):
                _lay_out_reading(tab)
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def _lay_out_reading(tab: Tab) -> None:
    with gr.Row():
        for name, known in READING.items():
            part = controls.control(known, elem_id=tab.id(f"read_{name}"), min_width=160)
            tab.add(f"read_{name}", part)
    tab.html("reading")
    tab.add("reading_numbers", gr.JSON(visible=False))


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("steps", "batch"), samples=lambda: pipeline.samples())
    moved = [tab[f"read_{name}"].change for name in READING]
    shown = ["reading", "reading_numbers"]
    public: dict[str, Any] = {"api_name": f"{tab.slug}_reading", "api_visibility": "public"}
    tab.when_open("reading_box", reading, shown, *moved, **public)


# ----------------------------------------------------------------------------------------------------------- handlers


def negatives(settings: NegativesSettings, guess: str | None = None) -> Iterator[dict]:
    """Train a small network twice on the same batches, by two losses that treat their negatives differently."""
    guess = lab.guessed(NEGATIVES_ANSWERS, guess)
    lab.affordable(seconds(settings))
    yield {"status": say("Getting ready …"), "film": None, "verdict": "", "facts": ""}
    played = None
    for now, due in lab.paced(pipeline.run(settings)):
        if isinstance(now, pipeline.Preparing):
            if due:
                yield {"status": lab.drawing_pictures(now), "pictures": drawing.sheet(now.pictures[:48], 16)}
            continue
        played = played or new_film(now, settings)
        add(played, now)
        if due:
            yield {"status": lab.progress(now.a.step, now.steps), "film": played.value(), "facts": facts(now, settings)}
    assert played is not None
    yield {
        "film": played.value(),
        "status": "",
        "facts": facts(now, settings),
        "verdict": lab.verdict(of_negatives(now, guess), NEGATIVES_ANSWERS),
        "numbers": pipeline.numbers(settings, now, guess),
    }


def reading(
    seed: int,
    read_temperature: float = ReadingSettings().temperature,
    read_eta: float = ReadingSettings().eta,
    read_beta: float = ReadingSettings().beta,
    read_unbiased: bool = ReadingSettings().unbiased,
) -> dict:
    """What each negative counts in the matrix of drawn pictures and captions, some of which show the same thing."""
    given = dict(zip(READING, (read_temperature, read_eta, read_beta, read_unbiased), strict=True))
    settings = checked(ReadingSettings, given)
    found, captions, nouns = drawn(seed)
    read = pipeline.read(settings, encode(MatrixSettings(seed=seed), tuple(captions), *found), nouns)
    shown = heat_maps(heats(read), [thumbnail(picture) for picture in found]) + read_facts(read)
    return {"reading": shown, "reading_numbers": pipeline.read_numbers(read)}


# ----------------------------------------------------------------------------------------------------------- training


def new_film(first: "Frame", settings: NegativesSettings) -> film.Film:
    """Both runs: where never-seen pictures lie, the loss, what is known, and what false negatives count."""
    known = first.baselines
    levels = [(known.chance, say("chance")), (known.pixels, say("raw pixels")), (known.untrained, say("untrained"))]
    panels = {"points": film.points(say("never-seen pictures, by noun (PCA)"), first.nouns, len(pipeline.NOUNS))}
    curves = {
        "knn": film.curve(say("5-NN by noun"), levels, ends=(0, 1)),
        "weight": film.curve(say("mean weight of false negatives"), [(1.0, say("as any other"))]),
        "loss": film.curve(say("loss; of different losses, so not to be compared")),
    }
    names = [f"{run} · {say(LOSSES[loss]).split(':')[0]}" for run, loss in (("A", settings.a), ("B", settings.b))]
    return film.Film(names, first.steps, panels, curves)


def add(played: film.Film, now: "Frame") -> None:
    """The next point of the curves, and the next frame where the pictures were placed anew."""
    arms = (now.a, now.b)
    if now.a.step:
        played.measure(now.a.step, loss=[arm.loss for arm in arms])
        played.measure(now.a.step, weight=[arm.weight_false_negatives for arm in arms])
    if now.a.measured == now.a.step:
        played.measure(now.a.step, knn=[arm.knn for arm in arms])
    if now.a.placed == now.a.step:
        points = [projection.as_bytes(arm.points) for arm in arms]
        played.frame(now.a.step, [_told(arm) for arm in arms], ["", ""], points=points)


def _told(arm: "Arm") -> str:
    return say("5-NN {knn}, loss {loss}", knn=f"{arm.knn:.1%}", loss=_shown(arm.loss, ".3f"))


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def facts(now: "Frame", settings: NegativesSettings) -> str:
    """Both runs beside what they are to be compared with."""
    known = now.baselines
    held = say(
        "chance {chance}, raw pixels {pixels}, untrained {untrained}",
        chance=f"{known.chance:.0%}",
        pixels=f"{known.pixels:.0%}",
        untrained=f"{known.untrained:.0%}",
    )

    def row(name: str, attribute: str, form: str, beside: str) -> list[str]:
        return [name, *(_shown(getattr(arm, attribute), form) for arm in (now.a, now.b)), beside]

    rows = [
        row(say("5-NN by noun, at step {step}", step=now.a.measured), "knn", ".1%", held),
        row(
            say("False negatives in the batch"),
            "share_false_negatives",
            ".1%",
            say("1 / {n} are expected", n=len(pipeline.NOUNS)),
        ),
        row(say("Their mean weight"), "weight_false_negatives", ".2f", say("1: as any negative, 0: left out")),
        row(say("Estimates clamped"), "clamped", ".0%", say("of the debiased losses: less than there can be")),
    ]
    return charts.grid_table(["", f"A, {settings.a}", f"B, {settings.b}", say("beside")], rows)


# ------------------------------------------------------------------------------------------------------------ reading


def heats(read: "Read") -> list[Heat]:
    """Similarities, weights and pushes; false negatives have a dotted frame."""
    marks = read.false_negatives
    pushes = read.pushes * 1000
    return [
        Heat(
            title=say("Cosines"),
            told=say("dotted: a wrong caption of the same noun"),
            values=read.similarity,
            marks=marks,
        ),
        Heat(
            title=say("Weights"),
            told=say("of the negatives, 1 in the mean of a row"),
            values=read.weights,
            digits=1,
            marks=marks,
        ),
        Heat(
            title=say("Pushes"),
            told=say("∂L / ∂(s / τ), in thousandths"),
            values=pushes,
            signed=True,
            digits=0,
            marks=marks,
        ),
    ]


def read_facts(read: "Read") -> str:
    ours, plain = read.push_false_negatives
    return charts.facts(
        [
            (
                say("Loss"),
                say("{loss} nats", loss=f"{read.loss:.3f}"),
                say("NT-Xent: {loss}", loss=f"{read.loss_plain:.3f}"),
            ),
            (say("False negatives"), f"{read.share_false_negatives:.1%}", say("the truth that η⁺ guesses")),
            (say("Their mean weight"), _shown(read.weight_false_negatives, ".2f"), say("1: as any negative")),
            (say("Their share of all pushing"), f"{ours:.1%}", say("NT-Xent: {share}", share=f"{plain:.1%}")),
            (
                say("Rows whose estimate is clamped"),
                f"{int(read.clamped.sum())} / {len(read.clamped)}",
                say("less than there can be"),
            ),
        ]
    )


def measured() -> str:
    """Every loss at two temperatures, over many seeds."""
    return studies.table(
        "negatives",
        {
            "5-NN": (say("5-NN"), ".1%"),
            "5-NN, untrained": (say("untrained"), ".1%"),
            "5-NN, pixels": (say("raw pixels"), ".1%"),
            "weight of false negatives": (say("weight of false negatives"), ".2f"),
            "clamped": (say("clamped"), ".0%"),
        },
    )


LESSON = Lesson(
    slug="negatives",
    title="False and hard negatives",
    chapter="contrast",
    claim="The most similar wrong answer teaches most, unless it is not wrong.",
    settings=NegativesSettings,
    layout=layout,
    main=negatives,
    shows=("pictures", "film", "facts", "status", "verdict", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"Good and bad numbers": measured},
)
