"""Figures of the regime map: heat maps of accuracies, the gains of fields, and two fields crossed."""

from functools import cache
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure

from mothr.baselines.studies.output import (
    BOUND_COLOUR,
    GRID_COLOUR,
    LANDSCAPE_WIDTH,
    PAGE_WIDTH,
    draw_caption,
    wrapped_caption,
)
from mothr.baselines.studies.regimes.gains import ALL
from mothr.baselines.studies.regimes.map import Crossing

BAR_COLOUR = "#0072B2"
"""Blue of Okabe and Ito (2008)."""
LOWEST_GAIN = -0.25
"""Smallest gain on the axis; a smaller one is drawn at the edge."""
TEXT_WIDTH = 0.075
"""Width of a letter of a label, in inches."""


def regime_figure(cells: pd.DataFrame, caption: str, field: str | None = None) -> Figure:
    """Returns the heat map of ``cells``: a column for each direction score, a row for each regime, a heading for each grouping.

    Args:
        cells: Cells from :func:`mothr.baselines.studies.regimes.report.regime_cells`.
        caption: What the accuracies were measured with.
        field: The only grouping, which the title then names.
    """
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
    figure, upper = _with_caption(LANDSCAPE_WIDTH, 1.3 + 0.24 * len(rows), caption)
    axes = upper.subplots()
    values = np.full((len(rows), len(names)), np.nan)
    for cell in cells.to_dict("records"):
        row, column = rows.index((cell["grouping"], cell["regime"])), names.index(cell["direction"])
        values[row, column] = cell["accuracy"]
        _draw_cell(axes, row, column, cell)
    image = axes.imshow(values, _palette(), Normalize(0, 1), aspect="auto", interpolation="none")
    _label_rows_and_columns(axes, rows, names)
    bar = upper.colorbar(image, ax=axes, shrink=min(1.0, 8 / len(rows)), aspect=15, pad=0.01)
    bar.set_label("share of edges directed right" if len(rows) > 8 else "share right")
    what = "what made the child" if field is None else _label(field)
    upper.suptitle(f"Which direction score tells parent from child, by {what}", fontsize=9)
    return figure


