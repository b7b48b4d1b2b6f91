"""The converter, on random tensors under the published checkpoint's names and shapes, at a small size."""

import math

import pytest
import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from pipelines.models import detailclip
from pipelines.models.decoder import sincos_positions
from pipelines.models.loading import Cache, open_folder
from pipelines.models.registry import MODELS
from pipelines.reconstruction import pipeline as reconstruction
from pipelines.reconstruction.settings import Settings as Rebuilding
from pipelines.self_distillation import pipeline as self_distillation
from pipelines.self_distillation.settings import Settings
from pipelines.training import convert_detailclip as convert

WIDTH, GRID, TEXT, VOCABULARY, K = 32, 14, 16, 49408, 24
SPEC = MODELS["detailclip-vit-b-16"]


@pytest.fixture(scope="module")
def tower() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=224, patch_size=16, embed_dim=WIDTH, depth=2, num_heads=2, num_classes=0, global_pool="token"
    ).eval()


@pytest.fixture(scope="module")
def published(tower) -> dict[str, torch.Tensor]:
    """A state dict as `main.py` of the authors saves it: every name begins with `module.`."""

    def named(prefix: str, module: nn.Module) -> dict:
        return {prefix + n: t for n, t in module.state_dict().items()}

    def head() -> dict:
        mlp = nn.Sequential(nn.Linear(WIDTH, 20), nn.GELU(), nn.Linear(20, 20), nn.GELU(), nn.Linear(20, 8))
        weight = torch.randn(K, 8)
        return {
            **named("mlp.", mlp),
            "last_layer.weight_g": torch.ones(K, 1),
            "last_layer.weight_v": weight,
            "last_layer2.weight_g": torch.ones(K, 1),
            "last_layer2.weight_v": weight,
        }

    teacher = VisionTransformer(img_size=224, patch_size=16, embed_dim=WIDTH, depth=2, num_heads=2, num_classes=0)
    text = nn.ModuleDict({"resblocks": nn.ModuleList([_text_block()])})
    state = {
        **named("visual.", tower),
        **named("visual_ema.", teacher),
        **named("transformer.", text),
        **named("transformer_e.", text),
        **{f"ibot_head.{n}": t for n, t in head().items()},
        **{f"ibot_head_e.{n}": t for n, t in head().items()},
        **named("decoder_embed.", nn.Linear(WIDTH, WIDTH)),
        **named("decoder_norm.", nn.LayerNorm(WIDTH)),
        **named("decoder_blocks.0.", Block(WIDTH, 2, qkv_bias=True)),
        **named("reconstruction_pred.", nn.Linear(WIDTH, 16 * 16 * 3)),
        "mask_token": torch.randn(1, 1, WIDTH),
        "decoder_pos_embed": sincos_positions(GRID, WIDTH)[None],
        "image_projection": torch.randn(WIDTH, 12),
        "image_projection_e": torch.randn(WIDTH, 12),
        "text_projection": torch.randn(TEXT, 12),
        "text_projection_e": torch.randn(TEXT, 12),
        "token_embedding.weight": torch.randn(VOCABULARY, TEXT),
        "positional_embedding": torch.randn(77, TEXT),
        "ln_final.weight": torch.ones(TEXT),
        "ln_final.bias": torch.zeros(TEXT),
        "logit_scale": torch.tensor(2.0),
    }
    return {f"module.{name}": tensor for name, tensor in state.items()}


def _text_block() -> nn.Module:
    from open_clip.transformer import ResidualAttentionBlock

    return ResidualAttentionBlock(TEXT, 2)


@pytest.fixture(scope="module")
def model(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    small = {
        "embed_dim": 12,
        "vision_cfg": {**convert.MODEL["vision_cfg"], "width": WIDTH, "layers": 2, "head_width": 16},
        "text_cfg": {**convert.MODEL["text_cfg"], "width": TEXT, "heads": 2, "layers": 1},
    }
    settings = detailclip.Settings(
        prototypes=K, head_hidden=20, head_bottleneck=8, decoder_layers=1, decoder_heads=2, normalise_pixels=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "MODEL", small)
        patch.setattr(convert, "SETTINGS", settings)
        convert.write(published, folder)
    return open_folder(SPEC, folder)


def test_image_tower_gives_timms_features(model, tower, published):
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        wanted = tower.forward_features(pixels)
        found = model.encoder.encode(pixels)
        torch.testing.assert_close(found.cls, wanted[:, 0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.patches, wanted[:, 1:], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            model.module.encode_image(pixels), wanted[:, 0] @ published["module.image_projection"], atol=1e-3, rtol=1e-3
        )


def test_text_tower_uses_quick_gelu(model):
    kinds = {type(block.mlp.gelu).__name__ for block in model.module.transformer.resblocks}
    assert kinds == {"QuickGELU"}
    assert {type(block.mlp.gelu).__name__ for block in model.module.visual.transformer.resblocks} == {"GELU"}


def test_teacher_head_and_decoder_arrive(model, published):
    detail = model.detail
    assert torch.equal(detail.head.prototypes, published["module.ibot_head.last_layer.weight_v"])
    assert torch.equal(detail.teacher.proj, published["module.image_projection_e"])
    assert torch.equal(detail.decoder.mask_token, published["module.mask_token"].flatten())
    block = Block(WIDTH, 2, qkv_bias=True).eval()
    block.load_state_dict(
        {n.removeprefix("module.decoder_blocks.0."): t for n, t in published.items() if ".decoder_blocks.0." in n}
    )
    x = torch.randn(1, 5, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(detail.decoder.blocks[0](x), block(x), atol=1e-4, rtol=1e-4)


def test_the_tabs_pipelines_run_on_it(model, scene_image, monkeypatch):
    from pipelines.models import loading

    monkeypatch.setattr(loading, "_CACHE", Cache(1e6, lambda spec: model))
    found = self_distillation.query(self_distillation.encode(scene_image, SPEC.name, ratios=(0.5,)), Settings())
    assert found.prototypes == K and (~found.removed).sum() == 100
    assert found.teacher_entropy.max() <= math.log(K) + 1e-5
    encoded = reconstruction.encode(scene_image, SPEC.name)
    with pytest.raises(ValueError, match="standardised patches"):
        reconstruction.reconstruct(encoded, Rebuilding())
    assert reconstruction.reconstruct(encoded, Rebuilding(target="normalised")).scores.psnr > 0


def test_missing_tensors_are_named(published):
    with pytest.raises(KeyError, match="image_projection"):
        convert.convert({n: t for n, t in published.items() if "image_projection" not in n})


def test_other_decoder_positions_are_refused(published):
    with pytest.raises(ValueError, match="position embedding"):
        convert.convert({**published, "module.decoder_pos_embed": torch.zeros(1, 197, WIDTH)})
