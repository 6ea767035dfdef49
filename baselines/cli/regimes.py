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
    fixed limits. Without --by, each field is a grouping, and the fields of the training together are another. The last is the
    crossing of the two fields that matter most together.

    A field matters if it says whether a score is right: the outcome of an edge is predicted by the mean outcome of the edges
    with the same value in other trees. Its gain is the share of the variance that this explains, and below 0 if it does not
    help. Two fields are crossed if each has at most twelve values, if neither determines the other on 95 % of the edges, and
    if their joint gain is the largest.

    --out gets map.csv, with one row for each regime and score and its interval over trees, map-trees.csv, with one row a
    tree, fields.csv and field-pairs.csv with the gains, and figures as .svg and .png: fields (the gains), map (the fields of
    the largest gain that fit on a page), a map-FIELD for each field of several values, map-crossed, and a map-FIELD-FIELD of
    the two crossed fields. Gains need two trees. It also gets the tables as .parquet if pyarrow or fastparquet is installed.

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
