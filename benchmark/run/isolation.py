"""Runs a method in a process of its own, which is given the models and nothing else; only its answer crosses back.

The models are copied under ids drawn anew for each seed, so that no name, order, time or number of a file tells anything. The
method's module is imported in that process alone, after :mod:`mothr.benchmark.run.sandbox` shut it off from TCP and all files but
the models, Python's code and the system's. Too long, too much memory, a crash: each is a failed run, a row that counts.
"""

import importlib.util
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError, MothrWarning
from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.record import RunRecord, Setting, Status
from mothr.benchmark.run import evaluate
from mothr.benchmark.run.check import Finding
from mothr.benchmark.run.method import About
from mothr.benchmark.run.registry import is_own, target_of
from mothr.benchmark.storage import cache_folder
from mothr.benchmark.weights.model_set import ModelSet

LARGEST_ANSWER = 1 << 26
"""Bytes of an answer beyond which nobody reads on."""
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/dev")
"""What programs need of a system."""
CODE = (".py", ".so", ".egg-info", ".dist-info")
"""Ends of names that a folder on Python's path holds for importing, beside packages."""
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE")
"""Variables that a method's process inherits; others may hold what is none of its business."""


@dataclass(frozen=True)
class Limits:
    """What a run may take, and with what it computes."""

    seconds: float = 3600
    """Wall-clock time."""
    memory: float = 16
    """GiB that the method's processes may hold together."""
    workers: int = 1
    """See :func:`mothr.benchmark.weights.engine.use_resources`."""
    budget: float = 2
    """GiB for computing features, of which every method that follows the rules stays within ``memory``."""


@dataclass(frozen=True)
class Offered:
    """Copies of a data set's models, as a method sees them."""

    folder: Path
    """Holds a sub-folder a model."""
    source: Path
    """The data set they were copied from."""
    names: Mapping[NodeId, NodeId]
    """{id: the id that the method sees}"""
    seed: int
    """From which those were drawn."""


@contextmanager
def offered(folder: Path, models: ModelSet, seed: int) -> Iterator[Offered]:
    """Gives copies of the data set's models under ids drawn from ``seed``; they are gone after the block.

    Raises:
        MothrError: there is no room for them.
    """
    names = evaluate.fresh_ids(models, seed)
    with tempfile.TemporaryDirectory(prefix="mothr-") as place:
        home = Path(place).resolve() / "models"
        for old, new in sorted(names.items(), key=lambda pair: pair[1]):  # so the order of writing is that of the ids
            try:
                shutil.copytree(folder / dataset.MODELS / old, home / new, copy_function=shutil.copyfile)
            except OSError as error:
                remedy = "set TMPDIR to a larger disk, or run the method with --in-process"
                raise MothrError(
                    f"{home}: the models cannot be copied for the method to see ({error}); {remedy}"
                ) from error
            for path in (home / new, *(home / new).rglob("*")):
                os.utime(path, (0, 0))
        yield Offered(home, folder.resolve(), names, seed)


