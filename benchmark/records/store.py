"""Folders of runs: ``results/<split>-v<k>/runs.jsonl``, beside that split's ``manifest.json`` and ``truth.json``.

``runs.jsonl`` has one record a line, as canonical JSON, sorted by identity. Each line holds the run's ``id`` as well.
Before schema version 2, each record was a JSON file of its own. Such files are still read; a folder may hold both.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.record import BY_POSITION, IDENTITY, RunRecord, identity, identity_key
from mothr.benchmark.records.superseded import SUPERSEDED
from mothr.benchmark.storage import canonical_json, parse_json, read_json, write_error, write_text

RUNS = "runs.jsonl"
"""The file that holds the records of a split."""
PAIRS = "pairs.json"
"""Distances and direction scores between the models of each true tree; see :mod:`mothr.benchmark.board.pairs`."""
TRUTH = "truth.json"
"""The truth of a split; a hidden split has none."""
NOT_RECORDS = ("manifest.json", TRUTH, SUPERSEDED, PAIRS)
"""JSON files of a split that are no records."""
SUBMISSIONS = "submissions"
"""The folder of what others sent in, in the folder of results; :func:`read_all` passes it over."""
LOCK = ".runs.lock"
"""The file that a writer holds locked, in the folder of the split; it is there only while somebody writes."""
ID = "id"
"""The key of a line that holds :attr:`RunRecord.run_id`."""

Key = tuple[str, ...]
"""What :func:`identity_key` returns."""


def folder_name(split: str, split_version: int) -> str:
    """Returns the name of the folder that holds the records of a split."""
    return f"{split}-v{split_version}"


def home(record: RunRecord, folder: Path) -> Path:
    """Returns the folder of the record's split below the results folder ``folder``."""
    return folder / folder_name(record.split, record.split_version)


# --- reading ---


def read_all(folder: Path, *, relabel: bool = True) -> list[RunRecord]:
    """Returns every record below the results folder ``folder``, split by split.

    Everything in a folder ``submissions``, or below a name that begins with a dot, is passed over.

    Args:
        folder: the results folder.
        relabel: see :func:`read_runs`.

    Raises:
        MothrError: there is no such folder, or one of its records is faulty; see :func:`read_runs`.
    """
    if not folder.is_dir():
        raise MothrError(f"{folder}: no such folder; name the folder that 'mothr run' wrote to")
    places = set()
    for pattern in (RUNS, "*.json"):
        for path in folder.rglob(pattern):
            inside = path.relative_to(folder).parts
            if not any(part.startswith(".") or part == SUBMISSIONS for part in inside):
                places.add(path.parent)
    return [record for place in sorted(places) for record in read_runs(place, relabel=relabel)]


def read_runs(place: Path, *, relabel: bool = True) -> list[RunRecord]:
    """Returns the records of one split, sorted by identity.

    A line of ``runs.jsonl`` replaces an old JSON file of the same run.

    Args:
        place: the folder of the split's results.
        relabel: whether records before schema version 3 get the truth's tree numbers, if the truth lies beside them.

    Raises:
        MothrError: a record is malformed, is there twice, is of another split, or does not fit its id; or there are
            older records beside a faulty truth.
    """
    records = {identity_key(identity(record)): record for record in _read_files(place)}
    records |= _read_lines(place)
    ordered = [records[key] for key in sorted(records)]
    if not (relabel and (place / TRUTH).is_file() and any(record.schema_version <= BY_POSITION for record in ordered)):
        return ordered
    graph, entries = read_true_graph(place / TRUTH)
    labels = graph.tree_labels({node: entry.get("tree") for node, entry in entries.items()})
    return [
        _relabelled(record, labels, place) if record.schema_version <= BY_POSITION else record for record in ordered
    ]


def _relabelled(record: RunRecord, labels: Sequence[int], place: Path) -> RunRecord:
    """Returns the record with the truth's tree numbers.

    Raises:
        MothrError: the record has a score for a tree that the truth does not have.
    """
    if any(tree not in range(len(labels)) for tree in record.tree_scores()):
        raise MothrError(
            f"{place / RUNS}#{record.run_id}: is scored on more trees than the {len(labels)} of {place / TRUTH}; "
            f"score it again: mothr rescore {place}"
        )
    return record.with_tree_labels(labels)


