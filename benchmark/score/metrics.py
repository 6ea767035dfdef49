"""What is measured: pure functions of two Model Graphs or of two whole predictions, and the table of them.

Every metric ranges over the nodes of ``truth``. ``predicted`` may hold more nodes: one Model Tree of a forest is scored by
``metric(truth.subgraph(tree), predicted)``. A predicted edge counts where its child is a node of ``truth``, so an edge
from another tree is a wrong edge. A ratio 0/0 is 1 where truth and prediction are both empty of what is counted (nothing
was to be found, nothing was claimed) and 0 where only its denominator is: an answer that claims nothing is not precise.
None means undefined; each metric says when.

A model that a method abstains on has no parents in its graph, so metrics of graphs take it for a root: its true edges are
missed (``edge_recall``), nothing false is claimed (``edge_precision``, ``false_parent_rate``), and it counts among the
predicted roots and trees. Where parents are named for it all the same, they count as any others do.
"""

import math
from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction, Relation
from mothr.benchmark.score.confidence import adjacency_ap, aurc, brier, direction_auroc, ece
from mothr.benchmark.score.motifs import motif_accuracy

Near = dict[NodeId | None, tuple[NodeId | None, ...]]
"""The neighbours of each node."""
Answer = ModelGraph | Prediction
"""A bare graph is a prediction that says nothing else; a truth is one that is right."""


@dataclass(frozen=True)
class Metric:
    """One column of the board."""

    name: str
    """The name in result files."""
    function: Callable[[Any, Any], float | None]
    """(truth, predicted) -> value, None where undefined; both are of the kind that ``of`` says."""
    low: float
    """The smallest possible value."""
    high: float
    """The largest possible value; infinite where it grows with the graph."""
    better: Literal["higher", "lower"]
    """Which way is better."""
    chance: float | str
    """What guessing gives, or in words why no one number can say; see :mod:`mothr.benchmark.score.chance`."""
    answers: str
    """The question it answers."""
    per_tree: bool = True
    """Whether it means something for one Model Tree by itself."""
    of: Literal["graphs", "predictions"] = "graphs"
    """Whether it looks at the two graphs alone or at all that is said: probabilities, abstentions, relations."""

    def value(self, truth: Prediction, predicted: Prediction) -> float | None:
        """Returns the metric of ``predicted``, None where it is undefined."""
        return self.function(truth.graph, predicted.graph) if self.of == "graphs" else self.function(truth, predicted)


def _ratio(part: float, whole: float, other: float) -> float:
    """Returns part / whole; with an empty whole, 1 if ``other`` (the opposite side's size) is empty too, else 0."""
    if whole:
        return part / whole
    return 0.0 if other else 1.0


def _f1(truth: Set[Any], predicted: Set[Any]) -> float:
    """Returns the harmonic mean of precision and recall of two sets."""
    total = len(truth) + len(predicted)
    return _ratio(2 * len(truth & predicted), total, total)


def _edges(truth: ModelGraph, predicted: ModelGraph) -> tuple[set[Edge], set[Edge]]:
    """Returns the true edges and the predicted edges whose child is in ``truth``."""
    return set(truth.edges), {(parent, child) for child in truth.nodes for parent in predicted.parents[child]}


