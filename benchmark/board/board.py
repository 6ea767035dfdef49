"""Boards from result records: for each split and setting, a row for each method and parameters, with intervals and ranks."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mothr.benchmark.records.record import BY_POSITION, Configuration, RunRecord
from mothr.benchmark.records.store import folder_name, read_runs
from mothr.benchmark.records.superseded import later_version
from mothr.benchmark.run.plan import Plan
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.score.statistics import mean_interval, shared_ranks
from mothr.benchmark.side_information import MethodKind
from mothr.benchmark.storage import canonical_sha256

TREE_METRICS = ("edge_f1", "edge_accuracy", "ancestor_f1", "direction_accuracy", "undirected_f1", "root_accuracy")
"""Metrics of single trees: a board has their mean over true Model Trees, with its interval. The first three are primary."""
FOREST_METRICS = ("adjusted_rand",)
"""Metrics of the whole forest, which have no meaning for one tree."""
RANKED_BY = "edge_f1"
LEVEL = 0.95
"""Confidence level of the intervals."""
ERROR = 0.05
"""Family-wise error rate of the tests that distinguish two methods."""
Standing = Literal["run here", "self-run", "verified"]
Manifests = Mapping[tuple[str, int], str]
BoardKey = tuple[str, int, str]
"""Split, its version, and the setting."""


@dataclass(frozen=True)
class Row:
    """All runs of one method with one set of parameters on one board."""

    runs: tuple[RunRecord, ...]
    """The records, by seed."""
    kind: MethodKind
    """The method's kind. Only rows of the kind ``method`` have a rank."""
    unranked: tuple[str, ...]
    """Why the row has no rank, beyond its kind: above all, missing runs."""
    scores: pd.DataFrame
    """Mean over seeds, of shape (true trees, :data:`TREE_METRICS`). A failed run counts as zero."""
    other_build: bool = False
    """Whether the runs were on another build of the split than the one that the board shows."""

    @property
    def board(self) -> BoardKey:
        """Split, its version, and the setting."""
        return self.runs[0].split, self.runs[0].split_version, self.runs[0].setting

    @property
    def ranked(self) -> bool:
        """Whether the row has a rank on its board: a method, not a bound, with all its runs."""
        return self.kind == "method" and not self.unranked

    @property
    def configuration(self) -> Configuration:
        """Method, its version and its parameters."""
        return self.runs[0].configuration

    @property
    def id(self) -> str:
        """8 hex digits for links. They depend on the board, its build, and the method with its parameters."""
        first = self.runs[0]
        return canonical_sha256(
            [*self.board, first.manifest_sha256, first.method, first.method_version, first.parameters]
        )[:8]

    @cached_property
    def tree_values(self) -> NDArray[np.float64]:
        """The mean over seeds of :data:`RANKED_BY` for each true tree, sorted by the tree's label."""
        return self.scores[RANKED_BY].to_numpy()

    @property
    def given(self) -> tuple[str, ...]:
        """The side information that the method was given, sorted."""
        return tuple(sorted({name for run in self.runs for name in run.given}))

    @property
    def standing(self) -> Standing:
        """``verified`` if the maintainers made or repeated all runs, ``self-run`` if predictions were sent in, else ``run here``."""
        if all(run.verified for run in self.runs):
            return "verified"
        return "self-run" if any(run.submission for run in self.runs) else "run here"

    def drawn(self) -> RunRecord | None:
        """Returns the run whose forest is drawn: the first with a prediction."""
        return next((run for run in self.runs if run.status == "ok"), None)


def latest(board_rows: Sequence[Row], results: Path) -> list[Row]:
    """Returns the rows on splits without a later version.

    Args:
        board_rows: rows of any boards.
        results: the folder of results, which names later versions.

    Raises:
        MothrError: a file that names a later version is faulty.
    """
    splits = {row.board[:2] for row in board_rows}
    current = {split for split in splits if later_version(results / folder_name(*split)) is None}
    return [row for row in board_rows if row.board[:2] in current]


