"""An image made out of CLIP's opinion. Wraps pipelines/clip_synthesis."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from demos.ui import address, charts, controls, drawing, tries
from demos.ui.cache import lru_cached
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.export import Panel, export_files
from demos.ui.lesson import Lesson
from demos.ui.models import at_hand, model_names
from demos.ui.tab import Tab
from demos.ui.text import ASSETS, named, say, t, worded
from demos.ui.tries import Try, among
from demos.ui.words import synthesis_table
from pipelines.clip_synthesis.settings import PARAMETRIZATIONS, VIEWS, Settings
from pipelines.clip_synthesis.steps import Comparison, Reference, Step
from pipelines.errors import UserError
from pipelines.models.registry import MODELS

EXAMPLES = ("a cat", "a red car", "a frog on grass", "a yellow crown", "a cat:1 | a dog:-0.5", "an elephant in snow")
OPENING = ASSETS / "openings" / "clip_synthesis.json"  # from python -m pipelines.evaluation.openings
COMPARED = 80  # most steps of each picture of a comparison
LONGEST = 1800  # seconds
pipeline = lazily("pipelines.clip_synthesis.pipeline")


def synthesis_seconds(settings: Settings) -> int:
    """For which a GPU is borrowed: as long as the bundled models take on two cores."""
    return 15 + round(settings.steps * (0.1 + 0.03 * (settings.cutouts if settings.augment else 1)))


@on_device(seconds=synthesis_seconds)
def run(settings: Settings) -> Iterator[Step]:
    yield from pipeline.run(settings)


@lru_cached
@on_device
def reference(prompt: str, model: str, judge: str) -> Reference | None:
    """What real pictures of a prompt score; None where the world cannot draw it."""
    return pipeline.reference(prompt, model, judge)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    tab.columns(_lay_out_controls, _lay_out_figures)
    tab.state("kept")  # (settings, steps) of the run on show; False for a comparison, None before the first


def _lay_out_controls(tab: Tab) -> None:
    tab.control("prompt", lines=1)
    examples = [(worded(example), example) for example in EXAMPLES]
    tab.add("example", controls.Dropdown(examples, value=None, label=t("or one of these"), elem_id=tab.id("example")))
    for name in ("parametrization", "augment"):
        tab.control(name)
    with gr.Row():
        tab.button("start", "Start", variant="primary", min_width=110)
        tab.button("continue", "Go on", min_width=110)
    tries.lay_out(tab)
    with gr.Row():
        tab.button("compare", "Compare all parametrizations", min_width=150)
        tab.button("views_or_not", "With and without views", min_width=150)
    for name in ("cutouts", "steps", "seed"):
        tab.control(name)
    tab.model_menu(followed())
    with gr.Accordion(t("Begin from a picture, or come close to one"), open=False):
        tab.control("image", height=200)
        tab.control("wanted", height=200)
        tab.control("wanted_weight")
    with gr.Accordion(t("More settings"), open=False):
        for name in ("variation", "saturation", "noise"):
            tab.control(name)
        tab.control("autoencoder", choices=model_names("autoencoder"))
    tab.stop()


def _lay_out_figures(tab: Tab) -> None:
    tab.markdown("status")
    with gr.Row():
        tab.panel("picture", "The picture so far")
        tab.panel("views", "What CLIP was shown last")
    tab.html("charts")
    tab.panel("compared", "Side by side", visible=False)
    tab.html("facts")
    tab.html("table")
    tab.markdown("note", elem_classes="note")
    tab.numbers_and_export()


def followed() -> list[str]:
    """The models that can be followed: those with another to judge, the usual one first."""
    usual = Settings().model
    return sorted((n for n in model_names("openclip") if MODELS[n].scorer), key=lambda n: n != usual)


def wire(tab: Tab) -> None:
    def compute(listen, handler):
        return tab.compute(listen, handler, LESSON.shows, seconds=LONGEST)

    address.keep(tab)
    tab.main([tab["start"].click, tab["prompt"].submit])
    tab.quick(tab.chosen, first_picture, LESSON.shows)
    compute(tab["continue"].click, go_on)
    compute(tab["compare"].click, compare_parametrizations)
    compute(tab["views_or_not"].click, compare_views)
    tab.main(tab.quick(tab["example"].input, take_example, ["prompt"]).success)
    tab.main(tab.fetched.success)
    tab.quick(tab["export"].click, export, ["files"])
    tries.connect(tab, runs_first=False)


# ----------------------------------------------------------------------------------------------------------- handlers


def clip_synthesis(settings: Settings) -> Iterator[dict]:
    """Follow CLIP's gradient from noise or a picture until it is convinced, and ask another CLIP."""
    yield from follow(asked(settings))


