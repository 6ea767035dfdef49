"""The command ``mothr by-root``."""

from pathlib import Path
from typing import Annotated

import typer

from mothr.baselines.cli.claims import points_table
from mothr.baselines.cli.options import OutputOption, json_rows, require_matplotlib
from mothr.benchmark.cli.command import Json, say
from mothr.benchmark.weights.engine import one_thread

ResultsArgument = Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder of results, with runs and truths.")]
RootDatasetsArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[DATASET]...", help="Data sets on whose roots the kurtosis is measured."),
]
RootsOption = Annotated[
    Path | None, typer.Option(help="A roots.csv of an earlier run, so that the kurtosis of its roots is known.")
]


def by_root(
    results: ResultsArgument,
    out: OutputOption,
    data: RootDatasetsArgument = None,
    roots: RootsOption = None,
    as_json: Json = False,
) -> None:
    """Show how MoTHer's accuracy depends on the root of the tree, from published runs: no weights are needed.

    Trees are grouped by the initialisation of their root, and by the share of its initial weights that weight decay has left.
    Where the kurtosis of the root is known, they are also grouped by it. It is the mean excess kurtosis of the root's square
    attention output matrices. It is measured on the data sets, or taken from --roots.

    --out gets 9-root.csv, with one row a point, 9-root-trees.csv, with one row a tree, a figure for each model family as .svg
    and .png, and roots.csv.

    Example: mothr by-root results data/vthr-ft --out by-root
    """
    require_matplotlib()
    from mothr.baselines.studies.claims import measures, records, report
    from mothr.baselines.studies.datasets import open_datasets
    from mothr.baselines.studies.output import output_folder, write_rows

    one_thread()
    known = records.read_roots(roots) if roots is not None else []
    known += records.measured_roots(open_datasets(data, "all")) if data else []
    with output_folder(out) as folder:
        measurements = records.measurements_of_records(results, known)
        write_rows([row.model_dump() for row in known], folder / "roots.csv")
        files = report.write_claims(folder, {"9-root": measurements}, "Published runs in the setting known-trees.")
    points = measures.mean_points(measurements)
    value = {"out": str(out), "files": files, "roots": len(known), "rows": json_rows(points)}
    done = f"means over trees with 95 % intervals; {out}: {', '.join(files)}"
    say(value, as_json, lambda: f"{points_table({'9-root': points}, records.DIRECTIONS)}\n\n{done}")
