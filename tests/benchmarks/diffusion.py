"""Seconds of drawing: ours beside plain diffusers on the same weights, and our Attend-and-Excite beside diffusers'.

The first rows are of the bundled model, 20 steps with guidance at its own size, from the prompt to the picture. The
last rows are of a UNet with Stable Diffusion's topology at 256 px (attention at 32, 16, 8 and 4) and a quarter of
its width, random weights. Contenders take turns; a parity figure holds the results against each other.
"""

import logging
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from pipelines.diffusion import pipeline as diffusion
from pipelines.diffusion.attend_excite import Schedule
from pipelines.diffusion.pipeline import states_of
from pipelines.diffusion.settings import Settings
from pipelines.models.loading import load
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.models.text_to_image import TextToImage
from tests import tiny_diffusion

PROMPT = "a cat and a frog"
MODEL = "storybook-diffusion"
QUARTER = {  # of Stable Diffusion 1.5's UNet
    "sample_size": 32,
    "block_out_channels": (80, 160, 320, 320),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": 8,
    "norm_num_groups": 16,
}


def asked(**settings) -> Settings:
    """As plain diffusers is asked."""
    return Settings(**{"prompt": PROMPT, "guidance_scale": 7.5, "sampler": "ddim", **settings})


def seconds(call: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def psnr(first, second) -> float:
    error = ((np.asarray(first, np.float64) - np.asarray(second, np.float64)) ** 2).mean() / 255**2
    return -10 * np.log10(max(error, 1e-12))


def take_turns(contenders: dict[str, Callable[[], object]], rounds: int, warm: bool = False) -> tuple[dict, dict]:
    """Median seconds and last results; unless all are warm, a first turn that does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    results = {}
    for turn in range(rounds + (not warm)):
        for name, call in contenders.items():
            taken, results[name] = seconds(call)
            times[name] += [taken] * (warm or turn > 0)
    return {name: statistics.median(taken) for name, taken in times.items()}, results


def drawn(**settings) -> diffusion.Result:
    *_, last = diffusion.run(asked(**settings), previews=False)
    assert isinstance(last, diffusion.Result)
    return last


@torch.inference_mode()
def products(model: TextToImage, precision: str, passes: int = 20) -> float:
    """Seconds that the convolutions and linear layers alone take in 20 passes with guidance."""
    unet, spent, begun = model.unet(precision), [], []
    latents = torch.randn(2, unet.config.in_channels, *(unet.config.sample_size,) * 2).to(unet.dtype)
    latents, words = latents.to(memory_format=torch.channels_last), states_of(model, [PROMPT, ""]).to(unet.dtype)
    hooks = []
    for module in unet.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_pre_hook(lambda *_: begun.append(time.perf_counter())))
            hooks.append(module.register_forward_hook(lambda *_: spent.append(time.perf_counter() - begun.pop())))
    for turn in range(passes + 3):
        if turn == 3:  # warm
            spent.clear()
        unet(latents, 500, encoder_hidden_states=words)
    for hook in hooks:
        hook.remove()
    return sum(spent) * 20 / passes


def bundled(rounds: int) -> list[tuple[str, ...]]:
    model = load(MODEL, TextToImage)
    pipe = StableDiffusionPipeline.from_pretrained(BUNDLED / MODELS[MODEL].source)
    pipe.set_progress_bar_config(disable=True)
    guidance = model.spec.guidance
    noise = diffusion.noise_of(model, 42, (model.size // model.factor,) * 2)

    def plain():
        settings = {"guidance_scale": guidance, "guidance_rescale": model.spec.guidance_rescale}
        return pipe(PROMPT, num_inference_steps=20, latents=noise.clone(), **settings).images[0]

    middle, found = take_turns(
        {
            "diffusers": plain,
            "ours, float32": lambda: drawn(guidance_scale=guidance),
            "ours, bfloat16": lambda: drawn(guidance_scale=guidance, precision="bfloat16"),
            "ours, excited": lambda: drawn(guidance_scale=guidance, method="attend-and-excite"),
        },
        rounds,
    )
    first = statistics.median(seconds(lambda: next(diffusion.run(asked())))[0] for _ in range(rounds))
    told = f"20 steps, guidance {guidance:g}, float32"
    rows: list[tuple[str, ...]] = [("diffusers' StableDiffusionPipeline", f"{middle['diffusers']:.2f}", "", told)]
    for name in ("ours, float32", "ours, bfloat16"):
        same = psnr(found[name].picture, found["diffusers"])
        rows.append((name, f"{middle[name]:.2f}", f"{middle[name] / middle['diffusers']:.2f}", f"PSNR {same:.0f} dB"))
    tries = sum(step.excited.tries for step in found["ours, excited"].steps if step.excited)
    ratio = middle["ours, excited"] / middle["ours, float32"]
    rows.append(
        ("ours, Attend-and-Excite", f"{middle['ours, excited']:.2f}", f"{ratio:.1f} of ours", f"{tries} refinements")
    )
    rows.append(("ours, until the first preview", f"{first:.2f}", "", ""))
    alone = [products(model, precision) for precision in ("float32", "bfloat16")]
    told = f"its convolutions and linear layers; in float32 {alone[0]:.2f}"
    rows.append(("the products alone, bfloat16", f"{alone[1]:.2f}", f"{alone[1] / alone[0]:.2f} of float32", told))
    return rows


def quarter_size() -> TextToImage:
    pipe = tiny_diffusion.pipeline(prediction_type="epsilon", unet=QUARTER)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.eval().requires_grad_(False)
    pipe.unet.to(memory_format=torch.channels_last)
    return TextToImage(
        spec=replace(MODELS[MODEL], sharpness=100.0, guidance_rescale=0.0), pipe=pipe, previewer=None, vocabulary=None
    )


def excited(steps: int) -> list[tuple[str, ...]]:
    """Ours beside diffusers' deprecated pipeline, thresholds off and on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite import (
            pipeline_stable_diffusion_attend_and_excite as module,
        )
    model = quarter_size()
    pipe = model.pipe
    make: Any = module.StableDiffusionAttendAndExcitePipeline  # which does not say that two parts may be None
    parts = (pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, pipe.scheduler, None, None)
    peer = make(*parts, requires_safety_checker=False)
    peer.set_progress_bar_config(disable=True)
    noise = diffusion.noise_of(model, 42, (32, 32))
    rows: list[tuple[str, ...]] = []
    with mock.patch.object(diffusion, "load", lambda name, kind: model):
        for told, refine in (("thresholds off", False), ("the paper's thresholds", True)):
            schedule = Schedule(steps=steps, refine=refine)
            thresholds = {step: schedule.threshold(step) for step in range(steps) if schedule.threshold(step)}

            def theirs(thresholds=thresholds):
                return peer(
                    PROMPT,
                    token_indices=[2, 5],
                    height=256,
                    width=256,
                    num_inference_steps=steps,
                    latents=noise.clone(),
                    thresholds=thresholds,
                    max_iter_to_alter=steps // 2,
                    output_type="latent",
                ).images[0]

            def ours(refine=refine):
                request = asked(steps=steps, method="attend-and-excite", refine=refine)
                *_, last = diffusion.run(request, previews=False)
                return last.latents

            middle, found = take_turns({"theirs": theirs, "ours": ours}, 1, warm=refine)  # minutes a turn
            apart = float(np.abs(found["theirs"].numpy() - found["ours"]).max())
            rows.append((f"diffusers' Attend-and-Excite, {told}", f"{middle['theirs']:.1f}", "", f"{steps} steps"))
            share = f"{middle['ours'] / middle['theirs']:.2f}"
            rows.append((f"ours, {told}", f"{middle['ours']:.1f}", share, f"latents within {apart:.0e}"))
    return rows


def measure(rounds: int = 5, steps: int = 5) -> list[tuple[str, ...]]:
    """Rows of text: what, seconds, share of the peer, and what there is to say of it."""
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    return [*bundled(rounds), *excited(steps)]
