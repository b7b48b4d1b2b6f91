"""Order does not matter: every function held against its definition and torch_geometric, and against a renumbering."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.cues import equivariance, positions, verdicts
from pipelines.cues.equivariance import aggregate, differences, gap, layer, numbers, pairs, run
from pipelines.cues.settings import FUNCTIONS, EquivarianceSettings
from pipelines.errors import UserError
from pipelines.world import storybook

VALID = ("sum", "mean", "max", "max_edge", "attention")
INVALID = ("max_place", "gru", "attention_positions")


def of(**known) -> equivariance.Renumbered:
    return run(EquivarianceSettings(**known))


@pytest.fixture(scope="module")
def graph():
    """Directed, with a node that has no neighbour."""
    rng = torch.Generator().manual_seed(3)
    joined = torch.rand(9, 9, generator=rng) < 0.4
    joined.fill_diagonal_(False)
    joined[4] = False
    edges = torch.rand(9, 9, generator=rng, dtype=torch.float64) * joined
    features = torch.randn(9, 5, generator=rng, dtype=torch.float64)
    names = tuple("abcdefghi")
    return equivariance.Graph(names=names, features=features, joined=joined, edges=edges, places=np.zeros((9, 2)))


def layers(inside: int, depth: int = 3) -> list[equivariance.Weights]:
    rng = torch.Generator().manual_seed(1)
    return [equivariance.weights(inside if not i else equivariance.WIDTH, rng) for i in range(depth)]


# --------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("source", ["scene", "drawn"])
@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_valid_functions_differ_by_rounding_and_invalid_ones_do_not(function, depth, source):
    found = of(function=function, depth=depth, graph=source)
    assert found.moved and found.before.shape == found.after.shape == (6, equivariance.WIDTH)
    assert abs(np.abs(found.before - found.after).max() - found.difference) < 1e-15
    if function in VALID:
        assert found.most < 1e-12 and found.float32 < 1e-4 and (found.by_depth < 1e-12).all()
    else:
        assert function in INVALID and found.most > 1e-2
    said = verdicts.of_equivariance(found, "valid")
    assert said.right is (function in VALID)


def test_every_permutation_of_five_nodes():
    import itertools

    graph = equivariance.drawn_graph(5, "1-2 , 2-3; 3-4, 4-5, 5-1, 1-3", 7)
    made = layers(equivariance.WIDTH)
    for function in VALID:
        orders = (torch.tensor(order) for order in itertools.permutations(range(5)))
        assert max(gap(differences(function, graph, made, order)[-1]) for order in orders) < 1e-12


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_order_changes_nothing(function):
    assert of(function=function, order="1 2 3 4 5 6").difference == 0


def test_a_list_of_one_has_no_order():
    """Where nobody has two neighbours even the functions that read a list are valid, and the run says so."""
    for function in ("max_place", "gru"):
        found = of(function=function, graph="drawn", nodes=2, edges="1-2", order="2 1")
        assert found.most < 1e-12 and verdicts.of_equivariance(found).answer == "valid"


def test_one_order_that_changes_nothing_proves_nothing():
    found = of(function="gru", order="1,2,3,4,5,6")
    said = verdicts.of_equivariance(found, "invalid")
    assert said.right and "another one" in said.text


# ------------------------------------------------------------------------------------------------------- definitions


@pytest.fixture(scope="module")
def layered():
    return pytest.importorskip("torch_geometric.nn")


def linked(graph) -> torch.Tensor:
    """(2, E) from neighbour to node."""
    node, neighbour = graph.joined.nonzero().T
    return torch.stack([neighbour, node])


def set_weights(module, **known) -> None:
    named = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in known.items():
            named[name.replace("__", ".")].copy_(value)


@pytest.mark.parametrize("function, theirs", [("sum", "add"), ("mean", "mean")])
def test_sum_and_mean_are_torch_geometrics(layered, graph, function, theirs):
    (w,) = layers(5, 1)
    peer = layered.GraphConv(5, equivariance.WIDTH, aggr=theirs, bias=False).double()
    set_weights(peer, lin_rel__weight=w.other.T, lin_root__weight=w.own.T)
    ours = layer(function, graph.features, graph.joined, graph.edges, w)
    assert torch.allclose(ours, peer(graph.features, linked(graph)), atol=1e-12)


def test_the_sum_is_gin_before_its_perceptron(layered, graph):
    (w,) = layers(5, 1)
    peer = layered.GINConv(torch.nn.Linear(5, equivariance.WIDTH, bias=False), eps=0.3).double()
    set_weights(peer, nn__weight=w.other.T)
    same = equivariance.Weights(**vars(w) | {"own": 1.3 * w.other})
    ours = layer("sum", graph.features, graph.joined, graph.edges, same)
    assert torch.allclose(ours, peer(graph.features, linked(graph)), atol=1e-12)


def test_the_maximum_is_graphsages_pooling(layered, graph):
    (w,) = layers(5, 1)
    peer = layered.SAGEConv((5, 5), 5, aggr="max", project=True, bias=False).double()
    square = w.other[:, :5]
    set_weights(
        peer, lin__weight=square.T, lin__bias=w.offset[:5], lin_l__weight=torch.eye(5), lin_r__weight=w.own[:, :5].T
    )
    same = equivariance.Weights(**vars(w) | {"other": square, "own": w.own[:, :5], "offset": w.offset[:5]})
    ours = layer("max", graph.features, graph.joined, graph.edges, same)
    assert torch.allclose(ours, peer(graph.features, linked(graph)), atol=1e-12)


def test_attention_is_gats(layered, graph):
    (w,) = layers(5, 1)
    peer = layered.GATConv(5, equivariance.WIDTH, add_self_loops=False, bias=False, residual=True).double()
    set_weights(peer, lin__weight=w.other.T, att_dst=w.attend[0], att_src=w.attend[1], res__weight=w.own.T)
    ours = layer("attention", graph.features, graph.joined, graph.edges, w)
    assert torch.allclose(ours, peer(graph.features, linked(graph)), atol=1e-12)


def test_the_gru_is_torchs(graph):
    (w,) = layers(5, 1)
    peer = torch.nn.GRU(5, equivariance.WIDTH, bias=False, batch_first=True).double()
    set_weights(peer, weight_ih_l0=w.gate_in, weight_hh_l0=w.gate_past)
    ours = aggregate("gru", graph.features, graph.joined, graph.edges, w)
    for node, row in enumerate(graph.joined):
        wanted = peer(graph.features[row][None])[1][0, 0] if row.any() else torch.zeros(equivariance.WIDTH)
        assert torch.allclose(ours[node], wanted.double(), atol=1e-12)


def test_maxima_by_place_and_by_edge_from_their_definitions(graph):
    (w,) = layers(5, 1)
    x = graph.features
    by_place = aggregate("max_place", x, graph.joined, graph.edges, w)
    by_edge = aggregate("max_edge", x, graph.joined, graph.edges, w)
    for node in range(9):
        neighbours = graph.joined[node].nonzero().flatten().tolist()
        if not neighbours:
            assert not by_place[node].any() and not by_edge[node].any(), "nobody says nothing"
            continue
        told = torch.stack([x[j] @ w.places[place] for place, j in enumerate(neighbours)])
        assert torch.allclose(by_place[node], told.amax(0), atol=1e-12)
        told = torch.stack([graph.edges[node, j] * (x[j] @ w.other + w.offset).relu() for j in neighbours])
        assert torch.allclose(by_edge[node], told.amax(0), atol=1e-12)


# --------------------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize("shift", [-64, -1, 0, 5, 64])
def test_a_shift_of_sinusoidal_positions_is_a_linear_map(shift):
    assert positions.shift_error(shift) < 1e-12
    product = positions.shift_matrix(shift, 16) @ positions.shift_matrix(-shift, 16)
    assert torch.allclose(product, torch.eye(16, dtype=torch.float64), atol=1e-12), "turns, undone by their inverse"


def test_sinusoids_are_the_papers():
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(…): section 3.5."""
    found = positions.sinusoids(torch.arange(5), 8)
    for at in range(5):
        for i in range(4):
            angle = at / 10000 ** (2 * i / 8)
            assert found[at, 2 * i] == pytest.approx(math.sin(angle), abs=1e-12)
            assert found[at, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-12)
    assert positions.sinusoids(torch.arange(5), 7).shape == (5, 7)


