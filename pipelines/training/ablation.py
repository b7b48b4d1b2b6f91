"""What does each technique buy? The same short budget, run four times, measured alike.

    python -m pipelines.training.ablation --cpu

Trains a small DetailCLIP with 16-pixel patches (64 tokens, so that four runs take half an hour on two cores) and the
paper's own decoder, which knows the visible patches by their tokens alone: whole, without distillation, without
reconstruction, and without removal. Without removal the student sees every patch, and the two patch losses are taken
over all of them. Writes `ablation.json` and the table of the card of the bundled model; the lessons show it, whatever
it says.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

from pipelines.evaluation.clip import evaluate, write_between
from pipelines.models.encoders import open_openclip
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.training import detailclip
from pipelines.training.loop import trained, write_json

CONFIGURATION = {
    **detailclip.STORYBOOK_MODEL,
    "vision_cfg": {**detailclip.STORYBOOK_MODEL["vision_cfg"], "patch_size": 16, "layers": 3},
}
SETTINGS = replace(detailclip.STORYBOOK_SETTINGS, decode_on_fill=False)
OPTIMIZER = ["--optimizer", "muon", "--lr", "2e-3", "--warmup", "30"]
SPEC = MODELS["storybook-detailclip"]


def measure(name: str, folder: Path, batch: int, scenes: int) -> dict:
    """One row: quality on never-seen scenes, and how fast it trained."""
    figures = evaluate(open_openclip(SPEC, folder / "model"), scenes, quick=True)
    records = trained(folder)["records"]
    seconds = statistics.median(record["seconds_per_step"] for record in records)
    reconstructs = detailclip.ABLATIONS[name].get("weight_rec", 1.0) > 0
    return {
        "run": name,
        "naming": figures["naming"],
        "retrieval": figures["retrieval_image_to_text"],
        "segmentation_miou": figures["segmentation_miou"],
        "psnr": figures["psnr_random"] if reconstructs else None,
        "psnr_neighbours": figures["psnr_random_neighbours"],
        "images_per_second": batch / seconds,
    }


def table(found: dict) -> str:
    """The rows as the model card shows them."""
    neighbours = found["rows"][0]["psnr_neighbours"]
    lines = [
        f"| run, {found['steps']} steps each | naming | caption, 1 of 100 | mIoU "
        f"| PSNR (interpolation {neighbours:.2f}) | pictures/s |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        psnr = "–" if row["psnr"] is None else f"{row['psnr']:.2f}"
        lines.append(
            f"| {row['run']} | {row['naming']:.1%} | {row['retrieval']:.1%} | {row['segmentation_miou']:.3f} "
            f"| {psnr} | {row['images_per_second']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=260)
    parser.add_argument("--scenes", type=int, default=1000, help="never-seen scenes to measure on")
    parser.add_argument("--checkpoint", type=Path, default=Path(".checkpoints/ablation"))
    parser.add_argument("--cpu", action="store_true", help="do not use an accelerator")
    options = parser.parse_args()
    rows = []
    for name in detailclip.ABLATIONS:
        folder = options.checkpoint / name
        command = [
            "--ablate",
            name,
            "--steps",
            str(options.steps),
            "--decay",
            str(options.steps // 4),
            "--seed",
            "5",
            "--checkpoint",
            str(folder),
            *OPTIMIZER,
            *(["--cpu"] if options.cpu else []),
        ]
        arguments = detailclip.parser().parse_args(command)
        detailclip.train(arguments, CONFIGURATION, SETTINGS)
        detailclip.export(folder, folder / "model", CONFIGURATION)
        rows.append(measure(name, folder, arguments.batch, options.scenes))
        print(json.dumps(rows[-1]), flush=True)
    found = {"steps": options.steps, "scenes": options.scenes, "rows": rows}
    write_json(BUNDLED / SPEC.source / "ablation.json", found)
    section = f"## What each technique buys\n\n{table(found)}"
    write_between(BUNDLED / SPEC.source / "README.md", "ablation", section)


if __name__ == "__main__":
    main()
