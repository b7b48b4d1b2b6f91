"""Pretexts: what a network learns from a task nobody needs, and which of its layers remembers what.

Rotation (Gidaris et al. 2018, https://arxiv.org/abs/1803.07728) asks by which of four angles a picture was turned;
SimCLR asks which two views belong together (section 4.2 of its paper: the layer before the projection is better);
supervision tells the nouns. Every layer is probed afterwards for the noun and for the colour.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines import probes
from pipelines.collapse import losses
from pipelines.collapse.data import SIZE, Baselines, Preparing, accuracy, baselines_once, data, features, preparing
from pipelines.collapse.settings import Pretext
from pipelines.crops import Views, views
from pipelines.errors import UserError
from pipelines.one_core import one_core, side_by_side
from pipelines.projection import Plane
from pipelines.small_nets import PatchCNN, initialised
from pipelines.world import storybook

ANGLES = 4
LAYERS = ("pixels", "stem", "fine", "coarse", "h", "z")
MAPPED, ROTATED = 48, 200  # pictures of the map, and those asked for their angle; each at every angle
TEMPERATURE, WEIGHT_DECAY = 0.2, 1e-4
EVERY = 10  # steps between two looks
GENTLE = Views(area=(0.6, 1.0), hue=0.1, saturation=0.3, brightness=0.2, contrast=0.2, grey=0.0)
OUTPUTS = {"rotation": ANGLES, "simclr": 64, "supervised": len(storybook.NOUNS), "none": 64}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one layer knows: shares of never-seen pictures told right."""

    name: str
    nouns_knn: float
    nouns_ridge: float
    colours_ridge: float  # of things, among 11


@dataclass(frozen=True, kw_only=True)
class Look:
    """What h makes of never-seen pictures, each at every angle."""

    knn: float  # 5-NN by noun, of upright pictures
    knn_angle: float  # 5-NN by angle; chance is 25 %
    points: np.ndarray  # (MAPPED * 4, 2) uint8, principal components, -1 to 1 as 0 to 255
    nouns: np.ndarray  # (MAPPED * 4,) int64, of the points
    angles: np.ndarray  # (MAPPED * 4,) int64, quarter turns
    accuracy_by_noun: np.ndarray | None  # rotation: (24,) share of angles told right; nan where no picture has the noun
    example: np.ndarray | None  # rotation: (4, S, S, 3) uint8, one picture at the four angles
    probabilities: np.ndarray | None  # rotation: (4, 4) float32, of the angles for each of them


@dataclass(frozen=True, kw_only=True)
class Step:
    step: int
    steps: int
    loss: float | None
    task_accuracy: float | None  # share of the batch for which the task was solved; None without a task
    task_chance: float | None
    look: Look | None
    layers: tuple[Layer, ...] | None  # at the first and at the last step


@dataclass(frozen=True, kw_only=True)
class Frame:
    a: Step
    b: Step
    baselines: Baselines
    colours_chance: float  # share of the most frequent colour


