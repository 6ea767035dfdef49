import numpy as np
import torch

from mothr.baselines.candidates import neighbours, projections
from mothr.baselines.distances import distances, pair_distances
from mothr.benchmark.layers import Layers

ALL = Layers("all")


def models_around(write_models, centres=6, around=4):
    """Returns models in groups: copies of a centre with small updates."""
    generator, contents = torch.Generator().manual_seed(0), {}
    for group in range(centres):
        centre = {"x": torch.randn(20, 20, generator=generator), "y": 50 * torch.randn(30, generator=generator)}
        for copy in range(around):
            size = 0.1 * copy
            contents[f"{group}-{copy}"] = {
                key: value + size * value.std() * torch.randn(value.shape, generator=generator) for key, value in centre.items()
            }
    return write_models(contents)


def test_projections_keep_distances_and_neighbours_are_those_of_one_group(write_models):
    models = models_around(write_models)
    points = projections(models, ALL)
    between = np.linalg.norm(points[:, None] - points, axis=2)
    exact = distances(models, "relative", ALL) * np.sqrt(2)
    ratio = between[exact > 0] / exact[exact > 0]
    assert ratio.min() > 0.6
    assert ratio.max() < 1.6
    pairs = neighbours(points, 3)
    groups = np.array([id[0] for id in models.ids])
    assert (groups[pairs[:, 0]] == groups[pairs[:, 1]]).all()
    assert len(pairs) == 6 * 6


def test_neighbours_by_hand():
    points = np.array([[0.0], [1.0], [10.0], [11.5]])
    np.testing.assert_array_equal(neighbours(points, 1), [[0, 1], [2, 3]])
    assert len(neighbours(points, 9)) == 6
    assert neighbours(points[:1]).shape == (0, 2)


def test_projections_go_with_the_models_whatever_they_are_called(write_models):
    models = models_around(write_models, 2, 2)
    swapped = models.relabel(dict(zip(models.ids, models.ids[::-1], strict=True)))
    order = [swapped.ids.index(id) for id in models.ids[::-1]]
    np.testing.assert_array_equal(projections(swapped, ALL)[order], projections(models, ALL))


def test_exact_distances_of_candidates_are_those_of_all_pairs(write_models):
    models = models_around(write_models, 2, 3)
    pairs = neighbours(projections(models, ALL), 2)
    for name in ("rms", "frobenius", "relative", "cosine", "mean_abs", "max_abs", "rank", "spectral"):
        found = pair_distances(models, name, pairs, ALL)
        np.testing.assert_allclose(found, distances(models, name, ALL)[tuple(pairs.T)], rtol=1e-9)
