import re
from itertools import combinations

import numpy as np
import pytest
import torch

from mothr.baselines.methods.neighbour_joining import QUARTETS, NeighbourJoining, contract, four_point_share, join
from mothr.baselines.parts.distances import distances
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.layers import Layers


def predict(models, **fields):
    return NeighbourJoining(**fields)(models, np.random.default_rng(0))


def path_lengths(edges, n):
    """Returns the (n, n) lengths of the paths between the first n nodes of a tree of (node, node, length) edges."""
    size = max(max(edge[:2]) for edge in edges) + 1
    result = np.full((size, size), np.inf)
    np.fill_diagonal(result, 0)
    for i, j, length in edges:
        result[i, j] = result[j, i] = length
    for k in range(size):
        result = np.minimum(result, result[:, k, None] + result[None, k, :])
    return result[:n, :n]


def random_edges(rng, n):
    """Returns the edges of a random tree over n nodes, with lengths."""
    order = rng.permutation(n).tolist()
    return [(order[int(rng.integers(index))], order[index], float(rng.uniform(0.5, 2))) for index in range(1, n)]


@pytest.mark.parametrize("n", [2, 3, 4, 7, 20])
def test_additive_distances_come_back_as_the_path_lengths_of_the_joined_tree(n):
    given = path_lengths(random_edges(np.random.default_rng(n), 2 * n), n)  # half of the nodes of a tree, leaves or not
    edges = join(given)
    assert len(edges) == (2 * n - 3 if n > 2 else 1)
    np.testing.assert_allclose(path_lengths(edges, n), given, atol=1e-12)


