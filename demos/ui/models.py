"""The models a tab offers, and the menu that says what each costs before it is fetched."""

import functools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from demos.ui.controls import Dropdown, choice
from demos.ui.events import event, lazily, log
from demos.ui.text import say, t
from pipelines.errors import UserError
from pipelines.models.registry import BUNDLED, MODELS, Family


def model_names(*families: Family) -> list[str]:
    """The models a tab offers, bundled ones first; no hub models when it is kept to those."""
    hub = not lazily("pipelines.models.hub").bundled_only
    return [
        spec.name
        for spec in MODELS.values()
        if spec.family in families
        and (spec.tier != "hub" or hub)
        and (spec.tier != "converted" or (BUNDLED / spec.source).exists())
    ]


def teacher_models() -> list[str]:
    """The models that come with a teacher, a projection head and a decoder."""
    return [name for name in model_names("openclip") if MODELS[name].teacher]


@functools.cache
def quality_of(model: str) -> dict[str, float]:
    """The figures of a model's card, as its measuring command wrote them; none for a model without any."""
    spec = MODELS.get(model)
    card = BUNDLED / spec.source / "quality.json" if spec and spec.tier == "bundled" else None
    return json.loads(card.read_text(encoding="utf-8")) if card and card.exists() else {}


def at_hand(model: object) -> None:
    """Refuse a model that would have to be downloaded: no visitor waits for another one's download.

    Raises:
        UserError: for a model whose files are not there yet.
    """
    if isinstance(model, str) and model in MODELS and lazily("pipelines.models.hub").availability(model) == "download":
        raise UserError(
            say(
                "{name} is not on this computer yet ({size} MB). Choose it in the page's model menu and wait until it "
                "is there, or start the app with --prefetch {name}.",
                name=model,
                size=MODELS[model].megabytes,
            )
        )


WARM = threading.Event()  # whether `warm` has done what it could


def warm() -> None:
    """Import what is heavy and load the bundled models, in the background, once the page is up: loading is one long
    step, for which everybody else would wait.
    """
    bundled = [spec.name for spec in MODELS.values() if spec.tier == "bundled"]
    try:
        for name in sorted(bundled, key=lambda name: name != model_names("openclip")[0]):
            lazily("pipelines.models.loading").preload(name)
    except Exception:
        log.exception("could not warm up; the first visitor will wait a little longer")
    finally:
        WARM.set()


@dataclass(frozen=True, kw_only=True)
class ModelMenu:
    """The model menu of a tab. Chain what needs the chosen model to `fetched.success`."""

    choice: gr.Dropdown
    fetched: Dependency


def model_menu(tab: str, names: Sequence[str]) -> ModelMenu:
    """The menu says what each model costs, and on what terms, before it is fetched; a download shows how far it is and
    can be stopped.

    Where a model cannot be had, the message says why and the first of `names`, a bundled one, is selected again.
    """

    def told(name: str) -> str:
        spec, where = MODELS[name], lazily("pipelines.models.hub").availability(name).replace("download", "to download")
        return f"{name} · {where}, {spec.megabytes} MB · {spec.licence}"

    menu = Dropdown(
        [(told(name), name) for name in names],
        value=names[0],
        label=t("Model"),
        elem_id=f"{tab}-model",
        info=t("Hub models are downloaded when first chosen."),
    )
    status = gr.Markdown(visible=False, elem_id=f"{tab}-download")
    stop = gr.Button(t("Stop the download"), visible=False, size="sm", variant="stop", elem_id=f"{tab}-stop-download")

    def fetch(model: str):
        spec = MODELS[choice(say("The model"), model, names)]
        for share in lazily("pipelines.models.hub").fetch(spec):
            progress = say(
                "Downloading {name}: {share} of {size} MB", name=model, share=f"{share:.0%}", size=spec.megabytes
            )
            yield gr.Markdown(progress, visible=True), gr.Button(visible=True)
        yield gr.Markdown(visible=False), gr.Button(visible=False)

    def back() -> tuple:
        return names[0], gr.Markdown(visible=False), gr.Button(visible=False)

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    fetched = menu.input(
        event(fetch, seconds=7200, computes=False), menu, [status, stop], trigger_mode="always_last", **private
    )
    fetched.failure(back, None, [menu, status, stop], **private)
    stop.click(back, None, [menu, status, stop], cancels=[fetched], **private)
    return ModelMenu(choice=menu, fetched=fetched)
