"""What single tensors say, combined to one answer for each model or each two models.

Models need not hold the same tensors: a pair is compared on the tensors that both hold, in the same shape. Tensors are taken
as they come, so that only the answer is held in memory.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.weights.layers import Key

Array = NDArray[np.float64]
TensorValues = tuple[tuple[int, ...], Array]
"""The positions of the k models that hold a tensor, and its (k,) or (k, k) values."""
PerTensor = Mapping[Key, TensorValues] | Iterable[tuple[Key, TensorValues]]
"""(tensor name, shape) -> what is said of it, or the same one by one."""


def _items(per_tensor: PerTensor) -> Iterable[tuple[Key, TensorValues]]:
    return per_tensor.items() if isinstance(per_tensor, Mapping) else per_tensor


def _places(
    positions: tuple[int, ...], n: int, among: Sequence[int] | None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the places in a tensor's array to keep, and where each belongs in the answer."""
    target = np.full(n, -1)
    target[list(range(n) if among is None else among)] = np.arange(n if among is None else len(among))
    local = np.flatnonzero(target[list(positions)] >= 0)
    return local, target[np.asarray(positions)[local]]


def combine_distances(per_tensor: PerTensor, n: int, how: str, among: Sequence[int] | None = None) -> Array:
    """Returns the (n, n) distances of ``n`` models over all tensors; the diagonal is 0, pairs that share no tensor get inf.

    Args:
        per_tensor: One feature of :func:`compute`.
        n: How many models there are.
        how: ``mean`` over tensors; ``sum``: the mean times the most tensors that any model holds, which is the plain
            sum where all models hold all tensors; ``max``; ``quadratic``: the root of the mean of squares weighted by element
            count; ``scaled-max``: each tensor's values a mapped to (a + m) / 2m, m the largest over the pairs, then the
            maximum over tensors (a tensor that is the same in all models says nothing).
        among: Positions to restrict the answer to, which is then (len(among), len(among)); ``scaled-max`` depends on it.

    Raises:
        MothrError: ``how`` is unknown.
    """

    def parts() -> Iterator[tuple[int, Any, Array]]:
        for (_, shape), (positions, array) in _items(per_tensor):
            if among is None and len(positions) == n:
                yield math.prod(shape), ..., array
                continue
            local, place = _places(positions, n, among)
            yield math.prod(shape), np.ix_(place, place), array[np.ix_(local, local)]

    size = n if among is None else len(among)
    combined = _combined(parts(), (size, size), how)
    np.fill_diagonal(combined, 0.0)
    return combined


def combine_pair_distances(per_tensor: Mapping[Key, Array], m: int, how: str) -> Array:
    """Returns the (m,) distances of given pairs over all tensors, inf for those that share none.

    Args:
        per_tensor: (tensor name, shape) -> (m,) values, NaN where one of the two lacks the tensor.
        m: How many pairs there are.
        how: As in :func:`combine_distances`, but for ``scaled-max``, which takes all pairs.

    Raises:
        MothrError: ``how`` is unknown or ``scaled-max``.
    """
    if how == "scaled-max":
        raise MothrError(
            "a distance that is combined by 'scaled-max' depends on all pairs; ask for another, or for all pairs"
        )
    held = ((key, values, np.flatnonzero(~np.isnan(values))) for key, values in per_tensor.items())
    return _combined(((math.prod(key[1]), at, values[at]) for key, values, at in held), (m,), how)


def _combined(parts: Iterable[tuple[int, Any, Array]], size: tuple[int, ...], how: str) -> Array:
    """Returns distances over all tensors from (elements, places in the answer, values) of each; inf where none says anything."""
    if how not in DISTANCE_RULES:
        raise unknown_name("way to combine distances", how, DISTANCE_RULES)
    total, weight = np.zeros(size), np.zeros(size)
    for elements, at, values in parts:
        weight[at] += elements if how == "quadratic" else 1
        if how in ("mean", "sum"):
            total[at] += values
        elif how == "quadratic":
            total[at] += elements * values**2
        elif how == "max":
            total[at] = np.maximum(total[at], values)
        elif (largest := values.max(initial=0.0)) > 0:  # scaled-max
            total[at] = np.maximum(total[at], (values + largest) / (2 * largest))
    if how in ("mean", "quadratic", "sum"):
        total /= np.maximum(weight, 1)
        total = np.sqrt(total) if how == "quadratic" else total * weight.max(initial=0) if how == "sum" else total
    combined: Array = np.where(weight > 0, total, np.inf)
    return combined


DISTANCE_RULES = ("mean", "sum", "max", "quadratic", "scaled-max")
"""What ``how`` may be in :func:`combine_distances`."""
EVIDENCE_RULES = ("elements", "sum", "vote")
"""What ``how`` may be in :func:`combine_pairs` and :func:`combine_scores`."""


def combine_scores(scores: Iterable[tuple[Key, Array]], how: str) -> Array:
    """Returns scores of the same shape over all tensors, NaN only where no tensor has a value.

    Args:
        scores: ((tensor name, shape), scores) of each tensor; NaN where it says nothing, which is left out.
        how: ``elements``: the mean weighted by element count; ``sum``: the mean times the most tensors that anything has a
            value for, which is the plain sum where none is missing; ``vote``: the mean sign.

    Raises:
        MothrError: ``how`` is unknown.
    """
    if how not in EVIDENCE_RULES:
        raise unknown_name("way to combine scores", how, EVIDENCE_RULES)
    total = weight = np.zeros(())
    for (_, shape), values in scores:
        share = float(math.prod(shape)) if how == "elements" else 1.0
        known = ~np.isnan(values)
        total = total + np.where(known, share * (np.sign(values) if how == "vote" else values), 0.0)
        weight = weight + share * known
    total = total * (weight.max(initial=0) / np.maximum(weight, 1)) if how == "sum" else total / np.maximum(weight, 1)
    return np.where(weight > 0, total, np.nan)


def combine_statistics(per_tensor: PerTensor, n: int, how: str) -> Array:
    """Returns one number a model, (n,), from a statistic of each tensor; NaN where none of its tensors has a value.

    ``how`` is ``elements`` or ``sum``, as in :func:`combine_scores`. To compare two models use :func:`combine_pairs`, which
    sees to it that both are judged on the same tensors.
    """
    return combine_scores(((key, _spread(array, positions, n)) for key, (positions, array) in _items(per_tensor)), how)


def combine_pairs(per_tensor: PerTensor, n: int, how: str) -> Array:
    """Returns (n, n) scores from pair scores of each tensor, or from a statistic as its difference, [i] minus [j].

    Pairs without a value in any shared tensor get 0. ``how`` is as in :func:`combine_scores`.
    """

    def scores() -> Iterator[tuple[Key, Array]]:
        for key, (positions, array) in _items(per_tensor):
            pairs = array[:, None] - array[None, :] if array.ndim == 1 else array
            yield key, _spread(pairs, positions, n)

    return np.nan_to_num(combine_scores(scores(), how), nan=0.0)


def _spread(array: Array, positions: tuple[int, ...], n: int) -> Array:
    """Returns the array of k models as one of n, NaN where a model lacks the tensor."""
    if len(positions) == n:
        return array
    spread = np.full((n,) * array.ndim, np.nan)
    spread[np.ix_(*[positions] * array.ndim)] = array
    return spread
