"""The executor that runs each method in a process of its own. Nothing but one JSON message comes back from it."""

import importlib.util
import shutil
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.record import Status
from mothr.benchmark.run.check import Finding
from mothr.benchmark.run.execute import Source
from mothr.benchmark.run.in_process import PREDICTION, fresh_ids, in_ids_of_the_user
from mothr.benchmark.run.isolation.channel import Channel, GuardProcess
from mothr.benchmark.run.isolation.copies import ModelCopies
from mothr.benchmark.run.method import About
from mothr.benchmark.run.outcome import RunOutcome, RunRequest
from mothr.benchmark.run.registry import is_own, target_of
from mothr.benchmark.storage import cache_folder
from mothr.benchmark.weights.model_set import ModelSet

SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/dev")
"""Folders of the system that programs need to read."""
CODE = (".py", ".so", ".egg-info", ".dist-info")
"""Endings of the files in a folder of Python's path that an import reads, beside packages."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The resources that one run may use."""

    seconds: float = 3600
    """Wall-clock time, in seconds."""
    memory: float = 16
    """Resident memory of the method's processes together, in GiB."""
    workers: int = 1
    """Processes that this package's own methods compute features in, each with one thread."""
    budget: float = 2
    """Memory for computing features, in GiB; see :func:`mothr.benchmark.weights.engine.engine`."""


@dataclass(frozen=True, slots=True)
class _Started:
    """A method's process that waits for its side information."""

    channel: Channel
    about: About
    """What the method declares about itself."""
    locked: bool
    """Whether the sandbox is active."""
    device: str
    """The device that features are computed on."""


@dataclass
class Isolated:
    """The executor that runs methods in processes of their own. Use it as a context for many calls of ``execute``.

    The methods of this package share a cache of features on disk. Every other method has an empty cache for each run.
    """

    limits: Limits = field(default_factory=Limits)
    """The resources that each run may use."""
    sees_code: bool = field(default=False, init=False)
    models: ModelSet | None = field(default=None, init=False)
    _guard: GuardProcess | None = field(default=None, init=False, repr=False)
    _depth: int = field(default=0, init=False, repr=False)

    def __enter__(self) -> Self:
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._guard:
            self._guard.close()

    @contextmanager
    def opened(self, source: Source) -> Iterator[Callable[[RunRequest], RunOutcome]]:
        """Gives the function that runs a request on ``source``.

        The copies that methods read are removed after the block.
        """
        with tempfile.TemporaryDirectory(prefix="mothr-") as place:
            copies = ModelCopies(source.folder, Path(place).resolve())
            yield lambda request: self._run(request, source, copies)

    def _run(self, request: RunRequest, source: Source, copies: ModelCopies) -> RunOutcome:
        """Returns the outcome of one run.

        Raises:
            MothrError: the method or a setting does not exist, or the data set lies in a folder that methods can read.
        """
        folder = source.folder.resolve()
        for place in code_folders(request.method)[0]:
            if folder.is_relative_to(place):
                raise MothrError(
                    f"{folder}: lies within {place}, which methods read their code from; move the data set elsewhere"
                )
        names = fresh_ids(source.models, request.seed)
        copies.offer(names)
        job = self._job(request, copies.folder.parent, copies.folder)
        with self._started(job) as started:
            given = source.given(request.method, started.about, request.setting)
            start = time.perf_counter()
            started.channel.send(given.relabel(names).to_json())
            message = started.channel.receive()
            seconds = time.perf_counter() - start
            ended = started.channel.end()
        try:
            if not isinstance(message, dict) or not message.keys() & {"prediction", "error"}:
                raise MothrError(started.channel.fault or self._why_ended(ended))
            prediction, error = _prediction_in(message, names, copies.folder, folder / dataset.MODELS), None
        except MothrError as problem:
            prediction, error = None, str(problem)
        status: Status = "ok" if prediction else "timeout" if ended.get("why") == "seconds" else "failed"
        return RunOutcome(
            started.about, tuple(given.names()), prediction, error, seconds, status, started.device,
            peak_bytes=ended.get("peak_bytes"), isolation="sandbox" if started.locked else "process",
        )  # fmt: skip

    def check(self, method: str, settings: Mapping[str, str]) -> tuple[About, tuple[Finding, ...]]:
        """Returns what a method declares about itself, and the findings of the conformance suite.

        See :func:`mothr.benchmark.run.check.check_method`.

        Raises:
            MothrError: the method or a setting does not exist, or the method ends the process that it is tried in.
        """
        with self, tempfile.TemporaryDirectory(prefix="mothr-") as place:
            job = self._job(RunRequest(method, settings), Path(place).resolve(), None)
            with self._started(job) as started:
                message = started.channel.receive()
                ended = started.channel.end()
        if not isinstance(message, dict) or "findings" not in message:
            why = started.channel.fault or self._why_ended(ended)
            raise MothrError(f"method {method!r} cannot be checked: {why}")
        return started.about, tuple(Finding(**finding) for finding in message["findings"])

    @contextmanager
    def _started(self, job: Mapping[str, Any]) -> Iterator[_Started]:
        """Gives a process that has imported the method of ``job``."""
        if self._guard is None or self._guard.ended:
            self._guard = GuardProcess()
        with self._guard.started(self.limits.seconds, self.limits.memory) as channel:
            channel.send(job)
            hello = channel.receive()
            if not isinstance(hello, dict) or "refused" in hello:
                ended = channel.end()
                why = f"method {job['method']!r} cannot be set up: {channel.fault or self._why_ended(ended)}"
                raise MothrError(hello["refused"] if hello else why)
            about = About(
                hello["version"],
                tuple(hello["tuned_on"]),
                hello["parameters"],
                frozenset(hello["needs"]),
                hello["kind"],
            )
            yield _Started(channel, about, hello["locked"], hello["device"])

    def _job(self, request: RunRequest, home: Path, models: Path | None) -> dict[str, Any]:
        """Returns the first message to a method's process: what it runs, and the files that it may use.

        Args:
            request: the method with its settings and seed.
            home: a folder that gets a new folder for the files of this run.
            models: the folder of the models; None to check the method instead.
        """
        own = is_own(request.method)
        readable, listed = code_folders(request.method)
        scratch = home / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        cache = cache_folder("features").parent.resolve() if own else scratch / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        folders = [str(models)] if models else []
        return {
            "method": request.method, "settings": dict(request.settings), "seed": request.seed,
            "models": str(models) if models else None,
            "scratch": str(scratch), "path": [str(Path(entry or ".").resolve()) for entry in sys.path],
            "readable": [*map(str, readable), *folders], "listed": [*map(str, listed)],
            "writable": [str(scratch), str(cache), "/dev/null", *(["/dev/shm"] if own else [])],
            "environment": {"HOME": str(scratch), "TMPDIR": str(scratch), "MOTHR_CACHE": str(cache)},
            "workers": self.limits.workers if own else 1, "budget": self.limits.budget,
        }  # fmt: skip

    def _why_ended(self, ended: Mapping[str, Any]) -> str:
        """Returns the sentence for a process that ended without a message."""
        sentences = {
            "seconds": f"stopped after {self.limits.seconds:g} s; give it longer with --seconds if it is not stuck",
            "memory": f"stopped when it held more than {self.limits.memory:g} GiB; allow it more with --memory-limit",
            "processes": "stopped when it had too many processes",
        }
        other = f"its process ended with status {ended.get('status')} before it returned a prediction"
        return sentences.get(ended.get("why") or "", other)


