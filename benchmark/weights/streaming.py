"""Features of one tensor of all models, computed within a memory budget.

A :class:`Feature` defines what is computed. :func:`arrays` decides how the tensor is divided. If the tensors of
all k models fit into the budget, they are read once, as one stack, for all features. Otherwise there are three
ways:

- A feature that is a sum or a maximum over elements is computed in slices of elements.
- A statistic of single models is computed in blocks of models.
- Any other distance or pair score needs two whole tensors at a time. It is computed in pairs of blocks of
  models.

Results differ between these ways only by rounding errors.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.checkpoint import TensorInfo, empty_stack, read_into
from mothr.benchmark.weights.combine import Array

CHUNK = 1 << 20
"""Elements of a temporary array that a feature may allocate beside its stack: 8 MiB in float64.

It may always be as large as one tensor.
"""
TEMPORARIES = 6
"""Number of such temporary arrays that the memory estimate assumes."""
Pairs = NDArray[np.intp]
"""(m, 2) positions in a stack."""
State = tuple[Array, ...]
"""Intermediate arrays of a feature that is computed in slices."""


@dataclass(frozen=True, slots=True)
class Slices:
    """How a feature is computed from slices of a tensor. Features with the same ``state`` share its computation."""

    state: Callable[[torch.Tensor, Pairs | None], State]
    """Maps rows (k, elements) of one slice to float64 arrays for all pairs of models, or for m requested pairs."""
    merge: Callable[[Array, Array], Array]
    """Joins the arrays of two slices: ``np.add`` or ``np.maximum``."""
    finish: Callable[[State, int], Array]
    """Maps the joined arrays and the number of elements of the tensor to (k, k), or to (m,) for requested pairs."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A number for each model or for each pair of models, computed from one tensor of all models.

    Its name, kind, version, parameters and the weights are the key of its results in the cache.
    """

    name: str
    """The name."""
    version: int
    """The version. It is increased whenever the values change."""
    kind: Literal["statistic", "distance", "pair"]
    """The shape of the values.

    ``statistic``: (k,), one for each model. ``distance``: (k, k), symmetric, 0 on the diagonal. ``pair``: (k, k),
    [i, j] and [j, i] may differ.
    """
    function: Callable[[torch.Tensor, tuple[str, ...]], Array]
    """Maps a stack (k, *shape) and the k stored dtypes ("F32", "BF16", ...) to float64 values, (k,) or (k, k).

    The function does not change the stack. Beside it, it allocates at most as much memory again, and temporary
    arrays of CHUNK elements. Its value for one model, or for two models, depends on these models alone, so any
    subset can be computed. Models with bit-identical tensors share one row of the stack. The value of such a
    pair is that on the diagonal.
    """
    on_pairs: Callable[[torch.Tensor, tuple[str, ...], Pairs], Array] | None = None
    """The same for m requested pairs, (m, 2) positions in the stack, as (m,) float64.

    For scores that are costly for all pairs.
    """
    slices: Slices | None = None
    """How the feature is computed in slices of elements. If present, it replaces both functions."""
    parameters: tuple[tuple[str, float | str], ...] = ()
    """Name and value of everything else that the values depend on."""


@cache
def device() -> torch.device:
    """Returns the device that matrix products are computed on: the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def arrays(
    name: str, infos: Sequence[TensorInfo], features: Sequence[Feature], pairs: Pairs | None, budget: int
) -> list[Array]:
    """Returns one float64 array for each feature of tensor ``name`` of k models: (k,) or (k, k), or (m,) for m pairs.

    Args:
        name: The name of the tensor, for error messages.
        infos: The tensor in each of the k models.
        features: What to compute.
        pairs: (m, 2) positions in ``infos`` to compare; None for all pairs.
        budget: Bytes of memory that may be used at a time.

    Raises:
        MothrError: A value is NaN or infinite, a file is damaged, or the budget is too small.
    """
    sliced = [feature for feature in features if feature.slices is not None]
    room = budget - _size_of_results(len(infos), features, pairs)
    tensor = _Tensor(name, infos, room, copies=1 if len(sliced) == len(features) else 2)
    results: dict[str, Array] = {}
    stack = tensor.stack() if tensor.fits(len(infos)) else None
    if sliced:
        results |= _in_slices(replace(tensor, copies=1), sliced, pairs, stack)
    statistics = [feature for feature in features if feature.kind == "statistic" and feature.slices is None]
    if statistics and pairs is None:
        results |= _in_blocks(tensor, statistics, stack)
    for feature in features:
        if feature.name not in results:
            results[feature.name] = (
                _of_all_pairs(feature, tensor, stack) if pairs is None else _of_pairs(feature, tensor, pairs, stack)
            )
    return [results[feature.name] for feature in features]


