"""How far two splits rank the same methods alike, as two draws of one recipe should."""

from pathlib import Path

from mothr.benchmark.board.board import Row, split_rows
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.records.record import Configuration
from mothr.benchmark.records.store import RUNS
from mothr.benchmark.score.ranking import Agreement, rank_agreement


def split_agreement(results: Path, first: str, second: str, setting: str = "open") -> Agreement:
    """Returns the agreement of two splits on the ranked methods that were run on both.

    Args:
        results: the folder of results.
        first: folder of a split in it, such as ``hub-vit-v1``.
        second: folder of another split.
        setting: the setting of the boards.

    Raises:
        MothrError: there are no runs on a split, a record is faulty, or the splits share fewer than two ranked methods.
    """
    sides = [ranked_rows(results, split, setting) for split in (first, second)]
    shared = sides[0].keys() & sides[1].keys()
    if len(shared) < 2:
        raise MothrError(
            f"{results}: {len(shared)} ranked methods were run on both {first} and {second} in the setting {setting}; "
            "run 'mothr run' with the same methods on both"
        )
    one, other = ({str(key): side[key].tree_values for key in shared} for side in sides)
    return rank_agreement(one, other)


def ranked_rows(results: Path, split: str, setting: str) -> dict[Configuration, Row]:
    """Returns the rows of one board that have a rank, by method, version and parameters.

    Args:
        results: the folder of results.
        split: folder of a split in it, such as ``hub-vit-v1``.
        setting: the setting of the board.

    Raises:
        MothrError: there are no runs on the split, or a record is faulty.
    """
    known = sorted(path.parent.name for path in results.glob(f"*/{RUNS}"))
    if split not in known:
        raise unknown_name(f"split with runs in {results}", split, known)
    return {row.configuration: row for row in split_rows(results / split, setting) if row.ranked}
