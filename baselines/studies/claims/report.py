"""Tables and figures of the tested claims. The figures are drawn from the tables alone."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mothr.baselines.studies.claims.measures import MEASURES, Measure, mean_points
from mothr.baselines.studies.claims.table import CLAIMS, Claim
from mothr.baselines.studies.output import (
    BOUND_COLOUR,
    BOUND_DASHES,
    GRID_COLOUR,
    LANDSCAPE_WIDTH,
    PAGE_WIDTH,
    draw_caption,
    save_figure,
    wrapped_caption,
    write_table,
)
from mothr.benchmark.storage import write_error

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of the series, from Okabe and Ito 2008; they also differ for readers with colour blindness."""
MARKERS = "osD^vPX"
BOUND_MARKERS = {"random": "x", "oracle": "+"}
DASHES: Sequence[Any] = ("-", (0, (4, 1.5)), (0, (1, 1)))
"""Dash patterns for the first, second and third use of each colour."""
NAMED_SPLITS = 12
"""Largest number of data sets that a caption names."""
ADJUSTED_RAND_LOW = -0.1
"""Lower end of the axis of the adjusted Rand index, which is rarely below 0, unless an interval goes lower."""

Styles = Mapping[str, Mapping[str, Any]]
"""Label of a series -> colour, marker and dash pattern."""


def write_claims(folder: Path, tables: Mapping[str, pd.DataFrame], caption: str) -> list[str]:
    """Writes, for each claim, a table of points, a table with a row a tree, and figures; returns the names of all files.

    Args:
        folder: Where to write.
        tables: Claim -> its table from :func:`mothr.baselines.studies.claims.table.measure_claims`; at least one.
        caption: What the claims were measured with.

    Raises:
        MothrError: The disk is full, or ``folder`` cannot be written.
    """
    try:
        for name, measurements in tables.items():
            points, claim = mean_points(measurements), CLAIMS[name]
            write_table(points, folder / name)
            write_table(measurements, folder / f"{name}-trees")
            for family in dict.fromkeys(points.family) if claim.figure_per_family else (None,):
                shown = points if family is None else points[points.family == family]
                splits = measurements.split if family is None else measurements.split[measurements.family == family]
                names = list(dict.fromkeys(splits))
                text = f"{caption} Data: {', '.join(names) if len(names) <= NAMED_SPLITS else f'{len(names)} splits'}."
                save_figure(
                    partial(claim_figure, claim, shown, text), folder / (name if family is None else f"{name}-{family}")
                )
    except OSError as error:
        raise write_error(folder, error) from error
    return sorted(entry.name for entry in folder.iterdir())


def claim_figure(claim: Claim, points: pd.DataFrame, caption: str) -> Figure:
    """Returns the figure of ``points``: a panel for each measure and part, a mark with its interval for each point.

    If x is a number, it is the horizontal axis, and the points of a series are joined. If x is a name, names are listed on the
    vertical axis.
    """
    several = points.family.nunique() > 1
    points = points.assign(label=points.series + ", " + points.family if several else points.series)
    styles = series_styles(list(dict.fromkeys(points.label)))
    panels = list(points.groupby(["measure", "panel"], sort=False))
    columns = min(claim.panels_per_row, len(panels))
    width = LANDSCAPE_WIDTH if columns > 3 else PAGE_WIDTH
    starts = range(0, len(panels), columns)
    heights = [max(_panel_height(rows) for _, rows in panels[start : start + columns]) for start in starts]
    longest = max((len(label) for label in styles), default=0)
    legend_columns = max(1, min(len(styles), int(width / (0.5 + 0.062 * longest))))
    caption = _full_caption(claim, caption)
    legend_height = 0.12 + 0.16 * -(-len(styles) // legend_columns)
    lower_height = legend_height + 0.125 * len(wrapped_caption(caption, width))
    figure = Figure(figsize=(width, 0.35 + sum(heights) + lower_height), layout="constrained")
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[0.35 + sum(heights), lower_height])
    grid = upper.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, ((measure, panel), rows) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, str(measure), str(panel), rows, styles, int(13 * width / columns))
    upper.suptitle(claim.title, fontsize=9)
    marks = [
        Line2D([], [], label=label or "all", linewidth=1, markersize=4, **style) for label, style in styles.items()
    ]
    lower.legend(handles=marks, loc="upper center", ncols=legend_columns, frameon=False, borderpad=0)
    draw_caption(lower, caption, width)
    return figure


def _full_caption(claim: Claim, caption: str) -> str:
    same_root = " Trees of the same root count as one." if claim.averaged_over == "Model Trees" else ""
    return (
        f"{claim.statement} Marks are means over n {claim.averaged_over}, bars are 95 % t-intervals. There is no bar if n is 1 "
        f"or if all values agree.{same_root} {caption}"
    )


