"""An image made out of CLIP's opinion: follow the gradient of a discriminative model until it is convinced.

The loop is that of VQGAN-CLIP (Crowson et al. 2022, https://arxiv.org/abs/2204.08583): draw the canvas, cut views
out of it, compare them with the prompts, take a step. What the picture is written in is a `Canvas`; what CLIP is shown
of it is up to `views_of`; what it says is checked by another CLIP that nobody optimised.
"""

import functools
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from pipelines.clip_synthesis.parametrizations import CANVASES, Canvas
from pipelines.clip_synthesis.settings import MOST_CHARACTERS, Settings
from pipelines.clip_synthesis.steps import Look, Reference, Step
from pipelines.errors import UserError, require_finite
from pipelines.models.encoders import Model
from pipelines.models.loading import load
from pipelines.phrases import distinct, same
from pipelines.world import storybook

MOST_PROMPTS, MOST_WEIGHT = 8, 100.0
DISTRACTORS = 99  # captions of other scenes the prompt is ranked among
ADVICE = "Choose a lower learning rate or other weights."  # where numbers are no numbers any more
EVERY = 5  # iterations between two looks
SHOWN = 16  # views kept for a look
OVERVIEW, INNER = (0.75, 1.0), (0.35, 0.6)  # sides of the two kinds of view, as shares of the picture's
EARLY = 0.4  # share of the run in which most views are overviews; Disco Diffusion's schedule


@dataclass(frozen=True, kw_only=True)
class Term:
    """One prompt and how much it counts; a negative weight pushes away from it."""

    weight: float
    text: str = ""
    image: Image.Image | None = None


# ---------------------------------------------------------------------------------------------------------- prompts


def parse(text: str) -> list[Term]:
    """Prompts with weights: "a cat:1 | a dog:-0.3".

    Raises:
        UserError: for nothing, too much, weights that are no numbers or too large, or only negative prompts.
    """
    if not isinstance(text, str) or not text.strip(" |"):
        raise UserError("There is no prompt yet. Type what the picture should show, such as: a cat")
    if len(text) > MOST_CHARACTERS:
        raise UserError(
            "The prompt has {length} characters; at most {most} are read. Shorten it.",
            length=f"{len(text):,}",
            most=f"{MOST_CHARACTERS:,}",
        )
    terms = []
    for part in filter(None, (piece.strip() for piece in text.split("|"))):
        name, colon, number = part.rpartition(":")
        weight = 1.0
        if colon:
            if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", number, re.I):
                raise UserError(
                    "{number} is no weight. Write a number after the colon: a cat:1", number=repr(number.strip()[:40])
                )
            weight = float(number)
        if not name.strip() and colon:
            raise UserError(
                "There is a weight without a prompt: {part}. Write: a cat:{number}",
                part=repr(part[:40]),
                number=number.strip()[:20],
            )
        if not abs(weight) <= MOST_WEIGHT or weight == 0:
            raise UserError(
                "Weights are from -{most} to {most} and not 0; {part} is not.",
                most=f"{MOST_WEIGHT:g}",
                part=repr(part[:60]),
            )
        terms.append(Term(weight=weight, text=(name if colon else part).strip()))
    if len(terms) > MOST_PROMPTS:
        raise UserError(
            "At most {most} prompts are followed at once, not {count}.", most=MOST_PROMPTS, count=len(terms)
        )
    if all(term.weight < 0 for term in terms):
        raise UserError("All prompts are negative: there is nothing to come close to. Give one a positive weight.")
    return terms


def main_prompt(terms: Sequence[Term]) -> str:
    """The one that is measured: with the largest weight."""
    return max(terms, key=lambda term: term.weight).text


# ------------------------------------------------------------------------------------------------------------ views


