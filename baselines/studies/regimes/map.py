"""The regime map: for how many true edges each direction score names the parent, against how the child was made.

A regime is one way of making a child, for example "full, adamw, 300 steps". Each direction score decides every true edge
alone. Its accuracy in a regime is the mean over Model Trees of the share of edges on which it is right. Numbers that differ from
tree to tree or from edge to edge, such as the kurtosis of the root, are grouped into classes.

The map of methods, :mod:`mothr.baselines.studies.regimes.methods`, has the same regimes. A *series* is what has a column in a map: a
direction score, or a method.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from mothr.baselines.parts.directions import DIRECTIONS, find_direction
from mothr.baselines.studies.ablation import BOUNDS, each_warning_once
from mothr.baselines.studies.datasets import EDGE_FIELDS, OpenedDataset, defined_pair_scores, open_datasets
from mothr.baselines.studies.regimes.gains import Edges, field_gains, pair_gains
from mothr.baselines.studies.regimes.measure import DIRECTION_ACCURACY, Measure
from mothr.baselines.studies.roots import INITIAL_SHARE_LIMITS, KURTOSIS_LIMITS, interval_name, interval_names
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.result_cache import in_memory

TRAINING_FIELDS = ("kind", "optimizer", "learning_rate", "weight_decay", "steps", "rank", "task")
"""The fields that together say how a child was trained."""
REGIME_LABELS = {
    "learning_rate": "lr {}", "weight_decay": "decay {}", "steps": "{} steps", "rank": "rank {}", "depth": "depth {}",
    "withheld": "{} withheld", "root_kurtosis": "root kurtosis {}", "root_initial_share": "root's initial share {}",
    "batch_size": "batch {}", "averaging": "averaging: {}", "label_noise": "label noise: {}", "l2_sp": "L2-SP: {}",
    "task_rule": "task rule {}", "root_steps": "root {} steps", "root_optimizer": "root {}",
    "root_weight_decay": "root's decay {}", "width": "width {}", "layers": "{} layers", "way": "way {}",
}  # fmt: skip
"""Field whose values do not name it -> its text in the name of a regime that combines several fields."""

FIELD_LIMITS: Mapping[str, tuple[float, ...]] = {
    "root_kurtosis": KURTOSIS_LIMITS,
    "root_initial_share": INITIAL_SHARE_LIMITS,
    "learning_rate": (3e-5, 1e-4, 3e-4, 1e-3),
    "weight_decay": (0.01, 0.03, 0.1, 0.3),
    "steps": (60, 200, 600, 2000),
    "batch_size": (16, 32, 64, 128),
    "rank": (4, 8, 16, 32),
    "root_steps": (300, 1000, 3000, 10000),
    "root_weight_decay": (0.01, 0.03, 0.1, 0.3),
    "width": (64, 128, 256, 512),
    "layers": (4, 8, 16, 32),
    "way": (0.1, 0.3, 1, 3),
}
"""Numeric field -> the limits of its classes; see :func:`classed`."""
ABSENT = "absent"
"""Text of a value that is not recorded, such as the learning rate of a copy."""
MOST_CROSSED = 12
"""Largest number of values of each of the two fields that are crossed, so that their matrices stay readable."""
MEASURED_FIELDS = ("root_kurtosis", "root_initial_share", "way")
"""Fields that are real numbers of a tree or an edge, so that they are always grouped into classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupingSettings:
    """By which fields a regime map groups the edges.

    Raises:
        MothrError: An unknown field.
    """

    groupings: tuple[tuple[str, ...], ...] = (*((name,) for name in EDGE_FIELDS), TRAINING_FIELDS)
    """Groupings of the edges. Each is a tuple of fields; every combination of their values is a regime."""
    cross: bool = True
    """Whether the two fields that matter most together are one more grouping; see :func:`regime_map`."""
    max_values: int = 12
    """Largest number of values of a field of :data:`FIELD_LIMITS` that are regimes of their own; more are grouped into classes."""

    def __post_init__(self) -> None:
        for name in (name for fields in self.groupings for name in fields):
            if name not in EDGE_FIELDS:
                raise unknown_name("field", name, EDGE_FIELDS)


