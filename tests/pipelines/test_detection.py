"""Words to boxes: what is read, what is kept, how it is held against the truth, and both backends on one model."""

import builtins
import json
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from pipelines.detection import pipeline as detection
from pipelines.detection.pipeline import (
    Detection,
    Encoded,
    curve,
    encode,
    false_alarms,
    iou,
    match,
    parse,
    read,
    select,
)
from pipelines.errors import UserError
from pipelines.evaluation import detection as detection_quality
from pipelines.models import detectors, groundingdino_backend
from pipelines.training import detection as training
from pipelines.training import tokenizer as words
from pipelines.world import storybook
from tests import tiny_detector
from tests.tiny_detector import NAME


@pytest.fixture
def calls(detector):
    """How often each module ran: {module: times}."""
    counted = {}

    def count(module, _):
        counted[module] = counted.get(module, 0) + 1

    handle = register_module_forward_pre_hook(count)
    yield counted
    handle.remove()


# ------------------------------------------------------------------------------------------------------------ phrases


@pytest.mark.parametrize(
    "text, phrases",
    [
        ("cat . red car .", ["cat", "red car"]),
        ("cat.red car", ["cat", "red car"]),
        ("  CAT .  Red   Car . cat ..", ["cat", "red car"]),
        ("cat, dog\nbird; frog?", ["cat", "dog", "bird", "frog"]),
        (["Cat", "red car.", "cat"], ["cat", "red car"]),
        ("گربه، سگ", ["گربه", "سگ"]),
        ("cat、dog，bird；frog？猫。狗", ["cat", "dog", "bird", "frog", "猫", "狗"]),
        ("ＣＡＴ．Ｒｅｄ　Ｃａｒ", ["cat", "red car"]),
        ("¿gato? «un perro»!", ["gato", "un perro"]),
    ],
)
def test_phrases_are_read_however_they_are_typed(text, phrases):
    assert parse(text) == phrases


@pytest.mark.parametrize("text", ["", "   ", " . .. ", [], ["", "."], ".\n."])
def test_nothing_but_dots_is_refused(text):
    with pytest.raises(ValueError, match="no word to look for"):
        parse(text)


@pytest.mark.parametrize("text", [None, 3, [1], b"cat", {"cat": 1}])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(ValueError, match="Type what to look for"):
        parse(text)


def test_a_megabyte_of_text_is_refused():
    with pytest.raises(ValueError, match="1,000,000 characters"):
        parse("cat. " * 200_000)


def test_a_phrase_that_begins_another_keeps_its_own_tokens(detector):
    prompt = read(parse("red . red car . a red car . car"), detector)
    red, car = (words.phrase_vocabulary()[word] for word in ("red", "car"))
    assert prompt.ids.tolist() == [[101, red, 1012, red, car, 1012, red, car, 1012, car, 1012, 102]]
    assert prompt.words == ("red", "red", "car", "red", "car", "car")
    assert prompt.spans == ((0, 1), (1, 3), (3, 5), (5, 6)) and prompt.tokens == (1, 3, 4, 6, 7, 9)


def test_a_tokenizer_that_spells_gives_a_phrase_all_its_pieces(detector, monkeypatch):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["[PAD]", "[UNK]", "back", "##pack", "a", "##s", "straw", "[CLS]", "[SEP]", "."]
    spelling = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    spelling.normalizer = normalizers.BertNormalizer()
    spelling.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    spelling.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 7), ("[SEP]", 8)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=spelling, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    other = detectors.Detector(
        spec=detector.spec, module=detector.module, processor=detector.processor, tokenizer=fast, vocabulary=None
    )
    prompt = read(parse("backpacks . straw backpack"), other)
    assert prompt.words == ("back", "pack", "s", "straw", "back", "pack") and prompt.spans == ((0, 3), (3, 6))
    with pytest.raises(ValueError, match="does not know '😀'.$"):
        read(parse("backpack . 😀"), other)


@pytest.mark.parametrize("prompt", ["cat . zebra", "گربه", "cat 😀", "[SEP] . cat", "cat; drop table", "\u200b"])
def test_unknown_words_are_named_with_the_known_ones(detector, prompt):
    with pytest.raises(ValueError, match="does not know '.*apple, backpack"):
        encode(Image.new("RGB", (64, 64)), prompt, NAME)


