"""Measuring the statistics of the models of one tree from their weights."""

import numpy as np
import pytest
import torch

from mothr.baselines.linea.fitted.features import expected_features, pair_features, root_features
from mothr.baselines.linea.fitted.measure import LOST, measure, small_weights_lost
from mothr.benchmark.weights.features import compute, compute_pairs
from mothr.benchmark.weights.layers import Layers

BACKBONE = Layers.parse("backbone")


def true_slots(models, truth, evidence):
    """Returns (child, slot) of each true edge."""
    place = {node: position for position, node in enumerate(models.ids)}
    return [(place[child], evidence.candidates.slots[place[child], place[parent]]) for parent, child in truth.edges]


def test_the_statistics_speak_for_the_true_parents(grown):
    models, truth = grown()
    evidence = measure(models, BACKBONE, 24)
    cells = true_slots(models, truth, evidence)
    for name in ("near.distance", "direction.independence", "direction.growth"):
        values = [evidence.pairs[name][cell] for cell in cells]
        assert np.mean(np.array(values) > 0) >= 5 / 6, name


def test_every_statistic_is_finite_and_has_its_shape(grown):
    models, _ = grown()
    evidence = measure(models, BACKBONE, 4)
    assert all(values.shape == (7, 4) and np.isfinite(values).all() for values in evidence.pairs.values())
    assert all(values.shape == (7, 4, 4) and np.isfinite(values).all() for values in evidence.triples.values())
    assert evidence.central.shape == (7,)


def test_two_models_that_are_equal_in_all_matrices_are_compared_on_vectors(write_models):
    generator = torch.Generator().manual_seed(0)
    matrix, vector = torch.randn(16, 16, generator=generator), torch.randn(300, generator=generator)
    models = write_models(
        {"a": {"body.weight": matrix, "body.bias": vector}, "b": {"body.weight": matrix, "body.bias": vector + 0.1}}
    )
    evidence = measure(models, BACKBONE, 24)
    assert np.all(evidence.pairs["direction.growth"] != 0)


@pytest.mark.filterwarnings("ignore::mothr.benchmark.errors.MothrWarning")
def test_a_model_that_lacks_a_tensor_is_compared_on_the_others(grown, contents, write_models):
    models, _ = grown()
    held = contents(models)
    del held[models.ids[0]]["embed_tokens.weight"]
    evidence = measure(write_models(held), BACKBONE, 24)
    assert all(np.isfinite(values).all() for values in evidence.pairs.values())
    assert all(np.isfinite(values).all() for values in evidence.triples.values())


def test_features_have_one_name_for_each_scale_and_are_bounded(grown):
    models, truth = grown()
    evidence = measure(models, BACKBONE, 24)
    pairs, roots = pair_features(evidence), root_features(evidence)
    assert all(np.abs(values).max() <= 3 for values in pairs.values())
    assert "near.distance/0.1" in pairs
    edges = np.zeros((7, 7))
    place = {node: position for position, node in enumerate(models.ids)}
    for parent, child in truth.edges:
        edges[place[parent], place[child]] = 1.0
    is_root = np.array([float(node in truth.roots) for node in models.ids])
    expected = expected_features(evidence, edges, is_root)
    assert not expected.keys() & pairs.keys()
    assert all(values.shape == (7, 6) for values in expected.values())
    assert all(values.shape == (7,) for values in roots.values())
    # A child of an inner node has the update of its parent, so the mean coefficient speaks for the true edge.
    below_root = [
        cell for cell in true_slots(models, truth, evidence) if not is_root[evidence.candidates.parents[cell]]
    ]
    assert all(expected["update.mean/0.1"][cell] > 0.9 for cell in below_root)


def test_a_candidate_without_a_parent_has_no_statistics_of_triples(grown):
    models, _ = grown()
    evidence = measure(models, BACKBONE, 24)
    expected = expected_features(evidence, np.zeros((7, 7)), np.ones(7))
    assert (expected["update.mean/1"] == 0).all()
    assert (expected["candidate.is_root"] == 1).all()


@pytest.mark.parametrize("trained", [0.0, 0.1])
def test_a_pruned_model_has_lost_the_small_weights_also_after_training(trained):
    parent = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    pruned = torch.where(parent.abs() < parent.abs().median(), 0.0, parent)
    pruned = pruned + trained * torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    other = parent + 0.1 * torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
    lost = small_weights_lost(torch.stack([parent, pruned, other]), ("F32",) * 3)
    assert lost[0, 1] == pytest.approx(1, abs=0.1)
    assert lost[0, 2] == pytest.approx(0, abs=0.1)


def test_requested_pairs_have_the_values_of_all_pairs(grown):
    models, _ = grown()
    [key] = Layers.parse("re:layers.0.mlp.up_proj.*").select_from(models)
    pairs = np.array([[0, 3], [5, 1], [0, 2], [4, 4]])
    wanted = compute(models, [LOST], Layers.parse("re:layers.0.mlp.up_proj.*"))["small_weights_lost"][key][1]
    found = compute_pairs(models, LOST, Layers.parse("re:layers.0.mlp.up_proj.*"), pairs)[key]
    np.testing.assert_allclose(found, wanted[pairs[:, 0], pairs[:, 1]], atol=1e-12)


def test_a_zero_matrix_has_no_small_weights():
    assert (small_weights_lost(torch.zeros(2, 4, 4), ("F32", "F32")) == 0).all()