@dataclass(frozen=True)
class Gap:
    """Runs that a full board has and this board lacks."""

    label: str
    """The method, with everything by which its rows differ; see :func:`table`."""
    split: str
    """The folder of the split, as ``vthr-ft-v1``."""
    setting: str
    """The setting of the board."""
    seeds: tuple[int, ...]
    """The missing seeds."""
    planned: int
    """The number of seeds of a full row."""

    def __str__(self) -> str:
        missing = "no run" if len(self.seeds) == self.planned else f"seed {', '.join(map(str, self.seeds))} missing"
        return f"{self.split}, {self.setting}: {self.label}: {missing}"


def gaps(board_rows: Sequence[Row], plan: Plan | None = None) -> list[Gap]:
    """Returns the runs that are missing until every method was run on every board with every seed, board by board.

    With a plan, these are the runs that it asks for, of methods in their present version. Without a plan, each method with its
    parameters in its newest version is to be on every board; its seeds are those from 0 to the highest that it was run with
    anywhere. A run that was skipped or made on another build of the split is missing; a run that failed is not.

    Args:
        board_rows: see :func:`rows`.
        plan: what the boards are to hold.

    Raises:
        MothrError: a method or a field of the plan cannot be found.
    """
    present: dict[tuple[Configuration, BoardKey], set[int]] = {}
    for row in board_rows:
        if not row.other_build:
            seeds = {run.seed for run in row.runs if run.status != "skipped"}
            present.setdefault((row.configuration, row.board), set()).update(seeds)
    missing_runs = []
    for board_key, wanted in _wanted(board_rows, plan).items():
        for label, (configuration, planned) in sorted(wanted.items()):
            missing = tuple(sorted(set(range(planned)) - present.get((configuration, board_key), set())))
            if missing:
                missing_runs.append(Gap(label, folder_name(*board_key[:2]), board_key[2], missing, planned))
    return missing_runs


def _wanted(board_rows: Sequence[Row], plan: Plan | None) -> dict[BoardKey, dict[str, tuple[Configuration, int]]]:
    """Returns board -> label -> method with parameters, and the number of seeds, that the board is to hold."""
    boards, labels = sorted({row.board for row in board_rows}), _labels(board_rows)
    if plan is not None:
        return {
            key: {str(planned): (planned.configuration(), planned.seeds) for planned in plan.on(key[0])}
            for key in boards
        }
    ordered = sorted(board_rows, key=lambda row: _version_key(row.runs[0].method_version))
    newest = {row.runs[0].method: row.runs[0].method_version for row in ordered}
    wanted: dict[str, tuple[Configuration, int]] = {}
    for row in board_rows:
        if newest[row.runs[0].method] == row.runs[0].method_version:
            seeds = wanted.get(labels[row.id], (row.configuration, 0))[1]
            wanted[labels[row.id]] = row.configuration, max(seeds, 1 + row.runs[-1].seed)
    return dict.fromkeys(boards, wanted)


def _version_key(version: str) -> list[tuple[int, str]]:
    """Returns a key that sorts versions by their numbers: 9 before 10, and 1.9 before 1.10."""
    return [(int(part) if part.isdigit() else -1, part) for part in version.split(".")]


def rows(records: Iterable[RunRecord], manifests: Manifests | None = None) -> list[Row]:
    """Returns the rows of every board, grouped by split, version and setting.

    Args:
        records: any result records.
        manifests: (split, version) -> SHA-256 of its manifest. Without it, the build that most records name is the right one.
    """

    def key(record: RunRecord) -> tuple[Any, ...]:
        board_key = (record.split, record.split_version, record.setting)
        return *board_key, *record.configuration, record.manifest_sha256

    ordered = sorted(records, key=lambda record: (*key(record), record.seed))
    board_rows = []
    for split, group in groupby(ordered, key=lambda record: (record.split, record.split_version)):
        members = list(group)
        counts = pd.Series([record.manifest_sha256 for record in members]).value_counts()
        manifest = (manifests or {}).get(split) or str(counts.sort_index(kind="stable").idxmax())
        same_build = [record for record in members if record.manifest_sha256 == manifest]
        trees = sorted({tree for record in same_build for tree in record.tree_scores()})
        schema = max((record.schema_version for record in same_build if record.per_tree), default=0)
        board_rows += [_row(tuple(runs), trees, manifest, schema) for _, runs in groupby(members, key=key)]
    return board_rows


