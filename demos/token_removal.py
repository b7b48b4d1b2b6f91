"""Which patches can a vision transformer do without? Wraps pipelines/token_removal."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from demos.ui import address, charts, classifier, controls, drawing, links, pictures, scenes, tries
from demos.ui.cache import lru_cached
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.export import Panel, export_files
from demos.ui.lesson import Lesson, Measure
from demos.ui.models import at_hand, model_names, quality_of
from demos.ui.pictures import Given
from demos.ui.tab import Tab
from demos.ui.text import named, say, t
from demos.ui.tries import NO_YES, Try, among, both
from demos.ui.words import ablation_table
from pipelines.errors import UserError
from pipelines.models.registry import MODELS
from pipelines.token_removal.settings import PLACES, RULES, Rule, Settings
from pipelines.world import storybook

if TYPE_CHECKING:
    from pipelines.token_removal.pipeline import Encoded, Result

BETTER = ("openclip-vit-b-16", "dinov2-small")  # on photographs
LAYERS = HEADS = 6  # of the model that is chosen first

pipeline = lazily("pipelines.token_removal.pipeline")


@lru_cached
@on_device
def encode(picture: Image.Image, model: str) -> "Encoded":
    return pipeline.encode(picture, model)


@on_device
def query(encoded: "Encoded", settings: Settings) -> "Result":
    return pipeline.query(encoded, settings, names=storybook.NOUNS)


@on_device
def sweep(encoded: "Encoded", ratio: float, settings: Settings) -> list:
    return pipeline.sweep(encoded, ratio, settings)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    tab.columns(_lay_out_controls, _lay_out_figures)


def _lay_out_controls(tab: Tab) -> None:
    tries.lay_out(tab)
    tab.control("prompt", render=False)
    scenes.picture_controls(tab, seed=16, caption="prompt")
    tab.control("rule")
    tab["prompt"].render()
    tab.model_menu(model_names("openclip", "vit"))
    with gr.Accordion(t("Advanced"), open=False):
        with gr.Row():
            tab.control("layer", menu=True, choices=_places(LAYERS))
            tab.control("head", menu=True, choices=_places(HEADS))
        tab.control("seed")
    tab.stop()


def _lay_out_figures(tab: Tab) -> None:
    tab.told()
    with gr.Row():
        tab.panel("heat", "Where the class token looks")
        tab.panel("kept", "What is left")
    tab.control("keep_ratio")
    tab.html("facts")
    tab.markdown("formula")
    tab.markdown("note", elem_classes="note")
    tab.html("chart")
    tab.button("compare", "Compare all rules at all ratios", variant="primary")
    with tab.accordion("heads_box", "Every layer and head"):
        tab.gallery("heads", "Attention of each layer (rows) and head", columns=6)
    classifier.lay_out(tab)
    tab.numbers_and_export()
    tab.add("points", gr.JSON(visible=False))
    tab.state("curves")  # (picture and settings, points) of the finished figure of all rules


def _places(count: int) -> list[str]:
    return list(PLACES)[: count + 1]


def wire(tab: Tab) -> None:
    image = tab["image"]
    address.keep(tab)
    inputs = [tab[name].input for name in ("rule", "layer", "head", "keep_ratio")]
    changes = [image.change, tab["address"].change, tab["prompt"].submit, tab["seed"].submit, *inputs]
    tab.main(changes, progress="kept", trigger_mode="always_last")
    tab.main(tab.uploaded.then, progress="kept")  # without the old description
    tab.main(tab.quick(tab.chosen, describe, ["prompt"]).then, progress="kept")
    fitted = tab.compute(tab.fetched.success, fit_menus, ["layer", "head"])
    changed = tab.main(fitted.success, progress="kept")
    sweep = f"{tab.slug}_sweep"
    tab.compute(
        tab["compare"].click,
        compare,
        ["chart", "points", "curves"],
        progress="chart",
        api_name=sweep,
        api_visibility="public",
    )
    tab.when_open("heads_box", show_heads, ["heads"], image.change, changed.success)
    classifier.connect(tab)
    tab.compute(tab["export"].click, export, ["files"])
    tab.of_picture = ("heads",)
    tries.connect(tab, progress="kept")


# ----------------------------------------------------------------------------------------------------------- handlers


def token_removal(image: str, settings: Settings, curves: tuple | None = None) -> dict:
    """Remove patches of a picture by a rule, and compare what is left with the whole."""
    given, encoded, settings = look(image, settings)
    of, points = curves or (None, ())
    return present(given, encoded, query(encoded, settings), settings, points if of == (image, settings.curves) else ())


def compare(
    image: str, prompt: str, keep_ratio: float, seed: int, model: str, layer: str = "mean", head: str = "mean"
) -> Iterator[dict]:
    """Every rule at every ratio, one ratio at a time."""
    asked = Settings(prompt=prompt, keep_ratio=keep_ratio, seed=seed, model=model, layer=layer, head=head)
    _, encoded, settings = look(image, asked)
    points: list = []
    for ratio in pipeline.SWEEP_RATIOS:
        points += sweep(encoded, ratio, settings)
        shown = {"chart": _chart(points, keep_ratio), "points": [asdict(p) for p in points]}
        yield shown
    yield shown | {"curves": ((image, settings.curves), points)}


def describe(prompt: str, drawn: str) -> dict:
    """A tab that is opened without a description gets its scene's."""
    return {"prompt": prompt or drawn}


