"""One streaming pass over the weights: distances, statistics and pair scores of each tensor, kept on disk.

A :class:`Feature` is about one tensor of all models. :func:`compute` and :func:`stream` read each tensor once for all features
that are not on disk yet; ``combine_*`` then turn what the tensors say into one answer, so that other layers or another
combination cost nothing. How much memory that takes, and who does the work, is said once, by :func:`computing`.
"""

import io
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import cache_folder, canonical_sha256, write_bytes
from mothr.benchmark.weights.checkpoint import ModelSet, TensorInfo
from mothr.benchmark.weights.combine import DISTANCE_RULES as DISTANCE_RULES
from mothr.benchmark.weights.combine import EVIDENCE_RULES as EVIDENCE_RULES
from mothr.benchmark.weights.combine import Array, Held
from mothr.benchmark.weights.combine import PerTensor as PerTensor
from mothr.benchmark.weights.combine import combine_distances as combine_distances
from mothr.benchmark.weights.combine import combine_pair_distances as combine_pair_distances
from mothr.benchmark.weights.combine import combine_pairs as combine_pairs
from mothr.benchmark.weights.combine import combine_scores as combine_scores
from mothr.benchmark.weights.combine import combine_statistics as combine_statistics
from mothr.benchmark.weights.layers import Key as Key
from mothr.benchmark.weights.layers import Layers as Layers
from mothr.benchmark.weights.streaming import CHUNK as CHUNK
from mothr.benchmark.weights.streaming import Feature as Feature
from mothr.benchmark.weights.streaming import Pairs as Pairs
from mothr.benchmark.weights.streaming import Slices as Slices
from mothr.benchmark.weights.streaming import arrays
from mothr.benchmark.weights.streaming import device as device

Cache = Path | Literal["default"] | None
"""Where results are kept: a folder, ``cache_folder("features")``, or nowhere."""


MEMORY = 1 << 29
"""Bytes of results that :func:`in_memory` keeps by default."""
BUDGET = 1 << 31
"""Bytes that computing a feature may take at a time by default."""


class MothrWarning(UserWarning):
    """Says what was left out of an answer, where the answer still stands."""


@dataclass
class _Memory:
    """What :func:`in_memory` keeps; a full one takes no more, since a grid walked again and again would push all of it out."""

    room: int
    """Bytes left."""
    arrays: dict[Hashable, Array] = field(default_factory=dict)
    """Key of the result -> result, read only."""

    def keep(self, key: Hashable, array: Array) -> None:
        if key not in self.arrays and array.nbytes <= self.room:
            array.flags.writeable = False
            self.arrays[key] = array
            self.room -= array.nbytes


_memory: ContextVar[_Memory | None] = ContextVar("memory", default=None)


@contextmanager
def in_memory(size: int = MEMORY) -> Iterator[None]:
    """Keeps up to ``size`` bytes of per-tensor results in memory within the block, beside those on disk.

    For many runs on the same weights: reading from disk is most of the time of a run whose results are there. What
    :func:`compute` gives is then read only. What is made of it is kept as well where :func:`remember` is asked to.
    """
    token = _memory.set(_Memory(size))
    try:
        yield
    finally:
        _memory.reset(token)


def remember(models: ModelSet, question: Hashable, answer: Callable[[], Array], cache: Cache = "default") -> Array:
    """Returns ``answer()``, read only within :func:`in_memory`, where it is called, and warns, but once for the same weights.

    Args:
        models: The models that are asked about.
        question: All that the answer depends on beside their weights and order.
        answer: What to call.
        cache: None keeps nothing.
    """
    memory = None if cache is None else _memory.get()
    if memory is None:
        return answer()
    key = tuple([checkpoint.digest for checkpoint in models.checkpoints]), question
    if (found := memory.arrays.get(key)) is None:
        memory.keep(key, found := answer())
    return found


@dataclass(frozen=True)
class ComputeResources:
    """With what features are computed."""

    budget: int = BUDGET
    executor: Executor | None = None
    workers: int = 1


_means: ContextVar[ComputeResources | None] = ContextVar("means", default=None)


