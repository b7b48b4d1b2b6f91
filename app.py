"""Patchlight: see how vision models look, forget, rebuild, find and imagine.

`LESSONS` lists the lessons in teaching order; `demos.ui.page` makes a page of them. Nothing heavy is imported before
the page is up.
"""

import argparse
import os
import threading

import demos  # noqa: F401  # isort: skip (before gradio, whose import it prepares)
import gradio as gr

from demos import (
    clip_synthesis,
    collapse,
    contrast,
    detection,
    diffusion,
    reconstruction,
    self_distillation,
    token_removal,
)
from demos.ui import page
from demos.ui.models import warm
from demos.ui.serving import launch_settings
from pipelines.models import hub
from pipelines.models.registry import MODELS

LESSONS = [
    self_distillation.LESSON,
    token_removal.LESSON,
    reconstruction.LESSON,
    detection.LESSON,
    diffusion.LESSON,
    clip_synthesis.LESSON,
    *contrast.LESSONS,
    *collapse.LESSONS,
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
        "--prefetch", nargs="+", choices=on_hub, default=[], metavar="MODEL", help="download these hub models now"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.models == "bundled":
        hub.keep_to_bundled()
    for name in options.prefetch:
        from pipelines.models.loading import open_model

        print(f"{name}: ready, {open_model(MODELS[name]).megabytes:.0f} MB in memory")
    app = build()
    host = "0.0.0.0" if options.public else options.host
    app.launch(
        server_name=host,
        server_port=options.port,
        share=options.share,
        prevent_thread_lock=True,
        **launch_settings(app),
    )
    threading.Thread(target=warm, daemon=True).start()
    app.block_thread()


if __name__ == "__main__":
    main()
