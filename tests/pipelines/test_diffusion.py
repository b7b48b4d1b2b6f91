"""Drawing step by step: against diffusers, against the formulas, and the model as it was whatever happens."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.diffusion import attend_excite
from pipelines.diffusion import pipeline as diffusion
from pipelines.diffusion.attend_excite import Schedule, capture_cross_attention, cross_attention, peaks
from pipelines.diffusion.pipeline import Result, Step, Stopped
from pipelines.diffusion.settings import Settings
from pipelines.models import text_to_image
from pipelines.models.registry import MODELS
from pipelines.models.text_to_image import TextToImage
from tests import tiny_diffusion

PROMPT, STEPS, SIZE = "a cat and a red car", 8, (16, 16)


@pytest.fixture(scope="module", params=["v_prediction", "epsilon"])
def model(request) -> TextToImage:
    pipe = tiny_diffusion.pipeline(prediction_type=request.param)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    vocabulary = frozenset(pipe.tokenizer.get_vocab())
    spec = replace(MODELS["storybook-diffusion"], sharpness=100.0, guidance_rescale=0.0)
    return TextToImage(spec=spec, pipe=pipe, previewer=None, vocabulary=vocabulary)


@pytest.fixture(autouse=True)
def only_this_one(model, monkeypatch):
    monkeypatch.setattr(diffusion, "load", lambda *_: model)


def asked(**settings) -> Settings:
    """Of the plainest kind: no fresh noise, and as much guidance as the large models are given."""
    return Settings(**{"prompt": PROMPT, "steps": STEPS, "guidance_scale": 7.5, "sampler": "ddim", **settings})


def drawn(**settings) -> Result:
    *_, last = diffusion.run(asked(**settings), previews=False)
    assert isinstance(last, Result)
    return last


def answer(model: TextToImage) -> torch.Tensor:
    """What the UNet says to something fixed."""
    rng = torch.Generator().manual_seed(1)
    latents, states = torch.randn(1, 4, 16, 16, generator=rng), torch.randn(1, 24, 32, generator=rng)
    with torch.inference_mode():
        return model.unet()(latents, 500, encoder_hidden_states=states).sample


class Counted:
    """How often the UNet is entered, and how often it gets to its last layer."""

    def __init__(self, unet):
        self.entered = self.finished = 0
        self.hooks = [
            unet.conv_in.register_forward_hook(lambda *_: self.count("entered")),
            unet.conv_out.register_forward_hook(lambda *_: self.count("finished")),
        ]

    def count(self, what: str) -> None:
        setattr(self, what, getattr(self, what) + 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


# ---------------------------------------------------------------------------------------------- parity with diffusers


@pytest.mark.parametrize("sampler", diffusion.SCHEDULERS)
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_same_latents_as_diffusers(model, sampler, guidance):
    import diffusers

    pipe = tiny_diffusion.pipeline(prediction_type=model.pipe.scheduler.config.prediction_type)
    pipe.scheduler = getattr(diffusers, diffusion.SCHEDULERS[sampler]).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    noise = diffusion.noise_of(model, 7, SIZE)
    rng = torch.Generator().manual_seed(7)
    torch.randn(noise.shape, generator=rng)  # ours begins with it
    eta = diffusion.ETA.get(sampler, 0.0)
    settings = {"num_inference_steps": STEPS, "guidance_scale": guidance, "output_type": "latent"}
    theirs = pipe(PROMPT, latents=noise, eta=eta, generator=rng, **settings).images[0]
    ours = drawn(seed=7, sampler=sampler, guidance_scale=guidance).latents
    scale = np.abs(theirs.numpy()).max()  # random weights draw numbers up to 30
    assert np.abs(ours - theirs.numpy()).max() < 1e-5 * max(10, scale)


def test_guidance_is_rescaled_as_in_diffusers(model, monkeypatch):
    other = replace(model, spec=replace(model.spec, guidance_rescale=0.7))
    monkeypatch.setattr(diffusion, "load", lambda *_: other)
    noise = diffusion.noise_of(model, 7, SIZE)
    settings = {"num_inference_steps": STEPS, "guidance_scale": 7.5, "output_type": "latent"}
    theirs = model.pipe(PROMPT, latents=noise, guidance_rescale=0.7, **settings).images[0].numpy()
    plain = model.pipe(PROMPT, latents=noise, **settings).images[0].numpy()
    ours = drawn(seed=7).latents
    assert np.abs(ours - theirs).max() < 1e-4 and np.abs(plain - theirs).max() > 1e-2


@pytest.mark.parametrize("refine", [False, True])
def test_same_excited_latents_as_the_authors_loop(model, refine):
    """diffusers' deprecated pipeline, which follows the authors' code, on the same random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite import (
            pipeline_stable_diffusion_attend_and_excite as module,
        )
    pipe = model.pipe
    parts = (pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, pipe.scheduler, None, None)
    peer = module.StableDiffusionAttendAndExcitePipeline(*parts, requires_safety_checker=False)
    peer.set_progress_bar_config(disable=True)
    schedule = Schedule(steps=STEPS, refine=refine)
    thresholds = {step: schedule.threshold(step) for step in range(STEPS) if schedule.threshold(step)}
    assert bool(thresholds) == refine
    theirs = peer(
        PROMPT,
        token_indices=[2, 6],
        height=128,
        width=128,
        num_inference_steps=STEPS,
        latents=diffusion.noise_of(model, 7, SIZE),
        thresholds=thresholds,
        max_iter_to_alter=STEPS // 2,
        attn_res=SIZE,
        output_type="latent",
    ).images[0]
    result = drawn(seed=7, method="attend-and-excite", refine=refine)
    assert np.abs(result.latents - theirs.numpy()).max() < 1e-4
    plain = drawn(seed=7)
    assert np.abs(result.latents - plain.latents).max() > 1e-2, "the nudges must do something"


