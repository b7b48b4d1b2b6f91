"""Train the three readers of the lesson of that name, CLIP, SimVLM and CoCa, from nothing on the same pairs.

    python -m pipelines.training.readers coca
    python -m pipelines.training.readers coca --export assets/models/storybook-coca

The same image tower, pictures, captions and batches; the losses differ. Captions leave nothing out, and half of the
pictures hold one thing alone, so that nouns are learned. It checkpoints every few minutes and goes on where it stopped.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, CoCaLoss
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.models.decoder import sincos_positions
from pipelines.models.readers import SimVLM
from pipelines.training import tokenizer as words
from pipelines.training.detailclip import PREPROCESS, export_openclip
from pipelines.training.loop import (
    AdamW,
    Muon,
    add_arguments,
    add_optimizer_argument,
    add_precision_argument,
    descend,
    mixed,
    parameter_groups,
    precision,
    seed_everything,
    steps_done,
    trained,
    write_json,
)
from pipelines.training.pairs import Storybook, loader
from pipelines.world import storybook

SIZE = 64
PAD = words.vocabulary().index("[PAD]")
MOST_GIVEN = 4  # words of a caption that SimVLM sees whole in training; the shortest has four
VISION: dict[str, Any] = {"image_size": SIZE, "patch_size": 8, "width": 96, "layers": 5, "head_width": 32}
TEXT: dict[str, Any] = {
    "context_length": words.CONTEXT_LENGTH,
    "vocab_size": len(words.vocabulary()),
    "width": 96,
    "heads": 3,
    "layers": 4,
    "hf_tokenizer_name": "tokenizer",
}
MODELS: dict[str, dict[str, Any]] = {
    "clip": {"embed_dim": 96, "vision_cfg": VISION, "text_cfg": TEXT},
    "simvlm": {"vision_cfg": VISION, "text_cfg": TEXT},
    # The first half of the decoder's layers sees no picture (Yu et al. 2022, section 3.2): they are the text tower.
    "coca": {
        "embed_dim": 96,
        "vision_cfg": {**VISION, "output_tokens": True},
        "text_cfg": {**TEXT, "layers": 2, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": words.CONTEXT_LENGTH, "width": 96, "heads": 3, "layers": 2},
        "custom_text": True,
    },
}


class Described(Storybook):
    """The drawn world with captions that name every colour and the place."""

    def caption(self, scene: storybook.Scene, lesson: bool) -> str:
        return scene.full_caption


def build(kind: str) -> Any:
    """A fresh model of `MODELS`."""
    if kind == "simvlm":
        model: Any = SimVLM(VISION, TEXT)
    elif kind == "coca":
        model = open_clip.CoCa(**{name: part for name, part in MODELS[kind].items() if name != "custom_text"})
        decoder = model.text_decoder
        nn.init.normal_(decoder.text_projection, std=decoder.width**-0.5)  # OpenCLIP leaves it as memory was
    else:
        model = open_clip.model.CLIP(**MODELS[kind])
    positions = sincos_positions(model.visual.grid_size[0], model.visual.conv1.out_channels)
    model.visual.positional_embedding.data.copy_(positions / 2)  # a start that knows what is near; trained on
    return model


def widened(x: Tensor) -> Tensor:
    """At least float32: losses are not computed in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def clip_loss(model: Any, pixels: Tensor, ids: Tensor, given: int) -> dict[str, Tensor]:
    pictures = F.normalize(widened(model.encode_image(pixels)), dim=-1)
    captions = F.normalize(widened(model.encode_text(ids)), dim=-1)
    return {"total": ClipLoss()(pictures, captions, model.logit_scale.exp())}


def coca_loss(model: Any, pixels: Tensor, ids: Tensor, given: int, caption_weight: float = 2.0) -> dict[str, Tensor]:
    """Equation 4, with the authors' weights: 1 of the contrastive loss, 2 of the captions' (section 4.1)."""
    found = model(pixels, ids)
    vectors = (widened(found["image_features"]), widened(found["text_features"]))
    loss = CoCaLoss(caption_weight, 1.0, pad_id=PAD)
    contrast, caption = loss(*vectors, widened(found["logits"]), found["labels"], found["logit_scale"])
    return {"total": contrast + caption, "contrast": contrast, "caption": caption}


