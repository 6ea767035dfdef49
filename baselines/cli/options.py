"""Arguments, options and their parsing that several commands of the studies share."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import Setting

NAMES = "separated by commas"
DatasetArgument = Annotated[
    Path, typer.Argument(metavar="DATASET", help="A folder that 'mothr generate' wrote, with its truth.")
]
DatasetsArgument = Annotated[
    list[Path], typer.Argument(metavar="DATASET...", help="Folders that 'mothr generate' wrote, with their truth.")
]
OutputOption = Annotated[Path, typer.Option(help="Folder for tables and figures; it must be new or empty.")]
DirectionsOption = Annotated[
    str | None,
    typer.Option(help=f"Direction scores, names of 'mothr list directions', {NAMES}; all if left out."),
]
LayersOption = Annotated[
    str, typer.Option(help="Tensors for distances and direction scores: a preset or re:<expression>.")
]
SettingOption = Annotated[
    Setting,
    typer.Option(help="What methods are given beside the weights: the partition into trees (known-trees), or nothing."),
]


def require_dev_splits(data: list[Path]) -> None:
    """Raises MothrError if one of the data sets is not a dev split, or a draw of one. Only the manifests are read."""
    from mothr.benchmark.data.dataset import open_manifest
    from mothr.benchmark.run.plan import selects

    for folder in data:
        split = open_manifest(folder).name
        if not selects(["*-dev", "*-dev-draw-*"], split):
            raise MothrError(
                f"{folder}: {split} is not a dev split; a score that is fitted on a test split cannot be judged on it. "
                "Name dev splits only"
            )


def require_matplotlib() -> None:
    """Raises MothrError if matplotlib, which draws the figures, is not installed."""
    if find_spec("matplotlib") is None:
        raise MothrError("a figure needs matplotlib, which is not installed: pip install 'mothr[generate]'")


def comma_separated(option: str, text: str) -> tuple[str, ...]:
    """Returns the names that commas separate in the value of an option.

    Raises:
        MothrError: There is no name.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise MothrError(f"--{option} {text!r}: name at least one, or leave the option out")
    return names


def json_rows(table: Any) -> list[dict[str, Any]]:
    """Returns the rows of a pandas table as dictionaries for JSON, with None for NaN."""
    return [
        {name: None if isinstance(cell, float) and cell != cell else cell for name, cell in row.items()}
        for row in table.to_dict("records")
    ]
