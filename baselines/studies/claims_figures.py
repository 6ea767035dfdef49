"""What a map and tested claims leave behind: tidy tables, and figures drawn from nothing but these."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mothr.baselines.studies.ablation_report import INK, STYLE, STYLES, WIDTH, parquet_engine, save
from mothr.baselines.studies.claims import CLAIMS, MEASURES, Claim, points
from mothr.baselines.studies.regimes import over_trees
from mothr.benchmark.storage import cannot_write

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito 2008."""
MARKERS = "osD^vPX"
BOUND_MARKERS = {"random": "x", "oracle": "+"}
DASHES: Sequence[Any] = ("-", (0, (4, 1.5)), (0, (1, 1)))
"""Of the first, second and third round through the colours."""
WIDE = 9.5
"""Inches: a printed page on its side."""
PAGE = 40
"""Most rows of a map in one figure."""


# --- tables ---


def _write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path.with_suffix(".csv"), index=False)
    if parquet_engine():
        table.astype({"x": str} if "x" in table else {}).to_parquet(path.with_suffix(".parquet"), index=False)


def write_map(place: Path, trees: pd.DataFrame, about: str) -> list[str]:
    """Returns the names of what it wrote into ``place``: ``map`` (means over trees), ``map-trees`` (a row a tree), and the figures.

    Args:
        place: Where to write.
        trees: What :func:`mothr.baselines.studies.regimes.survey` returned.
        about: What it was measured with, for the caption.

    Raises:
        MothrError: the disk is full, or ``place`` cannot be written.
    """
    cells = map_cells(trees)
    caption, crossed = (
        f"{about} Data: {', '.join(dict.fromkeys(trees.split))}.",
        cells.grouping.str.contains("*", regex=False),
    )
    try:
        _write_table(cells, place / "map")
        _write_table(trees, place / "map-trees")
        for name, part in (("map", ~crossed), ("map-crossed", crossed)):
            for number, page in enumerate(_pages(cells[part]), 1):
                with matplotlib.rc_context(STYLE):
                    save(map_figure(page, caption), place / (name if number == 1 else f"{name}-{number}"))
    except OSError as error:
        raise cannot_write(place, error) from error
    return sorted(entry.name for entry in place.iterdir())


def map_cells(trees: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each regime and score: accuracy with its t-interval over trees, ``trees``, ``edges`` and ``apart``.

    ``apart`` says whether the interval leaves out chance, 0.5.
    """
    cells = over_trees(trees, ("grouping", "regime", "direction"), 0, 1).rename(
        columns={"mean": "accuracy", "items": "edges"}
    )
    return cells.assign(apart=(cells.low > 0.5) | (cells.high < 0.5))


def write_claims(place: Path, found: Mapping[str, pd.DataFrame], about: str) -> list[str]:
    """Returns the names of what it wrote into ``place``: of each claim a table, a table with a row a tree, and a figure.

    Args:
        place: Where to write.
        found: Claim -> its :func:`mothr.baselines.studies.claims.values`, at least one.
        about: What they were measured with, for the captions.

    Raises:
        MothrError: the disk is full, or ``place`` cannot be written.
    """
    try:
        for name, values in found.items():
            table, claim = points(values), CLAIMS[name]
            _write_table(table, place / name)
            _write_table(values, place / f"{name}-trees")
            for family in dict.fromkeys(table.family) if claim.apart else (None,):
                shown = table if family is None else table[table.family == family]
                splits = values.split if family is None else values.split[values.family == family]
                with matplotlib.rc_context(STYLE):
                    caption = f"{about} Data: {', '.join(dict.fromkeys(splits))}."
                    save(claim_figure(claim, shown, caption), place / (name if family is None else f"{name}-{family}"))
    except OSError as error:
        raise cannot_write(place, error) from error
    return sorted(entry.name for entry in place.iterdir())


# --- the map ---


def _pages(cells: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields the cells of at most :data:`PAGE` rows each; a grouping that makes no difference stands only where it is alone."""
    regimes = cells.groupby("grouping", sort=False).regime.nunique()
    telling = [name for name in regimes.index if regimes[name] > 1] or list(regimes.index[:1])
    rows = cells[cells.grouping.isin(telling)][["grouping", "regime"]].drop_duplicates()
    for start in range(0, len(rows), PAGE):
        yield cells.merge(rows[start : start + PAGE], on=["grouping", "regime"])


def map_figure(cells: pd.DataFrame, caption: str) -> Figure:
    """Returns the heat map of ``cells``: a column a direction score, a row a regime, groupings under headings."""
    names = list(dict.fromkeys(cells.direction))
    rows: list[tuple[str, str | None]] = []
    for grouping, regime in dict.fromkeys(zip(cells.grouping, cells.regime, strict=True)):
        rows += [(grouping, None)] if grouping not in {above for above, _ in rows} else []
        rows.append((grouping, regime))
    caption = (
        "In a cell: mean accuracy over Model Trees (those of the same root count as one), and below it trees / edges. Bold: its 95 % "
        "t-interval over trees leaves out chance, 0.5, not corrected for the number of cells; in brackets: it does not, or there is one "
        f"tree. A row pools all edges of its regime, whatever else differs between them. The intervals are in map.csv. {caption}"
    )
    values = np.full((len(rows), len(names)), np.nan)
    tall, foot = 1.3 + 0.24 * len(rows), 0.15 + 0.125 * len(_wrapped(caption, WIDE))
    drawn = Figure(figsize=(WIDE, tall + foot), layout="constrained")
    (above,), (below,) = drawn.subfigures(2, 1, squeeze=False, height_ratios=[tall, foot])
    axes, palette = above.subplots(), matplotlib.colormaps["PuOr"]
    for cell in cells.to_dict("records"):
        row, column = rows.index((cell["grouping"], cell["regime"])), names.index(cell["direction"])
        values[row, column] = accuracy = cell["accuracy"]
        red, green, blue, _ = palette(accuracy)
        ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
        text = f"{accuracy:.2f}" if cell["apart"] else f"({accuracy:.2f})"
        middle: Any = {"ha": "center", "va": "center", "color": ink}
        axes.text(column, row - 0.16, text, fontsize=6.5, fontweight="bold" if cell["apart"] else "normal", **middle)
        axes.text(column, row + 0.28, f"{cell['trees']} / {cell['edges']}", fontsize=5, **middle)
    image = axes.imshow(values, palette, Normalize(0, 1), aspect="auto", interpolation="none")
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=7)
    axes.tick_params("x", labelrotation=90)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), [_row_name(*row) for row in rows], fontsize=7)
    for label, (_, regime) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if regime is None else "normal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    bar = above.colorbar(image, ax=axes, shrink=min(1.0, 8 / len(rows)), aspect=15, pad=0.01)
    bar.set_label("share of edges directed right")
    above.suptitle("Which direction score tells parent from child, by what made the child", fontsize=9)
    _caption(below, caption, WIDE)
    return drawn


