"""Image encoders, with a text encoder beside them or without: OpenCLIP, vision transformers, masked autoencoders."""

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipelines.errors import OTHER_MODEL, UserError, require_finite
from pipelines.models.detailclip import DetailCLIP, Settings
from pipelines.models.parts import Loaded, closed_vocabulary, device, megabytes_of, normalised, refuse_words
from pipelines.models.registry import ModelSpec
from pipelines.models.vision import Encoder, OpenClipEncoder, TransformersEncoder

# Older names of layers and settings of a DetailCLIP, as the shipped weights still have them.
RENAMED_WEIGHTS = {
    "decoder.surroundings.look.": "decoder.local_context.embed.",
    "decoder.surroundings.think.": "decoder.local_context.layers.",
    "decoder.surroundings.": "decoder.local_context.",
    "decoder.retouch.look.": "decoder.refinement.stem.",
    "decoder.retouch.": "decoder.refinement.",
}
RENAMED_SETTINGS = {"paint_on_fill": "decode_on_fill", "retouch": "refinement"}


@dataclass(frozen=True, kw_only=True)
class Model(Loaded):
    """A model in memory and all it takes to ask it something."""

    spec: ModelSpec
    module: Any  # the library's own object, in eval mode, without gradients
    encoder: Encoder  # its image tower
    chooser: Encoder  # the tower whose attention decides which patches stay: the teacher's where there is one
    size: int  # pixels, the side of the square it looks at
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    tokenize: Any = None  # OpenCLIP's tokenizer: texts -> (B, T) ids; None when it reads no text
    vocabulary: frozenset[str] | None = None  # the only words it knows; None when it takes any
    detail: DetailCLIP | None = None  # teacher, head and decoder, where they are part of it

    @property
    def megabytes(self) -> float:
        return megabytes_of(self.detail or self.module)

    def pixels(self, picture: Image.Image) -> Tensor:
        """A square picture -> (1, 3, size, size), resized and normalised as the model was trained."""
        return normalised([picture], self.size, self.mean, self.deviation).to(self.device)

    def picture(self, pixels: Tensor) -> np.ndarray:
        """(3, H, W) normalised -> (H, W, 3) float32 in [0, 1]. Inverse of `pixels`."""
        array = pixels.detach().float().cpu().permute(1, 2, 0).numpy()
        return np.clip(array * np.array(self.deviation, np.float32) + np.array(self.mean, np.float32), 0, 1)

    @torch.no_grad()
    def image_features(self, cls: Tensor) -> Tensor:
        """(B, D) class tokens -> (B, E) of unit length: projected beside the text where there is a text tower."""
        if self.tokenize is not None:
            cls = cls @ self.module.visual.proj
        return nn.functional.normalize(cls.float(), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: list[str]) -> Tensor:
        """(B, E) unit-length text features.

        Raises:
            UserError: when the model reads no text, does not know a word, or reads less than the whole text.
        """
        if self.tokenize is None:
            raise UserError(
                "{model} reads no text. Choose an image-text model, such as storybook-detailclip.",
                model=self.spec.name,
            )
        ids = self.tokenize(texts)
        if self.vocabulary is not None:
            refuse_words(self.spec, self.tokenize.tokenizer, self.vocabulary, texts, ids.shape[1] - 2)
        else:
            self._refuse_long(texts, ids.shape[1])
        found = self.module.encode_text(ids.to(self.device), normalize=True).float()
        require_finite("the features of this text", OTHER_MODEL, found)
        return found

    def _refuse_long(self, texts: list[str], most: int) -> None:
        """OpenCLIP's tokenizers cut off without a word: asked for more places, they show what would be lost."""
        room = max(most + 1, *(4 * len(text) + 2 for text in texts))  # a character is at most four bytes, a piece each
        pad = int(self.tokenize([""], context_length=most)[0, -1])
        for ids in self.tokenize(texts, context_length=room):
            length = int((ids != pad).nonzero().max()) + 1  # the end token is no padding
            if length > most:
                raise UserError(
                    "{model} reads at most {most} pieces of words, and this text has {count}. Shorten it.",
                    model=self.spec.name,
                    most=most - 2,
                    count=length - 2,
                )


