"""The lab: SimCLR, BYOL, SimSiam and DINO on one small network, every part a switch, two runs on one clock.

All four pull the two views of a picture together. What differs is what keeps everything from becoming one: other
pictures that push away (SimCLR), a predictor and a target that does not learn (BYOL, SimSiam), a teacher that is
centred and sharpened (DINO). Take it out, and the loss falls to its collapse constant while the features forget.
"""

import copy
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.optim import Lars
from torch import Tensor, nn

from pipelines import probes
from pipelines.collapse import losses
from pipelines.collapse.data import (
    POINTS,
    SIZE,
    Baselines,
    Preparing,
    accuracy,
    baselines_once,
    data,
    features,
    preparing,
)
from pipelines.collapse.settings import PROTOTYPES, Lab, whole
from pipelines.crops import Views, views
from pipelines.errors import UserError
from pipelines.models.registry import BUNDLED
from pipelines.one_core import one_core, side_by_side
from pipelines.projection import Plane
from pipelines.small_nets import PatchCNN, initialised

WARM = BUNDLED / "storybook-collapse-start" / "model.safetensors"
PROJECTION = 64  # of z
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04  # DINO's; a teacher that is not sharpened has 1
CENTRE_MOMENTUM = 0.9
PREDICTOR_RATE = 5.0  # times the learning rate: a predictor that lags behind does not prevent collapse
WEIGHT_DECAY = 1e-4
TRUST = 0.001  # LARS's η
COLLAPSED = 0.1  # feature_std of z below which it is a single point
POINTS_EVERY, KNN_EVERY = 2, 20  # steps between two looks at the points, and between two 5-NN
BINS = np.linspace(-1, 1, 42)  # of the similarities of pairs
PAIRS = 6  # pictures whose views are shown


@dataclass(frozen=True, kw_only=True)
class Look:
    """Pictures of z at one moment: points of the same test pictures every time, pairs of the current batch."""

    points: np.ndarray  # (N, 2) uint8: first two principal components of unit vectors, -1 to 1 as 0 to 255
    angles: np.ndarray  # (N,) uint8: where they lie on a circle, the whole turn as 0 to 255
    singular_values: np.ndarray  # (d,) uint8: as shares of the largest, 0 to 1 as 0 to 255
    positives: np.ndarray  # (41,) uint16: histogram over BINS of the cosines of two views of one picture
    negatives: np.ndarray  # (41,) uint16: the same of views of different pictures
    prototypes: np.ndarray | None  # (K,) uint16: DINO, how many views each prototype got


@dataclass(frozen=True, kw_only=True)
class Step:
    """One run after some steps. What is None belongs to other methods, or was not measured at this step."""

    step: int
    steps: int
    loss: float | None  # of the step; None before the first
    loss_collapsed: float  # the loss when everything is one
    feature_std: float  # std·√d of z: 1 everywhere, 0 a single point
    effective_rank: float  # of z
    cosine_positive: float  # mean, of the two views of a picture
    cosine_negative: float  # of different pictures
    teacher_entropy: float | None  # DINO: mean of the teacher's distributions, nats
    teacher_entropy_of_mean: float | None  # DINO: of their mean; ln K at most
    prototypes_in_use: int | None  # DINO: how many are some view's first
    knn: float | None  # 5-NN of h
    knn_teacher: float | None
    look: Look | None
    views: np.ndarray | None  # (PAIRS, 2, S, S, 3) uint8, of the first batch; at the first step only

    @property
    def at_constant(self) -> bool:
        """Whether the loss has reached the value it takes when everything is one."""
        near = (
            0.02 if self.teacher_entropy is not None else 1e-3
        )  # DINO's, of teachers that are nearly even, is less exact
        return self.loss is not None and abs(self.loss - self.loss_collapsed) < near

    @property
    def collapse(self) -> str:
        """How it has collapsed: "point", all features are one; "few", the teacher uses few prototypes; "even", it says
        that all prototypes are as likely; "" where it has not."""
        if self.feature_std < COLLAPSED:
            return "point"
        if self.teacher_entropy_of_mean is not None and self.teacher_entropy_of_mean < math.log(PROTOTYPES) / 2:
            return "few"
        return "even" if self.teacher_entropy is not None and self.at_constant else ""

    @property
    def collapsed(self) -> bool:
        return bool(self.collapse)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The two runs at the same step; `a` is whole."""

    a: Step
    b: Step
    baselines: Baselines


class Network(nn.Module):
    """Encoder, projector and, where the method has them, a predictor or prototypes."""

    def __init__(self, predictor: bool = False, prototypes: bool = False):
        super().__init__()
        self.encoder = PatchCNN()
        self.projector = _mlp(self.encoder.width, 256, PROJECTION)
        self.predictor = _mlp(PROJECTION, 128, PROJECTION) if predictor else None
        self.prototypes = nn.Linear(PROJECTION, PROTOTYPES, bias=False) if prototypes else None

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, PROJECTION), z."""
        return self.projector(self.encoder(pixels))

    def predict(self, z: Tensor) -> Tensor:
        return self.predictor(z) if self.predictor is not None else z

    def logits(self, z: Tensor) -> Tensor:
        """(B, K) cosines of z and the prototypes."""
        assert self.prototypes is not None
        return F.normalize(z, dim=1) @ F.normalize(self.prototypes.weight, dim=1).T


