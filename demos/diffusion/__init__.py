"""A picture out of noise, step by step, and the object that goes missing. Wraps pipelines/diffusion."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from demos.diffusion import seeds
from demos.diffusion.player import Player, peaks_chart, played
from demos.diffusion.tries import TRIES
from demos.diffusion.verdicts import boxed, cost, facts_of, note_of, numbers_of, progress, verdict_table, versions
from demos.ui import address, controls, drawing, pictures, tries
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.export import Panel, export_files
from demos.ui.lesson import Lesson
from demos.ui.models import at_hand, model_names
from demos.ui.tab import Tab
from demos.ui.text import ASSETS, named, say, t, worded
from demos.ui.words import missing_table
from pipelines.diffusion import presence
from pipelines.diffusion.settings import METHODS, Settings
from pipelines.errors import UserError
from pipelines.models.registry import MODELS
from pipelines.phrases import distinct

if TYPE_CHECKING:
    from pipelines.detection.pipeline import Encoded
    from pipelines.diffusion.pipeline import Result, Trajectory

EXAMPLES: tuple[str, ...] = (Settings().prompt, "a bear and a turtle", "a lion with a crown")
EXAMPLES += ("a monkey and a red car", "a green bowl and a red car", "an elephant", "a blue balloon at night")
FIRST_SUBJECTS = ["1", "4"]  # places of "cat" and "frog": nothing is imported before the page is up
OPENING = ASSETS / "openings" / "diffusion.safetensors"  # from python -m pipelines.evaluation.openings
MOST_SEEDS = 16
UNJUDGED: dict[str, object] = {  # beside the picture of a run that is not finished
    "verdict": None,
    "strip": None,
    "player": None,
    "charts": None,
    "facts": None,
    "note": None,
    "kept": False,
    "files": [],
    "numbers": None,
}

pipeline = lazily("pipelines.diffusion.pipeline")
detector = lazily("pipelines.detection.pipeline")
recording = lazily("pipelines.diffusion.recording")
prompts = lazily("pipelines.diffusion.prompts")


def drawing_seconds(settings: Settings) -> int:
    """For which a GPU is borrowed: as long as the bundled model takes on two cores, and half as much to begin with."""
    excited = settings.method != "none"
    return 15 + round(settings.steps * (1.0 if excited and settings.refine else 0.4 if excited else 0.2))


@on_device(seconds=drawing_seconds)
def run(settings: Settings) -> Iterator:
    yield from pipeline.run(settings, True)


@on_device
def trajectory(result: "Result", model: str) -> "Trajectory":
    return pipeline.trajectory(result, model)


@on_device
def detect(picture: Image.Image, phrases: Sequence[str], model: str) -> "Encoded":
    return detector.encode(picture, phrases, model)


@on_device
def clip_score(picture: Image.Image, prompt: str, model: str) -> float:
    return pipeline.clip_score(picture, prompt, model)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    tab.columns(_lay_out_controls, _lay_out_figures)
    tab.state("kept")  # the recording on show; False while a run is not finished, None before the first


def _lay_out_controls(tab: Tab) -> None:
    tab.control("prompt", lines=1)
    examples = [(worded(example), example) for example in EXAMPLES]
    tab.add("example", controls.Dropdown(examples, value=None, label=t("or one of these"), elem_id=tab.id("example")))
    tab.add("chips", _chips(tab))
    tab.control("subjects", visible="hidden")
    tab.control("method")
    tab.button("draw", "Draw", variant="primary")
    tries.lay_out(tab)
    with gr.Row():
        tab.button("count", "Count what goes missing", min_width=160)
        many = controls.Slider(1, MOST_SEEDS, 8, step=1, label=t("over seeds"), elem_id=tab.id("many"), min_width=130)
        tab.add("many", many)
    tab.control("steps")
    tab.control("guidance_scale")
    tab.control("seed")
    tab.model_menu(model_names("stable_diffusion"))
    with gr.Accordion(t("Begin from a picture"), open=False):
        tab.control("image", height=220)
        tab.button("scene", "A storybook scene", size="sm")
        tab.control("strength")
    with gr.Accordion(t("More settings"), open=False):
        for name in ("negative_prompt", "sampler", "scale", "refine"):
            tab.control(name)
    tab.stop()


def _chips(tab: Tab) -> controls.CheckboxGroup:
    return controls.CheckboxGroup(
        [(worded(word), str(place)) for place, word in enumerate(EXAMPLES[0].split())],
        value=FIRST_SUBJECTS,
        label=t("Subjects: what the picture must show"),
        info=t("Found by themselves; click to correct"),
        elem_id=tab.id("chips"),
    )


def _lay_out_figures(tab: Tab) -> None:
    tab.markdown("status")
    with gr.Row():
        tab.panel("picture", "The picture, and what the detector finds")
        tab.panel("other", "With Attend-and-Excite")
    tab.html("verdict")
    tab.html("strip")
    tab.add("player", Player(elem_id=tab.id("player")))
    tab.html("charts")
    tab.html("facts")
    tab.markdown("note", elem_classes="note")
    with gr.Accordion(t("Recorded runs, numbers as JSON, export"), open=False):
        with gr.Row():
            tab.button("save", "Save this run")
            tab.export()
        label = t("Open a recorded run")
        tab.add("open", gr.File(label=label, file_count="single", type="filepath", elem_id=tab.id("open")))
        tab.numbers()


def wire(tab: Tab) -> None:
    shows, prompt = LESSON.shows, tab["prompt"]
    address.keep(tab)
    settled = tab.quick(tab.fetched.success, take_usual, ["steps", "guidance_scale", "sampler"])
    tab.main([tab["draw"].click, prompt.submit])
    tab.quick(tab.chosen, first_picture, shows)
    tab.compute(tab["count"].click, count_missing, shows, seconds=1800)
    tab.main(tab.quick(tab["example"].input, take_example, ["prompt", "chips", "subjects"]).success)
    tab.main(settled.success)
    tab.stopped = tell_stopped
    tab.quick([prompt.input, prompt.change], find_subjects, ["chips", "subjects"])
    tab.quick(tab["chips"].input, take_subjects, ["subjects"])
    tab.quick(tab["scene"].click, take_scene, ["image"])
    tab.quick(tab["save"].click, save, ["files"])
    tab.quick(tab["export"].click, export, ["files"])
    tab.quick(tab["open"].upload, reopen, shows)
    tries.connect(tab, runs_first=False)


# ----------------------------------------------------------------------------------------------------------- handlers


def diffusion(settings: Settings) -> Iterator[dict]:
    """Draw a picture step by step, and judge what is there."""
    controls.choice(say("The model"), settings.model, model_names("stable_diffusion"))
    at_hand(settings.model)
    for step in run(settings):
        if isinstance(step, pipeline.Step):
            now = {"picture": drawing.show(step.picture)[0], "other": gr.Image(visible=False)}
            yield UNJUDGED | now | {"status": progress(step)}
    done = step
    said = judged(done.picture, done.prompt.subjects, settings.model)
    yield {"status": say("Measuring what was drawn")}  # in steps of its own: others wait for one of them at most
    taken = recording.record(settings, done, trajectory(done, settings.model), said)
    score = score_of(done.picture, settings)
    refined = settings.method != "none" and settings.refine
    yield {
        "picture": boxed(done.picture, said, taken.names),
        "other": gr.Image(visible=False),
        "status": "",
        "verdict": verdict_table([("", said)], taken.names),
        "strip": "",
        "player": played(taken),
        "charts": f'<div class="charts">{peaks_chart([("", taken)], refined)}</div>',
        "facts": facts_of(taken, said, score),
        "note": note_of(settings.model, done, said),
        "kept": taken,
        "files": [],
        "numbers": numbers_of(taken, said, score),
    }


def first_picture(kept: object) -> dict | None:
    """What a tab that is opened shows: a recorded run of the first settings; later, what is on show stays."""
    return None if kept is not None else reopen(str(OPENING))


def judged(drawn: Image.Image, subjects: Sequence, model: str) -> presence.Verdict | None:
    """What the model's detector says; None where it has no words for it or is not on this computer."""
    name = MODELS[model].detector
    if not subjects or not name or lazily("pipelines.models.hub").availability(name) == "download":
        return None
    wanted = [presence.wanted_of(subject.noun, subject.adjectives) for subject in subjects]
    try:
        return presence.examine(wanted, name, lambda phrases: detect(drawn, phrases, name))
    except UserError:  # a subject that the detector has no word for
        return None


