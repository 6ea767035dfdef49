"""Sides: whether the other models lie behind a candidate parent or behind the child, as seen from the edge between them.

Let s be the candidate parent of c, and g a third model. If g is connected to c through s, then c - s is orthogonal to s - g, and
the statistic ``update.kept`` of g -> s -> c is 1/2. If g is connected to s through c, it is -1/2. So its mean over all g
tells a leaf from an inner node: all models lie on the other side of a leaf's parent.
"""

import warnings

import numpy as np

from mothr.baselines.linea.fitted.candidates import Candidates
from mothr.benchmark.weights.combine import Array


def sides(candidates: Candidates, kept: Array) -> dict[str, Array]:
    """Returns the statistics of sides by name, (n, k) each, at [c, i] for the candidate s = parents[c, i].

    Args:
        candidates: The candidates of n models.
        kept: The statistic ``update.kept``, (n, k, k).
    """
    values = np.where(candidates.is_triple, np.clip(kept, -0.5, 0.5), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing, where a tree has two models
        mean = np.nan_to_num(np.nanmean(values, axis=2)) if values.shape[2] else np.zeros(values.shape[:2])
    reverse = candidates.of_pairs(candidates.matrix(mean, 0.0).T)
    return {"side.mean": mean, "side.difference": mean - reverse, "side.nearest": _first_known(values)}


def _first_known(values: Array) -> Array:
    """Returns the first value of (n, k, k) along the last axis that is not NaN, (n, k); 0 if all are."""
    known = ~np.isnan(values)
    first = np.take_along_axis(values, known.argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
    return np.nan_to_num(first)
