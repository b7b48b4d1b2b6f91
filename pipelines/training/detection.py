"""Train `storybook-grounding-dino`: Grounding DINO (Liu et al. 2023, https://arxiv.org/abs/2303.05499) from nothing,
on drawn scenes.

    python -m pipelines.training.detection --cpu
    python -m pipelines.training.detection --export assets/models/storybook-grounding-dino

The model is transformers' own; the loss is not. transformers' takes the proposals' words from the learned queries and
their boxes detached, so that the encoder's heads, which choose the queries, never learn; and it shifts the words of
every picture after the first, unless all have the same prompt. Differs from the paper: proposals learn from the four
best candidates of each object instead of one, words learn the overlap of their box (Li et al. 2020,
https://arxiv.org/abs/2006.04388) instead of 1, and nothing is pretrained. Everything is float32: in bfloat16 the box
heads, which add small steps to large logits, do not converge.
"""

import argparse
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pipelines.models.detectors import mend_word_positions
from pipelines.training import tokenizer as words
from pipelines.training.loop import (
    AdamW,
    add_arguments,
    descend,
    parameter_groups,
    seed_everything,
    steps_done,
    trained,
    write_json,
)
from pipelines.training.pairs import CLEAN_EVERY, DEVIATION, MEAN, SEEDS_PER_RUN, to_pixels
from pipelines.world import storybook, wide

VISION: dict[str, Any] = {
    "image_size": storybook.SIZE,
    "patch_size": 4,
    "embed_dim": 48,
    "depths": [2, 2, 4],
    "num_heads": [3, 6, 12],
    "window_size": 4,
    "drop_path_rate": 0.0,
    "out_indices": [2, 3],
}
TEXT: dict[str, Any] = {
    "vocab_size": 1030,
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "max_position_embeddings": 256,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
MODEL: dict[str, Any] = {
    "d_model": 96,
    "num_queries": 24,
    "num_feature_levels": 2,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": 384,
    "decoder_ffn_dim": 384,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "dropout": 0.0,
    "fusion_droppath": 0.0,
    "two_stage": True,
    "auxiliary_loss": True,
}
LONGEST = 2 * storybook.SIZE  # pixels, the longer side of a picture whose shorter one has storybook.SIZE

CANDIDATES = 4  # proposals that learn from each object
WEIGHTS = {"words": 2.0, "distance": 5.0, "overlap": 2.0}  # of the losses, and of the costs by which boxes are matched
MOST_PHRASES, MOST_PRESENT = 34, 26  # in a prompt with colours, and of them phrases that are there
WIDE_EVERY = 8  # one batch in so many is of two scenes side by side or on top of each other


# -------------------------------------------------------------------------------------------------------------- model


def build(model: dict = MODEL, vision: dict = VISION, text: dict = TEXT) -> Any:
    """A fresh model that starts where learning is fast: words improbable, proposals of the size of objects."""
    from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    config = GroundingDinoConfig(backbone_config=SwinConfig(**vision), text_config=BertConfig(**text), **model)
    detector = GroundingDinoForObjectDetection(config)
    mend_word_positions(detector)
    inner, width = detector.model, config.d_model
    direction = F.normalize(torch.randn(width), dim=0)
    with torch.no_grad():
        for name, module in detector.named_modules():
            towers = ".swin.encoder." in name or "text_backbone" in name
            if isinstance(module, nn.Linear | nn.Conv2d) and not towers and module.weight.any():
                nn.init.xavier_uniform_(module.weight)  # as the authors do; transformers draws with 0.02 all over
        # A word's logit is the product of two layer norms, so it would start anywhere between -20 and 20. Scaled down
        # on one side and moved apart along one direction they start at -4 and -4 +- 1.
        last = inner.encoder.layers[-1].text_enhancer_layer.layer_norm_after
        last.weight.fill_(width**-0.5)
        last.bias.copy_(-0.63 * direction)
        for norm in (inner.enc_output_norm, inner.decoder.layer_norm):
            norm.bias.copy_(6.3 * direction)
        inner.encoder_output_bbox_embed.layers[-1].bias[2:] = 2.0  # from 5 % of the picture's side to 28 %
        for layer in inner.encoder.layers:  # 1e-4 for pretrained towers, which fusion must not disturb
            layer.fusion_layer.vision_param.fill_(0.1)
            layer.fusion_layer.text_param.fill_(0.1)
    return detector


# --------------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B pictures that share one prompt of P phrases and T tokens, with up to M objects each."""

    pixels: Tensor  # (B, 3, H, W) float32, normalised
    ids: Tensor  # (T) token ids
    spelled: Tensor  # (P, T) bool, which tokens a phrase is made of
    phrase: Tensor  # (B, M) which phrase names the object; -1 where there is none
    boxes: Tensor  # (B, M, 4) centre x, centre y, width, height as shares of the picture

    def to(self, device: torch.device) -> "Batch":
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def spell(phrases: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(T) ids of "[CLS] red car . cat . [SEP]" and the (P, T) tokens of each phrase."""
    vocabulary = words.phrase_vocabulary()
    ids, places = [vocabulary["[CLS]"]], []
    for phrase in phrases:
        tokens = [vocabulary[word] for word in phrase.split()]
        places.append(range(len(ids), len(ids) + len(tokens)))
        ids += [*tokens, vocabulary["."]]
    ids.append(vocabulary["[SEP]"])
    spelled = torch.zeros(len(phrases), len(ids), dtype=torch.bool)
    for row, place in zip(spelled, places, strict=True):
        row[list(place)] = True
    return torch.tensor(ids), spelled


def noun_prompt(rng: np.random.Generator) -> list[str]:
    """All nouns, or in a third of the cases some of them: a short prompt leaves objects unnamed."""
    count = len(storybook.NOUNS) if rng.random() < 2 / 3 else int(rng.integers(6, 17))
    return [str(noun) for noun in rng.permutation(storybook.NOUNS)[:count]]


def colour_prompt(present: Collection[str], rng: np.random.Generator) -> list[str]:
    """Most of the phrases that are there, twins of theirs in another colour, and others that are not there.

    The pairs that are held out appear nowhere, not even as words that are absent: the model would learn to deny them.
    """
    chosen = list(dict.fromkeys(str(phrase) for phrase in rng.permutation(sorted(present))))[:MOST_PRESENT]
    things = [phrase.split()[1] for phrase in chosen if " " in phrase]
    other = [*rng.permutation(things), *rng.permutation(storybook.THINGS), *rng.permutation(storybook.ANIMALS)[:3]]
    for noun in map(str, other):
        if noun in storybook.THINGS:
            colour = str(rng.choice(list(storybook.COLOURS)))
            if (colour, noun) in storybook.HELD_OUT:
                continue
            noun = f"{colour} {noun}"
        chosen.append(noun)
    chosen = list(dict.fromkeys(chosen))[:MOST_PHRASES]
    return [str(phrase) for phrase in rng.permutation(chosen)]


def softened(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8, the same things as a generator or a small camera would show them: out of focus, smeared, small
    and enlarged again, or with fewer tones; brighter or darker. Boxes stay true."""
    image, way = Image.fromarray(picture), rng.integers(4)
    if way == 0:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.5)))
    elif way == 1:
        image = image.filter(ImageFilter.MedianFilter(int(rng.choice([3, 5]))))
    elif way == 2:
        small = [round(side / rng.uniform(1.3, 2.5)) for side in image.size]
        image = image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
    else:
        image = image.filter(ImageFilter.ModeFilter(int(rng.choice([3, 5]))))
    tones = np.asarray(image, np.float32) - 128
    changed = tones * rng.uniform(0.85, 1.1) + rng.uniform(-10, 10, 3) + 128
    return changed.clip(0, 255).astype(np.uint8)


