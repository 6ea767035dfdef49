"""The command ``mothr map``."""

from typing import Annotated, Any

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
from mothr.benchmark.weights.engine import one_thread

ByOption = Annotated[
    str | None,
    typer.Option(help=f"Fields to group the edges by, {NAMES}. Join fields with * to combine them. All if left out."),
]


def map(
    data: DatasetsArgument,
    out: OutputOption,
    directions: DirectionsOption = None,
    layers: LayersOption = "body",
    by: ByOption = None,
    as_json: Json = False,
) -> None:
    """Show which direction score tells parent from child, against how the child was made.

    Each direction score decides every true edge alone. Its accuracy is averaged over trees in each regime, that is for each
    way of making a child.

    Fields to group by are, of the training: family, kind, optimizer, learning_rate, weight_decay, steps, batch_size, schedule
    (absent where it is a cosine), trained (what was trained), averaging (of the weights), label_noise, l2_sp (whether a
    penalty drew the weights to their start), rank, lora (lora, dora or rslora), task and task_rule (how the task was drawn).
    Of the tree and its root: init (initialisation), root_kurtosis (mean excess kurtosis of the attention output matrices),
    root_initial_share (share of the initial weights that weight decay has left), root_steps, root_optimizer,
    root_weight_decay, width, layers and shape. Of the child: stored (number format), depth, withheld (models left out
    between parent and child) and way (how far the child went, over how far its parent went).

    root_kurtosis, root_initial_share and way, and other numbers of more than twelve values, are grouped into classes with
    fixed limits. Without --by, each field is a grouping, and the fields of the training together are another.

    --out gets map.csv, with one row for each regime and score and its interval over trees, map-trees.csv, with one row a
    tree, and heat maps as .svg and .png. It also gets the tables as .parquet if pyarrow or fastparquet is installed.

    Example: mothr map data/vit-regimes data/vthr-lora-v --by kind,root_kurtosis,root_kurtosis*kind --out map
    """
    require_matplotlib()
    from mothr.baselines.studies import output
    from mothr.baselines.studies.regimes import report
    from mothr.baselines.studies.regimes.map import RegimeMapSettings, regime_map

    chosen: dict[str, Any] = {"layers": layers}
    if directions is not None:
        chosen["directions"] = comma_separated("directions", directions)
    if by is not None:
        groupings = comma_separated("by", by)
        chosen["groupings"] = tuple(tuple(name.strip() for name in fields.split("*")) for fields in groupings)
        chosen["cross"] = False
    settings = RegimeMapSettings(**chosen)
    one_thread()
    with output.output_folder(out) as folder:
        regimes = regime_map(data, settings)
        files = report.write_regime_map(folder, regimes, f"Layers {layers}.")
    cells = report.regime_cells(regimes.trees)
    done = f"shares of edges directed right, means over trees; {out}: {', '.join(files)}"
    value = {"out": str(out), "files": files, "rows": json_rows(cells)}
    say(value, as_json, lambda: f"{_accuracy_table(cells)}\n\n{done}")


def _accuracy_table(cells: Any) -> str:
    """Returns the accuracies as text: a row for each regime, a column for each direction score."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells.to_dict("records"):
        heading = {"grouping": cell["grouping"], "regime": cell["regime"]}
        row = rows.setdefault((cell["grouping"], cell["regime"]), heading)
        row[cell["direction"]] = f"{cell['accuracy']:.2f}"
    blank = {"grouping": "", "regime": "", **dict.fromkeys(cells.direction, "-")}
    return table([{**blank, **row} for row in rows.values()])