def asked(settings: Settings) -> Settings:
    """The settings with the CLIP that judges, and all models at hand."""
    controls.choice(say("The model"), settings.model, followed())
    controls.choice(say("The autoencoder"), settings.autoencoder, model_names("autoencoder"))
    judge = MODELS[settings.model].scorer
    for each in (settings.model, judge, *[settings.autoencoder] * (settings.parametrization == "latent")):
        at_hand(each)
    return replace(settings, judge=judge)


def follow(settings: Settings, before: Sequence = ()) -> Iterator[dict]:
    """One run, on top of the steps `before`."""
    real, shown, last = reference_of(settings), list(before), before[-1].iteration if before else 0
    now: dict = {}
    for step in run(settings):
        if step.look is None:
            yield {"status": _progress(step)}
            continue
        shown.append(replace(step, iteration=step.iteration + last))
        now = {
            **_panels(step),
            "charts": _curves(shown, real),
            "facts": _facts(shown[-1], real, step.steps + last),
            "note": _note(settings),
            "kept": (settings, _without_views(shown)),
            "numbers": numbers_of(settings, shown, real),
            "compared": gr.Image(visible=False),
            "table": "",
        }
        yield now | {"status": _progress(step)}
    yield now | {"status": ""}


def _panels(step: Step) -> dict:
    """The picture, and what CLIP was shown of it."""
    look: Any = step.look
    return {"picture": drawing.show(look.picture)[0], "views": drawing.show(_sheet(look.views))[0]}


def reference_of(settings: Settings) -> Reference | None:
    """What real pictures of the main prompt score; None where the world cannot draw it."""
    prompt = pipeline.main_prompt(pipeline.parse(settings.prompt))
    return reference(prompt, settings.model, settings.judge)


def first_picture(kept: tuple | bool | None) -> dict | None:
    """What a tab that is opened shows: a recorded comparison; later, what is on show stays."""
    if kept is not None:
        return None
    told = say("Recorded: the same prompt, seed and number of steps, with views and without. Press Start to run it.")
    return compared(Comparison.load(OPENING)) | {"status": told, "kept": False}


def go_on(settings: Settings, kept: tuple | bool | None) -> Iterator[dict]:
    """As many steps again, from the picture on show."""
    if not isinstance(kept, tuple):
        raise UserError(say("There is no picture yet to go on with. Press Start first."))
    yield from follow(replace(asked(settings), image=kept[1][-1].look.picture), kept[1])


def compare_parametrizations(settings: Settings) -> Iterator[dict]:
    """The same prompt, seed and budget, written in every way."""
    settings = asked(settings)
    yield from side_by_side(
        [(text, replace(settings, parametrization=name)) for name, text in PARAMETRIZATIONS.items()]
    )


def compare_views(settings: Settings) -> Iterator[dict]:
    """The same prompt, seed and budget, with views and without."""
    settings = asked(settings)
    yield from side_by_side([(text, replace(settings, augment=given)) for text, given in VIEWS.items()])


def side_by_side(ways: list[tuple[str, Settings]]) -> Iterator[dict]:
    """Several runs in one row, beside a real picture."""
    ways = [(name, replace(settings, steps=min(settings.steps, COMPARED))) for name, settings in ways]
    first = ways[0][1]
    done: list[tuple[str, Step]] = []
    real = reference_of(first)
    for name, settings in ways:
        for step in run(settings):
            told: dict[str, object] = {"status": f"**{say(name)}**: {_progress(step)}"}
            if step.look is not None:
                last = step
                told |= _panels(step)
            yield told if done else {**_unjudged(), **told}
        done.append((name, last))
        yield compared(Comparison(settings=first, ways=tuple(done), real=real)) | {"status": ""}


def compared(found: Comparison) -> dict:
    """What each part shows of runs side by side."""
    done: list[tuple[str, Any]] = [(say(name), step) for name, step in found.ways]
    row = [(name, step.look.picture) for name, step in done]
    row += [(say("a real picture"), found.real.example)] if found.real else []
    strip = drawing.strip([drawn for _, drawn in row], [name for name, _ in row], 220)
    return {
        "picture": None,  # an empty row is not shown: assets/style.css
        "views": None,
        "charts": _believed(done),
        "compared": gr.update(value=strip, visible=True),
        "table": _table(done, found.real, found.settings.steps),
        "note": _note(found.settings),
        "numbers": {name: _numbers(step) for name, step in done},
    }


