"""The data of the leaderboard's pages: one schema, which a page holds as plain JSON.

:class:`IndexData` is the data of ``index.html`` and :class:`SplitData` that of a split's own page. A field whose value is ``None`` is
left out of the JSON. Everything is decided before it is written: scores, ranks, positions of nodes, classes of edges. The scripts
of the pages filter, sort and draw.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from mothr.benchmark.graph import Edge, NodeId
from mothr.benchmark.prediction import Relation


@dataclass(frozen=True, slots=True)
class MetricText:
    """How a page speaks of a metric."""

    label: str
    """The name in a column's head."""
    question: str
    """The question that the metric answers; empty if the metric has none."""


@dataclass(frozen=True, slots=True)
class Score:
    """The mean of a metric over true Model Trees."""

    mean: float | None
    """The mean; None if the metric is undefined on every tree."""
    low: float | None = None
    """Lower end of the 95 % interval; None if it cannot be computed or if the page holds no intervals of this metric."""
    high: float | None = None
    """Upper end of the interval."""
    trees: int | None = None
    """Number of trees on which the metric is defined; None if this is every tree of the board."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The predicted edges of a row whose confidence lies in one tenth of the range from 0 to 1."""

    tenth: int
    """Number of the tenth, from 0 to 9."""
    edges: int
    """Number of edges."""
    confidence_sum: float
    """Sum of their confidences."""
    correct: int
    """How many of them are true edges."""


@dataclass(frozen=True, slots=True)
class MethodText:
    """One method with one set of parameters."""

    label: str
    """The name with everything by which rows of this method differ."""
    method: str
    """The registered name."""
    version: str
    """The method's version."""
    parameters: dict[str, Any]
    """The method's parameters."""
    kind: str
    """``method``, ``null``, ``oracle`` or ``metadata``."""


@dataclass(frozen=True, slots=True)
class RowData:
    """All runs of one method with one set of parameters on one board."""

    id: str
    """8 hex digits for links."""
    method: int
    """Position of the method in the page's list ``methods``."""
    given: str
    """The side information that the method was given, in words."""
    standing: str
    """``run here``, ``self-run`` or ``verified``."""
    rank: int | None
    """The rank; methods that no test distinguishes share one. None if the row is not ranked."""
    unranked: str | None
    """Why the row has no rank, beyond its kind."""
    seeds: int
    """Number of runs."""
    failed: int
    """Number of runs that failed or ran out of time."""
    seconds: float | None
    """Mean time of a run in seconds."""
    worst_tree: float | None
    """Edge F1 of the worst tree."""
    scores: dict[str, Score]
    """Metric -> mean over true Model Trees."""
    forest_scores: dict[str, float | None]
    """Metric of the whole forest -> mean over seeds."""
    reliability: list[ReliabilityBin] | None
    """Confidence against correctness of the drawn prediction; None if it has no confidences."""


@dataclass(frozen=True, slots=True)
class BoardData:
    """One split in one setting."""

    id: str
    """The split's folder and the setting, for links."""
    split: str
    """The split's name."""
    version: int
    """The split's version."""
    folder: str
    """``<split>-v<version>``: the folder of the split's page."""
    setting: str
    """``known-trees`` or ``open``."""
    family: str
    """The family of architectures."""
    trees: int
    """Number of true Model Trees."""
    models: int
    """Number of models."""
    ranked_methods: int
    """Number of rows of the kind ``method``."""
    best_null: float | None
    """The largest edge F1 of a null method."""
    not_run: list[str]
    """Labels of methods without a run on this board."""
    superseded_by: str | None
    """Folder of the split that takes the place of this one."""
    superseded_reason: str | None
    """Why it does."""
    rows: list[RowData]
    """The rows, best first."""


@dataclass(frozen=True, slots=True)
class RegimeCell:
    """How well one direction score works in one training regime."""

    accuracy: float | None
    """Share of true edges that the score directs correctly; None without edges."""
    low: float | None
    """Lower end of the 95 % interval over trees."""
    high: float | None
    """Upper end."""
    trees: int
    """Number of trees."""
    edges: int
    """Number of edges."""


@dataclass(frozen=True, slots=True)
class RegimeMap:
    """The regime map: direction scores against training regimes."""

    scores: list[str]
    """The direction scores: the columns."""
    groups: dict[str, dict[str, list[RegimeCell | None]]]
    """Grouping -> regime -> a cell for each direction score; None if it was not computed."""
    about: str
    """What the map shows, as plain text."""


@dataclass(frozen=True, slots=True)
class RunData:
    """One run of a row."""

    seed: int
    """Its seed."""
    seconds: float | None
    """Its time in seconds."""
    status: str
    """``ok``, ``failed``, ``timeout`` or ``skipped``."""
    error: str | None
    """Why there is no prediction."""


