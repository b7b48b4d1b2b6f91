"""Order does not matter: which functions of a node's neighbours give the same answers however the nodes are numbered.

A layer takes features X (n, d) and neighbours A (n, n) to new features F(X, A). It is *valid*, permutation equivariant,
where F(PX, PAP^T) = P F(X, A) for every permutation P (Hamilton et al. 2017, https://arxiv.org/abs/1706.02216, section
3.3; Zaheer et al. 2017, https://arxiv.org/abs/1703.06114, theorem 2 for the sums). If every layer is, so is any number
of them: the induction is a sum of zeros. Here a node's neighbours are a *list*, in the order of their numbers, and a
function that reads the list from left to right is not valid. Numbers are float64, so that rounding is out of the way.
"""

import math
import re
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.cues.positions import shift_error, sinusoids
from pipelines.cues.settings import FUNCTIONS, MOST_NODES, EquivarianceSettings
from pipelines.cues.verdicts import of_equivariance
from pipelines.errors import UserError
from pipelines.settings import SEED_LIMIT, shown
from pipelines.world import storybook

WIDTH = 8  # of every layer's output
TRIALS = 10  # random permutations beside the one that is shown
TOLD = ("noun", "colour", "across", "down")  # what is known of an object of a scene


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes with features, and who is whose neighbour."""

    names: tuple[str, ...]  # (n,)
    features: Tensor  # (n, d) float64
    joined: Tensor  # (n, n) bool: row i, the neighbours of i
    edges: Tensor  # (n, n) float64, a number that belongs to the edge; 0 where there is none
    places: np.ndarray  # (n, 2) where to draw each node, 0 to 1
    picture: np.ndarray | None = None  # (H, W, 3) uint8, the scene

    def renumbered(self, order: Tensor) -> "Graph":
        """P of everything: node `order[0]` comes first."""
        return Graph(
            names=tuple(self.names[i] for i in order.tolist()),
            features=self.features[order],
            joined=self.joined[order][:, order],
            edges=self.edges[order][:, order],
            places=self.places[order.numpy()],
            picture=self.picture,
        )


@dataclass(frozen=True, kw_only=True)
class Renumbered:
    """A function on a graph and on the same graph with its nodes numbered anew. Everything float64 unless said."""

    graph: Graph
    order: tuple[int, ...]  # (n,) old number of the node that now has number 0, 1, …
    before: np.ndarray  # (n, WIDTH) P F(X, A)
    after: np.ndarray  # (n, WIDTH) F(PX, PAP^T)
    difference: float  # the largest of |before - after|
    most: float  # the largest over TRIALS further permutations and this one
    float32: float  # the same as `difference`, everything computed in float32
    by_depth: np.ndarray  # (depth,) `difference` after one layer, two, …
    table: dict[str, float]  # the largest difference of every function, for this permutation and depth
    shift_error: float  # largest |f(t + shift) - M f(t)| over 64 positions t
    seconds: float

    @property
    def moved(self) -> bool:
        """Whether the permutation moves any node."""
        return self.order != tuple(range(len(self.order)))


# ------------------------------------------------------------------------------------------------------ the functions


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What the layers of all functions are made of, so that they can be told apart by nothing but the function."""

    own: Tensor  # (d, WIDTH)
    other: Tensor  # (d, WIDTH) of neighbours
    places: Tensor  # (MOST_NODES, d, WIDTH), one for each place in the list
    offset: Tensor  # (WIDTH,)
    attend: Tensor  # (2, WIDTH) a of GAT: of the node, of its neighbour
    gate_in: Tensor  # (3 * WIDTH, d) reset, update and new, in torch's order
    gate_past: Tensor  # (3 * WIDTH, WIDTH)


