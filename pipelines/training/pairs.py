"""Image-text pairs for contrastive training: the storybook world, clean or wide, a folder, or WebDataset shards of real
pairs.

Every pair comes as `views` differently cropped and coloured pictures and its caption. Of storybook and folders, item i
depends on the seed and on i alone, so a run that is resumed, or spread over processes, sees what it would have seen;
shards are drawn anew with every start.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pipelines.world import storybook, wide

MEAN, DEVIATION = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # of the storybook models' pixels, in [0, 1]
LESSON = 512  # pictures in a stretch
CLEAN_EVERY = 8  # one scene in so many of the wide world is one of the clean one
SEEDS_PER_RUN = 20_000_000  # run n trains on storybook seeds n*SEEDS_PER_RUN onwards


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """(..., H, W, 3) uint8 -> (..., 3, H, W) float32, normalised by MEAN and DEVIATION."""
    pixels = torch.from_numpy(pictures).movedim(-1, -3).float() / 255
    return (pixels - MEAN[0]) / DEVIATION[0]


def augment(picture: Image.Image, size: int, smallest: float, rng: np.random.Generator) -> np.ndarray:
    """A random view, (size, size, 3) uint8: crop of `smallest` to 1 of the area, flip, light and contrast.

    Differs from the paper (crops from 0.14 of the area, strong colour jitter, grayscale, solarise; no flip): the
    captions here name every object and its colour, so both must survive.
    """
    width, height = picture.size
    share = rng.uniform(smallest, 1) if rng.random() < 0.75 else 1.0
    side = np.sqrt(share * rng.uniform(0.9, 1.1)), np.sqrt(share * rng.uniform(0.9, 1.1))
    w, h = min(1.0, side[0]) * width, min(1.0, side[1]) * height
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    view = picture.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
    pixels = np.asarray(view, np.float32)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if rng.random() < 0.5:
        contrast, light = rng.uniform(0.8, 1.2), rng.uniform(-20, 20)
        pixels = (pixels - 128) * contrast + 128 + light
    return pixels.clip(0, 255).round().astype(np.uint8)


class Storybook(IterableDataset):
    """Endless scenes; worker w of W and process r of R together take every (W*R)-th.

    Stretches of scenes alternate with lessons, single objects with the bare noun as caption: in a batch of scenes
    colours and places already tell the captions apart, and a noun can stay unlearned for long.
    """

    def __init__(
        self,
        seed: int,
        size: int,
        views: int,
        smallest: float,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        lessons: bool = True,
    ):
        self.seed, self.size, self.views, self.smallest = seed, size, views, smallest
        self.start, self.rank, self.world, self.lessons = start, rank, world, lessons

    def __iter__(self) -> Iterator[tuple[np.ndarray, str]]:
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        index = self.start + self.rank + offset * self.world
        while True:
            drawn = self.drawn(index)
            lesson = self.lessons and drawn // LESSON % 2 == 1
            scene = self.scene(storybook.TRAIN[self.seed * SEEDS_PER_RUN + drawn], 1 if lesson else None)
            yield self.item(Image.fromarray(scene.picture), self.caption(scene, lesson), index)
            index += stride * self.world

    def caption(self, scene: storybook.Scene, lesson: bool) -> str:
        return storybook.article(scene.objects[0].noun) if lesson else scene.caption

    def drawn(self, index: int) -> int:
        """Which scene item `index` is a view of."""
        return index

    def scene(self, seed: int, count: int | None) -> storybook.Scene:
        return storybook.scene(seed, count=count)

    def item(self, picture: Image.Image, caption: str, index: int) -> tuple[np.ndarray, str]:
        rng = np.random.default_rng((self.seed, index))
        if self.views == 0:
            return np.asarray(picture)[None], caption
        return np.stack([augment(picture, self.size, self.smallest, rng) for _ in range(self.views)]), caption


@functools.lru_cache(maxsize=2 * LESSON)
def wide_scene(seed: int, count: int | None) -> storybook.Scene:
    """Of the wide world, square, with drawings of the column `known`; one in CLEAN_EVERY of the clean one."""
    if seed % CLEAN_EVERY == 0:
        return storybook.scene(seed, count=count)
    return wide.draw(seed, count=count, size=(storybook.SIZE, storybook.SIZE))


class World(Storybook):
    """The same of the wide world. Views are cut less, as things are small, turned and cut already; and a stretch and a
    lesson come `USES` times in other views before the next are drawn, which takes as long as to learn from them."""

    LEAST = 0.75  # of a picture's area in a view
    USES = 3

    def __init__(self, seed: int, size: int, views: int, smallest: float, *arguments: Any, **keywords: Any):
        super().__init__(seed, size, views, max(smallest, self.LEAST), *arguments, **keywords)

    def drawn(self, index: int) -> int:
        block, place = divmod(index, 2 * LESSON)
        return block // self.USES * 2 * LESSON + place

    def scene(self, seed: int, count: int | None) -> storybook.Scene:
        return wide_scene(seed, count)


class PairFolder(Storybook):
    """Real pairs: `name.jpg|png|webp` beside `name.txt` in a folder, repeated for ever in a shuffled order."""

    def __init__(self, folder: Path, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        pictures = (p for p in sorted(folder.rglob("*")) if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
        self.pairs = [(p, p.with_suffix(".txt")) for p in pictures if p.with_suffix(".txt").exists()]
        if not self.pairs:
            raise ValueError(
                f"No pairs in {folder}: expected pictures with a caption of the same name ending in .txt beside them."
            )

    def __iter__(self) -> Iterator[tuple[np.ndarray, str]]:
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        index = self.start + self.rank + offset * self.world
        while True:
            epoch, place = divmod(index, len(self.pairs))
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.pairs))
            picture, caption = self.pairs[order[place]]
            yield self.item(Image.open(picture).convert("RGB"), caption.read_text(encoding="utf-8").strip(), index)
            index += stride * self.world


class PairShards(Storybook):
    """Real pairs in WebDataset shards (`jpg|png|webp` and `txt` members), split over processes and workers."""

    def __init__(self, shards: list[str], *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.shards = shards

    def __iter__(self) -> Iterator[tuple[np.ndarray, str]]:
        import webdataset

        dataset = webdataset.WebDataset(
            self.shards,
            resampled=True,
            nodesplitter=webdataset.split_by_node,
            shardshuffle=False,
            seed=self.seed + self.rank,
        )
        for index, (picture, caption) in enumerate(
            dataset.shuffle(1000).decode("pilrgb").to_tuple("jpg;png;webp", "txt")
        ):
            yield self.item(picture, caption.strip(), index * self.world + self.rank)


def pairs(source: str, *arguments: Any, **keywords: Any) -> Storybook:
    """`storybook`, `world`, a folder of pairs, or the path of `.tar` shards, braces and wildcards expanded."""
    if source in ("storybook", "world"):
        return (World if source == "world" else Storybook)(*arguments, **keywords)
    path = Path(source)
    if path.is_dir():
        shards = sorted(str(p) for p in path.glob("*.tar"))
        return PairShards(shards, *arguments, **keywords) if shards else PairFolder(path, *arguments, **keywords)
    return PairShards([source], *arguments, **keywords)


def loader(dataset: Storybook, batch: int, tokenize: Callable[[list[str]], torch.Tensor], workers: int) -> DataLoader:
    """Batches of (views, B, 3, H, W) pixels and (B, T) token ids."""

    def collate(items: list[tuple[np.ndarray, str]]) -> tuple[torch.Tensor, torch.Tensor]:
        pictures, captions = zip(*items, strict=True)
        return to_pixels(np.stack(pictures, axis=1)), tokenize(list(captions))

    return DataLoader(
        dataset, batch_size=batch, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )
