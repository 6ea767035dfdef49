"""Linea with a fitted model, as a whole."""

import numpy as np
import pytest
import torch

from mothr.baselines.linea import FittedLinea
from mothr.benchmark.errors import MothrError
from mothr.benchmark.run.method import about
from mothr.benchmark.run.registry import find_method
from mothr.benchmark.side_information import SideInformation


def predict(models, **fields):
    return FittedLinea(**fields)(models, np.random.default_rng(0))


def test_it_recovers_two_trees_and_says_what_it_was_fitted_on(grown):
    models, truth = grown((None, 0, 0, 1, 1, 2, 2, None, 7, 7, 8, 8, 9, 9))
    result = predict(models)
    assert result.graph == truth
    assert all(0 <= value <= 1 for value in result.confidence.values())
    assert set(result.confidence) == set(truth.edges)
    declared = about(find_method("linea-fitted"), "linea-fitted")
    assert all("-dev" in split for split in declared.tuned_on)
    assert declared.needs == frozenset()


def test_it_depends_neither_on_ids_nor_on_the_generator(grown, contents, write_models):
    models, truth = grown()
    renamed = {node: f"x{place}" for place, node in enumerate(reversed(models.ids))}
    moved = write_models({renamed[node]: tensors for node, tensors in contents(models).items()})
    assert set(predict(moved).graph.edges) == {(renamed[parent], renamed[child]) for parent, child in truth.edges}
    assert FittedLinea()(models, np.random.default_rng(5)) == predict(models)


def test_copies_duplicates_and_single_models_are_attached(grown, contents, write_models):
    models, truth = grown()
    held = contents(models)
    leaf = next(node for node in models.ids if node not in {parent for parent, _ in truth.edges})
    held["half"] = {name: value.half().float() for name, value in held[leaf].items()}
    held["twin"] = dict(held[leaf])
    held["stranger"] = {name: torch.randn_like(value) for name, value in held[leaf].items()}
    result = predict(write_models(held)).graph
    first = min(leaf, "twin", key=lambda node: (result.parents["half"] != (node,), node))
    assert result.parents["half"] == (first,)
    assert result.parents["twin"] == result.parents[leaf] == truth.parents[leaf]
    assert result.parents["stranger"] == ()


def test_a_pair_of_models_has_one_edge_or_none(grown):
    models, _ = grown((None, 0))
    assert len(predict(models).graph.edges) <= 1


def test_it_abstains_below_the_probability_that_the_user_sets(grown):
    models, truth = grown()
    cautious = predict(models, confidence=FittedLinea().confidence.__class__(min_named=1.0))
    assert not cautious.graph.edges
    assert cautious.abstained == {child for _, child in truth.edges}


def test_a_field_out_of_range_is_named():
    with pytest.raises(MothrError, match="most_candidates"):
        FittedLinea(most_candidates=0)


def test_a_given_tree_has_one_root(grown):
    models, truth = grown((None, 0, 0, 1, 1, 2, 2, None, 7, 7, 8, 8, 9, 9))
    shuffled = {node: position % 3 for position, node in enumerate(sorted(models.ids))}
    result = predict(models.with_given(SideInformation(trees=shuffled))).graph
    assert len(result.roots) == 3
    right = {node: label for label, tree in enumerate(truth.trees) for node in tree}
    assert predict(models.with_given(SideInformation(trees=right))).graph == truth
