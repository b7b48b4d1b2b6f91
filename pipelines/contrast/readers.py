"""Three readers, CLIP, SimVLM and CoCa, of one size and from the same pairs: who finds, who describes, at what cost.

Finding: the caption of a picture among N, and the picture of a caption. CLIP and CoCa compare vectors, of which the
captions' are made once. SimVLM has none: it weighs every caption, ln p(caption | picture), word by word. Describing:
the likeliest next word, again and again. A caption is judged by what it says, read with the grammar of the drawn world:
things with their colours, and the place; the order of the things is free.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipelines.contrast.settings import READERS, CaptionSettings, ReadersSettings
from pipelines.contrast.verdicts import of_readers
from pipelines.models.loading import load
from pipelines.models.readers import Reader, SimVLM, looking, watch_attention
from pipelines.models.vision import centre_square
from pipelines.one_core import one_core
from pipelines.world import storybook

EVERY = 2  # pictures between two looks
SHOWN = 5  # captions of a picture's ranking
SIDE = 192  # pixels of a picture that is shown


# ------------------------------------------------------------------------------------------------------------ captions


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a caption says."""

    things: tuple[tuple[str, str | None], ...]  # nouns and their colours, sorted
    place: str | None


def told(caption: str) -> Told:
    """Read a caption by the grammar of the drawn world; what has no place in it is passed over."""
    things: list[tuple[str, str | None]] = []
    place, colour = None, None
    for word in caption.replace(",", " ").split():
        if word in storybook.NOUNS:
            things.append((word, colour))
            colour = None
        elif word in storybook.COLOURS:
            colour = word
        elif word in storybook.PLACES:
            place = word
    return Told(things=tuple(sorted(things, key=str)), place=place)


def agreement(said: str, truth: str) -> tuple[bool, int, int, int]:
    """Whether two captions say the same; how many nouns they share, and how many each has."""
    a, b = told(said), told(truth)
    nouns, right = [noun for noun, _ in a.things], [noun for noun, _ in b.things]
    shared = sum(min(nouns.count(noun), right.count(noun)) for noun in set(nouns))
    return a == b, shared, len(nouns), len(right)


def scenes(settings: ReadersSettings) -> list[storybook.Scene]:
    """Never-seen scenes that differ in what their captions say."""
    rng = np.random.default_rng(settings.seed)
    found: dict[Told, storybook.Scene] = {}
    while len(found) < settings.pictures:
        scene = storybook.scene(storybook.TEST[int(rng.integers(len(storybook.TEST)))])
        found.setdefault(told(scene.full_caption), scene)
    return list(found.values())


# ---------------------------------------------------------------------------------------------------------- describing


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a caption as it was said."""

    text: str
    probability: float  # among all words; 1 where it was given
    looked: np.ndarray  # (g, g) how much it looked at each patch, sums to 1
    given: bool


def _attention(maps: list[Tensor], reader: Reader) -> np.ndarray:
    """(g, g): the last word's look at the patches, the mean over layers."""
    down, across = reader.grid
    looks = torch.stack([layer[0, -1, : down * across] for layer in maps]).mean(0)
    return (looks / looks.sum()).reshape(down, across).float().cpu().numpy()


@torch.no_grad()
def describe(reader: Reader, patches: Tensor, beginning: str = "") -> list[Word]:
    """The caption of one picture, word by word, up to the end or as long as it may be.

    Args:
        patches: (1, P, W) of `Reader.see`.
        beginning: words that are given.

    Raises:
        UserError: for a word it does not know, or too many of them.
    """
    ids = reader.ids([beginning])[0].tolist()
    end = reader.id_of("[END]")
    start = ids[: ids.index(end)]
    given, said = len(start), []
    while len(start) + 1 < reader.context:
        sequence = torch.tensor([start], device=reader.device)
        with watch_attention(looking(reader)) as maps:
            shares = reader.logits(patches, sequence, given)[0, -1].float().softmax(0)
        word = int(shares.argmax())
        if word == end:
            break
        start.append(word)
        said.append((float(shares[word]), _attention(maps, reader)))
    nowhere = np.full(reader.grid, 1 / np.prod(reader.grid), np.float32)
    names = reader.tokenizer.convert_ids_to_tokens(start)
    before = [Word(text=name, probability=1.0, looked=nowhere, given=True) for name in names[1:given]]
    after = [
        Word(text=name, probability=share, looked=looked, given=False)
        for name, (share, looked) in zip(names[given:], said, strict=True)
    ]
    return before + after


