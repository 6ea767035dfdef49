"""Ablations: MoTHer with other values of its fields, run and scored as any other method.

Means and intervals are those of the leaderboard, computed from the same run records. Two direction scores that read no weights
are added to every ablation as bounds: ``random`` (a coin) and ``oracle`` (the truth).
"""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from mothr.baselines.methods.mother import MOTHER_V2, MoTHer
from mothr.baselines.parts.directions import DIRECTIONS, find_direction
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.baselines.studies.roots import INITIAL_SHARE_LIMITS, KURTOSIS_LIMITS, interval_name, interval_names
from mothr.baselines.studies.ties import record_ties
from mothr.benchmark.board import board
from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import RunRecord, Setting
from mothr.benchmark.run.execute import execute
from mothr.benchmark.run.in_process import InProcess
from mothr.benchmark.run.outcome import RunRequest
from mothr.benchmark.run.registry import settings_from
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.score.statistics import Interval, mean_interval
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.result_cache import in_memory

METHOD = "mother-v2"
"""Registered name of the method whose fields are varied."""
BOUNDS = ("random", "oracle")
"""Direction scores that read no weights: a coin, and the truth."""
VARIED_FIELDS = {
    "distance": "distances", "lambda_": "weights", "direction_layers": "layers", "direction_combine": "combine", "direction": "directions",
}  # fmt: skip
"""Field of MoTHer -> name of the grid's field, and of the option, that holds its values. The last field changes fastest."""
DEFAULT_COMBINATION = "own"
"""Text for the default way in which a direction score combines tensors; the value of the method's field is None."""
SUMMARY_METRICS = ("edge_accuracy", "direction_accuracy", "edge_f1")
"""Metrics of the summary."""
ROOT_FIELDS: Mapping[str, tuple[float, ...] | None] = {
    "root_kurtosis": KURTOSIS_LIMITS, "root_initial_share": INITIAL_SHARE_LIMITS, "init": None,
}  # fmt: skip
"""Column on the root of a tree -> limits of its classes; None for a column of names."""
BY_ROOT_COLUMNS = (
    "root", "class", *VARIED_FIELDS, "trees", "edge_accuracy", "low", "high", "over_ties", "optimal_rootings",
)  # fmt: skip
"""Columns of :func:`means_by_root`."""


@dataclass(frozen=True)
class AblationGrid:
    """The field values to combine; each combination is one method.

    Raises:
        MothrError: An unknown name (the error lists the nearest ones), a negative weight, or no direction score beside the
            bounds.
    """

    directions: tuple[str, ...] = tuple(name for name in DIRECTIONS if name not in BOUNDS)
    """Direction scores; the bounds are added."""
    distances: tuple[str, ...] = ("rms",)
    """Distances of an edge."""
    weights: tuple[float, ...] = (0.3,)
    """Weights of the direction score against the distance: MoTHer's lambda, in units of the mean distance."""
    layers: tuple[str, ...] = ("matrices",)
    """Tensors that the direction score is computed on."""
    combine: tuple[str | None, ...] = (None,)
    """How the values of single tensors become one score; None is the default of each direction score."""
    base: MoTHer = MOTHER_V2
    """The method that provides the values of all other fields."""

    def __post_init__(self) -> None:
        for name in self.directions:
            find_direction(name)
        if not set(self.directions) - set(BOUNDS):
            raise MothrError(
                f"there is no direction score to ablate; name one beside the bounds {' and '.join(BOUNDS)}, which are always run"
            )
        _ = self.methods  # each method checks its own fields

    @cached_property
    def methods(self) -> tuple[MoTHer, ...]:
        """Every combination; the bounds come after the other direction scores."""
        directions = [name for name in self.directions if name not in BOUNDS]
        values = {field: getattr(self, name) for field, name in VARIED_FIELDS.items()}
        values["direction"] = (*directions, *BOUNDS)
        combinations = product(*(dict.fromkeys(choices) for choices in values.values()))
        return tuple(replace(self.base, **dict(zip(values, choice, strict=True))) for choice in combinations)

    def runs(self, seeds: int) -> list[tuple[MoTHer, int]]:
        """Returns (method, seed) for each run: ``seeds`` runs of ``random``, and one of all others, which are deterministic."""
        return [
            (method, seed) for method in self.methods for seed in range(seeds if method.direction == "random" else 1)
        ]


