"""The measured quantities by name, with their axes and ranges, and their means over trees."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mothr.baselines.studies.measurements import mean_over_trees
from mothr.baselines.studies.roots import INITIAL_SHARE_LIMITS, KURTOSIS_LIMITS, interval_names


@dataclass(frozen=True, slots=True)
class Measure:
    """The axes and the range of a measured quantity."""

    y: str
    """Label of its axis, with the unit."""
    x: str = ""
    """Label of the axis that it is drawn against; empty if that axis shows names."""
    low: float = 0.0
    """Smallest possible value."""
    high: float = 1.0
    """Largest possible value."""
    scale: Literal["linear", "log", "symlog"] = "linear"
    """Scale of the axis x."""
    chance: float | None = None
    """Expected value under chance; None if no line is drawn for it."""
    order: tuple[str, ...] = ()
    """Names on the axis x in their order; empty if they keep the order of the data."""


_EDGE_ACCURACY = "edge accuracy"
_ROOT_KURTOSIS = "kurtosis\nof the root"
_INITIALISATION = "root's\ninitialisation"
_KURTOSIS_CLASSES = tuple(interval_names(KURTOSIS_LIMITS))
MEASURES = {
    "distance": Measure("distance, in mean edges of the tree", "edges between two models", high=np.inf),
    "distance_spearman": Measure("Spearman ρ, distance and edges between", low=-1, chance=0),
    "kurtosis": Measure("summed excess kurtosis", "optimizer steps", low=-np.inf, high=np.inf),
    "kurtosis_trend": Measure("Spearman ρ, kurtosis and steps", low=-1, chance=0),
    "skeleton_accuracy": Measure("edge accuracy, root given"),
    "skeleton_by_rank": Measure("edge accuracy, root given", "rank of the LoRA update", scale="log"),
    "lora_spearman": Measure("Spearman ρ, distance and edges between", low=-1, chance=0),
    "triples_solved": Measure("share of triples solved"),
    "motif_accuracy": Measure("motif accuracy"),
    "adjusted_rand": Measure("adjusted Rand index", "models kept, %", low=-0.5, chance=0),
    "accuracy_by_share": Measure(_EDGE_ACCURACY, "models kept, %"),
    "accuracy_by_score": Measure(_EDGE_ACCURACY),
    "accuracy_by_sibling": Measure(_EDGE_ACCURACY, "nearest sibling, in\ndistances to the parent"),
    "accuracy_by_lambda": Measure(_EDGE_ACCURACY, "weight λ of the direction", scale="symlog"),
    "accuracy_by_rank": Measure(_EDGE_ACCURACY, "rank of the LoRA update", scale="log"),
    "accuracy_by_depth": Measure(_EDGE_ACCURACY, "depth of the child"),
    "accuracy_by_steps": Measure(_EDGE_ACCURACY, "optimizer steps", scale="log"),
    "accuracy_by_precision": Measure(_EDGE_ACCURACY, "copy stored as"),
    "accuracy_by_pruning": Measure(_EDGE_ACCURACY, "share of weights set to 0"),
    "accuracy_by_noise": Measure(_EDGE_ACCURACY, "noise, in standard deviations", scale="log"),
    "root_kurtosis": Measure("excess kurtosis of the root", _INITIALISATION, low=-np.inf, high=np.inf),
    "direction_by_root": Measure("share of edges directed right", _ROOT_KURTOSIS, chance=0.5, order=_KURTOSIS_CLASSES),
    "accuracy_by_root": Measure(_EDGE_ACCURACY, _ROOT_KURTOSIS, order=_KURTOSIS_CLASSES),
    "accuracy_by_init": Measure(_EDGE_ACCURACY, _INITIALISATION),
    "accuracy_by_share_left": Measure(
        _EDGE_ACCURACY, "root's initial\nweights left", order=tuple(interval_names(INITIAL_SHARE_LIMITS))
    ),
    "optimal_rootings": Measure("optimal rootings of a tree", low=1, high=np.inf),
    "tied": Measure("share of trees with\nseveral optimal rootings"),
    "accuracy_with_ties": Measure(_EDGE_ACCURACY),
    "depth": Measure("kurtosis, in standard deviations", "edges below the root", low=-np.inf, high=np.inf),
    "depth_spearman": Measure("Spearman ρ, kurtosis and depth", low=-1, chance=0),
}
"""Every measured quantity, by its name in the column ``measure`` of the tables."""
POINT_COLUMNS = ("measure", "panel", "series", "x", "family")
"""Columns that identify a point of a figure."""


def mean_points(measurements: pd.DataFrame) -> pd.DataFrame:
    """Returns the mean over trees of each point, with its t-interval within the range of the measure.

    Args:
        measurements: Table with the fields of :class:`mothr.baselines.studies.measurements.Measurement` as columns.
    """
    tables = []
    for name, rows in measurements.groupby("measure", sort=False):
        measure = MEASURES[str(name)]
        if measure.order:
            rows = rows.sort_values("x", key=lambda x: x.map(measure.order.index), kind="stable")
        tables.append(mean_over_trees(rows, POINT_COLUMNS, measure.low, measure.high))
    return pd.concat(tables, ignore_index=True)
