"""The commands that vary methods, joined to ``mothr`` through an entry point."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mothr.benchmark.cli.main import Json, SetOption, say, table
from mothr.benchmark.cli.main import field_values as set_values
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.results import Setting
from mothr.benchmark.weights.engine import one_thread

NAMES = "separated by commas"
Data = Annotated[
    list[Path], typer.Argument(metavar="DATASET...", help="Folders that 'mothr generate' wrote, with their truth.")
]


def ablate(
    data: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A folder that 'mothr generate' wrote, with its truth.")
    ],
    out: Annotated[Path, typer.Option(help="Where table and figure go: a new folder.")],
    directions: Annotated[
        str | None, typer.Option(help=f"Direction scores of 'mothr list directions', {NAMES}; all if left out.")
    ] = None,
    distances: Annotated[str, typer.Option(help=f"Distances of 'mothr list distances', {NAMES}.")] = "rms",
    weights: Annotated[
        str, typer.Option(help=f"Weights of the direction against the distance (lambda), {NAMES}.")
    ] = "0.3",
    layers: Annotated[
        str, typer.Option(help=f"Tensors the direction score looks at: presets or re:<expression>, {NAMES}.")
    ] = "matrices",
    combine: Annotated[
        str, typer.Option(help=f"How tensors make one score: own, elements, sum, vote, {NAMES}.")
    ] = "own",
    setting: Annotated[
        Setting, typer.Option(help="What methods are told: the partition into trees, or nothing.")
    ] = "known-trees",
    settings: SetOption = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Tosses of the coin 'random'; all other scores leave nothing to chance.")
    ] = 5,
    keep: Annotated[
        bool, typer.Option("--records", help="Also write a result file a run, for 'mothr leaderboard'.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run MoTHer with every combination of the choices given, and two bounds; write a table and a figure.

    The bounds are the direction scores 'random' (a coin) and 'oracle' (the truth). --out gets ablation.csv, one row a run and
    true tree, ablation.svg and ablation.png, and ablation.parquet where pyarrow or fastparquet is installed.

    Example: mothr ablate data/vthr-ft --directions kurtosis,norm --weights 0,0.1,0.3 --out ablation
    """
    from mothr.baselines.studies import ablation, ablation_report
    from mothr.benchmark.run.method import find_method

    values = set_values(settings or [])
    for field in ablation.VARIED.keys() & values.keys():
        raise MothrError(f"--set {field}={values[field]}: this field is varied; use --{ablation.VARIED[field]}")
    chosen: dict[str, Any] = {
        "distances": _split("distances", distances), "layers": _split("layers", layers),
        "weights": tuple(_number(text) for text in _split("weights", weights)),
        "combine": tuple(None if how == ablation.OWN else how for how in _split("combine", combine)),
        "base": find_method(ablation.METHOD, values),
    }  # fmt: skip
    if directions is not None:
        chosen["directions"] = _split("directions", directions)
    grid = ablation.Grid(**chosen)
    one_thread()
    with ablation_report.whole(out) as place:
        records = ablation.run(grid, data, setting, seeds)
        lines = ablation.summary(records)
        files = ablation_report.write(place, records, lines, data, each=keep)
    failed = [record for record in records if record.status != "ok"]
    remark = (
        None
        if ablation_report.parquet_engine()
        else "no ablation.parquet: neither pyarrow nor fastparquet is installed"
    )
    value = {
        "out": str(out), "files": files, "remark": remark, "runs": len(records), "failed": len(failed),
        "rows": [line.to_json() for line in lines],
    }  # fmt: skip

    def text() -> str:
        shown = [*ablation.differing(lines), "direction"]
        done = f"{len(records)} runs; means over trees with 95 % intervals; {out}: {', '.join(files)}"
        return "\n".join([table([line.cells(shown) for line in lines]), "", done, *([remark] if remark else [])])

    say(value, as_json, text)
    if failed:
        raise MothrError(
            f"{len(failed)} of {len(records)} runs failed; the first, {failed[0].parameters['direction']}: {failed[0].error}"
        )


