"""Compares two methods on every split with runs of both: the mean difference over Model Trees, with a paired test."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mothr.benchmark.board.board import LEVEL, RANKED_BY, TREE_METRICS, Row, latest, rows
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.records.store import folder_name, read_all
from mothr.benchmark.score.statistics import Interval, holm, mean_interval, sign_flip_test


@dataclass(frozen=True, slots=True)
class Choice:
    """One method in one setting, with the fields that choose one of its rows on a board."""

    method: str
    """The name of the method."""
    setting: str = "open"
    """The setting."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Dotted path of a field -> value as text, as ``--set`` takes them. ``version`` is the method's version."""

    @classmethod
    def parse(cls, text: str) -> "Choice":
        """Returns the choice that is written as ``METHOD[@SETTING][,FIELD=VALUE...]``.

        Raises:
            MothrError: the text has another form.
        """
        name, *assignments = text.split(",")
        method, _, setting = name.partition("@")
        fields = [assignment.partition("=") for assignment in assignments]
        if not method or not all(key and sign for key, sign, _ in fields):
            raise MothrError(
                f"{text!r}: write a method as METHOD, METHOD@SETTING, or either with ,FIELD=VALUE behind it"
            )
        return cls(method, setting or "open", {key: value for key, _, value in fields})

    def __str__(self) -> str:
        return ",".join([f"{self.method}@{self.setting}", *(f"{key}={value}" for key, value in self.fields.items())])

    def matches(self, row: Row) -> bool:
        """Returns whether a row of a board has the method, the setting and the fields of this choice."""
        run = row.runs[0]
        if (run.method, run.setting) != (self.method, self.setting):
            return False
        values = _fields(row)
        return all(
            key in values and text in (values[key], json.dumps(values[key])) for key, text in self.fields.items()
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between two methods on one split."""

    split: str
    """The split, as ``<split>-v<k>``."""
    first: float
    """Mean of the first method over trees."""
    second: float
    """Mean of the second method over trees."""
    difference: Interval
    """Mean difference over trees, first minus second, with its t-interval."""
    p: float
    """Two-sided p-value of the paired sign-flip test over trees."""
    p_holm: float
    """The p-value after Holm's correction for the number of splits."""


def compare(results: Path, first: Choice, second: Choice, metric: str = RANKED_BY) -> list[Comparison]:
    """Returns the comparison on every split that has runs of both methods, sorted by split.

    A split that a later version supersedes is left out. A tree is left out if a method has no value of the metric on it.

    Args:
        results: the results folder.
        first: the first method.
        second: the second method. Its setting may differ from that of the first.
        metric: a metric of single trees.

    Raises:
        MothrError: the metric or a method is unknown, several rows match one choice, or no split has runs of both.
    """
    if metric not in TREE_METRICS:
        raise unknown_name("metric of trees", metric, TREE_METRICS)
    board_rows = latest(rows(read_all(results)), results)
    by_split = [_by_split(board_rows, choice) for choice in (first, second)]
    tested = []
    for split in sorted(by_split[0].keys() & by_split[1].keys()):
        scores = [chosen[split].scores[metric] for chosen in by_split]
        joined = scores[0].to_frame("first").join(scores[1].to_frame("second"), how="inner").dropna()
        if len(joined):
            values = joined["first"].to_numpy(), joined["second"].to_numpy()
            difference = mean_interval(values[0] - values[1], LEVEL, (-1.0, 1.0))
            means = float(values[0].mean()), float(values[1].mean())
            tested.append((split, *means, difference, sign_flip_test(*values)))
    if not tested:
        raise MothrError(
            f"{results}: no split on which both {first} and {second} were run; see 'mothr leaderboard {results}'"
        )
    adjusted = holm([p for *_, p in tested])
    return [Comparison(*row, p_holm) for row, p_holm in zip(tested, adjusted, strict=True)]


def _by_split(board_rows: Sequence[Row], choice: Choice) -> dict[str, Row]:
    """Returns split -> the one row that matches ``choice``.

    Raises:
        MothrError: no row has the method, or several rows of one split match.
    """
    methods = {row.runs[0].method for row in board_rows}
    if choice.method not in methods:
        raise unknown_name("method in these results", choice.method, methods)
    chosen: dict[str, Row] = {}
    for row in board_rows:
        if choice.matches(row):
            split = folder_name(*row.board[:2])
            if split in chosen:
                raise _ambiguous(choice, split, chosen[split], row)
            chosen[split] = row
    return chosen


def _ambiguous(choice: Choice, split: str, row: Row, other: Row) -> MothrError:
    """Returns the error for two rows of one split that match ``choice``. It names the fields that differ."""
    values, others = _fields(row), _fields(other)
    differing = [
        f"{key}={values.get(key)} or {others.get(key)}" for key in values | others if values.get(key) != others.get(key)
    ]
    return MothrError(
        f"{choice}: several rows match on {split}; name one, behind a comma: {'; '.join(differing) or 'its build'}"
    )


def _fields(row: Row) -> dict[str, object]:
    """Returns the fields in which rows of one method may differ: its version, and its parameters by dotted path."""
    return {"version": row.runs[0].method_version, **row.runs[0].flat_parameters}


def table(comparisons: Sequence[Comparison]) -> list[dict[str, str]]:
    """Returns a row of texts for each comparison."""
    texts = []
    for row in comparisons:
        low, high = row.difference.low, row.difference.high
        interval = "" if low is None else f" ({low:+.2f} to {high:+.2f})"
        texts.append({
            "split": row.split, "trees": str(row.difference.n), "first": f"{row.first:.3f}", "second": f"{row.second:.3f}",
            "difference": f"{row.difference.mean:+.3f}{interval}", "p": f"{row.p:.4f}", "p, all splits": f"{row.p_holm:.4f}",
        })  # fmt: skip
    return texts


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Returns on how many splits the first method is ahead, behind, and level, as a part of a sentence."""
    signs = np.sign([comparison.difference.mean for comparison in comparisons])
    ahead, behind, level = (int((signs == sign).sum()) for sign in (1, -1, 0))
    return f"ahead on {ahead}, behind on {behind}, level on {level} of {len(comparisons)} splits"
