"""Finds the models in a folder and reads the headers of their weight files.

Only safetensors files are read. Pickled weights are refused, because opening them can run code of their author.
Links must not lead out of the folder of the model.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.storage import is_inside, parse_json
from mothr.benchmark.weights.checkpoint import Checkpoint, TensorInfo, damaged_file
from mothr.benchmark.weights.model_set import ModelSet

MAX_AXES = 32
"""The most axes that a tensor may have. Arrays of more axes cannot be made."""
MAX_ELEMENTS = 1 << 53
"""The most elements that a tensor may have. Here an axis of length 0 counts as length 1."""
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Endings of files that hold pickled weights."""
FLOATS = ("F64", "F32", "F16", "BF16")
"""Number formats that scales of 8-bit integers may have."""


def open_folder(folder: Path) -> ModelSet:
    """Returns the models of a plain folder: each sub-folder is one model, or each ``.safetensors`` file is one model.

    Raises:
        MothrError: The folder holds no models, or a model cannot be read.
    """
    if not folder.is_dir():
        raise MothrError(f"{folder}: no such folder")
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if entry.suffix == ".safetensors"]
    pickled = [entry for entry in entries if entry.suffix in PICKLED]
    if folders and files:
        raise MothrError(
            f"{folder}: holds both sub-folders and .safetensors files; "
            "keep either one sub-folder or one file for each model"
        )
    if not folders and not files:
        if pickled:
            raise _pickled_file(pickled[0])
        raise MothrError(f"{folder}: holds no models; each sub-folder or each .safetensors file is one model")
    if folders:
        return ModelSet(align_names([open_checkpoint(entry, entry.name) for entry in folders]))
    return ModelSet(align_names([Checkpoint(entry.stem, _headers([entry], folder)) for entry in files]))


def open_checkpoint(folder: Path, id: NodeId) -> Checkpoint:
    """Returns the model in ``folder``: all safetensors files below it, such as shards and sub-folders of diffusers.

    A tensor in a sub-folder is named ``<sub-folder>.<name>``.

    Args:
        folder: The folder of the model.
        id: The id of the model.

    Raises:
        MothrError: There is no safetensors file, the weights are pickled, a file is damaged, or a path leads
            out of the folder.
    """
    if folder.is_symlink() and not is_inside(folder, folder.parent):
        raise _leads_out(folder, folder)
    files, pickled = [], []
    for parent, folders, names in sorted(os.walk(folder)):
        for path in (Path(parent, name) for name in folders):
            # os.walk does not follow links. A linked folder that lies inside is read at its own place.
            if not is_inside(path, folder):
                raise _leads_out(path, path)
        for path in (Path(parent, name) for name in sorted(names)):
            if path.name.endswith(".safetensors.index.json"):
                _check_index(path, folder)
            elif path.suffix == ".safetensors":
                files.append(path)
            elif path.suffix in PICKLED:
                pickled.append(path)
    if not files:
        if pickled:
            raise _pickled_file(pickled[0])
        raise MothrError(f"{folder}: holds no .safetensors file")
    return Checkpoint(id, _headers(files, folder))


