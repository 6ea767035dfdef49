"""Every picture task by name, drawn or downloaded."""

import hashlib
from collections.abc import Sequence

import torch

from mothr.benchmark.errors import unknown_name
from mothr.generators.data import drawing, images, vision

PREFIX = "vtab-"
"""What the names of tasks begin with whose pictures are downloaded."""


def find(name: str) -> images.PictureTask | vision.VisionTask:
    """Returns the task called ``name``.

    Raises:
        MothrError: there is none.
    """
    if is_downloaded(name):
        return vision.TASKS[name]
    if name in images.TASKS:
        return images.TASKS[name]
    raise unknown_name("picture task", name, vision.TASKS if name.startswith(PREFIX) else images.TASKS)


def load(name: str, part: images.Part, side: int = drawing.SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the pictures, uint8 (n, 3, s, s), and labels, int64 (n,), of a task; calls share them, so do not write to them.

    Drawn pictures are 32 pixels wide whatever ``side``: whoever wants larger ones enlarges the few of a batch.

    Raises:
        MothrError: as :func:`images.load` and :func:`vision.load`.
    """
    return vision.load(name, part, side) if is_downloaded(name) else images.load(name, part)


def is_downloaded(name: str) -> bool:
    """Returns whether the pictures of a task are downloaded rather than drawn."""
    return name in vision.TASKS


def digest(name: str, side: int) -> str:
    """Returns the SHA-256 in hex of what a task is trained on, pictures and labels."""
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in load(name, "train", side))).hexdigest()


def bring(names: Sequence[str]) -> None:
    """Downloads what the tasks called ``names`` need; see :func:`vision.bring`."""
    vision.bring([name for name in names if is_downloaded(name)])
