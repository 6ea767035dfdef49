"""Which fields of an edge say whether a direction score is right on it, or whether a method finds it.

A field matters if the outcomes of other trees with the same value predict the outcome of an edge. The gain of a field is the share
of the variance of outcomes that is explained so, with the edge's own tree left out. It is negative for a field that does not help:
a mean over few edges of its regime predicts worse than the mean over all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mothr.benchmark.board import board
from mothr.benchmark.score.statistics import mean_interval

Codes = NDArray[np.intp]
"""(edges,) the number of the value of each edge, from 0."""
Values = NDArray[np.float64]
ALL = "all"
"""In place of a series, that is a direction score or a method: the mean gain over the series."""
DETERMINED = 0.95
"""One field determines another if the most frequent other value at each of its values is right for this share of the edges."""
GAIN_COLUMNS = ("field", "series", "gain", "low", "high", "regimes", "edges", "trees")
"""Columns of :func:`field_gains`."""
PAIR_COLUMNS = ("first", "second", "gain", "low", "high", "gain_first", "gain_second", "regimes", "edges", "trees")
"""Columns of :func:`pair_gains`."""


@dataclass(frozen=True, eq=False)
class Edges:
    """The outcomes of all series on the edges of a regime map, and the values of the fields that vary."""

    series: tuple[str, ...]
    """The direction scores, or the methods."""
    outcomes: Values
    """(edges, series): 1 if the series is right, 0 if it is wrong, between if it is so in part, NaN if it is undefined."""
    origins: Codes
    """Origin of the tree of each edge; see :attr:`mothr.baselines.studies.datasets.OpenedDataset.origins`."""
    fields: dict[str, Codes]
    """Field of several recorded values -> the value of each edge. An absent value is a value of its own.

    A field of one recorded value is left out. It only says whether the child was trained, which ``kind`` says as well.
    """

    @classmethod
    def of(cls, table: pd.DataFrame, fields: Sequence[str]) -> "Edges":
        """Returns the edges of a table from :func:`mothr.baselines.studies.regimes.map.edge_outcomes`.

        Args:
            table: The table, with numbers :func:`mothr.baselines.studies.regimes.map.classed`.
            fields: The fields to compare.
        """
        key = ["split", "parent", "child"]
        edges = table.drop_duplicates(key)
        series = tuple(dict.fromkeys(table.series))
        wide = table.pivot(index=key, columns="series", values="value")
        outcomes = wide.reindex(pd.MultiIndex.from_frame(edges[key]))[list(series)].to_numpy(float)
        several = [name for name in fields if edges[name].nunique() > 1]
        varied = {name: _codes(edges[name].astype(object).where(edges[name].notna(), "absent")) for name in several}
        return cls(series, outcomes, _codes(edges.origin), varied)

    def errors(self, codes: Codes) -> Values:
        """Returns the sums of squared errors, (origins, series), if each edge is predicted by other origins with its value.

        The prediction is the mean outcome of the edges of other origins with the same code. It is the mean over all
        edges of other origins if none of them has the code. An edge does not count if no other origin has an outcome.
        """
        known = ~np.isnan(self.outcomes)
        totals = np.stack([np.where(known, self.outcomes, 0.0), known.astype(float)])  # (2, edges, series)
        count = int(self.origins.max()) + 1
        own = self._others(totals, codes, codes * count + self.origins)
        everyone = np.zeros_like(codes)
        total, number = np.where(own[1] > 0, own, self._others(totals, everyone, self.origins))
        with np.errstate(invalid="ignore"):  # 0 / 0: no other origin has an outcome
            squared = (self.outcomes - total / number) ** 2
        sums = np.zeros((count, len(self.series)))
        np.add.at(sums, self.origins, np.nan_to_num(squared))
        return sums

    @staticmethod
    def _others(totals: Values, groups: Codes, parts: Codes) -> Values:
        """Returns the sums of ``totals``, (2, edges, series), over the group of each edge without its part of the group."""
        sums = []
        for rows in totals:
            of_group, of_part = (np.zeros((int(codes.max()) + 1, rows.shape[1])) for codes in (groups, parts))
            np.add.at(of_group, groups, rows)
            np.add.at(of_part, parts, rows)
            sums.append(of_group[groups] - of_part[parts])
        return np.round(np.stack(sums), 9)  # outcomes are fractions of few runs: no difference of equal sums stays


def field_gains(edges: Edges) -> pd.DataFrame:
    """Returns a row for each field and series, and one for their mean, :data:`ALL`; see :data:`GAIN_COLUMNS`.

    ``gain`` is 1 - SSE(field) / SSE(overall), with :meth:`Edges.errors`; ``low`` and ``high`` are the ends of its 95 %
    t-interval over origins. The field of the largest mean gain comes first. A series that is right or wrong on all edges
    has no variance to explain, and no row. No rows if all trees have one origin.
    """
    overall = edges.errors(np.zeros_like(edges.origins))
    rows = []
    for name, codes in edges.fields.items():
        shares = _shares(edges.errors(codes), overall)
        counts = {"regimes": int(codes.max()) + 1, "edges": len(codes), "trees": len(overall)}
        rows += [
            {"field": name, "series": series, **_interval(column), **counts}
            for series, column in _columns(shares, edges.series)
        ]
    table = pd.DataFrame(rows, columns=list(GAIN_COLUMNS)).astype({"low": float, "high": float})
    mean = table[table.series == ALL].set_index("field").gain
    order = table.field.map(mean) if len(table) else table.gain
    return table.assign(order=-order).sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True)


def pair_gains(edges: Edges) -> pd.DataFrame:
    """Returns a row for each pair of fields of which neither determines the other; see :data:`PAIR_COLUMNS`.

    ``gain`` is the mean gain of the combination over the series, as in :func:`field_gains`. The largest comes first.
    """
    overall = edges.errors(np.zeros_like(edges.origins))
    alone = {name: _mean_gain(edges.errors(codes), overall) for name, codes in edges.fields.items()}
    rows = []
    for first, second in combinations(edges.fields, 2):
        a, b = edges.fields[first], edges.fields[second]
        combined = _codes(pd.Series(a * (int(b.max()) + 1) + b))
        columns = dict(_columns(_shares(edges.errors(combined), overall), edges.series))
        if not columns or determines(a, b) or determines(b, a):
            continue
        names = {"first": first, "second": second, "gain_first": alone[first], "gain_second": alone[second]}
        counts = {"regimes": int(combined.max()) + 1, "edges": len(a), "trees": len(overall)}
        rows.append({**names, **_interval(columns[ALL]), **counts})
    table = pd.DataFrame(rows, columns=list(PAIR_COLUMNS)).astype({"low": float, "high": float})
    return table.sort_values("gain", ascending=False, kind="stable").reset_index(drop=True)


def determines(first: Codes, second: Codes) -> bool:
    """Returns whether the value of ``first`` tells that of ``second`` on a share of :data:`DETERMINED` of the edges."""
    table = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(table, (first, second), 1)
    return bool(table.max(axis=1).sum() >= DETERMINED * len(first))


def _codes(column: pd.Series) -> Codes:
    return np.asarray(pd.factorize(column)[0], dtype=np.intp)


def _shares(errors: Values, overall: Values) -> Values:
    """Returns values of each origin, (origins, series), whose mean over origins is 1 - SSE / SSE(overall).

    They are the linear terms of the ratio of two sums over origins, so that their t-interval is that of the ratio. A
    column is NaN if SSE(overall) is 0, or if there is one origin.
    """
    total = overall.sum(axis=0)
    scale = np.where((total > 0) & (len(overall) > 1), total, np.nan)
    gain = 1 - errors.sum(axis=0) / scale
    return gain + len(overall) * (overall - errors - gain * overall) / scale


def _mean_gain(errors: Values, overall: Values) -> float:
    columns = dict(_columns(_shares(errors, overall), [""] * overall.shape[1]))
    return float(columns[ALL].mean()) if columns else float("nan")


def _columns(shares: Values, series: Sequence[str]) -> Iterator[tuple[str, Values]]:
    """Yields the defined columns of ``shares`` with their names: first their mean, then each series."""
    defined: NDArray[np.bool_] = np.logical_not(np.isnan(shares).any(axis=0))
    if defined.any():
        yield ALL, shares[:, defined].mean(axis=1)
        yield from ((name, shares[:, index]) for index, name in enumerate(series) if defined[index])


def _interval(shares: Values) -> dict[str, float | None]:
    interval = mean_interval(shares, board.LEVEL)
    return {"gain": interval.mean, "low": interval.low, "high": interval.high}
