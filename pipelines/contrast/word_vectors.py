"""Words from their neighbours: skip-gram and CBOW with negative sampling, beside the counts they stand for.

One-hot codes make all words equally far apart. word2vec (Mikolov et al. 2013, https://arxiv.org/abs/1310.4546, equation
4; CBOW: https://arxiv.org/abs/1301.3781, section 3.1) learns a vector w and a context vector c of every word by telling
the words that stood near from k words drawn by frequency: no labels but the text. Where skip-gram does that perfectly,
w . c = PMI(w, c) - ln k (Levy and Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization", section
3.1). That holds for negatives drawn as often as words occur, so they are drawn so here, not by word2vec's power of 3/4.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pipelines.contrast.corpora import MOST_CHARACTERS, NEAR, Corpus, captions_corpus, own_corpus, tales_corpus
from pipelines.contrast.planes import two_axes
from pipelines.one_core import one_core
from pipelines.predictions import Verdict, judge
from pipelines.settings import checked, setting

CORPORA = {"captions": "captions of drawn scenes", "tales": "tales of old and young animals", "own": "your own text"}
METHODS = {
    "skipgram": "skip-gram: the word tells each neighbour",
    "cbow": "CBOW: the neighbours together tell the word",
}
BATCH, RATE = 1024, 0.02  # words a step; of Adam, falling to 0
EVERY = 10  # steps between two pictures
SEEN = 5  # how often a pair must occur for its count to be compared

QUESTION = "From the text alone: where will {word} land?"
ANSWERS = {
    "kind": "Beside a word that could stand in its place",
    "company": "Beside a word that often stands next to it",
    "common": "Beside one of the commonest words",
    "nowhere": "Nowhere: as far from all words as a one-hot code",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    corpus: str = setting("captions", "Text", "What is read.", choices=CORPORA)
    text: str = setting("", "Your own text", "Read where 'your own text' is chosen.", most=MOST_CHARACTERS)
    method: str = setting("skipgram", "Method", "What is told from what.", choices=METHODS)
    window: int = setting(3, "Window", "A neighbour is at most so many words away.", low=1, high=8, step=1)
    size: int = setting(32, "Length of a vector", low=2, high=64, step=1)
    negatives: int = setting(5, "Negatives, k", "Random words for each true one.", low=1, high=15, step=1)
    sentences: int = setting(2000, "Sentences", "Of captions or tales.", low=50, high=5000, step=50)
    age_told: bool = setting(
        True,
        "Tales tell the age",
        "Off: small and big, plays and works are dealt out at random.",
        noun="'Tales tell the age'",
    )
    steps: int = setting(1000, "Steps", "Of training.", low=10, high=5000, step=10)
    seed: int = setting(42, "Seed", "Of the text, the first vectors and the negatives.", low=0, high=2**31 - 1, step=1)


@dataclass(frozen=True, kw_only=True)
class Step:
    """The vectors after some steps, and what they know. Arrays are float32 unless said."""

    step: int
    steps: int
    corpus: Corpus
    loss: float  # nats for each word with its negatives; NaN at step 0
    vectors: np.ndarray  # (V, d) w
    contexts: np.ndarray  # (V, d) c
    positions: np.ndarray  # (V, 2) the vectors on their two main axes, turned as the step before
    negatives: int
    window: int
    skipgram: bool
    seconds: float
    first: "Step | None"  # the untrained one

    @property
    def chance(self) -> float:
        """The loss of knowing nothing: (1 + k) ln 2."""
        return (1 + self.negatives) * math.log(2)

    @cached_property
    def unit(self) -> np.ndarray:
        """(V, d) of length 1."""
        return self.vectors / np.maximum(np.linalg.norm(self.vectors, axis=1, keepdims=True), 1e-12)

    @cached_property
    def cosines(self) -> np.ndarray:
        """(V, V). Those of one-hot codes are 0 for all pairs of different words."""
        return self.unit @ self.unit.T

    @cached_property
    def purity(self) -> float | None:
        """Share of the NEAR nearest neighbours that are of a word's own kind, among words whose kind is known."""
        kind = self.corpus.kind
        known = np.flatnonzero(kind >= 0)
        if self.corpus.kind_chance is None:
            return None
        near = self.cosines[np.ix_(known, known)] - 3 * np.eye(len(known))
        return float((kind[known][near.argsort(1)[:, -NEAR:]] == kind[known][:, None]).mean())

    @cached_property
    def analogies(self) -> tuple[float, float, float] | None:
        """Share of analogies a : b = c : ? answered by the word nearest to b - a + c; by the word nearest to c alone
        (Linzen 2016, https://arxiv.org/abs/1606.07736, section 3), without which the first says nothing; by chance."""
        asked = self.corpus.analogies
        if not asked:
            return None
        place = {word: number for number, word in enumerate(self.corpus.words)}
        a, b, c, d = np.array([[place[word] for word in each] for each in asked]).T
        unit, shares = self.unit, []
        for sought in (unit[b] - unit[a] + unit[c], unit[c]):
            scores = sought @ unit.T
            for taken in (a, b, c):
                scores[np.arange(len(a)), taken] = -np.inf
            shares.append(float((scores.argmax(1) == d).mean()))
        return shares[0], shares[1], 1 / (len(place) - 3)

    @cached_property
    def pmi(self) -> tuple[np.ndarray, np.ndarray] | None:
        """w . c and PMI - ln k of every pair that occurs SEEN times or more, float64; None for CBOW and where fewer
        than three pairs do."""
        if not self.skipgram:
            return None
        counts = pair_counts(self.corpus, self.window)
        rows, columns = np.nonzero(counts >= SEEN)
        if len(rows) < 3:
            return None
        learned = (self.vectors.astype(float) @ self.contexts.astype(float).T)[rows, columns]
        return learned, pmi_of(counts)[rows, columns] - math.log(self.negatives)

    @cached_property
    def pmi_fit(self) -> tuple[float, float] | None:
        """Correlation of the two, and the mean distance between them."""
        if self.pmi is None:
            return None
        learned, expected = self.pmi
        steady = min(learned.std(), expected.std()) < 1e-12
        return 0.0 if steady else float(np.corrcoef(learned, expected)[0, 1]), float(np.abs(learned - expected).mean())

    def parallelogram(self, a: str, b: str, c: str, d: str) -> np.ndarray:
        """(5, 2) float64: a, b, c, d and b - a + c in the plane of the first three, a in its origin; d is seen from
        above, for it need not lie in it."""
        places = [self.corpus.words.index(word) for word in (a, b, c, d)]
        points = self.unit[places].astype(float)
        points = np.stack([*points, points[1] - points[0] + points[2]]) - points[0]
        axes, _ = np.linalg.qr(points[1:3].T)
        return points @ axes * np.sign((points[1:2] @ axes).sum(0) + (points[2:3] @ axes).sum(0))

    def neighbours(self, word: str, count: int = 5) -> list[tuple[str, float]]:
        """The nearest other words and their cosines."""
        here = self.corpus.words.index(word)
        order = [n for n in np.argsort(-self.cosines[here], kind="stable") if n != here]
        return [(self.corpus.words[n], float(self.cosines[here, n])) for n in order[:count]]


