"""The scenes of zero-shot masks: what the frozen tower says of them, and their truth.

Training scenes hold seen nouns and nothing else. Every test scene holds one seen and one unseen thing, so that neither
kind is larger or less covered than the other. Strangers are things CLIP has no word for.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipelines.detection.settings import SPLITS
from pipelines.models.encoders import Model
from pipelines.models.loading import load
from pipelines.models.vision import openclip_tokens
from pipelines.world import storybook

MODEL = "storybook-detailclip"
NAMES = storybook.NOUNS
TRAINING, TEST, STRANGERS = storybook.TRAIN[:480], storybook.TEST[:108], storybook.TEST[108:132]
PARTS = {"training": TRAINING, "test": TEST, "strangers": STRANGERS}
PART = 12  # scenes looked at in one go
SIDE = 32  # of the map that says object or not
COVERED = 0.25  # of a patch, for it to be under a mask


def kinds(unseen: str) -> dict[str, tuple[str, ...]]:
    """The 18 seen and the six unseen nouns of a split."""
    never = SPLITS[unseen]
    return {"seen": tuple(noun for noun in NAMES if noun not in never), "unseen": never}


def places_of(words: Sequence[str]) -> list[int]:
    """In NAMES."""
    return [NAMES.index(word) for word in words]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """N scenes with M objects: what the frozen tower says of them, and the truth. Do not write to its arrays."""

    pictures: np.ndarray  # (N, S, S, 3) uint8, sRGB
    tokens: Tensor  # (N, D, g, g) float16, of the patches
    inside: Tensor  # (N, 1, SIDE, SIDE) share of pixels that belong to an object
    scene: np.ndarray  # (M,) which scene an object is in
    noun: np.ndarray  # (M,) index into NAMES; from len(NAMES) on of storybook.UNSEEN
    masks: np.ndarray  # (M, S, S) bool
    features: Tensor  # (M, D) of what is under its mask: see `under`

    def __len__(self) -> int:
        return len(self.pictures)

    def pixels(self, places: np.ndarray | slice) -> Tensor:
        """(B, 3, S, S) in [-1, 1]."""
        return torch.from_numpy(self.pictures[places]).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """The tower looks at the scenes, once per process and split."""

    done: int
    of: int
    pictures: np.ndarray  # (n, S, S, 3) uint8, the last ones


def scene_of(part: str, unseen: str, place: int) -> storybook.Scene:
    """A scene of the part "training", "test" or "strangers" (things that CLIP has no word for, one a scene)."""
    of = kinds(unseen)
    if part == "training":
        return storybook.scene(TRAINING[place], nouns=of["seen"])
    if part == "strangers":
        return storybook.scene(STRANGERS[place], count=1, nouns=[storybook.UNSEEN[place % len(storybook.UNSEEN)]])
    first, second = divmod(place, len(of["unseen"]))  # every seen thing beside every unseen one
    return storybook.scene(TEST[place], count=2, nouns=(of["seen"][first], of["unseen"][second]))


@torch.no_grad()
def patch_tokens(model: Model, pixels: Tensor) -> Tensor:
    """(B, D, g, g) float16, of normalised pixels."""
    tokens = openclip_tokens(model.module.visual, pixels, attention=False).patches.cpu()
    side = model.encoder.grid
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side).half()


@torch.no_grad()
def under(model: Model, pixels: Tensor, scene: np.ndarray, masks: np.ndarray) -> Tensor:
    """(M, D): the class token that looks at nothing but the patches under a mask; the others are dropped.

    A mean of the tokens of the whole scene would be simpler and mixes in what stands beside the thing.

    Args:
        pixels: (N, 3, S, S), normalised.
        scene: (M,) which picture a mask is of.
        masks: (M, S, S) bool, none of them empty.
    """
    side, found = model.encoder.grid, [torch.zeros(0, model.encoder.width)]
    shares = F.adaptive_avg_pool2d(torch.from_numpy(masks).float()[:, None], side).flatten(1)
    for place, share in zip(scene.tolist(), shares, strict=True):
        kept = (share >= min(COVERED, float(share.max()))).nonzero().T.to(pixels.device)
        found.append(openclip_tokens(model.module.visual, pixels[place][None], kept, attention=False).cls.cpu())
    return torch.cat(found)


@functools.lru_cache(maxsize=128)  # two splits
def _looked_at(part: str, unseen: str, places: range) -> Scenes:
    world = [scene_of(part, unseen, place) for place in places]
    owned = [(place, thing) for place, scene in enumerate(world) for thing in scene.objects]
    scene, masks = np.array([place for place, _ in owned]), np.stack([thing.mask for _, thing in owned])
    model = load(MODEL)
    pixels = torch.cat([model.pixels(Image.fromarray(each.picture)) for each in world])
    return Scenes(
        pictures=np.stack([each.picture for each in world]),
        tokens=patch_tokens(model, pixels),
        inside=torch.from_numpy(np.stack([storybook.object_share(each, SIDE) for each in world]))[:, None],
        scene=scene,
        noun=np.array([(NAMES + storybook.UNSEEN).index(thing.noun) for _, thing in owned]),
        masks=masks,
        features=under(model, pixels, scene, masks),
    )


def _joined(parts: Sequence[Scenes]) -> Scenes:
    first = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return Scenes(
        pictures=np.concatenate([part.pictures for part in parts]),
        tokens=torch.cat([part.tokens for part in parts]),
        inside=torch.cat([part.inside for part in parts]),
        scene=np.concatenate([part.scene + begin for part, begin in zip(parts, first, strict=True)]),
        noun=np.concatenate([part.noun for part in parts]),
        masks=np.concatenate([part.masks for part in parts]),
        features=torch.cat([part.features for part in parts]),
    )


def looking(unseen: str, parts: dict[str, Scenes]) -> Iterator[Preparing]:
    """Fill `parts` with the three parts of PARTS, and say how far it is."""
    done, of = 0, sum(map(len, PARTS.values()))
    for name, seeds in PARTS.items():
        found = []
        for first in range(0, len(seeds), PART):
            found.append(_looked_at(name, unseen, range(first, min(first + PART, len(seeds)))))
            done += len(found[-1])
            yield Preparing(done=done, of=of, pictures=found[-1].pictures)
        parts[name] = _joined(found)


def split_by_kind(truth: Scenes, unseen: str) -> dict[str, np.ndarray]:
    """(M,) bool by kind: which true things are seen ones, and which unseen ones."""
    return {kind: np.isin(truth.noun, places_of(words)) for kind, words in kinds(unseen).items()}
