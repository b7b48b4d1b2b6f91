"""Teach DetailCLIP's decoder to go over what it has painted (`pipelines.painting.Retouch`), all else as it is.

    python -m pipelines.training.retouch --cpu --start assets/models/storybook-detailclip --tokens
    python -m pipelines.training.retouch --export assets/models/storybook-detailclip

Pictures come as they are drawn, uncropped. Without `--tokens` only what was painted from the surroundings of each patch
is gone over, at a third more pictures a second. The export adds what was learnt to a DetailCLIP that lies there.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from pipelines.detailclip import DetailCLIP, Settings, complement, keep_highest, mean_attention
from pipelines.painting import lower_resolution
from pipelines.training import detailclip
from pipelines.training.loop import (
    Muon,
    add_arguments,
    add_data_argument,
    descend,
    load_checkpoint,
    precision,
    seed_everything,
    steps_done,
    write_json,
)
from pipelines.training.pairs import loader, pairs
from pipelines.vision import openclip_tokens

LEAST_ERROR = 0.005  # 35 dB: better than that is as good as right
TURNS = 10  # what is hidden comes in turns, half of the time single patches at random


def conceal(model: DetailCLIP, pixels: Tensor, turn: int, dice: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Pictures (B, 3, H, W) as they are given, and the patches (B, M) that are seen of them, None for all: mostly a
    half at random, single patches, at times another share, blocks, what attention leaves, or a blurred picture."""
    noise = torch.rand(len(pixels), model.grid**2, generator=dice).to(pixels.device)
    kind, again = turn % TURNS, turn // TURNS % 2
    if kind == 6:
        return pixels, keep_highest(noise, (0.25, 0.75)[again], blocks=False)
    if kind == 7:
        return pixels, keep_highest(noise, 0.5)
    if kind == 8:
        attention = mean_attention(openclip_tokens(model.teacher, pixels, dtype=precision(pixels.device)))
        return pixels, keep_highest(attention, 0.5)
    if kind == 9:
        return lower_resolution(pixels, 2 + 2 * again), None if turn // TURNS % 3 else keep_highest(noise, 0.75)
    return pixels, keep_highest(noise, 0.5, blocks=False)


def train(arguments: argparse.Namespace, settings: Settings = detailclip.STORYBOOK_SETTINGS) -> None:
    """Train until `arguments.steps`, from the checkpoint if there is one."""
    seed_everything(arguments.seed)
    model, _ = detailclip.build("storybook", settings)
    detailclip.start_from(model, arguments.start)
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    model.requires_grad_(False).to(device)
    learner = model.decoder.retouch.requires_grad_(True).to(memory_format=torch.channels_last)
    learner.from_token.requires_grad_(arguments.tokens)
    size, dtype = model.clip.visual.image_size[0], precision(device)
    start = steps_done(arguments) * arguments.batch
    dataset = pairs(arguments.data, arguments.seed, size, 0, 1.0, start, lessons=False)
    batches = iter(loader(dataset, arguments.batch, lambda texts: torch.zeros(1), arguments.workers))

    def losses(step: int) -> dict[str, Tensor]:
        pixels = next(batches)[0][0].to(device)
        dice = torch.Generator().manual_seed(arguments.seed * 10**6 + step)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            given, kept = conceal(model, pixels, step, dice)
            decoded = model.student(given, kept, dtype)[1] if arguments.tokens else model.paint_blindly(given, kept)
        lost = torch.empty(len(pixels), 0, dtype=torch.long, device=device)
        if kept is not None:
            lost = complement(kept, model.grid**2)
        blurred = torch.full((len(pixels),), given is not pixels, device=device)
        left, fill = (
            model.painting_error(painted, pixels, lost, blurred) for painted in (decoded.painted, decoded.fill)
        )
        # The mean of PSNR is a mean of logarithms: pictures that are hard to paint count no more than easy ones.
        total = (left + LEAST_ERROR).log().mean()
        return {"total": total, "decibels": 10 * (fill.detach() / left.detach()).log10().mean()}

    optimizer = Muon(learner, arguments.lr, 0.02)
    descend(model, optimizer, losses, arguments, asdict(settings))


def export(state: dict, folder: Path) -> None:
    """Add it to the DetailCLIP in `folder`, of which all other weights stay as they are."""
    configuration = folder / "detailclip_config.json"
    write_json(configuration, json.loads(configuration.read_text()) | {"retouch": state["settings"]["retouch"]})
    retouch = {n: t.half().contiguous() for n, t in state["model"].items() if n.startswith(detailclip.RETOUCH)}
    detailclip.save_retouch(retouch, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="an exported model to start from")
    parser.add_argument("--tokens", action="store_true", help="let it see the decoder's tokens")
    add_data_argument(parser)
    add_arguments(parser, ".checkpoints/retouch", steps=4150, decay=2850, seed=6)
    parser.set_defaults(batch=32, warmup=20, lr=2e-3, clip=1.0)
    arguments = parser.parse_args()
    if arguments.export:
        export(load_checkpoint(Path(arguments.checkpoint) / "last.pt"), arguments.export)
    elif arguments.start is None:
        parser.error("--start is needed: an exported model whose painting is to be gone over.")
    else:
        train(arguments)


if __name__ == "__main__":
    main()
