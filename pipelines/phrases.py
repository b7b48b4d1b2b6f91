"""Words and phrases of every script, and when two of them mean the same thing.

Words lie between Unicode's own boundaries (Standard Annex 29, https://www.unicode.org/reports/tr29/), so a mark stays
on its letter and a joined emoji is one word; where a script writes no spaces and the annex knows no words (Han, kana),
every character is one. `key` is the one place that says which phrases are the same: detection, truth, presence and
captions compare by it, and by nothing else.

What occurs twice is told apart by its place, never by its text: see `distinct`.
"""

import functools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import regex

# What ends a phrase: Unicode's terminal punctuation (. , ; ? ! and those of other scripts) but the colon; new lines.
SEPARATOR = regex.compile(r"[\p{Terminal_Punctuation}--[:：]]|\R", regex.V1)
DETERMINERS = frozenset("a an the one two three four some my your his her its their".split())
SPELLINGS = {"grey": "gray"}

_SEGMENT = regex.compile(r"\b\S.*?\b", regex.V1 | regex.WORD | regex.DOTALL)
_WORDLIKE = regex.compile(r"[\p{L}\p{N}\p{Regional_Indicator}[\p{Extended_Pictographic}--\p{P}]]", regex.V1)
_UNSPACED = regex.compile(r"\p{Line_Break=Complex_Context}+")  # Thai, Lao, Khmer, Burmese: letters, but no words
_HYPHEN = regex.compile(r"[-\u2010\u2011]")
# A boundary even between letters ("cat.dog"), as the annex's own rules would not have it; but not in "3.5".
_PARTING = regex.compile(r"(?<!\p{N})[_\p{Terminal_Punctuation}]|[_\p{Terminal_Punctuation}](?!\p{N})")
_EDGES = regex.compile(r"^[\s\p{P}]+|[\s\p{P}]+$")
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}--\p{Join_Control}--\p{Emoji_Component}]", regex.V1)


class Span(NamedTuple):
    """A word and where it stands: `text == whole[start:end]`."""

    text: str
    start: int
    end: int


def words_of(text: str) -> list[Span]:
    """The words of a text in order. Words joined by hyphens are one, as is a run of letters of a script whose words
    only a dictionary can find."""
    parted = _PARTING.sub(" ", text)  # as long as the text
    found: list[Span] = []
    for match in _SEGMENT.finditer(parted):
        if not _WORDLIKE.search(match.group()):
            continue
        start, end = match.span()
        gap = parted[found[-1].end : start] if found else " "
        unspaced = not gap and _UNSPACED.match(match.group()) and _UNSPACED.match(found[-1].text)
        if unspaced or _HYPHEN.fullmatch(gap):
            start = found.pop().start
        found.append(Span(text[start:end], start, end))
    return found


def tidy(text: str) -> str:
    """One spelling of a phrase: compatibility forms composed, lower case, single spaces, no punctuation around it."""
    return _EDGES.sub("", " ".join(unicodedata.normalize("NFKC", text).lower().split()))


def split(text: str) -> list[str]:
    """The phrases of a line, tidied, without the empty ones."""
    return [phrase for phrase in map(tidy, SEPARATOR.split(unicodedata.normalize("NFKC", text))) if phrase]


def one_phrase(text: str) -> str:
    """A text as one phrase: nothing in it parts it."""
    return tidy(SEPARATOR.sub(" ", unicodedata.normalize("NFKC", text)))


# ---------------------------------------------------------------------------------------------------------- comparing


@functools.lru_cache(maxsize=4096)
def key(phrase: str) -> str:
    """What is compared of a phrase or a caption: its words with spaces in between, without articles, in the singular.
    Case, spaces, punctuation and hyphens do not count."""
    found = parts(phrase)
    return " ".join(singular(word) for word in found if word not in DETERMINERS) or " ".join(found) or tidy(phrase)


def parts(phrase: str) -> tuple[str, ...]:
    """The words of a phrase as they are compared, those joined by hyphens one by one."""
    plain = SEPARATOR.sub(" ", unicodedata.normalize("NFKC", _INVISIBLE.sub("", phrase))).casefold()
    found = (piece for word in words_of(plain) for piece in _HYPHEN.split(word.text))
    return tuple(SPELLINGS.get(piece, piece) for piece in found if piece)


def same(first: str, second: str) -> bool:
    return key(first) == key(second)


def place_of(phrase: str, among: Sequence[str]) -> int | None:
    """The first of these phrases that means the same; None where none does."""
    wanted = key(phrase)
    return next((place for place, other in enumerate(among) if key(other) == wanted), None)


def distinct(names: Sequence[str]) -> list[str]:
    """A name for each place, none of them twice: "cat", "cat" become "cat", "cat (2)"."""
    found: list[str] = []
    for name in names:
        number, told = 1, name
        while told in found:
            number += 1
            told = f"{name} ({number})"
        found.append(told)
    return found


# ------------------------------------------------------------------------------------------------------------- plural

_IRREGULAR = dict(
    pair.split("-")
    for pair in (
        "children-child grandchildren-grandchild feet-foot teeth-tooth geese-goose mice-mouse lice-louse oxen-ox "
        "men-man people-person leaves-leaf wolves-wolf knives-knife wives-wife lives-life shelves-shelf "
        "bookshelves-bookshelf halves-half calves-calf loaves-loaf thieves-thief elves-elf scarves-scarf hooves-hoof "
        "dwarves-dwarf lenses-lens irises-iris gases-gas canvases-canvas atlases-atlas crises-crisis oases-oasis "
        "quizzes-quiz axes-axe cacti-cactus octopi-octopus fungi-fungus menus-menu emus-emu gnus-gnu gurus-guru "
        "tutus-tutu caribous-caribou skis-ski taxis-taxi kiwis-kiwi bikinis-bikini zucchinis-zucchini safaris-safari "
        "alibis-alibi aches-ache headaches-headache caches-cache quiches-quiche avalanches-avalanche "
        "mustaches-mustache moustaches-moustache brioches-brioche fuses-fuse excuses-excuse muses-muse buses-bus "
        "tortoises-tortoise"
    ).split()
)
_UNCHANGED = frozenset(  # an s at the end that is no plural, and things that come in pairs
    "glasses sunglasses eyeglasses scissors trousers jeans pants shorts tights pyjamas pajamas goggles binoculars "
    "tongs pliers clothes lens canvas atlas series species news chaos cosmos christmas always specimen omen "
    "abdomen stamen regimen ramen".split()
)
_IN_IE = frozenset(
    "cookie movie zombie tie necktie pie magpie brownie smoothie selfie hoodie genie birdie rookie pixie collie "
    "calorie prairie sweetie hippie veggie budgie".split()
)
_IN_OE = frozenset("shoe horseshoe snowshoe toe tiptoe canoe oboe hoe foe doe floe aloe".split())


def singular(word: str) -> str:
    """The singular of a lower-case English noun, by the rules of its spelling; other words come back as they are."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _UNCHANGED or len(word) <= 3:
        return word
    if word.endswith("men"):
        return f"{word[:-3]}man"
    if not word.endswith("s") or word.endswith(("ss", "us", "is", "'s")):
        return word
    if word.endswith("ies"):
        return word[:-1] if word[:-1] in _IN_IE else f"{word[:-3]}y"
    if word.endswith(("ouses", "auses")) or word[:-1] in _IN_OE:
        return word[:-1]
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses", "zzes", "uses", "oes")) else word[:-1]
