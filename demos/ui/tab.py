"""One tab of the page: its named parts, and the events that run its handlers.

A part called `name` is the component with the id `<slug>-<name>`. A handler never sees components: its parameters name
the parts it reads, and it returns or yields a mapping from names of parts to what they are to show.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context, LocalContext
from gradio.events import Dependency
from PIL import Image

from demos.ui import controls, pictures, stale
from demos.ui.events import COMPUTE, event, light
from demos.ui.export import settings_as_json
from demos.ui.lesson import Lesson
from demos.ui.models import model_menu
from demos.ui.text import LATEX, say, t
from pipelines.settings import checked, settings_of
from pipelines.world import persian

SETTINGS = "settings"  # the parameter of a handler that takes all settings at once
SPECIAL = (gr.SelectData, gr.EventData, gr.Request)  # parameters that Gradio fills in by itself
# What comes while the same handler is at work is done after it, not dropped: a click is never lost.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}

# Exported files stay where the same run is done again: then only the time it took is another. An empty list of values
# changes nothing; to send the files through the page would bring older ones back where it crosses another answer.
KEEP = """(numbers) => {
  const now = JSON.stringify(numbers, (name, value) => /^(milli)?seconds/.test(name) ? undefined : value);
  const same = (window.numbersOf ||= {}).TAB === now;
  window.numbersOf.TAB = now;
  return same ? [] : [null];
}"""


@dataclass(frozen=True, kw_only=True)
class Addressed:
    """A part whose value stands in the page's address, and is no setting."""

    default: str
    fills: tuple[str, ...]
    restore: Callable[[str], dict]  # from the text in an address, which is to be checked, to parts


