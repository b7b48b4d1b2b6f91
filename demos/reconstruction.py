"""Tab 3: pixels from the patches that are left. Wraps pipelines/reconstruction.py."""

import gradio as gr
import numpy as np
from PIL import Image

from demos import common, drawing, lessons, pictures
from demos.common import COMPUTE, event, heavy, lazily, say, t
from demos.pictures import Given
from pipelines.errors import UserError

TAB = "reconstruction"
PATTERNS = {
    "attention": "lowest attention (DetailCLIP)",
    "random": "random patches (MAE)",
    "block": "one block in the middle",
    "grid": "evenly spread",
    "painted": "painted by hand",
}
ROW_RATIOS = (0.25, 0.5, 0.75, 0.9)
BETTER = ("mae-base",)


def build(pipeline=lazily("pipelines.reconstruction")) -> tuple:  # noqa: B008 (a name, nothing is imported)
    """Lay out the tab. Returns its main event as (handler, inputs, outputs), for the page to run when it opens."""
    encode = common.Remembered(heavy(lambda picture, model: pipeline.encode(picture, model)))
    reconstruct = heavy(lambda *arguments: pipeline.reconstruct(*arguments))

    with gr.Tab(t("3 · Reconstruction"), id=TAB, elem_id=f"tab-{TAB}") as tab:
        gr.Markdown(
            t(
                "**From half of the patches it gets shape and colour back and loses the texture: "
                "least squares paints the average.**"
            )
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                controls = pictures.picture_controls(TAB, seed=10)
                image = controls.image
                pattern = common.Radio(
                    [(t(text), name) for name, text in PATTERNS.items()],
                    value="attention",
                    label=t("Which patches to hide"),
                    elem_id=f"{TAB}-pattern",
                )
                with gr.Accordion(t("Paint what to hide"), open=False) as paint_box:
                    canvas = pictures.Canvas(
                        format="png",
                        layers=False,
                        transforms=[],
                        sources=[],
                        image_mode="RGBA",
                        brush=gr.Brush(colors=["#ef4444"], default_size=24, color_mode="fixed"),
                        label=t("Paint over the picture"),
                        canvas_size=(448, 448),
                        elem_id=f"{TAB}-canvas",
                    )
                    use_paint = gr.Button(t("Hide what is painted"), elem_id=f"{TAB}-use-paint")
                low_resolution = common.Radio(
                    [(t("full"), 1), (t("1/2"), 2), (t("1/3"), 3), (t("1/4"), 4)],
                    value=1,
                    label=t("Resolution of the input"),
                    elem_id=f"{TAB}-low",
                    info=t("Set the mask ratio to 0 to see detail come back by itself"),
                )
                with gr.Accordion(t("Advanced"), open=False):
                    target = common.Radio(
                        [
                            (t("the decoder's own pixels"), "pixels"),
                            (t("lend each patch its true mean and contrast"), "normalised"),
                        ],
                        value="pixels",
                        label=t("What to show"),
                        elem_id=f"{TAB}-target",
                    )
                    seed = common.Number(42, label=t("Seed of the random pattern"), elem_id=f"{TAB}-seed")
                    menu = common.model_menu(TAB, [*common.teacher_models(), *common.model_names("mae")])
                    model = menu.choice
                below = gr.Column()
            with gr.Column(scale=8, min_width=320):
                told = pictures.told(TAB)
                with gr.Row():
                    left = pictures.panel(TAB, "left", "What is left")
                    pasted = pictures.panel(TAB, "pasted", "Rebuilt, visible patches pasted")
                mask_ratio = common.Slider(
                    0,
                    0.95,
                    0.5,
                    step=0.05,
                    label=t("Mask ratio"),
                    elem_id=f"{TAB}-mask-ratio",
                    info=t("Share of the patches to hide"),
                )
                numbers = gr.HTML(elem_id=f"{TAB}-facts")
                formula = gr.Markdown(latex_delimiters=common.LATEX, elem_id=f"{TAB}-formula")
                note = gr.Markdown(elem_id=f"{TAB}-note", elem_classes="note")
                with gr.Row():
                    compare = gr.ImageSlider(
                        label=t("Drag: original against rebuilt"),
                        format="png",
                        interactive=False,
                        elem_id=f"{TAB}-slider",
                        slider_position=50,
                    )
                    error = pictures.panel(TAB, "error", "Error of each hidden patch")
                with gr.Row():
                    original = pictures.panel(TAB, "original", "Original")
                    predicted = pictures.panel(TAB, "predicted", "The decoder's raw output")
                    baseline = pictures.panel(TAB, "baseline", "Interpolated")
                with gr.Accordion(t("The same picture at four mask ratios"), open=False) as row_box:
                    row = gr.Gallery(
                        label=t("Mask ratios"),
                        format="png",
                        columns=4,
                        object_fit="contain",
                        height="auto",
                        elem_id=f"{TAB}-row",
                        buttons=["fullscreen"],
                    )
                with gr.Accordion(t("Numbers as JSON, and export"), open=False):
                    result = gr.JSON(label=t("Numbers"), elem_id=f"{TAB}-json")
                    save = gr.Button(t("Export figure and numbers"), elem_id=f"{TAB}-export")
                    files = gr.File(label=t("Files"), file_count="multiple", interactive=False, elem_id=f"{TAB}-files")
        lessons.lesson(TAB)
        painted = gr.State(None)  # (picture, (g, g) bool): the patches that were painted over, and in which picture

        def run(image, mask_ratio, pattern, target, low_resolution, seed, model, painted) -> tuple:
            common.at_hand(model)
            given = pictures.read_picture(image)
            mask_ratio = common.number(say("The mask ratio"), mask_ratio, 0, 0.98)
            common.choice(say("The pattern"), pattern, list(PATTERNS))
            common.choice(say("What to show"), target, ["pixels", "normalised"])
            common.choice(say("The resolution"), low_resolution, [1, 2, 3, 4])
            seed = common.whole(say("The seed"), seed, 0, common.SEED_LIMIT)
            encoded = encode(given.picture, model)
            where, mask = painted or (None, None)
            mask = _fit(mask, len(encoded.attention)) if pattern == "painted" and where == image else None
            return given, encoded, reconstruct(encoded, mask_ratio, pattern, target, int(low_resolution), seed, mask)

        def reconstruction(
            image,
            mask_ratio=0.5,
            pattern="attention",
            target="pixels",
            low_resolution=1,
            seed=42,
            model="storybook-detailclip",
            painted=None,
        ):
            *shown, numbers = present(*run(image, mask_ratio, pattern, target, low_resolution, seed, model, painted))
            return *shown, numbers | {"picture": pictures.mark_of(image)}

        def paint(canvas, model, image):
            common.at_hand(model)
            encoded = encode(pictures.read_picture(image).picture, model)
            layers = [pictures.read_layer(layer) for layer in (canvas or {}).get("layers") or []]
            return (image, painted_patches({"layers": layers}, len(encoded.attention))), "painted"

        def ratios(image, pattern, target, low_resolution, seed, model):
            pattern = pattern if pattern != "painted" else "random"  # paint has no ratio
            shown = []
            for ratio in ROW_RATIOS:
                _, encoded, found = run(image, ratio, pattern, target, low_resolution, seed, model, None)
                told = say(
                    "{ratio} hidden, {pattern}: {psnr} dB",
                    ratio=f"{ratio:.0%}",
                    pattern=say(PATTERNS[pattern]),
                    psnr=f"{found.scores.psnr:.1f}",
                )
                shown += [
                    (drawing.keep_patches(found.given, found.visible, ghost=0), told),
                    (drawing.enlarge(found.pasted), told),
                ]
                yield shown

        inputs = [image, mask_ratio, pattern, target, low_resolution, seed, model]
        outputs = [original, left, predicted, pasted, error, baseline, compare, numbers, formula, note, result]
        main = event(reconstruction)
        triggers = [mask_ratio.input, pattern.input, target.input, low_resolution.input, seed.submit]
        quiet = {"show_progress": "minimal", "show_progress_on": pasted, "trigger_mode": "always_last"}
        given = [*inputs, painted]
        private = {"api_visibility": "private", **COMPUTE}
        ran = gr.on([*triggers, tab.select], main, given, outputs, api_name=TAB, **quiet, **COMPUTE)
        changed = menu.fetched.success(main, given, outputs, **private, **quiet)
        # The pattern that painting has chosen does not outlive its picture.
        unpainted = image.change(
            lambda pattern: "attention" if pattern == "painted" else gr.skip(),
            pattern,
            pattern,
            api_visibility="private",
            show_progress="hidden",
        )
        looked = unpainted.then(main, given, outputs, **private, **quiet)
        took_paint = use_paint.click(event(paint), [canvas, model, image], [painted, pattern], **private)
        rebuilt = took_paint.success(main, given, outputs, **private, **quiet)
        paint_box.expand(
            event(lambda image: _for_canvas(pictures.read_picture(image).picture)),
            image,
            canvas,
            api_visibility="private",
            show_progress="hidden",
        )
        image.change(
            event(lambda image: _for_canvas(pictures.read_picture(image).picture) if image else gr.skip()),
            image,
            canvas,
            api_visibility="private",
            show_progress="hidden",
        )
        settings = [image, pattern, target, low_resolution, seed, model]
        changes = [image.change, pattern.input, target.input, low_resolution.input, seed.submit, changed.success]
        shown_row = common.when_open(row_box, ratios, settings, row, *changes)

        def export(image, *settings):
            given, encoded, found = run(image, *settings)
            panels = present(given, encoded, found)
            captions = [
                say("original"),
                say("what is left"),
                say("decoder's output"),
                say("rebuilt"),
                say("error per patch"),
                say("interpolated from the neighbours"),
            ]
            names = ("mask_ratio", "pattern", "target", "low_resolution", "seed", "model")
            record = dict(zip(names, settings, strict=False))
            return common.export_files(files, TAB, drawing.strip(panels[:6], captions), record, panels[-1])

        saved = save.click(event(export), given, files, **private)
        with below:
            runs = (ran, looked, changed, rebuilt)
            pictures.one_picture(image, told, result, [*outputs, row], *runs)
            common.belong_to(result, files)
            others = (took_paint, *shown_row, saved)
            common.stop_button(TAB, *runs, *others, status=told, held=pictures.held, holding=[image, result])
    return main, given, outputs


def _for_canvas(picture: Image.Image) -> np.ndarray:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)).resize((448, 448)))


