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

    A method has at most two lines: the parameters that it has without any setting, and the variant with the largest mean over
    tracks. Only variants with a score on every track that has splits are taken. Bounds are left out.

    Args:
        boards: every track in one setting.
    """
    filled = [board for board in boards if board.splits]
    scores: dict[str, list[float]] = {}
    rows: dict[str, Standing] = {}
    for board in filled:
        for row in board.standings:
            if row.kind == "method" and row.score:
                scores.setdefault(row.label, []).append(row.score.mean)
                rows[row.label] = row
    means = {label: float(np.mean(own)) for label, own in scores.items() if len(own) == len(filled)}
    variants: dict[str, list[str]] = {}
    for label in sorted(means, key=lambda label: (-means[label], label)):
        variants.setdefault(rows[label].method, []).append(label)
    shown = []
    for method, labels in variants.items():
        plain = [label for label in labels if _is_plain(rows[label])]
        for label in dict.fromkeys([labels[0], *plain]):
            shown.append(
                Shown(label, method, _note(label, method, len(labels), best=label == labels[0], plain=label in plain))
            )
    return sorted(shown, key=lambda line: -means[line.label])


def _note(label: str, method: str, count: int, *, best: bool, plain: bool) -> str:
    """Returns the values of the fields by which variants differ, and why this variant is shown; nothing for a single variant."""
    if count == 1:
        return ""
    values = re.sub(r"\S+?=", "", label.removeprefix(method)).replace('"', "").strip()
    reasons = [*(["default"] if plain else []), *([f"best of {count}"] if best else [])]
    return f"{values} ({', '.join(reasons)})"


def _is_plain(row: Standing) -> bool:
    """Returns whether a row has the parameters that its method has without any setting. The method's version may be newer."""
    if not is_own(row.method):
        return False
    try:
        declared = about(find_method(row.method), row.method)
    except MothrError:
        return False
    return bool(dict(declared.parameters) == json.loads(row.parameters))
