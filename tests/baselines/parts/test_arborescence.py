"""Tests of spanning trees: the directed one against brute force and networkx, the undirected one against networkx."""

import time
from itertools import product

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mothr.baselines.parts.arborescence import arborescence, optimal_rootings, orient, spanning_tree
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph

settings.register_profile("no deadline", deadline=None)  # a busy machine is not a failure
settings.load_profile("no deadline")


def forests(n):
    """Yields the parents of every rooted forest of n nodes."""
    for parents in product(range(-1, n), repeat=n):
        if is_forest(parents):
            yield parents


def is_forest(parents):
    try:
        ModelGraph({str(child): () if parent < 0 else (str(parent),) for child, parent in enumerate(parents)})
    except MothrError:
        return False
    return True


FORESTS = {n: list(forests(n)) for n in range(1, 6)}


def value(parents, cost, root_cost):
    """Returns (number of roots, cost), the number being 0 where roots have a cost of their own."""
    roots = [child for child, parent in enumerate(parents) if parent < 0]
    edges = sum(cost[parent, child] for child, parent in enumerate(parents) if parent >= 0)
    return (len(roots), edges) if root_cost is None else (0, edges + sum(root_cost[root] for root in roots))


def best(cost, root_cost):
    values = [value(parents, cost, root_cost) for parents in FORESTS[len(cost)]]
    return min(((roots, total) for roots, total in values if np.isfinite(total)), default=None)


def costs(rng, n, kind):
    if kind == "integer":
        return rng.integers(0, 4, (n, n)).astype(float)
    cost = rng.normal(size=(n, n))
    if kind == "symmetric":
        return np.abs(cost + cost.T)
    if kind == "sparse":
        cost[rng.random((n, n)) < 0.6] = np.inf
    return cost


@pytest.mark.parametrize("kind", ["real", "integer", "symmetric", "sparse"])
def test_equals_brute_force(kind):
    rng = np.random.default_rng(7)
    for trial in range(30):
        n = 5 if trial < 15 else int(rng.integers(1, 6))
        cost = costs(rng, n, kind)
        for root_cost in (None, rng.normal(size=n), np.full(n, 0.5), np.where(rng.random(n) < 0.5, np.inf, 1.0)):
            expected = best(cost, root_cost)
            if expected is None:
                with pytest.raises(MothrError, match="no spanning arborescence"):
                    arborescence(cost, root_cost)
                continue
            parents = arborescence(cost, root_cost)
            assert is_forest(parents)
            assert value(parents, cost, root_cost) == pytest.approx(expected, abs=1e-12)


def optimal_roots_by_brute_force(cost):
    """Returns the roots of all trees of least cost, from a list of all rooted trees; the costs are whole numbers, so exactly."""
    trees = [parents for parents in FORESTS[len(cost)] if parents.count(-1) == 1]
    totals = {parents: value(parents, cost, None)[1] for parents in trees}
    least = min(totals.values())
    return {parents.index(-1) for parents, total in totals.items() if total == least}, least


def test_rootings_that_tie_are_counted_on_a_matrix_made_by_hand():
    """A path 0 - 1 - 2 of length 2 whose scores charge 1 for 1 -> 0 and for 1 -> 2, so that both ends are roots at equal cost."""
    cost = np.array([[0.0, 2, 9], [3, 0, 3], [9, 2, 0]])
    trees = optimal_rootings(cost)
    assert {root: parents.tolist() for root, parents in trees.items()} == {0: [-1, 0, 1], 2: [1, 2, -1]}
    assert set(optimal_rootings(cost + np.array([[0, 0.25, 0], [0, 0, 0], [0, 0, 0]]))) == {2}


def test_optimal_roots_equal_brute_force():
    rng = np.random.default_rng(3)
    several = 0
    for _ in range(60):
        n = int(rng.integers(2, 6))
        cost = rng.integers(1, 4, (n, n)).astype(float)
        expected, least = optimal_roots_by_brute_force(cost)
        trees = optimal_rootings(cost)
        assert set(trees) == expected
        for root, parents in trees.items():
            assert is_forest(parents)
            assert parents.tolist().count(-1) == 1
            assert parents[root] == -1
            assert value(parents, cost, None)[1] == least
        several += len(expected) > 1
    assert several > 10


