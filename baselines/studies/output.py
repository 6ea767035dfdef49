"""The output folder of a study: written whole or not at all, with tables and figures of one style."""

import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure, FigureBase

from mothr.benchmark.errors import MothrError
from mothr.benchmark.storage import write_error

BOUND_DASHES: dict[str, Any] = {"random": ":", "oracle": "--"}
"""Direction score that serves as a bound -> dash pattern of its line."""
BOUND_COLOUR = "#595959"
"""Grey of the bounds, of captions and of reference lines."""
GRID_COLOUR = "#E5E5E5"
PAGE_WIDTH = 7.0
"""Width of a printed page in inches."""
LANDSCAPE_WIDTH = 9.5
"""Width of a printed page on its side, in inches."""
FIGURE_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "mothr",
    "savefig.dpi": 200,
}
"""Settings of matplotlib under which figures are drawn; the hash salt makes two SVG files of one figure equal."""


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder, which is renamed to ``path`` at the end of the block.

    If the block raises, the temporary folder is removed and ``path`` stays as it was.

    Raises:
        MothrError: ``path`` exists and is not an empty folder, or its parent folder cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise MothrError(f"{path}: this path exists and is not an empty folder; name a new folder, or remove this one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        try:
            temporary.chmod(0o755)
            temporary.rename(path)
        except OSError as error:
            raise write_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def parquet_engine() -> str | None:
    """Returns the name of an installed package with which pandas writes Parquet; None if there is none."""
    return next((name for name in ("pyarrow", "fastparquet") if find_spec(name)), None)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes ``table`` to ``path`` with the suffix .csv, and .parquet if :func:`parquet_engine` finds a package.

    Raises:
        OSError: The file cannot be written.
    """
    table.to_csv(path.with_suffix(".csv"), index=False)
    if parquet_engine():
        # A Parquet column has one type, but x holds numbers and names.
        table.astype({"x": str} if "x" in table else {}).to_parquet(path.with_suffix(".parquet"), index=False)


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes rows with equal keys as CSV; of equal rows only the first. No rows give an empty file.

    Raises:
        MothrError: The file cannot be written.
    """
    try:
        pd.DataFrame(rows).drop_duplicates().to_csv(path, index=False)
    except OSError as error:
        raise write_error(path, error) from error


def save_figure(draw: Callable[[], Figure], path: Path) -> None:
    """Draws a figure in :data:`FIGURE_STYLE` and writes it to ``path`` with the suffixes .svg and .png, in one layout.

    Raises:
        OSError: A file cannot be written.
    """
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = draw()
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.set_layout_engine(None)  # keeps the layout of the SVG file
        figure.savefig(path.with_suffix(".png"))


def wrapped_caption(text: str, width: float) -> list[str]:
    """Returns the lines of a caption for a figure that is ``width`` inches wide."""
    return textwrap.wrap(text, int(21.5 * width), break_on_hyphens=False)


def draw_caption(figure: FigureBase, text: str, width: float) -> None:
    """Writes a caption at the bottom of ``figure``, which is ``width`` inches wide."""
    lines = "\n".join(wrapped_caption(text, width))
    figure.text(0.01, 0.03, lines, fontsize=6.5, color=BOUND_COLOUR, va="bottom", ha="left", linespacing=1.3)
