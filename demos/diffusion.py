"""Tab 5: a picture out of noise, step by step, and the object that goes missing. Wraps pipelines/diffusion.py."""

import io
from dataclasses import replace

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image

from demos import common, drawing, lessons, pictures, seeds
from demos.common import COMPUTE, event, heavy, heavy_steps, lazily, light, say, t
from demos.film import Film, film_of, peaks_chart
from demos.verdicts import boxed, cost, facts_of, note_of, numbers_of, progress, verdict_table, versions
from pipelines import presence
from pipelines.errors import UserError
from pipelines.phrases import distinct
from pipelines.registry import MODELS

TAB = "diffusion"
EXAMPLES = ("a cat and a frog", "a bear and a turtle", "a lion with a crown", "a monkey and a red car")
EXAMPLES += ("a green bowl and a red car", "an elephant", "a blue balloon at night")
FIRST_SUBJECTS = ["1", "4"]  # places of "cat" and "frog": nothing is imported before the page is up
METHODS = {"none": "plain", "attend-and-excite": "Attend-and-Excite"}
SAMPLERS = {"ddpm": "DDPM", "ddim": "DDIM", "euler": "Euler", "dpm++": "DPM++ 2M"}
MOST_STEPS, MOST_SEEDS, MOST_GUIDANCE, MOST_SCALE = 100, 16, 30, 100
MOST_TEXT = 2000
# Beside the picture of a run that is not finished: verdict, strip, film, charts, numbers, note, recording, files, JSON.
UNJUDGED = (None, None, None, None, None, None, False, [], None)
USUAL = MODELS["storybook-diffusion"]  # a visitor's first model, and what it is usually asked for


