"""From distances and evidence to trees: which models are related, where a tree's root is, and the nearest model before each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from mothr.baselines.parts.arborescence import orient
from mothr.baselines.parts.clustering import given_trees
from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.parts.distances import distances
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers

Pair = tuple[int, int]
"""Positions of two models."""


def check_related(related: float) -> None:
    """Raises MothrError unless ``related`` can be a cosine above which two models are of one tree."""
    if not 0 < related < 1:
        raise MothrError(f"related is {related}; it must lie between 0 and 1")


def related_trees(models: ModelSet, layers: Layers, related: float) -> NDArray[np.int64]:
    """Returns the tree of each model, (n,), numbered in the order in which trees first appear.

    The told partition; where none is told, chains of models whose weights have a cosine above ``related``, mean over tensors.
    """
    told = given_trees(models)
    if told is not None:
        return told
    _, labels = connected_components(distances(models, "cosine", layers) < 1 - related, directed=False)
    return np.asarray(labels, dtype=np.int64)


def parts(labels: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Returns the positions of the models of each tree."""
    return [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]


def shared(models: ModelSet, layers: Layers) -> Layers:
    """Returns those of ``layers`` that all models hold in one shape, or all of them where the rest is most of the weights.

    Pairs that are compared on different tensors cannot be told near from far: a tensor may change ten times as much as another.
    """
    keys = layers.select_from(models)
    common = [key for key in keys if len(models.shapes[key]) == len(models)]
    elements = sum(math.prod(shape) * len(models.shapes[name, shape]) for name, shape in keys)
    if 2 * len(models) * sum(math.prod(shape) for _, shape in common) < elements:
        return layers
    return replace(layers, among=frozenset(name for name, _ in common))


def root_evidence(span: Sequence[Pair], evidence: Mapping[Pair, float]) -> dict[int, float]:
    """Returns for each model of the undirected tree ``span`` the summed evidence of all edges if it is the root.

    Args:
        span: The edges of one tree.
        evidence: For each edge (i, j) of ``span`` what speaks for i -> j; negative for j -> i.
    """
    first = min(min(edge) for edge in span)
    outward = orient(span, first)
    gain = {edge: evidence[edge] if edge in evidence else -evidence[edge[::-1]] for edge in outward}
    total = {first: sum(gain.values())}
    for parent, child in outward:  # moving the root over an edge turns that edge alone
        total[child] = total[parent] - 2 * gain[parent, child]
    return dict(sorted(total.items()))


def rooted(span: Sequence[Pair], evidence: Mapping[Pair, float]) -> list[Pair]:
    """Returns the undirected tree ``span`` as (parent, child) pairs, from the root where :func:`root_evidence` is highest."""
    if not span:
        return []
    total = root_evidence(span, evidence)
    return orient(span, max(total, key=total.__getitem__))


def forest(
    models: ModelSet,
    labels: NDArray[np.int64],
    span: Callable[[NDArray[np.intp]], Sequence[Pair]],
    direction: str,
    layers: Layers,
    rng: np.random.Generator,
) -> Prediction:
    """Returns the prediction of one tree for each label, its edges those that ``span`` gives, rooted by summed evidence.

    Args:
        models: The models.
        labels: The tree of each model, (n,).
        span: Gives the undirected edges of the tree of the models at the positions it is called with.
        direction: A name of ``mothr list directions``.
        layers: Tensors the direction score looks at.
        rng: What the direction ``random`` tosses with.
    """
    spans = [[(int(i), int(j)) for i, j in span(part)] for part in parts(labels)]
    joined = [edge for edges in spans for edge in edges]
    says = pair_scores(models, direction, np.array(joined, dtype=np.intp), layers, rng) if joined else np.zeros(0)
    evidence = dict(zip(joined, says.tolist(), strict=True))
    return prediction(models, labels, [edge for edges in spans for edge in rooted(edges, evidence)])


def prediction(models: ModelSet, labels: NDArray[np.int64], edges: Sequence[Pair]) -> Prediction:
    """Returns the prediction of the (parent, child) pairs ``edges``, given as positions, and of the trees ``labels``."""
    graph = ModelGraph.from_edges(models.ids, [(models.ids[parent], models.ids[child]) for parent, child in edges])
    return Prediction(graph, trees={node: int(label) for node, label in zip(models.ids, labels, strict=True)})


def nearest_before(far: Array, order: Sequence[int], barren: Sequence[int] = ()) -> list[Pair]:
    """Returns (parent, child) pairs that make each model but the first the child of the nearest of those before it.

    Args:
        far: (n, n) distances.
        order: The positions of the models of one tree, the root first. Of models equally near, the first is the parent.
        barren: Models that may be a parent only where no other is before the child.
    """
    edges = []
    for place, child in enumerate(order[1:], start=1):
        before = [node for node in order[:place] if node not in barren] or list(order[:place])
        edges.append((before[int(far[before, child].argmin())], child))
    return edges