class Tab:
    """The parts of a lesson's page, by name, and what runs them."""

    def __init__(self, lesson: Lesson):
        self.lesson = lesson
        self.slug = lesson.slug
        self.settings = settings_of(lesson.settings)
        self.parts: dict[str, Any] = {}
        self.opened: Any = None  # the gr.Tab
        self.chosen: list[Callable] = []  # what tells that this tab is looked at now
        self.fetched: Any = None  # the event of the model menu, after which the chosen model is there
        self.restored: Any = None  # the event after which the settings are those of the page's address
        self.addressed: dict[str, Addressed] = {}  # what an address holds besides settings
        self.uploaded: Any = None  # the event of an upload, after which the old caption is gone
        self.running: list[Dependency] = []  # what the Stop button ends
        self.runs: list[Dependency] = []  # those of them that fill the whole screen
        self.of_picture: tuple[str, ...] = ()  # parts besides the lesson's that are of one picture
        self.stopped: Callable = tell_stopped  # says what the screen holds when nothing goes on
        self._stop: gr.Button | None = None

    def __getitem__(self, name: str) -> Any:
        return self.parts[name]

    def id(self, name: str) -> str:
        return f"{self.slug}-{name.replace('_', '-')}"

    # ------------------------------------------------------------------------------------------------------- layout

    def columns(self, controls: Callable[["Tab"], None], figures: Callable[["Tab"], None]) -> None:
        """Controls beside figures. On a phone the first four parts of `figures` come before the controls: what it
        tells, pictures, the main control and the number it moves (assets/style.css).
        """
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=4, min_width=300):
                controls(self)
            with gr.Column(scale=8, min_width=320):
                figures(self)

    def add(self, name: str, part: Any) -> Any:
        """Give a component that was made elsewhere its name."""
        assert name not in self.parts, f"{self.slug} has two parts called {name}"
        self.parts[name] = part
        return part

    def control(self, name: str, **changes: Any) -> Any:
        """The control of a setting: a checkbox, a menu of its choices, a slider, a number, a line of text.

        `changes` are arguments of the component, such as `render=False`; `menu=True` makes a long choice a dropdown.
        """
        known = self.settings[name]
        if known.kind is Image.Image:
            return self.picture(name, known.label, **changes)
        return self.add(name, controls.control(known, elem_id=self.id(name), **changes))

    def panel(self, name: str, label: str, **changes: Any) -> gr.Image:
        """A picture that is shown, not taken."""
        buttons: list[Any] = ["fullscreen", "download"]
        image = gr.Image(
            label=t(label), format="png", interactive=False, elem_id=self.id(name), buttons=buttons, **changes
        )
        return self.add(name, image)

    def picture(self, name: str, label: str, **changes: Any) -> pictures.Picture:
        """A picture that is taken, beside the tab's own."""
        sources: list[Any] = ["upload", "clipboard"]
        image = pictures.Picture(
            label=t(label),
            elem_id=self.id(name),
            type="filepath",
            image_mode=None,
            format="png",
            sources=sources,
            **changes,
        )
        return self.add(name, image)

    def html(self, name: str, **changes: Any) -> gr.HTML:
        return self.add(name, gr.HTML(elem_id=self.id(name), **changes))

    def markdown(self, name: str, **changes: Any) -> gr.Markdown:
        return self.add(name, gr.Markdown(elem_id=self.id(name), latex_delimiters=LATEX, **changes))

    def button(self, name: str, text: str, **changes: Any) -> gr.Button:
        return self.add(name, gr.Button(t(text), elem_id=self.id(name), **changes))

    def gallery(self, name: str, label: str, columns: int) -> gr.Gallery:
        gallery = gr.Gallery(
            label=t(label),
            format="png",
            columns=columns,
            object_fit="contain",
            height="auto",
            elem_id=self.id(name),
            buttons=["fullscreen"],
        )
        return self.add(name, gallery)

    def accordion(self, name: str, title: str, open: bool = False, **changes: Any) -> gr.Accordion:
        """A part of the page that folds; use it in a `with`."""
        return self.add(name, gr.Accordion(t(title), open=open, **changes))

    def state(self, name: str, value: object = None) -> gr.State:
        """Something kept for each visitor that no component shows."""
        return self.add(name, gr.State(value))

    def model_menu(self, names: Sequence[str]) -> None:
        """The setting `model`, with what each one costs; `fetched` tells when the chosen one is there."""
        menu = model_menu(self.slug, names)
        self.add("model", menu.choice)
        self.fetched = menu.fetched

    def stop(self, **changes: Any) -> None:
        """A button that ends whatever this tab has under way. Place it; `run` connects it."""
        self._stop = self.button("stop", "Stop", variant="stop", **{"size": "sm", **changes})

    def question(self, name: str, text: str, answers: Mapping[str, str], **changes: Any) -> None:
        """What is asked before a run; a class's guesses are counted (demos/ui/tally.py). `answers`: key -> text."""
        texts = [(t(answer), key) for key, answer in answers.items()]
        changes = {"value": "", "label": t(text), "elem_id": self.id(name), "elem_classes": "ask", **changes}
        self.add(name, controls.Radio(texts, **changes))

    def numbers_and_export(self) -> None:
        """The accordion with the parts `numbers` (as JSON), `export` (a button) and `files`."""
        with gr.Accordion(t("Numbers as JSON, and export"), open=False):
            self.numbers()
            self.export()

    def numbers(self) -> None:
        self.add("numbers", gr.JSON(label=t("Numbers"), elem_id=self.id("numbers")))

    def export(self) -> None:
        self.button("export", "Export figure and numbers")
        files = gr.File(label=t("Files"), file_count="multiple", interactive=False, elem_id=self.id("files"))
        self.add("files", files)

    # ------------------------------------------------------------------------------------------------------- events

    def main(self, listen: Callable | Sequence[Callable], **settings: Any) -> Dependency:
        """Run the lesson's main event: its endpoint where it is first called, and the same again after others."""
        page: Any = Context.root_block
        if not any(self.slug == fn.api_name for fn in page.fns.values()):
            settings = {"api_name": self.slug, "api_visibility": "public", **settings}
        lesson = self.lesson
        return self.compute(listen, lesson.main, lesson.shows, seconds=lesson.seconds, **settings)

    def compute(
        self,
        listen: Callable | Sequence[Callable],
        handler: Callable,
        shows: Sequence[str],
        *,
        seconds: float = 120,
        progress: str | None = None,
        **settings: Any,
    ) -> Dependency:
        """Run a handler that needs a model: in its turn, until Stop.

        Args:
            listen: what starts it, such as `tab["image"].change`, or several of these.
            shows: the parts that its answer may name.
            progress: the part on which Gradio shows that it is under way; None for none.
        """
        settings = {
            "api_visibility": "private",
            "show_progress": "minimal" if progress else "hidden",
            "show_progress_on": self[progress] if progress else None,
            **COMPUTE,
            **settings,
        }
        done = self._listen(listen, event(self.bound(handler), seconds), handler, shows, settings)
        self.running.append(done)
        if tuple(shows) == self.lesson.shows:
            self.runs.append(done)
        return done

    def quick(
        self, listen: Callable | Sequence[Callable], handler: Callable, shows: Sequence[str], **settings: Any
    ) -> Dependency:
        """Run a handler that needs no model, or only what is cached: at once, beside everything else."""
        return self._listen(listen, light(self.bound(handler)), handler, shows, {**QUIET, **settings})

    def _listen(self, listen, run: Callable, handler: Callable, shows: Sequence[str], settings: dict) -> Dependency:
        inputs = [self[name] for name in self._reads(handler)]
        outputs = [self[name] for name in shows]
        if callable(listen):
            return listen(run, inputs, outputs, **settings)
        return gr.on(list(listen), run, inputs, outputs, **settings)

    def _reads(self, handler: Callable) -> list[str]:
        """The parts a handler's parameters name, `settings` taken apart."""
        hints = _hints(handler)
        names: list[str] = []
        for name in inspect.signature(handler).parameters:
            if hints.get(name) not in SPECIAL:
                names += self.settings if name == SETTINGS else [name]
        return names

    def bound(self, handler: Callable) -> Callable:
        """The handler as Gradio and the API call it: one argument for each part, and components in the answer.

        Its signature has the settings' names and defaults, which makes them those of the endpoint.
        """
        parameters, hints = inspect.signature(handler).parameters, _hints(handler)
        reads = self._reads(handler)

        def taken(values: tuple, keywords: Mapping[str, object]) -> dict[str, object]:
            specials = [name for name in parameters if hints.get(name) in SPECIAL]
            given: dict[str, Any] = {**dict(zip([*reads, *specials], values, strict=False)), **keywords}
            for name, value in given.items():
                if isinstance(value, str):
                    given[name] = persian.to_english(value)
            arguments = {name: given[name] for name in parameters if name in given}
            known = pictures.opened(self.settings, {name: given[name] for name in self.settings if name in given})
            for name in arguments:
                if name in self.settings:
                    arguments[name] = self.settings[name].check(known[name])
            if SETTINGS in parameters:
                arguments[SETTINGS] = checked(self.lesson.settings, known)
            return arguments

        def shown(answer: Mapping[str, Any] | None, given: Mapping[str, Any]) -> Any:
            if answer is None:
                return gr.skip()
            if "told" in self.parts and "image" in given and answer.get("numbers"):
                answer = {**answer, "numbers": {**answer["numbers"], "picture": stale.mark_of(given["image"])}}
            return {self[name]: value for name, value in answer.items()}

        def run(*values, **keywords):
            given = taken(values, keywords)
            return shown(handler(**given), given)

        def steps(*values, **keywords) -> Iterator:
            given = taken(values, keywords)
            for answer in handler(**given):
                yield shown(answer, given)

        function: Any = steps if inspect.isgeneratorfunction(_function(handler)) else run
        function.__name__ = function.__qualname__ = _function(handler).__name__
        function.__doc__ = _function(handler).__doc__
        function.__annotations__ = {name: hint for name, hint in hints.items() if hint in SPECIAL}
        function.__signature__ = self._signature(handler, reads)
        function.reads, function.settings = reads, self.settings  # for the table of limits
        function.tab = self.slug
        return function

    def _signature(self, handler: Callable, reads: Sequence[str]) -> inspect.Signature:
        parameters, hints = inspect.signature(handler).parameters, _hints(handler)
        kind, found = inspect.Parameter.POSITIONAL_OR_KEYWORD, []
        for name in reads:
            default = parameters[name].default if name in parameters else inspect.Parameter.empty
            if default is inspect.Parameter.empty and name in self.settings:
                default = self.settings[name].default
            found.append(inspect.Parameter(name, kind, default=default))
        specials = [name for name in parameters if hints.get(name) in SPECIAL]
        found += [inspect.Parameter(name, kind, annotation=hints[name]) for name in specials]
        optional = False
        for place, each in enumerate(found):  # Python wants no bare parameter after one with a default
            if optional and each.default is inspect.Parameter.empty:
                found[place] = each.replace(default=None)
            optional = optional or each.default is not inspect.Parameter.empty
        return inspect.Signature(found)

    def when_open(
        self, accordion: str, handler: Callable, shows: Sequence[str], *changes: Callable, **settings: Any
    ) -> None:
        """Fill parts when an accordion is opened, and again at each of `changes` for as long as it is open."""
        box, opened = self[accordion], gr.State(False)
        box.collapse(lambda: False, None, opened, **QUIET)
        first = box.expand(lambda: True, None, opened, **QUIET)
        self.compute(first.then, handler, shows, **settings)
        inputs, outputs = [self[name] for name in self._reads(handler)], [self[name] for name in shows]
        bound = self.bound(handler)

        def again(is_open: bool, *values: object) -> Iterator:
            if is_open:
                answer = bound(*values)
                yield from answer if inspect.isgenerator(answer) else [answer]

        for listen in changes:
            refilled = listen(event(again), [opened, *inputs], outputs, api_visibility="private", **COMPUTE)
            self.running.append(refilled)

    def catch_up(self, run: Dependency) -> None:
        """Redraw after a slow run whose answer is for sliders that have moved since; nothing where they have not."""

        def redraw(numbers: dict | None, *values: object) -> Any:
            given = dict(zip(reads, values, strict=True))
            known = pictures.opened(self.settings, {name: given[name] for name in self.settings})
            now: Any = checked(self.lesson.settings, known)
            if numbers is None or numbers["settings"] == settings_as_json(now):
                return gr.skip()
            return bound(*values)

        bound, reads = self.bound(self.lesson.main), self._reads(self.lesson.main)
        inputs = [self[name] for name in ("numbers", *reads)]
        run.success(light(redraw), inputs, [self[name] for name in self.lesson.shows], **QUIET)

    def told(self) -> None:
        """The line above results that are of one picture: it says when they are not of the one that was given.

        Place it after the picture and before `wire`: of the listeners to one event, the browser starts the next one
        only when the one before has its answer, and greying must not wait for a model.
        """
        self.html("told", elem_classes="told-of")
        self["image"].change(None, None, self["told"], js=f"() => '{stale.STALE}'")

    def connect(self) -> None:
        """What all tabs do at the end of a run: say whether the screen is of it, and stop."""
        if "files" in self.parts:  # exported files go when the numbers on show are those of another run
            self["numbers"].change(None, self["numbers"], self["files"], js=KEEP.replace("TAB", self.slug))
        for run in self.runs:
            if "told" in self.parts:
                self.quick(run.success, stale.tell_done, ["told"])
                self.quick(run.failure, self._empty, ["told", *self.lesson.shows, *self.of_picture])
            elif "status" in self.parts:
                self.quick(run.failure, self.stopped, ["status"])
        self._connect_stop()

    def _empty(self, image: str | None, numbers: dict | None) -> dict | None:
        """A run that failed leaves nothing of another picture."""
        if stale.is_of(image, numbers):
            return None
        return {"told": "", **dict.fromkeys([*self.lesson.shows, *self.of_picture])}

    def _connect_stop(self) -> None:
        """The browser sends its cancels and asks for the message at the same time, and a step that arrives after the
        message would write over it: so the message's own handler ends the runs first.
        """
        if self._stop is None or not self.running:
            return
        functions, says = {run["id"] for run in self.running}, self.bound(self.stopped)

        async def stopped(request: gr.Request, *values: object) -> dict:
            line_up: Any = LocalContext.blocks.get()
            await line_up._queue.stop(request.session_hash, functions)
            return says(*values)

        line = next((self[name] for name in ("told", "status") if name in self.parts), None)
        reads = [self[name] for name in self._reads(self.stopped)] if line else None
        self._stop.click(stopped if line else None, reads, line, cancels=list[Any](self.running), **QUIET)


def tell_stopped() -> dict:
    return {"status": say("Stopped.")}


def _function(handler: Callable) -> Callable:
    return handler.func if isinstance(handler, functools.partial) else handler


def _hints(handler: Callable) -> dict[str, Any]:
    return typing.get_type_hints(_function(handler))
