"""What guessing scores on a given truth, by simulation: a number means nothing without it."""

from collections.abc import Callable
from typing import get_args

import numpy as np

from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction, Relation
from mothr.benchmark.score.metrics import METRICS, Metric

DRAWS = 100
"""Guesses of each kind."""


def random_tree(size: int, rng: np.random.Generator) -> list[int]:
    """Returns the parent of each of the nodes 1 to ``size - 1`` in a random recursive tree: one drawn from those before it."""
    return [int(rng.integers(node)) for node in range(1, size)]


def star(size: int, rng: np.random.Generator) -> list[int]:
    """Returns the parent of each of the nodes 1 to ``size - 1`` in a star: the first."""
    return [0] * (size - 1)


def guess(
    truth: ModelGraph, shape: Callable[[int, np.random.Generator], list[int]], rng: np.random.Generator, told: bool
) -> Prediction:
    """Returns an answer drawn at random: trees of this shape on nodes in random order, any probabilities, any relations.

    Args:
        truth: the nodes; their trees where they are told.
        shape: :func:`random_tree` or :func:`star`.
        rng: draws everything, probabilities evenly from [0, 1] and relations evenly from the four.
        told: whether each true Model Tree is guessed by itself, or all nodes as one.
    """
    edges: list[Edge] = []
    for part in truth.trees if told else (truth.nodes,) if truth.nodes else ():
        order: list[NodeId] = [sorted(part)[place] for place in rng.permutation(len(part))]
        edges += [(order[parent], child) for parent, child in zip(shape(len(order), rng), order[1:], strict=True)]
    confidence = dict(zip(edges, rng.random(len(edges)).tolist(), strict=True))
    kinds: tuple[Relation, ...] = get_args(Relation)
    relations = {
        child: kinds[kind] for (_, child), kind in zip(edges, rng.integers(len(kinds), size=len(edges)), strict=True)
    }
    return Prediction(ModelGraph.from_edges(truth.nodes, edges), confidence, relations=relations)


def chance(truth: Prediction, rng: np.random.Generator, draws: int = DRAWS) -> dict[str, float | None]:
    """Returns what guessing scores in each metric on ``truth``: the known number, else the better of two guessers' means.

    One guesses random recursive trees, the other stars at a random root. They are told which models share a tree, except where
    that is what is measured; what they score told nothing is less. None where the metric is undefined on this truth.

    Args:
        truth: the true graph and relations.
        rng: draws the guesses.
        draws: how many each guesser makes.
    """
    sides = []
    for shape in (random_tree, star):
        sides.append(
            [(guess(truth.graph, shape, rng, True), guess(truth.graph, shape, rng, False)) for _ in range(draws)]
        )
    return {name: _level(metric, truth, sides) for name, metric in METRICS.items()}


def _level(metric: Metric, truth: Prediction, sides: list[list[tuple[Prediction, Prediction]]]) -> float | None:
    if not isinstance(metric.chance, str):
        return metric.chance
    found = [[metric.value(truth, told if metric.per_tree else open_) for told, open_ in guesses] for guesses in sides]
    means = [float(np.mean(known)) for values in found if (known := [value for value in values if value is not None])]
    return (max if metric.better == "higher" else min)(means, default=None)
