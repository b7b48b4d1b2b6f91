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

from pipelines.contrast.corpora import NEAR, Corpus, pair_counts, pmi_of, read
from pipelines.contrast.settings import WordsSettings
from pipelines.contrast.verdicts import of_words
from pipelines.one_core import one_core
from pipelines.projection import principal_plane
from pipelines.settings import checked

BATCH, RATE = 1024, 0.02  # words a step; of Adam, falling to 0
EVERY = 10  # steps between two pictures
SEEN = 5  # how often a pair must occur for its count to be compared


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


@one_core
def run(settings: WordsSettings) -> Iterator[Step]:
    """The vectors before and during training; the first step is untrained.

    Raises:
        UserError: for a setting out of its limits, and what `read` raises.
    """
    settings = checked(WordsSettings, vars(settings))
    start = time.perf_counter()
    corpus = read(settings)
    rng = torch.Generator().manual_seed(settings.seed)
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
    vectors = ((torch.rand(size, settings.size, generator=rng) - 0.5) / settings.size).requires_grad_()
    contexts = torch.zeros(size, settings.size, requires_grad=True)
    first, positions, loss = None, None, math.nan

    def now(step: int) -> Step:
        nonlocal first, positions
        kept = vectors.detach().numpy().copy()
        positions = principal_plane(kept, positions)
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
        batch = torch.randint(len(centre), (BATCH,), generator=rng)
        drawn = torch.multinomial(occurrence, BATCH * settings.negatives, True, generator=rng).view(BATCH, -1)
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


def numbers(settings: WordsSettings, found: Step, guess: str | None = None) -> dict:
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
        "verdict": of_words(found, guess).record(),
    }
