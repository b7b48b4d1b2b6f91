"""`load(name)`: from a name in the registry to a model that is ready to use, by one path for both tiers.

A bundled model is a folder in `assets/models/`; a hub model is a folder of the hub's cache, fetched first where the
network allows. From there on nothing differs. Loaded models stay in memory up to a budget in bytes, the least
recently used leave first, and two requests for the same model load it once. A model that leaves the cache lives on as
long as somebody is using it.

Only safetensors are opened, only ids of the registry are fetched.
"""

import copy
import functools
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor, nn

from pipelines.errors import OTHER_MODEL, UserError, require_finite
from pipelines.models.detailclip import DetailCLIP, Settings
from pipelines.models.hub import ADVICE, ModelUnavailable, locate, repository
from pipelines.models.registry import MODELS, ModelSpec
from pipelines.models.vision import Encoder, OpenClipEncoder, TransformersEncoder


@dataclass(frozen=True)
class Model:
    """A model in memory and all it takes to ask it something."""

    spec: ModelSpec
    module: nn.Module  # the library's own object, in eval mode, without gradients
    encoder: Encoder  # its image tower
    chooser: Encoder  # the tower whose attention decides which patches stay: the teacher's where there is one
    size: int  # pixels, the side of the square it looks at
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    tokenize: Callable[[list[str]], Tensor] | None = None  # texts -> (B, T) ids; None when it reads no text
    vocabulary: frozenset[str] | None = None  # the only words it knows; None when it takes any
    detail: DetailCLIP | None = None  # teacher, head and decoder, where they are part of it

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def megabytes(self) -> float:
        return _megabytes(self.detail or self.module)

    def pixels(self, picture: Image.Image) -> Tensor:
        """A square picture -> (1, 3, size, size), resized and normalised as the model was trained."""
        resized = picture.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        array = np.asarray(resized, np.float32) / 255
        normalised = (array - np.float32(self.mean)) / np.float32(self.deviation)
        return torch.from_numpy(normalised).permute(2, 0, 1)[None].to(self.device)

    def picture(self, pixels: Tensor) -> np.ndarray:
        """(3, H, W) normalised -> (H, W, 3) float32 in [0, 1]. Inverse of `pixels`."""
        array = pixels.detach().float().cpu().permute(1, 2, 0).numpy()
        return np.clip(array * np.float32(self.deviation) + np.float32(self.mean), 0, 1)

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
                f"{self.spec.name} reads no text. Choose an image-text model, such as storybook-detailclip."
            )
        ids = self.tokenize(texts)
        if self.vocabulary is not None:
            self._refuse_unknown(texts, ids)
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
                    f"{self.spec.name} reads at most {most - 2} pieces of words, and this text has {length - 2}. "
                    "Shorten it."
                )

    def _refuse_unknown(self, texts: list[str], ids: Tensor) -> None:
        tokenizer = self.tokenize.tokenizer  # OpenCLIP's wrapper around a transformers tokenizer
        for text in texts:
            words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(
                tokenizer.backend_tokenizer.normalizer.normalize_str(text)
            )
            unknown = list(dict.fromkeys(word for word, _ in words if word not in self.vocabulary))
            if unknown:
                raise UserError(not_known(self.spec, unknown, self.vocabulary))
            if len(words) + 2 > ids.shape[1]:
                raise UserError(
                    f"{self.spec.name} reads at most {ids.shape[1] - 2} words and commas, not {len(words)}."
                )


@dataclass(frozen=True, eq=False)
class Detector:
    """A text-prompted detector in memory."""

    spec: ModelSpec
    module: nn.Module  # transformers' own object, in eval mode, without gradients
    processor: Callable  # transformers' image processor: picture -> pixels of the size the model was trained on
    tokenizer: Callable  # a fast tokenizer of transformers, which knows where in the text each token stands
    vocabulary: frozenset[str] | None  # the only words it knows; None when it can spell
    features: OrderedDict = field(default_factory=OrderedDict)  # of the last pictures: see pipelines.detection.pipeline
    views: dict[str, nn.Module] = field(default_factory=dict)  # of `faster`, by precision

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def megabytes(self) -> float:
        return _megabytes(self.module)

    def faster(self, precision: str = "float32") -> nn.Module:
        """The same weights computed sooner: see `fast_grounding_dino.faster`, which says what it raises."""
        from pipelines.models.fast_grounding_dino import faster

        if precision not in self.views:
            self.views[precision] = faster(self.module, precision)
        return self.views[precision]

    @functools.cached_property
    def groundingdino(self) -> nn.Module:
        """The same weights in the model of groundingdino-py. Raises what `groundingdino_backend.build` raises."""
        from pipelines.models.groundingdino_backend import build

        return build(self.module, self.tokenizer).to(self.device).eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Painter:
    """A text-to-image model in memory: the parts of diffusers' StableDiffusionPipeline."""

    spec: ModelSpec
    pipe: object  # unet, vae, text_encoder, tokenizer, scheduler; safety_checker where the checkpoint ships one
    previewer: nn.Module | None  # a small decoder of the same latents; None: the model's own is small enough
    vocabulary: frozenset[str] | None  # the only words it knows; None when it can spell
    views: dict[str, nn.Module] = field(default_factory=dict)  # of the UNet, by precision

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
        return sum(_megabytes(part) for part in parts if part is not None)

    def unet(self, precision: str = "float32") -> nn.Module:
        """The UNet, or a copy of it in that precision, computed sooner: see `fast_unet.faster`.

        Raises:
            UserError: for another precision than float32 and bfloat16.
        """
        from pipelines.models.fast_unet import faster

        if precision not in ("float32", "bfloat16"):
            raise UserError(f"The precision is float32 or bfloat16, not {str(precision)[:40]}.")
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


