"""What made each model of a data set, read from its truth; and the map of direction scores against it.

The truth is read to group edges and to mark answers, never to find them. Everything is averaged over Model Trees; trees that
grew from the same roots, as in splits that share them, are one piece of evidence and count as one.
"""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from mothr.baselines.parts.directions import DIRECTIONS, find_direction, pair_scores
from mothr.baselines.studies.ablation import BOUNDS, each_warning_once
from mothr.benchmark.board import board
from mothr.benchmark.data import dataset
from mothr.benchmark.data.dataset import TruthNode
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.score.statistics import mean_interval
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.features import in_memory
from mothr.benchmark.weights.layers import Layers

FIELDS = (
    "family",
    "kind",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "steps",
    "rank",
    "task",
    "init",
    "depth",
    "withheld",
)
"""What is known of an edge: how its child was made, the initialisation of the tree's root, and where in the tree it lies."""
RECIPE = ("kind", "optimizer", "learning_rate", "weight_decay", "steps", "rank", "task")
"""Fields that say together how a child was trained."""
WORDS = {
    "learning_rate": "lr {}", "weight_decay": "decay {}", "steps": "{} steps", "rank": "rank {}", "depth": "depth {}",
    "withheld": "{} withheld",
}  # fmt: skip
"""Field that is a number -> how it is said beside others."""
SETTINGS = {"quantized": "precision", "merge": "method", "pruned": "share", "noised": "level"}
"""Kind of a copy -> the setting of its transform that says how far it is from what it was made of."""


@dataclass(frozen=True, eq=False)
class Known:
    """A data set with known truth, opened."""

    folder: Path
    """Where it lies."""
    truth: dataset.Truth
    """Who came from whom, and how."""
    models: ModelSet
    """The weights."""
    family: str
    """The family of its models."""

    @classmethod
    def open(cls, folder: Path) -> "Known":
        """Returns the data set in ``folder``.

        Raises:
            MothrError: it has no truth, is unfinished, or a file cannot be read.
        """
        truth = dataset.open_truth(folder)
        return cls(folder, truth, dataset.open_models(folder), dataset.open_manifest(folder).family)

    @cached_property
    def graph(self) -> ModelGraph:
        """The true Model Graph."""
        return self.truth.graph

    @cached_property
    def trees(self) -> dict[NodeId, int]:
        """The Model Tree of each model."""
        return self.truth.trees

    @cached_property
    def place(self) -> dict[NodeId, int]:
        """The position of each model in ``models.ids``."""
        return {node: position for position, node in enumerate(self.models.ids)}

    @cached_property
    def origins(self) -> tuple[str, ...]:
        """What each tree grew from: the same text for two trees, of one data set or of two, whose roots hold the same weights."""
        found = []
        for tree in self.graph.trees:
            roots = sorted(
                self.models.checkpoints[self.place[node]].digest for node in tree if not self.graph.parents[node]
            )
            found.append(hashlib.sha256("".join(roots).encode()).hexdigest()[:12])
        return tuple(found)

    @cached_property
    def inits(self) -> tuple[str | None, ...]:
        """How the weights of each tree's roots were drawn; None where nothing says it.

        Where checkpoints were kept from the first step on, the record is that of the node where the root's training ended.
        """
        found = []
        for tree in self.graph.trees:
            drawn = {init for node in tree if (init := (self.truth.nodes[node].training or {}).get("init"))}
            found.append(" and ".join(sorted(drawn)) or None)
        return tuple(found)

    def kind(self, node: NodeId) -> str:
        """Returns how ``node`` came from its parents, in a word: full, lora, pretraining, merge, quantized, pruned, ..."""
        made = self.truth.nodes[node]
        return (
            made.relation if made.relation in ("merge", "quantized") else made.subtype or made.relation or "unrecorded"
        )

    @cached_property
    def edges(self) -> tuple[tuple[Edge, ...], ...]:
        """The edges of each tree."""
        found: list[list[Edge]] = [[] for _ in self.graph.trees]
        for edge in self.graph.edges:
            found[self.trees[edge[1]]].append(edge)
        return tuple(tuple(edges) for edges in found)

    def kinds(self, tree: int) -> str:
        """Returns the kinds of all edges of a tree in words, "many kinds" where these are more than three."""
        found = sorted({self.kind(child) for _, child in self.edges[tree]})
        return " and ".join(found) if len(found) <= 3 else "many kinds"

    def training(self, edge: Edge) -> dict[str, Any]:
        """Returns how the child of ``edge`` was trained; between two checkpoints of one training, the steps from one to the other."""
        parent, child = (self.truth.nodes[node].training or {} for node in edge)
        if "steps" in child and "seed" in child and child["seed"] == parent.get("seed"):
            return {**child, "steps": child["steps"] - parent["steps"]}
        return child

    def made(self, edge: Edge) -> dict[str, Any]:
        """Returns :data:`FIELDS` of ``edge``; None where the truth does not say."""
        parent, child = (self.truth.nodes[node] for node in edge)
        training, kind = self.training(edge), self.kind(edge[1])
        setting = (child.transform or {}).get(SETTINGS.get(kind, ""))
        return {
            **{name: training.get(name) for name in FIELDS},
            "family": self.family, "kind": kind if setting is None else f"{kind} {setting}", "task": _task(parent, child),
            "init": self.inits[self.trees[edge[1]]], "depth": self.graph.depth(edge[1]), "withheld": child.withheld or 0,
        }  # fmt: skip

    def value(
        self,
        tree: int,
        measure: str,
        value: float,
        *,
        panel: str = "",
        series: str = "",
        x: float | str = "",
        items: int = 1,
    ) -> "Value":
        """Returns what was measured of a tree, with where it belongs."""
        return Value(
            measure, panel, series, x, self.family, self.truth.split, tree, self.origins[tree], float(value), items
        )


