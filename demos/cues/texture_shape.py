"""Texture or shape: two perfect cues, and which of them either of two networks takes; and a thing in the skin of a
photograph. Wraps pipelines/cues/texture_shape and photographs."""

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from demos.cues.drawings import Pair, pairs
from demos.ui import address, charts, controls, drawing, film, lab, studies
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.lesson import Lesson
from demos.ui.pictures import PHOTOGRAPHS, photograph, read_picture
from demos.ui.tab import Tab
from demos.ui.text import named, say, t
from pipelines.cues.settings import NETWORKS, TEXTURES, TextureSettings
from pipelines.cues.verdicts import TEXTURE, TEXTURE_ANSWERS, of_texture
from pipelines.world import storybook

if TYPE_CHECKING:
    from pipelines.cues.photographs import Dressed
    from pipelines.cues.texture_shape import Frame, Look, Pictures

PATTERNS = tuple(TEXTURES.values())
STUDY = "texture_shape"
SHARES = (0.0, 0.1, 0.5, 1.0)  # of random textures, in the study

pipeline = lazily("pipelines.cues.texture_shape")
photographs = lazily("pipelines.cues.photographs")


def seconds(settings: TextureSettings) -> float:
    """What a run is expected to take on two cores, the drawing of the pictures included."""
    return 8 + settings.steps * (0.02 + 0.08 * settings.batch / 64)


@on_device(seconds=lab.LONGEST)
def run(settings: TextureSettings) -> Iterator:
    yield from pipeline.run(settings)


@on_device
def dress(picture: Image.Image, shape: str) -> "Dressed":
    return photographs.look(picture, shape)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            lab.ask(tab, TEXTURE, TEXTURE_ANSWERS, button="Train A and B")
            tab.control("share")
            tab.control("share_b")
            tab.control("network", menu=True)
            tab.control("network_b", menu=True)
            with gr.Accordion(t("More settings"), open=False):
                for name in ("period", "steps", "batch", "rate", "seed"):
                    tab.control(name)
        with gr.Column(scale=8, min_width=320):
            tab.html("bias")
            tab.html("examples")
            lab.answered(tab)
            tab.html("answers")
            tab.add("film", film.FilmPlayer(elem_id=tab.id("film")))
            tab.html("chart")
            with tab.accordion(
                "skin_box", "A network that has seen photographs: a silhouette in the skin of another thing"
            ):
                _lay_out_skin(tab)
            with gr.Accordion(t("Numbers as JSON"), open=False):
                tab.numbers()


def _lay_out_skin(tab: Tab) -> None:
    with gr.Row():
        first = next(iter(PHOTOGRAPHS))
        tab.picture("image", "Whose skin", value=photograph(first), height=180, min_width=200)
        with gr.Column(min_width=200):
            names = [(t(name), name) for name in PHOTOGRAPHS]
            photo = controls.Dropdown(names, value=first, label=t("or a photograph"), elem_id=tab.id("photo"))
            tab.add("photo", photo)
            shapes = [(t(name), name) for name in storybook.ANIMALS]
            tab.add("shape", controls.Radio(shapes, value="elephant", label=t("Whose shape"), elem_id=tab.id("shape")))
    tab.html("skin")
    tab.add("skin_numbers", gr.JSON(visible=False))


def wire(tab: Tab) -> None:
    lab.wire(tab, seconds, listen=("steps", "batch"))
    restored = address.keep(tab)
    shows = ["bias", "examples"]
    tab.quick([tab[name].change for name in ("period", "seed")], preview, shows)
    tab.quick(restored.then, preview, shows)
    tab.quick(tab["numbers"].change, preview, shows)  # after Reset
    tab.quick(tab["photo"].input, take_photograph, ["image"])
    public: dict[str, Any] = {"api_name": f"{tab.slug}_skin", "api_visibility": "public"}
    moved = (tab["image"].change, tab["shape"].change)
    tab.when_open("skin_box", texture_shape_skin, ["skin", "skin_numbers"], *moved, **public)


# ----------------------------------------------------------------------------------------------------------- handlers


