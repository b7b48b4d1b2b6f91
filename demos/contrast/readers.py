"""Three readers of pictures with words, CLIP, SimVLM and CoCa: one picture read by all, and an exam. Wraps
pipelines/contrast/readers."""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from demos.ui import charts, classifier, controls, drawing, lab
from demos.ui.cache import lru_cached
from demos.ui.device import on_device
from demos.ui.drawing import source_of
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.pictures import read_picture, told_of
from demos.ui.scenes import picture_controls
from demos.ui.tab import Addressed, Tab, tell_stopped
from demos.ui.text import named, say, t
from pipelines.contrast.settings import READERS, CaptionSettings, ReadersSettings
from pipelines.contrast.verdicts import READERS_ANSWERS, READERS_ASKED, of_readers
from pipelines.models.registry import BUNDLED
from pipelines.settings import checked, settings_of

if TYPE_CHECKING:
    from pipelines.contrast.readers import Frame, Reach, Reading, Readings

SCENE = 12  # the picture that the page opens with, counted within the test range
CAPTION = settings_of(CaptionSettings)
SMALL = 96  # pixels, of a picture with a word's look over it
CELL, LABEL = 11, 50  # of a map of what sees what, in its own pixels

pipeline = lazily("pipelines.contrast.readers")


def seconds(settings: ReadersSettings) -> float:
    """What a run is expected to take on two cores."""
    return 2 + 0.3 * settings.pictures


@on_device(seconds=lab.LONGEST)
def run(settings: ReadersSettings) -> Iterator["Frame"]:
    yield from pipeline.run(settings)


@lru_cached
def candidates() -> tuple[str, ...]:
    """The captions that a single picture's is found among."""
    return tuple(scene.full_caption for scene in pipeline.scenes(ReadersSettings()))


@on_device
def look(settings: CaptionSettings, picture: Image.Image, caption: str | None) -> "Readings":
    return pipeline.look(settings, picture, caption, candidates())


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, READERS_ASKED, READERS_ANSWERS, button="Examine")
            begins = controls.control(CAPTION["beginning"], elem_id=tab.id("beginning"))
            tab.add("beginning", begins)
            tab.addressed["beginning"] = Addressed(default="", fills=("beginning",), restore=begin_with)
            picture_controls(tab, SCENE)
            with gr.Accordion(t("More settings"), open=False):
                tab.control("pictures")
                tab.control("seed")
        with gr.Column(scale=8, min_width=320):
            lab.answered(tab)
            tab.html("facts")
            tab.html("readings")
            classifier.lay_out(tab)
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()
    tab.stopped = tell_stopped  # an exam is of no picture
    tab.add("readings_numbers", gr.JSON(visible=False))


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("pictures",))
    public: dict[str, Any] = {"api_name": f"{tab.slug}_picture", "api_visibility": "public"}
    shown = ["readings", "readings_numbers"]
    changes = [*tab.chosen, tab["image"].change, tab["beginning"].submit, tab["address"].change]
    tab.compute(changes, readers_picture, shown, trigger_mode="always_last", **public)
    classifier.connect(tab)


# ----------------------------------------------------------------------------------------------------------- handlers


def readers(settings: ReadersSettings, guess: str | None = None) -> Iterator[dict]:
    """Every reader finds the caption of every picture among all captions, and says its own where it can."""
    guess = lab.guessed(READERS_ANSWERS, guess)
    lab.affordable(seconds(settings))
    yield {"status": say("Getting ready …"), "verdict": "", "facts": ""}
    now: Frame | None = None
    for now, due in lab.paced(run(settings)):
        if due:
            yield {"status": lab.progress(now.step, now.steps), "facts": facts(now)}
    assert now is not None, "an exam has pictures"
    yield {
        "status": "",
        "facts": facts(now),
        "verdict": lab.verdict(of_readers(now, guess), READERS_ANSWERS),
        "numbers": pipeline.numbers(settings, now, guess),
    }