def split_rows(place: Path, setting: str) -> list[Row]:
    """Returns the rows of one split in one setting, without rows on another build of the split.

    Args:
        place: the folder of the split's results.
        setting: the setting of the board.

    Raises:
        MothrError: a record is faulty; see :func:`mothr.benchmark.records.store.read_runs`.
    """
    return [row for row in rows(read_runs(place)) if row.board[2] == setting and not row.other_build]


def _row(runs: tuple[RunRecord, ...], trees: list[int], manifest: str, schema: int) -> Row:
    first = runs[0]
    absent = sorted(set(range(runs[-1].seed)) - {run.seed for run in runs})
    reasons = [f"seed {', '.join(map(str, absent))} missing"] if absent else []
    reasons += [f"seed {run.seed} was skipped: {run.error}" for run in runs if run.status == "skipped"]
    for run in runs:
        missing = [str(tree) for tree in trees if tree not in run.tree_scores()]
        if run.status == "ok" and missing:
            reasons.append(f"seed {run.seed} is not scored on tree {', '.join(missing)}; score it again")
    if any(run.per_tree and run.schema_version <= BY_POSITION < schema for run in runs):
        reasons.append(f"scored before schema version {BY_POSITION + 1}, which numbers trees otherwise; score it again")
    if first.manifest_sha256 != manifest:
        reasons.append(
            f"run on another build of the split (manifest {first.manifest_sha256[:12]}, not {manifest[:12]})"
        )
    if any({first.split, folder_name(first.split, first.split_version)} & set(run.tuned_on) for run in runs):
        reasons.append("tuned on the truth of this split")
    return Row(runs, first.kind, tuple(reasons), _scores(runs, trees), first.manifest_sha256 != manifest)


def _scores(runs: Sequence[RunRecord], trees: list[int]) -> pd.DataFrame:
    """Returns the mean over seeds of each tree's scores. An undefined score (NaN) is left out; a failed run is all zeros."""
    counted = [run for run in runs if run.status != "skipped"]
    values = np.zeros((len(counted), len(trees), len(TREE_METRICS)))
    for run, run_values in zip(counted, values, strict=True):
        if run.status == "ok":
            scored = run.tree_scores()
            run_values[:] = [
                [np.nan if (value := scored.get(tree, {}).get(name)) is None else value for name in TREE_METRICS]
                for tree in trees
            ]
    known = np.isfinite(values).sum(axis=0)
    mean = np.divide(np.nansum(values, axis=0), known, out=np.full(known.shape, np.nan), where=known > 0)
    return pd.DataFrame(mean, index=trees, columns=list(TREE_METRICS))


def board(records: Iterable[RunRecord], manifests: Manifests | None = None) -> pd.DataFrame:
    """Returns all boards as one tidy table: a row for each split, version, setting, and method with its parameters.

    ``<metric>`` is the mean over true Model Trees, of the mean over seeds of each tree. ``<metric>_low`` and ``<metric>_high`` are its
    interval (:func:`mothr.benchmark.score.statistics.mean_interval`), ``<metric>_n`` the number of trees on which the metric is
    defined, ``edge_f1_worst`` the worst tree. ``rank`` is by edge F1 within the board. Methods share a rank if no paired test
    distinguishes them; NaN means not ranked.

    Args:
        records: any result records.
        manifests: see :func:`rows`.
    """
    return table(rows(records, manifests))


def table(board_rows: Sequence[Row], plan: Plan | None = None) -> pd.DataFrame:
    """Returns the tidy table of rows, in the same order; see :func:`board`. A plan gives its rows their labels."""
    labels, ranks = _labels(board_rows) | _planned_labels(board_rows, plan), _ranks(board_rows)
    tidy = pd.DataFrame([_flat(row, labels[row.id], ranks.get(row.id)) for row in board_rows])
    numbers = ["rank", *TREE_METRICS, *(f"{name}_{end}" for name in TREE_METRICS for end in ("low", "high")), "seconds"]
    return tidy.astype(dict.fromkeys(numbers, float))