def test_the_longest_line_that_fits_is_read_and_the_next_refused_with_its_number(detector):
    """Beside the words: the full stop after the phrase, the beginning and the end."""
    assert read(["cat " * 252 + "cat"], detector).ids.shape == (1, 256)
    for count in (254, 255, 300):
        with pytest.raises(UserError, match=f"at most 256 pieces of words, dots included, and this makes {count + 3}"):
            read([" ".join(["cat"] * count)], detector)
    assert len(parse("c" * 4000)[0]) == 4000
    with pytest.raises(UserError, match="4,001 characters; at most 4,000"):
        parse("c" * 4001)


def test_a_plural_is_read_as_the_singular_where_that_alone_is_known(detector):
    prompt, plain = (
        read(parse("Cats . my red-CARS . glasses"), detector),
        read(parse("cat . red car . glasses"), detector),
    )
    assert prompt.ids.tolist() == plain.ids.tolist() and prompt.phrases == ("cats", "my red-cars", "glasses")


def test_more_tokens_than_the_model_reads_are_refused(detector):
    colours = [f"{a} {b}" for a in storybook.COLOURS for b in storybook.THINGS]
    with pytest.raises(ValueError, match="at most 256 .* makes 398"):
        encode(Image.new("RGB", (64, 64)), colours, NAME)


# ------------------------------------------------------------------------------------------------------------- encode


def test_a_score_is_the_highest_of_the_phrases_words(detector, scene_image):
    found = encode(scene_image, "red car . cat . car", NAME)
    assert found.word_scores.shape == (12, 4) and found.scores.shape == (12, 3) and found.boxes.shape == (12, 4)
    np.testing.assert_array_equal(found.scores[:, 0], found.word_scores[:, :2].max(1))
    np.testing.assert_array_equal(found.scores[:, 2], found.word_scores[:, 3])
    assert 0 < found.word_scores.min() and found.word_scores.max() < 1 and found.milliseconds > 0


@pytest.mark.parametrize("size", [(128, 128), (300, 150), (97, 211), (1900, 1200), (40, 33)])
def test_boxes_are_in_pixels_of_the_picture_that_was_given(detector, detector_folder, size):
    """Against transformers' own processor, on the whole picture, whatever its shape."""
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    picture = Image.fromarray(storybook.scene(5).picture).resize(size)
    found = encode(picture, "cat . red car", NAME)
    processor = AutoProcessor.from_pretrained(detector_folder)
    processor.image_processor = detector.processor  # Pillow's resizing; by default transformers takes torchvision's
    inputs = processor(images=picture, text="cat . red car .", return_tensors="pt")
    module = AutoModelForZeroShotObjectDetection.from_pretrained(detector_folder)
    detectors.mend_word_positions(module)
    with torch.no_grad():
        outputs = module(**inputs)
    (wanted,) = processor.post_process_grounded_object_detection(
        outputs, threshold=-1, target_sizes=[(size[1], size[0])]
    )
    np.testing.assert_allclose(
        found.boxes, wanted["boxes"].numpy(), atol=1e-4 * max(size)
    )  # it resizes with torchvision
    assert found.size == size


def test_words_are_counted_from_the_beginning_of_their_phrase(detector, scene_image):
    """As in the authors' code, where the full stop comes last; transformers counted otherwise until 5.23."""
    told = {}

    def in_text(_, given, named):
        told["text"] = named["position_ids"].tolist()

    def in_fusion(_, given, named):
        told["fusion"] = named["text_position_ids"].tolist()

    inner = detector.module.model
    hooks = [
        inner.text_backbone.embeddings.register_forward_pre_hook(in_text, with_kwargs=True),
        inner.encoder.layers[0].register_forward_pre_hook(in_fusion, with_kwargs=True),
    ]
    encode(scene_image, "red car . cat", NAME)  # start, red, car, ., cat, ., end
    for hook in hooks:
        hook.remove()
    assert told == {"text": [[0, 0, 1, 2, 0, 1, 0]], "fusion": [[0.0, 0.0, 1.0, 2.0, 0.0, 1.0, 0.0]]}


