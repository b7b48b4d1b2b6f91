"""One noise for all pictures: a universal adversarial perturbation, learned on some pictures, tried on others.

Wanted is v with |v| <= epsilon at every pixel that makes P(k(x + v) != k(x)) large, where k(x) is what the network
calls picture x (Moosavi-Dezfooli et al. 2017, https://arxiv.org/abs/1610.08401, equation 1). It is found by ascent
along the sign of the mean gradient over mini-batches, projected after every step (Shafahi et al. 2020,
https://arxiv.org/abs/1811.11304), not by DeepFool. Pixels and noise are whole levels of 255, so that what is measured
are real pictures and the bound holds exactly.

The *fooling rate* is the share of pictures whose name changes. It is not the error rate: the name may have been wrong
before. Beside it stand random signs of the same strength, the same noise with its pixels shuffled, mirrored, and
another network.

For CLIPs and for the detector, whose name of a picture is that of its surest box, it is learned from drawn scenes and
tried on drawn scenes; for a classifier of photographs from pieces of some photographs, and tried on pieces of others.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.cues.namers import Namer, namer
from pipelines.cues.settings import OTHERS, UniversalSettings
from pipelines.cues.verdicts import of_universal
from pipelines.errors import UserError
from pipelines.one_core import one_core
from pipelines.shares import wilson
from pipelines.world import grounds, storybook

LEVELS = 255
BATCH = 16
UNSEEN = 200  # pictures the noise is tried on
WATCHED = 32  # of them, while it is learned
EVERY = 5  # steps between two tries
PART = 20  # pictures that it is tried on between two answers
SHOWN = 8
SHIFT = 8  # pixels, of the defence
CONTROLS = {
    "learned": "the learned noise",
    "random": "random signs of the same strength",
    "shuffled": "the learned noise, its pixels shuffled",
    "mirrored": "the learned noise, mirrored",
    "other": "another network under the learned noise",
    "other_random": "another network under random signs",
}


@dataclass(frozen=True, kw_only=True)
class Fooled:
    """How many pictures changed their name."""

    changed: int
    pictures: int

    @property
    def rate(self) -> float:
        return self.changed / self.pictures

    @property
    def interval(self) -> tuple[float, float]:
        """95 %."""
        return wilson(self.changed, self.pictures)


@dataclass(frozen=True, kw_only=True)
class Names:
    """What never-seen pictures are called before and after the noise."""

    right_before: float | None  # share of pictures that are called what was drawn; None where that is not known
    right_after: float | None
    flow: np.ndarray  # (K, K) integers: pictures called row before and column after
    before: tuple[str, ...]  # of the first SHOWN
    after: tuple[str, ...]
    pictures: np.ndarray  # (SHOWN, H, W, 3) uint8
    disturbed: np.ndarray  # (SHOWN, H, W, 3) uint8


@dataclass(frozen=True, kw_only=True)
class Step:
    """The noise after some steps; then it is tried, one control after another, a few pictures at a time."""

    step: int
    steps: int
    noise: np.ndarray  # (H, W, 3) int8, levels of 255
    loss: float | None  # of the step's pictures, nats; None before the first
    rate: float | None  # fooling rate on WATCHED never-seen pictures, where it was looked at
    tried: dict[str, Fooled]  # what is tried so far
    controls: tuple[str, ...]  # what of CONTROLS will be: all, or those of one network
    names: Names | None  # once the first of them is done
    labels: tuple[str, ...]  # the names the victim knows
    seconds: float

    @property
    def done(self) -> bool:
        return len(self.tried) == len(self.controls) and len({each.pictures for each in self.tried.values()}) == 1


def pictures(seeds: range) -> tuple[Tensor, Tensor]:
    """(N, 3, 128, 128) integer levels in float32, and the nouns that were drawn, (N,); one object a picture."""
    scenes = [storybook.scene(seed, count=1) for seed in seeds]
    pixels = torch.from_numpy(np.stack([scene.picture for scene in scenes])).permute(0, 3, 1, 2).float()
    return pixels, torch.tensor([storybook.NOUNS.index(scene.objects[0].noun) for scene in scenes])


def first_seen(victim: str) -> np.ndarray:
    """(SHOWN, H, W, 3) uint8: the first of the never-seen pictures, as they are."""
    if victim in OTHERS:
        return as_pictures(pictures(storybook.TEST[:SHOWN])[0])
    return as_pictures(pieces(SHOWN, namer(victim).size, 0, test=True))


def pieces(count: int, size: int, seed: int, test: bool) -> Tensor:
    """(count, 3, size, size) integer levels in float32: pieces of photographs; those of a test are others."""
    rng = np.random.default_rng((seed, test))
    found = np.stack([grounds.photograph((size, size), rng, test) for _ in range(count)])
    return torch.from_numpy(found).permute(0, 3, 1, 2).clamp(0, LEVELS).round()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Who is to be fooled, and by which pictures that is learned and seen."""

    namer: Namer
    other: Namer | None
    learned: Tensor  # (N, 3, H, W) levels
    seen: Tensor  # (UNSEEN, 3, H, W) levels
    nouns: Tensor | None  # (UNSEEN,) what is to be seen there, where that is known


