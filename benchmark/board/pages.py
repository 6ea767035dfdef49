"""Builds the data of the pages from the leaderboard: scores, details, drawings, and the regime map."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mothr.benchmark import drawing
from mothr.benchmark.board.board import FOREST_METRICS, RANKED_BY, TREE_METRICS, Row
from mothr.benchmark.board.page_data import (
    BoardData,
    DrawnPrediction,
    IndexData,
    MethodText,
    MetricText,
    NodeData,
    PairSources,
    RegimeCell,
    RegimeMap,
    ReliabilityBin,
    RowData,
    RowDetails,
    RunData,
    Score,
    SplitData,
    Texts,
    TreeData,
    WrongEdge,
)
from mothr.benchmark.board.pairs import TreePairs
from mothr.benchmark.board.pairs import read as read_pairs
from mothr.benchmark.board.views import METRIC_LABELS, SETTINGS, BoardView, Leaderboard, given_of
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.records.store import TRUTH, read_true_graph
from mothr.benchmark.score.metrics import METRICS

REGIMES = Path("regimes", "map.csv")
"""The regime map in a folder of results: ``mothr map DATA ... --out results/regimes`` writes it."""
ABOUT = "about.md"
"""The file beside it with a paragraph of plain text on what the map shows."""
REGIME_COLUMNS = ("grouping", "regime", "direction", "accuracy", "low", "high", "trees", "edges")
"""Columns of a regime map that a page shows."""
BINS = 10
"""Number of confidence bins of a reliability diagram."""


class Methods:
    """Numbers the methods of a page in the order in which their rows come."""

    def __init__(self) -> None:
        self.texts: list[MethodText] = []
        self._numbers: dict[tuple[str, ...], int] = {}

    def number(self, row: Row, label: str) -> int:
        """Returns the position of the row's method in ``texts``."""
        key = (label, row.kind, *row.configuration)
        if key not in self._numbers:
            self._numbers[key] = len(self.texts)
            method, version, parameters = row.configuration
            self.texts.append(MethodText(label, method, version, json.loads(parameters), row.kind))
        return self._numbers[key]


class SplitFiles:
    """What a split's folder of results says: the true forest and what lies between its models."""

    def __init__(self, place: Path) -> None:
        """Reads the files in ``place``.

        Raises:
            MothrError: the truth or ``pairs.json`` is faulty.
        """
        self.truth: ModelGraph | None = None
        self.entries: Mapping[NodeId, Any] = {}
        path = place / TRUTH
        if path.exists():
            self.truth, self.entries = read_true_graph(path)
        self.pairs = read_pairs(place, self.truth) if self.truth else None


def index_data(leaderboard: Leaderboard, splits: Mapping[str, SplitFiles]) -> IndexData:
    """Returns the data of the page of all results.

    Intervals stand there for the metric of the ranks alone; the page of a split has all of them.

    Raises:
        MothrError: the regime map cannot be read.
    """
    methods = Methods()
    boards = [board_data(board, methods, splits[board.folder].truth, (RANKED_BY,)) for board in leaderboard.boards]
    return IndexData(texts([]), methods.texts, boards, read_regimes(leaderboard.folder / REGIMES))


def split_data(boards: Sequence[BoardView], files: SplitFiles) -> SplitData:
    """Returns the data of one split's page.

    Args:
        boards: the split in each setting.
        files: the split's truth and pairs.
    """
    methods, drawings = Methods(), Drawings(files.truth) if files.truth else None
    rows = [row for board in boards for row in board.rows]
    measured = list(dict.fromkeys(name for row in rows for run in row.runs for name in run.metrics))
    return SplitData(
        texts=texts(measured),
        methods=methods.texts,
        boards=[board_data(board, methods, files.truth, TREE_METRICS) for board in boards],
        details={row.id: _details(row, measured, drawings) for row in rows},
        scored_trees=[int(tree) for tree in rows[0].scores.index],
        trees=_trees(files) if files.truth else None,
        pair_sources=PairSources(files.pairs.distance, files.pairs.direction, files.pairs.layers) if files.pairs else None,
        drawings=drawings.all if drawings else [],
    )  # fmt: skip


def texts(measured: Iterable[str]) -> Texts:
    """Returns the names of all metrics, those in ``measured`` included, and of settings."""
    metrics = {}
    for name in dict.fromkeys([*METRICS, *measured]):
        question = METRICS[name].answers if name in METRICS else ""
        metrics[name] = MetricText(METRIC_LABELS.get(name, name.replace("_", " ").capitalize()), question)
    return Texts(metrics, list(TREE_METRICS), list(FOREST_METRICS), dict(SETTINGS))


