"""Seconds an iteration of CLIP synthesis takes beside the reference recipe, and seconds to the same opinion of a CLIP
that was not followed.

Reference: VQGAN-CLIP's defaults, 32 views at every step, cut from what a VQGAN decoder of the published size (f=16, 128
channels, 256 pixels) draws from 16x16 latents; random weights, for its files are not at hand. The CLIP is the same for
both: a ViT-B/32 of random weights for the time of an iteration, storybook's for the opinion. A random decoder draws
nothing, so the reference is credited with what 32 views at every step reach through the bundled autoencoder.
"""

import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.clip_synthesis import pipeline as ours
from pipelines.clip_synthesis.parametrizations import CANVASES, Canvas
from pipelines.clip_synthesis.settings import Settings
from pipelines.models.loading import load

PROMPT, VIEWS = "a cat", 32
VQGAN = {  # https://github.com/CompVis/taming-transformers, imagenet f16 16384
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 5,
    "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 128, 256, 256, 512),
    "layers_per_block": 2,
    "latent_channels": 256,
    "num_vq_embeddings": 16384,
    "vq_embed_dim": 256,
}


class Vqgan(Canvas):
    """Latents of 16x16 places, each moved to the nearest of 16,384 vectors, and the decoder behind them."""

    rate = 0.1

    def __init__(self, side: int, rng: torch.Generator, picture: Tensor | None = None):
        from diffusers import VQModel

        super().__init__(side, rng, picture)
        torch.manual_seed(0)
        model: Any = VQModel(**VQGAN)
        self.model: Any = model.eval().requires_grad_(False)
        self.latents = nn.Parameter(torch.randn(1, 256, 16, 16, generator=rng))

    def forward(self) -> Tensor:
        book = self.model.quantize.embedding.weight
        flat = self.latents.permute(0, 2, 3, 1).reshape(-1, 256)
        nearest = book[torch.cdist(flat, book).argmin(1)]
        snapped = (flat + (nearest - flat).detach()).view(1, 16, 16, 256).permute(0, 3, 1, 2)
        drawn = self.model.decoder(self.model.post_quant_conv(snapped))
        return F.interpolate(((drawn + 1) / 2).clamp(0, 1), (self.side, self.side), mode="area")


def an_iteration(canvas: Canvas, clip: Any, size: int, views: int, rounds: int) -> float:
    """Median seconds of picture, views, features, slope and step."""
    optimizer = torch.optim.Adam((p for p in canvas.parameters() if p.requires_grad), lr=canvas.rate)
    rng, times = torch.Generator().manual_seed(0), []
    for turn in range(rounds + 1):
        start = time.perf_counter()
        shown = ours.views_of(canvas(), views, size, 0.0, 0.1, rng)
        features = clip.encode_image(shown, normalize=True)
        loss = ours.spherical(features, F.normalize(torch.ones(features.shape[1]), dim=0)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        times += [time.perf_counter() - start] * (turn > 0)
    return statistics.median(times)


def until(request: Settings, similarity: float) -> tuple[float, float]:
    """Seconds until the CLIP that is not followed is that much convinced, and how much it is then."""
    for step in ours.run(request):
        if step.look and step.look.similarity_held_out >= similarity:
            return step.seconds, step.look.similarity_held_out
    raise RuntimeError(f"{similarity:.3f} was not reached in {step.iteration} steps.")


def measure(rounds: int = 3, steps: int = 40) -> list[tuple[str, ...]]:
    """Rows of text: what, seconds, share of the reference, and what there is to say of it."""
    import open_clip

    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-32", pretrained=None).eval().requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    reference = an_iteration(Vqgan(224, rng), clip, 224, VIEWS, rounds)
    rows: list[tuple[str, ...]] = [("VQGAN-CLIP's recipe, 32 views", f"{reference:.2f}", "", "an iteration, ViT-B/32")]
    for name, views in (("latent", VIEWS), ("fourier", VIEWS), ("latent", 8)):
        taken = an_iteration(CANVASES[name](224, rng), clip, 224, views, rounds)
        rows.append(
            (f"ours, {name}, {views} views", f"{taken:.2f}", f"{taken / reference:.2f}", "an iteration, ViT-B/32")
        )
    storybook = load("storybook-clip-b")
    reference = an_iteration(Vqgan(storybook.size, rng), storybook.module, storybook.size, VIEWS, rounds)
    run = ours.run(Settings(prompt=PROMPT, steps=steps, cutouts=VIEWS))
    looked = [(step.look.similarity_held_out, step.iteration) for step in run if step.look]
    score, iterations = max(looked, key=lambda each: each[0])
    theirs = iterations * reference
    seconds, reached = until(Settings(prompt=PROMPT, steps=300), score)
    rows.append(("VQGAN-CLIP's recipe", f"{theirs:.0f}", "", f"{iterations} iterations, other CLIP {score:.3f}"))
    rows.append(("ours, default", f"{seconds:.1f}", f"{seconds / theirs:.2f}", f"other CLIP {reached:.3f}"))
    return rows
