"""The standing of every method on every track, computed from the rows of the boards."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mothr.benchmark.board.board import ERROR, LEVEL, RANKED_BY, Row, latest
from mothr.benchmark.board.tracks.definition import ALL_SPLITS, Track, Tracks, of_results
from mothr.benchmark.board.views import SETTINGS, Leaderboard, read_leaderboard
from mothr.benchmark.records.record import Configuration
from mothr.benchmark.records.store import folder_name
from mothr.benchmark.score.ranking import PairTest, TrackScore, paired_tests, track_ranks, track_score
from mothr.benchmark.side_information import MethodKind

SOLVED_SCORE = 0.99
"""The edge F1 from which a method counts as right on a split."""
SOLVED_METHODS = 3
"""A split is solved if so many ranked methods are right on it. Variants of one method, with other parameters, count once."""
RANGE = (0.0, 1.0)
"""Smallest and largest edge F1."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One method with one set of parameters on one track."""

    label: str
    """The name, with everything by which rows of this method differ."""
    method: str
    """The registered name."""
    version: str
    """The method's version."""
    parameters: str
    """All its parameters as JSON."""
    kind: MethodKind
    """The method's kind. Only rows of the kind ``method`` have a rank."""
    given: tuple[str, ...]
    """The side information that the method was given, sorted."""
    rank: int | None
    """The rank on the track; methods that no test distinguishes share one. None if the row is not ranked."""
    unranked: str
    """Why the row has no rank, beyond its kind; empty if it has one."""
    score: TrackScore | None
    """Edge F1. None if the method was not run on every split of the track."""
    unsolved: TrackScore | None
    """The same without solved splits. None if all splits are solved, or without a score."""
    split_scores: Mapping[str, float]
    """Folder of each split that the method was run on -> mean edge F1 over its trees."""


@dataclass(frozen=True, slots=True)
class TrackBoard:
    """One track in one setting."""

    track: Track
    """The track."""
    setting: str
    """``open`` or ``known-trees``."""
    splits: Mapping[str, int]
    """Folder of each split -> its number of trees, sorted. Empty if the track has no splits yet."""
    solved: tuple[str, ...]
    """The folders of solved splits."""
    standings: tuple[Standing, ...]
    """The methods: first those with a score, best first, then those that were not run on every split."""
    tests: tuple[PairTest, ...]
    """The comparison of every two ranked methods, by their labels."""
    null_tests: Mapping[str, PairTest]
    """Label of each ranked method -> its comparison with the best null method; empty without a null method."""

    @property
    def trees(self) -> int:
        """Number of trees in all splits."""
        return sum(self.splits.values())

    @property
    def separates(self) -> bool:
        """Whether some ranked methods have different ranks: whether any test separates two of them."""
        return len({row.rank for row in self.standings if row.rank is not None}) > 1

    @property
    def best_null(self) -> Standing | None:
        """The null method with the largest score, of those with a score on every tree; None without one."""
        nulls = (row for row in self.standings if row.kind == "null" and row.score and row.score.trees.n == self.trees)
        return next(nulls, None)


def track_boards(leaderboard: Leaderboard, otherwise: Tracks | None = None) -> list[TrackBoard]:
    """Returns every track in every setting. Superseded splits, and runs on another build of a split, are left out.

    Args:
        leaderboard: all boards of a folder of results.
        otherwise: the tracks if the folder defines none; None for no tracks then.

    Raises:
        MothrError: the file that defines the tracks is faulty.
    """
    tracks = of_results(leaderboard.folder) or otherwise
    if tracks is None:
        return []
    labels = dict(zip((row.configuration for row in leaderboard.rows), leaderboard.table["label"], strict=True))
    rows = [row for row in latest(leaderboard.rows, leaderboard.folder) if not row.other_build and len(row.scores)]
    track_of = {split: tracks.of(split) for split in {row.board[0] for row in rows}}
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        split, _, setting = row.board
        if track := track_of[split]:
            grouped.setdefault((setting, track.name), []).append(row)
    settings = [setting for setting in reversed(SETTINGS) if any(own == setting for own, _ in grouped)]
    return [
        _board(track, setting, grouped.get((setting, track.name), []), labels)
        for setting in settings  # first the one in which nothing is given
        for track in tracks.tracks
    ]


def tracks_of(results: Path) -> list[TrackBoard]:
    """Returns every track in every setting of a folder of results. A folder that defines none has one track of all splits.

    Raises:
        MothrError: the folder holds no records, or a record or the definition of tracks is faulty.
    """
    return track_boards(read_leaderboard(results), ALL_SPLITS)


