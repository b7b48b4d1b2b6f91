"""DetailCLIP's patch self-distillation on one picture: the teacher's word for each patch, and the student's guess.

`encode` runs teacher and student once, the student at every keep ratio of RATIOS, and keeps unit-length features;
`query` turns them into distributions over the K prototypes. Temperatures, centring and the keep ratio therefore never
run a model.
"""

import json
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

from pipelines.errors import OTHER_MODEL, UserError, require_finite
from pipelines.models.detailclip import DetailCLIP, ProjectionHead, keep_highest, mean_attention
from pipelines.models.encoders import Model
from pipelines.models.hub import locate
from pipelines.models.loading import load
from pipelines.models.registry import MODELS
from pipelines.models.vision import centre_square, openclip_tokens
from pipelines.self_distillation.settings import RULES, Settings

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, kw_only=True)
class StudentView:
    """What the student made of the two views at one keep ratio."""

    kept: np.ndarray  # (2, g, g) bool
    cls: np.ndarray  # (2, bottleneck) unit length
    patches: np.ndarray  # (g, g, bottleneck) unit length, removed patches too: the decoder guesses them


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Two views of a picture as teacher and student see them: 0 is the picture itself, 1 its crop, of which only the
    class token is asked."""

    model: str
    pictures: np.ndarray  # (2, S, S, 3) float32 in [0, 1]
    teacher_cls: np.ndarray  # (2, bottleneck)
    teacher_patches: np.ndarray  # (g, g, bottleneck)
    students: dict[float, StudentView]  # by keep ratio
    teacher_prototypes: np.ndarray  # (K, bottleneck) unit length
    student_prototypes: np.ndarray
    center_cls: np.ndarray  # (K,) the running mean of the teacher's logits in training
    center_patch: np.ndarray
    class_temperature: float  # of the teacher's class token, as trained


@dataclass(frozen=True, kw_only=True)
class Result:
    """Distributions over prototypes, patch by patch, for the picture itself."""

    removed: np.ndarray  # (g, g) bool
    teacher: np.ndarray  # (g, g, K) probabilities
    student: np.ndarray  # (g, g, K)
    cross_entropy: np.ndarray  # (g, g) nats; its floor is the teacher's entropy
    kl: np.ndarray  # (g, g) nats, cross-entropy minus the teacher's entropy
    teacher_entropy: np.ndarray  # (g, g) nats
    mean_entropy: float  # nats, of the mean of all patch distributions
    loss_cls: float  # nats, L_CLS: teacher on one view against student on the other, both ways
    cls_pair: tuple[np.ndarray, np.ndarray]  # (K,) teacher of the picture, student of the crop

    @property
    def prototypes(self) -> int:
        return self.teacher.shape[-1]

    @property
    def learnt_from(self) -> np.ndarray:
        """(g, g) bool: the patches the loss is taken over, the removed ones, or all where none was removed."""
        return self.removed if self.removed.any() else np.ones_like(self.removed)

    @property
    def agreement(self) -> float:
        """Share of those patches where teacher and student have the same first choice."""
        same = self.teacher.argmax(-1) == self.student.argmax(-1)
        return float(same[self.learnt_from].mean())

    @property
    def prototypes_used(self) -> int:
        return len(np.unique(self.teacher.argmax(-1)))

    def at(self, row: int, column: int, most: int = 8) -> list[tuple[int, float, float]]:
        """The `most` likely prototypes of a patch: (id, teacher's probability, student's)."""
        p, q = self.teacher[row, column], self.student[row, column]
        return [(int(k), float(p[k]), float(q[k])) for k in np.argsort(-np.maximum(p, q))[:most]]


def encode(
    picture: Image.Image, model: str, rule: str = "attention", seed: int = 42, ratios: tuple[float, ...] = RATIOS
) -> Encoded:
    """Run the teacher on two views of the picture and the student on what each keep ratio leaves of them.

    Args:
        model: one with teacher, head and decoder.
        rule: who decides what the student sees: `attention` (DetailCLIP), `attention-patch`, `random` or `inverse`.
        seed: of the second view's crop and of the rule `random`.

    Raises:
        UserError: for a model without a teacher or an unknown rule.
    """
    if rule not in RULES:
        raise UserError("The rule must be one of {allowed}, not {value}.", allowed=", ".join(RULES), value=repr(rule))
    loaded = load(model)
    if loaded.detail is None:
        raise UserError("{model} has no teacher. Choose storybook-detailclip.", model=model)
    square = centre_square(picture)
    pixels = torch.cat([loaded.pixels(view) for view in (square, second_view(square, seed))])
    with torch.no_grad():
        return _encode(loaded, loaded.detail, pixels, rule, seed, ratios)


def second_view(square: Image.Image, seed: int) -> Image.Image:
    """A crop of two thirds to nine tenths of the side, mirrored: the other view of the cross-view loss."""
    rng = np.random.default_rng(seed)
    side = round(square.width * rng.uniform(0.67, 0.9))
    left, top = rng.integers(0, square.width - side + 1, 2)
    return ImageOps.mirror(square.crop((left, top, left + side, top + side)))


def _encode(
    loaded: Model, detail: DetailCLIP, pixels: torch.Tensor, rule: str, seed: int, ratios: tuple[float, ...]
) -> Encoded:
    grid = loaded.encoder.grid
    seen = loaded.chooser.encode(pixels)
    score = mean_attention(seen)
    if rule == "random":
        score = torch.rand(score.shape, generator=torch.Generator().manual_seed(seed)).to(score.device)
    if rule == "inverse":
        score = -score

    def features(head: ProjectionHead, tokens: torch.Tensor) -> np.ndarray:
        found = head.features(tokens).cpu().numpy()
        require_finite("the features of this picture", OTHER_MODEL, found)
        return found

    def on_grid(array: np.ndarray) -> np.ndarray:
        return array.reshape(grid, grid, -1)

    chosen = [keep_highest(score, ratio, blocks=rule != "attention-patch") for ratio in ratios]
    masks = torch.stack([torch.zeros_like(score).scatter(1, kept, 1.0) for kept in chosen])  # (ratios, 2, N)
    canvases: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * len(ratios)
    if detail.settings.decode_on_fill:  # all at once, which is faster than one by one
        filled, seen_pixels = detail.filled(pixels[:1].repeat(len(ratios), 1, 1, 1), masks[:, 0])
        canvases = list(zip(filled.split(1), seen_pixels.split(1), strict=True))
    students = {}
    for ratio, kept, mask, canvas in zip(ratios, chosen, masks, canvases, strict=True):
        own, other = kept.split(1) if kept.shape[1] < grid**2 else (None, None)
        tokens, decoded = detail.student(pixels[:1], own, refined=False, canvas=canvas)
        crop = openclip_tokens(detail.clip.visual, pixels[1:], other, attention=False)
        students[ratio] = StudentView(
            kept=mask.view(2, grid, grid).bool().cpu().numpy(),
            cls=features(detail.head, torch.cat([tokens.cls, crop.cls])),
            patches=on_grid(features(detail.head, decoded.tokens)),
        )
    return Encoded(
        model=loaded.spec.name,
        pictures=np.stack([loaded.picture(p) for p in pixels]),
        teacher_cls=features(detail.teacher_head, seen.cls),
        teacher_patches=on_grid(features(detail.teacher_head, seen.patches[:1])),
        students=students,
        teacher_prototypes=detail.teacher_head.directions().cpu().numpy(),
        student_prototypes=detail.head.directions().cpu().numpy(),
        center_cls=detail.center_cls.cpu().numpy(),
        center_patch=detail.center_patch.cpu().numpy(),
        class_temperature=detail.settings.teacher_temperature_cls,
    )


# -------------------------------------------------------------------------------------------------- no model from
# here on


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Over the last axis, in nats."""
    return -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(-1)


