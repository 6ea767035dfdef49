"""Validates Linea's model on regimes that its fit left out, beside other methods on the same edges.

A regime is a value of a field of an edge, such as ``optimizer`` sgd or ``family`` llama. To leave it out, the parents of all
models of this regime are hidden from the fit, and the trees that are scored are left out as a whole.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from mothr.baselines.linea.assembly import assemble
from mothr.baselines.linea.fitted.method import FittedLinea
from mothr.baselines.linea.fitted.model import ForestModel
from mothr.baselines.studies.datasets import OpenedDataset, open_datasets
from mothr.baselines.studies.forests.examples import Example, examples_of, folds
from mothr.baselines.studies.forests.fitting import FOLDS, PENALTIES, fit, losses_left_out
from mothr.baselines.studies.regimes.map import classed, edge_rows
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge
from mothr.benchmark.run.method import Method
from mothr.benchmark.score.statistics import holm, mean_interval, sign_flip_test

FITTED = "linea-fitted"
"""Name of the method that is fitted."""
MOST_VALUES = 12
"""Largest number of values of a numeric field that are regimes of their own; more are grouped into classes."""
FEWEST_TREES = 2
"""Trees that a regime is found in at least; a mean over one tree has no interval."""


@dataclass(frozen=True, eq=False)
class Validation:
    """What was found on regimes left out."""

    regimes: pd.DataFrame
    """A row for each field, regime and method: field, regime, method, edges, trees, found (mean over trees of the share of edges
    that were found), low, high, and p, the Holm-adjusted p-value of the paired test against ``linea-fitted``."""
    edges: pd.DataFrame
    """A row for each field and edge of ``linea-fitted``: field, regime, split, tree, parent, child, found, and the
    confidence of an edge that was found."""


def validate(
    folders: Sequence[Path], fields: Sequence[str], others: Mapping[str, Method], penalty: float | None
) -> Validation:
    """Returns the validation on the data sets in ``folders``. Progress is shown on stderr.

    Args:
        folders: Data sets with truth.
        fields: Fields of edges, names of :data:`mothr.baselines.studies.datasets.EDGE_FIELDS`, or ``split``.
        others: Methods to compare with, by name. They are not fitted.
        penalty: L2 penalty of the fits; None: the one with the least log loss on trees left out.

    Raises:
        MothrError: A data set has no truth, or no field has a regime that can be left out.
    """
    datasets = open_datasets(folders, "body")
    rows = classed(pd.DataFrame([row for data in datasets for row in edge_rows(data)]), MOST_VALUES)
    found = [example for data in datasets for example in examples_of(data)]
    if penalty is None:
        losses = losses_left_out(found, PENALTIES)
        penalty = min(losses, key=losses.__getitem__)
    fixed = _derived_edges(datasets)
    tables = []
    for field, regime in tqdm(_regimes(rows, fields), desc="regimes left out", unit="regime", file=sys.stderr):
        inside = rows[rows[field].astype(str) == regime]
        outcomes = _left_out(found, inside, fixed, penalty)
        tables.append(inside[["split", "tree", "parent", "child"]].assign(field=field, regime=regime, **outcomes))
    if not tables:
        raise MothrError(
            f"no regime of {', '.join(fields)} is in two trees and can be left out; name more data sets or fields"
        )
    edges = pd.concat(tables, ignore_index=True)
    named = {name: _found_by(method, datasets) for name, method in others.items()}
    return Validation(_compared(edges, named), edges)


def _regimes(rows: pd.DataFrame, fields: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (field, regime) of each regime that is in at least FEWEST_TREES trees, and not in all edges."""
    found = []
    for field in fields:
        known = rows[rows[field].notna()]
        for regime, group in known.groupby(known[field].astype(str), sort=True):
            trees = len(group[["split", "tree"]].drop_duplicates())
            if trees >= FEWEST_TREES and len(group) < len(rows):
                found.append((field, str(regime)))
    return found


def _left_out(
    found: Sequence[Example], inside: pd.DataFrame, fixed: Mapping[Edge, float], penalty: float
) -> dict[str, list[float]]:
    """Returns whether each edge of ``inside`` is found, and its confidence, by fits that know neither its regime nor its tree."""
    confidence = dict(fixed)
    children = set(inside["child"])
    for known, test in folds(found, FOLDS):
        test = [example for example in test if children.intersection(example.ids)]
        if test:
            model = fit([example.without_truth(children) for example in known], penalty)
            for example in test:
                confidence |= _edges(example, model)
    edges = list(zip(inside["parent"], inside["child"], strict=True))
    return {
        "found": [float(edge in confidence) for edge in edges],
        "confidence": [confidence.get(edge, float("nan")) for edge in edges],
    }


def _edges(example: Example, model: ForestModel) -> dict[Edge, float]:
    """Returns {(parent, child): confidence} of the edges that ``model`` finds in an example."""
    found = model.distribution(example.evidence).best_edges()
    return {(example.ids[parent], example.ids[child]): probability for (parent, child), probability in found}


def _derived_edges(datasets: Sequence[OpenedDataset]) -> dict[Edge, float]:
    """Returns {(parent, child): confidence} of the edges to derived models, which no fit changes."""
    confidence: dict[Edge, float] = {}
    for data in datasets:
        prediction = assemble(data.models, FittedLinea(), lambda *_: [], np.random.default_rng(0))
        confidence |= prediction.confidence or {}
    return confidence


def _found_by(method: Method, datasets: Sequence[OpenedDataset]) -> set[Edge]:
    """Returns the edges that a method finds, given nothing but the models of each data set."""
    return {edge for data in datasets for edge in method(data.models, np.random.default_rng(0)).graph.edges}


def _compared(edges: pd.DataFrame, named: Mapping[str, set[Edge]]) -> pd.DataFrame:
    pairs = list(zip(edges["parent"], edges["child"], strict=True))
    outcomes = {FITTED: edges["found"]} | {
        name: [float(edge in found) for edge in pairs] for name, found in named.items()
    }
    rows = []
    for (field, regime), group in edges.assign(**outcomes).groupby(["field", "regime"], sort=False):
        by_tree = group.groupby(["split", "tree"])[list(outcomes)].mean()
        for name in outcomes:
            interval = mean_interval(by_tree[name].to_numpy(), within=(0.0, 1.0))
            p = sign_flip_test(by_tree[FITTED].to_numpy(), by_tree[name].to_numpy()) if name != FITTED else float("nan")
            rows.append(
                {
                    "field": field,
                    "regime": regime,
                    "method": name,
                    "edges": len(group),
                    "trees": len(by_tree),
                    "found": interval.mean,
                    "low": interval.low,
                    "high": interval.high,
                    "p": p,
                }
            )
    table = pd.DataFrame(rows)
    for name in named:
        of_method = table["method"] == name
        table.loc[of_method, "p"] = holm(table.loc[of_method, "p"].to_numpy())
    return table
