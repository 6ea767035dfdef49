"""Writes the pages and the tables of the leaderboard.

``index.html`` and ``README.md`` are summaries of all splits. Each split has a folder of its own with both, so that links between them
work from the file system.
"""

from dataclasses import dataclass
from pathlib import Path

from mothr.benchmark.board.html import write as write_html
from mothr.benchmark.board.markdown import short_table
from mothr.benchmark.board.markdown import write as write_tables
from mothr.benchmark.board.tracks.standings import TrackBoard, track_boards, tracks_of
from mothr.benchmark.board.views import read_leaderboard


@dataclass(frozen=True, slots=True)
class Written:
    """What :func:`write_both` wrote."""

    page: Path
    """The path of ``index.html``."""
    tables: Path
    """The path of ``README.md``."""
    tracks: list[TrackBoard]
    """The tracks that both show."""


def write_both(results_folder: Path, out: Path) -> Written:
    """Returns what was written: all pages and tables. Records are read once.

    Raises:
        MothrError: as :func:`write_pages`.
    """
    leaderboard = read_leaderboard(results_folder)
    tracks = track_boards(leaderboard)
    return Written(write_html(leaderboard, out, tracks), write_tables(leaderboard, out, tracks), tracks)


def write_pages(results_folder: Path, out: Path) -> Path:
    """Returns the path of ``out/index.html``; writes it, and ``out/<split>-v<k>/index.html`` for each split.

    The pages load nothing and need no server.

    Raises:
        MothrError: the folder holds no records, or a record, a truth, a split's ``pairs.json`` or the regime map cannot be read.
    """
    leaderboard = read_leaderboard(results_folder)
    return write_html(leaderboard, out, track_boards(leaderboard))


def write_markdown(results_folder: Path, out: Path) -> Path:
    """Returns the path of ``out/README.md``; writes it, and ``out/<split>-v<k>/README.md`` for each split.

    A split's own ``made.md``, if there is one, says at the end of its tables what it took to make the split. What
    ``regimes/about.md`` says of the regime map stands in the summary.

    Raises:
        MothrError: the folder holds no records, or a record is faulty.
    """
    leaderboard = read_leaderboard(results_folder)
    return write_tables(leaderboard, out, track_boards(leaderboard))


def readme_table(results_folder: Path) -> tuple[str, list[TrackBoard]]:
    """Returns a Markdown table with a row for each track, and the tracks themselves.

    Raises:
        MothrError: the folder holds no records or defines no tracks, or one of its files is faulty.
    """
    tracks = tracks_of(results_folder)
    return short_table(tracks), tracks
