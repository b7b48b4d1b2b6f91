"""Latent diffusion step by step: Stable Diffusion (Rombach et al. 2022, https://arxiv.org/abs/2112.10752) over the
parts of diffusers' StableDiffusionPipeline, with a loop of our own that tells what happens in every step.

`run` draws and yields a `Step` after every step, `trajectory` decodes all of them. With method "attend-and-excite" the
latents are nudged on the way: see `attend_excite`.

Everything is told for the noisy picture x_t = sqrt(a) x_0 + sqrt(1 - a) e (variance preserving), whatever the sampler
computes in: a is the share of signal left at time t, sigma = sqrt((1 - a) / a), SNR = a / (1 - a).
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from PIL import Image
from torch import Tensor

from pipelines.diffusion.attend_excite import (
    Attention,
    Excited,
    Schedule,
    attention_of,
    excite,
    peaks,
    truncated_pass,
)
from pipelines.diffusion.prompts import Prompt, chosen_subjects, read_with
from pipelines.diffusion.settings import METHODS, SAMPLERS, Precision, Sampler, Settings
from pipelines.errors import UserError, require_finite
from pipelines.models.loading import load
from pipelines.models.text_to_image import TextToImage

SCHEDULERS: dict[Sampler, str] = {  # of diffusers
    "ddpm": "DDIMScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}
LEAST_SIGNAL = 1e-12
ADVICE = "Choose another number of steps, another sampler or less guidance."  # where numbers are no numbers any more
# How much fresh noise a step adds: as much as DDPM's (Ho et al. 2020, https://arxiv.org/abs/2006.11239), which is
# eta = 1 in equation 16 of DDIM (Song et al. 2021, https://arxiv.org/abs/2010.02502). The others add none.
ETA = {"ddpm": 1.0}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of one picture. Latents are (C, H, W) float32, in the variance-preserving form."""

    index: int
    count: int  # steps of this run
    time: int  # 0 (clean) to 999 (noise) of the training's schedule
    sigma: float
    snr: float
    noisy: np.ndarray  # x_t, as it came into the step: before any nudge
    clean: np.ndarray  # the predicted x_0, after guidance
    conditional: np.ndarray  # x_0 as predicted from the prompt alone
    unconditional: np.ndarray  # and from the negative prompt; equal to `conditional` without guidance
    gap: float  # length of e_c - e_u, the difference of the two predictions of the noise
    attention: np.ndarray  # (1 + W, rows, columns) float32: the start token, then every word; shares of all tokens
    peaks: tuple[float, ...]  # of each subject, on the map of this step: see attend_excite.peaks
    excited: Excited | None  # what Attend-and-Excite did, in the steps it works in
    picture: Image.Image | None  # `clean` decoded, by the previewer where the model has one
    seconds: float  # of this step alone, without the preview


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished picture. `latents` are (C, H, W) float32."""

    picture: Image.Image
    latents: np.ndarray
    prompt: Prompt
    steps: tuple[Step, ...]
    start: Image.Image | None  # the picture it began from, noised and decoded
    sigmas: np.ndarray  # (1000) of the whole schedule, for the curve
    seconds: float  # of the whole run, without previews
    flagged: bool = False  # by the checkpoint's own safety checker, which blackens such a picture


class Stopped(Exception):
    """Somebody asked the run to stop."""


# ------------------------------------------------------------------------------------------------------------- before


@torch.inference_mode()
def states_of(model: TextToImage, texts: Sequence[str]) -> Tensor:
    """(B, T, D) of the text encoder."""
    pipe = model.pipe
    ids = pipe.tokenizer(
        list(texts), padding="max_length", max_length=pipe.tokenizer.model_max_length, return_tensors="pt"
    ).input_ids
    return pipe.text_encoder(ids.to(model.device)).last_hidden_state.float()


def noises(model: TextToImage, seed: int, size: tuple[int, int]) -> Iterator[Tensor]:
    """(1, C, rows, columns) again and again, drawn on the CPU: the same on every computer. A run begins with the
    first, and a sampler that adds noise takes the others, one in a step."""
    rng = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn((1, model.pipe.unet.config.in_channels, *size), generator=rng)


def noise_of(model: TextToImage, seed: int, size: tuple[int, int]) -> Tensor:
    """The first of `noises`."""
    return next(noises(model, seed, size))


@torch.inference_mode()
def encode(model: TextToImage, picture: Image.Image) -> Tensor:
    """A picture, cut to the middle square of the model's size, as (1, C, rows, columns) latents."""
    vae, side = model.pipe.vae, model.size
    square = min(picture.size)
    left, top = (picture.width - square) // 2, (picture.height - square) // 2
    resized = picture.convert("RGB").resize(
        (side, side), Image.Resampling.LANCZOS, box=(left, top, left + square, top + square)
    )
    pixels = torch.from_numpy(np.asarray(resized, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    found = vae.encode(pixels.to(model.device))
    latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
    return ((latents - (vae.config.shift_factor or 0)) * vae.config.scaling_factor).cpu()


@torch.inference_mode()
def decode(model: TextToImage, latents: np.ndarray | Tensor, preview: bool = False) -> list[Image.Image]:
    """(B, C, rows, columns) -> pictures. With `preview` by the model's previewer, where it has one."""
    vae = model.previewer if preview and model.previewer is not None else model.pipe.vae
    scaled = torch.as_tensor(latents, device=model.device)
    scaled = scaled / vae.config.scaling_factor + (vae.config.shift_factor or 0)
    pixels = vae.decode(scaled.to(memory_format=torch.channels_last)).sample
    require_finite("the picture that these latents decode to", ADVICE, pixels)
    pixels = ((pixels + 1) * 127.5).clamp(0, 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def sampler_of(model: TextToImage, name: Sampler, steps: int, strength: float = 1.0) -> Any:
    from pipelines.diffusion.sampling import sampler_of  # it imports diffusers

    return sampler_of(model.pipe.scheduler.config, SCHEDULERS[name], steps, strength)


def signal(model: TextToImage) -> Tensor:
    """(1000) share of signal left at every time of training: the a of the module's formulas. Above 0, where a schedule
    ends without any, for sigma and the SNR are told of it."""
    return model.pipe.scheduler.alphas_cumprod.double().clamp(min=LEAST_SIGNAL)


# --------------------------------------------------------------------------------------------------------------- steps


@dataclass(kw_only=True)
class Moment:
    """What `denoise` tells of one step, for B pictures at once. Latents variance preserving, (B, C, rows, columns)."""

    index: int
    count: int
    time: int
    signal: float
    noisy: Tensor
    clean: Tensor
    conditional: Tensor
    unconditional: Tensor
    gap: Tensor  # (B)
    attention: Tensor  # (B, rows, columns, T)
    excited: list[Excited | None]
    after: Tensor  # latents after the step, as the sampler has them


def _parts(prediction: Tensor, noisy: Tensor, a: float, kind: str) -> tuple[Tensor, Tensor]:
    """x_0 and e from what the model predicts, equations 9 and 11 of Salimans & Ho 2022 (velocities) or x_t's own."""
    signal, noise = a**0.5, (1 - a) ** 0.5
    if kind == "v_prediction":
        return signal * noisy - noise * prediction, noise * noisy + signal * prediction
    return (noisy - noise * prediction) / signal, prediction


def denoise(
    model: TextToImage,
    states: Tensor,
    negative: Tensor | None,
    latents: Tensor,
    sampler: Any,
    times: Tensor,
    guidance: float,
    attention: Attention,
    subjects: Sequence[Sequence[Sequence[int]]] | None = None,
    schedule: Schedule | None = None,
    precision: Precision = "float32",
    stopped: Callable[[], None] = lambda: None,
    eta: float = 0.0,
    fresh: Sequence[Iterator[Tensor]] = (),
) -> Iterator[Moment]:
    """Draw B pictures at once, yielding after every step.

    Args:
        states: (B, T, D) of the prompts.
        negative: (B, T, D) of the negative prompts; None for no guidance.
        latents: (B, C, rows, columns), as the sampler wants them.
        times: those of the sampler that are to be run.
        attention: from `attention_of` the model's UNet of this precision.
        subjects: of each picture the tokens of each subject, and
        schedule: to use Attend-and-Excite; None for plain sampling.
        stopped: called before every pass; raises to leave.
        eta: of `ETA`; above 0 only with DDIM, and with
        fresh: of each picture the noise for every step.

    Raises:
        NotFinite: in the step whose numbers are none any more.
    """
    unet = model.unet(precision)
    dtype, kind = unet.dtype, model.pipe.scheduler.config.prediction_type
    shares = signal(model)
    states = states.to(dtype)
    both = states if negative is None else torch.cat([negative.to(dtype), states])
    device_times = times.to(model.device)
    for index, t in enumerate(device_times):
        with attention.installed():  # not over the yield: between two steps another run may use the same UNet
            stopped()
            noisy = given = sampler.scale_model_input(latents, t)
            excited: list[Excited | None] = [None] * len(latents)
            if schedule and (schedule.updates(index) or schedule.threshold(index)):

                def maps_of(at: Tensor, row: int, t=t) -> Tensor:
                    return truncated_pass(
                        attention, lambda: unet(at.to(dtype), t, encoder_hidden_states=states[row : row + 1])
                    )

                moved = []
                for row, tokens in enumerate(subjects or ()):
                    one = noisy[row : row + 1]
                    moved.append(excite(one, functools.partial(maps_of, row=row), tokens, schedule, index, stopped))
                given, excited = torch.cat([z for z, _ in moved]), [told for _, told in moved]
                latents = given / sampler.scale_model_input(torch.ones((), device=given.device), t)
            with torch.inference_mode():
                attention.maps.clear()
                pair = given if negative is None or unet.looks_once else torch.cat([given, given])
                pair = pair.to(dtype, memory_format=torch.channels_last)
                predicted = unet(pair, t, encoder_hidden_states=both).sample.float()
                require_finite(f"what the model sees in step {index + 1} of {len(times)}", ADVICE, predicted)
                maps = attention.mean()[-len(latents) :]
                without, wanted = predicted.chunk(2) if negative is not None else (predicted, predicted)
                guided = wanted
                if negative is not None:
                    guided = without + guidance * (wanted - without)
                    guided = rescale_noise_cfg(guided, wanted, model.spec.guidance_rescale)
                a = float(shares[min(int(t), len(shares) - 1)])
                conditional, e_c = _parts(wanted, given, a, kind)
                unconditional, e_u = _parts(without, given, a, kind)
                clean, _ = _parts(guided, given, a, kind)
                added = {"eta": eta, "variance_noise": torch.cat([next(n) for n in fresh]).to(latents)} if eta else {}
                latents = sampler.step(guided, t, latents, **added).prev_sample
                require_finite(f"what step {index + 1} of {len(times)} leads to", ADVICE, latents, clean)
            latents = latents.clone()  # out of inference mode: the next step may want its gradient
            gap = (e_c - e_u).flatten(1).norm(dim=1)
        yield Moment(
            index=index,
            count=len(times),
            time=int(t),
            signal=a,
            noisy=noisy,
            clean=clean,
            conditional=conditional,
            unconditional=unconditional,
            gap=gap,
            attention=maps,
            excited=excited,
            after=latents,
        )


def start_of(settings: Settings, model: TextToImage) -> tuple[Tensor, object, Tensor, Tensor | None]:
    """Latents to begin with as the sampler wants them, the sampler, the times to run, and the noised picture's latents
    (variance preserving) where it begins from one.

    With a picture, `strength` of the way is run, from the picture noised to there (Meng et al. 2022, SDEdit,
    https://arxiv.org/abs/2108.01073).
    """
    strength = 1.0 if settings.image is None else settings.strength
    if not 0 < strength <= 1:
        raise UserError("The strength must be above 0 and at most 1, not {strength}.", strength=strength)
    sampler = sampler_of(model, settings.sampler, settings.steps, strength)
    side = model.size // model.factor
    noise = noise_of(model, settings.seed, (side, side)).to(model.device)
    times = sampler.timesteps
    if settings.image is None:
        return noise * sampler.init_noise_sigma, sampler, times, None
    if hasattr(sampler, "set_begin_index"):
        sampler.set_begin_index(0)
    latents = sampler.add_noise(encode(model, settings.image).to(noise), noise, times[:1])
    return latents, sampler, times, sampler.scale_model_input(latents, times[0])


def run(settings: Settings, previews: bool = True, stop: Callable[[], bool] = lambda: False) -> Iterator[Step | Result]:
    """Draw, yielding a `Step` after every step and at last the `Result`.

    Leaving the loop, or `stop` answering true, ends the run within one pass, and the model is as it was.

    Raises:
        UserError: for a prompt, subjects or settings that cannot be drawn; nothing has been computed then.
        NotFinite: in the step whose numbers are none any more; nothing is judged or saved then.
        Stopped: when `stop` answered true.
    """
    if settings.method not in METHODS or settings.sampler not in SAMPLERS:
        raise UserError(
            "Methods are {methods}; samplers are {samplers}.", methods=", ".join(METHODS), samplers=", ".join(SAMPLERS)
        )
    model = load(settings.model, TextToImage)
    prompt = read_with(model, settings.prompt, settings.subjects)
    if settings.negative_prompt:
        read_with(model, settings.negative_prompt)
    exciting = settings.method == "attend-and-excite"
    if exciting:
        chosen_subjects(prompt)
    tokens = [subject.tokens for subject in prompt.subjects]

    def stopped() -> None:
        if stop():
            raise Stopped

    begin, steps, seconds = time.perf_counter(), [], 0.0
    texts = [settings.prompt] + ([settings.negative_prompt] if settings.guidance_scale > 1 else [])
    states, *negative = states_of(model, texts).split(1)
    latents, sampler, times, noised = start_of(settings, model)
    size = latents.shape[-2], latents.shape[-1]
    start = decode(model, noised, preview=True)[0] if noised is not None else None
    sharpness = model.spec.sharpness
    schedule = (
        Schedule(steps=len(times), scale=settings.scale, refine=settings.refine, sharpness=sharpness)
        if exciting
        else None
    )
    columns = [[0], *(word.tokens for word in prompt.words)]
    fresh = noises(model, settings.seed, size)
    next(fresh)  # it has begun with
    attention = attention_of(model.unet(settings.precision), size)
    moments = denoise(
        model,
        states,
        negative[0] if negative else None,
        latents,
        sampler,
        times,
        settings.guidance_scale,
        attention,
        [tokens],
        schedule,
        settings.precision,
        stopped,
        ETA.get(settings.sampler, 0.0),
        [fresh],
    )
    for moment in moments:
        now = time.perf_counter()
        picture = decode(model, moment.clean, preview=True)[0] if previews else None
        maps = moment.attention[0]
        steps.append(
            Step(
                index=moment.index,
                count=moment.count,
                time=moment.time,
                sigma=((1 - moment.signal) / moment.signal) ** 0.5,
                snr=moment.signal / (1 - moment.signal),
                noisy=moment.noisy[0].cpu().numpy(),
                clean=moment.clean[0].cpu().numpy(),
                conditional=moment.conditional[0].cpu().numpy(),
                unconditional=moment.unconditional[0].cpu().numpy(),
                gap=float(moment.gap[0]),
                attention=torch.stack([maps[..., list(places)].sum(-1) for places in columns]).cpu().numpy(),
                peaks=tuple(peaks(maps.float(), tokens, sharpness).tolist()) if tokens else (),
                excited=moment.excited[0],
                picture=picture,
                seconds=now - begin,
            )
        )
        seconds += now - begin
        yield steps[-1]
        begin = time.perf_counter()
    final = moment.after
    picture = decode(model, final)[0]
    picture, flagged = model.checked(picture)
    a = signal(model).numpy()
    yield Result(
        picture=picture,
        latents=final[0].cpu().numpy(),
        prompt=prompt,
        steps=tuple(steps),
        start=start,
        sigmas=np.sqrt((1 - a) / a),
        seconds=seconds + time.perf_counter() - begin,
        flagged=flagged,
    )


def clip_score(picture: Image.Image, text: str, model: str) -> float:
    """Cosine of the picture's and the text's features under an image-text model of the registry, in [-1, 1].

    Raises:
        UserError: when that model does not know a word.
    """
    judge = load(model)
    words = judge.text_features([text])
    with torch.inference_mode():
        features = judge.image_features(judge.encoder.encode(judge.pixels(picture)).cls)
    return float(features[0] @ words[0])


# ------------------------------------------------------------------------------------------------------ the trajectory

FRAMES = ("noisy", "clean", "conditional", "unconditional")
FRAMES_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Every step as pictures; each of them has one picture per step."""

    noisy: list[Image.Image]
    clean: list[Image.Image]
    conditional: list[Image.Image]
    unconditional: list[Image.Image]


def trajectory(result: Result, model: str) -> Trajectory:
    """Decode every step of a run, by the previewer where the model has one."""
    loaded = load(model, TextToImage)
    decoded: dict[str, list[Image.Image]] = {}
    previews = [step.picture for step in result.steps if step.picture is not None]
    for name in FRAMES:
        latents = np.stack([getattr(step, name) for step in result.steps])
        if name == "unconditional" and all(step.gap == 0 for step in result.steps):
            decoded[name] = decoded["conditional"]
        elif name == "clean" and len(previews) == len(result.steps):
            decoded[name] = previews
        else:
            parts = np.array_split(latents, math.ceil(len(latents) / FRAMES_AT_ONCE))
            decoded[name] = [picture for part in parts for picture in decode(loaded, part, preview=True)]
    return Trajectory(**decoded)