def not_known(spec: ModelSpec, words: list[str], vocabulary: frozenset[str] | None) -> str:
    """What to say about words a model does not know: at most eight of them, and all that it knows where it cannot
    spell."""
    told = f"{spec.name} does not know {', '.join(repr(word[:30]) for word in words[:8])}."
    return f"{told} Its words are: {', '.join(sorted(w for w in vocabulary if w.isalpha()))}." if vocabulary else told


def _megabytes(module: nn.Module) -> float:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers())) / 1e6


# ------------------------------------------------------------------------------------------------ from files to models


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _open_clip(spec: ModelSpec, folder: Path) -> Model:
    import open_clip

    source = f"local-dir:{folder}"
    clip = open_clip.create_model(source, device=device()).eval().requires_grad_(False)
    tokenize = open_clip.get_tokenizer(source)
    encoder = OpenClipEncoder(clip.visual)
    vocabulary = _closed_vocabulary(getattr(tokenize, "tokenizer", None))
    detail = load_detail(folder, clip) if (folder / "detailclip.safetensors").exists() else None
    visual = clip.visual
    return Model(
        spec,
        clip,
        encoder,
        OpenClipEncoder(detail.teacher) if detail else encoder,
        visual.image_size[0],
        tuple(visual.image_mean),
        tuple(visual.image_std),
        tokenize,
        vocabulary,
        detail,
    )


def _closed_vocabulary(tokenizer: Callable | None) -> frozenset[str] | None:
    """The words of a tokenizer that turns every other word into one unknown token; None for one that can spell."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return (
        frozenset(backend.get_vocab()) if backend is not None and type(backend.model).__name__ == "WordLevel" else None
    )


def load_detail(folder: Path, clip: nn.Module) -> DetailCLIP:
    """Teacher, head and decoder from their safetensors files, around a student that OpenCLIP has opened."""
    from open_clip.transformer import QuickGELU

    config = json.loads((folder / "detailclip_config.json").read_text(encoding="utf-8"))
    if config.pop("text_activation", "gelu") == "quick_gelu":  # OpenCLIP has one switch for both towers
        for block in clip.transformer.resblocks:
            block.mlp.gelu = QuickGELU()
    settings = Settings(**config)
    detail = DetailCLIP(clip, settings)
    missing, unexpected = detail.load_state_dict(beside_student(folder), strict=False)
    wrong = unexpected + [name for name in missing if not name.startswith("clip.")]
    if wrong:
        raise UserError(f"The weights in {folder} do not fit their configuration: {', '.join(wrong[:4])}.")
    return detail.to(device()).eval().requires_grad_(False)


def beside_student(folder: Path) -> dict[str, Tensor]:
    """The weights of a DetailCLIP beside its student: teacher, heads and decoder, `Retouch` where it has one."""
    from safetensors.torch import load_file

    files = [folder / "detailclip.safetensors", folder / "teacher.safetensors", *folder.glob("retouch*.safetensors")]
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def _transformers(spec: ModelSpec, folder: Path) -> Model:
    from transformers import AutoImageProcessor, AutoModel, ViTMAEForPreTraining

    opener = ViTMAEForPreTraining if spec.family == "mae" else AutoModel
    module = (
        opener.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        .to(device())
        .eval()
        .requires_grad_(False)
    )
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)
    base = module.vit if spec.family == "mae" else module
    size = 224 // base.config.patch_size * base.config.patch_size
    encoder = TransformersEncoder(base, size)
    return Model(spec, module, encoder, encoder, size, tuple(processor.image_mean), tuple(processor.image_std))


def _grounding_dino(spec: ModelSpec, folder: Path) -> Detector:
    from transformers import AutoImageProcessor, AutoModelForZeroShotObjectDetection, AutoTokenizer

    module = AutoModelForZeroShotObjectDetection.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    mend_word_positions(module)
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Detector(
        spec,
        module.to(device()).eval().requires_grad_(False),
        processor,
        tokenizer,
        _closed_vocabulary(tokenizer),
    )


def mend_word_positions(module: nn.Module) -> None:
    """Let a GroundingDino or MMGroundingDino count words from the beginning of their phrase, as the authors' code does.

    transformers before 5.23, of which 5.20 is the last for Python 3.10, counts the full stop of a phrase as its first
    word and rounds the sines of the positions to whole numbers. Newer versions compute the same with this.
    """
    module.model.text_backbone.register_forward_pre_hook(_count_for_text)
    for layer in module.model.encoder.layers:
        layer.register_forward_pre_hook(_count_for_fusion, with_kwargs=True)


def _count_for_text(_: nn.Module, given: tuple) -> tuple:
    ids, together, types, _ = given  # (B, 1, T, T), True where two words are of one phrase
    return ids, together, types, together[:, 0].tril(-1).sum(-1)


def _count_for_fusion(_: nn.Module, given: tuple, named: dict) -> tuple[tuple, dict]:
    apart = named["text_self_attention_masks"]  # (B, T, T)
    return given, named | {"text_position_ids": (~apart).tril(-1).sum(-1).float()}


def _stable_diffusion(spec: ModelSpec, folder: Path) -> Painter:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    pipe.to(device())
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.float().eval().requires_grad_(False)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    previewer = load(spec.previewer).module if spec.previewer else None
    return Painter(spec, pipe, previewer, _closed_vocabulary(pipe.tokenizer))


@dataclass(frozen=True, eq=False)
class Previewer:
    """A small decoder of another model's latents."""

    spec: ModelSpec
    module: nn.Module

    @property
    def megabytes(self) -> float:
        return _megabytes(self.module)