def test_fewer_passes_than_the_authors_loop(model):
    """No layer after the last whose attention is captured, and no extra pass once updating is over."""
    with Counted(model.unet()) as count:
        result = drawn(method="attend-and-excite")
    tries = sum(step.excited.tries for step in result.steps if step.excited)
    assert tries > 0, "random weights must need refinement"
    assert count.entered == STEPS + STEPS // 2 + tries
    assert count.finished == STEPS, "only the steps themselves run to the end"


# ------------------------------------------------------------------------------------------------------ what is told


def test_steps_obey_the_formulas(model):
    shares = diffusion.signal(model)
    for step in drawn().steps:
        a = float(shares[step.time])
        assert step.snr == pytest.approx(a / (1 - a)) and step.sigma == pytest.approx(step.snr**-0.5)
        noise_c = (step.noisy - a**0.5 * step.conditional) / (1 - a) ** 0.5
        noise_u = (step.noisy - a**0.5 * step.unconditional) / (1 - a) ** 0.5
        assert step.gap == pytest.approx(np.linalg.norm(noise_c - noise_u), rel=1e-2)
        guided = noise_u + 7.5 * (noise_c - noise_u)
        clean = (step.noisy - (1 - a) ** 0.5 * guided) / a**0.5
        assert np.allclose(step.clean, clean, rtol=1e-2, atol=1e-2 * max(1, step.sigma))


def test_without_guidance_there_is_one_prediction(model):
    for step in drawn(guidance_scale=1.0).steps:
        assert step.gap == 0 and np.array_equal(step.conditional, step.unconditional)
        assert np.array_equal(step.clean, step.conditional)


def test_the_sampler_lands_on_the_last_prediction(model):
    """DDIM's last step removes all the noise it believes in."""
    result = drawn()
    assert np.allclose(result.latents, result.steps[-1].clean, atol=0.05)


def test_attention_is_shared_by_all_tokens(model):
    result = drawn()
    with capture_cross_attention(model.unet(), SIZE) as attention:
        answer(model)
        maps = attention.mean()
    assert maps.shape == (1, 16, 16, 24) and torch.allclose(maps.sum(-1), torch.ones(1, 16, 16), atol=1e-5)
    for step in result.steps:
        assert step.attention.shape == (1 + 6, 16, 16), "the start token and six words"
        assert (step.attention >= 0).all() and (step.attention.sum(0) <= 1 + 1e-5).all()


def test_same_seed_same_picture(model):
    first, again, other = drawn(seed=3), drawn(seed=3), drawn(seed=4)
    assert np.array_equal(first.latents, again.latents) and first.picture.tobytes() == again.picture.tobytes()
    assert np.abs(first.latents - other.latents).max() > 0.1


def test_runs_in_turn_on_one_model_draw_what_each_draws_alone(model):
    """A step of one, a step of another, each with its own way of looking at the words; one is left in the middle."""
    asks = [asked(seed=3), asked(seed=4, method="attend-and-excite"), asked(seed=5, guidance_scale=1.0, steps=5)]
    alone = [list(diffusion.run(each, previews=False)) for each in asks]
    before = answer(model)
    left, *runs = [diffusion.run(each, previews=False) for each in (asked(seed=9), *asks)]
    together: list[list] = [[] for _ in runs]
    for turn in range(STEPS + 1):
        for steps, run in zip(together, runs, strict=True):
            if (step := next(run, None)) is not None:
                steps.append(step)
        assert torch.equal(answer(model), before), "between two steps the model is as it was"
        left.close() if turn == 2 else next(left, None)
    for ours, theirs in zip(together, alone, strict=True):
        assert len(ours) == len(theirs) and np.array_equal(ours[-1].latents, theirs[-1].latents)
        for step, same in zip(ours[:-1], theirs[:-1], strict=True):
            assert np.array_equal(step.attention, same.attention)


