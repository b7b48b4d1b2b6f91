"""The detection tab: what runs the model and what does not, the ground truth beside it, and every bad input."""

import types

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from demos.detection import answers, boxes
from demos.ui import drawing, pictures
from demos.ui.pictures import Given
from pipelines.detection import pipeline
from pipelines.detection.settings import Settings
from pipelines.world import storybook
from tests.demos.served import Served, counting, last

PHRASES = ("cat", "red car", "car", "dog")


def encoded_of(boxes, scores, size=(100, 80)) -> pipeline.Encoded:
    """Queries with known boxes and known scores for PHRASES."""
    scores = np.float32(scores)
    words, spans = ("cat", "red", "car", "car", "dog"), ((0, 1), (1, 3), (3, 4), (4, 5))
    by_word = np.stack([scores[:, 0], scores[:, 1], scores[:, 1] / 2, scores[:, 2], scores[:, 3]], axis=1)
    return pipeline.Encoded(
        model="storybook-grounding-dino",
        backend="transformers",
        size=size,
        phrases=PHRASES,
        words=words,
        spans=spans,
        word_scores=by_word,
        scores=scores,
        boxes=np.float32(boxes),
        milliseconds=12.0,
        backbone_skipped=False,
    )


ENCODED = encoded_of(
    [(10, 10, 50, 60), (12, 11, 51, 60), (60, 20, 90, 70), (0, 0, 99, 79)],
    [(0.9, 0.1, 0.1, 0.2), (0.6, 0.1, 0.1, 0.1), (0.05, 0.5, 0.4, 0.1), (0.1, 0.1, 0.1, 0.35)],
)
TRUTH = "cat: 10 10 50 60; red car: 60 20 90 72"
PICTURE = Image.new("RGB", (100, 80), (40, 90, 60))


@pytest.fixture
def known(monkeypatch) -> Served:
    """The tab over known scores."""
    monkeypatch.setattr(boxes, "encode", lambda picture, phrases, model, backend: ENCODED)
    return Served(boxes.LESSON)


@pytest.fixture
def handler(known):
    return known["detection"]


