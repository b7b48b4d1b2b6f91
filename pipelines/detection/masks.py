"""Zero-shot masks: what was never masked in training gets a mask and a name.

On the frozen patch tokens of a CLIP a small head learns to say *object or not*, and a semantic encoder learns to carry
the features under a mask to the vector of its word; a decoder may have to carry them back (Zheng et al. 2021,
https://arxiv.org/abs/2104.06601, section 3). Both learn from scenes that hold 18 of the 24 nouns and nothing else. The
other six are *unseen*: they never had a mask or a box. CLIP has read their words in captions, with pictures of them;
random vectors in place of its word vectors are the control.

The map of what is object is cut where objects do not touch. Every test scene holds one seen and one unseen thing, so
that neither kind is larger or less covered than the other.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pipelines.detection.mask_scenes import (
    MODEL,
    NAMES,
    PART,
    SIDE,
    Preparing,
    Scenes,
    kinds,
    looking,
    places_of,
    scene_of,
    split_by_kind,
    under,
)
from pipelines.detection.mask_scores import IOUS, Found, Scores, cut, filled_boxes, harmonic, said, scores
from pipelines.detection.settings import NAMERS, MaskSettings
from pipelines.detection.verdicts import of_masks
from pipelines.errors import NotFinite
from pipelines.models.loading import load
from pipelines.one_core import one_core
from pipelines.small_nets import initialised
from pipelines.world import storybook

SCALE = 8.0  # of the cosines of features and words; a larger one draws unseen things more to seen words: on validation
# scenes 4, 8 and 16 give a harmonic mean of .48, .47 and .44 (one seed)
RATE = 3e-3
BATCH, OBJECTS = 16, 64  # scenes and objects of a step
EVERY = 5  # steps between two looks: several in a second
WATCHED = range(0, 104, 13)  # test scenes that are shown: all six unseen things are in them
RIGHT = 0.5  # from this IoU on a mask is right


# ------------------------------------------------------------------------------------------------------- what learns


class Masker(nn.Module):
    """Object or not, for SIDE x SIDE places: what the tower says of a place, and the pixels themselves for the edge."""

    def __init__(self, width: int, hidden: int = 48, fine: int = 16):
        super().__init__()
        self.tokens = nn.Conv2d(width, hidden, 1)
        self.pixels = nn.Conv2d(3, fine, 4, 4)
        self.mixed = nn.Conv2d(hidden + fine, hidden, 3, padding=1)
        self.told = nn.Conv2d(hidden, 1, 3, padding=1)

    def forward(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """(B, D, g, g) and (B, 3, 4 SIDE, 4 SIDE) in [-1, 1] -> (B, 1, SIDE, SIDE) logits."""
        coarse = F.interpolate(self.tokens(tokens.float()), size=(SIDE, SIDE), mode="bilinear")
        return self.told(F.relu(self.mixed(F.relu(torch.cat([coarse, self.pixels(pixels)], 1)))))


class Namer(nn.Module):
    """A semantic encoder from features to fixed word vectors, and a decoder back where one is wanted."""

    words: Tensor  # (24, E) of unit length; no gradient moves them

    def __init__(self, words: Tensor, width: int, decoder: bool):
        super().__init__()
        self.register_buffer("words", F.normalize(words, dim=1))
        self.encoder = nn.Linear(width, words.shape[1])
        self.decoder = nn.Linear(words.shape[1], width) if decoder else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, 24) logits."""
        return SCALE * F.normalize(self.encoder(features), dim=1) @ self.words.T

    def loss(self, features: Tensor, nouns: Tensor, seen: Tensor) -> Tensor:
        """Nats of the right one of the seen words, and what the decoder misses of the features.

        Args:
            nouns: (B,) places in `seen`.
            seen: (18,) places in NAMES: the unseen words are no part of the training.
        """
        error = F.cross_entropy(self(features)[:, seen], nouns)
        if self.decoder is not None:
            error = error + F.mse_loss(self.decoder(self.encoder(features)), features)
        return error


@torch.no_grad()
def maps_of(masker: Masker, scenes: Scenes) -> np.ndarray:
    """(N, SIDE, SIDE) probabilities."""
    parts = (slice(first, first + PART) for first in range(0, len(scenes), PART))
    return torch.cat([masker(scenes.tokens[part], scenes.pixels(part)).sigmoid()[:, 0] for part in parts]).numpy()


# -------------------------------------------------------------------------------------------------------------- a run


def watched(unseen: str) -> list[storybook.Scene]:
    """The scenes that are shown, before anybody has learned anything."""
    return [scene_of("test", unseen, place) for place in WATCHED]


