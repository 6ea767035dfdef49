"""Table and figure of an ablation, and its run records on request."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mothr.baselines.studies.ablation import BOUNDS, AblationRow, changed_fields, means_by_root
from mothr.baselines.studies.output import (
    BOUND_COLOUR,
    BOUND_DASHES,
    GRID_COLOUR,
    PAGE_WIDTH,
    save_figure,
    write_table,
)
from mothr.benchmark.data import dataset
from mothr.benchmark.records import store
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.storage import write_error

METRIC_STYLES = {"edge_accuracy": ("#0072B2", "o"), "direction_accuracy": ("#D55E00", "s")}
"""Metric -> colour (Okabe and Ito 2008) and marker; the markers differ in print without colour, too."""
PANELS_PER_ROW = 4
"""Largest number of panels side by side."""
FIELD_LABELS = {
    "distance": "distance {}",
    "lambda_": "λ = {}",
    "direction_layers": "layers {}",
    "direction_combine": "combine {}",
}
"""Field that panels differ in -> its text in a title."""
Panel = Mapping[str, AblationRow]
"""Direction score -> its row, for one choice of all other fields."""


def write(
    folder: Path,
    records: Sequence[RunRecord],
    rows: Sequence[AblationRow],
    table: pd.DataFrame,
    data: Path,
    *,
    with_records: bool = False,
) -> list[str]:
    """Writes the tables ``ablation`` and ``ablation-by-root`` as .csv and, where possible, .parquet, and the figure.

    Args:
        folder: Where to write.
        records: Records from :func:`mothr.baselines.studies.ablation.run`.
        rows: Their :func:`mothr.baselines.studies.ablation.summary`.
        table: Their :func:`mothr.baselines.studies.ablation.table_with_roots`.
        data: Folder of the data set.
        with_records: Whether to write ``records/`` too, a folder of results for ``mothr leaderboard``.

    Returns:
        The names of all files.

    Raises:
        MothrError: The disk is full, or ``folder`` cannot be written.
    """
    first = records[0]
    title = f"{first.split} v{first.split_version}, {first.setting}"
    try:
        write_table(table, folder / "ablation")
        write_table(means_by_root(table), folder / "ablation-by-root")
        save_figure(partial(ablation_figure, rows, title), folder / "ablation")
    except OSError as error:
        raise write_error(folder, error) from error
    if with_records:
        results = folder / "records"
        dataset.copy_to_results(data, results / store.folder_name(first.split, first.split_version))
        store.write(records, results)
    return sorted(entry.name for entry in folder.iterdir())


def ablation_figure(rows: Sequence[AblationRow], title: str) -> Figure:
    """Returns the figure of ``rows``: a panel for each choice of distance, weight, layers and combination.

    A panel has a mark with a t-interval over trees for each direction score, and a line for each bound. Direction scores are
    sorted by their mean edge accuracy over all panels.
    """
    panels: dict[tuple[Any, ...], dict[str, AblationRow]] = {}
    for row in rows:
        panels.setdefault(tuple(row.varied[field] for field in FIELD_LABELS), {})[row.varied["direction"]] = row
    names = [name for name in next(iter(panels.values())) if name not in BOUNDS]
    names.sort(key=lambda name: -np.nansum([_interval(panel[name], "edge_accuracy")[0] for panel in panels.values()]))
    changed = changed_fields(rows)
    columns = _columns(list(panels.values()), names, changed)
    panel_rows = -(-len(panels) // columns)
    single = len(panels) == 1  # the two metrics of a single panel are side by side; else one is below the other
    shape = (1, len(METRIC_STYLES)) if single else (len(METRIC_STYLES) * panel_rows, columns)
    height = 0.7 + shape[0] * (0.6 + 0.16 * len(names)) + 0.12 * panel_rows * len(changed)
    figure = Figure(figsize=(PAGE_WIDTH, height), layout="constrained")
    grid = figure.subplots(*shape, squeeze=False)  # sharex and sharey make drawing many times slower
    for axes in [] if single else grid[-len(METRIC_STYLES) :, len(panels) - (panel_rows - 1) * columns :].flat:
        axes.set_axis_off()
    for index, panel in enumerate(panels.values()):
        for offset, metric in enumerate(METRIC_STYLES):
            top = len(METRIC_STYLES) * (index // columns)
            axes = grid[0, offset] if single else grid[top + offset, index % columns]
            _draw_panel(axes, panel, names, metric)
            if offset == 0:
                axes.set_title("\n".join(_field_texts(panel[names[0]], changed)))
    for axes in grid[:, 1:].flat:
        axes.tick_params(axis="y", labelleft=False)
    constant = [field for field in FIELD_LABELS if field not in changed]
    figure.suptitle(f"{title}; {', '.join(_field_texts(rows[0], constant))}", fontsize=9)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=1 + len(BOUND_DASHES), frameon=False)
    return figure


def _columns(panels: Sequence[Panel], names: Sequence[str], changed: Sequence[str]) -> int:
    """Returns the number of panels side by side: the values of the field that changes fastest, if they fit."""
    columns = len({panel[names[0]].varied[changed[-1]] for panel in panels}) if changed else 1
    if columns > PANELS_PER_ROW:  # rows of equal length instead
        columns = -(-len(panels) // -(-len(panels) // PANELS_PER_ROW))
    return columns


def _draw_panel(axes: Axes, panel: Panel, names: Sequence[str], metric: str) -> None:
    colour, marker = METRIC_STYLES[metric]
    for bound, dashes in BOUND_DASHES.items():
        axes.axvline(_interval(panel[bound], metric)[0], color=BOUND_COLOUR, linestyle=dashes, linewidth=1)
    mean, low, high = np.array([_interval(panel[name], metric) for name in names]).T
    axes.errorbar(
        mean,
        range(len(names)),
        xerr=np.stack([mean - low, high - mean]),
        color=colour,
        marker=marker,
        markersize=4,
        capsize=2,
        linewidth=0,
        elinewidth=1,
    )
    for height in np.flatnonzero(np.isnan(mean)).tolist():
        axes.text(0.5, height, "undefined", color=BOUND_COLOUR, ha="center", va="center", fontsize=6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0", ".25", ".5", ".75", "1"))
    axes.set_xlim(-0.04, 1.04)
    axes.set_xlabel(metric.replace("_", " "))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _interval(row: AblationRow, metric: str) -> tuple[float, float, float]:
    """Returns (mean, low, high) of a metric; NaN where there is no value, so that nothing is drawn."""
    interval = row.intervals[metric]
    if interval is None:
        return np.nan, np.nan, np.nan
    low, high = (np.nan if end is None else end for end in (interval.low, interval.high))
    return interval.mean, low, high


def _legend() -> list[Line2D]:
    colour, marker = METRIC_STYLES["edge_accuracy"]
    label = "mean over trees with 95 % t-interval"
    return [
        Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1, label=label),
        *(
            Line2D([], [], color=BOUND_COLOUR, linestyle=dashes, linewidth=1, label=f"direction {name}")
            for name, dashes in BOUND_DASHES.items()
        ),
    ]


def _field_texts(row: AblationRow, fields: Sequence[str]) -> list[str]:
    return [FIELD_LABELS[field].format(row.cells([field])[field]) for field in fields]
