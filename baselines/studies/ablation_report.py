"""What an ablation leaves behind: the tidy table, the figure, and its records if wanted; all of it or nothing."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mothr.baselines.studies.ablation import BOUNDS, AblationRow, differing, rows
from mothr.benchmark.data import dataset
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records import results
from mothr.benchmark.storage import cannot_write

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
except ImportError as error:
    raise MothrError("a figure needs matplotlib, which is not installed: pip install 'mothr[generate]'") from error

DRAWN = {"edge_accuracy": ("#0072B2", "o"), "direction_accuracy": ("#D55E00", "s")}
"""Metric -> colour (Okabe and Ito 2008) and marker, so that grey print tells them apart too."""
STYLES: dict[str, Any] = {"random": ":", "oracle": "--"}
"""Bound -> dash of its line."""
INK = "#595959"
COLUMNS = 4
"""Most panels side by side."""
WIDTH = 7.0
"""Inches: the text of a printed page."""
WORDS = {
    "distance": "distance {}",
    "lambda_": "λ = {}",
    "direction_layers": "layers {}",
    "direction_combine": "combine {}",
}
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "mothr",
    "savefig.dpi": 200,
}


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """Yields a folder under a temporary name that becomes ``out`` at the end of the block, or vanishes if the block fails.

    Raises:
        MothrError: ``out`` holds something already, or its folder cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise MothrError(
            f"{out}: is there already; the folder is written whole, so name a new folder or remove this one"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        yield place
        try:
            place.chmod(0o755)
            place.rename(out)
        except OSError as error:
            raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def parquet_engine() -> str | None:
    """Returns the package that pandas can write parquet with; None if none is installed."""
    return next((name for name in ("pyarrow", "fastparquet") if find_spec(name)), None)


def write(
    place: Path, records: Sequence[results.RunRecord], lines: Sequence[AblationRow], folder: Path, *, each: bool = False
) -> list[str]:
    """Returns the names of what it wrote into the folder ``place``: ``ablation`` as .csv, .parquet if possible, .svg and .png.

    Args:
        place: Where to write.
        records: What :func:`mothr.baselines.studies.ablation.run` returned.
        lines: Their :func:`mothr.baselines.studies.ablation.summary`.
        folder: The data set.
        each: Whether to write ``records/`` too, a folder of results for ``mothr leaderboard``.

    Raises:
        MothrError: the disk is full, or ``place`` cannot be written.
    """
    first, path = records[0], place / "ablation"
    table = rows(records, len(dataset.open_truth(folder).graph.trees))
    try:
        table.to_csv(path.with_suffix(".csv"), index=False)
        if parquet_engine():
            table.to_parquet(path.with_suffix(".parquet"), index=False)
        draw(lines, f"{first.split} v{first.split_version}, {first.setting}", path)
    except OSError as error:
        raise cannot_write(place, error) from error
    if each:
        dataset.keep_beside_results(folder, place / "records" / results.folder_name(first.split, first.split_version))
        for record in records:
            results.write(record, place / "records")
    return sorted(entry.name for entry in place.iterdir())


def draw(lines: Sequence[AblationRow], title: str, path: Path) -> None:
    """Writes the :func:`figure` of ``lines`` to ``path`` with the endings .svg and .png."""
    with matplotlib.rc_context(STYLE):
        save(figure(lines, title), path)


def save(drawn: Figure, path: Path) -> None:
    """Writes ``drawn`` to ``path`` with the endings .svg and .png; both are laid out alike."""
    drawn.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    drawn.set_layout_engine(None)  # stays as laid out
    drawn.savefig(path.with_suffix(".png"))


def figure(lines: Sequence[AblationRow], title: str) -> Figure:
    """Returns the figure of ``lines``: a panel for each choice of distance, weight, layers and combination.

    In a panel is a mark a direction score, with its t-interval over trees, and a line a bound. Scores stand in the order of
    their mean edge accuracy over all panels.
    """
    panels: dict[tuple[Any, ...], dict[str, AblationRow]] = {}
    for line in lines:
        panels.setdefault(tuple(line.varied[field] for field in WORDS), {})[line.varied["direction"]] = line
    names = [name for name in next(iter(panels.values())) if name not in BOUNDS]
    names.sort(key=lambda name: -np.nansum([_ends(panel[name], "edge_accuracy")[0] for panel in panels.values()]))
    changing = differing(lines)
    fixed = [field for field in WORDS if field not in changing]
    columns = len({panel[names[0]].varied[changing[-1]] for panel in panels.values()}) if changing else 1
    if columns > COLUMNS:  # the values of one field, side by side, do not fit: rows of like length
        columns = -(-len(panels) // -(-len(panels) // COLUMNS))
    bands = -(-len(panels) // columns)
    alone = len(panels) == 1  # then its metrics stand side by side, else one over the other
    shape = (1, len(DRAWN)) if alone else (len(DRAWN) * bands, columns)
    height = 0.7 + shape[0] * (0.6 + 0.16 * len(names)) + 0.12 * bands * len(changing)
    drawn = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = drawn.subplots(*shape, squeeze=False)  # axes that share what they show are many times slower
    for axes in [] if alone else grid[-len(DRAWN) :, len(panels) - (bands - 1) * columns :].flat:
        axes.set_axis_off()
    for place, panel in enumerate(panels.values()):
        for row, metric in enumerate(DRAWN):
            axes = grid[0, row] if alone else grid[len(DRAWN) * (place // columns) + row, place % columns]
            _panel(axes, panel, names, metric)
            if row == 0:
                axes.set_title("\n".join(_words(panel[names[0]], changing)))
    for axes in grid[:, 1:].flat:
        axes.tick_params(axis="y", labelleft=False)
    drawn.suptitle(f"{title}; {', '.join(_words(lines[0], fixed))}", fontsize=9)
    drawn.legend(handles=_legend(), loc="outside lower center", ncols=1 + len(STYLES), frameon=False)
    return drawn


def _panel(axes: Axes, panel: Mapping[str, AblationRow], names: Sequence[str], metric: str) -> None:
    colour, marker = DRAWN[metric]
    for bound, style in STYLES.items():
        axes.axvline(_ends(panel[bound], metric)[0], color=INK, linestyle=style, linewidth=1)
    mean, low, high = np.array([_ends(panel[name], metric) for name in names]).T
    bars = np.stack([mean - low, high - mean])
    axes.errorbar(
        mean,
        range(len(names)),
        xerr=bars,
        color=colour,
        marker=marker,
        markersize=4,
        capsize=2,
        linewidth=0,
        elinewidth=1,
    )
    for height in np.flatnonzero(np.isnan(mean)).tolist():
        axes.text(0.5, height, "undefined", color=INK, ha="center", va="center", fontsize=6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0", ".25", ".5", ".75", "1"))
    axes.set_xlim(-0.04, 1.04)
    axes.set_xlabel(_plain(metric))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _ends(line: AblationRow, metric: str) -> tuple[float, float, float]:
    """Returns the mean and the ends of its interval; NaN where there is none, and no bar is drawn."""
    found = line.intervals[metric]
    if found is None:
        return np.nan, np.nan, np.nan
    return found.mean, np.nan if found.low is None else found.low, np.nan if found.high is None else found.high


def _legend() -> list[Line2D]:
    colour, marker = DRAWN["edge_accuracy"]
    mark = Line2D(
        [], [], color=colour, marker=marker, markersize=4, linewidth=1, label="mean over trees with 95 % t-interval"
    )
    return [
        mark,
        *(
            Line2D([], [], color=INK, linestyle=dash, linewidth=1, label=f"direction {name}")
            for name, dash in STYLES.items()
        ),
    ]


def _words(line: AblationRow, fields: Sequence[str]) -> list[str]:
    return [WORDS[field].format(line.cells([field])[field]) for field in fields]


def _plain(name: str) -> str:
    return name.replace("_", " ")
