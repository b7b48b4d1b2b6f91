"""Patchlight: see how vision models look, forget, rebuild, find and imagine.

`TABS` lists the tabs in teaching order and `build()` loops over them. Nothing heavy is imported before the page is up.
"""

import argparse
import os
import threading

import demos  # noqa: F401  # isort: skip (before gradio, whose import it prepares)
import gradio as gr

from demos import clip_synthesis, detection, diffusion, reconstruction, self_distillation, token_removal
from demos.common import COMPUTE, MODELS, t, warm
from demos.serving import Page, launch_settings

TABS = [self_distillation, token_removal, reconstruction, detection, diffusion, clip_synthesis]


def build() -> gr.Blocks:
    """The whole page. The first tab runs when the page opens, every other one when it is selected."""
    with Page(title="Patchlight", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as app:
        gr.Markdown(
            t(
                "# Patchlight\nSee how vision models look, forget, rebuild, find and imagine. "
                "Every picture comes from a model that ran."
            ),
            elem_id="masthead",
        )
        with gr.Tabs(overflow_behavior="menu"):
            handler, inputs, outputs = [tab.build() for tab in TABS][0]
        app.load(handler, inputs, outputs, api_visibility="private", show_progress="minimal", **COMPUTE)
    app.queue(max_size=64, default_concurrency_limit=4, api_open=False)
    return app


def arguments() -> argparse.Namespace:
    hub = [spec.name for spec in MODELS.values() if spec.tier == "hub"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog=f"hub models: {', '.join(hub)}")
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
        "--prefetch", nargs="+", choices=hub, default=[], metavar="MODEL", help="download these hub models now"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.models == "bundled":
        os.environ["PATCHLIGHT_MODELS"], os.environ["HF_HUB_OFFLINE"] = "bundled", "1"
    for name in options.prefetch:
        from pipelines.loading import load

        print(f"{name}: ready, {load(name).megabytes:.0f} MB in memory")
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