class Value(NamedTuple):
    """One number of one tree, or of one drawn sub-set."""

    measure: str
    """What was measured, a key of :data:`mothr.baselines.studies.claims.MEASURES`."""
    panel: str
    """On what: a part of the models, a kind of triple, a stage of training."""
    series: str
    """What is compared."""
    x: float | str
    """Against what it is drawn."""
    family: str
    """The family of the models."""
    split: str
    """The data set."""
    tree: int
    """The Model Tree by its position; -1 for what is of no one tree."""
    origin: str
    """Values of one origin are one piece of evidence; see :attr:`Known.origins`."""
    value: float
    """The number."""
    items: int
    """Of how many things (edges, pairs, triples) it is the mean."""


def _task(parent: TruthNode, child: TruthNode) -> str | None:
    """Returns whether the parent's training goes on; None where the child was not trained."""
    if child.training is None or child.task is None:
        return None
    return "parent's task" if child.task == parent.task else "new task"


def over_trees(values: pd.DataFrame, by: Sequence[str], low: float = -np.inf, high: float = np.inf) -> pd.DataFrame:
    """Returns the mean of ``value`` over trees with its t-interval for each choice of the columns ``by``, first seen first.

    The result has the columns ``by``, ``mean``, ``low``, ``high`` (none where there is one tree), ``trees`` and ``items``.

    Args:
        values: Rows with ``by``, ``origin``, ``value`` and ``items``: of how many things ``value`` is the mean. Rows of one
            origin are averaged first, each thing counting once.
        by: Columns to group by.
        low: The smallest value there can be.
        high: The largest.
    """
    rows = values[values.value.notna() & (values["items"] > 0)]
    rows = rows.assign(total=rows.value * rows["items"])
    each = rows.groupby([*by, "origin"], sort=False, dropna=False)[["total", "items"]].sum().reset_index()
    each["value"] = (each.total / each["items"]).clip(low, high)
    found = []
    for key, group in each.groupby(list(by), sort=False, dropna=False):
        interval = mean_interval(group.value.to_numpy(), board.LEVEL, (low, high))
        ends = {"mean": interval.mean, "low": interval.low, "high": interval.high, "trees": interval.n}
        found.append({**dict(zip(by, key, strict=True)), **ends, "items": int(group["items"].sum())})
    return pd.DataFrame(found, columns=[*by, "mean", "low", "high", "trees", "items"]).astype(
        {"low": float, "high": float}
    )


# --- the map ---


@dataclass(frozen=True)
class Chart:
    """What a map shows.

    Raises:
        MothrError: an unknown score, field or choice of layers.
    """

    directions: tuple[str, ...] = tuple(name for name in DIRECTIONS if name not in BOUNDS)
    """Direction scores, each alone deciding every true edge."""
    layers: str = "body"
    """Tensors the scores look at; see :class:`mothr.benchmark.weights.layers.Layers`."""
    by: tuple[tuple[str, ...], ...] = (*((name,) for name in FIELDS), RECIPE)
    """Groupings of edges: each is one field, or several whose every combination is a row."""

    def __post_init__(self) -> None:
        for name in self.directions:
            find_direction(name)
            if name in BOUNDS:
                raise MothrError(
                    f"direction {name!r} looks at no weights: on the map it is known beforehand; leave it out"
                )
        Layers.parse(self.layers)
        for name in (name for fields in self.by for name in fields):
            if name not in FIELDS:
                raise unknown_name("field", name, FIELDS)


