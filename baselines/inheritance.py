"""Whether a model has what its alleged parent added to the model before it, tensor by tensor.

A child starts from its parent's weights. In each tensor its way from the model above holds the parent's whole update, with
coefficient 1, beside an update of its own. A sibling does not: of one that was trained otherwise it holds nothing, of one that
was trained on the same data something, and not the same share in each tensor.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.baselines.distances import DISTANCES
from mothr.baselines.precision import squared_error
from mothr.baselines.ranks import as_matrices
from mothr.benchmark.features import Array, Feature, compute, compute_pairs
from mothr.benchmark.layers import Key, Layers
from mothr.benchmark.weights import ModelSet

WHOLE = 0.7
"""Coefficient below which a tensor lacks the parent's update. A child trained on other data undoes some of it: 0.8 was seen."""
SPREAD, NOISE = 0.05, 0.05
"""Standard deviation of the coefficient in a true child: of its own, and for each time that its update is longer than the parent's."""


def lacking(models: ModelSet, triples: NDArray[np.intp], layers: Layers) -> Array:
    """Returns the share of tensors in which a model lacks its parent's update, (m,), each weighted by how surely that can be told.

    With squared distances d between child c, parent p and the model a above it, the coefficient of p - a in c - a is
    (d(c, a) + d(p, a) - d(c, p)) / (2 d(p, a)). Where the update is no larger than what storing the three in few bits leaves of
    error, it hardly counts.

    Args:
        models: The models.
        triples: (m, 3) positions of child, parent, and the model above the parent.
        layers: Tensors that are looked at. Those where the parent is the model above, or that one of the three lacks, are passed
            over; where none is left the share is 0.
    """
    triples = np.asarray(triples, dtype=np.intp).reshape(-1, 3)
    pairs = triples[:, [[0, 1], [1, 2], [0, 2]]].reshape(-1, 2)
    found = compute_pairs(models, DISTANCES["rms"].feature, layers, pairs)
    squared = np.array(list(found.values())).reshape(len(found), -1, 3) ** 2
    own, added, whole = np.moveaxis(squared, 2, 0)
    rounding = _rounding(models, triples, list(found), layers)
    told = (added > 0) & np.isfinite(squared).all(axis=2)
    added = np.where(told, added, 1.0)
    coefficient = (whole + added - own) / (2 * added)
    weight = np.where(told, 1 / (SPREAD**2 + NOISE**2 * own / added + (rounding / added) ** 2), 0.0)
    total = weight.sum(axis=0)
    without: Array = np.where(coefficient < WHOLE, weight, 0.0).sum(axis=0)
    return without / np.where(total > 0, total, 1.0)


def _rounding(models: ModelSet, triples: NDArray[np.intp], keys: list[Key], layers: Layers) -> Array:
    """Returns the mean squared errors of storing the three models of each triple, summed, (tensors, m); 0 where one lacks the tensor."""
    errors = np.zeros((len(keys), len(models)))
    kept = compute(models, [_ROUNDING], layers)[_ROUNDING.name]
    for row, key in enumerate(keys):
        positions, values = kept[key]
        errors[row, list(positions)] = values
    total: Array = errors[:, triples].sum(axis=2)
    return total


def _mean_squared_error(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    rows = zip(as_matrices(stack), dtypes, strict=True)
    return np.array([squared_error(matrix, dtype) / matrix.numel() for matrix, dtype in rows])


_ROUNDING = Feature("rounding", 1, "statistic", _mean_squared_error)
"""The mean squared error that storing a tensor leaves, (k,)."""
