"""What a run of CLIP synthesis hands out, and a comparison of runs as a file that opens without a model."""

import base64
import io
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.clip_synthesis.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Look:
    """The picture after some iterations, and what is thought of it."""

    picture: Image.Image
    views: np.ndarray  # (N, s, s, 3) uint8, what the followed model was shown last; at most SHOWN
    similarity: float  # cosine of the whole picture and the main prompt, by the model that is followed
    similarity_held_out: float  # by the one that is not
    rank_held_out: int  # of the main prompt among 100 captions, by the one that is not; 1 is best
    captions: tuple[str, ...]  # the first of those, best first
    after_blur: float | None  # similarity after a slight blur, as a share of that before, if positive; followed model
    high_frequency: float  # share of the energy in waves shorter than four pixels

    @property
    def gap(self) -> float:
        """How much more the followed model is convinced: what only it believes."""
        return self.similarity - self.similarity_held_out


@dataclass(frozen=True, kw_only=True)
class Step:
    """One iteration."""

    iteration: int  # done so far
    steps: int
    loss: float
    parts: dict[str, float]  # of the loss, weighted; of equal prompts the second is "a cat (2)"
    seconds: float  # since the start
    per_second: float  # iterations, without the looks
    look: Look | None  # at the first, every EVERY and the last iteration


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What real pictures of a caption score: mean, lowest and highest of `count` scenes."""

    count: int
    example: Image.Image
    similarity: tuple[float, float, float]
    similarity_held_out: tuple[float, float, float]
    high_frequency: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The last steps of runs that differ in one setting."""

    settings: Settings  # of the first
    ways: tuple[tuple[str, Step], ...]  # what each is called, and its last step with its look
    real: Reference | None

    def dump(self) -> str:
        """As JSON, pictures in it as base64 of lossless WebP; views are left out."""
        told = {
            "settings": asdict(replace(self.settings, image=None, wanted=None)),
            "ways": [[name, asdict(replace(step, look=None))] for name, step in self.ways],
            "looks": [vars(step.look) | {"views": None} for _, step in self.ways],
            "real": None if self.real is None else vars(self.real),
        }
        return json.dumps(told, default=_coded)

    @classmethod
    def load(cls, path: Path) -> "Comparison":
        """Of a file of `dump`."""
        told = json.loads(path.read_text(encoding="utf-8"))
        steps = []
        for (name, step), look in zip(told["ways"], told["looks"], strict=True):
            known = look | {"picture": _picture(look["picture"]), "views": np.zeros((0, 1, 1, 3), np.uint8)}
            steps.append((name, Step(**step | {"look": Look(**known | {"captions": tuple(look["captions"])})})))
        real = told["real"] and Reference(**_tuples(told["real"]) | {"example": _picture(told["real"]["example"])})
        return cls(settings=Settings(**told["settings"]), ways=tuple(steps), real=real)


def _coded(value: Any) -> Any:
    if isinstance(value, Image.Image):
        out = io.BytesIO()
        value.save(out, "WEBP", lossless=True)
        return base64.b64encode(out.getvalue()).decode()
    return value.item()  # a number of numpy


def _picture(code: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(code))).convert("RGB")


def _tuples(told: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