def begin_with(beginning: str) -> dict:
    """What an address says of it."""
    return {"beginning": CAPTION["beginning"].check(beginning)}


def readers_picture(image: str, beginning: str = CaptionSettings().beginning) -> dict:
    """One picture read by all three: its caption found among 100, said word by word, and what each reader can see."""
    settings, given = checked(CaptionSettings, {"beginning": beginning}), read_picture(image)
    caption = None if given.scene is None else told_of(given.scene) or None
    found = look(settings, given.picture, caption)
    return {"readings": readings(found), "readings_numbers": reading_numbers(found)}


# --------------------------------------------------------------------------------------------------------- one picture


def readings(found: "Readings") -> str:
    """The three side by side: what each sees, says and finds."""
    cards = "".join(card(found, reading) for reading in found.readings)
    looks = "".join(looked(found, reading) for reading in found.readings if reading.words)
    return f'<div class="readers">{cards}</div>{looks}'


def card(found: "Readings", reading: "Reading") -> str:
    maps = "".join(reach_map(reach, reading.inputs) for reach in reading.reach)
    return (
        f"<section><h2>{html.escape(READERS[reading.model])}</h2>"
        f"<p>{said(reading)}</p>{ranking(found, reading)}<div>{maps}</div></section>"
    )


def said(reading: "Reading") -> str:
    """The caption, each word as strong as it was sure."""
    if not reading.words:
        no = say("It says nothing of this picture.") if reading.describes else say("It has no words of its own.")
        return f"<em>{html.escape(no)}</em>"
    words = []
    for word in reading.words:
        told = say("given") if word.given else f"{word.probability:.0%}"
        strength = 0 if word.given else 0.5 * word.probability
        words.append(
            f'<span class="said" style="background:rgb(59 130 246 / {strength:.2f})">{html.escape(named(word.text))}'
            f"<small>{html.escape(told)}</small></span>"
        )
    return " ".join(words)


def ranking(found: "Readings", reading: "Reading") -> str:
    """The captions that fit best, and where the true one stands."""
    lines = []
    for place, score in reading.ranking:
        kind = ' class="true"' if place == found.truth else ""
        lines.append(f"<li{kind}>{html.escape(named(found.captions[place]))} <small>{score:.2f}</small></li>")
    head = say("What it finds among {count} captions", count=len(found.captions))
    if reading.place is not None:
        head += " · " + say("the true one is number {place}", place=reading.place)
    by = say("cosine") if reading.by_vectors else say("ln p of the words")
    return f"<h3>{html.escape(head)} ({html.escape(by)})</h3><ol>{''.join(lines)}</ol>"


def looked(found: "Readings", reading: "Reading") -> str:
    """The picture once for each word that it said, with what the word looked at."""
    cells = []
    for word in reading.words:
        if word.given or word.text in ("a", "and", "with", ",", "in", "on", "at", "the"):
            continue
        over = drawing.heat_over(found.picture / 255, drawing.normalised(word.looked)).resize((SMALL, SMALL))
        cells.append(
            f'<figure><img alt="{html.escape(named(word.text))}" src="{source_of(over)}">'
            f"<figcaption>{html.escape(named(word.text))}</figcaption></figure>"
        )
    head = say("Where {reader}'s words looked", reader=READERS[reading.model])
    return f'<h3>{html.escape(head)}</h3><div class="looks">{"".join(cells)}</div>' if cells else ""