def sentence(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words).replace(" ,", ",")


def looked_at(words: Sequence[Word], scene: storybook.Scene) -> list[tuple[float, float]]:
    """Of each noun that was said and is there: how much of its look lies on that thing, and how much of the picture
    that thing is, which is what looking anywhere would give."""
    found = []
    for word in words:
        for thing in scene.objects:
            if thing.noun == word.text and not word.given:
                mask = Image.fromarray(thing.mask.astype(np.float32))
                share = np.asarray(mask.resize(word.looked.shape[::-1], Image.Resampling.BOX))
                found.append((float((word.looked * share).sum()), float(share.mean())))
    return found


# -------------------------------------------------------------------------------------------------------- one picture


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Which inputs a part of a reader can see, found by changing them one after another."""

    part: str
    outputs: tuple[str, ...]  # rows of patches are called 1, 2, ...
    seen: np.ndarray  # (outputs, inputs) bool: the output changes with the input


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One reader and one picture."""

    model: str
    describes: bool
    by_vectors: bool  # whether it finds by them, or weighs the words of each caption
    words: tuple[Word, ...]  # of the caption it says
    ranking: tuple[tuple[int, float], ...]  # the best of the captions and their scores, best first
    place: int | None  # of the true caption in the whole ranking, from 1; None where there is no truth
    reach: tuple[Reach, ...]
    inputs: tuple[str, ...]  # what was changed: rows of patches, then words


@dataclass(frozen=True, kw_only=True)
class Readings:
    picture: np.ndarray  # (SIDE, SIDE, 3) uint8: the square they see, larger
    captions: tuple[str, ...]  # that could be found
    truth: int | None  # which of them is the picture's
    readings: tuple[Reading, ...]
    seconds: float


def look(settings: CaptionSettings, picture: Image.Image, caption: str | None, candidates: Sequence[str]) -> Readings:
    """One picture, read by all three.

    Args:
        caption: the picture's own; None where it is not known.
        candidates: captions to find it among; the last gives way to the picture's own.

    Raises:
        UserError: for a beginning that one of them cannot read.
        ModelUnavailable: when a model's files cannot be had.
    """
    start, captions = time.perf_counter(), list(candidates)
    truth = None
    if caption is not None:
        same = [i for i, each in enumerate(captions) if told(each) == told(caption)]
        truth = same[0] if same else len(captions) - 1
        captions[truth] = caption
    found = []
    for name in READERS:
        reader = load(name, Reader)
        pixels = reader.pixels([picture])
        scores = find(reader, pixels, known(reader, captions))
        order = scores.argsort(descending=True).tolist()
        words = describe(reader, reader.see(pixels), settings.beginning) if reader.describes else []
        text = sentence(words) or caption or settings.beginning or captions[order[0]]
        inputs, reaches = reach(reader, pixels, text, 1 + sum(word.given for word in words))
        found.append(
            Reading(
                model=name,
                describes=reader.describes,
                by_vectors=reader.finds,
                words=tuple(words),
                ranking=tuple((i, float(scores[i])) for i in order[:SHOWN]),
                place=None if truth is None else order.index(truth) + 1,
                reach=reaches,
                inputs=inputs,
            )
        )
    return Readings(
        picture=np.asarray(centre_square(picture.convert("RGB")).resize((SIDE, SIDE), Image.Resampling.BICUBIC)),
        captions=tuple(captions),
        truth=truth,
        readings=tuple(found),
        seconds=time.perf_counter() - start,
    )


