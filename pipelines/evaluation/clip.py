"""Measure a storybook CLIP on scenes it has never seen, and write its model card.

    python -m pipelines.evaluation.clip storybook-detailclip
    python -m pipelines.evaluation.clip storybook-clip-b
    python -m pipelines.evaluation.clip --folder .checkpoints/ablation/full/model --scenes 300

Everything is measured on the files that are shipped, on the seeds of `storybook.TEST`. With `--write` the figures go
into `quality.json` and the table of the model's README.md.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from pipelines.models.decoder import lower_resolution, unpatchify
from pipelines.models.detailclip import entropy, keep_highest, mean_attention, teacher_distribution
from pipelines.models.encoders import Model
from pipelines.models.interpolation import fill_from_nearest, fill_from_neighbours
from pipelines.models.loading import open_folder
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.reconstruction.pipeline import Scores, measure, predict
from pipelines.world import storybook

BATCH = 50
GROUP = 100  # captions to choose from
CLASSES = ("background", *storybook.NOUNS)
PHOTOGRAPHS = ("chelsea", "coffee", "astronaut", "rocket", "immunohistochemistry", "retina", "page")  # as in the app


def scenes(
    count: int, start: int = 0, objects: int | None = None, seeds: range = storybook.TEST
) -> list[storybook.Scene]:
    return [storybook.scene(seeds[start + i], count=objects) for i in range(count)]


def distinct(count: int) -> list[storybook.Scene]:
    """Scenes whose full captions differ within each group of 100 in more than the order of the words."""
    chosen: list[storybook.Scene] = []
    told: set = set()
    seed = 0
    while len(chosen) < count:
        if len(chosen) % GROUP == 0:
            told = set()
        scene = storybook.scene(storybook.TEST[seed])
        seed += 1
        content = (frozenset(o.phrase for o in scene.objects), scene.background)
        if content not in told:
            told.add(content)
            chosen.append(scene)
    return chosen


def batches(model: Model, world: list[storybook.Scene]) -> Iterator[tuple[list[storybook.Scene], Tensor]]:
    for start in range(0, len(world), BATCH):
        part = world[start : start + BATCH]
        yield part, torch.cat([model.pixels(Image.fromarray(s.picture)) for s in part])


def image_features(
    model: Model, world: list[storybook.Scene], keep_ratio: float | None = None, lowest: bool = False
) -> Tensor:
    """(n, E) unit length; with a ratio, of the patches with the highest, or `lowest`, of the chooser's attention."""
    found = []
    for _, pixels in batches(model, world):
        kept = None
        if keep_ratio is not None:
            attention = mean_attention(model.chooser.encode(pixels))
            kept = keep_highest(-attention if lowest else attention, keep_ratio)
        found.append(model.image_features(model.encoder.encode(pixels, kept).cls).cpu())
    return torch.cat(found)


def naming(model: Model, features: Tensor, world: list[storybook.Scene]) -> float:
    """Share of single-object scenes whose noun, among 24, has the most similar text."""
    texts = model.text_features([storybook.article(noun) for noun in storybook.NOUNS]).cpu()
    truth = torch.tensor([storybook.NOUNS.index(s.objects[0].noun) for s in world])
    return (features @ texts.T).argmax(1).eq(truth).float().mean().item()


def colour_naming(model: Model, features: Tensor, world: list[storybook.Scene]) -> float:
    """Share of single things whose colour, among 11 and with the noun given, has the most similar text."""
    right = []
    for feature, scene in zip(features, world, strict=True):
        thing = scene.objects[0]
        if thing.colour:
            texts = model.text_features([storybook.article(f"{colour} {thing.noun}") for colour in storybook.COLOURS])
            right.append(list(storybook.COLOURS)[int((texts.cpu() @ feature).argmax())] == thing.colour)
    return float(np.mean(right))


