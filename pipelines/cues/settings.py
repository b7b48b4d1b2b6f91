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

VICTIMS = {name: MODELS[name].title for name in ("storybook-clip-b", "storybook-detailclip")}
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