def test_a_known_box_lands_exactly_on_a_wide_composition(detector, monkeypatch):
    """The model's answer is replaced by the truth of a 300x150 scene, as shares of the picture's sides."""
    scene = storybook.compose_text("a cat left of a red car", size=(300, 150))
    true = np.float32([o.box for o in scene.objects])
    shares = torch.from_numpy(np.concatenate([true[:, :2] + true[:, 2:], 2 * (true[:, 2:] - true[:, :2])], axis=1) / 2)
    answer = torch.zeros(2, 256), shares / torch.tensor([300, 150, 300, 150])
    monkeypatch.setitem(detection.BACKENDS, "transformers", (lambda *_: None, lambda *_: answer))
    np.testing.assert_allclose(encode(Image.fromarray(scene.picture), "cat . red car", NAME).boxes, true, atol=1e-4)


@pytest.mark.parametrize("backend", detection.BACKENDS)
def test_new_words_on_the_same_picture_skip_the_backbone(detector, calls, scene_image, backend):
    module = detector.faster().model if backend == "transformers" else detector.groundingdino
    backbone = module.backbone
    first, second = (encode(scene_image, text, NAME, backend) for text in ("cat . dog", "red car"))
    assert calls[backbone] == 1 and (first.backbone_skipped, second.backbone_skipped) == (False, True)
    detector.features.clear()
    afresh = encode(scene_image, "red car", NAME, backend)
    assert calls[backbone] == 2 and not afresh.backbone_skipped
    np.testing.assert_array_equal(second.word_scores, afresh.word_scores)
    np.testing.assert_array_equal(second.boxes, afresh.boxes)
    encode(scene_image.rotate(90), "red car", NAME, backend)
    assert calls[backbone] == 3


def test_few_pictures_are_remembered_and_the_model_stays_as_it_was(detector):
    backbone = detector.module.model.backbone
    for shade in range(6):
        encode(Image.new("RGB", (64, 64), (shade, 0, 0)), "cat", NAME)
    assert len(detector.features) == detection.PICTURES_KEPT
    assert detector.module.model.backbone is backbone


def test_unknown_backend_is_refused(detector, scene_image):
    with pytest.raises(ValueError, match="one of transformers, groundingdino, not 'tensorflow'"):
        encode(scene_image, "cat", NAME, "tensorflow")


# ----------------------------------------------------------------------------------------------------------- backends


@pytest.mark.parametrize("size", [(128, 128), (200, 130)])
def test_both_backends_give_the_same_boxes_and_scores(detector, capfd, recwarn, size):
    picture = Image.fromarray(storybook.scene(3).picture).resize(size)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        theirs = encode(picture, "red car . cat . red", NAME, "groundingdino")
    ours = encode(picture, "red car . cat . red", NAME)
    np.testing.assert_allclose(ours.word_scores, theirs.word_scores, atol=1e-4)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3 * max(size))
    assert np.ptp(ours.boxes, axis=0).min() > 1, "all boxes alike would prove nothing"
    assert capfd.readouterr() == ("", "") and not [w for w in told if "groundingdino" in str(w.filename)]


def test_weights_go_there_and_back(detector):
    state = detector.module.state_dict()
    back = groundingdino_backend.to_transformers(groundingdino_backend.to_groundingdino(state))
    unused = {name for name in state if ".swin.layernorm." in name}
    assert set(back) == set(state) - unused and len(unused) == 2
    for name, tensor in back.items():
        assert torch.equal(tensor, state[name]), name
    again = groundingdino_backend.to_transformers(detector.groundingdino.state_dict())
    assert set(again) == set(back)


def test_both_backends_agree_at_full_size():
    """Swin-T, BERT base, 900 queries, random weights, a small picture."""
    torch.manual_seed(0)
    vision = training.VISION | {"image_size": 224, "embed_dim": 96, "depths": [2, 2, 6, 2], "window_size": 7}
    module = training.build({}, vision | {"num_heads": [3, 6, 12, 24], "out_indices": [2, 3, 4]}, {}).eval()
    for head in (module.bbox_embed, module.model.encoder_output_bbox_embed):
        tiny_detector.stirred(head)
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=words.build_phrases(), pad_token="[PAD]")
    other = groundingdino_backend.build(module, fast).eval()
    pixels = torch.randn(1, 3, 224, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = module(pixels, torch.tensor([fast("red car . cat .")["input_ids"]]))
        theirs = other(groundingdino_backend.unpadded(pixels), captions=["red car . cat ."])
    difference = (ours.logits.sigmoid() - theirs["pred_logits"].sigmoid()).abs().amax(-1)[0]
    moved = (ours.pred_boxes - theirs["pred_boxes"]).abs().amax(-1)[0]
    # Two proposals that tie to the last digit may change places, and every other query looks at them a little.
    alike = ((difference < 1e-3) & (moved < 5e-3)).float().mean()
    assert alike > 0.99
    assert ours.logits.shape == (1, 900, 256)


def test_missing_system_library_is_named_and_the_other_backend_goes_on(detector, scene_image, monkeypatch):
    real = builtins.__import__

    def broken(name, *arguments, **keywords):
        if name.startswith("groundingdino"):
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ValueError, match="libgl1.*transformers backend"):
        encode(scene_image, "cat", NAME, "groundingdino")
    assert encode(scene_image, "cat", NAME).backend == "transformers"


