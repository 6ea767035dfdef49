"""Checkpoint and ModelSet: the only place that opens weight files for reading.

Only safetensors files are read. Pickled weights are refused, since opening them runs their author's code.

8-bit integers with scales beside them, ``<name>`` (I8) and ``<name>_scale``, are one tensor ``<name>``: its values are the
integers times the scales, one for each channel of axis 0, (channels, 1, ...) or (channels,), or one for all.
"""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.storage import parse_json

MOST_AXES, LARGEST = 32, 1 << 53
"""Axes of a tensor, and numbers in it, an axis of length 0 left aside: beyond, arrays cannot be made, even of nothing."""
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class TensorInfo:
    """What a file's header says about one tensor."""

    shape: tuple[int, ...]
    """Its dimensions."""
    dtype: str
    """How it is stored, in the words of safetensors: F64, F32, F16, BF16, I8, ..."""
    file: Path = field(repr=False)
    """The file it lies in."""
    key: str = field(repr=False)
    """Its name in that file."""
    scale: "TensorInfo | None" = field(default=None, repr=False)
    """What its integers are multiplied by, if they have scales."""


@dataclass(frozen=True)
class Checkpoint:
    """One model: an opaque id and lazy tensors. Data are read only when asked for."""

    id: NodeId
    """An opaque name; it says nothing about the model."""
    tensors: Mapping[str, TensorInfo]
    """Tensor name -> header entry, sorted by name."""

    def read(self, name: str) -> torch.Tensor:
        """Returns tensor ``name`` as stored; integers with scales as the float32 values that they stand for.

        Raises:
            MothrError: the file has changed or is damaged since it was opened.
        """
        return _values(self.tensors[name])

    def plain(self) -> dict[str, torch.Tensor]:
        """Returns all tensors by name, each as :meth:`read` gives it."""
        return {name: self.read(name) for name in self.tensors}

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each tensor: of its name, dtype, shape and bytes, scales included, so that packaging plays no part."""
        return {name: _digest(name, info) for name, info in self.tensors.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all tensors: two checkpoints share it exactly if their weights are the same, bit for bit."""
        return hashlib.sha256("".join(self.digests.values()).encode()).hexdigest()

    @cached_property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """(name, shape) of each tensor."""
        return tuple((name, info.shape) for name, info in self.tensors.items())


