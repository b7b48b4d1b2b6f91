"""The faster view of Grounding DINO computes what transformers' own modules do."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipelines.detection.pipeline import encode_with
from pipelines.models import fast_grounding_dino
from pipelines.models.fast_grounding_dino import faster
from pipelines.training import detection as training
from tests.benchmarks import detection as benchmark
from tests.tiny_detector import SMALL, stirred

PROMPT = torch.tensor([[101, 500, 501, 1012, 502, 1012, 503, 1012, 102]])


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return stirred(training.build(**SMALL))


def small_mm() -> torch.nn.Module:
    """The other class that the app opens: its words have a bias, its proposals a head of their own."""
    from transformers import BertConfig, MMGroundingDinoConfig, MMGroundingDinoForObjectDetection, SwinConfig

    torch.manual_seed(0)
    vision, text = SwinConfig(**SMALL["vision"]), BertConfig(**SMALL["text"])
    config = MMGroundingDinoConfig(backbone_config=vision, text_config=text, **SMALL["model"])
    return stirred(MMGroundingDinoForObjectDetection(config))


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("build", [small, small_mm])
@pytest.mark.parametrize("size", [(64, 64), (96, 160), (131, 70)])
@pytest.mark.parametrize("rows", [1024, 50])
def test_small_models_answer_the_same(build, size, rows, monkeypatch):
    monkeypatch.setattr(fast_grounding_dino, "ROWS", rows)
    module, pixels, ids = build(), noise(2, 3, *size), PROMPT.expand(2, -1)
    theirs, ours = (model(pixel_values=pixels, input_ids=ids) for model in (module, faster(module)))
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-3, rtol=0)
    torch.testing.assert_close(ours.pred_boxes, theirs.pred_boxes, atol=1e-3, rtol=0)
    assert theirs.pred_boxes[..., :2].std(1).min() > 0.01, "all boxes alike would prove nothing"


def test_the_model_itself_stays_as_it_was():
    module, pixels = small(), noise(1, 3, 64, 64)
    before, state = module(pixels, PROMPT), {name: tensor.clone() for name, tensor in module.state_dict().items()}
    view = faster(module, "bfloat16")
    view(pixels, PROMPT)
    assert torch.equal(module(pixels, PROMPT).pred_boxes, before.pred_boxes)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert view.model.level_embed is module.model.level_embed, "the weights are shared"


def test_sampling_is_bilinear_and_zero_outside():
    """Against grid_sample on two levels, with places up to one side outside the picture."""
    heads, points, queries, sizes = 2, 3, 5, [(4, 6), (2, 3)]
    values = noise(sum(h * w for h, w in sizes), heads, 8)
    places = 3 * torch.rand(queries, heads, len(sizes), points, 2, generator=torch.Generator().manual_seed(2)) - 1
    weights = noise(queries, heads, len(sizes), points).softmax(-1)
    wanted = torch.zeros(queries, heads, 8)
    for level, part in enumerate(values.split([h * w for h, w in sizes])):
        table = part.permute(1, 2, 0).unflatten(-1, sizes[level])  # (h, d, H, W)
        found = F.grid_sample(table, 2 * places[:, :, level].transpose(0, 1) - 1, align_corners=False)
        wanted += torch.einsum("hdqp,qhp->qhd", found, weights[:, :, level])
    shape = torch.nn.Module()
    shape.n_heads, shape.n_levels, shape.n_points = heads, len(sizes), points
    wide, starts = fast_grounding_dino._columns(shape, torch.tensor(sizes))
    x, y = (places.flatten(1, 3).transpose(1, 2) * wide - 0.5).unbind(1)
    ours = fast_grounding_dino._sampled(values, x, y, weights.flatten(1), wide, starts)
    torch.testing.assert_close(ours, wanted.flatten(1), atol=1e-5, rtol=0)


def test_full_size_answers_the_same():
    """Swin-T, BERT base, 900 queries, a picture that is no square and fits no window; and once more in bfloat16."""
    module, pixels = benchmark.full_size(), noise(1, 3, 200, 264)
    theirs = benchmark.found(module, pixels, PROMPT)
    exact = benchmark.parity(theirs, benchmark.found(faster(module), pixels, PROMPT))
    assert exact.box < 1e-3 and exact.logit < 1e-3
    assert theirs[1].std(0).min() > 0.01 and theirs[0].std() > 0.1, "all boxes alike would prove nothing"
    if torch.cpu._is_avx512_bf16_supported():
        near = benchmark.parity(theirs, benchmark.found(faster(module, "bfloat16"), pixels, PROMPT))
        # The rest are proposals at the 900th place or so, chosen by one and not by the other.
        assert np.median(near.overlap) > 0.99 and (near.overlap >= 0.98).mean() > 0.95


def test_bfloat16_multiplies_linear_layers_alone():
    view = faster(small(), "bfloat16")
    halved = {name for name, module in view.named_modules() if hasattr(module, "halved")}
    assert "model.encoder.layers.0.deformable_layer.fc1" in halved
    assert not [name for name in halved if "bbox_embed" in name or "text_backbone" in name or "points_head" in name]


def test_precisions_that_are_not_there_are_refused():
    picture, ours = Image.new("RGB", (64, 64)), benchmark.detector(small(), noise(1, 3, 64, 64))
    with pytest.raises(ValueError, match="one of float32, bfloat16, not 'float16'"):
        encode_with(ours, picture, "cat", precision="float16")
    with pytest.raises(ValueError, match="one of float32, bfloat16, not 'int8'"):
        faster(ours.module, "int8")
    with pytest.raises(ValueError, match="knows float32 alone"):
        encode_with(ours, picture, "cat", "groundingdino", "bfloat16")


def test_features_of_one_precision_do_not_serve_another():
    picture, ours = Image.new("RGB", (64, 64)), benchmark.detector(small(), noise(1, 3, 64, 64))
    skipped = [
        encode_with(ours, picture, text, precision=precision).backbone_skipped
        for text, precision in (("cat", "float32"), ("dog", "bfloat16"), ("dog", "float32"), ("cat", "bfloat16"))
    ]
    assert skipped == [False, False, True, True]
