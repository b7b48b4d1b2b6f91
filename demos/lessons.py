"""The words of the tabs, from assets/lessons/, and the measured table that belongs to them."""

import json

import gradio as gr

from demos import drawing
from demos.common import ASSETS, LATEX, light, say, t
from pipelines.registry import BUNDLED


def lesson(tab: str) -> None:
    """The words of a tab, one accordion per `##` section of assets/lessons/<tab>.md, the first one open."""
    sections = (ASSETS / "lessons" / f"{tab}.md").read_text().split("\n## ")[1:]
    for place, section in enumerate(sections):
        title, _, body = section.partition("\n")
        with gr.Accordion(t(title.strip()), open=place == 0, elem_id=f"{tab}-lesson-{place}") as accordion:
            gr.Markdown(t(body.strip()), latex_delimiters=LATEX)
            if title.strip() == "What breaks if it is removed" and ABLATION.exists():
                table = gr.HTML()
                accordion.expand(light(ablation_table), None, table, api_visibility="private", show_progress="hidden")


ABLATION = BUNDLED / "storybook-detailclip" / "ablation.json"  # from python -m pipelines.training.ablation
RUNS = {
    "full": "DetailCLIP, whole",
    "no-distillation": "without self-distillation",
    "no-reconstruction": "without reconstruction",
    "no-removal": "without token removal",
}


def ablation_table() -> str:
    """The measured answer to "what breaks if one is removed?", from the file beside the bundled model."""
    found = json.loads(ABLATION.read_text())
    head = [
        "",
        say("names objects"),
        say("finds captions, 1 of 100"),
        say("patch tokens segment, mIoU"),
        say("repaints half, dB (interpolation {n})", n=f"{found['rows'][0]['psnr_neighbours']:.1f}"),
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
        "patches) than the one above, measured on {scenes} never-seen scenes. One run each: differences of a point or "
        "two mean nothing.",
        steps=found["steps"],
        scenes=f"{found['scenes']:,}",
    )
    return f"{drawing.grid_table(head, rows)}<p>{note}</p>"