@contextmanager
def computing(*, budget: int = BUDGET, executor: Executor | None = None, workers: int = 1) -> Iterator[None]:
    """Says for the block with what features are computed; answers depend on it by rounding alone.

    Args:
        budget: Bytes that may be in use at a time, by all workers together. A tensor of all models that is larger is taken in
            parts; :class:`MothrError` where the smallest part is too large.
        executor: Who computes: a pool of threads or of processes, or that of a cluster; None for this process itself.
        workers: How many tensors it computes at a time.
    """
    token = _means.set(ComputeResources(budget, executor, workers))
    try:
        yield
    finally:
        _means.reset(token)


def compute(
    models: ModelSet, features: Sequence[Feature], layers: Layers, *, cache: Cache = "default", progress: bool = False
) -> dict[str, dict[Key, Held]]:
    """Returns, for each feature by name, {(tensor name, shape): (positions, array)} over the tensors that ``layers`` selects.

    Args:
        models: The models; positions are places in ``models.ids``.
        features: What to compute; each tensor is read once for all those not on disk yet.
        layers: Which tensors.
        cache: Where per-tensor results are kept; None keeps nothing. A damaged entry is computed again.
        progress: Whether to show a bar on stderr.

    Raises:
        MothrError: ``layers`` selects nothing, a weight is NaN or infinite, or the memory budget is too small.
    """
    found: dict[str, dict[Key, Held]] = {feature.name: {} for feature in features}
    for key, positions, values in _stream(models, features, layers, cache, progress):
        for feature, array in zip(features, values, strict=True):
            found[feature.name][key] = positions, array
    return found


def stream(
    models: ModelSet, feature: Feature, layers: Layers, *, cache: Cache = "default", progress: bool = False
) -> Iterator[tuple[Key, Held]]:
    """Yields ((tensor name, shape), (positions, array)) of one feature, tensor by tensor: what ``combine_*`` take as it comes.

    As :func:`compute`, but no more than a tensor's values are held at a time: (k, k) of a thousand models are 8 MB.
    """
    return (
        (key, (positions, array)) for key, positions, [array] in _stream(models, [feature], layers, cache, progress)
    )


def compute_pairs(
    models: ModelSet, feature: Feature, layers: Layers, pairs: NDArray[np.intp], *, cache: Cache = "default"
) -> dict[Key, Array]:
    """Returns {(tensor name, shape): (m,) scores} of m given pairs, reading only the models they name.

    Args:
        models: The models.
        feature: A distance or a pair score.
        layers: Which tensors.
        pairs: (m, 2) positions in ``models.ids``; the score of row (i, j) is NaN where i or j lacks the tensor.
        cache: As in :func:`compute`.
    """
    if feature.kind == "statistic":
        raise ValueError(f"feature {feature.name!r} is about one model, not about two")
    keys = layers.select_from(models)
    _warn_of_gaps(models, keys, layers)
    asked, helds = list[_Asked](), dict[Key, NDArray[np.bool_]]()
    for key in keys:
        helds[key] = held = np.atleast_1d(np.isin(pairs, models.shapes[key]).all(axis=1))
        if held.any():
            positions, local = np.unique(pairs[held], return_inverse=True)
            asked.append(_Asked(models, key, tuple(positions.tolist()), [feature], local.reshape(-1, 2)))
    found = {key: np.full(len(pairs), np.nan) for key in keys}
    for one, [scores] in _answers(asked, _folder(cache)):
        found[one.key][helds[one.key]] = scores
    return found


def _stream(
    models: ModelSet, features: Sequence[Feature], layers: Layers, cache: Cache, progress: bool
) -> Iterator[tuple[Key, tuple[int, ...], list[Array]]]:
    """Yields (key, positions, an array a feature) of each tensor; what is wrong with the question is said at once."""
    if len({feature.name for feature in features}) < len(features):
        raise ValueError(f"two features have the same name: {[feature.name for feature in features]}")
    keys = layers.select_from(models)
    _warn_of_gaps(models, keys, layers)
    asked = (
        _Asked(models, key, models.shapes[key], features, None)
        for key in tqdm(keys, desc="tensors", disable=not progress)
    )
    return ((one.key, one.positions, values) for one, values in _answers(asked, _folder(cache)))


def _folder(cache: Cache) -> Path | None:
    return cache_folder("features") if cache == "default" else cache