def corners_of(count: int, progress: float, rng: torch.Generator) -> Tensor:
    """(N, 3, 3) maps from a view's coordinates to the picture's, both -1 to 1: where it lies, how large it is, whether
    it is mirrored, turned and tilted.

    Three quarters are overviews until EARLY of the run, then one quarter; the others are inner parts.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=rng)

    overview = torch.arange(count) < round(count * (0.75 if progress < EARLY else 0.25))
    side = torch.where(overview, uniform(*OVERVIEW), uniform(*INNER))
    angle, mirrored = uniform(-0.26, 0.26), torch.where(torch.rand(count, generator=rng) < 0.5, -1.0, 1.0)
    centre = uniform(-1, 1, 2) * (1 - side)[:, None]
    maps = torch.zeros(count, 3, 3)
    maps[:, 0, 0], maps[:, 0, 1] = mirrored * side * angle.cos(), -side * angle.sin()
    maps[:, 1, 0], maps[:, 1, 1] = mirrored * side * angle.sin(), side * angle.cos()
    maps[:, :2, 2] = centre
    maps[:, 2, :2], maps[:, 2, 2] = uniform(-0.1, 0.1, 2), 1.0
    return maps


def views_of(picture: Tensor, count: int, size: int, progress: float, noise: float, rng: torch.Generator) -> Tensor:
    """(1, 3, S, S) in [0, 1] -> (N, 3, size, size): cut, mirrored, turned, tilted, recoloured, noisy."""
    line = (2 * torch.arange(size) + 1) / size - 1  # centres of pixels
    grid = torch.stack([line.expand(size, size), line[:, None].expand(size, size), torch.ones(size, size)], dim=-1)
    maps = corners_of(count, progress, rng)
    places = torch.einsum("nij,hwj->nhwi", maps, grid)
    places = (places[..., :2] / places[..., 2:]).to(picture)
    cut = F.grid_sample(picture.expand(count, -1, -1, -1), places, padding_mode="reflection", align_corners=False)

    def jitter(spread: float, channels: int) -> Tensor:
        return (1 + spread * (2 * torch.rand(count, channels, 1, 1, generator=rng) - 1)).to(picture)

    cut = cut * jitter(0.1, 1) * jitter(0.05, 3)
    if noise:
        level = noise * torch.rand(count, 1, 1, 1, generator=rng)
        cut = cut + (level * torch.randn(cut.shape, generator=rng)).to(picture)
    return cut


# ----------------------------------------------------------------------------------------------------------- losses


def spherical(features: Tensor, target: Tensor) -> Tensor:
    """(N, E) and (E), unit length -> (N) squared great-circle distance, 2 asin(|a - b| / 2)^2; Crowson et al. 2022."""
    return 2 * ((features - target).norm(dim=-1) / 2).clamp(max=1 - 1e-6).asin().square()


def total_variation(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbours."""
    return picture.diff(dim=-1).square().mean() + picture.diff(dim=-2).square().mean()


def greyness(picture: Tensor) -> Tensor:
    """Minus the mean distance of the colours from grey: less is more colourful."""
    return -(picture - picture.mean(1, keepdim=True)).abs().mean()


def features_of(model: Model, pictures: Tensor) -> Tensor:
    """(N, 3, s, s) in [0, 1] -> (N, E) of unit length, with gradient."""
    mean, deviation = (torch.tensor(x, device=pictures.device)[:, None, None] for x in (model.mean, model.deviation))
    resized = pictures
    if pictures.shape[-1] != model.size:
        resized = F.interpolate(pictures, (model.size, model.size), mode="bicubic", antialias=True).clamp(0, 1)
    return model.module.encode_image((resized - mean) / deviation, normalize=True).float()


def pixels_of(picture: Image.Image, side: int) -> Tensor:
    """The middle square as (1, 3, side, side) in [0, 1]."""
    square = min(picture.size)
    left, top = (picture.width - square) // 2, (picture.height - square) // 2
    box = (left, top, left + square, top + square)
    resized = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS, box=box)
    return torch.from_numpy(np.asarray(resized, np.float32) / 255).permute(2, 0, 1)[None]


def to_image(picture: Tensor) -> Image.Image:
    array = (picture[0].detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array)


# ------------------------------------------------------------------------------------------------------------- run


def run(settings: Settings) -> Iterator[Step]:
    """Follow the gradient, yielding every iteration; leave the loop to stop.

    Raises:
        UserError: for prompts or settings that cannot be followed; nothing has been computed then.
        NotFinite: in the iteration whose loss or gradient holds NaN or infinity.
    """
    terms = parse(settings.prompt)
    if settings.parametrization not in CANVASES:
        raise UserError(
            "The picture can be written in {allowed}, not {value}.",
            allowed=", ".join(CANVASES),
            value=repr(settings.parametrization),
        )
    if settings.steps < 1 or settings.cutouts < 1:
        raise UserError("There must be at least one step and one view.")
    model, judge = load(settings.model), load(settings.judge)
    texts, weights = [term.text for term in terms], [term.weight for term in terms]
    targets = model.text_features(texts)
    critic = Critic(main_prompt(terms), model, judge)
    rng = torch.Generator().manual_seed(settings.seed)
    start = None if settings.image is None else pixels_of(settings.image, model.size)
    options = {"autoencoder": settings.autoencoder} if settings.parametrization == "latent" else {}
    canvas: Canvas = CANVASES[settings.parametrization](model.size, rng, start, **options).to(model.device)
    if settings.wanted is not None:
        with torch.no_grad():
            example = features_of(model, pixels_of(settings.wanted, model.size).to(model.device))
        targets, weights = torch.cat([targets, example]), [*weights, settings.wanted_weight]
        texts.append("the example")
    *names, variation, saturation = distinct([*texts, "total variation", "saturation"])  # of two prompts alike, too
    rate = settings.rate or canvas.rate
    optimizer = torch.optim.Adam(canvas.parameters(), lr=rate, betas=(0.9, 0.99))
    begin, spent = time.perf_counter(), 0.0

    for iteration in range(settings.steps):
        now = time.perf_counter()
        progress = iteration / settings.steps
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, 2 * (1 - progress) + 0.1)  # falls in the second half
        picture = canvas()
        if settings.augment:
            views = views_of(picture, settings.cutouts, model.size, progress, settings.noise, rng)
        else:
            views = picture
        features = features_of(model, views)
        parts = {
            name: weight * spherical(features, target).mean()
            for name, weight, target in zip(names, weights, targets, strict=True)
        }
        if settings.variation:
            parts[variation] = settings.variation * total_variation(picture)
        if settings.saturation:
            parts[saturation] = settings.saturation * greyness(picture)
        loss = sum(parts.values(), torch.zeros(()))
        require_finite(f"the loss of iteration {iteration + 1}", ADVICE, loss)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [each.grad for each in canvas.parameters() if each.grad is not None]
        require_finite(f"the gradient of iteration {iteration + 1}", ADVICE, *gradients)
        optimizer.step()
        spent += time.perf_counter() - now
        done, look = iteration + 1, None
        if done == 1 or done % EVERY == 0 or done == settings.steps:
            look = critic.look(canvas, views.detach())
        told = {name: float(part.detach()) for name, part in parts.items()}
        yield Step(
            iteration=done,
            steps=settings.steps,
            loss=float(loss.detach()),
            parts=told,
            seconds=time.perf_counter() - begin,
            per_second=done / spent,
            look=look,
        )