def painted_patches(canvas: dict | None, grid: int) -> np.ndarray:
    """(g, g) bool: the patches of which paint covers at least a tenth. Layers are (H, W, 4) uint8, of any size.

    Raises:
        UserError: when nothing is painted.
    """
    painted = [np.asarray(layer)[..., 3] > 0 for layer in (canvas or {}).get("layers") or []]
    if not any(layer.any() for layer in painted):
        raise UserError(say("Nothing is painted yet. Paint over what the model shall not see, then apply."))
    whole = [Image.fromarray(layer.astype(np.uint8) * 255) for layer in painted]
    return np.max([layer.resize((grid, grid), Image.Resampling.BOX) for layer in whole], axis=0) >= 26


def _fit(painted: np.ndarray | None, grid: int) -> np.ndarray | None:
    """A mask painted on one model's grid, on another's."""
    if painted is None or len(painted) == grid:
        return painted
    return np.asarray(Image.fromarray(painted).resize((grid, grid), Image.Resampling.NEAREST))


def present(given: Given, encoded, found) -> tuple:
    """(original, left, predicted, pasted, error, baseline, slider, facts, formula, note, numbers)."""
    hidden = ~found.visible
    worst = np.nanmax(found.error)
    panels = (
        drawing.enlarge(encoded.picture),
        drawing.keep_patches(found.given, found.visible, ghost=0),
        drawing.enlarge(found.predicted),
        drawing.enlarge(found.pasted),
        drawing.heat_over(encoded.picture, found.error / max(float(worst), 1e-9), 0.85),
        drawing.enlarge(found.interpolated),
    )
    numbers = {
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
        "mask": hidden.astype(int).tolist(),
    }
    slider = (panels[0], panels[2] if found.visible.all() else panels[3])
    note = pictures.honest_note(given, encoded.model, BETTER)
    return (*panels, slider, _facts(numbers), _formula(numbers), note, numbers)


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
    if other:
        gain = f"{n['psnr_masked'] - n['psnr_neighbours']:+.1f}"
        rows.append(
            (
                say("PSNR of the model"),
                f"{n['psnr_masked']:.1f} dB",
                say("higher is nearer; {gain} dB against interpolation", gain=gain),
            )
        )
        told = say("a painter that knows nothing")
        rows.append((say("PSNR, interpolated from neighbours"), f"{n['psnr_neighbours']:.1f} dB", told))
    else:
        rows.append((say("PSNR of the model"), f"{n['psnr_masked']:.1f} dB", say("higher is nearer")))
    told = say("a painter that does not even look")
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
        rows.append(
            (
                say("Detail brought back, whole picture"),
                f"{n['psnr_sharpened']:.1f} dB, SSIM {n['ssim_sharpened']:.3f}",
                say(
                    "bicubic: {psnr} dB, SSIM {ssim}", psnr=f"{n['psnr_bicubic']:.1f}", ssim=f"{n['ssim_bicubic']:.3f}"
                ),
            )
        )
    return drawing.facts(rows)


if __name__ == "__main__":
    from demos.serving import launch_settings

    with gr.Blocks(title="Patchlight · reconstruction") as page:
        build()
    page.launch(**launch_settings(page))
