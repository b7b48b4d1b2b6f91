"""Train DetailCLIP: on the storybook world, or on a folder or WebDataset of real image-text pairs.

    python -m pipelines.training.detailclip --cpu
    accelerate launch --num_processes 8 -m pipelines.training.detailclip --model ViT-B-16 --data pairs/ --batch 256

It checkpoints every few minutes and goes on where it stopped. `--export FOLDER` then writes the model in OpenCLIP's
format with teacher, head, decoder and training curves beside it. On a CPU, tell glibc to keep its memory (see README,
"Bundled models").
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.models.decoder import sincos_positions
from pipelines.models.detailclip import DetailCLIP, Settings
from pipelines.models.encoders import beside_student
from pipelines.training import tokenizer as words
from pipelines.training.loop import (
    add_arguments,
    add_data_argument,
    add_optimizer_argument,
    add_precision_argument,
    fit,
    precision,
    seed_everything,
    teacher_momentum,
    trained,
    write_json,
)
from pipelines.training.pairs import DEVIATION, MEAN
from pipelines.world import storybook

STORYBOOK_MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": storybook.SIZE, "patch_size": 8, "width": 192, "layers": 6, "head_width": 32},
    "text_cfg": {
        "context_length": words.CONTEXT_LENGTH,
        "vocab_size": len(words.vocabulary()),
        "width": 128,
        "heads": 4,
        "layers": 3,
        "hf_tokenizer_name": "tokenizer",
    },
}
PREPROCESS = {
    "size": storybook.SIZE,
    "mode": "RGB",
    "mean": MEAN,
    "std": DEVIATION,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}

# Differs from the paper where the small world asks for it: L_Rec, a share of what interpolation leaves, weighs twice;
# the two distillation losses weigh half, their cross-entropies starting at ln K beside a CLIP loss of ln B.
STORYBOOK_SETTINGS = Settings(
    decoder_layers=2,
    decoder_heads=3,
    weight_cls=0.5,
    weight_patch=0.5,
    weight_rec=2.0,
    weight_spread=1.0,
    decode_on_fill=True,
    refinement=(64, 192, 320),
)
BLUR_SHARE = 0.2
Tokenize = Callable[[list[str]], Tensor]  # texts -> (B, T) token ids
REFINEMENT = "decoder.refinement."  # how the names of its weights begin
ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "no-distillation": {"weight_cls": 0.0, "weight_patch": 0.0, "weight_spread": 0.0},
    "no-reconstruction": {"weight_rec": 0.0},
    "no-removal": {"keep_ratio": 1.0},
}


def storybook_clip(model: dict) -> tuple[Any, Tokenize]:
    """A fresh OpenCLIP model of this configuration and the word tokenizer."""
    clip = open_clip.model.CLIP(**model)
    positions = sincos_positions(clip.visual.grid_size[0], clip.visual.conv1.out_channels)
    clip.visual.positional_embedding.data.copy_(positions / 2)  # a start that knows what is near; trained on
    tokenizer = words.build()
    tokenizer.enable_padding(length=words.CONTEXT_LENGTH)
    tokenizer.enable_truncation(words.CONTEXT_LENGTH)
    return clip, lambda texts: torch.tensor([encoded.ids for encoded in tokenizer.encode_batch(texts)])


def build(model: str, settings: Settings, configuration: dict = STORYBOOK_MODEL) -> tuple[DetailCLIP, Tokenize]:
    """A fresh model and its tokenizer. `model` is `storybook` or the OpenCLIP name of a ViT with an even grid."""
    if model == "storybook":
        clip, tokenize = storybook_clip(configuration)
    else:
        clip, tokenize = open_clip.create_model(model), open_clip.get_tokenizer(model)
    return DetailCLIP(clip, settings), tokenize


def keep_ratio_at(step: int, settings: Settings) -> float:
    """Mostly the setting; at times a quarter, three quarters or all, so that the app's slider is on known ground."""
    if settings.keep_ratio == 1:
        return 1.0
    draw = torch.rand((), generator=torch.Generator().manual_seed(step)).item()  # the same for all processes
    return 0.25 if draw < 0.25 else 0.75 if draw < 0.35 else 1.0 if draw < 0.4 else settings.keep_ratio


def random_share_at(step: int, steps: int, share: float) -> float:
    """All random for the first 5 % of the run, while attention means nothing, then `share`."""
    return 1.0 if step < 0.05 * steps else share


