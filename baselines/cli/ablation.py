"""The command ``mothr ablate``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mothr.baselines.cli.options import (
    NAMES,
    DatasetArgument,
    DirectionsOption,
    OutputOption,
    SettingOption,
    comma_separated,
    json_rows,
    require_matplotlib,
)
from mothr.benchmark.cli.command import Json, SetOption, field_values, say, table
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.engine import one_thread

if TYPE_CHECKING:
    from mothr.baselines.studies.ablation import AblationGrid

DistancesOption = Annotated[str, typer.Option(help=f"Distances, names of 'mothr list distances', {NAMES}.")]
WeightsOption = Annotated[
    str, typer.Option(help=f"Weights of the direction score against the distance (lambda), {NAMES}.")
]
AblatedLayersOption = Annotated[
    str,
    typer.Option(help=f"Tensors that the direction score is computed on: presets or re:<expression>, {NAMES}."),
]
CombineOption = Annotated[
    str,
    typer.Option(
        help=f"How the values of single tensors become one score: own (the score's default), elements, sum, vote, {NAMES}."
    ),
]
RandomRunsOption = Annotated[
    int,
    typer.Option(min=1, help="Runs of the direction score 'random'. All other scores are deterministic and run once."),
]
ByRootOption = Annotated[
    bool,
    typer.Option(
        "--by-root",
        help="Print the edge accuracy by the root of the tree: its kurtosis, its initialisation, its initial weights left.",
    ),
]
RecordsOption = Annotated[bool, typer.Option("--records", help="Also write the run records, for 'mothr leaderboard'.")]


def ablate(
    data: DatasetArgument,
    out: OutputOption,
    directions: DirectionsOption = None,
    distances: DistancesOption = "rms",
    weights: WeightsOption = "0.3",
    layers: AblatedLayersOption = "matrices",
    combine: CombineOption = "own",
    setting: SettingOption = "known-trees",
    settings: SetOption = None,
    seeds: RandomRunsOption = 5,
    by_root: ByRootOption = False,
    keep: RecordsOption = False,
    as_json: Json = False,
) -> None:
    """Run MoTHer with every combination of the given field values, and write a table and a figure.

    Two direction scores are always added as bounds: 'random' (a coin) and 'oracle' (the truth).

    --out gets ablation.csv, with one row for each run and true tree, ablation-by-root.csv, with means by the root of the tree,
    ablation.svg and ablation.png. It also gets the tables as .parquet if pyarrow or fastparquet is installed. The column
    optimal_rootings counts the rootings of least cost, and edge_accuracy_over_ties is the mean over them.

    Example: mothr ablate data/vthr-ft --directions kurtosis,norm --weights 0,0.1,0.3 --out ablation
    """
    require_matplotlib()
    from mothr.baselines.studies import ablation, ablation_report, output
    from mothr.baselines.studies.datasets import OpenedDataset

    values = {"distances": distances, "weights": weights, "layers": layers, "combine": combine}
    if directions is not None:
        values["directions"] = directions
    grid = _grid(values, field_values(settings or []))
    one_thread()
    with output.output_folder(out) as folder:
        records = ablation.run(grid, data, setting, seeds)
        rows = ablation.summary(records)
        tree_table = ablation.table_with_roots(records, OpenedDataset.open(data))
        files = ablation_report.write(folder, records, rows, tree_table, data, with_records=keep)
    failed = [record for record in records if record.status != "ok"]
    missing = "no ablation.parquet: neither pyarrow nor fastparquet is installed"
    remark = None if output.parquet_engine() else missing
    roots = ablation.means_by_root(tree_table)
    value = {
        "out": str(out), "files": files, "remark": remark, "runs": len(records), "failed": len(failed),
        "rows": [row.to_json() for row in rows], "by_root": json_rows(roots),
    }  # fmt: skip

    def text() -> str:
        shown = [*ablation.changed_fields(rows), "direction"]
        done = f"{len(records)} runs; means over trees with 95 % intervals; {out}: {', '.join(files)}"
        printed = _by_root_rows(roots, shown) if by_root else [row.cells(shown) for row in rows]
        return "\n".join([table(printed), "", done, *([remark] if remark else [])])

    say(value, as_json, text)
    if failed:
        first = failed[0]
        raise MothrError(
            f"{len(failed)} of {len(records)} runs failed; the first, {first.parameters['direction']}: {first.error}"
        )


def _by_root_rows(roots: Any, shown: list[str]) -> list[dict[str, str]]:
    """Returns the rows of :func:`mothr.baselines.studies.ablation.means_by_root` as text, with the fields ``shown``."""
    rows = []
    for row in roots.to_dict("records"):
        interval = "" if row["trees"] == 1 else f" [{row['low']:.3f}, {row['high']:.3f}]"
        rows.append(
            {
                "root": row["root"],
                "class": row["class"],
                **{name: str(row[name]) for name in shown},
                "edge_accuracy": f"{row['edge_accuracy']:.3f}{interval}",
                "over_ties": "-"
                if row["over_ties"] != row["over_ties"]
                else f"{row['over_ties']:.3f}",  # NaN: all runs failed
                "optimal_rootings": "-"
                if row["optimal_rootings"] != row["optimal_rootings"]
                else f"{row['optimal_rootings']:.2f}",
                "n": str(row["trees"]),
            }
        )
    return rows


def _grid(values: dict[str, str], base_fields: dict[str, str]) -> "AblationGrid":
    """Returns the grid that the options describe.

    Args:
        values: Field of the grid -> its values as given, separated by commas.
        base_fields: Field of the method -> the value that ``--set`` gives it.

    Raises:
        MothrError: A value is malformed, or ``--set`` names a field that is varied.
    """
    from mothr.baselines.studies import ablation
    from mothr.benchmark.run.registry import find_method

    for field in ablation.VARIED_FIELDS.keys() & base_fields.keys():
        raise MothrError(
            f"--set {field}={base_fields[field]}: this field is varied; use --{ablation.VARIED_FIELDS[field]}"
        )
    chosen: dict[str, Any] = {option: comma_separated(option, text) for option, text in values.items()}
    chosen["weights"] = tuple(_number(text) for text in chosen["weights"])
    chosen["combine"] = tuple(None if name == ablation.DEFAULT_COMBINATION else name for name in chosen["combine"])
    chosen["base"] = find_method(ablation.METHOD, base_fields)
    return ablation.AblationGrid(**chosen)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MothrError(f"--weights {text}: not a number; write them as 0,0.1,0.3") from None