def reach_map(reach: "Reach", inputs: Sequence[str]) -> str:
    """Outputs down, inputs across; a filled cell where the output changed with the input. As SVG."""
    wide, high = LABEL + CELL * len(inputs), LABEL + CELL * len(reach.outputs)
    parts = [_label(name, LABEL + CELL * (i + 0.75), LABEL - 4, turned=True) for i, name in enumerate(inputs)]
    parts += [_label(name, LABEL - 4, LABEL + CELL * (i + 0.8)) for i, name in enumerate(reach.outputs)]
    for row, seen in enumerate(reach.seen):
        for column, sees in enumerate(seen):
            kind = "seen" if sees else "unseen"
            parts.append(
                f'<rect x="{LABEL + CELL * column}" y="{LABEL + CELL * row}" width="{CELL - 1}" '
                f'height="{CELL - 1}" class="{kind}"/>'
            )
    title = say(reach.part)
    return (
        f'<figure class="reach"><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {wide} {high}" '
        f'role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _label(name: str, x: float, y: float, turned: bool = False) -> str:
    text = {"[START]": "▸", "[END]": "■"}.get(name, say("row {n}", n=name) if name.isdecimal() else name)
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ' text-anchor="end"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{turn}>{html.escape(text)}</text>'


def reading_numbers(found: "Readings") -> dict:
    """The readings as JSON."""
    return {
        "seconds": round(found.seconds, 3),
        "captions": len(found.captions),
        "readers": {
            reading.model: {
                "says": [{"word": word.text, "probability": word.probability} for word in reading.words],
                "finds": [{"caption": found.captions[i], "score": score} for i, score in reading.ranking],
                "place_of_true": reading.place,
                "sees": {reach.part: reach.seen.astype(int).tolist() for reach in reading.reach},
            }
            for reading in found.readings
        },
    }


# ---------------------------------------------------------------------------------------------------------------- exam


def told() -> dict[str, str]:
    """Figures of an exam -> what they are."""
    return {
        "captions_found": say("finds the caption of a picture"),
        "pictures_found": say("finds the picture of a caption"),
        "captions_exact": say("says a caption that is right in everything"),
        "noun_precision": say("of the nouns it says, right"),
        "noun_recall": say("of the true nouns, said"),
        "look_on_thing": say("of a noun's look, on its thing"),
        "thing_of_picture": say("of the picture, that thing"),
        "find_ms": say("milliseconds to find one"),
        "describe_ms": say("milliseconds to say one"),
    }


def side_by_side(head: str, found: Sequence[Mapping[str, float]], rows: Mapping[str, str]) -> str:
    """Figures of the readers as a table; "–" where one cannot do it, or has not yet."""

    def cell(figures: Mapping[str, float], key: str) -> str:
        if key not in figures:
            return "–"
        return f"{figures[key]:.1f}" if key.endswith("_ms") else f"{figures[key]:.0%}"

    table = [[title, *(cell(figures, key) for figures in found)] for key, title in rows.items()]
    return charts.grid_table([head, *READERS.values()], table)


def facts(now: "Frame") -> str:
    """All readers side by side; those that have not begun are empty."""
    head = say(
        "{count} never-seen pictures and their captions; chance {chance}",
        count=now.marks[0].scores.shape[1],
        chance=f"{now.chance:.0%}",
    )
    begun = [marks.figures for marks in now.marks]
    return side_by_side(head, [*begun, *[{}] * (len(READERS) - len(begun))], told())


def measured() -> str:
    """The three cards side by side, as the command wrote them."""
    cards = [json.loads((BUNDLED / name / "quality.json").read_text(encoding="utf-8")) for name in READERS]
    head = say("{count} never-seen scenes, 1 of 100", count=f"{cards[0]['scenes']:,}")
    by = say("Recorded, by {command}.", command="python -m pipelines.evaluation.readers --write")
    rows = {key: title for key, title in told().items() if not key.endswith("_ms")}
    return f"{side_by_side(head, cards, rows)}<p>{html.escape(by)}</p>"


LESSON = Lesson(
    slug="readers",
    title="Three readers",
    chapter="contrast",
    claim="What a model can do with pictures and words is decided by who may look at whom, and by the loss.",
    settings=ReadersSettings,
    layout=layout,
    main=readers,
    shows=("facts", "status", "verdict", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"Good and bad numbers": measured},
)
