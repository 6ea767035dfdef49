"""The table of the scale study: the result of each direction score and each method on each Model Tree, and what its root is.

The size of a tree is the width of its models. The training of a tree is the number of steps of its root. The root's own kurtosis
says how far its weights are from Gaussian. Below a published model, the number of steps is not known.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mothr.baselines.studies.ablation import each_warning_once
from mothr.baselines.studies.datasets import OpenedDataset, open_datasets
from mothr.baselines.studies.regimes.map import RegimeMapSettings, edge_outcomes
from mothr.baselines.studies.regimes.runs import has_own_parameters, published_rows, row_labels
from mothr.benchmark.board.board import RANKED_BY, Row
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import Setting
from mothr.benchmark.weights.result_cache import in_memory

DIRECTION, METHOD = "direction score", "method"
"""What a row of the table measures."""
TRAINED, PUBLISHED = "trained here", "published"
"""Where the root of a tree comes from: a recipe trained it from random weights, or it is a published model."""


class TreeRow(NamedTuple):
    """One number of one Model Tree. The field names are the columns of ``scale-trees.csv``."""

    kind: str
    """:data:`DIRECTION` or :data:`METHOD`."""
    name: str
    """Direction score, or label of the method."""
    plain: bool
    """Whether a method has the parameters that it has without any setting; True for a direction score."""
    split: str
    """Name of the data set."""
    tree: int
    """Number that the truth gives the tree."""
    origin: str
    """Trees of one origin have the same root weights; see :attr:`mothr.baselines.studies.datasets.OpenedDataset.origins`."""
    root: str
    """:data:`TRAINED` or :data:`PUBLISHED`."""
    width: float
    """Rows of the root's attention output matrices."""
    root_steps: float
    """Steps of the root's training; NaN if it is not known."""
    root_kurtosis: float
    """See :func:`mothr.baselines.studies.roots.root_kurtosis`; NaN if it is undefined."""
    value: float
    """Share of the tree's edges that the direction score decides right, or edge F1 of the method. NaN if undefined."""
    items: int
    """Number of edges of the tree."""


def scale_table(
    folders: Sequence[Path], results: Path, settings: RegimeMapSettings, setting: Setting = "open"
) -> pd.DataFrame:
    """Returns a row for each :class:`TreeRow`. Progress is shown on stderr.

    Trees without edges, and trees whose root is withheld or has no square attention output matrices, are left out.

    Args:
        folders: Data sets with truth.
        results: Folder of results with the runs on them. Of a method, the runs that have a rank count.
        settings: With which direction scores, on which tensors, the direction of every true edge is decided.
        setting: What the methods were given beside the weights.

    Raises:
        MothrError: A data set cannot be opened, no root has a width, or a data set has no runs in ``results``.
    """
    with in_memory(), each_warning_once():
        opened = open_datasets(folders, settings.layers)
        board_rows = {
            data.folder: [row for row in published_rows(data, results, setting) if row.ranked] for data in opened
        }
        labels = row_labels([row for found in board_rows.values() for row in found], results)
        found = [row for data in opened for row in _of_dataset(data, board_rows[data.folder], labels, settings)]
    trees = pd.DataFrame(found, columns=TreeRow._fields)
    if trees.empty:
        raise MothrError(
            "no tree has edges and a root with square attention output matrices, so there is no size to compare; "
            "name data sets of transformers"
        )
    return trees


def _of_dataset(
    data: OpenedDataset, board_rows: Sequence[Row], labels: dict[str, str], settings: RegimeMapSettings
) -> Iterator[TreeRow]:
    outcomes = edge_outcomes(data, settings)
    if outcomes.empty:
        return
    shares = outcomes.groupby(["series", "tree"], sort=False).value.mean()
    numbers = data.truth.graph.tree_labels({node: entry.tree for node, entry in data.truth.nodes.items()})
    plain = {row.id: has_own_parameters(row) for row in board_rows}
    for tree, (edges, fields) in enumerate(zip(data.edges, data.root_fields, strict=True)):
        if not edges or fields["width"] is None or fields["root_kurtosis"] is None:
            continue
        width, steps, kurtosis = (_number(fields[name]) for name in ("width", "root_steps", "root_kurtosis"))
        root = PUBLISHED if np.isnan(steps) else TRAINED
        place = (data.truth.split, numbers[tree], data.origins[tree], root, width, steps, kurtosis)
        for name in settings.directions:
            yield TreeRow(DIRECTION, name, True, *place, shares[name, tree], len(edges))
        for row in board_rows:
            score = float(row.scores[RANKED_BY][numbers[tree]])
            yield TreeRow(METHOD, labels[row.id], plain[row.id], *place, score, len(edges))


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)