# --------------------------------------------------------------------------------------------------------------- counts


def pair_counts(corpus: Corpus, window: int) -> np.ndarray:
    """(V, V) how often a word (row) has a neighbour (column)."""
    pairs = np.array([(word, other) for word, near in corpus.windows(window) for other in near]).reshape(-1, 2)
    size = len(corpus.words)
    return np.bincount(pairs[:, 0] * size + pairs[:, 1], minlength=size * size).reshape(size, size)


def pmi_of(counts: np.ndarray) -> np.ndarray:
    """ln p(w, c) / p(w) p(c) of a table of counts; -inf where a pair never occurs."""
    total = counts.sum()
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counts > 0, np.log(counts / expected), -np.inf)


# ------------------------------------------------------------------------------------------------------------- training


def loss_of(scores: Tensor, words: Tensor, others: Tensor, drawn: Tensor) -> Tensor:
    """Equation 4: -ln s(w . c) of the true pairs, -ln s(-w . c) of the drawn ones, mean over pairs.

    Args:
        scores: (V or B, V) w . c.
        words: (B,) row of each pair.
        others: (B,) the true column.
        drawn: (B, k) the drawn columns.
    """
    return -(logsigmoid(scores[words, others]) + logsigmoid(-scores[words[:, None], drawn]).sum(1)).mean()


def read(settings: Settings) -> Corpus:
    """The text of these settings.

    Raises:
        UserError: for an own text that is empty, too long or too short.
    """
    if settings.corpus == "own":
        return own_corpus(settings.text)
    if settings.corpus == "tales":
        return tales_corpus(settings.sentences, settings.seed, settings.age_told)
    return captions_corpus(settings.sentences, settings.seed)


