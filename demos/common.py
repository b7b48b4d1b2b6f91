"""What the tabs share: translation, messages, the compute slot, checks of what arrives, model menus, export.

Nothing here is about one tab.
"""

import asyncio
import functools
import importlib
import importlib.util
import inspect
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from anyio import to_thread
from gradio.context import LocalContext
from gradio.events import Dependency
from gradio.processing_utils import save_bytes_to_cache, save_pil_to_cache
from PIL import Image

from demos.device import MAY_WAIT, WAIT_SECONDS, Busy, Remembered, heavy, heavy_steps, is_awaited  # noqa: F401
from pipelines.errors import UserError
from pipelines.registry import BUNDLED, MODELS, Family
from pipelines.settings import MOST_TEXT, Setting

ASSETS = Path(__file__).parents[1] / "assets"
SEED_LIMIT = 2**31 - 1

log = logging.getLogger("patchlight")

# --------------------------------------------------------------------------------------------------------- translation
# The English text is the key. A language is one file, assets/languages/<code>.json: English text to translation.

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


# ------------------------------------------------------------------------------------------------- events and messages

COMPUTE = {"concurrency_id": "compute", "concurrency_limit": 1}  # one queue slot: models are loaded on one device


class lazily:
    """A module that is imported when first used: nothing heavy happens before the page is up."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self._name), attribute)


def _friendly(error: Exception) -> gr.Error:
    """UserError is meant for the visitor; anything else is ours to mend: logged whole, shown without its insides."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, UserError):
        told = say(error.message, **error.values) if error.values or isinstance(error, Busy) else str(error)
        return gr.Error(told, print_exception=False)
    log.error("unexpected error in an event", exc_info=error)
    return gr.Error(
        say("Something went wrong on our side; it has been logged. Your picture and settings are still here."),
        print_exception=False,
    )


def event(function: Callable, seconds: float = 120) -> Callable:
    """Wrap a handler: friendly messages, a first yield so that a cancel is clean, a deadline between steps.

    A plain handler is one step and is not interrupted.
    """
    generator = inspect.isgeneratorfunction(function)

    @functools.wraps(function)
    def run(*arguments, **keywords):
        yield gr.skip()
        start = time.monotonic()
        try:
            if not generator:
                yield function(*arguments, **keywords)
                return
            for step in function(*arguments, **keywords):
                yield step
                if time.monotonic() - start > seconds:
                    raise UserError(
                        say("Stopped after {seconds} seconds, the limit for one request.", seconds=round(seconds))
                    )
        except GeneratorExit:
            raise
        except Exception as error:
            raise _friendly(error) from None

    return run


def light(function: Callable) -> Callable:
    """Wrap a plain handler that needs no model, or only what is `Remembered`: friendly messages, no queue slot.

    Where it does need the device, it asks again until that is free, and takes no thread from those who compute.
    """

    def at_once(arguments: tuple, keywords: dict):
        MAY_WAIT.set(False)  # in this call's own context
        return function(*arguments, **keywords)

    @functools.wraps(function)
    async def run(*arguments, **keywords):
        blocks, start = LocalContext.blocks.get(None), time.monotonic()
        try:
            while True:
                try:
                    return await to_thread.run_sync(
                        at_once, arguments, keywords, limiter=blocks.limiter if blocks else None
                    )
                except Busy:
                    if time.monotonic() - start > WAIT_SECONDS or not is_awaited():
                        raise
                    await asyncio.sleep(0.2)
        except Exception as error:
            raise _friendly(error) from None

    return run


def unless_shown(redraw: Callable) -> Callable:
    """`redraw`, a `light` handler, for when a slow run is done, whose answer may be for sliders that have moved since:
    (numbers shown, *what redraw takes), and nothing happens where the numbers' own `settings` are still those given."""
    names = list(inspect.signature(redraw).parameters)

    async def run(numbers, *arguments):
        given = dict(zip(names, arguments, strict=False))
        if numbers is None or all(given[name] == value for name, value in numbers["settings"].items()):
            return gr.skip()
        return await redraw(*arguments)

    return run


# Inputs that pass their value on as it came. Gradio's own checks raise what a visitor never sees; the handlers check
# every value themselves, with `number`, `whole`, `choice` and `words`, and say what is wrong. To the browser they are
# the plain components.


def _as_it_came(self, payload):
    return payload


class Slider(gr.Slider):
    is_template = True
    preprocess = _as_it_came


class Number(gr.Number):
    is_template = True
    preprocess = _as_it_came


class Radio(gr.Radio):
    is_template = True
    preprocess = _as_it_came

    def api_info(self) -> dict:
        """Gradio's says that every choice is a text."""
        values = [value for _, value in self.choices]
        if not all(isinstance(value, int) for value in values):
            return super().api_info()
        return {"title": "Radio", "type": "integer", "description": f"one of {', '.join(map(str, values))}"}


class Dropdown(gr.Dropdown):
    is_template = True
    preprocess = _as_it_came


class Checkbox(gr.Checkbox):
    is_template = True
    preprocess = _as_it_came


class CheckboxGroup(gr.CheckboxGroup):
    is_template = True
    preprocess = _as_it_came


class Textbox(gr.Textbox):
    is_template = True
    preprocess = _as_it_came


# What arrived over the wire, where it is no field of a method's settings. Raise UserError, as `Setting.check` does.