def test_clip_notices_moved_patches_only_without_their_positions():
    picture = Image.fromarray(storybook.scene(storybook.TEST[0]).picture)
    found = positions.run(picture)
    assert found.with_positions < 1e-12 and found.with_positions_float32 < 1e-4 and found.without > 1e-2
    assert found.grid == 8 and found.shuffled and found.moved.shape == found.picture.shape
    assert sorted(found.moved.flatten()) == sorted(found.picture.flatten()), "the same pixels elsewhere"
    said = json.loads(json.dumps(positions.numbers(found, 42, "without"), allow_nan=False))
    assert said["verdict"]["right"] is True


# ---------------------------------------------------------------------------------------------------------- the lesson


def test_nodes_of_a_scene_are_its_objects_and_neighbours_touch():
    graph = equivariance.scene_graph(6, 1)
    assert len(graph.names) == 6 and graph.picture is not None
    assert torch.equal(graph.joined, graph.joined.T) and graph.joined.sum() == 14, "a grid of three by two"
    assert ((graph.edges > 0) == graph.joined).all()
    order = torch.tensor([5, 4, 3, 2, 1, 0])
    again = graph.renumbered(order).renumbered(order)
    assert again.names == graph.names and torch.equal(again.edges, graph.edges)


@pytest.mark.parametrize("nodes", [2, 12])
@pytest.mark.parametrize("source", ["scene", "drawn"])
def test_fewest_and_most_nodes(nodes, source):
    assert of(nodes=nodes, graph=source, edges="1-2").most < 1e-12


