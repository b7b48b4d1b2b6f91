"""Measure CLIP synthesis on the bundled models: does the other CLIP see what was asked for, and does the detector?

    python -m pipelines.evaluation.clip_synthesis

Twenty prompts and three seeds, in the default parametrization with views and in raw pixels without, the same number
of steps. Prints a table.
"""

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pipelines.clip_synthesis.pipeline import Critic, pixels_of, run
from pipelines.clip_synthesis.settings import Settings
from pipelines.clip_synthesis.steps import Look
from pipelines.detection import pipeline as detection
from pipelines.diffusion import presence
from pipelines.diffusion.prompts import sketch
from pipelines.evaluation.clip import write_between
from pipelines.models.loading import load
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.shares import wilson
from pipelines.training.loop import write_json
from pipelines.world import storybook

DETECTOR = "storybook-grounding-dino"
PROMPTS = tuple(storybook.article(noun) for noun in storybook.ANIMALS) + (
    "a red car",
    "a yellow crown",
    "a blue balloon",
    "a green chair",
    "a brown suitcase",
    "a pink bow",
    "a white clock",
    "an orange bowl",
)
SEEDS = (1, 2, 3)
WAYS: dict[str, dict[str, Any]] = {
    "an autoencoder's latents, with views": {},
    "an autoencoder's latents, without views": {"augment": False},
    "raw pixels, without views": {"parametrization": "pixels", "augment": False},
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    rank: int
    after_blur: float | None
    found: bool
    similarity: float
    held_out: float
    high_frequency: float


def judged(prompt: str, look: Look) -> Outcome:
    noun = sketch(prompt).subjects[0].noun
    found = float(detection.encode(look.picture, [noun], DETECTOR).scores.max()) >= presence.THERE
    return Outcome(
        rank=look.rank_held_out,
        after_blur=look.after_blur,
        found=found,
        similarity=look.similarity,
        held_out=look.similarity_held_out,
        high_frequency=look.high_frequency,
    )


def outcome(request: Settings) -> Outcome:
    torch.set_num_threads(1)
    *_, last = run(request)
    assert last.look is not None, "the last step is always looked at"
    return judged(request.prompt, last.look)


def real(request: Settings) -> Outcome:
    """The same of a scene drawn for the prompt: what the numbers of a picture are that is what it says."""
    torch.set_num_threads(1)
    model, judge = load(request.model), load(request.judge)
    scene = storybook.compose_text(request.prompt, seed=request.seed)
    picture = pixels_of(Image.fromarray(scene.picture), model.size).to(model.device)
    return judged(request.prompt, Critic(request.prompt, model, judge).look(lambda: picture, picture))


def summary(way: str, outcomes: list[Outcome], default: bool = False) -> dict:
    """Medians, and the share in which the detector finds the object with its 95 % interval."""
    found = sum(outcome.found for outcome in outcomes)
    measures = ("rank", "similarity", "held_out", "after_blur", "high_frequency")
    middle = {name: statistics.median(v for o in outcomes if (v := getattr(o, name)) is not None) for name in measures}
    share = {"found": found / len(outcomes), "interval": wilson(found, len(outcomes))}
    return {"way": way, "default": default, **middle, **share}


def table(found: dict) -> str:
    """The README's table."""
    head = "rank of 100 | followed CLIP | other CLIP | after blur | fine detail | detector finds it"
    lines = [f"| written in | {head} |", "|---|---|---|---|---|---|---|"]
    for row in found["rows"]:
        low, high = row["interval"]
        name = f"**{row['way']}** (default)" if row["default"] else row["way"]
        lines.append(
            f"| {name} | {row['rank']:g} | {row['similarity']:.3f} | {row['held_out']:.3f} | {row['after_blur']:.2f} | "
            f"{row['high_frequency']:.0%} | {row['found']:.0%} ({low:.0%} – {high:.0%}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="only the first ones, for a first look")
    arguments = parser.parse_args()
    prompts, rows = PROMPTS[: arguments.prompts], []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for name, way in WAYS.items():
            requests = [Settings(prompt=prompt, seed=seed, **way) for prompt in prompts for seed in SEEDS]
            rows.append(summary(name, list(pool.map(outcome, requests)), default=not way))
            print(rows[-1], flush=True)
        requests = [Settings(prompt=prompt, seed=seed) for prompt in prompts for seed in SEEDS]
        rows.append(summary("real pictures", list(pool.map(real, requests))))
    found = {"prompts": len(prompts), "seeds": len(SEEDS), "steps": Settings().steps, "rows": rows}
    print(table(found))
    if arguments.write:
        write_json(BUNDLED / MODELS[Settings().model].source / "synthesis.json", found)
        write_between(Path("README.md"), "synthesis", table(found))


if __name__ == "__main__":
    main()