def score_of(picture: Image.Image, settings: Settings) -> float | None:
    """Cosine of picture and prompt by the model's scorer; None where it cannot read the prompt or is not here."""
    judge = MODELS[settings.model].scorer
    if not judge or lazily("pipelines.models.hub").availability(judge) == "download":
        return None
    try:
        return clip_score(picture, settings.prompt, judge)
    except UserError:
        return None


def count_missing(settings: Settings, many: int) -> Iterator[dict]:
    """Plain and excited for one seed after another."""
    many = controls.whole(say("The number of seeds"), many, 1, MOST_SEEDS)
    at_hand(controls.choice(say("The model"), settings.model, model_names("stable_diffusion")))
    pairs: list[seeds.Pair] = []
    before = None  # the excited picture of the last seed
    for number, seed in enumerate(seeds.in_a_row(settings.seed, many)):
        drawn: dict[str, tuple] = {}  # kind -> settings, result, verdict
        now = replace(settings, seed=seed)
        for kind, method in zip(seeds.NAMES, METHODS, strict=True):
            asked = replace(now, method=method)
            for step in run(asked):
                if isinstance(step, pipeline.Step):
                    told = say("Seed {n} of {count}, {kind}. ", n=number + 1, count=many, kind=kind)
                    yield _counting(step, kind, before, bool(pairs)) | {"status": told + progress(step)}
            drawn[kind] = asked, step, _verdict_of(step, settings.model)
        taken = {}
        for kind, (asked, step, _) in drawn.items():
            yield {"status": say("Measuring what was drawn")}
            taken[kind] = recording.record(asked, step, trajectory(step, asked.model))
        plain, excited = (
            seeds.Drawn(picture=step.picture, verdict=said, seconds=step.seconds) for _, step, said in drawn.values()
        )
        pairs.append(seeds.Pair(seed=now.seed, plain=plain, excited=excited))
        before = drawing.greyed(drawing.show(excited.picture)[0])
        yield _counted(drawn, pairs, taken) | {"status": say("Seed {n} of {count} done.", n=number + 1, count=many)}


