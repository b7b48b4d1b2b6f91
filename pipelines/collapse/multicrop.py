"""Global and local crops, and the arrows between them: who is pulled together, and who is pushed apart.

Scenes with two objects: a local crop often holds one of them alone. LoGo (Zhang et al. 2022,
https://arxiv.org/abs/2203.17205, equations 3 to 6) pulls the global crops of a picture together, local
ones towards global ones, and pushes local ones apart from each other by an affinity that is learned beside it (equation
9). Multi-crop DINO (Caron et al. 2021, https://arxiv.org/abs/2104.14294, equation 3) has the first two arrows alone.
Each arrow is a switch; the fourth, local crops attracted to each other, is what LoGo warns of.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pipelines import crops
from pipelines.collapse import lab, losses
from pipelines.collapse.data import SAMPLES, SHOWN, Baselines, Preparing, accuracy, baselines_once, features
from pipelines.collapse.data import preparing as preparing_crops
from pipelines.collapse.settings import Lab, MultiCrop
from pipelines.crops import Views
from pipelines.errors import UserError
from pipelines.one_core import one_core, side_by_side
from pipelines.projection import Plane
from pipelines.small_nets import initialised
from pipelines.world import storybook

SCENE_SIZE, GLOBAL_SIZE, LOCAL_SIZE = 64, 32, 16  # pixels: the scene, and what its crops are resized to
GLOBALS, LOCALS = 2, 4  # crops of a picture
TRAINING, QUERIES = storybook.TRAIN[10_000:11_024], storybook.TEST[10_000:10_256]
EVALUATED = 8  # local crops of a picture that are looked at
HOLDS, FREE = 0.25, 0.03  # share of a crop's pixels an object must have, and the other one may have
MAPPED = 12  # scenes of the map
TEMPERATURE, AFFINITY_RATE = 0.2, 2e-3
EVERY = 10  # steps between two looks
ARROWS = ("global_global", "local_global", "attract", "repel")


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Mean over pairs of crops, and how sure it is."""

    mean: float
    error: float  # standard, over scenes


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the network makes of crops of never-seen scenes."""

    different: Cosine  # local crops on the two objects of a scene
    same: Cosine  # local crops on one object
    local_global: Cosine  # local crops and the whole scene
    unrelated: Cosine  # local crops on objects of different scenes, with different nouns
    affinity_same: float  # mean of the affinity net, two local crops of one picture
    affinity_other: float  # of two pictures
    knn: float  # 5-NN by noun of h, of crops with one object
    points: np.ndarray  # (MAPPED * (EVALUATED + 1), 2) uint8: of each scene its local crops, then the whole; see Plane


@dataclass(frozen=True, kw_only=True)
class Example:
    """One scene and its crops, for the picture with arrows."""

    picture: np.ndarray  # (SCENE_SIZE, SCENE_SIZE, 3) uint8
    boxes: np.ndarray  # (GLOBALS + LOCALS, 4) float32, x0 y0 x1 y1 in pixels; global ones first
    pulls: np.ndarray  # (crops, crops) float32: how far the step moves crop i towards j; below 0: away. Diagonal 0


@dataclass(frozen=True, kw_only=True)
class Step:
    step: int
    steps: int
    losses: dict[str, float] | None  # of every arrow, also of those that are off
    on: tuple[str, ...]
    look: Look | None
    example: Example | None


@dataclass(frozen=True, kw_only=True)
class Frame:
    a: Step
    b: Step
    baselines: Baselines


@dataclass(frozen=True, kw_only=True)
class Scenes:
    pixels: Tensor  # (N, 3, SCENE_SIZE, SCENE_SIZE)
    masks: Tensor  # (N, 2, SCENE_SIZE, SCENE_SIZE) float32, share of a pixel that is the object's
    nouns: Tensor  # (N, 2)


@functools.lru_cache(maxsize=128)
def _part(seeds: range) -> Scenes:
    pictures, masks, nouns = [], [], []
    for seed in seeds:
        scene = storybook.scene(seed, 2)
        resized = Image.fromarray(scene.picture).resize((SCENE_SIZE, SCENE_SIZE), Image.Resampling.BOX)
        pictures.append(np.asarray(resized))
        masks.append([o.mask.reshape(SCENE_SIZE, 2, SCENE_SIZE, 2).mean((1, 3)) for o in scene.objects])
        nouns.append([storybook.NOUNS.index(o.noun) for o in scene.objects])
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return Scenes(pixels=pixels, masks=torch.from_numpy(np.array(masks, np.float32)), nouns=torch.tensor(nouns))


def samples() -> np.ndarray:
    """(SAMPLES, SCENE_SIZE, SCENE_SIZE, 3) uint8: the first scenes that are learned from."""
    pixels = _part(TRAINING[:SAMPLES]).pixels
    return (pixels.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


def _parts(seeds: range) -> Iterator[Scenes]:
    for first in range(0, len(seeds), crops.PART):
        yield _part(seeds[first : first + crops.PART])


@functools.lru_cache(maxsize=2)
def scenes(seeds: range) -> Scenes:
    """Two objects each, drawn once per process."""
    parts = list(_parts(seeds))
    names = ("pixels", "masks", "nouns")
    return Scenes(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def boxes_of(maps: Tensor) -> Tensor:
    """(B, 4) x0 y0 x1 y1 in pixels of a scene, of the (B, 2, 3) maps of `crops.frames`."""
    half, middle = torch.stack([maps[:, 0, 0].abs(), maps[:, 1, 1].abs()], 1), maps[:, :, 2]
    return (torch.cat([middle - half, middle + half], 1) + 1) * SCENE_SIZE / 2


def object_held(masks: Tensor, maps: Tensor) -> Tensor:
    """(B,) which of two objects a crop holds alone: 0 or 1; -1 for none or both.

    Args:
        masks: (B, 2, SCENE_SIZE, SCENE_SIZE), of the two objects.
        maps: (B, 2, 3), of the crops.
    """
    shares = crops.cut(masks, maps, LOCAL_SIZE).mean((2, 3))
    alone = (shares > HOLDS) & (shares.flip(1) < FREE)
    return torch.where(alone[:, 0], 0, torch.where(alone[:, 1], 1, -1))


class Affinity(nn.Module):
    """How surely two local crops are of one picture: a logit, the same for (u, v) and (v, u)."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * width, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        u, v = F.normalize(u, dim=-1), F.normalize(v, dim=-1)
        scale = u.shape[-1] ** 0.5  # entries of unit vectors are small
        return self.layers(torch.cat([u * v * scale, (u - v).abs()], -1) * scale).squeeze(-1)