def read_true_graph(path: Path) -> tuple[ModelGraph, dict[NodeId, Any]]:
    """Returns the true graph in the file ``path``, and the entry of each model as JSON values. It loads no torch.

    Raises:
        MothrError: the file cannot be read, or is no truth.
    """
    value = read_json(path)
    nodes = value.get("nodes") if isinstance(value, dict) else None
    if not isinstance(nodes, dict) or not all(
        isinstance(entry, dict) and "parents" in entry for entry in nodes.values()
    ):
        raise MothrError(
            f"{path}: a truth is an object whose 'nodes' each have 'parents'; copy it from the data set again"
        )
    return ModelGraph.from_json({node: entry["parents"] for node, entry in nodes.items()}, str(path)), nodes


def read_prediction(path: Path) -> Prediction:
    """Returns the prediction in ``path``.

    Args:
        path: a prediction file, an old record file, or ``runs.jsonl#<id>``. The id may be left out if there is one run.

    Raises:
        MothrError: the file is none of these, holds no legal prediction, or has no such run.
    """
    file, _, run_id = path.name.partition("#")
    if file == RUNS:
        runs = {record.run_id: record for record in _read_lines(path.parent).values()}
        if run_id in runs:
            return runs[run_id].prediction()
        if run_id or not runs:
            raise MothrError(f"{path.with_name(RUNS)}: {unknown_name('run', run_id, runs)}")
        if len(runs) > 1:
            raise MothrError(f"{path}: holds {len(runs)} runs; name one of them, as {path}#{min(runs)}")
        return next(iter(runs.values())).prediction()
    value = read_json(path)
    if isinstance(value, dict) and "manifest_sha256" in value:
        return RunRecord.from_json(value, str(path)).prediction()
    return Prediction.from_json(value, str(path))


def _read_lines(place: Path) -> dict[Key, RunRecord]:
    """Returns identity -> record for the lines of ``runs.jsonl``; nothing if there is no such file."""
    path = place / RUNS
    records: dict[Key, RunRecord] = {}
    numbers: dict[Key, int] = {}
    for number, text in _lines(path):
        where = f"{path}, line {number}"
        value = _parsed(text, where)
        run_id = value.pop(ID, None)
        record = RunRecord.from_json(value, where)
        if record.run_id != run_id:
            raise MothrError(
                f"{where}: its {ID} is {run_id!r}, but the fields {', '.join(IDENTITY)} make {record.run_id!r}; "
                "undo the edit that changed them, or delete the line and run the method again"
            )
        _check_home(record, place, where)
        key = identity_key(identity(record))
        _check_once(key, numbers, path, number)
        records[key] = record
    return records


def _check_once(key: Key, numbers: dict[Key, int], path: Path, number: int) -> None:
    """Adds ``key`` -> line number to ``numbers``; raises MothrError if another line has the same key."""
    if key in numbers:
        raise MothrError(f"{path}, line {number}: is the same run as line {numbers[key]}; delete one of the two lines")
    numbers[key] = number


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line number, line) for each line that is not empty; nothing if there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except UnicodeDecodeError as error:
        raise MothrError(f"{path}: not UTF-8 ({error}); restore the file") from None
    except OSError as error:
        raise MothrError(f"{path}: cannot read ({error.strerror or error}); check the path and its rights") from error
    yield from ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _parsed(text: str, where: str, parse: Callable[[str], Any] = parse_json) -> dict[str, Any]:
    """Returns the JSON object in one line."""
    try:
        value = parse(text)
    except (ValueError, RecursionError) as error:
        raise MothrError(
            f"{where}: not valid JSON ({error}); restore the file, or delete the line and run the method again"
        ) from None
    if not isinstance(value, dict):
        raise MothrError(f"{where}: a record is a JSON object, not {type(value).__name__}; delete the line")
    return value


def _read_files(place: Path) -> Iterator[RunRecord]:
    """Yields the records of schema version 1 that are JSON files of their own."""
    for path in sorted(place.glob("*.json")):
        if path.name in NOT_RECORDS or path.name.startswith("."):
            continue
        record = RunRecord.from_json(read_json(path), str(path))
        _check_home(record, place, str(path))
        if path.name != _file_name(record):
            raise MothrError(
                f"{path}: its content belongs into the file {_file_name(record)}; rename it, "
                "or undo the edit that changed it"
            )
        yield record


def _file_name(record: RunRecord) -> str:
    """Returns the name of the record's own file, before schema version 2."""
    return f"{record.run_id}.json"


def _check_home(record: RunRecord, place: Path, where: str) -> None:
    """Raises MothrError unless ``place`` is the folder of the record's split."""
    name = folder_name(record.split, record.split_version)
    if place.resolve().name != name:
        raise MothrError(
            f"{where}: its content belongs into the folder {name}; move it there, or undo the edit that changed it"
        )