def _verdict_of(result: "Result", model: str) -> presence.Verdict:
    """The verdict on a picture that is counted: without one there is nothing to count."""
    if not result.prompt.subjects:
        pipeline.chosen_subjects(result.prompt)
    said = judged(result.picture, result.prompt.subjects, model)
    if said is None:
        raise UserError(say("No detector on this computer can judge these subjects, so there is nothing to count."))
    return said


def _counting(step, kind: str, before: Image.Image | None, counted: bool) -> dict:
    """What is shown while a seed is drawn; what is counted so far stays, for it names its seeds."""
    shown = gr.update(value=drawing.show(step.picture)[0], visible=True)
    grey = gr.update(value=before, visible=before is not None)
    panels = {"picture": shown, "other": grey} if kind == "plain" else {"other": shown}
    stays = ("strip", "numbers") if counted else ()
    return {name: value for name, value in UNJUDGED.items() if name not in stays} | panels


def _counted(drawn: dict[str, tuple], pairs: list[seeds.Pair], taken: dict[str, Any]) -> dict:
    """What is shown when a seed is done; `taken` are the recordings of both kinds."""
    settings, excited, _ = drawn["excited"]
    names = distinct([subject.phrase for subject in excited.prompt.subjects])
    both = [(say(kind), taken[kind]) for kind in seeds.NAMES]
    return {
        "picture": boxed(pairs[-1].plain.picture, pairs[-1].plain.verdict, names),
        "other": gr.update(value=boxed(excited.picture, pairs[-1].excited.verdict, names), visible=True),
        "verdict": verdict_table([(say(k), getattr(pairs[-1], k).verdict) for k in seeds.NAMES], names),
        "strip": seeds.strip(pairs, names),
        "player": played(taken["excited"]),
        "charts": f'<div class="charts">{peaks_chart(both, settings.refine)}</div>',
        "facts": cost(pairs),
        "note": note_of(settings.model, excited, pairs[-1].excited.verdict),
        "kept": taken["excited"],
        "files": [],
        "numbers": seeds.numbers(pairs, names),
    }


def tell_stopped(kept: object, numbers: dict | None) -> dict:
    return {"status": say("Stopped.") + _held(kept, numbers)}