def _mlp(inside: int, hidden: int, outside: int) -> nn.Sequential:
    """No BatchNorm at its end: with one, z could not become a single point whatever is taken out."""
    return nn.Sequential(
        nn.Linear(inside, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outside)
    )


@functools.lru_cache(maxsize=1)
def _warm() -> dict[str, Tensor]:
    return {name: value.float() for name, value in load_file(WARM).items()}


def network(settings: Lab) -> Network:
    """With the weights a run begins from."""
    uses = settings.method in ("byol", "simsiam") and settings.predictor
    net = initialised(Network(uses, settings.method == "dino"), settings.seed)
    if settings.start == "warm":
        net.load_state_dict(_warm(), strict=False)  # encoder and projector; what is of the method alone begins anew
    return net.to(memory_format=torch.channels_last).train()


def ema_copy(net: Network) -> Network:
    """A teacher: it computes as the network does in training, and nothing of it changes but by `ema_update`."""
    teacher = copy.deepcopy(net).requires_grad_(False)
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 0.0
    return teacher


@torch.no_grad()
def ema_update(teacher: Network, net: Network, momentum: float) -> None:
    """Weights and running means of the teacher become `momentum` of themselves and the rest of the network's."""
    for slow, fast in zip(teacher.state_dict().values(), net.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - momentum)


def views_of(settings: Lab) -> Views:
    """How the views differ, but for what is left out of them."""
    left_out: dict[str, dict] = {
        "nothing": {},
        "crop": {"area": (1.0, 1.0)},
        "flip": {"flip": False},
        "colour": {"hue": 0.0, "saturation": 0.0, "brightness": 0.0, "contrast": 0.0, "grey": 0.0},
        "hue": {"hue": 0.0},
        "grey": {"grey": 0.0},
    }
    return Views(**left_out[settings.removed])


def optimizer_of(settings: Lab, net: Network) -> torch.optim.Optimizer:
    """The predictor learns faster, and norms and biases do not decay."""
    groups = []
    for name, weights in net.named_parameters():
        factor = PREDICTOR_RATE if name.startswith("predictor") else 1.0
        decay = WEIGHT_DECAY if weights.ndim > 1 else 0.0
        groups.append({"params": [weights], "lr": settings.learning_rate * factor, "weight_decay": decay})
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9)
    return Lars(groups, momentum=0.9, trust_coeff=TRUST)


def trust_ratio(weights: Tensor, slope: Tensor, decay: float) -> float:
    """η‖w‖ / (‖∇‖ + β‖w‖): what LARS multiplies a layer's step by (You et al. 2017,
    https://arxiv.org/abs/1708.03888, equation 6)."""
    length = float(weights.norm())
    return TRUST * length / (float(slope.norm()) + decay * length)


