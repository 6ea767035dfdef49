"""What the modules of commands share: the groups of ``mothr --help``, common options, and printing."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mothr.benchmark.errors import MothrError

Group = Literal["Start", "Data", "Methods", "Studies", "Board", "Own models"]
"""The groups of ``mothr --help``, in this order."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of ``mothr``."""

    group: Group
    """The group that ``mothr --help`` lists it in."""
    function: Callable[..., None]
    """Its parameters are the options, its docstring is the help."""
    name: str | None = None
    """The name of the command; the name of the function if None."""


Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output, for programs.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field of the method, or GROUP.FIELD in a group of fields; repeatable.",
    ),
]
WorkersOption = Annotated[
    int, typer.Option(min=1, help="Processes that read and compare weights, each with one thread.")
]
MemoryOption = Annotated[
    float, typer.Option(min=0, help="GiB that comparing weights may use, in all processes together.")
]
LabelsOption = Annotated[
    Path | None, typer.Option(help="The folder of a hidden split's labels, as 'mothr generate --labels' wrote it.")
]


def say(value: Any, as_json: bool, text: str | Callable[[], str]) -> None:
    """Prints ``value`` as JSON, or ``text`` for people."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False, allow_nan=False))
    else:
        print(text if isinstance(text, str) else text())


def table(rows: list[dict[str, str]]) -> str:
    """Returns ``rows`` as aligned text with a heading."""
    if not rows:
        return "(none)"
    names = list(rows[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    lines = [{name: name for name in names}, *rows]
    return "\n".join("  ".join(str(row[name]).ljust(widths[name]) for name in names).rstrip() for row in lines)


def cell(value: Any) -> str:
    """Returns a cell of a table: floats with three digits, lists with commas, ``-`` for None and empty lists."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def field_values(settings: list[str]) -> dict[str, str]:
    """Returns the values of ``--set``, ``["field=value", ...]``, as a dictionary.

    Raises:
        MothrError: a value without ``=`` or without a field.
    """
    values = {}
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise MothrError(f"--set {text}: write it as field=value")
        values[key] = value
    return values
