"""The fitted model: from statistics to a distribution over forests."""

import numpy as np
import pytest

from mothr.baselines.linea.fitted.features import pair_features, root_features
from mothr.baselines.linea.fitted.measure import measure
from mothr.baselines.linea.fitted.model import FILE, ForestModel, Weights, distribution_of, fitted
from mothr.benchmark.weights.layers import Layers


@pytest.fixture
def evidence(grown):
    models, truth = grown()
    return models, truth, measure(models, Layers.parse("backbone"), 24)


def test_the_file_of_the_package_names_dev_splits_only():
    model = fitted()
    assert model.fitted_on
    assert all("-dev" in split for split in model.fitted_on)
    assert ForestModel.read(FILE) == model


def test_every_weight_of_the_file_has_a_feature_and_no_edge_weight_is_negative(evidence):
    _, _, measured = evidence
    model = fitted()
    assert model.first.edges.keys() <= pair_features(measured).keys()
    assert model.first.roots.keys() | model.second.roots.keys() <= root_features(measured).keys()
    assert all(
        weight >= 0
        for round_ in (model.first, model.second)
        for name, weight in round_.edges.items()
        if name != "candidate.is_root"
    )


def test_the_fitted_model_finds_a_tree_of_independent_updates(evidence):
    models, truth, measured = evidence
    distribution = fitted().distribution(measured)
    parents = distribution.best_forest()
    found = {(models.ids[parent], models.ids[child]) for child, parent in enumerate(parents) if parent >= 0}
    assert found == set(truth.edges)
    edges, roots = distribution.probabilities
    assert edges.sum(axis=0) + roots == pytest.approx(np.ones(7))


def test_a_weight_of_one_feature_decides_alone(evidence):
    _, _, measured = evidence
    weights = Weights({"near.distance/3": 100.0}, {"constant": -200.0})
    distribution = weights.distribution(measured, pair_features(measured), root_features(measured))
    edges, _ = distribution.probabilities
    nearest = measured.candidates.parents[:, 0]
    undirected = {
        frozenset((child, int(parent))) for child, parent in enumerate(distribution.best_forest()) if parent >= 0
    }
    assert {frozenset((child, int(parent))) for child, parent in enumerate(nearest)} <= undirected
    assert edges.max() > 0.5


def test_an_edge_that_is_no_candidate_is_impossible(grown):
    models, _ = grown()
    measured = measure(models, Layers.parse("backbone"), 2)
    edges, _ = distribution_of(measured, np.zeros((7, 2)), np.zeros(7)).probabilities
    possible = measured.candidates.matrix(np.ones((7, 2)), 0.0) > 0
    assert (edges[~possible] == 0).all()
    assert (edges[possible] > 0).all()
