"""Measure a classifier of photographs on the few that come with the libraries the app needs anyway.

    python -m pipelines.evaluation.classifier --write

They are seven: too few for a score, enough to see that the conversion is right. What counts as right is written down
here, the names ImageNet has for what everybody sees.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from pipelines.evaluation.clip import write_between
from pipelines.models.classifiers import Classifier
from pipelines.models.loading import load
from pipelines.models.registry import BUNDLED, MODELS
from pipelines.training.loop import write_json

PHOTOGRAPHS = {  # package and file -> the names that are right
    "skimage/data/chelsea.png": ("tabby", "tiger cat", "Egyptian cat"),
    "skimage/data/coffee.png": ("espresso", "cup"),
    "skimage/data/rocket.jpg": ("missile", "projectile"),
    "skimage/data/camera.png": ("tripod",),
    "gradio/media_assets/images/cheetah.jpg": ("cheetah",),
    "gradio/media_assets/images/cheetah1.jpg": ("cheetah",),
    "gradio/media_assets/images/lion.jpg": ("lion",),
}


def photograph(path: str) -> Image.Image:
    """The picture of a package, without importing it."""
    package, _, rest = path.partition("/")
    found = find_spec(package)
    assert found is not None and found.origin is not None, f"{package} is not installed"
    return Image.open(Path(found.origin).parent / rest).convert("RGB")


def evaluate(model: Classifier) -> dict:
    """Share of PHOTOGRAPHS whose first name is right, of those with a right one among five, and all first names."""
    said = {path: model.name(photograph(path)) for path in PHOTOGRAPHS}
    return {
        "photographs": len(said),
        "top1": sum(names[0][0] in PHOTOGRAPHS[path] for path, names in said.items()) / len(said),
        "top5": sum(any(n in PHOTOGRAPHS[path] for n, _ in names) for path, names in said.items()) / len(said),
        "said": {Path(path).name: {n: round(share, 3) for n, share in names[:3]} for path, names in said.items()},
    }


def card(figures: dict) -> str:
    """The measured part of the model's card."""
    lines = ["| photograph | first three names |", "|---|---|"]
    for name, said in figures["said"].items():
        lines.append(f"| {name} | {', '.join(f'{told} {share:.0%}' for told, share in said.items())} |")
    lines.append(
        f"\nRight at first: {figures['top1']:.0%} of {figures['photographs']}; among five: {figures['top5']:.0%}."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="efficientnet-lite0", help="name in the registry")
    parser.add_argument("--write", action="store_true", help="write quality.json and the README's table")
    options = parser.parse_args()
    figures = evaluate(load(options.model, Classifier))
    print(card(figures))
    if options.write:
        folder = BUNDLED / MODELS[options.model].source
        write_json(folder / "quality.json", figures)
        write_between(folder / "README.md", "quality", card(figures))


if __name__ == "__main__":
    main()