def fit_menus(model: str) -> dict:
    layers, heads = pipeline.layers_and_heads(model)
    return {
        "layer": controls.Dropdown(_places(layers), value="mean"),
        "head": controls.Dropdown(_places(heads), value="mean"),
    }


def show_heads(image: str, model: str) -> dict:
    at_hand(model)
    return {"heads": head_pictures(encode(pictures.read_picture(image).picture, model))}


def export(image: str, settings: Settings, picture: str = "", curves: tuple | None = None) -> dict:
    """The figure as shown, with all settings inside."""
    given, encoded, settings = look(image, settings)
    found, (of, points) = query(encoded, settings), curves or (None, ())
    shown = present(given, encoded, found, settings, points if of == (image, settings.curves) else ())
    numbers = shown["numbers"]
    kept = say("{kept} of {total} patches kept", kept=numbers["tokens_kept"], total=numbers["tokens_total"])
    least, most = (f"{share:.2g}" for share in (found.heat.min(), found.heat.max()))
    panels = [
        Panel(picture=drawing.enlarge(encoded.picture), caption=say("picture")),
        Panel(picture=shown["heat"], caption=say("attention of the class token, share"), scale=(least, most)),
        Panel(picture=shown["kept"], caption=kept),
    ]
    return {"files": export_files(LESSON, panels, settings, numbers, picture, shown["chart"])}


def look(image: str, settings: Settings) -> tuple:
    """The picture, what the model sees in it, and the settings as this model can take them."""
    at_hand(settings.model)
    given = pictures.read_picture(image)
    encoded = encode(given.picture, settings.model)
    layers, heads = encoded.attention.shape[:2]
    for name, size, wanted in (("layer", layers, settings.layer_index), ("head", heads, settings.head_index)):
        if wanted is not None and wanted >= size:
            raise UserError("This model has {size} {name}s, not {wanted}.", size=size, name=name, wanted=wanted + 1)
    if not _reads(settings.model):  # the facts say so
        settings = replace(settings, prompt="")
    return given, encoded, settings


def _reads(model: str) -> bool:
    """Whether this model reads text."""
    return model in MODELS and MODELS[model].family == "openclip"


# ------------------------------------------------------------------------------------------------------ what is shown