def retrieval(model: Model, features: Tensor, world: list[storybook.Scene]) -> tuple[float, float]:
    """Top-1 from picture to caption, and from caption to picture, among GROUP distinct ones."""
    texts = model.text_features([s.full_caption for s in world]).cpu()
    to_text, to_image = [], []
    for start in range(0, len(world) - GROUP + 1, GROUP):
        similarity = features[start : start + GROUP] @ texts[start : start + GROUP].T
        order = torch.arange(GROUP)
        to_text.append(similarity.argmax(1).eq(order).float().mean().item())
        to_image.append(similarity.argmax(0).eq(order).float().mean().item())
    return float(np.mean(to_text)), float(np.mean(to_image))


def object_patches_kept(model: Model, world: list[storybook.Scene], keep_ratio: float = 0.5) -> tuple[float, float]:
    """Share of patches at least half covered by objects that the attention keeps, and that a random choice keeps."""
    kept_share: list[float] = []
    random_share: list[float] = []
    rng = torch.Generator().manual_seed(0)
    for part, pixels in batches(model, world):
        score = mean_attention(model.chooser.encode(pixels)).cpu()
        for values, shares in ((score, kept_share), (torch.rand(score.shape, generator=rng), random_share)):
            kept = torch.zeros(score.shape, dtype=torch.bool).scatter(1, keep_highest(values, keep_ratio), True).numpy()
            for mask, scene in zip(kept, part, strict=True):
                objects = storybook.object_share(scene, model.encoder.grid).ravel() >= 0.5
                if objects.any():
                    shares.append(mask[objects].mean())
    return float(np.mean(kept_share)), float(np.mean(random_share))


# -------------------------------------------------------------------------------------------------- segmentation probe


def token_labels(scene: storybook.Scene) -> np.ndarray:
    """(H, W) class of every pixel, 0 for background."""
    labels = np.zeros(scene.picture.shape[:2], np.int64)
    for thing in scene.objects:
        labels[thing.mask] = CLASSES.index(thing.noun)
    return labels


