"""How the app is served: closed by default, offline, with limits that hold on the server.

Facts behind every line are in Gradio's own sources and guides; the settings work with plain `launch()`, so also on
Spaces.
"""

import collections
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.context import LocalContext
from gradio.utils import get_upload_folder
from PIL import Image
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demos.ui import health, language, limits, tally
from demos.ui.address import BACK
from demos.ui.health import LEAST_DISK, disk_left
from demos.ui.language import DIGITS, DIRECTION
from demos.ui.present import KEYS
from demos.ui.text import ASSETS, TEXT, say
from demos.ui.waiting import listener_of


def is_uploaded(path: object) -> bool:
    """Whether this is a regular file in Gradio's upload folder, where all uploads and all pictures of the page lie.

    Text is compared first, so that nothing outside is even asked for; a link inside may still lead out.
    """
    if not isinstance(path, str):
        return False
    folder, real = os.path.abspath(get_upload_folder()), os.path.realpath(get_upload_folder())
    try:
        plain = os.path.abspath(path)
        if not plain.startswith((folder + os.sep, real + os.sep)):
            return False
        resolved = os.path.realpath(plain)
        return resolved.startswith(real + os.sep) and stat.S_ISREG(os.stat(resolved).st_mode)
    except (OSError, ValueError):  # too long, a zero byte, no Unicode
        return False


def _paths(payload: object) -> Iterator[object]:
    """Everything in a payload that Gradio or a component could take for a file, however deep it lies."""
    waiting = [payload]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("path") is not None:
                yield value["path"]
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)


class Page(gr.Blocks):
    """Blocks that take files only from the upload folder.

    Whatever a browser or a program sends to an event comes through `process_api`, before any component sees it. Gradio
    itself asks where a file lies only if the payload says that it is one ("meta"), and components open it in any case.
    """

    async def process_api(self, block_fn, inputs, *, request=None, iterator=None, event_data=None, **others):
        started = iterator is not None  # a generator's next step: its inputs were looked at before the first
        if not started and not all(map(is_uploaded, _paths([inputs, getattr(event_data, "_data", None)]))):
            LocalContext.request.set(request)  # for the language
            told = say("This file was not uploaded here, or it is no longer kept. Please upload it again.")
            raise gr.Error(told, print_exception=False)
        return await super().process_api(
            block_fn, inputs, request=request, iterator=iterator, event_data=event_data, **others
        )


async def _refuse_remote(url: str, cache_dir: str) -> str:
    raise gr.Error("Pictures are taken from this page only, not from other addresses.", print_exception=False)


