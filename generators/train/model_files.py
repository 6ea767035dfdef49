"""Writes the files of a model without any trace of its parent: no metadata, no names, one order of tensors,
one file time."""

import errno
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mothr.benchmark.data.dataset import fix_times
from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import read_json, write_error, write_json
from mothr.generators.families import Family
from mothr.generators.train.merges import rounded_to

TELLTALE_KEYS = ("_name_or_path", "id2label", "label2id")
"""Keys of config.json that could name the parent or the task."""


def weight_file(folder: Path) -> Path:
    """Returns the path of the one safetensors file in a model folder that this package wrote.

    Raises:
        MothrError: there is no such file, or more than one.
    """
    paths = sorted(folder.rglob("*.safetensors"))
    if len(paths) != 1:
        raise MothrError(
            f"{folder}: holds {len(paths)} .safetensors files where one is expected; generate the data set again"
        )
    return paths[0]


def save_model(family: Family, model: nn.Module, folder: Path) -> None:
    """Writes ``model`` to ``folder`` and removes what could name its parent: metadata, the order of tensors,
    config entries, times.

    Raises:
        MothrError: the disk is full.
    """
    try:
        family.save(model.cpu(), folder)
    except SafetensorError as error:  # safetensors reports a full disk this way
        raise write_error(folder, OSError(errno.ENOSPC, str(error))) from error
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".safetensors":
            write_tensors(load_file(path), path)
        elif path.name == "config.json":
            config = read_json(path)
            write_json(path, {key: config[key] for key in sorted(config) if key not in TELLTALE_KEYS})
    fix_times(folder)


def store_as(folder: Path, precision: str | None) -> None:
    """Rounds the floating-point tensors of the model in ``folder`` to ``precision``, and names it in config.json.

    Args:
        folder: A model folder with one safetensors file.
        precision: ``float32``, ``bfloat16`` or ``float16``; None leaves the files as they are.

    Raises:
        MothrError: a weight is too large for the precision, or the disk is full.
    """
    if precision is None:
        return
    path, dtype = weight_file(folder), getattr(torch, precision)
    weights = load_file(path)
    write_tensors(
        {
            name: rounded_to(name, tensor, dtype) if tensor.is_floating_point() else tensor
            for name, tensor in weights.items()
        },
        path,
    )
    for config_path in folder.rglob("config.json"):
        config = read_json(config_path)
        write_json(config_path, {**config, **({"dtype": precision} if "dtype" in config else {})})
    fix_times(folder)


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes ``tensors`` to a safetensors file, sorted by name, with the same metadata in every file.

    Raises:
        MothrError: the disk is full.
    """
    try:
        save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise write_error(path, OSError(errno.ENOSPC, str(error))) from error
    path.chmod(0o644)