def present(given: Given, encoded: "Encoded", found: "Result", settings: Settings, points: Sequence = ()) -> dict:
    """What each part shows, and all numbers."""
    heat = drawing.heat_over(encoded.picture, drawing.normalised(found.heat))
    kept = drawing.keep_patches(encoded.picture, found.kept)
    on_objects = None
    if given.scene is not None:
        objects = storybook.object_share(given.scene, len(found.kept)) >= 0.5
        on_objects = float(found.kept[objects].mean()) if objects.any() else None
        mask = np.any([o.mask for o in given.scene.objects], axis=0)
        heat, kept = drawing.outline(heat, mask), drawing.outline(kept, mask)
    numbers = {
        "tokens_total": found.kept.size,
        "tokens_kept": int(found.kept.sum()),
        "attention_mass_kept": found.attention_mass_kept,
        "cosine_to_full": found.cosine_to_full,
        "similarity_full": found.similarity_full,
        "similarity_kept": found.similarity_kept,
        "flops_ratio": found.flops_ratio,
        "milliseconds": found.milliseconds,
        "milliseconds_full": found.milliseconds_full,
        "object_patches_kept": on_objects,
        "guesses_full": found.guesses_full,
        "guesses_kept": found.guesses_kept,
        "model": encoded.model,
        "keep_mask": found.kept.astype(int).tolist(),
    }
    return {
        "heat": heat,
        "kept": kept,
        "facts": _facts(numbers) + links.patches(found.kept.shape, ("token_removal-heat", "token_removal-kept")),
        "formula": _formula(numbers, settings.keep_ratio),
        "note": pictures.honest_note(given, encoded.model, BETTER),
        "chart": _chart(points, settings.keep_ratio),
        "numbers": numbers,
    }


def _formula(n: dict, keep_ratio: float) -> str:
    blocks, total = n["tokens_kept"] // 4, n["tokens_total"] // 4
    return (
        rf"$$\min\left(\lfloor {total} \cdot {keep_ratio:g} \rfloor + 1,\ {total}\right) = {blocks}"
        rf"\ \textrm{{blocks}} = {n['tokens_kept']}\ \textrm{{patches}}$$"
        rf"$$\cos(f_{{kept}}, f_{{all}}) = {n['cosine_to_full']:.3f}$$"
    )


def _facts(n: dict) -> str:
    share = n["tokens_kept"] / n["tokens_total"]
    rows = [
        (say("Patches kept"), f"{n['tokens_kept']} / {n['tokens_total']}", f"{share:.0%}"),
        (say("Attention mass kept"), f"{n['attention_mass_kept']:.1%}", say("chance: {share}", share=f"{share:.0%}")),
        (say("Cosine to the whole picture"), f"{n['cosine_to_full']:.3f}", say("1 = nothing lost; above 0.95 is good")),
    ]
    if n["object_patches_kept"] is not None:
        told = say("chance: {share}; the white outline is the ground truth", share=f"{share:.0%}")
        rows.insert(2, (say("Object patches kept"), f"{n['object_patches_kept']:.0%}", told))
    if n["similarity_full"] is not None:
        both = f"{n['similarity_full']:.3f} → {n['similarity_kept']:.3f}"
        rows.append((say("Similarity to the description"), both, say("whole → kept")))
    elif not _reads(n["model"]):
        rows.append((say("Similarity to the description"), "–", say("this model reads no text")))
    if n["guesses_full"]:
        (whole, sure), (part, still) = n["guesses_full"][0], n["guesses_kept"][0]
        rows.append(
            (
                say("Best guess among 24 names"),
                f"{named(whole)} {sure:.0%} → {named(part)} {still:.0%}",
                say("whole → kept"),
            )
        )
    over = quality_of(n["model"])
    if "naming_lowest_half" in over:
        name = say("Right name, over {count} scenes of one thing", count=f"{over['scenes']:,}")
        told = say(
            "from the half with the highest attention; from the other half {lowest}, from the whole {whole}",
            lowest=f"{over['naming_lowest_half']:.0%}",
            whole=f"{over['naming']:.0%}",
        )
        rows.append((name, f"{over['naming_kept_half']:.0%}", told))
    took = f"{n['milliseconds_full']:.1f} → {n['milliseconds']:.1f} ms"
    told = say("arithmetic: {share} of the whole", share=f"{n['flops_ratio']:.0%}")
    rows.append((say("Time of the image tower"), took, told))
    told = say("of 1: how near what is left, {share} of the patches, is to the whole", share=f"{share:.0%}")
    return charts.headline((f"{n['cosine_to_full']:.2f}", told)) + charts.facts(rows)


