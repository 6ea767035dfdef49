"""Clustering: which models share a tree, by their distances."""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from mothr.baselines.parts.distances import replace_infinite
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.model_set import ModelSet

MIN_GAP = 2.0
"""Default of the field ``min_gap`` of methods that cluster by :func:`largest_gap`; chosen, not fitted."""


def given_trees(models: ModelSet) -> NDArray[np.int64] | None:
    """Returns the given tree of each model, (n,) int64, numbered as by :func:`ward`; None if no partition is given."""
    trees = models.given.trees
    return None if trees is None else _in_order_of_appearance(np.array([trees[node] for node in models.ids]))


def ward(distances: Array, n_trees: int) -> NDArray[np.int64]:
    """Returns cluster labels 0 ... n_trees - 1, (n,) int64, numbered in the order in which they first appear.

    Ward linkage (Ward 1963) of the distances, cut into ``n_trees`` clusters, as in MoTHer (arXiv 2405.18432). Ward's
    criterion is about Euclidean distances; MoTHer applies it to other distances too.

    Args:
        distances: (n, n), symmetric; inf for pairs that cannot be compared.
        n_trees: Number of clusters, from 1 to n.

    Raises:
        MothrError: ``n_trees`` is out of range.
    """
    n = len(distances)
    if not 1 <= n_trees <= n:
        raise MothrError(f"{n_trees} trees cannot be made of {n} models; give a number from 1 to {n}")
    if n == 1:
        return np.zeros(1, dtype=np.int64)
    return _in_order_of_appearance(hierarchy.cut_tree(_linkage(distances), n_clusters=[n_trees])[:, 0])


def largest_gap(distances: Array, min_gap: float = MIN_GAP) -> NDArray[np.int64]:
    """Returns cluster labels as :func:`ward`, for the number of trees just before the largest gap between merge heights.

    The gap is the ratio h[i + 1] / h[i] of consecutive heights h of the Ward linkage. Only cuts into at most half as many
    trees as models (rounded up) are considered, since the merges of near-duplicates have large gaps too. If no gap is above
    ``min_gap``, there is one tree. Models that cannot be compared, even through others, never share a tree.

    Args:
        distances: (n, n), symmetric; inf for pairs that cannot be compared.
        min_gap: A smaller gap counts as the growth of heights inside one tree.
    """
    n = len(distances)
    count, components = connected_components(np.isfinite(distances), directed=False)
    if count > 1:
        labels = np.zeros(n, dtype=np.int64)
        for component in range(count):
            members = np.flatnonzero(components == component)
            labels[members] = n * component + largest_gap(distances[np.ix_(members, members)], min_gap)
        return _in_order_of_appearance(labels)
    if n < 3:
        return np.zeros(n, dtype=np.int64)
    heights = _linkage(distances)[:, 2]
    before, after = heights[n // 2 - 1 : -1], heights[n // 2 :]
    gaps = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    best = int(gaps.argmax())
    return ward(distances, len(gaps) + 1 - best if gaps[best] > min_gap else 1)


def _in_order_of_appearance(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the same partition with labels 0, 1, ... in the order in which they first appear."""
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels].astype(np.int64)


def _linkage(distances: Array) -> Array:
    """Returns scipy's linkage matrix, (n - 1, 4), of Ward's method."""
    return hierarchy.linkage(squareform(replace_infinite(distances), checks=False), method="ward")
