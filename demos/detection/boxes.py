"""Words to boxes, and a threshold that is your choice. Wraps pipelines/detection."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import gradio as gr
import regex
from PIL import Image

from demos.detection.answers import Answer, asked_of, evaluate, fill, frames_of, kept_truth, truth_line, truth_of
from demos.detection.tries import TRIES
from demos.ui import address, charts, classifier, controls, drawing, pictures, scenes, tries
from demos.ui.cache import lru_cached
from demos.ui.device import on_device
from demos.ui.events import lazily
from demos.ui.export import Panel, export_files, settings_as_json
from demos.ui.lesson import Lesson, Measure
from demos.ui.links import Link
from demos.ui.models import at_hand, model_names
from demos.ui.tab import Tab
from demos.ui.text import named, say, t
from pipelines.detection.settings import BACKENDS, Settings
from pipelines.errors import UserError
from pipelines.models.registry import MODELS, STORYBOOK
from pipelines.phrases import key, same
from pipelines.settings import settings_of
from pipelines.world import storybook

if TYPE_CHECKING:
    from pipelines.detection.pipeline import Encoded

FIRST = 4  # scene of the test range
BETTER = ("grounding-dino-tiny", "mm-grounding-dino-tiny")  # on photographs
MOST_BARS = 24  # phrases whose scores are drawn for one box
FILLS = {"there": "what is there", "all": "all 24 nouns", "absent": "what is not there"}
CLICKS = {"ask": "shows its score for every word", "draw": "sets a corner of a true box"}

pipeline = lazily("pipelines.detection.pipeline")


@lru_cached
@on_device
def encode(picture: Image.Image, phrases: tuple[str, ...], model: str, backend: str) -> "Encoded":
    return pipeline.encode(picture, phrases, model, backend)


# ------------------------------------------------------------------------------------------------------------- layout


def layout(tab: Tab) -> None:
    tab.columns(_lay_out_controls, _lay_out_figures)
    tab.state("picked")  # a query
    tab.state("corner")  # the first corner of a box that is being drawn


def _lay_out_controls(tab: Tab) -> None:
    tries.lay_out(tab)
    first = asked_of(storybook.scene(storybook.TEST[FIRST]))
    tab.control("prompt", value=first, lines=1, render=False)
    scenes.picture_controls(tab, FIRST, "prompt", asked_of, otherwise=gr.skip())
    tab["prompt"].render()
    with gr.Row():
        for name, text in FILLS.items():
            tab.button(name, text, size="sm", min_width=90)
    tab.model_menu(model_names("grounding_dino"))
    with gr.Accordion(t("Two models side by side, and your own ground truth"), open=False):
        tab.control("backend")
        tab.control("compare", choices={"": "nothing", **{who: who.replace("/", " · ") for who in contenders()}})
        clicks = [(t(text), name) for name, text in CLICKS.items()]
        tab.add(
            "clicking", controls.Radio(clicks, value="ask", label=t("A click on a box"), elem_id=tab.id("clicking"))
        )
        label, info = t("The true box holds"), t("Empty: the first phrase")
        tab.add("holds", controls.Dropdown([], label=label, info=info, elem_id=tab.id("holds")))
        tab.control("truth", placeholder="cat: 12 30 70 96")
    tab.stop()


def _lay_out_figures(tab: Tab) -> None:
    tab.told()
    with gr.Row():
        with gr.Column(min_width=300):
            tab.panel("boxes", "What was found: click a box")
            tab.panel("other", "The other model")
        with gr.Column(min_width=300):
            tab.html("bars", min_height=200)
    tab.control("box_threshold")
    tab.html("charts")
    with gr.Row():
        tab.control("text_threshold", min_width=200)
        tab.control("nms_iou", min_width=200)
    tab.control("faint")
    tab.control("hide")
    tab.html("table")
    tab.html("facts")
    tab.markdown("formula")
    tab.markdown("note", elem_classes="note")
    classifier.lay_out(tab)
    tab.numbers_and_export()


def contenders() -> list[str]:
    """Everything that can run beside the chosen one: "model/backend"."""
    return [f"{name}/{backend}" for name in model_names("grounding_dino") for backend in BACKENDS]


def wire(tab: Tab) -> None:
    image, shown = tab["image"], {"progress": "boxes", "trigger_mode": "always_last"}
    fits = ["truth", "holds"]
    address.keep(tab)
    runs = [
        tab.main([tab["backend"].input, tab["compare"].input, tab["address"].change, *tab.chosen], **shown),
        tab.main(tab.quick(tab["prompt"].submit, fit_truth, fits).success, **shown),
        tab.main(tab.quick(image.change, forget_truth, [*fits, "picked", "corner"]).then, **shown),
        tab.main(tab.fetched.success, **shown),
    ]
    for name in FILLS:
        filled = tab.quick(tab[name].click, functools.partial(fill_words, name), ["prompt"])
        runs.append(tab.main(tab.quick(filled.success, fit_truth, fits).success, **shown))
    for run in runs:
        tab.catch_up(run)
    sliders = [tab[name].input for name in ("box_threshold", "text_threshold", "nms_iou", "hide", "faint")]
    tab.quick([*sliders, tab["truth"].submit], detection, LESSON.shows)
    clicked = tab.quick(tab["boxes"].select, click, ["picked", "corner", "truth"])
    tab.quick(clicked.success, detection, LESSON.shows)
    tab.quick([tab["prompt"].submit, tab["model"].input, tab["backend"].input], forget_click, ["picked", "corner"])
    classifier.connect(tab)
    tab.compute(tab["export"].click, export, ["files"])
    for run in tries.connect(tab, progress="boxes"):
        tab.catch_up(run)


# ----------------------------------------------------------------------------------------------------------- handlers


def detection(image: str, settings: Settings, picked: int | None = None) -> dict:
    """Find what the words name, and hold it against the ground truth."""
    return present(evaluated(image, settings), settings, picked)


def evaluated(image: str, settings: Settings) -> list[Answer]:
    """Of the chosen model, and of the one beside it if there is one."""
    given = pictures.read_picture(image)
    limits = settings.box_threshold, settings.text_threshold, settings.nms_iou
    phrases = tuple(pipeline.parse(settings.prompt))
    found = []
    for who in filter(None, (f"{settings.model}/{settings.backend}", settings.compare)):
        name, code = controls.choice(say("The model and its code"), who, contenders()).split("/")
        at_hand(name)
        encoded = encode(given.picture, phrases, name, code)
        found.append(
            evaluate(pipeline, given, encoded, truth_of(given, phrases, settings.truth), limits, settings.hide)
        )
    return found


def click(
    image: str, settings: Settings, clicking: str, holds: str | None, corner: tuple | None, at: gr.SelectData
) -> dict:
    """A click on the picture picks a box, or sets a corner of a true one."""
    controls.choice(say("What a click does"), clicking, list(CLICKS))
    answer = evaluated(image, replace(settings, compare=""))[0]
    x, y = drawing.place_in(answer.given.picture.size, at.index)
    if clicking == "ask":
        return {"picked": answer.query_at(x, y, settings.faint), "corner": None}
    if corner is None:
        gr.Info(say("One corner is set. Click the opposite one."))
        return {"picked": None, "corner": (x, y)}
    box = min(x, corner[0]), min(y, corner[1]), max(x, corner[0]), max(y, corner[1])
    if min(box[2] - box[0], box[3] - box[1]) < 1:
        raise UserError(say("The corners of a true box are apart in both directions. Click the opposite one."))
    phrases = answer.encoded.phrases
    drawn = truth_line(controls.choice(say("What the true box holds"), holds or phrases[0], phrases), box)
    truth = settings_of(Settings)["truth"].check("; ".join(filter(None, (settings.truth, drawn))))
    truth_of(answer.given, phrases, truth)  # else it is not kept
    return {"picked": None, "corner": None, "truth": truth}


def fit_truth(prompt: str, truth: str, holds: str | None) -> dict:
    """Without the true boxes of phrases that are no longer asked for: nobody has to find out which they are."""
    phrases = pipeline.parse(prompt)
    fitting, gone = kept_truth(truth, phrases)
    if gone:
        gr.Info(say("No longer asked for, so their true boxes are gone: {phrases}.", phrases=", ".join(gone)))
    kept = {} if holds in phrases else {"holds": gr.update(value=None)}
    return {**kept, **({"truth": fitting} if gone else {})}


def forget_truth() -> dict:
    """Of another picture."""
    return {"truth": "", "holds": None, **forget_click()}


def forget_click() -> dict:
    return {"picked": None, "corner": None}


def fill_words(kind: str, image: str | None) -> dict:
    """The line of words of a button."""
    return {"prompt": fill(kind, pictures.read_picture(image))}


def export(image: str, settings: Settings, picture: str = "") -> dict:
    """The figure as shown, with all settings inside."""
    found = evaluated(image, settings)
    panels = [Panel(picture=drawing.show(found[0].given.picture)[0], caption=say("picture"))]
    for each in found:
        told = f"{each.encoded.model}, {each.encoded.backend}"
        panels.append(Panel(picture=picture_of(each, settings.faint, None), caption=told))
    numbers = numbers_of(found[0], settings)
    return {"files": export_files(LESSON, panels, settings, numbers, picture, _charts(found[0]))}


# ------------------------------------------------------------------------------------------------------ what is shown


def picture_of(answer: Answer, faint: bool, picked: int | None) -> Image.Image:
    canvas, scale = drawing.show(answer.given.picture)
    return drawing.frames(canvas, frames_of(answer, faint, picked), scale)


def present(found: list[Answer], settings: Settings, picked: int | None) -> dict:
    """What each part shows."""
    answer = found[0]
    encoded, phrases = answer.encoded, list(answer.encoded.phrases)
    if picked is None or picked >= len(encoded.scores):
        picked = int(encoded.scores.max(1).argmax())
    beside = picture_of(found[1], settings.faint, None) if len(found) > 1 else None
    choices = [(named(phrase), phrase) for phrase in phrases]
    return {
        "boxes": picture_of(answer, settings.faint, picked),
        "other": gr.update(value=beside, visible=beside is not None),
        "bars": _bars(answer, picked),
        "table": _tables(answer),
        "facts": _facts(answer),
        "formula": _formula(answer, picked),
        "note": pictures.honest_note(answer.given, encoded.model, BETTER),
        "charts": _headline(answer) + _idle(answer, settings.box_threshold) + _charts(answer),
        "hide": controls.CheckboxGroup(choices, value=[p for p in phrases if p in answer.hidden]),
        "holds": controls.Dropdown(choices),
        "numbers": numbers_of(answer, settings),
    }


def _title(answer: Answer, picked: int) -> str:
    shown = [d for d in answer.kept if d.query == picked]
    if not shown:
        return say("Guess {number}, not shown: its score for every word", number=picked + 1)
    return say("Guess {number}, {phrase}: its score for every word", number=picked + 1, phrase=named(shown[0].phrase))


def _bars(answer: Answer, picked: int) -> str:
    """The phrases by falling score of this guess, each followed by its words where it has several."""
    encoded = answer.encoded
    names: list[str] = []
    scores: list[float] = []
    tags: list[str] = []
    for place in encoded.scores[picked].argsort()[::-1][:MOST_BARS]:
        names.append(named(encoded.phrases[place]))
        scores.append(float(encoded.scores[picked, place]))
        tags.append(Link(word=encoded.phrases[place]).attributes)
        words = range(*encoded.spans[place])
        if len(words) > 1:
            names += [f"\u2003{named(encoded.words[w])}" for w in words]
            scores += [float(encoded.word_scores[picked, w]) for w in words]
            tags += [""] * len(words)
    return charts.score_bars(names, scores, answer.threshold, _title(answer, picked), tags)


def _link(answer: Answer, phrase: str, box: Sequence[float]) -> Link:
    """A box that is shown, with its phrase."""
    width, height = answer.given.picture.size
    left, top, right, bottom = box
    shares = left / width, top / height, right / width, bottom / height
    return Link(word=phrase, boxes=[shares], pictures=("detection-boxes", "detection-other"))


def numbers_of(answer: Answer, settings: Settings) -> dict:
    """Everything measured, as JSON."""
    encoded, matching, curve = answer.encoded, answer.matching, answer.curve
    known = answer.true is not None  # an empty list is known too: then everything found is a false alarm
    precision, recall = curve.at(answer.threshold) if known else (None, None)
    return {
        "detections": [
            {"phrase": d.phrase, "score": d.score, "box": list(d.box), "iou": iou if known else None}
            for d, iou in zip(answer.kept, matching.overlap, strict=True)
        ],
        "queries": len(encoded.scores),
        "milliseconds": encoded.milliseconds,
        "backbone_skipped": encoded.backbone_skipped,
        "highest": {p: float(encoded.scores[:, i].max()) for i, p in enumerate(encoded.phrases)},
        "truth": [{"phrase": p, "box": list(box)} for p, box in answer.true or ()] if known else None,
        "true_positives": matching.true_positives if known else None,
        "false_positives": matching.false_positives if known else None,
        "false_negatives": matching.false_negatives if known else None,
        "precision": precision,
        "recall": recall,
        "f1": matching.f1 if known else None,
        "average_precision": curve.average_precision,
        "model": encoded.model,
        "backend": encoded.backend,
        "settings": settings_as_json(settings),
    }


def _tables(answer: Answer) -> str:
    """What was found, and how near every phrase came to being found."""
    told: dict[int | None, str] = {None: say("false alarm")}
    rows = []
    for d, hit, iou in zip(answer.kept, answer.matching.truth, answer.matching.overlap, strict=True):
        compared = [f"{iou:.2f}", told.get(hit, say("found"))] if answer.true is not None else ["–", "–"]
        rows.append([named(d.phrase), f"{d.score:.2f}", " ".join(f"{side:.0f}" for side in d.box), *compared])
    tags = [_link(answer, d.phrase, d.box).attributes for d in answer.kept]
    if not rows:
        rows, tags = [[say("nothing reaches the threshold"), "", "", "", ""]], [""]
    head = [say("phrase"), say("score"), say("box, pixels"), say("IoU with ground truth"), say("so it is")]
    heads = [say("word by word"), say("highest score"), say("to the threshold"), say("boxes"), say("in the picture")]
    by_word = [_word_row(answer, place, phrase) for place, phrase in enumerate(answer.encoded.phrases)]
    words = [Link(word=phrase).attributes for phrase in answer.encoded.phrases]
    tables = charts.grid_table(head, rows, tags) + charts.grid_table(heads, by_word, words)
    return f'<div class="tables">{tables}</div>'


def _word_row(answer: Answer, place: int, phrase: str) -> list[str]:
    highest = float(answer.encoded.scores[:, place].max())
    boxes = sum(d.place == place for d in answer.kept)
    there = "–"
    if answer.true is not None:
        count = sum(same(name, phrase) for name, _ in answer.true)
        there = str(count) if count else say("no: false alarm") if boxes else say("no")
    name = named(phrase)
    if MODELS[answer.encoded.model].seen == STORYBOOK and tuple(key(phrase).split()) in storybook.HELD_OUT:
        name = say("{phrase} (never seen together in training)", phrase=named(phrase))
    return [name, f"{highest:.2f}", f"{highest - answer.threshold:+.2f}", str(boxes), there]


def _facts(answer: Answer) -> str:
    encoded, matching = answer.encoded, answer.matching
    counted = f"{len(answer.kept)} / {len(encoded.scores)}"
    dropped = say("guesses; {dropped} more reach the threshold and overlap a better one", dropped=answer.suppressed)
    once = say("once for each picture and line of words; the sliders never run it")
    if encoded.backbone_skipped:
        once = say("the backbone was skipped: only words are new")
    rows = [
        (say("Boxes kept"), counted, dropped),
        (say("Time of the model"), f"{encoded.milliseconds:.0f} ms", once),
    ]
    if answer.unnamed:
        told = say("the text threshold, the higher one: a box without a name is not kept")
        rows.insert(1, (say("Threshold that counts"), f"{answer.threshold:.2f}", told))
    if answer.true is not None:
        counts = f"{matching.true_positives}, {matching.false_positives}, {matching.false_negatives}"
        told = say("of {count} true boxes (dashed), found from IoU 0.5 on", count=len(answer.true))
        rows.insert(1, (say("Found, false alarms, missed"), counts, told))
    if answer.true:
        precision, recall = answer.curve.at(answer.threshold)
        both = f"{'–' if precision is None else f'{precision:.0%}'}, {recall:.0%}"
        told = say("of this picture; 1 is perfect. Average precision needs no threshold")
        rows[2:2] = [
            (say("Precision, recall"), both, say("right among the found, found among the true")),
            (say("F1, average precision"), f"{matching.f1:.2f}, {answer.curve.average_precision:.2f}", told),
        ]
    return charts.facts(rows)


def _formula(answer: Answer, picked: int) -> str:
    encoded = answer.encoded
    place = int(encoded.scores[picked].argmax())
    first, last = encoded.spans[place]
    parts = ",\\ ".join(
        rf"{encoded.word_scores[picked, w]:.2f}_{{\textrm{{{_plain(encoded.words[w])}}}}}" for w in range(first, last)
    )
    score = rf"$$s = \max_w \sigma(q \cdot w) = \max({parts}) = {encoded.scores[picked, place]:.2f}$$"
    if not answer.true:
        return score
    m = answer.matching
    return score + (
        rf"$$F_1 = \frac{{2\,TP}}{{2\,TP + FP + FN}} = "
        rf"\frac{{2 \cdot {m.true_positives}}}{{2 \cdot {m.true_positives} + {m.false_positives} + "
        rf"{m.false_negatives}}} = {m.f1:.2f}$$"
    )


def _plain(word: str) -> str:
    """A word as KaTeX takes it: without what it reads as a command."""
    return regex.sub(r"[\\{}$&#^_~%]", "", word)


def _headline(answer: Answer) -> str:
    """What a threshold does: what is found, and what is called that is not there."""
    m = answer.matching
    if answer.true is None:
        return charts.headline((f"{len(answer.kept)}", say("boxes kept; what is really there is not known")))
    found = say("of {count} true boxes found", count=len(answer.true))
    return charts.headline((f"{m.true_positives}", found), (f"{m.false_positives}", say("false alarms")))


def _idle(answer: Answer, box_threshold: float) -> str:
    """Said at the slider where the other threshold decides."""
    if box_threshold >= answer.threshold:
        return ""
    told = say(
        "Below {threshold} this slider changes nothing: the text threshold asks for that much.",
        threshold=f"{answer.threshold:.2f}",
    )
    return f"<p>{told}</p>"


def _charts(answer: Answer) -> str:
    drawn = charts.histogram(
        answer.encoded.scores.max(1),
        say("highest score of a guess"),
        say("guesses"),
        answer.threshold,
        say("All {count} guesses, and your threshold", count=len(answer.encoded.scores)),
    )
    if answer.true:
        curve = answer.curve
        precision, recall = curve.at(answer.threshold)
        name = say("every threshold, from strict to lax")
        drawn += charts.curves(
            [charts.Line(name=name, x=[0.0, *curve.recall], y=[1.0, *curve.precision])],
            say("recall"),
            say("precision"),
            y_range=(0, 1.02),
            x_range=(0, 1.02),
            points={} if precision is None or recall is None else {"": (recall, precision)},
            title=say("Precision and recall, and where you stand"),
        )
    return f'<div class="charts">{drawn}</div>'


LESSON = Lesson(
    slug="detection",
    title="Detection",
    chapter="find",
    claim="Many guesses, each scored against every word you type. The threshold is your choice, not the truth.",
    settings=Settings,
    layout=layout,
    main=detection,
    shows=("boxes", "other", "bars", "table", "facts", "formula", "note", "charts", "hide", "holds", "numbers"),
    wire=wire,
    measure=Measure(
        slider="box_threshold",
        through=(0.2, 0.7, 0.4, 0.3),
        follows="boxes",
        besides={"prompt": " . ".join(storybook.NOUNS)},
    ),
    tries=TRIES,
)
