"""The one way to run methods on a data set. Executors differ in where the method's code runs.

``InProcess`` runs it in this process, ``Isolated`` in a process of its own. Both return a :class:`RunOutcome` for
each :class:`RunRequest`. The truth is used after that, to score the outcome.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from mothr.benchmark.data import dataset
from mothr.benchmark.data.dataset import Truth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import RunRecord, Setting
from mothr.benchmark.run.method import About, needs
from mothr.benchmark.run.outcome import RunOutcome, RunRequest, record_of
from mothr.benchmark.run.registry import find_method, is_own
from mothr.benchmark.side_information import SideInformation
from mothr.benchmark.storage import sha256_of
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True, slots=True)
class Source:
    """A data set with its truth, and what of the truth a method may be given."""

    folder: Path
    """The folder of the data set."""
    truth: Truth
    """Its truth, or that of the part of the models that methods are given."""
    models: ModelSet
    """The models that methods are given."""
    hidden: bool = False
    """Whether the truth is secret. The predictions of an oracle would publish it."""

    def given(self, method: str, about: About, setting: Setting) -> SideInformation:
        """Returns the side information of a method, see :func:`side_information`.

        Raises:
            MothrError: the method needs a truth that is secret.
        """
        if self.hidden and "truth" in about.needs:
            raise _would_publish(method)
        return side_information(about, setting, self.folder, self.truth)


def side_information(about: About, setting: Setting, folder: Path, truth: Truth) -> SideInformation:
    """Returns what a method is given: the partition if ``setting`` is known-trees, and what it needs.

    Args:
        about: what the method declares about itself.
        setting: the setting.
        folder: the data set, from which metadata is read.
        truth: the truth of the data set.
    """
    return SideInformation(
        trees=truth.trees if setting == "known-trees" else None,
        tree_count=len(truth.graph.trees) if "tree_count" in about.needs else None,
        metadata=dataset.metadata(folder, truth.nodes) if "metadata" in about.needs else None,
        truth=truth.graph if "truth" in about.needs else None,
    )


class Executor(Protocol):
    """Runs methods.

    It is a context, which can be entered again within itself: what it starts ends with the outermost block.
    """

    sees_code: bool
    """Whether methods of other packages are imported into this process."""
    models: ModelSet | None
    """The models that methods are given; None for all models of the data set."""

    def __enter__(self) -> Self:
        """Starts whatever the executor keeps for many runs."""

    def __exit__(self, *_: object) -> None:
        """Ends it."""

    def opened(self, source: Source) -> AbstractContextManager[Callable[[RunRequest], RunOutcome]]:
        """Returns a context with the function that runs a request on ``source``."""


def execute(
    requests: Iterable[RunRequest], folder: Path, truth: Truth, executor: Executor, *, hidden: bool = False
) -> Iterator[tuple[RunRequest, RunRecord]]:
    """Returns an iterator of (request, scored record). Each run is made when the iterator reaches it.

    Names, settings and the hashes of the data set's files are checked at once. A run that fails has a record, too.
    It scores zero.

    Args:
        requests: the runs, in the order in which they are made. Runs of one seed are best kept together.
        folder: the data set.
        truth: its truth, or that of the part of the models that the executor shows.
        executor: where the methods' code runs.
        hidden: whether the truth is secret.

    Raises:
        MothrError: a method or a setting does not exist, a model cannot be read, or an oracle would publish a
            secret truth.
    """
    listed = list(requests)
    for request in listed:
        if executor.sees_code or is_own(request.method):  # the code of other packages is not imported here
            method = find_method(request.method, request.settings)
            if hidden and "truth" in needs(method):
                raise _would_publish(request.method)
    models = dataset.open_models(folder) if executor.models is None else executor.models
    return _records(listed, Source(folder, truth, models, hidden), executor)


def _records(requests: list[RunRequest], source: Source, executor: Executor) -> Iterator[tuple[RunRequest, RunRecord]]:
    manifest_sha256 = sha256_of(source.folder / dataset.MANIFEST)
    with executor, executor.opened(source) as run:
        for request in requests:
            yield request, record_of(request, run(request), source.truth, manifest_sha256)


def _would_publish(method: str) -> MothrError:
    return MothrError(
        f"method {method!r} is an oracle: its prediction is the truth, and the labels are hidden; leave it out"
    )
