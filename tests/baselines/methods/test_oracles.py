"""The oracle methods: right where the truth that they are given decides, and legal in both settings."""

import numpy as np
import pytest
import torch

from mothr.baselines.methods.oracles import MOTHER_TRUE_DIRECTION, OracleSpanningTree, OracleStar
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.run.method import needs
from mothr.benchmark.score.edges import direction_accuracy, edge_accuracy
from mothr.benchmark.side_information import SideInformation

SHAPE = (None, 0, 0, 1, 1, 2, 2)
ORACLES = [OracleStar(), OracleSpanningTree(), MOTHER_TRUE_DIRECTION]


@pytest.fixture
def forest(write_models):
    """Returns (models, truth) of two trees of seven models, far apart."""
    generator = torch.Generator().manual_seed(0)
    contents, parents = {}, {}
    for tree in "ab":
        for node, above in enumerate(SHAPE):
            size = 1.0 if above is None else 0.01
            old = 0 if above is None else contents[f"{tree}{above}"]["attention.output.dense.weight"]
            contents[f"{tree}{node}"] = {
                "attention.output.dense.weight": old + size * torch.randn(24, 24, generator=generator)
            }
            parents[f"{tree}{node}"] = () if above is None else (f"{tree}{above}",)
    return write_models(contents), ModelGraph(parents)


def given(models, truth, known):
    trees = {node: label for label, tree in enumerate(truth.trees) for node in tree}
    return models.with_given(SideInformation(trees=trees if known else None, tree_count=len(truth.trees), truth=truth))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("method", ORACLES)
def test_trees_and_directions_are_right(forest, method, known):
    models, truth = forest
    result = method(given(models, truth, known), np.random.default_rng(0)).graph
    assert result.trees == truth.trees
    assert result.roots == truth.roots
    assert direction_accuracy(truth, result) == 1.0


@pytest.mark.parametrize("known", [True, False])
def test_what_each_is_worth(forest, known):
    models, truth = forest
    scores = [
        edge_accuracy(truth, method(given(models, truth, known), np.random.default_rng(0)).graph) for method in ORACLES
    ]
    assert scores[0] == pytest.approx(4 / 12)  # the roots' children alone
    assert scores[1] == 1.0


@pytest.mark.parametrize("method", [OracleStar(), OracleSpanningTree()])
@pytest.mark.parametrize("known", [True, False])
def test_chance_plays_no_part_and_names_none(forest, method, known):
    models, truth = forest
    models_with_truth = given(models, truth, known)
    new = {node: f"{(5 * place) % 14:02}" for place, node in enumerate(models.ids)}
    first = method(models_with_truth, np.random.default_rng(0))
    assert method(models_with_truth, np.random.default_rng(1)) == first
    assert method(models_with_truth.relabel(new), np.random.default_rng(2)) == first.relabel(new)


@pytest.mark.parametrize("method", [OracleStar(), OracleSpanningTree()])
def test_open_gives_each_true_root_a_tree_even_where_distance_would_not(write_models, method):
    # Both roots lie close together, their children far out: an unrooted tree would be cut in the wrong place.
    places = {"r": 0.0, "s": 0.1, "c": -5.0, "d": 5.0, "e": 9.0}
    models = write_models({name: {"weight": torch.full((4, 4), place)} for name, place in places.items()})
    truth = ModelGraph({"r": (), "s": (), "c": ("r",), "d": ("s",), "e": ("d",)})
    result = method(models.with_given(SideInformation(truth=truth)), np.random.default_rng(0)).graph
    assert result.roots == ("r", "s")
    assert result.trees == truth.trees
    if isinstance(method, OracleSpanningTree):
        assert result == truth


def test_a_merge_of_two_trees_is_rooted_where_most_descend_from(write_models):
    places = {"a": 0.0, "b": 10.0, "c": 9.0, "m": 5.0}
    models = write_models({name: {"weight": torch.full((4, 4), place)} for name, place in places.items()})
    truth = ModelGraph({"a": (), "b": (), "c": ("b",), "m": ("a", "c")})
    for method in (OracleStar(), OracleSpanningTree()):
        result = method(given(models, truth, known=True), np.random.default_rng(0)).graph
        assert result.roots == ("b",)
        assert len(method(given(models, truth, known=False), np.random.default_rng(0)).graph.roots) == 2


@pytest.mark.parametrize("method", ORACLES)
def test_the_truth_must_be_given(forest, method):
    models, _ = forest
    assert "truth" in needs(method)
    with pytest.raises(MothrError, match="needs the truth"):
        method(models, np.random.default_rng(0))


@pytest.mark.parametrize("kind", [OracleStar, OracleSpanningTree])
def test_the_distance_must_be_symmetric(kind):
    with pytest.raises(MothrError, match="not symmetric"):
        kind(distance="signed_max")
