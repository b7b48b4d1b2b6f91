"""What can be set in each lesson: the page's controls, the endpoints' arguments and their limits."""

from dataclasses import dataclass

from pipelines.settings import SEED_LIMIT, Checked, setting

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
