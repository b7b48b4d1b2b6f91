"""What can be set in patch self-distillation."""

from dataclasses import dataclass

from pipelines.settings import SEED_LIMIT, Checked, setting
from pipelines.token_removal.settings import RULES, Rule


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """What the student sees, and how both distributions are made."""

    keep_ratio: float = setting(
        0.5, "Keep ratio of the student", noun="The keep ratio", low=0.01, high=1, step=0.1, slider=(0.1, 1)
    )
    rule: Rule = setting("attention", "Who decides what the student sees", noun="The rule", choices=RULES)
    teacher_temperature: float = setting(
        0.07,
        "Teacher temperature",
        "Lower is sharper",
        noun="The teacher temperature",
        low=0.001,
        high=10,
        step=0.01,
        slider=(0.01, 0.5),
    )
    student_temperature: float = setting(
        0.1,
        "Student temperature",
        noun="The student temperature",
        low=0.001,
        high=10,
        step=0.01,
        slider=(0.05, 0.5),
    )
    centering: bool = setting(True, "Centring", "Subtract the running mean from the teacher's logits")
    seed: int = setting(42, "Seed of the second view and the random rule", noun="The seed", low=0, high=SEED_LIMIT)
    model: str = setting("storybook-detailclip", "Model", noun="The model")