def _held(kept: object, numbers: dict | None) -> str:
    """What the screen holds when nothing goes on."""
    if kept is None:
        return " " + say("Nothing is drawn yet.")
    told = say("What is shown is a finished run.")
    if kept is False:
        told = say("The picture is as far as this run came: nothing has judged it, and there is nothing to save.")
    if numbers and "seeds" in numbers:
        told += " " + say("Counted are the {count} seeds that were finished.", count=len(numbers["seeds"]))
    return " " + told


def save(kept: object) -> dict:
    """The run on show as a file that opens without a model."""
    if not kept:
        raise UserError(say("There is no finished run to save yet. Press Draw first."))
    return {"files": [save_bytes_to_cache(recording.dump(kept), recording.name_of(kept), get_upload_folder())]}


def export(kept: Any, numbers: dict | None) -> dict:
    """Six moments of the run on show and its result, with all settings inside."""
    if not kept:
        raise UserError(say("There is no finished run to export yet. Press Draw first."))
    places = sorted({round(i * (len(kept.moments) - 1) / 5) for i in range(6)})
    frames = [Image.open(io.BytesIO(kept.frames["clean"][n])) for n in places]
    panels = [Panel(picture=frame, caption=say("step {n}", n=n + 1)) for frame, n in zip(frames, places, strict=True)]
    panels.append(Panel(picture=Image.open(io.BytesIO(kept.picture)), caption=say("result")))
    return {"files": export_files(LESSON, panels, kept.settings, numbers or {})}


def reopen(open: str | None) -> dict | None:
    """A recorded run, shown without a model."""
    if open is None:
        return None
    run = recording.load(open)
    return {
        "picture": boxed(Image.open(io.BytesIO(run.picture)), run.verdict, run.names),
        "other": gr.Image(visible=False),
        "status": say("Recorded: {prompt}", prompt=named(str(run.settings.get("prompt", ""))[:200])),
        "verdict": verdict_table([("", run.verdict)], run.names),
        "strip": "",
        "player": played(run),
        "charts": f'<div class="charts">{peaks_chart([("", run)], run.settings.get("method") != "none")}</div>',
        "facts": facts_of(run, run.verdict, None),
        "note": say("A recorded run, shown without a model: {versions}.", versions=versions(run)),
        "kept": run,
        "files": [],
        "numbers": numbers_of(run, run.verdict, None),
    }


def take_usual(model: str) -> dict:
    """Steps, guidance and sampler that suit this model."""
    spec = MODELS[controls.choice(say("The model"), model, model_names("stable_diffusion"))]
    return {"steps": spec.steps, "guidance_scale": spec.guidance, "sampler": spec.sampler}


def find_subjects(prompt: str) -> dict:
    """The words of a prompt as chips, its nouns chosen."""
    sketch = prompts.sketch(prompt)
    choices = [(named(word.text), str(place)) for place, word in enumerate(sketch.words)]
    chosen = [str(subject.word) for subject in sketch.subjects]
    return {"chips": controls.CheckboxGroup(choices, value=chosen), "subjects": ""}


def take_subjects(prompt: str, chips: list[str]) -> dict:
    """The line of subjects for these words, each with its place: found phrases keep their adjectives."""
    sketch = prompts.sketch(prompt)
    known = {str(place): place for place in range(len(sketch.words))}
    if not isinstance(chips, list) or not all(isinstance(place, str) and place in known for place in chips):
        raise UserError(say("The subjects must be words of the prompt."))
    names = {place: word.text for place, word in enumerate(sketch.words)}
    names |= {subject.word: subject.phrase for subject in sketch.subjects}
    return {"subjects": ", ".join(f"{names[place]} #{place + 1}" for place in sorted(known[p] for p in chips))}


def take_example(example: str) -> dict:
    text = controls.choice(say("The example"), example, EXAMPLES)
    return {"prompt": text, **find_subjects(text)}


def take_scene() -> dict:
    return {"image": pictures.scene_picture({"text": "a cat and a red car on grass", "seed": 0})[0]}


LESSON = Lesson(
    slug="diffusion",
    title="Diffusion",
    chapter="make",
    claim="Layout is decided in the first steps, texture later; and a word can lose the fight for pixels.",
    settings=Settings,
    layout=layout,
    main=diffusion,
    shows=tuple("picture other status verdict strip player charts facts note kept files numbers".split()),
    wire=wire,
    tables={"Good and bad numbers": missing_table},
    tries=TRIES,
)
