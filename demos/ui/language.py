"""The page in another language: how it is chosen, its direction, its typeface, its digits."""

import json
from pathlib import Path

from gradio import routes as gradio_routes
from jinja2 import FunctionLoader
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from demos.ui.text import ASSETS, CHOSEN, LANGUAGES

KNOWN = json.dumps(["en", *LANGUAGES])
RIGHT_TO_LEFT = ("ar", "fa", "he", "ur")
FONTS = {file.name: file for file in sorted((ASSETS / "fonts").glob("*.woff2"))}

# Before anything else of the page: Gradio asks the browser for its language once. `?lang=fa` chooses, and is kept; a
# page within another one (Spaces) sends only cookies that say so.
CHOOSE = """<script>(() => {
  const known = KNOWN, asked = new URLSearchParams(location.search).get('lang');
  window.chooseLanguage = code => {
    const kind = location.protocol === 'https:' ? 'SameSite=None; Secure' : 'SameSite=Lax';
    document.cookie = `COOKIE=${code}; path=/; max-age=31536000; ${kind}`;
  };
  if (known.includes(asked)) window.chooseLanguage(asked);
  const chosen = /(?:^|; )COOKIE=([a-z]+)/.exec(document.cookie)?.[1];
  if (!known.includes(chosen)) return;
  Object.defineProperty(navigator, 'language', {get: () => chosen});
  Object.defineProperty(navigator, 'languages', {get: () => [chosen]});
})()</script>""".replace("KNOWN", KNOWN).replace("COOKIE", CHOSEN)

SWITCH = """() => {
  const codes = KNOWN, here = codes.indexOf(document.documentElement.lang.split('-')[0]);
  window.chooseLanguage(codes[(Math.max(here, 0) + 1) % codes.length]);
  const there = new URL(location.href);
  there.searchParams.delete('lang');
  location.replace(there);
}""".replace("KNOWN", KNOWN)

# Gradio sets the page's language but not its direction. Without a translation the page stays as it is in English.
DIRECTION = """() => { const set = () => { const code = (document.documentElement.lang || 'en').split('-')[0];
  document.documentElement.dir = KNOWN.includes(code) ? 'rtl' : 'ltr'; }; set();
  new MutationObserver(set).observe(document.documentElement,
    {attributes: true, attributeFilter: ['lang']}); }""".replace(
    "KNOWN", json.dumps([code for code in RIGHT_TO_LEFT if code in LANGUAGES])
)

# A field for numbers takes Latin digits only: what is typed or pasted in Persian or Arabic ones is put in as them.
DIGITS = r"""() => addEventListener('beforeinput', event => {
  const typed = event.data ?? event.dataTransfer?.getData('text/plain');
  if (!event.target.matches?.('input[type=number]') || !/[۰-۹٠-٩٫]/.test(typed || '')) return;
  event.preventDefault();
  const plain = typed.replace(/[۰-۹٠-٩]/g, digit => digit.charCodeAt(0) & 15).replace('٫', '.').replace(/[٬\s]/g, '');
  document.execCommand('insertText', false, plain);
}, true)"""


def _with_choice(name: str) -> str:
    """Gradio's page with the script in its head: what `launch(head=…)` is given comes after the language is set."""
    source = (Path(gradio_routes.STATIC_TEMPLATE_LIB) / name).read_text(encoding="utf-8")
    return source.replace("<head>", f"<head>{CHOOSE}", 1)


gradio_routes.templates.env.loader = FunctionLoader(_with_choice)


async def _font(request: Request) -> Response:
    file = FONTS.get(request.path_params["name"])
    if file is None:
        return Response(status_code=404)
    return FileResponse(file, media_type="font/woff2", headers={"Cache-Control": "public, max-age=31536000"})


def routes() -> list[Route]:
    return [Route("/fonts/{name}", _font)]