def test_models_without_their_code_are_refused(detector):
    from transformers import MMGroundingDinoConfig

    with pytest.raises(ValueError, match="no MM-Grounding-DINO. Choose the transformers backend"):
        groundingdino_backend._refuse_others(MMGroundingDinoConfig())


# ------------------------------------------------------------------------------------------------------------- select


def encoded(scores: list[list[float]], boxes: list[tuple], phrases: tuple[str, ...] = ("cat", "dog")) -> Encoded:
    """What a model might have said, every phrase one word."""
    table = np.array(scores, np.float32)
    spans = tuple((i, i + 1) for i in range(len(phrases)))
    return Encoded(
        model=NAME,
        backend="transformers",
        size=(100, 100),
        phrases=phrases,
        words=phrases,
        spans=spans,
        word_scores=table,
        scores=table,
        boxes=np.array(boxes, np.float32),
        milliseconds=1.0,
        backbone_skipped=False,
    )


HAND = encoded(
    [[0.9, 0.2], [0.8, 0.1], [0.6, 0.7], [0.28, 0.1], [0.31, 0.05]],
    [(0, 0, 10, 10), (1, 0, 11, 10), (1, 0, 11, 10), (50, 50, 60, 60), (80, 80, 90, 90)],
)


def test_thresholds_and_suppression_by_hand():
    """Box 1 overlaps box 0 with IoU 9/11 and is a cat too; box 2 lies where box 1 does and is a dog."""
    kept = select(HAND)
    assert [(d.phrase, d.query, d.words) for d in kept] == [
        ("cat", 0, ("cat",)),
        ("dog", 2, ("dog",)),
        ("cat", 4, ("cat",)),
    ]
    assert kept[0].score == pytest.approx(0.9) and kept[0].box == (0, 0, 10, 10)
    assert [d.query for d in select(HAND, nms_iou=None)] == [0, 1, 2, 4]
    assert [d.query for d in select(HAND, nms_iou=9 / 11 + 1e-6)] == [0, 1, 2, 4]
    assert [d.query for d in select(HAND, 0.28)] == [0, 2, 4, 3]
    assert [d.query for d in select(HAND, 0, 0)] == [0, 2, 4, 3], "what is below the thresholds is there for the asking"
    assert [d.query for d in select(HAND, 0.3, 0.65)] == [0, 2]
    assert select(HAND, 1, 1) == []


def test_text_threshold_names_the_words_of_the_box():
    word_scores = np.float32([[0.2, 0.8, 0.1]])
    found = Encoded(
        model=NAME,
        backend="transformers",
        size=(9, 9),
        phrases=("red car", "cat"),
        words=("red", "car", "cat"),
        spans=((0, 2), (2, 3)),
        word_scores=word_scores,
        scores=np.float32([[0.8, 0.1]]),
        boxes=np.float32([[0, 0, 5, 5]]),
        milliseconds=1.0,
        backbone_skipped=False,
    )
    assert select(found)[0].words == ("car",) and select(found, 0.3, 0.1)[0].words == ("red", "car")


def test_a_slider_never_runs_the_model(detector, calls, scene_image):
    found = encode(scene_image, "cat . red car", NAME)
    before = dict(calls)
    for threshold in np.linspace(0, 1, 21):
        kept = select(found, threshold, threshold, threshold)
        curve(kept, [("cat", (0, 0, 60, 60))]).at(threshold)
    assert calls == before


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.01, float("inf"), "0.3", None, True, [0.3]])
def test_thresholds_outside_zero_to_one_are_refused(value):
    with pytest.raises(ValueError, match="box threshold must be a number from 0 to 1"):
        select(HAND, box_threshold=value)
    with pytest.raises(ValueError, match="text threshold must be"):
        select(HAND, text_threshold=value)
    if value is not None:
        with pytest.raises(ValueError, match="NMS"):
            select(HAND, nms_iou=value)