def _autoencoder(spec: ModelSpec, folder: Path) -> Previewer:
    from diffusers import AutoencoderTiny

    module = AutoencoderTiny.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    return Previewer(spec, module.to(device(), memory_format=torch.channels_last).eval().requires_grad_(False))


_OPENERS = {
    "openclip": _open_clip,
    "vit": _transformers,
    "mae": _transformers,
    "grounding_dino": _grounding_dino,
    "stable_diffusion": _stable_diffusion,
    "autoencoder": _autoencoder,
}


Loaded = Model | Detector | Painter | Previewer


def open_folder(spec: ModelSpec, folder: Path) -> Loaded:
    """Open the model in this folder, without the cache."""
    return _OPENERS[spec.family](spec, folder)


# ------------------------------------------------------------------------------------------------------------- cache


def default_budget() -> int:
    """Megabytes of weights kept in memory: half of what the computer has free, at most 6,000."""
    return int(min(6000, psutil.virtual_memory().available / 2e6))


class Cache:
    """Loaded models, least recently used first, bounded in megabytes; one loading at a time for each model."""

    def __init__(self, megabytes: float, open_model: Callable[[ModelSpec], Loaded]):
        self.megabytes, self.open_model = megabytes, open_model
        self.models: OrderedDict[str, Loaded] = OrderedDict()
        self.lock, self.loading = threading.Lock(), {}

    def get(self, name: str) -> Loaded:
        with self.lock:
            if name in self.models:
                self.models.move_to_end(name)
                return self.models[name]
            turn = self.loading.setdefault(name, threading.Lock())
        with turn:
            with self.lock:
                if name in self.models:  # somebody else loaded it while this one waited
                    return self.models[name]
            model = self.open_model(MODELS[name])
            with self.lock:
                self.models[name] = model
                while len(self.models) > 1 and sum(m.megabytes for m in self.models.values()) > self.megabytes:
                    gone, _ = self.models.popitem(last=False)
                    logging.getLogger(__name__).info("%s leaves memory to make room for %s", gone, name)
                self.loading.pop(name, None)
            return model


def open_model(spec: ModelSpec) -> Loaded:
    folder = locate(spec)
    try:
        return open_folder(spec, folder)
    except Exception as error:  # damaged files fail in every library's own way
        logging.getLogger(__name__).warning("could not open %s", spec.name, exc_info=True)
        raise ModelUnavailable(
            f"The files of {spec.name} cannot be read ({type(error).__name__}): damaged, or another model's. Delete "
            f"{repository(spec) if spec.tier == 'hub' else folder} and load it again. {ADVICE}"
        ) from error


_CACHE = Cache(default_budget(), open_model)


def load(name: str) -> Loaded:
    """The model of that name, from memory, the bundled folder, the hub's cache or the hub.

    A `Detector` where the family is grounding_dino, a `Painter` for stable_diffusion, a `Previewer` for autoencoder,
    else a `Model`.

    Raises:
        UserError: for a name that is not in the registry.
        ModelUnavailable: when its files cannot be had or read.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise UserError(f"There is no model {str(name)[:60]!r}. The models are: {', '.join(MODELS)}.")
    return _CACHE.get(name)