@dataclass(frozen=True, slots=True)
class RegimeMapSettings(GroupingSettings):
    """What a regime map of direction scores compares.

    Raises:
        MothrError: An unknown direction score, field or choice of layers, or a score that is a bound.
    """

    directions: tuple[str, ...] = tuple(name for name in DIRECTIONS if name not in BOUNDS)
    """Direction scores, names of ``mothr list directions``."""
    layers: str = "body"
    """Tensors that the scores are computed on; see :class:`mothr.benchmark.weights.layers.Layers`."""

    def __post_init__(self) -> None:
        GroupingSettings.__post_init__(self)
        for name in self.directions:
            find_direction(name)
            if name in BOUNDS:
                raise MothrError(
                    f"direction {name!r} reads no weights, so its accuracy is known beforehand; leave it out of the map"
                )
        Layers.parse(self.layers)


@dataclass(frozen=True, eq=False)
class RegimeMap:
    """The results in each regime, and how much each field says about the outcomes."""

    measure: Measure
    """What the numbers are."""
    trees: pd.DataFrame
    """Mean outcomes of each tree, from :func:`regime_accuracies`."""
    gains: pd.DataFrame
    """From :func:`mothr.baselines.studies.regimes.gains.field_gains`, for the fields of all groupings."""
    pairs: pd.DataFrame
    """From :func:`mothr.baselines.studies.regimes.gains.pair_gains`, for the same fields."""
    crossing: "Crossing | None"
    """The two fields that matter most together, if they were asked for and there are any."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Two fields, and where each of their regimes stands in a matrix: a row for a value of the first, a column for the second."""

    fields: tuple[str, str]
    """The two fields."""
    rows: tuple[str, ...]
    """Values of the first field, in ascending order; :data:`ABSENT` comes last."""
    columns: tuple[str, ...]
    """Values of the second field, likewise."""
    places: Mapping[str, tuple[int, int]]
    """Name of each regime -> its row and column."""

    @property
    def grouping(self) -> str:
        """Name of the grouping in :func:`regime_accuracies`."""
        return "*".join(self.fields)


def edge_rows(data: OpenedDataset) -> list[dict[str, Any]]:
    """Returns for each true edge where it is and the value of each of its fields, in the order of the graph's edges."""
    rows = []
    for edge in data.graph.edges:
        tree = data.tree_of[edge[1]]
        location = {
            "split": data.truth.split,
            "tree": tree,
            "origin": data.origins[tree],
            "parent": edge[0],
            "child": edge[1],
        }
        rows.append({**location, **data.edge_fields(edge)})
    return rows


def edge_outcomes(data: OpenedDataset, settings: RegimeMapSettings) -> pd.DataFrame:
    """Returns a row for each true edge and direction score, with the fields of the edge and whether the score is right.

    ``series`` is the score. ``value`` is 1 if the score names the parent, 0 if it names the child, 0.5 if it is undecided
    (score 0), and NaN if the score is undefined in this data set. A score whose sign depends on the stage takes the sign
    of specialisation.
    """
    edges = data.graph.edges
    if not edges:
        return pd.DataFrame()
    pairs = np.array([[data.position[node] for node in edge] for edge in edges])
    fields, outcomes = pd.DataFrame(edge_rows(data)), []
    for name in tqdm(settings.directions, desc=data.truth.split, unit="score", file=sys.stderr):
        scores = defined_pair_scores(data.models, name, pairs, Layers.parse(settings.layers))
        value = np.full(len(edges), np.nan) if scores is None else (np.sign(scores) + 1) / 2
        outcomes.append(fields.assign(series=name, value=value, items=1))
    return pd.concat(outcomes, ignore_index=True)


