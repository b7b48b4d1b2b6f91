"""Train the U-Net that refines what DetailCLIP's decoder predicts (`pipelines.models.decoder.RefinementUNet`).

    python -m pipelines.training.refinement --cpu --start assets/models/storybook-detailclip --tokens
    python -m pipelines.training.refinement --export assets/models/storybook-detailclip

All other weights stay as they are. Pictures come as they are drawn, uncropped. Without `--tokens` it refines what the
local context of each patch predicts alone. To decode a picture takes half as long as to learn from it, and most of it
is empty: with `--uses` each is decoded once and refined several times, with `--window` only where much is wrong.
Pictures it has seen before are soon known by heart, and then the log flatters: end with fresh ones.
The export adds what was learnt to a DetailCLIP that lies there.
"""

import argparse
import json
import math
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.models.decoder import RefinementUNet, lower_resolution, patchify, unpatchify
from pipelines.models.detailclip import DetailCLIP, Settings, keep_highest, mean_attention
from pipelines.models.vision import gather_tokens, openclip_tokens
from pipelines.training import detailclip
from pipelines.training.loop import (
    Muon,
    add_arguments,
    add_data_argument,
    add_precision_argument,
    descend,
    mixed,
    precision,
    seed_everything,
    steps_done,
    trained,
    write_json,
)
from pipelines.training.pairs import loader, pairs

LEAST_ERROR = 0.005  # 35 dB: better than that is as good as right
TURNS = 10  # what is hidden comes in turns, half of the time single patches at random
VISION = detailclip.STORYBOOK_MODEL["vision_cfg"]
GRID = VISION["image_size"] // VISION["patch_size"]
STOCK = 4096  # decoded pictures that may be used again


