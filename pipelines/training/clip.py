"""Train a plain CLIP: `storybook-clip-b`, of another size and seed, for opinions that were never optimised against,
or the CLIP that DetailCLIP starts from.

    python -m pipelines.training.clip --cpu
    python -m pipelines.training.clip --export assets/models/storybook-clip-b

While it trains, it sees a random part of the patches (FLIP, Li et al. 2023, https://arxiv.org/abs/2212.00794): that
many more pictures in the same time, and nothing lost once the last steps show all of them.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from safetensors.torch import load_file
from torch import Tensor, nn

from pipelines.models.vision import openclip_tokens
from pipelines.training import tokenizer as words
from pipelines.training.detailclip import STORYBOOK_MODEL, export_openclip, storybook_clip
from pipelines.training.loop import (
    add_arguments,
    add_data_argument,
    add_optimizer_argument,
    add_precision_argument,
    fit,
    precision,
    seed_everything,
    trained,
)
from pipelines.world import storybook

MODEL = {  # storybook-clip-b
    "embed_dim": 128,
    "vision_cfg": {"image_size": storybook.SIZE, "patch_size": 16, "width": 224, "layers": 6, "head_width": 32},
    "text_cfg": {
        "context_length": words.CONTEXT_LENGTH,
        "vocab_size": len(words.vocabulary()),
        "width": 128,
        "heads": 4,
        "layers": 3,
        "hf_tokenizer_name": "tokenizer",
    },
}


MODELS = {"storybook-clip-b": MODEL, "storybook-detailclip": STORYBOOK_MODEL}


class Contrast(nn.Module):
    """The contrastive loss of Radford et al. 2021 (https://arxiv.org/abs/2103.00020, figure 3) around a model."""

    clip: Any  # OpenCLIP's own module

    def __init__(self, clip: Any):
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor, text: Tensor, kept: Tensor | None, dtype: torch.dtype | None = None) -> Tensor:
        """(B, 3, H, W), (B, T), (B, M) indices of the patches to see, None for all -> the loss. `dtype` is that of the
        residual stream."""
        parallel = dist.is_available() and dist.is_initialized()
        rank, world = (dist.get_rank(), dist.get_world_size()) if parallel else (0, 1)
        tokens = openclip_tokens(self.clip.visual, pixels, kept, attention=False, dtype=dtype)
        image = F.normalize((tokens.cls @ self.clip.visual.proj.to(tokens.cls.dtype)).float(), dim=-1)
        words = self.clip.encode_text(text, normalize=True).float()
        loss = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=world)
        return loss(image, words, self.clip.logit_scale.exp())


def clamp_scale(model: Contrast) -> None:
    with torch.no_grad():
        model.clip.logit_scale.clamp_(0, 4.6052)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    add_optimizer_argument(parser)
    add_precision_argument(parser)
    add_arguments(parser, ".checkpoints/clip-b", steps=4000, decay=1200, seed=1)
    parser.set_defaults(batch=128)
    parser.add_argument("--model", choices=MODELS, default="storybook-clip-b", help="whose size")
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="an exported model to start from")
    parser.add_argument("--keep", type=float, default=0.5, help="share of the patches seen, until the last steps")
    parser.add_argument("--all", type=int, default=300, help="last steps, which see all patches")
    arguments = parser.parse_args()
    model = MODELS[arguments.model]
    if arguments.export:
        state = trained(Path(arguments.checkpoint))
        export_openclip({n.removeprefix("clip."): t for n, t in state["model"].items()}, arguments.export, model)
        return
    seed_everything(arguments.seed)
    clip, tokenize = storybook_clip(model)
    if arguments.start:
        clip.load_state_dict(load_file(arguments.start / "open_clip_model.safetensors"))
    patches = clip.visual.grid_size[0] ** 2

    def forward(
        wrapped: nn.Module, inner: Contrast, views: Tensor, text: Tensor, step: int, rng: torch.Generator
    ) -> dict:
        kept = None
        if step < arguments.steps - arguments.all:
            order = torch.rand(len(text), patches, generator=rng).argsort(dim=1)
            kept = order[:, : round(patches * arguments.keep)].to(views.device)
        dtype = precision(views.device, arguments.precision)
        return {"total": wrapped(views[0], text, kept, dtype), "logit_scale": inner.clip.logit_scale.exp()}

    fit(Contrast(clip), tokenize, forward, arguments, clip.visual.image_size[0], 1, model, clamp_scale)


if __name__ == "__main__":
    main()
