import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from mothr.baselines.parts.clustering import largest_gap, ward
from mothr.benchmark.errors import MothrError


def groups(sizes, spread=1.0, apart=40.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(truth))
    points = apart * rng.normal(size=(len(sizes), 30))[truth] + spread * rng.normal(size=(len(truth), 30))
    return cdist(points[order], points[order]), truth[order]


@pytest.mark.parametrize("sizes", [(5, 5), (21, 21, 21), (2, 9, 4, 3)])
def test_both_find_clear_groups(sizes):
    distances, truth = groups(sizes)
    for labels in (ward(distances, len(sizes)), largest_gap(distances)):
        assert adjusted_rand_score(truth, labels) == 1


def test_labels_are_numbered_as_they_appear():
    distances, _ = groups((3, 4, 5))
    labels = ward(distances, 3)
    _, first = np.unique(labels, return_index=True)
    assert labels[0] == 0
    assert list(first) == sorted(first)
    assert labels.dtype == np.int64


def test_one_group_stays_one():
    for seed in range(5):
        distances, _ = groups((12,), seed=seed)
        assert set(largest_gap(distances)) == {0}


def test_near_duplicates_do_not_make_trees():
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(10, 30)), [2, 2, 1, 1, 1] * 2, axis=0)
    points[7:] += 60
    points += 1e-9 * rng.normal(size=points.shape)
    labels = largest_gap(cdist(points, points))
    assert adjusted_rand_score([0] * 7 + [1] * 7, labels) == 1


@pytest.mark.parametrize("how", [largest_gap, lambda distances: ward(distances, 2)])
def test_models_that_share_nothing_are_apart(how):
    distances, _ = groups((6,))
    distances[:3, 3:] = distances[3:, :3] = np.inf
    assert list(how(distances)) == [0, 0, 0, 1, 1, 1]


def test_one_and_two_models():
    assert list(ward(np.zeros((1, 1)), 1)) == list(largest_gap(np.zeros((1, 1)))) == [0]
    two = np.array([[0, 1.0], [1, 0]])
    assert list(ward(two, 1)) == list(largest_gap(two)) == [0, 0]
    assert list(ward(two, 2)) == [0, 1]
    assert list(largest_gap(np.array([[0, np.inf], [np.inf, 0]]))) == [0, 1]


def test_all_equal():
    assert list(largest_gap(np.zeros((4, 4)))) == [0, 0, 0, 0]
    assert sorted(ward(np.zeros((4, 4)), 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 5, -1])
def test_impossible_number_of_trees(count):
    with pytest.raises(MothrError, match="from 1 to 4"):
        ward(np.zeros((4, 4)), count)


def test_order_of_models_plays_no_part():
    distances, _ = groups((4, 6, 3), seed=3)
    order = np.random.default_rng(1).permutation(13)
    for how in (largest_gap, lambda some: ward(some, 3)):
        assert adjusted_rand_score(how(distances)[order], how(distances[np.ix_(order, order)])) == 1
