"""Reads the weights of a Keras network from an HDF5 file, with h5py."""

import io
from collections.abc import Mapping

import numpy as np
import torch

from mothr.generators.real.readers.tensors import Tensors, damaged, no_library, only_file

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""The first 8 bytes of an HDF5 file."""


def read_keras(files: Mapping[str, bytes], name: str) -> Tensors:
    """Returns the weights of a Keras network, named ``<layer>.<weight>``; the optimizer's state is left out.

    Links to other files are refused, so that only the given bytes are read.

    Raises:
        Skipped: h5py is not installed.
        MothrError: the bytes are not an HDF5 file of Keras, or it refers to another file.
    """
    try:
        import h5py
    except ImportError:
        raise no_library(name, "h5py") from None
    content = only_file(files, name)
    if not content.startswith(SIGNATURE):
        raise damaged(name, "does not begin as an HDF5 file")
    tensors: Tensors = {}

    def walk(group: "h5py.Group", path: tuple[str, ...]) -> None:
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise damaged(name, f"holds {key!r}, a link to another place")
            item = group[key]
            if isinstance(item, h5py.Group):
                walk(item, (*path, key))
            elif item.external or item.is_virtual:
                raise damaged(name, f"keeps the values of {key!r} in another file")
            elif np.issubdtype(item.dtype, np.floating):
                layer = path[0] if path else key
                tensors[f"{layer}.{key.split(':')[0]}"] = torch.from_numpy(np.ascontiguousarray(item[()]))

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            walk(file.get("model_weights", file), ())
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise damaged(name, f"h5py cannot read it ({error})") from None
    if not tensors:
        raise damaged(name, "holds no weights of Keras")
    return tensors
