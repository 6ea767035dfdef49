"""The one error a user is meant to read, and the sentence for a name that does not exist."""

import difflib
from collections.abc import Iterable


class MothrError(Exception):
    """Says what is wrong, where, and what to do about it; the command line prints it without a traceback."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> MothrError:
    """Returns the error for an unknown ``name`` of some ``kind``, with the nearest known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
    return MothrError(f"unknown {kind} {name!r}; {hint}")
