"""Tab 6: an image made out of CLIP's opinion. Wraps pipelines/clip_synthesis.py."""

from collections.abc import Callable
from dataclasses import replace

import gradio as gr
import numpy as np
from PIL import Image

from demos import common, drawing, lessons, pictures
from demos.common import COMPUTE, event, heavy, heavy_steps, lazily, light, say, t
from pipelines.registry import MODELS

TAB = "clip_synthesis"
EXAMPLES = ("a cat", "a red car", "a frog on grass", "a yellow crown", "a cat:1 | a dog:-0.5", "an elephant in snow")
WRITINGS = {  # how the picture is written down
    "pixels": "raw pixels",
    "fourier": "waves (Fourier)",
    "pyramid": "coarse to fine (pyramid)",
    "latent": "an autoencoder's latents",
}
MOST_STEPS, MOST_VIEWS, MOST_TEXT = 500, 64, 2000
COMPARED = 60  # steps of each picture of a comparison


def build(pipeline=lazily("pipelines.clip_synthesis")) -> tuple:  # noqa: B008 (a name, nothing is imported)
    """Lay out the tab. Returns its main event as (handler, inputs, outputs), for the page to run when it opens."""
    run = heavy_steps(lambda request: pipeline.run(request))
    truth_of = common.Remembered(heavy(lambda _, *arguments: pipeline.truth(*arguments)))

    with gr.Tab(t("6 · CLIP synthesis"), id=TAB, elem_id=f"tab-{TAB}") as tab:
        gr.Markdown(
            t("**CLIP can be convinced by noise nobody else can read. Views and a good handwriting force a picture.**")
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                prompt = common.Textbox(
                    EXAMPLES[0],
                    label=t("What CLIP should see"),
                    max_length=MOST_TEXT,
                    lines=1,
                    elem_id=f"{TAB}-prompt",
                    info=t("Several with weights: a cat:1 | a dog:-0.5; press Enter"),
                )
                example = common.Dropdown(
                    list(EXAMPLES), value=None, label=t("or one of these"), elem_id=f"{TAB}-example"
                )
                writing = common.Radio(
                    [(t(text), name) for name, text in WRITINGS.items()],
                    value="fourier",
                    label=t("The picture is written in"),
                    elem_id=f"{TAB}-parametrization",
                )
                cutouts = common.Slider(
                    1, MOST_VIEWS, 8, step=1, label=t("Views at each step"), elem_id=f"{TAB}-cutouts"
                )
                augment = common.Checkbox(
                    True, label=t("Show CLIP varied views, not the plain picture"), elem_id=f"{TAB}-augment"
                )
                steps = common.Slider(5, MOST_STEPS, 150, step=5, label=t("Steps"), elem_id=f"{TAB}-steps")
                seed = common.Number(42, label=t("Seed"), precision=0, elem_id=f"{TAB}-seed")
                with gr.Row():
                    start = gr.Button(t("Start"), variant="primary", elem_id=f"{TAB}-start", min_width=110)
                    on = gr.Button(t("Go on"), elem_id=f"{TAB}-continue", min_width=110)
                with gr.Row():
                    all_writings = gr.Button(t("Compare all handwritings"), elem_id=f"{TAB}-compare", min_width=150)
                    both_views = gr.Button(t("With and without views"), elem_id=f"{TAB}-views-or-not", min_width=150)
                menu = common.model_menu(TAB, [n for n in common.model_names("openclip") if MODELS[n].scorer])
                model = menu.choice
                with gr.Accordion(t("Begin from a picture, or come close to one"), open=False):
                    image = _picture("image", "Begin from")
                    wanted = _picture("wanted", "Come close to")
                    wanted_weight = common.Slider(
                        0, 2, 0.5, step=0.1, label=t("How much it counts"), elem_id=f"{TAB}-wanted-weight"
                    )
                with gr.Accordion(t("More settings"), open=False):
                    variation = common.Slider(
                        0, 20, 0, step=0.5, label=t("Smoothness (total variation)"), elem_id=f"{TAB}-variation"
                    )
                    saturation = common.Slider(0, 2, 0, step=0.1, label=t("Saturation"), elem_id=f"{TAB}-saturation")
                    noise = common.Slider(0, 0.3, 0.1, step=0.02, label=t("Noise on the views"), elem_id=f"{TAB}-noise")
                below = gr.Column()
            with gr.Column(scale=8, min_width=320):
                status = gr.Markdown(elem_id=f"{TAB}-status")
                with gr.Row():
                    picture = pictures.panel(TAB, "picture", "The picture so far")
                    views = pictures.panel(TAB, "views", "What CLIP was shown last")
                charts = gr.HTML(elem_id=f"{TAB}-charts")
                numbers = gr.HTML(elem_id=f"{TAB}-facts")
                compared = gr.Image(
                    label=t("Side by side"), format="png", interactive=False, visible=False, elem_id=f"{TAB}-compared"
                )
                table = gr.HTML(elem_id=f"{TAB}-table")
                note = gr.Markdown(elem_id=f"{TAB}-note", elem_classes="note")
                with gr.Accordion(t("Numbers as JSON, and export"), open=False):
                    result = gr.JSON(label=t("Numbers"), elem_id=f"{TAB}-json")
                    save = gr.Button(t("Export figure and numbers"), elem_id=f"{TAB}-export")
                    files = gr.File(label=t("Files"), file_count="multiple", interactive=False, elem_id=f"{TAB}-files")
        lessons.lesson(TAB)
        kept = gr.State(None)  # (settings, last picture, first to last frames) of the run on show

        def asked(
            prompt,
            writing,
            steps,
            cutouts,
            augment,
            seed,
            model,
            image,
            wanted,
            wanted_weight,
            variation,
            saturation,
            noise,
        ):
            """The request, every value checked."""
            name = common.choice(
                say("The model"), model, [n for n in common.model_names("openclip") if MODELS[n].scorer]
            )
            for each in (name, MODELS[name].scorer):
                common.at_hand(each)
            return pipeline.Request(
                common.words(say("The prompt"), prompt, MOST_TEXT),
                common.choice(say("The handwriting"), writing, list(WRITINGS)),
                common.whole(say("Steps"), steps, 1, MOST_STEPS),
                common.whole(say("The number of views"), cutouts, 1, MOST_VIEWS),
                common.flag(say("Showing varied views"), augment),
                common.whole(say("The seed"), seed, 0, common.SEED_LIMIT),
                name,
                MODELS[name].scorer,
                None if image is None else pictures.read_picture(image).picture,
                None if wanted is None else pictures.read_picture(wanted).picture,
                common.number(say("The weight of the picture"), wanted_weight, 0, 2),
                common.number(say("Smoothness"), variation, 0, 20),
                common.number(say("Saturation"), saturation, 0, 2),
                None,
                common.number(say("The noise"), noise, 0, 0.3),
            )

        def followed(request):
            """One run: what is shown after every look, and at the end."""
            pipeline.parse(request.prompt)
            real = truth_of(
                Image.new("RGB", (1, 1)),
                pipeline.main_prompt(pipeline.parse(request.prompt)),
                request.model,
                request.judge,
            )
            looks = []
            for found in run(request):
                if isinstance(found, pipeline.Look):
                    looks.append(found)
                    yield (
                        drawing.show(found.picture)[0],
                        drawing.show(_sheet(found.views))[0],
                        _progress(found),
                        _curves(looks, real),
                        *(gr.skip(),) * 6,
                    )
            yield (
                drawing.show(looks[-1].picture)[0],
                drawing.show(_sheet(looks[-1].views))[0],
                "",
                _curves(looks, real),
                _facts(found, real),
                gr.Image(visible=False),
                "",
                _note(request),
                (request, looks),
                numbers_of(request, found, real),
            )

        def clip_synthesis(
            prompt,
            parametrization="fourier",
            steps=150,
            cutouts=8,
            augment=True,
            seed=42,
            model="storybook-detailclip",
            image=None,
            wanted=None,
            wanted_weight=0.5,
            variation=0,
            saturation=0,
            noise=0.1,
        ):
            settings = (steps, cutouts, augment, seed, model, image, wanted, wanted_weight, variation, saturation)
            yield from followed(asked(prompt, parametrization, *settings, noise))

        def continued(kept, *settings):
            if kept is None:
                raise ValueError(say("There is no picture yet to go on with. Press Start first."))
            yield from followed(replace(asked(*settings), image=kept[1][-1].picture))

        def side_by_side(vary: Callable, *settings):
            """The same prompt, seed and budget under several settings, in one row."""
            first = asked(*settings)
            budget = min(first.steps, COMPARED)
            done = []
            for name, request in vary(replace(first, steps=budget)):
                for found in run(request):
                    if isinstance(found, pipeline.Look):
                        last = found
                        yield (
                            drawing.show(last.picture)[0],
                            drawing.show(_sheet(last.views))[0],
                            f"**{name}**: {_progress(last)}",
                            *(gr.skip(),) * 7,
                        )
                done.append((name, last, found))
                row = drawing.strip([look.picture for _, look, _ in done], [name for name, *_ in done], 220)
                yield (
                    *(gr.skip(),) * 5,
                    gr.Image(row, visible=True),
                    _table(done, budget),
                    gr.skip(),
                    gr.skip(),
                    {name: _numbers(result) for name, _, result in done},
                )
            yield (gr.skip(), gr.skip(), "", *(gr.skip(),) * 7)

        def writings(request) -> list:
            return [(say(text), replace(request, parametrization=name)) for name, text in WRITINGS.items()]

        def views_or_not(request) -> list:
            return [
                (say("with views"), replace(request, augment=True)),
                (say("without"), replace(request, augment=False)),
            ]

        def compare(*settings):
            yield from side_by_side(writings, *settings)

        def compare_views(*settings):
            yield from side_by_side(views_or_not, *settings)

        inputs = [prompt, writing, steps, cutouts, augment, seed, model, image, wanted, wanted_weight]
        inputs += [variation, saturation, noise]
        outputs = [picture, views, status, charts, numbers, compared, table, note, kept, result]
        main = event(clip_synthesis)
        private = {"api_visibility": "private", "show_progress": "hidden", **COMPUTE}
        quick = {"api_visibility": "private", "show_progress": "hidden"}
        ran = gr.on(
            [start.click, prompt.submit], main, inputs, outputs, api_name=TAB, show_progress="hidden", **COMPUTE
        )
        opening = tab.select(event(_first(clip_synthesis)), [kept, *inputs], outputs, **private)
        went_on = on.click(event(continued), [kept, *inputs], outputs, **private)
        all_of_them = all_writings.click(event(compare), inputs, outputs, **private)
        two_of_them = both_views.click(event(compare_views), inputs, outputs, **private)
        exampled = example.input(light(_example), example, prompt, **quick)
        again = exampled.success(main, inputs, outputs, **private)
        changed = menu.fetched.success(main, inputs, outputs, **private)

        def exported(kept, numbers):
            if kept is None:
                raise ValueError(say("There is no run to export yet. Press Start first."))
            request, looks = kept
            places = sorted({round(i * (len(looks) - 1) / 5) for i in range(6)})
            frames = [looks[n].picture for n in places]
            captions = [say("step {n}", n=looks[n].iteration) for n in places]
            settings = {k: v for k, v in vars(request).items() if not isinstance(v, Image.Image)}
            return common.export_files(files, TAB, drawing.strip(frames, captions, 240), settings, numbers or {})

        save.click(light(exported), [kept, result], files, **quick)
        with below:
            common.stop_button(TAB, ran, opening, went_on, all_of_them, two_of_them, again, changed)
    return main, inputs, outputs


def _picture(name: str, label: str) -> pictures.Picture:
    return pictures.Picture(
        label=t(label),
        elem_id=f"{TAB}-{name}",
        type="filepath",
        image_mode=None,
        format="png",
        sources=["upload", "clipboard"],
        height=200,
    )


def _first(clip_synthesis):
    """What runs when the tab is selected: once, then what is on show stays."""

    def run(kept, *settings):
        if kept is None:
            yield from clip_synthesis(*settings)

    return run


def _example(text: object) -> str:
    return common.choice(say("The example"), text, EXAMPLES)


def _sheet(views: np.ndarray) -> Image.Image:
    """Up to 16 views in rows of four."""
    columns = min(4, len(views))
    rows = -(-len(views) // columns)
    side = views.shape[1]
    sheet = Image.new("RGB", (columns * (side + 4) - 4, rows * (side + 4) - 4), (128, 128, 128))
    for place, view in enumerate(views):
        sheet.paste(Image.fromarray(view), (place % columns * (side + 4), place // columns * (side + 4)))
    return sheet


def _progress(look) -> str:
    left = look.seconds / look.iteration * (look.steps - look.iteration)
    return say("Step {n} of {count}, {left} s left", n=look.iteration, count=look.steps, left=f"{left:.0f}")


def _curves(looks: list, real) -> str:
    x = [look.iteration for look in looks]
    lines = [
        drawing.Line(say("the CLIP that is followed"), x, [look.similarity for look in looks]),
        drawing.Line(say("another CLIP, never followed"), x, [look.similarity_held_out for look in looks]),
    ]
    levels = []
    if real is not None:
        levels = [(real.similarity_held_out[0], say("real pictures, the other CLIP"))]
    chart = drawing.curves(
        lines, say("step"), say("cosine of picture and prompt"), levels=levels, title=say("Who is convinced?")
    )
    return f'<div class="charts">{chart}</div>'


def _facts(result, real) -> str:
    last = result.looks[-1]

    def beside(values) -> str:
        if values is None:
            return ""
        mean, low, high = values
        return say("real pictures {mean} ({low} – {high})", mean=f"{mean:.2f}", low=f"{low:.2f}", high=f"{high:.2f}")

    return drawing.facts(
        [
            (say("the CLIP that is followed"), f"{last.similarity:.3f}", beside(real and real.similarity)),
            (
                say("another CLIP, never followed"),
                f"{last.similarity_held_out:.3f}",
                beside(real and real.similarity_held_out),
            ),
            (say("gap"), f"{last.gap:+.3f}", say("what only the followed one believes")),
            (
                say("rank among 100 captions"),
                f"{result.rank_held_out}",
                say("by the other CLIP; best: {caption}", caption=result.captions[0]),
            ),
            (say("after a slight blur"), f"{result.after_blur:.0%}", say("of the similarity is left")),
            (
                say("fine detail"),
                f"{result.high_frequency:.1%}",
                say("of the energy; real pictures {share}", share=f"{real.high_frequency:.1%}") if real else "",
            ),
            (say("speed"), f"{result.iterations_per_second:.1f}", say("steps a second")),
        ]
    )


def _table(done: list, budget: int) -> str:
    head = [say("{n} steps each", n=budget), say("followed"), say("other CLIP"), say("rank of 100"), say("after blur")]
    rows = [
        [
            name,
            f"{look.similarity:.3f}",
            f"{look.similarity_held_out:.3f}",
            str(result.rank_held_out),
            f"{result.after_blur:.0%}",
        ]
        for name, look, result in done
    ]
    return drawing.grid_table(head, rows)


def _note(request) -> str:
    return say(
        "{model} is followed, {judge} judges. Both were trained on {seen}.",
        model=request.model,
        judge=request.judge,
        seen=MODELS[request.model].seen,
    )


def _numbers(result) -> dict:
    last = result.looks[-1]
    return {
        "similarity": last.similarity,
        "similarity_held_out": last.similarity_held_out,
        "gap": last.gap,
        "rank_held_out": result.rank_held_out,
        "after_blur": result.after_blur,
        "high_frequency": result.high_frequency,
        "iterations_per_second": result.iterations_per_second,
    }


def numbers_of(request, result, real) -> dict:
    """Everything measured, as JSON."""
    return {
        **_numbers(result),
        "steps": result.looks[-1].iteration,
        "parametrization": request.parametrization,
        "model": request.model,
        "judge": request.judge,
        "loss": [look.loss for look in result.looks],
        "iterations": [look.iteration for look in result.looks],
        "similarities": [look.similarity for look in result.looks],
        "similarities_held_out": [look.similarity_held_out for look in result.looks],
        "parts": result.looks[-1].parts,
        "real": None if real is None else {"similarity": real.similarity, "held_out": real.similarity_held_out},
    }
