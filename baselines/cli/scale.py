"""The command ``mothr scale``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mothr.baselines.cli.options import (
    DatasetsArgument,
    DirectionsOption,
    LayersOption,
    OutputOption,
    SettingOption,
    comma_separated,
    json_rows,
    require_matplotlib,
)
from mothr.benchmark.cli.command import Json, say, table
from mothr.benchmark.weights.engine import one_thread

ResultsOption = Annotated[Path, typer.Option(help="Folder of results with the runs of the methods on these data sets.")]


def scale(
    data: DatasetsArgument,
    out: OutputOption,
    results: ResultsOption = Path("results"),
    directions: DirectionsOption = None,
    layers: LayersOption = "body",
    setting: SettingOption = "open",
    as_json: Json = False,
) -> None:
    """Show whether small forests rank direction scores and methods as large ones do.

    Trees are grouped by the width of their models, the steps of their root, and the root's own excess kurtosis. Below a
    published model, the steps are unknown. Each group has the share of edges that each direction score directs right, and
    the edge F1 of each method in the runs of --results.

    --out gets scale.csv (means over trees with intervals), scale-trees.csv (a row a tree), agreement.csv (Kendall's tau of
    the ranking between every two widths, and between halves of one width), and the figure as .svg and .png.

    Example: mothr scale data/scale-vit-32 data/scale-vit-256 --results results --out results/scale
    """
    require_matplotlib()
    from mothr.baselines.studies.output import output_folder
    from mothr.baselines.studies.regimes.map import RegimeMapSettings
    from mothr.baselines.studies.scale import means, report, trees

    chosen: dict[str, Any] = {"layers": layers}
    if directions is not None:
        chosen["directions"] = comma_separated("directions", directions)
    settings = RegimeMapSettings(**chosen)
    one_thread()
    with output_folder(out) as folder:
        found = trees.scale_table(data, results, settings, setting)
        files = report.write_scale(folder, found, f"Layers {layers}; setting {setting}.")
    agreement = means.size_agreement(found)
    value = {
        "out": str(out),
        "files": files,
        "rows": json_rows(means.scale_means(found)),
        "agreement": json_rows(agreement),
    }
    say(
        value,
        as_json,
        lambda: f"{_agreement_table(agreement)}\n\nKendall's tau between widths; {out}: {', '.join(files)}",
    )


def _agreement_table(agreement: Any) -> str:
    """Returns the agreements as text."""
    lines = []
    for row in json_rows(agreement):
        known = {name: "-" if row[name] is None else f"{row[name]:.2f}" for name in ("tau", "low", "high")}
        interval = "" if row["low"] is None else f"{known['low']} to {known['high']}"
        widths = (
            f"halves of {row['first']:g}"
            if row["first"] == row["second"]
            else f"{row['first']:g} and {row['second']:g}"
        )
        lines.append(
            {"ranked": f"{row['names']} {row['kind']}s", "widths": widths, "tau": known["tau"], "interval": interval}
        )
    return table(lines)
