"""Scores every record of a results folder again, from its own prediction and the truth in the same folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import store
from mothr.benchmark.records.record import BY_POSITION, SCHEMA_VERSION, RunRecord
from mothr.benchmark.run.outcome import score

SHOWN = 5
"""Largest number of differing metrics of one record that a message names."""
RecordScores = Mapping[str, Any]
"""The fields ``metrics`` and ``per_tree`` of a record."""


@dataclass(frozen=True, slots=True)
class Rescored:
    """The comparison of one record's stored scores with scores computed anew."""

    path: Path
    """The record, as ``<results>/<split>-v<k>/runs.jsonl#<id>``."""
    differs: tuple[str, ...] = ()
    """Metrics whose stored value differs, is absent, or exists no longer: ``edge_f1`` or ``edge_f1 of tree 3``.
    ``schema_version`` stands before them if the record numbers trees by position."""
    fault: str | None = None
    """Why the record cannot be scored: the truth is faulty, or is about other models."""
    scored: bool = True
    """False if the folder holds no truth, as for a hidden split."""

    def __str__(self) -> str:
        more = f" and {len(self.differs) - SHOWN} more" if len(self.differs) > SHOWN else ""
        return f"{self.path}: {self.fault or 'differs in ' + ', '.join(self.differs[:SHOWN]) + more}"


def rescore(folder: Path, *, write: bool, only: str = "") -> Iterator[Rescored]:
    """Yields the comparison for each record below the results folder ``folder``, split by split, sorted by identity.

    Floats must be equal to the last digit. A run without a prediction has no metrics.

    Args:
        folder: the results folder, or the folder of one split.
        write: whether to replace the scores of records that differ. All their other fields are kept.
        only: records whose id's 8 hex digits begin otherwise are passed over; ``""`` takes all, one digit a sixteenth.

    Raises:
        MothrError: there is no such folder, or a record is faulty.
    """
    runs: dict[Path, list[RunRecord]] = {}
    for record in store.read_all(folder, relabel=False):
        if record.run_id.rpartition("-")[2].startswith(only):
            split = store.folder_name(record.split, record.split_version)
            runs.setdefault(folder if folder.resolve().name == split else folder / split, []).append(record)
    for place, records in runs.items():
        yield from _rescore_split(place, records, write=write)


def _rescore_split(place: Path, records: list[RunRecord], *, write: bool) -> Iterator[Rescored]:
    """Yields the comparison for the records of one split, whose results folder is ``place``."""
    paths = {record.run_id: place / f"{store.RUNS}#{record.run_id}" for record in records}
    if not (place / dataset.TRUTH).is_file():
        yield from (Rescored(path, scored=False) for path in paths.values())
        return
    try:
        truth = dataset.open_truth(place)
    except MothrError as error:
        yield from (Rescored(path, fault=str(error)) for path in paths.values())
        return
    changed = []
    for record in records:
        try:
            scores = _scores(record, truth)
        except MothrError as error:
            yield Rescored(paths[record.run_id], fault=str(error))
            continue
        differing = tuple(_differing({"metrics": record.metrics, "per_tree": record.per_tree}, scores))
        if record.schema_version <= BY_POSITION:
            differing = ("schema_version", *differing)
        if differing:
            changed.append(record.model_copy(update={**scores, "schema_version": SCHEMA_VERSION}))
        yield Rescored(paths[record.run_id], differing)
    if changed and write:
        store.write(changed, place.resolve().parent)


def _scores(record: RunRecord, truth: dataset.Truth) -> RecordScores:
    """Returns the scores of a record's prediction, computed anew."""
    if record.status != "ok":
        return {"metrics": {}, "per_tree": []}
    scores = score(record.prediction(), truth)
    return {"metrics": dict(scores.whole), "per_tree": [dict(tree) for tree in scores.trees]}


def _differing(stored: RecordScores, scored: RecordScores) -> Iterator[str]:
    """Yields the name of each metric that is not the same in both, first those of the whole Model Graph."""
    absent = object()
    rows = [
        {"": side["metrics"]} | {f" of tree {row['tree']}": row for row in side["per_tree"]}
        for side in (stored, scored)
    ]
    for where in rows[0] | rows[1]:
        old, new = (side.get(where, {}) for side in rows)
        yield from (f"{name}{where}" for name in old | new if old.get(name, absent) != new.get(name, absent))
