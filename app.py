"""Patchlight: see how vision models look, forget, rebuild, find and imagine.

`LESSONS` lists the lessons in teaching order; `demos.ui.page` makes a page of them. Nothing heavy is imported before
the page is up.
"""

import argparse
import importlib.util
import os
import threading

import demos  # noqa: F401  # isort: skip (before gradio, whose import it prepares)
import gradio as gr

from demos import (
    clip_synthesis,
    collapse,
    contrast,
    cues,
    detection,
    diffusion,
    games,
    reconstruction,
    self_distillation,
    token_removal,
)
from demos.ui import check, limits, page
from demos.ui.health import serve_until_told
from demos.ui.models import warm
from demos.ui.records import write_lines
from demos.ui.serving import launch_settings
from pipelines.models import hub
from pipelines.models.registry import MODELS

LESSONS = [
    self_distillation.LESSON,
    token_removal.LESSON,
    reconstruction.LESSON,
    *detection.LESSONS,
    diffusion.LESSON,
    clip_synthesis.LESSON,
    *contrast.LESSONS,
    *collapse.LESSONS,
    *cues.LESSONS,
    *games.LESSONS,
]


def build() -> gr.Blocks:
    """The whole page."""
    return page.build(LESSONS)


def arguments() -> argparse.Namespace:
    on_hub = [spec.name for spec in MODELS.values() if spec.tier == "hub"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog=f"hub models: {', '.join(on_hub)}")
    parser.add_argument(
        "--host",
        default=os.getenv("GRADIO_SERVER_NAME", "127.0.0.1"),
        help="address to listen on (default: this computer only)",
    )
    parser.add_argument("--port", type=int, default=int(os.getenv("GRADIO_SERVER_PORT", "7860")), help="default: 7860")
    parser.add_argument(
        "--public", action="store_true", help="listen on all addresses, for a class in the same network"
    )
    parser.add_argument("--share", action="store_true", help="make a temporary public link through Gradio's relay")
    parser.add_argument(
        "--models",
        choices=("bundled", "all"),
        default="all",
        help="bundled: only the shipped models, and the hub is never asked for anything",
    )
    parser.add_argument(
        "--prefetch",
        nargs="+",
        choices=[*on_hub, "all"],
        default=[],
        metavar="MODEL",
        help="download these hub models first, or all; what was broken off goes on where it stopped",
    )
    parser.add_argument(
        "--check", action="store_true", help="say what works on this computer and how long each tab takes, and end"
    )
    parser.add_argument(
        "--api",
        action=argparse.BooleanOptionalAction,
        help="let programs use the endpoints (default: yes, unless --public or --share)",
    )
    parser.add_argument(
        "--mcp", action="store_true", help="let assistants use them by MCP too; needs pip install 'gradio[mcp]'"
    )
    parser.add_argument("--limits", action="store_true", help="print what is allowed at each endpoint, and end")
    parser.add_argument("--log", action="store_true", help="a line of JSON for each request, without its content")
    parser.add_argument("--metrics", action="store_true", help="figures for Prometheus at /metrics")
    options = parser.parse_args()
    if options.api is None:
        options.api = options.mcp or not (options.public or options.share)
    if options.mcp and not (options.api and importlib.util.find_spec("mcp")):
        parser.error("--mcp needs the endpoints (no --no-api), and: pip install 'gradio[mcp]'")
    return options


def prefetch(names: list[str]) -> None:
    """Download models, saying how far it is at every tenth; end where one cannot be had."""
    if "all" in names:
        names = [spec.name for spec in MODELS.values() if spec.tier == "hub"]
    last = ""
    try:
        for name, share in hub.prefetch(names):
            told = f"{name}: {int(10 * share) * 10} % of {MODELS[name].megabytes} MB"
            if told != last:
                print(told, flush=True)
            last = told
    except hub.ModelUnavailable as error:
        raise SystemExit(str(error)) from None


def main() -> None:
    options = arguments()
    if options.log:
        write_lines()
    if options.models == "bundled":
        hub.keep_to_bundled()
    if options.prefetch:
        prefetch(options.prefetch)
    app = build()
    if options.limits:
        return print(limits.table(app))
    if options.check:
        raise SystemExit(not check.run(app, LESSONS))
    host = "0.0.0.0" if options.public else options.host
    app.launch(
        server_name=host,
        server_port=options.port,
        share=options.share,
        prevent_thread_lock=True,
        **launch_settings(app, api=options.api, mcp=options.mcp, metrics=options.metrics),
    )
    threading.Thread(target=warm, daemon=True).start()
    serve_until_told(app)


if __name__ == "__main__":
    main()
