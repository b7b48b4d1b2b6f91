"""Scrambled parts: who still names a picture whose pieces changed places, and which task needs the order.

A bag of patches, and attention without positions, cannot notice: pieces that are multiples of their patch may stand
anywhere, exactly (Brendel and Bethge 2019, https://arxiv.org/abs/1904.00760; Naseer et al. 2021,
https://arxiv.org/abs/2105.10497, section 3.3, shuffle the patches of transformers). Convolutions that overlap can. To
name a thing its parts are often enough; to say which of two things is on the left they never are.
"""

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines import crops
from pipelines.cues.namers import in_range, namer, speaks_for, square
from pipelines.cues.pieces import order_of, rearranged, shuffled
from pipelines.cues.settings import GRIDS, NAMERS, PiecesSettings, ScrambleSettings
from pipelines.cues.small import SIZE, Batch, accuracy, naming, teach
from pipelines.cues.verdicts import of_scramble
from pipelines.one_core import one_core, side_by_side
from pipelines.world import storybook

TRAINING, QUERIES = storybook.TRAIN[:2048], storybook.TEST[:300]
TRIED = (1, 2, 4, 8, 16)  # grids at the end of a run
EVERY = 15  # steps between two looks
PAIR = ("cat", "car")  # of the relation
SHOWN = 6
HOW = {  # views: of a relation nothing may be mirrored or cut away
    "naming": crops.Views(area=(0.7, 1.0), hue=0.0, saturation=0.2, brightness=0.2, contrast=0.2, grey=0.0),
    "relation": crops.Views(
        area=(1.0, 1.0), flip=False, hue=0.0, saturation=0.2, brightness=0.2, contrast=0.2, grey=0.0
    ),
}


# ------------------------------------------------------------------------------------------------ one picture, at once


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model calls a picture, whole and in pieces."""

    model: str
    whole: str
    whole_probability: float
    pieces: str
    pieces_probability: float
    maps: np.ndarray | None  # (2, h, w) what speaks for the name of the whole and of the pieces; None without a map

    @property
    def kept(self) -> bool:
        return self.whole == self.pieces


@dataclass(frozen=True, kw_only=True)
class Pieces:
    picture: np.ndarray  # (S, S, 3) uint8, whole
    scrambled: np.ndarray  # (S, S, 3) uint8
    answers: tuple[Answer, ...]  # of every bundled model that names
    seconds: float


def movable(mask: np.ndarray, grid: int) -> Tensor:
    """(grid * grid,) bool: the pieces in which a mask (H, W) has a pixel."""
    small = Image.fromarray(mask.astype(np.float32)).resize((grid, grid), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small) > 0).flatten()


def _as_pictures(pixels: Tensor) -> np.ndarray:
    """(B, 3, S, S) in [0, 1] to (B, S, S, 3) uint8."""
    return (pixels.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


def look(settings: PiecesSettings, picture: Image.Image, mask: np.ndarray | None = None) -> Pieces:
    """A picture and its pieces, named by every bundled model that can; all move the same pieces.

    Args:
        mask: (H, W) bool, where the thing is, in the middle square of the picture; without it all pieces may move.

    Raises:
        ModelUnavailable: when a model's files cannot be had.
    """
    start, grid = time.perf_counter(), settings.grid
    free = None if mask is None or settings.background else movable(mask, grid)
    order = order_of(grid, settings.how, torch.Generator().manual_seed(settings.seed), free)
    answers, shown = [], None
    for model in NAMERS:
        who = namer(model)
        whole = in_range(square(picture, who.size)[None])
        both = torch.cat([whole, rearranged(whole, order, grid)])
        shown = both if shown is None or both.shape[-1] > shown.shape[-1] else shown
        top = who.probabilities(both).max(1)
        names = [who.names[i] for i in top.indices.tolist()]
        answers.append(
            Answer(
                model=model,
                whole=names[0],
                whole_probability=float(top.values[0]),
                pieces=names[1],
                pieces_probability=float(top.values[1]),
                maps=speaks_for(model, _as_pictures(both), names),
            )
        )
    assert shown is not None
    first, second = _as_pictures(shown)
    return Pieces(picture=first, scrambled=second, answers=tuple(answers), seconds=time.perf_counter() - start)


def curve(model: str, pictures: list[Image.Image], seed: int = 42) -> Iterator[tuple[int, float]]:
    """Pieces along a side, and the share of pictures that keep the name they have whole."""
    who, rng = namer(model), torch.Generator().manual_seed(seed)
    whole = in_range(np.stack([square(picture, who.size) for picture in pictures]))
    before = who.told(whole)
    for grid in GRIDS:
        after = who.told(rearranged(whole, shuffled(len(whole), grid, rng), grid)) if grid > 1 else before
        yield grid, float((after == before).double().mean())


# ----------------------------------------------------------------------------------------------------- two in training


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """Pictures are being drawn, once per process."""

    done: int
    of: int
    pictures: np.ndarray  # (n, S, S, 3) uint8, the last ones


@dataclass(frozen=True, kw_only=True)
class Step:
    """One network after some steps. Shares are of never-seen pictures."""

    step: int
    steps: int
    loss: float | None  # nats; None before the first
    whole: float | None  # share right; None where nobody looked
    scrambled: float | None  # in the chosen pieces
    by_grid: dict[int, float] | None  # by pieces along a side, at the last step


@dataclass(frozen=True, kw_only=True)
class Frame:
    a: Step
    b: Step
    chance: float
    queries: int
    examples: np.ndarray  # (SHOWN, 2, S, S, 3) uint8: whole and scrambled
    seconds: float


def relation(seed: int) -> tuple[np.ndarray, int]:
    """A cat and a car side by side, (SIZE, SIZE, 3) uint8, and whether the cat is on the left."""
    rng = np.random.default_rng((crops.SALT, seed))
    left = int(rng.integers(2))
    colour = str(rng.choice(list(storybook.COLOURS)))
    places = [(x + rng.uniform(-0.05, 0.05), rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.45)) for x in (0.27, 0.73)]
    scene = storybook.compose(
        [(PAIR[0], None), (PAIR[1], colour)],
        places if left else places[::-1],
        str(rng.choice(list(storybook.PLACES))),
        seed=seed,
    )
    return np.asarray(Image.fromarray(scene.picture).resize((SIZE, SIZE), Image.Resampling.BILINEAR)), left


@functools.lru_cache(maxsize=64)
def _relations(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    pictures, left = zip(*map(relation, seeds), strict=True)
    return np.stack(pictures), np.array(left)


def drawn(task: str, seeds: range) -> Iterator[Preparing | Batch]:
    """The pictures of a task, part by part, then all of them with their names."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    done = 0
    for first in range(0, len(seeds), crops.PART):
        part = seeds[first : first + crops.PART]
        if task == "naming":
            pool = crops.pool(part, SIZE)
            found.append((pool.pictures, pool.nouns))
        else:
            found.append(_relations(part))
        done += len(part)
        yield Preparing(done=done, of=len(seeds), pictures=found[-1][0])
    pictures, names = (np.concatenate(each) for each in zip(*found, strict=True))
    yield Batch(pixels=in_range(pictures), names=torch.from_numpy(names))