def test_half_precision_is_close(model):
    ours, half = drawn(guidance_scale=1.0), drawn(guidance_scale=1.0, precision="bfloat16")
    assert 0 < np.abs(ours.latents - half.latents).max() < 0.2 * np.abs(ours.latents).max()


# ------------------------------------------------------------------------------------------------ image to image


@pytest.mark.parametrize("sampler", diffusion.SCHEDULERS)
@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
def test_strength_decides_where_it_begins(model, scene_image, sampler, strength):
    request = asked(image=scene_image, strength=strength, sampler=sampler)
    latents, chosen, times, noised = diffusion.start_of(request, model)
    assert len(times) == round(STEPS * strength)
    a = float(diffusion.signal(model)[int(times[0])])
    clean, noise = diffusion.encode(model, scene_image), diffusion.noise_of(model, 42, SIZE)
    assert torch.allclose(noised, a**0.5 * clean + (1 - a) ** 0.5 * noise, atol=5e-3)
    result = list(diffusion.run(request, previews=False))[-1]
    assert len(result.steps) == len(times) and result.start.size == (128, 128)
    assert np.allclose(result.steps[0].noisy, noised[0].numpy(), atol=1e-5)


def test_a_picture_that_is_not_square_loses_its_margins_only(model):
    wide = Image.new("RGB", (300, 100), (255, 0, 0))
    wide.paste((0, 0, 255), (100, 0, 200, 100))
    blue = diffusion.encode(model, Image.new("RGB", (100, 100), (0, 0, 255)))
    assert torch.allclose(diffusion.encode(model, wide)[..., 4:12, 4:12], blue[..., 4:12, 4:12], atol=1e-4)


# ----------------------------------------------------------------------------------------- the model as it was


def test_processors_and_answers_are_back_after_everything(model):
    unet, before = model.unet(), answer(model)
    processors = dict(unet.attn_processors)

    def same() -> bool:
        now = unet.attn_processors
        return all(now[name] is processors[name] for name in processors) and torch.equal(answer(model), before)

    drawn(method="attend-and-excite")
    assert same(), "after a whole run"

    steps = diffusion.run(asked(method="attend-and-excite"), previews=False)
    next(steps)
    assert all(unet.attn_processors[name] is processors[name] for name in processors), "others may use it now"
    steps.close()
    assert same(), "after a run that was left"

    def broken(*_):
        raise RuntimeError("broken")

    hook = unet.conv_out.register_forward_hook(broken)
    with pytest.raises(RuntimeError, match="broken"):
        drawn()
    hook.remove()
    assert same(), "after an exception"

    with pytest.raises(RuntimeError), capture_cross_attention(unet, SIZE):
        raise RuntimeError
    assert same()


def test_stop_ends_within_one_pass_even_while_refining(model):
    calls = []

    def stop() -> bool:
        calls.append(None)
        return len(calls) > 12

    with Counted(model.unet()) as count, pytest.raises(Stopped):
        list(diffusion.run(asked(method="attend-and-excite"), previews=False, stop=stop))
    assert len(calls) == 13 and count.entered <= 12, "the first yes ends it"


# ------------------------------------------------------------------------------------------- Attend-and-Excite's parts


def test_layers_are_found_by_the_size_of_their_maps(model):
    layers = cross_attention(model.unet(), SIZE)
    assert {size: len(names) for size, names in layers.items()} == {(16, 16): 3, (8, 8): 4}
    assert all(name.endswith("attn2.processor") for names in layers.values() for name in names)


def test_schedule_of_the_paper():
    paper = Schedule(steps=50)
    assert {n: paper.threshold(n) for n in range(50) if paper.threshold(n)} == {0: 0.05, 10: 0.5, 20: 0.8}
    assert [paper.updates(n) for n in (0, 24, 25, 49)] == [True, True, False, False]
    assert paper.size(0) == 20 and paper.size(49) == pytest.approx(20 * 0.5**0.5)
    short = Schedule(steps=20)
    assert {n: short.threshold(n) for n in range(20) if short.threshold(n)} == {0: 0.05, 4: 0.5, 8: 0.8}
    assert short.staircase() == [0.05] * 4 + [0.5] * 4 + [0.8] * 2
    assert Schedule(steps=1).size(0) == 20


