"""Numbers that are none are found where they arise, said in plain words, and nothing is made of them."""

import numpy as np
import pytest
import torch

from pipelines.clip_synthesis import pipeline as clip_synthesis
from pipelines.detection import pipeline as detection
from pipelines.diffusion import pipeline as diffusion
from pipelines.diffusion.attend_excite import Schedule, excite
from pipelines.errors import NotFinite, UserError, require_finite
from pipelines.models.loading import load
from pipelines.models.text_to_image import TextToImage
from pipelines.reconstruction import pipeline as reconstruction
from pipelines.self_distillation import pipeline as self_distillation
from pipelines.token_removal import pipeline as token_removal

BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", BAD)
def test_arrays_tensors_and_numbers(value):
    require_finite("this", "Wait.", np.ones(3), torch.ones(2), 1.0)
    for bad in (np.array([1.0, value]), torch.tensor([value, 0.0]), value):
        with pytest.raises(NotFinite, match="NaN or infinity. in this, so it ends here.*Wait") as caught:
            require_finite("this", "Wait.", 1.0, bad)
        assert isinstance(caught.value, UserError), "its words reach the visitor"


@pytest.mark.parametrize("step", [0, 2])
def test_a_run_ends_at_the_step_whose_numbers_are_none(step, monkeypatch):
    model = load("storybook-diffusion", TextToImage)
    unet, calls = model.unet(), []

    def spoil(_, __, output):
        calls.append(1)
        if len(calls) == step + 1:
            output.sample = output.sample * float("nan")
        return output

    hook, told = unet.register_forward_hook(spoil), []
    try:
        with pytest.raises(NotFinite, match=f"step {step + 1} of 4.*another number of steps"):
            for each in diffusion.run(
                diffusion.Settings(prompt="a cat", steps=4, guidance_scale=1, sampler="ddim"), previews=False
            ):
                told.append(each)
    finally:
        hook.remove()
    assert len(told) == step and not any(isinstance(each, diffusion.Result) for each in told)


def test_nudges_of_attention_that_is_none_end_the_step():
    latents = torch.randn(1, 4, 4, 4)
    maps = lambda at: torch.softmax(at.sum() * torch.full((1, 4, 4, 6), float("nan")), -1)  # noqa: E731
    with pytest.raises(NotFinite, match="attended to in step 1"):
        excite(latents, maps, [[1]], Schedule(steps=4), 0)
    edge = lambda at: (at.mean() * 0).sqrt() + torch.full((1, 4, 4, 6), 1 / 6)  # noqa: E731
    with pytest.raises(NotFinite, match="nudge of step 1"):
        excite(latents, edge, [[1]], Schedule(steps=4), 0)


def test_a_picture_of_latents_that_are_none_is_not_shown():
    model = load("storybook-diffusion", TextToImage)
    shape = (1, model.pipe.unet.config.in_channels, 16, 16)
    with pytest.raises(NotFinite, match="picture that these latents"):
        diffusion.decode(model, torch.full(shape, float("nan")))


@pytest.mark.parametrize("ask", [token_removal.encode, reconstruction.encode, self_distillation.encode])
def test_features_that_are_none_are_not_compared(ask, scene_image, monkeypatch):
    from pipelines.models import vision

    whole = vision.openclip_tokens

    def spoilt(*arguments, **settings):
        tokens = whole(*arguments, **settings)
        return vision.Tokens(cls=tokens.cls * float("nan"), patches=tokens.patches, attention=tokens.attention)

    monkeypatch.setattr(vision, "openclip_tokens", spoilt)
    with pytest.raises(NotFinite, match="features of this picture"):
        ask(scene_image, "storybook-detailclip")


def test_scores_that_are_none_find_nothing(detector, scene_image, monkeypatch):
    look, answer = detection.BACKENDS["transformers"]
    spoilt = lambda *given: tuple(part * float("nan") for part in answer(*given))  # noqa: E731
    monkeypatch.setitem(detection.BACKENDS, "transformers", (look, spoilt))
    with pytest.raises(NotFinite, match="boxes and scores"):
        detection.encode_with(detector, scene_image, "cat")


def test_a_loss_that_is_none_is_not_followed(monkeypatch):
    monkeypatch.setattr(clip_synthesis, "spherical", lambda a, b: (a.sum() - a.sum()) / 0.0)
    request = clip_synthesis.Settings(prompt="a cat", steps=2, cutouts=2, parametrization="pixels")
    with pytest.raises(NotFinite, match="loss of iteration 1"):
        next(clip_synthesis.run(request))
