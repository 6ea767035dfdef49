"""Scores every record of a results folder again, from its own prediction and the truth beside it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import results
from mothr.benchmark.run import evaluate
from mothr.benchmark.storage import read_json, write_json

SHOWN = 5
"""How many differing metrics of one record are named."""
Scored = Mapping[str, Any]
"""The ``metrics`` and the ``per_tree`` of a record."""


@dataclass(frozen=True)
class Rescored:
    """What scoring records again showed."""

    path: Path
    """The record."""
    differs: tuple[str, ...] = ()
    """The metrics, as ``edge_f1`` or ``edge_f1 of tree 3``, whose stored value is another or absent, or which are no more."""
    fault: str | None = None
    """Why it cannot be scored: the truth is faulty, or that of other models."""
    scored: bool = True
    """False where there is no truth beside it, as of a hidden split."""

    def __str__(self) -> str:
        more = f" and {len(self.differs) - SHOWN} more" if len(self.differs) > SHOWN else ""
        return f"{self.path}: {self.fault or 'differs in ' + ', '.join(self.differs[:SHOWN]) + more}"


def rescore(folder: Path, *, write: bool, only: str = "") -> Iterator[Rescored]:
    """Yields what comes of scoring each record below the results folder ``folder`` again, sorted by file.

    Floats must be equal to the last digit. A run without an answer has no metrics.

    Args:
        folder: the folder of results, or that of one split.
        write: put the new values into the records that differ; each is replaced at once, and the rest of it is kept.
        only: records whose name's hash begins otherwise are passed over; ``""`` takes all, a digit a sixteenth.

    Raises:
        MothrError: no such folder, a file that is no record, or a record in the wrong place.
    """

    @cache
    def truth_in(place: Path) -> dataset.Truth:
        return dataset.open_truth(place)

    for record in results.read_all(folder):
        name = results.file_name(record)
        if not name.removesuffix(".json").rpartition("-")[2].startswith(only):
            continue
        split = results.folder_name(record.split, record.split_version)
        place = folder if folder.resolve().name == split else folder / split
        if not (place / dataset.TRUTH).is_file():
            yield Rescored(place / name, scored=False)
            continue
        try:
            scored = _scored(record, truth_in(place))
        except MothrError as error:
            yield Rescored(place / name, fault=str(error))
            continue
        differs = tuple(_differing({"metrics": record.metrics, "per_tree": record.per_tree}, scored))
        if differs and write:
            write_json(place / name, read_json(place / name) | scored)
        yield Rescored(place / name, differs)


def _scored(record: results.RunRecord, truth: dataset.Truth) -> Scored:
    if record.status != "ok":
        return {"metrics": {}, "per_tree": []}
    scores = evaluate.score(record.prediction(), truth)
    return {"metrics": dict(scores.whole), "per_tree": [dict(tree) for tree in scores.trees]}


def _differing(stored: Scored, scored: Scored) -> Iterator[str]:
    """Yields the name of each metric that is not the same in both, those of the forest first."""
    absent = object()
    rows = [
        {"": side["metrics"]} | {f" of tree {row['tree']}": row for row in side["per_tree"]}
        for side in (stored, scored)
    ]
    for where in rows[0] | rows[1]:
        old, new = (side.get(where, {}) for side in rows)
        yield from (f"{name}{where}" for name in old | new if old.get(name, absent) != new.get(name, absent))