def segmentation_probe(model: Model, test: list[storybook.Scene], train_scenes: int, epochs: int = 8) -> float:
    """mIoU over 25 classes of a linear layer on frozen patch tokens, trained on VALIDATION seeds, tested pixel by
    pixel.

    The layer learns the share of each class in a patch; its logits are enlarged bilinearly to the picture's size.
    """
    grid = model.encoder.grid
    train = scenes(train_scenes, seeds=storybook.VALIDATION)
    found, wanted = [], []
    for part, pixels in batches(model, train):
        found.append(model.encoder.encode(pixels).patches.flatten(0, 1).cpu())
        labels = torch.from_numpy(np.stack([token_labels(s) for s in part]))
        shares = torch.nn.functional.one_hot(labels, len(CLASSES)).float().permute(0, 3, 1, 2)
        shares = torch.nn.functional.adaptive_avg_pool2d(shares, grid)
        wanted.append(shares.permute(0, 2, 3, 1).flatten(0, 2))
    tokens, targets = torch.cat(found), torch.cat(wanted)
    mean, deviation = tokens.mean(0), tokens.std(0) + 1e-6
    torch.manual_seed(0)
    probe = torch.nn.Linear(tokens.shape[1], len(CLASSES))
    steps = epochs * len(tokens) // 4096
    optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-2, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        pick = torch.randint(0, len(tokens), (4096,))
        logits = probe((tokens[pick] - mean) / deviation)
        loss = torch.nn.functional.cross_entropy(logits, targets[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    overlap, union = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
    with torch.no_grad():
        for part, pixels in batches(model, test):
            logits = probe((model.encoder.encode(pixels).patches.cpu() - mean) / deviation)
            logits = logits.view(len(part), grid, grid, -1).permute(0, 3, 1, 2)
            size = part[0].picture.shape[:2]
            guess = torch.nn.functional.interpolate(logits, size=size, mode="bilinear").argmax(1).numpy()
            truth = np.stack([token_labels(s) for s in part])
            for k in range(len(CLASSES)):
                overlap[k] += ((guess == k) & (truth == k)).sum()
                union[k] += ((guess == k) | (truth == k)).sum()
    return float((overlap / np.maximum(union, 1)).mean())


# ------------------------------------------------------------------------------------------- teacher, head and decoder


def prototypes(model: Model, world: list[storybook.Scene]) -> dict[str, float]:
    """How the teacher uses its prototypes over all scenes; entropies as shares of ln K."""
    detail = model.detail
    assert detail is not None, "a model with a teacher"
    limit, size = math.log(detail.settings.prototypes), detail.settings.prototypes
    mean_patch, mean_cls, own, used = torch.zeros(size), torch.zeros(size), [], torch.zeros(size, dtype=torch.bool)
    with torch.no_grad():
        for _, pixels in batches(model, world):
            seen = model.chooser.encode(pixels)
            settings = detail.settings
            patch = teacher_distribution(
                detail.teacher_head(seen.patches), detail.center_patch, settings.teacher_temperature_patch
            )
            cls = teacher_distribution(
                detail.teacher_head(seen.cls), detail.center_cls, settings.teacher_temperature_cls
            )
            mean_patch += patch.mean(1).sum(0).cpu() / len(world)
            mean_cls += cls.sum(0).cpu() / len(world)
            own.append(entropy(patch).mean().item())
            used[patch.argmax(-1).unique().cpu()] = True
    return {
        "entropy_of_mean_patch": entropy(mean_patch).item() / limit,
        "entropy_of_mean_cls": entropy(mean_cls).item() / limit,
        "entropy_one_patch": float(np.mean(own)) / limit,
        "prototypes_used": used.float().mean().item(),
    }


def rebuilt(model: Model, pixels: Tensor, truth: np.ndarray, visible: np.ndarray) -> tuple[Scores, Scores]:
    """Scores over the hidden patches, of the model and of interpolation: (1, 3, S, S), (S, S, 3) and (g, g) bool."""
    patch = model.size // len(visible)
    seen = visible.repeat(patch, 0).repeat(patch, 1)
    predicted = model.picture(unpatchify(predict(model, pixels, visible), patch)[0])
    ours, other = np.where(seen[..., None], truth, predicted), fill_from_neighbours(truth, seen)
    return measure(ours, truth, ~seen), measure(other, truth, ~seen)


def half_at_random(grid: int, rng: torch.Generator) -> np.ndarray:
    """(g, g) bool, half of them True."""
    visible = torch.zeros(grid**2, dtype=torch.bool)
    visible[torch.randperm(grid**2, generator=rng)[: grid**2 // 2]] = True
    return visible.view(grid, grid).numpy()


def photographs(model: Model, patterns: int = 10) -> dict[str, float]:
    """PSNR of hidden patches of scikit-image's sample photographs, each under several random patterns, which the
    storybook models have never seen the like of."""
    rng, found = torch.Generator().manual_seed(0), []
    for name in PHOTOGRAPHS:
        pixels = model.pixels(Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))
        truth = model.picture(pixels[0])
        for _ in range(patterns):
            scores = rebuilt(model, pixels, truth, half_at_random(model.encoder.grid, rng))
            found.append([score.psnr for score in scores])
    ours, neighbours = np.mean(found, axis=0).tolist()
    return {"psnr_photographs": ours, "psnr_photographs_neighbours": neighbours}


def reconstruction(model: Model, world: list[storybook.Scene]) -> dict[str, float]:
    """PSNR and SSIM of hidden patches at a mask ratio of 0.5, and PSNR of low-resolution inputs, beside baselines."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    detail = model.detail
    assert detail is not None, "a model with a decoder"
    grid, patch = model.encoder.grid, model.size // model.encoder.grid
    everything = np.ones((model.size, model.size), bool)
    rng = torch.Generator().manual_seed(0)
    for part, pixels in batches(model, world):
        kept = keep_highest(mean_attention(model.chooser.encode(pixels)), 0.5).cpu()
        for i, scene in enumerate(part):
            truth = scene.picture.astype(np.float32) / 255
            attended = torch.zeros(grid**2, dtype=torch.bool).scatter(0, kept[i], True).view(grid, grid).numpy()
            for name, visible in (("random", half_at_random(grid, rng)), ("attention", attended)):
                scores, other = rebuilt(model, pixels[i : i + 1], truth, visible)
                note(f"psnr_{name}", scores.psnr)
                note(f"psnr_{name}_neighbours", other.psnr)
                note(f"ssim_{name}", scores.ssim)
                note(f"ssim_{name}_neighbours", other.ssim)
                if name == "random":
                    seen = visible.repeat(patch, 0).repeat(patch, 1)
                    nearest = fill_from_nearest(truth, seen)
                    note("psnr_random_nearest", measure(nearest, truth, ~seen).psnr)
                if name == "random" and detail.settings.decode_on_fill:
                    index = torch.from_numpy(np.flatnonzero(visible))[None].to(model.device)
                    patches = detail.decode_without_tokens(pixels[i : i + 1], index).predicted
                    blind = model.picture(unpatchify(patches, patch)[0])
                    note("psnr_random_blind", measure(np.where(seen[..., None], truth, blind), truth, ~seen).psnr)
            if i % 5 == 0:  # a fifth of the scenes is enough for the low-resolution figures
                for factor in (2, 4):
                    blurred = lower_resolution(pixels[i : i + 1], factor)
                    patches = predict(model, blurred, np.ones((grid, grid), bool))
                    predicted = model.picture(unpatchify(patches, patch)[0])
                    note(f"psnr_low_{factor}", measure(predicted, truth, everything).psnr)
                    note(f"psnr_low_{factor}_bicubic", measure(model.picture(blurred[0]), truth, everything).psnr)
    return {name: float(np.mean(values)) for name, values in found.items()}


# --------------------------------------------------------------------------------------------------------------- report


def evaluate(model: Model, count: int, quick: bool = False) -> dict[str, float]:
    """All figures of the card. `quick` leaves out what is not compared between ablations."""
    singles, world = scenes(count, start=10_000_000, objects=1), distinct(count)
    figures: dict[str, float] = {"scenes": count}
    single_features, features = image_features(model, singles), image_features(model, world)
    figures["naming"] = naming(model, single_features, singles)
    figures["retrieval_image_to_text"], figures["retrieval_text_to_image"] = retrieval(model, features, world)
    if not quick:
        figures["colour_naming"] = colour_naming(model, single_features, singles)
        kept = image_features(model, world, 0.5)
        figures["cosine_kept_to_full"] = (kept * features).sum(1).mean().item()
        figures["retrieval_kept_half"] = retrieval(model, kept, world)[0]
        figures["naming_kept_half"] = naming(model, image_features(model, singles, 0.5), singles)
        figures["naming_lowest_half"] = naming(model, image_features(model, singles, 0.5, lowest=True), singles)
        figures["object_patches_kept"], figures["object_patches_kept_random"] = object_patches_kept(model, world)
    figures["segmentation_miou"] = segmentation_probe(model, world[: min(count, 500)], train_scenes=min(count, 1000))
    if model.detail is not None:
        figures.update(prototypes(model, world))
        figures.update(reconstruction(model, world))
        if not quick:
            figures.update(photographs(model))
    return figures


ROWS = (  # name, what it says, format, floor of the card
    ("naming", "Names the object of a single-object scene, among 24", "{:.1%}"),
    ("naming_kept_half", "The same from the kept half of the patches", "{:.1%}"),
    ("naming_lowest_half", "The same from the half with the lowest attention", "{:.1%}"),
    ("colour_naming", "Names a single thing's colour, among 11", "{:.1%}"),
    ("retrieval_image_to_text", "Picture to caption, 1 of 100 distinct captions, top-1", "{:.1%}"),
    ("retrieval_text_to_image", "Caption to picture, 1 of 100, top-1", "{:.1%}"),
    ("retrieval_kept_half", "Picture to caption from the kept half of the patches", "{:.1%}"),
    ("cosine_kept_to_full", "Cosine of the kept half's features to the whole picture's", "{:.3f}"),
    ("object_patches_kept", "Share of object patches kept at keep ratio 0.5", "{:.3f}"),
    ("object_patches_kept_random", "The same if patches are kept at random", "{:.3f}"),
    ("segmentation_miou", "Linear probe of the patch tokens, mIoU over 24 classes and background", "{:.3f}"),
    ("psnr_random", "Reconstruction, half of the patches hidden at random, dB", "{:.2f}"),
    ("psnr_random_blind", "The same with the tokens withheld from the decoder, dB", "{:.2f}"),
    ("psnr_random_neighbours", "The same by interpolation from the neighbours, dB", "{:.2f}"),
    ("psnr_random_nearest", "The same by the nearest visible pixel, dB", "{:.2f}"),
    ("psnr_attention", "Reconstruction, lowest-attention half hidden, dB", "{:.2f}"),
    ("psnr_attention_neighbours", "The same by interpolation, dB", "{:.2f}"),
    ("ssim_random", "SSIM, half hidden at random", "{:.3f}"),
    ("ssim_random_neighbours", "The same by interpolation", "{:.3f}"),
    ("ssim_attention", "SSIM, lowest-attention half hidden", "{:.3f}"),
    ("ssim_attention_neighbours", "The same by interpolation", "{:.3f}"),
    ("psnr_low_2", "Half-resolution input, dB", "{:.2f}"),
    ("psnr_low_2_bicubic", "The same by bicubic enlargement, dB", "{:.2f}"),
    ("psnr_low_4", "Quarter-resolution input, dB", "{:.2f}"),
    ("psnr_low_4_bicubic", "The same by bicubic enlargement, dB", "{:.2f}"),
    ("psnr_photographs", "Photographs, which it has never seen: half of the patches hidden at random, dB", "{:.2f}"),
    ("psnr_photographs_neighbours", "The same by interpolation, dB", "{:.2f}"),
    ("entropy_of_mean_patch", "Teacher: entropy of the mean patch distribution, share of ln K", "{:.3f}"),
    ("entropy_of_mean_cls", "Teacher: entropy of the mean class-token distribution, share of ln K", "{:.3f}"),
    ("entropy_one_patch", "Teacher: mean entropy of one patch, share of ln K", "{:.3f}"),
    ("prototypes_used", "Prototypes that are some patch's first choice", "{:.1%}"),
)


def table(figures: dict[str, float], rows: tuple[tuple[str, str, str], ...] = ROWS) -> str:
    lines = ["| measured on never-seen scenes | |", "|---|---|", f"| Scenes | {figures['scenes']:,} |"]
    lines += [f"| {told} | {form.format(figures[name])} |" for name, told, form in rows if name in figures]
    return "\n".join(lines)


def write_between(readme: Path, mark: str, text: str) -> None:
    """Replace what stands between `<!-- mark -->` and `<!-- /mark -->`."""
    before, opening, rest = readme.read_text(encoding="utf-8").partition(f"<!-- {mark} -->")
    _, closing, after = rest.partition(f"<!-- /{mark} -->")
    if not closing:
        raise ValueError(f"{readme} has no place for {mark}: <!-- {mark} --> and <!-- /{mark} --> are missing.")
    readme.write_text(f"{before}{opening}\n{text}\n{closing}{after}", encoding="utf-8")


def write_card(folder: Path, figures: dict[str, float], rows: tuple[tuple[str, str, str], ...] = ROWS) -> None:
    """Put the figures into quality.json and between the marks of the README."""
    (folder / "quality.json").write_text(
        json.dumps({k: round(v, 5) for k, v in figures.items()}, indent=1) + "\n", encoding="utf-8"
    )
    write_between(folder / "README.md", "quality", table(figures, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="storybook-detailclip", help="name in the registry")
    parser.add_argument("--folder", type=Path, help="measure the model in this folder instead")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="write quality.json and the README's table")
    arguments = parser.parse_args()
    spec = MODELS[arguments.model]
    folder = arguments.folder or BUNDLED / spec.source
    start = time.monotonic()
    model = open_folder(spec, folder)
    assert isinstance(model, Model), "an image encoder"
    figures = evaluate(model, arguments.scenes)
    print(table(figures))
    print(f"\nmeasured in {time.monotonic() - start:.0f} s")
    if arguments.write:
        write_card(folder, figures)


if __name__ == "__main__":
    main()