def map(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where tables and figures go: a new folder.")],
    directions: Annotated[
        str | None, typer.Option(help=f"Direction scores of 'mothr list directions', {NAMES}; all if left out.")
    ] = None,
    layers: Annotated[str, typer.Option(help="Tensors the scores look at: a preset or re:<expression>.")] = "body",
    by: Annotated[
        str | None,
        typer.Option(help=f"What edges are grouped by, {NAMES}: a field, or several crossed by *; all if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Map which direction score tells parent from child, against what made the child: every true edge, every score.

    Fields to group by are family, kind, optimizer, learning_rate, weight_decay, steps, rank, task, init (of the tree's root),
    depth and withheld; where --by is left out, each alone, and those of training crossed.

    --out gets map.csv, one row a regime and score with its interval over trees, map-trees.csv, one row a tree, heat maps as
    .svg and .png, and the tables as .parquet where pyarrow or fastparquet is installed.

    Example: mothr map data/vit-regimes data/vthr-lora-v --by kind,optimizer,init*kind --out map
    """
    from mothr.baselines.studies import ablation_report, claims_figures, regimes

    chosen: dict[str, Any] = {"layers": layers}
    if directions is not None:
        chosen["directions"] = _split("directions", directions)
    if by is not None:
        chosen["by"] = tuple(tuple(name.strip() for name in fields.split("*")) for fields in _split("by", by))
    chart = regimes.Chart(**chosen)
    one_thread()
    with ablation_report.whole(out) as place:
        trees = regimes.survey(data, chart)
        files = claims_figures.write_map(place, trees, f"Layers {layers}.")
    cells = claims_figures.map_cells(trees)
    value = {"out": str(out), "files": files, "rows": _plain_rows(cells)}

    def text() -> str:
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for cell in cells.to_dict("records"):
            row = rows.setdefault(
                (cell["grouping"], cell["regime"]), {"grouping": cell["grouping"], "regime": cell["regime"]}
            )
            row[cell["direction"]] = f"{cell['accuracy']:.2f}"
        blank = dict.fromkeys(dict.fromkeys(cells.direction), "-")
        done = f"shares of edges directed right, means over trees; {out}: {', '.join(files)}"
        return f"{table([{'grouping': '', 'regime': '', **blank, **row} for row in rows.values()])}\n\n{done}"

    say(value, as_json, text)


def claims(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where tables and figures go: a new folder.")],
    only: Annotated[
        str | None, typer.Option(help=f"Claims to test, {NAMES}, by the names of their files; all if left out.")
    ] = None,
    directions: Annotated[
        str, typer.Option(help=f"Direction scores that get a curve of their own, {NAMES}.")
    ] = "kurtosis,abs_kurtosis,norm,residual_independence",
    distance: Annotated[str, typer.Option(help="Distance of 'mothr list distances'.")] = "rms",
    layers: Annotated[
        str, typer.Option(help="Tensors that distances and scores look at: a preset or re:<expression>.")
    ] = "body",
    setting: Annotated[
        Setting, typer.Option(help="What methods are told: the partition into trees, or nothing.")
    ] = "known-trees",
    seeds: Annotated[
        int, typer.Option(min=1, help="Tosses of the coin 'random', and draws of a sub-set of models.")
    ] = 3,
    as_json: Json = False,
) -> None:
    """Test the claims of the MoTHer paper again: of each a table with intervals over trees, and a figure.

    They are 1-distance, 2-3-outliers, 4-lora, 5-motifs, 6-clustering, 7-robustness, 8-depth, and curves for what the paper does
    not speak of. One that these data sets cannot test is skipped, and what it needs is said. --out gets of each <claim>.csv, one
    row a point, <claim>-trees.csv, one row a tree, <claim>.svg and .png, and .parquet where pyarrow or fastparquet is installed.
    Where lines would be too many, each family has a figure of its own: <claim>-<family>.svg.

    Example: mothr claims data/vthr-ft data/vthr-lora-v data/vit-trajectory --out claims
    """
    from mothr.baselines.parts.directions import DIRECTIONS
    from mothr.baselines.studies import ablation_report, claims_figures
    from mothr.baselines.studies.ablation import BOUNDS, each_warning_once
    from mothr.baselines.studies.claims import CLAIMS, Plan, find_claims, points, values
    from mothr.baselines.studies.regimes import open_all
    from mothr.benchmark.weights.features import in_memory

    chosen = find_claims(_split("only", only) if only is not None else list(CLAIMS))
    plan = Plan(
        layers=layers, distance=distance, directions=_split("directions", directions), setting=setting, seeds=seeds
    )
    one_thread()
    with ablation_report.whole(out) as place, in_memory(), each_warning_once():
        known = open_all(data, layers)
        found = {name: values(claim, known, plan) for name, claim in chosen.items()}
        skipped = {name: f"skipped: needs {chosen[name].needs}" for name in found if found[name].empty}
        found = {name: one for name, one in found.items() if name not in skipped}
        if not found:
            raise MothrError(
                f"none of the claims can be tested on these data sets; {'; '.join(f'{n} {s}' for n, s in skipped.items())}"
            )
        about = f"Layers {layers}, distance {distance}, setting {setting}."
        files = claims_figures.write_claims(place, found, about)
    summaries = {name: points(one) for name, one in found.items()}
    value = {
        "out": str(out), "files": files, "skipped": skipped,
        "claims": {name: {"title": chosen[name].title, "rows": _plain_rows(one)} for name, one in summaries.items()},
    }  # fmt: skip

    def text() -> str:
        aside = DIRECTIONS.keys() - {*plan.directions, *BOUNDS}
        rows = [
            {"claim": name, "measure": row["measure"], "of": row["panel"] or "-", "series": row["series"], "x": row["x"],
             "mean": f"{row['mean']:.3f}" + ("" if row["trees"] == 1 else f" [{row['low']:.3f}, {row['high']:.3f}]"),
             "n": str(row["trees"])}
            for name, one in summaries.items() for row in one.to_dict("records") if isinstance(row["x"], str) and row["x"] not in aside
        ]  # fmt: skip
        lines = [table(rows), "", *(f"{name}: {sentence}" for name, sentence in skipped.items())]
        return "\n".join([*lines, f"means with 95 % intervals, curves in the tables; {out}: {', '.join(files)}"])

    say(value, as_json, text)


def fit_direction(
    data: Data,
    out: Annotated[Path, typer.Option(help="The file to write; 'learned' is read from learned.toml, beside the code.")],
    as_json: Json = False,
) -> None:
    """Fit the direction score 'learned' on dev splits, and say how it does on each of them when it is left out.

    Example: mothr fit-direction data/vthr-ft-dev data/llama-ft-dev --out baselines/learned.toml
    """
    from mothr.baselines.studies import fitting
    from mothr.benchmark.data.dataset import open_manifest

    one_thread()
    for place in data:
        split = open_manifest(place).name
        if not split.endswith("-dev"):
            raise MothrError(
                f"{place}: {split} is no dev split; what is fitted on a test split can never be judged on it"
            )
    found = fitting.fit([fitting.edges_of(place) for place in data])
    fitting.write(found, out)
    rows = [
        {"left out": split, "edges": str(found.edges[split]), "right": f"{right:.3f}", "log loss": f"{loss:.3f}"}
        for split, (right, loss) in found.left_out.items()
    ]
    value = {
        "out": str(out),
        "edges": dict(found.edges),
        "left_out": {split: list(told) for split, told in found.left_out.items()},
    }
    say(value, as_json, lambda: f"{table(rows)}\n{out}: {len(found.terms)} terms")


def pairs(
    dataset: Annotated[Path, typer.Argument(help="A folder that 'mothr generate' wrote, with its truth.")],
    results: Annotated[
        Path, typer.Option(help="Folder of results; the file goes into the sub-folder of the split.")
    ] = Path("results"),
    as_json: Json = False,
) -> None:
    """Compare the models of each true tree with each other, so that the board's page can say how far a named parent is.

    pairs.json gets the distance and the evidence of direction of all pairs. No method is given them, and no metric uses them.

    Example: mothr pairs data/vthr-ft --results results
    """
    from mothr.baselines.studies.pairs import pairs_of
    from mothr.benchmark.board.pairs import write
    from mothr.benchmark.data.dataset import keep_beside_results, open_truth
    from mothr.benchmark.records.results import folder_name

    one_thread()
    truth = open_truth(dataset)
    place = results / folder_name(truth.split, truth.version)
    keep_beside_results(dataset, place)
    found = pairs_of(dataset)
    path = write(found, place)
    count = sum(len(tree.distances) for tree in found.trees)
    value = {
        "file": str(path), "trees": len(found.trees), "pairs": count, "distance": found.distance, "direction": found.direction,
        "layers": found.layers,
    }  # fmt: skip
    say(value, as_json, f"{path}: {count} pairs of {len(found.trees)} trees")


def _plain_rows(frame: Any) -> list[dict[str, Any]]:
    """Returns the rows of a table for JSON, NaN as null."""
    return [
        {name: None if isinstance(cell, float) and cell != cell else cell for name, cell in row.items()}
        for row in frame.to_dict("records")
    ]


def _split(option: str, text: str) -> tuple[str, ...]:
    """Returns what commas separate in ``text``."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise MothrError(f"--{option} {text!r}: name at least one, or leave the option out")
    return names


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MothrError(f"--weights {text}: not a number; write them as 0,0.1,0.3") from None


commands = (ablate, map, claims, fit_direction, pairs)
"""What the entry point adds to ``mothr``."""
