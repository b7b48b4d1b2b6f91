"""Teach DetailCLIP's decoder to go on with outlines, before it is trained as a whole.

    python -m pipelines.training.surroundings --cpu --start .checkpoints/start/model
    python -m pipelines.training.surroundings --export .checkpoints/outlines/model

What the surroundings of a hidden patch tell (`pipelines.detailclip.Surroundings`) needs no encoder, no teacher and no
text: a step costs a tenth of one of the whole. The export is a DetailCLIP for the `--start` of
`pipelines.training.detailclip`, all else as it was.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.detailclip import DetailCLIP, complement
from pipelines.painting import blur_some
from pipelines.training import detailclip
from pipelines.training.loop import add_arguments, add_data_argument, fit, load_checkpoint, seed_everything

RATIOS = (0.5, 0.5, 0.5, 0.25, 0.75)  # of the patches that stay, in turn


class Outlines(nn.Module):
    """L_Rec of a decoder that knows nothing but what lies around a patch."""

    def __init__(self, model: DetailCLIP):
        super().__init__()
        self.model = model.requires_grad_(False)
        model.decoder.surroundings.requires_grad_(True)

    def forward(self, pixels: Tensor, keep_ratio: float, generator: torch.Generator) -> Tensor:
        """(B, 3, H, W) -> the share of the fill's error that is left; patches are removed at random."""
        model, count = self.model, self.model.grid**2
        kept = model.choose(torch.zeros(len(pixels), count, device=pixels.device), keep_ratio, 1.0, generator)
        given, blurred = blur_some(pixels, detailclip.BLUR_SHARE, generator)
        return model.reconstruction_loss(pixels, model.paint_blindly(given, kept), complement(kept, count), blurred)


def train(arguments: argparse.Namespace, configuration: dict = detailclip.STORYBOOK_MODEL) -> None:
    seed_everything(arguments.seed)
    settings = detailclip.STORYBOOK_SETTINGS
    model, tokenize = detailclip.build("storybook", settings, configuration)
    if arguments.start:
        detailclip.start_from(model, arguments.start)

    def forward(
        wrapped: nn.Module, inner: Outlines, views: Tensor, text: Tensor, step: int, dice: torch.Generator
    ) -> dict:
        return {"total": wrapped(views[0], RATIOS[step % len(RATIOS)], dice)}

    size = model.clip.visual.image_size[0]
    fit(Outlines(model), tokenize, forward, arguments, size, 1, asdict(settings), lambda inner: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="an exported model to start from")
    add_data_argument(parser)
    add_arguments(parser, ".checkpoints/outlines", steps=1500, decay=500, seed=3)
    arguments = parser.parse_args()
    if arguments.export:
        state = load_checkpoint(Path(arguments.checkpoint) / "last.pt")
        state["model"] = {name.removeprefix("model."): tensor for name, tensor in state["model"].items()}
        detailclip.write(state, arguments.export)
    else:
        train(arguments)


if __name__ == "__main__":
    main()