def join_outcomes(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Returns the outcomes of all data sets in one table.

    Raises:
        MothrError: No data set has an edge.
    """
    if all(table.empty for table in tables):
        raise MothrError(
            "no model of these data sets has a parent, so there is no edge to predict; name a data set with edges"
        )
    return pd.concat([table for table in tables if not table.empty], ignore_index=True)


def classed(outcomes: pd.DataFrame, max_values: int) -> pd.DataFrame:
    """Returns the table of :func:`edge_outcomes` with numbers replaced by classes, an ordered categorical column each.

    These are the fields of :data:`FIELD_LIMITS` that are measured, or that have more than ``max_values`` distinct values.
    The limits are fixed, so that two maps have the same classes. A number that is not known stays absent.
    """
    columns = {}
    for name, limits in FIELD_LIMITS.items():
        if name not in MEASURED_FIELDS and outcomes[name].nunique() <= max_values:
            continue
        values = [None if pd.isna(value) else interval_name(value, limits) for value in outcomes[name]]
        columns[name] = pd.Categorical(values, interval_names(limits), ordered=True)
    return outcomes.assign(**columns)


def regime_accuracies(outcomes: pd.DataFrame, groupings: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    """Returns a row for each regime, series and tree.

    ``value`` is the mean outcome of the tree's ``items`` edges, such as the share that a score directs right. An edge whose
    fields of a grouping are all unrecorded belongs to no regime of that grouping.

    Args:
        outcomes: Table from :func:`edge_outcomes`, with numbers as they are or :func:`classed`.
        groupings: Tuples of fields to group by.
    """
    tables = []
    for fields in groupings:
        recorded = outcomes.dropna(subset=list(fields), how="all")
        recorded = recorded.sort_values(list(fields), kind="stable", key=_sortable) if len(recorded) else recorded
        recorded = recorded.assign(
            grouping="*".join(fields), regime=[_regime(fields, row) for row in recorded[list(fields)].to_numpy()]
        )
        columns = ["grouping", "regime", "series", "split", "tree", "origin"]
        groups = recorded.groupby(columns, sort=False)
        tables.append(groups.agg(value=("value", "mean"), items=("value", "count")).reset_index())
    return pd.concat(tables, ignore_index=True)


def _sortable(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.where(column.notna())
    return column if pd.api.types.is_numeric_dtype(column) else column.astype(str)


def _regime(fields: Sequence[str], values: Iterable[Any]) -> str:
    """Returns the name of a regime: the recorded values of ``fields``, with :data:`REGIME_LABELS` if there are several fields."""
    labels = REGIME_LABELS if len(fields) > 1 else {}
    recorded = [(name, value) for name, value in zip(fields, values, strict=True) if not pd.isna(value)]
    return ", ".join(labels.get(name, "{}").format(_text(value)) for name, value in recorded)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def regime_map(folders: Sequence[Path], settings: RegimeMapSettings) -> RegimeMap:
    """Returns the map of all trees of the data sets in ``folders``. Progress is shown on stderr.

    Raises:
        MothrError: A data set cannot be opened, see :func:`mothr.baselines.studies.datasets.open_datasets`, or no data set
            has an edge.
    """
    with in_memory(), each_warning_once():
        outcomes = [edge_outcomes(data, settings) for data in open_datasets(folders, settings.layers)]
    return map_of_outcomes(join_outcomes(outcomes), settings, DIRECTION_ACCURACY)


def map_of_outcomes(
    outcomes: pd.DataFrame, settings: GroupingSettings, measure: Measure, judged: Sequence[str] = ()
) -> RegimeMap:
    """Returns the map of the outcomes of edges.

    The two fields that matter most together are the pair of largest gain among the fields of at most :data:`MOST_CROSSED`
    values. Of the two, the one of larger own gain comes first in their grouping.

    Args:
        outcomes: Table from :func:`edge_outcomes`, or another with the same columns.
        settings: By which fields the edges are grouped.
        measure: What the outcomes are.
        judged: Series whose outcomes the fields are to explain; all if empty.
    """
    table = classed(outcomes, settings.max_values)
    named = {name for fields in settings.groupings for name in fields}
    explained = table[table.series.isin(judged)] if judged else table
    edges = Edges.of(explained, [name for name in EDGE_FIELDS if name in named])
    gains, pairs = field_gains(edges), pair_gains(edges)
    few = gains[gains.regimes <= MOST_CROSSED].field
    readable = pairs[pairs["first"].isin(few) & pairs["second"].isin(few)]
    crossing = _crossing(table, readable) if settings.cross and len(readable) else None
    groupings = dict.fromkeys((*settings.groupings, *([crossing.fields] if crossing else [])))
    return RegimeMap(measure, regime_accuracies(table, list(groupings)), gains, pairs, crossing)


def _crossing(table: pd.DataFrame, pairs: pd.DataFrame) -> Crossing:
    """Returns the crossing of the first of ``pairs``; the field of larger gain gives the rows."""
    best = pairs.iloc[0]
    names = (str(best["first"]), str(best["second"]))
    fields = names if best.gain_first >= best.gain_second else (names[1], names[0])
    values = table[list(fields)].drop_duplicates().dropna(how="all")
    rows, columns = (_axis(values[name]) for name in fields)
    places = {}
    for row in values.to_numpy():
        first, second = (ABSENT if pd.isna(value) else _text(value) for value in row)
        places[_regime(fields, row)] = (rows.index(first), columns.index(second))
    return Crossing(fields, rows, columns, places)


def _axis(column: pd.Series) -> tuple[str, ...]:
    """Returns the texts of the values of a field, in ascending order; :data:`ABSENT` comes last."""
    ordered = column.drop_duplicates().sort_values(kind="stable", key=_sortable)
    recorded = [_text(value) for value in ordered if not pd.isna(value)]
    return (*dict.fromkeys(recorded), *([ABSENT] if column.isna().any() else []))