def _size_of_results(k: int, features: Sequence[Feature], pairs: Pairs | None) -> int:
    """Returns the bytes of all results, and of three more arrays of the largest size for intermediate results."""
    sizes = [k if feature.kind == "statistic" else k * k if pairs is None else len(pairs) for feature in features]
    return 8 * (sum(sizes) + 3 * max(sizes))


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor of k models, and the memory that is left for it."""

    name: str
    """The name of the tensor."""
    infos: Sequence[TensorInfo]
    """The tensor in each of the k models."""
    room: int
    """Bytes of memory that are left beside the results."""
    copies: int
    """How many arrays of the size of its stack a feature holds: 2, since a function may allocate as much again."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.infos[0].shape

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def dtypes(self, rows: Sequence[int] | None = None) -> tuple[str, ...]:
        return tuple(self.infos[row].dtype for row in (range(len(self.infos)) if rows is None else rows))

    def required(self, models: int, elements: int) -> int:
        """Returns the bytes for parts of tensors: their stack, one part while it is read, and temporary arrays."""
        itemsize = 8 if "F64" in self.dtypes() else 4
        temporary = min(models * elements, max(elements, CHUNK))
        return (self.copies * models + 2) * elements * itemsize + 8 * TEMPORARIES * temporary

    def fits(self, models: int) -> bool:
        return self.required(models, self.elements) <= self.room

    def most_models(self, least: int) -> int:
        """Returns how many models fit into the memory at a time.

        Raises:
            MothrError: Fewer than ``least`` models fit.
        """
        if not self.fits(min(least, len(self.infos))):
            raise self.too_large(self.required(least, self.elements))
        low, high = min(least, len(self.infos)), len(self.infos)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(middle) else (low, middle - 1)
        return low

    def too_large(self, required: int) -> MothrError:
        return MothrError(
            f"tensor {self.name!r} of shape {self.shape} in {len(self.infos)} models takes at least {required} bytes "
            f"at a time beside the results, and the memory budget leaves {self.room}; raise the budget"
        )

    def blocks(self) -> list[range]:
        """Returns the rows of all models in blocks that fit into the memory."""
        size = self.most_models(1)
        return [range(start, min(start + size, len(self.infos))) for start in range(0, len(self.infos), size)]

    def stack(self, rows: Sequence[int] | None = None) -> torch.Tensor:
        """Returns the tensors of the models in ``rows``, (n, *shape)."""
        infos = self.infos if rows is None else [self.infos[row] for row in rows]
        return read_into(empty_stack(len(infos), self.shape, self.dtypes()), infos)

    def slices(self) -> Iterator[torch.Tensor]:
        """Yields (k, elements) of one slice after the other, along the first axis that is longer than 1."""
        axis = next((axis for axis, length in enumerate(self.shape) if length > 1), 0)
        length = self.shape[axis] if self.shape else 1
        k, unit = len(self.infos), self.elements // length
        if self.required(k, unit) > self.room:
            raise self.too_large(self.required(k, unit))
        size = 1
        while size < length and self.required(k, 2 * size * unit) <= self.room:
            size *= 2
        for start in range(0, length, size):
            shape = (*self.shape[:axis], min(size, length - start), *self.shape[axis + 1 :])
            yield read_into(empty_stack(k, shape, self.dtypes()), self.infos, axis, start).reshape(k, -1)