class Run:
    """One network in training."""

    def __init__(self, settings: Lab):
        self.settings, self.net = settings, network(settings)
        slow = settings.method in ("byol", "dino") and settings.ema and settings.stop_gradient
        self.teacher = ema_copy(self.net) if slow else None
        self.optimizer = optimizer_of(settings, self.net)
        self.centre = torch.zeros(PROTOTYPES)
        self.assigned: Tensor | None = None  # (2B, K), DINO's teacher of the last step
        self.z = torch.empty(0)  # (2, B, d) of the last step

    def target(self, pixels: Tensor, z: Tensor) -> tuple[Network, Tensor]:
        """Who is guessed, and its z."""
        if self.teacher is not None:
            with torch.no_grad():
                return self.teacher, self.teacher(pixels)
        return self.net, z.detach() if self.settings.stop_gradient else z

    def loss(self, pixels: Tensor) -> Tensor:
        """Of (2B, 3, S, S): the first views, then the second ones."""
        settings, z = self.settings, self.net(pixels)
        self.z = z.detach().unflatten(0, (2, -1))
        one, two = z.chunk(2)
        if settings.method == "simclr":
            return (
                losses.nt_xent(one, two, settings.temperature)
                if settings.negatives
                else losses.negative_cosine(one, two)
            )
        owner, target = self.target(pixels, z)
        if settings.method == "dino":
            logits = owner.logits(target)
            assigned = self.assign(logits)
            self.assigned = assigned.detach()
            return losses.distillation(
                self.net.logits(z).unflatten(0, (2, -1)), assigned.unflatten(0, (2, -1)), STUDENT_TEMPERATURE
            )
        guess = self.net.predict(z)
        return losses.negative_cosine(guess, torch.cat(target.chunk(2)[::-1]))

    def assign(self, logits: Tensor) -> Tensor:
        """(N, K) what the teacher says: centred, sharpened, probabilities."""
        temperature = TEACHER_TEMPERATURE if self.settings.sharpening else 1.0
        if self.settings.centring == "sinkhorn":
            return losses.sinkhorn(logits, temperature)
        if self.settings.centring == "none":
            return (logits / temperature).softmax(1)
        found = ((logits - self.centre) / temperature).softmax(1)
        self.centre = torch.lerp(logits.detach().mean(0), self.centre, CENTRE_MOMENTUM)  # equation 4
        return found

    def learn(self, pixels: Tensor) -> float:
        loss = self.loss(pixels)
        if not torch.isfinite(loss):
            raise UserError(
                "The loss is no number any more: the learning rate {rate} is too high for {optimizer}. Choose a "
                "smaller one.",
                rate=f"{self.settings.learning_rate:g}",
                optimizer=self.settings.optimizer,
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.teacher is not None:
            ema_update(self.teacher, self.net, self.settings.momentum)
        return loss.item()

    def scale_learning_rate(self, share: float) -> None:
        """The learning rate becomes this share of what is set."""
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("initial", group["lr"]) * share

    @property
    def loss_collapsed(self) -> float:
        """The loss when everything is one: even prototypes for DINO, one direction otherwise."""
        if self.settings.method == "dino":
            return math.log(PROTOTYPES)
        if self.settings.method == "simclr" and self.settings.negatives:
            return losses.nt_xent_collapsed(self.settings.batch)
        return -1.0


class Observer:
    """Looks at z of the same pictures every time."""

    def __init__(self) -> None:
        self.pixels, self.plane = data().queries[:POINTS], Plane()
        self.circle: Tensor | None = None  # (2, d), the two directions it lies in: those of the first look

    def look(self, run: Run) -> Look:
        z = features(run.net, self.pixels)
        unit = F.normalize(z, dim=1).double()
        if self.circle is None:
            self.circle = torch.linalg.svd(unit, full_matrices=False)[2][:2]
        across, up = (unit @ self.circle.T).T.numpy()
        values = probes.singular_values(z)
        first, second = F.normalize(run.z, dim=2)
        cosines, own = first @ second.T, torch.eye(len(first), dtype=torch.bool)
        counts = None
        if run.assigned is not None:
            counts = run.assigned.argmax(1).bincount(minlength=PROTOTYPES).numpy().astype(np.uint16)
        return Look(
            points=self.plane.points(z),
            angles=(np.rint(np.arctan2(up, across) / (2 * np.pi) * 256) % 256).astype(np.uint8),
            singular_values=np.rint(255 * (values / values[0].clamp(min=1e-12)).numpy()).astype(np.uint8),
            positives=np.histogram(cosines[own].numpy().clip(-1, 1), BINS)[0].astype(np.uint16),
            negatives=np.histogram(cosines[~own].numpy().clip(-1, 1), BINS)[0].astype(np.uint16),
            prototypes=counts,
        )


def train(
    settings: Lab, run: Run | None = None, pictures: Tensor | None = None, observed: bool = True
) -> Iterator[Step]:
    """One run, from before its first step to its last. Closing it ends the training.

    Args:
        run: what is trained; a new network when None.
        pictures: to train on, (N, 3, LARGER, LARGER) in [0, 1]; those of `data` when None.
        observed: whether there is somebody to look: without, no points are made, and 5-NN is measured at both ends.
    """
    run = run or Run(settings)
    pictures = data().training if pictures is None else pictures
    observer, how = Observer(), views_of(settings)
    rng = torch.Generator().manual_seed(settings.seed)

    def batch() -> Tensor:
        chosen = pictures[torch.randperm(len(pictures), generator=rng)[: settings.batch]]
        seen = [views(chosen, rng, how, SIZE) for _ in range(2)]
        return torch.cat(seen).contiguous(memory_format=torch.channels_last)

    pixels, loss = batch(), None
    with torch.no_grad():
        state = {name: value.clone() for name, value in run.net.state_dict().items()}
        run.loss(pixels)  # z before the first step; the norms' running means are put back
        run.net.load_state_dict(state)
    first_views = (
        pixels.unflatten(0, (2, -1))[:, :PAIRS].permute(1, 0, 3, 4, 2).mul(255).round().to(torch.uint8).numpy()
    )
    for step in range(settings.steps + 1):
        if step:
            loss = run.learn(pixels)
            pixels = batch()
        last = step == settings.steps
        measured = last or (step % KNN_EVERY == 0 and (observed or not step))
        one, two = F.normalize(run.z, dim=2)
        cosines, count, assigned = one @ two.T, len(one), run.assigned
        yield Step(
            step=step,
            steps=settings.steps,
            loss=loss,
            loss_collapsed=run.loss_collapsed,
            feature_std=probes.feature_std(run.z[0]),
            effective_rank=probes.effective_rank(run.z[0]),
            cosine_positive=float(cosines.diagonal().mean()),
            cosine_negative=float((cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1))),
            teacher_entropy=None if assigned is None else float(probes.entropy(assigned).mean()),
            teacher_entropy_of_mean=None if assigned is None else float(probes.entropy(assigned.mean(0))),
            prototypes_in_use=None if assigned is None else len(assigned.argmax(1).unique()),
            knn=accuracy(run.net.encoder) if measured else None,
            knn_teacher=accuracy(run.teacher.encoder) if measured and run.teacher is not None else None,
            look=observer.look(run) if observed and (last or step % POINTS_EVERY == 0) else None,
            views=None if step else first_views,
        )


def run(settings: Lab) -> Iterator[Preparing | Frame]:
    """Draw what is not drawn yet, then train the whole method and the one that lacks parts, side by side."""
    yield from preparing()
    (known,) = one_core(baselines_once)(settings.seed)
    for a, b in side_by_side(lambda: train(whole(settings)), lambda: train(settings)):
        yield Frame(a=a, b=b, baselines=known)


def alone(settings: Lab) -> Iterator[Preparing | Step]:
    """One run, as it is set."""
    yield from preparing()
    yield from one_core(train)(settings)
