"""Commands to start with: ``list``."""

import json
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer

from mothr.benchmark.cli.command import Json, cell, say, table
from mothr.benchmark.errors import unknown_name

CATALOGUES = "mothr.catalogues"
"""The group of entry points that provides lists: each is a function that returns rows."""


def list_(
    what: Annotated[
        str, typer.Argument(help="recipes, methods, distances, directions, metrics; or a method, for its fields.")
    ],
    as_json: Json = False,
) -> None:
    """List what there is to choose from.

    Example: mothr list methods

    Example: mothr list linea
    """
    from mothr.benchmark.run.description import describe_method
    from mothr.benchmark.run.registry import method_names

    points = {point.name: point for point in entry_points(group=CATALOGUES)}
    if what == "methods":
        rows = [describe_method(name) for name in method_names()]
    elif what in points:
        rows = points[what].load()()
    elif what in method_names():
        rows = describe_method(what)["fields"]
    else:
        raise unknown_name("list", what, [*points, "methods"])
    shown = [{name: _cell(name, value) for name, value in row.items() if name != "fields"} for row in rows]
    say(rows, as_json, lambda: table(shown))


def _cell(column: str, value: Any) -> str:
    """Returns a cell of a list. The default of a field is written with all its digits."""
    return json.dumps(value) if column == "default" else cell(value)