def affinity_loss(affinity: Affinity, local: Tensor) -> Tensor:
    """The affinity net's own loss: pairs of one picture against pairs of two. `local` is (LOCALS, B, d)."""
    same = torch.cat([affinity(local[i], local[i + 1]) for i in range(0, len(local), 2)])
    other = torch.cat([affinity(local[i], local[i + 1].roll(1, 0)) for i in range(0, len(local), 2)])
    return F.softplus(-same).mean() + F.softplus(other).mean()


def arrow_losses(global_crops: Tensor, local: Tensor, affinity: Affinity, temperature: float) -> dict[str, Tensor]:
    """Every arrow's loss.

    Args:
        global_crops: (GLOBALS, B, d) projections.
        local: (LOCALS, B, d).
    """
    keys, queries = F.normalize(global_crops, dim=2).detach(), F.normalize(local, dim=2)
    own = torch.arange(global_crops.shape[1])
    towards = [F.cross_entropy(query @ key.T / temperature, own) for query in queries for key in keys]
    pairs = [(local[i], local[i + 1]) for i in range(0, len(local), 2)]
    return {
        "global_global": losses.nt_xent(global_crops[0], global_crops[1], temperature),
        "local_global": torch.stack(towards).mean(),
        "attract": torch.stack([losses.nt_xent(u, v, temperature) for u, v in pairs]).mean(),
        "repel": torch.stack([F.softplus(affinity(u, v)).mean() for u, v in pairs]).mean(),
    }


def arrows_on(settings: MultiCrop) -> dict[str, float]:
    """The arrows that count, and how much."""
    wanted = {
        "global_global": float(settings.global_global),
        "local_global": float(settings.local_global),
        "attract": float(settings.local_local == "attract"),
        "repel": settings.strength if settings.local_local == "repel" else 0.0,
    }
    return {name: weight for name, weight in wanted.items() if weight}


def total(found: dict[str, Tensor], on: dict[str, float]) -> Tensor:
    """What is followed. An arrow that is off takes no part: its gradient is 0 exactly."""
    return torch.stack([weight * found[name] for name, weight in on.items()]).sum()


