"""Invariants of permutations of neurons and heads: forms of a tensor that permuted copies share, and alignment.

If two neurons or two heads are exchanged, rows of some tensors and columns of others are exchanged, and the function of the
network stays the same. So a permuted copy is far from its source by every distance that compares weight by weight. Each form
below maps a matrix, and all matrices with the same rows and columns in another order, to the same numbers. Models are then
compared by these numbers. A vector is a matrix of one row.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from mothr.benchmark.weights.combine import Array


def sorted_weights(matrices: torch.Tensor) -> torch.Tensor:
    """Returns all elements in ascending order, (k, elements), of (k, rows, columns).

    The mean absolute difference of two such rows is the Wasserstein-1 distance of the distributions of the weights (Vallender
    1974). It ignores positions, so unrelated models with the same distribution of weights are near.
    """
    return matrices.flatten(1).sort(dim=1).values


def singular_values(matrices: torch.Tensor) -> torch.Tensor:
    """Returns the singular values, descending, (k, smaller side) float64, of (k, rows, columns)."""
    return torch.linalg.svdvals(matrices.double())


def norm_profile(matrices: torch.Tensor) -> torch.Tensor:
    """Returns the norms of the rows in ascending order, then those of the columns, (k, rows + columns) float64."""
    return torch.cat([matrices.double().norm(dim=side).sort(dim=1).values for side in (2, 1)], dim=1)


def aligned(matrices: torch.Tensor) -> Array:
    """Returns |x - P y| / ((|x| + |y|) / 2), (k, k), for the best of three alignments P: of rows, of columns, or none.

    Weight matching by linear assignment (Ainsworth, Hayase and Srinivasa, Git Re-Basin, ICLR 2023), for one tensor at a time.
    The rows (or columns) of y are ordered so that the sum of their inner products with those of x is largest. The neurons of
    a layer lie along one axis of each of its tensors, so this undoes every permutation of neurons and heads exactly.

    Departure: the published method needs one order for all tensors that share the neurons; this one is more lenient. If rows
    and columns are both reordered, which the residual streams of these models exclude, the distance is not zero.

    Unrelated matrices are aligned too, and are a little nearer than by ``relative``. They take most of the time: about 17 ms
    for two of 384 x 96.
    """
    k = len(matrices)
    result = np.zeros((k, k))
    norms = matrices.double().norm(dim=(1, 2))
    for i in range(k):
        for j in range(i):
            x, y = matrices[i].double(), matrices[j].double()
            least = min(
                float((x - aligned_y).norm()) for aligned_y in (y, _rows_matched(x, y), _rows_matched(x.T, y.T).T)
            )
            result[i, j] = result[j, i] = least / max(float(norms[i] + norms[j]) / 2, torch.finfo(torch.float64).tiny)
    return result


def _rows_matched(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns ``y`` with its rows in the order that fits the rows of ``x`` best; both are (rows, columns)."""
    if x.shape[1] == 1:  # rows of one number: the best order sorts both alike
        order = torch.empty(len(x), dtype=torch.int64)
        order[x[:, 0].argsort(stable=True)] = y[:, 0].argsort(stable=True)
        return y[order]
    products = x @ y.T
    nearest = products.argmax(dim=1)
    if len(nearest.unique()) == len(nearest):  # every row has its own best partner: no assignment can be better
        return y[nearest]
    return y[torch.from_numpy(linear_sum_assignment(products.numpy(), maximize=True)[1])]