def _flat(row: Row, label: str, rank: int | None) -> dict[str, Any]:
    """Returns one row of the tidy table."""
    first, predicted = row.runs[0], [run for run in row.runs if run.status == "ok"]
    seconds = [run.seconds for run in predicted if run.seconds is not None]
    flat: dict[str, Any] = {
        "id": row.id,
        "split": first.split,
        "split_version": first.split_version,
        "setting": first.setting,
        "rank": rank,
        "method": first.method,
        "method_version": first.method_version,
        "parameters": first.configuration[2],
        "label": label,
        "kind": row.kind,
        "given": ", ".join(row.given),
        "standing": row.standing,
        "unranked": "; ".join(row.unranked),
        "trees": len(row.scores),
        "seeds": len(row.runs),
        "failed": sum(run.status in ("failed", "timeout") for run in row.runs),
    }
    for name, column in zip(TREE_METRICS, row.scores.to_numpy().T, strict=True):
        values = column[np.isfinite(column)]
        interval = mean_interval(values, LEVEL, (METRICS[name].low, METRICS[name].high)) if len(values) else None
        flat |= {name: getattr(interval, "mean", None), f"{name}_n": len(values)}
        flat |= {f"{name}_{end}": getattr(interval, end, None) for end in ("low", "high")}
    flat[f"{RANKED_BY}_worst"] = row.scores[RANKED_BY].min()
    for name in FOREST_METRICS:
        whole = [run.metrics.get(name) if run.status == "ok" else 0.0 for run in row.runs if run.status != "skipped"]
        known = [value for value in whole if value is not None]
        flat[name] = float(np.mean(known)) if known else np.nan
    flat["seconds"] = float(np.mean(seconds)) if seconds else None
    return flat


def _labels(board_rows: Sequence[Row]) -> dict[str, str]:
    """Returns row id -> the method's name, with the parameters and the version by which rows of that name differ.

    Parameters that some of the rows lack, as those of another version, are named only if the others do not tell all rows apart.
    """
    labels: dict[str, str] = {}
    by_method = sorted(board_rows, key=lambda row: row.runs[0].method)
    for method, group in groupby(by_method, key=lambda row: row.runs[0].method):
        described = {row.id: _described(row) for row in group}
        names = {name: None for values in described.values() for name in values}
        shared = [name for name in names if all(name in values for values in described.values())]
        kinds = {tuple(values.items()) for values in described.values()}
        named = _differences(method, described, shared)
        labels |= named if len(set(named.values())) == len(kinds) else _differences(method, described, list(names))
    return labels


def _described(row: Row) -> dict[str, str]:
    """Returns the version and the parameters of a row as text."""
    parameters = {name: json.dumps(value) for name, value in row.runs[0].parameters.items()}
    return {"version": row.runs[0].method_version, **parameters}


def _differences(method: str, described: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> dict[str, str]:
    """Returns row id -> the method's name, with those of ``names`` whose values differ between rows."""
    differing = [name for name in names if len({values.get(name) for values in described.values()}) > 1]
    return {
        row_id: " ".join([method, *(f"{name}={values[name]}" for name in differing if name in values)])
        for row_id, values in described.items()
    }


def _planned_labels(board_rows: Sequence[Row], plan: Plan | None) -> dict[str, str]:
    """Returns row id -> the plan's label of the method, for the rows that the plan holds."""
    names = plan.names() if plan else {}
    return {row.id: names[row.configuration] for row in board_rows if row.configuration in names}


def _ranks(board_rows: Sequence[Row]) -> dict[str, int]:
    """Returns row id -> shared rank within its board, for the rows that are ranked."""
    ranks: dict[str, int] = {}
    for _, group in groupby(sorted(board_rows, key=lambda row: row.board), key=lambda row: row.board):
        ranked = {row.id: row.scores[RANKED_BY] for row in group if row.ranked and len(row.scores)}
        if ranked:
            ranks |= shared_ranks({name: scores.tolist() for name, scores in ranked.items()}, ERROR)
    return ranks
