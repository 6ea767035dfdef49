"""Combines the results of single tensors to one result for each model or for each pair of models.

Models need not hold the same tensors. A pair is compared on the tensors that both models hold in the same
shape. Results of tensors are combined one after the other, so only the combined result is in memory.
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
"""The positions of the k models that hold a tensor, and its values: (k,) for a statistic, (k, k) for pairs."""
PerTensor = Mapping[Key, TensorValues] | Iterable[tuple[Key, TensorValues]]
"""(tensor name, shape) -> its values, as a mapping or as an iterable of items."""
DISTANCE_RULES = ("mean", "sum", "max", "quadratic", "scaled-max")
"""Values of ``how`` in :func:`combine_distances`."""
EVIDENCE_RULES = ("elements", "sum", "vote")
"""Values of ``how`` in :func:`combine_pairs` and :func:`combine_scores`."""


def combine_distances(per_tensor: PerTensor, n: int, how: str, among: Sequence[int] | None = None) -> Array:
    """Returns (n, n) distances of ``n`` models over all tensors. The diagonal is 0; pairs that share no tensor get inf.

    For a pair of models, let d_t be the distance and e_t the number of elements of tensor t, over the T tensors
    that both models hold. Let M be the largest T of any pair, a model with itself included. Let m_t be the
    largest d_t of all pairs.

    ======================  =========================================================
    ``how``                 combined distance
    ======================  =========================================================
    ``mean``                sum_t d_t / T
    ``sum``                 M sum_t d_t / T; this is the plain sum if all models hold all tensors
    ``max``                 max_t d_t
    ``quadratic``           sqrt(sum_t e_t d_t^2 / sum_t e_t)
    ``scaled-max``          max_t (d_t + m_t) / (2 m_t), over the tensors with m_t > 0
    ======================  =========================================================

    Args:
        per_tensor: The distances of each tensor, as :func:`~mothr.benchmark.weights.features.stream` yields
            them.
        n: Number of models.
        how: The rule of combination.
        among: Positions of the models to compare; None for all. The result is then (len(among), len(among)).
            The m_t of ``scaled-max`` are then the largest distances among these models.

    Raises:
        MothrError: ``how`` is unknown.
    """

    def parts() -> Iterator[tuple[int, Any, Array]]:
        for (_, shape), (positions, values) in _items(per_tensor):
            if among is None and len(positions) == n:
                yield math.prod(shape), ..., values
                continue
            local, target = _selected(positions, n, among)
            yield math.prod(shape), np.ix_(target, target), values[np.ix_(local, local)]

    size = n if among is None else len(among)
    combined = _combine(parts(), (size, size), how)
    np.fill_diagonal(combined, 0.0)
    return combined


def combine_pair_distances(per_tensor: Mapping[Key, Array], m: int, how: str) -> Array:
    """Returns (m,) distances of requested pairs over all tensors. Pairs that share no tensor get inf.

    Args:
        per_tensor: (tensor name, shape) -> (m,) distances, NaN if one of the two models lacks the tensor.
        m: Number of pairs.
        how: As in :func:`combine_distances`, except ``scaled-max``, which needs all pairs.

    Raises:
        MothrError: ``how`` is unknown or ``scaled-max``.
    """
    if how == "scaled-max":
        raise MothrError(
            "a distance that is combined by 'scaled-max' depends on all pairs; choose another, or compute all pairs"
        )
    present = ((key, values, np.flatnonzero(~np.isnan(values))) for key, values in per_tensor.items())
    return _combine(((math.prod(key[1]), indices, values[indices]) for key, values, indices in present), (m,), how)


def combine_scores(scores: Iterable[tuple[Key, Array]], how: str) -> Array:
    """Returns scores over all tensors, in the shape of the scores of one tensor. NaN where no tensor has a value.

    For one entry, let s_t be the score and e_t the number of elements of tensor t, over the T tensors with a
    value. Let M be the largest T of any entry.

    ============  ===============================================================================
    ``how``       combined score
    ============  ===============================================================================
    ``elements``  sum_t e_t s_t / sum_t e_t
    ``sum``       M sum_t s_t / T; this is the plain sum if no value is missing
    ``vote``      sum_t sign(s_t) / T
    ============  ===============================================================================

    Args:
        scores: ((tensor name, shape), scores) of each tensor, NaN where a tensor has no value.
        how: The rule of combination.

    Raises:
        MothrError: ``how`` is unknown.
    """
    if how not in EVIDENCE_RULES:
        raise unknown_name("way to combine scores", how, EVIDENCE_RULES)
    total = weight = np.zeros(())
    for (_, shape), values in scores:
        tensor_weight = float(math.prod(shape)) if how == "elements" else 1.0
        known = ~np.isnan(values)
        total = total + np.where(known, tensor_weight * (np.sign(values) if how == "vote" else values), 0.0)
        weight = weight + tensor_weight * known
    total = total * (weight.max(initial=0) / np.maximum(weight, 1)) if how == "sum" else total / np.maximum(weight, 1)
    return np.where(weight > 0, total, np.nan)


def combine_statistics(per_tensor: PerTensor, n: int, how: str) -> Array:
    """Returns (n,) statistics of ``n`` models from a statistic of each tensor.

    NaN where no tensor of a model has a value.

    To compare two models use :func:`combine_pairs`: it compares them on the same tensors.

    Args:
        per_tensor: The statistics of each tensor.
        n: Number of models.
        how: ``elements`` or ``sum``, as in :func:`combine_scores`.
    """
    return combine_scores(
        ((key, _expand(values, positions, n)) for key, (positions, values) in _items(per_tensor)), how
    )


def combine_pairs(per_tensor: PerTensor, n: int, how: str) -> Array:
    """Returns (n, n) scores of ``n`` models. Pairs without a value in any tensor get 0.

    Args:
        per_tensor: The pair scores of each tensor, or statistics x. The score of a statistic is x_i - x_j.
        n: Number of models.
        how: As in :func:`combine_scores`.
    """

    def scores() -> Iterator[tuple[Key, Array]]:
        for key, (positions, values) in _items(per_tensor):
            pairs = values[:, None] - values[None, :] if values.ndim == 1 else values
            yield key, _expand(pairs, positions, n)

    return np.nan_to_num(combine_scores(scores(), how), nan=0.0)


def _combine(parts: Iterable[tuple[int, Any, Array]], size: tuple[int, ...], how: str) -> Array:
    """Returns distances over all tensors; inf where no tensor has a value.

    Args:
        parts: (elements of the tensor, index in the result, values at this index) of each tensor.
        size: Shape of the result.
        how: As in :func:`combine_distances`.
    """
    if how not in DISTANCE_RULES:
        raise unknown_name("way to combine distances", how, DISTANCE_RULES)
    total, weight = np.zeros(size), np.zeros(size)
    for elements, index, values in parts:
        weight[index] += elements if how == "quadratic" else 1
        if how in ("mean", "sum"):
            total[index] += values
        elif how == "quadratic":
            total[index] += elements * values**2
        elif how == "max":
            total[index] = np.maximum(total[index], values)
        elif (largest := values.max(initial=0.0)) > 0:  # scaled-max
            total[index] = np.maximum(total[index], (values + largest) / (2 * largest))
    if how in ("mean", "quadratic", "sum"):
        total /= np.maximum(weight, 1)
        total = np.sqrt(total) if how == "quadratic" else total * weight.max(initial=0) if how == "sum" else total
    combined: Array = np.where(weight > 0, total, np.inf)
    return combined


def _items(per_tensor: PerTensor) -> Iterable[tuple[Key, TensorValues]]:
    return per_tensor.items() if isinstance(per_tensor, Mapping) else per_tensor


def _selected(
    positions: tuple[int, ...], n: int, among: Sequence[int] | None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the rows of a tensor's values to use, and the rows of the result that they belong to."""
    target = np.full(n, -1)
    target[list(range(n) if among is None else among)] = np.arange(n if among is None else len(among))
    local = np.flatnonzero(target[list(positions)] >= 0)
    return local, target[np.asarray(positions)[local]]


def _expand(values: Array, positions: tuple[int, ...], n: int) -> Array:
    """Returns the values of k models as values of n models, NaN where a model lacks the tensor."""
    if len(positions) == n:
        return values
    expanded = np.full((n,) * values.ndim, np.nan)
    expanded[np.ix_(*[positions] * values.ndim)] = values
    return expanded