def conceal(
    model: DetailCLIP, pixels: Tensor, turn: int, rng: torch.Generator, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Pictures (B, 3, H, W) as they are given, and the patches (B, M) that are seen of them, None for all: mostly a
    half at random, single patches, at times another share, blocks, what attention leaves, or a blurred picture.
    `dtype` is that of the products."""
    noise = torch.rand(len(pixels), model.grid**2, generator=rng).to(pixels.device)
    kind, again = turn % TURNS, turn // TURNS % 2
    if kind == 6:
        return pixels, keep_highest(noise, (0.25, 0.75)[again], blocks=False)
    if kind == 7:
        return pixels, keep_highest(noise, 0.5)
    if kind == 8:
        with mixed(pixels.device, dtype):
            attention = mean_attention(openclip_tokens(model.teacher, pixels, dtype=dtype))
        return pixels, keep_highest(attention, 0.5)
    if kind == 9:
        return lower_resolution(pixels, 2 + 2 * again), None if turn // TURNS % 3 else keep_highest(noise, 0.75)
    return pixels, keep_highest(noise, 0.5, blocks=False)


class Predictions(NamedTuple):
    """Pictures as the decoder predicts them, before refinement; in float16, 0.4 MB each."""

    truth: Tensor  # (B, N, p*p*3) the whole picture, sharp, in patches
    predicted: Tensor  # (B, N, p*p*3)
    fill: Tensor  # (B, N, p*p*3) what it was added to
    tokens: Tensor  # (B, N, D) of the decoder
    seen: Tensor  # (B, N) 1 where the patch was seen
    judged: Tensor  # (B, N) 1 for the hidden patches, of a blurred picture for all


@torch.no_grad()
def predict(
    model: DetailCLIP, pixels: Tensor, turn: int, rng: torch.Generator, tokens: bool, dtype: torch.dtype
) -> Predictions:
    """Conceal parts of pictures (B, 3, H, W) and decode them without refinement; without `tokens` from the local
    context of each patch alone. `dtype` is that of the products."""
    given, kept = conceal(model, pixels, turn, rng, dtype)
    with mixed(pixels.device, dtype):
        if tokens:
            decoded = model.student(given, kept, dtype, refined=False)[1]
        else:
            decoded = model.decode_without_tokens(given, kept, refined=False)
    seen = pixels.new_ones(len(pixels), model.grid**2)
    if kept is not None:
        seen = torch.zeros_like(seen).scatter(1, kept, 1.0)
    judged = 1 - seen if given is pixels else torch.ones_like(seen)
    made = (patchify(pixels, model.patch), decoded.predicted, decoded.fill, decoded.tokens, seen, judged)
    return Predictions(*(part.half() for part in made))


def windows(error: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """(B, side * side) the patches of a square window of each picture, one where much is wrong: (B, N) errors.

    Four fifths of a picture's error lie in a quarter of it, where the things are.
    """
    grid = math.isqrt(error.shape[1])
    within = F.avg_pool2d(error.view(-1, 1, grid, grid), side, stride=1).flatten(1)
    chance = 0.5 + torch.rand(within.shape, generator=rng).to(error.device)  # not the same window every time
    corner = (within * chance).argmax(1)
    row, column = corner // (grid - side + 1), corner % (grid - side + 1)
    inside = torch.arange(side, device=error.device)
    return (row * grid + column)[:, None] + (inside[:, None] * grid + inside).flatten()


def losses(
    net: RefinementUNet, pictures: Predictions, side: int, tokens: bool, rng: torch.Generator
) -> dict[str, Tensor]:
    """Refine a window of each picture. What lies outside it counts as the decoder predicted it."""
    pictures = Predictions(*(part.float() for part in pictures))
    count = pictures.judged.sum(1)
    before, fill = (
        (guess - pictures.truth).square().mean(-1) * pictures.judged for guess in (pictures.predicted, pictures.fill)
    )
    window = windows(before, side, rng)
    truth, predicted, fill_there, told = (gather_tokens(part, window) for part in pictures[:4])
    seen, judged = (part.gather(1, window) for part in pictures[4:])
    canvas = unpatchify(fill_there, net.patch)
    seen = unpatchify(seen[..., None].expand(-1, -1, net.patch**2), net.patch)
    after = net(predicted, canvas, seen, told if tokens else None)
    there = ((after - truth).square().mean(-1) * judged).sum(1)
    left = (before.sum(1) - before.gather(1, window).sum(1)).clamp_min(0) + there
    # The mean of PSNR is a mean of logarithms: pictures that are hard count no more than easy ones.
    total = (left / count + LEAST_ERROR).log().mean()
    return {"total": total, "decibels": 10 * (fill.sum(1) / left.detach()).log10().mean()}


def train(arguments: argparse.Namespace, settings: Settings = detailclip.STORYBOOK_SETTINGS) -> None:
    """Train until `arguments.steps`, from the checkpoint if there is one."""
    seed_everything(arguments.seed)
    model, _ = detailclip.build("storybook", settings)
    detailclip.start_from(model, arguments.start)
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    model.requires_grad_(False).to(device)
    refinement = model.decoder.refinement
    assert refinement is not None, "settings with `refinement`"
    learner = refinement.requires_grad_(True).to(memory_format=torch.channels_last)
    learner.from_token.requires_grad_(arguments.tokens)
    size, new = model.clip.visual.image_size[0], arguments.batch // arguments.uses
    dtype = precision(device, arguments.precision)
    dataset = pairs(arguments.data, arguments.seed, size, 0, 1.0, steps_done(arguments) * new, lessons=False)
    batches = iter(loader(dataset, new, lambda texts: torch.zeros(1), arguments.workers))
    stock: deque[Predictions] = deque(maxlen=max(STOCK // new, arguments.uses) if arguments.uses > 1 else 1)

    def next_losses(step: int) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(arguments.seed * 10**6 + step)
        for i in range(max(1, arguments.uses - len(stock))):
            pixels = next(batches)[0][0].to(device)
            stock.append(predict(model, pixels, step + i, rng, arguments.tokens, dtype))
        # What has just been decoded, and older pictures that make the batch whole.
        older = torch.randperm(len(stock) - 1, generator=rng)[: arguments.uses - 1]
        chosen = [stock[-1], *(stock[i] for i in older.tolist())]
        pictures = Predictions(*(torch.cat(parts) for parts in zip(*chosen, strict=True)))
        with mixed(device, dtype):
            return losses(learner, pictures, arguments.window, arguments.tokens, rng)

    optimizer = Muon(learner, arguments.lr, 0.02)
    descend(model, optimizer, next_losses, arguments, asdict(settings))


def export(state: dict, folder: Path) -> None:
    """Add it to the DetailCLIP in `folder`, of which all other weights stay as they are."""
    configuration = folder / "detailclip_config.json"
    write_json(configuration, json.loads(configuration.read_bytes()) | {"refinement": state["settings"]["refinement"]})
    refinement = {n: t.half().contiguous() for n, t in state["model"].items() if n.startswith(detailclip.REFINEMENT)}
    detailclip.save_refinement(refinement, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="an exported model to start from")
    parser.add_argument("--tokens", action="store_true", help="let it see the decoder's tokens")
    parser.add_argument("--window", type=int, default=GRID, help="patches along a side of what is refined")
    parser.add_argument("--uses", type=int, default=1, help="how often a decoded picture is refined")
    add_data_argument(parser)
    add_precision_argument(parser)
    add_arguments(parser, ".checkpoints/refinement", steps=4150, decay=2850, seed=6)
    parser.set_defaults(batch=32, warmup=20, lr=2e-3, clip=1.0)
    arguments = parser.parse_args()
    if arguments.export:
        export(trained(Path(arguments.checkpoint)), arguments.export)
    elif arguments.start is None:
        parser.error("--start is needed: an exported model whose reconstruction is to be refined.")
    elif arguments.window % 2 or not 0 < arguments.window <= GRID:
        parser.error(f"--window is an even number of patches, at most {GRID}.")
    elif not 0 < arguments.uses <= arguments.batch:
        parser.error("--uses is from 1 to the number of pictures a step.")
    else:
        train(arguments)


if __name__ == "__main__":
    main()
