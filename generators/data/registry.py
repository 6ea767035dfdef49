"""What the tasks of all families share: the two subsets of their data, a registry by name, and the generator
of their draws."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, get_args

import numpy as np
import torch

from mothr.benchmark.errors import unknown_name

Subset = Literal["train", "test"]
"""Every task has training examples and test examples; no example is in both subsets."""
SUBSETS: tuple[Subset, ...] = get_args(Subset)


@dataclass(frozen=True, slots=True)
class Task:
    """What a model can be trained on, and what a card says about it."""

    name: str
    """The name in recipes."""
    description: str
    """One sentence on the data and on what is asked."""
    source: str
    """Origin and licence of the data; data set cards repeat it."""


class Named(Protocol):
    """A value with a name."""

    @property
    def name(self) -> str:
        """The name in recipes."""


Entry = TypeVar("Entry", bound=Named)


class Registry(dict[str, Entry], Generic[Entry]):
    """The entries of one kind (e.g. tasks) by name."""

    def __init__(self, kind: str, entries: Iterable[Entry]) -> None:
        """Registers ``entries``. Error messages name the ``kind``, e.g. ``text domain``."""
        super().__init__({entry.name: entry for entry in entries})
        self.kind = kind

    def find(self, name: str) -> Entry:
        """Returns the entry called ``name``.

        Raises:
            MothrError: there is no such entry; the message offers near names.
        """
        if name not in self:
            raise unknown_name(self.kind, name, self)
        return self[name]


def check_subset(subset: str) -> None:
    """Raises MothrError if ``subset`` is neither ``train`` nor ``test``."""
    if subset not in SUBSETS:
        raise unknown_name("subset", subset, SUBSETS)


def subset_generator(name: str, subset: Subset) -> np.random.Generator:
    """Returns the numpy generator of one subset of a task: its seed is the first 64 bits of
    SHA-256("<name>/<subset>")."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{name}/{subset}".encode()).digest()[:8], "big"))


def digest(tensors: Iterable[torch.Tensor]) -> str:
    """Returns the SHA-256, in hex, of the bytes of ``tensors`` one after another."""
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()