def gains_figure(gains: pd.DataFrame, caption: str) -> Figure:
    """Returns the bar chart of the mean gain of each field, with its interval and a dot for each direction score.

    Args:
        gains: From :func:`mothr.baselines.studies.regimes.gains.field_gains`.
        caption: What the outcomes were measured with.
    """
    means, scores = gains[gains.direction == ALL], gains[gains.direction != ALL]
    caption = (
        "The gain of a field: an edge's outcome, right or wrong, is predicted by the mean outcome of the edges with the same value in "
        "other trees, and by the mean of all edges of other trees; gain = 1 - SSE of the first / SSE of the second. It is below 0 for a "
        "field that does not help. Bar: mean over the direction scores, with its 95 % t-interval over trees. Dot: one direction score; "
        f"at the left edge it is below {LOWEST_GAIN:g}. The numbers are in fields.csv. {caption}"
    )
    figure, upper = _with_caption(PAGE_WIDTH, 0.9 + 0.2 * len(means), caption)
    axes, places = upper.subplots(), np.arange(len(means))
    gain = means.gain.to_numpy()
    ends = np.nan_to_num(np.stack([gain - means.low, means.high - gain]))
    axes.barh(places, gain, color=BAR_COLOUR, height=0.6, xerr=ends, error_kw={"elinewidth": 1, "capsize": 2})
    row_of = dict(zip(means.field, places, strict=True))
    heights = [row_of[name] for name in scores.field]
    axes.plot(scores.gain.clip(LOWEST_GAIN), heights, "o", color=BOUND_COLOUR, markersize=2.5, alpha=0.7, clip_on=False)
    axes.axvline(0, color=BOUND_COLOUR, linewidth=0.8)
    axes.set_yticks(
        places,
        [f"{_label(name)} ({count})" for name, count in zip(means.field, means.regimes, strict=True)],
        fontsize=7,
    )
    axes.set_ylim(len(means) - 0.4, -0.6)
    lowest = min([0.0, *scores.gain, *gain, *means.low.fillna(0)])
    axes.set_xlim(left=max(LOWEST_GAIN, lowest - 0.01))
    axes.set_xlabel("share of the variance of outcomes that the field explains in trees left out")
    axes.grid(axis="x", color=GRID_COLOUR, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    upper.suptitle("Which fields say whether a direction score is right (in brackets: number of values)", fontsize=9)
    return figure


def pair_figure(cells: pd.DataFrame, crossing: Crossing, caption: str) -> Figure:
    """Returns a matrix for each direction score: a row for each value of the first field, a column for each of the second.

    A further matrix has the numbers of trees and edges.

    Args:
        cells: Cells of the crossing, from :func:`mothr.baselines.studies.regimes.report.regime_cells`.
        crossing: The two fields.
        caption: What the accuracies were measured with.
    """
    names = list(dict.fromkeys(cells.direction))
    first, second = map(_label, crossing.fields)
    caption = (
        f"Rows: {first}. Columns: {second}. These fields of few values explain the most of the outcomes together, of all pairs of "
        "which neither determines the other; see field-pairs.csv. A cell shows the mean accuracy over Model Trees. Bold: its 95 % "
        "t-interval over trees excludes chance, 0.5, not corrected for the number of cells. In brackets: it includes chance, or "
        "there is one tree. "
        f"Empty: no edge. The last matrix has the most trees, and below them the edges. {caption}"
    )
    margin = 0.3 + TEXT_WIDTH * max(map(len, crossing.rows))
    width = 0.25 + 0.33 * len(crossing.columns)
    per_row = int(np.clip((LANDSCAPE_WIDTH - margin - 0.8) // width, 1, len(names) + 1))
    lines = -(-(len(names) + 1) // per_row)
    top = 0.2 + TEXT_WIDTH * max(map(len, crossing.columns))
    figure, upper = _with_caption(LANDSCAPE_WIDTH, 0.4 + lines * (top + 0.25 + 0.22 * len(crossing.rows)), caption)
    grid = upper.subplots(lines, per_row, squeeze=False)
    for axes in grid.flat[len(names) + 1 :]:
        axes.set_axis_off()
    for index, (axes, name) in enumerate(zip(grid.flat, [*names, None], strict=False)):
        values = np.full((len(crossing.rows), len(crossing.columns)), np.nan)
        chosen = (
            cells[cells.direction == name]
            if name
            else cells.sort_values("edges").drop_duplicates("regime", keep="last")
        )
        for cell in chosen.to_dict("records"):
            row, column = crossing.places[cell["regime"]]
            values[row, column] = cell["accuracy"] if name else 0.5
            _draw_value(axes, row, column, cell, counts=name is None)
        image = axes.imshow(values, _palette(), Normalize(0, 1), aspect="auto", interpolation="none")
        axes.set_title(name.replace("_", " ") if name else "trees, edges", fontsize=7, fontweight="bold")
        axes.set_xticks(range(len(crossing.columns)), crossing.columns, rotation=90, fontsize=6)
        axes.set_yticks(
            range(len(crossing.rows)), crossing.rows if index % per_row == 0 else [""] * len(crossing.rows), fontsize=6
        )
        _separate(axes, len(crossing.rows), len(crossing.columns))
    bar = upper.colorbar(image, ax=grid, shrink=min(1.0, 1.5 / lines), aspect=15, pad=0.01)
    bar.set_label("share of edges directed right")
    upper.suptitle(
        f"Which direction score tells parent from child, by {first} (rows) and {second} (columns)", fontsize=9
    )
    return figure


def _with_caption(width: float, height: float, caption: str) -> tuple[Figure, SubFigure]:
    """Returns a figure with a caption below, and the part above it, ``width`` x ``height`` inches."""
    caption_height = 0.15 + 0.125 * len(wrapped_caption(caption, width))
    figure = Figure(figsize=(width, height + caption_height), layout="constrained")
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, caption_height])
    draw_caption(lower, caption, width)
    return figure, upper


@cache
def _palette() -> Colormap:
    return matplotlib.colormaps["PuOr"]


def _label(grouping: str) -> str:
    return grouping.replace("_", " ").replace("*", ", ")


def _style(accuracy: float) -> dict[str, Any]:
    """Returns the style of a text on the colour of ``accuracy``: black or white, whichever is readable."""
    red, green, blue, _ = _palette()(accuracy)
    ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
    return {"ha": "center", "va": "center", "color": ink}


def _draw_cell(axes: Axes, row: int, column: int, cell: dict[Any, Any]) -> None:
    """Writes accuracy and counts into a cell."""
    style = _style(cell["accuracy"])
    text, weight = (f"{cell['accuracy']:.2f}", "bold") if cell["apart"] else (f"({cell['accuracy']:.2f})", "normal")
    axes.text(column, row - 0.16, text, fontsize=6.5, fontweight=weight, **style)
    axes.text(column, row + 0.28, f"{cell['trees']} / {cell['edges']}", fontsize=5, **style)


def _draw_value(axes: Axes, row: int, column: int, cell: dict[Any, Any], counts: bool) -> None:
    """Writes the accuracy into a small cell, or trees and edges below each other."""
    if counts:
        axes.text(column, row, f"{cell['trees']}\n{cell['edges']}", fontsize=4.5, linespacing=0.95, **_style(0.5))
        return
    accuracy = f"{cell['accuracy']:.2f}".removeprefix("0")
    text, weight = (accuracy, "bold") if cell["apart"] else (f"({accuracy})", "normal")
    axes.text(column, row, text, fontsize=5.5, fontweight=weight, **_style(cell["accuracy"]))


def _label_rows_and_columns(axes: Axes, rows: list[tuple[str, str | None]], names: list[str]) -> None:
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=7)
    axes.tick_params("x", labelrotation=90)
    axes.xaxis.tick_top()
    labels = [_label(grouping) if regime is None else regime for grouping, regime in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    for label, (_, regime) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if regime is None else "normal")
    _separate(axes, len(rows), len(names))


def _separate(axes: Axes, rows: int, columns: int) -> None:
    """Draws white lines between the cells of a matrix, and no ticks."""
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