@dataclass(frozen=True, kw_only=True)
class Mask:
    """One mask as it is drawn, and what it was called."""

    mask: np.ndarray  # (S, S) bool
    name: str
    thing: str  # the noun of what it covers most; "" where it is of none
    kind: str  # of that thing: "seen" or "unseen"; ""


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """What became of one unseen noun, or of a thing that CLIP has no word for."""

    things: int
    found: int  # how many of them have a right mask
    called: dict[str, int]  # names of these masks, most frequent first


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was learned, tried on the test scenes. Kinds are "seen" and "unseen"."""

    scores: dict[str, dict[str, Scores]]  # by NAMERS and "boxes", the chosen namer's masks as filled boxes; by kind
    masked: dict[str, float]  # share of things with a right mask, by kind
    named: dict[str, dict[str, float]]  # share of these with the right name, by NAMERS, by kind
    unseen: dict[str, Unseen]  # by noun
    strangers: dict[str, Unseen]  # by storybook.UNSEEN
    pictures: np.ndarray  # (8, S, S, 3) uint8, the WATCHED scenes
    masks: list[list[Mask]]  # in each of them


@dataclass(frozen=True, kw_only=True)
class Step:
    """What has been learned after some steps."""

    step: int
    steps: int
    loss_mask: float | None  # nats; None before the first step
    loss_name: float | None  # nats, with what the decoder misses; of the chosen namer, None where it learns nothing
    iou: dict[str, float] | None  # of each test thing and its best mask, mean by kind; None where nobody looked
    named: dict[str, float] | None  # share of test things with the right name under their true mask, by kind
    film: dict[str, np.ndarray] | None  # by kind: (8, C, C, 3) uint8, a thing of each WATCHED scene under its map
    result: Result | None  # after the last step
    seconds: float


def candidates(settings: MaskSettings) -> dict[str, list[int]]:
    """The words that may be said of a thing of each kind."""
    everything = list(range(len(NAMES)))
    own = {kind: places_of(words) for kind, words in kinds(settings.unseen).items()}
    return own if settings.candidates == "conventional" else dict.fromkeys(own, everything)


class Learner:
    """The head and both namers, what they learn from, and the optimiser."""

    def __init__(self, settings: MaskSettings, training: Scenes):
        self.settings, self.training, self.model = settings, training, load(MODEL)
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.texts = self.model.text_features([storybook.article(noun) for noun in NAMES]).cpu()
        width = self.model.encoder.width
        self.masker = initialised(Masker(width), settings.seed)
        words = {"learned": self.texts, "random": torch.randn(self.texts.shape, generator=self.rng)}
        self.namers = {
            name: initialised(Namer(vectors, width, settings.decoder), settings.seed) for name, vectors in words.items()
        }
        self.seen = torch.tensor(places_of(kinds(settings.unseen)["seen"]))
        self.targets = torch.searchsorted(self.seen, torch.from_numpy(training.noun))
        learns = [self.masker, *self.namers.values()]
        self.optimizer = torch.optim.AdamW([w for part in learns for w in part.parameters()], RATE, weight_decay=1e-2)
        self.pace = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, settings.steps)

    def step(self) -> dict[str, float]:
        """Losses: "mask", and by namer."""
        scenes = torch.randperm(len(self.training), generator=self.rng)[:BATCH].numpy()
        things = torch.randperm(len(self.targets), generator=self.rng)[:OBJECTS]
        told = self.masker(self.training.tokens[scenes], self.training.pixels(scenes))
        features, nouns = self.training.features[things], self.targets[things]
        losses = {"mask": F.binary_cross_entropy_with_logits(told, self.training.inside[scenes])}
        losses |= {name: namer.loss(features, nouns, self.seen) for name, namer in self.namers.items()}
        self.optimizer.zero_grad()
        torch.stack([*losses.values()]).sum().backward()
        self.optimizer.step()
        self.pace.step()
        return {name: loss.item() for name, loss in losses.items()}

    @torch.no_grad()
    def probabilities(self, name: str, features: Tensor) -> np.ndarray:
        """(B, 24) of features (B, D), by one of NAMERS."""
        if name in self.namers:
            return self.namers[name](features).softmax(1).numpy()
        cosines = self.model.image_features(features.to(self.model.device)).cpu() @ self.texts.T
        return (self.model.module.logit_scale.exp().cpu() * cosines).softmax(1).numpy()

    def features(self, scenes: Scenes, found: Found) -> Tensor:
        """(K, D) of what is under each mask."""
        pixels = torch.cat([self.model.pixels(Image.fromarray(picture)) for picture in scenes.pictures])
        return under(self.model, pixels, found.scene, found.masks)


def names_of(probabilities: np.ndarray, seen: np.ndarray, may: dict[str, list[int]]) -> np.ndarray:
    """(B,) the likeliest candidates, places in NAMES.

    Args:
        probabilities: (B, 24).
        seen: (B,) bool, whether it is a seen thing: conventional zero-shot learning tells that beforehand.
        may: the candidates by kind.
    """
    return np.where(seen, said(probabilities, may["seen"])[0], said(probabilities, may["unseen"])[0])


def film_of(truth: Scenes, maps: np.ndarray, unseen: str) -> dict[str, np.ndarray]:
    """By kind, (8, 64, 64, 3) uint8: a square around a thing of each WATCHED scene, dark where it is no object."""
    side, found = truth.pictures.shape[1], {}
    for kind, of in split_by_kind(truth, unseen).items():
        shown = []
        for thing in np.flatnonzero(of & np.isin(truth.scene, WATCHED)):
            scene = truth.scene[thing]
            large = Image.fromarray(maps[scene]).resize((side, side), Image.Resampling.BILINEAR)
            lit = truth.pictures[scene] * (0.2 + 0.8 * np.asarray(large)[..., None])
            x0, y0, x1, y1 = Image.fromarray(truth.masks[thing]).getbbox()  # type: ignore[misc]  # never empty
            reach = min(0.6 * max(x1 - x0, y1 - y0), side / 2)
            x, y = (min(max((a + b) / 2, reach), side - reach) for a, b in ((x0, x1), (y0, y1)))
            box = (x - reach, y - reach, x + reach, y + reach)
            picture = Image.fromarray(lit.round().astype(np.uint8))
            shown.append(np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR, box=box)))
        found[kind] = np.stack(shown)
    return found


def counts(names: Sequence[int]) -> dict[str, int]:
    """How often each name was said, most frequent first."""
    often = np.bincount(np.asarray(names, int), minlength=len(NAMES))
    return {NAMES[place]: int(often[place]) for place in np.argsort(-often, kind="stable") if often[place]}


def fates(truth: Scenes, found: Found, names: np.ndarray) -> dict[str, Unseen]:
    """By noun of the true things: how many have a right mask, and what these are called.

    Args:
        names: (K,) what each mask is called, places in NAMES.
    """
    (best, overlap), fate = found.best(truth), {}
    for place in np.unique(truth.noun):
        of, masked = truth.noun == place, (truth.noun == place) & (overlap >= RIGHT)
        noun = (NAMES + storybook.UNSEEN)[place]
        fate[noun] = Unseen(things=int(of.sum()), found=int(masked.sum()), called=counts(names[best[masked]]))
    return fate


def drawn(truth: Scenes, found: Found, names: np.ndarray, split: dict[str, np.ndarray]) -> list[list[Mask]]:
    """The masks in each of the WATCHED scenes with their names."""
    overlap = found.overlaps(truth)
    shown: dict[int, list[Mask]] = {scene: [] for scene in WATCHED}
    for place in np.flatnonzero(np.isin(found.scene, WATCHED)):
        thing = int(overlap[:, place].argmax())
        of_none = overlap[thing, place] == 0
        kind = "" if of_none else next(kind for kind, of in split.items() if of[thing])
        noun = "" if of_none else NAMES[truth.noun[thing]]
        one = Mask(mask=found.masks[place], name=NAMES[names[place]], thing=noun, kind=kind)
        shown[int(found.scene[place])].append(one)
    return [*shown.values()]


def tried(learner: Learner, parts: dict[str, Scenes]) -> Result:
    """Masks and names of scenes that nobody has learned from."""
    settings, truth = learner.settings, parts["test"]
    split, may = split_by_kind(truth, settings.unseen), candidates(settings)
    found = cut(maps_of(learner.masker, truth), truth.pictures.shape[1])
    features = learner.features(truth, found)
    said_by = {name: learner.probabilities(name, features) for name in NAMERS}
    best, overlap = found.best(truth)
    masked = overlap >= RIGHT
    owner = found.overlaps(truth).argmax(0)  # the thing a mask is of
    names = {name: names_of(told, split["seen"][owner], may) for name, told in said_by.items()}

    def scored(masks: Found, name: str) -> dict[str, Scores]:
        words = {kind: places_of(nouns) for kind, nouns in kinds(settings.unseen).items()}
        return {kind: scores(truth, masks, said_by[name], words[kind], may[kind]) for kind in words}

    def named(name: str) -> dict[str, float]:
        told = {kind: names[name][best[of & masked]] == truth.noun[of & masked] for kind, of in split.items()}
        return {kind: float(right.mean()) if len(right) else 0.0 for kind, right in told.items()}

    strange = parts["strangers"]
    others = cut(maps_of(learner.masker, strange), strange.pictures.shape[1])
    called = said(learner.probabilities(settings.namer, learner.features(strange, others)), range(len(NAMES)))[0]
    never = [NAMES.index(noun) for noun in kinds(settings.unseen)["unseen"]]
    return Result(
        scores={name: scored(found, name) for name in NAMERS} | {"boxes": scored(filled_boxes(found), settings.namer)},
        masked={kind: float(masked[of].mean()) for kind, of in split.items()},
        named={name: named(name) for name in NAMERS},
        unseen={
            noun: fate
            for noun, fate in fates(truth, found, names[settings.namer]).items()
            if NAMES.index(noun) in never
        },
        strangers=fates(strange, others, called),
        pictures=truth.pictures[WATCHED],
        masks=drawn(truth, found, names[settings.namer], split),
    )


@one_core
def run(settings: MaskSettings) -> Iterator[Preparing | Step]:
    """What the tower says of the scenes, then the learning from before its first step, then the test. Closing it ends
    it.

    Raises:
        NotFinite: when a loss is no number any more.
    """
    start, parts = time.perf_counter(), dict[str, Scenes]()
    yield from looking(settings.unseen, parts)
    learner, truth = Learner(settings, parts["training"]), parts["test"]
    split, may = split_by_kind(truth, settings.unseen), candidates(settings)
    losses: dict[str, float] = {}

    def now(step: int, look: bool, result: Result | None = None) -> Step:
        iou = named = film = None
        if look:
            maps = maps_of(learner.masker, truth)
            overlap = cut(maps, truth.pictures.shape[1]).best(truth)[1]
            right = names_of(learner.probabilities(settings.namer, truth.features), split["seen"], may) == truth.noun
            iou = {kind: float(overlap[of].mean()) for kind, of in split.items()}
            named = {kind: float(right[of].mean()) for kind, of in split.items()}
            film = film_of(truth, maps, settings.unseen)
        return Step(
            step=step,
            steps=settings.steps,
            loss_mask=losses.get("mask"),
            loss_name=losses.get(settings.namer),
            iou=iou,
            named=named,
            film=film,
            result=result,
            seconds=time.perf_counter() - start,
        )

    yield now(0, look=True)
    for step in range(1, settings.steps + 1):
        losses = learner.step()
        if not np.isfinite([*losses.values()]).all():
            raise NotFinite("The losses are no numbers any more. Choose another seed.")
        yield now(step, look=step % EVERY == 0 or step == settings.steps)
    yield now(settings.steps, look=False, result=tried(learner, parts))


def tested(settings: MaskSettings) -> Result:
    """The end of a run. Raises what `run` raises."""
    *_, end = run(settings)
    assert isinstance(end, Step) and end.result is not None
    return end.result


def numbers(settings: MaskSettings, found: Step, guess: str | None = None) -> dict:
    """The JSON of the endpoint, of the last step."""
    assert found.result is not None, "it is tried when its steps are done"
    result = found.result

    def told(row: str) -> dict:
        both = result.scores[row]
        mean = {"ap": harmonic(both["seen"].ap, both["unseen"].ap), "ar": harmonic(both["seen"].ar, both["unseen"].ar)}
        each = {kind: {"ap": of.ap, "ar": of.ar} for kind, of in both.items()} | {"harmonic": mean}
        return {
            kind: {
                f"{figure}{100 * iou:.0f}": round(float(value), 4)
                for figure, values in of.items()
                for iou, value in zip(IOUS, values, strict=True)
            }
            for kind, of in each.items()
        }

    return {
        "seed": settings.seed,
        "steps": found.step,
        "seconds": round(found.seconds, 3),
        "unseen": list(kinds(settings.unseen)["unseen"]),
        "namer": settings.namer,
        "candidates": settings.candidates,
        "decoder": settings.decoder,
        **told(settings.namer),
        "right_masks": result.masked,
        "right_names_of_these": result.named[settings.namer],
        "unseen_things": {noun: vars(fate) for noun, fate in result.unseen.items()},
        "things_without_a_word": {noun: vars(fate) for noun, fate in result.strangers.items()},
        "baseline": {
            "filled_boxes": told("boxes"),
            "random_words": told("random") | {"right_names": result.named["random"]},
            "clip_on_the_cutout": told("cutout") | {"right_names": result.named["cutout"]},
            "chance": 1 / len(NAMES),
        },
        "verdict": of_masks(settings, result, guess).record(),
    }
