"""The classifier of photographs: its conversion, what it says, and maps that add up to what it says."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from pipelines.errors import UserError
from pipelines.evaluation.classifier import PHOTOGRAPHS, photograph
from pipelines.models.classifiers import Classifier, open_timm
from pipelines.models.loading import load
from pipelines.models.registry import MODELS
from pipelines.training import convert_efficientnet
from pipelines.training.loop import write_json


@pytest.fixture(scope="module")
def network() -> Classifier:
    return load("efficientnet-lite0", Classifier)


def published() -> list[str]:
    """The names of the package's 296 tensors."""

    def norm(name: str) -> list[str]:
        parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return [f"{name}.{part}" for part in parts]

    names = ["_conv_stem.weight", *norm("_bn0")]
    for block in range(16):
        at = f"_blocks.{block}."
        if block:
            names += [f"{at}_expand_conv.weight", *norm(f"{at}_bn0")]
        names += [f"{at}_depthwise_conv.weight", *norm(f"{at}_bn1")]
        names += [f"{at}_project_conv.weight", *norm(f"{at}_bn2")]
    return [*names, "_conv_head.weight", *norm("_bn1"), "_fc.weight", "_fc.bias"]


def test_every_tensor_gets_timms_name():
    names, module = published(), timm.create_model(convert_efficientnet.ARCHITECTURE, pretrained=False)
    assert len(names) == 296
    assert [convert_efficientnet.rename(name) for name in names] == list(module.state_dict())


def test_converted_weights_compute_the_same(tmp_path):
    """Random weights under the package's names, once as they are and once through the files."""
    torch.manual_seed(0)
    module = timm.create_model(convert_efficientnet.ARCHITECTURE, pretrained=False).eval()
    state = dict(zip(published(), module.state_dict().values(), strict=True))
    torch.save(state, tmp_path / "weights.pth")
    found = convert_efficientnet.convert(convert_efficientnet.read(tmp_path / "weights.pth"))
    convert_efficientnet.save_file(found, tmp_path / "model.safetensors")
    names = convert_efficientnet.label_names()
    sight, architecture = convert_efficientnet.SIGHT, convert_efficientnet.ARCHITECTURE
    known = {"architecture": architecture, "num_classes": 1000, "pretrained_cfg": sight, "label_names": names}
    write_json(tmp_path / "config.json", known)
    opened = open_timm(MODELS["efficientnet-lite0"], tmp_path)
    pixels = torch.rand(1, 3, 96, 96)
    expected = module((pixels - 127 / 255) / (128 / 255))
    assert torch.allclose(opened.logits(pixels), expected, atol=2e-3 * float(expected.detach().abs().max()))


def test_there_are_a_thousand_different_names(network):
    assert len(set(network.names)) == len(network.names) == 1000
    assert network.names[0] == "tench" and network.names[282] == "tiger cat" and network.names[967] == "espresso"


@pytest.mark.parametrize("path, least", [("skimage/data/chelsea.png", 0.8), ("skimage/data/coffee.png", 0.9)])
def test_it_knows_a_cat_and_an_espresso(network, path, least):
    said = dict(network.name(photograph(path)))
    assert sum(said.get(name, 0) for name in PHOTOGRAPHS[path]) > least


def test_maps_add_up_to_what_is_said(network):
    picture = photograph("skimage/data/coffee.png")
    names = ["espresso", "tiger cat"]
    maps = network.activation_maps(picture, names)
    assert maps.shape == (2, 7, 7)
    logits = network.logits(network.pixels(picture))[0]
    for name, found in zip(names, maps, strict=True):
        place = network.names.index(name)
        assert found.mean() + network.module.classifier.bias[place] == pytest.approx(float(logits[place]), abs=1e-3)
    coffee = maps[0]
    assert coffee[2:5, 2:5].mean() > coffee[[0, -1]].mean() + 5, "it is in the middle of the picture"


def test_a_name_it_does_not_have_is_said(network):
    with pytest.raises(UserError, match="no name 'zeppelin'"):
        network.activation_maps(Image.new("RGB", (64, 64)), ["zeppelin"])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pictures_of_any_mode_and_shape(network, mode):
    square = network.square(Image.fromarray(np.zeros((60, 200), np.uint8)).convert(mode))
    assert square.shape == (224, 224, 3)
