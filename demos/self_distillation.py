"""Tab 1: the student guesses the teacher's word for every patch it cannot see. Wraps pipelines/self_distillation.py."""

import math

import gradio as gr
import numpy as np

from demos import common, drawing, lessons, pictures
from demos.common import COMPUTE, RULES, event, heavy, lazily, light, say, t
from demos.pictures import Given

TAB = "self_distillation"
BREAKS = {  # what each button sets: (teacher temperature, student temperature, centring)
    "Healthy": (0.07, 0.1, True),
    "No centring": (0.07, 0.1, False),
    "Too sharp": (0.01, 0.1, True),
    "Equal temperatures": (0.5, 0.5, True),
}


def build(pipeline=lazily("pipelines.self_distillation")) -> tuple:  # noqa: B008 (a name, nothing is imported)
    """Lay out the tab. Returns its main event as (handler, inputs, outputs), for the page to run when it opens."""
    encode = common.Remembered(heavy(lambda picture, *settings: pipeline.encode(picture, *settings)))

    with gr.Tab(t("1 · Self-distillation"), id=TAB, elem_id=f"tab-{TAB}") as tab:
        gr.Markdown(
            t(
                "**The teacher sees everything, the student half; "
                "it must guess the teacher's word for each hidden patch.**"
            )
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                controls = pictures.picture_controls(TAB, seed=8)
                image = controls.image
                teacher_temperature = common.Slider(
                    0.01,
                    0.5,
                    0.07,
                    step=0.01,
                    label=t("Teacher temperature"),
                    elem_id=f"{TAB}-teacher",
                    info=t("Lower is sharper"),
                )
                student_temperature = common.Slider(
                    0.05, 0.5, 0.1, step=0.01, label=t("Student temperature"), elem_id=f"{TAB}-student"
                )
                centering = common.Checkbox(
                    True,
                    label=t("Centring"),
                    elem_id=f"{TAB}-centering",
                    info=t("Subtract the running mean from the teacher's logits"),
                )
                gr.Markdown(t("Break it"))
                with gr.Row():
                    breaks = {
                        name: gr.Button(t(name), size="sm", elem_id=f"{TAB}-break-{i}", min_width=100)
                        for i, name in enumerate(BREAKS)
                    }
                with gr.Accordion(t("Advanced"), open=False):
                    rule = common.Radio(
                        [(t(text), name) for name, text in RULES.items()],
                        value="attention",
                        label=t("Who decides what the student sees"),
                        elem_id=f"{TAB}-rule",
                    )
                    seed = common.Number(
                        42, label=t("Seed of the second view and the random rule"), elem_id=f"{TAB}-seed"
                    )
                    menu = common.model_menu(TAB, common.teacher_models())
                    model = menu.choice
                below = gr.Column()
            with gr.Column(scale=8, min_width=320):
                told = pictures.told(TAB)
                with gr.Row():
                    student_sees = pictures.panel(TAB, "seen", "What the student sees")
                    kl_map = pictures.panel(TAB, "kl", "Where the guess is wrong (click a patch)")
                keep_ratio = common.Slider(
                    0.1, 1, 0.5, step=0.1, label=t("Keep ratio of the student"), elem_id=f"{TAB}-keep"
                )
                verdict = gr.HTML(elem_id=f"{TAB}-verdict")
                with gr.Row():
                    teacher_ids = pictures.panel(TAB, "ids-teacher", "Teacher's first choice")
                    student_ids = pictures.panel(TAB, "ids-student", "Student's first choice")
                bars = gr.HTML(elem_id=f"{TAB}-bars")
                numbers = gr.HTML(elem_id=f"{TAB}-facts")
                formula = gr.Markdown(latex_delimiters=common.LATEX, elem_id=f"{TAB}-formula")
                note = gr.Markdown(elem_id=f"{TAB}-note", elem_classes="note")
                with gr.Accordion(t("Features in colour: equal colours, equal features"), open=False):
                    with gr.Row():
                        teacher_pca = pictures.panel(TAB, "pca-teacher", "Teacher")
                        student_pca = pictures.panel(TAB, "pca-student", "Student")
                with gr.Accordion(t("The other view, and the class token"), open=False):
                    with gr.Row():
                        teacher_other = pictures.panel(TAB, "other-teacher", "Second view, a crop: the teacher's")
                        other_view = pictures.panel(TAB, "other", "The student's")
                    cls_bars = gr.HTML(elem_id=f"{TAB}-cls-bars")
                with gr.Accordion(t("How this model was trained"), open=False) as curves_box:
                    training = gr.HTML(elem_id=f"{TAB}-training")
                with gr.Accordion(t("Numbers as JSON, and export"), open=False):
                    result = gr.JSON(label=t("Numbers"), elem_id=f"{TAB}-json")
                    save = gr.Button(t("Export figure and numbers"), elem_id=f"{TAB}-export")
                    files = gr.File(label=t("Files"), file_count="multiple", interactive=False, elem_id=f"{TAB}-files")
        lessons.lesson(TAB)
        picked = gr.State(None)  # (row, column) of the patch whose distributions are shown; None picks the worst guess

        def look(image, keep_ratio, rule, seed, model):
            common.at_hand(model)
            given = pictures.read_picture(image)
            keep_ratio = round(common.number(say("The keep ratio"), keep_ratio, 0.01, 1), 2)
            common.choice(say("The rule"), rule, list(RULES))
            seed = common.whole(say("The seed"), seed, 0, common.SEED_LIMIT)
            ratios = tuple(sorted({*pipeline.RATIOS, keep_ratio}))
            return given, keep_ratio, encode(given.picture, model, rule, seed, ratios)

        def self_distillation(
            image,
            keep_ratio=0.5,
            rule="attention",
            teacher_temperature=0.07,
            student_temperature=0.1,
            centering=True,
            seed=42,
            model="storybook-detailclip",
            picked=None,
        ):
            given, keep_ratio, encoded = look(image, keep_ratio, rule, seed, model)
            found = pipeline.query(
                encoded,
                keep_ratio,
                *_temperatures(teacher_temperature, student_temperature),
                common.flag(say("Centring"), centering),
            )
            colours = pipeline.principal_colours(encoded, keep_ratio)
            temperatures = (teacher_temperature, student_temperature, centering)
            *shown, numbers = present(given, encoded, found, colours, keep_ratio, temperatures, picked)
            settings = {
                "keep_ratio": keep_ratio,
                "teacher_temperature": teacher_temperature,
                "student_temperature": student_temperature,
                "centering": centering,
            }
            return *shown, numbers | {"settings": settings, "picture": pictures.mark_of(image)}

        def pick(
            image,
            keep_ratio,
            rule,
            teacher_temperature,
            student_temperature,
            centering,
            seed,
            model,
            click: gr.SelectData,
        ):
            given, keep_ratio, encoded = look(image, keep_ratio, rule, seed, model)
            found = pipeline.query(
                encoded,
                keep_ratio,
                *_temperatures(teacher_temperature, student_temperature),
                common.flag(say("Centring"), centering),
            )
            grid = len(found.removed)
            cell = drawing.enlarge(encoded.pictures[0]).width // grid  # every panel is as large
            column, row = (min(grid - 1, max(0, int(v) // cell)) for v in click.index)
            return (row, column), patch_bars(found, row, column), kl_picture(encoded, found, row, column)

        inputs = [image, keep_ratio, rule, teacher_temperature, student_temperature, centering, seed, model]
        outputs = [
            student_sees,
            kl_map,
            teacher_ids,
            student_ids,
            teacher_pca,
            student_pca,
            teacher_other,
            other_view,
            verdict,
            bars,
            cls_bars,
            numbers,
            formula,
            note,
            result,
        ]
        main = event(self_distillation)
        shown = {"show_progress": "minimal", "show_progress_on": kl_map, "trigger_mode": "always_last"}
        triggers = [image.change, rule.input, seed.submit, tab.select]
        ran = gr.on(triggers, main, inputs, outputs, api_name=TAB, **shown, **COMPUTE)
        changed = menu.fetched.success(main, inputs, outputs, api_visibility="private", **shown, **COMPUTE)
        quick = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}
        sliders = [keep_ratio.input, teacher_temperature.input, student_temperature.input, centering.input]
        requery = light(self_distillation)
        gr.on(sliders, requery, [*inputs, picked], outputs, **quick)
        catch_up = common.unless_shown(requery)
        for run in (ran, changed):
            run.success(catch_up, [result, *inputs, picked], outputs, **quick)
        for name, button in breaks.items():
            button.click(
                lambda settings=BREAKS[name]: settings,
                None,
                [teacher_temperature, student_temperature, centering],
                api_visibility="private",
                show_progress="hidden",
            ).then(requery, [*inputs, picked], outputs, **quick)
        for panel in (kl_map, teacher_ids, student_ids):
            panel.select(light(pick), inputs, [picked, bars, kl_map], api_visibility="private", show_progress="hidden")
        image.change(lambda: None, None, picked, api_visibility="private", show_progress="hidden")
        curves_box.expand(
            light(lambda model: training_curves(pipeline.training_log(model))),
            model,
            training,
            api_visibility="private",
            show_progress="hidden",
        )

        def export(*settings):
            *pictures, numbers = self_distillation(*settings)
            captions = [
                say("what the student sees"),
                say("KL of student from teacher, per patch"),
                say("teacher's first choice"),
                say("student's first choice"),
            ]
            names = ("keep_ratio", "rule", "teacher_temperature", "student_temperature", "centering", "seed", "model")
            record = dict(zip(names, settings[1:], strict=True))
            return common.export_files(files, TAB, drawing.strip(pictures[:4], captions), record, numbers)

        saved = save.click(event(export), inputs, files, api_visibility="private", **COMPUTE)
        with below:
            pictures.one_picture(image, told, result, outputs, ran, changed)
            common.belong_to(result, files)
            common.stop_button(TAB, ran, changed, saved, status=told, held=pictures.held, holding=[image, result])
    return main, inputs, outputs


def _temperatures(teacher: object, student: object) -> tuple[float, float]:
    return (
        common.number(say("The teacher temperature"), teacher, 0.001, 10),
        common.number(say("The student temperature"), student, 0.001, 10),
    )


def present(given: Given, encoded, found, colours, keep_ratio: float, settings: tuple, picked: tuple | None) -> tuple:
    """Everything the tab shows for one result, in the order of its outputs."""
    grid, limit = len(found.removed), math.log(found.prototypes)
    if not picked or max(picked) >= grid:  # nothing picked, or on a model with more patches
        picked = np.unravel_index(np.argmax(np.where(found.learnt_from, found.kl, -1)), found.kl.shape)
    row, column = picked
    palette = drawing.palette(np.concatenate([found.teacher.argmax(-1), found.student.argmax(-1)]))
    pages = [drawing.keep_patches(encoded.pictures[0], ~found.removed), kl_picture(encoded, found, row, column)]
    side = pages[0].width  # a click falls on the same patch in every panel
    pages += [drawing.paint_ids(p.argmax(-1), palette, side) for p in (found.teacher, found.student)]
    pages += [drawing.enlarge(c) for c in colours]
    pages.append(drawing.enlarge(encoded.pictures[1]))
    pages.append(drawing.keep_patches(encoded.pictures[1], encoded.students[keep_ratio].kept[1]))

    learnt = found.learnt_from
    numbers = {
        "patch_kl_mean": float(found.kl[learnt].mean()),
        "patch_cross_entropy_mean": float(found.cross_entropy[learnt].mean()),
        "teacher_entropy": float(found.teacher_entropy.mean()),
        "teacher_entropy_max": limit,
        "teacher_entropy_of_mean": found.mean_entropy,
        "agreement": found.agreement,
        "prototypes_used": found.prototypes_used,
        "prototypes": found.prototypes,
        "loss_cls": found.loss_cls,
        "collapse": collapse_of(found),
        "removed": int(found.removed.sum()),
        "patches": grid * grid,
        "model": encoded.model,
        "patch_kl_map": np.round(found.kl, 4).tolist(),
    }
    order = np.argsort(-np.maximum(*found.cls_pair))[:6]
    cls_bars = drawing.pair_bars(
        [f"#{k}" for k in order],
        *(p[order] for p in found.cls_pair),
        (say("teacher, whole picture"), say("student, other view")),
    )
    return (
        *pages,
        _verdict(numbers),
        patch_bars(found, row, column),
        cls_bars,
        _facts(numbers),
        _formula(found, settings),
        pictures.honest_note(given, encoded.model, ()),
        numbers,
    )


def kl_picture(encoded, found, row: int, column: int):
    """KL per patch in colour, from 0 to the worst; visible patches, from which nothing is learnt, stay as they are."""
    heat = np.where(found.learnt_from, found.kl / max(float(found.kl[found.learnt_from].max()), 1e-6), np.nan)
    return drawing.mark_cell(drawing.heat_over(encoded.pictures[0], heat, 0.8), row, column, len(heat))


def patch_bars(found, row: int, column: int) -> str:
    top = found.at(row, column)
    hidden = say("hidden from the student") if found.removed[row, column] else say("seen by the student")
    title = say(
        "Patch in row {row}, column {column}, {hidden}: KL {kl} nats",
        row=row + 1,
        column=column + 1,
        hidden=hidden,
        kl=f"{found.kl[row, column]:.2f}",
    )
    bars = drawing.pair_bars(
        [f"#{k}" for k, _, _ in top],
        [p for _, p, _ in top],
        [q for _, _, q in top],
        (say("teacher's probability"), say("student's guess")),
    )
    return f"<h4>{title}</h4>{bars}"


def collapse_of(found) -> str:
    """`uniform` when every prototype is equally likely everywhere, `one` when one takes all, `hard` when the teacher is
    certain of every patch and so only points at one prototype each, else `none`.
    """
    limit = math.log(found.prototypes)
    if float(found.teacher_entropy.mean()) > 0.95 * limit:
        return "uniform"
    if found.mean_entropy < 0.05 * limit:
        return "one"
    return "hard" if float(found.teacher_entropy.mean()) < 0.15 * limit else "none"


def _verdict(n: dict) -> str:
    limit = n["teacher_entropy_max"]
    told = {
        "uniform": say(
            "Uniform: every prototype is equally likely. A training loss that stands still at ln K = {limit} is this "
            "collapse.",
            limit=f"{limit:.3f}",
        ),
        "one": say("One prototype takes every patch. The loss falls to 0 and nothing is learnt: the other collapse."),
        "hard": say(
            "Too sharp: the teacher is certain of every patch. It points at one prototype and no longer says what else "
            "fits; a run that starts like this soon gives one prototype everything."
        ),
        "none": say("Alive: the teacher is sure of single patches and the patches differ."),
    }
    state = "good" if n["collapse"] == "none" else "bad"
    gauge = "".join(
        _gauge(name, value, limit)
        for name, value in (
            (say("loss now"), n["patch_cross_entropy_mean"]),
            (say("teacher's entropy, per patch"), n["teacher_entropy"]),
            (say("entropy of the mean"), n["teacher_entropy_of_mean"]),
        )
    )
    scale = say(
        "full bar: ln K = ln {k} = {limit} nats, the loss of a collapsed run", k=n["prototypes"], limit=f"{limit:.3f}"
    )
    return f'<div class="verdict {state}"><p>{told[n["collapse"]]}</p>{gauge}<small>{scale}</small></div>'


def _gauge(name: str, value: float, limit: float) -> str:
    bar = f'<div><i style="width:{100 * value / limit:.1f}%"></i></div>'
    return f'<div class="gauge"><span>{name}</span>{bar}<b>{value:.3f}</b></div>'


def _facts(n: dict) -> str:
    return drawing.facts(
        [
            (
                say("Mean KL, student from teacher"),
                f"{n['patch_kl_mean']:.3f} nats",
                say("0 = perfect guess; over the {n} patches it did not see", n=n["removed"] or n["patches"]),
            ),
            (
                say("Same first choice"),
                f"{n['agreement']:.0%}",
                say("chance: {share}", share=f"{1 / n['prototypes']:.1%}"),
            ),
            (
                say("Prototypes used in this picture"),
                f"{n['prototypes_used']} / {n['prototypes']}",
                say("1 = collapsed"),
            ),
            (
                say("Class-token loss across views"),
                f"{n['loss_cls']:.3f} nats",
                say("ln K = {limit} = collapsed", limit=f"{n['teacher_entropy_max']:.3f}"),
            ),
        ]
    )


def _formula(found, settings: tuple) -> str:
    teacher, student, centred = settings
    center = "c" if centred else "0"
    loss = float(found.cross_entropy[found.learnt_from].mean())
    return (
        rf"$$P_t = \mathrm{{softmax}}\frac{{z_t - {center}}}{{{teacher:g}}},\quad "
        rf"P_s = \mathrm{{softmax}}\frac{{z_s}}{{{student:g}}},\quad "
        rf"L_{{Patch}} = -\frac1{{|R|}}\sum_{{i \in R}} P_t^i \cdot \log P_s^i = {loss:.3f},\quad "
        rf"|R| = {int(found.learnt_from.sum())}$$"
    )


def training_curves(log: dict | None) -> str:
    """The run that made the model, as it was logged."""
    if not log or not log["records"]:
        return f"<p>{say('No training log was kept for this model.')}</p>"
    records, limit = log["records"], math.log(log.get("prototypes", 512))
    steps = [r["step"] for r in records]

    def line(name: str, key: str) -> drawing.Line:
        return drawing.Line(name, steps, [r[key] for r in records])

    losses = drawing.curves(
        [line("L_CLIP", "clip"), line("L_CLS", "cls"), line("L_Patch", "patch"), line("L_Rec", "rec")],
        say("training step"),
        say("loss"),
        levels=[(limit, say("ln K: collapsed"))],
        title=say("The four losses"),
    )
    health = drawing.curves(
        [
            line(say("mean of the patches"), "entropy_mean_patch"),
            line(say("one patch"), "entropy_patch"),
            line(say("mean of the class tokens"), "entropy_mean_cls"),
            line(say("one class token"), "entropy_cls"),
        ],
        say("training step"),
        say("teacher's entropy, nats"),
        levels=[(limit, "ln K")],
        y_range=(0, limit * 1.05),
        title=say("Health: sure of each, different for all"),
    )
    return f'<div class="charts">{losses}{health}</div>'


if __name__ == "__main__":
    from demos.serving import launch_settings

    with gr.Blocks(title="Patchlight · self-distillation") as page:
        build()
    page.launch(**launch_settings(page))
