"""What guessing scores: known numbers of small trees, and that it is drawn from nothing but its generator."""

import numpy as np
import pytest

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.score.chance import chance, guess, random_tree, star
from mothr.benchmark.score.metrics import METRICS

PAIRS = Prediction(ModelGraph({"a": (), "b": ("a",), "x": (), "y": ("x",)}), relations={"b": "finetune", "y": "merge"})


def test_trees_of_two_are_guessed_right_half_the_time():
    found = chance(PAIRS, np.random.default_rng(0), draws=150)
    assert found["edge_f1"] == pytest.approx(0.5, abs=0.08)
    assert found["undirected_f1"] == 1.0  # told that two models are one tree, who is adjacent is no question
    assert found["tree_count_error"] == 1.0  # told nothing: one tree
    assert found["ece"] == pytest.approx(1 / 3, abs=0.06)  # mean of |u + v| / 2, both even on [-1, 1]
    assert found["motif_accuracy"] > 0.3


def test_the_better_guess_counts_and_known_numbers_stand():
    star_shaped = Prediction(ModelGraph({f"{place}": ("0",) if place else () for place in range(12)}))
    found = chance(star_shaped, np.random.default_rng(0), draws=60)
    assert set(found) == set(METRICS)
    trees, stars = [], []
    rng = np.random.default_rng(1)
    for _ in range(100):
        for shape, values in ((random_tree, trees), (star, stars)):
            values.append(METRICS["shd"].function(star_shaped.graph, guess(star_shaped.graph, shape, rng, True).graph))
    assert found["shd"] == pytest.approx(min(np.mean(trees), np.mean(stars)), abs=1.5)
    assert found["direction_accuracy"] == METRICS["direction_accuracy"].chance
    assert found["relation_f1"] is None  # a truth without relations
    assert found == chance(star_shaped, np.random.default_rng(0), draws=60)


@pytest.mark.parametrize("shape", [random_tree, star])
def test_a_guess_is_one_tree_for_each_part(shape):
    rng = np.random.default_rng(2)
    assert {guess(PAIRS.graph, shape, rng, True).graph.trees for _ in range(5)} == {PAIRS.graph.trees}
    whole = guess(PAIRS.graph, shape, rng, False)
    assert len(whole.graph.trees) == 1
    assert set(whole.confidence) == set(whole.graph.edges)
    assert guess(ModelGraph({}), shape, rng, False).graph.nodes == ()


def test_nothing_to_guess():
    found = chance(Prediction(ModelGraph({})), np.random.default_rng(0), draws=2)
    assert found["root_accuracy"] is None
    assert found["edge_f1"] == 1.0
