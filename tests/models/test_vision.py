"""Every encoder gives what its library gives, with or without removed patches, and leaves the model as it was."""

from typing import Any

import pytest
import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from pipelines.models.detailclip import keep_highest
from pipelines.models.vision import OpenClipEncoder, TransformersEncoder, centre_square, watch_class_attention

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}


def build(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    made = {
        "vit": lambda: ViTModel(ViTConfig(**SMALL)),
        "dinov2": lambda: Dinov2Model(Dinov2Config(**SMALL)),
        "registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL, num_register_tokens=4)),
        "mae": lambda: (
            ViTMAEForPreTraining(
                ViTMAEConfig(
                    **SMALL,
                    decoder_hidden_size=16,
                    decoder_num_hidden_layers=1,
                    decoder_num_attention_heads=2,
                    decoder_intermediate_size=32,
                )
            ).vit
        ),
    }
    return made[kind]().eval()


@pytest.mark.parametrize("kind", ["vit", "dinov2", "registers"])
def test_tokens_are_the_librarys_own(kind):
    model, pixels = build(kind), torch.randn(2, 3, 32, 32)
    tokens = TransformersEncoder(model=model, size=32).encode(pixels)
    with torch.no_grad():
        hidden = model(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(tokens.cls, hidden[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tokens.patches, hidden[:, -16:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "registers"])
def test_attention_is_the_librarys_own(kind):
    model, pixels = build(kind), torch.randn(2, 3, 32, 32)
    ours = TransformersEncoder(model=model, size=32).encode(pixels).attention
    model.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = torch.stack(list(model(pixel_values=pixels, output_attentions=True).attentions), dim=1)
    torch.testing.assert_close(ours, theirs[:, :, :, 0, -16:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "registers", "mae"])
def test_dropping_nothing_changes_nothing_and_dropping_really_drops(kind):
    encoder, pixels = TransformersEncoder(model=build(kind), size=32), torch.randn(2, 3, 32, 32)
    whole = encoder.encode(pixels)
    torch.testing.assert_close(encoder.encode(pixels, torch.arange(16).expand(2, -1)).cls, whole.cls)
    kept = torch.arange(8).expand(2, -1)
    part = encoder.encode(pixels, kept)
    assert part.patches.shape == (2, 8, 32) and part.attention.shape == (2, 2, 2, 8)
    changed = pixels.clone()
    changed[:, :, 16:] += 50
    torch.testing.assert_close(encoder.encode(changed, kept).cls, part.cls)


def test_mae_encoder_is_the_librarys_under_the_same_noise():
    model, pixels = build("mae"), torch.randn(1, 3, 32, 32)
    kept = keep_highest(torch.rand(1, 16), 0.4)
    noise = (
        torch.ones(1, 16).scatter(1, kept, 0.0) + torch.arange(16) * 1e-3
    )  # MAE keeps the lowest noise, in its order
    model.config.mask_ratio = 1 - kept.shape[1] / 16
    with torch.no_grad():
        theirs = model(pixel_values=pixels, noise=noise).last_hidden_state
    ours = TransformersEncoder(model=model, size=32).encode(pixels, kept)
    torch.testing.assert_close(ours.cls, theirs[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.patches, theirs[:, 1:], atol=1e-5, rtol=1e-4)


def test_openclip_tower_gives_its_own_features_and_a_softmax_row(tiny):
    visual, pixels = tiny.clip.visual.eval(), torch.randn(2, 3, 32, 32)
    tokens = OpenClipEncoder(visual=visual).encode(pixels)
    with torch.no_grad():
        torch.testing.assert_close(tokens.cls @ visual.proj, visual(pixels), atol=1e-5, rtol=1e-5)
    assert tokens.attention.shape == (2, 2, 2, 16)
    total = tokens.attention.sum(-1)  # with the class token's own share it is 1
    assert (total < 1).all() and (total > 0.5).all()


def test_model_is_as_before_after_an_error_inside_the_with():
    model, pixels = build("vit"), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = model(pixel_values=pixels).last_hidden_state
    with pytest.raises(RuntimeError, match="on purpose"), watch_class_attention(model.layers):
        raise RuntimeError("on purpose")
    assert not any(m._forward_hooks for m in model.modules())
    with torch.no_grad():
        assert torch.equal(model(pixel_values=pixels).last_hidden_state, before)


def test_centre_square_takes_the_middle(scene_image):
    wide = scene_image.resize((300, 100))
    assert centre_square(wide).size == (100, 100)
    assert centre_square(wide).tobytes() == wide.crop((100, 0, 200, 100)).tobytes()
