from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from mothr.baselines.parts.distances import distances
from mothr.baselines.parts.invariant import aligned, norm_profile, singular_values, sorted_weights
from mothr.benchmark.weights.layers import Layers

INVARIANT = ("sorted_weights", "singular_values", "norm_profile", "aligned")


@pytest.mark.parametrize("name", INVARIANT)
def test_a_permuted_copy_is_at_its_source_and_others_are_not(grown, permuted, contents, write_models, name):
    models, truth = grown((None, 0, None))
    held = contents(models)
    source = next(root for root in truth.roots if truth.children(root))
    models = write_models(held | {"copy": permuted(held[source])})
    far = distances(models, name, Layers("all"))[models.ids.index("copy")]
    others = [far[models.ids.index(node)] for node in truth.nodes if node != source]
    assert far[models.ids.index(source)] < 1e-6 * min(others)
    plain = distances(models, "relative", Layers("attention"))
    assert plain[models.ids.index("copy"), models.ids.index(source)] > 1


@pytest.mark.parametrize("name", ["singular_values", "norm_profile", "aligned"])
def test_a_permuted_child_is_nearer_to_its_parent_than_to_a_stranger(grown, permuted, contents, write_models, name):
    models, truth = grown((None, 0, None))
    held = contents(models)
    parent = next(root for root in truth.roots if truth.children(root))
    [child] = truth.children(parent)
    [stranger] = [root for root in truth.roots if root != parent]
    models = write_models({"parent": held[parent], "child": permuted(held[child]), "stranger": held[stranger]})
    place = {node: position for position, node in enumerate(models.ids)}
    far = distances(models, name, Layers("body"))
    assert far[place["child"], place["parent"]] < 0.9 * far[place["child"], place["stranger"]]


def test_sorted_weights_give_the_wasserstein_distance(write_models):
    generator = torch.Generator().manual_seed(0)
    held = {key: {"x": torch.randn(5, 7, generator=generator)} for key in "ab"}
    result = distances(write_models(held), "sorted_weights", Layers("all"))[0, 1]
    assert result == pytest.approx(stats.wasserstein_distance(held["a"]["x"].ravel(), held["b"]["x"].ravel()), rel=1e-6)


def test_forms_equal_their_definitions():
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(sorted_weights(x), np.sort(x.reshape(2, -1), axis=1))
    np.testing.assert_allclose(singular_values(x)[1], np.linalg.svd(x[1].double(), compute_uv=False), rtol=1e-12)
    expected = np.concatenate([np.sort(np.linalg.norm(x[1].double(), axis=axis)) for axis in (1, 0)])
    np.testing.assert_allclose(norm_profile(x)[1], expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (1, 5), (5, 1)])
def test_alignment_is_the_best_of_all_orders_of_rows_or_columns(shape):
    one, two = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    tried = [float((one - two[list(order)]).norm()) for order in permutations(range(shape[0]))]
    tried += [float((one - two[:, list(order)]).norm()) for order in permutations(range(shape[1]))]
    result = aligned(torch.stack([one, two]))
    assert result[0, 1] == pytest.approx(2 * min(tried) / float(one.norm() + two.norm()), rel=1e-12)
    assert result[0, 1] == result[1, 0]


def test_alignment_does_not_reorder_rows_and_columns_at_once():
    one = torch.randn(16, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    two = one.roll(3, dims=0).roll(5, dims=1)
    assert aligned(torch.stack([one, two]))[0, 1] > 0.5
    assert aligned(torch.stack([one, one.roll(3, dims=0)]))[0, 1] == 0
    assert aligned(torch.zeros(2, 3, 3)).max() == 0
