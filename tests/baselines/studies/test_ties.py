"""The number of optimal rootings of MoTHer, and the edge accuracy averaged over them."""

from dataclasses import replace

import numpy as np
import pytest

from mothr.baselines.methods.mother import MOTHER_V2, MoTHer
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.ties import TreeTies, tree_ties
from mothr.benchmark.run.in_process import predict
from mothr.benchmark.side_information import SideInformation

NAMES = [f"layers.0.attention.{part}_proj.weight" for part in "qkvo"]
NORM = MoTHer(direction="norm", direction_layers="matrices")


def line(rng, sizes):
    """Returns models in a line, each the parent of the next, whose norms are in the order of ``sizes``."""
    start, nodes = rng.normal(size=(len(NAMES), 16, 16)), []
    for place, size in enumerate(sizes):
        shift = np.zeros_like(start)
        shift[:, :, : place + 1] = 0.2  # neighbours in the line are nearest
        scaled = start + shift
        scaled *= size * np.linalg.norm(start) / np.linalg.norm(scaled)
        nodes.append((dict(zip(NAMES, scaled, strict=True)), [place - 1] if place else [], {}))
    return nodes


@pytest.fixture
def opened(tmp_path, write_dataset):
    """A function that writes nodes as a data set, opens it, and gives its models the partition."""

    def write(nodes):
        write_dataset(tmp_path / "data", nodes)
        data = OpenedDataset.open(tmp_path / "data")
        return data, data.models.with_given(SideInformation(trees=data.truth.trees, truth=data.graph))

    return write


def test_a_mean_over_two_rootings_of_which_one_is_right_is_one_half(opened):
    """The middle of three has the highest norm. So either end can be the root, with one of two edges against the score."""
    data, models = opened(line(np.random.default_rng(0), (1.0, 1.01, 1.0)))
    assert tree_ties(NORM, models, data.graph) == [TreeTies(rootings=2, edge_accuracy=0.5)]
    predicted = predict(NORM, models).graph
    assert len(set(predicted.edges) & set(data.graph.edges)) in (0, 2)  # the prediction is one of the two


def test_a_unique_optimum_has_the_accuracy_of_the_prediction(opened):
    data, models = opened(line(np.random.default_rng(1), (1.0, 1.01, 1.02)))
    assert tree_ties(NORM, models, data.graph) == [TreeTies(1, 1.0)]
    assert tree_ties(replace(NORM, direction="oracle"), models, data.graph) == [TreeTies(1, 1.0)]


def test_each_tree_has_its_own_count_and_a_single_model_has_no_accuracy(opened):
    rng = np.random.default_rng(2)
    first, lone = line(rng, (1.0, 1.01, 1.0)), line(rng, (1.0,))
    data, models = opened([*first, (lone[0][0], [], {})])
    by_size = {
        len(tree): ties for tree, ties in zip(data.graph.trees, tree_ties(NORM, models, data.graph), strict=True)
    }
    assert by_size == {3: TreeTies(2, 0.5), 1: TreeTies(1, None)}


def test_counts_of_predicted_trees_are_multiplied_if_the_partition_is_wrong(opened):
    rng = np.random.default_rng(3)
    nodes = line(rng, (1.0, 1.01, 1.0, 1.0, 1.01, 1.0))
    data, models = opened(nodes)
    order = [max(data.graph.nodes, key=data.graph.depth)]
    while data.graph.parents[order[-1]]:
        order.append(data.graph.parents[order[-1]][0])
    halves = models.with_given(SideInformation(trees={node: place // 3 for place, node in enumerate(order)}))
    [ties] = tree_ties(NORM, halves, data.graph)
    assert ties.rootings == 4
    assert ties.edge_accuracy == pytest.approx((4 * 0.5 + 0) / 5)  # the edge between the halves is never predicted


def test_the_coins_are_those_of_the_run(opened):
    data, models = opened(line(np.random.default_rng(4), (1.0, 1.01, 1.02, 1.03)))
    coin = replace(MOTHER_V2, direction="random")
    for seed in range(6):
        [ties] = tree_ties(coin, models, data.graph, seed)
        if ties.rootings == 1:
            edges = set(predict(coin, models, seed).graph.edges)
            assert ties.edge_accuracy == len(edges & set(data.graph.edges)) / 3
