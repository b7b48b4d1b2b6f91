"""Convert the authors' published DetailCLIP ViT-B/16 checkpoint, if you have it, into a model of this app.

    python -m pipelines.training.convert_detailclip checkpoint.pt

The result lies in `assets/models/detailclip-vit-b-16/` (git ignores it) and appears in the menus at the next start.
Only tensors are read from the pickle. The authors state no licence for the weights, so nothing of them is shipped
here.
"""

import argparse
import math
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines.models.decoder import sincos_positions
from pipelines.models.detailclip import Settings
from pipelines.models.registry import BUNDLED
from pipelines.training.detailclip import save_rest
from pipelines.training.loop import write_json

MODEL = {
    "embed_dim": 512,
    "vision_cfg": {
        "image_size": 224,
        "patch_size": 16,
        "width": 768,
        "layers": 12,
        "head_width": 64,
        "no_ln_pre": True,
        "norm_kwargs": {"eps": 1e-6},
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}
PREPROCESS = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bicubic"}
SETTINGS = Settings(
    prototypes=8192, head_hidden=2048, head_bottleneck=256, decoder_layers=1, decoder_heads=16, normalise_pixels=True
)

_BLOCK = (  # timm's names of the parts of a transformer block -> OpenCLIP's
    ("norm1.", "ln_1."),
    ("norm2.", "ln_2."),
    ("attn.qkv.weight", "attn.in_proj_weight"),
    ("attn.qkv.bias", "attn.in_proj_bias"),
    ("attn.proj.", "attn.out_proj."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)


def rename_block(name: str) -> str:
    for old, new in _BLOCK:
        name = name.replace(old, new)
    return name


def convert_tower(state: dict[str, Tensor], projection: Tensor) -> dict[str, Tensor]:
    """A timm ViT's tensors under OpenCLIP's names. The patch embedding's bias moves into the position embedding."""
    position = state["pos_embed"][0].clone()
    position[1:] += state["patch_embed.proj.bias"]
    tower = {
        "conv1.weight": state["patch_embed.proj.weight"],
        "class_embedding": state["cls_token"].flatten(),
        "positional_embedding": position,
        "ln_post.weight": state["norm.weight"],
        "ln_post.bias": state["norm.bias"],
        "proj": projection,
    }
    for name, tensor in state.items():
        if name.startswith("blocks."):
            tower[f"transformer.resblocks.{rename_block(name.removeprefix('blocks.'))}"] = tensor
    return tower


def convert(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The checkpoint's `state_dict` -> (OpenCLIP student, DetailCLIP's teacher, heads and decoder).

    Raises:
        KeyError: naming the first tensor that is missing.
        ValueError: when the decoder's positions are not the ones this app computes.
    """
    state = {name.removeprefix("module."): tensor.float() for name, tensor in state.items()}

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}

    student = {f"visual.{n}": t for n, t in convert_tower(part("visual."), state["image_projection"]).items()}
    for name in (
        "positional_embedding",
        "text_projection",
        "logit_scale",
        "token_embedding.weight",
        "ln_final.weight",
        "ln_final.bias",
    ):
        student[name] = state[name]
    student |= {f"transformer.{n}": t for n, t in part("transformer.").items()}

    rest = {f"teacher.{n}": t for n, t in convert_tower(part("visual_ema."), state["image_projection_e"]).items()}
    for ours, theirs in (("head", "ibot_head."), ("teacher_head", "ibot_head_e.")):
        head = part(theirs)
        rest |= {f"{ours}.{n}": t for n, t in head.items() if n.startswith("mlp.")}
        rest[f"{ours}.prototypes"] = head["last_layer.weight_v"]
    rest |= {f"decoder.embed.{n}": t for n, t in part("decoder_embed.").items()}
    rest |= {f"decoder.norm.{n}": t for n, t in part("decoder_norm.").items()}
    rest |= {f"decoder.to_pixels.{n}": t for n, t in part("reconstruction_pred.").items()}
    rest |= {f"decoder.blocks.{rename_block(n)}": t for n, t in part("decoder_blocks.").items()}
    rest["decoder.mask_token"] = state["mask_token"].flatten()
    for center in ("center_cls", "center_patch"):  # not in the checkpoint
        rest[center] = torch.zeros(len(rest["head.prototypes"]))

    stored = state["decoder_pos_embed"][0]
    if not torch.allclose(stored, sincos_positions(math.isqrt(len(stored) - 1), stored.shape[1]), atol=1e-3):
        raise ValueError("The decoder's position embedding is not the fixed sine-cosine one this app computes.")
    return student, rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=BUNDLED / "detailclip-vit-b-16")
    arguments = parser.parse_args()
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    write(state, arguments.out)


def write(state: dict[str, Tensor], folder: Path) -> None:
    """Convert and save in the folder format of the bundled models."""
    student, rest = convert(state)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in student.items()}, folder / "open_clip_model.safetensors")
    save_rest(rest, folder)
    write_json(folder / "open_clip_config.json", {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS})
    # Its text tower was trained with QuickGELU, its image tower with GELU; OpenCLIP has one switch for both.
    write_json(folder / "detailclip_config.json", {**asdict(SETTINGS), "text_activation": "quick_gelu"})


if __name__ == "__main__":
    main()
