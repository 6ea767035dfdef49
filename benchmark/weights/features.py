"""Computes features: distances, statistics and pair scores of each tensor, in one pass over the weights.

A :class:`~mothr.benchmark.weights.streaming.Feature` is computed from one tensor of all models. :func:`compute`
and :func:`stream` read each tensor once, for all features that are not in the cache. The functions of
:mod:`mothr.benchmark.weights.combine` then combine the results of all tensors to one result. So another choice
of layers or another rule of combination reads no weights. Memory and workers are set by
:func:`mothr.benchmark.weights.engine.use_resources`.
"""

import warnings
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mothr.benchmark.errors import MothrWarning
from mothr.benchmark.weights.checkpoint import TensorInfo
from mothr.benchmark.weights.combine import Array, TensorValues
from mothr.benchmark.weights.engine import ComputeResources, current_resources
from mothr.benchmark.weights.layers import Key, Layers
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.result_cache import Cache, ResultCache, ResultKey, folder_of
from mothr.benchmark.weights.streaming import Feature, Pairs, arrays


def compute(
    models: ModelSet, features: Sequence[Feature], layers: Layers, *, cache: Cache = "default", progress: bool = False
) -> dict[str, dict[Key, TensorValues]]:
    """Returns {feature name: {(tensor name, shape): (positions, values)}} over the tensors that ``layers`` selects.

    ``positions`` are the places in ``models.ids`` of the k models that hold the tensor. ``values`` is float64,
    (k,) for a statistic and (k, k) for a distance or a pair score.

    Args:
        models: The models.
        features: What to compute. Each tensor is read once for all features that are not in the cache.
        layers: Which tensors.
        cache: Where results are stored; None stores nothing. A damaged result is computed again.
        progress: Whether to show a progress bar on stderr.

    Raises:
        MothrError: ``layers`` selects no tensor, a weight is NaN or infinite, or the memory budget is too
            small.
    """
    results: dict[str, dict[Key, TensorValues]] = {feature.name: {} for feature in features}
    for key, positions, values in _compute_tensors(models, features, layers, cache, progress):
        for feature, array in zip(features, values, strict=True):
            results[feature.name][key] = positions, array
    return results


def stream(
    models: ModelSet, feature: Feature, layers: Layers, *, cache: Cache = "default", progress: bool = False
) -> Iterator[tuple[Key, TensorValues]]:
    """Yields ((tensor name, shape), (positions, values)) of one feature, one tensor after the other.

    Arguments and errors are those of :func:`compute`. Only the values of one tensor are in memory at a time:
    (k, k) float64 values of k = 1,000 models are 8 MB.
    """
    return (
        (key, (positions, array))
        for key, positions, [array] in _compute_tensors(models, [feature], layers, cache, progress)
    )


def compute_pairs(
    models: ModelSet, feature: Feature, layers: Layers, pairs: NDArray[np.intp], *, cache: Cache = "default"
) -> dict[Key, Array]:
    """Returns {(tensor name, shape): (m,) values} of m requested pairs of models.

    Only the models in the pairs are read.

    Args:
        models: The models.
        feature: A distance or a pair score.
        layers: Which tensors.
        pairs: (m, 2) positions in ``models.ids``. The value of a pair is NaN if one of its models lacks the
            tensor.
        cache: As in :func:`compute`.

    Raises:
        ValueError: ``feature`` is a statistic of one model.
        MothrError: As in :func:`compute`.
    """
    if feature.kind == "statistic":
        raise ValueError(f"feature {feature.name!r} is a statistic of one model; pairs need a distance or a pair score")
    keys = layers.select_from(models)
    _warn_of_missing_tensors(models, keys, layers)
    tasks: list[_TensorTask] = []
    held: dict[Key, NDArray[np.bool_]] = {}
    for key in keys:
        held[key] = np.atleast_1d(np.isin(pairs, models.shapes[key]).all(axis=1))
        if held[key].any():
            positions, rows = np.unique(pairs[held[key]], return_inverse=True)
            tasks.append(_TensorTask(models, key, tuple(positions.tolist()), [feature], rows.reshape(-1, 2)))
    results = {key: np.full(len(pairs), np.nan) for key in keys}
    for task, [values] in _run_tasks(tasks, cache):
        results[task.key][held[task.key]] = values
    return results


def _compute_tensors(
    models: ModelSet, features: Sequence[Feature], layers: Layers, cache: Cache, progress: bool
) -> Iterator[tuple[Key, tuple[int, ...], list[Array]]]:
    """Yields (key, positions, one array for each feature) of each tensor.

    Errors in the arguments are raised at once.
    """
    if len({feature.name for feature in features}) < len(features):
        raise ValueError(f"two features have the same name: {[feature.name for feature in features]}")
    keys = layers.select_from(models)
    _warn_of_missing_tensors(models, keys, layers)
    tasks = (
        _TensorTask(models, key, models.shapes[key], features, None)
        for key in tqdm(keys, desc="tensors", disable=not progress)
    )
    return ((task.key, task.positions, values) for task, values in _run_tasks(tasks, cache))


