"""Tests of the shapes of trees."""

import numpy as np
import pytest

from mothr.generators.recipe.schema import Topology
from mothr.generators.recipe.shapes import parents_of


def parents(seed=0, **values):
    return parents_of(Topology.model_validate(values), np.random.default_rng(seed), edge_kinds=2)


@pytest.mark.parametrize(
    ("shape", "nodes", "expected"),
    [
        ("chain", 4, [0, 1, 2]),
        ("star", 4, [0, 0, 0]),
        ("caterpillar", 6, [0, 1, 0, 1, 2]),
        ("caterpillar", 5, [0, 1, 0, 1]),
        ("balanced", 7, [0, 0, 1, 2, 1, 2]),
        ("balanced", 13, [0, 0, 0, 1, 2, 3, 1, 2, 3, 1, 2, 3]),
    ],
)
def test_named_shapes(shape, nodes, expected):
    assert parents(shape=shape, nodes=nodes) == expected


@pytest.mark.parametrize("shape", ["balanced", "chain", "caterpillar", "star", "two-level", "recursive"])
def test_every_shape_has_its_number_of_nodes_and_parents_come_first(shape):
    for nodes in range(2, 13):
        drawn = parents(seed=nodes, shape=shape, nodes=nodes)
        assert len(drawn) == nodes - 1
        assert all(0 <= parent < child for child, parent in enumerate(drawn, start=1))


def test_a_two_level_tree_has_two_to_four_inner_nodes_and_uneven_branches():
    for seed in range(20):
        drawn = parents(seed=seed, shape="two-level", nodes=12)
        assert 2 <= drawn.count(0) <= 4
        assert all(parent <= drawn.count(0) for parent in drawn)
    assert (
        len({drawn.count(1) for drawn in (parents(seed=seed, shape="two-level", nodes=12) for seed in range(20))}) > 2
    )


def test_a_recursive_tree_differs_from_seed_to_seed():
    assert len({tuple(parents(seed=seed, shape="recursive", nodes=9)) for seed in range(10)}) > 5


def test_older_forms_are_unchanged():
    assert parents(branching=(2, 1)) == [0, 0, 1, 2]
    assert parents(parents=(0, 0, 1)) == [0, 0, 1]
    assert parents(arms=2) == [0, 0, 1, 2]
    assert len(parents(random=5)) == 4
