"""The cache of results: arrays on disk for later runs, and in memory for many runs in one process.

A result on disk is one file. Its name is the SHA-256 of everything the result depends on: the content digests
of the tensors, the name, kind, version and parameters of the feature, and the requested pairs. Neither ids nor
paths are part of the key. So equal weights share their results, and changed weights or a new version of a
feature never meet old results.
"""

import io
import warnings
import zipfile
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.storage import cache_folder, canonical_sha256, write_bytes
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.model_set import ModelSet

Cache = Path | Literal["default"] | None
"""Where results are stored: in a folder, in ``cache_folder("features")``, or nowhere."""
DEFAULT_MEMORY = 1 << 29
"""Bytes of results that :func:`in_memory` holds by default: 512 MiB."""


@dataclass
class _Memory:
    """Results held in memory. When it is full, it stores no further results.

    Evicting old results would not help: a study computes the same results again and again in the same order, so
    each result would be evicted just before it is requested again.
    """

    room: int
    """Bytes that are left."""
    arrays: dict[Hashable, Array] = field(default_factory=dict)
    """Key of a result -> the result, read-only."""

    def store(self, key: Hashable, array: Array) -> None:
        if key not in self.arrays and array.nbytes <= self.room:
            array.flags.writeable = False
            self.arrays[key] = array
            self.room -= array.nbytes


_memory: ContextVar[_Memory | None] = ContextVar("memory", default=None)


@contextmanager
def in_memory(size: int = DEFAULT_MEMORY) -> Iterator[None]:
    """Holds results in memory within the block, in addition to those on disk. The arrays are then read-only.

    This is for many runs on the same weights. If all results are on disk, a run spends most of its time reading
    them.

    Args:
        size: Bytes of results that are held at most.
    """
    token = _memory.set(_Memory(size))
    try:
        yield
    finally:
        _memory.reset(token)


def remember(models: ModelSet, key: Hashable, compute: Callable[[], Array], cache: Cache = "default") -> Array:
    """Returns ``compute()``; within :func:`in_memory` it is called once for the same weights and key.

    A warning that ``compute`` raises is therefore given once, too.

    Args:
        models: The models that the result is about.
        key: Everything that the result depends on beside the weights of the models and their order.
        compute: Computes the result.
        cache: None stores nothing.
    """
    memory = None if cache is None else _memory.get()
    if memory is None:
        return compute()
    full_key = tuple([checkpoint.digest for checkpoint in models.checkpoints]), key
    if (result := memory.arrays.get(full_key)) is None:
        memory.store(full_key, result := compute())
    return result


def folder_of(cache: Cache) -> Path | None:
    """Returns the folder that ``cache`` names; None stores nothing."""
    return cache_folder("features") if cache == "default" else cache


@dataclass(frozen=True)
class ResultKey:
    """Everything that the result of one feature on one tensor depends on."""

    parts: tuple[Hashable, ...]
    """Content digests, and name, kind, version and parameters of the feature."""
    pairs: NDArray[np.intp] | None
    """(m, 2) requested pairs of models; None for all pairs."""

    @property
    def in_memory(self) -> Hashable:
        """The key of the result in memory."""
        return (*self.parts, None if self.pairs is None else self.pairs.tobytes())

    def file_in(self, folder: Path) -> Path:
        """Returns the file of the result in ``folder``."""
        return folder / f"{canonical_sha256([*self.parts, None if self.pairs is None else self.pairs.tolist()])}.npz"


class ResultCache:
    """The results on disk, and within :func:`in_memory` those in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory = None if folder is None else _memory.get()

    def load(self, key: ResultKey, shape: tuple[int, ...]) -> Array | None:
        """Returns the stored result of the given shape; None if it is absent or damaged."""
        array = None if self._memory is None else self._memory.arrays.get(key.in_memory)
        return array if array is not None or self._folder is None else _read(key.file_in(self._folder), shape)

    def store(self, key: ResultKey, array: Array) -> None:
        """Stores a new result on disk. If the disk cannot be written, it warns: the result is still valid."""
        if self._folder is None:
            return
        content = io.BytesIO()
        np.savez(content, values=array)
        try:
            write_bytes(key.file_in(self._folder), content.getvalue())
        except MothrError as error:
            remedy = "results are not kept; set MOTHR_CACHE to a folder that can be written"
            warnings.warn(f"{error}; {remedy}", MothrWarning, stacklevel=2)

    def hold(self, key: ResultKey, array: Array) -> None:
        """Holds a result in memory within :func:`in_memory`."""
        if self._memory is not None:
            self._memory.store(key.in_memory, array)


def _read(path: Path, shape: tuple[int, ...]) -> Array | None:
    """Returns the array in ``path``; None if the file is absent or damaged (its zip format has checksums)."""
    try:
        with np.load(path, allow_pickle=False) as entry:
            array = entry["values"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return array if array.shape == shape and array.dtype == np.float64 else None
