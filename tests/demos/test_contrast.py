"""Contrast: what each lesson shows, said in what a visitor sees. The mathematics is tested in tests/pipelines."""

import html
import json
import math
import re
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from demos.contrast import drawings, information_bound, matrix, negatives, readers, word_vectors
from demos.ui.pictures import scene_picture
from pipelines.contrast.settings import (
    InformationSettings,
    MatrixSettings,
    NegativesSettings,
    ReadersSettings,
    WordsSettings,
)
from pipelines.errors import UserError
from pipelines.world import storybook
from tests.demos.served import Served, last

# --------------------------------------------------------------------------------------------------------- the matrix


@pytest.fixture(scope="module")
def lesson() -> Served:
    return Served(matrix.LESSON)


def cells(shown: str) -> list[list[str]]:
    """The texts of each table's cells that can be clicked, row by row."""
    tables = re.findall(r"<table>.*?</table>", shown)
    return [re.findall(r"<td data-cell=[^>]*>([^<]*)</td>", table) for table in tables]


def test_a_matrix_is_read_with_defaults(lesson):
    shown = last(lesson["contrast"]())
    alike, chosen, slope = cells(shown["matrix"])
    numbers = shown["numbers"]
    assert len(alike) == len(chosen) == len(slope) == 64
    assert f"Loss {numbers['loss']:.3f} nats" in shown["matrix"] and "ln 8 = 2.079" in shown["matrix"]
    assert alike[1] == drawings.number(numbers["similarity"][0][1], 2)
    assert [float(p) for p in chosen[:8]] == pytest.approx(np.diag(np.ones(8))[0], abs=0.5), "it finds its caption"
    assert numbers["autograd_error"] < 1e-12 and max(map(abs, numbers["gradient_sums"])) < 1e-12
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(numbers)


def test_the_derivative_is_hidden_until_the_question_is_answered(lesson):
    before = lesson["redraw"](*[setting.default for setting in lesson.tab.settings.values()], None, "", None)
    assert list(before) == ["matrix"] and len(cells(before["matrix"])) == 2
    answered = last(lesson["contrast"](guess="nearest"))
    assert len(cells(answered["matrix"])) == 3 and "You were right" in answered["verdict"]
    assert "You said" in last(lesson["contrast"](guess="none"))["verdict"]


def test_buttons_break_it_and_the_screen_says_how():
    def shown(name: str) -> dict:
        return matrix.contrast(MatrixSettings(**matrix.break_it(name)), guess="nearest")

    whole = shown("whole")
    assert '"beside off"' not in whole["matrix"] and whole["numbers"]["verdict"]["right"]
    wrong = shown("formula")
    assert wrong["matrix"].count('class="beside off">-0.875<') == 8, "its rows do not sum to 0"
    assert wrong["numbers"]["verdict"]["answer"] == "none"
    equal = shown("equal")
    assert equal["numbers"]["loss"] == pytest.approx(math.log(8)) and equal["numbers"]["verdict"]["answer"] == "alike"
    assert 'class="arrow"' in whole["plane"] and 'class="arrow"' not in equal["plane"], "no way out of a collapse"
    moved = shown("shuffle")
    assert "0 / 8" in moved["facts"] and moved["numbers"]["loss"] > math.log(8), "worse than knowing nothing"


@pytest.mark.parametrize(("direction", "tables"), [("rows", 3), ("columns", 3), ("both", 4)])
def test_every_softmax_that_counts_is_drawn(direction, tables):
    shown = matrix.contrast(MatrixSettings(direction=direction))
    assert len(cells(shown["matrix"])) == tables
    sums = re.findall(r">sum</th>", shown["matrix"])
    assert len(sums) == (direction != "both"), "a mean of rows and columns has neither sum"


def test_a_cell_that_is_clicked_is_told_in_words():
    click = SimpleNamespace(index=[0, 6])
    shown = matrix.pick(MatrixSettings(), None, "", click)
    assert shown["matrix"].count('"chosen"') == 3 and "Picture 1 with caption 7" in shown["matrix"]
    assert "Where picture 1 is moved" in shown["plane"]
    pull, push = re.search(
        r"pulled by ([\d.]+), all wrong ones together are pushed by ([\d.]+)\.", shown["matrix"]
    ).groups()
    assert pull == push
    with pytest.raises(UserError, match="cell must be a number from 0 to 7, not 8"):
        matrix.pick(MatrixSettings(), None, "", SimpleNamespace(index=[8, 0]))


