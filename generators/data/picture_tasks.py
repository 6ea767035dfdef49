"""All picture tasks by name: those that need no download (``images``) and those of VTAB (``vision``)."""

from collections.abc import Sequence

import torch

from mothr.generators.data import drawing, images, registry, vision

VTAB_PREFIX = "vtab-"
"""First letters of the names of tasks with downloaded pictures."""


def find(name: str) -> images.PictureTask | vision.VisionTask:
    """Returns the task called ``name``.

    Raises:
        MothrError: there is no such task; the message offers near names.
    """
    return vision.TASKS.find(name) if name.startswith(VTAB_PREFIX) else images.TASKS.find(name)


def load(name: str, subset: registry.Subset, side: int = drawing.SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the pictures, uint8 (n, 3, s, s), and labels, int64 (n,), of a task. All calls share these
    tensors: do not modify them.

    Downloaded pictures have s = ``side``. Drawn pictures always have s = 32; models enlarge each batch of them.

    Raises:
        MothrError: as :func:`images.load` and :func:`vision.load`.
    """
    return vision.load(name, subset, side) if is_downloaded(name) else images.load(name, subset)


def is_downloaded(name: str) -> bool:
    """Returns whether the pictures of a task are downloaded."""
    return name in vision.TASKS


def digest(name: str, side: int) -> str:
    """Returns the SHA-256, in hex, of the training pictures and labels of a task."""
    return registry.digest(load(name, "train", side))


def download(names: Sequence[str]) -> None:
    """Downloads the data of those tasks in ``names`` that need it; see :func:`vision.download`."""
    vision.download([name for name in names if is_downloaded(name)])
