"""What the tabs share: translation, messages, the compute slot, checks of what arrives, model menus, export.

Nothing here is about one tab.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.context import LocalContext
from gradio.events import Dependency
from gradio.processing_utils import save_bytes_to_cache, save_pil_to_cache
from PIL import Image

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
# A cancelled event frees its queue slot while its thread still runs; this holds on until the thread is done.
_DEVICE = threading.BoundedSemaphore(1)
WAIT_SECONDS = 120


class lazily:
    """A module that is imported when first used: nothing heavy happens before the page is up."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(importlib.import_module(self._name), attribute)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the device until the block is left."""
    if not _DEVICE.acquire(timeout=WAIT_SECONDS):
        raise UserError(say("The computer is busy with other visitors. Please try again in a minute."))
    try:
        yield
    finally:
        _DEVICE.release()


def _lent(function: Callable, seconds: int) -> Callable:
    """On a borrowed GPU where the `spaces` package lends one."""
    if importlib.util.find_spec("spaces"):
        import spaces

        return spaces.GPU(duration=seconds)(function)
    return function


def heavy(function: Callable, seconds: int = 60) -> Callable:
    """Run `function` alone on the device, on a borrowed GPU where there is one."""
    function = _lent(function, seconds)

    def run(*arguments, **keywords):
        with _alone():
            return function(*arguments, **keywords)

    return run


def heavy_steps(function: Callable, seconds: int = 120) -> Callable:
    """`heavy` for a generator: alone on the device until it ends or is closed."""
    function = _lent(function, seconds)

    def run(*arguments, **keywords):
        with _alone():
            yield from function(*arguments, **keywords)

    return run


def _friendly(error: Exception) -> gr.Error:
    """UserError is meant for the visitor; anything else is ours to mend: logged whole, shown without its insides."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, UserError):
        told = say(error.message, **error.values) if error.values else str(error)
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
    """Wrap a plain handler that needs no model, or only what is `Remembered`: friendly messages, no queue slot."""

    @functools.wraps(function)
    def run(*arguments, **keywords):
        try:
            return function(*arguments, **keywords)
        except Exception as error:
            raise _friendly(error) from None

    return run


def unless_shown(redraw: Callable) -> Callable:
    """`redraw` for when a slow run is done, whose answer may be for sliders that have moved since: (numbers shown,
    *what redraw takes), and nothing happens where the numbers' own `settings` are still those given."""
    names = list(inspect.signature(redraw).parameters)

    def run(numbers, *arguments):
        given = dict(zip(names, arguments, strict=False))
        if all(given[name] == value for name, value in numbers["settings"].items()):
            return gr.skip()
        return redraw(*arguments)

    return run


class Remembered:
    """A function of (picture, ...) whose last results are kept, by content; equal requests at once run once.

    This is why a slider costs nothing: it asks again for what was encoded, and gets it back. A result takes up to 4 MB;
    the size is for a class of thirty with two pictures each.
    """

    def __init__(self, function: Callable, size: int = 64):
        self.function, self.size = function, size
        self.results: OrderedDict[tuple, object] = OrderedDict()
        self.lock, self.running = threading.Lock(), {}

    def __call__(self, picture: Image.Image, *arguments: object):
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        key = (digest, picture.size, *arguments)
        with self.lock:
            if key in self.results:
                self.results.move_to_end(key)
                return self.results[key]
            turn = self.running.setdefault(key, threading.Lock())
        with turn:
            with self.lock:
                if key in self.results:
                    return self.results[key]
            result = self.function(picture, *arguments)
            with self.lock:
                self.results[key] = result
                while len(self.results) > self.size:
                    self.results.popitem(last=False)
                self.running.pop(key, None)
            return result


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


def stop_button(
    tab: str,
    *running: Dependency,
    status: gr.Markdown | None = None,
    held: Callable[..., str] = lambda: "",
    holding: Sequence = (),
) -> None:
    """A button that ends what the tab has under way, and says so in place of the last step in `status`, with what
    `held` says of `holding` that the screen holds now."""
    stop = gr.Button(t("Stop"), elem_id=f"{tab}-stop", variant="stop", size="sm")
    told = (lambda *values: say("Stopped.") + held(*values)) if status is not None else None
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    stop.click(told, list(holding), status, cancels=list(running), **quiet)


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


def belong_to(result: gr.JSON, files: gr.File) -> None:
    """Exported files go when the numbers on show are those of another run."""
    result.change(None, None, files, js="() => null")


def export_files(component: gr.File, tab: str, figure: Image.Image, settings: dict, numbers: dict) -> list[str]:
    """The figure as PNG with its parameters in the file's metadata, and everything as JSON. Paths for a `gr.File`."""
    record = {"app": "Patchlight", "tab": tab, "settings": settings, "numbers": numbers}
    text = json.dumps(record, indent=1)
    figure.info["patchlight"] = text
    picture = save_pil_to_cache(figure, component.GRADIO_CACHE, name=f"patchlight-{tab}", format="png")
    data = save_bytes_to_cache(text.encode(), f"patchlight-{tab}.json", component.GRADIO_CACHE)
    return [picture, data]
