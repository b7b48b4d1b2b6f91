"""Tab 2: which patches can a vision transformer do without? Wraps pipelines/token_removal.py."""

from collections.abc import Sequence

import gradio as gr
import numpy as np

from demos import common, drawing, lessons, pictures
from demos.common import COMPUTE, RULES, event, heavy, lazily, light, say, t
from demos.pictures import Given
from pipelines import storybook
from pipelines.errors import UserError
from pipelines.registry import MODELS

TAB = "token_removal"
BETTER = ("openclip-vit-b-16", "dinov2-small")
LAYERS = HEADS = 6  # of the model that is chosen first
MOST_LAYERS = 12  # of any model in the registry


def build(pipeline=lazily("pipelines.token_removal")) -> tuple:  # noqa: B008 (a name, nothing is imported)
    """Lay out the tab. Returns its main event as (handler, inputs, outputs), for the page to run when it opens."""
    encode = common.Remembered(heavy(lambda picture, model: pipeline.encode(picture, model)))
    query = heavy(lambda *arguments, **keywords: pipeline.query(*arguments, **keywords))
    sweep = heavy(lambda *arguments: pipeline.sweep(*arguments))
    swept: dict[tuple, tuple] = {}  # finished figures of all rules, so that a slider can redraw its mark on them

    with gr.Tab(t("2 · Token removal"), id=TAB, elem_id=f"tab-{TAB}") as tab:
        gr.Markdown(
            t("**Remove half of the patches by attention and the meaning stays; remove the best half and it goes.**")
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                prompt = common.Textbox(
                    "",
                    label=t("Description to compare with"),
                    max_length=300,
                    elem_id=f"{TAB}-prompt",
                    info=t("Image-text models only; press Enter"),
                    render=False,
                )
                controls = pictures.picture_controls(TAB, seed=16, caption=prompt)
                image = controls.image
                rule = common.Radio(
                    [(t(text), name) for name, text in RULES.items()],
                    value="attention",
                    label=t("Who decides"),
                    elem_id=f"{TAB}-rule",
                )
                prompt.render()
                menu = common.model_menu(TAB, common.model_names("openclip", "vit"))
                model = menu.choice
                with gr.Accordion(t("Advanced"), open=False):
                    with gr.Row():
                        layer = common.Dropdown(
                            _numbers(LAYERS), value="mean", label=t("Layer"), elem_id=f"{TAB}-layer"
                        )
                        head = common.Dropdown(_numbers(HEADS), value="mean", label=t("Head"), elem_id=f"{TAB}-head")
                    seed = common.Number(42, label=t("Seed of the random rule"), elem_id=f"{TAB}-seed")
                below = gr.Column()
            with gr.Column(scale=8, min_width=320):
                told = pictures.told(TAB)
                with gr.Row():
                    heat = pictures.panel(TAB, "heat", "Where the class token looks")
                    kept = pictures.panel(TAB, "kept", "What is left")
                keep_ratio = common.Slider(
                    0.05,
                    1,
                    0.5,
                    step=0.05,
                    label=t("Keep ratio"),
                    elem_id=f"{TAB}-keep",
                    info=t("Share of the 2×2-patch blocks that stay, plus one block"),
                )
                numbers = gr.HTML(elem_id=f"{TAB}-facts")
                formula = gr.Markdown(latex_delimiters=common.LATEX, elem_id=f"{TAB}-formula")
                note = gr.Markdown(elem_id=f"{TAB}-note", elem_classes="note")
                chart = gr.HTML(elem_id=f"{TAB}-chart")
                compare = gr.Button(
                    t("Compare all rules at all ratios"), elem_id=f"{TAB}-compare", variant="primary", size="md"
                )
                with gr.Accordion(t("Every layer and head"), open=False) as heads_box:
                    heads = gr.Gallery(
                        label=t("Attention of each layer (rows) and head"),
                        format="png",
                        columns=6,
                        object_fit="contain",
                        height="auto",
                        elem_id=f"{TAB}-heads",
                        buttons=["fullscreen"],
                    )
                with gr.Accordion(t("Numbers as JSON, and export"), open=False):
                    result = gr.JSON(label=t("Numbers"), elem_id=f"{TAB}-json")
                    save = gr.Button(t("Export figure and numbers"), elem_id=f"{TAB}-export")
                    files = gr.File(label=t("Files"), file_count="multiple", interactive=False, elem_id=f"{TAB}-files")
        lessons.lesson(TAB)

        def look(image, prompt, keep_ratio, rule, layer, head, seed, model):
            common.at_hand(model)
            given = pictures.read_picture(image)
            settings = _checked(prompt, keep_ratio, rule, layer, head, seed, model)
            encoded = encode(given.picture, model)
            _check_layer_and_head(encoded, settings)
            return given, encoded, settings

        def token_removal(
            image,
            prompt="",
            keep_ratio=0.5,
            rule="attention",
            layer="mean",
            head="mean",
            seed=42,
            model="storybook-detailclip",
        ):
            given, encoded, settings = look(image, prompt, keep_ratio, rule, layer, head, seed, model)
            found = query(encoded, **settings, names=storybook.NOUNS)
            _, points = swept.get((id(encoded), *_curve_of(settings)), (None, None))
            *shown, numbers = present(given, encoded, found, settings, points)
            return *shown, numbers | {"picture": pictures.mark_of(image)}

        def compare_rules(image, prompt, keep_ratio, seed, model, layer="mean", head="mean"):
            given, encoded, settings = look(image, prompt, keep_ratio, "attention", layer, head, seed, model)
            key, points = (id(encoded), *_curve_of(settings)), []
            for ratio in pipeline.SWEEP_RATIOS:
                points += sweep(encoded, ratio, *_curve_of(settings))
                yield _chart(points, keep_ratio), [vars(p) for p in points]
            swept[key] = encoded, points  # holding `encoded` keeps its id its own
            while len(swept) > 64:
                swept.pop(next(iter(swept)))

        inputs = [image, prompt, keep_ratio, rule, layer, head, seed, model]
        outputs = [heat, kept, numbers, formula, note, chart, result]
        main = event(token_removal)
        shown = {"show_progress": "minimal", "show_progress_on": kept}
        ran = gr.on(
            [
                image.change,
                prompt.submit,
                rule.input,
                layer.input,
                head.input,
                seed.submit,
                keep_ratio.input,
            ],
            main,
            inputs,
            outputs,
            api_name=TAB,
            trigger_mode="always_last",
            **COMPUTE,
            **shown,
        )
        points_json = gr.JSON(visible=False)
        comparing = compare.click(
            event(compare_rules),
            [image, prompt, keep_ratio, seed, model, layer, head],
            [chart, points_json],
            api_name=f"{TAB}_sweep",
            show_progress="minimal",
            show_progress_on=chart,
            **COMPUTE,
        )
        private = {"api_visibility": "private", **COMPUTE}
        uploaded = controls.uploaded.then(main, inputs, outputs, **private, **shown)  # without the old description
        opened = tab.select(
            light(lambda prompt, drawn: prompt or drawn),
            [prompt, controls.drawn],
            prompt,
            api_visibility="private",
            show_progress="hidden",
        ).then(main, inputs, outputs, **private, **shown)

        def fit_menus(model):
            sizes = pipeline.layers_and_heads(model)
            return tuple(common.Dropdown(_numbers(size), value="mean") for size in sizes)

        fitted = menu.fetched.success(event(fit_menus), model, [layer, head], show_progress="hidden", **private)
        changed = fitted.success(main, inputs, outputs, **private, **shown)

        def show_heads(image, model):
            common.at_hand(model)
            yield head_pictures(encode(pictures.read_picture(image).picture, model))

        shown_heads = common.when_open(heads_box, show_heads, [image, model], heads, image.change, changed.success)

        def export(image, prompt, keep_ratio, rule, layer, head, seed, model):
            given, encoded, settings = look(image, prompt, keep_ratio, rule, layer, head, seed, model)
            found = query(encoded, **settings, names=storybook.NOUNS)
            heat, kept, *_, numbers = present(given, encoded, found, settings, None)
            captions = [
                say("picture"),
                say("attention of the class token"),
                say("{kept} of {total} patches kept", kept=numbers["tokens_kept"], total=numbers["tokens_total"]),
            ]
            figure = drawing.strip([drawing.enlarge(encoded.picture), heat, kept], captions)
            return common.export_files(files, TAB, figure, {**settings, "model": model}, numbers)

        saved = save.click(event(export), inputs, files, **private)
        with below:
            runs = (ran, uploaded, opened, changed)
            pictures.one_picture(image, told, result, [*outputs, heads], *runs)
            common.belong_to(result, files)
            others = (comparing, fitted, *shown_heads, saved)
            common.stop_button(TAB, *runs, *others, status=told, held=pictures.held, holding=[image, result])
    return main, inputs, outputs


def _numbers(count: int) -> list[str]:
    return ["mean", *(str(i + 1) for i in range(count))]


def _reads(model: str) -> bool:
    return model in MODELS and MODELS[model].family == "openclip"


def _checked(prompt, keep_ratio, rule, layer, head, seed, model) -> dict:
    """The settings as the pipeline takes them: layers and heads count from 0 there, from 1 on the page.

    A description is left out for a model that reads no text; the facts say so.
    """
    allowed = _numbers(MOST_LAYERS)
    return {
        "prompt": common.words(say("The description"), prompt) if _reads(model) else "",
        "keep_ratio": common.number(say("The keep ratio"), keep_ratio, 0, 1),
        "rule": common.choice(say("The rule"), rule, list(RULES)),
        "layer": None if common.choice(say("The layer"), layer, allowed) == "mean" else int(layer) - 1,
        "head": None if common.choice(say("The head"), head, allowed) == "mean" else int(head) - 1,
        "seed": common.whole(say("The seed"), seed, 0, common.SEED_LIMIT),
    }


def _curve_of(settings: dict) -> tuple:
    """What the curves of all rules depend on, as the pipeline's `sweep` takes it."""
    return settings["prompt"], settings["layer"], settings["head"], settings["seed"]


def _check_layer_and_head(encoded, settings: dict) -> None:
    for name, size in zip(("layer", "head"), encoded.attention.shape[:2], strict=True):
        if settings[name] is not None and settings[name] >= size:
            raise UserError(
                say("This model has {size} {name}s, not {wanted}.", size=size, name=name, wanted=settings[name] + 1)
            )


def present(given: Given, encoded, found, settings: dict, points: Sequence | None) -> tuple:
    """(heat map, kept patches, facts, formula, note, chart, numbers)."""
    heat = drawing.heat_over(encoded.picture, drawing.normalised(found.heat))
    kept = drawing.keep_patches(encoded.picture, found.kept)
    total, left = found.kept.size, int(found.kept.sum())
    on_objects = None
    if given.scene is not None:
        objects = storybook.object_share(given.scene, len(found.kept)) >= 0.5
        on_objects = float(found.kept[objects].mean()) if objects.any() else None
        mask = np.any([o.mask for o in given.scene.objects], axis=0)
        heat, kept = drawing.outline(heat, mask), drawing.outline(kept, mask)
    numbers = {
        "tokens_total": total,
        "tokens_kept": left,
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
    note = pictures.honest_note(given, encoded.model, BETTER)
    formula, chart = _formula(numbers, settings["keep_ratio"]), _chart(points or [], settings["keep_ratio"])
    return heat, kept, _facts(numbers), formula, note, chart, numbers


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
        rows.insert(
            2,
            (
                say("Object patches kept"),
                f"{n['object_patches_kept']:.0%}",
                say("chance: {share}; the white outline is the truth", share=f"{share:.0%}"),
            ),
        )
    if n["similarity_full"] is not None:
        rows.append(
            (
                say("Similarity to the description"),
                f"{n['similarity_full']:.3f} → {n['similarity_kept']:.3f}",
                say("whole → kept"),
            )
        )
    elif not _reads(n["model"]):
        rows.append((say("Similarity to the description"), "–", say("this model reads no text")))
    if n["guesses_full"]:
        (whole, sure), (part, still) = n["guesses_full"][0], n["guesses_kept"][0]
        rows.append((say("Best guess among 24 names"), f"{whole} {sure:.0%} → {part} {still:.0%}", say("whole → kept")))
    rows.append(
        (
            say("Time of the image tower"),
            f"{n['milliseconds_full']:.1f} → {n['milliseconds']:.1f} ms",
            say("arithmetic: {share} of the whole", share=f"{n['flops_ratio']:.0%}"),
        )
    )
    return drawing.facts(rows)


def _chart(points: Sequence, mark: float) -> str:
    """Cosine, and similarity where there is a description, against the keep ratio; the random rule with its spread."""

    def line(rule: str, value) -> drawing.Line:
        ratios = sorted({p.keep_ratio for p in points})
        found = [[value(p) for p in points if p.rule == rule and p.keep_ratio == r] for r in ratios]
        band = {"low": [min(v) for v in found], "high": [max(v) for v in found]} if rule == "random" else {}
        return drawing.Line(say(RULES[rule]), ratios, [sum(v) / len(v) for v in found], **band)

    if not points:
        return ""
    axis = say("keep ratio")
    charts = drawing.curves(
        [line(rule, lambda p: p.cosine) for rule in RULES],
        axis,
        say("cosine to the whole"),
        mark,
        title=say("How much of the meaning is left"),
    )
    if points[0].similarity is not None:
        charts += drawing.curves(
            [line(rule, lambda p: p.similarity) for rule in RULES],
            axis,
            say("similarity to the description"),
            mark,
            title=say("How well the description still fits"),
        )
    return f'<div class="charts">{charts}</div>'


def head_pictures(encoded) -> list[tuple]:
    """One small heat map per layer and head, with its caption."""
    shown = []
    for i, layer in enumerate(encoded.attention):
        for j, head in enumerate(layer):
            shown.append(
                (
                    drawing.heat_over(encoded.picture, drawing.normalised(head), 0.8).resize((192, 192)),
                    say("layer {layer}, head {head}", layer=i + 1, head=j + 1),
                )
            )
    return shown


if __name__ == "__main__":
    from demos.serving import launch_settings

    with gr.Blocks(title="Patchlight · token removal") as page:
        build()
    page.launch(**launch_settings(page))