def test_the_tolerance_covers_the_rounding_of_sums_and_not_more():
    distance = np.array([[0, 0.1, 9], [0.1, 0, 0.7], [9, 0.7, 0]])
    charge = 0.3 * np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0]])
    assert set(optimal_rootings(distance + charge)) == {0, 2}
    assert set(optimal_rootings(distance + charge, tolerance=0)) <= {0, 2}
    nearly = distance + charge + np.array([[0, 1e-6, 0], [0, 0, 0], [0, 0, 0]])
    assert set(optimal_rootings(nearly)) == {2}
    assert set(optimal_rootings(nearly, tolerance=1e-3)) == {0, 2}


def test_one_node_is_its_own_rooting_and_roots_that_reach_nothing_are_left_out():
    assert {root: parents.tolist() for root, parents in optimal_rootings(np.zeros((1, 1))).items()} == {0: [-1]}
    one_way = np.array([[np.inf, 1.0], [np.inf, np.inf]])
    assert set(optimal_rootings(one_way)) == {0}
    with pytest.raises(MothrError, match="no tree with a single root"):
        optimal_rootings(np.full((2, 2), np.inf))
    with pytest.raises(MothrError, match="square"):
        optimal_rootings(np.zeros((2, 3)))


@pytest.mark.parametrize("n", [10, 30, 60])
def test_equals_networkx(n):
    rng = np.random.default_rng(n)
    cost = rng.random((n, n)) * rng.choice([1.0, 10.0], size=(n, n))
    graph = networkx.DiGraph((i, j, {"weight": cost[i, j]}) for i in range(n) for j in range(n) if i != j)
    tree = networkx.minimum_spanning_arborescence(graph)
    parents = arborescence(cost)
    assert is_forest(parents)
    assert (parents == -1).sum() == 1
    assert value(parents, cost, None)[1] == pytest.approx(tree.size(weight="weight"))


def test_number_of_roots_follows_root_cost():
    near, far = 1.0, 10.0
    cost = np.full((6, 6), far)
    cost[:3, :3] = cost[3:, 3:] = near
    assert (arborescence(cost) == -1).sum() == 1
    assert (arborescence(cost, 5.0) == -1).sum() == 2
    assert (arborescence(cost, 20.0) == -1).sum() == 1
    assert (arborescence(cost, 0.5) == -1).sum() == 6


def test_one_root_is_found_exactly_beside_costs_of_any_size():
    rng = np.random.default_rng(3)
    cost = rng.integers(0, 1000, (5, 5)) * 2.0**-30 + 2.0**20  # a penalty large enough would swallow the small part
    parents = arborescence(cost)
    assert value(parents, cost, None) == best(cost, None)


def test_as_few_roots_as_the_allowed_edges_permit():
    cost = np.full((5, 5), np.inf)
    cost[0, 1], cost[2, 1], cost[3, 4] = 3.0, 1.0, 1.0
    assert arborescence(cost).tolist() == [-1, 2, -1, -1, 3]


def test_diagonal_is_ignored_and_input_left_alone():
    cost = np.array([[-9.0, 1.0], [2.0, -9.0]])
    before = cost.copy()
    assert arborescence(cost).tolist() == [-1, 0]
    assert (cost == before).all()


def test_ties_go_to_lower_positions():
    assert arborescence(np.ones((6, 6))).tolist() == arborescence(np.ones((6, 6))).tolist()
    assert arborescence(np.ones((6, 6)), 5.0).tolist() == arborescence(np.ones((6, 6)), np.full(6, 5.0)).tolist()
    assert arborescence(np.ones((3, 3)), 1.0).tolist().count(-1) == 1  # a parent rather than a root


