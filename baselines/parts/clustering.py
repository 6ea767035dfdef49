"""Clustering: which models share a tree, told from their distances."""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from mothr.baselines.parts.distances import replace_infinite
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.model_set import ModelSet


def given_trees(models: ModelSet) -> NDArray[np.int64] | None:
    """Returns the told tree of each model, (n,), labels as :func:`ward` gives them; None where the partition is not told."""
    told = models.given.trees
    return None if told is None else _in_order(np.array([told[node] for node in models.ids]))


def ward(distances: Array, n_trees: int) -> NDArray[np.int64]:
    """Returns labels 0 ... n_trees - 1 of the models, (n,), in the order in which they first appear (MoTHer).

    Ward linkage (Ward 1963) of the given distances, cut into ``n_trees`` clusters. Ward's criterion is about Euclidean
    distances; MoTHer applies it to others too.

    Args:
        distances: (n, n), symmetric, inf for pairs that cannot be compared.
        n_trees: How many clusters, from 1 to n.

    Raises:
        MothrError: ``n_trees`` is out of range.
    """
    n = len(distances)
    if not 1 <= n_trees <= n:
        raise MothrError(f"{n_trees} trees cannot be made of {n} models; give a number from 1 to {n}")
    if n == 1:
        return np.zeros(1, dtype=np.int64)
    return _in_order(hierarchy.cut_tree(_linkage(distances), n_clusters=[n_trees])[:, 0])


def largest_gap(distances: Array) -> NDArray[np.int64]:
    """Returns labels as :func:`ward` gives them, for the number of trees before the largest jump between merge heights.

    The jump is the ratio of consecutive heights of the Ward linkage. It is looked for among the cuts into at most half as many
    trees as models (rounded up), since the merges of near-duplicates jump too. Where no ratio exceeds GAP there is one tree.
    Models that cannot be compared, even by way of others, never share a tree.

    Args:
        distances: (n, n), symmetric, inf for pairs that cannot be compared.
    """
    n = len(distances)
    count, groups = connected_components(np.isfinite(distances), directed=False)
    if count > 1:
        labels = np.zeros(n, dtype=np.int64)
        for group in range(count):
            inside = np.flatnonzero(groups == group)
            labels[inside] = n * group + largest_gap(distances[np.ix_(inside, inside)])
        return _in_order(labels)
    if n < 3:
        return np.zeros(n, dtype=np.int64)
    heights = _linkage(distances)[:, 2]
    before, after = heights[n // 2 - 1 : -1], heights[n // 2 :]
    ratios = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    best = int(ratios.argmax())
    return ward(distances, len(ratios) + 1 - best if ratios[best] > GAP else 1)


GAP = 2.0
"""A jump no larger than this is taken for the growth of heights inside one tree."""


def _in_order(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the same partition with labels 0, 1, ... in the order in which they first appear."""
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels].astype(np.int64)


def _linkage(distances: Array) -> Array:
    return hierarchy.linkage(squareform(replace_infinite(distances), checks=False), method="ward")