def board_data(board: BoardView, methods: Methods, truth: ModelGraph | None, intervals: Sequence[str]) -> BoardData:
    """Returns one board; rows have an interval for each metric in ``intervals``."""
    split, version, setting = board.key
    return BoardData(
        id=f"{board.folder}-{setting}",
        split=split,
        version=version,
        folder=board.folder,
        setting=setting,
        family=board.family,
        trees=board.trees,
        models=board.models,
        ranked_methods=board.ranked_methods,
        best_null=rounded(board.best_null),
        not_run=list(board.not_run),
        superseded_by=board.superseded.superseded_by if board.superseded else None,
        superseded_reason=board.superseded.reason if board.superseded else None,
        rows=[
            _row(row, cells, methods.number(row, cells["label"]), truth, intervals)
            for row, cells in zip(board.rows, board.cells, strict=True)
        ],
    )


def _row(
    row: Row, cells: Mapping[str, Any], method: int, truth: ModelGraph | None, intervals: Sequence[str]
) -> RowData:
    scores = {}
    for name in TREE_METRICS:
        scores[name] = Score(rounded(cells[name]))
        if name in intervals:
            trees = cells[f"{name}_n"] if cells[f"{name}_n"] != cells["trees"] else None
            low, high = (rounded(cells[f"{name}_{end}"]) for end in ("low", "high"))
            scores[name] = Score(rounded(cells[name]), low, high, trees)
    return RowData(
        id=row.id,
        method=method,
        given=given_of(row),
        standing=row.standing,
        rank=None if pd.isna(cells["rank"]) else int(cells["rank"]),
        unranked=cells["unranked"] or None,
        seeds=cells["seeds"],
        failed=cells["failed"],
        seconds=rounded(cells["seconds"]),
        worst_tree=rounded(cells[f"{RANKED_BY}_worst"]),
        scores=scores,
        forest_scores={name: rounded(cells[name]) for name in FOREST_METRICS},
        reliability=_reliability(row.drawn(), truth),
    )


def rounded(value: Any, digits: int = 4) -> float | int | None:
    """Returns a number with so many decimals, without any if it is whole; None for NaN and None."""
    if value is None or not np.isfinite(value):
        return None
    short = round(float(value), digits)
    return int(short) if short == int(short) else short


def _reliability(run: RunRecord | None, truth: ModelGraph | None) -> list[ReliabilityBin] | None:
    """Returns confidence against correctness of the predicted edges whose child is a model of the truth."""
    if run is None or truth is None or not run.confidence or not run.parents:
        return None
    bins: dict[int, list[tuple[float, bool]]] = {}
    for child in truth.nodes:
        for parent in run.parents.get(child, ()):
            confidence = run.confidence.get(child, {}).get(parent)
            if confidence is not None:
                tenth = min(BINS - 1, int(BINS * confidence))
                bins.setdefault(tenth, []).append((confidence, parent in truth.parents[child]))
    return [
        ReliabilityBin(
            tenth, len(edges), round(sum(confidence for confidence, _ in edges), 4), sum(c for _, c in edges)
        )
        for tenth, edges in sorted(bins.items())
    ]


class Drawings:
    """The predictions of one split that its page draws; equal ones are kept once."""

    def __init__(self, truth: ModelGraph) -> None:
        self.all: list[DrawnPrediction] = []
        self._truth = truth
        self._points = {node: point for tree in drawing.tree_layouts(truth) for node, point in tree.points.items()}
        self._inner = drawing.inner_nodes(truth)
        self._numbers: dict[str, int] = {}

    def number(self, run: RunRecord | None) -> int | None:
        """Returns the position of the run's prediction in ``all``; None if it has none for the models of the truth."""
        if run is None or run.parents is None or not all(node in run.parents for node in self._truth.nodes):
            return None
        drawn = self._draw(run, run.parents)
        key = repr(drawn)
        if key not in self._numbers:
            self._numbers[key] = len(self.all)
            self.all.append(drawn)
        return self._numbers[key]

    def _draw(self, run: RunRecord, parents: Mapping[NodeId, list[NodeId]]) -> DrawnPrediction:
        nodes = self._truth.nodes
        edges = drawing.classify_edges(self._truth, parents)
        true = {
            name: [(edge.parent, edge.child) for edge in edges if edge.edge_class == name]
            for name in drawing.EDGE_STYLES
        }
        wrong = {
            name: [
                WrongEdge(edge.parent, edge.child, drawing.edge_path(edge, self._points, edge.child not in self._inner))
                for edge in edges
                if edge.edge_class == name
            ]
            for name in ("wrong_parent", "wrong_tree")
        }
        abstained = set(run.abstained or ())
        confidence = {
            child: {
                parent: round(value, 3) for parent, value in run.confidence[child].items() if parent in parents[child]
            }
            for child in nodes
            if run.confidence and run.confidence.get(child)
        }
        return DrawnPrediction(
            seed=run.seed,
            correct=true["correct"],
            reversed=true["reversed"],
            missing=true["missing"],
            wrong_parent=wrong["wrong_parent"],
            wrong_tree=wrong["wrong_tree"],
            predicted_roots=[node for node in nodes if not parents[node] and node not in abstained],
            abstained=[node for node in nodes if node in abstained],
            confidence=confidence or None,
            relations={node: run.relations[node] for node in nodes if node in run.relations} if run.relations else None,
        )


