"""The picture tasks of VTHR, for users with a network: fifteen of VTAB's (Zhai et al. 2019, arXiv 1910.04867).

Nine data sets are downloaded and read by torchvision, which is imported here alone: beside a torch of another build its import
fails, and then takes transformers and peft down with it. Three are read from files that the user puts into place. Labels are made
as VTAB makes them; its own choice of examples is not repeated: each part is drawn here, by a hash of the task's name.
"""

import functools
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image

from mothr.benchmark.errors import MothrError, Skipped, unknown_name
from mothr.benchmark.storage import cache_folder
from mothr.generators.data.protobuf import content, fields, integers

Part = Literal["train", "test"]
SIZES: dict[Part, int] = {"train": 1000, "test": 1000}
"""Pictures a part at most: as many as VTAB-1k trains on, and enough to measure on."""
TEST_SHARE = 5
"""Where a data set has labels for one part only, one example in so many is a test example."""


class Examples(Protocol):
    """The examples of one part, in an order that does not change."""

    def __len__(self) -> int:
        """Returns how many there are."""

    def __getitem__(self, index: int, /) -> tuple[Image.Image, int]:
        """Returns a picture and its label."""


@dataclass(frozen=True)
class VisionTask:
    """One classification task."""

    name: str
    """As recipes write it."""
    classes: tuple[str, ...]
    """What each label means, or its number."""
    description: str
    """One sentence on what is asked."""
    source: str
    """Where the pictures come from, and their licence: dataset cards repeat it."""
    open: Callable[[Path, Part], Examples]
    """Gives the examples of one part from the folder of all data sets, after downloading them if it can."""


def find(name: str) -> VisionTask:
    """Returns the task called ``name``.

    Raises:
        MothrError: there is none.
    """
    if name not in TASKS:
        raise unknown_name("picture task", name, TASKS)
    return TASKS[name]


def bring(names: Sequence[str]) -> None:
    """Downloads the data sets of tasks, and opens each part once, so that what is missing is known before anything is trained.

    Raises:
        Skipped: torchvision is absent.
        MothrError: a data set can neither be found nor downloaded.
    """
    for name in names:
        for part in SIZES:
            _open(find(name), part)


