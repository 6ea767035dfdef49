import numpy as np
import pytest
import torch

from mothr.baselines.parts.arborescence import orient
from mothr.baselines.parts.trees import (
    forest_prediction,
    nearest_predecessor,
    related_trees,
    root_by_evidence,
    rooted_forest,
    shared_layers,
    tree_positions,
)
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.weights.layers import Layers

BODY = Layers("body")


def random_tree(rng, n):
    """Returns the (i, j), i < j, edges of a random tree over nodes in any order."""
    order = rng.permutation(n).tolist()
    edges = [(order[int(rng.integers(index))], order[index]) for index in range(1, n)]
    return [(min(edge), max(edge)) for edge in edges]


@pytest.mark.parametrize("seed", range(8))
def test_the_root_is_the_best_of_all_roots_tried_one_by_one(seed):
    rng = np.random.default_rng(seed)
    span = random_tree(rng, 9)
    evidence = {edge: float(rng.normal()) for edge in span}
    gain = evidence | {edge[::-1]: -value for edge, value in evidence.items()}
    best = max(range(9), key=lambda root: sum(gain[edge] for edge in orient(span, root)))
    assert root_by_evidence(span, evidence) == orient(span, best)


def test_without_evidence_the_first_node_is_the_root_and_no_edges_need_none():
    assert root_by_evidence([(4, 7), (2, 7)], {(4, 7): 0.0, (2, 7): 0.0}) == [(2, 7), (7, 4)]
    assert root_by_evidence([], {}) == []


def test_each_model_is_the_child_of_the_nearest_before_it():
    distances = np.array([[0, 1, 9, 9], [1, 0, 2, 9], [9, 2, 0, 2], [9, 9, 2, 0]], dtype=float)
    assert nearest_predecessor(distances, [0, 1, 2, 3]) == [(0, 1), (1, 2), (2, 3)]
    assert nearest_predecessor(distances, [3, 0, 1, 2]) == [
        (3, 0),
        (0, 1),
        (3, 2),
    ]  # of 3 and 1, equally near, the first
    assert nearest_predecessor(distances, [0, 1, 2, 3], leaf_only=[1]) == [(0, 1), (0, 2), (2, 3)]
    assert nearest_predecessor(distances, [1, 0], leaf_only=[0, 1]) == [(1, 0)]
    assert nearest_predecessor(distances, [2]) == []


def test_related_models_share_a_tree_and_given_trees_are_kept(grown):
    models, truth = grown((None, 0, 1, None, 3, None))
    labels = related_trees(models, BODY, 0.1)
    assert {frozenset(models.ids[node] for node in part) for part in tree_positions(labels)} == set(truth.trees)
    assert labels[0] == 0
    trees = {node: index % 2 for index, node in enumerate(sorted(models.ids))}
    labels = related_trees(models.with_given(SideInformation(trees=trees)), BODY, 0.1)
    assert all(
        (labels[i] == labels[j]) == (trees[a] == trees[b])
        for i, a in enumerate(models.ids)
        for j, b in enumerate(models.ids)
    )


def test_a_forest_of_given_spans_is_rooted_by_the_truth_where_the_truth_is_the_evidence(grown):
    models, truth = grown((None, 0, 0, 1, None, 4))
    index = {node: position for position, node in enumerate(models.ids)}
    labels = related_trees(models, BODY, 0.1)
    edges = [sorted((index[parent], index[child])) for parent, child in truth.edges]

    def span(positions):
        inside = positions.tolist()
        return [(inside.index(first), inside.index(second)) for first, second in edges if first in inside]

    given = models.with_given(SideInformation(truth=truth))
    forest = rooted_forest(given, labels, span, "oracle", BODY, np.random.default_rng(0))
    assert forest.graph == truth
    trees = {frozenset(node for node in forest.trees if forest.trees[node] == label) for label in (0, 1)}
    assert trees == set(truth.trees)


def test_positions_become_ids(grown):
    models, _ = grown((None, 0))
    first, second = models.ids
    result = forest_prediction(models, np.zeros(2, dtype=np.int64), [(1, 0)])
    assert result.graph == ModelGraph({second: (), first: (second,)})
    assert result.trees == {first: 0, second: 0}


def test_shared_layers_are_those_of_all_models_unless_few_are(write_models):
    body = {"layers.0.mlp.fc1.weight": torch.ones(9, 9), "layers.1.mlp.fc1.weight": torch.ones(9, 9)}
    small, large = ({**body, "embed_tokens.weight": torch.ones(rows, 9)} for rows in (8, 10))
    models = write_models({"a": small, "b": small, "c": large})
    assert [name for name, _ in shared_layers(models, BODY).select_from(models)] == list(body)
    odd = write_models({"a": small, "b": small, "c": {"embed_tokens.weight": torch.ones(8, 9)}})
    assert shared_layers(odd, BODY) == BODY
