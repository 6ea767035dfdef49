"""Rows of published runs on an opened data set: which rows there are, their labels, and which of them a study shows."""

from collections.abc import Sequence
from pathlib import Path

from mothr.baselines.studies.datasets import OpenedDataset
from mothr.benchmark.board.board import Row, split_rows, table
from mothr.benchmark.board.tracks.selection import is_plain
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.records.record import Setting
from mothr.benchmark.records.store import RUNS, folder_name
from mothr.benchmark.run import plan


def published_rows(data: OpenedDataset, results: Path, setting: Setting) -> list[Row]:
    """Returns the rows of all methods on a data set in one setting, without rows on another build and without skipped rows.

    Args:
        data: The data set.
        results: Folder of results.
        setting: What the methods were given beside the weights.

    Raises:
        MothrError: There are no such runs, or a record is faulty.
    """
    place = results / folder_name(data.truth.split, data.truth.version)
    remedy = f"run 'mothr run' on {data.folder} with --out {results} first"
    if not (place / RUNS).is_file():
        raise MothrError(f"{place}: holds no runs; {remedy}")
    found = [row for row in split_rows(place, setting) if any(run.status != "skipped" for run in row.runs)]
    if not found:
        raise MothrError(f"{place}: holds no runs in the setting {setting}; {remedy}, or name another setting")
    return found


def has_own_parameters(row: Row) -> bool:
    """Returns whether a method was run with the parameters that it has without any setting."""
    return is_plain(row.configuration[0], row.configuration[2])


def row_labels(board_rows: Sequence[Row], results: Path) -> dict[str, str]:
    """Returns the id of each row -> method and the parameters by which its rows differ."""
    if not board_rows:
        return {}
    cells = table(board_rows, plan.of_results(results))
    return dict(zip(cells["id"], cells["label"], strict=True))


def chosen_labels(board_rows: Sequence[Row], labels: dict[str, str], methods: Sequence[str]) -> list[str]:
    """Returns the labels of the rows that a study shows.

    Args:
        board_rows: Rows on all data sets of the study.
        labels: From :func:`row_labels`.
        methods: Labels, or names of methods. A name stands for the row with the method's own parameters, or for all its
            rows if there is none. If empty, all ranked rows with own parameters are chosen, and then the null methods.

    Raises:
        MothrError: An unknown name, or ``methods`` is empty and no ranked row has its own parameters.
    """
    if methods:
        return list(dict.fromkeys(label for name in methods for label in _named(board_rows, labels, name)))
    own = [row for row in board_rows if not row.unranked and has_own_parameters(row)]
    ranked = [labels[row.id] for row in own if row.ranked]
    if not ranked:
        raise MothrError(
            "no ranked method in these results has its own parameters; choose rows with --methods, "
            f"such as {min(labels.values())!r}"
        )
    return list(dict.fromkeys([*ranked, *(labels[row.id] for row in own if row.kind == "null")]))


def _named(board_rows: Sequence[Row], labels: dict[str, str], name: str) -> list[str]:
    """Returns the labels that ``name`` stands for; see :func:`chosen_labels`."""
    if name in labels.values():
        return [name]
    of_name = [row for row in board_rows if row.configuration[0] == name]
    if not of_name:
        known = {*labels.values(), *(row.configuration[0] for row in board_rows)}
        raise unknown_name("method in these results", name, known)
    own = [row for row in of_name if has_own_parameters(row)]
    return [labels[row.id] for row in own or of_name]