def _chart(points: Sequence, mark: float) -> str:
    """Cosine, and similarity where there is a description, against the keep ratio; the random rule with its spread."""

    def line(rule: Rule, value: Callable) -> charts.Line:
        ratios = sorted({p.keep_ratio for p in points})
        found = [[value(p) for p in points if p.rule == rule and p.keep_ratio == r] for r in ratios]
        band = {"low": [min(v) for v in found], "high": [max(v) for v in found]} if rule == "random" else {}
        return charts.Line(name=say(RULES[rule]), x=ratios, y=[sum(v) / len(v) for v in found], **band)

    if not points:
        return ""

    def drawn(title: str, name: str, value: Callable) -> str:
        lines = [line(rule, value) for rule in RULES]
        return charts.curves(lines, say("keep ratio"), name, mark, title=title)

    shown = drawn(say("How much of the meaning is left"), say("cosine to the whole"), lambda p: p.cosine)
    if points[0].similarity is not None:
        told = say("similarity to the description")
        shown += drawn(say("How well the description still fits"), told, lambda p: p.similarity)
    return f'<div class="charts">{shown}</div>'


def head_pictures(encoded: "Encoded") -> list[tuple]:
    """One small heat map per layer and head, with its caption."""
    return [
        (
            drawing.heat_over(encoded.picture, drawing.normalised(head), 0.8).resize((192, 192)),
            say("layer {layer}, head {head}", layer=i, head=j),
        )
        for i, layer in enumerate(encoded.attention, 1)
        for j, head in enumerate(layer, 1)
    ]


TRIES = (
    Try(
        name="lowest",
        line="Keep the other half: the patches with the lowest attention.",
        question="As many patches. How near is what is left to the whole picture?",
        answers=("cosine below 0.7: another picture", "0.7 to 0.95", "above 0.95: nothing is lost"),
        then={"rule": "inverse"},
        answer=lambda before, after: among(after["cosine_to_full"], 0.7, 0.95),
        message="Cosine to the whole: {before} with the highest attention, {after} with the lowest.",
        values=both("cosine_to_full", ".2f"),
    ),
    Try(
        name="few",
        line="Keep one patch in sixteen, those with the highest attention.",
        question="Is the best guess still the same?",
        answers=NO_YES,
        then={"keep_ratio": 0.05},
        answer=lambda before, after: after["guesses_full"][0][0] == after["guesses_kept"][0][0],
        message="Of the whole: {before}. Of {kept} of {total} patches: {after}.",
        values=lambda before, after: {
            "before": named(after["guesses_full"][0][0]),
            "after": named(after["guesses_kept"][0][0]),
            "kept": after["tokens_kept"],
            "total": after["tokens_total"],
        },
    ),
    Try(
        name="chance",
        line="Let chance decide which half stays.",
        question="How much of the things stays?",
        answers=("less than 40 %", "40 to 60 %", "more than 60 %"),
        then={"rule": "random"},
        answer=lambda before, after: among(after["object_patches_kept"], 0.4, 0.6),
        message="Patches of the things that stay: {before} by attention, {after} by chance.",
        values=both("object_patches_kept", ".0%"),
    ),
    Try(
        name="photograph",
        line="Show a photograph of a cat to a model that has only seen drawings.",
        question="Does it say cat?",
        answers=NO_YES,
        then={"picture": "cat (fur)"},
        answer=lambda before, after: after["guesses_full"][0][0] == "cat",
        message="Its best guess: {name}, {share} sure. That it is sure does not make it right.",
        values=lambda before, after: {
            "name": named(after["guesses_full"][0][0]),
            "share": f"{after['guesses_full'][0][1]:.0%}",
        },
    ),
)


LESSON = Lesson(
    slug="token_removal",
    title="Token removal",
    chapter="see",
    claim="Remove half of the patches by attention and the meaning stays; remove the best half and it goes.",
    settings=Settings,
    layout=layout,
    main=token_removal,
    shows=("heat", "kept", "facts", "formula", "note", "chart", "numbers"),
    wire=wire,
    tables={"What breaks if it is removed": ablation_table},
    measure=Measure(slider="keep_ratio", through=(0.3, 0.7, 0.4, 0.5), follows="kept"),
    tries=TRIES,
)
