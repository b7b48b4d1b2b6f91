"""Every sampler, every number of steps: finite, as diffusers has it, and beginning where it was asked to."""

import itertools
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from pipelines.diffusion.pipeline import ETA, SCHEDULERS
from pipelines.diffusion.sampling import Ddim, sampler_of
from tests.tiny_diffusion import SCHEDULES

# Those of the registry's models (SD-Turbo's is the third), and one that ends without any signal, where rounding brings
# DDIM's root below 0 on every processor; on some it does so with storybook's schedule and 5 steps.
TURBO = SCHEDULES["epsilon"] | {"timestep_spacing": "trailing", "set_alpha_to_one": False}
CONFIGS = {
    "storybook": {"prediction_type": "v_prediction", **SCHEDULES["v_prediction"]},
    "stable-diffusion": {"prediction_type": "epsilon", **SCHEDULES["epsilon"]},
    "turbo": {"prediction_type": "epsilon", **TURBO},
    "no signal left": {"prediction_type": "v_prediction", **SCHEDULES["v_prediction"], "rescale_betas_zero_snr": True},
}


def config_of(name: str) -> dict:
    scheduler: Any = diffusers.DDIMScheduler(clip_sample=False, **CONFIGS[name])
    return scheduler.config


def drawn(sampler, times: torch.Tensor, eta: float, seed: int = 0) -> torch.Tensor:
    """Latents after these steps, of a denoiser that says something bounded."""
    rng = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 4, 4, 4, generator=rng) * sampler.init_noise_sigma
    for t in times:
        said = torch.tanh(sampler.scale_model_input(latents, t))
        added = {"eta": eta, "variance_noise": torch.randn(latents.shape, generator=rng)} if eta else {}
        latents = sampler.step(said, t, latents, **added).prev_sample
    return latents


@pytest.mark.parametrize("model", CONFIGS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_number_of_steps_is_finite_and_as_in_diffusers(model, name):
    config, eta = config_of(model), ETA.get(name, 0.0)
    theirs = getattr(diffusers, SCHEDULERS[name])
    compared = 0
    for steps in range(1, 101):
        ours = sampler_of(config, SCHEDULERS[name], steps)
        assert len(ours.timesteps) == steps and ours.timesteps.min() >= 0
        assert (ours.timesteps.diff() < 0).all()
        found = drawn(ours, ours.timesteps, eta)
        assert torch.isfinite(found).all(), steps
        if 25 < steps < 99 and steps != 61:
            continue
        peer = theirs.from_config(config)
        peer.set_timesteps(steps)
        if len(peer.timesteps) > steps:  # theirs ends with a step at time -1, which is that of pure noise
            assert steps == 61
            continue
        wanted = drawn(peer, peer.timesteps, eta)
        if torch.isfinite(wanted).all():
            torch.testing.assert_close(found, wanted, atol=0, rtol=0)
            compared += 1
    assert compared >= 25 or model == "no signal left"


def test_the_root_of_what_rounding_brings_below_nothing_is_nothing():
    """Any two shares of signal, the first next to nothing: equation 16 leaves exactly as much noise as there is."""
    sampler = Ddim.from_config(config_of("storybook"))
    after = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01
    sampler.alphas_cumprod = torch.cat([after, torch.tensor([1e-12])])
    last, sample = len(after), torch.ones(1)
    for time in range(last):
        sampler.following = {last: time}
        found = sampler.step(torch.zeros(1), last, sample, eta=1.0, variance_noise=torch.ones(1)).prev_sample
        assert float(found) == pytest.approx(float((1 - after[time]) ** 0.5), abs=2e-3)


@pytest.mark.parametrize("model", CONFIGS)
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 4, 7, 61])
def test_a_part_of_the_way_begins_where_it_was_asked_to(model, name, steps):
    config, eta = config_of(model), ETA.get(name, 0.0)
    for strength in (0.05, 0.25, 0.6, 0.77, 0.99):
        sampler = sampler_of(config, SCHEDULERS[name], steps, strength)
        times = sampler.timesteps.tolist()
        assert times[0] == round(1000 * strength) - 1
        assert len(times) == max(1, round(steps * strength))
        assert np.ptp(np.diff([*times, -1])) <= 1, "even steps"
        assert torch.isfinite(drawn(sampler, sampler.timesteps, eta)).all()


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_a_part_of_the_way_that_a_whole_run_passes_is_that_run(name):
    """From 600 of 1000 on, 12 of 20 steps take the same times, and the same picture comes of them."""
    config, eta = config_of("storybook"), ETA.get(name, 0.0)
    whole, part = sampler_of(config, SCHEDULERS[name], 20), sampler_of(config, SCHEDULERS[name], 20, 0.6)
    assert whole.timesteps[8:].tolist() == part.timesteps.tolist()
    assert torch.equal(drawn(whole, whole.timesteps[8:], eta), drawn(part, part.timesteps, eta))


def test_a_perfect_denoiser_is_followed_to_its_picture():
    """Who always says the noise that leads to one picture gets this picture, from anywhere on the way."""
    clean = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    ways = ((1, 0.3), (7, 0.77), (20, 1.0), (61, 1.0))
    for name, (steps, strength) in itertools.product(("ddim", "ddpm"), ways):
        sampler = sampler_of(config_of("storybook"), SCHEDULERS[name], steps, strength)
        rng = torch.Generator().manual_seed(1)
        latents = torch.randn(clean.shape, generator=rng)
        for t in sampler.timesteps:
            a = sampler.alphas_cumprod[t]
            e = (latents - a**0.5 * clean) / (1 - a) ** 0.5
            noise = torch.randn(clean.shape, generator=rng)
            velocity = a**0.5 * e - (1 - a) ** 0.5 * clean
            latents = sampler.step(velocity, t, latents, ETA.get(name, 0.0), noise).prev_sample
        torch.testing.assert_close(latents, clean, atol=0.03, rtol=0.03)
