"""One streaming pass over the weights: distances, statistics and pair scores of each tensor, kept on disk.

A :class:`Feature` sees one tensor of all models at once. :func:`compute` reads each tensor once for all features that are
not on disk yet; ``combine_*`` then turn what the tensors say into one answer, so that other layers or another combination
cost nothing. Models need not hold the same tensors: a pair is compared on the tensors that both hold, in the same shape.
"""

import io
import math
import warnings
import zipfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.layers import Key as Key
from mothr.benchmark.layers import Layers as Layers
from mothr.benchmark.storage import cache_folder, canonical_sha256, write_bytes
from mothr.benchmark.weights import ModelSet

Array = NDArray[np.float64]
PerTensor = Mapping[Key, tuple[tuple[int, ...], Array]]
"""(tensor name, shape) -> the positions of the k models that hold it, and (k,) or (k, k) values."""
Cache = Path | Literal["default"] | None
"""Where results are kept: a folder, ``cache_folder("features")``, or nowhere."""


MEMORY = 1 << 29
"""Bytes of results that :func:`in_memory` keeps by default."""


class MothrWarning(UserWarning):
    """Says what was left out of an answer, where the answer still stands."""


@dataclass(frozen=True)
class Feature:
    """A number for each model, or for each two models, told from one tensor of all of them."""

    name: str
    """Its name; with ``kind``, ``version`` and the weights it is the key of what is kept on disk."""
    version: int
    """Raised whenever its values change."""
    kind: Literal["statistic", "distance", "pair"]
    """``statistic``: (k,); ``distance``: (k, k), symmetric; ``pair``: (k, k), [i, j] and [j, i] may differ."""
    function: Callable[[torch.Tensor, tuple[str, ...]], Array]
    """Maps a stack (k, *shape), float32 or float64, and the k stored dtypes ("F32", "BF16", ...) to (k,) or (k, k) float64.

    Models that share a tensor bit for bit are one row of the stack; any two of them get what is on the diagonal."""
    on_pairs: Callable[[torch.Tensor, tuple[str, ...], NDArray[np.intp]], Array] | None = None
    """For a pair score too dear for all pairs: the same for m given pairs, (m, 2) positions in the stack, as (m,) float64."""


@dataclass
class _Memory:
    """What :func:`in_memory` keeps; a full one takes no more, since a grid walked again and again would push all of it out."""

    room: int
    """Bytes left."""
    arrays: dict[Hashable, Array] = field(default_factory=dict)
    """Key of the result -> result, read only."""

    def keep(self, key: Hashable, array: Array) -> None:
        if array.nbytes <= self.room:
            array.flags.writeable = False
            self.arrays[key] = array
            self.room -= array.nbytes


_memory: ContextVar[_Memory | None] = ContextVar("memory", default=None)


@contextmanager
def in_memory(size: int = MEMORY) -> Iterator[None]:
    """Keeps up to ``size`` bytes of per-tensor results in memory within the block, beside those on disk.

    For many runs on the same weights: reading from disk is most of the time of a run whose results are there. What
    :func:`compute` gives is then read only.
    """
    token = _memory.set(_Memory(size))
    try:
        yield
    finally:
        _memory.reset(token)


def compute(
    models: ModelSet, features: Sequence[Feature], layers: Layers, *, cache: Cache = "default", progress: bool = False
) -> dict[str, PerTensor]:
    """Returns, for each feature by name, {(tensor name, shape): (positions, array)} over the tensors that ``layers`` selects.

    Args:
        models: The models; positions are places in ``models.ids``.
        features: What to compute; each tensor is read once for all those not on disk yet.
        layers: Which tensors.
        cache: Where per-tensor results are kept; None keeps nothing. A damaged entry is computed again.
        progress: Whether to show a bar on stderr.

    Raises:
        MothrError: ``layers`` selects nothing, or a weight is NaN or infinite.
    """
    if len({feature.name for feature in features}) < len(features):
        raise ValueError(f"two features have the same name: {[feature.name for feature in features]}")
    keys = layers.select_from(models)
    _warn_of_gaps(models, keys, layers)
    folder = _folder(cache)
    found: dict[str, dict[Key, tuple[tuple[int, ...], Array]]] = {feature.name: {} for feature in features}
    for key in tqdm(keys, desc="tensors", disable=not progress):
        positions = models.shapes[key]
        for feature, array in _of_one_tensor(models, features, key[0], positions, None, folder):
            found[feature.name][key] = positions, array
    return dict(found)