def texture_shape(settings: TextureSettings, guess: str | None = None) -> Iterator[dict]:
    """Train two networks on shapes that wear their own texture but for a share, and ask both about shapes that wear
    another one."""
    guess = lab.guessed(TEXTURE_ANSWERS, guess)
    lab.affordable(seconds(settings))
    asked = pipeline.conflicts(settings).first(pipeline.SHOWN)
    emptied = dict.fromkeys(("film", "verdict", "answers", "chart", "bias"))
    yield {"status": say("Drawing the pictures …"), **emptied, "examples": sheet(asked, None)}
    played, names = new_film(settings), names_of(settings)
    looks: list[Look] = []
    for now, due in lab.paced(run(settings)):
        add(played, now)
        looks = [step.look for step in (now.a, now.b) if step.look is not None] or looks
        if due:
            shown = {"status": lab.progress(now.a.step, now.a.steps), "film": played.value()}
            yield {**shown, "bias": headline(looks), "examples": examples(now.examples, names, looks)}
    yield {
        "status": "",
        "film": played.value(),
        "bias": headline(looks),
        "examples": examples(now.examples, names, looks),
        "answers": answers(names, looks),
        "chart": chart(settings, looks),
        "verdict": lab.verdict(of_texture(now, guess), TEXTURE_ANSWERS),
        "numbers": pipeline.numbers(settings, now, guess),
    }


def preview(settings: TextureSettings, numbers: dict | None) -> dict | None:
    """Before the first run: what will be asked."""
    if numbers:
        return None
    told = say("shape bias, from 0 (by its texture) to 1 (by its shape): predict first")
    asked = pipeline.conflicts(settings).first(pipeline.SHOWN)
    return {"bias": charts.headline(("?", told)), "examples": sheet(asked, None)}


def take_photograph(photo: str) -> dict:
    return {"image": photograph(photo)}


def texture_shape_skin(image: str | None = None, shape: str = "elephant") -> dict:
    """Dress a silhouette in the skin of a photograph, and ask a network that has seen photographs what it is."""
    shape = controls.choice(say("The shape"), shape, storybook.ANIMALS)
    found = dress(read_picture(image).picture, shape)
    return {"skin": skin(found, shape), "skin_numbers": photographs.numbers(found)}


# ------------------------------------------------------------------------------------------------------ what is shown


def names_of(settings: TextureSettings) -> list[str]:
    """Of both runs."""
    return [
        say("{run} · {network}, {share} random", run=run, network=say(NETWORKS[arm.network]), share=f"{arm.share:.0%}")
        for run, arm in zip("AB", pipeline.arms(settings), strict=True)
    ]


def new_film(settings: TextureSettings) -> film.Film:
    """The course of the three numbers."""
    chance = [(1 / len(storybook.ANIMALS), say("chance"))]
    curves = {
        "bias": film.curve(say("shape bias"), [(0.5, say("neither"))], ends=(0, 1)),
        "cue": film.curve(say("right where both cues agree"), chance, ends=(0, 1)),
        "flat": film.curve(say("right about shapes without a texture"), chance, ends=(0, 1)),
        "loss": film.curve(say("loss")),
    }
    return film.Film(names_of(settings), settings.steps, {}, curves)


def add(played: film.Film, now: "Frame") -> None:
    """The next step, and what was seen in it."""
    both = (now.a, now.b)
    if now.a.step:
        played.measure(now.a.step, loss=[step.loss for step in both])
    looks = [step.look for step in both if step.look is not None]
    if not looks:
        return
    played.measure(
        now.a.step,
        bias=[look.bias for look in looks],
        cue=[look.cue for look in looks],
        flat=[look.flat for look in looks],
    )
    told = [say("by shape {shape}, by texture {texture}, neither {neither}", **counts(look)) for look in looks]
    played.frame(now.a.step, told, ["", ""])


def counts(look: "Look") -> dict[str, int]:
    return {"shape": look.shape, "texture": look.texture, "neither": look.neither}


def headline(looks: "Sequence[Look]") -> str:
    """The shape bias of A and of B."""
    told = []
    for run, look in zip("AB", looks, strict=True):
        if look.bias is None:
            told.append(("–", say("{run}: it follows neither cue yet", run=run)))
            continue
        low, high = (f"{end:.2f}" for end in look.interval)
        text = say("{run}: shape bias, {low} to {high}; 0 is by texture, 1 by shape", run=run, low=low, high=high)
        told.append((f"{look.bias:.2f}", text))
    return charts.headline(*told)


def examples(asked: "Pictures", names: Sequence[str], looks: "Sequence[Look]") -> str:
    """What each network says of the same pictures."""
    legend = say("Green frame: called by its shape; red: by its texture; none: by neither.")
    shown = "".join(
        f"<div><h2>{html.escape(name)}</h2>{sheet(asked, look)}</div>" for name, look in zip(names, looks, strict=True)
    )
    return f'<div class="charts">{shown}</div><p>{legend}</p>'


