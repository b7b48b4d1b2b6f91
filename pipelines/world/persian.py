"""The storybook world's words in Persian: prompts into the models' language, and what they say into the reader's.

A Persian noun phrase is noun, colour, with or without the ezafe that joins them ("گربهٔ سیاه", "گربه سیاه"); "یک" and
the suffix -i make it indefinite, -ha many. All else of the grammar of scenes comes in the same order as in English.
"""

import re
import unicodedata

from pipelines.phrases import singular
from pipelines.world.storybook import COLOURS, article

NOUN_WORDS = {
    "cat": "گربه",
    "dog": "سگ",
    "bird": "پرنده",
    "bear": "خرس",
    "lion": "شیر",
    "horse": "اسب",
    "elephant": "فیل",
    "monkey": "میمون",
    "frog": "قورباغه",
    "turtle": "لاک‌پشت",
    "rabbit": "خرگوش",
    "mouse": "موش",
    "backpack": "کوله‌پشتی",
    "glasses": "عینک",
    "crown": "تاج",
    "suitcase": "چمدان",
    "chair": "صندلی",
    "balloon": "بادکنک",
    "bow": "پاپیون",
    "car": "ماشین",
    "bowl": "کاسه",
    "bench": "نیمکت",
    "clock": "ساعت",
    "apple": "سیب",
    "tree": "درخت",
    "fox": "روباه",
    "umbrella": "چتر",
    "bus": "اتوبوس",
}
COLOUR_WORDS = {
    "red": "قرمز",
    "orange": "نارنجی",
    "yellow": "زرد",
    "green": "سبز",
    "blue": "آبی",
    "purple": "بنفش",
    "pink": "صورتی",
    "brown": "قهوه‌ای",
    "gray": "خاکستری",
    "black": "سیاه",
    "white": "سفید",
}
OTHER_WORDS = {
    "on grass": "روی چمن",
    "on sand": "روی شن",
    "in snow": "در برف",
    "at night": "در شب",
    "in the sky": "در آسمان",
    "left of": "سمت چپ",
    "right of": "سمت راست",
    "above": "بالای",
    "below": "زیر",
    "and": "و",
    "with": "با",
    "a picture of": "تصویری از",
}
# Other words for the same: read, and never written.
ALSO = {
    "خودرو": "car",
    "اتومبیل": "car",
    "لاکپشت": "turtle",
    "کوله": "backpack",
    "سرخ": "red",
    "مشکی": "black",
    "طوسی": "gray",
    "ارغوانی": "purple",
    "روی علف": "on grass",
    "روی سبزه": "on grass",
    "در چمن": "on grass",
    "روی ماسه": "on sand",
    "در شن": "on sand",
    "روی برف": "in snow",
    "شب": "at night",
    "شبانه": "at night",
    "آسمان": "in the sky",
    "در سمت چپ": "left of",
    "چپ": "left of",
    "در سمت راست": "right of",
    "راست": "right of",
    "در بالای": "above",
    "در زیر": "below",
    "پایین": "below",
    "به همراه": "with",
    "تصویر": "a picture of",
    "عکسی از": "a picture of",
    "عکس": "a picture of",
}
MANY = {"mouse": "mice", "bus": "buses", "bench": "benches", "fox": "foxes", "glasses": "glasses"}
SUFFIXES = ("هایی", "های", "ها", "ای", "ی")  # many and indefinite, many with ezafe, many, indefinite, -i or ezafe
SEPARATORS = {"،": ",", "؛": ";", "؟": "?"} | {mark: mark for mark in ".,;?!:|"}

_LETTERS = str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک", "ة": "ه", "ۀ": "ه", "أ": "ا"})
_TOKEN = re.compile(r"[+−-]?\d+(?:[.٫]\d+)?|[،؛؟.,;?!:|]|[^\s\d،؛؟.,;?!:|]+")
_ARABIC = re.compile(r"[\u0600-\u06ff]")
_LONGEST = 4  # words of one entry


def _bare(words: str) -> str:
    """Compared are letters alone: of one spelling, without vowel marks, half-spaces and spaces."""
    letters = unicodedata.normalize("NFKC", words).translate(_LETTERS)
    return "".join(c for c in letters if not unicodedata.combining(c) and c not in "\u200c\u200d\u0640 ")


