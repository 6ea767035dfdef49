"""Shapes of trees: topology -> the parent of each node."""

import math

import numpy as np

from mothr.generators.recipe.schema import Topology


def parents_of(topology: Topology, rng: np.random.Generator, edge_kinds: int) -> list[int]:
    """Returns the parent of node 1, 2, ... by number; node 0 is the root, and a parent comes before its children.

    Args:
        topology: The shape of the tree.
        rng: Generator of the random shapes.
        edge_kinds: Number of kinds of edges of the recipe, for a topology with ``arms``.
    """
    if topology.random is not None:
        return [int(rng.integers(child)) for child in range(1, topology.random)]
    if topology.parents is not None:
        return list(topology.parents)
    if topology.arms is not None:
        return [max(0, child - edge_kinds) for child in range(1, edge_kinds * topology.arms + 1)]
    if topology.shape is not None:
        return _named(topology.shape, topology.nodes or 2, rng)
    parents: list[int] = []
    level = [0]
    for count in topology.branching or ():
        first = len(parents) + 1
        parents += [parent for parent in level for _ in range(count)]
        level = list(range(first, len(parents) + 1))
    return parents


def _named(shape: str, nodes: int, rng: np.random.Generator) -> list[int]:
    """Returns the parents of a tree with one of the named shapes (see :class:`Topology`)."""
    children = range(1, nodes)
    match shape:
        case "chain":
            return [child - 1 for child in children]
        case "star":
            return [0 for _ in children]
        case "caterpillar":  # nodes 0 to spine - 1 are the chain
            spine = math.ceil(nodes / 2)
            return [child - 1 if child < spine else child - spine for child in children]
        case "two-level":
            first = min(int(rng.integers(2, 5)), nodes - 1)
            return [0 if child <= first else int(rng.integers(1, first + 1)) for child in children]
        case "balanced":  # 1 + b + b * b nodes have branching b
            first = max(1, round((math.sqrt(4 * nodes - 3) - 1) / 2))
            return [0 if child <= first else 1 + (child - first - 1) % first for child in children]
        case _:
            return [int(rng.integers(child)) for child in children]