def weights(inside: int, rng: torch.Generator) -> Weights:
    """Normal, of variance 1 / inputs; float64."""

    def drawn(*shape: int, inputs: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64) / math.sqrt(inputs)

    return Weights(
        own=drawn(inside, WIDTH, inputs=inside),
        other=drawn(inside, WIDTH, inputs=inside),
        places=drawn(MOST_NODES, inside, WIDTH, inputs=inside),
        offset=drawn(WIDTH, inputs=WIDTH),
        attend=drawn(2, WIDTH, inputs=WIDTH),
        gate_in=drawn(3 * WIDTH, inside, inputs=inside),
        gate_past=drawn(3 * WIDTH, WIDTH, inputs=WIDTH),
    )


def _largest(messages: Tensor, joined: Tensor) -> Tensor:
    """(n, n, k) -> (n, k): the largest over neighbours, element by element; 0 where there is none."""
    found = messages.masked_fill(~joined[..., None], -math.inf).amax(1)
    return found.masked_fill(~joined.any(1, keepdim=True), 0)


def places_in_list(joined: Tensor) -> Tensor:
    """(n, n) integers: at which place of i's list of neighbours j stands. Means nothing where they are not joined."""
    return (joined.cumsum(1) - 1).clamp(min=0)


def gru(x: Tensor, joined: Tensor, w: Weights) -> Tensor:
    """(n, WIDTH): the last state of a GRU that reads each node's neighbours in the order of their numbers.

    Cho et al. 2014, https://arxiv.org/abs/1406.1078, equations 5 to 8, in torch's arrangement, without biases.
    """
    states = []
    for row in joined:
        state = x.new_zeros(WIDTH)
        for neighbour in x[row]:
            reset_in, update_in, new_in = (w.gate_in @ neighbour).chunk(3)
            reset_past, update_past, new_past = (w.gate_past @ state).chunk(3)
            reset, update = torch.sigmoid(reset_in + reset_past), torch.sigmoid(update_in + update_past)
            state = (1 - update) * torch.tanh(new_in + reset * new_past) + update * state
        states.append(state)
    return torch.stack(states)


def attention(x: Tensor, joined: Tensor, w: Weights) -> Tensor:
    """(n, WIDTH): neighbours weighted by what node and neighbour say of each other (GAT, Velickovic et al. 2018,
    https://arxiv.org/abs/1710.10903, equations 1 to 4, one head)."""
    told = x @ w.other
    scores = F.leaky_relu((told @ w.attend[0])[:, None] + (told @ w.attend[1])[None, :], 0.2)
    shares = scores.masked_fill(~joined, -math.inf).softmax(1).nan_to_num(0)  # a row of no neighbours is NaN
    return shares @ told


def aggregate(function: str, x: Tensor, joined: Tensor, edges: Tensor, w: Weights) -> Tensor:
    """(n, WIDTH): what each node is told by its neighbours. `function` is a key of FUNCTIONS."""
    if function == "sum":
        return joined.to(x.dtype) @ x @ w.other
    if function == "mean":
        return joined.to(x.dtype) @ x @ w.other / joined.sum(1, keepdim=True).clamp(min=1)
    if function == "gru":
        return gru(x, joined, w)
    if function in ("attention", "attention_positions"):
        return attention(x, joined, w)
    if function == "max_place":
        everywhere = x @ w.places  # (MOST_NODES, n, WIDTH): each node, were it at each place of a list
        told = everywhere[places_in_list(joined), torch.arange(len(x))]
    else:  # the pooling of GraphSAGE, section 3.3, equation 3, before its last matrix
        told = (x @ w.other + w.offset).relu()[None].expand(len(x), -1, -1)
        if function == "max_edge":
            told = told * edges[..., None]
    return _largest(told, joined)


def layer(function: str, x: Tensor, joined: Tensor, edges: Tensor, w: Weights) -> Tensor:
    """(n, WIDTH): a node's own part and its neighbours'."""
    return x @ w.own + aggregate(function, x, joined, edges, w)


