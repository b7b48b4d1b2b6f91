"""What the lessons of `pipelines.cues` say of many seeds. Run by `python -m pipelines.training.studies`."""

from pipelines.cues import scramble, texture_shape, transfer, universal
from pipelines.cues.settings import (
    NETWORKS,
    OTHERS,
    STARTS,
    TASKS,
    BorrowSettings,
    FreezeSettings,
    ScrambleSettings,
    TextureSettings,
    UniversalSettings,
)

Rows = dict[str, dict[str, float | None]]


def scramble_study(seed: int) -> Rows:
    """Every network on both tasks: share right by pieces along a side."""
    rows: Rows = {}
    names = tuple(NETWORKS)
    for task in TASKS:
        for a, b in zip(names[::2], names[1::2], strict=True):
            *_, end = scramble.run(ScrambleSettings(task=task, a=a, b=b, seed=seed))
            assert isinstance(end, scramble.Frame)
            for name, step in ((a, end.a), (b, end.b)):
                by_grid = {f"{grid}x{grid}": share for grid, share in (step.by_grid or {}).items()}
                rows[f"{task}, {NETWORKS[name]}"] = {**by_grid, "chance": end.chance}
    return rows


def universal_study(seed: int) -> Rows:
    """Fooling rates of the noise and of its controls, by victim and strength."""
    rows: Rows = {}
    for victim in OTHERS:
        for epsilon in (4, 8, 16):
            *_, end = universal.run(UniversalSettings(victim=victim, epsilon=epsilon, seed=seed))
            row: dict[str, float | None] = {name: fooled.rate for name, fooled in end.tried.items()}
            rows[f"{victim}, {epsilon}/255"] = row
    return rows


def texture_study(seed: int) -> Rows:
    """Shape bias and accuracies, by network and share of random textures."""
    rows: Rows = {}
    for network, title in NETWORKS.items():
        for share in (0.0, 0.1, 0.5, 1.0):
            *_, end = texture_shape.alone(TextureSettings(network=network, share=share, steps=300, seed=seed))
            assert end.look is not None
            row = {"shape bias": end.look.bias, "both cues": end.look.cue, "flat shapes": end.look.flat}
            rows[f"{title}, {share:.0%} random"] = row
    return rows


def transfer_study(seed: int) -> Rows:
    """Nearest means of features by block, and what training reaches with so many blocks frozen."""
    borrowed = transfer.look(BorrowSettings(seed=seed))
    rows: Rows = {f"features after block {block}": {"right": s.mean} for block, s in borrowed.blocks.items()}
    rows["raw pixels"] = {"right": borrowed.pixels.mean}
    rows["features of random weights"] = {"right": borrowed.random.mean}
    for start in STARTS:
        for frozen in (0, 2, 4, 6):
            *_, end = transfer.run(FreezeSettings(start=start, frozen=frozen, seed=seed))
            rows[f"trained, start {start}, {frozen} blocks frozen"] = {"right": end.right, "loss": end.loss}
    return rows