def files(folder, count: int) -> list[str]:
    """Pictures of every mode, as an upload leaves them."""
    modes, found = ("RGB", "L", "RGBA", "P", "1", "I;16", "CMYK", "LA"), []
    for n in range(count):
        mode = modes[n % len(modes)]
        kind = "tif" if mode == "CMYK" else "png"
        picture = Image.fromarray(np.full((40, 30), 25 * n % 255, np.uint8))
        picture = Image.new(mode, (30, 40)) if mode == "I;16" else picture.convert(mode)
        found.append(folder / f"{n}.{kind}")
        picture.save(found[-1])
    return [str(file) for file in found]


def test_your_own_pictures_and_captions(tmp_path):
    given = [(file, None) for file in files(tmp_path, 8)]
    shown = matrix.contrast(MatrixSettings(), given, "\n".join(f"a {colour} car" for colour in ("red", "blue") * 4))
    assert len(cells(shown["matrix"])[0]) == 64 and "a blue car" in shown["matrix"]
    three = matrix.contrast(MatrixSettings(), given[:3], "a cat\n\na dog\n a lion ")
    assert len(cells(three["matrix"])[0]) == 9 and "ln 3" in three["matrix"]


def test_drawn_pictures_with_your_own_captions():
    shown = matrix.contrast(MatrixSettings(), None, "\n".join(["a cat on grass"] * 8))
    assert shown["matrix"].count("a cat on grass") > 8
    assert shown["numbers"]["loss"] == pytest.approx(math.log(8)), "one caption for all: nothing to tell apart"


@pytest.mark.parametrize(
    ("count", "captions", "told"),
    [
        (9, 9, "takes 2 to 8 pairs of a picture and a caption, not 9"),
        (9, 0, "takes 2 to 8 pairs of a picture and a caption, not 9"),
        (1, 1, "takes 2 to 8 pairs of a picture and a caption, not 1"),
        (3, 2, "Each picture needs its own caption: got 3 pictures and 2 captions"),
        (None, 7, "got 8 pictures and 7 captions"),
    ],
)
def test_what_makes_no_matrix_is_said_before_any_file_is_opened(count, captions, told):
    given = count and [("nowhere.png", None)] * count
    with pytest.raises(UserError, match=told):
        matrix.contrast(MatrixSettings(), given, "\n".join(["a cat"] * captions))


@pytest.mark.parametrize(
    ("captions", "told"),
    [
        ("a zebra\n" * 8, "does not know 'zebra'"),
        ("a cat " * 60 + "\na cat" * 7, "Caption 1 is too long: 359 characters of at most 300"),
        ("a cat\n" * 3000, "captions is too long|captions are too long"),
        (7, "must be text, not 7"),
    ],
)
def test_captions_that_cannot_be_read(captions, told):
    with pytest.raises(UserError, match=told):
        matrix.contrast(MatrixSettings(), None, captions)


def test_an_archive_is_no_picture(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UserError, match="not a picture"):
        matrix.contrast(MatrixSettings(), [(str(archive), None)] * 2, "a cat\na dog")


@pytest.mark.parametrize("bad", [{"temperature": 0}, {"temperature": float("nan")}, {"formula": "mine"}, {"equal": 1}])
def test_limits_hold_over_the_raw_api(lesson, bad):
    with pytest.raises(gr.Error, match="must be|true or false"):
        last(lesson["contrast"](**bad))


def test_what_a_visitor_writes_is_text_on_the_page():
    words = ["<img src=x onerror=alert(1)>"] * 8
    with pytest.raises(UserError):  # the storybook's tokenizer refuses it; a hub model's would not
        matrix.contrast(MatrixSettings(), None, "\n".join(words))
    heat = drawings.Heat(title="<b>", told="<i>", values=np.eye(2), beside=("<u>", ["<s>", "2"]))
    shown = drawings.heat_maps([heat], ["", ""]) + drawings.tangent_plane(
        np.eye(2), np.ones(2), 0, np.array([-1.0, 1]), words[:2], "<b>"
    )
    assert not re.search(r"<(i|u|s|img src=x)\b", shown)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.354, 2, ".35"), (-0.12, 2, "−.12"), (1.0, 2, "1.00"), (-0.001, 2, ".00"), (-39.4, 0, "−39")],
)
def test_numbers_are_short(value, digits, text):
    assert drawings.number(value, digits) == text


# -------------------------------------------------------------------------------------------------- what it can know


def test_a_batch_of_64_cannot_tell_nine_nats():
    first, *_, told = information_bound.information_bound(InformationSettings(), "ceiling")
    assert "numbers" not in first and first["verdict"] == "", "no verdict before the end"
    numbers = told["numbers"]
    assert numbers["ln_n"] - 0.1 < numbers["estimate"] <= numbers["ln_n"] < numbers["truth"]
    assert "You were right: Close to ln N, and never more" in told["verdict"]
    assert f"It says {numbers['estimate']:.2f} nats" in told["estimate"] and "the truth is 9.31" in told["estimate"]
    assert "16,382 negatives" in told["facts"] and "126 negatives" in told["facts"]
    assert told["chart"].count("<polyline") == 2 and "the truth" in told["chart"]
    assert told["logits"].size[0] == told["logits"].size[1] >= 256


