"""Writes the tables of the leaderboard as Markdown: a summary of all splits, and a file for each split."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mothr.benchmark.board.board import FOREST_METRICS, RANKED_BY, TREE_METRICS, latest
from mothr.benchmark.board.pages import REGIMES, read_about
from mothr.benchmark.board.tracks.standings import TrackBoard, without_track
from mothr.benchmark.board.tracks.tables import by_setting, count_text, interval_text, null_text
from mothr.benchmark.board.views import METRIC_LABELS, SETTINGS, BoardView, Leaderboard, given_of
from mothr.benchmark.storage import write_text

MADE = "made.md"
"""A split's file that says what it took to make the split."""


@dataclass(frozen=True)
class SummaryColumn:
    """One method of the summary tables."""

    heading: str
    """Head of the column."""
    method: str
    """The registered name."""
    parameters: Mapping[str, Any]
    """Parameters that the row must have; the last is of the newest version."""

    def fits(self, method: str, parameters: Mapping[str, Any]) -> bool:
        """Returns whether a row of this method, with these parameters, belongs into the column."""
        return method == self.method and all(parameters.get(name) == value for name, value in self.parameters.items())


SUMMARY_COLUMNS = (
    SummaryColumn("Linea", "linea", {}),
    SummaryColumn(
        "MoTHer v2 as published",
        "mother-v2",
        {"direction": "kurtosis", "distance_layers": "square-attention", "stage": "specialisation"},
    ),
    SummaryColumn("MoTHer for LoRA as published", "mother-lora", {}),
    SummaryColumn("Neighbour joining", "neighbour-joining", {}),
    SummaryColumn("Null: minimum spanning tree, random root", "null-mst-random-root", {}),
)
"""The columns of the summary tables beside the best method."""


def write(leaderboard: Leaderboard, out: Path, tracks: Sequence[TrackBoard]) -> Path:
    """Returns the path of ``out/README.md``; writes it, and ``out/<split>-v<k>/README.md`` for each split.

    If there are tracks, ``out/tracks-<setting>.svg`` are their pictures.
    """
    environment = _environment()
    shared = {"metrics": METRIC_LABELS, "tree_metrics": TREE_METRICS, "forest_metrics": FOREST_METRICS}
    for folder, boards in leaderboard.splits.items():
        made = leaderboard.folder / folder / MADE
        values = {"boards": boards, "made": made.read_text(encoding="utf-8").strip() if made.is_file() else ""}
        write_text(out / folder / "README.md", environment.get_template("split.md.j2").render(shared, **values))
    regimes = read_about(leaderboard.folder / REGIMES)
    current = [board for board in leaderboard.boards if not board.superseded]
    summaries = {setting: [board for board in current if board.key[2] == setting] for setting in SETTINGS}
    views = by_setting(tracks)
    for view in views:
        write_text(out / f"tracks-{view.setting}.svg", view.picture(alone=True))
    text = environment.get_template("summary.md.j2").render(
        tracks=views,
        no_track=without_track(leaderboard),
        summaries={setting: _summary(boards) for setting, boards in summaries.items() if boards},
        headings=[column.heading for column in SUMMARY_COLUMNS],
        means=_means(leaderboard),
        splits=leaderboard.splits,
        superseded=[board for board in leaderboard.boards if board.superseded],
        regimes=regimes,
        studies=leaderboard.studies,
    )
    write_text(out / "README.md", text)
    return out / "README.md"


def short_table(tracks: Sequence[TrackBoard]) -> str:
    """Returns a short Markdown table: edge F1 in the setting ``open``, a row for each track.

    A score is the mean over the track's splits, with its interval over trees.
    """
    lines = [
        "| Track | " + " | ".join(column.heading for column in SUMMARY_COLUMNS) + " | Splits (solved) | Trees |",
        "| :--- |" + " ---: |" * (len(SUMMARY_COLUMNS) + 2),
    ]
    for board in (board for board in tracks if board.setting == "open"):
        cells = [_track_score(column, board) for column in SUMMARY_COLUMNS]
        counts = f"{len(board.splits)} ({len(board.solved)}) | {board.trees}"
        lines.append(f"| {board.track.title} | {' | '.join(cells)} | {counts} |")
    return "\n".join(lines) + "\n"


