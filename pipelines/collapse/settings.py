"""What can be set in each lesson: the page's controls, the endpoints' arguments and their limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipelines.settings import SEED_LIMIT, Checked, setting

PROTOTYPES = 128  # of DINO's head
SECONDS_TO_DRAW = 5

METHODS = {"simclr": "SimCLR", "byol": "BYOL", "simsiam": "SimSiam", "dino": "DINO"}
CENTRINGS = {"sinkhorn": "Sinkhorn–Knopp, as DINOv2", "mean": "a running mean, as DINO", "none": "none"}
STARTS = {"warm": "a network that has learned already", "scratch": "random weights"}
OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD", "lars": "LARS"}
REMOVED = {
    "nothing": "nothing",
    "crop": "cropping",
    "flip": "mirroring",
    "colour": "all changes of colour",
    "hue": "hue shifts",
    "grey": "greyscale",
}

EQUAL = {"pictures": "pictures seen", "steps": "steps of the optimiser"}

# Which switches belong to which method; the others change nothing.
SWITCHES = {
    "simclr": ("negatives",),
    "byol": ("predictor", "stop_gradient", "ema"),
    "simsiam": ("predictor", "stop_gradient"),
    "dino": ("centring", "sharpening", "ema", "stop_gradient"),
}


def _seed() -> int:
    return setting(42, "Seed", "The same seed gives the same run on every computer", low=0, high=SEED_LIMIT, step=1)


@dataclass(frozen=True, kw_only=True)
class Lab(Checked):
    """Run B of the lab; run A is the same with every part in its place. Also one point of the sweeps."""

    method: str = setting("simclr", "Method", choices=METHODS)
    negatives: bool = setting(False, "Negatives", "SimCLR: other pictures push away")
    predictor: bool = setting(True, "Predictor", "BYOL, SimSiam: one branch guesses the other's answer")
    stop_gradient: bool = setting(
        True, "Stop-gradient", "The branch that is guessed does not learn from it; without, it is the network itself"
    )
    ema: bool = setting(True, "EMA teacher", "BYOL, DINO: the target is a running mean of the network's weights")
    centring: str = setting("sinkhorn", "Centring", "DINO: keeps all prototypes in use", choices=CENTRINGS)
    sharpening: bool = setting(True, "Sharpening", "DINO: the teacher is surer than the student")
    start: str = setting("warm", "Start from", choices=STARTS)
    steps: int = setting(100, "Steps", "Of the optimiser", low=2, high=1000, step=1)
    batch: int = setting(64, "Batch", "Pictures a step; each is seen twice", low=2, high=512, step=2)
    temperature: float = setting(
        0.2, "Temperature", "SimCLR: a low one weighs the nearest negatives most", low=0.02, high=2
    )
    momentum: float = setting(0.99, "Momentum of the teacher", "Share it keeps of itself each step", low=0, high=1)
    learning_rate: float = setting(3e-3, "Learning rate", "LARS needs a large one", low=1e-5, high=10)
    optimizer: str = setting("adamw", "Optimiser", choices=OPTIMIZERS)
    removed: str = setting("nothing", "Left out of the views", choices=REMOVED)
    seed: int = _seed()


def expected_seconds(settings: Lab | Batches | MultiCrop | Pretext | Greedy | Packing) -> float:
    """About how long a run takes on two cores, once the pictures are drawn; those take SECONDS_TO_DRAW, once."""
    if isinstance(settings, Lab):
        return settings.steps * (0.0016 * settings.batch + 0.08)
    if isinstance(settings, Batches):
        return sum(map(expected_seconds, batch_runs(settings).values()))
    if isinstance(settings, MultiCrop):
        return settings.steps * (0.0035 * settings.batch + 0.05)
    if isinstance(settings, Pretext):
        return 4 + settings.steps * (0.0014 * settings.batch + 0.05)
    if isinstance(settings, Greedy):
        return settings.steps * (0.01 * settings.batch + 0.1)
    return settings.rounds * 0.1


def whole(settings: Lab) -> Lab:
    """The same run with every part of its method in its place."""
    centring = "sinkhorn" if settings.centring == "none" else settings.centring
    return replace(
        settings, negatives=True, predictor=True, stop_gradient=True, ema=True, centring=centring, sharpening=True
    )


def broken(settings: Lab) -> tuple[str, ...]:
    """Which of its method's parts a run lacks."""
    full = whole(settings)
    return tuple(name for name in SWITCHES[settings.method] if getattr(settings, name) != getattr(full, name))


# What to break first: name -> method, the switches that are off, and the steps where it takes more of them.
BREAKS: dict[str, dict[str, Any]] = {
    "SimCLR without negatives": dict(method="simclr", negatives=False),
    "BYOL without predictor and stop-gradient": dict(method="byol", predictor=False, stop_gradient=False),
    "BYOL without its predictor": dict(method="byol", predictor=False),
    "BYOL without its EMA teacher": dict(method="byol", ema=False),
    # 150 steps: after 100 three seeds of ten are still on the way to one point
    "SimSiam without stop-gradient": dict(method="simsiam", stop_gradient=False, steps=150),
    "SimSiam without its predictor": dict(method="simsiam", predictor=False),
    "DINO without sharpening": dict(method="dino", sharpening=False),
    "DINO without centring": dict(method="dino", centring="none"),
    "DINO without its EMA teacher": dict(method="dino", ema=False),
}


