"""Every hidden pixel is the mean of its neighbours, exactly and fast."""

import numpy as np
import pytest
import torch

from pipelines.models.interpolation import fill_from_nearest, fill_from_neighbours, harmonic_fill


def test_interpolation_solves_the_mean_of_neighbours_equation():
    picture, seen = np.random.default_rng(0).random((24, 24, 3)).astype(np.float32), np.ones((24, 24), bool)
    seen[8:16, 8:16] = False
    filled = fill_from_neighbours(picture, seen)
    assert np.array_equal(filled[seen], picture[seen])
    mean = (filled[7:15, 8:16] + filled[9:17, 8:16] + filled[8:16, 7:15] + filled[8:16, 9:17]) / 4
    np.testing.assert_allclose(filled[8:16, 8:16], mean, atol=1e-5)


def test_interpolation_is_exact_on_a_ramp_and_reaches_the_border():
    ramp = np.repeat(np.linspace(0, 1, 24, dtype=np.float32)[None, :, None], 24, 0).repeat(3, 2)
    seen = np.ones((24, 24), bool)
    seen[0:8, 8:16] = False
    np.testing.assert_allclose(fill_from_neighbours(ramp, seen), ramp, atol=1e-5)


def test_harmonic_fill_keeps_what_is_seen_and_knows_nothing_else():
    pixels, seen = torch.rand(2, 3, 32, 32), (torch.rand(2, 1, 4, 4) < 0.5).float()
    seen[:, :, 0, 0] = 1
    seen = seen.repeat_interleave(8, 2).repeat_interleave(8, 3)
    filled = harmonic_fill(pixels, seen)
    assert torch.equal(filled * seen, pixels * seen)
    torch.testing.assert_close(filled, harmonic_fill(pixels * seen + 9 * (1 - seen), seen))  # hidden pixels stay out
    flat = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(harmonic_fill(flat, seen[:1]), flat)
    hole = torch.ones(1, 1, 32, 32)
    hole[..., 12:20, 12:20] = 0
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    torch.testing.assert_close(harmonic_fill(ramp, hole), ramp, atol=0.05, rtol=0)
    assert harmonic_fill(torch.rand(1, 3, 21, 21), torch.ones(1, 1, 21, 21)).shape == (1, 3, 21, 21)


@pytest.mark.parametrize("kind", ["random", "block", "half"])
def test_harmonic_fill_is_the_mean_of_neighbours(scene, kind):
    """Against the exact solution, on a scene: the error is a tenth of what the fill leaves of the picture."""
    seen = torch.ones(16, 16)
    if kind == "random":
        seen = (torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    seen[4:12, 4:12] = 0 if kind == "block" else seen[4:12, 4:12]
    seen[8:] = 0 if kind == "half" else seen[8:]
    seen = seen.repeat_interleave(8, 0).repeat_interleave(8, 1)
    picture = scene.picture.astype(np.float32) / 255
    exact = fill_from_neighbours(picture, seen.numpy() > 0)
    filled = harmonic_fill(torch.from_numpy(picture).permute(2, 0, 1)[None], seen[None, None])[0].permute(1, 2, 0)
    assert np.square(filled.numpy() - exact).mean() < 0.01 * np.square(exact - picture).mean()


def test_nearest_takes_the_closest_colour():
    picture = np.zeros((1, 6, 3)) + np.arange(6)[None, :, None]
    seen = np.array([[True, False, False, False, False, True]])
    assert fill_from_nearest(picture, seen)[0, :, 0].tolist() == [0, 0, 0, 5, 5, 5]