@dataclass(frozen=True)
class _Asked:
    """Features of one tensor of k models, of which those that share it bit for bit are computed once."""

    models: ModelSet
    key: Key
    positions: tuple[int, ...]
    features: Sequence[Feature]
    pairs: Pairs | None
    """(m, 2) places in ``positions``."""

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """(k,)"""
        name, checkpoints = self.key[0], self.models.checkpoints
        return tuple([checkpoints[position].digests[name] for position in self.positions])

    @cached_property
    def infos(self) -> list[TensorInfo]:
        """Where the different tensors lie."""
        firsts = dict(zip(reversed(self.digests), reversed(self.positions), strict=True))
        return [self.models.checkpoints[firsts[digest]].tensors[self.key[0]] for digest in dict.fromkeys(self.digests)]

    @cached_property
    def place(self) -> NDArray[np.intp]:
        """(k,) row of each model among the different tensors."""
        rows = {digest: row for row, digest in enumerate(dict.fromkeys(self.digests))}
        return np.array([rows[digest] for digest in self.digests])

    def identity(self, feature: Feature) -> tuple[Hashable, ...]:
        """Returns what the feature's values depend on, the pairs aside."""
        extra = (feature.parameters,) if feature.parameters else ()
        return (self.digests, feature.name, feature.kind, feature.version, *extra)

    def shape(self, feature: Feature) -> tuple[int, ...]:
        return (
            (len(self.pairs),)
            if self.pairs is not None
            else (len(self.positions),) * (1 if feature.kind == "statistic" else 2)
        )

    def spread(self, array: Array) -> Array:
        """Returns what was computed of the different tensors as one of all models."""
        if self.pairs is not None or len(self.infos) == len(self.place):
            return array
        return array[np.ix_(*[self.place] * array.ndim)]


def _answers(asked: Iterable[_Asked], folder: Path | None) -> Iterator[tuple[_Asked, list[Array]]]:
    """Yields each question with its arrays, in order: from memory or disk, else computed, so many at a time as there are workers."""
    means, memory = _means.get() or ComputeResources(), None if folder is None else _memory.get()
    waiting: deque[tuple[_Asked, list[Array | None], Future[list[Array]] | None]] = deque()

    def finish() -> tuple[_Asked, list[Array]]:
        one, kept, future = waiting.popleft()
        new = iter([] if future is None else future.result())
        values = []
        for feature, array in zip(one.features, kept, strict=True):
            if array is None:
                array = one.spread(next(new))
                if folder is not None:
                    _store(_entry(folder, one, feature), array)
            if memory is not None:
                memory.keep(_place_in_memory(one, feature), array)
            values.append(array)
        return one, values

    for one in asked:
        kept = [_kept(one, feature, folder, memory) for feature in one.features]
        missing = [feature for feature, array in zip(one.features, kept, strict=True) if array is None]
        waiting.append((one, kept, _submit(one, missing, means) if missing else None))
        while len(waiting) >= (1 if means.executor is None else means.workers):
            yield finish()
    while waiting:
        yield finish()


def _submit(one: _Asked, missing: Sequence[Feature], means: ComputeResources) -> Future[list[Array]]:
    """Returns the future arrays of one tensor; without an executor they are there at once."""
    pairs = None if one.pairs is None else one.place[one.pairs]
    task = one.key[0], one.infos, missing, pairs, means.budget // max(1, means.workers)
    if means.executor is not None:
        return means.executor.submit(arrays, *task)
    future: Future[list[Array]] = Future()
    future.set_result(arrays(*task))
    return future


def _place_in_memory(one: _Asked, feature: Feature) -> Hashable:
    return (*one.identity(feature), None if one.pairs is None else one.pairs.tobytes())


def _entry(folder: Path, one: _Asked, feature: Feature) -> Path:
    return (
        folder / f"{canonical_sha256([*one.identity(feature), None if one.pairs is None else one.pairs.tolist()])}.npz"
    )


def _kept(one: _Asked, feature: Feature, folder: Path | None, memory: _Memory | None) -> Array | None:
    """Returns what memory or disk holds, if anything."""
    array = None if memory is None else memory.arrays.get(_place_in_memory(one, feature))
    return array if array is not None or folder is None else _load(_entry(folder, one, feature), one.shape(feature))


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
