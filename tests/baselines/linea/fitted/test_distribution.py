"""Tests of the distribution over rooted forests, against a list of all forests of a few nodes."""

from itertools import product

import numpy as np
import pytest

from mothr.baselines.linea.fitted.distribution import ForestDistribution
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph


def forests(n):
    """Yields the parents, -1 for a root, of every rooted forest of n nodes."""
    for parents in product(range(-1, n), repeat=n):
        try:
            ModelGraph({str(child): () if parent < 0 else (str(parent),) for child, parent in enumerate(parents)})
        except MothrError:
            continue
        yield parents


def total(parents, edges, roots):
    return sum(roots[child] if parent < 0 else edges[parent, child] for child, parent in enumerate(parents))


@pytest.fixture(params=range(3))
def scores(request):
    rng = np.random.default_rng(request.param)
    return rng.normal(scale=2.0, size=(4, 4)), rng.normal(scale=2.0, size=4)


def by_enumeration(edges, roots):
    """Returns log Z and the probabilities of edges and roots by the sum over all forests."""
    listed = list(forests(len(roots)))
    weights = np.exp([total(parents, edges, roots) for parents in listed])
    edge_weights, root_weights = np.zeros_like(edges), np.zeros_like(roots)
    for parents, weight in zip(listed, weights, strict=True):
        for child, parent in enumerate(parents):
            if parent < 0:
                root_weights[child] += weight
            else:
                edge_weights[parent, child] += weight
    return np.log(weights.sum()), edge_weights / weights.sum(), root_weights / weights.sum()


def test_normaliser_and_probabilities_are_those_of_all_forests(scores):
    log_normaliser, edges, roots = by_enumeration(*scores)
    distribution = ForestDistribution.from_scores(*scores)
    assert distribution.log_normaliser == pytest.approx(log_normaliser, abs=1e-6)
    np.testing.assert_allclose(distribution.probabilities[0], edges, atol=1e-6)
    np.testing.assert_allclose(distribution.probabilities[1], roots, atol=1e-6)


def test_best_forest_has_the_most_expected_right_parents(scores):
    _, edges, roots = by_enumeration(*scores)
    expected = max(total(parents, edges, roots) for parents in forests(4))
    best = ForestDistribution.from_scores(*scores).best_forest()
    assert total(best, edges, roots) == pytest.approx(expected, abs=1e-6)


def test_restriction_gives_the_probability_of_the_allowed_forests(scores):
    edges, roots = scores
    allowed, allowed_roots = np.zeros((4, 4), bool), np.array([True, False, False, False])
    allowed[0, 1] = allowed[1, 2] = allowed[0, 3] = allowed[1, 3] = True
    weights = np.exp([total(parents, edges, roots) for parents in ((-1, 0, 1, 0), (-1, 0, 1, 1))])
    distribution = ForestDistribution.from_scores(edges, roots)
    restricted = distribution.restricted(allowed, allowed_roots)
    assert restricted.log_normaliser == pytest.approx(np.log(weights.sum()), abs=1e-6)
    assert restricted.probabilities[0][0, 3] == pytest.approx(weights[0] / weights.sum(), abs=1e-6)
    assert (restricted.best_forest() >= 0).tolist() == [False, True, True, True]


def test_a_constant_added_to_all_scores_into_a_node_changes_nothing(scores):
    edges, roots = scores
    shift = np.array([300.0, -40.0, 0.0, 1000.0])
    plain = ForestDistribution.from_scores(edges, roots)
    shifted = ForestDistribution.from_scores(edges + shift, roots + shift)
    np.testing.assert_allclose(shifted.probabilities[0], plain.probabilities[0], atol=1e-9)
    assert shifted.log_normaliser - plain.log_normaliser == pytest.approx(shift.sum(), abs=1e-6)


def test_extreme_scores_keep_probabilities_that_sum_to_one():
    """Two models that are equal prefer each other by far to all else; one of them must still have another parent."""
    edges = np.full((30, 30), -500.0)
    edges[0, 1] = edges[1, 0] = 500.0
    distribution = ForestDistribution.from_scores(edges, np.full(30, -500.0))
    probabilities, roots = distribution.probabilities
    np.testing.assert_allclose(probabilities.sum(axis=0) + roots, 1.0)
    assert probabilities[0, 1] == pytest.approx(0.5, abs=1e-3)
    assert probabilities[1, 0] == pytest.approx(0.5, abs=1e-3)


def test_one_model_is_a_root():
    distribution = ForestDistribution.from_scores(np.zeros((1, 1)), np.zeros(1))
    assert distribution.probabilities[1].tolist() == [1.0]
    assert distribution.best_forest().tolist() == [-1]


@pytest.mark.parametrize(
    ("edges", "roots", "message"),
    [
        (np.zeros((2, 3)), np.zeros(2), r"shape \(2, 3\)"),
        (np.full((2, 2), np.nan), np.zeros(2), "not finite"),
        (np.zeros((2, 2)), np.array([0.0, -np.inf]), "not finite"),
    ],
)
def test_malformed_scores_are_refused(edges, roots, message):
    with pytest.raises(MothrError, match=message):
        ForestDistribution.from_scores(edges, roots)


def test_under_the_condition_of_one_root_the_probabilities_are_those_of_all_trees(scores):
    edges, roots = scores
    listed = [parents for parents in forests(4) if parents.count(-1) == 1]
    weights = np.exp([total(parents, edges, roots) for parents in listed])
    wanted_edges, wanted_roots = np.zeros((4, 4)), np.zeros(4)
    for parents, weight in zip(listed, weights / weights.sum(), strict=True):
        for child, parent in enumerate(parents):
            if parent < 0:
                wanted_roots[child] += weight
            else:
                wanted_edges[parent, child] += weight
    distribution = ForestDistribution.from_scores(edges, roots)
    np.testing.assert_allclose(distribution.one_root_probabilities[0], wanted_edges, atol=1e-6)
    np.testing.assert_allclose(distribution.one_root_probabilities[1], wanted_roots, atol=1e-6)
    best = distribution.best_forest(one_root=True)
    assert (best < 0).sum() == 1
    assert total(best, wanted_edges, wanted_roots) == pytest.approx(
        max(total(parents, wanted_edges, wanted_roots) for parents in listed), abs=1e-6
    )


def test_where_no_tree_connects_all_nodes_there_are_as_few_roots_as_possible():
    distribution = ForestDistribution.from_scores(np.zeros((4, 4)), np.zeros(4))
    halves = np.kron(np.eye(2), np.ones((2, 2))) > 0
    apart = distribution.restricted(halves, np.ones(4, dtype=bool))
    assert (apart.best_forest(one_root=True) < 0).sum() == 2
