"""What can be set in each lesson: the page's controls, the endpoints' arguments and their limits."""

from dataclasses import dataclass

from pipelines.models.registry import MODELS
from pipelines.settings import SEED_LIMIT, Checked, setting
from pipelines.world.storybook import NOUNS

# ------------------------------------------------------------------------------------------- order does not matter

MOST_NODES = 12
GRAPHS = {"scene": "the objects of a scene, joined where one is next to another", "drawn": "a graph of your own"}
FUNCTIONS = {
    "sum": "sum",
    "mean": "mean",
    "max": "maximum, one weight for all neighbours",
    "max_place": "maximum, a weight for each place in the list",
    "max_edge": "maximum, a weight that belongs to the edge",
    "gru": "a GRU reads the list",
    "attention": "attention",
    "attention_positions": "attention, and every node is told its number",
}


@dataclass(frozen=True, kw_only=True)
class EquivarianceSettings(Checked):
    function: str = setting("mean", "Function of the neighbours", choices=FUNCTIONS)
    graph: str = setting("scene", "Graph", choices=GRAPHS)
    nodes: int = setting(6, "Nodes", low=2, high=MOST_NODES, step=1)
    edges: str = setting(
        "1-2, 2-3, 3-4, 4-5, 5-6, 6-1, 1-4", "Edges", "Of your own graph: pairs of node numbers", noun="The edges"
    )
    order: str = setting(
        "", "New order", "Which node comes first, second, …; empty: shuffled by the seed", noun="The new order"
    )
    depth: int = setting(1, "Layers", "The output of one is the input of the next", low=1, high=6, step=1)
    shift: int = setting(3, "Shift", "Of the sinusoidal positions", low=-64, high=64, step=1)
    seed: int = setting(42, "Seed", "Of the scene, the weights and the shuffling", low=0, high=SEED_LIMIT, step=1)


# ------------------------------------------------------------------------------------------ one noise for all pictures

_NAMING = ("openclip", "classifier")  # families of models that name a picture
OTHERS = {  # victims that learn the noise from drawn scenes, and who is asked about it as well
    "storybook-clip-b": "storybook-detailclip",
    "storybook-detailclip": "storybook-clip-b",
    "storybook-grounding-dino": "storybook-clip-b",
}
VICTIMS = {name: MODELS[name].title for name in (*OTHERS, "efficientnet-lite0")}
DEFENCES = {
    "none": "none",
    "blur": "a 3×3 blur before the model looks",
    "shift": "the picture moves by half a patch of 16 pixels",
}


@dataclass(frozen=True, kw_only=True)
class UniversalSettings(Checked):
    victim: str = setting("storybook-clip-b", "Victim", "Whose answers are to be changed", choices=VICTIMS)
    epsilon: int = setting(
        8, "Strength, ε", "Most a colour of a pixel may change, in levels of 255", low=0, high=16, step=1
    )
    steps: int = setting(40, "Steps", "Of sign ascent", low=1, high=100, step=1)
    pictures: int = setting(128, "Pictures to learn from", low=4, high=512, step=4)
    target: str = setting(
        "", "Target", "What all pictures are to be called", choices={"": "any other name", **{n: n for n in NOUNS}}
    )
    defence: str = setting("none", "Defence", "Before the model looks at a picture", choices=DEFENCES)
    seed: int = setting(42, "Seed", "Of the pictures to learn from and their batches", low=0, high=SEED_LIMIT, step=1)


# ------------------------------------------------------------------------------------------------------ scrambled parts

NETWORKS = {
    "cnn": "convolutions",
    "bag": "a bag of patches",
    "vit": "attention with positions",
    "blind": "attention without positions",
}
GRIDS = (1, 2, 4, 8, 16, 32)  # pieces along a side
_GRIDS = {grid: "whole" if grid == 1 else f"{grid}×{grid}" for grid in GRIDS}
NAMERS = {name: spec.title for name, spec in MODELS.items() if spec.tier == "bundled" and spec.family in _NAMING}
MOVES = {"all": "all pieces", "two": "two pieces"}
TASKS = {"naming": "name the thing, one of 24", "relation": "is the cat left of the car?"}


@dataclass(frozen=True, kw_only=True)
class PiecesSettings(Checked):
    """One picture, and the bundled models that name it."""

    grid: int = setting(8, "Pieces", "The picture is cut into so many", choices=_GRIDS)
    how: str = setting("all", "What moves", choices=MOVES)
    background: bool = setting(True, "Move pieces without the thing too")
    seed: int = setting(42, "Seed", "Of the new places", low=0, high=SEED_LIMIT, step=1)


