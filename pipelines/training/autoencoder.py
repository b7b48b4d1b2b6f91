"""Train the autoencoder of `storybook-diffusion`: pictures of 128 pixels to latents of 16x16 and back.

    python -m pipelines.training.autoencoder --cpu
    python -m pipelines.training.autoencoder --export assets/models/storybook-autoencoder
    python -m pipelines.training.autoencoder --measure assets/models/storybook-autoencoder

The model is diffusers' AutoencoderTiny (the architecture of TAESD, https://github.com/madebyollin/taesd) without
blocks at full resolution, where a convolution costs 64 times as much as on the latents. Latents are standardised per
channel while it learns, so the denoiser finds them as it wants them and nothing has to be scaled afterwards; noise on
them teaches the decoder to forgive. Until the last steps it sees the parts of a picture where most happens: backgrounds
are most of the pixels and nearly nothing to learn.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.evaluation.clip import write_card
from pipelines.training.loop import (
    Muon,
    add_arguments,
    add_precision_argument,
    descend,
    mixed,
    precision,
    seed_everything,
    steps_done,
    trained,
)
from pipelines.training.pairs import DEVIATION, MEAN, Storybook, loader
from pipelines.world import storybook

MODEL = {
    "latent_channels": 6,
    "encoder_block_out_channels": (64, 64, 64, 64),
    "decoder_block_out_channels": (64, 64, 64, 64),
    "num_encoder_blocks": (0, 1, 2, 3),
    "num_decoder_blocks": (3, 3, 1, 0),
}
NOISE = 0.05  # standard deviation of what is added to the latents, in theirs
EDGES = 0.5  # weight of the loss of the picture's gradients
PART, PARTS = 64, 2  # pixels, the side of a part; how many of each picture


class Autoencoder(nn.Module):
    """AutoencoderTiny with a standardisation in the middle, which the export folds into the encoder's last layer.

    By moving averages: statistics of one batch would shift a picture's colours with those of its neighbours."""

    settled = False  # the encoder, and with it the latents, stay as they are

    def __init__(self, config: dict):
        from diffusers import AutoencoderTiny

        super().__init__()
        self.vae: Any = AutoencoderTiny(**config)
        self.standardise = nn.BatchNorm2d(config["latent_channels"], affine=False, momentum=0.02)

    def forward(self, pictures: Tensor, noise: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] and (B, C, H/8, W/8) of unit deviation -> (B, 3, H, W)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.settled):
            latents = self.vae.encoder(pictures).float()
        if not self.settled:
            with torch.no_grad():
                self.standardise(latents)  # learns their mean and deviation
        latents = F.batch_norm(latents, self.standardise.running_mean, self.standardise.running_var)
        return self.vae.decoder(latents + NOISE * noise).float()


