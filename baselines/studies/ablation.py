"""Ablations: MoTHer with other field values, run and scored as any method is.

There is no second code path: each run is :func:`mothr.benchmark.run.evaluate.run`, each row comes from the record that the
leaderboard reads, and means and intervals are the leaderboard's. Two bounds go along wherever a score is judged: the coin
(``random``) and the truth (``oracle``).
"""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from mothr.baselines.methods.mother import MOTHER_V2, MoTHer
from mothr.baselines.parts.directions import DIRECTIONS, find_direction
from mothr.benchmark.board import board
from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import results
from mothr.benchmark.run import evaluate
from mothr.benchmark.score.metrics import METRICS
from mothr.benchmark.score.statistics import Interval, mean_interval
from mothr.benchmark.weights.features import in_memory
from mothr.benchmark.weights.layers import Layers

METHOD = "mother-v2"
"""The method that is varied, by its registered name."""
BOUNDS = ("random", "oracle")
"""Direction scores that are none: what a coin and what the truth would give."""
VARIED = {
    "distance": "distances", "lambda_": "weights", "direction_layers": "layers", "direction_combine": "combine", "direction": "directions",
}  # fmt: skip
"""Field of MoTHer -> the field of a grid, and the option, that says which values it takes; the slowest first."""
OWN = "own"
"""Word for each score's own way to combine tensors, which is None in a method's field."""
SHOWN = ("edge_accuracy", "direction_accuracy", "edge_f1")
"""Metrics of the summary."""


@dataclass(frozen=True)
class Grid:
    """What to vary: every combination is one method.

    Raises:
        MothrError: an unknown name (with the nearest ones), a weight below 0, or no direction score beside the bounds.
    """

    directions: tuple[str, ...] = tuple(name for name in DIRECTIONS if name not in BOUNDS)
    """Direction scores; the bounds are added to them."""
    distances: tuple[str, ...] = ("rms",)
    """Distances of an edge."""
    weights: tuple[float, ...] = (0.3,)
    """Weights of the direction against the distance (lambda)."""
    layers: tuple[str, ...] = ("matrices",)
    """Tensors the direction score looks at."""
    combine: tuple[str | None, ...] = (None,)
    """How tensors are combined to the score; None for each score's own way."""
    base: MoTHer = MOTHER_V2
    """Gives all other fields."""

    def __post_init__(self) -> None:
        for name in self.directions:
            find_direction(name)
        if not set(self.directions) - set(BOUNDS):
            raise MothrError(
                f"no direction score to ablate; name one beside the bounds {' and '.join(BOUNDS)}, which are always run"
            )
        _ = self.methods  # each checks its own fields

    @cached_property
    def methods(self) -> tuple[MoTHer, ...]:
        """Every combination, the bounds behind the direction scores."""
        scores = [name for name in self.directions if name not in BOUNDS]
        values = {field: getattr(self, name) for field, name in VARIED.items()} | {"direction": (*scores, *BOUNDS)}
        points = product(*(dict.fromkeys(choices) for choices in values.values()))
        return tuple(replace(self.base, **dict(zip(values, point, strict=True))) for point in points)

    def runs(self, seeds: int) -> list[tuple[MoTHer, int]]:
        """Returns each method with each of its seeds: ``seeds`` for the coin, one for all others, which leave nothing to chance."""
        return [
            (method, seed) for method in self.methods for seed in range(seeds if method.direction == "random" else 1)
        ]


def run(grid: Grid, folder: Path, setting: results.Setting, seeds: int = 5) -> list[results.RunRecord]:
    """Returns the record of each run of ``grid`` on the data set in ``folder``, in the grid's order; progress is on stderr.

    Args:
        grid: What to vary.
        folder: The data set, with its truth.
        setting: What the methods are told.
        seeds: How often the coin is tossed.

    Raises:
        MothrError: the data set cannot be opened, or some layers select nothing in it.
    """
    truth, models = dataset.open_truth(folder), dataset.open_models(folder)
    for layers in (grid.base.distance_layers, *grid.layers):
        Layers.parse(layers).select_from(models)
    runs = tqdm(grid.runs(seeds), desc=truth.split, unit="run", file=sys.stderr)
    with in_memory(), each_warning_once():
        return [
            evaluate.run(method, METHOD, folder, setting, seed, models=models, truth=truth) for method, seed in runs
        ]


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Holds warnings back to the end of the block: all runs see the same models, and would all say the same of them."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield
    finally:
        for (text, category), one in {(str(one.message), one.category): one for one in caught}.items():
            warnings.warn_explicit(text, category, one.filename, one.lineno)


def rows(records: Sequence[results.RunRecord], trees: int) -> pd.DataFrame:
    """Returns the tidy table: one row a run and true Model Tree, with the method's parameters as columns and every metric.

    ``trees`` is how many there are: a run that failed has a row for each of them as well, without metrics.
    """
    metrics = [name for name, metric in METRICS.items() if metric.per_tree]
    found = []
    for record in records:
        shared = {
            "split": record.split, "split_version": record.split_version, "setting": record.setting, "told": " ".join(record.given),
            "method": record.method, "method_version": record.method_version, **record.parameters, "seed": record.seed,
            "status": record.status, "error": record.error, "seconds": record.seconds,
        }  # fmt: skip
        scores = record.tree_scores()
        found += [{**shared, "tree": tree, **dict.fromkeys(metrics), **scores.get(tree, {})} for tree in range(trees)]
    return pd.DataFrame(found)


@dataclass(frozen=True)
class AblationRow:
    """One method of the grid, judged."""

    varied: Mapping[str, Any]
    """Field of :data:`VARIED` -> its value."""
    intervals: Mapping[str, Interval | None]
    """Metric of :data:`SHOWN` -> mean over true Model Trees with its t-interval; None where it is undefined in all of them."""
    runs: int
    """Its runs; each tree counts with its mean over them."""
    failed: int
    """Those that failed, which count as zero."""

    def cells(self, fields: Sequence[str]) -> dict[str, str]:
        """Returns the values of ``fields`` and the metrics as text for people."""
        named = {field: OWN if self.varied[field] is None else str(self.varied[field]) for field in fields}
        return named | {name: _text(interval) for name, interval in self.intervals.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns it as one flat row."""
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


def summary(records: Sequence[results.RunRecord]) -> list[AblationRow]:
    """Returns one line a method in the order of ``records``, by the leaderboard's rules."""

    def varied(record: results.RunRecord) -> dict[str, Any]:
        return {field: record.parameters[field] for field in VARIED}

    places: dict[tuple[Any, ...], int] = {}
    for record in records:
        places.setdefault(tuple(varied(record).values()), len(places))
    found = []
    for row in sorted(board.rows(records), key=lambda row: places[tuple(varied(row.runs[0]).values())]):
        intervals: dict[str, Interval | None] = {}
        for name in SHOWN:
            values, metric = row.scores[name].dropna().to_numpy(), METRICS[name]
            intervals[name] = mean_interval(values, board.LEVEL, (metric.low, metric.high)) if len(values) else None
        found.append(
            AblationRow(varied(row.runs[0]), intervals, len(row.runs), sum(run.status != "ok" for run in row.runs))
        )
    return found


def differing(lines: Sequence[AblationRow]) -> list[str]:
    """Returns the fields, the direction aside, in which ``lines`` differ."""
    return [field for field in VARIED if field != "direction" and len({line.varied[field] for line in lines}) > 1]
