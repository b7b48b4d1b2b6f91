"""Zero-shot masks: a head and a projection learn from 18 nouns and are tried on 24. Wraps pipelines/detection/masks."""

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from demos.ui import charts, drawing, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.tab import Tab
from demos.ui.text import say, t
from pipelines.detection.settings import SPLITS, MaskSettings
from pipelines.detection.verdicts import MASKS, MASKS_ANSWERS, masks_asked, of_masks

if TYPE_CHECKING:
    from pipelines.detection.masks import Mask, Result, Step, Unseen

SIDE = 256  # pixels of a shown scene
LOOKED_AT = 6  # scenes shown at a time, while the tower looks at all of them
PAINT = {"seen": (59, 130, 246), "unseen": (249, 115, 22), "": (140, 140, 140)}
SIGN = {"seen": "■", "unseen": "▨", "": "□"}
ROWS = {  # of the scores, after those of the chosen namer
    "boxes": "filled boxes in place of these masks",
    "random": "random word vectors",
    "cutout": "CLIP on what is under the mask",
    "learned": "learned projection",
}

pipeline = lazily("pipelines.detection.masks")


def seconds(settings: MaskSettings) -> float:
    """What a run is expected to take on two cores: the scenes are looked at once, then it learns."""
    return 25 + settings.steps * 0.05


@on_device(seconds=lab.LONGEST)
def run(settings: MaskSettings) -> Iterator:
    yield from pipeline.run(settings)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, MASKS.format(**masks_asked(MaskSettings())), MASKS_ANSWERS, button="Learn the masks")
            tab.control("namer", menu=True)
            tab.control("candidates", menu=True)
            with gr.Accordion(t("More settings"), open=False):
                tab.control("unseen", menu=True)
                for name in ("decoder", "steps", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            tab.html("precision")
            lab.answered(tab)
            tab.html("masks")
            tab.add("film", film.FilmPlayer(elem_id=tab.id("film")))
            tab.html("table")
            tab.html("fates")
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("steps",))
    tab.quick(tab["unseen"].change, ask_again, ["guess"])
    tab.quick([*tab.chosen, tab["unseen"].change, tab["numbers"].change], preview, ["precision", "masks"])


# ----------------------------------------------------------------------------------------------------------- handlers


def zero_shot_masks(settings: MaskSettings, guess: str | None = None) -> Iterator[dict]:
    """Learn masks and names of 18 nouns, and try them on scenes that hold six others as well."""
    guess = lab.guessed(MASKS_ANSWERS, guess)
    lab.affordable(seconds(settings))
    yield {"status": say("Getting ready …"), **dict.fromkeys(("precision", "film", "table", "fates", "verdict"))}
    played = new_film(settings)
    for now, due in lab.paced(run(settings)):
        if not hasattr(now, "step"):
            if due:
                told = say("A frozen CLIP looks at the scenes: {done} of {of}", done=now.done, of=now.of)
                yield {"status": told, "masks": lab.strip(now.pictures[:LOOKED_AT], say("What it looks at now"))}
            continue
        add(played, now)
        if due:
            yield {"status": lab.progress(now.step, now.steps), "film": played.value(), "masks": ""}
    assert now.result is not None
    yield {
        "status": "",
        "film": played.value(),
        **present(now.result, settings),
        "verdict": lab.verdict(of_masks(settings, now.result, guess), MASKS_ANSWERS),
        "numbers": pipeline.numbers(settings, now, guess),
    }


def ask_again(settings: MaskSettings) -> dict:
    """The question, of a thing that has no mask now."""
    return {"guess": gr.Radio(label=say(MASKS, **masks_asked(settings)))}


def preview(settings: MaskSettings, numbers: dict | None) -> dict | None:
    """What is there to be seen before the first run: scenes, each with a seen and an unseen thing."""
    if numbers:
        return None
    told = say("average precision of the masks of six things without a mask: predict first")
    scenes = pipeline.watched(settings.unseen)
    lines = []
    for scene in scenes:
        kinds = ["unseen" if thing.noun in SPLITS[settings.unseen] else "seen" for thing in scene.objects]
        lines.append([(kind, say(thing.noun)) for kind, thing in zip(kinds, scene.objects, strict=True)])
    shown = figures([scene.picture for scene in scenes], lines)
    return {"precision": charts.headline(("?", told)), "masks": shown}


# ------------------------------------------------------------------------------------------------------ what is shown


def new_film(settings: MaskSettings) -> film.Film:
    """Seen and unseen things on one clock."""
    chance = [(1 / 24, say("chance"))]
    title = say("eight never-trained things; what is lit is taken for an object")
    curves = {
        "iou": film.curve(say("IoU of the masks"), ends=(0, 1)),
        "named": film.curve(say("right names, under the true masks"), chance, ends=(0, 1)),
    }
    panels = {"maps": film.picture(title, size="wide")}
    return film.Film([say("seen things"), say("unseen things")], settings.steps, panels, curves)


def add(played: film.Film, now: "Step") -> None:
    """The next frame, where somebody looked."""
    if now.iou is None or now.named is None or now.film is None:
        return
    kinds = ("seen", "unseen")
    iou, named = now.iou, now.named
    played.measure(now.step, iou=[iou[kind] for kind in kinds], named=[named[kind] for kind in kinds])
    told = [say("IoU {iou}, {named} named", iou=f"{iou[k]:.2f}", named=f"{named[k]:.0%}") for k in kinds]
    sheets = [
        np.concatenate([np.concatenate(now.film[kind][half], 1) for half in (slice(4), slice(4, 8))]) for kind in kinds
    ]
    played.frame(now.step, told, ["", ""], maps=sheets)