@contextmanager
def _outputs(parts: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Within the `with`, what each part gives (B, T, W) is kept in the dictionary that this yields."""
    kept: dict[str, Tensor] = {}
    handles = [
        part.register_forward_hook(lambda module, given, output, name=name: kept.update({name: output}))
        for name, part in parts.items()
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _parts(reader: Reader) -> dict[str, nn.Module]:
    """What is looked into, in the order of computation."""
    module = reader.module
    if isinstance(module, SimVLM):
        return {"patches and words in one sequence": module.transformer}
    text = module.text if hasattr(module, "text") else module
    towers = {"image tower": module.visual.transformer, "text tower": text.transformer}
    return {**towers, "decoder": module.text_decoder} if reader.describes else towers


@torch.no_grad()
def reach(reader: Reader, pixels: Tensor, caption: str, given: int) -> tuple[tuple[str, ...], tuple[Reach, ...]]:
    """What each part can see: every row of patches and every word is changed, one at a time, and whatever comes out
    differently has seen it.

    Args:
        pixels: (1, 3, S, S).
        given: tokens that SimVLM is given, the start among them.

    Returns:
        The names of the inputs, rows of patches and then words, and what was found.
    """
    down, across = reader.grid
    ids = reader.ids([caption])
    count = int((ids[0] != reader.id_of("[PAD]")).sum())
    names = reader.tokenizer.convert_ids_to_tokens(ids[0, :count].tolist())
    inputs = down + count
    pictures, texts = pixels.repeat(inputs + 1, 1, 1, 1), ids.repeat(inputs + 1, 1)
    height = pixels.shape[2] // down
    other, another = reader.id_of("cat"), reader.id_of("dog")
    for i in range(down):
        pictures[i, :, i * height : (i + 1) * height] *= -1
    for i in range(count):
        texts[down + i, i] = other if texts[down + i, i] != other else another
    with _outputs(_parts(reader)) as kept:
        if reader.describes:
            reader.logits(reader.see(pictures), texts[:, :count], given)
        if reader.finds:
            reader.module.encode_image(pictures)
            reader.module.encode_text(texts)
    found = []
    for name, output in kept.items():
        differs = (output - output[-1:]).abs().amax(-1)[:-1] > 1e-3 * output.abs().amax()  # (inputs, T)
        rows: list[Tensor] = []
        labels: list[str] = []
        if name != "text tower" and name != "decoder":
            patches = differs[:, 1 : 1 + down * across] if reader.finds else differs[:, : down * across]
            rows += list(patches.reshape(inputs, down, across).any(2).T)
            labels += [str(i + 1) for i in range(down)]
            differs = differs[:, down * across :]
        if name != "image tower":
            rows += list(differs[:, :count].T)
            labels += names
        found.append(Reach(part=name, outputs=tuple(labels), seen=torch.stack(rows).cpu().numpy()))
    return tuple([*(str(i + 1) for i in range(down)), *names]), tuple(found)


# ---------------------------------------------------------------------------------------------------------------- exam


@dataclass(frozen=True, kw_only=True)
class Known:
    """Captions as a reader keeps them: vectors where it has any, else the words themselves."""

    ids: Tensor  # (N, T)
    vectors: Tensor | None  # (N, E)


def known(reader: Reader, captions: Sequence[str]) -> Known:
    ids = reader.ids(captions)
    return Known(ids=ids, vectors=reader.caption_vectors(ids) if reader.finds else None)


def find(reader: Reader, pixels: Tensor, captions: Known) -> Tensor:
    """(N,) how well each caption fits one picture (1, 3, S, S): cosines, or ln p(caption | picture)."""
    if captions.vectors is not None:
        return (reader.picture_vectors(pixels) @ captions.vectors.T)[0]
    return reader.likelihoods(reader.see(pixels), captions.ids)


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What a reader did with the pictures so far."""

    model: str
    parameters: int
    scores: np.ndarray = field(repr=False)  # (pictures so far, N) of each caption
    exact: tuple[bool, ...]  # whether its caption says what the true one says; empty where it says none
    nouns: tuple[int, int, int]  # shared, said, true
    looks: tuple[tuple[float, float], ...]  # of `looked_at`, of every noun that is there
    find_ms: float  # median milliseconds from a picture to its caption among N
    describe_ms: float | None  # median milliseconds of a caption

    @property
    def found(self) -> np.ndarray:
        """(pictures so far,) bool: the true caption is the best."""
        return self.scores.argmax(1) == np.arange(len(self.scores))

    @property
    def captions_found(self) -> float:
        return float(self.found.mean())

    @property
    def figures(self) -> dict[str, float]:
        """What it can do; without what it cannot, or has not yet.

        captions_found, pictures_found: share whose partner is the best of N. captions_exact: share of its captions that
        say what the true one says. noun_precision, noun_recall: of the nouns it says, of the true ones. look_on_thing:
        share of a noun's look that lies on its thing, which is thing_of_picture of the picture. find_ms, describe_ms:
        median milliseconds of a picture.
        """
        count = self.scores.shape[1]
        found = {"captions_found": self.captions_found, "find_ms": self.find_ms}
        if len(self.scores) == count:
            found["pictures_found"] = float((self.scores.argmax(0) == np.arange(count)).mean())
        if self.describe_ms is not None:
            shared, said, true = self.nouns
            found |= {
                "captions_exact": float(np.mean(self.exact)),
                "noun_precision": shared / max(said, 1),
                "noun_recall": shared / max(true, 1),
                "describe_ms": self.describe_ms,
            }
        if self.looks:
            found["look_on_thing"], found["thing_of_picture"] = map(float, np.mean(self.looks, axis=0))
        return found


@dataclass(frozen=True, kw_only=True)
class Frame:
    """All readers so far."""

    marks: tuple[Marks, ...]
    step: int
    steps: int
    seconds: float

    @property
    def chance(self) -> float:
        return 1 / self.marks[0].scores.shape[1]


@one_core  # its products are so small that a second core would only be waited for
def run(settings: ReadersSettings) -> Iterator[Frame]:
    """Every reader finds and describes every picture.

    Raises:
        ModelUnavailable: when a model's files cannot be had.
    """
    begun, world = time.perf_counter(), scenes(settings)
    captions = [scene.full_caption for scene in world]
    done: list[Marks] = []
    for place, name in enumerate(READERS):
        reader = load(name, Reader)
        store = known(reader, captions)
        scores: list[np.ndarray] = []
        exact: list[bool] = []
        looks: list[tuple[float, float]] = []
        nouns = np.zeros(3, int)
        times: list[tuple[float, float]] = []
        for number, scene in enumerate(world, 1):
            start = time.perf_counter()
            pixels = reader.pixels([Image.fromarray(scene.picture)])
            scores.append(find(reader, pixels, store).cpu().numpy())
            middle = time.perf_counter()
            if reader.describes:
                words = describe(reader, reader.see(pixels))
                right, *counts = agreement(sentence(words), scene.full_caption)
                looks += looked_at(words, scene)
                exact.append(right)
                nouns += counts
            times.append((middle - start, time.perf_counter() - middle))
            if number % EVERY == 0 or number == len(world):
                find_ms, describe_ms = np.median(times, axis=0) * 1000
                marks = Marks(
                    model=name,
                    parameters=sum(p.numel() for p in reader.module.parameters()),
                    scores=np.stack(scores),
                    exact=tuple(exact),
                    nouns=(int(nouns[0]), int(nouns[1]), int(nouns[2])),
                    looks=tuple(looks),
                    find_ms=float(find_ms),
                    describe_ms=float(describe_ms) if reader.describes else None,
                )
                yield Frame(
                    marks=(*done, marks),
                    step=place * len(world) + number,
                    steps=len(READERS) * len(world),
                    seconds=time.perf_counter() - begun,
                )
        done.append(marks)


def numbers(settings: ReadersSettings, found: Frame, guess: str | None = None) -> dict:
    """The JSON of the lesson's endpoint."""
    return {
        "seed": settings.seed,
        "steps": found.step,
        "seconds": round(found.seconds, 3),
        "pictures": settings.pictures,
        "baseline": {"chance": found.chance},
        "readers": {marks.model: {"parameters": marks.parameters, **marks.figures} for marks in found.marks},
        "verdict": of_readers(found, guess).record(),
    }
