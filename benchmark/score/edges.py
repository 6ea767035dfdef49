"""Metrics of the edges, the directions and the roots of a predicted Model Graph.

Let V be the nodes of the truth, E the true edges, and F the predicted edges whose child is in V. The prediction
may have more nodes than the truth: one Model Tree of a forest is scored by ``metric(truth.subgraph(tree),
predicted)``. An edge that comes from another tree is then a wrong edge.

A ratio 0/0 is 1 if both numbers that it compares are empty: nothing was to be found, and nothing was predicted.
It is 0 if only the denominator is empty: a prediction without edges is not precise. None means undefined.

A model that a method abstains on has no parents in the predicted graph, so the metrics here count it as a root:
its true edges are missed (``edge_recall``), and it adds no wrong edge (``edge_precision``,
``false_parent_rate``). If the prediction names parents for it, they count like all others.
"""

from collections.abc import Set
from typing import Any

import numpy as np

from mothr.benchmark.graph import Edge, ModelGraph, NodeId

Neighbours = dict[NodeId | None, tuple[NodeId | None, ...]]
"""Node -> its neighbours. None is a virtual node above all roots."""


def ratio(part: float, whole: float, opposite: float) -> float:
    """Returns part / whole.

    If ``whole`` is 0, it returns 1 if ``opposite``, the size of the other side, is 0 too, else 0.
    """
    if whole:
        return part / whole
    return 0.0 if opposite else 1.0


def f1(truth: Set[Any], predicted: Set[Any]) -> float:
    """Returns the F1 score of two sets A and B: 2 |A ∩ B| / (|A| + |B|), the harmonic mean of precision and recall."""
    total = len(truth) + len(predicted)
    return ratio(2 * len(truth & predicted), total, total)


