"""What can be set in reconstruction."""

from dataclasses import dataclass
from typing import Literal

from pipelines.settings import SEED_LIMIT, Checked, setting

Pattern = Literal["attention", "random", "block", "grid", "painted"]
Target = Literal["pixels", "normalised"]
MOST_HIDDEN = 0.98  # share of the patches
PATTERNS: dict[Pattern, str] = {
    "attention": "lowest attention (DetailCLIP)",
    "random": "random patches (MAE)",
    "block": "one block in the middle",
    "grid": "evenly spread",
    "painted": "painted by hand",
}
TARGETS: dict[Target, str] = {
    "pixels": "the decoder's own pixels",
    "normalised": "lend each patch its true mean and contrast",
}
FACTORS = {1: "full", 2: "1/2", 3: "1/3", 4: "1/4"}  # of the low-resolution input


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """What is hidden, what the model gets, and what is shown of its prediction."""

    mask_ratio: float = setting(
        0.5,
        "Mask ratio",
        "Share of the patches to hide",
        noun="The mask ratio",
        low=0,
        high=MOST_HIDDEN,
        step=0.05,
        slider=(0, 0.95),
    )
    pattern: Pattern = setting("attention", "Which patches to hide", noun="The pattern", choices=PATTERNS)
    target: Target = setting("pixels", "What to show", choices=TARGETS)
    low_resolution: int = setting(
        1,
        "Resolution of the input",
        "Set the mask ratio to 0 to see detail come back by itself",
        noun="The resolution",
        choices=FACTORS,
    )
    seed: int = setting(42, "Seed of the random pattern", noun="The seed", low=0, high=SEED_LIMIT)
    model: str = setting("storybook-detailclip", "Model", noun="The model")