@pytest.fixture
def endpoint():
    """Over the model itself."""
    boxes.encode.cache_clear()
    return Served(boxes.LESSON)["detection"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("detection") / "plain.png"
    PICTURE.save(path)
    return str(path)


def numbers(handler, picture, **settings) -> dict:
    return last(handler(picture, "cat . red car . car . dog", **settings))["numbers"]


def test_counts_follow_the_threshold_by_hand(handler, picture):
    """Four guesses, the second one a double of the first; the fourth a dog that is not there."""
    lax, strict = (numbers(handler, picture, box_threshold=b, truth=TRUTH) for b in (0.3, 0.6))
    assert [d["phrase"] for d in lax["detections"]] == ["cat", "red car", "dog"]
    assert (lax["true_positives"], lax["false_positives"], lax["false_negatives"]) == (2, 1, 0)
    assert (lax["precision"], lax["recall"], lax["f1"]) == (pytest.approx(2 / 3), 1.0, pytest.approx(0.8))
    assert (strict["true_positives"], strict["false_positives"], strict["false_negatives"]) == (1, 0, 1)
    assert strict["average_precision"] == lax["average_precision"] == 1.0, "the dog comes last, whatever the threshold"
    assert lax["detections"][1]["iou"] == pytest.approx(50 / 52)


def test_a_threshold_that_cannot_act_says_so(handler, picture):
    idle, free = (last(handler(picture, "cat. red car. car. dog", 0.2, text)) for text in (0.45, 0.1))
    assert "Below 0.45 this slider changes nothing" in idle["charts"] and "changes nothing" not in free["charts"]
    lower = last(handler(picture, "cat. red car. car. dog", 0.05, 0.45))
    assert lower["numbers"]["detections"] == idle["numbers"]["detections"]


def test_the_double_comes_back_without_suppression(handler, picture):
    doubled = numbers(handler, picture, nms_iou=1.0, truth=TRUTH)
    assert [d["phrase"] for d in doubled["detections"]].count("cat") == 2 and doubled["false_positives"] == 2


def test_a_hidden_phrase_is_gone_with_its_truth(handler, picture):
    hidden = numbers(handler, picture, hide=["red car"], truth=TRUTH)
    assert {d["phrase"] for d in hidden["detections"]} == {"cat", "dog"}
    assert hidden["false_negatives"] == 0 and len(hidden["truth"]) == 1


def test_without_truth_nothing_is_judged(handler, picture):
    found = numbers(handler, picture)
    assert found["truth"] is None and found["f1"] is None and found["detections"][0]["iou"] is None
    shown = last(handler(picture, "cat . red car . car . dog"))
    assert "Precision, recall" not in shown["facts"] and "false alarm" not in shown["table"]


def test_where_nothing_is_there_everything_found_is_a_false_alarm(scene_file, endpoint):
    """Words that are not in the scene: its truth is known, and empty."""
    given = Given(
        picture=Image.fromarray(storybook.scene(storybook.TEST[3]).picture), scene=storybook.scene(storybook.TEST[3])
    )
    shown = last(endpoint(scene_file, answers.fill("absent", given), box_threshold=0, text_threshold=0))
    found = shown["numbers"]
    assert found["truth"] == [] and found["true_positives"] == found["false_negatives"] == 0
    assert found["false_positives"] == len(found["detections"]) > 0
    assert found["precision"] == 0 and found["recall"] is None and found["average_precision"] is None
    assert f"0, {found['false_positives']}, 0" in shown["facts"] and "of 0 true boxes" in shown["facts"]
    assert "Precision, recall" not in shown["facts"] and "no: false alarm" in shown["table"]


def test_tables_say_what_was_found_and_what_was_not_there(handler, picture):
    shown = last(handler(picture, "cat . red car . car . dog", truth=TRUTH))
    table, facts, formula, charts = (shown[name] for name in ("table", "facts", "formula", "charts"))
    assert "<td>false alarm</td>" in table and "no: false alarm" in table and "+0.05" in table
    assert "2, 1, 0" in facts and "67%, 100%" in facts
    assert r"F_1" in formula and "= 0.80" in formula
    assert charts.count('class="point"') == 1 and charts.count('class="above"') == 4 and 'class="below"' not in charts


def test_the_point_walks_along_the_curve(handler, picture):
    def point(threshold: float) -> str:
        charts = last(handler(picture, "cat . red car . car . dog", box_threshold=threshold, truth=TRUTH))["charts"]
        return charts[charts.index("<circle") : charts.index('class="point"')]

    assert len({point(b) for b in (0.2, 0.4, 0.8)}) == 3


def test_a_box_is_drawn_exactly_where_it_is(handler, picture):
    """On a picture that is not square; small pictures are shown by a whole factor."""
    frame = drawing.Frame(box=(10, 20, 50, 60), label="cat 0.90", colour=(255, 0, 0))
    canvas, scale = drawing.show(PICTURE)
    drawn = np.asarray(drawing.frames(canvas, [frame], scale)).astype(int)
    red = (drawn == (255, 0, 0)).all(-1)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert scale == 4 and canvas.size == (400, 320)
    assert (columns[0], columns[-1], rows[-1]) == (40, 200, 240) and rows[0] < 80, "the label stands above the box"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prompt": "..."}, "no word to look for"),
        ({"prompt": ""}, "no word to look for"),
        ({"prompt": 7}, "must be text"),
        ({"prompt": "cat . " * 1000}, "too long"),
        ({"box_threshold": float("nan")}, "box threshold must be a number from 0 to 1"),
        ({"text_threshold": -0.1}, "text threshold must be a number"),
        ({"nms_iou": "none"}, "overlap limit must be a number"),
        ({"hide": "cat"}, "must be a list of words"),
        ({"hide": [1]}, "must be a list of words"),
        ({"faint": 1}, "true or false"),
        ({"backend": "compiled"}, "must be one of"),
        ({"model": "storybook-clip-b"}, "must be one of"),
        ({"compare": "nobody"}, "must be one of"),
        ({"truth": "cat here"}, "no true box"),
        ({"truth": "cat: 10 10 120 60"}, "not inside the picture of 100 by 80"),
        ({"truth": "cat: -5 10 20 60"}, "not inside the picture"),
        ({"truth": "cat: 50 10 20 60"}, "has no area"),
        ({"truth": "horse: 1 1 20 20"}, "not among the words"),
        ({"truth": {"a": 1}}, "must be text"),
    ],
)
def test_bad_input_is_told(handler, picture, settings, told):
    with pytest.raises(Exception, match=told):
        last(handler(**{"image": picture, "prompt": "cat . red car . car . dog", **settings}))
    assert numbers(handler, picture)["detections"]