def votes(known: Known, chart: Chart) -> pd.DataFrame:
    """Returns a row for each true edge and direction score: where it lies, what made it, and whether the score is right.

    ``value`` is 1 where the score names the parent, 0 where it names the child, 0.5 where it cannot tell, and NaN where it is
    undefined in this data set. Scores whose sign depends on the stage are taken as in specialisation.
    """
    edges = known.graph.edges
    if not edges:
        return pd.DataFrame()
    pairs = np.array([[known.place[node] for node in edge] for edge in edges])
    rows = [
        {"split": known.truth.split, "tree": known.trees[edge[1]], "origin": known.origins[known.trees[edge[1]]], "child": edge[1],
         **known.made(edge)} for edge in edges
    ]  # fmt: skip
    found = []
    for name in tqdm(chart.directions, desc=known.truth.split, unit="score", file=sys.stderr):
        try:
            right = (np.sign(pair_scores(known.models, name, pairs, Layers.parse(chart.layers))) + 1) / 2
        except MothrError as error:
            if "undefined" not in str(error):
                raise
            right = np.full(len(edges), np.nan)
        found.append(pd.DataFrame(rows).assign(direction=name, value=right, items=1))
    return pd.concat(found, ignore_index=True)


def accuracies(found: pd.DataFrame, by: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    """Returns a row for each tree, regime and score: ``value`` is the share of the tree's ``items`` edges that it directs right.

    A regime is one choice of the fields of a grouping; an edge of which the truth says none of them has none.
    """
    parts = []
    for fields in by:
        named = found.dropna(subset=list(fields), how="all")
        named = named.sort_values(list(fields), kind="stable", key=_sortable) if len(named) else named
        named = named.assign(
            grouping="*".join(fields), regime=[_regime(fields, row) for row in named[list(fields)].to_numpy()]
        )
        keys = ["grouping", "regime", "direction", "split", "tree", "origin"]
        parts.append(
            named.groupby(keys, sort=False).agg(value=("value", "mean"), items=("value", "count")).reset_index()
        )
    return pd.concat(parts, ignore_index=True)


def _sortable(column: pd.Series) -> pd.Series:
    return column if pd.api.types.is_numeric_dtype(column) else column.astype(str)


def _regime(fields: Sequence[str], values: Iterable[Any]) -> str:
    """Returns the values of ``fields`` as text, those that are not known left out; beside others a number says what it is."""
    words = WORDS if len(fields) > 1 else {}
    known = [(name, value) for name, value in zip(fields, values, strict=True) if not pd.isna(value)]
    return ", ".join(words.get(name, "{}").format(_text(value)) for name, value in known)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def survey(folders: Sequence[Path], chart: Chart) -> pd.DataFrame:
    """Returns :func:`accuracies` of all trees of the data sets in ``folders``; progress is on stderr.

    Raises:
        MothrError: as :func:`open_all` says, or no edge in any of them.
    """
    with in_memory(), each_warning_once():
        found = [votes(known, chart) for known in open_all(folders, chart.layers)]
    if all(part.empty for part in found):
        raise MothrError(
            "no model of these data sets has a parent, so there is no direction to tell; name a data set with edges"
        )
    return accuracies(pd.concat([part for part in found if not part.empty], ignore_index=True), chart.by)


def open_all(folders: Sequence[Path], layers: str) -> list[Known]:
    """Returns the data sets in ``folders``, opened.

    Raises:
        MothrError: one of them has no truth, is unfinished or damaged, is given twice, or ``layers`` select nothing in it.
    """
    places: dict[str, Path] = {}
    for folder in folders:  # truths first: they are quick to read
        split = dataset.open_truth(folder).split
        if split in places:
            raise MothrError(
                f"{folder}: the split {split} is also in {places[split]}, so its trees would count twice; name it once"
            )
        places[split] = folder
    found = [Known.open(folder) for folder in folders]
    for known in found:
        Layers.parse(layers).select_from(known.models)
    return found
