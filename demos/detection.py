"""Tab 4: words to boxes, and a threshold that is your choice. Wraps pipelines/detection.py."""

import functools

import gradio as gr
import regex

from demos import common, drawing, lessons, pictures
from demos.answers import Answer, asked_of, fill, frames_of, judge, kept_truth, truth_line, truth_of
from demos.common import COMPUTE, event, heavy, lazily, light, say, t
from pipelines import storybook
from pipelines.errors import UserError
from pipelines.phrases import key, same
from pipelines.registry import MODELS, STORYBOOK

TAB = "detection"
FIRST = 4  # scene of the test range
BETTER = ("grounding-dino-tiny", "mm-grounding-dino-tiny")
BACKENDS = {"transformers": "transformers", "groundingdino": "groundingdino-py, by its authors"}
MOST_BARS = 24  # phrases whose scores are drawn for one box
MOST_TEXT = 4000  # characters of words, and of true boxes
FILLS = {"there": "what is there", "all": "all 24 nouns", "absent": "what is not there"}
CLICKS = {"ask": "shows its score for every word", "draw": "sets a corner of a true box"}


def build(pipeline=lazily("pipelines.detection")) -> tuple:  # noqa: B008 (a name, nothing is imported)
    """Lay out the tab. Returns its main event as (handler, inputs, outputs), for the page to run when it opens."""
    encode = common.Remembered(heavy(lambda *arguments: pipeline.encode(*arguments)))

    with gr.Tab(t("4 · Detection"), id=TAB, elem_id=f"tab-{TAB}") as tab:
        gr.Markdown(
            t("**Many guesses, each scored against every word you type. The threshold is your choice, not the truth.**")
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                prompt = common.Textbox(
                    asked_of(storybook.scene(storybook.TEST[FIRST])),
                    label=t("Words to look for"),
                    max_length=MOST_TEXT,
                    lines=1,
                    elem_id=f"{TAB}-prompt",
                    info=t("Dots in between; press Enter"),
                    render=False,
                )
                image = pictures.picture_controls(TAB, FIRST, prompt, asked_of, otherwise=gr.skip()).image
                prompt.render()
                with gr.Row():
                    fills = {
                        name: gr.Button(t(text), size="sm", min_width=90, elem_id=f"{TAB}-{name}")
                        for name, text in FILLS.items()
                    }
                menu = common.model_menu(TAB, common.model_names("grounding_dino"))
                model = menu.choice
                with gr.Accordion(t("Two models side by side, and your own truth"), open=False):
                    backend = common.Radio(
                        [(t(text), name) for name, text in BACKENDS.items()],
                        value="transformers",
                        label=t("Whose code runs the weights"),
                        elem_id=f"{TAB}-backend",
                    )
                    compare = common.Dropdown(
                        [(t("nothing"), ""), *((who.replace("/", " · "), who) for who in _contenders())],
                        value="",
                        label=t("Compare with"),
                        elem_id=f"{TAB}-compare",
                    )
                    clicking = common.Radio(
                        [(t(text), name) for name, text in CLICKS.items()],
                        value="ask",
                        label=t("A click on a box"),
                        elem_id=f"{TAB}-clicking",
                    )
                    holds = common.Dropdown(
                        [], label=t("The true box holds"), info=t("Empty: the first phrase"), elem_id=f"{TAB}-holds"
                    )
                    truth = common.Textbox(
                        "",
                        label=t("True boxes"),
                        placeholder="cat: 12 30 70 96",
                        info=t("phrase: x0 y0 x1 y1 in pixels; a semicolon between boxes. Empty: the scene's own"),
                        max_length=MOST_TEXT,
                        elem_id=f"{TAB}-truth",
                    )
                below = gr.Column()
            with gr.Column(scale=8, min_width=320):
                told = pictures.told(TAB)
                with gr.Row():
                    with gr.Column(min_width=300):
                        boxes = pictures.panel(TAB, "boxes", "What was found: click a box")
                        other = pictures.panel(TAB, "other", "The other model")
                    with gr.Column(min_width=300):
                        bars = gr.HTML(elem_id=f"{TAB}-bars", min_height=200)
                box_threshold = _slider("box", 0.3, "Box threshold", "Keeps boxes from this score on")
                charts = gr.HTML(elem_id=f"{TAB}-charts")
                with gr.Row():
                    text_threshold = _slider("text", 0.25, "Text threshold", "Names a box by words from this score on")
                    nms_iou = _slider("nms", 0.5, "Overlap limit (NMS)", "A box that overlaps a better one more, goes")
                faint = common.Checkbox(False, label=t("Show boxes below the threshold"), elem_id=f"{TAB}-faint")
                hide = common.CheckboxGroup([], label=t("Hide"), elem_id=f"{TAB}-hide")
                table = gr.HTML(elem_id=f"{TAB}-table")
                numbers = gr.HTML(elem_id=f"{TAB}-facts")
                formula = gr.Markdown(latex_delimiters=common.LATEX, elem_id=f"{TAB}-formula")
                note = gr.Markdown(elem_id=f"{TAB}-note", elem_classes="note")
                with gr.Accordion(t("Numbers as JSON, and export"), open=False):
                    result = gr.JSON(label=t("Numbers"), elem_id=f"{TAB}-json")
                    save = gr.Button(t("Export figure and numbers"), elem_id=f"{TAB}-export")
                    files = gr.File(label=t("Files"), file_count="multiple", interactive=False, elem_id=f"{TAB}-files")
        lessons.lesson(TAB)
        picked, corner = gr.State(None), gr.State(None)  # a query; the first corner of a box that is being drawn

        def answers(image, prompt, box, text, nms, model, backend, truth, hide, faint, compare) -> list[Answer]:
            """Of the chosen model, and of the one beside it if there is one."""
            given = pictures.read_picture(image)
            limits = (
                common.number(say("The box threshold"), box, 0, 1),
                common.number(say("The text threshold"), text, 0, 1),
                common.number(say("The overlap limit"), nms, 0, 1),
            )
            hide = _hidden(hide)
            common.flag(say("Showing boxes below the threshold"), faint)
            phrases = tuple(pipeline.parse(common.words(say("The line of words"), prompt, MOST_TEXT)))
            found = []
            for who in filter(None, (f"{model}/{backend}", compare)):
                name, code = common.choice(say("The model and its code"), who, _contenders()).split("/")
                common.at_hand(name)
                encoded = encode(given.picture, phrases, name, code)
                true = truth_of(given, phrases, common.words(say("The true boxes"), truth, MOST_TEXT))
                found.append(judge(pipeline, given, encoded, true, limits, hide))
            return found

        def detection(
            image,
            prompt,
            box_threshold=0.3,
            text_threshold=0.25,
            nms_iou=0.5,
            model="storybook-grounding-dino",
            backend="transformers",
            truth="",
            hide=(),
            faint=False,
            compare="",
            picked=None,
        ):
            settings = (box_threshold, text_threshold, nms_iou, model, backend, truth, hide, faint, compare)
            *shown, numbers = present(answers(image, prompt, *settings), faint, picked)
            settings = {
                "box_threshold": box_threshold,
                "text_threshold": text_threshold,
                "nms_iou": nms_iou,
                "truth": truth,
                "hide": list(hide),
                "faint": faint,
            }
            return *shown, numbers | {"settings": settings, "picture": pictures.mark_of(image)}

        def click(
            image,
            prompt,
            box_threshold,
            text_threshold,
            nms_iou,
            model,
            backend,
            truth,
            hide,
            faint,
            clicking,
            holds,
            corner,
            at: gr.SelectData,
        ):
            common.choice(say("What a click does"), clicking, list(CLICKS))
            settings = (box_threshold, text_threshold, nms_iou, model, backend, truth, hide, faint, "")
            answer = answers(image, prompt, *settings)[0]
            x, y = drawing.place_in(answer.given.picture.size, at.index)
            if clicking == "ask":
                return answer.query_at(x, y, faint), None, truth
            if corner is None:
                gr.Info(say("One corner is set. Click the opposite one."))
                return None, (x, y), truth
            box = min(x, corner[0]), min(y, corner[1]), max(x, corner[0]), max(y, corner[1])
            if min(box[2] - box[0], box[3] - box[1]) < 1:
                raise UserError(say("The corners of a true box are apart in both directions. Click the opposite one."))
            phrases = answer.encoded.phrases
            drawn = truth_line(common.choice(say("What the true box holds"), holds or phrases[0], phrases), box)
            told = "; ".join(filter(None, (truth.strip(), drawn)))
            truth_of(answer.given, phrases, common.words(say("The true boxes"), told, MOST_TEXT))  # else it is not kept
            return None, None, told

        def fit_truth(prompt, truth, holds):
            """Without the true boxes of phrases that are no longer asked for: nobody has to find out which they are."""
            phrases = pipeline.parse(common.words(say("The line of words"), prompt, MOST_TEXT))
            fitting, gone = kept_truth(common.words(say("The true boxes"), truth, MOST_TEXT), phrases)
            if gone:
                gr.Info(say("No longer asked for, so their true boxes are gone: {phrases}.", phrases=", ".join(gone)))
            return fitting if gone else gr.skip(), gr.skip() if holds in phrases else gr.update(value=None)

        inputs = [image, prompt, box_threshold, text_threshold, nms_iou, model, backend, truth, hide, faint, compare]
        outputs = [boxes, other, bars, table, numbers, formula, note, charts, hide, holds, result]
        main = event(detection)
        shown = {"show_progress": "minimal", "show_progress_on": boxes, "trigger_mode": "always_last"}
        triggers = [backend.input, compare.input, tab.select]
        ran = gr.on(triggers, main, inputs, outputs, api_name=TAB, **shown, **COMPUTE)
        private = {"api_visibility": "private", **COMPUTE}
        quick = {"api_visibility": "private", "show_progress": "hidden"}
        fits = {"fn": light(fit_truth), "inputs": [prompt, truth, holds], "outputs": [truth, holds], **quick}
        asked = prompt.submit(**fits).success(main, inputs, outputs, **private, **shown)
        forgotten = image.change(
            lambda: ("", None, None, None), None, [truth, picked, corner, holds], **quick
        )  # of another picture
        looked = forgotten.then(main, inputs, outputs, **private, **shown)
        changed = menu.fetched.success(main, inputs, outputs, **private, **shown)
        sliders = [box_threshold.input, text_threshold.input, nms_iou.input, hide.input, faint.input, truth.submit]
        requery = light(detection)
        gr.on(sliders, requery, [*inputs, picked], outputs, trigger_mode="always_last", **quick)
        boxes.select(light(click), [*inputs[:-1], clicking, holds, corner], [picked, corner, truth], **quick).success(
            requery, [*inputs, picked], outputs, **quick
        )
        filled = [
            button.click(light(functools.partial(_fill, name)), image, prompt, **quick)
            for name, button in fills.items()
        ]
        refilled = [done.success(**fits).success(main, inputs, outputs, **private, **shown) for done in filled]
        catch_up = common.unless_shown(requery)
        for run in (ran, asked, looked, changed, *refilled):
            run.success(catch_up, [result, *inputs, picked], outputs, **quick)
        gr.on([prompt.submit, model.input, backend.input], lambda: (None, None), None, [picked, corner], **quick)

        def export(image, prompt, *settings):
            found = answers(image, prompt, *settings)
            panels = [drawing.show(found[0].given.picture)[0], *(picture_of(a, settings[-2], None) for a in found)]
            captions = [say("picture"), *(f"{a.encoded.model}, {a.encoded.backend}" for a in found)]
            names = "box_threshold text_threshold nms_iou model backend truth hide faint compare".split()
            record = {"prompt": prompt, **dict(zip(names, settings, strict=True))}
            return common.export_files(files, TAB, drawing.strip(panels, captions, 420), record, numbers_of(found[0]))

        saved = save.click(event(export), inputs, files, **private)
        with below:
            runs = (ran, asked, looked, changed, *refilled)
            pictures.one_picture(image, told, result, outputs, *runs)
            common.belong_to(result, files)
            common.stop_button(TAB, *runs, saved, status=told, held=pictures.held, holding=[image, result])
    return main, inputs, outputs


def _slider(name: str, value: float, label: str, info: str) -> common.Slider:
    return common.Slider(0, 1, value, step=0.01, label=t(label), info=t(info), elem_id=f"{TAB}-{name}", min_width=200)


def _fill(kind: str, image: str | None) -> str:
    return fill(kind, pictures.read_picture(image))


def _contenders() -> list[str]:
    return [f"{name}/{backend}" for name in common.model_names("grounding_dino") for backend in BACKENDS]


def _hidden(phrases: object) -> tuple[str, ...]:
    if not isinstance(phrases, list | tuple) or not all(isinstance(phrase, str) for phrase in phrases):
        raise UserError(say("The phrases to hide must be a list of words, not {value}.", value=str(phrases)[:40]))
    return tuple(phrases)


def picture_of(answer: Answer, faint: bool, picked: int | None):
    canvas, scale = drawing.show(answer.given.picture)
    return drawing.frames(canvas, frames_of(answer, faint, picked), scale)


def present(found: list[Answer], faint: bool, picked: int | None) -> tuple:
    """(boxes, other, bars, table, facts, formula, note, charts, hide, holds, numbers)."""
    answer = found[0]
    encoded, phrases = answer.encoded, list(answer.encoded.phrases)
    if picked is None or picked >= len(encoded.scores):
        picked = int(encoded.scores.max(1).argmax())
    bars = drawing.score_bars(*_word_scores(encoded, picked), answer.threshold, _title(answer, picked))
    beside = picture_of(found[1], faint, None) if len(found) > 1 else None
    return (
        picture_of(answer, faint, picked),
        gr.update(value=beside, visible=beside is not None),
        bars,
        _tables(answer),
        _facts(answer),
        _formula(answer, picked),
        pictures.honest_note(answer.given, encoded.model, BETTER),
        _charts(answer),
        common.CheckboxGroup(phrases, value=[p for p in phrases if p in answer.hidden]),
        common.Dropdown(phrases),
        numbers_of(answer),
    )


def _title(answer: Answer, picked: int) -> str:
    shown = [d for d in answer.kept if d.query == picked]
    if not shown:
        return say("Guess {number}, not shown: its score for every word", number=picked + 1)
    return say("Guess {number}, {phrase}: its score for every word", number=picked + 1, phrase=shown[0].phrase)


def _word_scores(encoded, picked: int) -> tuple[list[str], list[float]]:
    """The phrases by falling score of this guess, each followed by its words where it has several."""
    names, scores = [], []
    for place in encoded.scores[picked].argsort()[::-1][:MOST_BARS]:
        names.append(encoded.phrases[place])
        scores.append(float(encoded.scores[picked, place]))
        words = range(*encoded.spans[place])
        if len(words) > 1:
            names += [f"\u2003{encoded.words[w]}" for w in words]
            scores += [float(encoded.word_scores[picked, w]) for w in words]
    return names, scores


def numbers_of(answer: Answer) -> dict:
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
        "truth": [{"phrase": p, "box": list(box)} for p, box in answer.true] if known else None,
        "true_positives": matching.true_positives if known else None,
        "false_positives": matching.false_positives if known else None,
        "false_negatives": matching.false_negatives if known else None,
        "precision": precision,
        "recall": recall,
        "f1": matching.f1 if known else None,
        "average_precision": curve.average_precision,
        "model": encoded.model,
        "backend": encoded.backend,
    }


