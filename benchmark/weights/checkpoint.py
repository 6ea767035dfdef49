"""Checkpoint: one model with lazy tensors. This module is the only one that reads values from weight files.

A tensor may be stored as 8-bit integers ``<name>`` (dtype I8) with scales ``<name>_scale``. Such a pair is one
tensor ``<name>`` with values = integers x scales. There is one scale for the whole tensor, or one for each
channel of axis 0; the scales then have the shape (channels,) or (channels, 1, ...).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The header entry of one tensor: where it is stored and in which format."""

    shape: tuple[int, ...]
    """Length of each axis."""
    dtype: str
    """Stored number format, in the notation of safetensors: F64, F32, F16, BF16, I8, ..."""
    file: Path = field(repr=False)
    """The file that holds the tensor."""
    key: str = field(repr=False)
    """The name of the tensor in this file."""
    scale: "TensorInfo | None" = field(default=None, repr=False)
    """The scales that the stored integers are multiplied by; None if the tensor has no scales."""


@dataclass(frozen=True)
class Checkpoint:
    """One model: an opaque id and lazy tensors. Values are read from disk when they are requested."""

    id: NodeId
    """An opaque name. It carries no information about the model."""
    tensors: Mapping[str, TensorInfo]
    """Tensor name -> header entry, sorted by name."""

    def read(self, name: str) -> torch.Tensor:
        """Returns the tensor ``name`` in its stored dtype; integers with scales are returned as float32 values.

        Raises:
            MothrError: The file was changed or damaged after the checkpoint was opened.
        """
        return _read_values(self.tensors[name])

    def read_all(self) -> dict[str, torch.Tensor]:
        """Returns all tensors by name. Each tensor is as :meth:`read` returns it."""
        return {name: self.read(name) for name in self.tensors}

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """Tensor name -> SHA-256 of its name, dtype, shape, bytes and scales.

        How tensors are divided into files has no effect.
        """
        return {name: _digest(name, info) for name, info in self.tensors.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all tensors.

        Two checkpoints have the same digest if and only if their weights are bit-identical.
        """
        return hashlib.sha256("".join(self.digests.values()).encode()).hexdigest()

    @cached_property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The (name, shape) of each tensor, sorted by name."""
        return tuple((name, info.shape) for name, info in self.tensors.items())

    def renamed(self, id: NodeId) -> "Checkpoint":
        """Returns the same checkpoint with another id. Its weights are not hashed again."""
        copy = Checkpoint(id, self.tensors)
        for name in ("digests", "digest", "shapes"):
            copy.__dict__[name] = getattr(self, name)
        return copy


def empty_stack(count: int, shape: tuple[int, ...], dtypes: Iterable[str]) -> torch.Tensor:
    """Returns an uninitialised stack of tensors, (count, *shape): float64 if ``dtypes`` holds F64, else float32."""
    # numpy allocates huge pages. With small pages, the first access to the memory takes longer than reading the file.
    return torch.from_numpy(np.empty((count, *shape), dtype=np.float64 if "F64" in dtypes else np.float32))


def read_into(stack: torch.Tensor, infos: Sequence[TensorInfo], axis: int = 0, start: int = 0) -> torch.Tensor:
    """Returns ``stack`` after reading one tensor of each of n models into it.

    Args:
        stack: (n, *part), where ``part`` is the shape of the tensor, or of a slice of it along ``axis``.
        infos: The n tensors to read.
        axis: The axis of the tensor that is sliced, if ``part`` is smaller than the tensor.
        start: The first index of the slice along ``axis``.

    Raises:
        MothrError: A value is NaN or infinite, or a file is damaged.
    """
    for row, info in zip(stack, infos, strict=True):
        is_whole = row.shape == info.shape
        part = None if is_whole else (*[slice(None)] * axis, slice(start, start + row.shape[axis]))
        row.copy_(_read_values(info, part))
        # The sum is forty times cheaper than the test of each value, but the sum of finite values may overflow.
        if not torch.isfinite(row.sum()) and not torch.isfinite(row).all():
            raise MothrError(f"{info.file}: tensor {info.key!r} holds NaN or infinite values; remove this model")
    return stack


def damaged_file(path: Path, error: Exception) -> MothrError:
    """Returns the error for a file that is not a complete safetensors file."""
    return MothrError(f"{path}: not a whole safetensors file ({error}); download or generate it again")


def _read_values(info: TensorInfo, part: tuple[slice, ...] | None = None) -> torch.Tensor:
    """Returns a tensor or a slice of it: as stored, or float32 integers x scales if the tensor has scales."""
    tensor = _read_stored(info, part)
    if info.scale is None:
        return tensor
    scales = _read_stored(info.scale).float().reshape(-1, *[1] * (len(info.shape) - 1))
    values: torch.Tensor = tensor.float() * (scales if part is None or len(scales) == 1 else scales[part[0]])
    return values.reshape(tensor.shape)


def _read_stored(info: TensorInfo, part: tuple[slice, ...] | None = None) -> torch.Tensor:
    """Returns a tensor or a slice of it in the stored dtype, without scales."""
    try:
        with safe_open(info.file, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(info.key) if part is None else file.get_slice(info.key)[part]
    except (SafetensorError, OSError) as error:
        raise damaged_file(info.file, error) from error
    return tensor


def _digest(name: str, info: TensorInfo) -> str:
    digest = hashlib.sha256(f"{name}|{info.dtype}|{info.shape}|".encode())
    tensor = _read_stored(info).contiguous()
    if tensor.numel():
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    if info.scale is not None:
        digest.update(_digest("scale", info.scale).encode())
    return digest.hexdigest()
