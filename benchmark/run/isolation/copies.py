"""Copies of a data set's model files, as methods see them.

The models of a data set are copied once for each call of ``execute``, and renamed for each seed. A method can
see this of a copy:

* the name of the model's folder: an id that is drawn from the seed of the run;
* the names of the files inside, their contents and sizes: those of the data set;
* ``st_mtime`` and ``st_atime``: 0 for every file and folder when the run starts;
* ``st_mode``, ``st_uid``, ``st_gid``, ``st_nlink``, ``st_dev``: the same for every model;
* ``st_ino``, the time of creation, the place on the disk: they follow the order of copying, which is random;
* ``st_ctime`` and the order in which a folder lists its entries: they follow the order of renaming, which is
  random and drawn anew.

The random orders come from the system's generator, so the seed of a run does not tell them. Hard links would be
faster, but a link shares
``st_ino`` with the original file. Inode numbers follow the order in which the models were trained.

The number ``st_ino`` of a model stays the same from run to run. This tells a method nothing that the content of
the file does not tell: both
identify the model. The sandbox cannot keep a method from changing times, modes or attributes of a file (see
:mod:`.sandbox`). A method could
leave a message there for its next run, which is given less. Therefore every change is noticed by ``st_ctime``,
which no program can set. The
copies are then made anew.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId

T = TypeVar("T")
_random = SystemRandom()
Fingerprint = dict[str, tuple[int, ...]]


class ModelCopies:
    """The copies of one data set, below a folder that the caller removes."""

    def __init__(self, source: Path, home: Path) -> None:
        """Copies nothing yet.

        Args:
            source: the data set.
            home: an empty folder.
        """
        self.folder = home / "models"
        """Holds a folder for each model, named by its present id."""
        self._source = source / dataset.MODELS
        self._names: Mapping[NodeId, NodeId] = {}
        self._paths: dict[NodeId, list[Path]] = {}
        self._expected: Fingerprint | None = None

    def offer(self, names: Mapping[NodeId, NodeId]) -> None:
        """Prepares the copies for a run: each model gets its id of that run, and all times are equal.

        Args:
            names: id in the data set -> id in the run.

        Raises:
            MothrError: the disk has no room for the copies.
        """
        if self._expected is None or self._fingerprint() != self._expected:
            self._copy(names)
        elif names != self._names:
            self._rename(names)
        self._names = dict(names)
        for path in _shuffled(self._present_paths()):
            os.utime(path, (0, 0))
        self._expected = self._fingerprint()

    def _copy(self, names: Mapping[NodeId, NodeId]) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            for model in _shuffled(names):
                self._paths[model] = _copy_folder(self._source / model, self.folder / names[model])
        except OSError as error:
            remedy = "set TMPDIR to a larger disk, or run the method with --in-process"
            raise MothrError(
                f"{self.folder}: the models cannot be copied for the method to see ({error}); {remedy}"
            ) from error

    def _rename(self, names: Mapping[NodeId, NodeId]) -> None:
        new = self.folder.with_name("renamed")
        new.mkdir()
        for model in _shuffled(names):
            (self.folder / self._names[model]).rename(new / names[model])
        self.folder.rmdir()
        new.rename(self.folder)

    def _present_paths(self) -> Iterator[Path]:
        """Yields every file and folder. They are remembered, because to list a folder would change its ``st_atime``."""
        yield self.folder
        for model, inside in self._paths.items():
            yield from (self.folder / self._names[model] / path for path in inside)

    def _fingerprint(self) -> Fingerprint | None:
        """Returns path -> what changes if anybody touches the file; None if a file is gone.

        A new file changes its folder.
        """
        fingerprint: Fingerprint = {}
        try:
            for path in self._present_paths():
                stat = path.lstat()
                fingerprint[str(path)] = stat.st_ino, stat.st_mode, stat.st_nlink, stat.st_size, stat.st_ctime_ns
        except OSError:
            return None
        return fingerprint


def _copy_folder(source: Path, target: Path) -> list[Path]:
    """Copies the files below ``source``, without their modes and attributes.

    Returns the paths of all copies, relative to ``target``.
    """
    paths = []
    for place, folders, names in os.walk(source, followlinks=True):
        folders.sort()
        inside = Path(place).relative_to(source)
        (target / inside).mkdir(parents=True)
        for name in sorted(names):
            # byte by byte: a copy that shares blocks with the original on the disk would show where that lies
            with open(Path(place, name), "rb") as original, open(target / inside / name, "wb") as copy:
                shutil.copyfileobj(original, copy, 1 << 20)
        paths += [inside, *(inside / name for name in names)]
    return paths


def _shuffled(items: Iterable[T]) -> list[T]:
    """Returns the items in an order that nobody can foretell."""
    shuffled = list(items)
    _random.shuffle(shuffled)
    return shuffled
