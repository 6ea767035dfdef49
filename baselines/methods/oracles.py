"""Oracle methods: told part of the truth, they show what the rest is worth. They are never ranked.

Only the true roots are used, or only the true directions. Where the partition into trees is told, each part gets one tree
at its true root; should it have several (a merge of two trees), at the one with the most descendants. Where it is not told,
there are as many trees as true roots.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.methods.nulls import answer, check_undirected, lengths, parts
from mothr.baselines.parts.arborescence import orient, spanning_tree
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge, NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.model_set import ModelSet


def rooted_parts(models: ModelSet) -> list[tuple[list[NodeId], list[NodeId]]]:
    """Returns (models, true roots) of each part in digest order: one root for each told tree, all where none are told.

    Raises:
        MothrError: the truth was not told.
    """
    truth = models.given.truth
    if truth is None:
        raise MothrError("an oracle needs the truth; it can only be run on a data set whose truth is open")
    if models.given.trees is None:
        return [(list(models.ids), [node for node in models.ids if not truth.parents[node]])]
    descendants = dict.fromkeys(models.ids, 0)
    for node in models.ids:
        for above in truth.ancestors(node):
            descendants[above] += 1
    return [(part, [min(part, key=lambda node: (truth.depth(node), -descendants[node]))]) for part in parts(models)]


@dataclass(frozen=True)
class OracleStar:
    """A star at each true root: every other model is a child of the nearest one."""

    distance: str = "rms"
    """What nearest means where there are several roots, a name of ``mothr list distances``."""
    layers: str = "matrices"
    """Tensors the distance looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""

    kind: ClassVar[MethodKind] = "oracle"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset({"truth"})

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns the stars; ``rng`` is not used."""
        place = {node: position for position, node in enumerate(models.ids)}
        edges: list[Edge] = []
        for part, roots in rooted_parts(models):
            nearest = np.zeros(len(models), dtype=np.int64)
            if len(roots) > 1:
                far = lengths(models, self.distance, self.layers)
                nearest = far[:, [place[root] for root in roots]].argmin(axis=1)
            edges += [(roots[nearest[place[node]]], node) for node in part if node not in roots]
        return answer(models, edges)


@dataclass(frozen=True)
class OracleSpanningTree:
    """The undirected minimum spanning forest in which each tree holds one true root, directed away from it."""

    distance: str = "rms"
    """Length of an edge, a name of ``mothr list distances``."""
    layers: str = "matrices"
    """Tensors the distance looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""

    kind: ClassVar[MethodKind] = "oracle"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset({"truth"})

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns the spanning forest; ``rng`` is not used."""
        far = lengths(models, self.distance, self.layers)
        place = {node: position for position, node in enumerate(models.ids)}
        edges: list[Edge] = []
        for part, roots in rooted_parts(models):
            positions = [place[node] for node in part]
            between = far[np.ix_(positions, positions)]
            at = [part.index(root) for root in roots]
            between[np.ix_(at, at)] = -1.0  # shorter than any: the roots are joined first, and then cut apart
            tree = [pair for pair in spanning_tree(between) if not set(pair) <= set(at)]
            edges += [(part[parent], part[child]) for root in at for parent, child in orient(tree, root)]
        return answer(models, edges)


MOTHER_TRUE_DIRECTION = replace(MOTHER_V2, direction="oracle")
"""MoTHer with the true direction of every pair: what its distance and its tree search cost."""