class Runner:
    """Runs methods in processes of their own; use it as a context. This package's own methods keep their features on disk."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._guard: _Guard | None = None

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        if self._guard:
            self._guard.close()

    def run(
        self, method: str, settings: Mapping[str, str], given: Offered, setting: Setting, truth: dataset.Truth
    ) -> RunRecord:
        """Returns the result record of one run.

        Args:
            method: a registered name or ``module:attribute``.
            settings: field -> value as text.
            given: what it sees.
            setting: what it is told.
            truth: what it is scored against.

        Raises:
            MothrError: the method cannot be found or set up so, or the truth lies where Python code does.
        """
        for place in code_folders(method)[0]:
            if given.source.is_relative_to(place):
                raise MothrError(
                    f"{given.source}: lies within {place}, which methods read their code from; move the data set elsewhere"
                )
        with self._started(self._job(method, settings, given.folder.parent, given)) as (talk, said, locked):
            told = evaluate.given_in(said.needs, given.source, truth, setting)
            start = time.perf_counter()
            talk.say(told.relabel(given.names).to_json())
            answer = talk.hear()
            seconds = time.perf_counter() - start
            ended = talk.end()
        prediction, error = _judged(answer, given, talk.fault or _why(ended, self.limits))
        status: Status = "ok" if prediction else "timeout" if ended.get("why") == "seconds" else "failed"
        outcome = evaluate.RunOutcome(
            prediction, error, seconds, status, ended.get("peak_bytes"), "sandbox" if locked else "process"
        )
        return evaluate.record(method, said, told, outcome, given.source, truth, setting, given.seed)

    def check(self, method: str, settings: Mapping[str, str]) -> tuple[About, tuple[Finding, ...]]:
        """Returns what a method says of itself, and what the conformance suite finds; see :func:`mothr.benchmark.run.check.check_method`.

        Raises:
            MothrError: the method cannot be found or set up so, or ends the process that it is tried in.
        """
        with ExitStack() as stack:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="mothr-"))
            talk, said, _ = stack.enter_context(self._started(self._job(method, settings, Path(place).resolve(), None)))
            heard = talk.hear()
            ended = talk.end()
        if not isinstance(heard, dict) or "findings" not in heard:
            raise MothrError(f"method {method!r} cannot be checked: {talk.fault or _why(ended, self.limits)}")
        return said, tuple(Finding(**one) for one in heard["findings"])

    @contextmanager
    def _started(self, job: Mapping[str, Any]) -> Iterator[tuple["_Talk", About, bool]]:
        """Gives the talk with a method's process, what the method says of itself, and whether it is shut off."""
        if self._guard is None or self._guard.gone:
            self._guard = _Guard()
        with self._guard.starts(self.limits) as talk:
            talk.say(job)
            hello = talk.hear()
            if not isinstance(hello, dict) or "refused" in hello:
                ended = talk.end()
                why = f"method {job['method']!r} cannot be set up: {talk.fault or _why(ended, self.limits)}"
                raise MothrError(hello["refused"] if hello else why)
            said = About(
                hello["version"],
                tuple(hello["tuned_on"]),
                hello["parameters"],
                frozenset(hello["needs"]),
                hello["kind"],
            )
            yield talk, said, hello["locked"]

    def _job(self, method: str, settings: Mapping[str, str], home: Path, given: Offered | None) -> dict[str, Any]:
        """Returns what a method's process is to do, in a folder of its own below ``home``."""
        own = is_own(method)
        readable, listed = code_folders(method)
        scratch = home / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        cache = cache_folder("features").parent.resolve() if own else scratch / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        models = str(given.folder) if given else None
        return {
            "method": method, "settings": dict(settings), "seed": given.seed if given else 0, "models": models,
            "scratch": str(scratch), "path": [str(Path(entry or ".").resolve()) for entry in sys.path],
            "readable": [*map(str, readable), *([models] if models else [])], "listed": [*map(str, listed)],
            "writable": [str(scratch), str(cache), "/dev/null", *(["/dev/shm"] if own else [])],
            "environment": {"HOME": str(scratch), "TMPDIR": str(scratch), "MOTHR_CACHE": str(cache)},
            "workers": self.limits.workers if own else 1, "budget": self.limits.budget,
        }  # fmt: skip


def code_folders(method: str) -> tuple[list[Path], list[Path]]:
    """Returns what a method's process may read to import its code, and the folders that it may list for that.

    Of a folder on Python's path, modules and packages alone, since data may lie beside them.
    """
    tops = {"mothr.benchmark", "mothr.baselines", target_of(method).partition(":")[0].partition(".")[0]}
    fixed = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *SYSTEM]
    readable = [Path(place).resolve() for place in fixed]
    for top in sorted(tops - {"mothr"}):
        try:
            found = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            continue
        if found:
            readable += [Path(place).resolve() for place in found.submodule_search_locations or [found.origin or ""]]
    listed = []
    for entry in {Path(entry or ".").resolve() for entry in sys.path}:
        if entry.is_dir() and not any(entry.is_relative_to(place) for place in readable):
            listed.append(entry)
            readable += [
                inside for inside in entry.iterdir() if inside.suffix in CODE or (inside / "__init__.py").is_file()
            ]
    return list(dict.fromkeys(readable)), sorted(listed)


