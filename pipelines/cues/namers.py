"""Networks that name a picture, behind one call: pictures in [0, 1] to a score for every name, with a gradient.

What is done to a picture is done before normalisation, in [0, 1], where a difference of 1/255 is one level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipelines.models.classifiers import Classifier
from pipelines.models.detectors import Detector, read
from pipelines.models.loading import load
from pipelines.models.registry import MODELS
from pipelines.models.vision import centre_square, openclip_tokens
from pipelines.world import storybook

BATCH = 50


@dataclass(frozen=True, kw_only=True)
class Namer:
    """A network and its names."""

    model: str
    names: tuple[str, ...]
    size: int  # pixels, the side of the square it looks at
    logits: Callable[[Tensor], Tensor]  # (B, 3, size, size) in [0, 1] -> (B, len(names)), differentiable

    @torch.no_grad()
    def probabilities(self, pixels: Tensor) -> Tensor:
        """(B, len(names)), rows sum to 1."""
        return torch.cat([self.logits(part).softmax(1) for part in pixels.split(BATCH)])

    def told(self, pixels: Tensor) -> Tensor:
        """(B,) the name that is said, an index into `names`."""
        return self.probabilities(pixels).argmax(1)


def clip_namer(model: str, nouns: tuple[str, ...] = storybook.NOUNS) -> Namer:
    """An OpenCLIP that says which of the nouns is nearest: its softmax over "a cat", "a dog" and so on.

    Raises:
        ModelUnavailable: when the model's files cannot be had.
    """
    loaded = load(model)
    visual, scale = loaded.module.visual, loaded.module.logit_scale.exp()
    texts = loaded.text_features([storybook.article(noun) for noun in nouns])
    mean, deviation = (
        torch.tensor(each, device=loaded.device)[:, None, None] for each in (loaded.mean, loaded.deviation)
    )

    def logits(pixels: Tensor) -> Tensor:
        tokens = openclip_tokens(visual, (pixels.to(loaded.device) - mean) / deviation, attention=False)
        return (scale * nn.functional.normalize(tokens.cls @ visual.proj, dim=1) @ texts.T).cpu()

    return Namer(model=model, names=nouns, size=loaded.size, logits=logits)


def classifier_namer(model: str) -> Namer:
    """A classifier of photographs and its own names.

    Raises:
        ModelUnavailable: when the model's files cannot be had.
    """
    loaded = load(model, Classifier)
    return Namer(model=model, names=loaded.names, size=loaded.size, logits=lambda pixels: loaded.logits(pixels).cpu())


def detector_namer(model: str, nouns: tuple[str, ...] = storybook.NOUNS) -> Namer:
    """A detector that is asked for all of the nouns at once: a picture is called what its surest box is called.

    Raises:
        ModelUnavailable: when the model's files cannot be had.
    """
    loaded = load(model, Detector)
    prompt, processor = read(nouns, loaded), loaded.processor
    mean, deviation = (
        torch.tensor(each, device=loaded.device)[:, None, None] for each in (processor.image_mean, processor.image_std)
    )

    def logits(pixels: Tensor) -> Tensor:
        ids = prompt.ids.to(loaded.device).expand(len(pixels), -1)
        told = loaded.module(pixel_values=(pixels.to(loaded.device) - mean) / deviation, input_ids=ids).logits
        surest = told[..., list(prompt.tokens)].amax(1)  # (B, W), over all boxes
        return torch.stack([surest[:, first:last].amax(1) for first, last in prompt.spans], 1).cpu()

    return Namer(model=model, names=nouns, size=storybook.SIZE, logits=logits)


def namer(model: str) -> Namer:
    """Of any model that names pictures. Raises what `clip_namer` raises."""
    by_family = {"openclip": clip_namer, "grounding_dino": detector_namer, "classifier": classifier_namer}
    return by_family[MODELS[model].family](model)


def speaks_for(model: str, pictures: np.ndarray, names: Sequence[str]) -> np.ndarray | None:
    """(N, h, w): what each place of a picture adds to a classifier's score of a name; None for models without a map.

    Args:
        pictures: (N, S, S, 3) uint8, squares.
        names: (N,) a name for each.
    """
    if MODELS[model].family != "classifier":
        return None
    known = load(model, Classifier)
    return np.stack(
        [known.activation_maps(Image.fromarray(each), [name])[0] for each, name in zip(pictures, names, strict=True)]
    )


def square(picture: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8: the middle of a picture."""
    return np.array(centre_square(picture.convert("RGB")).resize((size, size), Image.Resampling.BICUBIC))


def in_range(pictures: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
