"""VTAB data sets whose files the user downloads and puts into place: dSprites, smallNORB and DMLab."""

import io
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mothr.benchmark.errors import MothrError
from mothr.generators.data.protobuf import content, fields, integers
from mothr.generators.data.registry import Subset
from mothr.generators.data.vision_torchvision import Examples, take_subset


def _placed(root: Path, name: str, address: str) -> Path:
    """Returns the file of that name below ``root``, where the user has put it."""
    paths = sorted(root.glob(name))
    if not paths:
        raise MothrError(f"put {Path(name).name.replace('*', '')} into {(root / name).parent}; it comes from {address}")
    return paths[0]


@dataclass(frozen=True, slots=True)
class _Arrays:
    """Grey pictures with labels."""

    pictures: np.ndarray
    """(n, height, width) uint8."""
    labels: np.ndarray
    """(n,) integers."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(np.ascontiguousarray(self.pictures[index])), int(self.labels[index])


DSPRITES = (1, 3, 6, 40, 32, 32)
"""Number of values of each factor of dSprites: colour, shape, scale, orientation, x, y. All combinations are
pictures; y varies fastest."""


def dsprites(factor: int, root: Path, subset: Subset) -> Examples:
    """Returns dSprites; the label is one factor, by its position in ``DSPRITES``, divided into 16 classes."""
    name = "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    packed = _placed(root, name, "https://github.com/google-deepmind/dsprites-dataset")
    unpacked = packed.with_name("imgs.npy")
    if not unpacked.is_file():  # 3 GB, memory-mapped below
        with zipfile.ZipFile(packed) as archive:
            archive.extract("imgs.npy", packed.parent)
    pictures = np.load(unpacked, mmap_mode="r")
    values = np.unravel_index(np.arange(len(pictures)), DSPRITES)[factor]
    return take_subset(_White(pictures, values * 16 // DSPRITES[factor]), subset)


class _White(_Arrays):
    """Pictures with pixels 0 and 1, shown as black and white."""

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pictures[index] * np.uint8(255)), int(self.labels[index])


def norb(column: int, step: int, root: Path, subset: Subset) -> Examples:
    """Returns smallNORB; the label is one column of its info file, divided by ``step``."""
    stem = (
        "smallnorb-5x46789x9x18x6x2x96x96-training" if subset == "train" else "smallnorb-5x01235x9x18x6x2x96x96-testing"
    )
    address = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/ (unpack the .gz)"
    pictures, info = (_norb_file(_placed(root, f"smallnorb/{stem}-{what}.mat", address)) for what in ("dat", "info"))
    return _Arrays(pictures[:, 0], info[:, column] // step)  # the left one of two cameras


def _norb_file(path: Path) -> np.ndarray:
    """Returns the array in a file of NORB: a magic number for the dtype, the shape (padded to three numbers),
    and the values."""
    head = path.open("rb").read(64)
    magic, count = struct.unpack_from("<II", head)
    kinds = {0x1E3D4C55: "u1", 0x1E3D4C54: "<i4"}
    if magic not in kinds or not 1 <= count <= 8:
        raise MothrError(f"{path}: is not a file of smallNORB; unpack the .gz, or download it again")
    shape = struct.unpack_from(f"<{count}I", head, 8)
    return np.memmap(path, dtype=kinds[magic], mode="r", offset=8 + 4 * max(3, count), shape=shape)


@dataclass(frozen=True, slots=True)
class _Records:
    """Pictures in a TFRecord file."""

    path: Path
    """The file."""
    places: Sequence[tuple[int, int]]
    """(start, size) of each record, in bytes."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        start, size = self.places[index]
        with self.path.open("rb") as file:
            file.seek(start)
            example = _example(memoryview(file.read(size)))
        return Image.open(io.BytesIO(example["image"])), example["label"]


def dmlab(root: Path, subset: Subset) -> Examples:
    """Returns frames of DeepMind Lab; the label is the distance and kind of the nearest object."""
    path = _placed(
        root, f"dmlab/dmlab-{subset}.tfrecord*", "https://storage.googleapis.com/dmlab-vtab/dmlab.tar.gz (unpack it)"
    )
    places, position, end = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while position < end:  # length (8 bytes), its checksum (4), the record, its checksum (4)
            file.seek(position)
            head = file.read(8)
            size = struct.unpack("<Q", head)[0] if len(head) == 8 else end
            if position + 16 + size > end:
                raise MothrError(f"{path}: ends in the middle of a record; unpack it again")
            places.append((position + 12, size))
            position += 16 + size
    return _Records(path, places)


def _example(message: memoryview) -> dict[str, Any]:
    """Returns the features of a tf.train.Example by name: bytes or an integer."""
    values_by_name: dict[str, Any] = {}
    for _, features in fields(message):
        for _, entry in fields(content(features)):
            name, value = (content(part) for _, part in fields(content(entry)))
            for kind, values in fields(value):
                first = next((part for _, part in fields(content(values))), memoryview(b""))
                values_by_name[bytes(name).decode()] = (
                    bytes(content(first)) if kind == 1 else integers(first)[0] if kind == 3 else None
                )
    return values_by_name
