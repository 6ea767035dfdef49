"""Commands that compare methods: ``compare``."""

from pathlib import Path
from typing import Annotated

import typer

from mothr.benchmark.cli.command import Json, say, table


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
