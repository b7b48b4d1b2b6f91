"""The words of a prompt, the tokens each is made of, and the subjects a picture of it must show.

Subjects are found by the shape of English noun phrases, without a language model: "a red car" has the noun "car" and
the adjective "red"; what follows "in the" or "on", without an article of its own, is a place. Whoever disagrees names
the subjects himself.
"""

import re
from dataclasses import dataclass, replace

from pipelines.errors import UserError
from pipelines.loading import Painter, not_known

MOST_CHARACTERS = 2000  # more are refused before any tokenizer sees them
ARTICLES = {"a", "an", "the", "one", "two", "three", "four", "some", "my", "your", "his", "her", "its", "their"}
INDEFINITE = ARTICLES - {"the"}
PLACING = {"on", "in", "at", "under", "over", "near", "behind", "by", "from", "into", "through", "during"}
JOINING = {"and", "with", "or", "of", "beside", "next", "to", "left", "right", "above", "below", "for", "is", "are"}
JOINING |= {"while", "that", "which", "wearing", "holding", "riding", "as", "like", "without"}
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class Word:
    """A word of the prompt, as the model reads it."""

    text: str
    tokens: tuple[int, ...]  # places in the sequence, counted with the start token as 0
    pieces: tuple[str, ...]  # the text of each token


@dataclass(frozen=True)
class Subject:
    """A thing the picture must show."""

    noun: str
    adjectives: tuple[str, ...]
    word: int  # the noun's place among the words
    tokens: tuple[int, ...]  # the noun's

    @property
    def phrase(self) -> str:
        return " ".join([*self.adjectives, self.noun])


@dataclass(frozen=True)
class Prompt:
    text: str
    words: tuple[Word, ...]
    subjects: tuple[Subject, ...]
    length: int  # tokens, start and end included
    most: int  # tokens the model reads


def read_with(painter: Painter, text: str, subjects: str = "") -> Prompt:
    """Words, tokens and subjects of a prompt for this model.

    Args:
        subjects: words of the prompt with commas in between; empty to find its nouns.

    Raises:
        UserError: for a prompt that is empty, too long, or has words the model does not know; for subjects that are
            not in it.
    """
    if not isinstance(text, str) or not text.strip():
        raise UserError("There is nothing to draw yet. Type what the picture should show, such as: a cat and a frog")
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"The prompt has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read. Shorten it.")
    tokenizer = painter.pipe.tokenizer
    encoded = tokenizer(text, return_offsets_mapping=True, truncation=False, verbose=False)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    if painter.vocabulary is not None:
        lost = [text[a:b] for i, (a, b) in zip(ids, offsets, strict=True) if i == tokenizer.unk_token_id]
        if lost:
            raise UserError(not_known(painter.spec, list(dict.fromkeys(lost)), painter.vocabulary))
    most = tokenizer.model_max_length
    if len(ids) > most:
        raise UserError(
            f"{painter.spec.name} reads at most {most - 2} pieces of words, and this prompt has {len(ids) - 2}. "
            "Shorten it."
        )
    words = []
    for match in WORD.finditer(text):
        places = [n for n, (a, b) in enumerate(offsets) if a < match.end() and b > match.start() and b > a]
        pieces = tuple(text[offsets[n][0] : offsets[n][1]].strip() for n in places)
        words.append(Word(match.group(), tuple(places), pieces))
    if not words:
        raise UserError("There is no word in the prompt. Type what the picture should show, such as: a cat and a frog")
    prompt = Prompt(text, tuple(words), (), len(ids), most)
    return replace(prompt, subjects=_named(prompt, subjects) if subjects.strip() else _found(text, prompt))


def sketch(text: str) -> Prompt:
    """Words and subjects of any text, before a model has read it: without tokens."""
    words = tuple(Word(match.group(), (), ()) for match in WORD.finditer(text[:MOST_CHARACTERS]))
    prompt = Prompt(text, words, (), 0, 0)
    return replace(prompt, subjects=_found(text[:MOST_CHARACTERS], prompt))


def _found(text: str, prompt: Prompt) -> tuple[Subject, ...]:
    """Noun phrases: runs of words between articles, joining words, placing words and punctuation."""
    subjects, run = [], []
    before = article = ""  # the last placing or joining word, and the article after it
    lower = [word.text.lower() for word in prompt.words]
    ends = [match.end() for match in WORD.finditer(text)]
    starts = [match.start() for match in WORD.finditer(text)]

    def close(after: str) -> None:
        names = list(run)
        while len(names) > 1 and lower[names[-1]].endswith("ing"):  # "a cat sitting on ..."
            names.pop()
        placed = before in PLACING and article not in INDEFINITE
        if names and not placed and after != "of":
            subjects.append(_subject(prompt, names[-1], names[:-1]))
        run.clear()

    for place, word in enumerate(lower):
        apart = place > 0 and re.search(r"[^\s]", text[ends[place - 1] : starts[place]])
        if apart:
            close("")
            before = article = ""
        if word in ARTICLES:
            close("")
            article = word
        elif word in PLACING or word in JOINING:
            close(word)
            before, article = word, ""
        else:
            run.append(place)
    close("")
    return tuple(subjects)


def _subject(prompt: Prompt, noun: int, adjectives: list[int]) -> Subject:
    word = prompt.words[noun]
    return Subject(word.text.lower(), tuple(prompt.words[n].text.lower() for n in adjectives), noun, word.tokens)


def _named(prompt: Prompt, text: str) -> tuple[Subject, ...]:
    """The subjects somebody named: the last word of each is its noun, the others its adjectives."""
    lower, used, subjects = [word.text.lower() for word in prompt.words], set(), []
    for name in filter(None, (part.strip().lower() for part in text.split(","))):
        parts = [match.group() for match in WORD.finditer(name)]
        fits = [
            end
            for end in range(len(parts) - 1, len(lower))
            if lower[end - len(parts) + 1 : end + 1] == parts and end not in used
        ]
        if not parts or not fits:
            raise UserError(
                f"{name[:60]!r} is not in the prompt (or not that often). Its words are: "
                f"{', '.join(dict.fromkeys(lower))}."
            )
        used.add(fits[0])
        subjects.append(_subject(prompt, fits[0], list(range(fits[0] - len(parts) + 1, fits[0]))))
    return tuple(subjects)


def chosen_subjects(prompt: Prompt) -> tuple[Subject, ...]:
    """The prompt's subjects.

    Raises:
        UserError: when there is none.
    """
    if not prompt.subjects:
        raise UserError("No subject was found in the prompt. Click the words that the picture must show.")
    return prompt.subjects
