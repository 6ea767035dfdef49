"""Chance levels: known values of small trees, and reproducibility from the seed."""

import numpy as np
import pytest

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.score.chance import chance, random_prediction, random_tree, star
from mothr.benchmark.score.metrics import METRICS

PAIRS = Prediction(ModelGraph({"a": (), "b": ("a",), "x": (), "y": ("x",)}), relations={"b": "finetune", "y": "merge"})


def test_half_of_the_random_trees_of_two_nodes_are_correct():
    levels = chance(PAIRS, np.random.default_rng(0), draws=150)
    assert levels["edge_f1"] == pytest.approx(0.5, abs=0.08)
    assert levels["undirected_f1"] == 1.0  # in a known tree of two nodes, the pair is always adjacent
    assert levels["tree_count_error"] == 1.0  # without the partition, a random prediction is one tree
    assert levels["ece"] == pytest.approx(1 / 3, abs=0.06)  # mean of |u + v| / 2, both uniform on [-1, 1]
    assert levels["motif_accuracy"] > 0.3


def test_the_better_shape_counts_and_known_levels_are_used():
    star_shaped = Prediction(ModelGraph({f"{node}": ("0",) if node else () for node in range(12)}))
    levels = chance(star_shaped, np.random.default_rng(0), draws=60)
    assert set(levels) == set(METRICS)
    trees, stars = [], []
    rng = np.random.default_rng(1)
    for _ in range(100):
        for shape, values in ((random_tree, trees), (star, stars)):
            values.append(
                METRICS["shd"].function(star_shaped.graph, random_prediction(star_shaped.graph, shape, rng, True).graph)
            )
    assert levels["shd"] == pytest.approx(min(np.mean(trees), np.mean(stars)), abs=1.5)
    assert levels["direction_accuracy"] == METRICS["direction_accuracy"].chance
    assert levels["relation_f1"] is None  # the truth has no relations
    assert levels == chance(star_shaped, np.random.default_rng(0), draws=60)


@pytest.mark.parametrize("shape", [random_tree, star])
def test_a_random_prediction_is_one_tree_for_each_given_tree(shape):
    rng = np.random.default_rng(2)
    assert {random_prediction(PAIRS.graph, shape, rng, True).graph.trees for _ in range(5)} == {PAIRS.graph.trees}
    whole = random_prediction(PAIRS.graph, shape, rng, False)
    assert len(whole.graph.trees) == 1
    assert set(whole.confidence) == set(whole.graph.edges)
    assert random_prediction(ModelGraph({}), shape, rng, False).graph.nodes == ()


def test_the_empty_graph():
    levels = chance(Prediction(ModelGraph({})), np.random.default_rng(0), draws=2)
    assert levels["root_accuracy"] is None
    assert levels["edge_f1"] == 1.0
