"""Networks that name a photograph, one of a fixed list of names, and the maps of what speaks for a name."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.errors import UserError
from pipelines.models.parts import Loaded, device
from pipelines.models.registry import ModelSpec
from pipelines.models.vision import centre_square
from pipelines.settings import shown


@dataclass(frozen=True, eq=False, kw_only=True)
class Classifier(Loaded):
    """A convolutional classifier of timm in memory: features, their mean over places, one linear layer."""

    spec: ModelSpec
    module: Any  # timm's own object, in eval mode, without gradients
    names: tuple[str, ...]  # of the outputs, in their order
    size: int  # pixels, the side of the square it looks at
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def square(self, picture: Image.Image) -> np.ndarray:
        """(size, size, 3) uint8: the middle of a picture, as the network sees it."""
        middle = centre_square(picture.convert("RGB")).resize((self.size,) * 2, Image.Resampling.BICUBIC)
        return np.asarray(middle)

    def pixels(self, picture: Image.Image) -> Tensor:
        """(1, 3, size, size) in [0, 1] of the middle of a picture."""
        return torch.from_numpy(self.square(picture).copy()).permute(2, 0, 1)[None].float() / 255

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, C, h, w), what is averaged over places before the names."""
        mean, deviation = (
            torch.tensor(each, device=self.device)[:, None, None] for each in (self.mean, self.deviation)
        )
        return self.module.forward_features((pixels.to(self.device) - mean) / deviation)

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, names), differentiable."""
        return self.module.forward_head(self.features(pixels))

    @torch.no_grad()
    def name(self, picture: Image.Image, most: int = 5) -> list[tuple[str, float]]:
        """The likeliest names of a picture and their probabilities."""
        shares = self.logits(self.pixels(picture)).softmax(1)[0]
        top = shares.topk(most)
        return [(self.names[i], float(share)) for share, i in zip(top.values, top.indices.tolist(), strict=True)]

    @torch.no_grad()
    def activation_maps(self, picture: Image.Image, names: list[str]) -> np.ndarray:
        """(len(names), h, w) float32: what each place adds to a name's logit. Its mean and the name's bias make the
        logit: the linear layer comes after a mean, so it may as well come before (Zhou et al. 2016,
        https://arxiv.org/abs/1512.04150, equation 2).

        Raises:
            UserError: for a name the network does not have.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            near = difflib.get_close_matches(unknown[0], self.names, 3, 0.5)
            raise UserError(
                "{model} has no name {name}. Near it: {near}." if near else "{model} has no name {name}.",
                model=self.spec.name,
                name=shown(unknown[0]),
                near=", ".join(near),
            )
        rows = self.module.get_classifier().weight[[self.names.index(name) for name in names]]
        return torch.einsum("kc,chw->khw", rows, self.features(self.pixels(picture))[0]).float().cpu().numpy()


def open_timm(spec: ModelSpec, folder: Path) -> Classifier:
    import timm
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    module = timm.create_model(config["architecture"], pretrained=False, num_classes=config["num_classes"])
    module.load_state_dict(load_file(folder / spec.weights))  # into float32, whatever precision the file has
    sight = config["pretrained_cfg"]
    return Classifier(
        spec=spec,
        module=module.to(device()).eval().requires_grad_(False),
        names=tuple(config["label_names"]),
        size=sight["input_size"][1],
        mean=tuple(sight["mean"]),
        deviation=tuple(sight["std"]),
    )
