"""The words of the tabs, from assets/lessons/, and the measured tables that belong to them."""

import json

import gradio as gr

from demos.ui import charts
from demos.ui.events import light
from demos.ui.lesson import Lesson
from demos.ui.text import ASSETS, LATEX, say, sections, t
from pipelines.models.registry import BUNDLED


def lay_out_words(lesson: Lesson) -> None:
    """The words of a tab, one accordion per `##` section of assets/lessons/<slug>.md, the first one open."""
    for place, (title, body) in enumerate(sections(ASSETS / "lessons" / f"{lesson.slug}.md")):
        with gr.Accordion(t(title), open=place == 0, elem_id=f"{lesson.slug}-lesson-{place}") as accordion:
            gr.Markdown(t(body), latex_delimiters=LATEX, elem_classes="words")
            table = lesson.tables.get(title)
            if table:
                shown = gr.HTML(elem_id=f"{lesson.slug}-measured")
                accordion.expand(light(table), None, shown, api_visibility="private", show_progress="hidden")


ABLATION = BUNDLED / "storybook-detailclip" / "ablation.json"  # from python -m pipelines.training.ablation
MISSING = BUNDLED / "storybook-diffusion" / "quality.json"  # from python -m pipelines.evaluation.diffusion
SYNTHESIS = BUNDLED / "storybook-clip-b" / "synthesis.json"  # from python -m pipelines.evaluation.clip_synthesis
RUNS = {
    "full": "DetailCLIP, whole",
    "no-distillation": "without self-distillation",
    "no-reconstruction": "without reconstruction",
    "no-removal": "without token removal",
}


def ablation_table() -> str:
    """The measured answer to "what breaks if one is removed?", from the file beside the bundled model."""
    found = json.loads(ABLATION.read_text(encoding="utf-8"))
    head = [
        "",
        say("names objects"),
        say("finds captions, 1 of 100"),
        say("patch tokens segment, mIoU"),
        say("reconstructs half, dB (interpolation {n})", n=f"{found['rows'][0]['psnr_neighbours']:.1f}"),
        say("training pictures/s"),
    ]
    rows = [
        [
            say(RUNS[r["run"]]),
            f"{r['naming']:.1%}",
            f"{r['retrieval']:.1%}",
            f"{r['segmentation_miou']:.3f}",
            "–" if r["psnr"] is None else f"{r['psnr']:.1f}",
            f"{r['images_per_second']:.0f}",
        ]
        for r in found["rows"]
    ]
    note = say(
        "This project's own training: four runs of {steps} steps with the same seed and pictures, a smaller model (64 "
        "patches) than the one above, with the paper's decoder, which knows visible patches by their tokens alone and "
        "has no interpolation to start from; measured on {scenes} never-seen scenes. One run each: differences of a "
        "point or two mean nothing.",
        steps=found["steps"],
        scenes=f"{found['scenes']:,}",
    )
    return f"{charts.grid_table(head, rows)}<p>{note}</p>"


METHODS = {"none": "plain", "attend-and-excite": "with Attend-and-Excite"}


def missing_table() -> str:
    """How often everything is there, over all prompts, from the file beside the bundled model."""
    found = json.loads(MISSING.read_text(encoding="utf-8"))
    head = [say("prompts"), say("pictures"), *(say(name) for name in METHODS.values())]
    kinds = {say("one object"): found["single"]}
    kinds |= {say("two objects: {kind}", kind=say(name)): told for name, told in found["pairs"].items()}
    rows = [
        [name, str(told["none"]["pictures"]), *(_share(told[m]["present"], told[m]["interval"]) for m in METHODS)]
        for name, told in kinds.items()
    ]
    note = say(
        "Pictures in which the detector finds everything that was asked for, with 95 % intervals. {steps} steps, "
        "guidance {guidance}.",
        steps=found["steps"],
        guidance=found["guidance"],
    )
    return f"{charts.grid_table(head, rows)}<p>{note}</p>"


def synthesis_table() -> str:
    """What parametrization and views change, over all prompts, from the file beside the model that is followed."""
    found = json.loads(SYNTHESIS.read_text(encoding="utf-8"))
    head = [
        say("medians"),
        say("rank of 100"),
        say("followed"),
        say("other CLIP"),
        say("after blur"),
        say("fine detail"),
        say("the detector finds it"),
    ]
    rows = [
        [
            say(row["way"]),
            f"{row['rank']:g}",
            f"{row['similarity']:.3f}",
            f"{row['held_out']:.3f}",
            f"{row['after_blur']:.0%}",
            f"{row['high_frequency']:.0%}",
            _share(row["found"], row["interval"]),
        ]
        for row in found["rows"]
    ]
    note = say(
        "{prompts} prompts with {seeds} seeds each, {steps} steps; shares with 95 % intervals.",
        prompts=found["prompts"],
        seeds=found["seeds"],
        steps=found["steps"],
    )
    return f"{charts.grid_table(head, rows)}<p>{note}</p>"


def _share(share: float, interval: list[float]) -> str:
    return f"{share:.0%} ({interval[0]:.0%} – {interval[1]:.0%})"