class Trainer:
    """One network, its affinity net, and the crops it sees."""

    def __init__(self, settings: MultiCrop):
        self.settings, self.on = settings, arrows_on(settings)
        if not self.on:
            raise UserError("All arrows are off: there is nothing to learn. Switch one on.")
        if settings.local_least > settings.local_most:
            raise UserError(
                "The smallest local crop, {least}, must not be larger than the largest, {most}.",
                least=f"{settings.local_least:g}",
                most=f"{settings.local_most:g}",
            )
        start = Lab(start=settings.start, negatives=True, seed=settings.seed)
        self.net = lab.network(start)
        self.affinity = initialised(Affinity(lab.PROJECTION), settings.seed + 1)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), settings.learning_rate, weight_decay=lab.WEIGHT_DECAY)
        self.own_optimizer = torch.optim.AdamW(self.affinity.parameters(), AFFINITY_RATE)
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.global_views = Views(area=(0.4, 1.0))
        self.local_views = Views(area=(settings.local_least, settings.local_most))

    def cut(self, pixels: Tensor, how: Views, size: int) -> tuple[Tensor, Tensor]:
        draws = torch.rand(len(pixels), crops.DRAWS, generator=self.rng)
        maps = crops.frames(draws[:, :5], how)
        return crops.recolour(crops.cut(pixels, maps, size), draws[:, 5:], how), maps

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures, global crops, local crops, and the maps of the first picture's crops."""
        pixels = scenes(TRAINING).pixels
        chosen = pixels[torch.randperm(len(pixels), generator=self.rng)[: self.settings.batch]]
        global_crops = [self.cut(chosen, self.global_views, GLOBAL_SIZE) for _ in range(GLOBALS)]
        local = [self.cut(chosen, self.local_views, LOCAL_SIZE) for _ in range(LOCALS)]
        maps = torch.stack([maps[0] for _, maps in global_crops + local])
        return chosen, torch.cat([x for x, _ in global_crops]), torch.cat([x for x, _ in local]), maps

    def project(self, global_crops: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        laid = torch.channels_last
        one = self.net(global_crops.contiguous(memory_format=laid)).unflatten(0, (GLOBALS, -1))
        return one, self.net(local.contiguous(memory_format=laid)).unflatten(0, (LOCALS, -1))

    def learn(self) -> tuple[dict[str, float], Example]:
        pictures, global_crops, local, maps = self.batch()
        self.net.requires_grad_(True)
        one, two = self.project(global_crops, local)
        self.own_optimizer.zero_grad()
        affinity_loss(self.affinity, two.detach()).backward()
        self.own_optimizer.step()
        one.retain_grad()
        two.retain_grad()
        self.affinity.requires_grad_(False)
        found = arrow_losses(one, two, self.affinity, TEMPERATURE)
        self.affinity.requires_grad_(True)
        loss = total(found, self.on)
        if not torch.isfinite(loss):
            raise UserError(
                "The loss is no number any more. Choose a smaller learning rate than {rate}.",
                rate=self.settings.learning_rate,
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        z = torch.cat([one[:, 0], two[:, 0]]).detach()
        slopes = [x.grad[:, 0] if x.grad is not None else torch.zeros_like(x[:, 0]) for x in (one, two)]
        picture = pictures[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
        example = Example(picture=picture, boxes=boxes_of(maps).numpy(), pulls=pulls(z, torch.cat(slopes)).numpy())
        return {name: float(value.detach()) for name, value in found.items()}, example


def pulls(z: Tensor, slopes: Tensor) -> Tensor:
    """(N, N): how far a step against the gradient moves unit vector i towards j, on the sphere; 0 for itself.

    Args:
        z: (N, d) of any length.
        slopes: (N, d) gradient of the loss by z, which has no part along z.
    """
    unit = F.normalize(z, dim=1)
    way = unit[None] - (unit @ unit.T)[..., None] * unit[:, None]  # from i, the tangent towards j
    way = F.normalize(way, dim=2)
    moved = -(slopes * z.norm(dim=1, keepdim=True))[:, None] * way
    return moved.sum(2) * (1 - torch.eye(len(z)))


def _cosine(values: list[Tensor]) -> Cosine:
    """Of one value per scene that has such pairs."""
    found = torch.stack(values) if values else torch.zeros(1)
    error = float(found.std() / len(found) ** 0.5) if len(found) > 1 else 0.0
    return Cosine(mean=float(found.mean()), error=error)


class Evaluation:
    """Looks at the same crops of never-seen scenes every time."""

    def __init__(self, settings: MultiCrop):
        self.plane, known = Plane(), scenes(QUERIES)
        rng = torch.Generator().manual_seed(0)  # the same crops for all seeds
        how = replace(Views(area=(settings.local_least, settings.local_most)), flip=False)
        draws = torch.rand(len(known.pixels) * EVALUATED, 5, generator=rng)
        maps = crops.frames(draws, how)
        pixels = known.pixels.repeat_interleave(EVALUATED, 0)
        self.local = crops.cut(pixels, maps, LOCAL_SIZE)
        self.object_held = object_held(known.masks.repeat_interleave(EVALUATED, 0), maps).view(-1, EVALUATED)
        self.nouns = known.nouns
        still = torch.eye(2, 3).expand(len(known.pixels), 2, 3)
        self.whole = crops.cut(known.pixels, still, GLOBAL_SIZE)

    def look(self, trainer: Trainer) -> Look:
        local = F.normalize(features(trainer.net, self.local), dim=1).unflatten(0, (-1, EVALUATED))
        whole = F.normalize(features(trainer.net, self.whole), dim=1)
        different: list[Tensor] = []
        same: list[Tensor] = []
        unrelated: list[Tensor] = []
        for scene, (z, on) in enumerate(zip(local, self.object_held, strict=True)):
            cosines = z @ z.T
            pairs = torch.triu(torch.ones(EVALUATED, EVALUATED, dtype=torch.bool), 1)
            both = pairs & (on >= 0)[:, None] & (on >= 0)[None]
            for found, wanted in ((different, on[:, None] != on[None]), (same, on[:, None] == on[None])):
                if (both & wanted).any():
                    found.append(cosines[both & wanted].mean())
            other = (scene + 1) % len(local)
            if not set(self.nouns[scene].tolist()) & set(self.nouns[other].tolist()):
                mine, theirs = on >= 0, self.object_held[other] >= 0
                if mine.any() and theirs.any():
                    unrelated.append((z[mine] @ local[other][theirs].T).mean())
        with torch.no_grad():
            of_one = float(trainer.affinity(local[:, 0], local[:, 1]).mean())
            of_two = float(trainer.affinity(local[:, 0], local[:, 1].roll(1, 0)).mean())
        mapped = torch.cat([local[:MAPPED], whole[:MAPPED, None]], 1).flatten(0, 1)
        return Look(
            different=_cosine(different),
            same=_cosine(same),
            local_global=_cosine(list((local @ whole[..., None]).squeeze(-1).mean(1))),
            unrelated=_cosine(unrelated),
            affinity_same=of_one,
            affinity_other=of_two,
            knn=accuracy(trainer.net.encoder),
            points=self.plane.points(mapped),
        )


def train(settings: MultiCrop) -> Iterator[Step]:
    """One run, from before its first step to its last."""
    trainer, evaluation = Trainer(settings), Evaluation(settings)
    found: dict[str, float] | None = None
    example: Example | None = None
    for step in range(settings.steps + 1):
        if step:
            found, example = trainer.learn()
        measured = step == settings.steps or step % EVERY == 0
        yield Step(
            step=step,
            steps=settings.steps,
            losses=found,
            on=tuple(trainer.on),
            look=evaluation.look(trainer) if measured else None,
            example=example,
        )


def preparing() -> Iterator[Preparing]:
    """Draw what is not drawn yet, a part at a time."""
    yield from preparing_crops()
    if scenes.cache_info().currsize == 2:
        return
    done, of = 0, len(TRAINING) + len(QUERIES)
    for seeds in (QUERIES, TRAINING):
        for part in _parts(seeds):
            done += len(part.pixels)
            pictures = part.pixels[:SHOWN].permute(0, 2, 3, 1).mul(255).round().to(torch.uint8).numpy()
            yield Preparing(done=done, of=of, pictures=pictures)


def run(settings: MultiCrop) -> Iterator[Preparing | Frame]:
    """The arrows as they are set, and beside them the same with another arrow between local crops."""
    yield from preparing()
    (known,) = one_core(baselines_once)(settings.seed)
    beside = replace(settings, local_local=settings.beside)
    for a, b in side_by_side(lambda: train(settings), lambda: train(beside)):
        yield Frame(a=a, b=b, baselines=known)