def test_relabelling_relabels_the_result():
    rng = np.random.default_rng(5)
    cost, order = rng.random((40, 40)), rng.permutation(40)
    parents, moved = arborescence(cost), arborescence(cost[np.ix_(order, order)])
    back = np.array([-1 if parent < 0 else order[parent] for parent in moved])
    assert (parents[order] == back).all()


def test_empty_and_single():
    assert arborescence(np.empty((0, 0))).tolist() == []
    assert arborescence(np.zeros((1, 1))).tolist() == [-1]


@pytest.mark.parametrize(
    ("cost", "root_cost", "message"),
    [
        (np.full((2, 2), np.nan), None, "NaN"),
        (np.full((2, 2), -np.inf), None, "-inf"),
        (np.zeros((2, 2)), np.nan, "NaN"),
        (np.zeros((2, 3)), None, "square"),
        (np.zeros(4), None, "square"),
        (np.zeros((2, 2)), np.zeros(3), "one for each of the 2"),
        (np.full((2, 2), np.inf), np.array([0.0, np.inf]), "no spanning arborescence"),
    ],
)
def test_refuses(cost, root_cost, message):
    with pytest.raises(MothrError, match=message):
        arborescence(cost, root_cost)


def test_a_thousand_nodes_in_seconds():
    rng = np.random.default_rng(0)
    points = rng.random((1000, 4))
    cost = np.linalg.norm(points[:, None] - points, axis=2)  # symmetric, so that cycles abound
    start = time.process_time()
    parents = arborescence(cost)
    assert time.process_time() - start < 5
    assert is_forest(parents)
    edges = spanning_tree(cost)  # with symmetric costs the directed and the undirected tree cost the same
    assert value(parents, cost, None)[1] == pytest.approx(sum(cost[edge] for edge in edges))


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.booleans())
def test_spanning_tree_is_least_zeros_included(seed, n, coarse):
    rng = np.random.default_rng(seed)
    distance = rng.integers(0, 3, (n, n)).astype(float) if coarse else rng.random((n, n))
    distance = np.triu(distance, 1) + np.triu(distance, 1).T
    edges = spanning_tree(distance)
    graph = networkx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_weighted_edges_from((i, j, distance[i, j]) for i in range(n) for j in range(i + 1, n))
    expected = networkx.minimum_spanning_tree(graph).size(weight="weight")
    assert edges == sorted(edges)
    assert all(i < j for i, j in edges)
    assert len(edges) == max(n - 1, 0)
    assert networkx.is_forest(networkx.Graph(edges)) if edges else n < 2
    assert sum(distance[edge] for edge in edges) == pytest.approx(expected)


def test_spanning_tree_leaves_infinite_pairs_apart():
    distance = np.full((4, 4), np.inf)
    distance[0, 1] = distance[1, 0] = 0.0
    distance[2, 3] = distance[3, 2] = 5.0
    assert spanning_tree(distance) == [(0, 1), (2, 3)]


@pytest.mark.parametrize(
    ("distance", "message"),
    [(np.zeros((2, 3)), "square"), (np.array([[0.0, 1.0], [2.0, 0.0]]), "symmetric"), (np.full((2, 2), np.nan), "NaN")],
)
def test_spanning_tree_refuses(distance, message):
    with pytest.raises(MothrError, match=message):
        spanning_tree(distance)


def test_orient_points_away_from_the_root():
    edges = [(0, 1), (1, 2), (1, 3), (4, 5)]
    assert orient(edges, 2) == [(2, 1), (1, 0), (1, 3)]
    assert orient(edges, 5) == [(5, 4)]
    assert orient([], 0) == []
    assert orient([("b", "a")], "a") == [("a", "b")]


def test_orient_refuses_a_cycle():
    with pytest.raises(MothrError, match="cycle"):
        orient([(0, 1), (1, 2), (2, 0)], 0)
    with pytest.raises(MothrError, match="cycle"):
        orient([(0, 1), (1, 0)], 0)