def build(
    pipeline=lazily("pipelines.diffusion"),  # noqa: B008 (a name, nothing is imported)
    detection=lazily("pipelines.detection"),  # noqa: B008
    recording=lazily("pipelines.recording"),  # noqa: B008
    prompts=lazily("pipelines.prompts"),  # noqa: B008
) -> tuple:
    """Lay out the tab. Returns its main event as (handler, inputs, outputs), for the page to run when it opens."""
    run = heavy_steps(lambda request, previews: pipeline.run(request, previews))
    film = heavy(lambda result, model: pipeline.film(result, model))

    with gr.Tab(t("5 · Diffusion"), id=TAB, elem_id=f"tab-{TAB}") as tab:
        gr.Markdown(
            t("**Layout is decided in the first steps, texture later; and a word can lose the fight for pixels.**")
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                prompt = common.Textbox(
                    EXAMPLES[0],
                    label=t("What to draw"),
                    max_length=MOST_TEXT,
                    lines=1,
                    elem_id=f"{TAB}-prompt",
                    info=t("24 things, 11 colours, 5 places; press Enter"),
                )
                example = common.Dropdown(
                    list(EXAMPLES), value=None, label=t("or one of these"), elem_id=f"{TAB}-example"
                )
                chips = common.CheckboxGroup(
                    [(word, str(place)) for place, word in enumerate(EXAMPLES[0].split())],
                    value=FIRST_SUBJECTS,
                    label=t("Subjects: what the picture must show"),
                    info=t("Found by themselves; click to correct"),
                    elem_id=f"{TAB}-chips",
                )
                subjects = common.Textbox("", visible="hidden", label=t("Subjects"), elem_id=f"{TAB}-subjects")
                method = common.Radio(
                    [(t(text), name) for name, text in METHODS.items()],
                    value="none",
                    label=t("Method"),
                    elem_id=f"{TAB}-method",
                )
                draw_button = gr.Button(t("Draw"), variant="primary", elem_id=f"{TAB}-draw")
                with gr.Row():
                    count_button = gr.Button(t("Count what goes missing"), elem_id=f"{TAB}-count", min_width=160)
                    many = common.Slider(
                        1, MOST_SEEDS, 8, step=1, label=t("over seeds"), elem_id=f"{TAB}-many", min_width=130
                    )
                steps = common.Slider(1, MOST_STEPS, USUAL.steps, step=1, label=t("Steps"), elem_id=f"{TAB}-steps")
                guidance = common.Slider(
                    0,
                    MOST_GUIDANCE,
                    USUAL.guidance,
                    step=0.5,
                    label=t("Guidance"),
                    info=t("1: the prompt alone"),
                    elem_id=f"{TAB}-guidance",
                )
                seed = common.Number(42, label=t("Seed"), precision=0, elem_id=f"{TAB}-seed")
                menu = common.model_menu(TAB, common.model_names("stable_diffusion"))
                model = menu.choice
                with gr.Accordion(t("Begin from a picture"), open=False):
                    image = pictures.Picture(
                        label=t("Picture"),
                        elem_id=f"{TAB}-image",
                        type="filepath",
                        image_mode=None,
                        format="png",
                        sources=["upload", "clipboard"],
                        height=220,
                    )
                    scene = gr.Button(t("A storybook scene"), size="sm", elem_id=f"{TAB}-scene")
                    strength = common.Slider(
                        0.05,
                        1,
                        0.6,
                        step=0.05,
                        label=t("Strength"),
                        info=t("How far back to noise"),
                        elem_id=f"{TAB}-strength",
                    )
                with gr.Accordion(t("More settings"), open=False):
                    negative = common.Textbox(
                        "", label=t("Negative prompt"), max_length=MOST_TEXT, elem_id=f"{TAB}-negative"
                    )
                    sampler = common.Radio(
                        [(text, name) for name, text in SAMPLERS.items()],
                        value=USUAL.sampler,
                        label=t("Sampler"),
                        info=t("DDPM adds fresh noise in every step"),
                        elem_id=f"{TAB}-sampler",
                    )
                    scale = common.Slider(
                        0,
                        MOST_SCALE,
                        20,
                        step=1,
                        label=t("Size of a nudge (Attend-and-Excite)"),
                        elem_id=f"{TAB}-scale",
                    )
                    refine = common.Checkbox(
                        True, label=t("Repeat until the thresholds are reached"), elem_id=f"{TAB}-refine"
                    )
                below = gr.Column()
            with gr.Column(scale=8, min_width=320):
                status = gr.Markdown(elem_id=f"{TAB}-status")
                with gr.Row():
                    picture = pictures.panel(TAB, "picture", "The picture, and what the detector finds")
                    other = pictures.panel(TAB, "other", "With Attend-and-Excite")
                verdict = gr.HTML(elem_id=f"{TAB}-verdict")
                strip = gr.HTML(elem_id=f"{TAB}-strip")
                player = Film(elem_id=f"{TAB}-film")
                charts = gr.HTML(elem_id=f"{TAB}-charts")
                numbers = gr.HTML(elem_id=f"{TAB}-facts")
                note = gr.Markdown(elem_id=f"{TAB}-note", elem_classes="note")
                with gr.Accordion(t("Recorded runs, numbers as JSON, export"), open=False):
                    with gr.Row():
                        save = gr.Button(t("Save this run"), elem_id=f"{TAB}-save")
                        export = gr.Button(t("Export figure and numbers"), elem_id=f"{TAB}-export")
                    files = gr.File(label=t("Files"), file_count="multiple", interactive=False, elem_id=f"{TAB}-files")
                    opened = gr.File(
                        label=t("Open a recorded run"), file_count="single", type="filepath", elem_id=f"{TAB}-open"
                    )
                    result = gr.JSON(label=t("Numbers"), elem_id=f"{TAB}-json")
        lessons.lesson(TAB)
        kept = gr.State(None)  # the recording on show; False while a run is not finished, None before the first

        def asked(
            prompt, negative, image, strength, steps, guidance, method, subjects, seed, model, sampler, scale, refine
        ):
            """The request, every value checked."""
            given = None if image is None else pictures.read_picture(image).picture
            name = common.choice(say("The model"), model, common.model_names("stable_diffusion"))
            common.at_hand(name)
            return pipeline.Request(
                common.words(say("The prompt"), prompt, MOST_TEXT),
                common.words(say("The negative prompt"), negative, MOST_TEXT),
                given,
                common.number(say("The strength"), strength, 0.05, 1),
                common.whole(say("Steps"), steps, 1, MOST_STEPS),
                common.number(say("Guidance"), guidance, 0, MOST_GUIDANCE),
                common.choice(say("The method"), method, list(METHODS)),
                common.words(say("The subjects"), subjects, MOST_TEXT),
                common.whole(say("The seed"), seed, 0, common.SEED_LIMIT),
                name,
                common.choice(say("The sampler"), sampler, list(SAMPLERS)),
                common.number(say("The size of a nudge"), scale, 0, MOST_SCALE),
                common.flag(say("Repeating until the thresholds are reached"), refine),
            )

        def judged(drawn: Image.Image, subjects: list, model: str) -> presence.Verdict | None:
            """What the model's detector says; None where it has no words for it or is not on this computer."""
            name = MODELS[model].detector
            if not subjects or not name or lazily("pipelines.hub").availability(name) == "download":
                return None
            wanted = [presence.wanted_of(subject.noun, subject.adjectives) for subject in subjects]
            try:
                return presence.examine(wanted, name, heavy(lambda phrases: detection.encode(drawn, phrases, name)))
            except UserError:  # a subject that the detector has no word for
                return None

        def diffusion(
            prompt,
            negative_prompt="",
            image=None,
            strength=0.6,
            steps=USUAL.steps,
            guidance_scale=USUAL.guidance,
            method="none",
            subjects="",
            seed=42,
            model=USUAL.name,
            sampler=USUAL.sampler,
            scale=20,
            refine=True,
        ):
            settings = (prompt, negative_prompt, image, strength, steps, guidance_scale, method, subjects)
            request = asked(*settings, seed, model, sampler, scale, refine)
            for step in run(request, True):
                if isinstance(step, pipeline.Step):
                    yield drawing.show(step.picture)[0], gr.Image(visible=False), progress(step), *UNJUDGED
            done = step
            taken = recording.record(request, done, film(done, request.model))
            said = judged(done.picture, done.prompt.subjects, request.model)
            score = _score(request, done)
            yield (
                boxed(done.picture, said, taken.names),
                gr.Image(visible=False),
                "",
                verdict_table([("", said)], taken.names),
                "",
                film_of(taken),
                f'<div class="charts">{peaks_chart([("", taken)], request.method != "none" and request.refine)}</div>',
                facts_of(taken, said, score),
                note_of(request.model, done, said),
                taken,
                [],
                numbers_of(taken, said, score),
            )

        def _score(request, done) -> float | None:
            judge = MODELS[request.model].scorer
            if not judge or lazily("pipelines.hub").availability(judge) == "download":
                return None
            try:
                return heavy(lambda: pipeline.clip_score(done.picture, request.prompt, judge))()
            except UserError:
                return None

        def count(many, *settings):
            """Plain and excited for one seed after another."""
            many = common.whole(say("The number of seeds"), many, 1, MOST_SEEDS)
            first = asked(*settings)
            pairs: list[seeds.Pair] = []
            before = None  # the excited picture of the last seed
            for place in range(many):
                drawn, runs = {}, {}
                now = replace(first, seed=min(first.seed + place, common.SEED_LIMIT))
                for kind, way in zip(seeds.NAMES, ("none", "attend-and-excite"), strict=True):
                    request = replace(now, method=way)
                    for step in run(request, True):
                        if isinstance(step, pipeline.Step):
                            shown = gr.update(value=drawing.show(step.picture)[0], visible=True)
                            grey = gr.update(value=before, visible=before is not None)
                            both = (shown, grey) if kind == "plain" else (gr.skip(), shown)
                            told = say("Seed {n} of {count}, {kind}. ", n=place + 1, count=many, kind=kind)
                            verdict, strip, *rest, numbers = UNJUDGED
                            if pairs:  # what is counted so far stays: it names its seeds
                                strip = numbers = gr.skip()
                            yield *both, told + progress(step), verdict, strip, *rest, numbers
                    if not step.prompt.subjects:
                        pipeline.chosen_subjects(step.prompt)
                    said = judged(step.picture, step.prompt.subjects, request.model)
                    if said is None:
                        raise UserError(
                            say("No detector on this computer can judge these subjects, so there is nothing to count.")
                        )
                    drawn[kind] = seeds.Drawn(step.picture, said, step.seconds)
                    runs[kind] = (request, step)
                pairs.append(seeds.Pair(now.seed, drawn["plain"], drawn["excited"]))
                names = distinct([subject.phrase for subject in step.prompt.subjects])
                before = drawing.greyed(drawing.show(drawn["excited"].picture)[0])
                taken = {
                    kind: recording.record(request, step, film(step, request.model))
                    for kind, (request, step) in runs.items()
                }
                both = [(say(kind), taken[kind]) for kind in seeds.NAMES]
                yield (
                    boxed(drawn["plain"].picture, drawn["plain"].verdict, names),
                    gr.update(value=boxed(drawn["excited"].picture, drawn["excited"].verdict, names), visible=True),
                    say("Seed {n} of {count} done.", n=place + 1, count=many),
                    verdict_table([(say(k), drawn[k].verdict) for k in seeds.NAMES], names),
                    seeds.strip(pairs, names),
                    film_of(taken["excited"]),
                    f'<div class="charts">{peaks_chart(both, first.refine)}</div>',
                    cost(pairs),
                    note_of(first.model, step, drawn["excited"].verdict),
                    taken["excited"],
                    [],
                    seeds.numbers(pairs, names),
                )

        inputs = [
            prompt,
            negative,
            image,
            strength,
            steps,
            guidance,
            method,
            subjects,
            seed,
            model,
            sampler,
            scale,
            refine,
        ]
        outputs = [picture, other, status, verdict, strip, player, charts, numbers, note, kept, files, result]
        main = event(diffusion)
        shown = {"show_progress": "hidden"}
        private = {"api_visibility": "private", **COMPUTE}
        quick = {"api_visibility": "private", "show_progress": "hidden"}
        triggers = [draw_button.click, prompt.submit]
        drew = gr.on(triggers, main, inputs, outputs, api_name=TAB, **shown, **COMPUTE)
        opening = tab.select(event(_first(diffusion)), [kept, *inputs], outputs, **private, **shown)
        counted = count_button.click(event(count, seconds=1800), [many, *inputs], outputs, **private, **shown)

        read = light(_chosen)
        gr.on([prompt.input, prompt.change], read, prompt, [chips, subjects], trigger_mode="always_last", **quick)
        chips.input(light(lambda text, places: _subjects(prompts, text, places)), [prompt, chips], subjects, **quick)
        exampled = example.input(light(_example), example, [prompt, chips, subjects], **quick)
        again = exampled.success(main, inputs, outputs, **private, **shown)
        settled = menu.fetched.success(light(_usual), model, [steps, guidance, sampler], **quick)
        changed = settled.success(main, inputs, outputs, **private, **shown)
        scene.click(
            light(lambda: pictures.scene_picture({"text": "a cat and a red car on grass", "seed": 0})[0]),
            None,
            image,
            **quick,
        )

        def saved(run):
            if not run:
                raise UserError(say("There is no finished run to save yet. Press Draw first."))
            name = recording.name_of(run)
            return [save_bytes_to_cache(recording.dump(run), name, files.GRADIO_CACHE)]

        def exported(run, numbers):
            if not run:
                raise UserError(say("There is no finished run to export yet. Press Draw first."))
            frames = [Image.open(io.BytesIO(run.frames["clean"][n])) for n in _spread(len(run.moments), 6)]
            panels = [*frames, Image.open(io.BytesIO(run.picture))]
            captions = [say("step {n}", n=n + 1) for n in _spread(len(run.moments), 6)] + [say("result")]
            figure = drawing.strip(panels, captions, 240)
            return common.export_files(files, TAB, figure, run.settings, numbers or {})

        def reopened(path):
            if path is None:
                return (gr.skip(),) * 12
            run = recording.load(path)
            told = say("Recorded: {prompt}", prompt=str(run.settings.get("prompt", ""))[:200])
            return (
                Image.open(io.BytesIO(run.picture)),
                gr.Image(visible=False),
                told,
                "",
                "",
                film_of(run),
                f'<div class="charts">{peaks_chart([("", run)], run.settings.get("method") != "none")}</div>',
                facts_of(run, None, None),
                say("A recorded run, shown without a model: {versions}.", versions=versions(run)),
                run,
                [],
                numbers_of(run, None, None),
            )

        save.click(light(saved), kept, files, **quick)
        export.click(light(exported), [kept, result], files, **quick)
        opened.upload(light(reopened), opened, outputs, **quick)
        runs = (drew, opening, counted, again, changed)
        for each in runs:
            each.failure(lambda *held: say("Stopped.") + _held(*held), [kept, result], status, **quick)
        with below:
            common.stop_button(TAB, *runs, status=status, held=_held, holding=[kept, result])
    return main, inputs, outputs


def _held(run, numbers: dict | None) -> str:
    """What the screen holds when nothing goes on."""
    if run is None:
        return " " + say("Nothing is drawn yet.")
    told = say("What is shown is a finished run.")
    if run is False:
        told = say("The picture is as far as this run came: nothing has judged it, and there is nothing to save.")
    if numbers and "seeds" in numbers:
        told += " " + say("Counted are the {count} seeds that were finished.", count=len(numbers["seeds"]))
    return " " + told


def _first(diffusion):
    """What runs when the tab is selected: once, then what is on show stays."""

    def run(kept, *settings):
        if kept is None:
            yield from diffusion(*settings)

    return run


def _spread(count: int, most: int) -> list[int]:
    return sorted({round(i * (count - 1) / max(1, most - 1)) for i in range(most)})


# ----------------------------------------------------------------------------------------------------- words as chips


def _usual(name: object) -> tuple[int, float, str]:
    """Steps, guidance and sampler that suit this model."""
    spec = MODELS[common.choice(say("The model"), name, common.model_names("stable_diffusion"))]
    return spec.steps, spec.guidance, spec.sampler


def _chosen(text: object) -> tuple:
    sketch = lazily("pipelines.prompts").sketch(common.words(say("The prompt"), text, MOST_TEXT))
    choices = [(word.text, str(place)) for place, word in enumerate(sketch.words)]
    return common.CheckboxGroup(choices, value=[str(subject.word) for subject in sketch.subjects]), ""


def _subjects(prompts, text: object, places: object) -> str:
    """The line of subjects for these words, each with its place: found phrases keep their adjectives."""
    sketch = prompts.sketch(common.words(say("The prompt"), text, MOST_TEXT))
    known = {str(place): place for place in range(len(sketch.words))}
    if not isinstance(places, list) or not all(isinstance(place, str) and place in known for place in places):
        raise UserError(say("The subjects must be words of the prompt."))
    names = {place: word.text for place, word in enumerate(sketch.words)}
    names |= {subject.word: subject.phrase for subject in sketch.subjects}
    return ", ".join(f"{names[place]} #{place + 1}" for place in sorted(known[p] for p in places))


def _example(text: object) -> tuple:
    text = common.choice(say("The example"), text, EXAMPLES)
    return (text, *_chosen(text))