def _tables(answer: Answer) -> str:
    """What was found, and how near every phrase came to being found."""
    told = {None: say("false alarm")}
    rows = []
    for d, hit, iou in zip(answer.kept, answer.matching.truth, answer.matching.overlap, strict=True):
        judged = [f"{iou:.2f}", told.get(hit, say("found"))] if answer.true is not None else ["–", "–"]
        rows.append([d.phrase, f"{d.score:.2f}", " ".join(f"{side:.0f}" for side in d.box), *judged])
    if not rows:
        rows = [[say("nothing reaches the threshold"), "", "", "", ""]]
    head = [say("phrase"), say("score"), say("box, pixels"), say("IoU with truth"), say("so it is")]
    heads = [say("word by word"), say("highest score"), say("to the threshold"), say("boxes"), say("in the picture")]
    by_word = [_word_row(answer, place, phrase) for place, phrase in enumerate(answer.encoded.phrases)]
    return f'<div class="tables">{drawing.grid_table(head, rows)}{drawing.grid_table(heads, by_word)}</div>'


def _word_row(answer: Answer, place: int, phrase: str) -> list[str]:
    highest = float(answer.encoded.scores[:, place].max())
    boxes = sum(d.place == place for d in answer.kept)
    there = "–"
    if answer.true is not None:
        count = sum(same(name, phrase) for name, _ in answer.true)
        there = str(count) if count else say("no: false alarm") if boxes else say("no")
    name = phrase
    if MODELS[answer.encoded.model].seen == STORYBOOK and tuple(key(phrase).split()) in storybook.HELD_OUT:
        name = say("{phrase} (never seen together in training)", phrase=phrase)
    return [name, f"{highest:.2f}", f"{highest - answer.threshold:+.2f}", str(boxes), there]


