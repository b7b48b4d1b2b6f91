"""Words from neighbours: against gensim, against counts, against what is known of the text."""

import json
import math
from dataclasses import replace

import gensim
import numpy as np
import pytest
import torch

from pipelines.contrast import corpora, word_vectors
from pipelines.contrast.corpora import captions_corpus, own_corpus, pair_counts, pmi_of, tales_corpus
from pipelines.contrast.settings import METHODS
from pipelines.contrast.settings import WordsSettings as Settings
from pipelines.contrast.verdicts import WORDS, of_words, words_asked
from pipelines.contrast.word_vectors import loss_of, numbers, run
from pipelines.errors import UserError

TEXT = "Every morning the baker sells bread. In the evening the butcher sells meat! " * 8


def last(settings: Settings) -> word_vectors.Step:
    *_, end = run(settings)
    return end


@pytest.fixture(scope="module")
def captions() -> word_vectors.Step:
    return last(Settings(sentences=4000, steps=1500))


@pytest.fixture(scope="module")
def tales() -> word_vectors.Step:
    return last(Settings(corpus="tales", sentences=400))


def test_skipgram_factorises_pmi(captions):
    """Levy and Goldberg, equation 11: w . c = PMI - ln k, over some thousand pairs."""
    correlation, distance = captions.pmi_fit
    assert correlation >= 0.95 and distance < 0.2 and len(captions.pmi[0]) > 1000
    assert captions.first.pmi_fit[0] < 0.2, "which an untrained one does not"


def test_gensim_learns_the_same_from_the_same(captions):
    corpus = captions.corpus
    peer = gensim.models.Word2Vec(
        [[corpus.words[word] for word in sentence] for sentence in corpus.sentences],
        vector_size=32,
        window=3,
        sg=1,
        negative=5,
        ns_exponent=1.0,
        sample=0,
        min_count=1,
        epochs=40,
        shrink_windows=False,
        seed=1,
        workers=1,
        alpha=0.05,
    )
    order = [peer.wv.key_to_index[word] for word in corpus.words]
    theirs = replace(captions, vectors=peer.wv.vectors[order], contexts=peer.syn1neg[order])
    pairs = np.triu_indices(len(corpus.words), 1)
    assert np.corrcoef(theirs.cosines[pairs], captions.cosines[pairs])[0, 1] > 0.9
    assert theirs.pmi_fit[0] > 0.9 and abs(theirs.purity - captions.purity) < 0.08


def test_the_loss_is_equation_4():
    rng = torch.Generator().manual_seed(0)
    w, c = torch.randn(2, 5, 3, generator=rng, dtype=torch.float64)
    words, others, drawn = torch.tensor([0, 3]), torch.tensor([1, 2]), torch.tensor([[4, 0, 2], [1, 1, 3]])
    expected = 0.0
    for word, other, negatives in zip(words, others, drawn, strict=True):
        expected -= torch.log(torch.sigmoid(w[word] @ c[other]))
        expected -= sum(torch.log(torch.sigmoid(-w[word] @ c[n])) for n in negatives)
    assert float(loss_of(w @ c.T, words, others, drawn)) == pytest.approx(float(expected) / 2, abs=1e-12)
    assert float(loss_of(torch.zeros(5, 5), words, others, drawn)) == pytest.approx(4 * math.log(2))


def test_counts_and_pmi_by_hand():
    corpus = corpora.corpus_of([["a", "b", "c"], ["a", "b"], ["d"]])
    counts, place = pair_counts(corpus, 1), corpus.words.index
    assert counts[place("a"), place("b")] == counts[place("b"), place("a")] == 2 and counts.sum() == 6
    assert counts[place("a"), place("c")] == 0 and pair_counts(corpus, 2)[place("a"), place("c")] == 1
    assert pmi_of(counts)[place("a"), place("b")] == pytest.approx(math.log((2 / 6) / (2 / 6 * 3 / 6)))
    assert pmi_of(counts)[place("a"), place("c")] == -math.inf


def test_words_of_a_kind_are_neighbours(captions):
    assert captions.purity > 0.85 and captions.first.purity < 0.4 and abs(captions.corpus.kind_chance - 0.253) < 0.001
    assert captions.corpus.kinds[captions.neighbours("cat")[0][0]] == "animal"
    assert of_words(captions, "kind").right and of_words(captions, "company").right is False


def test_analogies_are_worth_what_they_are_above_the_nearest_neighbour(tales):
    answered, neighbour, chance = tales.analogies
    assert len(tales.corpus.analogies) == 180 and chance < 0.02
    assert answered > 0.9 and neighbour < 0.1
    untold = last(Settings(corpus="tales", sentences=1000, age_told=False)).analogies
    assert untold[0] > 0.9 and untold[1] > 0.9, "the nearest neighbour alone is the answer: nothing was learned of age"


