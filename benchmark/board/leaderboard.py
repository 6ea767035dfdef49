"""Writes the pages and the tables of the leaderboard.

``index.html`` and ``README.md`` are summaries of all splits. Each split has a folder of its own with both, so that links between them
work from the file system.
"""

from pathlib import Path

from mothr.benchmark.board.html import write as write_html
from mothr.benchmark.board.markdown import group_table
from mothr.benchmark.board.markdown import write as write_tables
from mothr.benchmark.board.views import read_leaderboard


def write_both(results_folder: Path, out: Path) -> tuple[Path, Path]:
    """Returns the paths of ``out/index.html`` and ``out/README.md``; writes all pages and tables, and reads records once.

    Raises:
        MothrError: as :func:`write_pages`.
    """
    leaderboard = read_leaderboard(results_folder)
    return write_html(leaderboard, out), write_tables(leaderboard, out)


def write_pages(results_folder: Path, out: Path) -> Path:
    """Returns the path of ``out/index.html``; writes it, and ``out/<split>-v<k>/index.html`` for each split.

    The pages load nothing and need no server.

    Raises:
        MothrError: the folder holds no records, or a record, a truth, a split's ``pairs.json`` or the regime map cannot be read.
    """
    return write_html(read_leaderboard(results_folder), out)


def write_markdown(results_folder: Path, out: Path) -> Path:
    """Returns the path of ``out/README.md``; writes it, and ``out/<split>-v<k>/README.md`` for each split.

    A split's own ``made.md``, if there is one, says at the end of its tables what it took to make the split. What
    ``regimes/about.md`` says of the regime map stands in the summary.

    Raises:
        MothrError: the folder holds no records, or a record is faulty.
    """
    return write_tables(read_leaderboard(results_folder), out)


def readme_table(results_folder: Path) -> str:
    """Returns a Markdown table of at most 12 rows: a group of splits each, with mean edge F1, its interval and n.

    Raises:
        MothrError: the folder holds no records, or a record is faulty.
    """
    return group_table(read_leaderboard(results_folder))
