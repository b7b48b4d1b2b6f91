"""What the page says, in the visitor's language.

The English text is the key. A language is assets/languages/<code>.json, English text to translation, and the lessons'
words in assets/languages/<code>/, files like those of assets/lessons/, section by section.
"""

import json
from pathlib import Path

import gradio as gr
from gradio.context import LocalContext

from pipelines.errors import UserError
from pipelines.world import persian

ASSETS = Path(__file__).parents[2] / "assets"
LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]
CHOSEN = "language"  # the cookie that holds what a visitor chose (demos/ui/language.py), if not the browser's own


def sections(file: Path) -> list[tuple[str, str]]:
    """Title and body of every `##` section of a lesson's words."""
    parts = file.read_text(encoding="utf-8").split("\n## ")[1:]
    return [(title.strip(), body.strip()) for title, _, body in (part.partition("\n") for part in parts)]


def _language(file: Path) -> dict[str, str]:
    known = json.loads(file.read_bytes())
    for translated in sorted((file.parent / file.stem).glob("*.md")):
        english = sections(ASSETS / "lessons" / translated.name)
        known |= {body: new for (_, body), (_, new) in zip(english, sections(translated), strict=True)}
    return known


PERSIAN = "fa"
LANGUAGES = {file.stem: _language(file) for file in sorted((ASSETS / "languages").glob("*.json"))}
if PERSIAN in LANGUAGES:
    LANGUAGES[PERSIAN] |= persian.NOUN_WORDS | persian.COLOUR_WORDS | persian.OTHER_WORDS
# What the browser translates: only what the layout shows. Gradio looks up values of controls too, and the value
# "attention" must not become the word on its button: so the keys of short texts have a mark that no eye sees.
LAYOUT: dict[str, dict[str, str]] = {code: {} for code in ("en", *LANGUAGES)}
TEXT = gr.I18n(**LAYOUT)
MARK, SHORT = "\u2060", 80  # characters of a text that could be a value


def t(text: str):
    """A visible string of the layout; the browser shows it in its own language."""
    assert not set("{}") & set(text), f"Gradio cannot translate a text with braces: {text}"
    key = text + MARK if len(text) <= SHORT else text
    for code, layout in LAYOUT.items():
        told = LANGUAGES.get(code, {}).get(text, text)
        if told != key:
            layout[key] = told
    return TEXT(key)


def numbered(number: int, title: str):
    """A title with its number, as a visible string of the layout."""
    for known in LANGUAGES.values():
        known[f"{number} · {title}"] = f"{number} · {known.get(title, title)}"
    return t(f"{number} · {title}")


def worded(phrase: str):
    """A phrase, or prompts, of the storybook world as a visible string of the layout: see `named`."""
    if PERSIAN in LANGUAGES:
        LANGUAGES[PERSIAN].setdefault(phrase, persian.from_english(phrase))
    return t(phrase)


def language() -> str:
    """Two letters: of whoever asked for what is done now; "en" for nobody."""
    request = LocalContext.request.get(None)
    if request is None:
        return "en"
    usual = request.headers.get("accept-language", "").split(",")[0].split("-")[0].lower()
    return request.cookies.get(CHOSEN) or usual


def say(text: str, **values: object) -> str:
    """A visible string made during an event, in the visitor's language: say("{kept} patches", kept=4)."""
    return LANGUAGES.get(language(), {}).get(text, text).format(**values)


def named(phrase: str) -> str:
    """A phrase, or a caption, of the storybook world in the visitor's language; any other stays as it is."""
    return persian.from_english(phrase) if language() == PERSIAN else phrase


def explained(error: UserError) -> str:
    """An error's message in the visitor's language, and so are those of its values that are texts of the app's."""
    known = LANGUAGES.get(language(), {})
    message = known.get(error.message, error.message)
    if not error.values:
        return message  # not a template: it may quote braces that somebody typed
    return message.format(**{name: _in_words(value, known) for name, value in error.values.items()})


def _in_words(value: object, known: dict[str, str]) -> object:
    if not isinstance(value, str):
        return value
    return known[value] if value in known else named(value)
