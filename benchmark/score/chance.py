"""Chance levels: the scores of random predictions on a given truth, by simulation."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.prediction import RELATIONS, Prediction
from mothr.benchmark.score.metrics import METRICS, Metric

DRAWS = 100
"""Number of random predictions of each shape."""
Shape = Callable[[int, np.random.Generator], list[int]]
"""(number of nodes, generator) -> the parent of each of the nodes 1, 2, ...; node 0 is the root."""


class _Draw(NamedTuple):
    known_trees: Prediction
    """A random prediction with one tree for each true Model Tree."""
    open: Prediction
    """A random prediction with one tree of all nodes."""


def random_tree(size: int, rng: np.random.Generator) -> list[int]:
    """Returns a random recursive tree: the parent of node k = 1..size-1 is drawn uniformly from the nodes 0..k-1."""
    return [int(rng.integers(node)) for node in range(1, size)]


def star(size: int, rng: np.random.Generator) -> list[int]:
    """Returns a star: the parent of each of the nodes 1..size-1 is node 0."""
    return [0] * (size - 1)


def random_prediction(truth: ModelGraph, shape: Shape, rng: np.random.Generator, known_trees: bool) -> Prediction:
    """Returns a random prediction: trees of a given shape on shuffled nodes, with random confidence and relations.

    Args:
        truth: The nodes; if ``known_trees``, also the partition into trees.
        shape: :func:`random_tree` or :func:`star`.
        rng: Draws the order of the nodes, confidences uniformly from [0, 1], and relations uniformly from the
            four.
        known_trees: Whether one tree is drawn for each true Model Tree; otherwise one tree of all nodes is
            drawn.
    """
    whole = (frozenset(truth.nodes),) if truth.nodes else ()
    edges: list[Edge] = []
    for tree in truth.trees if known_trees else whole:
        nodes = sorted(tree)
        order: list[NodeId] = [nodes[index] for index in rng.permutation(len(nodes))]
        edges += [(order[parent], child) for parent, child in zip(shape(len(order), rng), order[1:], strict=True)]
    confidence = dict(zip(edges, rng.random(len(edges)).tolist(), strict=True))
    drawn = rng.integers(len(RELATIONS), size=len(edges))
    relations = {child: RELATIONS[index] for (_, child), index in zip(edges, drawn, strict=True)}
    return Prediction(ModelGraph.from_edges(truth.nodes, edges), confidence, relations=relations)


def chance(truth: Prediction, rng: np.random.Generator, draws: int = DRAWS) -> dict[str, float | None]:
    """Returns the chance level of each metric on ``truth``; None if the metric is undefined on this truth.

    If the chance level of a metric is a known number, it is this number. Otherwise random predictions of two
    shapes are scored: random recursive trees, and stars with a random root. The chance level is then the better
    of the two mean scores. The partition into trees is given to these predictions, except for metrics that
    measure the partition. Without the partition the scores are lower.

    Args:
        truth: The true graph and relations.
        rng: Draws the predictions.
        draws: Number of predictions of each shape.
    """
    predictions: list[list[_Draw]] = [
        [
            _Draw(random_prediction(truth.graph, shape, rng, True), random_prediction(truth.graph, shape, rng, False))
            for _ in range(draws)
        ]
        for shape in (random_tree, star)
    ]
    return {name: _level(metric, truth, predictions) for name, metric in METRICS.items()}


def _level(metric: Metric, truth: Prediction, predictions: list[list[_Draw]]) -> float | None:
    """Returns the chance level of one metric from the random predictions of each shape."""
    if not isinstance(metric.chance, str):
        return metric.chance
    means = []
    for drawn in predictions:
        values = [metric.value(truth, draw.known_trees if metric.per_tree else draw.open) for draw in drawn]
        defined = [value for value in values if value is not None]
        if defined:
            means.append(float(np.mean(defined)))
    return (max if metric.better == "higher" else min)(means, default=None)