def _details(row: Row, measured: Sequence[str], drawings: Drawings | None) -> RowDetails:
    whole = {name: [value for run in row.runs if (value := run.metrics.get(name)) is not None] for name in measured}
    return RowDetails(
        facts=_facts(row),
        runs=[RunData(run.seed, rounded(run.seconds, 2), run.status, run.error) for run in row.runs],
        tree_scores={name: [rounded(value, 3) for value in row.scores[name]] for name in TREE_METRICS},
        whole_scores={name: round(sum(values) / len(values), 3) for name, values in whole.items() if values},
        drawing=drawings.number(row.drawn()) if drawings else None,
    )


def _facts(row: Row) -> dict[str, str]:
    """Returns what is known of a row, as text; what is not known is left out."""
    shown = row.drawn() or row.runs[0]
    code = [f"mothr {shown.mothr_version}", (shown.commit or "")[:10], "(edited)" if shown.dirty else ""]
    peak = max((run.peak_bytes for run in row.runs if run.peak_bytes is not None), default=None)
    facts = {
        "Given": given_of(row),
        "Method version": shown.method_version,
        "Tuned on": ", ".join(sorted({split for run in row.runs for split in run.tuned_on})) or "nothing",
        "Isolation": ", ".join(sorted({run.isolation for run in row.runs if run.isolation})),
        "Device": ", ".join(sorted({run.device for run in row.runs})),
        "Peak memory": "" if peak is None else _bytes(peak),
        "Code": " ".join(part for part in code if part),
        "Date": max(run.date for run in row.runs)[:10],
        "Build": f"manifest {shown.manifest_sha256[:12]}",
        "Packages": ", ".join(f"{name} {number}" for name, number in sorted(shown.packages.items())),
    }
    return {name: text for name, text in facts.items() if text}


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _trees(files: SplitFiles) -> list[TreeData]:
    """Returns the true forest with the position of each model, sorted by label."""
    truth = files.truth
    assert truth
    trees = []
    labels = truth.tree_labels({node: entry.get("tree") for node, entry in files.entries.items()})
    for number, layout in enumerate(drawing.tree_layouts(truth)):
        nodes = []
        for node in sorted(layout.points):
            x, y = layout.points[node]
            known = [files.entries[node].get(key) for key in ("relation", "task")]
            note = ", ".join(str(part) for part in known if part is not None)
            radius = drawing.RADIUS if truth.parents[node] else drawing.ROOT_RADIUS
            nodes.append(
                NodeData(node, round(x, 1), round(y, 1), radius, truth.depth(node), note, list(truth.parents[node]))
            )
        pairs = files.pairs.trees[number] if files.pairs else None
        distances, evidence = _matrices(pairs) if pairs else (None, None)
        trees.append(
            TreeData(labels[number], round(layout.width, 1), round(layout.height, 1), nodes, distances, evidence)
        )
    return sorted(trees, key=lambda tree: tree.label)


Matrix = list[list[float | None]]


def _matrices(pairs: TreePairs) -> tuple[Matrix, Matrix]:
    """Returns distances (three significant digits) and evidence (four decimals) of all pairs of models of one tree."""
    count = len(pairs.ids)
    distances: Matrix = [[None] * count for _ in range(count)]
    evidence: Matrix = [[None] * count for _ in range(count)]
    places = [(first, second) for first in range(count) for second in range(first + 1, count)]
    for (first, second), distance, score in zip(places, pairs.distances, pairs.evidence, strict=True):
        distances[first][second] = distances[second][first] = None if distance is None else float(f"{distance:.3g}")
        if score is not None:
            evidence[first][second], evidence[second][first] = rounded(score), rounded(-score)
    return distances, evidence


def read_regimes(path: Path) -> RegimeMap | None:
    """Returns the regime map; None if there is no file.

    Raises:
        MothrError: the file is no table, or lacks a column.
    """
    if not path.is_file():
        return None
    try:
        cells = pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in ("accuracy", "low", "high")})
    except (OSError, ValueError) as error:
        raise MothrError(f"{path}: not a table ({error}); write it with `mothr map`") from None
    missing = [name for name in REGIME_COLUMNS if name not in cells]
    if missing:
        raise MothrError(f"{path}: lacks the column {missing[0]!r}; write it with `mothr map`")
    scores = list(dict.fromkeys(map(str, cells.direction)))
    groups: dict[str, dict[str, list[RegimeCell | None]]] = {}
    for cell in cells.to_dict(orient="records"):
        regimes = groups.setdefault(str(cell["grouping"]), {})
        row = regimes.setdefault(str(cell["regime"]), [None] * len(scores))
        accuracy, low, high = (rounded(cell[name], 3) for name in ("accuracy", "low", "high"))
        row[scores.index(str(cell["direction"]))] = RegimeCell(
            accuracy, low, high, int(cell["trees"]), int(cell["edges"])
        )
    return RegimeMap(scores, groups, read_about(path))


def read_about(regime_map: Path) -> str:
    """Returns what the file beside the regime map says of it; nothing if there is none."""
    about = regime_map.with_name(ABOUT)
    return about.read_text(encoding="utf-8").strip() if about.is_file() else ""