@pytest.mark.parametrize("line", ["کرگدن . سگ", "🐱 . 🐶", "a zebra . cat"])
def test_words_the_bundled_model_does_not_know_are_named(line, scene_file, endpoint):
    with pytest.raises(Exception, match="does not know.*apple"):
        last(endpoint(scene_file, line))


# ---- what runs the model


def test_thresholds_overlap_and_hiding_never_run_the_model(scene_file, endpoint):
    """Counted at the module itself, not at our own function."""
    from pipelines.models.detectors import Detector
    from pipelines.models.loading import load

    words = answers.asked_of(storybook.scene(storybook.TEST[3]))
    module, passes = load("storybook-grounding-dino", Detector).module.model.decoder, []
    hook = module.register_forward_hook(lambda *_: passes.append(1))
    try:
        found = [
            last(endpoint(scene_file, words, **settings))["numbers"]
            for settings in (
                {},
                {"box_threshold": 0.05},
                {"text_threshold": 0.9},
                {"nms_iou": 0.9},
                {"hide": pipeline.parse(words)[:1]},
                {"faint": True},
                {"compare": ""},
            )
        ]
        assert len(passes) == 1 and len({len(f["detections"]) for f in found}) > 1
        last(endpoint(scene_file, "lion"))
        assert len(passes) == 2
    finally:
        hook.remove()


def test_both_backends_side_by_side_agree(scene_file, endpoint, monkeypatch):
    fake, calls = counting(pipeline, "encode")
    monkeypatch.setattr(boxes, "pipeline", fake)
    words = answers.asked_of(storybook.scene(storybook.TEST[3]))
    shown = last(endpoint(scene_file, words, compare="storybook-grounding-dino/groundingdino"))
    assert calls["encode"] == 2 and shown["other"]["visible"]
    one, two = (last(endpoint(scene_file, words, backend=b))["numbers"]["detections"] for b in boxes.BACKENDS)
    assert len(one) == len(two) > 0
    for a, b in zip(one, two, strict=True):
        assert a["phrase"] == b["phrase"] and np.allclose(a["box"], b["box"], atol=0.2)


def test_both_backends_give_the_bundled_weights_the_same_boxes_and_logits():
    scene = storybook.compose_text("a cat left of a red car", size=(192, 128))
    picture, words = Image.fromarray(scene.picture), "cat . red car . blue car . dog"
    one, two = (pipeline.encode(picture, words, "storybook-grounding-dino", b) for b in boxes.BACKENDS)
    logits = [np.log(e.word_scores.astype(float) / (1 - e.word_scores.astype(float))) for e in (one, two)]
    np.testing.assert_allclose(one.boxes / 192, two.boxes / 192, atol=1e-3)
    np.testing.assert_allclose(*logits, atol=1e-3)


def test_boxes_land_exactly_on_a_picture_that_is_not_square():
    for size in ((256, 128), (128, 224)):
        scene = storybook.compose_text("a cat left of a red car", size=size)
        found = pipeline.select(
            pipeline.encode(Image.fromarray(scene.picture), "cat . red car", "storybook-grounding-dino")
        )
        true = {o.phrase: o.box for o in scene.objects}
        assert {d.phrase for d in found} == set(true)
        for d in found:
            assert pipeline.iou([d.box], [true[d.phrase]])[0, 0] > 0.8, (size, d)


def test_a_scene_brings_its_truth_and_its_words(scene_file, endpoint):
    scene = storybook.scene(storybook.TEST[3])
    words = answers.asked_of(scene)
    found = last(endpoint(scene_file, words))["numbers"]
    assert {t["phrase"] for t in found["truth"]} == {o.phrase for o in scene.objects}
    assert [t["box"] for t in found["truth"]] == [list(o.box) for o in scene.objects]


def test_words_of_a_scene():
    for seed in range(40):
        scene = storybook.scene(storybook.TEST[seed])
        given = Given(picture=Image.fromarray(scene.picture), scene=scene)
        there = pipeline.parse(answers.fill("there", given))
        absent = pipeline.parse(answers.fill("absent", given))
        assert set(there) == {o.phrase for o in scene.objects} and len(absent) == 6 and not set(there) & set(absent)
        assert set(there) < set(pipeline.parse(answers.asked_of(scene)))
    assert set(pipeline.parse(answers.fill("all", given))) == set(storybook.NOUNS)
    with pytest.raises(ValueError, match="not known"):
        answers.fill("there", Given(picture=PICTURE, scene=None))