def without_track(leaderboard: Leaderboard) -> list[str]:
    """Returns the folders of current splits that belong to no track, sorted."""
    tracks = of_results(leaderboard.folder)
    splits = sorted({row.board[:2] for row in latest(leaderboard.rows, leaderboard.folder)})
    return [folder_name(*split) for split in splits if tracks is None or tracks.of(split[0]) is None]


def _board(track: Track, setting: str, rows: Sequence[Row], labels: Mapping[Configuration, str]) -> TrackBoard:
    """Returns one track in one setting, from the rows on its splits."""
    sizes = {folder_name(*row.board[:2]): len(row.scores) for row in sorted(rows, key=lambda row: row.board)}
    on_split: dict[str, list[Row]] = {folder: [] for folder in sizes}
    methods: dict[Configuration, dict[str, Row]] = {}
    for row in rows:
        folder = folder_name(*row.board[:2])
        on_split[folder].append(row)
        methods.setdefault(row.configuration, {})[folder] = row
    solved = tuple(folder for folder, own in on_split.items() if _is_solved(own))
    complete = {
        labels[configuration]: [own[folder].tree_values for folder in sizes]
        for configuration, own in methods.items()
        if own.keys() == sizes.keys() and not _unranked(own, sizes)
    }
    tests = paired_tests(complete)
    means = {label: track_score(scores, LEVEL, RANGE).mean for label, scores in complete.items()}
    ranks = track_ranks(means, tests, ERROR)
    standings = [_standing(labels[configuration], own, sizes, solved, ranks) for configuration, own in methods.items()]
    standings.sort(key=lambda row: (row.score is None, -row.score.mean if row.score else 0, row.label))
    board = TrackBoard(track, setting, sizes, solved, tuple(standings), tuple(tests), {})
    if board.best_null is None:
        return board
    null = board.best_null.label
    rows_of_null = next(own for configuration, own in methods.items() if labels[configuration] == null)
    with_null = {**complete, null: [rows_of_null[folder].tree_values for folder in sizes]}
    null_tests = paired_tests(with_null, [(label, null) for label in complete])
    return replace(board, null_tests={test.first: test for test in null_tests})


def _is_solved(rows: Sequence[Row]) -> bool:
    """Returns whether enough ranked methods are right on a split, which has these rows."""
    right = {row.configuration[0] for row in rows if row.ranked and row.tree_values.mean() >= SOLVED_SCORE}
    return len(right) >= SOLVED_METHODS


def _unranked(own: Mapping[str, Row], sizes: Mapping[str, int]) -> str:
    """Returns why a method has no rank on a track; empty if it has one.

    Args:
        own: folder of a split -> the method's row on it.
        sizes: folder of each split of the track -> number of trees.
    """
    missing = [folder for folder in sizes if folder not in own]
    if missing:
        return f"not run on {', '.join(missing)}"
    if next(iter(own.values())).kind != "method":
        return "a bound, or reads metadata"
    return "; ".join(f"{folder}: {'; '.join(row.unranked)}" for folder, row in own.items() if row.unranked)


def _standing(
    label: str, own: Mapping[str, Row], sizes: Mapping[str, int], solved: Sequence[str], ranks: Mapping[str, int]
) -> Standing:
    """Returns the standing of one method, whose rows on the track's splits are ``own``."""
    first = next(iter(own.values()))
    known = {folder: own[folder].tree_values for folder in sizes if folder in own}
    known = {folder: scores[np.isfinite(scores)] for folder, scores in known.items() if np.isfinite(scores).any()}
    has_score = known.keys() == sizes.keys()
    unsolved = [scores for folder, scores in known.items() if folder not in solved]
    unranked = _unranked(own, sizes)
    return Standing(
        label=label,
        method=first.configuration[0],
        version=first.configuration[1],
        parameters=first.configuration[2],
        kind=first.kind,
        given=tuple(sorted({name for row in own.values() for name in row.given})),
        rank=None if unranked else ranks[label],
        unranked="" if first.kind != "method" and has_score else unranked,
        score=track_score(list(known.values()), LEVEL, RANGE) if has_score else None,
        unsolved=track_score(unsolved, LEVEL, RANGE) if has_score and unsolved else None,
        split_scores={folder: float(scores.mean()) for folder, scores in known.items()},
    )


def to_json(boards: Sequence[TrackBoard]) -> list[dict[str, Any]]:
    """Returns the tracks as JSON values."""
    return [
        {
            "track": board.track.name,
            "title": board.track.title,
            "about": board.track.about,
            "setting": board.setting,
            "metric": RANKED_BY,
            "splits": dict(board.splits),
            "solved": list(board.solved),
            "standings": [asdict(row) for row in board.standings],
            "tests": [asdict(test) for test in board.tests],
            "null_tests": [asdict(test) for test in board.null_tests.values()],
        }
        for board in boards
    ]
