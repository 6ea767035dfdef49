"""Tables and the figure of the scale study."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mothr.baselines.studies.output import (
    BOUND_COLOUR,
    GRID_COLOUR,
    LANDSCAPE_WIDTH,
    draw_caption,
    save_figure,
    wrapped_caption,
    write_table,
)
from mothr.baselines.studies.scale.means import AXES, group_order, scale_means, size_agreement
from mothr.baselines.studies.scale.trees import DIRECTION, METHOD, PUBLISHED, TRAINED
from mothr.benchmark.storage import write_error

ROWS = {DIRECTION: "edges directed right", METHOD: "edge F1"}
"""Kind of a row of the table -> the label of its vertical axis."""
PANEL_HEIGHT = 2.3
"""Height of a panel in inches."""
MARKERS = "os^Dv"
"""Markers of names of one colour."""
Style = tuple[tuple[float, float, float, float], str]
"""Colour (RGBA) and marker."""
SPREAD = 0.5
"""Width in which the marks of one group stand side by side; two groups are 1 apart."""


def write_scale(folder: Path, trees: pd.DataFrame, caption: str) -> list[str]:
    """Writes ``scale`` (means and the figure), ``scale-trees`` (a row a tree) and ``agreement``; returns all file names.

    Args:
        folder: Where to write.
        trees: Table from :func:`mothr.baselines.studies.scale.trees.scale_table`.
        caption: What was measured, and how.

    Raises:
        MothrError: The disk is full, or ``folder`` cannot be written.
    """
    means = scale_means(trees)
    try:
        write_table(means, folder / "scale")
        write_table(trees, folder / "scale-trees")
        write_table(size_agreement(trees), folder / "agreement")
        save_figure(
            partial(scale_figure, means, f"{caption} Data: {', '.join(dict.fromkeys(trees.split))}."), folder / "scale"
        )
    except OSError as error:
        raise write_error(folder, error) from error
    return sorted(entry.name for entry in folder.iterdir())


def scale_figure(means: pd.DataFrame, caption: str) -> Figure:
    """Returns the figure: direction scores above, methods below; a column for each of :data:`AXES`.

    Methods with other parameters than their own are in the table alone.

    Args:
        means: Table from :func:`mothr.baselines.studies.scale.means.scale_means`.
        caption: Text below the figure.
    """
    caption = (
        "Mean over Model Trees with its 95 % t-interval; no interval for one tree. Filled, joined: the root was trained from random "
        f"weights. Open: the root is a published model. {caption}"
    )
    caption_height = 0.15 + 0.125 * len(wrapped_caption(caption, LANDSCAPE_WIDTH))
    height = 0.3 + len(ROWS) * PANEL_HEIGHT
    figure = Figure(figsize=(LANDSCAPE_WIDTH, height + caption_height), layout="constrained")
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, caption_height])
    panels = upper.subplots(len(ROWS), len(AXES) + 1, squeeze=False, width_ratios=[*(3 for _ in AXES), 1.6])
    for row, (kind, label) in enumerate(ROWS.items()):
        shown = means[(means.kind == kind) & means.plain]
        styles = _styles(sorted(set(shown.name)))
        for column, axis in enumerate(AXES):
            axes = panels[row, column]
            _draw_panel(axes, shown[shown["axis"] == axis], group_order(axis, means), styles)
            axes.set_xlabel(AXES[axis] if row else "")
            axes.set_ylabel(label if column == 0 else "")
        panels[row, -1].set_axis_off()
        handles = [
            Line2D([], [], color=colour, marker=marker, markersize=3.5, linewidth=1, label=name.replace("_", " "))
            for name, (colour, marker) in styles.items()
        ]
        panels[row, -1].legend(
            handles=handles, loc="center left", frameon=False, fontsize=7, title=f"{kind}s", alignment="left"
        )
    draw_caption(lower, caption, LANDSCAPE_WIDTH)
    return figure


def _styles(names: Sequence[str]) -> dict[str, Style]:
    """Returns a colour and a marker for each name; the marker changes once all colours are used."""
    palette = matplotlib.colormaps["tab10"]
    return {
        name: (palette(number % palette.N), MARKERS[number // palette.N % len(MARKERS)])
        for number, name in enumerate(names)
    }


def _draw_panel(axes: Axes, means: pd.DataFrame, groups: list[str], styles: Mapping[str, Style]) -> None:
    """Draws the means of one axis: a style for each name, side by side within a group."""
    place = {name: position for position, name in enumerate(groups)}
    shifts = {name: SPREAD * ((number + 0.5) / len(styles) - 0.5) for number, name in enumerate(styles)}
    for name, root in dict.fromkeys(zip(means.name, means.root, strict=True)):
        points, (colour, marker) = means[(means.name == name) & (means.root == root)], styles[name]
        x = np.array([place[group] for group in points.group]) + shifts[name]
        mean, low, high = (points[column].to_numpy() for column in ("mean", "low", "high"))
        order = np.argsort(x)
        errors = np.nan_to_num(np.stack([mean - low, high - mean]))
        axes.errorbar(
            x[order], mean[order], errors[:, order], color=colour, marker=marker, markersize=3.5, capsize=0, elinewidth=0.7,
            linewidth=1 if root == TRAINED else 0, markerfacecolor="white" if root == PUBLISHED else colour,
        )  # fmt: skip
    axes.axhline(0.5, color=BOUND_COLOUR, linewidth=0.6, linestyle=":")
    labels = [re.sub("(below|(?= to)|(?= or)) ", "\\1\n", name) for name in groups]
    axes.set_xticks(range(len(groups)), labels, fontsize=6.5)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