@dataclass(frozen=True)
class _TensorTask:
    """Features of one tensor of k models. Models whose tensors are bit-identical share one row of the computation."""

    models: ModelSet
    """All models."""
    key: Key
    """Name and shape of the tensor."""
    positions: tuple[int, ...]
    """Places in ``models.ids`` of the k models."""
    features: Sequence[Feature]
    """What to compute."""
    pairs: Pairs | None
    """(m, 2) places in ``positions``; None for all pairs."""

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """(k,) content digests of the tensors."""
        name, checkpoints = self.key[0], self.models.checkpoints
        return tuple([checkpoints[position].digests[name] for position in self.positions])

    @cached_property
    def distinct(self) -> list[TensorInfo]:
        """The header entries of the distinct tensors, in the order of their first model."""
        first = dict(zip(reversed(self.digests), reversed(self.positions), strict=True))
        return [self.models.checkpoints[first[digest]].tensors[self.key[0]] for digest in dict.fromkeys(self.digests)]

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """(k,) place of each model's tensor in ``distinct``."""
        row_of = {digest: row for row, digest in enumerate(dict.fromkeys(self.digests))}
        return np.array([row_of[digest] for digest in self.digests])

    def result_key(self, feature: Feature) -> ResultKey:
        """Returns the key of the feature's result in the cache."""
        parameters: tuple[Hashable, ...] = (feature.parameters,) if feature.parameters else ()
        return ResultKey((self.digests, feature.name, feature.kind, feature.version, *parameters), self.pairs)

    def result_shape(self, feature: Feature) -> tuple[int, ...]:
        if self.pairs is not None:
            return (len(self.pairs),)
        return (len(self.positions),) * (1 if feature.kind == "statistic" else 2)

    def expand(self, array: Array) -> Array:
        """Returns the result for the k models from the result for the distinct tensors."""
        if self.pairs is not None or len(self.distinct) == len(self.rows):
            return array
        return array[np.ix_(*[self.rows] * array.ndim)]

    def submit(self, features: Sequence[Feature], resources: ComputeResources) -> Future[list[Array]]:
        """Returns the future results for the distinct tensors; without an executor they are computed now."""
        pairs = None if self.pairs is None else self.rows[self.pairs]
        arguments = self.key[0], self.distinct, features, pairs, resources.budget_per_worker
        if resources.executor is not None:
            return resources.executor.submit(arrays, *arguments)
        future: Future[list[Array]] = Future()
        future.set_result(arrays(*arguments))
        return future


def _run_tasks(tasks: Iterable[_TensorTask], cache: Cache) -> Iterator[tuple[_TensorTask, list[Array]]]:
    """Yields each task with one array for each feature, in the order of the tasks.

    Results come from the cache or are computed. As many tasks are in progress at a time as there are workers.
    """
    resources, results = current_resources(), ResultCache(folder_of(cache))
    waiting: deque[tuple[_TensorTask, list[Array | None], Future[list[Array]] | None]] = deque()

    def finish() -> tuple[_TensorTask, list[Array]]:
        task, stored, future = waiting.popleft()
        computed = iter([] if future is None else future.result())
        values = []
        for feature, array in zip(task.features, stored, strict=True):
            key = task.result_key(feature)
            if array is None:
                array = task.expand(next(computed))
                results.store(key, array)
            results.hold(key, array)
            values.append(array)
        return task, values

    for task in tasks:
        stored = [results.load(task.result_key(feature), task.result_shape(feature)) for feature in task.features]
        missing = [feature for feature, array in zip(task.features, stored, strict=True) if array is None]
        waiting.append((task, stored, task.submit(missing, resources) if missing else None))
        while len(waiting) >= (1 if resources.executor is None else resources.workers):
            yield finish()
    while waiting:
        yield finish()


def _warn_of_missing_tensors(models: ModelSet, keys: Sequence[Key], layers: Layers) -> None:
    """Warns once if some models lack tensors that other models hold."""
    if all(len(models.shapes[key]) == len(models) for key in keys):
        return
    holds = np.zeros((len(models), len(keys)), dtype=np.int64)
    for column, key in enumerate(keys):
        holds[list(models.shapes[key]), column] = 1
    missing = len(keys) - holds.sum(axis=1)
    # If one model has a shape of its own, all others lack that shape.
    # So a model is unusual if it lacks more tensors than the median.
    usual = np.median(missing)
    unusual = np.flatnonzero(missing > usual) if (missing > usual).any() else np.flatnonzero(missing)
    unusual = unusual[np.argsort(-missing[unusual], kind="stable")]
    first = unusual[0]
    missing_keys = [keys[column] for column in np.flatnonzero(holds[first] == 0).tolist()]
    name, shape = missing_keys[0]
    shared = (holds @ holds.T)[np.triu_indices(len(models), 1)]
    pairs_without = int((shared == 0).sum())
    warnings.warn(
        f"{unusual.size} of {len(models)} models lack some of the {len(keys)} tensors of layers {str(layers)!r}: "
        f"{', '.join(models.ids[position] for position in unusual[:3])}{', ...' if unusual.size > 3 else ''}; "
        f"{models.ids[first]} lacks {len(missing_keys)}, the first {name!r} of shape {shape}. "
        f"Pairs were compared on the tensors both hold, {shared.min()} to {shared.max()} of {len(keys)}"
        + (f"; {pairs_without} pairs share none and count as infinitely far apart" if pairs_without else ""),
        MothrWarning,
        stacklevel=4,
    )
