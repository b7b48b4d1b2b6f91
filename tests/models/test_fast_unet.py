"""The UNet computed sooner is the same UNet."""

from typing import Any

import pytest
import torch

from pipelines.diffusion.attend_excite import capture_cross_attention
from pipelines.models.fast_unet import faster
from tests import tiny_diffusion

LARGE = {  # Stable Diffusion 2's kinds of parts: blocks without attention, linear projections, several layers
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "layers_per_block": 2,
    "transformer_layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": (2, 4),
    "norm_num_groups": 8,
    "use_linear_projection": True,
}
OTHERS: dict[str, dict[str, Any]] = {  # parts that Stable Diffusion does not have
    "scale and shift": {"resnet_time_scale_shift": "scale_shift"},
    "a middle that is scaled": {"mid_block_scale_factor": 2.0},
    "blocks that resize themselves": {"down_block_types": ("CrossAttnDownBlock2D", "ResnetDownsampleBlock2D")},
    "attention to words alone": {"only_cross_attention": True},
}


def unet(settings: dict) -> torch.nn.Module:
    return tiny_diffusion.pipeline(unet=settings).unet.eval().requires_grad_(False)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def answer(module: torch.nn.Module, words: torch.Tensor, rows: int = 16, time: int = 500) -> torch.Tensor:
    return module(noise(len(words), 4, rows, 16), time, encoder_hidden_states=words).sample


@pytest.mark.parametrize(
    "settings",
    [tiny_diffusion.TINY, LARGE, *(tiny_diffusion.TINY | other for other in OTHERS.values())],
    ids=["Stable Diffusion 1", "Stable Diffusion 2", *OTHERS],
)
@pytest.mark.parametrize("rows", [16, 24])
def test_the_answer_is_the_same(settings, rows):
    module, words = unet(settings), noise(2, 7, 32)
    theirs, ours = answer(module, words, rows), answer(faster(module), words, rows)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert theirs.std() > 0.1


@pytest.mark.parametrize("settings", [tiny_diffusion.TINY, LARGE], ids=["Stable Diffusion 1", "Stable Diffusion 2"])
def test_pixels_of_several_sets_of_words_are_looked_at_once(settings):
    module, words, latents = unet(settings), noise(6, 7, 32), noise(2, 4, 16, 16)
    view, rows = faster(module), []
    view.conv_in.register_forward_hook(lambda layer, given, found: rows.append(len(found)))
    assert view.looks_once
    ours = view(latents, 500, encoder_hidden_states=words).sample
    assert rows == [2]
    theirs = module(torch.cat([latents] * 3), 500, encoder_hidden_states=words).sample
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_view_that_cannot_look_once_says_so(other):
    assert not faster(unet(tiny_diffusion.TINY | other)).looks_once


def test_other_words_are_not_answered_with_those_of_the_last_pass():
    module = unet(tiny_diffusion.TINY)
    view = faster(module)
    for seed in (1, 2, 1):
        words = noise(1, 7, 32, seed=seed)
        for time in (900, 100):
            torch.testing.assert_close(
                answer(view, words, time=time), answer(module, words, time=time), atol=1e-5, rtol=0
            )


def test_what_is_captured_is_the_same():
    module, words, captured = unet(LARGE), noise(2, 7, 32), []
    for each in (module, faster(module)):
        with capture_cross_attention(each, (16, 16)) as attention:
            answer(each, words)
            captured.append(attention.mean())
    torch.testing.assert_close(*captured, atol=1e-6, rtol=0)
    assert captured[0].shape == (2, 16, 16, 7)


def test_the_model_itself_stays_as_it_was():
    module, words = unet(tiny_diffusion.TINY), noise(1, 7, 32)
    before, processors = answer(module, words), dict(module.attn_processors)
    view = faster(module)
    with capture_cross_attention(view, (16, 16)):
        answer(view, words)
    assert torch.equal(answer(module, words), before) and module.attn_processors == processors
    assert view.conv_in.weight is module.conv_in.weight, "the weights are shared"


def test_in_bfloat16_it_is_as_near_as_diffusers():
    module, words = unet(tiny_diffusion.TINY), noise(2, 7, 32)
    true, half = answer(module, words), unet(tiny_diffusion.TINY).to(torch.bfloat16)
    given = noise(2, 4, 16, 16).bfloat16(), 500, words.bfloat16()
    theirs, ours = (m(*given).sample.float() for m in (half, faster(half)))
    assert (ours - true).square().mean() <= 1.2 * (theirs - true).square().mean()


def test_latents_have_a_gradient_through_it():
    module, words, slopes = unet(tiny_diffusion.TINY), noise(1, 7, 32), []
    for each in (module, faster(module)):
        latents = noise(1, 4, 16, 16).requires_grad_(True)
        each(latents, 500, encoder_hidden_states=words).sample.square().sum().backward()
        slopes.append(latents.grad)
    torch.testing.assert_close(*slopes, atol=1e-4, rtol=1e-3)
