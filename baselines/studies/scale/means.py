"""Means of the scale study by size, training and kurtosis, and the agreement of rankings between sizes."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from mothr.baselines.studies.measurements import mean_over_trees
from mothr.baselines.studies.regimes.map import FIELD_LIMITS
from mothr.baselines.studies.roots import interval_name, interval_names
from mothr.baselines.studies.scale.trees import PUBLISHED
from mothr.benchmark.score.ranking import rank_agreement

AXES = {"width": "width", "root_steps": "steps of the root", "root_kurtosis": "excess kurtosis of the root"}
"""What trees are grouped by -> its name in figures."""
HALVINGS = 200
"""Random halves of the trees of one size whose agreement is averaged."""


def grouped(trees: pd.DataFrame) -> pd.DataFrame:
    """Returns the table once for each of :data:`AXES`, with the columns ``axis`` and ``group``.

    Args:
        trees: Table from :func:`mothr.baselines.studies.scale.trees.scale_table`.
    """
    groups = {
        "width": [f"{width:g}" for width in trees.width],
        **{
            name: [PUBLISHED if np.isnan(value) else interval_name(value, FIELD_LIMITS[name]) for value in trees[name]]
            for name in ("root_steps", "root_kurtosis")
        },
    }
    return pd.concat([trees.assign(axis=axis, group=names) for axis, names in groups.items()], ignore_index=True)


def group_order(axis: str, table: pd.DataFrame) -> list[str]:
    """Returns the names of the groups of one axis that ``table`` holds, in ascending order."""
    present = set(table[table.axis == axis].group)
    if axis == "width":
        return sorted(present, key=float)
    return [name for name in (*interval_names(FIELD_LIMITS[axis]), PUBLISHED) if name in present]


def scale_means(trees: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each axis, group, origin of the root, and direction score or method.

    ``mean`` is over trees, with its 95 % t-interval ``low`` to ``high``; ``trees`` counts trees of the same root as one,
    ``items`` the edges.
    """
    by = ("kind", "name", "plain", "axis", "root", "group")
    means = mean_over_trees(grouped(trees), by, 0, 1)
    order = {(axis, name): rank for axis in AXES for rank, name in enumerate(group_order(axis, means))}
    rank = [order[axis, name] for axis, name in zip(means.axis, means.group, strict=True)]
    return means.assign(rank=rank).sort_values(["kind", "name", "axis", "root", "rank"]).drop(columns="rank")


def size_agreement(trees: pd.DataFrame) -> pd.DataFrame:
    """Returns Kendall's tau of the ranking between every two widths, a row for each kind and pair of widths.

    The row of a width with itself has the mean tau between two random halves of its trees. It is lower than tau between
    two whole sets of as many trees, since a half is noisier. Names without a value on some tree of a pair are left out.

    Args:
        trees: Table from :func:`mothr.baselines.studies.scale.trees.scale_table`.
    """
    found = []
    for kind, table in trees.groupby("kind", sort=False):
        scores = {width: _scores(part) for width, part in table.groupby("width")}
        for first, second in [*((width, width) for width in scores), *combinations(scores, 2)]:
            names = [name for name in scores[first] if name in scores[second]]
            if len(names) < 2:
                continue
            sides = [{name: scores[width][name] for name in names} for width in (first, second)]
            values = _halves(sides[0]) if first == second else _between(sides[0], sides[1])
            found.append({"kind": kind, "first": first, "second": second, "names": len(names), **values})
    return pd.DataFrame(found, columns=["kind", "first", "second", "names", "tau", "low", "high"])


def _scores(table: pd.DataFrame) -> Mapping[str, np.ndarray]:
    """Returns name -> its value on each tree, the same trees for all; names without a value on some tree are left out."""
    wide = table.pivot_table(index=["split", "tree"], columns="name", values="value", dropna=False)
    return {str(name): wide[name].to_numpy() for name in wide if wide[name].notna().all()}


def _between(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    agreement = rank_agreement(first, second)
    return {"tau": agreement.tau, "low": agreement.low, "high": agreement.high}


def _halves(scores: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    count = len(next(iter(scores.values())))
    if count < 2:
        return {"tau": None, "low": None, "high": None}
    rng = np.random.default_rng(0)
    taus = []
    for _ in range(HALVINGS):
        order = rng.permutation(count)
        halves = [{name: values[part] for name, values in scores.items()} for part in np.array_split(order, 2)]
        tau = rank_agreement(halves[0], halves[1], draws=0).tau
        taus += [] if tau is None else [tau]
    return {"tau": float(np.mean(taus)) if taus else None, "low": None, "high": None}