# --- writing ---


def write(records: RunRecord | Iterable[RunRecord], folder: Path) -> Path:
    """Returns the path of the ``runs.jsonl`` that the records were written to.

    A record replaces an older one with the same identity. Two processes may write at once. Each call rewrites the file:
    use a :class:`RunWriter` for many calls.

    Args:
        records: one record, or several of one split.
        folder: the results folder, which holds a folder for each split.

    Raises:
        MothrError: the file cannot be written, or a line of it is malformed; the file is untouched then.
        ValueError: there is no record, or they are of different splits.
    """
    added = [records] if isinstance(records, RunRecord) else list(records)
    [place] = {home(record, folder) for record in added}
    _change(place, added, [])
    return place / RUNS


def remove(records: Iterable[RunRecord], folder: Path) -> None:
    """Removes the records below the results folder ``folder``; a record that is not there is passed over.

    Raises:
        MothrError: a file cannot be written, or a line of it is malformed; this file is untouched then.
    """
    for place, group in _by_home(records, folder):
        _change(place, [], group)


class RunWriter:
    """Writes records as they are made; use it as a context.

    Rewriting a large file for each record would take long. A record therefore waits for the next ones if the last
    rewriting took more than a :attr:`SHARE` of the time since. All records are written when the context ends, also by
    an error or an interrupt.
    """

    SHARE = 0.1
    """Largest share of the time that is spent on writing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[RunRecord] = []
        self._ended = 0.0
        self._took = 0.0

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()

    def add(self, record: RunRecord) -> Path:
        """Returns the path of the ``runs.jsonl`` that the record is written to, now or a little later."""
        self._waiting.append(record)
        if self._took <= self.SHARE * (time.monotonic() - self._ended):
            self._flush()
        return home(record, self._folder) / RUNS

    def _flush(self) -> None:
        start = time.monotonic()
        for _, group in _by_home(self._waiting, self._folder):
            write(group, self._folder)
        self._waiting = []
        self._ended = time.monotonic()
        self._took = self._ended - start


def _by_home(records: Iterable[RunRecord], folder: Path) -> Iterator[tuple[Path, list[RunRecord]]]:
    """Yields the folder of each split with its records, in their order."""
    ordered = sorted(records, key=lambda record: home(record, folder))
    yield from ((place, list(group)) for place, group in groupby(ordered, key=lambda record: home(record, folder)))


def _change(place: Path, added: list[RunRecord], removed: list[RunRecord]) -> None:
    """Rewrites the ``runs.jsonl`` in ``place`` with some records added or replaced, and some removed."""
    path = place / RUNS
    with _locked(place):
        lines: dict[Key, str] = {}
        numbers: dict[Key, int] = {}
        for number, text in _lines(path):
            key = _key_of_line(text, f"{path}, line {number}")
            _check_once(key, numbers, path, number)
            lines[key] = text
        for record in removed:
            lines.pop(identity_key(identity(record)), None)
        for record in added:
            lines[identity_key(identity(record))] = canonical_json(record.to_json() | {ID: record.run_id})
        try:
            if lines:
                write_text(path, "".join(f"{lines[key]}\n" for key in sorted(lines)))
            else:
                path.unlink(missing_ok=True)
            for record in (*added, *removed):
                (place / _file_name(record)).unlink(missing_ok=True)  # of schema version 1: the line takes its place
        except OSError as error:
            raise write_error(path, error) from error


def _key_of_line(text: str, where: str) -> Key:
    """Returns the identity of the run in one line. All other fields are left to the next reader, which saves time."""
    value = _parsed(text, where, json.loads)
    if absent := [name for name in IDENTITY if name not in value]:
        raise MothrError(f"{where}: field {absent[0]!r} is missing; restore the file, or delete the line")
    try:
        return identity_key(value)
    except ValueError as error:
        raise MothrError(f"{where}: parameters: {error}; restore the file, or delete the line") from None


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Holds the lock of the folder ``place``. The system releases it if the process dies.

    Raises:
        MothrError: the lock cannot be made, or the system has no such locks.
    """
    try:
        import fcntl  # here, so that results can be read where it is absent
    except ImportError:
        raise MothrError(f"{place}: results are written on Linux and macOS alone, which have file locks") from None
    path = place / LOCK
    try:
        place.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(handle, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    break
            os.close(handle)  # the writer before removed the file that was waited for
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is released: whoever waits for it makes a new file
        os.close(handle)
