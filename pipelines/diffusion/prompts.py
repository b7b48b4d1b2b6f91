"""The words of a prompt, the tokens each is made of, and the subjects a picture of it must show.

Subjects are found by the shape of English noun phrases, without a language model: "a red car" has the noun "car" and
the adjective "red"; what follows "in the" or "on", without an article of its own, is a place; colours joined by "and"
belong to one thing ("a black and white cat"), unless each has an article ("a red and a blue car"). Whoever disagrees
names the subjects himself.
"""

from dataclasses import dataclass, replace

import regex

from pipelines.diffusion.settings import MOST_CHARACTERS
from pipelines.errors import UserError
from pipelines.models.parts import not_known
from pipelines.models.text_to_image import TextToImage
from pipelines.phrases import DETERMINERS, Span, key, parts, singular, tidy, words_of
from pipelines.world import storybook

INDEFINITE = DETERMINERS - {"the"}
PLACING = {"on", "in", "at", "under", "over", "near", "behind", "by", "from", "into", "through", "during"}
JOINING = {"and", "with", "or", "of", "beside", "next", "to", "left", "right", "above", "below", "for", "is", "are"}
JOINING |= {"while", "that", "which", "wearing", "holding", "riding", "as", "like", "without"}
COLOURS = {*storybook.COLOURS, *"gold golden silver beige cyan magenta turquoise violet maroon navy teal tan".split()}
COLOURS |= set("crimson scarlet indigo lavender ivory bronze copper khaki amber blond blonde ginger cream".split())
SHADES = set("dark light bright pale deep vivid neon pastel".split())
# What stands between colours of one thing, and between things whose noun is said once: "a red and a blue car".
ALSO = regex.compile(r"[\s\p{Terminal_Punctuation}&/+]*(?:\b(?:and|or)\b\s*)?", regex.I)
ELSE = regex.compile(rf"{ALSO.pattern}\b(?:{'|'.join(sorted(DETERMINERS))})\b\s*", regex.I)


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of the prompt, as the model reads it."""

    text: str
    tokens: tuple[int, ...]  # places in the sequence, counted with the start token as 0
    pieces: tuple[str, ...]  # the text of each token


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A thing the picture must show."""

    noun: str
    adjectives: tuple[str, ...]
    word: int  # the place among the words of the noun, or of the colour that stands for it: "a red and a blue car"
    tokens: tuple[int, ...]  # of that word
    said: str = ""  # as it stands in the prompt, where it does

    @property
    def phrase(self) -> str:
        return self.said or " ".join([*self.adjectives, self.noun])


@dataclass(frozen=True, kw_only=True)
class Prompt:
    text: str
    words: tuple[Word, ...]
    subjects: tuple[Subject, ...]
    length: int  # tokens, start and end included
    most: int  # tokens the model reads


def read_with(model: TextToImage, text: str, subjects: str = "") -> Prompt:
    """Words, tokens and subjects of a prompt for this model.

    Args:
        subjects: words of the prompt with commas in between, "cat, red car"; each may be followed by the number of
            its noun among the prompt's words, counted from 1: "cat #2, cat #5". Empty to find the nouns.

    Raises:
        UserError: for a prompt that is empty, too long, or has words the model does not know; for subjects that are
            not in it.
    """
    if not isinstance(text, str) or not text.strip():
        raise UserError("There is nothing to draw yet. Type what the picture should show, such as: a cat and a frog")
    if len(text) > MOST_CHARACTERS:
        raise UserError(
            "The prompt has {length} characters; at most {most} are read. Shorten it.",
            length=f"{len(text):,}",
            most=f"{MOST_CHARACTERS:,}",
        )
    tokenizer = model.pipe.tokenizer
    encoded = tokenizer(text, return_offsets_mapping=True, truncation=False, verbose=False)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    if model.vocabulary is not None:
        lost = [text[a:b] for i, (a, b) in zip(ids, offsets, strict=True) if i == tokenizer.unk_token_id]
        if lost:
            raise not_known(model.spec, list(dict.fromkeys(lost)), model.vocabulary)
    most = tokenizer.model_max_length
    if len(ids) > most:
        raise UserError(
            "{model} reads at most {most} pieces of words, and this prompt has {count}. Shorten it.",
            model=model.spec.name,
            most=most - 2,
            count=len(ids) - 2,
        )
    spans, words = words_of(text), []
    for word, start, end in spans:
        places = [n for n, (a, b) in enumerate(offsets) if a < end and b > start and b > a]
        pieces = tuple(text[offsets[n][0] : offsets[n][1]].strip() for n in places)
        words.append(Word(text=word, tokens=tuple(places), pieces=pieces))
    if not words:
        raise UserError("There is no word in the prompt. Type what the picture should show, such as: a cat and a frog")
    prompt = Prompt(text=text, words=tuple(words), subjects=(), length=len(ids), most=most)
    found = _found(prompt, spans)
    return replace(prompt, subjects=_named(prompt, subjects, found) if subjects.strip() else found)


def sketch(text: str) -> Prompt:
    """Words and subjects of any text, before a model has read it: without tokens."""
    text = text[:MOST_CHARACTERS]
    spans = words_of(text)
    prompt = Prompt(
        text=text,
        words=tuple(Word(text=span.text, tokens=(), pieces=()) for span in spans),
        subjects=(),
        length=0,
        most=0,
    )
    return replace(prompt, subjects=_found(prompt, spans))


@dataclass(kw_only=True)
class _Run:
    """Words in a row that may name a thing, and what stands around them."""

    places: list[int]
    before: str  # the last placing or joining word
    article: str  # after it
    after: str  # the placing or joining word that ends the run
    noun: int | None = None  # of another run, where this one has none of its own