def _stored(info: TensorInfo, part: tuple[slice, ...] | None = None) -> torch.Tensor:
    try:
        with safe_open(info.file, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(info.key) if part is None else file.get_slice(info.key)[part]
    except (SafetensorError, OSError) as error:
        raise _damaged(info.file, error) from error
    return tensor


def _values(info: TensorInfo, part: tuple[slice, ...] | None = None) -> torch.Tensor:
    """Returns a tensor, or a part of it, as stored; integers with scales as the float32 values that they stand for."""
    tensor = _stored(info, part)
    if info.scale is None:
        return tensor
    scales = _stored(info.scale).float().reshape(-1, *[1] * (len(info.shape) - 1))
    scaled: torch.Tensor = tensor.float() * (scales if part is None or len(scales) == 1 else scales[part[0]])
    return scaled.reshape(tensor.shape)


def new_stack(count: int, shape: tuple[int, ...], dtypes: Iterable[str]) -> torch.Tensor:
    """Returns room for tensors of that shape, (count, *shape): float64 if any is stored so, else float32."""
    # numpy asks for huge pages; with small ones, touching new memory takes longer than reading the file
    return torch.from_numpy(np.empty((count, *shape), dtype=np.float64 if "F64" in dtypes else np.float32))


def fill(stack: torch.Tensor, infos: Sequence[TensorInfo], axis: int = 0, start: int = 0) -> torch.Tensor:
    """Returns ``stack``, (n, *shape), filled with one tensor each of n models, or with a part of it from ``start`` on along ``axis``.

    Raises:
        MothrError: a value is NaN or infinite, or a file is damaged.
    """
    for row, info in zip(stack, infos, strict=True):
        whole = row.shape == info.shape
        part = (*[slice(None)] * axis, slice(start, start + row.shape[axis])) if not whole else None
        row.copy_(_values(info, part))
        if (
            not torch.isfinite(row.sum()) and not torch.isfinite(row).all()
        ):  # the sum is forty times cheaper, but may overflow
            raise MothrError(f"{info.file}: tensor {info.key!r} holds NaN or infinite values; remove this model")
    return stack


def _digest(name: str, info: TensorInfo) -> str:
    found = hashlib.sha256(f"{name}|{info.dtype}|{info.shape}|".encode())
    tensor = _stored(info).contiguous()
    if tensor.numel():
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    if info.scale is not None:
        found.update(_digest("scale", info.scale).encode())
    return found.hexdigest()


@dataclass(frozen=True)
class ModelSet:
    """The models a method is given, ordered by content digest, so that neither ids nor listing order say anything."""

    checkpoints: tuple[Checkpoint, ...]
    """The models; reordered by content digest (then id) on construction."""
    given: SideInformation = field(default_factory=SideInformation)
    """What the harness tells beside the weights."""

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise MothrError("no models: at least one is needed")
        ordered = tuple(sorted(self.checkpoints, key=lambda checkpoint: (checkpoint.digest, checkpoint.id)))
        object.__setattr__(self, "checkpoints", ordered)

    def __len__(self) -> int:
        return len(self.checkpoints)

    @property
    def ids(self) -> tuple[NodeId, ...]:
        """The models' ids, in the order of every array this set gives."""
        return tuple(checkpoint.id for checkpoint in self.checkpoints)

    @cached_property
    def shapes(self) -> dict[tuple[str, tuple[int, ...]], tuple[int, ...]]:
        """(tensor name, shape) -> the positions of the models that hold such a tensor, sorted by name."""
        alike: dict[tuple[tuple[str, tuple[int, ...]], ...], list[int]] = {}  # nearly always all models are
        for position, checkpoint in enumerate(self.checkpoints):
            alike.setdefault(checkpoint.shapes, []).append(position)
        found: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for shapes, positions in alike.items():
            for key in shapes:
                found.setdefault(key, []).extend(positions)
        return {key: tuple(sorted(found[key])) for key in sorted(found)}

    def stack(self, name: str, positions: Sequence[int]) -> torch.Tensor:
        """Returns tensor ``name`` of the models at ``positions``, (n, *shape), float64 if any is stored so, else float32.

        Raises:
            MothrError: a value is NaN or infinite, or a file is damaged.
        """
        infos = [self.checkpoints[position].tensors[name] for position in positions]
        return fill(new_stack(len(infos), infos[0].shape, [info.dtype for info in infos]), infos)

    def stacks(
        self, select: Iterable[tuple[str, tuple[int, ...]]] | None = None
    ) -> Iterator[tuple[str, tuple[int, ...], torch.Tensor]]:
        """Yields (name, positions, stack) for each (name, shape) in ``select``, one tensor of all models at a time.

        Memory is the models times one tensor, and each byte is read once.
        """
        for key in self.shapes if select is None else select:
            positions = self.shapes[key]
            yield key[0], positions, self.stack(key[0], positions)

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "ModelSet":
        """Returns the same models called ``names[id]``."""
        renamed = tuple(_renamed(checkpoint, names[checkpoint.id]) for checkpoint in self.checkpoints)
        return ModelSet(renamed, self.given.relabel(names))

    def with_given(self, given: SideInformation) -> "ModelSet":
        """Returns the same models with ``told`` beside them."""
        return replace(self, given=given)


def _renamed(checkpoint: Checkpoint, name: NodeId) -> Checkpoint:
    renamed = Checkpoint(name, checkpoint.tensors)
    for same in ("digests", "digest", "shapes"):  # the weights are the same: do not hash them again
        renamed.__dict__[same] = getattr(checkpoint, same)
    return renamed


def open_folder(folder: Path) -> ModelSet:
    """Returns the models of a plain folder: each sub-folder is one, or each ``.safetensors`` file is one.

    Raises:
        MothrError: the folder holds no models, or one cannot be read.
    """
    if not folder.is_dir():
        raise MothrError(f"{folder}: no such folder")
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if entry.suffix == ".safetensors"]
    pickled = [entry for entry in entries if entry.suffix in PICKLED]
    if folders and files:
        raise MothrError(f"{folder}: holds both sub-folders and .safetensors files; one model must be one or the other")
    if not folders and not files:
        if pickled:
            raise _refuse_pickle(pickled[0])
        raise MothrError(f"{folder}: holds no models; each sub-folder or each .safetensors file is one")
    if folders:
        return ModelSet(aligned([open_checkpoint(entry, entry.name) for entry in folders]))
    return ModelSet(aligned([Checkpoint(entry.stem, _headers([entry], folder)) for entry in files]))