@pytest.mark.parametrize("order", ["1 2 3", "1 1 2 3 4 5", "0 1 2 3 4 5", "six", "1 2 3 4 5 6 7"])
def test_an_order_that_is_none_is_refused(order):
    with pytest.raises(UserError, match="each node from 1 to 6 once"):
        of(order=order)


@pytest.mark.parametrize("edges", ["1-1", "1-7", "0-2", "a-b", "1-2-3", "1_2"])
def test_an_edge_that_is_none_is_refused(edges):
    with pytest.raises(UserError, match="is no edge"):
        of(graph="drawn", edges=edges)
    assert pairs(" 1-2, 2 - 3 ; ", 6) == [(0, 1), (1, 2)]


@pytest.mark.parametrize("known", [{"nodes": 1}, {"nodes": 13}, {"depth": 0}, {"function": "median"}, {"seed": -1}])
def test_settings_have_their_limits(known):
    with pytest.raises(UserError):
        EquivarianceSettings(**known)


def test_the_seed_decides():
    one, again, other = (of(seed=seed, function="gru") for seed in (1, 1, 2))
    assert np.array_equal(one.before, again.before) and one.most == again.most and one.most != other.most


def test_numbers_are_json_with_their_baselines():
    settings = EquivarianceSettings()
    said = json.loads(json.dumps(numbers(settings, run(settings), "invalid"), allow_nan=False))
    assert {"seed", "steps", "seconds", "baseline", "verdict"} <= set(said)
    assert said["verdict"]["right"] is False and set(said["differences"]) == set(FUNCTIONS)


def test_a_page_reads_controls_questions_and_answers_without_torch():
    command = "import sys; from pipelines.cues import settings, verdicts; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