class _Guard:
    """The guarding process, see :mod:`mothr.benchmark.run.guard`, seen from the harness."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
        command = (sys.executable, "-P", "-m", "mothr.benchmark.run.guard", str(theirs.fileno()))
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=2
        )
        theirs.close()
        self.gone = False

    def close(self) -> None:
        """Ends it, with all it has started."""
        self._line.close()
        self._process.wait()
        self.gone = True

    @contextmanager
    def starts(self, limits: Limits) -> Iterator["_Talk"]:
        """Gives the talk with a new process, which is ended after the block, if it has not ended."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                message = json.dumps({"seconds": limits.seconds, "memory": int(limits.memory * 2**30)}).encode()
                socket.send_fds(self._line, [message], [theirs.fileno()])
            talk = _Talk(ours, self._line)
            try:
                yield talk
            finally:
                talk.end()
                self.gone = self._process.poll() is not None


def _judged(answer: Any, given: Offered, why: str) -> tuple[Prediction | None, str | None]:
    """Returns the prediction in a method's answer under the models' own ids, or what is wrong with it."""
    real = {new: old for old, new in given.names.items()}
    if not isinstance(answer, dict) or not answer.keys() & {"prediction", "error"}:
        return None, why
    try:
        with evaluate.in_names_of_the_user(real):
            for text in answer.get("warnings", ()):
                warnings.warn(str(text), MothrWarning, stacklevel=2)
            if "error" in answer:
                raise MothrError(str(answer["error"]).replace(str(given.folder), str(given.source / dataset.MODELS)))
            prediction = Prediction.from_json(answer["prediction"], evaluate.ANSWER)
            return prediction.of(real, evaluate.ANSWER).relabel(real), None
    except MothrError as error:
        return None, str(error)


def _why(ended: Mapping[str, Any], limits: Limits) -> str:
    """Returns in words why a method's process ended without an answer."""
    words = {
        "seconds": f"stopped after {limits.seconds:g} s; give it longer with --seconds if it is not stuck",
        "memory": f"stopped when it held more than {limits.memory:g} GiB; allow it more with --memory-limit",
        "processes": "stopped when it had too many processes",
    }
    return words.get(ended.get("why") or "", f"its process ended with status {ended.get('status')} before it answered")


class _Talk:
    """What is said between the harness and a method's process, a line of JSON at a time, until the guard says that it has ended."""

    def __init__(self, channel: socket.socket, line: socket.socket) -> None:
        self._channel, self._line = channel, line
        self._heard = b""
        self.fault: str | None = None
        self._ended: dict[str, Any] | None = None

    def say(self, value: Any) -> None:
        """Says a value; a process that is gone does not hear it."""
        try:
            self._channel.sendall(json.dumps(value).encode() + b"\n")
        except OSError:
            return

    def hear(self) -> Any:
        """Returns the next value that the process says; None if it says none, or what cannot be read."""
        while b"\n" not in self._heard and len(self._heard) <= LARGEST_ANSWER:
            ready = select.select([self._channel, self._line], [], [])[0]
            if self._channel in ready:  # first: what was said before the end is heard
                try:
                    part = self._channel.recv(1 << 20)
                except OSError:
                    part = b""
                if not part:
                    select.select([self._line], [], [], 1)  # it is ending: how it does is worth a moment
                    return None
                self._heard += part
            elif self._ended is None:
                self._hear_of_the_end()
            else:
                return None
        heard, _, self._heard = self._heard.partition(b"\n")
        try:
            return json.loads(heard if len(heard) <= LARGEST_ANSWER else b"")
        except (ValueError, RecursionError):
            self.fault = "its answer was no JSON, or too large"
            return None

    def end(self) -> dict[str, Any]:
        """Ends the process, if it has not ended, and returns how it did."""
        if self._ended is None:
            self._line.send(b"end")
            self._hear_of_the_end()
        return self._ended or {}

    def _hear_of_the_end(self) -> None:
        message = self._line.recv(1 << 16)
        self._ended = json.loads(message) if message else {"why": None, "status": "unknown, its guard was ended, too,"}