def cross_entropy(target: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """H(p, q) over the last axis, in nats."""
    return -(target * np.log(np.maximum(guess, 1e-30))).sum(-1)


def query(encoded: Encoded, settings: Settings) -> Result:
    """Distributions and losses for these settings: P_t = softmax((z_t - c) / tau_t), P_s = softmax(z_s / tau_s).

    The class token's teacher temperature moves in proportion to the patches' one.

    Raises:
        UserError: for a keep ratio that was not encoded, or a temperature that is not positive.
    """
    if settings.keep_ratio not in encoded.students:
        raise UserError(
            "The keep ratio must be one of {allowed}, not {value}.",
            allowed=", ".join(map(str, encoded.students)),
            value=settings.keep_ratio,
        )
    for told, value in (
        ("The teacher temperature must be above 0, not {value}.", settings.teacher_temperature),
        ("The student temperature must be above 0, not {value}.", settings.student_temperature),
    ):
        if not 0 < value < math.inf:
            raise UserError(told, value=value)
    student = encoded.students[settings.keep_ratio]
    center_patch, center_cls = (encoded.center_patch, encoded.center_cls) if settings.centering else (0.0, 0.0)
    teacher = softmax(
        (encoded.teacher_patches @ encoded.teacher_prototypes.T - center_patch) / settings.teacher_temperature
    )
    guess = softmax(student.patches @ encoded.student_prototypes.T / settings.student_temperature)
    ce, own = cross_entropy(teacher, guess), entropy(teacher)

    class_temperature = encoded.class_temperature * settings.teacher_temperature / 0.07
    teacher_cls = softmax((encoded.teacher_cls @ encoded.teacher_prototypes.T - center_cls) / class_temperature)
    student_cls = softmax(student.cls @ encoded.student_prototypes.T / settings.student_temperature)
    loss_cls = cross_entropy(teacher_cls, student_cls[::-1]).mean()  # u against v, and v against u
    return Result(
        removed=~student.kept[0],
        teacher=teacher,
        student=guess,
        cross_entropy=ce,
        kl=np.maximum(ce - own, 0),
        teacher_entropy=own,
        mean_entropy=float(entropy(teacher.mean((0, 1)))),
        loss_cls=float(loss_cls),
        cls_pair=(teacher_cls[0], student_cls[1]),
    )


def principal_colours(encoded: Encoded, keep_ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Teacher's and student's patch features (g, g, 3) in [0, 1]: one basis and one scale, so that equal colours mean
    equal features.

    The basis is the teacher's first three principal components; each is turned so that its largest loading is
    positive, because the sign of a component is arbitrary.
    """
    teacher, student = encoded.teacher_patches, encoded.students[keep_ratio].patches
    flat = teacher.reshape(-1, teacher.shape[-1])
    mean = flat.mean(0)
    _, _, basis = np.linalg.svd(flat - mean, full_matrices=False)
    basis = basis[:3] * np.sign(basis[:3][np.arange(3), np.abs(basis[:3]).argmax(1)])[:, None]
    projected = (flat - mean) @ basis.T
    low, high = np.percentile(projected, (2, 98), axis=0)

    def coloured(features: np.ndarray) -> np.ndarray:
        return np.clip(((features - mean) @ basis.T - low) / np.maximum(high - low, 1e-6), 0, 1)

    return coloured(teacher), coloured(student)


def training_log(model: str) -> dict | None:
    """The quantities logged while the model was trained, or None where no log was kept."""
    file = locate(MODELS[model]) / "training_log.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
