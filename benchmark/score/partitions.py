"""Metrics of the partition into Model Trees: which models share a tree, whatever the edges are.

A partition assigns each node of the truth the position of its Model Tree, a weakly connected component of the
graph.
"""

from functools import lru_cache

from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from mothr.benchmark.graph import ModelGraph, NodeId

Labels = tuple[int, ...]
"""The position of the Model Tree of each node."""


def adjusted_rand(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the adjusted Rand index of the two partitions (Hubert and Arabie 1985): (RI - E[RI]) / (max RI - E[RI]).

    The Rand index RI is the share of pairs of nodes that both partitions treat alike: both together, or both
    apart. E[RI] is its mean over random partitions with the same cluster sizes.

    Range [-0.5, 1], higher is better, chance level 0. None if the truth has no nodes.
    """
    if not truth.nodes:
        return None
    return _rand(_labels(truth, truth.nodes), _labels(predicted, truth.nodes))


def adjusted_mutual_information(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the adjusted mutual information of two partitions U and V (Vinh et al. 2010).

    The value is (I(U, V) - E[I]) / ((H(U) + H(V)) / 2 - E[I]). I is the mutual information and H the entropy.
    E[I] is the mean of I over random partitions with the same cluster sizes.

    Range [-1, 1], higher is better, chance level 0. None if the truth has no nodes.
    """
    if not truth.nodes:
        return None
    return _information(_labels(truth, truth.nodes), _labels(predicted, truth.nodes))


def tree_count_error(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns |m - k| for k true Model Trees and m predicted Model Trees that hold a node of the truth.

    Range [0, inf), lower is better. The chance level depends on the truth.
    """
    return float(abs(len(set(_labels(predicted, truth.nodes))) - len(truth.trees)))


def _labels(graph: ModelGraph, nodes: tuple[NodeId, ...]) -> Labels:
    """Returns the position of the Model Tree of each node."""
    tree_of = {node: position for position, tree in enumerate(graph.trees) for node in tree}
    return tuple([tree_of[node] for node in nodes])


# Many predictions have the same partition and differ in their edges alone, above all if the trees are known. So the values of
# the last partitions are stored.
@lru_cache(maxsize=8)
def _rand(true: Labels, predicted: Labels) -> float:
    return float(adjusted_rand_score(true, predicted))


@lru_cache(maxsize=8)
def _information(true: Labels, predicted: Labels) -> float:
    return float(adjusted_mutual_info_score(true, predicted))
