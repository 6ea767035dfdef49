"""From result records to the board: one row per method and parameters on each split and setting, with intervals and ranks."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mothr.benchmark.records.record import Configuration, RunRecord
from mothr.benchmark.records.store import folder_name
from mothr.benchmark.records.superseded import later_version
from mothr.benchmark.run.plan import Plan
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.score.statistics import mean_interval, shared_ranks
from mothr.benchmark.side_information import MethodKind
from mothr.benchmark.storage import canonical_sha256

TREE_METRICS = ("edge_f1", "edge_accuracy", "ancestor_f1", "direction_accuracy", "undirected_f1", "root_accuracy")
"""Shown as a mean over true Model Trees with its interval; the first three are primary."""
FOREST_METRICS = ("adjusted_rand",)
"""Shown for the forest as a whole, where a tree by itself has no meaning."""
RANKED_BY = "edge_f1"
LEVEL = 0.95
"""Confidence of the intervals."""
ERROR = 0.05
"""Family-wise error at which two methods are told apart."""
Standing = Literal["run here", "self-run", "verified"]
Manifests = Mapping[tuple[str, int], str]
BoardKey = tuple[str, int, str]
"""Split, its version, and the setting."""


@dataclass(frozen=True)
class Row:
    """All runs of one method with one set of parameters on one board."""

    runs: tuple[RunRecord, ...]
    """Its records, by seed."""
    kind: MethodKind
    """Nulls and oracles are bounds, and metadata methods look at more than weights: none of them is ranked."""
    unranked: tuple[str, ...]
    """Why it has no rank, beyond its kind: missing runs above all."""
    scores: pd.DataFrame
    """(true trees, :data:`TREE_METRICS`) the mean over seeds; a failed run counts as zero."""
    other_build: bool = False
    """Whether it was run on another build of the split than the board shows."""

    @property
    def board(self) -> BoardKey:
        """Split, its version, and the setting."""
        return self.runs[0].split, self.runs[0].split_version, self.runs[0].setting

    @property
    def configuration(self) -> Configuration:
        """That of its records."""
        return self.runs[0].configuration

    @property
    def id(self) -> str:
        """8 hex digits for links: the same for as long as the method and the board are."""
        first = self.runs[0]
        return canonical_sha256(
            [*self.board, first.manifest_sha256, first.method, first.method_version, first.parameters]
        )[:8]

    @property
    def given(self) -> tuple[str, ...]:
        """What the method was told, sorted."""
        return tuple(sorted({name for run in self.runs for name in run.given}))

    @property
    def standing(self) -> Standing:
        """``self-run`` where answers were sent in, ``verified`` where the maintainers made or repeated them, else by ``mothr run``."""
        if all(run.verified for run in self.runs):
            return "verified"
        return "self-run" if any(run.submission for run in self.runs) else "run here"

    def drawn(self) -> RunRecord | None:
        """Returns the run whose forest is shown: the first with an answer."""
        return next((run for run in self.runs if run.status == "ok"), None)


def latest(every: Sequence[Row], results: Path) -> list[Row]:
    """Returns those of ``every`` row whose split no later version supersedes, as the folder ``results`` says.

    Raises:
        MothrError: a file that names a later version is faulty.
    """
    old = {split: later_version(results / folder_name(*split)) is not None for split in {row.board[:2] for row in every}}
    return [row for row in every if not old[row.board[:2]]]


@dataclass(frozen=True)
class Gap:
    """Runs that a full board has and this one lacks."""

    label: str
    """The method, with what tells its rows apart; see :func:`table`."""
    split: str
    """The split and its version, as its folder is called."""
    setting: str
    """What methods are told on that board."""
    seeds: tuple[int, ...]
    """The seeds that are missing."""
    of: int
    """How many there are where the method was run most often."""

    def __str__(self) -> str:
        what = "no run" if len(self.seeds) == self.of else f"seed {', '.join(map(str, self.seeds))} missing"
        return f"{self.split}, {self.setting}: {self.label}: {what}"


def gaps(every: Sequence[Row], plan: Plan | None = None) -> list[Gap]:
    """Returns what is missing until every method was run on every split in every setting with every seed, board by board.

    With a plan, that is what it asks for, of methods in their present version. Without one, it is each method with its parameters in
    its newest version: what an older one was not run on is no gap, but what the newest was not run on is, though an older one was; its
    seeds are those from 0 to the highest that it was run with anywhere. A run that was skipped or made on another build of the
    split is missing; one that failed is not.

    Args:
        every: see :func:`rows`.
        plan: what the board is to hold.

    Raises:
        MothrError: the plan has a method or a field that cannot be found.
    """
    present: dict[tuple[Configuration, BoardKey], set[int]] = {}
    for row in every:
        done = present.setdefault((row.configuration, row.board), set())
        done |= set() if row.other_build else {run.seed for run in row.runs if run.status != "skipped"}
    found = []
    for board, wanted in _wanted(every, plan).items():
        for label, (configuration, seeds) in sorted(wanted.items()):
            missing = tuple(sorted(set(range(seeds)) - present.get((configuration, board), set())))
            found += [Gap(label, folder_name(board[0], board[1]), board[2], missing, seeds)] if missing else []
    return found


def _wanted(every: Sequence[Row], plan: Plan | None) -> dict[BoardKey, dict[str, tuple[Configuration, int]]]:
    """Returns board -> label -> which method with which parameters, and with how many seeds it is to be there."""
    boards, labels = sorted({row.board for row in every}), _labels(every)
    if plan is not None:
        return {board: {str(one): (one.configuration(), one.seeds) for one in plan.on(board[0])} for board in boards}
    ordered = sorted(every, key=lambda row: _counted(row.runs[0].method_version))
    newest = {row.runs[0].method: row.runs[0].method_version for row in ordered}
    wanted: dict[str, tuple[Configuration, int]] = {}
    for row in every:
        if newest[row.runs[0].method] == row.runs[0].method_version:
            seeds = wanted.get(labels[row.id], (row.configuration, 0))[1]
            wanted[labels[row.id]] = row.configuration, max(seeds, 1 + row.runs[-1].seed)
    return dict.fromkeys(boards, wanted)


def _counted(version: str) -> list[tuple[int, str]]:
    """Returns a key that sorts versions by their numbers: 9 before 10, and 1.9 before 1.10."""
    return [(int(part) if part.isdigit() else -1, part) for part in version.split(".")]


def rows(records: Iterable[RunRecord], manifests: Manifests | None = None) -> list[Row]:
    """Returns the rows of every board, grouped by split, version and setting.

    Args:
        records: any result records.
        manifests: (split, version) -> SHA-256 of its manifest; without it, the one most records name is taken for right.
    """

    def key(record: RunRecord) -> tuple[Any, ...]:
        board = (record.split, record.split_version, record.setting)
        return *board, *record.configuration, record.manifest_sha256

    ordered = sorted(records, key=lambda record: (*key(record), record.seed))
    found = []
    for split, group in groupby(ordered, key=lambda record: (record.split, record.split_version)):
        members = list(group)
        counts = pd.Series([record.manifest_sha256 for record in members]).value_counts()
        manifest = (manifests or {}).get(split) or str(counts.sort_index(kind="stable").idxmax())
        trees = sorted({tree for one in members if one.manifest_sha256 == manifest for tree in one.tree_scores()})
        found += [_row(tuple(runs), trees, manifest) for _, runs in groupby(members, key=key)]
    return found


def _row(runs: tuple[RunRecord, ...], trees: list[int], manifest: str) -> Row:
    first = runs[0]
    absent = sorted(set(range(runs[-1].seed)) - {run.seed for run in runs})
    reasons = [f"seed {', '.join(map(str, absent))} missing"] if absent else []
    reasons += [f"seed {run.seed} was skipped: {run.error}" for run in runs if run.status == "skipped"]
    for run in runs:
        missing = [str(tree) for tree in trees if tree not in run.tree_scores()]
        if run.status == "ok" and missing:
            reasons.append(f"seed {run.seed} is not scored on tree {', '.join(missing)}; score it again")
    if first.manifest_sha256 != manifest:
        reasons.append(
            f"run on another build of the split (manifest {first.manifest_sha256[:12]}, not {manifest[:12]})"
        )
    if any({first.split, folder_name(first.split, first.split_version)} & set(run.tuned_on) for run in runs):
        reasons.append("tuned on the truth of this split")
    return Row(runs, first.kind, tuple(reasons), _scores(runs, trees), first.manifest_sha256 != manifest)


def _scores(runs: Sequence[RunRecord], trees: list[int]) -> pd.DataFrame:
    """Returns the mean over seeds of each tree's scores; an undefined one (NaN) is left out, a failed run is all zeros."""
    counted = [run for run in runs if run.status != "skipped"]
    values = np.zeros((len(counted), len(trees), len(TREE_METRICS)))
    for run, own in zip(counted, values, strict=True):
        if run.status == "ok":
            scored = run.tree_scores()
            own[:] = [
                [np.nan if (value := scored.get(tree, {}).get(name)) is None else value for name in TREE_METRICS]
                for tree in trees
            ]
    known = np.isfinite(values).sum(axis=0)
    mean = np.divide(np.nansum(values, axis=0), known, out=np.full(known.shape, np.nan), where=known > 0)
    return pd.DataFrame(mean, index=trees, columns=list(TREE_METRICS))


