"""Tab 6: an image made out of CLIP's opinion. Wraps pipelines/clip_synthesis.py."""

from collections.abc import Callable
from dataclasses import replace

import gradio as gr
import numpy as np
from PIL import Image

from demos import common, drawing, lessons, pictures
from demos.common import COMPUTE, event, heavy, heavy_steps, lazily, light, say, t
from pipelines.errors import UserError
from pipelines.registry import MODELS

TAB = "clip_synthesis"
EXAMPLES = ("a cat", "a red car", "a frog on grass", "a yellow crown", "a cat:1 | a dog:-0.5", "an elephant in snow")
WRITINGS = {  # how the picture is written down
    "latent": "an autoencoder's latents",
    "pyramid": "coarse to fine (pyramid)",
    "fourier": "waves (Fourier)",
    "pixels": "raw pixels",
}
MOST_STEPS, MOST_VIEWS, MOST_TEXT = 500, 64, 2000
COMPARED = 80  # most steps of each picture of a comparison
FOLLOWED = "storybook-clip-b"
LONGEST = 1800  # seconds
# Beside the first picture of a comparison: charts, facts, the row, table, note, run, JSON.
UNJUDGED = (None, None, None, None, None, False, None)


def build(pipeline=lazily("pipelines.clip_synthesis")) -> tuple:  # noqa: B008 (a name, nothing is imported)
    """Lay out the tab. Returns its main event as (handler, inputs, outputs), for the page to run when it opens."""
    run = heavy_steps(lambda request: pipeline.run(request), LONGEST)
    models = sorted((n for n in common.model_names("openclip") if MODELS[n].scorer), key=lambda n: n != FOLLOWED)
    autoencoders = common.model_names("autoencoder")
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
                    value="latent",
                    label=t("The picture is written in"),
                    elem_id=f"{TAB}-parametrization",
                )
                cutouts = common.Slider(
                    1, MOST_VIEWS, 8, step=1, label=t("Views at each step"), elem_id=f"{TAB}-cutouts"
                )
                augment = common.Checkbox(
                    True, label=t("Show CLIP varied views, not the plain picture"), elem_id=f"{TAB}-augment"
                )
                steps = common.Slider(5, MOST_STEPS, 80, step=5, label=t("Steps"), elem_id=f"{TAB}-steps")
                seed = common.Number(42, label=t("Seed"), precision=0, elem_id=f"{TAB}-seed")
                with gr.Row():
                    start = gr.Button(t("Start"), variant="primary", elem_id=f"{TAB}-start", min_width=110)
                    on = gr.Button(t("Go on"), elem_id=f"{TAB}-continue", min_width=110)
                with gr.Row():
                    all_writings = gr.Button(t("Compare all handwritings"), elem_id=f"{TAB}-compare", min_width=150)
                    both_views = gr.Button(t("With and without views"), elem_id=f"{TAB}-views-or-not", min_width=150)
                menu = common.model_menu(TAB, models)
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
                    autoencoder = common.Dropdown(
                        autoencoders,
                        value=autoencoders[0],
                        label=t("Autoencoder whose latents are written"),
                        elem_id=f"{TAB}-autoencoder",
                    )
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
        kept = gr.State(None)  # (request, shown steps) of what is on show; False: a comparison; None: nothing yet

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
            autoencoder,
        ):
            """The request, every value checked."""
            name = common.choice(say("The model"), model, models)
            autoencoder = common.choice(say("The autoencoder"), autoencoder, autoencoders)
            for each in (name, MODELS[name].scorer, *[autoencoder] * (writing == "latent")):
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
                autoencoder,
            )

        def real_ones(request):
            """What real pictures of the main prompt score; None where the world cannot draw it."""
            prompt = pipeline.main_prompt(pipeline.parse(request.prompt))
            return truth_of(Image.new("RGB", (1, 1)), prompt, request.model, request.judge)

        def followed(request, before=()):
            """One run: what is shown at every step, on top of the steps `before`."""
            real, shown, last = real_ones(request), list(before), before[-1].iteration if before else 0
            for step in run(request):
                if step.look is None:
                    yield gr.skip(), gr.skip(), _progress(step), *(gr.skip(),) * 7
                    continue
                shown.append(replace(step, iteration=step.iteration + last))
                told = (
                    _curves(shown, real),
                    _facts(shown[-1], real, step.steps + last),
                    gr.Image(visible=False),
                    "",
                    _note(request),
                    (request, _without_views(shown)),
                    numbers_of(request, shown, real),
                )
                drawn = drawing.show(step.look.picture)[0], drawing.show(_sheet(step.look.views))[0]
                yield *drawn, _progress(step), *told
            yield *drawn, "", *told

        def clip_synthesis(
            prompt,
            parametrization="latent",
            steps=80,
            cutouts=8,
            augment=True,
            seed=42,
            model=FOLLOWED,
            image=None,
            wanted=None,
            wanted_weight=0.5,
            variation=0,
            saturation=0,
            noise=0.1,
            autoencoder="storybook-autoencoder",
        ):
            settings = (steps, cutouts, augment, seed, model, image, wanted, wanted_weight, variation, saturation)
            yield from followed(asked(prompt, parametrization, *settings, noise, autoencoder))

        def continued(kept, *settings):
            """As many steps again, from the picture on show."""
            if not kept:
                raise UserError(say("There is no picture yet to go on with. Press Start first."))
            yield from followed(replace(asked(*settings), image=kept[1][-1].look.picture), kept[1])

        def side_by_side(vary: Callable, *settings):
            """The same prompt, seed and budget under several settings, in one row beside a real picture."""
            first = asked(*settings)
            first = replace(first, steps=min(first.steps, COMPARED))
            real, done = real_ones(first), []
            for name, request in vary(first):
                for step in run(request):
                    told = f"**{name}**: {_progress(step)}"
                    if step.look is None:
                        yield gr.skip(), gr.skip(), told, *(gr.skip(),) * 7
                        continue
                    last = step
                    drawn = drawing.show(step.look.picture)[0], drawing.show(_sheet(step.look.views))[0]
                    yield *drawn, told, *((gr.skip(),) * 7 if done else UNJUDGED)
                done.append((name, last))
                row = [(name, step.look.picture) for name, step in done]
                row += [(say("a real picture"), real.example)] if real else []
                side_by_side = drawing.strip([drawn for _, drawn in row], [name for name, _ in row], 220)
                yield (
                    *(gr.skip(), gr.skip(), "", "", ""),
                    gr.update(value=side_by_side, visible=True),
                    _table(done, real, first.steps),
                    _note(first),
                    False,
                    {name: _numbers(step) for name, step in done},
                )

        def writings(request) -> list:
            return [(say(text), replace(request, parametrization=name)) for name, text in WRITINGS.items()]

        def views_or_not(request) -> list:
            ways = ((say("with views"), True), (say("without"), False))
            return [(name, replace(request, augment=augment)) for name, augment in ways]

        def compare(*settings):
            yield from side_by_side(writings, *settings)

        def compare_views(*settings):
            yield from side_by_side(views_or_not, *settings)

        inputs = [prompt, writing, steps, cutouts, augment, seed, model, image, wanted, wanted_weight]
        inputs += [variation, saturation, noise, autoencoder]
        outputs = [picture, views, status, charts, numbers, compared, table, note, kept, result]
        main = event(clip_synthesis, LONGEST)
        private = {"api_visibility": "private", "show_progress": "hidden", **COMPUTE}
        quick = {"api_visibility": "private", "show_progress": "hidden"}
        ran = gr.on(
            [start.click, prompt.submit], main, inputs, outputs, api_name=TAB, show_progress="hidden", **COMPUTE
        )
        opening = tab.select(event(_first(clip_synthesis), LONGEST), [kept, *inputs], outputs, **private)
        went_on = on.click(event(continued, LONGEST), [kept, *inputs], outputs, **private)
        all_of_them = all_writings.click(event(compare, LONGEST), inputs, outputs, **private)
        two_of_them = both_views.click(event(compare_views, LONGEST), inputs, outputs, **private)
        exampled = example.input(light(_example), example, prompt, **quick)
        again = exampled.success(main, inputs, outputs, **private)
        changed = menu.fetched.success(main, inputs, outputs, **private)

        def exported(kept, numbers):
            if not kept:
                raise UserError(say("There is no single run to export on show. Press Start first."))
            request, shown = kept
            chosen = [shown[place] for place in sorted({round(i * (len(shown) - 1) / 5) for i in range(6)})]
            captions = [say("step {n}", n=step.iteration) for step in chosen]
            figure = drawing.strip([step.look.picture for step in chosen], captions, 240)
            settings = {k: v for k, v in vars(request).items() if not isinstance(v, Image.Image)}
            return common.export_files(files, TAB, figure, settings, numbers or {})

        save.click(light(exported), [kept, result], files, **quick)
        runs = (ran, opening, went_on, all_of_them, two_of_them, again, changed)
        for each in runs:
            each.failure(lambda: say("Stopped."), None, status, **quick)
        common.belong_to(result, files)
        with below:
            common.stop_button(TAB, *runs, status=status)
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