def sheet(asked: "Pictures", look: "Look | None") -> str:
    """Pictures whose cues disagree, sorted by what was said of them."""
    found = []
    for place in range(len(asked.pictures)):
        shape, pattern = int(asked.shapes[place]), int(asked.textures[place])
        told = say(
            "{shape} in {pattern}, which {owner} wore",
            shape=named(storybook.article(storybook.ANIMALS[shape])),
            pattern=say(PATTERNS[pattern]),
            owner=named(storybook.article(storybook.ANIMALS[pattern])),
        )
        order, good = 2, None
        if look is not None:
            said = int(look.said[place])
            order = {shape: 0, pattern: 1}.get(said, 2)
            good = {0: True, 1: False}.get(order)
            told = f"{told}: “{say(storybook.ANIMALS[said])}”"
        found.append((order, Pair(pictures=[asked.pictures[place]], told=told, good=good)))
    found.sort(key=lambda each: each[0])
    return f'<div class="small pixels">{pairs([pair for _, pair in found])}</div>'


def answers(names: Sequence[str], looks: "Sequence[Look]") -> str:
    """All pictures whose cues disagree, and what is known of each cue."""
    chance = say("chance: {chance}", chance=f"{1 / len(storybook.ANIMALS):.0%}")
    kinds = {
        "shape": say("called by the shape"),
        "texture": say("called by the texture"),
        "neither": say("called by neither"),
    }
    rows = [
        [told, *(f"{counts(look)[kind]} / {sum(counts(look).values())}" for look in looks), ""]
        for kind, told in kinds.items()
    ]
    rows.append([say("right where both cues agree"), *(f"{look.cue:.0%}" for look in looks), chance])
    rows.append([say("right about flat shapes, without any texture"), *(f"{look.flat:.0%}" for look in looks), chance])
    return charts.grid_table([say("pictures whose cues disagree"), *names, say("beside")], rows)


def chart(settings: TextureSettings, looks: "Sequence[Look]") -> str:
    """Shape bias against the share of random textures: recorded, and these runs as points."""
    found = studies.recorded(STUDY)
    if found is None:
        return ""
    lines = []
    for title in NETWORKS.values():
        rows = [found["summary"].get(f"{title}, {share:.0%} random", {}).get("shape bias") for share in SHARES]
        known = [(share, row) for share, row in zip(SHARES, rows, strict=True) if row is not None]
        lines.append(
            charts.Line(
                name=say(title),
                x=[share for share, _ in known],
                y=[row["mean"] for _, row in known],
                low=[row["least"] for _, row in known],
                high=[row["most"] for _, row in known],
            )
        )
    both = zip("AB", pipeline.arms(settings), looks, strict=True)
    return charts.curves(
        lines,
        say("share of training pictures with a random texture"),
        say("shape bias"),
        y_range=(0, 1),
        x_range=(0, 1),
        title=say("Recorded, over several seeds; the points are these runs"),
        points={run: (arm.share, look.bias) for run, arm, look in both if look.bias is not None},
    )


def skin(found: "Dressed", shape: str) -> str:
    """The four pictures above what speaks for the first name of each, and the first names."""
    captions = {
        "photograph": say("the photograph"),
        "skin": say("its skin alone"),
        "dressed": say("{shape} in this skin", shape=named(storybook.article(shape))),
        "flat": say("{shape} without a skin", shape=named(storybook.article(shape))),
    }
    told = []
    for picture, names, caption in zip(found.pictures, found.names, captions.values(), strict=True):
        said = ", ".join(f"{name} {share:.0%}" for name, share in names)
        told.append((Image.fromarray(picture), f"{caption}: {said}"))
    for picture, names, heat in zip(found.pictures, found.names, found.maps, strict=True):
        over = drawing.heat_over(np.asarray(picture) / 255, drawing.normalised(heat))
        told.append((over, say("what speaks for “{name}”", name=names[0][0])))
    return drawing.figures(told)


def measured() -> str:
    """Every network and share of random textures, over many seeds."""
    head = {
        "shape bias": (say("shape bias"), ".2f"),
        "both cues": (say("both cues"), ".0%"),
        "flat shapes": (say("flat shapes"), ".0%"),
    }
    return studies.table(STUDY, head)


LESSON = Lesson(
    slug="texture_shape",
    title="Texture or shape",
    chapter="cues",
    claim="Where two cues are right, a network takes the easier one; the data can forbid it.",
    settings=TextureSettings,
    layout=layout,
    main=texture_shape,
    shows=("bias", "examples", "answers", "film", "chart", "status", "verdict", "numbers"),
    wire=wire,
    seconds=lab.LONGEST + 60,
    tables={"Good and bad numbers": measured},
)