def series_styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns colour, marker and dash pattern of each series; the bounds are grey, as in an ablation."""
    styles: dict[str, dict[str, Any]] = {}
    coloured = 0
    for label in labels:
        bound = label.split(", ")[0]
        if bound in BOUND_DASHES:
            styles[label] = {
                "color": BOUND_COLOUR,
                "linestyle": BOUND_DASHES[bound],
                "marker": BOUND_MARKERS[bound],
            }
            continue
        repeat, index = divmod(coloured, len(COLOURS))
        styles[label] = {
            "color": COLOURS[index],
            "linestyle": DASHES[repeat % len(DASHES)],
            "marker": MARKERS[(index + repeat) % len(MARKERS)],
        }
        coloured += 1
    return styles


def _panel_height(rows: pd.DataFrame) -> float:
    """Returns the height of a panel in inches."""
    if not isinstance(rows.x.iloc[0], str):
        return 1.75
    return 0.65 + rows.x.nunique() * max(0.16, 0.08 * rows.label.nunique())


def _draw_panel(
    axes: Axes, measure_name: str, panel: str, rows: pd.DataFrame, styles: Styles, title_width: int
) -> None:
    """Draws one panel; ``title_width`` is the number of characters in a line of its title."""
    draw = _draw_by_name if isinstance(rows.x.iloc[0], str) else _draw_by_number
    draw(axes, MEASURES[measure_name], rows, styles)
    trees = sorted({rows.trees.min(), rows.trees.max()})
    count = f"n = {' to '.join(map(str, trees))}"
    axes.set_title("\n".join([*textwrap.wrap(panel, title_width), count]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _interval_lengths(rows: pd.DataFrame) -> np.ndarray:
    return np.stack([rows["mean"] - rows.low, rows.high - rows["mean"]])


def _draw_by_number(axes: Axes, measure: Measure, rows: pd.DataFrame, styles: Styles) -> None:
    """Draws values against numbers x."""
    labels, x_values = list(dict.fromkeys(rows.label)), np.unique(rows.x.astype(float))
    gap = float(np.diff(x_values).min()) if len(x_values) > 1 else 1.0
    threshold = float(x_values[x_values > 0].min(initial=1.0))
    for index, label in enumerate(labels):
        points = rows[rows.label == label].sort_values("x")
        shift = (index - (len(labels) - 1) / 2) / max(len(labels), 4)  # so that bars do not cover each other
        x = points.x.astype(float).to_numpy()
        x = _shifted(x, measure, shift, gap, threshold)
        bars, style = _interval_lengths(points), styles[label]
        axes.errorbar(x, points["mean"], yerr=bars, markersize=3, linewidth=1, elinewidth=0.7, capsize=1.5, **style)
    _scale_x(axes, measure, x_values, threshold)
    axes.set_xlabel(measure.x)
    axes.set_ylabel("\n".join(textwrap.wrap(measure.y, 18)))
    axes.grid(color=GRID_COLOUR, linewidth=0.5)
    _set_value_limits(axes, measure, "y", rows)


def _shifted(x: np.ndarray, measure: Measure, shift: float, gap: float, threshold: float) -> np.ndarray:
    """Returns ``x`` moved by ``shift`` of the gap between two values; on a logarithmic scale, multiplied instead of added."""
    if measure.scale == "linear":
        return x + 0.25 * gap * shift
    return np.where(x > 0, x * 1.15**shift, 0.15 * threshold * shift)


def _scale_x(axes: Axes, measure: Measure, x_values: np.ndarray, threshold: float) -> None:
    """Sets the scale and the ticks of the x axis; below ``threshold`` a symmetric logarithmic scale is linear."""
    if measure.scale == "log":
        axes.set_xscale("log", base=2)
    if measure.scale == "symlog":
        axes.set_xscale("symlog", linthresh=threshold, linscale=0.5)
    if len(x_values) <= 8 or measure.scale != "linear":
        scales: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "log": np.log2,
            "symlog": lambda x: np.arcsinh(x / threshold),
        }
        ticks = spaced_ticks(x_values, scales.get(measure.scale, np.positive))
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.minorticks_off()
    elif np.equal(x_values, x_values.round()).all():
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def spaced_ticks(values: np.ndarray, scale: Callable[[np.ndarray], np.ndarray]) -> list[float]:
    """Returns those of the sorted ``values`` whose labels do not overlap on an axis with this ``scale``."""
    positions, lengths = scale(values), [len(f"{value:g}") for value in values]
    span = positions[-1] - positions[0]
    kept: list[int] = []
    for index in range(len(values)):
        last = kept[-1] if kept else None
        if (
            last is None
            or positions[index] - positions[last] > (0.035 + 0.02 * (lengths[index] + lengths[last])) * span
        ):
            kept.append(index)
    return values[kept].tolist()


def _draw_by_name(axes: Axes, measure: Measure, rows: pd.DataFrame, styles: Styles) -> None:
    """Draws values beside names x."""
    names, labels = list(dict.fromkeys(rows.x)), list(dict.fromkeys(rows.label))
    for label in labels:
        for point in rows[rows.label == label].to_dict("records"):
            present = set(rows.label[rows.x == point["x"]])
            beside = [other for other in labels if other in present]
            y = names.index(point["x"]) + (beside.index(label) - (len(beside) - 1) / 2) * 0.7 / max(len(beside), 2)
            bar = [[point["mean"] - point["low"]], [point["high"] - point["mean"]]]
            style = {**styles[label], "linestyle": "none"}
            axes.errorbar([point["mean"]], [y], xerr=bar, markersize=3, elinewidth=0.7, capsize=1.5, **style)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel(measure.x)
    axes.set_xlabel(measure.y)
    axes.grid(axis="x", color=GRID_COLOUR, linewidth=0.5)
    _set_value_limits(axes, measure, "x", rows)


def _set_value_limits(axes: Axes, measure: Measure, side: Literal["x", "y"], rows: pd.DataFrame) -> None:
    """Sets the limits of the axis of values to the range of the measure, where that is finite, and draws a line at chance."""
    set_limits, draw_line = (axes.set_xlim, axes.axvline) if side == "x" else (axes.set_ylim, axes.axhline)
    if np.isfinite(measure.low) and np.isfinite(measure.high):
        is_rand = measure is MEASURES["adjusted_rand"]
        low = min(ADJUSTED_RAND_LOW, float(rows.low.min())) if is_rand else measure.low
        margin = 0.04 * (measure.high - low)
        set_limits(low - margin, measure.high + margin)
    elif np.isfinite(measure.low):
        set_limits(measure.low, None)
    if measure.chance is not None:
        draw_line(measure.chance, color=BOUND_COLOUR, linewidth=0.7, linestyle=":")
