"""Trains the network the collapse lessons begin from: SimCLR for some minutes, on crops of the drawn world.

    python -m pipelines.training.collapse

Writes `assets/models/storybook-collapse-start`: encoder and projector in float16, and what was measured on the way.
The pictures are not those of the lessons. Only the result matters here, not that a class can watch it, so the learning
rate decays at the end.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipelines import crops
from pipelines.collapse import lab
from pipelines.collapse.data import LARGER, baselines
from pipelines.collapse.settings import Lab
from pipelines.training.loop import write_json
from pipelines.world import storybook

KEPT = ("encoder.", "projector.")
PICTURES = storybook.TRAIN[100_000:104_096]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--decay", type=int, default=250, help="last steps, over which the learning rate falls to 0")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=lab.WARM.parent)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = Lab(negatives=True, start="scratch", learning_rate=options.rate, batch=options.batch, seed=options.seed)
    object.__setattr__(settings, "steps", options.steps)  # a class may not wait as long
    run, start, steps = lab.Run(settings), time.process_time(), []
    pictures = crops.pool(PICTURES, LARGER).pixels
    for step in lab.train(settings, run, pictures):
        run.scale_learning_rate(min(1.0, (options.steps - step.step) / options.decay))
        if step.knn is not None:
            steps.append({"step": step.step, "loss": step.loss, "feature_std": step.feature_std, "knn": step.knn})
            print(steps[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    weights = {name: value for name, value in run.net.state_dict().items() if name.startswith(KEPT)}
    halves = {n: (v.half() if v.is_floating_point() else v).contiguous() for n, v in weights.items()}
    save_file(halves, options.out / "model.safetensors")
    known = baselines(options.seed)
    figures = {"chance": known.chance, "pixels": known.pixels, "untrained": known.untrained, "knn": steps[-1]["knn"]}
    command = f"python -m pipelines.training.collapse --steps {options.steps} --decay {options.decay}"
    told = {
        "command": f"{command} --rate {options.rate:g} --batch {options.batch} --seed {options.seed}",
        "seconds": round(time.process_time() - start),
        **figures,
    }
    write_json(options.out / "quality.json", {**told, "steps": steps})


if __name__ == "__main__":
    main()
