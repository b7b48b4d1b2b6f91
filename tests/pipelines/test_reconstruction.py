"""Hidden means hidden, the score is the formula, and the baselines are honest."""

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.models.decoder import patchify, unpatchify
from pipelines.models.loading import load
from pipelines.reconstruction import pipeline as r
from pipelines.reconstruction.settings import Settings
from pipelines.world import storybook

MODEL = "storybook-detailclip"


@pytest.fixture(scope="module")
def encoded(scene_image):
    return r.encode(scene_image, MODEL)


def test_pixels_come_back_as_the_picture(encoded, scene):
    np.testing.assert_allclose(encoded.picture * 255, scene.picture, atol=0.6)


@pytest.mark.parametrize(
    ("pattern", "visible"), [("attention", 132), ("random", 128), ("grid", 128), ("block", 256 - 121)]
)
def test_patterns_hide_what_they_say(encoded, pattern, visible):
    assert r.visible_patches(encoded, 0.5, pattern).sum() == visible


def test_grid_is_a_chessboard_at_a_half_and_regular_at_a_quarter():
    half, quarter = r.evenly_spread(16, 128), r.evenly_spread(16, 64)
    assert (half[:, 1:] != half[:, :-1]).all() and (half[1:] != half[:-1]).all()
    assert (quarter.reshape(8, 2, 8, 2).sum((1, 3)) == 1).all()
    assert r.evenly_spread(14, 49).sum() == 49


def test_block_hides_one_square_in_the_middle(encoded):
    hidden = ~r.visible_patches(encoded, 0.25, "block")
    rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
    assert hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert abs(rows.mean() - 7.5) <= 0.5 and abs(columns.mean() - 7.5) <= 0.5


def test_painted_patches_are_hidden_and_nothing_else(encoded):
    painted = np.zeros((16, 16), bool)
    painted[3:6, 4:9] = True
    found = r.reconstruct(encoded, Settings(mask_ratio=0.9, pattern="painted"), painted)
    assert np.array_equal(~found.visible, painted)
    assert np.isnan(found.error[~painted]).all() and np.isfinite(found.error[painted]).all()


def test_what_is_hidden_does_not_reach_the_model(encoded):
    visible = r.visible_patches(encoded, 0.5, "random")
    other = encoded.pixels.clone()
    other[:, :, torch.from_numpy(~visible.repeat(8, 0).repeat(8, 1))] = 3.0
    model = load(MODEL)
    torch.testing.assert_close(r.predict(model, encoded.pixels, visible), r.predict(model, other, visible))


def test_pasted_keeps_visible_pixels_exactly(encoded):
    found = r.reconstruct(encoded, Settings(pattern="random"))
    seen = found.visible.repeat(8, 0).repeat(8, 1)
    assert np.array_equal(found.pasted[seen], encoded.picture[seen])
    assert np.array_equal(found.pasted[~seen], found.predicted[~seen])


def test_scores_are_the_formulas(encoded):
    found = r.reconstruct(encoded, Settings(pattern="random"))
    hidden = ~found.visible.repeat(8, 0).repeat(8, 1)
    total = sum(
        float(((found.predicted[y, x].astype(float) - encoded.picture[y, x]) ** 2).mean())
        for y, x in zip(*np.nonzero(hidden), strict=True)
    )
    mse = total / hidden.sum()
    assert found.scores.mse == pytest.approx(mse, rel=1e-4)
    assert found.scores.psnr == pytest.approx(10 * np.log10(1 / mse), abs=1e-3)
    assert np.nanmean(found.error) == pytest.approx(mse, rel=1e-4)
    assert r.measure(encoded.picture, encoded.picture, hidden).ssim == pytest.approx(1)


def test_edge_error_counts_only_where_the_truth_has_edges():
    truth = np.zeros((32, 32, 3), np.float32)
    truth[:, 16:] = 1
    everywhere = np.ones((32, 32), bool)
    flat, edge = truth.copy(), truth.copy()
    flat[5:9, 2:6] += 0.5
    edge[:, 15:17] += 0.5
    assert r.measure(flat, truth, everywhere).edge_mse < 1e-6 < r.measure(edge, truth, everywhere).edge_mse


def test_lending_truth_gives_each_patch_its_mean_and_deviation():
    truth, guess = torch.rand(1, 16, 192), torch.rand(1, 16, 192) * 3 + 1
    lent = r.lend_truth(guess, truth)
    torch.testing.assert_close(lent.mean(-1), truth.mean(-1))
    torch.testing.assert_close(lent.var(-1), truth.var(-1), atol=1e-4, rtol=1e-3)


def test_lending_truth_looks_better_than_it_is(encoded):
    plain, told = (
        r.reconstruct(encoded, Settings(mask_ratio=0.75, pattern="random", target=target)).scores.psnr
        for target in ("pixels", "normalised")
    )
    assert told > plain


def test_model_beats_interpolation_on_what_attention_hides_and_both_beat_one_colour():
    """Over twenty never-seen scenes, half of the patches hidden."""
    gains, over_colour = [], []
    for seed in range(20):
        encoded = r.encode(Image.fromarray(storybook.scene(storybook.TEST[seed]).picture), MODEL)
        found = r.reconstruct(encoded, Settings())
        gains.append(found.scores.psnr - found.neighbours.psnr)
        over_colour.append(found.neighbours.psnr - found.mean_colour.psnr)
    assert np.mean(gains) > 1.5 and np.mean(over_colour) > 1


def test_low_resolution_is_measured_against_bicubic(encoded):
    found = r.reconstruct(encoded, Settings(mask_ratio=0.0, pattern="random", low_resolution=4))
    assert found.visible.all() and found.bicubic is not None
    assert np.abs(found.given - encoded.picture).mean() > 0.005, "detail was taken away"
    assert found.sharpened.psnr == pytest.approx(found.scores.psnr)
    assert r.reconstruct(encoded, Settings(pattern="random")).bicubic is None


@pytest.mark.parametrize(
    ("settings", "painted", "told"),
    [
        ({"pattern": "stripes"}, None, "must be one of 'attention'"),
        ({"mask_ratio": 1.0}, None, "from 0 to 0.98"),
        ({"mask_ratio": float("nan")}, None, "from 0"),
        ({"low_resolution": 5}, None, "one of 1, 2, 3, 4"),
        ({"pattern": "painted"}, None, "Nothing is painted"),
        ({"target": "sharp"}, None, "one of 'pixels', 'normalised'"),
        ({"pattern": "painted"}, np.ones((16, 16), bool), "Leave at least one"),
    ],
)
def test_bad_settings_say_what_is_allowed(encoded, settings, painted, told):
    with pytest.raises(ValueError, match=told):
        r.reconstruct(encoded, Settings(**settings), painted)


def test_a_model_without_a_decoder_is_refused(scene_image):
    with pytest.raises(ValueError, match="no pixel decoder.*storybook-detailclip"):
        r.encode(scene_image, "storybook-clip-b")


def test_patchify_here_is_the_decoders(encoded):
    torch.testing.assert_close(unpatchify(patchify(encoded.pixels, 8), 8), encoded.pixels)