def _believed(done: list[tuple[str, Any]]) -> str:
    """Of each run: how much of what the followed CLIP believes the other one believes too."""
    if len(done) != len(VIEWS):
        return ""
    numbers = []
    for name, step in done:
        value = f"{step.look.similarity:.2f} → {step.look.similarity_held_out:.2f}"
        numbers.append((value, say("{name}: the CLIP that is followed, and another one", name=name)))
    return charts.headline(*numbers)


def _unjudged() -> dict:
    """Beside the first picture of a comparison: nothing of the run before. Made anew, as Gradio changes an update."""
    empty = dict.fromkeys(("charts", "facts", "table", "note", "numbers"))
    return {**empty, "compared": gr.update(value=None, visible=False), "kept": False}


def take_example(example: str) -> dict:
    return {"prompt": controls.choice(say("The example"), example, EXAMPLES)}


def export(kept: tuple | bool | None, numbers: dict | None) -> dict:
    """Six moments of the run on show, with all settings inside."""
    if not isinstance(kept, tuple):
        raise UserError(say("There is no single run to export on show. Press Start first."))
    settings, shown = kept
    chosen = [shown[place] for place in sorted({round(i * (len(shown) - 1) / 5) for i in range(6)})]
    panels = [Panel(picture=step.look.picture, caption=say("step {n}", n=step.iteration)) for step in chosen]
    return {"files": export_files(LESSON, panels, settings, numbers or {})}


# ------------------------------------------------------------------------------------------------------ what is shown


