"""What the page says, in the visitor's language.

The English text is the key. A language is one file, assets/languages/<code>.json: English text to translation.
"""

import json
from pathlib import Path

import gradio as gr
from gradio.context import LocalContext

ASSETS = Path(__file__).parents[2] / "assets"
LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]
LANGUAGES = {file.stem: json.loads(file.read_bytes()) for file in sorted((ASSETS / "languages").glob("*.json"))}
TEXT = gr.I18n(**LANGUAGES)


def t(text: str):
    """A visible string of the layout; the browser shows it in its own language."""
    assert not set("{}") & set(text), f"Gradio cannot translate a text with braces: {text}"
    return TEXT(text)


def say(text: str, **values: object) -> str:
    """A visible string made during an event, in the visitor's language: say("{kept} patches", kept=4)."""
    request = LocalContext.request.get(None)
    wanted = (request.headers.get("accept-language", "") if request else "").split(",")[0].split("-")[0].lower()
    return LANGUAGES.get(wanted, {}).get(text, text).format(**values)
