"""Recorded studies: what a lesson says of many seeds, or of runs that take longer than a class can wait.

    python -m pipelines.training.studies information --seeds 10

A study is a function of a seed that returns figures by row, {row: {figure: number}}. This runs it over the seeds,
writes `assets/studies/<name>.json` after each of them (every run; mean, standard deviation, least and most of each
figure; the command, the seeds, the versions, the seconds) and prints the table. `--resume` goes on where it stopped.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipelines.training import collapse_studies, contrast_studies, cues_studies, detection_studies, games_studies
from pipelines.training.loop import write_json

STUDIES_FOLDER = Path(__file__).parents[2] / "assets" / "studies"
Rows = dict[str, dict[str, float | None]]

STUDIES: dict[str, Callable[[int], Rows]] = {
    "information": contrast_studies.information_study,
    "words": contrast_studies.words_study,
    "negatives": contrast_studies.negatives_study,
    "collapse": collapse_studies.lab_study,
    "collapse_sweeps": collapse_studies.sweeps_study,
    "multicrop": collapse_studies.multicrop_study,
    "pretext": collapse_studies.pretext_study,
    "greedy": collapse_studies.greedy_study,
    "scramble": cues_studies.scramble_study,
    "universal": cues_studies.universal_study,
    "texture_shape": cues_studies.texture_study,
    "transfer": cues_studies.transfer_study,
    "zero_shot_masks": detection_studies.masks_study,
    "children": games_studies.children_study,
    "players": games_studies.players_study,
}


def summary(runs: list[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """{row: {figure: mean, sd, least, most, seeds}} of runs [{"seed", "rows"}]; what is None in a run is left out."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row, figures in runs[0]["rows"].items():
        found[row] = {}
        for figure in figures:
            values = [run["rows"][row][figure] for run in runs if run["rows"][row][figure] is not None]
            if values:
                found[row][figure] = {
                    "mean": statistics.fmean(values),
                    "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
                    "least": min(values),
                    "most": max(values),
                    "seeds": len(values),
                }
    return found


def table(found: dict) -> str:
    """The summary of a study in Markdown: mean ± standard deviation."""
    figures = list(dict.fromkeys(figure for row in found["summary"].values() for figure in row))
    lines = [f"| {len(found['seeds'])} seeds | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    for row, known in found["summary"].items():
        cells = (f"{known[f]['mean']:.4g} ± {known[f]['sd']:.2g}" if f in known else "–" for f in figures)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def record(name: str, runs: list[dict]) -> dict:
    return {
        "study": name,
        "command": f"python -m pipelines.training.studies {name} --seeds {len(runs)}",
        "seeds": [run["seed"] for run in runs],
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "summary": summary(runs),
        "runs": runs,
    }


def study(name: str, seeds: int, folder: Path = STUDIES_FOLDER, resume: bool = False) -> dict:
    """Run a study over the seeds 0, 1, … and write its file after each."""
    file = folder / f"{name}.json"
    runs = json.loads(file.read_bytes())["runs"][:seeds] if resume and file.exists() else []
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(len(runs), seeds):
        start = time.process_time()  # of the processor, so that the neighbours' work is not counted
        rows = STUDIES[name](seed)
        runs.append({"seed": seed, "seconds": round(time.process_time() - start, 1), "rows": rows})
        write_json(file, record(name, runs))
        print(json.dumps(runs[-1]), flush=True)
    return record(name, runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=STUDIES)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--resume", action="store_true", help="go on with the file that is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(table(study(options.name, options.seeds, resume=options.resume)))


if __name__ == "__main__":
    main()
