"""The errors and the warning that are written for the user."""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class MothrError(Exception):
    """An error that is written for the user: about the input, the files or the machine.

    Its message names the file, the value and the remedy; the command line prints no traceback.
    """

    heading = "error"
    """The word that the command line prints before the message."""
    exit_status = 1
    """The exit status of the command."""


class MothrWarning(UserWarning):
    """A part of the input was left out or could not be stored, but the result is valid."""


class Skipped(MothrError):
    """An optional library or file is missing, so nothing was done. The message says how to get it."""

    heading = "skipped"
    exit_status = 3


def unknown_name(kind: str, name: str, known: Iterable[str]) -> MothrError:
    """Returns the error for an unknown name, with the most similar known names.

    Args:
        kind: What the name stands for, such as "method".
        name: The unknown name.
        known: All known names.
    """
    known = sorted(known)
    similar = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(similar)}?" if similar else f"known: {', '.join(known) or 'none'}"
    return MothrError(f"unknown {kind} {name!r}; {hint}")


def describe_error(error: BaseException) -> str:
    """Returns an error of other code as one line: its type, message, file and line number."""
    if isinstance(error, MothrError | SyntaxError):  # the messages of these name the place already
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"