def preset(name: str, **other: Any) -> Lab:
    """Run B of a preset of BREAKS: only what it names is off, and it has as many steps as it needs."""
    return replace(whole(Lab(**other)), **{**BREAKS[name], **other})


# -------------------------------------------------------------------------------------------------- the other lessons

LOCAL_LOCAL = {"off": "none", "attract": "pulled together", "repel": "pushed apart"}
TASKS = {
    "rotation": "Which way was it turned?",
    "simclr": "Which two views belong together?",
    "supervised": "What is it called? (supervised)",
    "none": "nothing, random weights",
}


@dataclass(frozen=True, kw_only=True)
class Batches(Checked):
    """Whole methods from random weights, three batch sizes beside each other."""

    method: str = setting("simclr", "Method", choices=METHODS)
    equal: str = setting("pictures", "All batches get equally many", choices=EQUAL)
    pictures: int = setting(2560, "Pictures", "Where pictures are equal", low=512, high=12_800, step=512)
    steps: int = setting(40, "Steps", "Where steps are equal", low=2, high=100, step=2)
    removed: str = setting("nothing", "Left out of the views", choices=REMOVED)
    learning_rate: float = setting(2e-3, "Learning rate", "AdamW", low=1e-5, high=1)
    seed: int = _seed()


BATCHES = (16, 64, 256)  # of the live comparison


def batch_runs(settings: Batches) -> dict[int, Lab]:
    """The run of each batch size."""
    run = whole(
        Lab(
            method=settings.method,
            start="scratch",
            removed=settings.removed,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
        )
    )
    steps = {b: settings.steps if settings.equal == "steps" else settings.pictures // b for b in BATCHES}
    return {batch: replace(run, batch=batch, steps=steps[batch]) for batch in BATCHES}


@dataclass(frozen=True, kw_only=True)
class MultiCrop(Checked):
    """Global and local crops. Run B has `beside` for `local_local`."""

    global_global: bool = setting(True, "Global crops pull each other")
    local_global: bool = setting(True, "Local crops are pulled to the global ones")
    local_local: str = setting("repel", "Local crops among themselves, A", choices=LOCAL_LOCAL)
    beside: str = setting("attract", "Local crops among themselves, B", choices=LOCAL_LOCAL)
    strength: float = setting(0.3, "Strength of the push", "LoGo's λ", low=0, high=3, step=0.05)
    local_least: float = setting(0.04, "Smallest local crop", "Share of the scene", low=0.02, high=0.5, step=0.01)
    local_most: float = setting(0.12, "Largest local crop", "Share of the scene", low=0.02, high=0.5, step=0.01)
    start: str = setting("warm", "Start from", choices=STARTS)
    steps: int = setting(100, "Steps", "Of the optimiser", low=2, high=400, step=1)
    batch: int = setting(48, "Batch", "Scenes a step; each is cropped six times", low=2, high=128, step=2)
    learning_rate: float = setting(1e-3, "Learning rate", low=1e-5, high=1)
    seed: int = _seed()


@dataclass(frozen=True, kw_only=True)
class Pretext(Checked):
    """Two tasks on one clock."""

    task: str = setting("rotation", "Task, A", choices=TASKS)
    beside: str = setting("supervised", "Task, B", choices=TASKS)
    steps: int = setting(120, "Steps", "Of the optimiser", low=2, high=400, step=1)
    batch: int = setting(128, "Batch", "Pictures a step", low=4, high=512, step=4)
    learning_rate: float = setting(2e-3, "Learning rate", low=1e-5, high=1)
    seed: int = _seed()


@dataclass(frozen=True, kw_only=True)
class Greedy(Checked):
    """Run A is greedy, run B end to end."""

    steps: int = setting(100, "Steps", "Of the optimiser", low=2, high=400, step=1)
    batch: int = setting(32, "Batch", "Pictures a step, 25 patches each", low=2, high=128, step=2)
    learning_rate: float = setting(2e-3, "Learning rate", low=1e-5, high=1)
    seed: int = _seed()


@dataclass(frozen=True, kw_only=True)
class Packing(Checked):
    """Crops of one layer."""

    big: int = setting(2, "Big crops", low=1, high=4, step=1)
    small: int = setting(8, "Small crops", low=0, high=12, step=1)
    big_tokens: int = setting(64, "Tokens of a big crop", low=16, high=256, step=16)
    small_tokens: int = setting(16, "Tokens of a small crop", low=4, high=64, step=4)
    width: int = setting(128, "Width", low=32, high=256, step=32)
    drop: float = setting(0.4, "Stochastic depth", "Share of pictures that skip the layer", low=0, high=1, step=0.05)
    rounds: int = setting(40, "Rounds", "Medians over these", low=2, high=200, step=1)
    seed: int = _seed()