def _track_score(column: SummaryColumn, board: TrackBoard) -> str:
    """Returns the track score of a method, with its interval over trees; a dash without one."""
    fitting = [row for row in board.standings if row.score and column.fits(row.method, json.loads(row.parameters))]
    if not fitting:
        return "–"
    score = max(fitting, key=lambda row: row.version).score
    assert score
    return f"{score.mean:.2f}{_bracket(score.trees.low, score.trees.high)}"


def _position(column: SummaryColumn, board: BoardView) -> int | None:
    """Returns the position of a method's row on a board; the newest version if there are several."""
    fitting = [
        (row.runs[0].method_version, position)
        for position, row in enumerate(board.rows)
        if column.fits(row.runs[0].method, row.runs[0].parameters)
    ]
    return max(fitting)[1] if fitting else None


def _summary(boards: list[BoardView]) -> list[dict[str, Any]]:
    """Returns a line for each board: the best method, and the methods of :data:`SUMMARY_COLUMNS`."""
    lines = []
    for board in boards:
        best = next((cells for cells in board.cells if cells["kind"] == "method"), None)
        positions = [_position(column, board) for column in SUMMARY_COLUMNS]
        lines.append({
            "board": board,
            "best": best["label"] if best else "–",
            "best_score": _score(best),
            "scores": [_score(None if position is None else board.cells[position]) for position in positions],
        })  # fmt: skip
    return lines


def _score(cells: Mapping[str, Any] | None) -> str:
    """Returns edge F1 with its interval, or with ``n = 1`` if the split has a single tree."""
    if cells is None or pd.isna(cells[RANKED_BY]):
        return "–"
    if pd.isna(cells[f"{RANKED_BY}_low"]):
        return f"{cells[RANKED_BY]:.2f} (n = {cells[f'{RANKED_BY}_n']})"
    return f"{cells[RANKED_BY]:.2f}{_bracket(cells[f'{RANKED_BY}_low'], cells[f'{RANKED_BY}_high'])}"


def _bracket(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:.2f}–{high:.2f})"


def _means(leaderboard: Leaderboard) -> list[dict[str, Any]]:
    """Returns each method that ran on every split in the setting ``open``, with its mean edge F1 over splits, best first."""
    current = leaderboard.table[
        leaderboard.table["id"].isin([row.id for row in latest(leaderboard.rows, leaderboard.folder)])
    ]
    scores = current[current["setting"] == "open"].pivot_table(
        index=["label", "kind"], columns="split", values=RANKED_BY
    )
    if len(scores.columns) < 2:
        return []
    means = scores[scores.notna().all(axis=1)].mean(axis=1).sort_values(ascending=False, kind="stable")
    return [
        {"label": label, "kind": kind, "mean": mean}
        for (label, kind), mean in zip(means.index.to_flat_index(), means, strict=True)
    ]


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value, digits=3: "–" if pd.isna(value) else f"{value:.{digits}f}"
    environment.filters["interval"] = _interval
    environment.filters["seconds"] = _seconds
    environment.filters["markdown"] = _markdown
    environment.globals["given_of"] = given_of
    environment.globals["settings"] = SETTINGS
    environment.globals["interval_text"] = interval_text
    environment.globals["count_text"] = count_text
    environment.globals["null_text"] = null_text
    return environment


def _interval(cells: Mapping[str, Any], name: str) -> list[str]:
    """Returns the interval of a metric, and the number of trees on which it is defined if that is not all of them.

    A single tree has no interval; then the number of trees stands for it.
    """
    low, high, trees = cells[f"{name}_low"], cells[f"{name}_high"], cells[f"{name}_n"]
    if pd.isna(low):
        return [f"n = {trees}"]
    return [f"{low:.2f}–{high:.2f}"] if trees == cells["trees"] else [f"{low:.2f}–{high:.2f}", f"n = {trees}"]


def _seconds(value: float) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:,.1f}" if value >= 0.05 else "< 0.1"


def _markdown(text: str) -> str:
    """Returns ``text`` with a backslash before every sign that Markdown or HTML could interpret."""
    for sign in "\\`*_{}[]<>()#+!|~":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
