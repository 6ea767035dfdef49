"""Figures of the regime map: heat maps of means over trees, the gains of fields, and two fields crossed."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

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
from mothr.baselines.studies.regimes.measure import Measure

BAR_COLOUR = "#0072B2"
"""Blue of Okabe and Ito (2008)."""
LOWEST_GAIN = -0.25
"""Smallest gain on the axis; a smaller one is drawn at the edge."""
COUNTS = ListedColormap(["#F7F7F7"])
"""Colour of a cell that shows numbers of trees and edges."""
TEXT_WIDTH = 0.075
"""Width of a letter of a label, in inches."""
COLUMN_LETTER = 0.052
"""Width of a letter of the label of a column, in inches."""
TITLE_LETTER = 0.062
"""Width of a letter of the title of a small matrix, in inches."""
TITLE_LINE = 0.12
"""Height of a line of it, in inches."""


def regime_figure(cells: pd.DataFrame, measure: Measure, caption: str, field: str | None = None) -> Figure:
    """Returns the heat map of ``cells``: a column for each series, a row for each regime, a heading for each grouping.

    Args:
        cells: Cells from :func:`mothr.baselines.studies.regimes.report.regime_cells`.
        measure: What the cells show.
        caption: What the outcomes were measured with.
        field: The only grouping, which the title then names.
    """
    names = list(dict.fromkeys(cells.series))
    rows: list[tuple[str, str | None]] = []
    for grouping, regime in dict.fromkeys(zip(cells.grouping, cells.regime, strict=True)):
        rows += [(grouping, None)] if grouping not in {heading for heading, _ in rows} else []
        rows.append((grouping, regime))
    caption = (
        f"A cell shows the mean {measure.value} over Model Trees (trees of the same root count as one), that is the {measure.share}; "
        f"below it trees / edges. {measure.mark_text} A row pools all edges of its regime, whatever else differs between them. The "
        f"intervals of the means are in map.csv. {caption}"
    )
    labels = [measure.label(name) for name in names]
    header = 0.45 + COLUMN_LETTER * max(len(line) for label in labels for line in label.split("\n"))
    figure, upper = _with_caption(LANDSCAPE_WIDTH, header + 0.24 * len(rows), caption)
    axes = upper.subplots()
    values = np.full((len(rows), len(names)), np.nan)
    for cell in cells.to_dict("records"):
        row, column = rows.index((cell["grouping"], cell["regime"])), names.index(cell["series"])
        values[row, column] = cell["mean"]
        _draw_cell(axes, row, column, cell, _palette(measure))
    image = axes.imshow(values, _palette(measure), Normalize(0, 1), aspect="auto", interpolation="none")
    _label_rows_and_columns(axes, rows, labels)
    bar = upper.colorbar(image, ax=axes, shrink=min(1.0, 8 / len(rows)), aspect=15, pad=0.01)
    bar.set_label(measure.share if len(rows) > 8 else measure.short_share)
    what = "what made the child" if field is None else _label(field)
    upper.suptitle(f"{measure.title}, by {what}", fontsize=9)
    return figure


def gains_figure(gains: pd.DataFrame, measure: Measure, caption: str) -> Figure:
    """Returns the bar chart of the mean gain of each field, with its interval and a dot for each series.

    Args:
        gains: From :func:`mothr.baselines.studies.regimes.gains.field_gains`.
        measure: What the outcomes are.
        caption: What the outcomes were measured with.
    """
    means, scores = gains[gains.series == ALL], gains[gains.series != ALL]
    caption = (
        f"The gain of a field: an edge's outcome, {measure.outcome}, is predicted by the mean outcome of the edges with the same value in "
        "other trees, and by the mean of all edges of other trees; gain = 1 - SSE of the first / SSE of the second. It is below 0 for a "
        f"field that does not help. Bar: mean over the {measure.series}s, with its 95 % t-interval over trees. Dot: one {measure.series}; "
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
    upper.suptitle(f"{measure.fields_title} (in brackets: number of values)", fontsize=9)
    return figure


def pair_figure(cells: pd.DataFrame, crossing: Crossing, measure: Measure, caption: str) -> Figure:
    """Returns a matrix for each series: a row for each value of the first field, a column for each of the second.

    A further matrix has the numbers of trees and edges.

    Args:
        cells: Cells of the crossing, from :func:`mothr.baselines.studies.regimes.report.regime_cells`.
        crossing: The two fields.
        measure: What the cells show.
        caption: What the outcomes were measured with.
    """
    names = list(dict.fromkeys(cells.series))
    first, second = map(_label, crossing.fields)
    caption = (
        f"Rows: {first}. Columns: {second}. These fields of few values explain the most of the outcomes together, of all pairs of "
        f"which neither determines the other; see field-pairs.csv. A cell shows the mean {measure.value} over Model Trees. "
        f"{measure.mark_text} Empty: no edge. The last matrix has the most trees, and below them the edges. {caption}"
    )
    margin = 0.3 + TEXT_WIDTH * max(map(len, crossing.rows))
    titles = [measure.label(name) for name in names]
    title_width = TITLE_LETTER * max(len(line) for title in titles for line in title.split("\n"))
    width = max(0.25 + 0.33 * len(crossing.columns), title_width)
    per_row = int(np.clip((LANDSCAPE_WIDTH - margin - 0.8) // width, 1, len(names) + 1))
    lines = -(-(len(names) + 1) // per_row)
    top = 0.2 + TEXT_WIDTH * max(map(len, crossing.columns)) + TITLE_LINE * max(title.count("\n") for title in titles)
    figure, upper = _with_caption(LANDSCAPE_WIDTH, 0.4 + lines * (top + 0.25 + 0.22 * len(crossing.rows)), caption)
    grid = upper.subplots(lines, per_row, squeeze=False)
    for axes in grid.flat[len(names) + 1 :]:
        axes.set_axis_off()
    for index, (axes, name, title) in enumerate(zip(grid.flat, names, titles, strict=False)):
        image = _draw_matrix(axes, cells[cells.series == name], crossing, _palette(measure))
        _label_matrix(axes, crossing, title, named_rows=index % per_row == 0)
    counted = cells.sort_values("edges").drop_duplicates("regime", keep="last")
    _draw_matrix(grid.flat[len(names)], counted, crossing, None)
    _label_matrix(grid.flat[len(names)], crossing, "trees, edges", named_rows=len(names) % per_row == 0)
    bar = upper.colorbar(image, ax=grid, shrink=min(1.0, 1.5 / lines), aspect=15, pad=0.01)
    bar.set_label(measure.share)
    upper.suptitle(f"{measure.title}, by {first} (rows) and {second} (columns)", fontsize=9)
    return figure


def _draw_matrix(axes: Axes, cells: pd.DataFrame, crossing: Crossing, palette: Colormap | None) -> AxesImage:
    """Draws the cells of one series at their places; without a palette, their numbers of trees and edges."""
    values = np.full((len(crossing.rows), len(crossing.columns)), np.nan)
    for cell in cells.to_dict("records"):
        row, column = crossing.places[cell["regime"]]
        values[row, column] = cell["mean"]
        if palette is None:
            axes.text(
                column,
                row,
                f"{cell['trees']}\n{cell['edges']}",
                fontsize=4.5,
                linespacing=0.95,
                ha="center",
                va="center",
            )
        else:
            _draw_value(axes, row, column, cell, palette)
    return axes.imshow(values, palette or COUNTS, Normalize(0, 1), aspect="auto", interpolation="none")


def _label_matrix(axes: Axes, crossing: Crossing, title: str, *, named_rows: bool) -> None:
    axes.set_title(title, fontsize=7, fontweight="bold")
    axes.set_xticks(range(len(crossing.columns)), crossing.columns, rotation=90, fontsize=6)
    rows = crossing.rows if named_rows else [""] * len(crossing.rows)
    axes.set_yticks(range(len(crossing.rows)), rows, fontsize=6)
    _separate(axes, len(crossing.rows), len(crossing.columns))


def _with_caption(width: float, height: float, caption: str) -> tuple[Figure, SubFigure]:
    """Returns a figure with a caption below, and the part above it, ``width`` x ``height`` inches."""
    caption_height = 0.15 + 0.125 * len(wrapped_caption(caption, width))
    figure = Figure(figsize=(width, height + caption_height), layout="constrained")
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, caption_height])
    draw_caption(lower, caption, width)
    return figure, upper


def _palette(measure: Measure) -> Colormap:
    return matplotlib.colormaps[measure.palette]


def _label(grouping: str) -> str:
    return grouping.replace("_", " ").replace("*", ", ")


def _style(value: float, palette: Colormap) -> dict[str, Any]:
    """Returns the style of a text on the colour of ``value``: black or white, whichever is readable."""
    red, green, blue, _ = palette(value)
    ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
    return {"ha": "center", "va": "center", "color": ink}


def _marked(text: str, apart: bool | None) -> dict[str, Any]:
    """Returns the text and weight of a number: bold if it is ``apart``, in brackets if not, plain if this is not known."""
    return {"s": f"({text})" if apart is False else text, "fontweight": "bold" if apart else "normal"}


def _draw_cell(axes: Axes, row: int, column: int, cell: dict[Any, Any], palette: Colormap) -> None:
    """Writes the mean and the counts into a cell."""
    style = _style(cell["mean"], palette)
    axes.text(column, row - 0.16, **_marked(f"{cell['mean']:.2f}", cell["apart"]), fontsize=6.5, **style)
    axes.text(column, row + 0.28, f"{cell['trees']} / {cell['edges']}", fontsize=5, **style)


def _draw_value(axes: Axes, row: int, column: int, cell: dict[Any, Any], palette: Colormap) -> None:
    """Writes the mean into a small cell."""
    text = f"{cell['mean']:.2f}".removeprefix("0")
    axes.text(column, row, **_marked(text, cell["apart"]), fontsize=5.5, **_style(cell["mean"], palette))


def _label_rows_and_columns(axes: Axes, rows: list[tuple[str, str | None]], columns: list[str]) -> None:
    axes.set_xticks(range(len(columns)), columns, fontsize=7)
    axes.tick_params("x", labelrotation=90)
    axes.xaxis.tick_top()
    labels = [_label(grouping) if regime is None else regime for grouping, regime in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    for label, (_, regime) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if regime is None else "normal")
    _separate(axes, len(rows), len(columns))


def _separate(axes: Axes, rows: int, columns: int) -> None:
    """Draws white lines between the cells of a matrix, and no ticks."""
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