# -------------------------------------------------------------------------------------------------------------- truth


def test_overlap_by_hand():
    boxes = [(0, 0, 2, 2), (1, 1, 3, 3), (5, 5, 6, 6), (1, 1, 1, 1)]
    np.testing.assert_allclose(iou(boxes, boxes[:2]), [[1, 1 / 7], [1 / 7, 1], [0, 0], [0, 0]])
    assert iou(np.zeros((0, 4)), boxes).shape == (0, 4)


def detections(*given: tuple[str, float, tuple]) -> list[Detection]:
    return [
        Detection(phrase=phrase, score=score, box=box, query=i, words=(phrase,))
        for i, (phrase, score, box) in enumerate(given)
    ]


TRUTH = [("cat", (0, 0, 10, 10)), ("cat", (20, 0, 30, 10)), ("dog", (40, 0, 50, 10))]
FOUND = detections(
    ("cat", 0.9, (0, 0, 10, 10)),  # finds the first
    ("cat", 0.8, (1, 0, 11, 10)),  # finds it again: false
    ("dog", 0.7, (20, 0, 30, 10)),  # the right place, the wrong word: false
    ("cat", 0.6, (21, 0, 31, 10)),  # finds the second
    ("dog", 0.2, (46, 0, 56, 10)),  # overlaps the dog by a quarter: false
)


def test_matching_by_hand():
    found = match(FOUND, TRUTH)
    assert found.truth == (0, None, None, 1, None) and found.missed == (2,)
    assert (found.true_positives, found.false_positives, found.false_negatives) == (2, 3, 1)
    assert found.f1 == pytest.approx(4 / 8)
    np.testing.assert_allclose(found.overlap, [1, 9 / 11, 0, 9 / 11, 0.25])
    assert match(FOUND, TRUTH, 0.25).truth == (0, None, None, 1, 2)
    assert match([], TRUTH).missed == (0, 1, 2) and match([], TRUTH).f1 == 0
    assert match([], []).f1 is None and match(FOUND, []).false_positives == 5


@pytest.mark.parametrize("typed", [("a cat", "the dog"), ("CATS", "Dogs."), (" cat ", "my dog!"), ("ｃａｔ", "a  dog")])
def test_phrases_are_held_against_the_truth_by_what_they_mean(typed):
    """transformers 26087: asked with articles, right boxes are no false alarms."""
    asked = dict(zip(("cat", "dog"), typed, strict=True))
    found = [replace(d, phrase=asked[d.phrase]) for d in FOUND]
    assert match(found, TRUTH) == match(FOUND, TRUTH)
    assert curve(found, TRUTH).average_precision == curve(FOUND, TRUTH).average_precision
    assert false_alarms(found, (*typed, "bird"), TRUTH) == {"bird": 0}
    assert false_alarms(found, typed, TRUTH[:2]) == {typed[1]: 2}


def test_boxes_of_phrases_that_mean_the_same_suppress_each_other():
    """Box 2 lies where the cat of box 0 does: another thing as a dog, the same one as "a cat"."""
    for name in ("a cat", "cats", "The Cat"):
        kept = select(replace(HAND, phrases=("cat", name)))
        assert [(d.query, d.phrase, d.place) for d in kept] == [(0, "cat", 0), (4, "cat", 0)]
    assert [d.place for d in select(HAND)] == [0, 1, 0]


