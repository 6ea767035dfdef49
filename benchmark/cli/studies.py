"""Commands that compare methods and splits: ``compare`` and ``agreement``."""

from pathlib import Path
from typing import Annotated

import typer

from mothr.benchmark.cli.command import Json, say, table
from mothr.benchmark.records.record import Setting


def compare(
    first: Annotated[
        str, typer.Argument(help="METHOD or METHOD@SETTING, with ,FIELD=VALUE if it was run with several values.")
    ],
    second: Annotated[str, typer.Argument(help="The method to compare it with, written in the same way.")],
    results: Annotated[Path, typer.Argument(help="The folder of results.")] = Path("results"),
    metric: Annotated[str, typer.Option(help="A metric that is defined for single trees.")] = "edge_f1",
    as_json: Json = False,
) -> None:
    """Compare two methods tree by tree, with a paired test on every split that both were run on.

    Example: mothr compare linea mother-v2@known-trees,direction=kurtosis,direction_layers=square-output results
    """
    from dataclasses import asdict

    from mothr.benchmark.board import compare as comparing

    found = comparing.compare(results, comparing.Choice.parse(first), comparing.Choice.parse(second), metric)
    value = {"metric": metric, "first": first, "second": second, "splits": [asdict(one) for one in found]}
    say(
        value,
        as_json,
        lambda: f"{table(comparing.table(found))}\n{metric}: {first} is {comparing.verdict(found)}, against {second}",
    )


def agreement(
    first: Annotated[str, typer.Argument(help="The folder of a split in the results, such as hub-vit-v1.")],
    second: Annotated[str, typer.Argument(help="The folder of another split, such as hub-vit-draw-2-v1.")],
    results: Annotated[Path, typer.Argument(help="The folder of results.")] = Path("results"),
    setting: Annotated[Setting, typer.Option(help="The setting of the boards.")] = "open",
    as_json: Json = False,
) -> None:
    """Say how far two splits rank the methods alike: Kendall's tau of the mean edge F1, with an interval over trees.

    Example: mothr agreement hub-vit-v1 hub-vit-draw-2-v1 results
    """
    from dataclasses import asdict

    from mothr.benchmark.board.agreement import split_agreement

    found = split_agreement(results, first, second, setting)
    value = {"first": first, "second": second, "setting": setting, **asdict(found)}
    if found.tau is None:
        text = f"no tau: all {found.methods} methods tie on one of the splits"
    else:
        text = (
            f"Kendall's tau {found.tau:.2f} ({found.low:.2f} to {found.high:.2f}) over {found.methods} ranked methods"
        )
    say(value, as_json, text)