def edge_precision(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the share of predicted edges that are true."""
    true, found = _edges(truth, predicted)
    return _ratio(len(true & found), len(found), len(true))


def edge_recall(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the share of true edges that are predicted."""
    true, found = _edges(truth, predicted)
    return _ratio(len(true & found), len(true), len(found))


def edge_f1(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the harmonic mean of edge precision and edge recall."""
    return _f1(*_edges(truth, predicted))


def edge_accuracy(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns right edges / true edges: the number MoTHer (arXiv 2405.18432) reports, the same as :func:`edge_recall`."""
    return edge_recall(truth, predicted)


def ancestor_f1(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the F1 of the (ancestor, descendant) pairs; the descendants are the nodes of ``truth``."""
    true, found = (
        {(above, node) for node in truth.nodes for above in graph.ancestors(node)} for graph in (truth, predicted)
    )
    return _f1(true, found)


def root_accuracy(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the share of nodes given exactly their true roots (one, save below merges); None without nodes."""
    right = [truth.root_of(node) == predicted.root_of(node) for node in truth.nodes]
    return sum(right) / len(right) if right else None


def _roots(truth: ModelGraph, predicted: ModelGraph) -> tuple[set[NodeId], set[NodeId]]:
    return set(truth.roots), {node for node in truth.nodes if not predicted.parents[node]}


def root_precision(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the share of predicted roots that are roots."""
    true, found = _roots(truth, predicted)
    return _ratio(len(true & found), len(found), len(true))


def root_recall(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the share of roots that are predicted to be roots."""
    true, found = _roots(truth, predicted)
    return _ratio(len(true & found), len(true), len(found))


def direction_accuracy(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the share of pairs adjacent in truth and prediction that are directed right; None without such a pair."""
    true, found = _edges(truth, predicted)
    right, reversed_ = len(true & found), sum((child, parent) in found for parent, child in true)
    return right / (right + reversed_) if right + reversed_ else None


def undirected_f1(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the F1 of the edges with their directions dropped."""
    true, found = _edges(truth, predicted)
    return _f1({frozenset(edge) for edge in true}, {frozenset(edge) for edge in found})


def shd(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the structural Hamming distance: edges to add, drop or reverse, a reversal counting 1 (Tsamardinos et al. 2006)."""
    true, found = ({frozenset(edge): edge for edge in side} for side in _edges(truth, predicted))
    return float(sum(true.get(pair) != found.get(pair) for pair in true.keys() | found.keys()))


def parent_hops(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the mean number of true edges between predicted and true parent; None without nodes.

    One virtual node stands above all true roots: it is the parent of a node without parents, and the way between trees, so
    that every node counts. A parent that is no node of ``truth`` counts as the root of another tree. With several parents,
    each is compared with the nearest of the other side, and both sides' means are averaged.
    """
    wrong = [node for node in truth.nodes if truth.parents[node] != predicted.parents[node]]
    sides = [(truth.parents[node] or (None,), predicted.parents[node] or (None,)) for node in wrong]
    ends: dict[NodeId | None, set[NodeId | None]] = {}
    for true, found in sides:
        for parent in true:
            ends.setdefault(parent, set()).update(found)
    near: Near = {None: truth.roots}  # the virtual node
    near |= {node: (*(truth.parents[node] or (None,)), *truth.children(node)) for node in truth.nodes}
    hops = {start: _hops(near, start, some) for start, some in ends.items()}
    between = [np.array([[hops[start][end] for end in found] for start in true]) for true, found in sides]
    total = float(sum(table[0, 0] for table in between))
    for table in between:
        if table.size > 1:
            total += float(table.min(axis=0).mean() + table.min(axis=1).mean()) / 2 - float(table[0, 0])
    return total / len(truth.nodes) if truth.nodes else None


def _hops(near: Near, start: NodeId | None, ends: Set[NodeId | None]) -> dict[NodeId | None, int]:
    """Returns the number of edges from ``start`` to each of ``ends``, where one that is nowhere is a neighbour of None."""
    found, queue = {start: 0}, [start]
    for node in queue:  # which grows meanwhile
        for other in near[node]:
            if other not in found:
                found[other] = found[node] + 1
                queue.append(other)
    return {end: found.get(end, found[None] + 1) for end in ends}


def _labels(graph: ModelGraph, nodes: tuple[NodeId, ...]) -> tuple[int, ...]:
    """Returns the position of each node's Model Tree."""
    found = {node: position for position, tree in enumerate(graph.trees) for node in tree}
    return tuple([found[node] for node in nodes])


def adjusted_rand(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the adjusted Rand index of the two partitions into Model Trees (Hubert and Arabie 1985); None without nodes."""
    if not truth.nodes:
        return None
    return _rand(_labels(truth, truth.nodes), _labels(predicted, truth.nodes))


def adjusted_mutual_information(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the adjusted mutual information of the two partitions into Model Trees (Vinh et al. 2010); None without nodes."""
    if not truth.nodes:
        return None
    return _information(_labels(truth, truth.nodes), _labels(predicted, truth.nodes))


# Both are kept for the last few partitions: many answers differ in their edges alone, above all where the trees are told.
@lru_cache(maxsize=8)
def _rand(true: tuple[int, ...], found: tuple[int, ...]) -> float:
    return float(adjusted_rand_score(true, found))


@lru_cache(maxsize=8)
def _information(true: tuple[int, ...], found: tuple[int, ...]) -> float:
    return float(adjusted_mutual_info_score(true, found))


def tree_count_error(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns by how many Model Trees the prediction is off, either way."""
    return float(abs(len(set(_labels(predicted, truth.nodes))) - len(truth.trees)))


def false_parent_rate(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the share of models without a parent (roots, unrelated models) that are given one; None without nodes."""
    given = [bool(predicted.parents[root]) for root in truth.roots]
    return sum(given) / len(given) if given else None


def relation_f1(truth: Prediction, predicted: Prediction) -> float | None:
    """Returns the F1 of each relation averaged over those that are true or predicted of any model (macro average).

    Looks at the kind alone, whoever the parents are. A root has no relation, so that one predicted of it is wrong; a model with
    parents whose relation the truth does not know is passed over. None where the method says no relation or the truth has none.
    """
    true, said = truth.relations or {}, predicted.relations or {}
    known = [node for node, parents in truth.graph.parents.items() if node in true or not parents]
    if not said or not any(node in true for node in known):
        return None
    found = []
    for kind in get_args(Relation):
        own, named = ({node for node in known if side.get(node) == kind} for side in (true, said))
        found += [_f1(own, named)] if own or named else []
    return sum(found) / len(found)


SHAPE = "depends on the truth: 'mothr score' and the null rows guess on it"
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("edge_precision", edge_precision, 0, 1, "higher", SHAPE, "How many of the named parents are right?"),
        Metric("edge_recall", edge_recall, 0, 1, "higher", SHAPE, "How many of the true parents are named?"),
        Metric("edge_f1", edge_f1, 0, 1, "higher", SHAPE, "Who is my parent?"),
        Metric(
            "edge_accuracy", edge_accuracy, 0, 1, "higher", SHAPE, "Who is my parent, as MoTHer counts it (= recall)?"
        ),
        Metric(
            "ancestor_f1", ancestor_f1, 0, 1, "higher", SHAPE, "Which models do I descend from, and so whose licence?"
        ),
        Metric("root_accuracy", root_accuracy, 0, 1, "higher", SHAPE, "What is the original I descend from?"),
        Metric(
            "root_precision", root_precision, 0, 1, "higher", SHAPE, "How many of the named originals are originals?"
        ),
        Metric("root_recall", root_recall, 0, 1, "higher", SHAPE, "How many of the originals are found?"),
        Metric(
            "direction_accuracy", direction_accuracy, 0, 1, "higher", 0.5, "Of two related models, which is the parent?"
        ),
        Metric("undirected_f1", undirected_f1, 0, 1, "higher", SHAPE, "Which models are directly related?"),
        Metric("motif_accuracy", motif_accuracy, 0, 1, "higher", SHAPE, "Are the graphs of three models right?"),
        Metric("shd", shd, 0, math.inf, "lower", SHAPE, "How many edges are to be added, dropped or turned?"),
        Metric(
            "parent_hops", parent_hops, 0, math.inf, "lower", SHAPE, "How far from the true parent is the named one?"
        ),
        Metric(
            "adjusted_rand", adjusted_rand, -0.5, 1, "higher", 0.0, "Is the forest split right, pair by pair?", False
        ),
        Metric(
            "adjusted_mutual_information",
            adjusted_mutual_information,
            -1,
            1,
            "higher",
            0.0,
            "The same, in information?",
            False,
        ),
        Metric(
            "tree_count_error",
            tree_count_error,
            0,
            math.inf,
            "lower",
            SHAPE,
            "Is the number of Model Trees right?",
            False,
        ),
        Metric(
            "false_parent_rate", false_parent_rate, 0, 1, "lower", SHAPE, "Can it say: none of these is the parent?"
        ),
        Metric(
            "relation_f1",
            relation_f1,
            0,
            1,
            "higher",
            SHAPE,
            "Is it said right how models were made?",
            of="predictions",
        ),
        Metric(
            "direction_auroc",
            direction_auroc,
            0,
            1,
            "higher",
            0.5,
            "Does its confidence tell parent from child?",
            of="predictions",
        ),
        Metric(
            "adjacency_ap",
            adjacency_ap,
            0,
            1,
            "higher",
            SHAPE,
            "Are the surest pairs those that are related?",
            of="predictions",
        ),
        Metric(
            "brier", brier, 0, 1, "lower", 0.25, "How far are its probabilities from what is true?", of="predictions"
        ),
        Metric("ece", ece, 0, 1, "lower", SHAPE, "Can 0.93 be trusted to be right 93 times in 100?", of="predictions"),
        Metric("aurc", aurc, 0, 1, "lower", SHAPE, "Are its surest answers right?", of="predictions"),
    )
}


def catalogue() -> list[dict[str, str]]:
    """Returns one row of text for each metric, for ``mothr list metrics``."""
    return [
        {
            "name": metric.name,
            "range": f"[{metric.low:g}, {metric.high:g}{']' if math.isfinite(metric.high) else ')'}",
            "better": metric.better,
            "chance": metric.chance if isinstance(metric.chance, str) else f"{metric.chance:g}",
            "answers": metric.answers,
        }
        for metric in METRICS.values()
    ]


def score(truth: Answer, predicted: Answer) -> dict[str, float | None]:
    """Returns the value of every metric, None where it is undefined.

    Raises:
        MothrError: a node of ``truth`` is missing from ``predicted``.
    """
    truth, predicted = _whole(truth), _whole(predicted)
    _check(truth.graph, predicted.graph)
    return {name: metric.value(truth, predicted) for name, metric in METRICS.items()}


def per_tree(truth: Answer, predicted: Answer) -> list[dict[str, float | None]]:
    """Returns the metrics that suit one Model Tree for each true one, with its position in ``truth.trees`` as ``tree``.

    Raises:
        MothrError: a node of ``truth`` is missing from ``predicted``.
    """
    truth, predicted = _whole(truth), _whole(predicted)
    _check(truth.graph, predicted.graph)
    found = []
    for position, tree in enumerate(truth.graph.tree_graphs):
        relations = {node: kind for node, kind in (truth.relations or {}).items() if node in tree.parents}
        alone = Prediction(tree, relations=relations)
        values = {name: metric.value(alone, predicted) for name, metric in METRICS.items() if metric.per_tree}
        found.append({"tree": position, **values})
    return found


def _whole(answer: Answer) -> Prediction:
    return Prediction(answer) if isinstance(answer, ModelGraph) else answer


def _check(truth: ModelGraph, predicted: ModelGraph) -> None:
    missing = [node for node in truth.nodes if node not in predicted.parents]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise MothrError(
            f"the prediction lacks {len(missing)} of the {len(truth.nodes)} models: {shown}; name every model"
        )
