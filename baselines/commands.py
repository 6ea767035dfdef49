"""The commands that vary methods, joined to ``mothr`` through an entry point."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mothr.benchmark.cli import Json, SetOption, one_thread, pairs, say, table
from mothr.benchmark.errors import MothrError
from mothr.benchmark.results import Setting

NAMES = "separated by commas"


def ablate(
    data: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder that 'mothr generate' wrote, with its truth.")],
    out: Annotated[Path, typer.Option(help="Where table and figure go: a new folder.")],
    directions: Annotated[str | None, typer.Option(help=f"Direction scores of 'mothr list directions', {NAMES}; all if left out.")] = None,
    distances: Annotated[str, typer.Option(help=f"Distances of 'mothr list distances', {NAMES}.")] = "rms",
    weights: Annotated[str, typer.Option(help=f"Weights of the direction against the distance (lambda), {NAMES}.")] = "0.3",
    layers: Annotated[str, typer.Option(help=f"Tensors the direction score looks at: presets or re:<expression>, {NAMES}.")] = "matrices",
    combine: Annotated[str, typer.Option(help=f"How tensors make one score: own, elements, sum, vote, {NAMES}.")] = "own",
    setting: Annotated[Setting, typer.Option(help="What methods are told: the partition into trees, or nothing.")] = "known-trees",
    settings: SetOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Tosses of the coin 'random'; all other scores leave nothing to chance.")] = 5,
    keep: Annotated[bool, typer.Option("--records", help="Also write a result file a run, for 'mothr leaderboard'.")] = False,
    as_json: Json = False,
) -> None:
    """Run MoTHer with every combination of the choices given, and two bounds; write a table and a figure.

    The bounds are the direction scores 'random' (a coin) and 'oracle' (the truth). --out gets ablation.csv, one row a run and
    true tree, ablation.svg and ablation.png, and ablation.parquet where pyarrow or fastparquet is installed.

    Example: mothr ablate data/vthr-ft --directions kurtosis,norm --weights 0,0.1,0.3 --out ablation
    """
    from mothr.baselines import ablation, ablation_report
    from mothr.benchmark.method import find_method

    values = pairs(settings or [])
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
    remark = None if ablation_report.parquet_engine() else "no ablation.parquet: neither pyarrow nor fastparquet is installed"
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
        raise MothrError(f"{len(failed)} of {len(records)} runs failed; the first, {failed[0].parameters['direction']}: {failed[0].error}")


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


commands = (ablate,)
"""What the entry point adds to ``mothr``."""
