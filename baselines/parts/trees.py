"""From distances and direction scores to trees: related models, the root of a tree, and the nearest predecessor of a model."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from mothr.baselines.parts.arborescence import orient
from mothr.baselines.parts.clustering import given_trees
from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.parts.distances import distances
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

Pair = tuple[int, int]
"""Positions of two models in ``models.ids``."""


def related_trees(models: ModelSet, layers: Layers, relatedness_threshold: float) -> NDArray[np.int64]:
    """Returns the tree of each model, (n,) int64, numbered in the order in which trees first appear.

    The result is the given partition, if there is one. Otherwise two models are related if the cosine of their weights,
    mean over tensors, is above ``relatedness_threshold``, and a tree is a connected component of related models.
    """
    given = given_trees(models)
    if given is not None:
        return given
    _, labels = connected_components(distances(models, "cosine", layers) < 1 - relatedness_threshold, directed=False)
    return np.asarray(labels, dtype=np.int64)


def tree_positions(labels: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Returns the positions of the models of each tree, ascending; ``labels``, (n,), are numbered from 0."""
    return [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]


def subset(models: ModelSet, positions: Iterable[int]) -> ModelSet:
    """Returns the models at ``positions``, with the same side information."""
    return ModelSet(tuple(models.checkpoints[position] for position in positions), models.given)


def shared_layers(models: ModelSet, layers: Layers, min_fraction: float = 0.5) -> Layers:
    """Returns those of ``layers`` that all models hold in one shape; ``layers`` itself if they hold too few of the weights.

    Two pairs that are compared on different tensors have distances that cannot be compared. One tensor may change ten
    times as much as another.

    Args:
        models: The models.
        layers: The tensors to choose from.
        min_fraction: Least fraction of all models' weights that the shared tensors must hold.
    """
    keys = layers.select_from(models)
    common = [key for key in keys if len(models.shapes[key]) == len(models)]
    elements = sum(math.prod(shape) * len(models.shapes[name, shape]) for name, shape in keys)
    if len(models) * sum(math.prod(shape) for _, shape in common) < min_fraction * elements:
        return layers
    return replace(layers, among=frozenset(name for name, _ in common))


def root_evidence(span: Sequence[Pair], evidence: Mapping[Pair, float]) -> dict[int, float]:
    """Returns, for each node of the undirected tree ``span``, the summed evidence of all edges if that node is the root.

    A root directs all edges. If the root moves over one edge, only that edge is reversed. So the sums of all n roots take
    O(n) time.

    Args:
        span: The edges of one tree.
        evidence: For each edge (i, j) of ``span``, or for its reverse, the evidence for i -> j; it is negative for j -> i.
    """
    first = min(min(edge) for edge in span)
    outward = orient(span, first)
    gain = {edge: evidence[edge] if edge in evidence else -evidence[edge[::-1]] for edge in outward}
    total = {first: sum(gain.values())}
    for parent, child in outward:
        total[child] = total[parent] - 2 * gain[parent, child]
    return dict(sorted(total.items()))


def root_by_evidence(span: Sequence[Pair], evidence: Mapping[Pair, float]) -> list[Pair]:
    """Returns the undirected tree ``span`` as (parent, child) pairs, directed away from the root of highest summed evidence."""
    if not span:
        return []
    total = root_evidence(span, evidence)
    return orient(span, max(total, key=total.__getitem__))


def rooted_forest(
    models: ModelSet,
    labels: NDArray[np.int64],
    span: Callable[[NDArray[np.intp]], Sequence[Pair]],
    direction: str,
    layers: Layers,
    rng: np.random.Generator,
) -> Prediction:
    """Returns the prediction of one tree for each label: an undirected tree, rooted by summed direction evidence.

    Args:
        models: The models.
        labels: The tree of each model, (n,).
        span: Maps the positions of a tree's models, (k,), to the edges of its undirected tree. The edges are pairs of
            places in these positions.
        direction: A name of ``mothr list directions``.
        layers: The tensors that the direction score uses.
        rng: The generator of the direction ``random``.
    """
    spans = [
        [(int(positions[first]), int(positions[second])) for first, second in span(positions)]
        for positions in tree_positions(labels)
    ]
    edges = [edge for edges in spans for edge in edges]
    scores = pair_scores(models, direction, np.array(edges, dtype=np.intp), layers, rng) if edges else np.zeros(0)
    evidence = dict(zip(edges, scores.tolist(), strict=True))
    return forest_prediction(models, labels, [edge for edges in spans for edge in root_by_evidence(edges, evidence)])


def forest_prediction(models: ModelSet, labels: NDArray[np.int64], edges: Sequence[Pair]) -> Prediction:
    """Returns the prediction of the (parent, child) pairs ``edges``, given as positions, with the tree labels ``labels``, (n,)."""
    graph = ModelGraph.from_edges(models.ids, [(models.ids[parent], models.ids[child]) for parent, child in edges])
    return Prediction(graph, trees=tree_labels(models, labels))


def tree_labels(models: ModelSet, labels: NDArray[np.int64]) -> dict[str, int]:
    """Returns {id of a model: its tree}; ``labels``, (n,), are in the order of ``models.ids``."""
    return {node: int(label) for node, label in zip(models.ids, labels, strict=True)}


def nearest_predecessor(distances: Array, order: Sequence[int], leaf_only: Sequence[int] = ()) -> list[Pair]:
    """Returns (parent, child) pairs: the parent of each model but the first is the nearest of those before it in ``order``.

    Args:
        distances: (n, n).
        order: The positions of the models of one tree, the root first. Of equally near models the earlier one is the parent.
        leaf_only: Models that are a parent only if no other model comes before the child.
    """
    edges = []
    for place, child in enumerate(order[1:], start=1):
        allowed = [node for node in order[:place] if node not in leaf_only] or list(order[:place])
        edges.append((allowed[int(distances[allowed, child].argmin())], child))
    return edges
