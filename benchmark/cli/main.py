"""The command ``mothr``: joins the commands of all packages, and prints warnings and errors as one line each."""

import sys
import warnings
from importlib.metadata import entry_points
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from mothr.benchmark import __version__
from mothr.benchmark.cli.command import Command, Group
from mothr.benchmark.errors import MothrError

COMMANDS = "mothr.commands"
"""The group of entry points that adds commands: each is a tuple of :class:`Command`."""


class GroupedCommands(TyperGroup):
    """Lists the commands in their groups. Typer itself does so only in the markup of the package rich."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes a section with the commands of each group."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        room = formatter.width - 6 - max(map(len, commands), default=0)
        for group in get_args(Group):
            rows = [
                (name, command.get_short_help_str(room))
                for name, command in commands.items()
                if command is not None and getattr(command, "rich_help_panel", None) == group
            ]
            if rows:
                with formatter.section(group):
                    formatter.write_dl(rows)


app = typer.Typer(
    cls=GroupedCommands,
    help="Recover who was fine-tuned from whom, from weights alone: generate forests, run methods, score them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command line and leaves the process with its exit status."""
    warnings.formatwarning = one_line
    commands: list[Command] = []
    for point in sorted(entry_points(group=COMMANDS), key=lambda point: point.name):
        commands += point.load()
    for command in commands:
        app.command(command.name, rich_help_panel=command.group)(command.function)
    try:
        app()
    except MothrError as error:
        print(f"{error.heading}: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Returns a warning as one line. Warnings for developers (deprecations, numerics) name their place in the code."""
    place = "" if issubclass(category, UserWarning) else f"{filename}:{lineno}: {category.__name__}: "
    return f"warning: {place}{message}\n"


def version(show: bool) -> None:
    """Prints the version and leaves."""
    if show:
        print(f"mothr {__version__}")
        raise typer.Exit


@app.callback()
def start(
    show: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Recover who was fine-tuned from whom, from weights alone: generate forests, run methods, score them.

    A Model Tree is one root model and its descendants. A split is a set of models with known trees.
    """