@dataclass(frozen=True, kw_only=True)
class ScrambleSettings(Checked):
    """Two small networks on one clock, from random weights, and their answers about scrambled pictures."""

    task: str = setting("naming", "Task", choices=TASKS)
    a: str = setting("cnn", "Network A", choices=NETWORKS)
    b: str = setting("vit", "Network B", choices=NETWORKS)
    grid: int = setting(4, "Pieces", "Of the scrambled pictures", choices={2: "2×2", 4: "4×4", 8: "8×8", 16: "16×16"})
    steps: int = setting(150, "Steps", "Of the optimiser", low=1, high=600, step=1)
    batch: int = setting(64, "Batch", "Pictures a step", low=8, high=256, step=8)
    rate: float = setting(1e-3, "Learning rate", low=1e-5, high=0.1)
    seed: int = setting(42, "Seed", "Of the weights, the batches and the new places", low=0, high=SEED_LIMIT, step=1)


# -------------------------------------------------------------------------------------------------------- borrowed eyes

CLIPS = {name: spec.title for name, spec in MODELS.items() if spec.tier == "bundled" and spec.family == "openclip"}
BLOCKS = 6  # of each of them
STARTS = {"learned": "what it learned of 24 other things", "random": "random weights"}


@dataclass(frozen=True, kw_only=True)
class BorrowSettings(Checked):
    """Four things the model has never met, told apart by the nearest mean of a few examples."""

    model: str = setting("storybook-clip-b", "Model", "Whose features are borrowed", choices=CLIPS)
    block: int = setting(6, "Features after block", "0: the patches before the first", low=0, high=BLOCKS, step=1)
    examples: int = setting(1, "Examples of each", low=1, high=30, step=1)
    noise: int = setting(0, "Noise", "Standard deviation, in levels of 255", low=0, high=128, step=8)
    unlabelled: bool = setting(False, "Use pictures without labels", "Each joins the mean it is nearest to")
    permuted: bool = setting(False, "Permute the labels")
    seed: int = setting(42, "Seed", "Of the examples and the noise", low=0, high=SEED_LIMIT, step=1)


@dataclass(frozen=True, kw_only=True)
class FreezeSettings(Checked):
    """The same four things, learned by the model itself: its first blocks stay as they are."""

    model: str = setting("storybook-clip-b", "Model", "Whose weights are borrowed", choices=CLIPS)
    frozen: int = setting(4, "Frozen blocks", "0: everything learns; 6: the last layer alone", low=0, high=6, step=1)
    start: str = setting("learned", "Start from", choices=STARTS)
    examples: int = setting(2, "Examples of each", low=1, high=30, step=1)
    noise: int = setting(64, "Noise", "Standard deviation, in levels of 255", low=0, high=128, step=8)
    permuted: bool = setting(False, "Permute the labels")
    steps: int = setting(40, "Steps", "Of the optimiser", low=1, high=200, step=1)
    rate: float = setting(5e-4, "Learning rate", low=1e-6, high=0.1)
    seed: int = setting(42, "Seed", "Of the examples, the noise and the last layer", low=0, high=SEED_LIMIT, step=1)


# ----------------------------------------------------------------------------------------------------- texture or shape

TEXTURES = {  # the first belongs to the first shape, and so on
    "across": "stripes across",
    "upright": "stripes upright",
    "rising": "stripes rising",
    "falling": "stripes falling",
    "checks": "checks",
    "dots": "dots",
    "waves": "waves",
    "grid": "a grid",
    "bricks": "bricks",
    "soft": "soft spots",
    "fine noise": "fine noise",
    "coarse noise": "coarse noise",
}
_RANDOM_TEXTURES = "Share of training pictures that wear another texture"


@dataclass(frozen=True, kw_only=True)
class TextureSettings(Checked):
    """Two networks on one clock; they learn the same silhouettes in the same colours."""

    network: str = setting("cnn", "Network A", choices=NETWORKS)
    share: float = setting(
        0.0, "Random textures, A", _RANDOM_TEXTURES, noun="Random textures of A", low=0, high=1, step=0.05
    )
    period: int = setting(6, "Period", "Of the textures, in pixels", low=4, high=10, step=2)
    steps: int = setting(150, "Steps", "Of the optimiser", low=1, high=600, step=1)
    batch: int = setting(64, "Batch", "Pictures a step", low=8, high=256, step=8)
    rate: float = setting(1e-3, "Learning rate", low=1e-5, high=0.1)
    seed: int = setting(42, "Seed", "Of the weights and the pictures", low=0, high=SEED_LIMIT, step=1)
    network_b: str = setting("cnn", "Network B", choices=NETWORKS)
    share_b: float = setting(
        1.0, "Random textures, B", _RANDOM_TEXTURES, noun="Random textures of B", low=0, high=1, step=0.05
    )