def aligned(checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Returns the checkpoints with a wrapper's prefix taken off tensor names where that makes them another model's names.

    A backbone saves ``encoder.layer.0...``; the classifier that was made from it saves ``vit.encoder.layer.0...``.
    """
    schemes = {frozenset(checkpoint.tensors) for checkpoint in checkpoints}
    if len(schemes) == 1:
        return tuple(checkpoints)
    prefixes = {scheme: _wrapper(scheme, schemes) for scheme in schemes}
    return tuple(_unwrapped(checkpoint, prefixes[frozenset(checkpoint.tensors)]) for checkpoint in checkpoints)


def _wrapper(scheme: frozenset[str], schemes: Iterable[frozenset[str]]) -> str:
    """Returns the shortest prefix of one or two words without which most names of another scheme appear; else nothing."""
    words = [name.split(".") for name in scheme]
    candidates = {f"{'.'.join(parts[:depth])}." for parts in words for depth in (1, 2) if len(parts) > depth}
    for prefix in sorted(candidates, key=lambda candidate: (len(candidate), candidate)):
        bare = {name.removeprefix(prefix) for name in scheme if name.startswith(prefix)}
        if any(2 * len(bare & other) > len(other) and len(bare & other) > len(scheme & other) for other in schemes):
            return prefix
    return ""


def _unwrapped(checkpoint: Checkpoint, prefix: str) -> Checkpoint:
    bare = {name.removeprefix(prefix): info for name, info in checkpoint.tensors.items()}
    if not prefix or len(bare) < len(checkpoint.tensors):  # two names would become one
        return checkpoint
    return Checkpoint(checkpoint.id, dict(sorted(bare.items())))


def open_checkpoint(folder: Path, id: NodeId) -> Checkpoint:
    """Returns the model in ``folder``: every safetensors file below it, shards and diffusers' sub-folders included.

    Tensors of a sub-folder are named ``<sub-folder>.<name>``.

    Raises:
        MothrError: no safetensors file, pickled weights, a damaged file, or a path that leaves the folder.
    """
    if folder.is_symlink() and not inside(folder, folder.parent):
        raise _escapes(folder, folder)
    files, pickled = [], []
    for place, folders, names in sorted(os.walk(folder)):
        for path in (
            Path(place, name) for name in folders
        ):  # a link that stays inside is passed over: its target is read
            if not inside(path, folder):
                raise _escapes(path, path)
        for name in sorted(names):
            path = Path(place, name)
            if name.endswith(".safetensors.index.json"):
                _check_index(path, folder)
            elif path.suffix == ".safetensors":
                files.append(path)
            elif path.suffix in PICKLED:
                pickled.append(path)
    if not files:
        if pickled:
            raise _refuse_pickle(pickled[0])
        raise MothrError(f"{folder}: holds no .safetensors file")
    return Checkpoint(id, _headers(files, folder))


def _headers(files: Sequence[Path], folder: Path) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for path in files:
        if not inside(path, folder):
            raise _escapes(path, path)
        prefix = "".join(f"{part}." for part in path.parent.relative_to(folder).parts)
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (the file is no mapping)
                    entry = file.get_slice(key)
                    name = prefix + key
                    if name in tensors:
                        raise MothrError(
                            f"{path}: tensor {name!r} is also in {tensors[name].file.name}; keep one of the two files"
                        )
                    shape = tuple(entry.get_shape())
                    if len(shape) > MOST_AXES or math.prod(max(1, size) for size in shape) > LARGEST:
                        raise MothrError(
                            f"{path}: tensor {name!r} has a shape that no array can have: {str(shape)[:60]}; remove it"
                        )
                    tensors[name] = TensorInfo(shape, entry.get_dtype(), path, key)
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
    if not tensors:
        raise MothrError(f"{files[0]}: holds no tensors")
    return dict(sorted(_scaled(tensors).items()))


def _scaled(tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Returns the tensors with the scales of 8-bit integers put beside what they belong to.

    Raises:
        MothrError: scales that are neither one for all nor one for each channel, or a zero point beside them.
    """
    found = dict(tensors)
    for name, info in tensors.items():
        scale = tensors.get(f"{name}_scale")
        if info.dtype != "I8" or scale is None:
            continue
        count = math.prod(scale.shape)
        fits = count == 1 or scale.shape[:1] == info.shape[:1] == (count,)
        if not fits or scale.dtype not in ("F64", "F32", "F16", "BF16") or f"{name}_zero_point" in tensors:
            raise MothrError(
                f"{scale.file}: {name}_scale ({scale.dtype}, {scale.shape}) beside 8-bit integers of shape {info.shape} "
                f"{'has a zero point' if f'{name}_zero_point' in tensors else 'is not one float for all or for each channel'}; "
                "such integers cannot be read: store this model dequantized"
            )
        found[name] = replace(info, scale=scale)
        del found[f"{name}_scale"]
    return found


def _check_index(path: Path, folder: Path) -> None:
    """Refuses a shard index that names a file outside the model's folder or one that is missing."""
    if not inside(path, folder):
        raise _escapes(path, path)
    try:
        shards = set(parse_json(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise MothrError(f"{path}: not a shard index ({error!r}); download the model again") from error
    for shard in sorted(map(str, shards)):
        try:
            within, found = inside(path.parent / shard, folder), (path.parent / shard).is_file()
        except (OSError, ValueError):  # too long for any system, or with a NUL
            within, found = True, False
        if not within:
            raise _escapes(path, path.parent / shard)
        if not found:
            raise MothrError(f"{path}: names the shard {shard[:80]!r}, which is missing; download the model again")


def inside(path: Path, folder: Path) -> bool:
    """Returns whether ``path`` stays within ``folder`` when all links are followed; one that leads round in a circle does not."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # as a circle of links is told
        return False


def _escapes(path: Path, target: Path) -> MothrError:
    return MothrError(
        f"{path}: leads out of its folder, to {os.path.realpath(target)}; put the files themselves where the link is"
    )


def _refuse_pickle(path: Path) -> MothrError:
    return MothrError(
        f"{path}: pickled weights can run code when opened and are refused; save the model with safetensors instead"
    )


def _damaged(path: Path, error: Exception) -> MothrError:
    return MothrError(f"{path}: not a whole safetensors file ({error}); download or generate it again")