def _in_slices(
    tensor: _Tensor, features: Sequence[Feature], pairs: Pairs | None, stack: torch.Tensor | None
) -> dict[str, Array]:
    """Returns the results of features that are sums or maxima over elements."""
    rules = {feature.name: feature.slices for feature in features if feature.slices is not None}
    states: dict[Any, State] = {}
    for rows in tensor.slices() if stack is None else [stack.reshape(len(stack), -1)]:
        for state, merge in {(rule.state, rule.merge) for rule in rules.values()}:
            new = state(rows, pairs)
            old = states.get((state, merge))
            states[state, merge] = new if old is None else tuple(merge(*both) for both in zip(old, new, strict=True))
    shape = (len(tensor.infos),) * 2 if pairs is None else (len(pairs),)
    results = {name: rule.finish(states[rule.state, rule.merge], tensor.elements) for name, rule in rules.items()}
    return {feature.name: _checked(feature, results[feature.name], shape) for feature in features}


def _in_blocks(tensor: _Tensor, statistics: Sequence[Feature], stack: torch.Tensor | None) -> dict[str, Array]:
    """Returns the (k,) results of statistics of single models."""
    parts: dict[str, list[Array]] = {feature.name: [] for feature in statistics}
    for block in tensor.blocks():
        values = tensor.stack(block) if stack is None else stack
        dtypes = tensor.dtypes(block)
        for feature in statistics:
            parts[feature.name].append(_checked(feature, feature.function(values, dtypes), (len(block),)))
    return {name: np.concatenate(blocks) for name, blocks in parts.items()}


def _of_all_pairs(feature: Feature, tensor: _Tensor, stack: torch.Tensor | None) -> Array:
    """Returns (k, k) values of a feature that needs whole tensors. Where not all fit, it reads pairs of blocks."""
    k = len(tensor.infos)
    if stack is not None:
        return _checked(feature, feature.function(stack, tensor.dtypes()), (k, k))
    size = tensor.most_models(2) // 2
    blocks = [range(start, min(start + size, k)) for start in range(0, k, size)]
    values, done = np.zeros((k, k)), np.zeros((k, k), dtype=bool)
    for rows in ([*first, *second] for first, second in combinations(blocks, 2)):
        part, dtypes, cells = tensor.stack(rows), tensor.dtypes(rows), np.ix_(rows, rows)
        if feature.kind == "distance" and feature.on_pairs is not None:
            missing = np.argwhere(np.triu(~done[cells], 1))
            i, j = np.array(rows)[missing].T
            values[i, j] = values[j, i] = _checked(feature, feature.on_pairs(part, dtypes, missing), (len(missing),))
            done[cells] = True
        else:
            values[cells] = _checked(feature, feature.function(part, dtypes), (len(rows),) * 2)
    return values


def _of_pairs(feature: Feature, tensor: _Tensor, pairs: Pairs, stack: torch.Tensor | None) -> Array:
    """Returns (m,) values of requested pairs of whole tensors. It reads as many models at a time as fit."""
    values = np.empty(len(pairs))
    batches = (
        _batches(pairs, tensor.most_models(2)) if stack is None else [(range(len(pairs)), range(len(tensor.infos)))]
    )
    for indices, rows in batches:
        part = tensor.stack(rows) if stack is None else stack
        local, dtypes = np.searchsorted(rows, pairs[indices]), tensor.dtypes(rows)
        if feature.on_pairs is not None:
            values[indices] = _checked(feature, feature.on_pairs(part, dtypes, local), (len(indices),))
            continue
        for index, pair in zip(indices, local.tolist(), strict=True):
            distinct = sorted(set(pair), key=pair.index)  # one row if a model is compared with itself
            values[index] = feature.function(part[distinct], tuple(dtypes[row] for row in distinct))[0, -1]
    return values


def _batches(pairs: Pairs, most: int) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Yields (indices of pairs, sorted models of these pairs) such that a batch has at most ``most`` models."""
    indices: list[int] = []
    models: set[int] = set()
    for index in np.lexsort((pairs.max(axis=1), pairs.min(axis=1))).tolist():
        pair = set(pairs[index].tolist())
        if len(models | pair) > most:
            yield indices, sorted(models)
            indices, models = [], set()
        indices.append(index)
        models |= pair
    if indices:
        yield indices, sorted(models)


def _checked(feature: Feature, values: Array, shape: tuple[int, ...]) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(
            f"feature {feature.name!r} returned an array of shape {array.shape}; it must have the shape {shape}"
        )
    return array