def clean(seed: int) -> storybook.Scene:
    return storybook.scene(seed, held_out=storybook.HELD_OUT)


class Scenes(IterableDataset):
    """Endless batches; batch i depends on the seed and on i alone, so a run that is resumed sees what it would have
    seen. Worker w of W makes every W-th. No scene has a pair of `storybook.HELD_OUT`.

    Args:
        soft: share of the pictures that are `softened`.
        wide: scenes of the wide world, drawings of the column `known`; one in CLEAN_EVERY is of the clean one, and one
            batch in WIDE_EVERY has pictures of another shape.
    """

    def __init__(self, seed: int, batch: int, start: int = 0, soft: float = 0.0, wide: bool = False):
        self.seed, self.batch, self.start, self.soft, self.wide = seed, batch, start, soft, wide

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        index = self.start + offset
        while True:
            yield self.make(index)
            index += stride

    def in_one_shape(self, seeds: Sequence[int], index: int, rng: np.random.Generator) -> list[storybook.Scene]:
        """Scenes of the wide world, all of the same size."""
        size = storybook.SIZE, storybook.SIZE
        if index % WIDE_EVERY == WIDE_EVERY - 1:
            longer = int(rng.integers(storybook.SIZE, LONGEST + 1))
            size = (longer, storybook.SIZE) if rng.random() < 0.5 else (storybook.SIZE, longer)
        square = size[0] == size[1]
        return [
            clean(seed)
            if square and seed % CLEAN_EVERY == 0
            else wide.draw(seed, size=size, held_out=storybook.HELD_OUT)
            for seed in seeds
        ]

    def make(self, index: int) -> Batch:
        rng = np.random.default_rng((self.seed, index))
        first = self.seed * SEEDS_PER_RUN + index * self.batch
        seeds = [storybook.TRAIN[first + i] for i in range(self.batch)]
        scenes = self.in_one_shape(seeds, index, rng) if self.wide else [clean(seed) for seed in seeds]
        softening = np.random.default_rng((self.seed, index, 1))
        pictures = np.stack(
            [softened(s.picture, softening) if softening.random() < self.soft else s.picture for s in scenes]
        )
        found = [[(o, np.array(o.box, np.float64)) for o in scene.objects] for scene in scenes]
        if index % WIDE_EVERY == WIDE_EVERY - 1 and not self.wide:
            axis = int(rng.integers(2))  # 0: one on top of the other
            pictures = np.concatenate([pictures[::2], pictures[1::2]], axis=1 + axis)
            shift = np.array([0, storybook.SIZE] * 2 if axis == 0 else [storybook.SIZE, 0] * 2, np.float64)
            found = [a + [(o, box + shift) for o, box in b] for a, b in zip(found[::2], found[1::2], strict=True)]
        if index % 2:
            phrases = colour_prompt({o.phrase for objects in found for o, _ in objects}, rng)
        else:
            phrases = noun_prompt(rng)
        ids, spelled = spell(phrases)
        size = np.array([pictures.shape[2], pictures.shape[1]], np.float64)
        most = max(map(len, found))
        phrase, boxes = torch.full((len(found), most), -1), torch.full((len(found), most, 4), 0.5)
        for row, objects in enumerate(found):
            for column, (o, box) in enumerate(objects):
                name = o.phrase if index % 2 else o.noun
                phrase[row, column] = phrases.index(name) if name in phrases else -1
                centre, side = (box[:2] + box[2:]) / 2 / size, (box[2:] - box[:2]) / size
                boxes[row, column] = torch.from_numpy(np.concatenate([centre, side]))
        return Batch(pixels=to_pixels(pictures), ids=ids, spelled=spelled, phrase=phrase, boxes=boxes)