@functools.lru_cache(maxsize=4)
def load(name: str, part: Part, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the pictures, uint8 (n, 3, side, side), and labels, int64 (n,), of a task; calls share them, so do not write to them.

    Raises:
        Skipped: torchvision is absent.
        MothrError: no task has this name, or its data set can neither be found nor downloaded.
    """
    examples = _open(find(name), part)
    seed = int.from_bytes(hashlib.sha256(f"{name}/{part}".encode()).digest()[:8], "big")
    rows = np.random.default_rng(seed).permutation(len(examples))[: SIZES[part]].tolist()
    pictures, labels = np.empty((len(rows), 3, side, side), np.uint8), []
    for place, row in enumerate(rows):
        picture, label = examples[row]
        pictures[place] = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)).transpose(
            2, 0, 1
        )
        labels.append(int(label))
    return torch.from_numpy(pictures), torch.tensor(labels)


def folder() -> Path:
    """Returns the folder of all data sets."""
    return cache_folder("vision")


def _open(task: VisionTask, part: Part) -> Examples:
    try:
        return task.open(folder(), part)
    except MothrError as error:
        raise type(error)(f"{task.name}: {error}") from None
    except Exception as error:  # torchvision tells of a failed download in many ways
        raise MothrError(
            f"{task.name}: cannot be read from or downloaded to {folder()} ({str(error).splitlines()[0] if str(error) else error!r}); "
            f"it needs the network once, or the files as torchvision lays them out"
        ) from error


# Data sets that torchvision downloads and reads


def _torchvision() -> Any:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise Skipped(f"needs torchvision ({error}); install mothr[vision] into an environment of its own") from None
    except RuntimeError as error:  # its operators are compiled for one build of torch
        raise Skipped(
            f"the installed torchvision was built for another torch ({error}); install a pair of one build"
        ) from None
    return datasets


@dataclass(frozen=True)
class _Chosen:
    """Some examples of others, with other labels."""

    examples: Any
    rows: Sequence[int]
    label: Callable[[Any], int] = int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        picture, target = self.examples[self.rows[index]]
        return picture, self.label(target)


def _share(examples: Any, part: Part, label: Callable[[Any], int] = int) -> _Chosen:
    """Returns one part of a data set that comes in one piece."""
    return _Chosen(
        examples, [row for row in range(len(examples)) if (row % TEST_SHARE == 0) == (part == "test")], label
    )


def _by_split(kind: str, root: Path, part: Part, **options: Any) -> Examples:
    return getattr(_torchvision(), kind)(root, split=part, download=True, **options)


def _cifar(root: Path, part: Part) -> Examples:
    return _torchvision().CIFAR100(root, train=part == "train", download=True)


def _pets(root: Path, part: Part) -> Examples:
    return _torchvision().OxfordIIITPet(root, split="trainval" if part == "train" else "test", download=True)


def _caltech(root: Path, part: Part) -> Examples:
    datasets = _torchvision()
    datasets.Caltech101(root, download=True)
    # torchvision leaves the background out; VTAB and VTHR count it as the 102nd class.
    return _share(datasets.ImageFolder(str(root / "caltech101" / "101_ObjectCategories")), part)


def _scenes(root: Path, part: Part) -> tuple[Any, dict[str, Any]]:
    """Returns CLEVR's pictures and what it says of the objects in each, by file name; its own test part has no labels."""
    split = "train" if part == "train" else "val"
    pictures = _torchvision().CLEVRClassification(str(root), split=split, download=True)
    file = root / "clevr" / "CLEVR_v1.0" / "scenes" / f"CLEVR_{split}_scenes.json"
    return pictures, {scene["image_filename"]: scene["objects"] for scene in json.loads(file.read_text())["scenes"]}


def _clevr_count(root: Path, part: Part) -> Examples:
    pictures, _ = _scenes(root, part)
    return _Chosen(pictures, range(len(pictures)), lambda count: count - 3)  # three to ten objects


@dataclass(frozen=True)
class _ClevrDistance:
    """CLEVR's pictures with the distance of the nearest object as the class."""

    files: Sequence[Path]
    objects: dict[str, Any]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        file = self.files[index]
        nearest = min(entry["pixel_coords"][2] for entry in self.objects[file.name])
        return Image.open(file), _step(nearest, (0.0, 8.0, 8.5, 9.0, 9.5, 10.0))


def _clevr_distance(root: Path, part: Part) -> Examples:
    _, objects = _scenes(root, part)
    place = root / "clevr" / "CLEVR_v1.0" / "images" / ("train" if part == "train" else "val")
    return _ClevrDistance([place / name for name in sorted(objects)], objects)


def _kitti(root: Path, part: Part) -> Examples:
    examples = _torchvision().Kitti(str(root), train=True, download=True)
    examples.images, examples.targets = (
        sorted(examples.images),
        sorted(examples.targets),
    )  # they come as the file system lists them
    return _share(examples, part, _nearest_vehicle)


def _nearest_vehicle(objects: Sequence[dict[str, Any]]) -> int:
    """Returns the class of the distance in metres to the nearest vehicle; the last one: there is none."""
    depths = [entry["location"][2] for entry in objects if entry["type"] in ("Car", "Van", "Truck")]
    return _step(min(depths, default=1000.0), (-100.0, 8.0, 20.0, 999.0))


def _step(value: float, thresholds: Sequence[float]) -> int:
    """Returns the position of the last threshold below ``value``."""
    return max(position for position, threshold in enumerate(thresholds) if threshold < value)


# Data sets whose files the user puts into place


def _placed(root: Path, name: str, address: str) -> Path:
    found = sorted(root.glob(name))
    if not found:
        raise MothrError(f"put {Path(name).name.replace('*', '')} into {(root / name).parent}; it comes from {address}")
    return found[0]


@dataclass(frozen=True)
class _Arrays:
    """Grey pictures (n, height, width) and a label for each."""

    pictures: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(np.ascontiguousarray(self.pictures[index])), int(self.labels[index])


DSPRITES = (1, 3, 6, 40, 32, 32)
"""Values of each factor of dSprites: colour, shape, scale, orientation, x, y; its pictures are all combinations, the last fastest."""


def _dsprites(factor: int, root: Path, part: Part) -> Examples:
    name = "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    packed = _placed(root, name, "https://github.com/google-deepmind/dsprites-dataset")
    unpacked = packed.with_name("imgs.npy")
    if not unpacked.is_file():  # 3 GB, read from disk as needed
        with zipfile.ZipFile(packed) as archive:
            archive.extract("imgs.npy", packed.parent)
    pictures = np.load(unpacked, mmap_mode="r")
    values = np.unravel_index(np.arange(len(pictures)), DSPRITES)[factor]
    return _share(_White(pictures, values * 16 // DSPRITES[factor]), part)


class _White(_Arrays):
    """Pictures of zeros and ones."""

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pictures[index] * np.uint8(255)), int(self.labels[index])


def _norb(column: int, step: int, root: Path, part: Part) -> Examples:
    stem = (
        "smallnorb-5x46789x9x18x6x2x96x96-training" if part == "train" else "smallnorb-5x01235x9x18x6x2x96x96-testing"
    )
    address = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/ (unpack the .gz)"
    pictures, facts = (_norb_file(_placed(root, f"smallnorb/{stem}-{what}.mat", address)) for what in ("dat", "info"))
    return _Arrays(pictures[:, 0], facts[:, column] // step)  # the left of two cameras


def _norb_file(path: Path) -> np.ndarray:
    """Returns the array of a file of NORB: a magic number for its type, its dimensions (of which three at least are written), values."""
    head = path.open("rb").read(64)
    magic, count = struct.unpack_from("<II", head)
    kinds = {0x1E3D4C55: "u1", 0x1E3D4C54: "<i4"}
    if magic not in kinds or not 1 <= count <= 8:
        raise MothrError(f"{path}: is no file of smallNORB; unpack the .gz, or download it again")
    shape = struct.unpack_from(f"<{count}I", head, 8)
    return np.memmap(path, dtype=kinds[magic], mode="r", offset=8 + 4 * max(3, count), shape=shape)


@dataclass(frozen=True)
class _Records:
    """Pictures in a TFRecord file: the file and where each record begins."""

    path: Path
    places: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        start, size = self.places[index]
        with self.path.open("rb") as file:
            file.seek(start)
            example = _example(memoryview(file.read(size)))
        return Image.open(io.BytesIO(example["image"])), example["label"]


def _dmlab(root: Path, part: Part) -> Examples:
    path = _placed(
        root, f"dmlab/dmlab-{part}.tfrecord*", "https://storage.googleapis.com/dmlab-vtab/dmlab.tar.gz (unpack it)"
    )
    places, at, end = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while at < end:  # length (8 bytes), its checksum (4), the record, its checksum (4)
            file.seek(at)
            head = file.read(8)
            size = struct.unpack("<Q", head)[0] if len(head) == 8 else end
            if at + 16 + size > end:
                raise MothrError(f"{path}: ends in the middle of a record; unpack it again")
            places.append((at + 12, size))
            at += 16 + size
    return _Records(path, places)


def _example(message: memoryview) -> dict[str, Any]:
    """Returns the features of a tf.train.Example: bytes or an integer by name."""
    found: dict[str, Any] = {}
    for _, features in fields(message):
        for _, entry in fields(content(features)):
            name, value = (content(part) for _, part in fields(content(entry)))
            for kind, values in fields(value):
                first = next((part for _, part in fields(content(values))), memoryview(b""))
                found[bytes(name).decode()] = (
                    bytes(content(first)) if kind == 1 else integers(first)[0] if kind == 3 else None
                )
    return found


def _numbers(count: int, first: int = 0) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, first + count))


_NORB = "smallNORB, for research only; files put into place by the user"
_CLEVR = "CLEVR, CC BY 4.0, by torchvision"
_DSPRITES = "dSprites, Apache-2.0; file put into place by the user"
TASKS: dict[str, VisionTask] = {
    task.name: task
    for task in [
        VisionTask(
            "vtab-cifar100", _numbers(100), "Which of 100 kinds of things is it?", "CIFAR-100, no licence stated, by torchvision", _cifar,
        ),
        VisionTask(
            "vtab-caltech101", _numbers(102), "Which of 101 kinds of things is it, or is it the background?",
            "Caltech 101, CC BY 4.0, by torchvision", _caltech,
        ),
        VisionTask(
            "vtab-dtd", _numbers(47), "Which of 47 words describes the texture?", "Describable Textures, for research only, by torchvision",
            functools.partial(_by_split, "DTD"),
        ),
        VisionTask(
            "vtab-flowers102", _numbers(102), "Which of 102 kinds of flowers is it?",
            "Oxford 102 Flowers, no licence stated, by torchvision", functools.partial(_by_split, "Flowers102"),
        ),
        VisionTask("vtab-pets", _numbers(37), "Which of 37 breeds is it?", "Oxford-IIIT Pet, CC BY-SA 4.0, by torchvision", _pets),
        VisionTask(
            "vtab-svhn", _numbers(10), "Which digit of a house number is it?",
            "SVHN, for non-commercial use only, by torchvision", functools.partial(_by_split, "SVHN"),
        ),
        VisionTask(
            "vtab-pcam", ("no tumour", "tumour"), "Is there a metastasis in the middle of the tissue?",
            "PatchCamelyon, CC0, by torchvision and h5py", functools.partial(_by_split, "PCAM"),
        ),
        VisionTask("vtab-clevr-count", _numbers(8, 3), "How many objects are there?", _CLEVR, _clevr_count),
        VisionTask("vtab-clevr-distance", _numbers(6), "How far is the nearest object?", _CLEVR, _clevr_distance),
        VisionTask(
            "vtab-kitti-distance", ("up to 8 m", "up to 20 m", "farther", "no vehicle"), "How far is the nearest vehicle?",
            "KITTI, CC BY-NC-SA 3.0, by torchvision", _kitti,
        ),
        VisionTask(
            "vtab-dmlab", _numbers(6), "How far is the object, and is it one to be taken or avoided?",
            "frames of DeepMind Lab that VTAB gives out, no licence stated; files put into place by the user", _dmlab,
        ),
        VisionTask("vtab-dsprites-orientation", _numbers(16), "How is the shape turned?", _DSPRITES, functools.partial(_dsprites, 3)),
        VisionTask("vtab-dsprites-x", _numbers(16), "In which of 16 columns is the shape?", _DSPRITES, functools.partial(_dsprites, 4)),
        VisionTask("vtab-norb-azimuth", _numbers(18), "From which side is the toy seen?", _NORB, functools.partial(_norb, 2, 2)),
        VisionTask("vtab-norb-elevation", _numbers(9), "From which height is the toy seen?", _NORB, functools.partial(_norb, 1, 1)),
    ]
}  # fmt: skip
"""Every task by name."""
