"""Tables and figures of the regime map: what is written, and which regimes a figure shows."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mothr.baselines.studies.measurements import mean_over_trees
from mothr.baselines.studies.output import save_figure, write_table
from mothr.baselines.studies.regimes.figures import gains_figure, pair_figure, regime_figure
from mothr.baselines.studies.regimes.gains import ALL
from mothr.baselines.studies.regimes.map import RegimeMap
from mothr.baselines.studies.regimes.measure import Measure
from mothr.benchmark.storage import write_error

ROWS_PER_FIGURE = 40
"""Largest number of regimes in one figure."""


def write_regime_map(folder: Path, regimes: RegimeMap, caption: str) -> list[str]:
    """Writes the tables and figures of a regime map; returns the names of all files.

    Tables: ``map`` (means over trees), ``map-trees`` (a row a tree), ``fields`` and ``field-pairs`` (gains). Figures:
    see :func:`figures`. There are no gains if all trees have one origin.

    Args:
        folder: Where to write.
        regimes: From :func:`mothr.baselines.studies.regimes.map.regime_map`, or from
            :func:`mothr.baselines.studies.regimes.methods.method_map`.
        caption: What the outcomes were measured with.

    Raises:
        MothrError: The disk is full, or ``folder`` cannot be written.
    """
    cells = regime_cells(regimes)
    caption = f"{caption} Data: {', '.join(dict.fromkeys(regimes.trees.split))}."
    try:
        write_table(published(cells, regimes.measure), folder / "map")
        write_table(published(regimes.trees, regimes.measure), folder / "map-trees")
        for table, name in ((regimes.gains, "fields"), (regimes.pairs, "field-pairs")):
            if len(table):
                write_table(published(table, regimes.measure), folder / name)
        for name, draw in figures(regimes, cells, caption):
            save_figure(draw, folder / name)
    except OSError as error:
        raise write_error(folder, error) from error
    return sorted(entry.name for entry in folder.iterdir())


def figures(regimes: RegimeMap, cells: pd.DataFrame, caption: str) -> Iterator[tuple[str, partial[Figure]]]:
    """Yields the name of each figure, without a suffix, and the function that draws it.

    ``map`` shows the fields that matter most, as many as one page holds, ``map-<field>`` all regimes of one field, and
    ``map-crossed`` the groupings of several fields. ``fields`` shows the gains, and ``map-<first>-<second>`` the two
    fields that matter most together.

    Args:
        regimes: The map.
        cells: Its :func:`regime_cells`.
        caption: What the outcomes were measured with.
    """
    crossed = cells.grouping.str.contains("*", regex=False)
    pair = regimes.crossing.grouping if regimes.crossing else None
    single, several = cells[~crossed], cells[crossed & (cells.grouping != pair)]
    shown = overview(single, regimes.gains)
    left_out = single.grouping.nunique() - shown.grouping.nunique()
    note = "Fields are sorted by their gain, see fields.csv. " if len(regimes.gains) else ""
    note += f"{left_out} fields of a single value, of too many, or of less gain, are left out. " if left_out else ""
    yield from _paged("map", shown, regimes.measure, note + caption)
    varied = [name for name in single.grouping.unique() if single[single.grouping == name].regime.nunique() > 1]
    for name in varied:
        yield from _paged(
            f"map-{name.replace('_', '-')}", single[single.grouping == name], regimes.measure, caption, name
        )
    note = f"Of more than {ROWS_PER_FIGURE} regimes, those of the most edges are shown. "
    drawn = frequent(several)
    yield from _paged("map-crossed", drawn, regimes.measure, caption if len(drawn) == len(several) else note + caption)
    if len(regimes.gains):
        yield "fields", partial(gains_figure, regimes.gains, regimes.measure, caption)
    if regimes.crossing:
        name = f"map-{'-'.join(regimes.crossing.fields)}".replace("_", "-")
        drawn = cells[cells.grouping == pair]
        yield name, partial(pair_figure, drawn, regimes.crossing, regimes.measure, caption)


def _paged(
    name: str, cells: pd.DataFrame, measure: Measure, caption: str, field: str | None = None
) -> Iterator[tuple[str, partial[Figure]]]:
    for number, page in enumerate(pages(cells), 1):
        yield name if number == 1 else f"{name}-{number}", partial(regime_figure, page, measure, caption, field)


def regime_cells(regimes: RegimeMap) -> pd.DataFrame:
    """Returns a row for each regime and series: mean over trees with its t-interval, ``trees``, ``edges``.

    The column ``apart`` says whether the cell is marked; see :class:`mothr.baselines.studies.regimes.measure.Measure`.
    """
    cells = mean_over_trees(regimes.trees, ("grouping", "regime", "series"), 0, 1).rename(columns={"items": "edges"})
    return cells.assign(apart=pd.Series(regimes.measure.mark(cells, regimes.trees), cells.index, dtype=object))


def published(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Returns a table of the map under the names that its columns have in files, such as ``direction`` and ``accuracy``."""
    return table.rename(columns={"series": measure.column, "mean": measure.value})


def overview(cells: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """Returns the cells of as many fields as one figure holds: those of the largest mean gain, the largest first.

    Args:
        cells: Cells of groupings by one field.
        gains: The gains of the fields; fields that have none come last, in the order of ``cells``.
    """
    counts = cells.groupby("grouping", sort=False).regime.nunique()
    several = [name for name in counts.index if counts[name] > 1]
    ranked = [name for name in gains[gains.series == ALL].field if name in several]
    chosen: list[str] = []
    for name in [*ranked, *(name for name in several if name not in ranked)]:
        if sum(counts[chosen]) + counts[name] > ROWS_PER_FIGURE:
            continue  # a field of many values has a figure of its own
        chosen.append(name)
    return pd.concat([cells[cells.grouping == name] for name in chosen]) if chosen else cells


def frequent(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns the cells of at most :data:`ROWS_PER_FIGURE` regimes of each grouping: those of the most edges."""
    edges = cells.groupby(["grouping", "regime"], sort=False).edges.max()
    kept = edges.sort_values(ascending=False, kind="stable").groupby(level="grouping").head(ROWS_PER_FIGURE)
    return cells[pd.MultiIndex.from_frame(cells[["grouping", "regime"]]).isin(kept.index)]


def pages(cells: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields the cells of at most :data:`ROWS_PER_FIGURE` regimes each.

    A grouping with a single regime is left out, unless every grouping has a single regime; then the first stays.
    """
    regimes = cells.groupby("grouping", sort=False).regime.nunique()
    shown = [name for name in regimes.index if regimes[name] > 1] or list(regimes.index[:1])
    rows = cells[cells.grouping.isin(shown)][["grouping", "regime"]].drop_duplicates()
    for start in range(0, len(rows), ROWS_PER_FIGURE):
        yield cells.merge(rows[start : start + ROWS_PER_FIGURE], on=["grouping", "regime"])
