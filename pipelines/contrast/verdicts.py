"""What a class expects of each lesson before it runs, and what the run says. Everything is computed from the run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pipelines.contrast.corpora import Corpus, pair_counts, pmi_of, read
from pipelines.contrast.settings import InformationSettings, WordsSettings
from pipelines.predictions import Verdict, judge

if TYPE_CHECKING:
    from pipelines.contrast import information, matrix, negatives, readers, word_vectors

ASKED = 500  # pictures a 5-NN is measured on

# ----------------------------------------------------------------------------------------------------------- the matrix

MATRIX = "Which wrong caption is pushed away hardest, and how hard is the right one pulled?"
MATRIX_ANSWERS = {
    "nearest": "The most similar one; the right one is pulled as hard as all wrong ones are pushed together",
    "harder": "The most similar one; the right one is pulled harder than that",
    "alike": "All wrong ones alike",
    "none": "None: the right one is pulled, and that is all",
}


def of_matrix(found: matrix.Matrix, guess: str | None = None) -> Verdict:
    """What the derivative of this very matrix does to the wrong captions, and to the right ones."""
    lines, n = found.lines, len(found.captions)
    own = np.tile(np.eye(n, dtype=bool), (len(lines) // n, 1))
    wrong = lines[~own].reshape(len(lines), n - 1)
    sides = {"rows": found.similarity, "columns": found.similarity.T}
    similar = np.concatenate([sides[side] for side in found.sides])[~own].reshape(len(lines), n - 1)
    pushed, pulled = wrong.sum(1), -lines[own]
    gap = float(np.abs(pulled - pushed).max())
    if wrong.max() <= 0:
        return judge(
            MATRIX_ANSWERS,
            guess,
            "none",
            "No wrong caption is pushed: this formula pulls all {count} of a line.",
            count=n,
        )
    if n > 2 and float(np.ptp(similar, axis=1).max()) < 1e-9:
        message = "All wrong ones are pushed alike, by {push:.4f}: their similarities are equal."
        return judge(MATRIX_ANSWERS, guess, "alike", message, push=float(wrong[0, 0]))
    message = (
        "The hardest push, {push:.4f}, is on the most similar wrong one; pull and pushes of a line differ by {gap:.0e}."
    )
    answer = "nearest" if gap < 1e-9 else "harder"
    return judge(MATRIX_ANSWERS, guess, answer, message, push=float(wrong.max()), gap=gap)


# --------------------------------------------------------------------------------------------------- what it can know

INFORMATION = "The truth is {truth:.1f} nats. What does the estimate with N = {batch} say?"
INFORMATION_ANSWERS = {
    "truth": "About the truth",
    "ceiling": "Close to ln N, and never more",
    "below": "Clearly less than both",
    "more": "More than the truth",
}


def information_asked(settings: InformationSettings) -> dict[str, object]:
    """The values of INFORMATION."""
    return {"truth": settings.truth, "batch": settings.batch}


def of_information(found: information.Estimate, guess: str | None = None) -> Verdict:
    """Where the last estimate lies: at the truth, at ln N, or under both."""
    estimate, truth, ceiling = found.estimate, found.truth, found.ceiling
    values = {"estimate": estimate, "truth": truth, "ceiling": ceiling, "batch": found.batch}
    told = "At N = {batch} it says {estimate:.2f} nats; the truth is {truth:.2f}, ln N is {ceiling:.2f}."
    near = max(0.1 * truth, 0.05)
    if estimate > truth + near:
        answer = "more"
    elif estimate > truth - near:
        answer = "truth"
    else:
        answer = "ceiling" if estimate > 0.9 * ceiling else "below"
    return judge(INFORMATION_ANSWERS, guess, answer, told, **values)


# ---------------------------------------------------------------------------------------------------------- negatives

NEGATIVES = "One negative in six is false: the same thing. Does pushing hardest on the most similar help all the same?"
NEGATIVES_ANSWERS = {
    "more": "It helps: B knows more than A",
    "same": "No difference that 500 pictures could show",
    "less": "It hurts: B knows less than A",
}


def of_negatives(found: negatives.Frame, guess: str | None = None) -> Verdict:
    """Whether B's 5-NN differs from A's by more than 1.96 standard errors of their difference over ASKED pictures."""
    a, b = found.a.knn, found.b.knn
    error = 1.96 * math.sqrt((a * (1 - a) + b * (1 - b)) / ASKED)
    answer = "same" if abs(a - b) <= error else "more" if b > a else "less"
    message = "A tells {a:.1%} of {count} pictures by their neighbours, B {b:.1%}; chance alone makes ±{error:.1%}."
    return judge(NEGATIVES_ANSWERS, guess, answer, message, a=a, b=b, count=ASKED, error=error)


# --------------------------------------------------------------------------------------------------------------- words

WORDS = "From the text alone: where will {word} land?"
WORDS_ANSWERS = {
    "kind": "Beside a word that could stand in its place",
    "company": "Beside a word that often stands next to it",
    "common": "Beside one of the commonest words",
    "nowhere": "Nowhere: as far from all words as a one-hot code",
}


def words_asked(settings: WordsSettings) -> dict[str, object]:
    """The values of WORDS."""
    return {"word": probe(read(settings)) if settings.corpus == "own" else "cat"}


def probe(corpus: Corpus) -> str:
    """The word that is asked about: cat, else the commonest word of four letters or more."""
    if "cat" in corpus.kinds:
        return "cat"
    return next((word for word in corpus.words if len(word) > 3), corpus.words[0])


def of_words(found: word_vectors.Step, guess: str | None = None) -> Verdict:
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
    return judge(WORDS_ANSWERS, guess, answer, message, **values)


# ------------------------------------------------------------------------------------------------------ three readers

READERS_ASKED = (
    "SimVLM learned to say captions and nothing else, CoCa to find them as well. Who says more of them right?"
)
READERS_ANSWERS = {
    "simvlm": "SimVLM, which learned nothing else",
    "coca": "CoCa, which learned to find as well",
    "same": "No difference that these pictures could show",
}


def of_readers(found: readers.Frame, guess: str | None = None) -> Verdict:
    """Whose captions are right more often, where the two differ on the same pictures by more than 1.96 standard
    errors."""
    clip, simvlm, coca = found.marks
    differs = np.array(coca.exact, float) - np.array(simvlm.exact, float)
    error = 1.96 * float(differs.std()) / math.sqrt(len(differs))
    answer = "same" if abs(float(differs.mean())) <= error else "coca" if differs.mean() > 0 else "simvlm"
    message = (
        "Right in everything: SimVLM {simvlm_says:.0%}, CoCa {coca_says:.0%} (chance alone makes ±{error:.0%}); CLIP "
        "says nothing. Found, 1 of {count}: CLIP {clip:.0%} in {clip_ms:.0f} ms each, SimVLM {simvlm:.0%} in "
        "{simvlm_ms:.0f}, CoCa {coca:.0%} in {coca_ms:.0f}."
    )
    return judge(
        READERS_ANSWERS,
        guess,
        answer,
        message,
        simvlm_says=simvlm.figures["captions_exact"],
        coca_says=coca.figures["captions_exact"],
        error=error,
        count=clip.scores.shape[1],
        clip=clip.captions_found,
        simvlm=simvlm.captions_found,
        coca=coca.captions_found,
        clip_ms=clip.find_ms,
        simvlm_ms=simvlm.find_ms,
        coca_ms=coca.find_ms,
    )
