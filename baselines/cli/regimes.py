"""The command ``mothr map``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mothr.baselines.cli.options import (
    NAMES,
    DatasetsArgument,
    DirectionsOption,
    LayersOption,
    OutputOption,
    comma_separated,
    json_rows,
    require_matplotlib,
)
from mothr.benchmark.cli.command import Json, say, table
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import Setting
from mothr.benchmark.weights.engine import one_thread

if TYPE_CHECKING:
    from mothr.baselines.studies.regimes.map import RegimeMap

BODY = "body"
"""Layers of direction scores if none are named."""
Find = Callable[[], "RegimeMap"]
"""Function that computes a map."""
ByOption = Annotated[
    str | None,
    typer.Option(help=f"Fields to group the edges by, {NAMES}. Join fields with * to combine them. All if left out."),
]
RunsOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of results with runs on these data sets; the map then shows methods, not direction scores."
    ),
]
MethodsOption = Annotated[
    str | None,
    typer.Option(
        help=f"With --runs: labels of rows of the board, or names of methods, {NAMES}. If left out: every method with its own "
        "parameters, and the null methods."
    ),
]
MapSettingOption = Annotated[
    Setting | None,
    typer.Option(help="With --runs: what the methods were given beside the weights; open if left out."),
]


def map(
    data: DatasetsArgument,
    out: OutputOption,
    directions: DirectionsOption = None,
    layers: LayersOption = BODY,
    runs: RunsOption = None,
    setting: MapSettingOption = None,
    methods: MethodsOption = None,
    by: ByOption = None,
    as_json: Json = False,
) -> None:
    """Show which direction score tells parent from child, or which method finds the edge, against how the child was made.

    Each direction score decides every true edge alone. Its accuracy is averaged over trees in each regime, that is for each
    way of making a child. With --runs, a method is right on a true edge if its published prediction has that parent for that
    child, mean over seeds. An abstention or a failed run finds no edge. Its mean is the recall.

    Fields to group by are, of the training: family, kind, optimizer, learning_rate, weight_decay, steps, batch_size, schedule
    (absent where it is a cosine), trained (what was trained), averaging (of the weights), label_noise, l2_sp (whether a
    penalty drew the weights to their start), rank, lora (lora, dora or rslora), task and task_rule (how the task was drawn).
    Of the tree and its root: init (initialisation), root_kurtosis (mean excess kurtosis of the attention output matrices),
    root_initial_share (share of the initial weights that weight decay has left), root_steps, root_optimizer,
    root_weight_decay, width, layers and shape. Of the child: stored (number format), depth, withheld (models left out
    between parent and child) and way (how far the child went, over how far its parent went).

    root_kurtosis, root_initial_share and way, and other numbers of more than twelve values, are grouped into classes with
    fixed limits. Without --by, each field is a grouping, and the fields of the training together are another. The last is the
    crossing of the two fields that matter most together.

    A field matters if it says which edges are right: the outcome of an edge is predicted by the mean outcome of the edges
    with the same value in other trees. Its gain is the share of the variance that this explains, below 0 if it does not help.
    Two fields are crossed if each has at most twelve values, if neither determines the other on 95 % of the edges, and if
    their joint gain is the largest.

    --out gets map.csv, with one row for each regime and score or method and its interval over trees, map-trees.csv, with one
    row a tree, fields.csv and field-pairs.csv with the gains, and figures as .svg and .png: fields (the gains), map (the fields
    of the largest gain that fit on a page), a map-FIELD for each field of several values, map-crossed, and a map-FIELD-FIELD
    of the two crossed fields. Gains need two trees. Tables are also .parquet if pyarrow or fastparquet is installed.

    Example: mothr map data/vit-regimes data/vthr-lora-v --by kind,root_kurtosis,root_kurtosis*kind --out map

    Example: mothr map data/vit-laundered --runs results --methods linea,mother-v2,null-mst-random-root --out map-methods
    """
    require_matplotlib()
    _check_options(runs, directions, layers, methods, setting)
    find, caption = (
        _scores(data, by, directions, layers) if runs is None else _methods(data, by, runs, methods, setting)
    )
    _write(find, caption, out, as_json)


def _check_options(
    runs: Path | None, directions: str | None, layers: str, methods: str | None, setting: Setting | None
) -> None:
    """Raises MothrError if an option of methods is given without ``runs``, or an option of direction scores with ``runs``."""
    given = {
        "methods": methods,
        "setting": setting,
        "directions": directions,
        "layers": layers if layers != BODY else None,
    }
    of_methods = ("methods", "setting")
    for option in (name for name, value in given.items() if value is not None):
        if option in of_methods and runs is None:
            raise MothrError(f"--{option} chooses among published runs; name their folder with --runs, or leave it out")
        if option not in of_methods and runs is not None:
            raise MothrError(
                f"--{option} and --runs: a map shows either direction scores or the methods of published runs; leave one out"
            )


def _scores(data: list[Path], by: str | None, directions: str | None, layers: str) -> tuple[Find, str]:
    """Returns the function that computes the map of direction scores, and what its caption says."""
    from mothr.baselines.studies.regimes.map import RegimeMapSettings, regime_map

    chosen: dict[str, Any] = {} if directions is None else {"directions": comma_separated("directions", directions)}
    settings = RegimeMapSettings(layers=layers, **chosen, **_grouping(by))
    return partial(regime_map, data, settings), f"Layers {layers}."


def _methods(
    data: list[Path], by: str | None, runs: Path, methods: str | None, setting: Setting | None
) -> tuple[Find, str]:
    """Returns the function that computes the map of methods, and what its caption says."""
    from mothr.baselines.studies.regimes.methods import MethodMapSettings, method_map

    chosen = () if methods is None else comma_separated("methods", methods)
    settings = MethodMapSettings(methods=chosen, setting=setting or "open", **_grouping(by))
    return partial(method_map, data, runs, settings), f"Setting {settings.setting}."


def _grouping(by: str | None) -> dict[str, Any]:
    """Returns the settings of the groupings that --by names."""
    if by is None:
        return {}
    groupings = comma_separated("by", by)
    fields = tuple(tuple(name.strip() for name in combined.split("*")) for combined in groupings)
    return {"groupings": fields, "cross": False}


def _write(find: Find, caption: str, out: Path, as_json: bool) -> None:
    """Computes a map, writes its tables and figures to ``out``, and prints its means."""
    from mothr.baselines.studies.output import output_folder
    from mothr.baselines.studies.regimes import report

    one_thread()
    with output_folder(out) as folder:
        regimes = find()
        files = report.write_regime_map(folder, regimes, caption)
    cells = report.regime_cells(regimes)
    done = f"{regimes.measure.share}, means over trees; {out}: {', '.join(files)}"
    value = {"out": str(out), "files": files, "rows": json_rows(report.published(cells, regimes.measure))}
    say(value, as_json, lambda: f"{_table_of(cells)}\n\n{done}")


def _table_of(cells: Any) -> str:
    """Returns the means as text: a row for each regime, a column for each direction score or method."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells.to_dict("records"):
        heading = {"grouping": cell["grouping"], "regime": cell["regime"]}
        row = rows.setdefault((cell["grouping"], cell["regime"]), heading)
        row[cell["series"]] = f"{cell['mean']:.2f}"
    blank = {"grouping": "", "regime": "", **dict.fromkeys(cells.series, "-")}
    return table([{**blank, **row} for row in rows.values()])