@one_core
def run(settings: Settings) -> Iterator[Step]:
    """The vectors before and during training; the first step is untrained.

    Raises:
        UserError: for a setting out of its limits, and what `read` raises.
    """
    settings = checked(Settings, vars(settings))
    start = time.perf_counter()
    corpus = read(settings)
    dice = torch.Generator().manual_seed(settings.seed)
    size, skipgram = len(corpus.words), settings.method == "skipgram"
    windows = corpus.windows(settings.window)
    if skipgram:
        centre, near = (torch.tensor(column) for column in zip(*((w, n) for w, ns in windows for n in ns), strict=True))
    else:
        centre = torch.tensor([word for word, _ in windows])
        near = torch.zeros(len(windows), size)  # the share of each word in the neighbours
        for row, (_, words) in enumerate(windows):
            for word in words:
                near[row, word] += 1 / len(words)
    occurrence = torch.from_numpy(
        pair_counts(corpus, settings.window).sum(0) if skipgram else corpus.frequency
    ).double()
    vectors = ((torch.rand(size, settings.size, generator=dice) - 0.5) / settings.size).requires_grad_()
    contexts = torch.zeros(size, settings.size, requires_grad=True)
    first, positions, loss = None, None, math.nan

    def now(step: int) -> Step:
        nonlocal first, positions
        kept = vectors.detach().numpy().copy()
        positions = two_axes(kept, positions)
        found = Step(
            step=step,
            steps=settings.steps,
            corpus=corpus,
            loss=loss,
            vectors=kept,
            contexts=contexts.detach().numpy().copy(),
            positions=positions,
            negatives=settings.negatives,
            window=settings.window,
            skipgram=skipgram,
            seconds=time.perf_counter() - start,
            first=first,
        )
        first = first or found
        return found

    yield now(0)
    optimizer = torch.optim.Adam([vectors, contexts], RATE)  # the first of a process takes its time
    for step in range(1, settings.steps + 1):
        optimizer.param_groups[0]["lr"] = RATE * (1 - (step - 1) / settings.steps)
        batch = torch.randint(len(centre), (BATCH,), generator=dice)
        drawn = torch.multinomial(occurrence, BATCH * settings.negatives, True, generator=dice).view(BATCH, -1)
        if skipgram:
            found = loss_of(vectors @ contexts.T, centre[batch], near[batch], drawn)
        else:
            found = loss_of(near[batch] @ vectors @ contexts.T, torch.arange(BATCH), centre[batch], drawn)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        loss = found.item()
        if step % EVERY == 0 or step == settings.steps:
            yield now(step)


# --------------------------------------------------------------------------------------------------------- the question


def asked(settings: Settings) -> dict[str, object]:
    """The values of QUESTION."""
    return {"word": probe(read(settings)) if settings.corpus == "own" else "cat"}


def probe(corpus: Corpus) -> str:
    """The word that is asked about: cat, else the commonest word of four letters or more."""
    if "cat" in corpus.kinds:
        return "cat"
    return next((word for word in corpus.words if len(word) > 3), corpus.words[0])


def verdict(found: Step, guess: str | None = None) -> Verdict:
    """Where the word lies: beside one of its kind, or beside one that it keeps company with. Of a text whose kinds are
    not known, a nearest word that stands near it no more often than by chance could stand in its place."""
    words = found.corpus.words
    word = probe(found.corpus)
    here = words.index(word)
    (nearest, cosine), counts = found.neighbours(word, 1)[0], pair_counts(found.corpus, found.window)
    there = words.index(nearest)
    kind = found.corpus.kind
    alike = kind[here] >= 0 and kind[here] == kind[there]
    together = pmi_of(counts)[here, there] > 0  # more often than by chance
    if cosine < 0.3:
        answer = "nowhere"
    elif there < 3 and nearest not in found.corpus.kinds:
        answer = "common"
    else:
        answer = "kind" if alike or not together else "company"
    message = "{word} lies beside {nearest} (cosine {cosine:.2f}); they stood near each other {together} times."
    values = {"word": word, "nearest": nearest, "cosine": cosine, "together": int(counts[here, there])}
    return judge(ANSWERS, guess, answer, message, **values)


def numbers(settings: Settings, found: Step, guess: str | None = None) -> dict:
    """The JSON of the endpoint. What a text has no truth for is null."""
    first = found.first or found
    rate = found.analogies
    return {
        "seed": settings.seed,
        "steps": found.step,
        "seconds": round(found.seconds, 3),
        "words": len(found.corpus.words),
        "loss": None if math.isnan(found.loss) else found.loss,
        "purity": found.purity,
        "analogies": rate and rate[0],
        "analogies_above_neighbour": rate and rate[0] - rate[1],
        "pmi_correlation": found.pmi_fit and found.pmi_fit[0],
        "pmi_error": found.pmi_fit and found.pmi_fit[1],
        "neighbours": {word: found.neighbours(word) for word in found.corpus.words[:50]},
        "baseline": {
            "loss": found.chance,
            "purity": found.corpus.kind_chance,
            "purity_untrained": first.purity,
            "analogies": rate and rate[2],
            "analogies_nearest_neighbour": rate and rate[1],
            "one_hot_cosine": 0.0,
        },
        "verdict": verdict(found, guess).record(),
    }
