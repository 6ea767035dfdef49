"""The tracks as tables: what pages and Markdown show of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mothr.benchmark.board.tracks import picture
from mothr.benchmark.board.tracks.selection import shown_methods
from mothr.benchmark.board.tracks.standings import Standing, TrackBoard
from mothr.benchmark.score.statistics import Interval


@dataclass(frozen=True, slots=True)
class Line:
    """One method with one set of parameters on all tracks."""

    label: str
    """The name, with everything by which rows of this method differ."""
    kind: str
    """The method's kind."""
    cells: tuple[Standing | None, ...]
    """Its standing on each track; None if it was run on no split of the track."""


@dataclass(frozen=True, slots=True)
class SettingTracks:
    """All tracks in one setting."""

    setting: str
    """``open`` or ``known-trees``."""
    boards: tuple[TrackBoard, ...]
    """The tracks, in the order of their definition."""
    lines: tuple[Line, ...]
    """The methods: first those with a score on every track that has splits, by its mean, then the others."""

    def picture(self, *, alone: bool = False) -> str:
        """Returns the picture as SVG; see :func:`mothr.benchmark.board.tracks.picture.svg`."""
        return picture.svg(self.boards, shown_methods(self.boards), alone=alone)


def by_setting(boards: Sequence[TrackBoard]) -> list[SettingTracks]:
    """Returns the tracks of each setting, in the order in which the settings come."""
    settings = dict.fromkeys(board.setting for board in boards)
    return [_tracks_of(setting, [board for board in boards if board.setting == setting]) for setting in settings]


def _tracks_of(setting: str, boards: Sequence[TrackBoard]) -> SettingTracks:
    standings = [{row.label: row for row in board.standings} for board in boards]
    lines = []
    for label in dict.fromkeys(label for own in standings for label in own):
        cells = tuple(own.get(label) for own in standings)
        kind = next(cell.kind for cell in cells if cell)
        lines.append(Line(label, kind, cells))
    filled = sum(bool(board.splits) for board in boards)

    def order(line: Line) -> tuple[bool, float, str]:
        scores = [cell.score.mean for cell in line.cells if cell and cell.score]
        return len(scores) < filled, -float(np.mean(scores)) if scores else 1.0, line.label

    return SettingTracks(setting, tuple(boards), tuple(sorted(lines, key=order)))


def interval_text(interval: Interval | None) -> str:
    """Returns the ends of an interval, as ``0.91–0.97``; ``n = 1`` for one value, a dash without an interval."""
    if interval is None:
        return "–"
    if interval.low is None or interval.high is None:
        return f"n = {interval.n}"
    return f"{interval.low:.2f}–{interval.high:.2f}"


def null_text(board: TrackBoard, row: Standing) -> str:
    """Returns the adjusted p-value of a method against the best null method, and whether it scores less; a dash without one."""
    test = board.null_tests.get(row.label)
    if test is None:
        return "–"
    p = "< 0.001" if test.p_holm < 0.001 else f"{test.p_holm:.3f}"
    return f"{p} below" if test.difference < 0 else p


def count_text(board: TrackBoard) -> str:
    """Returns the numbers of splits, of trees and of solved splits in words."""
    if not board.splits:
        return "no splits yet"
    parts = [
        f"{len(board.splits)} split{'s' * (len(board.splits) != 1)}",
        f"{board.trees} tree{'s' * (board.trees != 1)}",
    ]
    return ", ".join([*parts, *([f"{len(board.solved)} solved"] if board.solved else [])])