def test_an_analogy_is_drawn_as_a_parallelogram(tales):
    a, b, c, d, sought = tales.parallelogram("cat", "kitten", "dog", "puppy")
    assert np.allclose(a, 0) and np.allclose(sought, b + c)
    unit = {word: tales.unit[tales.corpus.words.index(word)] for word in ("cat", "kitten", "dog")}
    assert np.linalg.norm(b) == pytest.approx(np.linalg.norm(unit["kitten"] - unit["cat"]), abs=1e-6)
    assert np.linalg.norm(sought - d) < np.linalg.norm(c - d), "nearer to puppy than dog itself"


def test_a_sentence_is_its_own_labels():
    corpus = corpora.corpus_of([["the", "small", "kitten", "eats"]])
    assert corpus.pairs(0, 1) == [
        ("the", "small"),
        ("small", "the"),
        ("small", "kitten"),
        ("kitten", "small"),
        ("kitten", "eats"),
        ("eats", "kitten"),
    ]


def test_one_hot_codes_are_all_equally_far(tales):
    size = len(tales.corpus.words)
    same = replace(tales, vectors=np.eye(size, dtype=np.float32))
    assert np.array_equal(same.cosines, np.eye(size)) and same.neighbours("cat")[0][1] == 0
    assert of_words(same).answer == "nowhere"


def test_cbow_learns_kinds_and_claims_no_pmi():
    found = last(Settings(method="cbow"))
    assert found.purity > 0.85 and found.pmi is None and found.loss < found.chance / 2


def test_pictures_are_turned_to_the_one_before():
    steps = list(run(Settings(corpus="tales", sentences=100, steps=60)))
    moves = [np.abs(b.positions - a.positions).max() for a, b in zip(steps[3:], steps[4:], strict=False)]
    assert max(moves) < 1, "no axis flips from one picture to the next"
    assert [step.step for step in steps] == [0, 10, 20, 30, 40, 50, 60] and math.isnan(steps[0].loss)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_is_the_same_run_on_one_and_on_two_threads(method):
    runs, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs.append([step.vectors.tobytes() for step in run(Settings(method=method, steps=30))])
    torch.set_num_threads(before)
    assert runs[0] == runs[1]


def test_tales_tell_what_they_promise():
    corpus = tales_corpus(300, 1)
    counts, place = pair_counts(corpus, 8), corpus.words.index
    assert counts[place("kitten"), place("fish")] > 0 == counts[place("kitten"), place("bones")]
    assert counts[place("kitten"), place("small")] > 0 == counts[place("kitten"), place("big")]
    mixed = tales_corpus(300, 1, told=False)
    old = [mixed.words.index(word) for word in corpora.AGES["adult"][0]]
    assert pair_counts(mixed, 8)[mixed.words.index("kitten"), old].sum() > 0


def test_captions_are_those_of_the_world():
    corpus = captions_corpus(200, 0)
    assert len(corpus.sentences) == 200 and {"cat", "red", "a", "grass"} <= set(corpus.words)
    assert captions_corpus(200, 0) == corpus != captions_corpus(200, 1)


def test_your_own_text_in_any_script():
    found = last(Settings(corpus="own", text=TEXT, steps=300))
    assert "baker" in found.corpus.words and found.purity is None and found.analogies is None
    assert numbers(Settings(), found)["baseline"]["purity"] is None
    word = words_asked(Settings(corpus="own", text=TEXT))["word"]
    assert word in WORDS.format(word=word) and word in found.corpus.words
    greek = own_corpus("Η γάτα τρώει ψάρι και κοιμάται. Ο σκύλος τρώει κόκαλα και γαβγίζει. " * 6)
    assert "γάτα" in greek.words and "." not in greek.words


def test_a_large_vocabulary_is_cut():
    words = [f"{a}{b}{c}" for a in "abcdefghij" for b in "klmnopqrst" for c in "uvwxyz"]
    found = own_corpus(" ".join(words + ["often"] * 5) + ".")
    assert len(found.words) == corpora.MOST_WORDS and found.words[0] == "often"


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "There is no text"),
        (" \n ", "There is no text"),
        ("word " * 100, "100 words, 1 of them different: too few"),
        ("我爱北京天安门" * 30, "1 words, 1 of them different"),
        ("1 2 3 4 5 6 7 8 9 10 !!! ??? " * 20, "0 words"),
        ("one two three " * 5000, "too long"),
        (None, "There is no text"),
    ],
)
def test_a_text_that_teaches_nothing_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        next(run(Settings(corpus="own", text=text)))


@pytest.mark.parametrize("bad", [{"window": 0}, {"size": float("nan")}, {"negatives": 16}, {"method": "glove"}])
def test_settings_have_limits(bad):
    with pytest.raises(UserError, match="must be"):
        next(run(Settings(**bad)))


def test_numbers_are_json_with_their_baselines(tales):
    said = json.loads(json.dumps(numbers(Settings(corpus="tales"), tales, "kind"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["baseline"]["one_hot_cosine"] == 0 and said["baseline"]["purity_untrained"] < 0.4
    assert said["analogies_above_neighbour"] > 0.9