def _facts(answer: Answer) -> str:
    encoded, matching = answer.encoded, answer.matching
    rows = [
        (
            say("Boxes kept"),
            f"{len(answer.kept)} / {len(encoded.scores)}",
            say("guesses; {dropped} more reach the threshold and overlap a better one", dropped=answer.suppressed),
        ),
        (
            say("Time of the model"),
            f"{encoded.milliseconds:.0f} ms",
            say("the backbone was skipped: only words are new")
            if encoded.backbone_skipped
            else say("once for each picture and line of words; the sliders never run it"),
        ),
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
        rows[2:2] = [
            (
                say("Precision, recall"),
                f"{'–' if precision is None else f'{precision:.0%}'}, {recall:.0%}",
                say("right among the found, found among the true"),
            ),
            (
                say("F1, average precision"),
                f"{matching.f1:.2f}, {answer.curve.average_precision:.2f}",
                say("of this picture; 1 is perfect. Average precision needs no threshold"),
            ),
        ]
    return drawing.facts(rows)


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


def _charts(answer: Answer) -> str:
    charts = drawing.histogram(
        answer.encoded.scores.max(1),
        say("highest score of a guess"),
        say("guesses"),
        answer.threshold,
        say("All {count} guesses, and your threshold", count=len(answer.encoded.scores)),
    )
    if answer.true:
        curve = answer.curve
        precision, recall = curve.at(answer.threshold)
        charts += drawing.curves(
            [drawing.Line(say("every threshold, from strict to lax"), [0.0, *curve.recall], [1.0, *curve.precision])],
            say("recall"),
            say("precision"),
            y_range=(0, 1.02),
            x_range=(0, 1.02),
            point=None if precision is None else (recall, precision),
            title=say("Precision and recall, and where you stand"),
        )
    return f'<div class="charts">{charts}</div>'


if __name__ == "__main__":
    from demos.serving import launch_settings

    with gr.Blocks(title="Patchlight · detection") as page:
        build()
    page.launch(**launch_settings(page))
