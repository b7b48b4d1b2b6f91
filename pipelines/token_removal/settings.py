"""What can be set in token removal."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from pipelines.settings import SEED_LIMIT, Checked, setting

Rule = Literal["attention", "attention-patch", "random", "inverse"]
RULES: dict[Rule, str] = {  # who decides which patches stay
    "attention": "attention, 2×2 blocks (DetailCLIP)",
    "attention-patch": "attention, single patches",
    "random": "random blocks",
    "inverse": "lowest attention",
}
assert tuple(RULES) == get_args(Rule)
MOST_LAYERS = 12  # of any model in the registry
PLACES = {"mean": "mean", **{str(n + 1): str(n + 1) for n in range(MOST_LAYERS)}}


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """Which patches stay, and what the rest is compared with."""

    prompt: str = setting(
        "",
        "Description to compare with",
        "Image-text models only; press Enter",
        noun="The description",
    )
    keep_ratio: float = setting(
        0.5,
        "Keep ratio",
        "Share of the 2×2-patch blocks that stay, plus one block",
        noun="The keep ratio",
        low=0,
        high=1,
        step=0.05,
        slider=(0.05, 1),
    )
    rule: Rule = setting("attention", "Who decides", noun="The rule", choices=RULES)
    layer: str = setting("mean", "Layer", noun="The layer", choices=PLACES)
    head: str = setting("mean", "Head", noun="The head", choices=PLACES)
    seed: int = setting(42, "Seed of the random rule", noun="The seed", low=0, high=SEED_LIMIT)
    model: str = setting("storybook-detailclip", "Model", noun="The model")

    @property
    def layer_index(self) -> int | None:
        """Counted from 0; None for the mean of all."""
        return None if self.layer == "mean" else int(self.layer) - 1

    @property
    def head_index(self) -> int | None:
        return None if self.head == "mean" else int(self.head) - 1

    @property
    def curves(self) -> "Settings":
        """What the curves of all rules at all ratios depend on."""
        return replace(self, keep_ratio=0.5, rule="attention")