def _row_name(grouping: str, regime: str | None) -> str:
    return grouping.replace("_", " ").replace("*", ", ") if regime is None else regime


# --- claims ---


def claim_figure(claim: Claim, table: pd.DataFrame, caption: str) -> Figure:
    """Returns the figure of ``table``: a panel for each measure and part, a mark with its interval for each point.

    Where x is a number, values stand above it and are joined; where it is a name, values lie beside it.
    """
    several = table.family.nunique() > 1
    table = table.assign(label=table.series + ", " + table.family if several else table.series)
    styles = _styles(list(dict.fromkeys(table.label)))
    panels = list(table.groupby(["measure", "panel"], sort=False))
    columns = min(claim.columns, len(panels))
    width = WIDE if columns > 3 else WIDTH
    heights = [
        max(_height(part) for _, part in panels[start : start + columns]) for start in range(0, len(panels), columns)
    ]
    longest = max((len(label) for label in styles), default=0)
    across = max(1, min(len(styles), int(width / (0.5 + 0.062 * longest))))
    foot = 0.12 + 0.16 * -(-len(styles) // across) + 0.125 * len(_wrapped(_whole(claim, caption), width))
    drawn = Figure(figsize=(width, 0.35 + sum(heights) + foot), layout="constrained")
    (above,), (below,) = drawn.subfigures(2, 1, squeeze=False, height_ratios=[0.35 + sum(heights), foot])
    grid = above.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, ((measure, panel), part) in zip(grid.flat, panels, strict=False):
        named = isinstance(part.x.iloc[0], str)
        (_beside if named else _above)(axes, str(measure), part, styles)
        trees = sorted({part.trees.min(), part.trees.max()})
        about = f"n = {' to '.join(map(str, trees))}"
        axes.set_title("\n".join([*textwrap.wrap(str(panel), int(13 * width / columns)), about]))
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    above.suptitle(claim.title, fontsize=9)
    marks = [
        Line2D([], [], label=label or "all", linewidth=1, markersize=4, **style) for label, style in styles.items()
    ]
    below.legend(handles=marks, loc="upper center", ncols=across, frameon=False, borderpad=0)
    _caption(below, _whole(claim, caption), width)
    return drawn


def _whole(claim: Claim, caption: str) -> str:
    same = " Trees of the same root count as one." if claim.over == "Model Trees" else ""
    bars = "bars 95 % t-intervals; where no bar shows there is one alone, or all agree"
    return f"Marks are means over {claim.over}, n of them, and {bars}.{same} {caption}"


def _wrapped(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, int(21.5 * width), break_on_hyphens=False)


def _caption(place: Any, text: str, width: float) -> None:
    place.text(
        0.01, 0.03, "\n".join(_wrapped(text, width)), fontsize=6.5, color=INK, va="bottom", ha="left", linespacing=1.3
    )


def _styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns colour, marker and dash of each label; the bounds are grey, as in ablations."""
    found: dict[str, dict[str, Any]] = {}
    place = 0
    for label in labels:
        bound = label.split(", ")[0]
        if bound in STYLES:
            found[label] = {"color": INK, "linestyle": STYLES[bound], "marker": BOUND_MARKERS[bound]}
            continue
        round_, at = divmod(place, len(COLOURS))
        found[label] = {
            "color": COLOURS[at],
            "linestyle": DASHES[round_ % len(DASHES)],
            "marker": MARKERS[(at + round_) % len(MARKERS)],
        }
        place += 1
    return found


def _height(part: pd.DataFrame) -> float:
    """Returns the inches that a panel needs."""
    if not isinstance(part.x.iloc[0], str):
        return 1.75
    return 0.65 + part.x.nunique() * max(0.16, 0.08 * part.label.nunique())


def _bars(part: pd.DataFrame) -> np.ndarray:
    return np.stack([part["mean"] - part.low, part.high - part["mean"]])


def _above(axes: Axes, name: str, part: pd.DataFrame, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draws values above numbers."""
    measure, labels = MEASURES[name], list(dict.fromkeys(part.label))
    every = np.unique(part.x.astype(float))
    gap = float(np.diff(every).min()) if len(every) > 1 else 1.0
    threshold = float(every[every > 0].min(initial=1.0))
    for number, label in enumerate(labels):
        lines = part[part.label == label].sort_values("x")
        aside = (number - (len(labels) - 1) / 2) / max(len(labels), 4)  # so that bars do not cover each other
        x = lines.x.astype(float).to_numpy()
        x = (
            x + 0.25 * gap * aside
            if measure.scale == "linear"
            else np.where(x > 0, x * 1.15**aside, 0.15 * threshold * aside)
        )
        axes.errorbar(
            x, lines["mean"], yerr=_bars(lines), markersize=3, linewidth=1, elinewidth=0.7, capsize=1.5, **styles[label]
        )
    if measure.scale == "log":
        axes.set_xscale("log", base=2)
    if measure.scale == "symlog":
        axes.set_xscale("symlog", linthresh=threshold, linscale=0.5)
    if len(every) <= 8 or measure.scale != "linear":
        scales: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "log": np.log2,
            "symlog": lambda x: np.arcsinh(x / threshold),
        }
        ticks = _spaced(every, scales.get(measure.scale, np.positive))
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.minorticks_off()
    elif np.equal(every, every.round()).all():
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_xlabel(measure.x)
    axes.set_ylabel("\n".join(textwrap.wrap(measure.y, 18)))
    axes.grid(color="#E5E5E5", linewidth=0.5)
    _limit(axes, name, "y", part)


