"""Tables and heat maps of the regime map."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mothr.baselines.studies.measurements import mean_over_trees
from mothr.baselines.studies.output import LANDSCAPE_WIDTH, draw_caption, save_figure, wrapped_caption, write_table
from mothr.benchmark.storage import write_error

ROWS_PER_FIGURE = 40
"""Largest number of regimes in one figure."""


def write_regime_map(folder: Path, trees: pd.DataFrame, caption: str) -> list[str]:
    """Writes ``map`` (means over trees), ``map-trees`` (a row a tree) and the heat maps; returns the names of all files.

    Args:
        folder: Where to write.
        trees: Table from :func:`mothr.baselines.studies.regimes.regime_map`.
        caption: What the accuracies were measured with.

    Raises:
        MothrError: The disk is full, or ``folder`` cannot be written.
    """
    cells = regime_cells(trees)
    caption = f"{caption} Data: {', '.join(dict.fromkeys(trees.split))}."
    crossed = cells.grouping.str.contains("*", regex=False)
    try:
        write_table(cells, folder / "map")
        write_table(trees, folder / "map-trees")
        for name, rows in (("map", ~crossed), ("map-crossed", crossed)):
            for number, page in enumerate(pages(cells[rows]), 1):
                save_figure(
                    partial(regime_figure, page, caption), folder / (name if number == 1 else f"{name}-{number}")
                )
    except OSError as error:
        raise write_error(folder, error) from error
    return sorted(entry.name for entry in folder.iterdir())


def regime_cells(trees: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each regime and direction score: mean accuracy over trees with its t-interval, ``trees``, ``edges``.

    The column ``apart`` says whether the interval excludes chance, 0.5.
    """
    cells = mean_over_trees(trees, ("grouping", "regime", "direction"), 0, 1)
    cells = cells.rename(columns={"mean": "accuracy", "items": "edges"})
    return cells.assign(apart=(cells.low > 0.5) | (cells.high < 0.5))


def pages(cells: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields the cells of at most :data:`ROWS_PER_FIGURE` regimes each.

    A grouping with a single regime is left out, unless every grouping has a single regime; then the first stays.
    """
    regimes = cells.groupby("grouping", sort=False).regime.nunique()
    shown = [name for name in regimes.index if regimes[name] > 1] or list(regimes.index[:1])
    rows = cells[cells.grouping.isin(shown)][["grouping", "regime"]].drop_duplicates()
    for start in range(0, len(rows), ROWS_PER_FIGURE):
        yield cells.merge(rows[start : start + ROWS_PER_FIGURE], on=["grouping", "regime"])


def regime_figure(cells: pd.DataFrame, caption: str) -> Figure:
    """Returns the heat map of ``cells``: a column for each direction score, a row for each regime, a heading for each grouping."""
    names = list(dict.fromkeys(cells.direction))
    rows: list[tuple[str, str | None]] = []
    for grouping, regime in dict.fromkeys(zip(cells.grouping, cells.regime, strict=True)):
        rows += [(grouping, None)] if grouping not in {heading for heading, _ in rows} else []
        rows.append((grouping, regime))
    caption = (
        "A cell shows the mean accuracy over Model Trees (trees of the same root count as one), and below it trees / edges. Bold: its "
        "95 % t-interval over trees excludes chance, 0.5, not corrected for the number of cells. In brackets: it includes chance, or "
        "there is one tree. A row pools all edges of its regime, whatever else differs between them. The intervals are in map.csv. "
        f"{caption}"
    )
    height, caption_height = 1.3 + 0.24 * len(rows), 0.15 + 0.125 * len(wrapped_caption(caption, LANDSCAPE_WIDTH))
    figure = Figure(figsize=(LANDSCAPE_WIDTH, height + caption_height), layout="constrained")
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, caption_height])
    axes, palette = upper.subplots(), matplotlib.colormaps["PuOr"]
    values = np.full((len(rows), len(names)), np.nan)
    for cell in cells.to_dict("records"):
        row, column = rows.index((cell["grouping"], cell["regime"])), names.index(cell["direction"])
        values[row, column] = cell["accuracy"]
        _draw_cell(axes, row, column, cell, palette(cell["accuracy"]))
    image = axes.imshow(values, palette, Normalize(0, 1), aspect="auto", interpolation="none")
    _label_rows_and_columns(axes, rows, names)
    bar = upper.colorbar(image, ax=axes, shrink=min(1.0, 8 / len(rows)), aspect=15, pad=0.01)
    bar.set_label("share of edges directed right")
    upper.suptitle("Which direction score tells parent from child, by what made the child", fontsize=9)
    draw_caption(lower, caption, LANDSCAPE_WIDTH)
    return figure


def _draw_cell(axes: Axes, row: int, column: int, cell: dict[Any, Any], colour: tuple[float, ...]) -> None:
    """Writes accuracy and counts into a cell, in black or white, whichever is readable on ``colour`` (RGBA)."""
    red, green, blue, _ = colour
    ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
    text, weight = (f"{cell['accuracy']:.2f}", "bold") if cell["apart"] else (f"({cell['accuracy']:.2f})", "normal")
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    axes.text(column, row - 0.16, text, fontsize=6.5, fontweight=weight, **style)
    axes.text(column, row + 0.28, f"{cell['trees']} / {cell['edges']}", fontsize=5, **style)


def _label_rows_and_columns(axes: Axes, rows: list[tuple[str, str | None]], names: list[str]) -> None:
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=7)
    axes.tick_params("x", labelrotation=90)
    axes.xaxis.tick_top()
    labels = [grouping.replace("_", " ").replace("*", ", ") if regime is None else regime for grouping, regime in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    for label, (_, regime) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if regime is None else "normal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
