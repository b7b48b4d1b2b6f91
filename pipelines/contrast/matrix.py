"""The matrix: up to eight pictures by as many captions, CLIP's loss on it, and what its derivative pushes and pulls.

With cosines s, temperature t and p_ij = softmax_j(s_ij / t), the loss of the pictures is L = -1/N sum_i ln p_ii (van
den Oord et al. 2018, https://arxiv.org/abs/1807.03748, equation 4); the captions' is the same on the transposed matrix,
and CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020, figure 3) takes the mean of both. By the logit s_ij / t
its derivative is (p_ij - [i = j]) / N, by a picture's vector x_i

    dL/dx_i = 1 / (t |x_i|) sum_j dL/d(s_ij / t) (y_j - (x_i . y_j) x_i)      of unit vectors x, y on the right.

Everything is computed in float64, in closed form, beside torch's own derivative.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipelines.contrast.settings import MatrixSettings
from pipelines.contrast.verdicts import of_matrix
from pipelines.errors import UserError
from pipelines.models.encoders import Model, untrained
from pipelines.models.loading import load
from pipelines.models.vision import centre_square
from pipelines.settings import MOST_TEXT, checked
from pipelines.world import storybook

LEAST, MOST = 2, 8  # pairs


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Pictures and captions as one model sees them; slow to make, fast to read."""

    images: np.ndarray  # (N, E) float64, unit length
    texts: np.ndarray  # (N, E) float64, unit length
    captions: tuple[str, ...]
    model: str
    seconds: float
    untrained: tuple[np.ndarray, np.ndarray] | None  # the same of random weights of the same shape; None for hub models


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The loss and everything it is made of. All arrays are float64."""

    captions: tuple[str, ...]
    similarity: np.ndarray  # (N, N) cosines, pictures down, captions across
    rows: np.ndarray  # (N, N) softmax over captions: p_ij
    columns: np.ndarray  # (N, N) softmax over pictures
    losses: np.ndarray  # (2, N) of each picture and of each caption, nats
    loss: float  # in the chosen direction, nats
    lines: np.ndarray  # (N or 2N, N) derivative of each softmax by itself, one a line, by the chosen formula
    slope: np.ndarray  # (N, N) dL/d(s_ij / t) by the chosen formula: negative pulls, positive pushes
    slope_autograd: np.ndarray  # (N, N) the same by torch
    arrows: np.ndarray  # (N, E) -dL/dx_i of each picture's vector by the chosen formula: where it is moved
    arrows_autograd: np.ndarray  # (N, E)
    plane_captions: (
        np.ndarray
    )  # (N, N, 2) captions seen from picture i, in the plane of its right caption and its arrow
    plane_arrows: np.ndarray  # (N, 2) the arrow in that plane, with its whole length
    direction: str
    temperature: float
    untrained_loss: float | None  # with random weights
    seconds: float  # of encoding and reading

    @property
    def sides(self) -> tuple[str, ...]:
        """Of which softmaxes the loss is taken: rows, columns."""
        return sides_of(self.direction)

    @property
    def chance(self) -> float:
        """The loss of equal similarities: ln N."""
        return math.log(len(self.captions))

    @property
    def accuracy(self) -> tuple[float, float]:
        """Share of pictures, and of captions, that are nearest to their own partner. Chance: 1 / N; a tie is a miss."""
        right = np.eye(len(self.captions), dtype=bool)
        pictures, captions = (
            float(np.mean(np.where(right, s, -np.inf).max(1) > np.where(right, -np.inf, s).max(1)))
            for s in (self.similarity, self.similarity.T)
        )
        return pictures, captions

    @property
    def mass(self) -> float:
        """Mean probability on the diagonal of the chosen softmax."""
        diagonals = {"rows": self.rows.diagonal(), "columns": self.columns.diagonal()}
        return float(np.mean([diagonals[each] for each in self.sides]))

    @property
    def row_sums(self) -> np.ndarray:
        """Of `lines`: 0 where the formula is right."""
        return self.lines.sum(1)

    @property
    def errors(self) -> tuple[float, float]:
        """The largest difference between the chosen formula and torch: of the slope, of the arrows."""
        return (
            float(np.abs(self.slope - self.slope_autograd).max()),
            float(np.abs(self.arrows - self.arrows_autograd).max()),
        )


def sides_of(direction: str) -> tuple[str, ...]:
    return ("rows", "columns") if direction == "both" else (direction,)


# ------------------------------------------------------------------------------------------------------ the formulas


def right_slope(p: np.ndarray) -> np.ndarray:
    """dL/d(s_ij / t) of softmax rows (N, N): (p_ij - [i = j]) / N."""
    return (p - np.eye(len(p))) / len(p)


def wrong_slope(p: np.ndarray) -> np.ndarray:
    """-(1 - p_ij) / N for every j: pulls every caption closer."""
    return -(1 - p) / len(p)


def vector_slope(slope: np.ndarray, x: np.ndarray, y: np.ndarray, temperature: float) -> np.ndarray:
    """dL/dx (N, E) from dL/d(s_ij / t) (N, N), for vectors of any length."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x, y = x / length, y / np.linalg.norm(y, axis=1, keepdims=True)
    return (slope @ y - (slope * (x @ y.T)).sum(1, keepdims=True) * x) / (temperature * length)