def test_a_trained_critic_is_drawn_beside_the_exact_one():
    settings = InformationSettings(critic="trained", steps=30, batch=16)
    *_, told = information_bound.information_bound(settings)
    assert told["chart"].count("<svg") == 2 and "knows nothing" in told["chart"]
    assert "before training: " in told["facts"] and told["numbers"]["steps"] == 30


def test_the_question_follows_what_is_set():
    asked = information_bound.ask_again(InformationSettings(dimensions=2, correlation=0.6, batch=1024))
    assert asked["guess"].label == "The truth is 0.4 nats. What does the estimate with N = 1024 say?"


# --------------------------------------------------------------------------------------------- words from neighbours


def test_words_are_learned_in_a_film_that_ends_with_a_verdict():
    settings = WordsSettings(steps=200)
    *steps, told = word_vectors.word_vectors(settings, "kind")
    film, numbers = told["film"], told["numbers"]
    assert film["steps"] == list(range(0, 201, 20)) and [curve["title"] for curve in film["curves"]][1].startswith(
        "3 near"
    )
    assert steps[0]["film"]["steps"] == [0] and steps[0]["verdict"] == "", "the first picture is of untrained vectors"
    assert "You were right: Beside a word that could stand in its place" in told["verdict"]
    assert numbers["purity"] > 0.6 > numbers["baseline"]["purity_untrained"]
    assert f"{numbers['purity']:.0%}" in told["facts"] and "untrained" in told["facts"]
    assert numbers["neighbours"]["cat"][0][0] in told["beside"]
    assert "→" in told["labels"] and "its own words" in told["labels"]
    assert told["counts"].count("<circle") > 100 and told["analogy"] == "", "captions offer no analogies"
    json.dumps({"film": film, "numbers": numbers}, allow_nan=False)


def test_tales_show_an_analogy_beside_the_nearest_neighbour_alone():
    told = last(word_vectors.word_vectors(WordsSettings(corpus="tales", steps=20)))
    assert "cat is to kitten as" in told["analogy"] and "nearest neighbour of c alone" in told["facts"]
    assert [curve["title"] for curve in told["film"]["curves"]][2:] == [
        "analogies right",
        "by the nearest neighbour alone",
    ]


def test_your_own_text_is_asked_about_its_own_words():
    text = "The gardener waters roses. The baker sells bread. A gardener plants tulips and roses. " * 10
    settings = WordsSettings(corpus="own", text=text, steps=20, method="cbow")
    word = word_vectors.ask_again(settings)["guess"].label.split("will ")[1].split(" land")[0]
    told = last(word_vectors.word_vectors(settings))
    assert word in text.lower() and f"<b>{word}:" in told["beside"] and told["counts"] == ""
    assert word_vectors.ask_again(WordsSettings(corpus="own")) is None, "nothing is written yet"


@pytest.mark.parametrize(("text", "told"), [("", "no text to learn from"), ("cat", "too few to learn from")])
def test_a_text_that_teaches_nothing_is_said_at_once(text, told):
    with pytest.raises(UserError, match=told):
        next(word_vectors.word_vectors(WordsSettings(corpus="own", text=text)))


def test_what_is_pasted_is_text_on_the_page():
    text = "<script>alert</script> <b>bold</b> words stand here beside many other words of mine. " * 20
    told = last(word_vectors.word_vectors(WordsSettings(corpus="own", text=text, steps=10)))
    assert not re.search(r"<(script|b>bold)", told["beside"] + told["labels"] + told["facts"])


# --------------------------------------------------------------------------------------- false and hard negatives


@pytest.fixture
def small(monkeypatch):
    """Few pictures, so that a run takes seconds."""
    from pipelines.contrast import negatives as pipeline

    for name, count in (("TRAINING", 64), ("BANK", 60), ("TEST", 40)):
        monkeypatch.setattr(pipeline, name, getattr(pipeline, name)[:count])
    monkeypatch.setattr(pipeline, "POINTS", 24)
    pipeline.baselines.cache_clear()
    yield
    pipeline.baselines.cache_clear()


