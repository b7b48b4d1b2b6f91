"""The matrix: the loss, its derivative in closed form, and what a class is told of them."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from open_clip.loss import ClipLoss
from PIL import Image

from pipelines.contrast import matrix
from pipelines.contrast.matrix import encode, example, numbers, pairs, read, run, vector_slope
from pipelines.contrast.settings import DIRECTIONS
from pipelines.contrast.settings import MatrixSettings as Settings
from pipelines.contrast.verdicts import of_matrix
from pipelines.errors import UserError

RNG = np.random.default_rng(0)


def made(n: int = 8, width: int = 24) -> matrix.Encoded:
    """Vectors of a model that is half right."""
    texts = RNG.standard_normal((n, width))
    images = 0.5 * texts + RNG.standard_normal((n, width))
    texts, images = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (texts, images))
    return matrix.Encoded(
        images=images,
        texts=texts,
        captions=tuple(f"caption {i}" for i in range(n)),
        model="storybook-clip-b",
        seconds=0.0,
        untrained=None,
    )


@pytest.fixture(scope="module")
def storybook_pairs():
    pictures, captions, _ = example(7)
    return encode(Settings(), pictures, captions)


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_closed_form_is_the_derivative(direction, temperature):
    found = read(Settings(direction=direction, temperature=temperature), made())
    assert found.errors[0] < 1e-12 and found.errors[1] < 1e-12
    assert np.abs(found.lines.sum(1)).max() < 1e-12, "what is pulled is pushed elsewhere"


def test_closed_form_is_the_derivative_for_vectors_of_any_length_and_in_float32():
    encoded = made()
    x, y = encoded.images * RNG.uniform(0.3, 4, (8, 1)), encoded.texts * 2
    for kind, most in ((np.float64, 1e-12), (np.float32, 1e-6)):
        slope, expected = matrix.by_torch(x.astype(kind), y.astype(kind), 0.1, "rows")
        assert np.abs(vector_slope(slope, x.astype(kind), y.astype(kind), 0.1) - expected).max() < most


def test_loss_is_clips():
    """As the paper's pseudocode has it (figure 3): the mean of two cross entropies."""
    encoded = made()
    logits = torch.from_numpy(encoded.images @ encoded.texts.T) / 0.2
    own = torch.arange(8)
    expected = (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
    found = read(Settings(direction="both", temperature=0.2), encoded)
    assert abs(found.loss - float(expected)) < 1e-12
    peer = ClipLoss()(torch.from_numpy(encoded.images), torch.from_numpy(encoded.texts), torch.tensor(5.0).double())
    assert abs(found.loss - float(peer)) < 1e-12, "open_clip"
    halves = [read(Settings(direction=side, temperature=0.2), encoded).loss for side in ("rows", "columns")]
    assert abs(sum(halves) / 2 - found.loss) < 1e-12


@pytest.mark.parametrize("n", [2, 5, 8])
def test_equal_similarities_cost_ln_n_and_leave_no_way_out(n):
    found = read(Settings(equal=True), made(n))
    assert abs(found.loss - math.log(n)) < 1e-12 and found.accuracy == (0.0, 0.0)
    assert np.abs(found.arrows).max() < 1e-12, "from a collapse no derivative leads away"
    assert of_matrix(found).answer == ("alike" if n > 2 else "nearest")


def test_the_wrong_formula_is_seen_by_its_rows():
    """The numbers it was specified by: off by 1/8 with eight pairs, rows far from 0."""
    found = read(Settings(formula="wrong"), made())
    assert abs(found.errors[0] - 0.125) < 1e-12, "at the right caption it is right, elsewhere off by 1/N"
    assert np.allclose(found.row_sums, -7 / 8)
    assert of_matrix(found, "nearest").right is False and of_matrix(found).answer == "none"


def test_the_verdict_is_what_the_run_did(storybook_pairs):
    found = read(Settings(), storybook_pairs)
    said = of_matrix(found, "nearest")
    assert said.right and f"{np.where(np.eye(8), 0, found.slope).max():.4f}" in said.text
    assert of_matrix(found, "alike").right is False and of_matrix(found).right is None
    with pytest.raises(UserError, match="one of nearest, harder"):
        of_matrix(found, "the cat")


def test_arrows_are_drawn_with_their_whole_length(storybook_pairs):
    found = read(Settings(), storybook_pairs)
    assert np.allclose(np.linalg.norm(found.plane_arrows, axis=1), np.linalg.norm(found.arrows, axis=1), atol=1e-12)
    own = found.plane_captions[np.arange(8), np.arange(8)]
    assert (own[:, 0] > 0).all() and np.abs(own[:, 1]).max() < 1e-9, "the first axis leads to the right caption"
    assert (found.plane_arrows[:, 0] > 0).all(), "and the vector is moved that way"


def test_a_step_along_the_arrows_lowers_the_loss(storybook_pairs):
    found = read(Settings(), storybook_pairs)
    moved = storybook_pairs.images + 0.1 * found.arrows
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    again = read(Settings(), replace(storybook_pairs, images=moved))
    assert again.loss < found.loss


def test_a_trained_clip_is_far_from_chance_and_a_random_one_is_not(storybook_pairs):
    found = read(Settings(temperature=1.0), storybook_pairs)
    assert found.accuracy == (1.0, 1.0) and found.loss < found.chance - 0.4
    assert abs(found.untrained_loss - found.chance) < 0.15


def test_shuffled_captions_make_every_picture_wrong(storybook_pairs):
    right, wrong = read(Settings(), storybook_pairs), read(Settings(shuffle="captions"), storybook_pairs)
    assert wrong.captions == (*right.captions[1:], right.captions[0]) and wrong.accuracy == (0.0, 0.0)
    assert wrong.loss > wrong.chance > right.loss and wrong.errors[0] < 1e-12


def test_shuffled_words_are_the_same_words():
    pictures, captions, _ = example(3, count=4)
    one, two = (encode(Settings(shuffle="words", seed=5), pictures, captions) for _ in range(2))
    assert one.captions == two.captions != tuple(captions)
    assert [sorted(c.split()) for c in one.captions] == [sorted(c.split()) for c in captions]


def test_pictures_of_any_mode_and_shape():
    pictures, captions, _ = example(1, count=5)
    modes = ("L", "RGBA", "P", "CMYK", "1")
    odd = [p.convert(mode).resize((90 + 30 * i, 150)) for i, (p, mode) in enumerate(zip(pictures, modes, strict=True))]
    assert run(Settings(), odd, captions).similarity.shape == (5, 5)


@pytest.mark.parametrize(
    "count, captions, said",
    [
        (1, ["a cat"], "2 to 8 pairs of a picture and a caption, not 1"),
        (9, ["a cat"] * 9, "2 to 8 pairs of a picture and a caption, not 9"),
        (3, ["a cat"] * 2, "got 3 pictures and 2 captions"),
        (2, ["a cat", "  "], "Caption 2 is empty"),
        (2, ["a cat", None], "Caption 2 is empty"),
        (2, ["a cat " * 1000, "a dog"], "Caption 1 is too long: 5999 characters of at most 300"),
    ],
)
def test_what_makes_no_matrix_is_said(count, captions, said):
    with pytest.raises(UserError, match=said):
        pairs([Image.new("RGB", (64, 64))] * count, captions)


@pytest.mark.parametrize("temperature", [0, float("nan"), -1, 1.01, "0.1", None, True])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(UserError, match="Temperature must be a number from 0.01 to 1"):
        read(Settings(temperature=temperature), made())


def test_an_unknown_word_is_named():
    with pytest.raises(UserError, match="zeppelin"):
        run(Settings(), [Image.new("RGB", (64, 64))] * 2, ["a cat", "a zeppelin"])


def test_a_page_reads_controls_questions_and_answers_without_torch():
    command = "import sys; from pipelines.contrast import settings, verdicts; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_numbers_are_json_with_their_baselines(storybook_pairs):
    said = json.loads(json.dumps(numbers(Settings(), read(Settings(), storybook_pairs), "nearest"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["baseline"]["loss"] == math.log(8) and said["baseline"]["accuracy"] == 1 / 8
    assert said["verdict"]["right"] is True