def words(name: str, value: object, most: int = MOST_TEXT) -> str:
    """A line of text, stripped; None is empty."""
    return Setting(name=name, kind=str, default="", label=name, most=most).check(value)


def number(name: str, value: object, low: float, high: float) -> float:
    """A finite number within its limits."""
    return Setting(name=name, kind=float, default=low, label=name, low=low, high=high).check(value)


def whole(name: str, value: object, low: int, high: int) -> int:
    """`number`, but whole."""
    return Setting(name=name, kind=int, default=low, label=name, low=low, high=high).check(value)


def flag(name: str, value: object) -> bool:
    return Setting(name=name, kind=bool, default=False, label=name).check(value)


def choice(name: str, value: object, allowed: Iterable[str | int]):
    return Setting(name=name, kind=object, default=None, label=name, choices=dict.fromkeys(allowed, "")).check(value)


# -------------------------------------------------------------------------------------------------------------- models

RULES = {  # who decides which patches stay
    "attention": "attention, 2×2 blocks (DetailCLIP)",
    "attention-patch": "attention, single patches",
    "random": "random blocks",
    "inverse": "lowest attention",
}


def model_names(*families: Family) -> list[str]:
    """The models a tab offers, bundled ones first; no hub models when PATCHLIGHT_MODELS is `bundled`."""
    hub = os.environ.get("PATCHLIGHT_MODELS") != "bundled"
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


def at_hand(model: object) -> None:
    """Refuse a model that would have to be downloaded: no visitor waits for another one's download.

    Raises:
        UserError: for a model whose files are not there yet.
    """
    if isinstance(model, str) and model in MODELS and lazily("pipelines.hub").availability(model) == "download":
        raise UserError(
            say(
                "{name} is not on this computer yet ({size} MB). Choose it in the page's model menu and wait until it "
                "is there, or start the app with --prefetch {name}.",
                name=model,
                size=MODELS[model].megabytes,
            )
        )


def warm() -> None:
    """Import what is heavy and load the default model, in the background, once the page is up."""
    try:
        lazily("pipelines.loading").load(model_names("openclip")[0])
    except Exception:
        log.exception("could not warm up; the first visitor will wait a little longer")


@dataclass(frozen=True)
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
        spec, where = MODELS[name], lazily("pipelines.hub").availability(name).replace("download", "to download")
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
        for share in lazily("pipelines.hub").fetch(spec):
            progress = say(
                "Downloading {name}: {share} of {size} MB", name=model, share=f"{share:.0%}", size=spec.megabytes
            )
            yield gr.Markdown(progress, visible=True), gr.Button(visible=True)
        yield gr.Markdown(visible=False), gr.Button(visible=False)

    def back() -> tuple:
        return names[0], gr.Markdown(visible=False), gr.Button(visible=False)

    private = {"api_visibility": "private", "show_progress": "hidden"}
    fetched = menu.input(event(fetch, seconds=7200), menu, [status, stop], trigger_mode="always_last", **private)
    fetched.failure(back, None, [menu, status, stop], **private)
    stop.click(back, None, [menu, status, stop], cancels=[fetched], **private)
    return ModelMenu(menu, fetched)


def stop_button(tab: str, *running: Dependency, status: gr.Markdown | None = None) -> None:
    """A button that ends what the tab has under way, and says so in place of the last step in `status`.

    The browser sends its cancels and asks for the message at the same time, and a step that arrives after the message
    would write over it: so the message's own handler ends the runs first.
    """
    stop = gr.Button(t("Stop"), elem_id=f"{tab}-stop", variant="stop", size="sm")
    functions = {dependency["id"] for dependency in running}

    async def stopped(request: gr.Request) -> str:
        await LocalContext.blocks.get()._queue.stop(request.session_hash, functions)
        return say("Stopped.")

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    stop.click(stopped if status is not None else None, None, status, cancels=list(running), **quiet)


def when_open(box: gr.Accordion, function: Callable, inputs: list, output, *changes: Callable) -> list[Dependency]:
    """Fill `output` when the accordion is opened, and again at each of `changes` for as long as it is open.

    `changes` are listeners of what `function` depends on, such as `image.change` or `fetched.success`.
    """
    opened = gr.State(False)
    settings = {"api_visibility": "private", **COMPUTE}

    def again(is_open, *arguments):
        if is_open:
            yield from function(*arguments)

    box.collapse(lambda: False, None, opened, api_visibility="private", show_progress="hidden")
    first = box.expand(lambda: True, None, opened, api_visibility="private", show_progress="hidden")
    refilled = [listen(event(again), [opened, *inputs], output, **settings) for listen in changes]
    return [first.then(event(function), inputs, output, **settings), *refilled]


# ------------------------------------------------------------------------------------------------------------- export


LATEX = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]


def export_files(component: gr.File, tab: str, figure: Image.Image, settings: dict, numbers: dict) -> list[str]:
    """The figure as PNG with its parameters in the file's metadata, and everything as JSON. Paths for a `gr.File`."""
    record = {"app": "Patchlight", "tab": tab, "settings": settings, "numbers": numbers}
    text = json.dumps(record, indent=1)
    figure.info["patchlight"] = text
    picture = save_pil_to_cache(figure, component.GRADIO_CACHE, name=f"patchlight-{tab}", format="png")
    data = save_bytes_to_cache(text.encode(), f"patchlight-{tab}.json", component.GRADIO_CACHE)
    return [picture, data]
