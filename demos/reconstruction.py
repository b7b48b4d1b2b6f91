"""Pixels from the patches that are left. Wraps pipelines/reconstruction."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from demos.ui import address, charts, classifier, drawing, links, pictures, scenes, tries
from demos.ui.cache import lru_cached
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.export import Panel, export_files
from demos.ui.lesson import Lesson, Measure
from demos.ui.models import at_hand, model_names, teacher_models
from demos.ui.pictures import Given
from demos.ui.tab import Tab
from demos.ui.text import say, t
from demos.ui.tries import Try, among, both
from demos.ui.words import ablation_table
from pipelines.errors import UserError
from pipelines.reconstruction.settings import PATTERNS, Settings

if TYPE_CHECKING:
    from pipelines.reconstruction.pipeline import Encoded, Result

LINKED = [f"reconstruction-{each}" for each in ("left", "pasted", "error", "original", "predicted", "baseline")]
ROW_RATIOS = (0.25, 0.5, 0.75, 0.9)
BETTER = ("mae-base",)  # on photographs
CANVAS = 448  # pixels of a side of what is painted on

pipeline = lazily("pipelines.reconstruction.pipeline")


@lru_cached
@on_device
def encode(picture: Image.Image, model: str) -> "Encoded":
    return pipeline.encode(picture, model)


@on_device
def reconstruct(encoded: "Encoded", settings: Settings, painted: np.ndarray | None) -> "Result":
    return pipeline.reconstruct(encoded, settings, painted)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    tab.columns(_lay_out_controls, _lay_out_figures)
    tab.state("painted")  # (picture, (g, g) bool): the patches that were painted over, and in which picture


def _lay_out_controls(tab: Tab) -> None:
    tries.lay_out(tab)
    scenes.picture_controls(tab, seed=10)
    tab.control("pattern")
    with tab.accordion("paint_box", "Paint what to hide"):
        tab.add("canvas", _canvas(tab))
        tab.button("use_paint", "Hide what is painted")
    tab.control("low_resolution")
    with gr.Accordion(t("Advanced"), open=False):
        tab.control("target")
        tab.control("seed")
        tab.model_menu([*teacher_models(), *model_names("mae")])
    tab.stop()


def _canvas(tab: Tab) -> pictures.Canvas:
    return pictures.Canvas(
        format="png",
        layers=False,
        transforms=[],
        sources=[],
        image_mode="RGBA",
        brush=gr.Brush(colors=["#ef4444"], default_size=24, color_mode="fixed"),
        label=t("Paint over the picture"),
        canvas_size=(CANVAS, CANVAS),
        elem_id=tab.id("canvas"),
    )


def _lay_out_figures(tab: Tab) -> None:
    tab.told()
    with gr.Row():
        tab.panel("left", "What is left")
        tab.panel("pasted", "Rebuilt, visible patches pasted")
    tab.control("mask_ratio")
    tab.html("facts")
    tab.markdown("formula")
    tab.markdown("note", elem_classes="note")
    with gr.Row():
        compare = gr.ImageSlider(
            label=t("Drag: original against rebuilt"),
            format="png",
            interactive=False,
            elem_id=tab.id("slider"),
            slider_position=50,
        )
        tab.add("slider", compare)
        tab.panel("error", "Error of each hidden patch")
    with gr.Row():
        tab.panel("original", "Original")
        tab.panel("predicted", "The decoder's raw output")
        tab.panel("baseline", "Interpolated")
    with tab.accordion("row_box", "The same picture at four mask ratios"):
        tab.gallery("row", "Mask ratios", columns=4)
    classifier.lay_out(tab)
    tab.numbers_and_export()


def wire(tab: Tab) -> None:
    image = tab["image"]
    inputs = [tab[name].input for name in ("pattern", "target", "low_resolution")]
    latest = {"progress": "pasted", "trigger_mode": "always_last"}
    address.keep(tab)
    changes = [*inputs, tab["seed"].submit, tab["address"].change]
    tab.main([*changes, tab["mask_ratio"].input, *tab.chosen], **latest)
    tab.main(tab.quick(image.change, forget_paint, ["pattern"]).then, **latest)
    changed = tab.main(tab.fetched.success, **latest)
    took_paint = tab.compute(tab["use_paint"].click, take_paint, ["painted", "pattern"])
    tab.main(took_paint.success, **latest)
    tab.quick([tab["paint_box"].expand, image.change], show_canvas, ["canvas"])
    tab.when_open("row_box", show_row, ["row"], image.change, *changes, changed.success)
    classifier.connect(tab)
    tab.compute(tab["export"].click, export, ["files"])
    tab.of_picture = ("row",)
    tries.connect(tab, progress="pasted")


# ----------------------------------------------------------------------------------------------------------- handlers


def reconstruction(image: str, settings: Settings, painted: tuple | None = None) -> dict:
    """Hide patches of a picture, let the model reconstruct them, and measure how well."""
    return present(*look(image, settings, painted))


def look(image: str, settings: Settings, painted: tuple | None = None) -> tuple:
    """The picture, as the model sees it, and what it made of the rest."""
    at_hand(settings.model)
    given = pictures.read_picture(image)
    encoded = encode(given.picture, settings.model)
    where, mask = painted or (None, None)
    mask = _fit(mask, len(encoded.attention)) if settings.pattern == "painted" and where == image else None
    return given, encoded, reconstruct(encoded, settings, mask)


def take_paint(canvas: dict, model: str, image: str) -> dict:
    """Remember the patches that are painted over, and hide those."""
    at_hand(model)
    encoded = encode(pictures.read_picture(image).picture, model)
    layers = [pictures.read_layer(layer) for layer in (canvas or {}).get("layers") or []]
    return {"painted": (image, painted_patches(layers, len(encoded.attention))), "pattern": "painted"}


def forget_paint(pattern: str) -> dict | None:
    """The pattern that painting has chosen does not outlive its picture."""
    return {"pattern": "attention"} if pattern == "painted" else None


def show_canvas(image: str | None) -> dict | None:
    """The picture to paint on; an empty one is left alone."""
    return {"canvas": _for_canvas(pictures.read_picture(image).picture)} if image else None


def show_row(image: str, settings: Settings) -> Iterator[dict]:
    """The same picture at several mask ratios, one after another."""
    if settings.pattern == "painted":  # paint has no ratio
        settings = replace(settings, pattern="random")
    shown: list = []
    for ratio in ROW_RATIOS:
        _, _, found = look(image, replace(settings, mask_ratio=ratio))
        told = say(
            "{ratio} hidden, {pattern}: {psnr} dB",
            ratio=f"{ratio:.0%}",
            pattern=say(PATTERNS[settings.pattern]),
            psnr=f"{found.scores.psnr:.1f}",
        )
        left = drawing.keep_patches(found.given, found.visible, ghost=0)
        shown += [(left, told), (drawing.enlarge(found.pasted), told)]
        yield {"row": list(shown)}


def export(image: str, settings: Settings, painted: tuple | None, picture: str = "") -> dict:
    """The figure as shown, with all settings inside."""
    shown = reconstruction(image, settings, painted)
    captions = {
        "original": say("original"),
        "left": say("what is left"),
        "predicted": say("decoder's output"),
        "pasted": say("rebuilt"),
        "error": say("error per patch"),
        "baseline": say("interpolated from the neighbours"),
    }
    scales = {"error": ("0", say("worst"))}
    panels = [Panel(picture=shown[name], caption=told, scale=scales.get(name)) for name, told in captions.items()]
    return {"files": export_files(LESSON, panels, settings, shown["numbers"], picture)}


def _for_canvas(picture: Image.Image) -> np.ndarray:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)).resize((CANVAS, CANVAS)))


def painted_patches(layers: Sequence[np.ndarray], grid: int) -> np.ndarray:
    """(g, g) bool: the patches of which paint covers at least a tenth. Layers are (H, W, 4) uint8, of any size.

    Raises:
        UserError: when nothing is painted.
    """
    painted = [np.asarray(layer)[..., 3] > 0 for layer in layers]
    if not any(layer.any() for layer in painted):
        raise UserError(say("Nothing is painted yet. Paint over what the model shall not see, then apply."))
    whole = [Image.fromarray(layer.astype(np.uint8) * 255) for layer in painted]
    covered = [np.asarray(layer.resize((grid, grid), Image.Resampling.BOX)) for layer in whole]
    return np.max(covered, axis=0) >= 26


def _fit(painted: np.ndarray | None, grid: int) -> np.ndarray | None:
    """A mask painted on one model's grid, on another's."""
    if painted is None or len(painted) == grid:
        return painted
    return np.asarray(Image.fromarray(painted).resize((grid, grid), Image.Resampling.NEAREST))


# ------------------------------------------------------------------------------------------------------ what is shown


def present(given: Given, encoded: "Encoded", found: "Result") -> dict:
    """What each part shows for one result."""
    original, predicted, pasted = (drawing.enlarge(p) for p in (encoded.picture, found.predicted, found.pasted))
    numbers = numbers_of(encoded, found)
    worst = float(np.nanmax(found.error))
    return {
        "original": original,
        "left": drawing.keep_patches(found.given, found.visible, ghost=0),
        "predicted": predicted,
        "pasted": pasted,
        "error": drawing.heat_over(encoded.picture, found.error / max(worst, 1e-9), 0.85),
        "baseline": drawing.enlarge(found.interpolated),
        "slider": (original, predicted if found.visible.all() else pasted),
        "facts": _facts(numbers) + links.patches(found.visible.shape, LINKED),
        "formula": _formula(numbers),
        "note": pictures.honest_note(given, encoded.model, BETTER),
        "numbers": numbers,
    }


def numbers_of(encoded: "Encoded", found: "Result") -> dict:
    """Everything measured, as JSON. Of neighbours it is None when nothing is hidden."""
    return {
        "mse_masked": found.scores.mse,
        "psnr_masked": found.scores.psnr,
        "ssim_masked": found.scores.ssim,
        "psnr_mean_colour": found.mean_colour.psnr,
        "psnr_neighbours": found.neighbours and found.neighbours.psnr,  # None when nothing is hidden
        "ssim_neighbours": found.neighbours and found.neighbours.ssim,
        "edge_error": found.scores.edge_mse,
        "edge_error_neighbours": found.neighbours and found.neighbours.edge_mse,
        "tokens_visible": int(found.visible.sum()),
        "tokens_total": found.visible.size,
        "psnr_sharpened": found.sharpened and found.sharpened.psnr,
        "ssim_sharpened": found.sharpened and found.sharpened.ssim,
        "psnr_bicubic": found.bicubic and found.bicubic.psnr,
        "ssim_bicubic": found.bicubic and found.bicubic.ssim,
        "model": encoded.model,
        "mask": (~found.visible).astype(int).tolist(),
    }


def _formula(n: dict) -> str:
    judged = n["tokens_total"] - n["tokens_visible"] or n["tokens_total"]
    return (
        rf"$$\mathrm{{PSNR}} = 10 \log_{{10}} \frac{{1}}{{\mathrm{{MSE}}}} = 10 \log_{{10}} "
        rf"\frac{{1}}{{{n['mse_masked']:.5f}}} = {n['psnr_masked']:.1f}\ \mathrm{{dB}}$$"
        rf"$$\mathrm{{MSE}}\ \textrm{{over}}\ {judged}\ \textrm{{patches}}$$"
    )


def _facts(n: dict) -> str:
    other = n["psnr_neighbours"] is not None  # something is hidden, so there is something to interpolate
    hidden = say("judged on these alone") if other else say("nothing hidden: the whole picture is judged")
    rows = [(say("Hidden patches"), f"{n['tokens_total'] - n['tokens_visible']} / {n['tokens_total']}", hidden)]
    of_model = f"{n['psnr_masked']:.1f} dB"
    if other:
        told = say("higher is nearer; {gain} dB against interpolation", gain=f"{_gain(n):+.1f}")
        rows.append((say("PSNR of the model"), of_model, told))
        told = say("a baseline that knows nothing about pictures")
        rows.append((say("PSNR, interpolated from neighbours"), f"{n['psnr_neighbours']:.1f} dB", told))
    else:
        rows.append((say("PSNR of the model"), of_model, say("higher is nearer")))
    told = say("a baseline that does not even look")
    rows.append((say("PSNR, one mean colour"), f"{n['psnr_mean_colour']:.1f} dB", told))
    told = say("1 = same structure")
    if other:
        told = say("1 = same structure; interpolated: {other}", other=f"{n['ssim_neighbours']:.3f}")
    rows.append((say("SSIM of the model"), f"{n['ssim_masked']:.3f}", told))
    told = say("weighted by the gradient")
    if other:
        told = say("weighted by the gradient; interpolated: {other}", other=f"{n['edge_error_neighbours']:.4f}")
    rows.append((say("Error on edges (fur, leaves, outlines)"), f"{n['edge_error']:.4f}", told))
    if n["psnr_bicubic"] is not None:
        brought = f"{n['psnr_sharpened']:.1f} dB, SSIM {n['ssim_sharpened']:.3f}"
        psnr, ssim = f"{n['psnr_bicubic']:.1f}", f"{n['ssim_bicubic']:.3f}"
        told = say("bicubic: {psnr} dB, SSIM {ssim}", psnr=psnr, ssim=ssim)
        rows.append((say("Detail brought back, whole picture"), brought, told))
    return _headline(n) + charts.facts(rows)


def _headline(n: dict) -> str:
    if n["psnr_neighbours"] is None:
        return charts.headline((f"{n['psnr_masked']:.1f} dB", say("nothing is hidden: the whole picture, repainted")))
    model, other = f"{n['psnr_masked']:.1f}", f"{n['psnr_neighbours']:.1f}"
    told = say("over interpolation: {model} dB against {other} dB on the hidden patches", model=model, other=other)
    return charts.headline((f"{_gain(n):+.1f} dB", told))


def _gain(n: dict) -> float:
    """dB of the model over interpolation from the neighbours."""
    return n["psnr_masked"] - n["psnr_neighbours"]


def _hiding(name: str, line: str, **then: object) -> Try:
    return Try(
        name=name,
        line=line,
        question="What happens to the PSNR of the hidden patches?",
        answers=("it falls by more than 2 dB", "it stays, within 2 dB", "it rises by more than 2 dB"),
        state={"pattern": "random"},
        then=then,
        answer=lambda before, after: among(after["psnr_masked"] - before["psnr_masked"], -2, 2),
        message="It was {before} dB with random patches and is {after} dB.",
        values=both("psnr_masked", ".1f"),
    )


TRIES = (
    _hiding("block", "Hide one block in the middle in place of random patches.", pattern="block"),
    _hiding("lowest", "Hide what has the lowest attention in place of random patches.", pattern="attention"),
    _hiding("most", "Hide nine tenths at random in place of one half.", mask_ratio=0.9),
    Try(
        name="detail",
        line="Hide nothing, but give the model a picture of a quarter of the resolution.",
        question="How much of the detail comes back, beyond bicubic enlarging?",
        answers=("nothing: less than 0.2 dB", "0.2 to 2 dB", "more than 2 dB"),
        then={"mask_ratio": 0, "low_resolution": 4},
        answer=lambda before, after: among(after["psnr_sharpened"] - after["psnr_bicubic"], 0.2, 2),
        message="Bicubic {before} dB, the model {after} dB.",
        values=lambda before, after: {
            "before": f"{after['psnr_bicubic']:.1f}",
            "after": f"{after['psnr_sharpened']:.1f}",
        },
    ),
)


LESSON = Lesson(
    slug="reconstruction",
    title="Reconstruction",
    chapter="see",
    claim="From half of the patches it gets shape and colour back and loses the texture: least squares predicts the "
    "average.",
    settings=Settings,
    layout=layout,
    main=reconstruction,
    shows=tuple("original left predicted pasted error baseline slider facts formula note numbers".split()),
    wire=wire,
    tables={"What breaks if it is removed": ablation_table},
    measure=Measure(slider="mask_ratio", through=(0.3, 0.7, 0.4, 0.5), follows="left"),
    tries=TRIES,
)