def test_curve_by_hand():
    """Precision 1, 1/2, 1/3, 1/2, 2/5 at recall 1/3, 1/3, 1/3, 2/3, 2/3: 34 recalls at 1, 33 at 1/2, 34 at 0."""
    found = curve(FOUND, TRUTH)
    np.testing.assert_allclose(found.precision, [1, 1 / 2, 1 / 3, 1 / 2, 2 / 5])
    np.testing.assert_allclose(found.recall, [1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert found.average_precision == pytest.approx((34 + 33 / 2) / 101)
    assert found.at(0.65) == (pytest.approx(1 / 3), pytest.approx(1 / 3)) and found.at(0.95) == (None, 0.0)
    assert found.at(0.6)[1] == pytest.approx(2 / 3), "a score that equals the threshold reaches it"
    assert curve(FOUND, []).average_precision is None and curve([], TRUTH).average_precision == 0
    assert curve([], TRUTH).at(0.5) == (None, 0.0) and curve(FOUND, []).at(0.5) == (0.0, None)


def test_curve_at_a_threshold_is_the_matching_at_that_threshold():
    whole = curve(FOUND, TRUTH)
    for threshold in (0.1, 0.5, 0.75, 0.9):
        part = match([d for d in FOUND if d.score >= threshold], TRUTH)
        precision, recall = whole.at(threshold)
        assert precision == pytest.approx(part.true_positives / len(part.truth))
        assert recall == pytest.approx(part.true_positives / len(TRUTH))


def test_average_precision_is_that_of_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(5):
        corner = rng.uniform(0, 80, (6, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 20, (6, 2))], axis=1)
        truth = [("cat", tuple(map(float, box))) for box in boxes[:4]]
        found = detections(
            *[("cat", float(s), tuple(b + rng.normal(0, 2, 4))) for s, b in zip(rng.random(6), boxes, strict=True)]
        )
        wanted = detection_quality.coco_average_precision([(truth, found)], ["cat"])["ap50"]
        assert curve(found, truth).average_precision == pytest.approx(wanted, abs=1e-6)


def test_false_alarms_are_of_words_that_are_not_there():
    assert false_alarms(FOUND, ("cat", "dog", "bird"), TRUTH[:2]) == {"dog": 2, "bird": 0}


def test_threshold_and_alarms_of_the_card_by_hand():
    """The highest score that keeps two of three objects, and the share of absent words it lets through."""
    pictures = [(TRUTH, FOUND)]
    assert detection_quality.threshold_at(pictures, 0.6) == 0.6 and detection_quality.threshold_at(pictures, 0.9) == 0
    absent = [["bird", "frog", "bear", "lion"]]
    seen = detections(("bird", 0.7, (0, 0, 1, 1)), ("frog", 0.5, (0, 0, 1, 1)), ("cat", 0.9, (0, 0, 1, 1)))
    assert detection_quality.alarm_rate([([], seen)], absent, 0.6) == 0.25
    assert detection_quality.harmonic(0.5, 1.0) == pytest.approx(2 / 3) and detection_quality.harmonic(0, 0) == 0


def test_presence_errors_by_hand(monkeypatch):
    """One of two things has no score of 0.3, and one of the 22 others has."""
    scene = storybook.compose([("cat", None), ("car", "red")], [(0.3, 0.5, 0.4), (0.7, 0.5, 0.4)])
    scores = np.zeros((2, len(storybook.NOUNS)))
    scores[0, storybook.NOUNS.index("cat")] = 0.31
    scores[1, storybook.NOUNS.index("car")] = 0.29
    scores[1, storybook.NOUNS.index("frog")] = 0.5
    answer = types.SimpleNamespace(phrases=storybook.NOUNS, scores=scores)
    monkeypatch.setattr(detection_quality, "encode_with", lambda *_: answer)
    assert detection_quality.presence_errors(None, [scene, scene]) == {"missed": 0.5, "alarms": pytest.approx(1 / 22)}


def test_colour_prompts_name_the_twin_in_every_second_scene():
    world = [storybook.scene(storybook.TEST[i]) for i in range(30)]
    prompts, twins = detection_quality.colour_prompts(world)
    for index, (scene, prompt, wrong) in enumerate(zip(world, prompts, twins, strict=True)):
        present = {o.phrase for o in scene.objects}
        assert present <= set(prompt) and not present & set(wrong) and len(prompt) == len(present) + len(wrong) + 4
        assert sorted(w.split()[1] for w in wrong) == sorted(o.noun for o in scene.objects if o.colour and index % 2)


def test_card_holds_what_was_measured(tmp_path):
    (tmp_path / "README.md").write_text(
        "<!-- quality --><!-- /quality --><!-- classes --><!-- /classes -->", encoding="utf-8"
    )
    figures = {"scenes": 1000, "ap50": 0.912345678, "classes": {"cat": (0.9, 0.7, 40)}}
    detection_quality.write_card(tmp_path, figures)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| 0.912 |" in card and "| cat | 0.900 | 0.700 | 40 |" in card
    assert json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))["ap50"] == 0.91235
