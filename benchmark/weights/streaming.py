"""Features of one tensor of all models, computed within a given memory: in slices of elements, or model by model.

A :class:`Feature` says what is computed; :func:`arrays` chooses the parts. If a tensor of all models fits, it is read once for
all features. Else what adds up over elements is read in slices, a statistic in blocks of models, and what needs two whole
tensors at a time in pairs of blocks. The answers are the same but for rounding.
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
"""Elements of a temporary array that a feature may make beside its stack (8 MiB in float64), or one tensor where that is more."""
TEMPORARIES = 6
"""How many of those."""
Pairs = NDArray[np.intp]
"""(m, 2) positions in a stack."""
State = tuple[Array, ...]


@dataclass(frozen=True)
class Slices:
    """How a feature adds up over slices of a tensor. Features that share ``state`` share its work."""

    state: Callable[[torch.Tensor, Pairs | None], State]
    """Maps rows (k, elements) of a slice to float64 arrays about all pairs, or about m given ones."""
    merge: Callable[[Array, Array], Array]
    """Joins the arrays of two slices: ``np.add`` or ``np.maximum``."""
    finish: Callable[[State, int], Array]
    """Maps the joined arrays and the number of elements of the whole tensor to (k, k), or (m,) for given pairs."""


@dataclass(frozen=True)
class Feature:
    """A number for each model, or for each two models, told from one tensor of all of them."""

    name: str
    """Its name; with ``kind``, ``version``, ``parameters`` and the weights it is the key of what is kept on disk."""
    version: int
    """Raised whenever its values change."""
    kind: Literal["statistic", "distance", "pair"]
    """``statistic``: (k,); ``distance``: (k, k), symmetric, 0 on the diagonal; ``pair``: (k, k), [i, j] and [j, i] may differ."""
    function: Callable[[torch.Tensor, tuple[str, ...]], Array]
    """Maps a stack (k, *shape), float32 or float64, and the k stored dtypes ("F32", "BF16", ...) to (k,) or (k, k) float64.

    It leaves the stack as it is, and makes no more beside it than as much again and temporary arrays of CHUNK elements. What it
    says of one model, or of two, it tells from those alone, so that any part of the models can be asked about. Models that
    share a tensor bit for bit are one row of the stack; any two of them get what is on the diagonal."""
    on_pairs: Callable[[torch.Tensor, tuple[str, ...], Pairs], Array] | None = None
    """For a score too dear for all pairs: the same for m given pairs, (m, 2) positions in the stack, as (m,) float64."""
    slices: Slices | None = None
    """How it is computed in slices of elements, if it can be; it then takes the place of the functions."""
    parameters: tuple[tuple[str, float | str], ...] = ()
    """Name and value of whatever else its values depend on."""


@cache
def device() -> torch.device:
    """Returns where matrix products are computed: on the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def arrays(
    name: str, infos: Sequence[TensorInfo], features: Sequence[Feature], pairs: Pairs | None, budget: int
) -> list[Array]:
    """Returns each feature of tensor ``name`` of k models, (k,) or (k, k), or (m,) where pairs are given.

    Args:
        name: The tensor's name, for errors.
        infos: Where it lies in each of the models.
        features: What to compute.
        pairs: (m, 2) positions in ``infos`` to compare, instead of all.
        budget: Bytes that may be in use at a time.

    Raises:
        MothrError: a value is NaN or infinite, a file is damaged, or the budget is too small.
    """
    sliced = [feature for feature in features if feature.slices is not None]
    room = budget - _size_of_answers(len(infos), features, pairs)
    tensor = _Tensor(name, infos, room, copies=1 if len(sliced) == len(features) else 2)
    found: dict[str, Array] = {}
    stack = tensor.stack() if tensor.fits(len(infos)) else None
    if sliced:
        found |= _sliced(replace(tensor, copies=1), sliced, pairs, stack)
    statistics = [feature for feature in features if feature.kind == "statistic" and feature.slices is None]
    for block in tensor.blocks(1) if statistics and pairs is None else []:
        part = tensor.stack(block) if stack is None else stack
        dtypes = tensor.dtypes(block)
        for feature in statistics:
            values = _checked(feature, feature.function(part, dtypes), (len(block),))
            found[feature.name] = np.concatenate([found[feature.name], values]) if feature.name in found else values
    for feature in features:
        if feature.name not in found:
            found[feature.name] = (
                _on_all(feature, tensor, stack) if pairs is None else _on_pairs(feature, tensor, pairs, stack)
            )
    return [found[feature.name] for feature in features]


def _size_of_answers(k: int, features: Sequence[Feature], pairs: Pairs | None) -> int:
    """Returns the bytes of the answers, and of as many arrays again for those in the making."""
    sizes = [k if feature.kind == "statistic" else k * k if pairs is None else len(pairs) for feature in features]
    return 8 * (sum(sizes) + 3 * max(sizes))