_KNOWN = {_bare(persian): english for english, persian in (NOUN_WORDS | COLOUR_WORDS | OTHER_WORDS).items()}
_KNOWN |= {_bare(persian): english for persian, english in ALSO.items()}


def _read(word: str) -> tuple[str, bool] | None:
    """The English of a word or of words that belong together, and whether it is indefinite; None if unknown."""
    bare = _bare(word)
    if bare in _KNOWN:
        return _KNOWN[bare], False
    for suffix in SUFFIXES:
        english = _KNOWN.get(bare.removesuffix(suffix)) if bare.endswith(suffix) else None
        if english in COLOUR_WORDS:
            return english, False
        if english in NOUN_WORDS:
            if suffix.startswith("ها"):
                return MANY.get(english, f"{english}s"), False
            # "گربه‌ی سیاه": after -e the ezafe is written so, and "ای" is what makes it indefinite
            return english, suffix == "ای" or not bare.removesuffix(suffix).endswith("ه")
    return None


def to_english(text: str) -> str:
    """A text of the storybook world in English, line by line: "یک گربه و ماشینی قرمز" as "a cat and a red car".

    Numbers and marks stay, in Latin digits. A line without Persian letters, or with a word that this world does not
    have, comes back as it is: whoever reads it then says so.
    """
    return "\n".join(map(_line, text.split("\n"))) if _ARABIC.search(text) else text


def _line(text: str) -> str:
    if not _ARABIC.search(text):
        return text
    words = _TOKEN.findall(unicodedata.normalize("NFKC", text).translate(_LETTERS))
    found: list[str] = []
    noun: int | None = None  # the place of the noun to which a colour would belong
    determined, place = False, 0
    while place < len(words):
        mark = SEPARATORS.get(words[place]) or _number(words[place])
        if mark:
            found.append(mark)
            noun, place = None, place + 1
            continue
        if _bare(words[place]) == "یک":
            determined, noun, place = True, None, place + 1
            continue
        for count in range(min(_LONGEST, len(words) - place), 0, -1):
            known = _read(" ".join(words[place : place + count]))
            if known:
                break
        else:
            return text
        english, indefinite = known
        if english in COLOURS and noun is not None:
            found[noun] = f"{english} {found[noun]}"
        else:
            is_noun = english in NOUN_WORDS or singular(english) in NOUN_WORDS
            if determined and not is_noun:
                return text
            found.append(("\0" if determined or indefinite else "") + english)
            noun, determined = (len(found) - 1 if is_noun else None), False
        place += count
    said = [article(re.sub("\0", "", part)) if "\0" in part else part for part in found]
    return re.sub(r" ([.,;?!:])", r"\1", " ".join(said))


def _number(word: str) -> str | None:
    plain = word.replace("٫", ".").replace("−", "-")
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?", plain):
        return None
    return "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in plain)


def from_english(text: str) -> str:
    """A phrase or a caption of the storybook world in Persian; one that says anything else comes back as it is."""
    words = text.lower().replace(",", " , ").split()
    found, place, waiting = [], 0, ""
    while place < len(words):
        for count in range(min(3, len(words) - place), 0, -1):
            part = " ".join(words[place : place + count])
            if part in OTHER_WORDS or count == 1:
                break
        if part in OTHER_WORDS:
            found.append(OTHER_WORDS[part])
        elif part in ("a", "an"):
            found.append("یک")
        elif part == ",":
            found.append("،")
        elif part == "the":
            pass
        elif part in COLOUR_WORDS and not waiting:
            waiting = part
        elif singular(part) in NOUN_WORDS:
            noun = NOUN_WORDS[singular(part)] + ("‌ها" if part != singular(part) else "")
            if waiting:
                noun += {"ه": "ٔ", "ا": "ی"}.get(noun[-1], "")
            found.append(f"{noun} {COLOUR_WORDS[waiting]}" if waiting else noun)
            waiting = ""
        else:
            return text
        place += count
    if waiting:
        found.append(COLOUR_WORDS[waiting])
    return " ".join(found).replace(" ،", "،")