def board(records: Iterable[RunRecord], manifests: Manifests | None = None) -> pd.DataFrame:
    """Returns the board as a tidy table: one row per split, version, setting, and method with its parameters.

    ``<metric>`` is the mean over true Model Trees (each the mean over seeds first), ``<metric>_low`` and ``<metric>_high``
    its interval (:func:`mothr.benchmark.score.statistics.mean_interval`), ``<metric>_n`` the number of trees where it is defined,
    ``edge_f1_worst`` the worst tree. ``rank`` is by edge F1 within the board; methods that no paired test tells apart share one; NaN is
    unranked.

    Args:
        records: any result records.
        manifests: see :func:`rows`.
    """
    return table(rows(records, manifests))


def table(every: Sequence[Row], plan: Plan | None = None) -> pd.DataFrame:
    """Returns the tidy table of ``every`` row, in the same order; see :func:`board`. A row of the plan is called what that calls it."""
    labels, ranks = _labels(every) | _planned_labels(every, plan), _ranks(every)
    found = pd.DataFrame([_flat(row, labels[row.id], ranks.get(row.id)) for row in every])
    numbers = ["rank", *TREE_METRICS, *(f"{name}_{end}" for name in TREE_METRICS for end in ("low", "high")), "seconds"]
    return found.astype(dict.fromkeys(numbers, float))