@dataclass(frozen=True)
class _Tensor:
    """One tensor of k models, and the room there is for it."""

    name: str
    infos: Sequence[TensorInfo]
    room: int
    """Bytes beside the answers."""
    copies: int
    """How many times its stack a feature holds: a function may make as much again."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.infos[0].shape

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def dtypes(self, some: Sequence[int] | None = None) -> tuple[str, ...]:
        return tuple(self.infos[i].dtype for i in (range(len(self.infos)) if some is None else some))

    def need(self, models: int, elements: int) -> int:
        """Returns the bytes for so many models: their stack, one of them as it is read, and temporary arrays in float64."""
        item = 8 if "F64" in self.dtypes() else 4
        return (self.copies * models + 2) * elements * item + 8 * TEMPORARIES * min(
            models * elements, max(elements, CHUNK)
        )

    def fits(self, models: int) -> bool:
        return self.need(models, self.elements) <= self.room

    def most(self, least: int) -> int:
        """Returns how many models fit at a time, at least ``least``."""
        if not self.fits(min(least, len(self.infos))):
            raise self.too_small(self.need(least, self.elements))
        low, high = min(least, len(self.infos)), len(self.infos)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(middle) else (low, middle - 1)
        return low

    def too_small(self, need: int) -> MothrError:
        size = f"tensor {self.name!r} of shape {self.shape} in {len(self.infos)} models"
        return MothrError(
            f"{size} takes at least {need} bytes at a time beside the answers, and the memory budget leaves {self.room}; raise the budget"
        )

    def blocks(self, least: int) -> list[range]:
        most = self.most(least)
        return [range(start, min(start + most, len(self.infos))) for start in range(0, len(self.infos), most)]

    def stack(self, some: Sequence[int] | None = None) -> torch.Tensor:
        infos = self.infos if some is None else [self.infos[i] for i in some]
        return read_into(empty_stack(len(infos), self.shape, self.dtypes()), infos)

    def in_slices(self) -> Iterator[torch.Tensor]:
        """Yields rows (k, elements) of one slice after the other, along the first side that is longer than one."""
        axis = next((axis for axis, side in enumerate(self.shape) if side > 1), 0)
        side = self.shape[axis] if self.shape else 1
        k, unit = len(self.infos), self.elements // side
        if self.need(k, unit) > self.room:
            raise self.too_small(self.need(k, unit))
        size = 1
        while size < side and self.need(k, 2 * size * unit) <= self.room:
            size *= 2
        for start in range(0, side, size):
            shape = (*self.shape[:axis], min(size, side - start), *self.shape[axis + 1 :])
            yield read_into(empty_stack(k, shape, self.dtypes()), self.infos, axis, start).reshape(k, -1)


def _sliced(
    tensor: _Tensor, features: Sequence[Feature], pairs: Pairs | None, stack: torch.Tensor | None
) -> dict[str, Array]:
    ways = {feature.name: feature.slices for feature in features if feature.slices is not None}
    states: dict[Any, State] = {}
    for rows in tensor.in_slices() if stack is None else [stack.reshape(len(stack), -1)]:
        for state, merge in {(way.state, way.merge) for way in ways.values()}:
            new = state(rows, pairs)
            old = states.get((state, merge))
            states[state, merge] = new if old is None else tuple(merge(*both) for both in zip(old, new, strict=True))
    shape = (len(tensor.infos),) * 2 if pairs is None else (len(pairs),)
    done = {name: way.finish(states[way.state, way.merge], tensor.elements) for name, way in ways.items()}
    return {feature.name: _checked(feature, done[feature.name], shape) for feature in features}


def _on_all(feature: Feature, tensor: _Tensor, stack: torch.Tensor | None) -> Array:
    """Returns (k, k) values of a feature that takes whole tensors, by pairs of blocks where not all fit."""
    k = len(tensor.infos)
    if stack is not None:
        return _checked(feature, feature.function(stack, tensor.dtypes()), (k, k))
    size = tensor.most(2) // 2
    blocks = [range(start, min(start + size, k)) for start in range(0, k, size)]
    found, done = np.zeros((k, k)), np.zeros((k, k), dtype=bool)
    for some in ([*one, *other] for one, other in combinations(blocks, 2)):
        part, dtypes, at = tensor.stack(some), tensor.dtypes(some), np.ix_(some, some)
        if feature.kind == "distance" and feature.on_pairs is not None:
            left = np.argwhere(np.triu(~done[at], 1))
            i, j = np.array(some)[left].T
            found[i, j] = found[j, i] = _checked(feature, feature.on_pairs(part, dtypes, left), (len(left),))
            done[at] = True
        else:
            found[at] = _checked(feature, feature.function(part, dtypes), (len(some),) * 2)
    return found


def _on_pairs(feature: Feature, tensor: _Tensor, pairs: Pairs, stack: torch.Tensor | None) -> Array:
    """Returns (m,) values of given pairs of whole tensors, reading as many models at a time as fit."""
    found = np.empty(len(pairs))
    for chosen, some in _runs(pairs, tensor.most(2)) if stack is None else [(range(len(pairs)), range(len(stack)))]:
        part = tensor.stack(some) if stack is None else stack
        places, dtypes = np.searchsorted(some, pairs[chosen]), tensor.dtypes(some)
        if feature.on_pairs is not None:
            found[chosen] = _checked(feature, feature.on_pairs(part, dtypes, places), (len(chosen),))
            continue
        for which, both in zip(chosen, places.tolist(), strict=True):
            both = sorted(set(both), key=both.index)  # a model beside itself: what is on the diagonal
            found[which] = feature.function(part[both], tuple(dtypes[i] for i in both))[0, -1]
    return found


def _runs(pairs: Pairs, most: int) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Yields (which pairs, the models they name, sorted) so that no more than ``most`` models are named at a time."""
    chosen: list[int] = []
    named: set[int] = set()
    for which in np.lexsort((pairs.max(axis=1), pairs.min(axis=1))).tolist():
        both = set(pairs[which].tolist())
        if len(named | both) > most:
            yield chosen, sorted(named)
            chosen, named = [], set()
        chosen.append(which)
        named |= both
    if chosen:
        yield chosen, sorted(named)


def _checked(feature: Feature, values: Array, shape: tuple[int, ...]) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"feature {feature.name!r} gave an array of shape {array.shape} where {shape} was due")
    return array
