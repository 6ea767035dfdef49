"""The regime map of methods: which true edges the published predictions of each method have, against how the child was made.

The share of a tree's edges that a method finds is its edge recall. Nothing is run: the predictions are those of the records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mothr.baselines.studies.ablation import each_warning_once
from mothr.baselines.studies.datasets import OpenedDataset, open_datasets
from mothr.baselines.studies.measurements import mean_over_trees
from mothr.baselines.studies.regimes.map import GroupingSettings, RegimeMap, edge_rows, join_outcomes, map_of_outcomes
from mothr.baselines.studies.regimes.measure import best_of, method_recall
from mothr.baselines.studies.regimes.runs import chosen_labels, published_rows, row_labels
from mothr.benchmark.board.board import Row
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge
from mothr.benchmark.records.record import Setting
from mothr.benchmark.records.store import RUNS, home
from mothr.benchmark.weights.result_cache import in_memory


@dataclass(frozen=True, slots=True)
class MethodMapSettings(GroupingSettings):
    """What a regime map of methods compares.

    Raises:
        MothrError: An unknown field.
    """

    methods: tuple[str, ...] = ()
    """Labels of rows, or names of methods; see :func:`mothr.baselines.studies.regimes.runs.chosen_labels`."""
    setting: Setting = "open"
    """What the methods were given beside the weights."""


def method_map(folders: Sequence[Path], results: Path, settings: MethodMapSettings) -> RegimeMap:
    """Returns the map of the published predictions on the data sets in ``folders``. Progress is shown on stderr.

    Methods stand in the order of their mean over all edges, the largest first, and null methods behind the others.
    Methods that were named keep their order. The gains of fields leave out null methods, unless there are no others.

    Args:
        folders: Data sets with truth.
        results: Folder of results with the runs on them.
        settings: What to compare.

    Raises:
        MothrError: A data set cannot be opened or has no runs in ``results``, its runs are on other models, a method is
            unknown, or no data set has an edge.
    """
    with in_memory(), each_warning_once():
        opened = open_datasets(folders, "all")
        rows_of = {data.folder: published_rows(data, results, settings.setting) for data in opened}
        every = [row for found in rows_of.values() for row in found]
        labels = row_labels(every, results)
        chosen = chosen_labels(every, labels, settings.methods)
        table = join_outcomes([method_outcomes(data, rows_of[data.folder], labels, chosen, results) for data in opened])
    nulls = frozenset(labels[row.id] for row in every if row.kind == "null") & set(chosen)
    if not settings.methods:
        table = _sorted(table, nulls)
    judged = [name for name in table.series.unique() if name not in nulls]
    return map_of_outcomes(table, settings, method_recall(best_of(table, nulls), nulls), judged)


def method_outcomes(
    data: OpenedDataset, board_rows: Sequence[Row], labels: dict[str, str], chosen: Sequence[str], results: Path
) -> pd.DataFrame:
    """Returns a row for each true edge and method, with the fields of the edge and whether the method finds it.

    ``value`` is the share of the method's runs in whose prediction the child has that parent. A run that failed finds no
    edge, and neither does an abstention. Skipped runs do not count.

    Args:
        data: The data set.
        board_rows: Its rows, from :func:`mothr.baselines.studies.regimes.runs.published_rows`.
        labels: Id of each row -> its label.
        chosen: Labels of the rows to compare, in the order of the table.
        results: Folder of results, for error messages.

    Raises:
        MothrError: The runs are on other models than those of the data set.
    """
    edges = data.graph.edges
    if not edges:
        return pd.DataFrame()
    fields = pd.DataFrame(edge_rows(data))
    row_of = {labels[row.id]: row for row in board_rows}
    tables = [
        fields.assign(series=label, value=_found(data, row_of[label], edges, results), items=1)
        for label in chosen
        if label in row_of
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _found(data: OpenedDataset, row: Row, edges: Sequence[Edge], results: Path) -> NDArray[np.float64]:
    """Returns for each edge the share of the row's runs that find it."""
    runs = [run for run in row.runs if run.status != "skipped"]
    found = np.zeros((len(runs), len(edges)))
    for run, values in zip(runs, found, strict=True):
        if run.parents is None:
            continue
        if set(run.parents) != set(data.truth.nodes):
            raise MothrError(
                f"{home(run, results) / RUNS}#{run.run_id}: names other models than {data.folder}, so one of the two is another build of "
                "the data set; generate the data set again, or run its methods again"
            )
        abstained = set(run.abstained or ())
        values[:] = [parent in run.parents[child] and child not in abstained for parent, child in edges]
    return np.asarray(found.mean(axis=0), dtype=np.float64)


def _sorted(table: pd.DataFrame, nulls: frozenset[str]) -> pd.DataFrame:
    """Returns the table with its series in the order of :func:`method_map`."""
    means = mean_over_trees(table, ("series",), 0, 1).set_index("series")["mean"]
    order = sorted(means.index, key=lambda name: (name in nulls, -means[name], name))
    rank_of = {name: rank for rank, name in enumerate(order)}
    return table.sort_values("series", kind="stable", key=lambda names: names.map(rank_of), ignore_index=True)