def test_two_losses_on_one_clock(small):
    settings = NegativesSettings(steps=4, batch=16)
    *steps, told = negatives.negatives(settings, "more")
    film, numbers = told["film"], told["numbers"]
    assert film["steps"] == [0, 2, 4] and film["runs"] == [
        "A · NT-Xent",
        "B · debiased, and the most similar count most",
    ]
    loss = next(curve for curve in film["curves"] if curve["title"].startswith("loss"))
    assert loss["x"] == [1, 2, 3, 4], "also between two pictures"
    assert any("Drawing the pictures" in step["status"] for step in steps) and "pictures" in steps[1]
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(numbers) and numbers["verdict"]["guess"] == "more"
    assert "raw pixels" in told["facts"] and "untrained" in told["facts"] and "chance 17%" in told["facts"]
    json.dumps({"film": film, "numbers": numbers}, allow_nan=False)


def test_leaving_ends_the_training(small):
    run = negatives.negatives(NegativesSettings(steps=400, batch=8))
    while "film" not in (step := next(run)) or not step["film"]:
        pass
    run.close()
    assert step["film"]["steps"][-1] < 400


def test_hard_negatives_are_read_in_the_matrix():
    plain, hard, unbiased = (
        negatives.reading(42, 0.2, 0.0, beta, labels)["reading_numbers"]
        for beta, labels in ((0, False), (2, False), (0, True))
    )
    assert plain["false_negatives"] == pytest.approx(4 / 56) and plain["weight_false_negatives"] == 1
    assert hard["weight_false_negatives"] > 1.5 and unbiased["weight_false_negatives"] == 0
    shown = negatives.reading(42)["reading"]
    assert shown.count('marked"') == 3 * 4, "each of the three tables marks them"
    with pytest.raises(UserError, match="Hardness, β must be a number from 0 to 4, not 9"):
        negatives.reading(42, read_beta=9)


@pytest.mark.parametrize("bad", [{"batch": 1}, {"temperature": 0}, {"eta": 1.0}, {"a": "mine"}, {"steps": 10**6}])
def test_training_has_limits(bad):
    lesson = Served(negatives.LESSON)
    with pytest.raises(gr.Error, match="must be"):
        last(lesson["negatives"](**bad))


# ------------------------------------------------------------------------------------------------------- three readers


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> str:
    picture, _ = scene_picture({"seed": storybook.TEST[readers.SCENE]})
    info = PngInfo()
    for key, value in picture.info.items():
        info.add_text(str(key), str(value))
    file = tmp_path_factory.mktemp("readers") / "scene.png"
    picture.save(file, pnginfo=info)
    return str(file)


def test_an_exam_shows_who_finds_who_describes_and_what_it_costs():
    steps = list(readers.readers(ReadersSettings(pictures=10), "coca"))
    rows = re.findall(r"<tr>(.*?)</tr>", steps[-1]["facts"])
    told = [[html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row)] for row in rows]
    assert told[0] == ["10 never-seen pictures and their captions; chance 10%", "CLIP", "SimVLM", "CoCa"]
    assert told[1][0] == "finds the caption of a picture" and all("%" in cell for cell in told[1][1:])
    assert told[3][1] == "–", "CLIP says no caption"
    assert steps[-1]["verdict"] and set(steps[-1]["numbers"]["readers"]) == set(readers.READERS)
    assert any("–" in step.get("facts", "") and step["status"].startswith("Step ") for step in steps[:-1])


def test_a_picture_is_found_said_and_looked_at(scene):
    shown = readers.readers_picture(scene)
    assert shown["readings"].count("<section>") == 3 and shown["readings"].count('<figure class="reach">') == 6
    assert shown["readings"].count('class="true"') >= 2, "the true caption is marked where it is among the best"
    assert "It has no words of its own" in shown["readings"]
    read = shown["readings_numbers"]["readers"]
    assert read["storybook-reader-coca"]["place_of_true"] == 1 and not read["storybook-reader-clip"]["says"]


def test_a_beginning_is_gone_on_from_and_an_unknown_word_is_named(scene):
    read = readers.readers_picture(scene, "a red")["readings_numbers"]["readers"]
    for model in ("storybook-reader-simvlm", "storybook-reader-coca"):
        assert [word["word"] for word in read[model]["says"]][:2] == ["a", "red"]
    with pytest.raises(UserError, match="does not know 'zebra'"):
        readers.readers_picture(scene, "a zebra")
    with pytest.raises(UserError, match="Choose or upload a picture first"):
        readers.readers_picture(None)


def test_a_picture_without_truth_is_read_as_well(tmp_path):
    Image.fromarray(np.full((50, 90, 3), 128, np.uint8)).save(tmp_path / "gray.png")
    shown = readers.readers_picture(str(tmp_path / "gray.png"))
    assert 'class="true"' not in shown["readings"] and "true one" not in shown["readings"]
    assert all(each["place_of_true"] is None for each in shown["readings_numbers"]["readers"].values())
