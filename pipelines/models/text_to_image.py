"""Text-to-image models of diffusers, and small decoders of their latents."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.errors import UserError
from pipelines.models.parts import Loaded, closed_vocabulary, device, megabytes_of
from pipelines.models.registry import ModelSpec


@dataclass(frozen=True, eq=False, kw_only=True)
class TextToImage:
    """A text-to-image model in memory: the parts of diffusers' StableDiffusionPipeline."""

    spec: ModelSpec
    pipe: Any  # unet, vae, text_encoder, tokenizer, scheduler; safety_checker where the checkpoint ships one
    previewer: Any  # a small decoder of the same latents; None: the model's own is small enough
    vocabulary: frozenset[str] | None  # the only words it knows; None when it can spell
    views: dict[str, Any] = field(default_factory=dict)  # of the UNet, by precision

    @property
    def device(self) -> torch.device:
        return self.pipe.unet.device

    @property
    def factor(self) -> int:
        """Pixels of the picture for one of the latents, along a side."""
        return self.pipe.vae_scale_factor

    @property
    def size(self) -> int:
        """Pixels, the side of the square it draws."""
        return self.pipe.unet.config.sample_size * self.factor

    @property
    def megabytes(self) -> float:
        parts = [self.pipe.unet, self.pipe.vae, self.pipe.text_encoder, self.previewer]
        parts += [view for precision, view in self.views.items() if precision != "float32"]  # which shares its weights
        parts.append(getattr(self.pipe, "safety_checker", None))
        return sum(megabytes_of(part) for part in parts if part is not None)

    def unet(self, precision: str = "float32") -> Any:
        """The UNet, or a copy of it in that precision, computed sooner: see `fast_unet.faster`.

        Raises:
            UserError: for another precision than float32 and bfloat16.
        """
        from pipelines.models.fast_unet import faster

        if precision not in ("float32", "bfloat16"):
            raise UserError("The precision is float32 or bfloat16, not {value}.", value=str(precision)[:40])
        if precision not in self.views:
            unet = self.pipe.unet
            self.views[precision] = faster(unet if precision == "float32" else copy.deepcopy(unet).to(torch.bfloat16))
        return self.views[precision]

    def checked(self, picture: Image.Image) -> tuple[Image.Image, bool]:
        """The picture, black where the checkpoint's own safety checker objects, and whether it did."""
        if getattr(self.pipe, "safety_checker", None) is None:
            return picture, False
        array = np.asarray(picture, np.float32)[None] / 255
        clip_input = self.pipe.feature_extractor(picture, return_tensors="pt").pixel_values.to(self.device)
        with torch.inference_mode():
            checked, flagged = self.pipe.safety_checker(images=array.copy(), clip_input=clip_input)
        return Image.fromarray((checked[0] * 255).round().astype(np.uint8)), bool(flagged[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentDecoder(Loaded):
    """A small decoder of another model's latents."""

    spec: ModelSpec
    module: Any  # diffusers' own object


def open_stable_diffusion(spec: ModelSpec, folder: Path) -> TextToImage:
    from diffusers import StableDiffusionPipeline

    from pipelines.models.loading import load

    pipe = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    pipe.to(device())
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.float().eval().requires_grad_(False)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    previewer = load(spec.previewer, LatentDecoder).module if spec.previewer else None
    return TextToImage(spec=spec, pipe=pipe, previewer=previewer, vocabulary=closed_vocabulary(pipe.tokenizer))


def open_autoencoder(spec: ModelSpec, folder: Path) -> LatentDecoder:
    from diffusers import AutoencoderTiny

    module = AutoencoderTiny.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    return LatentDecoder(
        spec=spec, module=module.to(device(), memory_format=torch.channels_last).eval().requires_grad_(False)
    )
