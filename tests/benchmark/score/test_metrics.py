"""The metrics: values of small graphs computed by hand, and properties of all graphs."""

import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.score.edges import direction_accuracy
from mothr.benchmark.score.metrics import METRICS, catalogue, per_tree, score

settings.register_profile("no deadline", deadline=None)  # a slow machine is not a failure
settings.load_profile("no deadline")
EMPTY = ModelGraph({})


def graph(**parents):
    """Returns the graph with ``node="its parents, one letter each"``."""
    return ModelGraph({node: tuple(named) for node, named in parents.items()})


def vthr(trees=1):
    """Returns a forest of trees with the shape of VTHR: a root, its 4 children, their 16 children."""
    parents = {}
    for tree in range(trees):
        parents[f"{tree}"] = ()
        for child in range(4):
            parents[f"{tree}{child}"] = (f"{tree}",)
            parents |= {f"{tree}{child}{grandchild}": (f"{tree}{child}",) for grandchild in range(4)}
    return ModelGraph(parents)


def rerooted(truth, root):
    """Returns the same undirected tree with all edges directed away from ``root``."""
    neighbours = {node: [*truth.parents[node], *truth.children(node)] for node in truth.nodes}
    parents, queue = {root: ()}, [root]
    for node in queue:
        for neighbour in neighbours[node]:
            if neighbour not in parents:
                parents[neighbour] = (node,)
                queue.append(neighbour)
    return ModelGraph(parents)


@st.composite
def dags(draw, min_size=0, nodes=None):
    """Draws a Model Graph: forests, single nodes, merges, or the empty graph."""
    size = len(nodes) if nodes is not None else draw(st.integers(min_size, 9))
    names = draw(st.permutations(nodes if nodes is not None else [f"n{index}" for index in range(size)]))
    most = draw(st.sampled_from([1, 1, 3]))
    parents = {}
    for index, node in enumerate(names):
        parents[node] = tuple(draw(st.sets(st.sampled_from(names[:index]), max_size=most))) if index else ()
    return ModelGraph(parents)


@st.composite
def pairs(draw):
    """Draws two graphs of the same nodes."""
    truth = draw(dags())
    return truth, draw(dags(nodes=truth.nodes))


# Properties of all graphs


@given(dags())
def test_truth_scores_perfectly(truth):
    for rows in ([score(truth, truth)], per_tree(truth, truth)):
        for row in rows:
            for name, value in row.items():
                if name != "tree" and value is not None:
                    assert value == pytest.approx(1.0 if METRICS[name].better == "higher" else 0.0), name


@given(dags(min_size=1))
def test_metrics_of_graphs_are_undefined_only_without_instances(truth):
    undefined = {name for name, value in score(truth, truth).items() if value is None}
    expected = {
        name for name, metric in METRICS.items() if metric.inputs == "predictions"
    }  # a bare graph says nothing else
    expected |= {"direction_accuracy"} if not truth.edges else set()
    assert undefined == expected | ({"motif_accuracy"} if len(truth.nodes) < 3 else set())


@given(pairs())
def test_values_are_in_range(both):
    truth, predicted = both
    for row in [score(truth, predicted), *per_tree(truth, predicted)]:
        for name, value in row.items():
            if name != "tree" and value is not None:
                assert METRICS[name].low <= value <= METRICS[name].high + 1e-12, name


@given(pairs(), st.randoms(use_true_random=False))
def test_names_have_no_effect(both, generator):
    truth, predicted = both
    names = [f"m{index}" for index in range(len(truth.nodes))]
    generator.shuffle(names)
    new = dict(zip(truth.nodes, names, strict=True))
    before, after = score(truth, predicted), score(truth.relabel(new), predicted.relabel(new))
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name] == (None if value is None else pytest.approx(value)), name


@given(pairs())
def test_symmetries(both):
    truth, predicted = both
    forward, backward = score(truth, predicted), score(predicted, truth)
    for name in (
        "edge_f1",
        "ancestor_f1",
        "undirected_f1",
        "shd",
        "root_accuracy",
        "adjusted_rand",
        "tree_count_error",
    ):
        assert forward[name] == (None if backward[name] is None else pytest.approx(backward[name])), name
    assert forward["direction_accuracy"] == backward["direction_accuracy"]
    assert forward["edge_precision"] == backward["edge_recall"]
    assert forward["root_precision"] == backward["root_recall"]


@given(dags())
def test_reversing_every_edge_preserves_the_skeleton(truth):
    reversed_ = ModelGraph.from_edges(truth.nodes, [(child, parent) for parent, child in truth.edges])
    values = score(truth, reversed_)
    assert values["undirected_f1"] == 1.0
    assert values["shd"] == len(truth.edges)
    assert values["edge_f1"] == (0.0 if truth.edges else 1.0)
    assert values["direction_accuracy"] == (0.0 if truth.edges else None)


