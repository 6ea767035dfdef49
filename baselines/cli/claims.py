"""The command ``mothr claims``."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from mothr.baselines.cli.options import (
    NAMES,
    DatasetsArgument,
    LayersOption,
    OutputOption,
    SettingOption,
    comma_separated,
    json_rows,
    require_matplotlib,
)
from mothr.benchmark.cli.command import Json, say, table
from mothr.benchmark.weights.engine import one_thread

OnlyOption = Annotated[
    str | None, typer.Option(help=f"Names of claims and questions to test, {NAMES}; all if left out.")
]
CurvesOption = Annotated[str, typer.Option(help=f"Direction scores that get a curve of their own, {NAMES}.")]
DistanceOption = Annotated[str, typer.Option(help="Distance, a name of 'mothr list distances'.")]
DrawsOption = Annotated[
    int,
    typer.Option(min=1, help="Runs of the direction score 'random', and random subsets of the models at each share."),
]


def claims(
    data: DatasetsArgument,
    out: OutputOption,
    only: OnlyOption = None,
    directions: CurvesOption = "kurtosis,abs_kurtosis,norm,residual_independence",
    distance: DistanceOption = "rms",
    layers: LayersOption = "body",
    setting: SettingOption = "known-trees",
    seeds: DrawsOption = 3,
    as_json: Json = False,
) -> None:
    """Test claims of the MoTHer paper, and questions about it: a table with intervals over trees and a figure for each.

    Claims of the paper are 1-distance, 2-3-outliers (its second half is a question), 4-lora, 5-motifs and 6-clustering.
    Questions, which no text of the authors answers, are 7-robustness, 8-depth, 9-root (kurtosis by the root), 10-ties
    (rootings of equal cost) and curves. What the data sets cannot test is skipped, and the output names the data that it needs.

    For each of them, --out gets <claim>.csv, with one row a point, <claim>-trees.csv, with one row a tree, and <claim>.svg and
    .png. It also gets the tables as .parquet if pyarrow or fastparquet is installed. Where one figure would have too many
    lines, each model family has its own: <claim>-<family>.svg.

    Example: mothr claims data/vthr-ft data/vthr-lora-v data/vit-trajectory --out claims
    """
    require_matplotlib()
    from mothr.baselines.studies.claims import measures, report, settings, table
    from mothr.baselines.studies.output import output_folder

    chosen = table.find_claims(comma_separated("only", only) if only is not None else list(table.CLAIMS))
    claim_settings = settings.ClaimSettings(layers, distance, comma_separated("directions", directions), setting, seeds)
    one_thread()
    with output_folder(out) as folder:
        tables, skipped = table.measure_claims(data, chosen, claim_settings)
        caption = f"Layers {layers}, distance {distance}, setting {setting}."
        files = report.write_claims(folder, tables, caption)
    points = {name: measures.mean_points(measurements) for name, measurements in tables.items()}
    value = {
        "out": str(out),
        "files": files,
        "skipped": skipped,
        "claims": {name: _json(chosen[name], rows) for name, rows in points.items()},
    }
    done = f"means with 95 % intervals; the tables also hold the curves; {out}: {', '.join(files)}"
    skipped_lines = [f"{name}: {reason}" for name, reason in skipped.items()]
    say(
        value,
        as_json,
        lambda: "\n".join([points_table(points, claim_settings.directions), "", *skipped_lines, done]),
    )


def _json(claim: Any, points: Any) -> dict[str, Any]:
    texts = {"kind": claim.kind, "claim": claim.claim, "question": claim.question}
    return {"title": claim.title, **texts, "measured": claim.measured, "rows": json_rows(points)}


def points_table(points: Mapping[str, Any], directions: Sequence[str]) -> str:
    """Returns the points that are no part of a curve as text; of all direction scores, only ``directions`` and the bounds."""
    from mothr.baselines.parts.directions import DIRECTIONS
    from mothr.baselines.studies.ablation import BOUNDS
    from mothr.baselines.studies.claims.table import CLAIMS

    hidden = DIRECTIONS.keys() - {*directions, *BOUNDS}
    rows = []
    for name, claim_points in points.items():
        for point in claim_points.to_dict("records"):
            if not isinstance(point["x"], str) or point["x"] in hidden:
                continue
            known = point["low"] == point["low"]  # NaN: one tree, or equal values of a quantity without an upper limit
            interval = f" [{point['low']:.3f}, {point['high']:.3f}]" if known else ""
            rows.append(
                {
                    "tested": name,
                    "kind": CLAIMS[name].kind,
                    "measure": point["measure"],
                    "family": point["family"],
                    "of": point["panel"] or "-",
                    "series": point["series"],
                    "x": point["x"],
                    "mean": f"{point['mean']:.3f}{interval}",
                    "n": str(point["trees"]),
                }
            )
    return table(rows)
