"""Measures how records are written: by processes that are killed at random moments, and one by one to a large file.

    python tests/performance/bench_writers.py 200 30         # number of writers, seconds within which all are killed
    python tests/performance/bench_writers.py --append 1000  # records that are added to a file of as many

Each prints one JSON object. The first fails if a reader meets a record that no process wrote whole. A small run of it is
part of the tests (tests/benchmark/test_storage.py).
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.storage import STALE_SECONDS

RUNS = 8
"""Number of different runs, each of which all processes write over and over."""
MODELS = 200
"""Number of models in each run, so that a record has some 10 kB."""


def record(seed: int, writer: int) -> RunRecord:
    """Returns a record that names its writer as the tree of each model."""
    ids = [f"{number:012x}" for number in range(MODELS)]
    return RunRecord(
        split="tiny", split_version=1, manifest_sha256="0" * 64, setting="open", method="null-star", method_version="1", kind="null",
        parameters={}, seed=seed, given=[], status="ok", parents={node: [] for node in ids}, trees=dict.fromkeys(ids, writer),
        metrics={}, per_tree=[], device="cpu", mothr_version="0", commit=None, dirty=None, packages={}, date="2026-01-31T12:00:00Z",
    )  # fmt: skip


def write_until_killed(folder: Path, writer: int) -> None:
    """Writes records until the process is killed."""
    os.nice(5)  # so that the reader keeps up with all writers
    records = [record(seed, writer) for seed in range(RUNS)]
    while True:
        store.write(random.choice(records), folder)
        time.sleep(random.uniform(0, 0.1))


def read_until_stopped(folder: Path, stop: Path) -> None:
    """Reads all records until the file ``stop`` exists, and writes the numbers of reads and records into it."""
    reads = records_read = 0
    while not stop.exists():
        records_read += read(folder)
        reads += 1
    stop.write_text(json.dumps({"reads": reads, "records_read": records_read}))


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
    """Returns the number of records.

    Raises:
        AssertionError: a record mixes two writers.
        MothrError: a record is malformed.
    """
    records = store.read_all(folder)
    for run in records:
        assert run.trees is not None
        assert len(run.trees) == MODELS
        assert len(set(run.trees.values())) == 1
    return len(records)


def trial(folder: Path, writers: int, seconds: float) -> dict[str, float]:
    """Returns measurements while ``writers`` processes write and are killed within ``seconds``."""
    begin, stop, place = time.monotonic(), folder / "stop", folder / "tiny-v1"
    place.mkdir()
    reader = start(read_until_stopped, folder, stop)
    ends = {
        start(write_until_killed, folder, writer): begin + random.uniform(0.2, seconds) for writer in range(writers)
    }
    while ends:
        for child in [child for child, end in ends.items() if time.monotonic() > end]:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), "a writer failed; its error is above"
            del ends[child]
        time.sleep(0.001)
    stop.touch()
    _, status = os.waitpid(reader, 0)
    assert status == 0, "the reader failed; its error is above"
    partial = sorted(place.glob(".*.partial"))
    records = read(folder)
    for path in partial[::2]:
        os.utime(path, (time.time() - 2 * STALE_SECONDS, time.time() - 2 * STALE_SECONDS))
    store.write(record(0, 0), folder)
    left = sorted(place.glob(".*.partial"))
    assert left == partial[1::2], "the next write removes old partial files, and keeps those that may be in use"
    assert not (place / store.LOCK).exists(), "the next write removes the lock file of a killed writer"
    return {
        "writers": writers, "seconds": round(time.monotonic() - begin, 1), **json.loads(stop.read_text()), "records": records,
        "partial_files": len(partial), "removed_when_old": len(partial) - len(left),
    }  # fmt: skip


def append(folder: Path, count: int) -> dict[str, float]:
    """Returns the seconds in which ``count`` records are added to a file of as many."""
    path = store.write([record(seed, 0) for seed in range(count)], folder)
    added = [record(seed, 0) for seed in range(count, 2 * count)]
    begin = time.monotonic()
    with store.RunWriter(folder) as writer:
        for run in added:
            writer.add(run)
    together = time.monotonic() - begin
    assert read(folder) == 2 * count
    begin = time.monotonic()
    store.write(added[0], folder)
    single = time.monotonic() - begin
    return {
        "records": count, "bytes_each": path.stat().st_size // (2 * count), "seconds": round(together, 2),
        "seconds_of_one_write": round(single, 3),
    }  # fmt: skip


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("writers", type=int, nargs="?", default=200, help="number of processes")
    parser.add_argument("seconds", type=float, nargs="?", default=30, help="seconds within which all are killed")
    parser.add_argument("--append", type=int, help="add this many records to a file of as many")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mothr-writers-") as place:
        if arguments.append:
            print(json.dumps(append(Path(place), arguments.append)))
        else:
            print(json.dumps(trial(Path(place), arguments.writers, arguments.seconds)))


if __name__ == "__main__":
    main()