def test_an_object_counts_for_the_most_exact_phrase():
    _, scene = pictures.scene_picture({"text": "a cat left of a red car", "seed": 0})
    given = Given(picture=Image.fromarray(scene.picture), scene=scene)
    assert [p for p, _ in answers.truth_of(given, ("car", "red car"), "")] == ["red car"]
    assert [p for p, _ in answers.truth_of(given, ("car", "cat"), "")] == ["cat", "car"]


@pytest.mark.parametrize("line", ["a cat . a red car", "The Cats; RED CARS!", "cat、 red　car", "my cat\nthe red-car"])
def test_truth_is_that_of_what_was_meant(line, tmp_path):
    """Asked with articles, in the plural or with other stops, the scene's things are found and nothing is an alarm."""
    path = tmp_path / "scene.png"
    pictures.scene_picture({"text": "a cat left of a red car on grass", "seed": 3})[0].save(path)
    given = pictures.read_picture(str(path))
    scene = storybook.compose_text("a cat left of a red car on grass", seed=3)
    phrases = tuple(pipeline.parse(line))
    found = pipeline.select(pipeline.encode(given.picture, phrases, "storybook-grounding-dino"))
    true = answers.truth_of(Given(picture=given.picture, scene=scene), phrases, "")
    assert [phrase for phrase, _ in true] == list(phrases)
    told = pipeline.match(found, true)
    assert told.true_positives == 2 and told.f1 == 1
    typed = "; ".join(
        answers.truth_line(name, o.box) for name, o in zip(("CAT", "a red car"), scene.objects, strict=True)
    )
    assert answers.truth_of(given, phrases, typed.replace(";", "；").replace(":", "：")) == [
        (phrase, tuple(map(float, box))) for phrase, box in true
    ]


@pytest.mark.parametrize("hide", ["a red car", "RED CARS"])
def test_a_phrase_is_hidden_by_what_it_means(handler, picture, hide):
    assert numbers(handler, picture, hide=[hide]) | {"settings": 0} == numbers(handler, picture, hide=["red car"]) | {
        "settings": 0
    }


def test_a_click_takes_the_smallest_box_around_it():
    given = Given(picture=PICTURE, scene=None)
    answer = answers.evaluate(pipeline, given, ENCODED, None, (0.3, 0.25, 0.5), ())
    assert [answer.query_at(x, y, False) for x, y in ((30, 30), (70, 30), (5, 5))] == [0, 2, 3]
    strict = answers.evaluate(pipeline, given, ENCODED, None, (0.45, 0.25, 0.5), ())
    assert strict.query_at(5, 5, False) is None and strict.query_at(5, 5, True) == 3


def test_a_drawn_box_is_read_back():
    line = answers.truth_line("red car", (10.2, 20.7, 49.6, 60.4))
    assert answers.truth_of(Given(picture=PICTURE, scene=None), PHRASES, line) == [("red car", (10, 21, 50, 60))]


def test_true_boxes_go_with_their_phrases_and_what_is_no_box_stays():
    text = "cat: 1 2 30 40; dog: 5 5 9 9; Car: 1 1 8 8; nonsense"
    assert answers.kept_truth(text, ["cat", "car"]) == ("cat: 1 2 30 40; Car: 1 1 8 8; nonsense", ["dog"])
    assert answers.kept_truth("", ["cat"]) == ("", [])


def test_a_true_box_is_checked_before_it_is_kept(known, picture):
    """Two clicks on one point, a text too long: refused, and what was there stays."""

    def at(x, y, truth="", corner=None):
        event = types.SimpleNamespace(index=[x, y])
        return known["click"](
            picture, *vars(Settings(prompt="cat . dog", truth=truth)).values(), "draw", None, corner, event
        )

    first = at(40, 40)
    corner = first["corner"]
    assert corner is not None and "truth" not in first
    for x, y in ((40, 40), (40, 300), (300, 41)):
        with pytest.raises(gr.Error, match="apart in both directions"):
            at(x, y, corner=corner)
    truth = at(200, 240, corner=corner)["truth"]
    assert truth == "cat: 10 10 50 60"
    with pytest.raises(gr.Error, match="too long"):
        at(200, 240, "; ".join([truth] * 222), corner)