def code_folders(method: str) -> tuple[list[Path], list[Path]]:
    """Returns the paths that a method's process may read to import code, and the folders that it may list for that.

    In a folder of Python's path, only modules and packages can be read: data may lie beside them.
    """
    tops = {"mothr.benchmark", "mothr.baselines", target_of(method).partition(":")[0].partition(".")[0]}
    fixed = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *SYSTEM]
    readable = [Path(place).resolve() for place in fixed]
    for top in sorted(tops - {"mothr"}):
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            continue
        if spec:
            readable += [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or ""]]
    listed = []
    for entry in {Path(entry or ".").resolve() for entry in sys.path}:
        if entry.is_dir() and not any(entry.is_relative_to(place) for place in readable):
            listed.append(entry)
            readable += [
                inside for inside in entry.iterdir() if inside.suffix in CODE or (inside / "__init__.py").is_file()
            ]
    return list(dict.fromkeys(readable)), sorted(listed)


def _prediction_in(
    message: Mapping[str, Any], names: Mapping[NodeId, NodeId], copies: Path, models: Path
) -> Prediction:
    """Returns the prediction in a method's message, in the ids of the data set. Shows the method's warnings.

    Args:
        message: what the method's process sent.
        names: id in the data set -> id in the run.
        copies: the folder of the models that the method saw.
        models: the folder of the data set's models, by which errors name them.

    Raises:
        MothrError: the method failed, or its prediction is not valid.
    """
    real = {new: old for old, new in names.items()}
    with in_ids_of_the_user(real):
        for text in message.get("warnings", ()):
            warnings.warn(str(text), MothrWarning, stacklevel=2)
        if "error" in message:
            raise MothrError(str(message["error"]).replace(str(copies), str(models)))
        return Prediction.from_json(message["prediction"], PREDICTION).of(real, PREDICTION).relabel(real)
