"""The picture tasks of VTHR, for users with a network: fifteen tasks of VTAB (Zhai et al. 2019, arXiv
1910.04867).
 torchvision downloads and reads nine of the data sets. Three are read from files that the user puts into
place. Labels are made as in VTAB. VTAB's choice of examples is not repeated: a generator seeded by the task's
name draws the examples of each subset.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import cache_folder
from mothr.generators.data import vision_local, vision_torchvision
from mothr.generators.data.registry import SUBSETS, Registry, Subset, Task, subset_generator
from mothr.generators.data.vision_torchvision import Examples

SIZES: dict[Subset, int] = {"train": 1000, "test": 1000}
"""Largest number of pictures per subset. VTAB-1k trains on 1000 examples too."""


@dataclass(frozen=True, slots=True)
class VisionTask(Task):
    """A classification task with downloaded pictures."""

    classes: tuple[str, ...]
    """Meaning of each label, or its number."""
    open: Callable[[Path, Subset], Examples]
    """Returns the examples of one subset from the folder of all data sets; downloads them first if it can."""


def download(names: Sequence[str]) -> None:
    """Downloads the data of tasks and opens both subsets, so that missing data is reported before any training.

    Raises:
        Skipped: torchvision is absent.
        MothrError: a data set is absent and cannot be downloaded.
    """
    for name in names:
        for subset in SUBSETS:
            _open(TASKS.find(name), subset)


@functools.lru_cache(maxsize=4)
def load(name: str, subset: Subset, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the pictures, uint8 (n, 3, side, side), and labels, int64 (n,), of a task. All calls share
    these tensors: do not modify them.

    Raises:
        Skipped: torchvision is absent.
        MothrError: no task has this name, or its data set is absent and cannot be downloaded.
    """
    examples = _open(TASKS.find(name), subset)
    rows = subset_generator(name, subset).permutation(len(examples))[: SIZES[subset]].tolist()
    pictures, labels = np.empty((len(rows), 3, side, side), np.uint8), []
    for position, row in enumerate(rows):
        picture, label = examples[row]
        resized = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        pictures[position] = np.asarray(resized).transpose(2, 0, 1)
        labels.append(int(label))
    return torch.from_numpy(pictures), torch.tensor(labels)


def folder() -> Path:
    """Returns the folder of all VTAB data sets."""
    return cache_folder("vision")


def _open(task: VisionTask, subset: Subset) -> Examples:
    try:
        return task.open(folder(), subset)
    except MothrError as error:
        raise type(error)(f"{task.name}: {error}") from None
    except Exception as error:  # torchvision reports a failed download by many kinds of errors
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise MothrError(
            f"{task.name}: cannot be read from or downloaded to {folder()} ({reason}); "
            "it needs the network once, or the files in the layout of torchvision"
        ) from error


def _numbers(count: int, first: int = 0) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, first + count))


_NORB = "smallNORB, for research only; files put into place by the user"
_CLEVR = "CLEVR, CC BY 4.0, by torchvision"
_DSPRITES = "dSprites, Apache-2.0; file put into place by the user"
TASKS: Registry[VisionTask] = Registry(
    "picture task",
    [
        VisionTask(
            "vtab-cifar100", "Which of 100 kinds of things is it?",
            "CIFAR-100, no licence stated, by torchvision", _numbers(100), vision_torchvision.cifar,
        ),
        VisionTask(
            "vtab-caltech101", "Which of 101 kinds of things is it, or is it the background?",
            "Caltech 101, CC BY 4.0, by torchvision", _numbers(102), vision_torchvision.caltech,
        ),
        VisionTask(
            "vtab-dtd", "Which of 47 words describes the texture?",
            "Describable Textures, for research only, by torchvision", _numbers(47), functools.partial(vision_torchvision.by_split, "DTD"),
        ),
        VisionTask(
            "vtab-flowers102", "Which of 102 kinds of flowers is it?",
            "Oxford 102 Flowers, no licence stated, by torchvision", _numbers(102), 
            functools.partial(vision_torchvision.by_split, "Flowers102"),
        ),
        VisionTask(
            "vtab-pets", "Which of 37 breeds is it?",
            "Oxford-IIIT Pet, CC BY-SA 4.0, by torchvision", _numbers(37), vision_torchvision.pets,
        ),
        VisionTask(
            "vtab-svhn", "Which digit of a house number is it?",
            "SVHN, for non-commercial use only, by torchvision", _numbers(10), functools.partial(vision_torchvision.by_split, "SVHN"),
        ),
        VisionTask(
            "vtab-pcam", "Is there a metastasis in the middle of the tissue?",
            "PatchCamelyon, CC0, by torchvision and h5py", ("no tumour", "tumour"), functools.partial(vision_torchvision.by_split, "PCAM"),
        ),
        VisionTask(
            "vtab-clevr-count", "How many objects are there?",
            _CLEVR, _numbers(8, 3), vision_torchvision.clevr_count,
        ),
        VisionTask(
            "vtab-clevr-distance", "How far is the nearest object?",
            _CLEVR, _numbers(6), vision_torchvision.clevr_distance,
        ),
        VisionTask(
            "vtab-kitti-distance", "How far is the nearest vehicle?",
            "KITTI, CC BY-NC-SA 3.0, by torchvision", ("up to 8 m", "up to 20 m", "farther", "no vehicle"), vision_torchvision.kitti,
        ),
        VisionTask(
            "vtab-dmlab", "How far is the object, and is it one to be taken or avoided?",
            "frames of DeepMind Lab that VTAB gives out, no licence stated; files put into place by the user", _numbers(6),
            vision_local.dmlab,
        ),
        VisionTask(
            "vtab-dsprites-orientation", "How is the shape turned?",
            _DSPRITES, _numbers(16), functools.partial(vision_local.dsprites, 3),
        ),
        VisionTask(
            "vtab-dsprites-x", "In which of 16 columns is the shape?",
            _DSPRITES, _numbers(16), functools.partial(vision_local.dsprites, 4),
        ),
        VisionTask(
            "vtab-norb-azimuth", "From which side is the toy seen?",
            _NORB, _numbers(18), functools.partial(vision_local.norb, 2, 2),
        ),
        VisionTask(
            "vtab-norb-elevation", "From which height is the toy seen?",
            _NORB, _numbers(9), functools.partial(vision_local.norb, 1, 1),
        ),
    ],
)  # fmt: skip
"""Every VTAB task by name."""
