"""Samplers: diffusers' own, right for every number of steps and every beginning.

`sampler_of` makes one for a number of steps, or for a part of the way. DDIM's step (Song et al. 2021,
https://arxiv.org/abs/2010.02502, equations 12 and 16) is written out here: diffusers' takes the root of a difference
that rounding brings below 0 where hardly any signal is left, and knows no steps of other lengths than whole runs have.
"""

from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

from pipelines.errors import UserError


class Ddim(DDIMScheduler):
    """diffusers' own, number for number where that is one."""

    config: Any
    timesteps: Tensor
    alphas_cumprod: Tensor
    final_alpha_cumprod: Tensor

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, timesteps: list[int] | None = None
    ) -> None:
        """As many steps as asked for, or at these times, the last of which leads to a picture without noise."""
        if timesteps is None:
            assert num_inference_steps is not None, "how many steps, or which"
            usual: Any = super()  # mypy knows diffusers' classes as stand-ins without members
            usual.set_timesteps(num_inference_steps, device)
            stride = self.config.num_train_timesteps // num_inference_steps
            self.following = {t: t - stride for t in self.timesteps.tolist()}
            return
        self.num_inference_steps, self.timesteps = len(timesteps), torch.tensor(timesteps, device=device)
        self.following = dict(zip(timesteps, [*timesteps[1:], -1], strict=True))

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | int,
        sample: Tensor,
        eta: float = 0.0,
        variance_noise: Tensor | None = None,
    ) -> DDIMSchedulerOutput:
        time = int(timestep)
        after = self.following[time]
        a, a_after = self.alphas_cumprod[time], self.alphas_cumprod[after] if after >= 0 else self.final_alpha_cumprod
        signal, noise = a**0.5, (1 - a) ** 0.5
        if self.config.prediction_type == "v_prediction":
            clean, e = signal * sample - noise * model_output, signal * model_output + noise * sample
        else:
            clean, e = (sample - noise * model_output) / signal, model_output
        if self.config.clip_sample:
            clean = clean.clamp(-self.config.clip_sample_range, self.config.clip_sample_range)
        deviation = eta * ((1 - a_after) / (1 - a) * (1 - a / a_after)) ** 0.5
        left = (1 - a_after - deviation**2).clamp(min=0)  # at least 0, if nothing were rounded
        latents = a_after**0.5 * clean + left**0.5 * e
        if eta:
            assert variance_noise is not None, "eta above 0 asks for noise"
            latents = latents + deviation * variance_noise
        return DDIMSchedulerOutput(prev_sample=latents, pred_original_sample=clean)


KINDS = {"DDIMScheduler": Ddim}  # which stand in for diffusers' own of that name


def sampler_of(config: dict, kind: str, steps: int, strength: float = 1.0) -> Any:
    """A sampler whose `timesteps` are those to run.

    Args:
        config: of the scheduler that came with the model.
        kind: the name of diffusers' class.
        steps: of a whole run, from 1.
        strength: share of the way from noise to the picture that is run, in (0, 1]; below 1 with that share of the
            steps, at least one, evenly from there: with few steps the beginning is not rounded up to one of theirs.

    Raises:
        UserError: for a model that predicts neither noise nor velocities.
    """
    sampler: Any = (KINDS.get(kind) or getattr(diffusers, kind)).from_config(config)
    if sampler.config.prediction_type not in ("epsilon", "v_prediction"):
        kind = sampler.config.prediction_type
        raise UserError(
            "Models that predict {kind} are not supported; those that predict epsilon or velocities are.",
            kind=repr(kind),
        )
    if strength < 1:
        first = max(1, round(strength * sampler.config.num_train_timesteps))
        run = min(first, max(1, round(steps * strength)))
        times = np.linspace(first, 0, run + 1)[:-1].round().astype(int) - 1
        sampler.set_timesteps(timesteps=times.tolist())
        return sampler
    sampler.set_timesteps(steps)
    if len(sampler.timesteps) > steps:  # rounding has added one at time -1 after the last, as with 61 steps
        sampler.timesteps = sampler.timesteps[:steps]
        if hasattr(sampler, "sigmas"):
            sampler.sigmas = sampler.sigmas[[*range(steps), -1]]
    return sampler
