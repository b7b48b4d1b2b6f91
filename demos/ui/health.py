"""Whether the server lives, whether it can take visitors, and how it ends.

`/healthz` answers as long as it can answer at all; `/readyz` says why nobody should be sent here now; `/metrics` is
there where it was asked for.
"""

import asyncio
import logging
import os
import shutil
import signal
import threading
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from demos.ui.models import WARM
from demos.ui.records import RECORDS

LEAST_DISK = 200_000_000  # bytes that stay free: below, no file is taken
END_SECONDS = 4.5  # of a clean end, after which the process goes whatever is still under way
LAST_WORDS = 0.5  # seconds in which visitors hear why


def disk_left() -> int:
    """Bytes, where uploads go."""
    folder = get_upload_folder()
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free


def not_ready(page: gr.Blocks) -> list[str]:
    """Why nobody should be sent here now."""
    line: Any = page._queue
    reasons = {
        "warming up": not WARM.is_set(),
        "shutting down": line.closing,
        "disk full": disk_left() < LEAST_DISK,
        "busy": line.under_way() >= line.max_size,
    }
    return [reason for reason, holds in reasons.items() if holds]


def routes(page: gr.Blocks, metrics: bool) -> list[Route]:
    line: Any = page._queue

    async def alive(_: Request) -> JSONResponse:
        return JSONResponse({"ok": True, "under_way": line.under_way()})

    async def ready(_: Request) -> JSONResponse:
        reasons = not_ready(page)
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def figures(_: Request) -> PlainTextResponse:
        return PlainTextResponse(RECORDS.as_text(line.under_way()), media_type="text/plain; version=0.0.4")

    found = [Route("/healthz", alive), Route("/readyz", ready)]
    return [*found, Route("/metrics", figures)] if metrics else found


def serve_until_told(page: gr.Blocks) -> None:
    """Wait for SIGTERM or Ctrl-C, then end well."""
    told = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: told.set())
    told.wait()
    shut_down(page)
    logging.shutdown()
    os._exit(0)  # a step that still computes would keep the process


def shut_down(page: Any) -> None:
    """End within END_SECONDS: nothing new begins, whoever waits is told, the steps under way are the last ones."""
    threading.Thread(target=_go_at_last, daemon=True).start()
    line = page._queue
    asyncio.run_coroutine_threadsafe(line.shut_down(LAST_WORDS), line.loop).result(timeout=END_SECONDS)
    page.server.config.timeout_graceful_shutdown = 1  # seconds that open streams may keep it
    page.close(verbose=False)


def _go_at_last() -> None:
    threading.Event().wait(END_SECONDS)
    os._exit(0)