def _found(prompt: Prompt, spans: list[Span]) -> tuple[Subject, ...]:
    """The subjects of the runs of words between articles, joining words, placing words and punctuation."""
    lower = [span.text.lower() for span in spans]
    runs = _joined(_runs(prompt.text, spans, lower), prompt.text, spans)
    subjects = []
    for run in runs:
        names = list(run.places)
        while len(names) > 1 and lower[names[-1]].endswith("ing") and not all(map(_colour, _texts(spans, names[:-1]))):
            names.pop()  # "a cat sitting on ..."
        placed = run.before in PLACING and run.article not in INDEFINITE
        told = run.before in ("is", "are") or len(names) > 1  # "the cat is black and white"
        bare = run.noun is None and not run.article and told and all(map(_colour, _texts(spans, names)))
        if not placed and not bare and run.after != "of":
            subjects.append(_subject(prompt, spans, names, run.noun))
    return tuple(subjects)


def _texts(spans: list[Span], places: list[int]) -> list[str]:
    return [spans[place].text for place in places]


def _colour(word: str) -> bool:
    """Whether a word says a colour and nothing else: red, dark, black-and-white."""
    return all(part in COLOURS or part in SHADES or part == "and" for part in parts(word))


def _runs(text: str, spans: list[Span], lower: list[str]) -> list[_Run]:
    runs: list[_Run] = []
    run: list[int] = []
    before = article = ""

    def close(after: str) -> None:
        if run:
            runs.append(_Run(places=list(run), before=before, article=article, after=after))
        run.clear()

    for place, word in enumerate(lower):
        if place and text[spans[place - 1].end : spans[place].start].strip():  # punctuation
            close("")
            before = article = ""
        if word in DETERMINERS:
            close("")
            article = word
        elif word in PLACING or word in JOINING:
            close(word)
            before, article = word, ""
        else:
            run.append(place)
    close("")
    return runs


def _joined(runs: list[_Run], text: str, spans: list[Span]) -> list[_Run]:
    """Runs of colours alone become part of the next run that begins with a colour; those that have an article of their
    own share its noun."""
    found: list[_Run] = []
    for run in reversed(runs):
        follows = found[-1] if found else None
        if follows and all(map(_colour, _texts(spans, run.places))) and _colour(spans[follows.places[0]].text):
            gap = text[spans[run.places[-1]].end : spans[follows.places[0]].start]
            if ALSO.fullmatch(gap):
                found[-1] = replace(follows, places=run.places + follows.places, before=run.before, article=run.article)
                continue
            shared = follows.places[-1] if follows.noun is None else follows.noun
            if run.article and ELSE.fullmatch(gap) and not _colour(spans[shared].text):
                run = replace(run, noun=shared)
        found.append(run)
    return found[::-1]


def _subject(prompt: Prompt, spans: list[Span], names: list[int], noun: int | None = None) -> Subject:
    """Of these words in a row: the last is the noun, unless another word is."""
    lower = [spans[place].text.lower() for place in names]
    word = prompt.words[names[-1]]
    if noun is not None:
        return Subject(noun=spans[noun].text.lower(), adjectives=tuple(lower), word=names[-1], tokens=word.tokens)
    said = prompt.text[spans[names[0]].start : spans[names[-1]].end]
    said = " ".join(regex.sub(r"\p{Terminal_Punctuation}(?=\s)", "", said).lower().split())
    return Subject(noun=lower[-1], adjectives=tuple(lower[:-1]), word=names[-1], tokens=word.tokens, said=said)


def _named(prompt: Prompt, text: str, found: tuple[Subject, ...]) -> tuple[Subject, ...]:
    """The subjects somebody named, each in a place of its own: as found, or words in a row of which the last is the
    noun."""
    spans, used, subjects = words_of(prompt.text), set(), []
    means = [_meaning(span.text) for span in spans]
    for name in filter(None, (part.strip() for part in text.split(","))):
        wanted, numbered, number = name.rpartition("#") if regex.search(r"#\s*\d+$", name) else (name, "", "")
        names = [_meaning(word.text) for word in words_of(wanted)]
        while len(names) > 1 and names[0] in DETERMINERS:
            del names[0]
        ends = [int(number) - 1] if numbered else range(len(spans))
        ends = [end for end in ends if 0 <= end < len(spans) and end not in used]
        fits = [s for s in found if s.word in ends and (numbered and not names or key(s.phrase) == key(wanted))]
        fits += [
            _subject(prompt, spans, list(range(end - max(1, len(names)) + 1, end + 1)))
            for end in ends
            if means[max(0, end - len(names) + 1) : end + 1] == names or numbered and not names
        ]
        if not (names or numbered) or not fits:
            raise UserError(
                "{name} is not in the prompt (or not that often). Its words are: {words}.",
                name=repr(tidy(name)[:60]),
                words=", ".join(dict.fromkeys(span.text.lower() for span in spans)),
            )
        used.add(fits[0].word)
        subjects.append(fits[0])
    return tuple(subjects)


def _meaning(word: str) -> str:
    """A word as it is compared, hyphens included."""
    *first, last = parts(word) or (word,)
    return "-".join([*first, singular(last)])


def chosen_subjects(prompt: Prompt) -> tuple[Subject, ...]:
    """The prompt's subjects.

    Raises:
        UserError: when there is none.
    """
    if not prompt.subjects:
        raise UserError("No subject was found in the prompt. Click the words that the picture must show.")
    return prompt.subjects