def compute_pairs(
    models: ModelSet, feature: Feature, layers: Layers, pairs: NDArray[np.intp], *, cache: Cache = "default"
) -> dict[Key, Array]:
    """Returns {(tensor name, shape): (m,) scores} of m given pairs, reading only the models they name.

    Args:
        models: The models.
        feature: A feature with ``on_pairs``.
        layers: Which tensors.
        pairs: (m, 2) positions in ``models.ids``; the score of row (i, j) is NaN where i or j lacks the tensor.
        cache: As in :func:`compute`.
    """
    keys = layers.select_from(models)
    _warn_of_gaps(models, keys, layers)
    folder, found = _folder(cache), {}
    for key in keys:
        held = np.isin(pairs, models.shapes[key]).all(axis=1)
        scores = np.full(len(pairs), np.nan)
        if held.any():
            positions, local = np.unique(pairs[held], return_inverse=True)
            local = local.reshape(-1, 2)
            [(_, scores[held])] = _of_one_tensor(models, [feature], key[0], tuple(positions.tolist()), local, folder)
        found[key] = scores
    return found


def _folder(cache: Cache) -> Path | None:
    return cache_folder("features") if cache == "default" else cache


def _of_one_tensor(
    models: ModelSet,
    features: Sequence[Feature],
    name: str,
    positions: tuple[int, ...],
    pairs: NDArray[np.intp] | None,
    folder: Path | None,
) -> Iterator[tuple[Feature, Array]]:
    """Yields each feature with its array for one tensor: from memory or disk, else computed from one reading of the stack."""
    digests = tuple(models.checkpoints[position].digests[name] for position in positions)
    rows = {digest: row for row, digest in enumerate(dict.fromkeys(digests))}  # models that share a tensor share its row and its answers
    firsts, place = [positions[digests.index(digest)] for digest in rows], np.array([rows[digest] for digest in digests])
    dtypes = tuple(models.checkpoints[position].tensors[name].dtype for position in firsts)
    memory = None if folder is None else _memory.get()
    stack: torch.Tensor | None = None
    k = len(positions)
    for feature in features:
        identity = (digests, feature.name, feature.kind, feature.version)
        at = (*identity, None if pairs is None else pairs.tobytes())
        array = None if memory is None else memory.arrays.get(at)
        if array is None:
            shape = (len(pairs),) if pairs is not None else (k,) * (1 if feature.kind == "statistic" else 2)
            key = [*identity, None if pairs is None else pairs.tolist()]
            path = None if folder is None else folder / f"{canonical_sha256(key)}.npz"
            array = None if path is None else _load(path, shape)
            if array is None:
                stack = models.stack(name, firsts) if stack is None else stack
                array = _computed(feature, stack, dtypes, place, pairs)
                if path is not None:
                    _store(path, array)
            if memory is not None:
                memory.keep(at, array)
        yield feature, array


def _computed(
    feature: Feature, stack: torch.Tensor, dtypes: tuple[str, ...], place: NDArray[np.intp], pairs: NDArray[np.intp] | None
) -> Array:
    """Returns the feature of k models whose tensors are rows ``place``, (k,), of ``stack``; of given ``pairs`` only, if any."""
    if pairs is None:
        values, shape = feature.function(stack, dtypes), (len(stack),) * (1 if feature.kind == "statistic" else 2)
    elif feature.on_pairs is not None:
        values, shape = feature.on_pairs(stack, dtypes, place[pairs]), (len(pairs),)
    else:
        raise ValueError(f"feature {feature.name!r} has no on_pairs")
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"feature {feature.name!r} gave an array of shape {array.shape} where {shape} was due")
    return array if pairs is not None else array[np.ix_(*[place] * array.ndim)]


