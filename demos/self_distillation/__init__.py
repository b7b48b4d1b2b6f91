"""The student guesses the teacher's prototype for every patch it cannot see. Wraps pipelines/self_distillation."""

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from demos.self_distillation.tries import TRIES
from demos.ui import address, charts, classifier, drawing, links, pictures, scenes, tries
from demos.ui.cache import lru_cached
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.export import Panel, export_files, settings_as_json
from demos.ui.lesson import Lesson, Measure
from demos.ui.models import at_hand, teacher_models
from demos.ui.pictures import Given
from demos.ui.tab import Tab
from demos.ui.text import say, t
from demos.ui.words import ablation_table
from pipelines.self_distillation.settings import Settings

if TYPE_CHECKING:
    from pipelines.self_distillation.pipeline import Encoded, Result

LINKED = [
    f"self_distillation-{each}" for each in ("seen", "kl", "ids-teacher", "ids-student", "pca-teacher", "pca-student")
]
BREAKS = {  # what each button sets: teacher temperature, student temperature, centring
    "Healthy": (0.07, 0.1, True),
    "Centring off": (0.07, 0.1, False),  # a trained network hardly notices: it is training that needs it
    "Too sharp": (0.01, 0.1, True),
    "Equal temperatures": (0.5, 0.5, True),
}

pipeline = lazily("pipelines.self_distillation.pipeline")


@lru_cached
@on_device
def encode(picture: Image.Image, model: str, rule: str, seed: int, ratios: tuple[float, ...]) -> "Encoded":
    return pipeline.encode(picture, model, rule, seed, ratios)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    tab.columns(_lay_out_controls, _lay_out_figures)
    tab.state("picked")  # (row, column) of the patch whose distributions are shown; None picks the worst guess


def _lay_out_controls(tab: Tab) -> None:
    tries.lay_out(tab)
    scenes.picture_controls(tab, seed=8)
    tab.control("teacher_temperature")
    tab.control("student_temperature")
    tab.control("centering")
    gr.Markdown(t("Break it"))
    with gr.Row():
        for place, name in enumerate(BREAKS):
            tab.button(f"break_{place}", name, size="sm", min_width=100)
    with gr.Accordion(t("Advanced"), open=False):
        tab.control("rule")
        tab.control("seed")
        tab.model_menu(teacher_models())
    tab.stop()


def _lay_out_figures(tab: Tab) -> None:
    tab.told()
    with gr.Row():
        tab.panel("seen", "What the student sees")
        tab.panel("kl", "Where the guess is wrong (click a patch)")
    tab.control("keep_ratio")
    tab.html("verdict")
    with gr.Row():
        tab.panel("ids_teacher", "Teacher's first choice")
        tab.panel("ids_student", "Student's first choice")
    tab.html("bars")
    tab.html("facts")
    tab.markdown("formula")
    tab.markdown("note", elem_classes="note")
    with gr.Accordion(t("Features in colour: equal colours, equal features"), open=False), gr.Row():
        tab.panel("pca_teacher", "Teacher")
        tab.panel("pca_student", "Student")
    with gr.Accordion(t("The other view, and the class token"), open=False):
        with gr.Row():
            tab.panel("other_teacher", "Second view, a crop: the teacher's")
            tab.panel("other", "The student's")
        tab.html("cls_bars")
    with tab.accordion("training_box", "How this model was trained"):
        tab.html("training")
    classifier.lay_out(tab)
    tab.numbers_and_export()


