"""Measure CLIP synthesis on the bundled models: does the other CLIP see what was asked for, and does the detector?

    python -m pipelines.training.synthesis_quality

Twenty prompts and three seeds, written in the default handwriting with views and in raw pixels without, the same number
of steps. Prints a table.
"""

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import torch

from pipelines import detection, presence, storybook
from pipelines.clip_synthesis import Request, run
from pipelines.loading import load
from pipelines.prompts import sketch

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
WAYS = {
    "the default: waves, with views": {},
    "raw pixels, without views": {"parametrization": "pixels", "augment": False},
}


@dataclass(frozen=True)
class Outcome:
    rank: int
    after_blur: float
    found: bool
    similarity: float
    held_out: float
    high_frequency: float


def outcome(request: Request) -> Outcome:
    torch.set_num_threads(1)
    *_, last = run(request)
    noun = sketch(request.prompt).subjects[0].noun
    seen = detection.encode(last.look.picture, [noun], DETECTOR)
    found = float(seen.scores.max()) >= presence.threshold_of(DETECTOR)
    look = last.look
    return Outcome(
        look.rank_held_out, look.after_blur, found, look.similarity, look.similarity_held_out, look.high_frequency
    )


def row(name: str, outcomes: list[Outcome]) -> str:
    def middle(values) -> float:
        return statistics.median(values)

    found = sum(o.found for o in outcomes)
    low, high = presence.wilson(found, len(outcomes))
    return (
        f"| {name} | {middle(o.rank for o in outcomes):g} | {middle(o.similarity for o in outcomes):.3f} | "
        f"{middle(o.held_out for o in outcomes):.3f} | {middle(o.after_blur for o in outcomes):.2f} | "
        f"{middle(o.high_frequency for o in outcomes):.0%} | "
        f"{found}/{len(outcomes)} ({low:.0%} – {high:.0%}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    arguments = parser.parse_args()
    load(DETECTOR)
    print("| written in | rank of 100 | followed CLIP | other CLIP | after blur | fine detail | detector finds it |")
    print("|---|---|---|---|---|---|---|")
    with ProcessPoolExecutor(arguments.processes) as pool:
        for name, way in WAYS.items():
            requests = [
                replace(Request(prompt, seed=seed), **way) for prompt in PROMPTS[: arguments.prompts] for seed in SEEDS
            ]
            print(row(name, list(pool.map(outcome, requests))), flush=True)


if __name__ == "__main__":
    main()