class Network(nn.Module):
    """Encoder and a head of two layers for the task."""

    def __init__(self, outputs: int):
        super().__init__()
        self.encoder = PatchCNN()
        hidden = 128
        self.head = nn.Sequential(
            nn.Linear(self.encoder.width, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.encoder(pixels))


def rotated(pixels: Tensor, angles: Tensor) -> Tensor:
    """(B, 3, S, S) turned by (B,) quarter turns, against the clock."""
    return torch.stack(
        [torch.rot90(picture, int(angle), (1, 2)) for picture, angle in zip(pixels, angles, strict=True)]
    )


def layer_features(net: Network, pixels: Tensor) -> dict[str, Tensor]:
    """(N, d) of every layer of LAYERS; maps are averaged over the places of a 2x2 grid."""
    before = net.training
    found: dict[str, list[Tensor]] = {name: [] for name in LAYERS}
    net.eval()
    try:
        with torch.no_grad():
            for part in pixels.split(250):
                stem = net.encoder.stem(2 * part - 1)
                fine = net.encoder.fine(stem)
                coarse = net.encoder.coarse(fine)
                h = coarse.mean((2, 3))
                maps = {"stem": stem, "fine": fine, "coarse": coarse}
                told = {name: F.adaptive_avg_pool2d(x, 2).flatten(1) for name, x in maps.items()}
                for name, x in {**told, "pixels": part.flatten(1), "h": h, "z": net.head(h)}.items():
                    found[name].append(x)
    finally:
        net.train(before)
    return {name: torch.cat(parts) for name, parts in found.items()}


def colours_chance() -> float:
    """Share of the most frequent colour."""
    told = data().query_colours
    counts = told[told >= 0].bincount()
    return float(counts.max() / counts.sum())


def probe_layers(net: Network) -> tuple[Layer, ...]:
    """What every layer knows."""
    known = data()
    of_bank, of_queries = layer_features(net, known.bank), layer_features(net, known.queries)
    things, query_things = known.bank_colours >= 0, known.query_colours >= 0
    found = []
    for name in LAYERS:
        bank, queries = of_bank[name], of_queries[name]
        strength = 10.0 if name == "pixels" else 1.0
        found.append(
            Layer(
                name=name,
                nouns_knn=probes.knn_accuracy(bank, known.bank_nouns, queries, known.query_nouns),
                nouns_ridge=probes.ridge_accuracy(bank, known.bank_nouns, queries, known.query_nouns, strength),
                colours_ridge=probes.ridge_accuracy(
                    bank[things],
                    known.bank_colours[things],
                    queries[query_things],
                    known.query_colours[query_things],
                    strength,
                ),
            )
        )
    return tuple(found)


class Trainer:
    """One network and what it is taught."""

    def __init__(self, settings: Pretext):
        self.settings, self.name = settings, settings.task
        self.net = initialised(Network(OUTPUTS[settings.task]), settings.seed)
        self.net = self.net.to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), settings.learning_rate, weight_decay=WEIGHT_DECAY)
        self.rng = torch.Generator().manual_seed(settings.seed)

    def learn(self) -> tuple[float | None, float | None]:
        """One step: its loss, and the share of its batch for which the task was solved."""
        known, settings = data(), self.settings
        chosen = torch.randperm(len(known.training), generator=self.rng)[: settings.batch]
        pictures, nouns = known.training[chosen], known.training_nouns[chosen]
        if self.name == "none":
            return None, None
        if self.name == "simclr":
            seen = torch.cat([views(pictures, self.rng, size=SIZE) for _ in range(2)])
            out = self.net(self._laid(seen))
            first, second = out.chunk(2)
            loss = losses.nt_xent(first, second, TEMPERATURE)
            one, two = F.normalize(out.detach(), dim=1).chunk(2)
            right = (one @ two.T).argmax(1) == torch.arange(len(one))
        elif self.name == "rotation":
            seen = views(pictures, self.rng, replace(GENTLE, flip=True), SIZE)
            angles = torch.arange(len(seen)) % ANGLES
            out = self.net(self._laid(rotated(seen, angles)))
            loss, right = F.cross_entropy(out, angles), out.argmax(1) == angles
        else:
            out = self.net(self._laid(views(pictures, self.rng, size=SIZE)))
            loss, right = F.cross_entropy(out, nouns), out.argmax(1) == nouns
        if not torch.isfinite(loss):
            raise UserError(
                "The loss is no number any more. Choose a smaller learning rate than {rate}.",
                rate=settings.learning_rate,
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item(), float(right.double().mean())

    @staticmethod
    def _laid(pixels: Tensor) -> Tensor:
        return pixels.contiguous(memory_format=torch.channels_last)

    @property
    def chance(self) -> float | None:
        batch = self.settings.batch
        chances = {"rotation": 1 / ANGLES, "simclr": 1 / batch, "supervised": data().chance}
        return chances.get(self.name)


def at_all_angles(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(4N, 3, S, S), picture by picture, and (4N,) their angles."""
    angles = torch.arange(ANGLES).repeat(len(pixels))
    return rotated(pixels.repeat_interleave(ANGLES, 0), angles), angles


def looked(trainer: Trainer, plane: Plane) -> Look:
    """One look at the test pictures."""
    known, net = data(), trainer.net
    mapped, map_angles = at_all_angles(known.queries[:MAPPED])
    queries, angles = at_all_angles(known.queries[:ROTATED])
    h = features(net.encoder, queries)
    half = len(queries) // 2  # the second half is looked up among the first
    accuracy_by_noun = example = probabilities = None
    if trainer.name == "rotation":
        says = features(net, queries).softmax(1)
        right = (says.argmax(1) == angles).double().view(-1, ANGLES).mean(1)
        nouns = known.query_nouns[:ROTATED]
        accuracy_by_noun = np.array([float(right[nouns == noun].mean()) for noun in range(len(storybook.NOUNS))])
        example = queries[:ANGLES].permute(0, 2, 3, 1).mul(255).round().to(torch.uint8).numpy()
        probabilities = says[:ANGLES].numpy()
    return Look(
        knn=accuracy(net.encoder),
        knn_angle=probes.knn_accuracy(h[:half], angles[:half], h[half:], angles[half:]),
        points=plane.points(features(net.encoder, mapped)),
        nouns=known.query_nouns[:MAPPED].repeat_interleave(ANGLES).numpy(),
        angles=map_angles.numpy(),
        accuracy_by_noun=accuracy_by_noun,
        example=example,
        probabilities=probabilities,
    )


def train(settings: Pretext) -> Iterator[Step]:
    """One task, from before its first step to its last."""
    trainer, plane = Trainer(settings), Plane()
    loss = task_accuracy = None
    for step in range(settings.steps + 1):
        if step:
            loss, task_accuracy = trainer.learn()
        last = step == settings.steps
        yield Step(
            step=step,
            steps=settings.steps,
            loss=loss,
            task_accuracy=task_accuracy,
            task_chance=trainer.chance,
            look=looked(trainer, plane) if last or step % EVERY == 0 else None,
            layers=probe_layers(trainer.net) if last or not step else None,
        )


def run(settings: Pretext) -> Iterator[Preparing | Frame]:
    """Draw what is not drawn yet, then the task and the one beside it, on one clock."""
    yield from preparing()
    (known,) = one_core(baselines_once)(settings.seed)
    beside = replace(settings, task=settings.beside)
    for a, b in side_by_side(lambda: train(settings), lambda: train(beside)):
        yield Frame(a=a, b=b, baselines=known, colours_chance=colours_chance())
