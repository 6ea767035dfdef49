"""How far each child went, over how far its parent went."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from mothr.benchmark.data.updates import weights_of
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.weights.layers import Key, Layers
from mothr.benchmark.weights.model_set import ModelSet

WAY_LAYERS = "body"
"""Tensors that the ways are measured on: without heads, which belong to a task and not to the model."""
SLICE = 1 << 20
"""Elements of the float64 arrays that are computed at a time: 8 MiB."""


def ways(models: ModelSet, graph: ModelGraph) -> dict[Edge, float]:
    """Returns |c - p| / |p - a| for each true edge, with the child c, its parent p and the only parent a of p.

    The norms are Frobenius norms over the tensors of :data:`WAY_LAYERS` that a, p and c share: equal name and shape. An
    edge is left out if p is a root or a merge, or if p equals a, or if no tensor is shared. One tensor of one tree is in
    memory at a time.

    Raises:
        MothrError: A value is NaN or infinite, or a file is damaged.
    """
    position = {node: index for index, node in enumerate(models.ids)}
    layers = Layers.parse(WAY_LAYERS)
    sums: dict[Edge, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for tree in graph.tree_graphs:
        lines = [(tree.parents[p][0], p, c) for p, c in tree.edges if len(tree.parents[p]) == 1]
        holders: dict[Key, list[NodeId]] = defaultdict(list)
        for node in sorted({node for line in lines for node in line}):
            for key in weights_of(models.checkpoints[position[node]]).items():
                holders[key].append(node)
        for (name, shape), nodes in holders.items():
            shared = [line for line in lines if set(line) <= set(nodes)]
            if not shared or not layers.holds(name, shape):
                continue
            stack = models.stack(name, [position[node] for node in nodes]).numpy().reshape(len(nodes), -1)
            weights = dict(zip(nodes, stack, strict=True))
            for a, p, c in shared:
                length, start = sums[p, c]
                sums[p, c] = (length + _energy(weights[c], weights[p]), start + _energy(weights[p], weights[a]))
    return {edge: float(np.sqrt(length / start)) for edge, (length, start) in sums.items() if start > 0}


def _energy(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Returns the squared norm of the difference of two rows of weights."""
    total = 0.0
    for begin in range(0, len(first), SLICE):
        difference = first[begin : begin + SLICE].astype(np.float64) - second[begin : begin + SLICE]
        total += float(difference @ difference)
    return total