def trial_of(settings: UniversalSettings) -> Trial:
    """Raises ModelUnavailable when a model's files cannot be had, and UserError for a target it has no name for."""
    victim, other, nouns = namer(settings.victim), None, None
    if settings.target and settings.target not in victim.names:
        raise UserError(
            "{model} has no name {name}. Leave the target open, or choose a storybook model.",
            model=settings.victim,
            name=repr(settings.target),
        )
    if settings.victim in OTHERS:
        other = namer(OTHERS[settings.victim])
        first = storybook.TRAIN[settings.seed % 10**6 * 512]
        learned, _ = pictures(range(first, first + settings.pictures))
        seen, nouns = pictures(storybook.TEST[:UNSEEN])
    else:
        learned = pieces(settings.pictures, victim.size, settings.seed, test=False)
        seen = pieces(UNSEEN, victim.size, 0, test=True)
    return Trial(namer=victim, other=other, learned=learned, seen=seen, nouns=nouns)


def disturbed(levels: Tensor, noise: Tensor) -> Tensor:
    """Pictures with the noise, (B, 3, H, W), kept within 0 and 255."""
    return (levels + noise).clamp(0, LEVELS)


def defended(levels: Tensor, defence: str) -> Tensor:
    """What the network gets to see, a key of DEFENCES: (B, 3, H, W) to the same."""
    if defence == "blur":
        return F.avg_pool2d(F.pad(levels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return levels.roll((SHIFT, SHIFT), (2, 3)) if defence == "shift" else levels


def random_signs(shape: torch.Size, epsilon: int, rng: torch.Generator) -> Tensor:
    return epsilon * (2.0 * torch.randint(2, shape, generator=rng) - 1)


def ascend(
    namer: Namer, levels: Tensor, settings: UniversalSettings, rng: torch.Generator
) -> Iterator[tuple[Tensor, float | None]]:
    """The noise (3, H, W) in levels before each step and after the last, with the loss of the step before.

    With a target the loss of that name is descended, else that of the name without noise is ascended. A step is a
    quarter of the strength at first and falls to nothing along a cosine.
    """
    epsilon, noise, loss = float(settings.epsilon), torch.zeros_like(levels[0]), None
    target = namer.names.index(settings.target) if settings.target else None
    clean = namer.told(levels / LEVELS) if target is None else torch.full((len(levels),), target)
    queue = torch.empty(0, dtype=torch.long)
    for step in range(settings.steps):
        yield noise, loss
        if len(queue) < min(BATCH, len(levels)):
            queue = torch.cat([queue, torch.randperm(len(levels), generator=rng)])
        chosen, queue = queue[:BATCH], queue[BATCH:]
        noise = noise.requires_grad_()
        error = F.cross_entropy(namer.logits(disturbed(levels[chosen], noise) / LEVELS), clean[chosen])
        (slope,) = torch.autograd.grad(error, noise)
        pace = epsilon / 4 * (1 + np.cos(np.pi * step / settings.steps)) / 2
        along = slope.sign() if target is None else -slope.sign()
        noise, loss = (noise.detach() + pace * along).clamp(-epsilon, epsilon), float(error.detach())
    yield noise, loss


def controls(noise: Tensor, epsilon: int, rng: torch.Generator) -> dict[str, tuple[bool, Tensor]]:
    """By CONTROLS: whether the other network is asked, and what is added to the pictures, (3, H, W)."""
    signs = random_signs(noise.shape, epsilon, rng)
    order = torch.randperm(noise[0].numel(), generator=rng)
    return {
        "learned": (False, noise),
        "random": (False, signs),
        "shuffled": (False, noise.flatten(1)[:, order].view_as(noise)),
        "mirrored": (False, noise.flip(2)),
        "other": (True, noise),
        "other_random": (True, signs),
    }


def names_of(trial: Trial, before: Tensor, after: Tensor, noise: Tensor) -> Names:
    names, seen = trial.namer.names, trial.seen[:SHOWN]
    flow = torch.zeros(len(names), len(names), dtype=torch.long)
    flow.index_put_((before, after), torch.ones_like(before), accumulate=True)
    return Names(
        right_before=None if trial.nouns is None else float((before == trial.nouns).double().mean()),
        right_after=None if trial.nouns is None else float((after == trial.nouns).double().mean()),
        flow=flow.numpy(),
        before=tuple(names[i] for i in before[:SHOWN].tolist()),
        after=tuple(names[i] for i in after[:SHOWN].tolist()),
        pictures=as_pictures(seen),
        disturbed=as_pictures(disturbed(seen, noise)),
    )


def as_pictures(levels: Tensor) -> np.ndarray:
    """(B, 3, H, W) levels to (B, H, W, 3) uint8."""
    return levels.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


@one_core
def run(settings: UniversalSettings) -> Iterator[Step]:
    """The noise from nothing to its last step, then its controls; closing it ends the ascent.

    Raises:
        ModelUnavailable: when a model's files cannot be had.
        UserError: for a target that the victim has no name for.
    """
    start, trial = time.perf_counter(), trial_of(settings)
    asked = {False: trial.namer} if trial.other is None else {False: trial.namer, True: trial.other}
    wanted = tuple(name for name in CONTROLS if trial.other or not name.startswith("other"))

    def told(who: Namer, levels: Tensor, added: Tensor | None = None) -> Tensor:
        seen = levels if added is None else disturbed(levels, added)
        return who.told(defended(seen, settings.defence) / LEVELS)

    rng = torch.Generator().manual_seed(settings.seed)
    watched, tried, names, rate = trial.seen[:WATCHED], dict[str, Fooled](), None, None
    clean = told(trial.namer, watched)

    def now(step: int, whole: Tensor, loss: float | None) -> Step:
        return Step(
            step=step,
            steps=settings.steps,
            noise=whole.permute(1, 2, 0).to(torch.int8).numpy(),
            loss=loss,
            rate=rate,
            tried=dict(tried),
            controls=wanted,
            names=names,
            labels=trial.namer.names,
            seconds=time.perf_counter() - start,
        )

    for step, (noise, loss) in enumerate(ascend(trial.namer, trial.learned, settings, rng)):
        whole, looked = noise.detach().round(), step % EVERY == 0 or step == settings.steps
        rate = float((told(trial.namer, watched, whole) != clean).double().mean()) if looked else None
        yield now(step, whole, loss)
    before: dict[bool, list[Tensor]] = {elsewhere: [] for elsewhere in asked}
    for name, (elsewhere, added) in controls(whole, settings.epsilon, rng).items():
        if name not in wanted:
            continue
        after: list[Tensor] = []
        for place, levels in enumerate(trial.seen.split(PART)):
            if place == len(before[elsewhere]):
                before[elsewhere].append(told(asked[elsewhere], levels))
            after.append(told(asked[elsewhere], levels, added))
            said = torch.cat(after)
            clean = torch.cat(before[elsewhere])[: len(said)]
            tried[name] = Fooled(changed=int((said != clean).sum()), pictures=len(said))
            if names is None and len(said) == len(trial.seen):
                names = names_of(trial, clean, said, whole)
            yield now(step, whole, loss)


def numbers(settings: UniversalSettings, found: Step, guess: str | None = None) -> dict:
    """The JSON of the endpoint, of the last step."""
    assert found.done and found.names is not None, "the noise is tried when its steps are done"
    told = {
        name: {"fooling_rate": fooled.rate, "interval": list(fooled.interval)} for name, fooled in found.tried.items()
    }
    return {
        "seed": settings.seed,
        "steps": found.step,
        "seconds": round(found.seconds, 3),
        "victim": settings.victim,
        "epsilon": settings.epsilon,
        "largest": int(np.abs(found.noise.astype(int)).max()),
        "pictures": found.tried["learned"].pictures,
        **told.pop("learned"),
        "other_model": told.pop("other", None),
        "right_before": found.names.right_before,
        "right_after": found.names.right_after,
        "most_said": found.labels[int(found.names.flow.sum(0).argmax())],
        "baseline": told,
        "verdict": of_universal(found, guess).record(),
    }
