"""Texts to learn words from: captions of the storybook world, tales whose truth is known, and your own."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipelines.contrast.settings import MOST_CHARACTERS, WordsSettings
from pipelines.errors import UserError
from pipelines.world import storybook

MOST_WORDS = 300  # the most frequent ones are learned, the others left out
LEAST_WORDS, LEAST_LENGTH = 10, 50  # different words, and words in all, of your own text
NEAR = 3  # neighbours whose kind is counted

SPECIES = {  # adult: young, food, sound, home
    "cat": ("kitten", "fish", "meows", "basket"),
    "dog": ("puppy", "bones", "barks", "kennel"),
    "cow": ("calf", "clover", "moos", "barn"),
    "horse": ("foal", "oats", "neighs", "stable"),
    "sheep": ("lamb", "grass", "bleats", "meadow"),
    "goat": ("kid", "thistles", "hums", "hill"),
    "hen": ("chick", "corn", "clucks", "coop"),
    "duck": ("duckling", "weeds", "quacks", "pond"),
    "pig": ("piglet", "turnips", "grunts", "sty"),
    "bear": ("cub", "honey", "growls", "cave"),
}
AGES = {  # how each is, and what it does
    "adult": (("big", "old", "strong"), ("works", "guards", "rests")),
    "young": (("small", "little", "tiny"), ("plays", "tumbles", "grows")),
}
TALES = (
    "the {how} {animal} eats {food}",
    "the {how} {animal} {sound} and {does}",
    "a {how} {animal} {does} in the {home}",
    "the {animal} is {how} and {does}",
)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Sentences as numbers. Words are ordered by frequency, the most frequent first."""

    words: tuple[str, ...]  # V
    sentences: tuple[tuple[int, ...], ...]  # each word's place in `words`
    kinds: dict[str, str] = field(default_factory=dict)  # of the words whose kind is known
    analogies: tuple[tuple[str, str, str, str], ...] = ()  # a is to b as c is to d

    @cached_property
    def frequency(self) -> np.ndarray:
        """(V,) how often each word occurs."""
        return np.bincount([word for sentence in self.sentences for word in sentence], minlength=len(self.words))

    @cached_property
    def kind(self) -> np.ndarray:
        """(V,) the number of each word's kind; -1 where there is none."""
        names = list(dict.fromkeys(self.kinds.values()))
        return np.array([names.index(self.kinds[word]) if word in self.kinds else -1 for word in self.words])

    @property
    def kind_chance(self) -> float | None:
        """The share of a random neighbour's being of the same kind, over the words whose kind is known."""
        known = Counter(self.kind[self.kind >= 0].tolist())
        total = sum(known.values())
        return sum(n * (n - 1) for n in known.values()) / (total * (total - 1)) if total > NEAR else None

    def pairs(self, sentence: int, window: int) -> list[tuple[str, str]]:
        """The examples that one sentence gives, a word and a neighbour each: its labels are its own words."""
        one = Corpus(words=self.words, sentences=(self.sentences[sentence],))
        return [(self.words[word], self.words[other]) for word, near in one.windows(window) for other in near]

    def windows(self, window: int) -> list[tuple[int, list[int]]]:
        """Each word that has neighbours, and the neighbours at most `window` places away in its sentence."""
        return [
            (word, [*sentence[max(0, place - window) : place], *sentence[place + 1 : place + 1 + window]])
            for sentence in self.sentences
            for place, word in enumerate(sentence)
            if len(sentence) > 1
        ]


def corpus_of(
    sentences: Sequence[Sequence[str]],
    kinds: dict[str, str] | None = None,
    analogies: Sequence[tuple[str, str, str, str]] = (),
) -> Corpus:
    """The corpus of these sentences, with at most MOST_WORDS different words."""
    counted = Counter(word for sentence in sentences for word in sentence)
    words = tuple(word for word, _ in sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_WORDS])
    number = {word: place for place, word in enumerate(words)}
    numbered = tuple(tuple(number[word] for word in sentence if word in number) for sentence in sentences)
    known = {word: kind for word, kind in (kinds or {}).items() if word in number}
    return Corpus(
        words=words,
        sentences=numbered,
        kinds=known,
        analogies=tuple(each for each in analogies if all(word in number for word in each)),
    )


