"""One measured number of one Model Tree, and means over trees with their intervals.

The tree is the unit of evidence. Trees that grew from the same root weights, as in splits that share their roots, are not
independent: they are averaged first and count as one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mothr.benchmark.board import board
from mothr.benchmark.score.statistics import mean_interval


class Measurement(NamedTuple):
    """One number that was measured on one Model Tree, or on one drawn subset of models.

    The field names are the columns of the tables ``<claim>-trees.csv``.
    """

    measure: str
    """Name of the measured quantity, a key of :data:`mothr.baselines.studies.claims.measures.MEASURES`."""
    panel: str
    """What it was measured on: a group of layers, a kind of triple, a stage of training. It names a panel of the figure."""
    series: str
    """Name of the curve: a direction score, a kind of edges, an initialisation."""
    x: float | str
    """Position on the horizontal axis: a number, or a name."""
    family: str
    """Family of the models."""
    split: str
    """Name of the data set."""
    tree: int
    """Index of the Model Tree in its data set; -1 if the number belongs to no single tree."""
    origin: str
    """Measurements of one origin count as one; see :attr:`mothr.baselines.studies.datasets.OpenedDataset.origins`."""
    value: float
    """The number."""
    items: int
    """Number of edges, pairs, triples or models that ``value`` is the mean of."""


def mean_over_trees(
    values: pd.DataFrame, by: Sequence[str], low: float = -np.inf, high: float = np.inf
) -> pd.DataFrame:
    """Returns the mean of ``value`` over trees with its 95 % t-interval, for each combination of the columns ``by``.

    The rows keep the order in which the combinations first appear. The columns are ``by``, ``mean``, ``low``, ``high``
    (NaN if there is one tree), ``trees`` and ``items``.

    Args:
        values: Table with the columns ``by``, ``origin``, ``value`` and ``items``. Rows of one origin are averaged first,
            weighted by ``items``, the number of things that ``value`` is the mean of.
        by: Columns to group by.
        low: Smallest possible value.
        high: Largest possible value.
    """
    rows = values[values.value.notna() & (values["items"] > 0)]
    rows = rows.assign(total=rows.value * rows["items"])
    per_origin = rows.groupby([*by, "origin"], sort=False, dropna=False)[["total", "items"]].sum().reset_index()
    per_origin["value"] = (per_origin.total / per_origin["items"]).clip(low, high)
    means = []
    for key, group in per_origin.groupby(list(by), sort=False, dropna=False):
        interval = mean_interval(group.value.to_numpy(), board.LEVEL, (low, high))
        statistics = {"mean": interval.mean, "low": interval.low, "high": interval.high, "trees": interval.n}
        means.append({**dict(zip(by, key, strict=True)), **statistics, "items": int(group["items"].sum())})
    columns = [*by, "mean", "low", "high", "trees", "items"]
    return pd.DataFrame(means, columns=columns).astype({"low": float, "high": float})
