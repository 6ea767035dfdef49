"""Two methods side by side on every split that both were run on: the difference over the same Model Trees, with a paired test."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mothr.benchmark.board.board import LEVEL, RANKED_BY, TREE_METRICS, Row, latest, rows
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.records.store import folder_name, read_all
from mothr.benchmark.score.statistics import Interval, holm, mean_interval, sign_flip_test


@dataclass(frozen=True)
class Choice:
    """One method in one setting, with the fields that tell its rows apart where it was run with several."""

    method: str
    """Its name."""
    setting: str = "open"
    """What it was told."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Field -> value, as ``--set`` takes them; ``version`` is the method's."""

    @classmethod
    def parse(cls, text: str) -> "Choice":
        """Returns the choice written as ``METHOD[@SETTING][,FIELD=VALUE...]``.

        Raises:
            MothrError: it is written otherwise.
        """
        name, *given = text.split(",")
        method, _, setting = name.partition("@")
        pairs = [pair.partition("=") for pair in given]
        if not method or not all(key and sign for key, sign, _ in pairs):
            raise MothrError(
                f"{text!r}: write a method as METHOD, METHOD@SETTING, or either with ,FIELD=VALUE behind it"
            )
        return cls(method, setting or "open", {key: value for key, _, value in pairs})

    def __str__(self) -> str:
        return ",".join([f"{self.method}@{self.setting}", *(f"{key}={value}" for key, value in self.fields.items())])

    def fits(self, row: Row) -> bool:
        """Returns whether a row of the board is meant."""
        run = row.runs[0]
        if (run.method, run.setting) != (self.method, self.setting):
            return False
        values = described(row)
        return all(
            key in values and value in (values[key], json.dumps(values[key])) for key, value in self.fields.items()
        )


@dataclass(frozen=True)
class Comparison:
    """How two methods differ on one split."""

    split: str
    """The split and its version."""
    first: float
    """The first method's mean over trees."""
    second: float
    """The second's."""
    difference: Interval
    """First minus second, over trees, with its t-interval."""
    p: float
    """Two-sided, of the paired sign-flip test over trees."""
    p_holm: float
    """The same, adjusted for the number of splits (Holm)."""


def compare(results: Path, first: Choice, second: Choice, metric: str = RANKED_BY) -> list[Comparison]:
    """Returns the comparison on every split where both were run, sorted by name; those that a later version supersedes are left out.

    Args:
        results: The folder of result files.
        first: One method.
        second: The other; settings may differ, as for a method told nothing against one told the trees.
        metric: A metric of single trees; one that is undefined on a tree for one of the two leaves this tree out.

    Raises:
        MothrError: an unknown metric or method, several rows that fit one choice, or no split with both.
    """
    if metric not in TREE_METRICS:
        raise unknown_name("metric of trees", metric, TREE_METRICS)
    every = latest(rows(read_all(results)), results)
    chosen = [_by_split(every, choice) for choice in (first, second)]
    found = []
    for split in sorted(chosen[0].keys() & chosen[1].keys()):
        both = [row[split].scores[metric] for row in chosen]
        joined = both[0].to_frame("first").join(both[1].to_frame("second"), how="inner").dropna()
        if len(joined):
            one, other = joined["first"].to_numpy(), joined["second"].to_numpy()
            interval = mean_interval(one - other, LEVEL, (-1.0, 1.0))
            found.append((split, float(one.mean()), float(other.mean()), interval, sign_flip_test(one, other)))
    if not found:
        raise MothrError(
            f"{results}: no split on which both {first} and {second} were run; see 'mothr leaderboard {results}'"
        )
    return [Comparison(*row, adjusted) for row, adjusted in zip(found, holm([row[-1] for row in found]), strict=True)]


def _by_split(every: Sequence[Row], choice: Choice) -> dict[str, Row]:
    if choice.method not in {row.runs[0].method for row in every}:
        raise unknown_name("method in these results", choice.method, {row.runs[0].method for row in every})
    found: dict[str, Row] = {}
    for row in every:
        if choice.fits(row):
            split = folder_name(*row.board[:2])
            if split in found:
                one, other = described(found[split]), described(row)
                differing = [
                    f"{key}={one.get(key)} or {other.get(key)}" for key in one | other if one.get(key) != other.get(key)
                ]
                raise MothrError(
                    f"{choice}: several rows fit on {split}; say which, behind a comma: {'; '.join(differing) or 'its build'}"
                )
            found[split] = row
    return found


def described(row: Row) -> dict[str, object]:
    """Returns what tells a row from others of its method: the version and the parameters."""
    return {"version": row.runs[0].method_version, **row.runs[0].parameters}


def table(found: Sequence[Comparison]) -> list[dict[str, str]]:
    """Returns a row of text for each comparison."""
    shown = []
    for one in found:
        ends = "" if one.difference.low is None else f" ({one.difference.low:+.2f} to {one.difference.high:+.2f})"
        shown.append({
            "split": one.split, "trees": str(one.difference.n), "first": f"{one.first:.3f}", "second": f"{one.second:.3f}",
            "difference": f"{one.difference.mean:+.3f}{ends}", "p": f"{one.p:.4f}", "p, all splits": f"{one.p_holm:.4f}",
        })  # fmt: skip
    return shown


def pooled(found: Sequence[Comparison]) -> str:
    """Returns a sentence on all splits together: in how many each is ahead."""
    signs = np.sign([one.difference.mean for one in found])
    ahead, behind, level = (int((signs == sign).sum()) for sign in (1, -1, 0))
    return f"ahead on {ahead}, behind on {behind}, level on {level} of {len(found)} splits"