# --------------------------------------------------------------------------------------------------------------- loss


def corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre and size -> x0, y0, x1, y1."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630) of (..., 4) centre-and-size
    boxes that broadcast against each other."""
    a, b = corners(first), corners(second)
    inside = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - inside
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    iou = inside / union.clamp(min=1e-9)
    return iou, iou - (hull - union) / hull.clamp(min=1e-9)


@torch.no_grad()
def assign(logits: Tensor, boxes: Tensor, batch: Batch, candidates: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Which boxes answer for which objects: rows, queries and objects, (n) each.

    Args:
        logits: (B, Q, T) of the words.
        boxes: (B, Q, 4).
        candidates: so many of the cheapest boxes for each object; None gives each one box of its own (Hungarian).
    """
    named = batch.phrase >= 0
    probability = (logits.sigmoid() @ batch.spelled.T.float()) / batch.spelled.sum(1)  # (B, Q, P) mean of the words
    wanted = probability.gather(2, batch.phrase.clamp(min=0)[:, None].expand(-1, logits.shape[1], -1))  # (B, Q, M)
    _, generalised = overlaps(boxes[:, :, None], batch.boxes[:, None])
    distance = torch.cdist(boxes, batch.boxes, p=1)
    cost = -WEIGHTS["words"] * wanted + WEIGHTS["distance"] * distance - WEIGHTS["overlap"] * generalised
    if candidates is None:
        found = []
        for row, table in enumerate(cost.cpu().numpy()):
            columns = np.flatnonzero(named[row].cpu().numpy())
            queries, chosen = linear_sum_assignment(table[:, columns])
            found += [(row, query, columns[column]) for query, column in zip(queries, chosen, strict=True)]
        row_of, query_of, thing_of = torch.tensor(found, device=logits.device).reshape(-1, 3).unbind(1)
        return row_of, query_of, thing_of
    cheapest = cost.topk(candidates, dim=1, largest=False).indices  # (B, candidates, M)
    mine = torch.zeros_like(cost, dtype=torch.bool).scatter(1, cheapest, True) & named[:, None]
    best = cost.masked_fill(~mine, float("inf")).argmin(2)  # a box that two objects want goes to the cheaper one
    mine &= F.one_hot(best, cost.shape[2]).bool()
    row_of, query_of, thing_of = mine.nonzero().unbind(1)
    return row_of, query_of, thing_of