def wire(tab: Tab) -> None:
    image, latest = tab["image"], {"trigger_mode": "always_last"}
    address.keep(tab)
    changes = [image.change, tab["rule"].input, tab["seed"].submit, tab["address"].change, *tab.chosen]
    ran = tab.main(changes, progress="kl", **latest)
    changed = tab.main(tab.fetched.success, progress="kl", **latest)
    sliders = ["keep_ratio", "teacher_temperature", "student_temperature", "centering"]
    tab.quick([tab[name].input for name in sliders], self_distillation, LESSON.shows, **latest)
    for run in (ran, changed):
        tab.catch_up(run)
    for place, name in enumerate(BREAKS):
        broken = tab.quick(tab[f"break_{place}"].click, functools.partial(break_it, name), sliders[1:])
        tab.quick(broken.then, self_distillation, LESSON.shows, **latest)
    for panel in ("kl", "ids_teacher", "ids_student"):
        tab.quick(tab[panel].select, pick, ["picked", "bars", "kl"])
    tab.quick(image.change, forget_patch, ["picked"])
    tab.quick(tab["training_box"].expand, show_training, ["training"])
    classifier.connect(tab)
    tab.compute(tab["export"].click, export, ["files"])
    for run in tries.connect(tab, progress="kl"):
        tab.catch_up(run)


# ----------------------------------------------------------------------------------------------------------- handlers


def self_distillation(image: str, settings: Settings, picked: tuple[int, int] | None = None) -> dict:
    """What the student guesses of the teacher's prototypes, patch by patch."""
    given, encoded, settings = look(image, settings)
    found = pipeline.query(encoded, settings)
    colours = pipeline.principal_colours(encoded, settings.keep_ratio)
    return present(given, encoded, found, colours, settings, picked)


def look(image: str, settings: Settings) -> tuple:
    """The picture, what teacher and student make of it, and the settings with the keep ratio that was encoded."""
    at_hand(settings.model)
    given = pictures.read_picture(image)
    settings = replace(settings, keep_ratio=round(settings.keep_ratio, 2))
    ratios = tuple(sorted({*pipeline.RATIOS, settings.keep_ratio}))
    return given, encode(given.picture, settings.model, settings.rule, settings.seed, ratios), settings