def loss_of(logits: Tensor, direction: str = "both") -> Tensor:
    """CLIP's loss on a matrix of logits (N, N), or one half of it."""
    own = torch.arange(len(logits))
    halves = {"rows": logits, "columns": logits.T}
    return torch.stack([nn.functional.cross_entropy(halves[side], own) for side in sides_of(direction)]).mean()


def by_torch(x: np.ndarray, y: np.ndarray, temperature: float, direction: str) -> tuple[np.ndarray, np.ndarray]:
    """dL/d(s_ij / t) (N, N) and dL/dx (N, E), by automatic differentiation in the arrays' precision."""
    vectors = torch.from_numpy(x).requires_grad_()
    cosines = nn.functional.normalize(vectors) @ nn.functional.normalize(torch.from_numpy(y)).T
    logits = cosines / temperature
    slopes = torch.autograd.grad(loss_of(logits, direction), (logits, vectors))
    return slopes[0].numpy(), slopes[1].numpy()


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def _plane(x: np.ndarray, y: np.ndarray, arrows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each picture's vector sees along the sphere: captions (N, N, 2) and arrows (N, 2).

    The first axis of the plane leads to the right caption; the arrow lies in it, so nothing of it is lost.
    """
    captions, ends = np.zeros((len(x), len(y), 2)), np.zeros((len(x), 2))
    for i, (own, arrow) in enumerate(zip(x, arrows, strict=True)):
        along = y - np.outer(y @ own, own)  # captions, projected on the tangent space
        first = _unit(along[i])
        others = [arrow, *along]
        beside = [other - (other @ first) * first for other in others]
        second = _unit(next((b for b in beside if np.linalg.norm(b) > 1e-9), np.zeros_like(own)))
        axes = np.stack([first, second], 1)
        captions[i], ends[i] = along @ axes, arrow @ axes
    return captions, ends


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length > 1e-12 else np.zeros_like(vector)


# ---------------------------------------------------------------------------------------------------------- the lesson


def example(seed: int, count: int = MOST, kinds: int = 6) -> tuple[list[Image.Image], list[str], list[str]]:
    """Drawn pictures of one object each, their captions and nouns.

    Args:
        count: how many pictures.
        kinds: how many different nouns; fewer than pictures, so that some wrong captions are nearly right.
    """
    rng = np.random.default_rng(seed)
    nouns = [storybook.NOUNS[n] for n in rng.permutation(len(storybook.NOUNS))[:kinds]]
    nouns = [nouns[i % kinds] for i in range(count)]
    scenes = []
    for noun in nouns:
        colour = str(rng.choice(list(storybook.COLOURS))) if noun in storybook.THINGS else None
        place = tuple(rng.uniform((0.4, 0.4, 0.5), (0.6, 0.6, 0.7)))
        background = str(rng.choice(list(storybook.PLACES)))
        scenes.append(storybook.compose([(noun, colour)], [place], background, seed=int(rng.integers(2**31))))
    return [Image.fromarray(s.picture) for s in scenes], [s.full_caption for s in scenes], nouns


def pairs(pictures: Sequence[object], captions: Sequence[str]) -> list[str]:
    """The captions, tidied, where pictures and captions make a matrix.

    Raises:
        UserError: for fewer than 2 or more than 8 pairs, numbers that differ, an empty or a giant caption.
    """
    if not LEAST <= len(pictures) <= MOST:
        raise UserError(
            "The matrix takes {least} to {most} pairs of a picture and a caption, not {count}: "
            "a single pair has nothing to be told apart from.",
            least=LEAST,
            most=MOST,
            count=len(pictures),
        )
    if len(pictures) != len(captions):
        raise UserError(
            "Each picture needs its own caption: got {pictures} pictures and {captions} captions.",
            pictures=len(pictures),
            captions=len(captions),
        )
    tidy = [" ".join(caption.split()) if isinstance(caption, str) else "" for caption in captions]
    for number, caption in enumerate(tidy, 1):
        if not caption:
            raise UserError("Caption {number} is empty. Say what is in picture {number}.", number=number)
        if len(caption) > MOST_TEXT:
            raise UserError(
                "Caption {number} is too long: {length} characters of at most {most}.",
                number=number,
                length=len(caption),
                most=MOST_TEXT,
            )
    return tidy


def _vectors(model: Model, pictures: Sequence[Image.Image], captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    pixels = torch.cat([model.pixels(centre_square(picture)) for picture in pictures])
    images = model.image_features(model.encoder.encode(pixels).cls)
    found = [each.double().cpu() for each in (images, model.text_features(captions))]
    of_pictures, of_captions = (nn.functional.normalize(each).numpy() for each in found)
    return of_pictures, of_captions


def encode(settings: MatrixSettings, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Encoded:
    """Both towers on the pairs. The slow part: keep what it returns while `model`, `shuffle` and `seed` stay.

    Raises:
        UserError: what `pairs` raises; a word the model does not know.
        ModelUnavailable: when the model's files cannot be had.
    """
    settings = checked(MatrixSettings, vars(settings))
    tidy = pairs(pictures, captions)
    if settings.shuffle == "words":
        rng = np.random.default_rng(settings.seed)
        tidy = [" ".join(rng.permutation(caption.split())) for caption in tidy]
    start = time.perf_counter()
    model = load(settings.model)
    images, texts = _vectors(model, pictures, tidy)
    blank = _vectors(untrained(model, settings.seed), pictures, tidy) if model.spec.tier == "bundled" else None
    return Encoded(
        images=images,
        texts=texts,
        captions=tuple(tidy),
        model=settings.model,
        seconds=time.perf_counter() - start,
        untrained=blank,
    )


def read(settings: MatrixSettings, encoded: Encoded) -> Matrix:
    """The matrix, its loss and its derivatives. Milliseconds."""
    settings = checked(MatrixSettings, vars(settings))
    start = time.perf_counter()
    x, y, captions = encoded.images, encoded.texts, encoded.captions
    blank = encoded.untrained
    if settings.shuffle == "captions":
        y, captions = np.roll(y, -1, axis=0), (*captions[1:], captions[0])
        blank = blank and (blank[0], np.roll(blank[1], -1, axis=0))
    if settings.equal:
        x = y = np.tile(_unit(encoded.texts.mean(0)), (len(captions), 1))
    t, direction = settings.temperature, settings.direction
    similarity = x @ y.T
    rows, columns = _softmax(similarity / t), _softmax(similarity.T / t).T
    losses = np.stack([_surprise(similarity / t), _surprise(similarity.T / t)])
    chosen = {"rows": losses[0], "columns": losses[1], "both": losses}[direction]
    formula = {"right": right_slope, "wrong": wrong_slope}[settings.formula]
    halves = {"rows": formula(rows), "columns": formula(columns.T)}
    slope = np.mean([halves[side] if side == "rows" else halves[side].T for side in sides_of(direction)], axis=0)
    arrows = -vector_slope(slope, x, y, t)
    slope_autograd, vector_autograd = by_torch(x, y, t, direction)
    plane_captions, plane_arrows = _plane(x, y, arrows)
    return Matrix(
        captions=captions,
        similarity=similarity,
        rows=rows,
        columns=columns,
        losses=losses,
        loss=float(chosen.mean()),
        lines=np.concatenate([halves[side] for side in sides_of(direction)]),
        slope=slope,
        slope_autograd=slope_autograd,
        arrows=arrows,
        arrows_autograd=-vector_autograd,
        plane_captions=plane_captions,
        plane_arrows=plane_arrows,
        direction=direction,
        temperature=t,
        untrained_loss=None
        if blank is None
        else float(loss_of(torch.from_numpy(blank[0] @ blank[1].T) / t, direction)),
        seconds=encoded.seconds + time.perf_counter() - start,
    )


def _surprise(logits: np.ndarray) -> np.ndarray:
    """-ln p_ii of each row, without first rounding p to 0."""
    most = logits.max(1)
    return np.log(np.exp(logits - most[:, None]).sum(1)) + most - logits.diagonal()


def run(
    settings: MatrixSettings, pictures: Sequence[Image.Image] | None = None, captions: Sequence[str] | None = None
) -> Matrix:
    """The whole lesson: `encode`, then `read`; of drawn pictures where none are given.

    Raises:
        UserError: what `encode` raises.
        ModelUnavailable: when the model's files cannot be had.
    """
    if pictures is None or captions is None:
        pictures, captions, _ = example(checked(MatrixSettings, vars(settings)).seed)
    return read(settings, encode(settings, pictures, captions))


def numbers(settings: MatrixSettings, found: Matrix, guess: str | None = None) -> dict:
    """The JSON of the endpoint."""
    n = len(found.captions)
    return {
        "seed": settings.seed,
        "steps": 0,
        "seconds": round(found.seconds, 3),
        "loss": found.loss,
        "loss_rows": float(found.losses[0].mean()),
        "loss_columns": float(found.losses[1].mean()),
        "accuracy_rows": found.accuracy[0],
        "accuracy_columns": found.accuracy[1],
        "diagonal_mass": found.mass,
        "similarity": found.similarity.tolist(),
        "gradient": found.slope.tolist(),
        "gradient_sums": found.row_sums.tolist(),
        "autograd_error": found.errors[0],
        "autograd_error_vectors": found.errors[1],
        "baseline": {
            "loss": found.chance,
            "accuracy": 1 / n,
            "diagonal_mass": 1 / n,
            "untrained_loss": found.untrained_loss,
        },
        "verdict": of_matrix(found, guess).record(),
    }