def untrained(model: Model, seed: int) -> Model:
    """The same OpenCLIP model, every weight drawn anew as widely spread as it was; norms and biases at 1 and 0."""
    module = copy.deepcopy(model.module)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif weight.ndim == 1 and name.endswith("weight"):
                weight.fill_(1)
            elif weight.ndim:
                weight.copy_(torch.randn(weight.shape, generator=rng) * weight.std().cpu())
    return replace(model, module=module, encoder=OpenClipEncoder(visual=module.visual), detail=None)


def open_openclip(spec: ModelSpec, folder: Path) -> Model:
    import open_clip

    source = f"local-dir:{folder}"
    clip: Any = open_clip.create_model(source, device=device()).eval().requires_grad_(False)
    tokenize = open_clip.get_tokenizer(source)
    encoder = OpenClipEncoder(visual=clip.visual)
    vocabulary = closed_vocabulary(getattr(tokenize, "tokenizer", None))
    detail = load_detail(folder, clip) if (folder / "detailclip.safetensors").exists() else None
    visual = clip.visual
    return Model(
        spec=spec,
        module=clip,
        encoder=encoder,
        chooser=OpenClipEncoder(visual=detail.teacher) if detail else encoder,
        size=visual.image_size[0],
        mean=tuple(visual.image_mean),
        deviation=tuple(visual.image_std),
        tokenize=tokenize,
        vocabulary=vocabulary,
        detail=detail,
    )


def load_detail(folder: Path, clip: Any) -> DetailCLIP:
    """Teacher, head and decoder from their safetensors files, around a student that OpenCLIP has opened."""
    from open_clip.transformer import QuickGELU

    config = json.loads((folder / "detailclip_config.json").read_text(encoding="utf-8"))
    config = {RENAMED_SETTINGS.get(name, name): value for name, value in config.items()}
    if config.pop("text_activation", "gelu") == "quick_gelu":  # OpenCLIP has one switch for both towers
        for block in clip.transformer.resblocks:
            block.mlp.gelu = QuickGELU()
    settings = Settings(**config)
    detail = DetailCLIP(clip, settings)
    missing, unexpected = detail.load_state_dict(beside_student(folder), strict=False)
    wrong = unexpected + [name for name in missing if not name.startswith("clip.")]
    if wrong:
        raise UserError(
            "The weights in {folder} do not fit their configuration: {wrong}.",
            folder=folder,
            wrong=", ".join(wrong[:4]),
        )
    return detail.to(device()).eval().requires_grad_(False)


def beside_student(folder: Path) -> dict[str, Tensor]:
    """The weights of a DetailCLIP beside its student: teacher, heads and decoder, `RefinementUNet` where it has one."""
    from safetensors.torch import load_file

    files = [folder / "detailclip.safetensors", folder / "teacher.safetensors", *folder.glob("refinement*.safetensors")]
    if len(files) == 2:
        files += folder.glob("retouch*.safetensors")
    return {named_today(name): tensor for file in files for name, tensor in load_file(file).items()}


def named_today(weight: str) -> str:
    """A weight's name; files written under an older name of a layer open as ever."""
    for old, new in RENAMED_WEIGHTS.items():
        if weight.startswith(old):
            return new + weight.removeprefix(old)
    return weight


def open_transformers(spec: ModelSpec, folder: Path) -> Model:
    from transformers import AutoImageProcessor, AutoModel, ViTMAEForPreTraining

    opener: Any = ViTMAEForPreTraining if spec.family == "mae" else AutoModel
    module = (
        opener.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        .to(device())
        .eval()
        .requires_grad_(False)
    )
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)
    base = module.vit if spec.family == "mae" else module
    size = 224 // base.config.patch_size * base.config.patch_size
    encoder = TransformersEncoder(model=base, size=size)
    return Model(
        spec=spec,
        module=module,
        encoder=encoder,
        chooser=encoder,
        size=size,
        mean=tuple(processor.image_mean),
        deviation=tuple(processor.image_std),
    )