def edge_precision(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the share of predicted edges that are true: |E ∩ F| / |F|.

    Range [0, 1], higher is better. The chance level depends on the truth.
    """
    true, named = _edges(truth, predicted)
    return ratio(len(true & named), len(named), len(true))


def edge_recall(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the share of true edges that are predicted: |E ∩ F| / |E|.

    Range [0, 1], higher is better. The chance level depends on the truth.
    """
    true, named = _edges(truth, predicted)
    return ratio(len(true & named), len(true), len(named))


def edge_f1(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the harmonic mean of edge precision and edge recall: 2 |E ∩ F| / (|E| + |F|).

    Range [0, 1], higher is better. The chance level depends on the truth.
    """
    return f1(*_edges(truth, predicted))


def edge_accuracy(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns |E ∩ F| / |E|, the number that MoTHer reports (Horwitz et al., arXiv 2405.18432).

    It equals :func:`edge_recall`.

    Range [0, 1], higher is better. The chance level depends on the truth.
    """
    return edge_recall(truth, predicted)


def ancestor_f1(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the F1 score of the pairs (ancestor, descendant) of both graphs, over the descendants in V.

    Range [0, 1], higher is better. The chance level depends on the truth.
    """
    true, named = (
        {(ancestor, node) for node in truth.nodes for ancestor in graph.ancestors(node)} for graph in (truth, predicted)
    )
    return f1(true, named)


def root_accuracy(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the share of nodes v with R(v) = R'(v): the roots of v in the truth and in the prediction.

    R(v) is one root, except below a merge across trees. The root of a root is the node itself.

    Range [0, 1], higher is better. The chance level depends on the truth. None if the truth has no nodes.
    """
    correct = [truth.root_of(node) == predicted.root_of(node) for node in truth.nodes]
    return sum(correct) / len(correct) if correct else None


def root_precision(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the share of predicted roots that are true roots: |R ∩ S| / |S|.

    R are the true and S the predicted roots in V.

    Range [0, 1], higher is better. The chance level depends on the truth.
    """
    true, named = _roots(truth, predicted)
    return ratio(len(true & named), len(named), len(true))


def root_recall(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the share of true roots that are predicted as roots: |R ∩ S| / |R|.

    R are the true and S the predicted roots in V.

    Range [0, 1], higher is better. The chance level depends on the truth.
    """
    true, named = _roots(truth, predicted)
    return ratio(len(true & named), len(true), len(named))


def direction_accuracy(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the share of pairs that are adjacent in both graphs whose direction is correct: c / (c + r).

    c is the number of edges in E ∩ F, and r the number of true edges that are predicted in the reverse
    direction.

    Range [0, 1], higher is better, chance level 0.5. None if no pair is adjacent in both graphs.
    """
    true, named = _edges(truth, predicted)
    correct, reverse = len(true & named), sum((child, parent) in named for parent, child in true)
    return correct / (correct + reverse) if correct + reverse else None


def undirected_f1(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the F1 score of the edges without their directions.

    Range [0, 1], higher is better. The chance level depends on the truth.
    """
    true, named = _edges(truth, predicted)
    return f1({frozenset(edge) for edge in true}, {frozenset(edge) for edge in named})


def shd(truth: ModelGraph, predicted: ModelGraph) -> float:
    """Returns the structural Hamming distance: the number of edges to add, to remove or to reverse.

    A reversed edge counts 1. The distance is that of Tsamardinos et al. (2006) for directed graphs.

    Range [0, inf), lower is better. The chance level depends on the truth.
    """
    true, named = ({frozenset(edge): edge for edge in side} for side in _edges(truth, predicted))
    return float(sum(true.get(pair) != named.get(pair) for pair in true.keys() | named.keys()))


def false_parent_rate(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the share of true roots for which the prediction names a parent: |R - S| / |R|.

    R are the true and S the predicted roots in V. Unrelated models are roots, too.

    Range [0, 1], lower is better. The chance level depends on the truth. None if the truth has no nodes.
    """
    has_parent = [bool(predicted.parents[root]) for root in truth.roots]
    return sum(has_parent) / len(has_parent) if has_parent else None


def parent_hops(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the mean over V of the number of true edges between the predicted and the true parent of a node.

    A virtual node lies above all true roots. It is the parent of a node without parents, and it connects the
    trees. A predicted parent outside V counts as the root of another tree. With several parents, let h(p, q) be
    the hops between a true parent p and a predicted parent q. The node then counts (mean over q of min over p
    of h + mean over p of min over q of h) / 2.

    Range [0, inf), lower is better. The chance level depends on the truth. None if the truth has no nodes.
    """
    wrong = [node for node in truth.nodes if truth.parents[node] != predicted.parents[node]]
    sides = [(truth.parents[node] or (None,), predicted.parents[node] or (None,)) for node in wrong]
    targets: dict[NodeId | None, set[NodeId | None]] = {}
    for true, named in sides:
        for parent in true:
            targets.setdefault(parent, set()).update(named)
    neighbours: Neighbours = {None: truth.roots}
    neighbours |= {node: (*(truth.parents[node] or (None,)), *truth.children(node)) for node in truth.nodes}
    hops = {start: _hops(neighbours, start, nodes) for start, nodes in targets.items()}
    tables = [np.array([[hops[start][end] for end in named] for start in true]) for true, named in sides]
    total = float(sum(table[0, 0] for table in tables))
    for table in tables:
        if table.size > 1:
            total += float(table.min(axis=0).mean() + table.min(axis=1).mean()) / 2 - float(table[0, 0])
    return total / len(truth.nodes) if truth.nodes else None


def _hops(neighbours: Neighbours, start: NodeId | None, targets: Set[NodeId | None]) -> dict[NodeId | None, int]:
    """Returns the number of edges from ``start`` to each target.

    An unknown target is a neighbour of the virtual node None.
    """
    distance, queue = {start: 0}, [start]
    for node in queue:  # the loop appends to the queue
        for neighbour in neighbours[node]:
            if neighbour not in distance:
                distance[neighbour] = distance[node] + 1
                queue.append(neighbour)
    return {target: distance.get(target, distance[None] + 1) for target in targets}


def _edges(truth: ModelGraph, predicted: ModelGraph) -> tuple[set[Edge], set[Edge]]:
    """Returns E, the true edges, and F, the predicted edges whose child is a node of ``truth``."""
    return set(truth.edges), {(parent, child) for child in truth.nodes for parent in predicted.parents[child]}


def _roots(truth: ModelGraph, predicted: ModelGraph) -> tuple[set[NodeId], set[NodeId]]:
    """Returns the true roots, and the nodes of ``truth`` that are predicted roots."""
    return set(truth.roots), {node for node in truth.nodes if not predicted.parents[node]}
