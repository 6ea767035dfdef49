"""The one error a user is meant to read, and the sentence for a name that does not exist."""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class MothrError(Exception):
    """Says what is wrong, where, and what to do about it; the command line prints it without a traceback."""

    heading = "error"
    """What the command line prints before it."""
    exit_status = 1
    """What the command line leaves with."""


class MothrWarning(UserWarning):
    """A part of the input was left out or could not be stored, but the result is valid."""


class Skipped(MothrError):
    """Says what optional thing is absent, so that nothing was done, and how to have it."""

    heading = "skipped"
    exit_status = 3


def unknown_name(kind: str, name: str, known: Iterable[str]) -> MothrError:
    """Returns the error for an unknown ``name`` of some ``kind``, with the nearest known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
    return MothrError(f"unknown {kind} {name!r}; {hint}")


def in_words(error: BaseException) -> str:
    """Returns what an error of foreign code says, with its kind, file and line, as one line."""
    if isinstance(error, MothrError | SyntaxError):  # these name their place themselves
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
