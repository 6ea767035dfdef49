"""What the numbers of a regime map are: the columns of its tables, the words of its figures, and which cells are marked.

A series is what has a column in the map: a direction score, or a method.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from mothr.baselines.studies.measurements import mean_over_trees

Mark = Callable[[pd.DataFrame, pd.DataFrame], Sequence[bool | None]]
"""Function of the cells of a map and of its accuracies of trees -> which cells are marked; None if a cell cannot be."""
CHANCE = 0.5
"""Share of edges that a coin directs right."""
PLACE = ["grouping", "regime", "split", "tree"]
"""Columns that say which edges of which tree a number of a series is the mean of."""
LABEL_WIDTH = 30
"""Largest number of letters in a line of a method's label in a figure."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a regime map shows of each series."""

    column: str
    """Column of the tables that names the series."""
    value: str
    """Column of ``map.csv`` that holds the mean over trees."""
    title: str
    """Title of the figures, without the fields."""
    fields_title: str
    """Title of the figure of gains."""
    series: str
    """What one series is, in words."""
    share: str
    """What a cell shows, in words."""
    short_share: str
    """The same for a short colour bar."""
    outcome: str
    """The two outcomes of an edge, in words."""
    mark_text: str
    """What the marks of cells mean, for captions."""
    palette: str
    """Colour map of matplotlib."""
    mark: Mark
    """Which cells are marked."""
    label: Callable[[str], str]
    """Name of a series -> its text in a figure."""


def apart_from_chance(cells: pd.DataFrame, _: pd.DataFrame) -> Sequence[bool | None]:
    """Returns for each cell whether its interval excludes :data:`CHANCE`; False if there is one tree."""
    return ((cells.low > CHANCE) | (cells.high < CHANCE)).tolist()


def apart_from_series(
    reference: str, unmarked: frozenset[str], cells: pd.DataFrame, trees: pd.DataFrame
) -> Sequence[bool | None]:
    """Returns for each cell whether the interval over trees of the difference to a reference excludes 0.

    The difference is that of the shares of the same edges of the same tree. It is False if there is one tree, and None
    for the series in ``unmarked``.

    Args:
        reference: Series to compare with.
        unmarked: Series that are not compared, such as the reference.
        cells: Means over trees, with the columns ``grouping``, ``regime`` and ``series``.
        trees: From :func:`mothr.baselines.studies.regimes.map.regime_accuracies`.
    """
    base = trees.loc[trees.series == reference, [*PLACE, "value"]].rename(columns={"value": "base"})
    pairs = trees.merge(base, on=PLACE)
    by = ["grouping", "regime", "series"]
    differences = mean_over_trees(pairs.assign(value=pairs.value - pairs.base), by, -1, 1)
    differs = dict(
        zip(
            differences[by].itertuples(index=False, name=None),
            (differences.low > 0) | (differences.high < 0),
            strict=True,
        )
    )
    keys = cells[by].itertuples(index=False, name=None)
    return [None if key[2] in unmarked else bool(differs.get(key, False)) for key in keys]


def _unmarked(cells: pd.DataFrame, _: pd.DataFrame) -> Sequence[bool | None]:
    return [None] * len(cells)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _lines(label: str) -> str:
    """Returns the label of a method with its parameters on lines of their own."""
    name, _, parameters = label.partition(" ")
    lines = textwrap.wrap(parameters, LABEL_WIDTH, break_on_hyphens=False)
    return "\n".join([name, *lines])


DIRECTION_ACCURACY = Measure(
    column="direction",
    value="accuracy",
    title="Which direction score tells parent from child",
    fields_title="Which fields say whether a direction score is right",
    series="direction score",
    share="share of edges directed right",
    short_share="share right",
    outcome="right or wrong",
    mark_text=(
        "Bold: its 95 % t-interval over trees excludes chance, 0.5, not corrected for the number of cells. In brackets: it includes "
        "chance, or there is one tree."
    ),
    palette="PuOr",
    mark=apart_from_chance,
    label=_spaced,
)
"""The accuracy of direction scores: the share of true edges of which a score names the parent."""


def method_recall(reference: str | None, nulls: frozenset[str]) -> Measure:
    """Returns the measure of methods: the share of true edges that a method finds.

    Args:
        reference: The null method that the others are compared with; None if there is none.
        nulls: All null methods of the map.
    """
    wrong = "An edge that a method names wrongly is not counted."
    if reference is None:
        mark_text, mark = f"{wrong} No cell is compared with chance, since no null method is shown.", _unmarked
    else:
        mark_text = (
            f"{wrong} Bold: the 95 % t-interval over trees of the difference to {reference} in the same regime excludes 0, above or "
            "below, not corrected for the number of cells. In brackets: it includes 0, or there is one tree. Of the null methods, "
            f"{reference} finds the most edges of these data; they are neither bold nor in brackets."
        )
        mark = partial(apart_from_series, reference, nulls)
    return Measure(
        column="method",
        value="recall",
        title="Which edges a method finds",
        fields_title="Which fields say whether a method finds an edge",
        series="method",
        share="share of true edges found",
        short_share="share found",
        outcome="found or not, mean over seeds",
        mark_text=mark_text,
        palette="YlGnBu",
        mark=mark,
        label=_lines,
    )


def best_of(trees: pd.DataFrame, names: frozenset[str]) -> str | None:
    """Returns the series of ``names`` with the largest mean over trees; None if the table has none of them.

    Args:
        trees: Table with the columns ``series``, ``origin``, ``value`` and ``items``.
        names: The series to choose from.
    """
    means = mean_over_trees(trees[trees.series.isin(names)], ("series",), 0, 1)
    return str(means.series.iloc[int(np.argmax(means["mean"]))]) if len(means) else None