def gradients(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures.diff(dim=-1), pictures.diff(dim=-2)


def busy_parts(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """(B, 3, H, W) -> (B*PARTS, 3, PART, PART), cut where the picture changes most: at random, in proportion."""
    across, down = gradients(pictures)
    changes = F.avg_pool2d(F.pad(across.abs().mean(1, keepdim=True), (0, 1)), 8)
    changes = changes + F.avg_pool2d(F.pad(down.abs().mean(1, keepdim=True), (0, 0, 0, 1)), 8)
    windows = F.avg_pool2d(changes, PART // 8, stride=1)[:, 0]  # (B, rows, columns) of where a part can begin
    corner = torch.multinomial(windows.flatten(1).cpu() + 1e-4, PARTS, generator=rng)
    rows, columns = (corner // windows.shape[2] * 8).tolist(), (corner % windows.shape[2] * 8).tolist()
    return torch.stack(
        [
            picture[:, y : y + PART, x : x + PART]
            for picture, ys, xs in zip(pictures, rows, columns, strict=True)
            for y, x in zip(ys, xs, strict=True)
        ]
    )


def losses(model: Autoencoder, pixels: Tensor, rng: torch.Generator, parts: bool) -> dict[str, Tensor]:
    """Absolute error of the pictures and of their gradients; `psnr` in dB of what lies in the picture's range.

    Args:
        pixels: (B, 3, H, W) normalised by MEAN and DEVIATION.
        parts: show `busy_parts`; else a half of the pictures, which costs the same.
    """
    pictures = (pixels * DEVIATION[0] + MEAN[0]).mul(2).sub(1)
    pictures = busy_parts(pictures, rng) if parts else pictures[: (len(pictures) + 1) // 2]
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    shape = len(pictures), model.vae.config.latent_channels, pictures.shape[2] // 8, pictures.shape[3] // 8
    again = model(pictures, torch.randn(shape, generator=rng).to(pictures.device))
    steps = zip(gradients(again), gradients(pictures), strict=True)
    edges = sum((F.l1_loss(a, b) for a, b in steps), torch.zeros(()))
    pixel_loss = F.l1_loss(again, pictures)
    error = (again.detach().clamp(-1, 1) - pictures).square().mean((1, 2, 3)) / 4  # of pictures in [0, 1]
    return {
        "total": pixel_loss + EDGES * edges,
        "pixels": pixel_loss,
        "edges": edges,
        "psnr": -10 * error.clamp(min=1e-9).log10().mean(),
    }


def folded(state: dict) -> Any:
    """The checkpoint's AutoencoderTiny, whose latents have mean 0 and deviation 1 by themselves."""
    model = Autoencoder(state["settings"]["model"])
    model.load_state_dict(state["model"])
    last, norm = model.vae.encoder.layers[-1], model.standardise
    assert norm.running_mean is not None and norm.running_var is not None, "it counts along"
    deviation = (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():
        last.weight.div_(deviation[:, None, None, None])
        last.bias.sub_(norm.running_mean).div_(deviation)
    return model.vae.eval()


def export(checkpoint: Path, folder: Path) -> None:
    """Write a folder that plain diffusers opens; weights in float16.

    Raises:
        FileNotFoundError: when there is no checkpoint.
    """
    folded(trained(checkpoint)).half().save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


ROWS = (("psnr", "Pictures to latents and back, mean dB", "{:.2f}"),)


@torch.inference_mode()
def quality(vae: Any, scenes: int = 1000) -> dict[str, float]:
    """Mean dB over scenes of the test range, as 8-bit pictures."""
    decibels: list[float] = []
    for first in range(0, scenes, 20):
        world = [storybook.scene(storybook.TEST[n]).picture for n in range(first, min(first + 20, scenes))]
        truth = torch.from_numpy(np.stack(world)).permute(0, 3, 1, 2).float()
        again = vae.decode(vae.encode(truth / 127.5 - 1).latents).sample.clamp(-1, 1)
        error = ((again + 1).mul(127.5).round() - truth).div(255).square().mean((1, 2, 3))
        decibels += (-10 * error.clamp(min=1e-9).log10()).tolist()
    return {"scenes": scenes, "psnr": float(np.mean(decibels))}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_precision_argument(parser)
    add_arguments(parser, ".checkpoints/autoencoder", steps=2500, decay=1250, seed=3)
    parser.set_defaults(batch=16, lr=2e-3, warmup=50)
    parser.add_argument("--clip", type=float, default=10.0, help="longest gradient")
    parser.add_argument("--whole", type=int, default=300, help="last steps, which show whole pictures")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help="write this export's card instead of training")
    parser.add_argument("--settle", type=int, help="step from which only the decoder learns; a denoiser stays valid")
    return parser


def train(arguments: argparse.Namespace, config: dict = MODEL) -> None:
    """Train until `arguments.steps`, from the checkpoint if there is one.

    Raises:
        FloatingPointError: when the loss is no number any more; the last checkpoint stays.
    """
    seed_everything(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    model = Autoencoder(config).to(device).to(memory_format=torch.channels_last).train()
    start = steps_done(arguments) * arguments.batch
    dataset = Storybook(arguments.seed, storybook.SIZE, views=0, smallest=1, start=start)
    batches = iter(loader(dataset, arguments.batch, lambda captions: torch.zeros(len(captions)), arguments.workers))
    dtype = precision(device, arguments.precision)

    def losses_at(step: int) -> dict[str, Tensor]:
        pixels, _ = next(batches)
        model.settled = arguments.settle is not None and step >= arguments.settle
        rng = torch.Generator().manual_seed(arguments.seed * 10**6 + step)
        with mixed(device, dtype):
            return losses(model, pixels[0].to(device), rng, step < arguments.steps - arguments.whole)

    descend(model, Muon(model, arguments.lr), losses_at, arguments, settings={"model": config})


def main() -> None:
    arguments = parser().parse_args()
    if arguments.export:
        export(Path(arguments.checkpoint), arguments.export)
    elif arguments.measure:
        from diffusers import AutoencoderTiny

        write_card(arguments.measure, quality(AutoencoderTiny.from_pretrained(arguments.measure)), ROWS)
    else:
        train(arguments)


if __name__ == "__main__":
    main()