@given(pairs())
def test_edge_accuracy_is_recall(both):
    values = score(*both)
    assert values["edge_accuracy"] == values["edge_recall"]


# Values computed by hand. Truth: a -> b, a -> c, b -> d, b -> e.

TREE = graph(a="", b="a", c="a", d="b", e="b")


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        pytest.param(
            graph(a="", b="a", c="a", d="b", e="d"),  # e is one edge too low
            {
                "edge_precision": 3 / 4, "edge_recall": 3 / 4, "edge_f1": 3 / 4, "edge_accuracy": 3 / 4,
                "ancestor_f1": 12 / 13,  # a:bcde b:de, against the same and d:e
                "root_accuracy": 1, "root_precision": 1, "root_recall": 1, "direction_accuracy": 1, "undirected_f1": 3 / 4,
                "shd": 2, "parent_hops": 1 / 5, "adjusted_rand": 1, "tree_count_error": 0, "false_parent_rate": 0,
            },
            id="one wrong parent",
        ),
        pytest.param(
            graph(b="", a="b", c="a", d="b", e="b"),  # b is the root: one edge is reversed
            {
                "edge_precision": 3 / 4, "edge_recall": 3 / 4, "direction_accuracy": 3 / 4, "undirected_f1": 1, "shd": 1,
                "ancestor_f1": 2 * 3 / (6 + 5),  # a:bcde b:de against b:acde a:c; shared a:c b:d b:e
                "root_accuracy": 0, "root_precision": 0, "root_recall": 0, "false_parent_rate": 1,
                # a: the virtual node, predicted b, 2 edges away. b: true parent a, predicted the virtual node, 1 edge.
                "parent_hops": (2 + 1) / 5,
            },
            id="wrong root",
        ),
        pytest.param(
            graph(a="", b="", c="", d="", e=""),
            {
                "edge_precision": 0, "edge_recall": 0, "edge_f1": 0, "ancestor_f1": 0, "root_accuracy": 1 / 5, "root_precision": 1 / 5,
                "root_recall": 1, "direction_accuracy": None, "undirected_f1": 0, "shd": 4, "parent_hops": (1 + 1 + 2 + 2) / 5,
                "adjusted_rand": 0, "adjusted_mutual_information": 0, "tree_count_error": 4, "false_parent_rate": 0,
            },
            id="no edge predicted",
        ),
        pytest.param(
            graph(a="", b="a", c="a", d="a", e="a"),  # a star
            {
                "edge_precision": 1 / 2, "edge_recall": 1 / 2, "ancestor_f1": 2 * 4 / (6 + 4), "root_accuracy": 1, "shd": 4,
                "parent_hops": 2 / 5, "undirected_f1": 1 / 2, "direction_accuracy": 1,
                # ten triples: parent with two children abc (correct), bde; grandparent abd, abe; one edge acd, ace, bcd, bce;
                # siblings d, e with a or c; no other triple is correct
                "motif_accuracy": (1 / 2 + 0 / 2 + 0 / 4 + 0 / 2) / 4,
            },
            id="star",
        ),
        pytest.param(
            graph(a="", b="a", c="", d="b", e="b"),  # the edge to c is missing
            {
                "edge_precision": 1, "edge_recall": 3 / 4, "edge_f1": 6 / 7, "root_accuracy": 4 / 5, "root_precision": 1 / 2,
                "root_recall": 1, "tree_count_error": 1, "shd": 1, "parent_hops": 1 / 5, "ancestor_f1": 10 / 11,
            },
            id="one edge missing",
        ),
    ],
)  # fmt: skip
def test_hand_computed(predicted, expected):
    result = score(TREE, predicted)
    for name, value in expected.items():
        assert result[name] == (None if value is None else pytest.approx(value)), name


def test_merges():
    truth = graph(a="", b="", m="ab")
    half = score(truth, graph(a="", b="", m="a"))
    assert half["edge_precision"] == 1.0
    assert half["edge_recall"] == 0.5
    assert half["root_accuracy"] == pytest.approx(2 / 3)  # m descends from both
    assert half["tree_count_error"] == 1.0
    # Predicted parent a: 0 hops to the nearest true parent. True parent b: 2 hops to a. (0 + (0 + 2) / 2) / 2, mean over 3 models.
    assert half["parent_hops"] == pytest.approx((0 + 1) / 2 / 3)
    assert half["shd"] == 1.0


def test_two_trees_predicted_as_one():
    truth = graph(a="", b="a", x="", y="x")
    predicted = graph(a="", b="a", x="b", y="x")
    result = score(truth, predicted)
    assert result["false_parent_rate"] == 0.5
    assert result["tree_count_error"] == 1.0
    assert result["adjusted_rand"] == 0.0
    assert result["edge_precision"] == pytest.approx(2 / 3)
    assert result["edge_recall"] == 1.0
    assert result["parent_hops"] == pytest.approx(2 / 4)  # b is two edges below the virtual node above all roots
    first, second = per_tree(truth, predicted)
    assert first["edge_f1"] == 1.0
    assert second["edge_precision"] == 0.5  # the edge from the other tree is wrong in this tree
    assert second["root_accuracy"] == 0.0
    assert second["parent_hops"] == pytest.approx(1 / 2)  # for this tree alone, b is a root of another tree