# --------------------------------------------------------------------------------------------------------- measures


@functools.lru_cache(maxsize=8)
def captions(seed: int = 0) -> tuple[str, ...]:
    """Captions of never-seen scenes, all different, that a prompt is ranked among."""
    found: dict[str, None] = {}
    number = seed * 10_000
    while len(found) <= DISTRACTORS:  # one more, for the prompt may be among them
        scene = storybook.scene(storybook.TEST[number])
        found.setdefault(storybook.caption_of([o.phrase for o in scene.objects]))
        number += 1
    return tuple(found)


def blurred(picture: Tensor, sigma: float = 1.0) -> Tensor:
    """Gaussian blur of `sigma` pixels."""
    side = 2 * math.ceil(3 * sigma) + 1
    return gaussian_blur(picture, [side, side], [sigma, sigma])


def high_frequency_share(picture: Tensor) -> float:
    """Share of the energy, without the mean, in waves shorter than four pixels."""
    power = torch.fft.fft2(picture - picture.mean((2, 3), keepdim=True)).abs().square().sum((0, 1))
    side = picture.shape[-1]
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side)[None]
    high = (rows.square() + columns.square()).sqrt() > 0.25
    return float(power[high.to(power.device)].sum() / power.sum().clamp(min=1e-12))


class Critic:
    """Judges pictures of one prompt, by the model that is followed and by the one that is not."""

    def __init__(self, prompt: str, model: Model, judge: Model):
        self.model, self.judge = model, judge
        self.texts = [prompt, *[caption for caption in captions() if not same(caption, prompt)][:DISTRACTORS]]
        self.wanted, self.known = model.text_features([prompt])[0], judge.text_features(self.texts)

    @torch.no_grad()
    def look(self, canvas: Callable[[], Tensor], views: Tensor) -> Look:
        """Everything that is known of the picture on the canvas; `views` is (N, 3, s, s)."""
        picture = canvas()
        before, after = (features_of(self.model, torch.cat([picture, blurred(picture)])) @ self.wanted).tolist()
        found = self.known @ features_of(self.judge, picture)[0]
        order = found.argsort(descending=True, stable=True).tolist()
        return Look(
            picture=to_image(picture),
            views=(views[:SHOWN].clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy(),
            similarity=before,
            similarity_held_out=float(found[0]),
            rank_held_out=1 + int((found[1:] > found[0]).sum()),
            captions=tuple(self.texts[n] for n in order[:3]),
            after_blur=after / before if before > 0 else None,
            high_frequency=high_frequency_share(picture),
        )


def reference(prompt: str, model: str, judge: str, count: int = 16) -> Reference | None:
    """Of scenes drawn for this caption; None where the world cannot draw it."""
    try:
        named = re.sub(r"\ba picture of\b", "", prompt, flags=re.I)
        scenes = [storybook.compose_text(named, seed=n) for n in range(count)]
    except UserError:
        return None
    first, second = load(model), load(judge)
    pictures = torch.cat([pixels_of(Image.fromarray(scene.picture), first.size) for scene in scenes])
    found = []
    with torch.no_grad():
        for clip in (first, second):
            similarity = features_of(clip, pictures.to(clip.device)) @ clip.text_features([prompt])[0]
            found.append((float(similarity.mean()), float(similarity.min()), float(similarity.max())))
    share = float(np.mean([high_frequency_share(p[None]) for p in pictures]))
    return Reference(
        count=count,
        example=Image.fromarray(scenes[0].picture),
        similarity=found[0],
        similarity_held_out=found[1],
        high_frequency=share,
    )