def train(
    arguments: argparse.Namespace, configuration: dict = STORYBOOK_MODEL, settings: Settings = STORYBOOK_SETTINGS
) -> None:
    """Train until `arguments.steps`; configuration and settings are those of the storybook model."""
    seed_everything(arguments.seed)
    settings = replace(settings if arguments.model == "storybook" else Settings(), **ABLATIONS[arguments.ablate])
    model, tokenize = build(arguments.model, settings, configuration)
    if arguments.start:
        start_from(model, arguments.start, arguments.rest)

    def forward(
        wrapped: nn.Module, inner: DetailCLIP, views: Tensor, text: Tensor, step: int, rng: torch.Generator
    ) -> dict:
        momentum = teacher_momentum(step, arguments.steps, arguments.momentum)
        inner.update_teacher(momentum)
        random_share = random_share_at(step, arguments.steps, arguments.random)
        dtype = precision(views.device, arguments.precision)
        losses = wrapped(views, text, keep_ratio_at(step, settings), random_share, BLUR_SHARE, rng, dtype)
        return {**vars(losses), "logit_scale": inner.clip.logit_scale.exp(), "teacher_momentum": momentum}

    fit(
        model,
        tokenize,
        forward,
        arguments,
        model.clip.visual.image_size[0],
        2,
        asdict(settings),
        DetailCLIP.clamp_scale,
    )


def start_from(model: DetailCLIP, folder: Path, rest: Path | None = None) -> None:
    """Fill the model from an exported folder: a DetailCLIP whole, a plain CLIP as student and as teacher.

    Args:
        rest: an exported DetailCLIP, whose heads and decoder stand beside a plain CLIP.
    """
    model.clip.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    if (folder / "detailclip.safetensors").exists():
        # The student is filled already, and not every folder has a refinement.
        own = {name: t for name, t in model.state_dict().items() if name.startswith(("clip.", REFINEMENT))}
        model.load_state_dict(own | beside_student(folder))
        return
    if rest:
        beside = {name: t for name, t in beside_student(rest).items() if not name.startswith("teacher.")}
        model.load_state_dict(model.state_dict() | beside)
    model.teacher.load_state_dict(model.clip.visual.state_dict())


def export_openclip(state: dict[str, Tensor], folder: Path, model: dict) -> None:
    """Write an OpenCLIP folder, weights in float16, that opens with `local-dir:`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: t.half().contiguous() if t.is_floating_point() else t for name, t in state.items()},
        folder / "open_clip_model.safetensors",
    )
    write_json(folder / "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": PREPROCESS})
    words.save(folder)


def save_rest(state: dict[str, Tensor], folder: Path) -> None:
    """What a DetailCLIP has beside its student, for `beside_student`: the teacher; head, decoder and centres; and
    the refinement U-Net."""
    parts: dict[str, dict[str, Tensor]] = {"teacher": {}, "detailclip": {}, "refinement": {}}
    for name, tensor in state.items():
        part = "teacher" if name.startswith("teacher.") else "detailclip"
        part = "refinement" if name.startswith(REFINEMENT) else part
        parts[part][name] = tensor.contiguous()
    refinement = parts.pop("refinement")
    for part, tensors in parts.items():
        save_file(tensors, folder / f"{part}.safetensors")
    if refinement:
        save_refinement(refinement, folder)


def save_refinement(state: dict[str, Tensor], folder: Path) -> None:
    """In files of at most 9 MB, and an index of what lies where."""
    save_torch_state_dict(state, folder, filename_pattern="refinement{suffix}.safetensors", max_shard_size="9MB")


def export(checkpoint: Path, folder: Path, configuration: dict = STORYBOOK_MODEL) -> None:
    """Write the student in OpenCLIP's format, the rest of DetailCLIP beside it in float16, and the training curves."""
    write(trained(checkpoint), folder, configuration)


def write(state: dict, folder: Path, configuration: dict = STORYBOOK_MODEL) -> None:
    student = {name.removeprefix("clip."): t for name, t in state["model"].items() if name.startswith("clip.")}
    export_openclip(student, folder, configuration)
    rest = {name: t.half() for name, t in state["model"].items() if not name.startswith("clip.")}
    save_rest(rest, folder)
    write_json(folder / "detailclip_config.json", state["settings"])
    log = {"steps": state["step"], "prototypes": state["settings"]["prototypes"], "records": state["records"]}
    write_json(folder / "training_log.json", log)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="storybook", help="storybook, or an OpenCLIP model name such as ViT-B-16")
    parser.add_argument("--ablate", choices=ABLATIONS, default="full", help="leave one technique out")
    parser.add_argument("--momentum", type=float, default=0.99, help="of the teacher, at the start")
    parser.add_argument("--random", type=float, default=0.3, help="share of pictures that lose patches at random")
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="an exported model to start from")
    parser.add_argument("--rest", type=Path, metavar="FOLDER", help="heads and decoder, where that is a plain CLIP")
    add_data_argument(parser)
    add_optimizer_argument(parser)
    add_precision_argument(parser)
    add_arguments(parser, ".checkpoints/detailclip", steps=5000, decay=1200, seed=0)
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if arguments.export:
        export(Path(arguments.checkpoint), arguments.export)
    else:
        train(arguments)


if __name__ == "__main__":
    main()
