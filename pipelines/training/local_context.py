"""Teach DetailCLIP's decoder to go on with outlines, before it is trained as a whole.

    python -m pipelines.training.local_context --cpu --start .checkpoints/start/model
    python -m pipelines.training.local_context --export .checkpoints/outlines/model

What the local context of a hidden patch tells (`pipelines.models.decoder.LocalContext`) needs no encoder, no teacher
and no text, and only patches that the fill gets wrong. So a pool of such patches is cut once from drawn scenes, and
then mirrored, turned and recoloured from step to step: a step of 2,048 patches takes a tenth of a second where one of
the whole takes several. The export is a DetailCLIP for the `--start` of `pipelines.training.detailclip`, all else as it
was.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from pipelines.models.decoder import LocalContext, lower_resolution, patchify
from pipelines.models.detailclip import DetailCLIP, keep_highest
from pipelines.training import detailclip
from pipelines.training.loop import (
    AdamW,
    add_arguments,
    add_data_argument,
    add_precision_argument,
    descend,
    mixed,
    parameter_groups,
    precision,
    seed_everything,
    trained,
)
from pipelines.training.pairs import loader, pairs

RATIOS = (0.5, 0.5, 0.5, 0.25, 0.75)  # of the patches that stay, in turn
DRAWN = 64  # pictures at a time
WORST, OTHERS = 24, 8  # patches taken from each picture: those where the fill errs most, and some of the rest
BLURRED_EVERY, LEAST_ERROR = 6, 0.03  # as in DetailCLIP's own loss: 27 dB, what the fill of a flat picture leaves
RECOLOURINGS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))

Patches = tuple[Tensor, Tensor, Tensor, Tensor]  # pixels around, which of them are known, what the fill lacks, weights


def local_context_of(model: DetailCLIP) -> LocalContext:
    assert model.decoder.local_context is not None, "a model with `decode_on_fill`"
    return model.decoder.local_context


@torch.no_grad()
def cut(model: DetailCLIP, pixels: Tensor, turn: int, rng: torch.Generator) -> Patches:
    """Patches of DRAWN pictures (B, 3, H, W): single ones or blocks removed, in some turns from a blurred picture, of
    which nothing or a part is removed and everything is to be sharpened."""
    count, blurred = model.grid**2, turn % BLURRED_EVERY == 0
    given = lower_resolution(pixels, 2 + 2 * (turn // BLURRED_EVERY % 2)) if blurred else pixels
    noise = torch.rand(len(pixels), count, generator=rng)
    kept = keep_highest(noise, RATIOS[turn % len(RATIOS)], blocks=turn % 3 == 1)
    whole = blurred and turn // BLURRED_EVERY % 4 < 2
    fill, seen = model.canvas(given, None if whole else kept)
    missing = patchify(pixels, model.patch) - patchify(fill, model.patch)  # (B, N, p*p*3)
    counts = torch.ones_like(noise) if blurred else torch.ones_like(noise).scatter(1, kept, 0.0)
    error = missing.square().mean(-1) * counts  # (B, N)
    worst = error.topk(WORST, dim=1).indices
    rest = (torch.rand(counts.shape, generator=rng) * counts).scatter(1, worst, 0.0).topk(OTHERS, dim=1).indices
    chosen = torch.cat([worst, rest], dim=1)
    # The few others stand for all of the rest, and every picture counts as a share of what its fill leaves.
    judged = counts.sum(1, keepdim=True)
    stands_for = torch.ones_like(chosen, dtype=torch.float32)
    stands_for[:, WORST:] = (judged - WORST).clamp_min(0) / OTHERS
    weights = stands_for * counts.gather(1, chosen) / (error.sum(1, keepdim=True) + LEAST_ERROR * judged)
    around, known = local_context_of(model).around(fill, seen, chosen)
    wanted = missing.gather(1, chosen[..., None].expand(-1, -1, missing.shape[-1]))
    return around.half().flatten(0, 1), known.half().flatten(0, 1), wanted.half().flatten(0, 1), weights.flatten(0, 1)


def pool(model: DetailCLIP, arguments: argparse.Namespace) -> Patches:
    """The patches of `arguments.pictures` pictures, in main memory: 4 kB each, 32 of a picture."""
    size, rng = model.clip.visual.image_size[0], torch.Generator().manual_seed(arguments.seed)
    dataset = pairs(arguments.data, arguments.seed, size, 1, 0.5, 0, 0, 1)
    batches = iter(loader(dataset, DRAWN, lambda texts: torch.zeros(1), arguments.workers))
    parts = [cut(model, next(batches)[0][0], turn, rng) for turn in range(-(-arguments.pictures // DRAWN))]
    around, known, wanted, weights = (torch.cat(part) for part in zip(*parts, strict=True))
    return around, known, wanted, weights


def vary(around: Tensor, known: Tensor, wanted: Tensor, turn: int) -> tuple[Tensor, Tensor, Tensor]:
    """One of 96 ways to mirror, turn and recolour (n, 3, 3p, 3p), (n, 3, 3) and (n, 3, p, p): the harmonic fill of a
    changed picture is the changed fill."""
    for axis, bit in ((-1, 1), (-2, 2)):
        if turn & bit:
            around, known, wanted = (x.flip(axis) for x in (around, known, wanted))
    if turn & 4:
        around, known, wanted = (x.transpose(-1, -2) for x in (around, known, wanted))
    channels, sign = list(RECOLOURINGS[turn // 8 % 6]), -1 if turn // 48 % 2 else 1
    return sign * around[:, channels], known, sign * wanted[:, channels]


def train(arguments: argparse.Namespace, configuration: dict = detailclip.STORYBOOK_MODEL) -> None:
    """Train until `arguments.steps`, from the checkpoint if there is one."""
    seed_everything(arguments.seed)
    settings = detailclip.STORYBOOK_SETTINGS
    model, _ = detailclip.build("storybook", settings, configuration)
    if arguments.start:
        detailclip.start_from(model, arguments.start)
    learner = local_context_of(model.requires_grad_(False)).requires_grad_(True)
    learner.to_token.requires_grad_(False)  # tokens come with DetailCLIP's own training
    patches = pool(model, arguments)
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    learner.to(device)
    patch, dtype = model.patch, precision(device, arguments.precision)

    def losses(step: int) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(arguments.seed * 10**6 + step)
        chosen = torch.randint(len(patches[0]), (arguments.batch,), generator=rng)
        around, known, wanted, weights = (part[chosen].to(device).float() for part in patches)
        wanted = wanted.unflatten(1, (patch, patch, 3)).permute(0, 3, 1, 2)
        around, known, wanted = vary(around, known, wanted, step)
        with mixed(device, dtype):
            predicted = learner.to_pixels(learner.read(around.contiguous(), known)).float()
        missed = predicted.view(-1, patch, patch, 3) - wanted.permute(0, 2, 3, 1)
        # A picture's patches, each with its weight, add up to the share of the fill's error that is left.
        return {"total": (missed.square().mean((1, 2, 3)) * weights).mean() * (WORST + OTHERS)}

    optimizer = AdamW(parameter_groups(learner, 0.02), lr=arguments.lr, betas=(0.9, 0.98), eps=1e-8)
    descend(model, optimizer, losses, arguments, asdict(settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="an exported model to start from")
    parser.add_argument("--pictures", type=int, default=12800, help="to cut patches from, for the pool")
    add_data_argument(parser)
    add_precision_argument(parser)
    add_arguments(parser, ".checkpoints/outlines", steps=10000, decay=4000, seed=3)
    parser.set_defaults(batch=2048, save_every=1000, clip=1.0)
    arguments = parser.parse_args()
    if arguments.export:
        detailclip.write(trained(Path(arguments.checkpoint)), arguments.export)
    else:
        train(arguments)


if __name__ == "__main__":
    main()