def pick(image: str, settings: Settings, click: gr.SelectData) -> dict:
    """The distributions of the patch that was clicked, in any of the panels: all are equally large."""
    _, encoded, settings = look(image, settings)
    found = pipeline.query(encoded, settings)
    grid = len(found.removed)
    cell = drawing.enlarge(encoded.pictures[0]).width // grid
    column, row = (min(grid - 1, max(0, int(v) // cell)) for v in click.index)
    return {
        "picked": (row, column),
        "bars": patch_bars(found, row, column),
        "kl": kl_picture(encoded, found, row, column),
    }


def forget_patch() -> dict:
    return {"picked": None}


def break_it(name: str) -> dict:
    """What one of the buttons sets."""
    return dict(zip(("teacher_temperature", "student_temperature", "centering"), BREAKS[name], strict=True))


def show_training(model: str) -> dict:
    return {"training": training_curves(pipeline.training_log(model))}


def export(image: str, settings: Settings, picture: str = "") -> dict:
    """The figure as shown, with all settings inside."""
    shown = self_distillation(image, settings)
    worst = say("{most} nats", most=f"{np.max(shown['numbers']['patch_kl_map']):.2f}")
    panels = [
        Panel(picture=shown["seen"], caption=say("what the student sees")),
        Panel(picture=shown["kl"], caption=say("KL of student from teacher, per patch"), scale=("0", worst)),
        Panel(picture=shown["ids_teacher"], caption=say("teacher's first choice")),
        Panel(picture=shown["ids_student"], caption=say("student's first choice")),
    ]
    return {"files": export_files(LESSON, panels, settings, shown["numbers"], picture)}


# ------------------------------------------------------------------------------------------------------ what is shown


def present(
    given: Given,
    encoded: "Encoded",
    found: "Result",
    colours: tuple[np.ndarray, np.ndarray],
    settings: Settings,
    picked: tuple[int, int] | None,
) -> dict:
    """What each part shows for one result."""
    if not picked or max(picked) >= len(found.removed):  # nothing picked, or on a model with more patches
        worst = int(np.argmax(np.where(found.learnt_from, found.kl, -1)))
        picked = divmod(worst, len(found.removed))
    row, column = picked
    palette = drawing.palette(np.concatenate([found.teacher.argmax(-1), found.student.argmax(-1)]))
    seen = drawing.keep_patches(encoded.pictures[0], ~found.removed)
    teacher_ids, student_ids = (
        drawing.paint_ids(p.argmax(-1), palette, seen.width) for p in (found.teacher, found.student)
    )
    numbers = numbers_of(encoded, found)
    return {
        "seen": seen,
        "kl": kl_picture(encoded, found, row, column),
        "ids_teacher": teacher_ids,
        "ids_student": student_ids,
        "pca_teacher": drawing.enlarge(colours[0]),
        "pca_student": drawing.enlarge(colours[1]),
        "other_teacher": drawing.enlarge(encoded.pictures[1]),
        "other": drawing.keep_patches(encoded.pictures[1], encoded.students[settings.keep_ratio].kept[1]),
        "verdict": _verdict(numbers),
        "bars": patch_bars(found, row, column),
        "cls_bars": _class_bars(found),
        "facts": _facts(numbers) + links.patches(found.removed.shape, LINKED),
        "formula": _formula(found, settings),
        "note": pictures.honest_note(given, encoded.model, ()),
        "numbers": numbers | {"settings": settings_as_json(settings)},
    }


def numbers_of(encoded: "Encoded", found: "Result") -> dict:
    """Everything measured, as JSON."""
    learnt = found.learnt_from
    return {
        "patch_kl_mean": float(found.kl[learnt].mean()),
        "patch_cross_entropy_mean": float(found.cross_entropy[learnt].mean()),
        "teacher_entropy": float(found.teacher_entropy.mean()),
        "teacher_entropy_max": math.log(found.prototypes),
        "teacher_entropy_of_mean": found.mean_entropy,
        "agreement": found.agreement,
        "prototypes_used": found.prototypes_used,
        "prototypes": found.prototypes,
        "loss_cls": found.loss_cls,
        "collapse": collapse_of(found),
        "removed": int(found.removed.sum()),
        "patches": found.removed.size,
        "model": encoded.model,
        "patch_kl_map": np.round(found.kl, 4).tolist(),
    }


def _class_bars(found: "Result") -> str:
    order = np.argsort(-np.maximum(*found.cls_pair))[:6]
    return charts.pair_bars(
        [f"#{k}" for k in order],
        found.cls_pair[0][order],
        found.cls_pair[1][order],
        (say("teacher, whole picture"), say("student, other view")),
    )


def kl_picture(encoded: "Encoded", found: "Result", row: int, column: int) -> Image.Image:
    """KL per patch in colour, from 0 to the worst; visible patches, from which nothing is learnt, stay as they are."""
    heat = np.where(found.learnt_from, found.kl / max(float(found.kl[found.learnt_from].max()), 1e-6), np.nan)
    return drawing.mark_cell(drawing.heat_over(encoded.pictures[0], heat, 0.8), row, column, len(heat))


def patch_bars(found: "Result", row: int, column: int) -> str:
    top = found.at(row, column)
    hidden = say("hidden from the student") if found.removed[row, column] else say("seen by the student")
    title = say(
        "Patch in row {row}, column {column}, {hidden}: KL {kl} nats",
        row=row + 1,
        column=column + 1,
        hidden=hidden,
        kl=f"{found.kl[row, column]:.2f}",
    )
    bars = charts.pair_bars(
        [f"#{k}" for k, _, _ in top],
        [p for _, p, _ in top],
        [q for _, _, q in top],
        (say("teacher's probability"), say("student's guess")),
    )
    return f"<h2>{title}</h2>{bars}"


def collapse_of(found: "Result") -> str:
    """`uniform` when every prototype is equally likely everywhere, `one` when one takes all, `hard` when the teacher is
    nearly certain of every patch and so only points at one prototype each, else `none`.
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
            "Too sharp: the teacher is nearly certain of every patch. It points at one prototype and no longer says "
            "what else fits; a run that starts like this soon gives one prototype everything."
        ),
        "none": say("Alive: for each patch the teacher prefers a few prototypes, and others for other patches."),
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
    k, ceiling = n["prototypes"], f"{limit:.3f}"
    scale = say("full bar: ln K = ln {k} = {limit} nats, the loss of a collapsed run", k=k, limit=ceiling)
    distance = say(
        "from the student's guess to the teacher's answer, over hidden patches; 0 is perfect, a guess that knows "
        "nothing {uniform}",
        uniform=f"{limit - n['teacher_entropy']:.2f}",
    )
    headline = charts.headline((f"{n['patch_kl_mean']:.2f} nats", distance))
    told_so = f"<p>{told[n['collapse']]}</p>{gauge}<small>{scale}</small>"
    return f'{headline}<div class="verdict {state}">{told_so}</div>'


def _gauge(name: str, value: float, limit: float) -> str:
    bar = f'<div><i style="width:{100 * value / limit:.1f}%"></i></div>'
    return f'<div class="gauge"><span>{name}</span>{bar}<b>{value:.3f}</b></div>'


def _facts(n: dict) -> str:
    unseen, limit = n["removed"] or n["patches"], f"{n['teacher_entropy_max']:.3f}"
    nearest = say("0 = perfect guess; over the {n} patches it did not see", n=unseen)
    chance = say("chance: {share}", share=f"{1 / n['prototypes']:.1%}")
    used = f"{n['prototypes_used']} / {n['prototypes']}"
    return charts.facts(
        [
            (say("Mean KL, student from teacher"), f"{n['patch_kl_mean']:.3f} nats", nearest),
            (say("Same first choice"), f"{n['agreement']:.0%}", chance),
            (say("Prototypes used in this picture"), used, say("1 = collapsed")),
            (
                say("Class-token loss across views"),
                f"{n['loss_cls']:.3f} nats",
                say("ln K = {limit} = collapsed", limit=limit),
            ),
        ]
    )


def _formula(found: "Result", settings: Settings) -> str:
    center = "c" if settings.centering else "0"
    loss = float(found.cross_entropy[found.learnt_from].mean())
    return (
        rf"$$P_t = \mathrm{{softmax}}\frac{{z_t - {center}}}{{{settings.teacher_temperature:g}}},\quad "
        rf"P_s = \mathrm{{softmax}}\frac{{z_s}}{{{settings.student_temperature:g}}},\quad "
        rf"L_{{Patch}} = -\frac1{{|R|}}\sum_{{i \in R}} P_t^i \cdot \log P_s^i = {loss:.3f},\quad "
        rf"|R| = {int(found.learnt_from.sum())}$$"
    )


def training_curves(log: dict | None) -> str:
    """The run that made the model, as it was logged."""
    if not log or not log["records"]:
        return f"<p>{say('No training log was kept for this model.')}</p>"
    records, limit = log["records"], math.log(log.get("prototypes", 512))
    steps = [r["step"] for r in records]

    def line(name: str, key: str) -> charts.Line:
        return charts.Line(name=name, x=steps, y=[r[key] for r in records])

    losses = charts.curves(
        [line("L_CLIP", "clip"), line("L_CLS", "cls"), line("L_Patch", "patch"), line("L_Rec", "rec")],
        say("training step"),
        say("loss"),
        levels=[(limit, say("ln K: collapsed"))],
        title=say("The four losses"),
    )
    health = charts.curves(
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


LESSON = Lesson(
    slug="self_distillation",
    title="Self-distillation",
    chapter="see",
    claim="The teacher sees everything, the student half; it must guess the teacher's word for each hidden patch.",
    settings=Settings,
    layout=layout,
    main=self_distillation,
    shows=tuple(
        "seen kl ids_teacher ids_student pca_teacher pca_student other_teacher other verdict bars cls_bars facts "
        "formula note numbers".split()
    ),
    wire=wire,
    tables={"What breaks if it is removed": ablation_table},
    measure=Measure(slider="teacher_temperature", through=(0.05, 0.09, 0.2, 0.07), follows="seen"),
    tries=TRIES,
)