def stage_losses(
    logits: Tensor, boxes: Tensor, batch: Batch, candidates: int | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """The three losses of one set of boxes, and the IoU of those that answer for an object."""
    row, query, thing = assign(logits, boxes, batch, candidates)
    count = max(1, len(row))
    given, wanted = boxes[row, query], batch.boxes[row, thing]
    iou, generalised = overlaps(given, wanted)
    target = torch.zeros_like(logits)
    target[row, query] = batch.spelled[batch.phrase[row, thing]].float() * iou.detach()[:, None]
    distance_to_target = (logits.sigmoid() - target).abs().square()
    words_loss = distance_to_target * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    losses = {
        "words": words_loss.sum() / count,
        "distance": (given - wanted).abs().sum() / count,
        "overlap": (1 - generalised).sum() / count,
    }
    return losses, iou.detach()


def weighted(parts: dict[str, Tensor]) -> Tensor:
    """The sum of the losses, each by its weight."""
    return sum((WEIGHTS[name] * value for name, value in parts.items()), torch.zeros(()))


def losses(model: Any, batch: Batch) -> dict[str, Tensor]:
    """`total`, and what tells how far the model is: of the last layer its losses, the mean IoU of the boxes that
    answer for an object, and the share of them above 0.5."""
    length, ids = len(batch.ids), batch.ids.expand(len(batch.pixels), -1)
    found = model.model(pixel_values=batch.pixels, input_ids=ids)
    mask = torch.ones_like(ids, dtype=torch.bool)
    proposals = found.enc_outputs_class[..., :length], found.enc_outputs_coord_logits.sigmoid()
    parts, _ = stage_losses(*proposals, batch, CANDIDATES)
    total = weighted(parts)
    reference = found.init_reference_points
    for layer in range(model.config.decoder_layers):
        hidden = found.intermediate_hidden_states[:, layer]
        logits = model.class_embed[layer](hidden, found.encoder_last_hidden_state_text, mask)[..., :length]
        boxes = (model.bbox_embed[layer](hidden) + torch.special.logit(reference, eps=1e-5)).sigmoid()
        parts, iou = stage_losses(logits, boxes, batch)
        total = total + weighted(parts)
        reference = found.intermediate_reference_points[:, layer]
    found_half = (iou > 0.5).float().mean() if len(iou) else iou.sum()
    return {"total": total, **parts, "iou": iou.mean() if len(iou) else iou.sum(), "found": found_half}


# ----------------------------------------------------------------------------------------------------------- training


def train(arguments: argparse.Namespace, model: dict = MODEL, vision: dict = VISION, text: dict = TEXT) -> None:
    """Train until `arguments.steps`, from the checkpoint if there is one.

    Raises:
        FloatingPointError: when the loss is no number any more; the last checkpoint stays.
    """
    seed_everything(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    detector = build(model, vision, text)
    if arguments.start:
        from transformers import GroundingDinoForObjectDetection

        known = GroundingDinoForObjectDetection.from_pretrained(arguments.start, dtype=torch.float32)
        detector.load_state_dict(known.state_dict())
    detector.to(device).train()
    optimizer = AdamW(parameter_groups(detector, 1e-4), lr=arguments.lr, betas=(0.9, 0.98), eps=1e-8, fused=True)
    scenes = Scenes(arguments.seed, arguments.batch, steps_done(arguments), arguments.soft, arguments.data == "world")
    batches = iter(DataLoader(scenes, batch_size=None, num_workers=arguments.workers))
    descend(
        detector,
        optimizer,
        lambda step: losses(detector, next(batches).to(device)),
        arguments,
        settings={"model": model, "vision": vision, "text": text},
    )


def export(checkpoint: Path, folder: Path) -> None:
    """Write a folder that plain transformers opens: weights in float16, tokenizer, image processor, training curves."""
    from transformers import GroundingDinoImageProcessor, GroundingDinoProcessor, PreTrainedTokenizerFast

    state = trained(checkpoint)
    detector = build(**state["settings"])
    detector.load_state_dict(state["model"])
    detector.half().save_pretrained(folder, max_shard_size="9MB")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", config | {"dtype": "float32"})  # what to compute in; a CPU is slow in float16
    size = {"shortest_edge": storybook.SIZE, "longest_edge": LONGEST}
    GroundingDinoProcessor(
        GroundingDinoImageProcessor(size=size, image_mean=list(MEAN), image_std=list(DEVIATION)),
        PreTrainedTokenizerFast(
            tokenizer_object=words.build_phrases(),
            cls_token="[CLS]",
            sep_token="[SEP]",
            pad_token="[PAD]",
            unk_token="[UNK]",
            model_max_length=detector.config.max_text_len,
        ),
    ).save_pretrained(folder)
    write_json(folder / "training_log.json", {"steps": state["step"], "records": state["records"]})


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, ".checkpoints/grounding-dino", steps=4000, decay=1500, seed=2)
    parser.set_defaults(batch=16, lr=4e-4)
    parser.add_argument("--clip", type=float, default=0.5, help="longest gradient")
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="an exported model to start from")
    parser.add_argument("--data", choices=("storybook", "world"), default="storybook", help="world is the wide one")
    parser.add_argument("--soft", type=float, default=0.0, help="share of pictures that are softened")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if arguments.export:
        export(Path(arguments.checkpoint), arguments.export)
    else:
        train(arguments)


if __name__ == "__main__":
    main()