def captions_corpus(count: int, seed: int) -> Corpus:
    """Captions of the storybook world, as `storybook.scene` words them, of scenes that are not drawn."""
    rng = np.random.default_rng(seed)
    nothing, sentences = np.zeros((0, 0), bool), []
    paints, places = tuple(storybook.COLOURS), tuple(storybook.PLACES)
    for number in rng.choice(3, count, p=(0.35, 0.45, 0.2)) + 1:
        objects = []
        for noun in rng.permutation(len(storybook.NOUNS))[:number]:
            name = storybook.NOUNS[noun]
            colour = paints[rng.integers(len(paints))] if name in storybook.THINGS else None
            objects.append(storybook.SceneObject(noun=name, colour=colour, box=(0, 0, 0, 0), mask=nothing))
        caption = storybook.random_caption(objects, places[rng.integers(len(places))], rng)
        sentences.append(caption.replace(",", "").split())
    kinds = dict.fromkeys(storybook.ANIMALS, "animal") | dict.fromkeys(storybook.THINGS, "thing")
    kinds |= dict.fromkeys(storybook.COLOURS, "colour") | dict.fromkeys(storybook.PLACES, "place")
    return corpus_of(sentences, kinds)


def tales_corpus(count: int, seed: int, told: bool = True) -> Corpus:
    """Sentences about ten species, old and young: the food, sound and home are the species', the rest is the age's.

    Args:
        told: False draws what tells the age at random, so that only the species is left in the neighbours.
    """
    rng = np.random.default_rng(seed)
    sentences = []
    for _ in range(count):
        adult, (young, food, sound, home) = list(SPECIES.items())[rng.integers(len(SPECIES))]
        age = list(AGES)[rng.integers(2)]
        said = age if told else list(AGES)[rng.integers(2)]
        how, does = (str(rng.choice(choices)) for choices in AGES[said])
        animal = adult if age == "adult" else young
        tale = TALES[rng.integers(len(TALES))]
        sentences.append(tale.format(how=how, animal=animal, food=food, sound=sound, does=does, home=home).split())
    kinds = dict.fromkeys(SPECIES, "adult")
    for young, food, sound, home in SPECIES.values():
        kinds |= {young: "young", food: "food", sound: "sound", home: "home"}
    families = [(adult, facts[0]) for adult, facts in SPECIES.items()]
    pairs = [pair for family in families for pair in (family, family[::-1])]
    analogies = [(*a, *b) for a in pairs for b in pairs if (a in families) == (b in families) and a != b]
    return corpus_of(sentences, kinds, analogies)


def own_corpus(text: str) -> Corpus:
    """Your own text: sentences end at . ! ? ; : and line ends, words are letters, case does not matter.

    Raises:
        UserError: for a text that is empty, too long, or has too few words to learn from.
    """
    if not text or not text.strip():
        raise UserError("There is no text to learn from. Paste one: some hundred words at least.")
    if len(text) > MOST_CHARACTERS:
        raise UserError(
            "The text is too long: {length} characters of at most {most}. Paste a part of it.",
            length=len(text),
            most=MOST_CHARACTERS,
        )
    sentences = [
        re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", part.lower()) for part in re.split(r"[.!?;:\n。！？]+", text)
    ]
    different, total = len({word for s in sentences for word in s}), sum(len(s) for s in sentences)
    if different < LEAST_WORDS or total < LEAST_LENGTH or max(len(s) for s in sentences) < 2:
        raise UserError(
            "The text has {total} words, {different} of them different: too few to learn from. It takes at least "
            "{least} words, {least_different} different ones, in sentences, with spaces between words.",
            total=total,
            different=different,
            least=LEAST_LENGTH,
            least_different=LEAST_WORDS,
        )
    return corpus_of([sentence for sentence in sentences if sentence])


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


def read(settings: WordsSettings) -> Corpus:
    """The text of these settings.

    Raises:
        UserError: for an own text that is empty, too long or too short.
    """
    if settings.corpus == "own":
        return own_corpus(settings.text)
    if settings.corpus == "tales":
        return tales_corpus(settings.sentences, settings.seed, settings.age_told)
    return captions_corpus(settings.sentences, settings.seed)