@dataclass(frozen=True, slots=True)
class WrongEdge:
    """A predicted edge between two models that are not parent and child."""

    parent: NodeId
    """The predicted parent; it need not be a model of the split."""
    child: NodeId
    """The predicted child."""
    path: str
    """Its SVG path in the picture of the child's tree."""


@dataclass(frozen=True, slots=True)
class DrawnPrediction:
    """One prediction over the true forest."""

    seed: int
    """The run's seed."""
    correct: list[Edge]
    """True edges (parent, child) that were predicted."""
    reversed: list[Edge]
    """True edges of which the reverse was predicted."""
    missing: list[Edge]
    """All other true edges."""
    wrong_parent: list[WrongEdge]
    """Other predicted edges within a true tree."""
    wrong_tree: list[WrongEdge]
    """Other predicted edges, from another tree or from a model outside the truth."""
    predicted_roots: list[NodeId]
    """Models without a predicted parent, except those abstained on."""
    abstained: list[NodeId]
    """Models whose parents the method declined to name."""
    confidence: dict[NodeId, dict[NodeId, float]] | None
    """Child -> parent -> confidence."""
    relations: dict[NodeId, Relation] | None
    """Model -> predicted relation to its parents."""


@dataclass(frozen=True, slots=True)
class RowDetails:
    """What a split's page shows of an opened row."""

    facts: dict[str, str]
    """Name -> text."""
    runs: list[RunData]
    """The runs, by seed."""
    tree_scores: dict[str, list[float | None]]
    """Metric -> a value for each tree of ``scored_trees``."""
    whole_scores: dict[str, float]
    """Metric -> mean over seeds over the whole forest, where it is defined."""
    drawing: int | None
    """Position of the prediction in the page's list ``drawings``; None if there is none."""


@dataclass(frozen=True, slots=True)
class NodeData:
    """One model of the true forest."""

    id: NodeId
    """The model's id."""
    x: float
    """Horizontal position in the picture of its tree, in pixels."""
    y: float
    """Vertical position."""
    radius: float
    """Radius in pixels."""
    depth: int
    """Number of edges from the root."""
    note: str
    """Relation and task, where they are known."""
    parents: list[NodeId]
    """The true parents."""


@dataclass(frozen=True, slots=True)
class TreeData:
    """One true Model Tree, with what lies between its models."""

    label: int
    """The number that the truth gives the tree; see :meth:`mothr.benchmark.graph.ModelGraph.tree_labels`."""
    width: float
    """Width of the picture in pixels."""
    height: float
    """Height of the picture in pixels."""
    nodes: list[NodeData]
    """The models, sorted by id."""
    distances: list[list[float | None]] | None
    """Distance of each pair of ``nodes``: row i, column j; None if nobody has computed distances."""
    evidence: list[list[float | None]] | None
    """Evidence of direction: positive in row i, column j if model i looks like the parent of model j."""


@dataclass(frozen=True, slots=True)
class PairSources:
    """How distances and evidence were computed."""

    distance: str
    """Name of the distance."""
    direction: str
    """Name of the direction score."""
    layers: str
    """The tensors that both use."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Words that both pages use."""

    metrics: dict[str, MetricText]
    """Every metric of the page."""
    tree_metrics: list[str]
    """Metrics of single trees, in the order of the columns; the first ranks."""
    forest_metrics: list[str]
    """Metrics of the whole forest that are columns."""
    settings: dict[str, str]
    """Setting -> what it means."""


@dataclass(frozen=True, slots=True)
class IndexData:
    """The data of the page of all results."""

    texts: Texts
    """Names of metrics and settings."""
    methods: list[MethodText]
    """Every method with every set of parameters."""
    boards: list[BoardData]
    """Every board."""
    regime_map: RegimeMap | None
    """The regime map, if there is one."""
    page: str = field(default="index", init=False)
    """Which page it is."""


@dataclass(frozen=True, slots=True)
class SplitData:
    """The data of the page of one split."""

    texts: Texts
    """Names of metrics and settings."""
    methods: list[MethodText]
    """Every method with every set of parameters on this split."""
    boards: list[BoardData]
    """The split in each setting."""
    details: dict[str, RowDetails]
    """Row id -> what is shown when the row is opened."""
    scored_trees: list[int]
    """Labels of the trees in ``tree_scores``."""
    trees: list[TreeData] | None
    """The true forest; None if the split's truth is hidden."""
    pair_sources: PairSources | None
    """Where distances and evidence come from; None if nobody has computed them."""
    drawings: list[DrawnPrediction]
    """The predictions that rows show; equal ones stand here once."""
    page: str = field(default="split", init=False)
    """Which page it is."""


def to_json(data: IndexData | SplitData) -> str:
    """Returns the data as JSON that no HTML parser takes for markup."""
    text = json.dumps(data, default=_plain, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _plain(value: object) -> Mapping[str, Any]:
    """Returns the fields of a data class that have a value."""
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} is no part of a page's data")
    named = {part.name: getattr(value, part.name) for part in fields(value)}
    return {name: item for name, item in named.items() if item is not None}