def test_peak_is_the_papers_formula():
    """Transcribed: softmax of 100 A over the words without first and last, Gaussian, maximum."""
    maps = torch.rand(16, 16, 6, generator=torch.Generator().manual_seed(0)) / 20
    shared = torch.softmax(100 * maps[:, :, 1:5], dim=-1)[:, :, 2].numpy()
    line = np.exp(-(np.array([-1.0, 0.0, 1.0]) ** 2))
    kernel = np.outer(line, line) / line.sum() ** 2
    padded = np.pad(shared, 1, mode="reflect")
    smooth = sum(kernel[i, j] * padded[i : i + 16, j : j + 16] for i in range(3) for j in range(3))
    assert float(peaks(maps, [[3]])[0]) == pytest.approx(smooth.max(), rel=1e-5)


def test_a_spelled_subject_counts_by_its_best_piece():
    maps = torch.rand(16, 16, 8, generator=torch.Generator().manual_seed(2)) / 20
    each = peaks(maps, [[2], [3], [4]])
    assert peaks(maps, [[2, 3, 4]])[0] == each.max()


def test_nudges_raise_the_weakest_subject(model):
    """On one step's latents: more attention for the subject that was worst off."""
    result = drawn(method="attend-and-excite", refine=True)
    refined = [step.excited for step in result.steps if step.excited and step.excited.tries > 1]
    assert refined and all(step.moved > 0 for step in refined)
    plain = drawn()
    tried = next(step.index for step in result.steps if step.excited and step.excited.tries > 1)
    assert min(result.steps[tried].peaks) > min(plain.steps[tried].peaks)


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"prompt": ""}, "nothing to draw"),
        ({"prompt": "   \n"}, "nothing to draw"),
        ({"prompt": "..., !"}, "does not know|no word"),
        ({"prompt": "a cat " * 200_000}, "1199999 characters"),
        ({"prompt": " ".join(["a cat and"] * 30)}, "at most 22 pieces"),
        ({"prompt": "a zebra on the moon"}, "'zebra'"),
        ({"negative_prompt": "blurry"}, "'blurry'"),
        ({"subjects": "dog"}, "'dog' is not in the prompt"),
        ({"subjects": "cat, cat"}, "not that often"),
        ({"prompt": "on grass", "method": "attend-and-excite"}, "Click the words"),
        ({"method": "magic"}, "method must be one of 'none'"),
        ({"sampler": "magic"}, "sampler must be one of 'ddpm'"),
        ({"precision": "float8"}, "float32 or bfloat16"),
        ({"strength": float("nan"), "image": Image.new("RGB", (64, 64))}, "strength"),
        ({"strength": 0.0, "image": Image.new("RGB", (64, 64))}, "strength"),
    ],
)
def test_bad_requests_say_what_is_wrong_before_anything_runs(model, settings, message):
    with Counted(model.unet()) as count, pytest.raises(ValueError, match=message):
        list(diffusion.run(asked(**{"steps": 2, **settings})))
    assert count.entered == 0


# -------------------------------------------------------------------------------------------- previews and trajectory


def test_every_step_shows_a_picture_and_the_trajectory_has_all_of_them(model):
    *steps, result = diffusion.run(asked(steps=4))
    assert all(isinstance(step, Step) and step.picture.size == (128, 128) for step in steps)
    trajectory = diffusion.trajectory(result, "storybook-diffusion")
    assert all(len(getattr(trajectory, name)) == 4 for name in diffusion.FRAMES)
    again = diffusion.decode(model, result.steps[2].noisy[None])[0]
    assert np.abs(np.asarray(trajectory.noisy[2], int) - np.asarray(again, int)).max() <= 1


def test_a_flagged_picture_is_said_to_be_flagged(model, monkeypatch):
    monkeypatch.setattr(
        text_to_image.TextToImage, "checked", lambda self, picture: (Image.new("RGB", picture.size), True)
    )
    result = drawn()
    assert result.flagged and not np.asarray(result.picture).any()


@pytest.mark.parametrize("sampler", ["euler", "dpm++"])
def test_nudges_are_the_same_whatever_the_sampler_computes_in(model, sampler):
    """Euler's latents of the first step are up to 20,000 times as long."""
    shared = {"method": "attend-and-excite", "refine": False, "steps": 4}
    ddim, other = (drawn(sampler=name, **shared).steps[0] for name in ("ddim", sampler))
    if ddim.time == other.time:  # where both begin at the same noise
        assert other.excited.moved == pytest.approx(ddim.excited.moved, rel=0.02)
        assert other.excited.peaks == pytest.approx(ddim.excited.peaks, rel=0.02)
    assert other.excited.moved > 1e-4


def test_excite_leaves_no_gradient_behind(model):
    result = drawn(method="attend-and-excite")
    assert isinstance(result.latents, np.ndarray)
    assert all(parameter.grad is None for parameter in model.unet().parameters())
    assert attend_excite.MOST_TRIES == 20