def network(function: str, graph: Graph, layers: list[Weights], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """F(X, A) after each of the layers, (n, WIDTH); tanh in between."""
    x, edges = graph.features.to(dtype), graph.edges.to(dtype)
    if function == "attention_positions":
        x = x + sinusoids(torch.arange(len(x)), x.shape[1]).to(dtype)
    found: list[Tensor] = []
    for w in layers:
        same = Weights(**{name: value.to(dtype) for name, value in vars(w).items()})
        x = layer(function, x.tanh() if found else x, graph.joined, edges, same)
        found.append(x)
    return found


def differences(
    function: str, graph: Graph, layers: list[Weights], order: Tensor, dtype: torch.dtype = torch.float64
) -> list[tuple[Tensor, Tensor]]:
    """P F(X, A) and F(PX, PAP^T) after each layer."""
    before = network(function, graph, layers, dtype)
    after = network(function, graph.renumbered(order), layers, dtype)
    return [(one[order], two) for one, two in zip(before, after, strict=True)]


def gap(pair: tuple[Tensor, Tensor]) -> float:
    return float((pair[0] - pair[1]).abs().max())


# -------------------------------------------------------------------------------------------------------- the graphs


def scene_graph(nodes: int, seed: int) -> Graph:
    """Objects of a drawn scene, on a grid; neighbours are those next to each other, left, right, above or below.

    The number on an edge is how far apart the two are, in sides of the picture.
    """
    rng = np.random.default_rng(seed)
    columns = math.ceil(math.sqrt(nodes))
    rows = math.ceil(nodes / columns)
    cells = [(i % columns, i // columns) for i in range(nodes)]
    jitter = rng.uniform(-0.1, 0.1, (nodes, 2))
    places = (np.array(cells) + 0.5 + jitter) / (columns, rows)
    nouns = rng.choice(storybook.NOUNS, nodes, replace=False).tolist()
    colours = [str(rng.choice(list(storybook.COLOURS))) if noun in storybook.THINGS else None for noun in nouns]
    scene = storybook.compose(
        list(zip(nouns, colours, strict=True)),
        [(x, y, 0.7 / max(columns, rows)) for x, y in places.tolist()],
        str(rng.choice(list(storybook.PLACES))),
        (2 * storybook.SIZE,) * 2,
        int(rng.integers(SEED_LIMIT)),
    )
    apart = np.abs(np.array(cells)[:, None] - np.array(cells)[None]).sum(2)
    joined = torch.from_numpy(apart == 1)
    palette = [None, *storybook.COLOURS]
    features = torch.cat(
        [
            F.one_hot(torch.tensor([storybook.NOUNS.index(noun) for noun in nouns]), len(storybook.NOUNS)).double(),
            F.one_hot(torch.tensor([palette.index(colour) for colour in colours]), len(palette)).double(),
            torch.from_numpy(places),
        ],
        dim=1,
    )
    far = torch.from_numpy(np.linalg.norm(places[:, None] - places[None], axis=2))
    return Graph(
        names=tuple(each.phrase for each in scene.objects),
        features=features,
        joined=joined,
        edges=far * joined,
        places=places,
        picture=scene.picture,
    )


def pairs(text: str, nodes: int) -> list[tuple[int, int]]:
    """ "1-2, 2-3" as [(0, 1), (1, 2)].

    Raises:
        UserError: for what is no pair of two different nodes of the graph.
    """
    found = []
    for part in filter(None, (each.strip() for each in re.split(r"[,;\n]", text))):
        match = re.fullmatch(r"(\d{1,3})\s*[-–]\s*(\d{1,3})", part)
        ends = [int(end) - 1 for end in match.groups()] if match else []
        if len(set(ends)) < 2 or not all(0 <= end < nodes for end in ends):
            raise UserError(
                "{part} is no edge. Write pairs of two different nodes, from 1 to {nodes}, as in 1-2, 2-3.",
                part=shown(part),
                nodes=nodes,
            )
        found.append((ends[0], ends[1]))
    return found


def drawn_graph(nodes: int, edges: str, seed: int) -> Graph:
    """Nodes on a circle, with random features, joined as the text says; random numbers on the edges.

    Raises:
        UserError: for edges that are none.
    """
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(nodes, WIDTH, generator=rng, dtype=torch.float64)
    numbers = torch.rand(nodes, nodes, generator=rng, dtype=torch.float64) + 0.5
    joined = torch.zeros(nodes, nodes, dtype=torch.bool)
    for one, two in pairs(edges, nodes):
        joined[one, two] = joined[two, one] = True
    angle = 2 * np.pi * np.arange(nodes) / nodes
    return Graph(
        names=tuple(str(i + 1) for i in range(nodes)),
        features=features,
        joined=joined,
        edges=(numbers + numbers.T) / 2 * joined,
        places=0.5 + 0.42 * np.stack([np.sin(angle), -np.cos(angle)], 1),
    )


def graph_of(settings: EquivarianceSettings) -> Graph:
    """Raises UserError for edges that are none."""
    if settings.graph == "scene":
        return scene_graph(settings.nodes, settings.seed)
    return drawn_graph(settings.nodes, settings.edges, settings.seed)


def order_of(settings: EquivarianceSettings) -> Tensor:
    """(n,) the old number of the node that now comes first, second, …

    Raises:
        UserError: for an order that does not name every node once.
    """
    if not settings.order:
        return torch.randperm(settings.nodes, generator=torch.Generator().manual_seed(settings.seed))
    words = re.split(r"[\s,;]+", settings.order.strip(" ,;"))
    wanted = [str(i + 1) for i in range(settings.nodes)]
    if sorted(words) != sorted(wanted):
        raise UserError(
            "The new order names each node from 1 to {nodes} once, as in {example}; got {order}.",
            nodes=settings.nodes,
            example=" ".join(reversed(wanted)),
            order=shown(settings.order),
        )
    return torch.tensor([int(word) - 1 for word in words])


# ---------------------------------------------------------------------------------------------------------- the lesson


def run(settings: EquivarianceSettings) -> Renumbered:
    """The chosen function on a graph and on the same graph, renumbered; milliseconds.

    Raises:
        UserError: for edges or an order that are none.
    """
    start = time.perf_counter()
    graph, order = graph_of(settings), order_of(settings)
    rng = torch.Generator().manual_seed(settings.seed)
    layers = [weights(graph.features.shape[1] if not i else WIDTH, rng) for i in range(settings.depth)]
    shown_pairs = differences(settings.function, graph, layers, order)
    gaps = [gap(pair) for pair in shown_pairs]
    others = [torch.randperm(settings.nodes, generator=rng) for _ in range(TRIALS)]
    return Renumbered(
        graph=graph,
        order=tuple(order.tolist()),
        before=shown_pairs[-1][0].numpy(),
        after=shown_pairs[-1][1].numpy(),
        difference=gaps[-1],
        most=max(gaps[-1], *(gap(differences(settings.function, graph, layers, other)[-1]) for other in others)),
        float32=gap(differences(settings.function, graph, layers, order, torch.float32)[-1]),
        by_depth=np.array(gaps),
        table={name: gap(differences(name, graph, layers, order)[-1]) for name in FUNCTIONS},
        shift_error=shift_error(settings.shift),
        seconds=time.perf_counter() - start,
    )


def numbers(settings: EquivarianceSettings, found: Renumbered, guess: str | None = None) -> dict:
    """The JSON of the endpoint. The baseline is the sum, which is valid: what it differs by is rounding."""
    return {
        "seed": settings.seed,
        "steps": 0,
        "seconds": round(found.seconds, 3),
        "function": settings.function,
        "nodes": list(found.graph.names),
        "order": [i + 1 for i in found.order],
        "before": found.before.tolist(),
        "after": found.after.tolist(),
        "difference": found.difference,
        "difference_most": found.most,
        "difference_float32": found.float32,
        "difference_by_depth": found.by_depth.tolist(),
        "differences": found.table,
        "shift_error": found.shift_error,
        "baseline": {"sum": found.table["sum"], "trials": TRIALS},
        "verdict": of_equivariance(found, guess).record(),
    }