def film(settings: ScrambleSettings, network: str, training: Batch, queries: Batch) -> Iterator[Step]:
    """One network, from before its first step to its last. Closing it ends the training."""
    names = 2 if settings.task == "relation" else len(storybook.NOUNS)
    net = naming(network, names, settings.seed)
    rng = torch.Generator().manual_seed(settings.seed)
    # The same for both networks, at every look.
    places = torch.Generator().manual_seed(settings.seed + 1)
    moved = {g: rearranged(queries.pixels, shuffled(len(queries.names), g, places), g) for g in TRIED if g > 1}
    moved[1] = queries.pixels

    def batch() -> Batch:
        chosen = torch.randint(len(training.names), (settings.batch,), generator=rng)
        return Batch(pixels=crops.views(training.pixels[chosen], rng, HOW[settings.task]), names=training.names[chosen])

    for step, loss in enumerate(teach(net, batch, settings.steps, settings.rate)):
        last = step == settings.steps
        seen = {g: accuracy(net, moved[g], queries.names) for g in TRIED} if last else {}
        if not last and step % EVERY == 0:
            seen = {g: accuracy(net, moved[g], queries.names) for g in (1, settings.grid)}
        yield Step(
            step=step,
            steps=settings.steps,
            loss=loss,
            whole=seen.get(1),
            scrambled=seen.get(settings.grid),
            by_grid=seen if last else None,
        )


def run(settings: ScrambleSettings) -> Iterator[Preparing | Frame]:
    """Draw what is not drawn yet, then train both networks side by side on the same batches."""
    start = time.perf_counter()
    found = []
    for seeds in (TRAINING, QUERIES):
        for each in one_core(drawn)(settings.task, seeds):
            if isinstance(each, Preparing):
                yield each
            else:
                found.append(each)
    training, queries = found
    first = queries.pixels[:SHOWN]
    places = shuffled(len(first), settings.grid, torch.Generator().manual_seed(settings.seed))
    examples = np.stack([_as_pictures(each) for each in (first, rearranged(first, places, settings.grid))], 1)
    chance = float(torch.bincount(queries.names).max() / len(queries.names))
    films = [functools.partial(film, settings, network, training, queries) for network in (settings.a, settings.b)]
    for a, b in side_by_side(*films):
        yield Frame(
            a=a,
            b=b,
            chance=chance,
            queries=len(queries.names),
            examples=examples,
            seconds=time.perf_counter() - start,
        )


def numbers(settings: ScrambleSettings, found: Frame, guess: str | None = None) -> dict:
    """The JSON of the endpoint, of the last frame. The baseline is the commonest name, said of everything."""

    def told(step: Step) -> dict:
        by_grid = {str(grid): share for grid, share in (step.by_grid or {}).items()}
        return {"loss": step.loss, "whole": step.whole, "scrambled": step.scrambled, "by_grid": by_grid}

    return {
        "seed": settings.seed,
        "steps": found.a.step,
        "seconds": round(found.seconds, 3),
        "task": settings.task,
        "grid": settings.grid,
        "a": {"network": settings.a, **told(found.a)},
        "b": {"network": settings.b, **told(found.b)},
        "baseline": {"chance": found.chance},
        "verdict": of_scramble(found, guess).record(),
    }