def _flat(row: Row, label: str, rank: int | None) -> dict[str, Any]:
    first, answered = row.runs[0], [run for run in row.runs if run.status == "ok"]
    seconds = [run.seconds for run in answered if run.seconds is not None]
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
        "told": ", ".join(row.given),
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


def _labels(every: Sequence[Row]) -> dict[str, str]:
    """Returns row id -> the method's name, with the parameters and the version in which rows of that name differ."""
    found = {}
    for method, group in groupby(sorted(every, key=lambda row: row.runs[0].method), key=lambda row: row.runs[0].method):
        members = list(group)
        described = {row.id: {"version": row.runs[0].method_version} for row in members}
        for row in members:
            described[row.id] |= {name: json.dumps(value) for name, value in row.runs[0].parameters.items()}
        names = {name: None for one in described.values() for name in one}
        differing = [name for name in names if len({one.get(name) for one in described.values()}) > 1]
        for row in members:
            extra = " ".join(f"{name}={described[row.id][name]}" for name in differing if name in described[row.id])
            found[row.id] = f"{method} {extra}".strip()
    return found


def _planned_labels(every: Sequence[Row], plan: Plan | None) -> dict[str, str]:
    """Returns row id -> what the plan calls the method, for those that it holds."""
    names = plan.names() if plan else {}
    return {row.id: names[row.configuration] for row in every if row.configuration in names}


def _ranks(every: Sequence[Row]) -> dict[str, int]:
    """Returns row id -> shared rank within its board, for the rows that are ranked."""
    found: dict[str, int] = {}
    for _, group in groupby(sorted(every, key=lambda row: row.board), key=lambda row: row.board):
        ranked = {
            row.id: row.scores[RANKED_BY]
            for row in group
            if row.kind == "method" and not row.unranked and len(row.scores)
        }
        if ranked:
            found |= shared_ranks({name: scores.tolist() for name, scores in ranked.items()}, ERROR)
    return found