def simvlm_loss(model: Any, pixels: Tensor, ids: Tensor, given: int) -> dict[str, Tensor]:
    """Equation 2: the words after the first `given` are said one by one, and only they are learned from."""
    logits = widened(model(model.visual(pixels)[1], ids, given)[:, given - 1 : -1])
    return {"total": F.cross_entropy(logits.transpose(1, 2), ids[:, given:], ignore_index=PAD)}


LOSSES: dict[str, Callable[..., dict[str, Tensor]]] = {"clip": clip_loss, "simvlm": simvlm_loss, "coca": coca_loss}


def given_at(step: int) -> int:
    """How many tokens SimVLM is given at this step: the start alone half of the time, else up to MOST_GIVEN words
    besides."""
    draw = int(torch.randint(2 * MOST_GIVEN, (), generator=torch.Generator().manual_seed(step)))
    return 1 + max(0, draw - MOST_GIVEN + 1)


def export(state: dict[str, Tensor], folder: Path, kind: str) -> None:
    """Write the weights in float16 with configuration and words: OpenCLIP's format, and the same with SimVLM's name."""
    export_openclip(state, folder, MODELS[kind])
    sight = {**PREPROCESS, "size": SIZE}
    if kind == "simvlm":
        (folder / "open_clip_config.json").unlink()
        (folder / "open_clip_model.safetensors").unlink()
        halves = {name: value.half().contiguous() for name, value in state.items()}
        save_file(halves, folder / "model.safetensors")
        write_json(folder / "config.json", {"model_cfg": MODELS[kind], "preprocess_cfg": sight})
    else:
        write_json(folder / "open_clip_config.json", {"model_cfg": MODELS[kind], "preprocess_cfg": sight})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=MODELS)
    add_optimizer_argument(parser)
    add_precision_argument(parser)
    add_arguments(parser, "", steps=1500, decay=600, seed=3)
    parser.set_defaults(batch=128, optimizer="muon", lr=2e-3, warmup=50)
    parser.add_argument("--clip", type=float, default=3.0, help="the longest gradient")
    arguments = parser.parse_args()
    arguments.checkpoint = arguments.checkpoint or f".checkpoints/readers/{arguments.kind}"
    if arguments.export:
        export(trained(Path(arguments.checkpoint))["model"], arguments.export, arguments.kind)
        return
    seed_everything(arguments.seed)
    model = build(arguments.kind)
    where = torch.device("cpu" if arguments.cpu or not torch.cuda.is_available() else "cuda")
    model.to(where).train()
    if arguments.optimizer == "muon":
        optimizer: Muon | AdamW = Muon(model, arguments.lr, 0.05)
    else:
        optimizer = AdamW(parameter_groups(model, 0.05), lr=arguments.lr, betas=(0.9, 0.98), eps=1e-8)
    tokenizer = words.build()
    tokenizer.enable_padding(length=words.CONTEXT_LENGTH)
    start = steps_done(arguments) * arguments.batch
    dataset = Described(arguments.seed, SIZE, 1, 1.0, start)
    batches = iter(
        loader(
            dataset,
            arguments.batch,
            lambda texts: torch.tensor([encoded.ids for encoded in tokenizer.encode_batch(texts)]),
            arguments.workers,
        )
    )
    dtype = precision(where, arguments.precision)

    def losses(step: int) -> dict[str, Tensor]:
        pixels, ids = (each.to(where) for each in next(batches))
        with mixed(where, dtype):
            return LOSSES[arguments.kind](model, pixels[0], ids, given_at(step))

    def after_step(step: int) -> None:
        if hasattr(model, "logit_scale"):
            with torch.no_grad():
                model.logit_scale.clamp_(0, 4.6052)

    descend(model, optimizer, losses, arguments, MODELS[arguments.kind], after_step=after_step)


if __name__ == "__main__":
    main()