def _spaced(values: np.ndarray, scale: Callable[[np.ndarray], np.ndarray]) -> list[float]:
    """Returns those of the sorted ``values`` that are far enough apart on the axis for their labels."""
    at, size = scale(values), [len(f"{value:g}") for value in values]
    kept: list[int] = []
    for place in range(len(values)):
        last = kept[-1] if kept else None
        if last is None or at[place] - at[last] > (0.035 + 0.02 * (size[place] + size[last])) * (at[-1] - at[0]):
            kept.append(place)
    return values[kept].tolist()


def _beside(axes: Axes, name: str, part: pd.DataFrame, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draws values beside names."""
    names, labels = list(dict.fromkeys(part.x)), list(dict.fromkeys(part.label))
    for label in labels:
        lines = part[part.label == label]
        for at, mark in zip([names.index(x) for x in lines.x], lines.to_dict("records"), strict=True):
            here = [other for other in labels if ((part.x == mark["x"]) & (part.label == other)).any()]
            y = at + (here.index(label) - (len(here) - 1) / 2) * 0.7 / max(len(here), 2)
            bar = [[mark["mean"] - mark["low"]], [mark["high"] - mark["mean"]]]
            style = {**styles[label], "linestyle": "none"}
            axes.errorbar([mark["mean"]], [y], xerr=bar, markersize=3, elinewidth=0.7, capsize=1.5, **style)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel(MEASURES[name].x)
    axes.set_xlabel(MEASURES[name].y)
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.5)
    _limit(axes, name, "x", part)


def _limit(axes: Axes, name: str, side: Literal["x", "y"], part: pd.DataFrame) -> None:
    """Sets the ends of the axis of values: of all that there can be, where that is finite, and shows where chance lies."""
    measure = MEASURES[name]
    set_limits, line = (axes.set_xlim, axes.axvline) if side == "x" else (axes.set_ylim, axes.axhline)
    if np.isfinite(measure.low) and np.isfinite(measure.high):
        low = (
            measure.low if measure.low != -0.5 else min(-0.1, float(part.low.min()))
        )  # the adjusted Rand index is hardly ever below 0
        set_limits(low - 0.04 * (measure.high - low), measure.high + 0.04 * (measure.high - low))
    elif np.isfinite(measure.low):
        set_limits(measure.low, None)
    if measure.chance is not None:
        line(measure.chance, color=INK, linewidth=0.7, linestyle=":")