def run(grid: AblationGrid, folder: Path, setting: Setting, seeds: int = 5) -> list[RunRecord]:
    """Returns the record of each run of ``grid`` on a data set, in the order of the grid. Progress is shown on stderr.

    Args:
        grid: The methods.
        folder: The data set, with its truth.
        setting: What the methods are given beside the weights.
        seeds: Number of runs of the direction score ``random``.

    Raises:
        MothrError: The data set cannot be opened, or it has no tensor of some choice of layers.
    """
    truth, models = dataset.open_truth(folder), dataset.open_models(folder)
    for layers in (grid.base.distance_layers, *grid.layers):
        Layers.parse(layers).select_from(models)
    requests = [RunRequest(METHOD, settings_from(method, METHOD), setting, seed) for method, seed in grid.runs(seeds)]
    runs = execute(requests, folder, truth, InProcess(models=models))
    with in_memory(), each_warning_once():
        return [record for _, record in tqdm(runs, desc=truth.split, unit="run", total=len(requests), file=sys.stderr)]


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Holds warnings back until the block ends, then shows each text once: all runs on the same models raise the same warnings."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield
    finally:
        distinct = {(str(warning.message), warning.category): warning for warning in caught}
        for (text, category), warning in distinct.items():
            warnings.warn_explicit(text, category, warning.filename, warning.lineno)


def table_rows(records: Sequence[RunRecord], trees: Sequence[int]) -> pd.DataFrame:
    """Returns a tidy table: a row for each run and true Model Tree, with the method's parameters and every metric as columns.

    Args:
        records: The runs.
        trees: Label of each true Model Tree, as in the records. A failed run has a row for each of them, without metrics.
    """
    metrics = [name for name, metric in METRICS.items() if metric.per_tree]
    rows = []
    for record in records:
        # Readers of earlier tables know the column of the side information as "told".
        shared = {
            "split": record.split, "split_version": record.split_version, "setting": record.setting, "told": " ".join(record.given),
            "method": record.method, "method_version": record.method_version, **record.parameters, "seed": record.seed,
            "status": record.status, "error": record.error, "seconds": record.seconds,
        }  # fmt: skip
        scores = record.tree_scores()
        rows += [{**shared, "tree": tree, **dict.fromkeys(metrics), **scores.get(tree, {})} for tree in trees]
    return pd.DataFrame(rows)


def table_with_roots(records: Sequence[RunRecord], data: OpenedDataset) -> pd.DataFrame:
    """Returns :func:`table_rows` with columns on the root of each tree and on rootings that tie.

    ``init``, ``root_kurtosis`` and ``root_initial_share`` are those of
    :attr:`mothr.baselines.studies.datasets.OpenedDataset.root_fields`. ``optimal_rootings`` and
    ``edge_accuracy_over_ties`` are those of :class:`mothr.baselines.studies.ties.TreeTies`; a failed run has none.
    """
    labels = data.graph.tree_labels({node: known.tree for node, known in data.truth.nodes.items()})
    columns: list[dict[str, Any]] = []
    with in_memory():
        for record in records:
            ties = record_ties(record, data)
            for tree, root in enumerate(data.root_fields):
                tied = (ties[tree].rootings, ties[tree].edge_accuracy) if ties else (None, None)
                columns.append({**root, "optimal_rootings": tied[0], "edge_accuracy_over_ties": tied[1]})
    return pd.concat([table_rows(records, labels), pd.DataFrame(columns)], axis=1)


