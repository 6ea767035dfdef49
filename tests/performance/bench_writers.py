"""Many processes write the same results and are killed at random moments, while one reads: no half file is ever read as a result.

    python tests/performance/bench_writers.py 200 30     # processes, seconds within which all are killed

Prints one JSON object; leaves with 1 if a file was read that nobody wrote whole. A small run is part of the tests (tests/benchmark/
test_storage.py).
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.storage import STALE_SECONDS

FILES = 8
"""Different results, each of which all processes write over and over."""
MODELS = 200
"""Models in each, so that a file has some 10 kB."""


def record(seed: int, writer: int) -> RunRecord:
    """Returns a result that says in every one of its models who wrote it."""
    ids = [f"{number:012x}" for number in range(MODELS)]
    return RunRecord(
        split="tiny", split_version=1, manifest_sha256="0" * 64, setting="open", method="null-star", method_version="1", parameters={},
        seed=seed, kind="null", given=[], status="ok", parents={node: [] for node in ids}, trees=dict.fromkeys(ids, writer), metrics={}, per_tree=[],
        device="cpu", mothr_version="0", commit=None, dirty=None, packages={}, date="2026-01-31T12:00:00Z",
    )  # fmt: skip


def write_for_ever(folder: Path, writer: int) -> None:
    """Writes results until it is killed."""
    os.nice(5)  # the reader is to keep up with all of them
    ready = [record(seed, writer) for seed in range(FILES)]
    while True:
        store.write(random.choice(ready), folder)
        time.sleep(random.uniform(0, 0.1))


def read_till(folder: Path, told: Path) -> None:
    """Reads all results over and over while writers are alive, and then says in the file ``told`` how often, and how many it read."""
    reads = seen = 0
    while not told.exists():
        seen += read(folder)
        reads += 1
    told.write_text(json.dumps({"reads": reads, "results_read": seen}))


def start(work: Callable[..., None], *arguments: object) -> int:
    """Returns the id of a new process that does this work."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(*arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def read(folder: Path) -> int:
    """Returns how many results there are now, each of which one process wrote whole.

    Raises:
        AssertionError: one is a mixture.
        MothrError: one is no result.
    """
    found = store.read_all(folder)
    for one in found:
        assert len(one.trees) == MODELS
        assert len(set(one.trees.values())) == 1
    return len(found)


def trial(folder: Path, writers: int, seconds: float) -> dict[str, float]:
    """Returns what was seen while ``writers`` processes wrote and were killed."""
    begin, told = time.monotonic(), folder / "told"
    (folder / "tiny-v1").mkdir()
    reader = start(read_till, folder, told)
    alive = {start(write_for_ever, folder, writer): begin + random.uniform(0.2, seconds) for writer in range(writers)}
    while alive:
        for child in [child for child, end in alive.items() if time.monotonic() > end]:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), "a writer failed by itself"
            del alive[child]
        time.sleep(0.001)
    told.touch()
    _, status = os.waitpid(reader, 0)
    assert status == 0, "what is wrong with a file is said above"
    left = sorted((folder / "tiny-v1").glob(".*.partial"))
    whole = read(folder)
    for path in left[::2]:
        os.utime(path, (time.time() - 2 * STALE_SECONDS, time.time() - 2 * STALE_SECONDS))
    store.write(record(0, 0), folder)
    kept = sorted((folder / "tiny-v1").glob(".*.partial"))
    assert kept == left[1::2], "old left-overs go with the next write, those that may be in use stay"
    return {
        "writers": writers, "seconds": round(time.monotonic() - begin, 1), **json.loads(told.read_text()), "results_there": whole,
        "half_files_left": len(left), "removed_when_old": len(left) - len(kept),
    }  # fmt: skip


if __name__ == "__main__":
    count, within = int(sys.argv[1]) if len(sys.argv) > 1 else 200, float(sys.argv[2]) if len(sys.argv) > 2 else 30
    with tempfile.TemporaryDirectory(prefix="mothr-writers-") as place:
        print(json.dumps(trial(Path(place), count, within)))