def present(result: "Result", settings: MaskSettings) -> dict:
    """What each part shows at the end."""
    lines = [[(mask.kind, called(mask)) for mask in masks] for masks in result.masks]
    pictures = [painted(picture, masks) for picture, masks in zip(result.pictures, result.masks, strict=True)]
    return {
        "precision": headline(result, settings),
        "masks": figures(pictures, lines),
        "table": table(result, settings),
        "fates": fates(result, settings),
    }


def headline(result: "Result", settings: MaskSettings) -> str:
    own, random = result.scores[settings.namer], result.scores["random"]
    at = list(pipeline.IOUS).index(pipeline.RIGHT)
    beside = say("average precision of unseen masks at IoU 0.5; seen {seen}", seen=f"{own['seen'].ap[at]:.2f}")
    control = say("with random word vectors; seen {seen}", seen=f"{random['seen'].ap[at]:.2f}")
    return charts.headline((f"{own['unseen'].ap[at]:.2f}", beside), (f"{random['unseen'].ap[at]:.2f}", control))


def called(mask: "Mask") -> str:
    """What is said under a picture of one mask."""
    name = say(mask.name)
    if not mask.thing:
        return say("nothing, called {name}", name=name)
    return name if mask.name == mask.thing else say("{thing}, called {name}", thing=say(mask.thing), name=name)


def painted(picture: np.ndarray, masks: "Sequence[Mask]") -> np.ndarray:
    """(SIDE, SIDE, 3) uint8: a scene under its masks, those of unseen things orange and striped, of seen ones blue."""
    image = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32).copy()
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    stripes = (across + down) % 14 < 6
    for each in masks:
        mask = np.asarray(Image.fromarray(each.mask).resize((SIDE, SIDE), Image.Resampling.NEAREST))
        inner = np.logical_and.reduce([np.roll(mask, step, axis) for axis in (0, 1) for step in (-3, 3)])
        tint = mask & stripes if each.kind == "unseen" else mask
        image[tint] += 0.5 * (np.array(PAINT[each.kind]) - image[tint])
        image[mask & ~inner] = PAINT[each.kind]
    return image.round().astype(np.uint8)


def figures(pictures: Sequence[np.ndarray], lines: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Pictures, and under each what is in it: (kind, text) of every thing."""

    def signed(kind: str, text: str) -> str:
        return f'<span><b class="{kind or "none"}">{SIGN[kind]}</b> {html.escape(text)}</span>'

    cells = []
    for picture, line in zip(pictures, lines, strict=True):
        told = "<br>".join(signed(kind, text) for kind, text in line)
        cells.append(f'<figure><img alt="" src="{drawing.source_of(picture)}"><figcaption>{told}</figcaption></figure>')
    legend = signed("seen", say("seen: with masks in training")) + signed("unseen", say("unseen: in no training scene"))
    return f'<div class="masks"><p>{legend}</p><div>{"".join(cells)}</div></div>'


def table(result: "Result", settings: MaskSettings) -> str:
    """AP and AR of the chosen namer beside what each is to be held against."""
    rows = []
    for name in [settings.namer, *(name for name in ROWS if name != settings.namer)]:
        both = result.scores[name]
        mean = {at: pipeline.harmonic(getattr(both["seen"], at), getattr(both["unseen"], at)) for at in ("ap", "ar")}
        named = {kind: (of.ap, of.ar) for kind, of in both.items()} | {"harmonic mean": (mean["ap"], mean["ar"])}
        for kind, figures in named.items():
            cells = [f"{value:.2f}" for figure in figures for value in figure]
            rows.append([say(ROWS[name]) if kind == "seen" else "", say(kind), *cells])
    head = ["", "", *(f"{figure} {iou:g}" for figure in ("AP", "AR") for iou in pipeline.IOUS)]
    return charts.grid_table(head, rows)


def fates(result: "Result", settings: MaskSettings) -> str:
    """What became of each unseen noun, which seen word swallowed it, and of things CLIP has no word for."""

    def told(fate: "Unseen", noun: str) -> str:
        others = [f"{say(name)} {count}" for name, count in fate.called.items() if name != noun]
        return say("swallowed by: {names}", names=", ".join(others) or "–")

    rows = []
    for noun, fate in result.unseen.items():
        value = say("{right} of {things} right", right=fate.called.get(noun, 0), things=fate.things)
        rows.append((say(noun), value, told(fate, noun)))
    for noun, fate in result.strangers.items():
        value = say("{found} of {things} masks, 0 names", found=fate.found, things=fate.things)
        rows.append((say("{noun}, no such word", noun=say(noun)), value, told(fate, noun)))
    head = say("Mask and name right, of each unseen thing; and four things that CLIP has no word for")
    return f"<h2>{html.escape(head)}</h2>{charts.facts(rows)}"


def measured() -> str:
    """Every split, over many seeds."""
    heads = {"seen": say("AP 0.5, seen"), "unseen": say("AP 0.5, unseen"), "harmonic": say("harmonic mean")}
    shares = {"masks": say("right masks, unseen"), "names": say("right names of these")}
    return studies.table(
        "zero_shot_masks", {k: (v, ".2f") for k, v in heads.items()} | {k: (v, ".0%") for k, v in shares.items()}
    )


LESSON = Lesson(
    slug="zero_shot_masks",
    title="Zero-shot masks",
    chapter="find",
    claim="What never had a mask gets one; its name comes from where its word lies, and from nowhere else.",
    settings=MaskSettings,
    layout=layout,
    main=zero_shot_masks,
    shows=("masks", "precision", "film", "table", "fates", "status", "verdict", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"Good and bad numbers": measured},
)
