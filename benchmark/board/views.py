"""The leaderboard as values: every board with its rows in order, read from a folder of results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mothr.benchmark.board.board import RANKED_BY, BoardKey, Row, gaps, latest, rows, table
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.store import folder_name, read_all
from mothr.benchmark.records.superseded import Superseded, later_version
from mothr.benchmark.run import plan
from mothr.benchmark.storage import read_json, sha256_of

METRIC_LABELS = {
    "edge_f1": "Edge F1",
    "edge_accuracy": "Edge accuracy",
    "ancestor_f1": "Ancestor F1",
    "direction_accuracy": "Direction",
    "undirected_f1": "Undirected F1",
    "root_accuracy": "Root",
    "adjusted_rand": "Trees (ARI)",
    "shd": "SHD",
    "brier": "Brier",
    "ece": "ECE",
    "aurc": "AURC",
    "relation_f1": "Relation F1",
    "direction_auroc": "Direction AUROC",
    "adjacency_ap": "Adjacency AP",
}
"""Metric -> the head of its column."""
SETTINGS = {"known-trees": "the partition into trees is given", "open": "the partition into trees is not given"}
"""Setting -> what it means."""
GIVEN_LABELS = {"metadata": "metadata", "tree_count": "number of trees", "trees": "trees", "truth": "truth"}
"""Side information -> its name in tables."""


@dataclass(frozen=True)
class BoardView:
    """One split in one setting, as pages and tables show it."""

    key: BoardKey
    """Split, its version, and the setting."""
    rows: tuple[Row, ...]
    """The rows by edge F1, best first."""
    cells: tuple[Mapping[str, Any], ...]
    """The row of the tidy table for each of ``rows``."""
    not_run: tuple[str, ...]
    """Labels of methods without a run on this board."""
    family: str
    """The family of architectures, from the split's manifest."""
    superseded: Superseded | None
    """The later version of the split, if there is one."""

    @property
    def folder(self) -> str:
        """``<split>-v<version>``."""
        return folder_name(*self.key[:2])

    @property
    def trees(self) -> int:
        """Number of true Model Trees."""
        return int(max(cells["trees"] for cells in self.cells))

    @property
    def models(self) -> int:
        """Number of models; 0 if no run has a prediction."""
        drawn = next((run for row in self.rows if (run := row.drawn())), None)
        return len(drawn.parents or ()) if drawn else 0

    @property
    def ranked_methods(self) -> int:
        """Number of rows of the kind ``method``."""
        return sum(row.kind == "method" for row in self.rows)

    @property
    def best_null(self) -> float | None:
        """The largest edge F1 of a null method; None without one."""
        nulls = [cells[RANKED_BY] for cells in self.cells if cells["kind"] == "null" and not pd.isna(cells[RANKED_BY])]
        return max(nulls, default=None)


@dataclass(frozen=True)
class Leaderboard:
    """Everything that pages and tables are made from."""

    folder: Path
    """The folder of results."""
    rows: Sequence[Row]
    """The rows of every board."""
    table: pd.DataFrame
    """The tidy table of ``rows``, in the same order."""

    @cached_property
    def boards(self) -> tuple[BoardView, ...]:
        """Every board, sorted by split, version and setting."""
        positions: dict[BoardKey, list[int]] = {}
        for position, row in enumerate(self.rows):
            positions.setdefault(row.board, []).append(position)
        not_run: dict[tuple[str, str], list[str]] = {}
        for gap in gaps(latest(self.rows, self.folder), plan.of_results(self.folder)):
            if len(gap.seeds) == gap.planned:
                not_run.setdefault((gap.split, gap.setting), []).append(gap.label)
        return tuple(self._board(key, places, not_run) for key, places in sorted(positions.items()))

    @cached_property
    def studies(self) -> dict[str, str]:
        """Folder of each study in the folder of results, sorted -> the title of its README.md. A study has tables (.csv)."""
        titles = {}
        for path in sorted(self.folder.glob("*/README.md")):
            heading = next(
                (line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")), ""
            )
            if heading and any(path.parent.glob("*.csv")):
                titles[path.parent.name] = heading.removeprefix("# ").strip()
        return titles

    def _board(self, key: BoardKey, positions: list[int], not_run: Mapping[tuple[str, str], list[str]]) -> BoardView:
        folder = folder_name(*key[:2])
        ordered = self.table.iloc[positions].assign(position=positions)
        ordered = ordered.sort_values(RANKED_BY, ascending=False, kind="stable", na_position="last")
        cells = tuple(
            {str(name): value for name, value in cells.items()} for cells in ordered.to_dict(orient="records")
        )
        path = self.folder / folder / "manifest.json"
        manifest = read_json(path) if path.is_file() else {}
        return BoardView(
            key=key,
            rows=tuple(self.rows[cell["position"]] for cell in cells),
            cells=cells,
            not_run=tuple(not_run.get((folder, key[2]), ())),
            family=str(manifest.get("family") or "unknown") if isinstance(manifest, dict) else "unknown",
            superseded=later_version(self.folder / folder),
        )

    @property
    def splits(self) -> dict[str, tuple[BoardView, ...]]:
        """Folder of each split -> its boards."""
        splits: dict[str, tuple[BoardView, ...]] = {}
        for board in self.boards:
            splits[board.folder] = (*splits.get(board.folder, ()), board)
        return splits

    @property
    def summary(self) -> dict[str, Any]:
        """Counts of runs, methods and boards, the last date, and the versions of mothr."""
        runs = [run for row in self.rows for run in row.runs]
        return {
            "runs": len(runs),
            "methods": len({run.configuration for run in runs}),
            "boards": len(self.boards),
            "date": max(run.date for run in runs)[:10],
            "versions": ", ".join(sorted({run.mothr_version for run in runs})),
        }


def given_of(row: Row) -> str:
    """Returns in words the side information that the method of ``row`` was given."""
    return given_names(row.given)


def given_names(given: Iterable[str]) -> str:
    """Returns in words the side information of these names."""
    return ", ".join(GIVEN_LABELS[name] for name in given) or "nothing"


def read_leaderboard(results_folder: Path) -> Leaderboard:
    """Returns the leaderboard of a folder of results.

    Raises:
        MothrError: the folder holds no records, or a record or the plan is faulty.
    """
    records = read_all(results_folder)
    if not records:
        raise MothrError(
            f"{results_folder}: holds no results; run `mothr run METHOD DATASET --out {results_folder}` first"
        )
    manifests = {}
    for split in sorted({(record.split, record.split_version) for record in records}):
        path = results_folder / folder_name(*split) / "manifest.json"
        if path.is_file():
            manifests[split] = sha256_of(path)
    board_rows = rows(records, manifests)
    return Leaderboard(results_folder, board_rows, table(board_rows, plan.of_results(results_folder)))