def _sheet(views: np.ndarray) -> Image.Image:
    """Up to 16 views in rows of four."""
    columns = min(4, len(views))
    rows = -(-len(views) // columns)
    side = views.shape[1]
    sheet = Image.new("RGB", (columns * (side + 4) - 4, rows * (side + 4) - 4), (128, 128, 128))
    for place, view in enumerate(views):
        sheet.paste(Image.fromarray(view), (place % columns * (side + 4), place // columns * (side + 4)))
    return sheet


def _without_views(shown: list) -> list:
    """Views are large, and of old steps nobody asks for them again."""
    return [replace(step, look=replace(step.look, views=step.look.views[:0])) for step in shown]


def _progress(step: Step) -> str:
    left = step.seconds / step.iteration * (step.steps - step.iteration)
    return say("Step {n} of {count}, {left} s left", n=step.iteration, count=step.steps, left=f"{left:.0f}")


def _curves(shown: Sequence[Any], real: Reference | None) -> str:
    x = [step.iteration for step in shown]
    lines = [
        charts.Line(name=say("the CLIP that is followed"), x=x, y=[step.look.similarity for step in shown]),
        charts.Line(name=say("another CLIP, never followed"), x=x, y=[step.look.similarity_held_out for step in shown]),
    ]
    levels = [] if real is None else [(real.similarity_held_out[0], say("real pictures, the other CLIP"))]
    chart = charts.curves(
        lines, say("step"), say("cosine of picture and prompt"), levels=levels, title=say("Who is convinced?")
    )
    look = shown[-1].look
    told = say("by another CLIP, never followed")
    if real is not None:
        told = say("by another CLIP, never followed; real pictures {mean}", mean=f"{real.similarity_held_out[0]:.2f}")
    headline = charts.headline(
        (f"{look.similarity:.2f}", say("by the CLIP that is followed")), (f"{look.similarity_held_out:.2f}", told)
    )
    return f'{headline}<div class="charts">{chart}</div>'


def _facts(step: Any, real: Reference | None, planned: int) -> str:
    look = step.look

    def beside(values) -> str:
        if values is None:
            return ""
        mean, low, high = values
        return say("real pictures {mean} ({low} – {high})", mean=f"{mean:.2f}", low=f"{low:.2f}", high=f"{high:.2f}")

    of_other = beside(real and real.similarity_held_out)
    best = say("by the other CLIP; best: {caption}", caption=named(look.captions[0]))
    detail = say("of the energy; real pictures {share}", share=f"{real.high_frequency:.1%}") if real else ""
    return charts.facts(
        [
            (say("the CLIP that is followed"), f"{look.similarity:.3f}", beside(real and real.similarity)),
            (say("another CLIP, never followed"), f"{look.similarity_held_out:.3f}", of_other),
            (say("gap"), f"{look.gap:+.3f}", say("what only the followed one believes")),
            (say("rank among 100 captions"), f"{look.rank_held_out}", best),
            (say("after a slight blur"), _left(look), say("of the similarity is left")),
            (say("fine detail"), f"{look.high_frequency:.1%}", detail),
            (say("measured after step"), f"{step.iteration} / {planned}", ""),
            (say("speed"), f"{step.per_second:.1f}", say("steps a second")),
        ]
    )


def _left(look) -> str:
    return "–" if look.after_blur is None else f"{look.after_blur:.0%}"


def _table(done: list, real: Reference | None, budget: int) -> str:
    head = [say("{n} steps each", n=budget), say("followed"), say("other CLIP"), say("rank of 100"), say("after blur")]
    head += [say("fine detail")]
    rows = [
        [
            name,
            f"{step.look.similarity:.3f}",
            f"{step.look.similarity_held_out:.3f}",
            f"{step.look.rank_held_out}",
            _left(step.look),
            f"{step.look.high_frequency:.0%}",
        ]
        for name, step in done
    ]
    if real is not None:
        similar = [f"{values[0]:.3f}" for values in (real.similarity, real.similarity_held_out)]
        rows.append([say("real pictures, mean"), *similar, "", "", f"{real.high_frequency:.0%}"])
    return charts.grid_table(head, rows)


def _note(settings: Settings) -> str:
    return say(
        "{model} is followed, {judge} judges. They were trained on {seen}.",
        model=settings.model,
        judge=settings.judge,
        seen=say(MODELS[settings.model].seen),
    )


def _numbers(step: Any) -> dict:
    look = step.look
    return {
        "similarity": look.similarity,
        "similarity_held_out": look.similarity_held_out,
        "gap": look.gap,
        "rank_held_out": look.rank_held_out,
        "after_blur": look.after_blur,
        "high_frequency": look.high_frequency,
        "iterations_per_second": step.per_second,
    }


def numbers_of(settings: Settings, shown: Sequence[Any], real: Reference | None) -> dict:
    """Everything measured, as JSON."""
    return {
        **_numbers(shown[-1]),
        "steps": shown[-1].iteration,
        "parametrization": settings.parametrization,
        "model": settings.model,
        "judge": settings.judge,
        "captions": shown[-1].look.captions,
        "iterations": [step.iteration for step in shown],
        "loss": [step.loss for step in shown],
        "similarities": [step.look.similarity for step in shown],
        "similarities_held_out": [step.look.similarity_held_out for step in shown],
        "parts": shown[-1].parts,
        "real": None if real is None else {"similarity": real.similarity, "held_out": real.similarity_held_out},
    }


def _convincing(name: str, line: str, **then: object) -> Try:
    return Try(
        name=name,
        line=line,
        question="Which place does the prompt take among 100 captions, for a CLIP that was never followed?",
        answers=("the first", "2nd to 10th", "a later one"),
        then=then,
        answer=lambda before, after: among(after["rank_held_out"], 2, 11),
        message="Rank {rank}. The CLIP that is followed believes {followed}, the other one {other}.",
        values=lambda before, after: {
            "rank": after["rank_held_out"],
            "followed": f"{after['similarity']:.2f}",
            "other": f"{after['similarity_held_out']:.2f}",
        },
    )


TRIES = (
    _convincing("raw", "Raw pixels, without varied views.", parametrization="pixels", augment=False),
    _convincing("one_view", "One view at each step in place of eight.", cutouts=1),
    _convincing("two_things", "Ask for two things: a cat and a dog.", prompt="a cat and a dog"),
    _convincing("few_steps", "Stop after 10 of 80 steps.", steps=10),
)


LESSON = Lesson(
    slug="clip_synthesis",
    title="CLIP synthesis",
    chapter="make",
    claim="CLIP can be convinced by noise nobody else can read. Views and a good parametrization force a picture.",
    settings=Settings,
    layout=layout,
    main=clip_synthesis,
    shows=("picture", "views", "status", "charts", "facts", "compared", "table", "note", "kept", "numbers"),
    wire=wire,
    seconds=LONGEST,
    tables={"What breaks if it is removed": synthesis_table},
    tries=TRIES,
)
