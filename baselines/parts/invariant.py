"""What reordering neurons and heads leaves unchanged: forms of a tensor that permuted copies share, and alignment.

Swapping two neurons, or two heads, swaps rows of some tensors and columns of others and leaves the function unchanged, so a
permuted copy is far from its source by any distance that compares weight by weight. Each form below maps a matrix and all
reorderings of its rows and columns to the same numbers; models are then compared by those. Vectors are matrices of one row.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from mothr.benchmark.weights.combine import Array


def sorted_weights(matrices: torch.Tensor) -> torch.Tensor:
    """Returns all elements in ascending order, (k, elements), of (k, rows, columns).

    The mean absolute difference of two of these is the Wasserstein-1 distance of the distributions of the weights (Vallender
    1974). It forgets where a weight stood, so models of one distribution are near however unrelated.
    """
    return matrices.flatten(1).sort(dim=1).values


def singular_values(matrices: torch.Tensor) -> torch.Tensor:
    """Returns the singular values, descending, (k, smaller side) float64, of (k, rows, columns)."""
    return torch.linalg.svdvals(matrices.double())


def norm_profile(matrices: torch.Tensor) -> torch.Tensor:
    """Returns the norms of the rows in ascending order, then those of the columns, (k, rows + columns) float64."""
    return torch.cat([matrices.double().norm(dim=side).sort(dim=1).values for side in (2, 1)], dim=1)


def aligned(matrices: torch.Tensor) -> Array:
    """Returns the Frobenius norm of the difference over the mean norm, (k, k), after the better of three alignments.

    Weight matching by linear assignment (Ainsworth, Hayase and Srinivasa, Git Re-Basin, ICLR 2023), a tensor at a time: the
    rows of one model, or its columns, or neither, are reordered so that their inner products with those of the other sum to the
    most. A layer's neurons lie along one axis of each of its tensors, so this undoes any permutation of neurons and heads
    exactly. It is more lenient than the published method, which asks one order of all tensors that share the neurons; with
    rows and columns reordered at once, which these models' residual streams rule out, it does not come to zero.

    Unrelated matrices are aligned, too, and come out a little nearer than they are by ``relative``; they are what takes time,
    some 17 ms for two of 384 x 96.
    """
    k = len(matrices)
    found = np.zeros((k, k))
    norms = matrices.double().norm(dim=(1, 2))
    for i in range(k):
        for j in range(i):
            one, two = matrices[i].double(), matrices[j].double()
            least = min(
                float((one - other).norm()) for other in (two, _rows_matched(one, two), _rows_matched(one.T, two.T).T)
            )
            found[i, j] = found[j, i] = least / max(float(norms[i] + norms[j]) / 2, torch.finfo(torch.float64).tiny)
    return found


def _rows_matched(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Returns ``two`` with its rows in the order in which they fit those of ``one`` best."""
    if one.shape[1] == 1:  # numbers: both in the same order of size
        order = torch.empty(len(one), dtype=torch.int64)
        order[one[:, 0].argsort(stable=True)] = two[:, 0].argsort(stable=True)
        return two[order]
    products = one @ two.T
    nearest = products.argmax(dim=1)
    if len(nearest.unique()) == len(nearest):  # the best of each row is nobody else's: no assignment can do better
        return two[nearest]
    return two[torch.from_numpy(linear_sum_assignment(products.numpy(), maximize=True)[1])]