def test_the_worked_example_of_five_taxa():
    d = np.array([[0, 5, 9, 9, 8], [5, 0, 10, 10, 9], [9, 10, 0, 8, 7], [9, 10, 8, 0, 3], [8, 9, 7, 3, 0]], dtype=float)
    lengths = {frozenset(edge[:2]): edge[2] for edge in join(d)}
    assert [lengths[frozenset((leaf, node))] for leaf, node in ((0, 5), (1, 5))] == [2, 3]
    assert sorted(lengths.values()) == [1, 2, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_tree_of_any_shape_whose_nodes_are_all_observed_is_found(seed, noise):
    rng = np.random.default_rng(seed)
    edges = random_edges(rng, 15)
    given = path_lengths(edges, 15)
    given += noise * np.abs((lambda e: e + e.T)(np.triu(rng.normal(size=(15, 15)), 1)))
    assert contract(join(given), 15) == sorted((min(i, j), max(i, j)) for i, j, _ in edges)


def test_stars_and_paths():
    star = path_lengths([(3, node, 1.0) for node in (0, 1, 2, 4, 5)], 6)
    assert contract(join(star), 6) == [(0, 3), (1, 3), (2, 3), (3, 4), (3, 5)]
    path = path_lengths([(node, node + 1, 1.0) for node in range(5)], 6)
    assert contract(join(path), 6) == [(node, node + 1) for node in range(5)]
    assert contract(join(np.zeros((1, 1))), 1) == []
    assert len(contract(join(np.zeros((5, 5))), 5)) == 4


def test_an_ancestor_that_is_not_there_gives_its_place_to_the_nearest_model():
    edges = [(5, 0, 0.4), (5, 1, 1.0), (5, 2, 1.0), (5, 3, 1.0), (3, 4, 1.0)]
    assert contract(join(path_lengths(edges, 5)), 5) == [(0, 1), (0, 2), (0, 3), (3, 4)]


def brute_share(d, slack):
    kept = []
    for i, j, k, l in combinations(range(len(d)), 4):  # noqa: E741
        _, middle, high = sorted((d[i, j] + d[k, l], d[i, k] + d[j, l], d[i, l] + d[j, k]))
        kept.append(high - middle <= slack * high)
    return np.mean(kept)


def test_quartets_of_a_tree_satisfy_the_four_point_condition_and_others_do_not():
    rng = np.random.default_rng(0)
    tree = path_lengths(random_edges(rng, 14), 12)
    assert four_point_share(tree, slack=1e-9) == 1.0
    noise = np.triu(rng.uniform(1, 9, size=(12, 12)), 1)
    assert four_point_share(noise + noise.T) == pytest.approx(brute_share(noise + noise.T, 0.05), abs=1e-12)
    assert four_point_share(noise + noise.T) < 0.3
    for slack in (0.0, 0.1, 0.5):
        assert four_point_share(noise + noise.T, slack) == pytest.approx(brute_share(noise + noise.T, slack), abs=1e-12)
    assert np.isnan(four_point_share(tree[:3, :3]))
    assert four_point_share(np.zeros((4, 4))) == 1.0


def test_from_many_quartets_the_same_sample_is_drawn_each_time():
    noise = np.triu(np.random.default_rng(1).uniform(1, 9, size=(36, 36)), 1)
    result = four_point_share(noise + noise.T)
    assert QUARTETS < 58905  # of 36 models
    assert result == four_point_share(noise + noise.T)
    assert result == pytest.approx(brute_share(noise + noise.T, 0.05), abs=0.01)


@pytest.mark.parametrize("rank", [None, 2])
def test_it_recovers_forests_of_full_and_low_rank_updates(grown, rank):
    models, truth = grown((None, 0, 0, 1, 1, 1, 2, None, 7, 8, 8), rank)
    result = predict(models)
    assert result.graph == truth
    assert (
        predict(
            models.with_given(
                SideInformation(trees={node: label for label, tree in enumerate(truth.trees) for node in tree})
            )
        ).graph
        == truth
    )
    assert set(result.confidence) == set(truth.edges)
    assert min(result.confidence.values()) > 0.9


def test_models_whose_distances_are_no_tree_are_given_little_confidence(write_models):
    generator = torch.Generator().manual_seed(0)
    shared, weights = torch.randn(30, 30, generator=generator), {}
    for name in "abcdefgh":
        weights[name] = {
            "w.weight": shared * torch.rand(1, generator=generator) + torch.randn(30, 30, generator=generator) * 0.1
        }
    ray = write_models(weights)  # points along a line: distances add, their squares do not
    squared = distances(ray, "frobenius", Layers("body")) ** 2
    result = predict(ray)
    assert set(result.confidence.values()) == {four_point_share(squared)}
    assert four_point_share(squared) < 0.6


def test_permuted_copies_are_lost_to_a_distance_that_compares_weight_by_weight_alone(
    grown, permuted, contents, write_models
):
    models, truth = grown()
    held = contents(models)
    [root] = truth.roots
    models = write_models(held | {"copy": permuted(held[root])})
    assert predict(models, layers="attention").graph.parents["copy"] == ()
    result = predict(models.with_given(SideInformation(trees=dict.fromkeys(models.ids, 0))), distance="aligned").graph
    assert root in (*result.parents["copy"], *result.children("copy"))


def test_one_two_identical_and_disjoint_models_are_legal(grown, contents, write_models):
    models, truth = grown((None, 0))
    [root] = truth.roots
    held = contents(models)
    assert predict(models).graph == truth
    assert predict(models).confidence == {}
    assert predict(write_models({"a": held[root]})).graph == ModelGraph({"a": ()})
    same = predict(write_models(dict.fromkeys("abcde", held[root])))
    assert len(same.graph.roots) == 1
    assert set(same.confidence.values()) == {1.0}
    odd = write_models({"a": {"x": torch.eye(4)}, "b": {"y": torch.eye(5)}})
    with pytest.warns(UserWarning, match="share none"):
        assert predict(odd).graph == ModelGraph({"a": (), "b": ()})
    with pytest.warns(UserWarning, match="share none"):
        assert len(predict(odd.with_given(SideInformation(trees={"a": 0, "b": 0}))).graph.roots) == 1


def test_the_prediction_does_not_depend_on_names(grown):
    models, _ = grown(seed=3)
    names = {node: f"{(5 * index) % 7:02}" for index, node in enumerate(models.ids)}
    assert predict(models.relabel(names)) == predict(models).relabel(names)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"distance": "signed_max"}, "distance 'signed_max' is not symmetric"),
        ({"direction": "kurtossis"}, "unknown direction 'kurtossis'; did you mean kurtosis"),
        ({"relatedness_threshold": 1.0}, "relatedness_threshold is 1.0; it must lie between 0 and 1"),
        ({"slack": -0.1}, "slack is -0.1; it must be at least 0 and below 1"),
    ],
)
def test_a_field_that_cannot_be_is_refused(fields, expected):
    with pytest.raises(MothrError, match=re.escape(expected)):
        NeighbourJoining(**fields)
