"""Chooses the methods that the picture of all tracks shows: each method with its own parameters, and its best variant."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mothr.benchmark.board.tracks.standings import Standing, TrackBoard
from mothr.benchmark.errors import MothrError
from mothr.benchmark.run.method import about
from mothr.benchmark.run.registry import find_method, is_own


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of the picture."""

    label: str
    """The label of the method's standings."""
    name: str
    """The registered name of the method."""
    note: str
    """By what the line differs from others of the method; empty if there is no other."""


def shown_methods(boards: Sequence[TrackBoard]) -> list[Shown]:
    """Returns the methods that the picture of one setting shows, best first.

    A method has at most two lines: the parameters that it has without any setting, and its best variant. That is the variant with
    the largest mean over tracks, of those with a score on the most tracks. Methods with a score on every track that has splits
    come first, the others below them, each by their mean. Bounds are left out.

    Args:
        boards: every track in one setting.
    """
    scores: dict[str, list[float]] = {}
    rows: dict[str, Standing] = {}
    for board in boards:
        for row in board.standings:
            if row.kind == "method" and row.score:
                scores.setdefault(row.label, []).append(row.score.mean)
                rows[row.label] = row
    order = sorted(scores, key=lambda label: (-len(scores[label]), -float(np.mean(scores[label])), label))
    variants: dict[str, list[str]] = {}
    for label in order:
        variants.setdefault(rows[label].method, []).append(label)
    notes: dict[str, str] = {}
    for method, labels in variants.items():
        plain = [label for label in labels if is_plain(rows[label].method, rows[label].parameters)]
        alike = [label for label in labels if len(scores[label]) == len(scores[labels[0]])]
        for label in {labels[0], *plain}:
            notes[label] = _note(
                label, method, len(labels), len(alike) if label == alike[0] else 0, plain=label in plain
            )
    return [Shown(label, rows[label].method, notes[label]) for label in order if label in notes]


def _note(label: str, method: str, variants: int, best_of: int, *, plain: bool) -> str:
    """Returns the values of the fields by which variants differ, and why this variant is shown; nothing for a single variant.

    Args:
        label: the label of the variant.
        method: the name of the method.
        variants: number of variants of the method.
        best_of: number of variants of which it is the best; 0 if it is not.
        plain: whether it has the parameters that the method has without any setting.
    """
    if variants == 1:
        return ""
    values = re.sub(r"\S+?=", "", label.removeprefix(method)).replace('"', "").strip()
    reasons = [*(["default"] if plain else []), *([f"best of {best_of}"] if best_of > 1 else [])]
    return f"{values} ({', '.join(reasons)})" if reasons else values


def is_plain(method: str, parameters: str) -> bool:
    """Returns whether a method of this package was run with the parameters that it has without any setting.

    Args:
        method: its registered name. Its version may be newer than that of the run.
        parameters: the parameters of the run, as JSON.
    """
    if not is_own(method):
        return False
    try:
        declared = about(find_method(method), method)
    except MothrError:
        return False
    own = json.loads(json.dumps(dict(declared.parameters)))  # a tuple of a field is a list in a record
    return bool(own == json.loads(parameters))