def _load(path: Path, shape: tuple[int, ...]) -> Array | None:
    """Returns the array kept in ``path``, or None if it is absent or damaged (a zip carries checksums)."""
    try:
        with np.load(path, allow_pickle=False) as entry:
            array = entry["values"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return array if array.shape == shape and array.dtype == np.float64 else None


def _store(path: Path, array: Array) -> None:
    content = io.BytesIO()
    np.savez(content, values=array)
    try:
        write_bytes(path, content.getvalue())
    except MothrError as error:  # the answer is there all the same; only the next run is slower
        remedy = "results are not kept; set MOTHR_CACHE to a folder that can be written"
        warnings.warn(f"{error}; {remedy}", MothrWarning, stacklevel=2)


def _warn_of_gaps(models: ModelSet, keys: Sequence[Key], layers: Layers) -> None:
    """Warns once if models lack tensors that others hold."""
    if all(len(models.shapes[key]) == len(models) for key in keys):
        return
    holds = np.zeros((len(models), len(keys)), dtype=np.int64)
    for column, key in enumerate(keys):
        holds[list(models.shapes[key]), column] = 1
    lacks = len(keys) - holds.sum(axis=1)
    usual = np.median(lacks)  # where one model has a shape of its own, all others lack that, and it is the odd one
    lacking = np.flatnonzero(lacks > usual) if (lacks > usual).any() else np.flatnonzero(lacks)
    lacking = lacking[np.argsort(-lacks[lacking], kind="stable")]
    first = lacking[0]
    lacked = [keys[column] for column in np.flatnonzero(holds[first] == 0).tolist()]
    name, shape = lacked[0]
    shared = (holds @ holds.T)[np.triu_indices(len(models), 1)]
    none = int((shared == 0).sum())
    warnings.warn(
        f"{lacking.size} of {len(models)} models lack some of the {len(keys)} tensors of layers {str(layers)!r}: "
        f"{', '.join(models.ids[position] for position in lacking[:3])}{', ...' if lacking.size > 3 else ''}; "
        f"{models.ids[first]} lacks {len(lacked)}, the first {name!r} of shape {shape}. "
        f"Pairs were compared on the tensors both hold, {shared.min()} to {shared.max()} of {len(keys)}"
        + (f"; {none} pairs share none and count as infinitely far apart" if none else ""),
        MothrWarning,
        stacklevel=4,
    )


def _places(positions: tuple[int, ...], n: int, among: Sequence[int] | None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
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
    size = n if among is None else len(among)
    total, weight = np.zeros((size, size)), np.zeros((size, size))
    for (_, shape), (positions, array) in per_tensor.items():
        local, place = _places(positions, n, among)
        values, at, elements = array[np.ix_(local, local)], np.ix_(place, place), math.prod(shape)
        if how in ("mean", "sum"):
            total[at] += values
            weight[at] += 1
        elif how == "quadratic":
            total[at] += elements * values**2
            weight[at] += elements
        elif how == "max":
            total[at] = np.maximum(total[at], values)
            weight[at] += 1
        elif how == "scaled-max":
            largest = values.max(initial=0.0)
            weight[at] += 1
            if largest > 0:
                total[at] = np.maximum(total[at], (values + largest) / (2 * largest))
        else:
            raise unknown_name("way to combine distances", how, DISTANCE_RULES)
    if how in ("mean", "quadratic", "sum"):
        total /= np.maximum(weight, 1)
        total = np.sqrt(total) if how == "quadratic" else total * weight.max(initial=0) if how == "sum" else total
    combined: Array = np.where(weight > 0, total, np.inf)
    np.fill_diagonal(combined, 0.0)
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
    return combine_scores(((key, _spread(array, positions, n)) for key, (positions, array) in per_tensor.items()), how)


def combine_pairs(per_tensor: PerTensor, n: int, how: str) -> Array:
    """Returns (n, n) scores from pair scores of each tensor, or from a statistic as its difference, [i] minus [j].

    Pairs without a value in any shared tensor get 0. ``how`` is as in :func:`combine_scores`.
    """

    def scores() -> Iterator[tuple[Key, Array]]:
        for key, (positions, array) in per_tensor.items():
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