def align_names(checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Returns the checkpoints with the prefix of a wrapper removed, if the names then equal those of another model.

    For example, a backbone saves ``encoder.layer.0...``. A classifier made from it saves
    ``vit.encoder.layer.0...``.
    """
    schemes = {frozenset(checkpoint.tensors) for checkpoint in checkpoints}
    if len(schemes) == 1:
        return tuple(checkpoints)
    prefixes = {scheme: _wrapper_prefix(scheme, schemes) for scheme in schemes}
    return tuple(_without_prefix(checkpoint, prefixes[frozenset(checkpoint.tensors)]) for checkpoint in checkpoints)


def _wrapper_prefix(scheme: frozenset[str], schemes: Iterable[frozenset[str]]) -> str:
    """Returns the shortest prefix of one or two words that a wrapper added, or "" if there is none.

    Without the prefix, more than half of the names of another scheme appear, and more than appear with it.
    """
    words = [name.split(".") for name in scheme]
    candidates = {f"{'.'.join(parts[:depth])}." for parts in words for depth in (1, 2) if len(parts) > depth}
    for prefix in sorted(candidates, key=lambda candidate: (len(candidate), candidate)):
        bare = {name.removeprefix(prefix) for name in scheme if name.startswith(prefix)}
        for target in schemes:
            if 2 * len(bare & target) > len(target) and len(bare & target) > len(scheme & target):
                return prefix
    return ""


def _without_prefix(checkpoint: Checkpoint, prefix: str) -> Checkpoint:
    bare = {name.removeprefix(prefix): info for name, info in checkpoint.tensors.items()}
    if not prefix or len(bare) < len(checkpoint.tensors):  # two tensors would have the same name
        return checkpoint
    return Checkpoint(checkpoint.id, dict(sorted(bare.items())))


def _headers(files: Sequence[Path], folder: Path) -> dict[str, TensorInfo]:
    """Returns tensor name -> header entry of all ``files`` of one model, sorted by name."""
    tensors: dict[str, TensorInfo] = {}
    for path in files:
        if not is_inside(path, folder):
            raise _leads_out(path, path)
        prefix = "".join(f"{part}." for part in path.parent.relative_to(folder).parts)
        for key, info in _header(path).items():
            name = prefix + key
            if name in tensors:
                raise MothrError(
                    f"{path}: tensor {name!r} is also in {tensors[name].file.name}; keep one of the two files"
                )
            tensors[name] = info
    if not tensors:
        raise MothrError(f"{files[0]}: holds no tensors")
    return dict(sorted(_with_scales(tensors).items()))


def _header(path: Path) -> dict[str, TensorInfo]:
    """Returns tensor name -> header entry of one file."""
    tensors: dict[str, TensorInfo] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (the file is not a mapping)
                entry = file.get_slice(key)
                shape = tuple(entry.get_shape())
                if len(shape) > MAX_AXES or math.prod(max(1, length) for length in shape) > MAX_ELEMENTS:
                    raise MothrError(
                        f"{path}: tensor {key!r} has a shape that no array can have: {str(shape)[:60]}; remove it"
                    )
                tensors[key] = TensorInfo(shape, entry.get_dtype(), path, key)
    except (SafetensorError, OSError) as error:
        raise damaged_file(path, error) from error
    return tensors


def _with_scales(tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Returns the tensors; the scales of 8-bit integers become a part of the tensor that they belong to.

    Raises:
        MothrError: Scales are neither one for the tensor nor one for each channel, or the integers have a zero
            point.
    """
    merged = dict(tensors)
    for name, info in tensors.items():
        scale = tensors.get(f"{name}_scale")
        if info.dtype != "I8" or scale is None:
            continue
        count = math.prod(scale.shape)
        has_zero_point = f"{name}_zero_point" in tensors
        fits = count == 1 or scale.shape[:1] == info.shape[:1] == (count,)
        if not fits or scale.dtype not in FLOATS or has_zero_point:
            fault = "has a zero point" if has_zero_point else "is not one float for the tensor or for each channel"
            raise MothrError(
                f"{scale.file}: {name}_scale ({scale.dtype}, {scale.shape}) beside 8-bit integers of shape {info.shape} "
                f"{fault}; such integers cannot be read: store this model dequantized"
            )
        merged[name] = replace(info, scale=scale)
        del merged[f"{name}_scale"]
    return merged


def _check_index(path: Path, folder: Path) -> None:
    """Raises an error if the shard index ``path`` names a file that is missing or outside ``folder``."""
    if not is_inside(path, folder):
        raise _leads_out(path, path)
    try:
        shards = set(parse_json(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise MothrError(f"{path}: not a shard index ({error!r}); download the model again") from error
    for shard in sorted(map(str, shards)):
        try:
            inside, exists = is_inside(path.parent / shard, folder), (path.parent / shard).is_file()
        except (OSError, ValueError):  # the name is too long for the file system, or holds a NUL character
            inside, exists = True, False
        if not inside:
            raise _leads_out(path, path.parent / shard)
        if not exists:
            raise MothrError(f"{path}: names the shard {shard[:80]!r}, which is missing; download the model again")


def _leads_out(path: Path, target: Path) -> MothrError:
    return MothrError(
        f"{path}: leads out of its folder, to {os.path.realpath(target)}; replace the link by the files themselves"
    )


def _pickled_file(path: Path) -> MothrError:
    return MothrError(
        f"{path}: pickled weights can run code when opened and are refused; save the model with safetensors instead"
    )
