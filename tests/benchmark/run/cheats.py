"""Methods that break the rules, for test_isolation; the test copies this file beside others' code and imports it there.

Each tries something, and answers with what it got hold of: the truth, if it did, else with the first model as the parent of all.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from mothr.benchmark.errors import MothrWarning
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.run.registry import find_method
from mothr.benchmark.score import metrics

metrics.METRICS.clear()  # whoever imports this scores nothing
metrics.score = lambda truth, predicted: {"edge_f1": 1.0}


def star(models, **more):
    root, *rest = models.ids
    return Prediction(ModelGraph.from_edges(models.ids, [(root, node) for node in rest]), **more)


def chain(models, key):
    ordered = sorted(models.ids, key=key)
    return Prediction(ModelGraph.from_edges(models.ids, pairwise(ordered)))


def home(models):
    return next(iter(models.checkpoints[0].tensors.values())).file.parents[1]


def files(models):
    return {checkpoint.id: next(iter(checkpoint.tensors.values())).file for checkpoint in models.checkpoints}


@dataclass(frozen=True)
class Reads:
    """Reads what lies at a path, by several names of it."""

    path: str = ""

    def __call__(self, models, rng):
        for path in (
            self.path,
            f"/proc/self/root{self.path}",
            f"/proc/{os.getppid()}/root{self.path}",
            f"/proc/1/root{self.path}",
        ):
            with contextlib.suppress(OSError):
                raise RuntimeError(f"read {path}: {Path(path).read_text()[:40]!r}")
        with contextlib.suppress(OSError):
            os.link(self.path, "truth.json")
            raise RuntimeError("linked the truth")
        return star(models)


@dataclass(frozen=True)
class Writes:
    """Writes to paths."""

    paths: tuple[str, ...] = ()

    def __call__(self, models, rng):
        for path in (*self.paths, *map(str, files(models).values()), str(home(models) / "new")):
            with contextlib.suppress(OSError):
                Path(path).write_text("spoiled")
                raise RuntimeError(f"wrote {path}")
        Path("mine").write_text("its own folder is its own")
        return star(models)


def by_id(models, rng):
    return chain(models, key=str)


def by_listing(models, rng):
    return chain(models, key=[entry.name for entry in os.scandir(home(models))].index)


def by_number(models, rng):
    return chain(models, key=lambda node: files(models)[node].stat().st_ino)


def by_time(models, rng):
    times = {node: (file.stat().st_mtime, file.parent.stat().st_mtime) for node, file in files(models).items()}
    if len(set(times.values())) > 1:
        raise RuntimeError(f"times differ: {times}")
    return chain(models, key=lambda node: files(models)[node].stat().st_ctime_ns)


def by_size(models, rng):
    return chain(models, key=lambda node: files(models)[node].stat().st_size)


def prints(models, rng):
    fake = json.dumps({"why": None, "status": 0, "peak_bytes": 1, "metrics": {"edge_f1": 1.0}})
    print(fake)
    for handle in range(3, 64):
        with contextlib.suppress(OSError):
            socket.socket(fileno=os.dup(handle)).getpeername()
            os.write(handle, b"")
    return star(models)


def stays(models, rng):
    """Leaves a process behind, which has left its group and lost its parent."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
    return star(models)


def bombs(models, rng):
    for _ in range(500):
        with contextlib.suppress(OSError):
            if os.fork() == 0:
                time.sleep(3600)
    return hangs(models, rng)


def hangs(models, rng):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def eats(models, rng):
    held = []
    while True:
        held.append(bytearray(b"x") * (1 << 26))
        time.sleep(0.05)


def kills(models, rng):
    for pid in (os.getppid(), 1):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return star(models)


def calls_home(models, rng):
    with contextlib.suppress(PermissionError):
        socket.create_connection(("127.0.0.1", int(os.environ.get("PORT", "9"))), timeout=1)
        raise RuntimeError("connected")
    return star(models)


def leaves(models, rng):
    os._exit(0)


def crashes(models, rng):
    os.kill(os.getpid(), signal.SIGSEGV)


def unsure(models, rng):
    root, *rest = models.ids
    return star(models, confidence={(root, node): float("nan") for node in rest})


def partial(models, rng):
    return Prediction(ModelGraph.from_edges(models.ids[1:], ()))


def extra(models, rng):
    return Prediction(ModelGraph.from_edges((*models.ids, "f" * 12), ()))


def floods(models, rng):
    return star(models, trees=dict.fromkeys(models.ids, 10**5000))


def computes(models, rng):
    """Breaks no rule: its features are kept in its own folder, which is gone after the run."""
    prediction = find_method("linea")(models, rng)
    if not list(Path(os.environ["MOTHR_CACHE"]).glob("features/*")):
        raise RuntimeError("no features")
    return prediction


def warns(models, rng):
    warnings.warn(f"{models.ids[0]} is odd", MothrWarning, stacklevel=2)
    return star(models)


def fails(models, rng):
    raise ValueError(f"{home(models) / models.ids[0]} is odd")


def looks_around(models, rng):
    secrets = [name for name in os.environ if "SECRET" in name]
    if secrets or not Path.home().samefile(Path.cwd()):
        raise RuntimeError(f"sees {secrets} and {Path.home()}")
    return star(models)


@dataclass(frozen=True)
class Asks:
    """Asks for the truth, which is allowed, and is recorded."""

    needs: ClassVar = frozenset({"truth"})

    def __call__(self, models, rng):
        return Prediction(models.given.truth)


class Cyclic(ModelGraph):
    """A graph whose construction checks nothing."""

    def __post_init__(self):
        pass


def cycles(models, rng):
    first, second, *rest = models.ids
    return Prediction(Cyclic({first: (second,), second: (first,)} | dict.fromkeys(rest, (first,))))


if "boom" in os.environ:
    sys.exit("imported where it should not be")