def _without_views(shown: list) -> list:
    """Views are large, and of old steps nobody asks for them again."""
    return [replace(step, look=replace(step.look, views=step.look.views[:0])) for step in shown]


def _progress(step) -> str:
    left = step.seconds / step.iteration * (step.steps - step.iteration)
    return say("Step {n} of {count}, {left} s left", n=step.iteration, count=step.steps, left=f"{left:.0f}")


def _curves(shown: list, real) -> str:
    x = [step.iteration for step in shown]
    lines = [
        drawing.Line(say("the CLIP that is followed"), x, [step.look.similarity for step in shown]),
        drawing.Line(say("another CLIP, never followed"), x, [step.look.similarity_held_out for step in shown]),
    ]
    levels = [] if real is None else [(real.similarity_held_out[0], say("real pictures, the other CLIP"))]
    chart = drawing.curves(
        lines, say("step"), say("cosine of picture and prompt"), levels=levels, title=say("Who is convinced?")
    )
    return f'<div class="charts">{chart}</div>'


def _facts(step, real, planned: int) -> str:
    look = step.look

    def beside(values) -> str:
        if values is None:
            return ""
        mean, low, high = values
        return say("real pictures {mean} ({low} – {high})", mean=f"{mean:.2f}", low=f"{low:.2f}", high=f"{high:.2f}")

    return drawing.facts(
        [
            (say("the CLIP that is followed"), f"{look.similarity:.3f}", beside(real and real.similarity)),
            (
                say("another CLIP, never followed"),
                f"{look.similarity_held_out:.3f}",
                beside(real and real.similarity_held_out),
            ),
            (say("gap"), f"{look.gap:+.3f}", say("what only the followed one believes")),
            (
                say("rank among 100 captions"),
                f"{look.rank_held_out}",
                say("by the other CLIP; best: {caption}", caption=look.captions[0]),
            ),
            (say("after a slight blur"), _left(look), say("of the similarity is left")),
            (
                say("fine detail"),
                f"{look.high_frequency:.1%}",
                say("of the energy; real pictures {share}", share=f"{real.high_frequency:.1%}") if real else "",
            ),
            (say("measured after step"), f"{step.iteration} / {planned}", ""),
            (say("speed"), f"{step.per_second:.1f}", say("steps a second")),
        ]
    )