def test_empty_and_single():
    empty = score(EMPTY, EMPTY)
    assert empty["edge_f1"] == empty["ancestor_f1"] == empty["root_precision"] == 1.0
    assert empty["shd"] == empty["tree_count_error"] == 0.0
    for name in (
        "root_accuracy",
        "parent_hops",
        "adjusted_rand",
        "adjusted_mutual_information",
        "false_parent_rate",
        "motif_accuracy",
    ):
        assert empty[name] is None
    assert per_tree(EMPTY, EMPTY) == []
    single = graph(a="")
    assert score(single, single)["edge_f1"] == 1.0
    assert score(single, graph(a="b", b=""))["edge_f1"] == 0.0
    assert score(single, graph(a="b", b=""))["false_parent_rate"] == 1.0


def test_a_prediction_without_edges_is_not_precise():
    assert score(graph(a="", b="a"), graph(a="", b=""))["edge_precision"] == 0.0
    assert score(graph(a="", b=""), graph(a="", b="a"))["edge_recall"] == 0.0


# Known values for the shape of VTHR: 1 + 4 + 16 models


def test_perfect_skeleton_with_random_root_scores_91_percent():
    truth = vthr()
    accuracies = [score(truth, rerooted(truth, root))["edge_accuracy"] for root in truth.nodes]
    assert sum(accuracies) / len(accuracies) == pytest.approx(1 - (4 * 1 + 16 * 2) / 21 / 20)
    assert round(sum(accuracies) / len(accuracies), 2) == 0.91


def test_star_at_the_true_root_scores_20_percent():
    truth = vthr()
    result = score(truth, ModelGraph({node: () if node == "0" else ("0",) for node in truth.nodes}))
    assert result["edge_accuracy"] == pytest.approx(0.20)
    assert round(result["ancestor_f1"], 2) == 0.71


def test_per_tree_follows_the_trees():
    truth = vthr(3)
    wrong = dict(truth.parents) | {"10": (), "1": ("10",)}  # the root of the second tree is one of its children
    rows = per_tree(truth, ModelGraph(wrong))
    assert [row["tree"] for row in rows] == [0, 1, 2]
    assert [row["edge_accuracy"] for row in rows] == [1.0, 19 / 20, 1.0]
    assert [row["root_accuracy"] for row in rows] == [1.0, 0.0, 1.0]
    assert "adjusted_rand" not in rows[0]
    assert set(rows[0]) - {"tree"} == {name for name, metric in METRICS.items() if metric.per_tree}


@given(pairs())
def test_values_of_trees_add_up_to_those_of_the_forest(both):
    truth, predicted = both
    rows, whole = per_tree(truth, predicted), score(truth, predicted)
    assert sum(len(tree) * row["root_accuracy"] for tree, row in zip(truth.trees, rows, strict=True)) == pytest.approx(
        len(truth.nodes) * (whole["root_accuracy"] or 0)
    )
    correct = sum(
        len(truth.subgraph(tree).edges) * row["edge_recall"] for tree, row in zip(truth.trees, rows, strict=True)
    )
    assert correct == pytest.approx(len(truth.edges) * whole["edge_recall"])


def test_half_of_random_directions_are_correct():
    truth, generator = vthr(5), random.Random(0)
    result = []
    for _ in range(50):
        edges = [
            edge if generator.random() < 0.5 else edge[::-1] for edge in truth.edges
        ]  # a tree with any directions has no cycle
        result.append(direction_accuracy(truth, ModelGraph.from_edges(truth.nodes, edges)))
    assert np.mean(result) == pytest.approx(METRICS["direction_accuracy"].chance, abs=0.03)


# The table, and errors


def test_missing_models_are_named():
    with pytest.raises(MothrError, match=r"lacks 2 of the 5 models: d, e"):
        score(TREE, graph(a="", b="a", c="a"))
    with pytest.raises(MothrError, match="lacks"):
        per_tree(TREE, EMPTY)


def test_catalogue_describes_every_metric():
    rows = catalogue()
    assert [row["name"] for row in rows] == list(METRICS)
    assert all(isinstance(value, str) and value for row in rows for value in row.values())
    assert {row["name"]: row["range"] for row in rows}["shd"] == "[0, inf)"
    assert all(
        metric.low < metric.high and (metric.better == "lower" or metric.high == 1) for metric in METRICS.values()
    )
    assert math.isinf(METRICS["shd"].high)


def test_torch_is_not_imported():
    code = (
        "import sys, mothr.benchmark.score.metrics, mothr.benchmark.score.statistics; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