def means_by_root(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the mean edge accuracy of each method by the root of the tree, with its 95 % t-interval over trees.

    The rows are grouped by ``init``, and by the classes of ``root_kurtosis`` and of ``root_initial_share``; a tree in which
    one is not known has no row there. A failed run counts as zero. ``over_ties`` is the mean of ``edge_accuracy_over_ties``.

    Args:
        table: The table of :func:`table_with_roots`.
    """
    scored = table.assign(edge_accuracy=table.edge_accuracy.where(table.status == "ok", 0.0))
    scored = scored[scored.edge_accuracy.notna()]
    rows = []
    for field, limits in ROOT_FIELDS.items():
        known = scored[scored[field].notna()]
        names = known[field] if limits is None else known[field].map(partial(interval_name, limits=limits))
        order = sorted(set(names)) if limits is None else interval_names(limits)
        for name in order:
            of_class = known[names == name]
            for varied, runs in of_class.groupby(list(VARIED_FIELDS), sort=False, dropna=False):
                per_tree = runs.groupby("tree")[["edge_accuracy", "edge_accuracy_over_ties", "optimal_rootings"]].mean()
                interval = mean_interval(per_tree.edge_accuracy.to_numpy(), board.LEVEL, (0, 1))
                means = per_tree.mean()
                rows.append(
                    {"root": field, "class": name, **dict(zip(VARIED_FIELDS, varied, strict=True)), "trees": interval.n,
                     "edge_accuracy": interval.mean, "low": interval.low, "high": interval.high,
                     "over_ties": means.edge_accuracy_over_ties, "optimal_rootings": means.optimal_rootings}
                )  # fmt: skip
    return pd.DataFrame(rows, columns=BY_ROOT_COLUMNS).astype({"low": float, "high": float})


@dataclass(frozen=True, slots=True)
class AblationRow:
    """One method of the grid with its scores."""

    varied: Mapping[str, Any]
    """Field of :data:`VARIED_FIELDS` -> its value."""
    intervals: Mapping[str, Interval | None]
    """Metric of :data:`SUMMARY_METRICS` -> its mean over true Model Trees with a 95 % t-interval; None if it is undefined in
    every tree."""
    runs: int
    """Number of runs; the value of a tree is its mean over them."""
    failed: int
    """Number of failed runs, which count as zero."""

    def cells(self, fields: Sequence[str]) -> dict[str, str]:
        """Returns the values of ``fields`` and of the metrics as text."""
        values = {
            field: DEFAULT_COMBINATION if self.varied[field] is None else str(self.varied[field]) for field in fields
        }
        return values | {name: _text(interval) for name, interval in self.intervals.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns the row as one flat dictionary."""
        flat: dict[str, Any] = {**self.varied, "runs": self.runs, "failed": self.failed}
        for name, interval in self.intervals.items():
            flat |= {
                name: interval and interval.mean,
                f"{name}_low": interval and interval.low,
                f"{name}_high": interval and interval.high,
            }
            flat[f"{name}_n"] = interval.n if interval else 0
        return flat


def _text(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    ends = "" if interval.low is None else f" [{interval.low:.3f}, {interval.high:.3f}]"
    return f"{interval.mean:.3f}{ends}"


def summary(records: Sequence[RunRecord]) -> list[AblationRow]:
    """Returns one row a method, in the order of ``records``, with the leaderboard's means and intervals."""

    def varied(record: RunRecord) -> dict[str, Any]:
        return {field: record.parameters[field] for field in VARIED_FIELDS}

    order: dict[tuple[Any, ...], int] = {}
    for record in records:
        order.setdefault(tuple(varied(record).values()), len(order))
    rows = []
    for row in sorted(board.rows(records), key=lambda row: order[tuple(varied(row.runs[0]).values())]):
        intervals: dict[str, Interval | None] = {}
        for name in SUMMARY_METRICS:
            values, metric = row.scores[name].dropna().to_numpy(), METRICS[name]
            intervals[name] = mean_interval(values, board.LEVEL, (metric.low, metric.high)) if len(values) else None
        failed = sum(run.status != "ok" for run in row.runs)
        rows.append(AblationRow(varied(row.runs[0]), intervals, len(row.runs), failed))
    return rows


def changed_fields(rows: Sequence[AblationRow]) -> list[str]:
    """Returns the fields, except the direction score, in which ``rows`` differ."""
    return [field for field in VARIED_FIELDS if field != "direction" and len({row.varied[field] for row in rows}) > 1]