def _save_picture_once(img: Image.Image, cache_dir: str, name: str = "image", format: str = "webp") -> str:
    """Gradio's own, but a file that is there already is left alone, and a new one appears whole.

    Gradio writes the file again each time an event returns the same picture; a visitor who is just fetching it gets a
    part. A class that looks at the same scene is such a case.
    """
    content = processing_utils.encode_pil_to_bytes(img, format)
    path = Path(cache_dir).resolve() / processing_utils.hash_bytes(content) / f"{name}.{format}"
    if path.exists():
        os.utime(path)  # in use: not yet to be cleaned away
        return str(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{threading.get_ident()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    return str(path)


processing_utils.save_pil_to_cache = _save_picture_once

# Gradio downloads {"path": "https://..."} given to a file input, without a limit on size.
processing_utils.async_ssrf_protected_download = _refuse_remote

THEME = gr.themes.Default(
    primary_hue="indigo",
    neutral_hue="slate",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(  # where the theme's own colours stand out too little: 4.5 to 1 is asked for (WCAG 2.2, 1.4.3)
    body_text_color_subdued="*neutral_500",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_cancel_background_fill="#dc2626",
    button_cancel_background_fill_hover="#b91c1c",
)

CLOSED = (
    *("/gradio_api/file=http", "/gradio_api/file/http", "/gradio_api/proxy="),  # fetches addresses elsewhere
    *("/pwa_icon/", "/monitoring", "/gradio_api/dev/", "/gradio_api/run-history", "/runs"),
    "/gradio_api/deep_link",  # keeps what it is given on disk for ever
)
# What programs talk to. A page asks /gradio_api/info too, so that stays.
API = ("/gradio_api/call/", "/gradio_api/run/", "/gradio_api/api/", "/gradio_api/openapi.json", "/gradio_api/mcp")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "media-src 'self' data: blob:; object-src 'none'; base-uri 'self'; "
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
    ),
}
NOT_SMALLER = ("/gradio_api/", "/fonts/")  # pictures, typefaces, short answers and streams
TALLY, LINKED = ((ASSETS / name).read_text(encoding="utf-8") for name in ("tally.js", "linked.js"))


class Recent:
    """How much each address has sent within so many seconds."""

    def __init__(self, most: float, seconds: float):
        self.most, self.seconds = most, seconds
        self.sent: dict[str, collections.deque[tuple[float, float]]] = collections.defaultdict(collections.deque)

    def refuses(self, address: str, amount: float) -> bool:
        """Whether this is too much; if not, it is counted."""
        now, sent = time.monotonic(), self.sent[address]
        while sent and now - sent[0][0] > self.seconds:
            sent.popleft()
        if sum(each for _, each in sent) + amount > self.most:
            return True
        sent.append((now, amount))
        if len(self.sent) > 10_000:
            self.sent.clear()
        return False


class Guard:
    """Pure ASGI: closed paths, security headers, limits on what an address may post, and a count of who listens for
    answers.
    """

    def __init__(self, app: ASGIApp, page: gr.Blocks, closed: Sequence[str] = CLOSED):
        self.app, self.page, self.closed = app, page, closed
        self.smaller = GZipMiddleware(app, minimum_size=2000, compresslevel=5)
        self.posts = Recent(limits.POSTS, limits.POST_SECONDS)
        self.uploads = Recent(limits.UPLOADED_BYTES, limits.UPLOADED_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"]
        if any(part in path for part in self.closed):
            return await JSONResponse({"detail": "not found"}, 404)(scope, receive, send)
        if scope["method"] == "POST":
            refusal = self._refusal(scope)
            if refusal:
                return await refusal(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        listener = listener_of(scope)
        if listener is None:
            app = self.app if path.startswith(NOT_SMALLER) else self.smaller
            return await app(scope, receive, send_with_headers)
        line: Any = self.page._queue
        listeners = line.listeners
        listeners[listener] += 1
        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            listeners[listener] -= 1
            if not listeners[listener]:
                del listeners[listener]

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        LocalContext.request.set(Request(scope))  # type: ignore[arg-type]  # for the language
        address = (scope.get("client") or ("?",))[0]
        if _is_of_another_site(dict(scope["headers"])):
            return _refused(say("Requests are taken from this page and from programs, not from other pages."), 403)
        if self.posts.refuses(address, 1):
            return _refused(say("Too many requests. Please wait a few seconds."), 429)
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit():  # a body in chunks could be of any size
            return _refused(say("The request does not say how long it is."), 411)
        if "/upload" not in scope["path"]:
            return _refused(say("Request too large."), 413) if int(length) > limits.BODY_BYTES else None
        if int(length) > limits.UPLOAD_BYTES:
            return _refused(say("This file is larger than 12 MB, the limit. Make it smaller first."), 413)
        if disk_left() - int(length) < LEAST_DISK:
            return _refused(say("This server has no room left for files. Please try again later."), 507)
        if self.uploads.refuses(address, int(length)):
            return _refused(say("Too many files came from your address. Please wait a few minutes."), 429)
        return None


def _is_of_another_site(headers: dict[bytes, bytes]) -> bool:
    """Whether a page of somebody else's sent this; a program says no origin at all."""
    origin = headers.get(b"origin")
    if origin is None:
        return False
    here = [headers.get(b"host"), headers.get(b"x-forwarded-host"), os.getenv("SPACE_HOST", "").encode()]
    return origin.partition(b"://")[2] not in here or not origin.partition(b"://")[2]


def _refused(detail: str, status: int) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


def launch_settings(app: gr.Blocks, *, api: bool = True, mcp: bool = False, metrics: bool = False) -> dict:
    """Everything `launch()` needs besides an address.

    Args:
        api: whether programs may use the endpoints, and the page describes them.
        mcp: whether assistants may, by the Model Context Protocol; needs `api` and the package `gradio[mcp]`.
        metrics: whether `/metrics` tells figures for Prometheus.
    """
    closed = CLOSED if api else (*CLOSED, *API)
    return dict(
        theme=THEME,
        css_paths=[ASSETS / "style.css"],
        i18n=TEXT,
        js=f"() => {{ {' '.join(f'({each})();' for each in (DIRECTION, DIGITS, BACK, KEYS, TALLY, LINKED))} }}",
        show_error=False,
        max_file_size=limits.FILE_BYTES,
        max_threads=limits.THREADS,
        state_session_capacity=limits.SESSIONS,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=mcp,
        strict_cors=True,
        footer_links=["api", "settings"] if api else ["settings"],
        _frontend=False,  # else Gradio gives its own first page 3 s, and on a busy computer the app would not start
        app_kwargs={
            "openapi_url": None,
            "docs_url": None,
            "redoc_url": None,
            "middleware": [Middleware(Guard, page=app, closed=closed)],
            "routes": [*health.routes(app, metrics), *tally.routes(app), *language.routes()],
        },
    )