def _left(look) -> str:
    return "–" if look.after_blur is None else f"{look.after_blur:.0%}"


def _table(done: list, real, budget: int) -> str:
    head = [say("{n} steps each", n=budget), say("followed"), say("other CLIP"), say("rank of 100"), say("after blur")]
    head += [say("fine detail")]
    rows = [
        [
            name,
            f"{step.look.similarity:.3f}",
            f"{step.look.similarity_held_out:.3f}",
            f"{step.look.rank_held_out}",
            _left(step.look),
            f"{step.look.high_frequency:.0%}",
        ]
        for name, step in done
    ]
    if real is not None:
        similar = [f"{values[0]:.3f}" for values in (real.similarity, real.similarity_held_out)]
        rows.append([say("real pictures, mean"), *similar, "", "", f"{real.high_frequency:.0%}"])
    return drawing.grid_table(head, rows)


def _note(request) -> str:
    return say(
        "{model} is followed, {judge} judges. They were trained on {seen}.",
        model=request.model,
        judge=request.judge,
        seen=MODELS[request.model].seen,
    )


def _numbers(step) -> dict:
    look = step.look
    return {
        "similarity": look.similarity,
        "similarity_held_out": look.similarity_held_out,
        "gap": look.gap,
        "rank_held_out": look.rank_held_out,
        "after_blur": look.after_blur,
        "high_frequency": look.high_frequency,
        "iterations_per_second": step.per_second,
    }


def numbers_of(request, shown: list, real) -> dict:
    """Everything measured, as JSON."""
    return {
        **_numbers(shown[-1]),
        "steps": shown[-1].iteration,
        "parametrization": request.parametrization,
        "model": request.model,
        "judge": request.judge,
        "captions": shown[-1].look.captions,
        "iterations": [step.iteration for step in shown],
        "loss": [step.loss for step in shown],
        "similarities": [step.look.similarity for step in shown],
        "similarities_held_out": [step.look.similarity_held_out for step in shown],
        "parts": shown[-1].parts,
        "real": None if real is None else {"similarity": real.similarity, "held_out": real.similarity_held_out},
    }
