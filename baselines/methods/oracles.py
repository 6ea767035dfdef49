"""Oracle methods: they are given a part of the truth and show what the rest is worth. They are never ranked.

Idea: an oracle uses only the true roots, or only the true directions. With a given partition, each part gets one tree at
its true root. If a part has several true roots (two trees joined by a merge), the root with the most descendants is used.
Without a partition there are as many trees as true roots.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.methods.nulls import given_parts, predict_edges, spanning_forest, star
from mothr.baselines.parts.distances import check_symmetric, finite_distances
from mothr.baselines.parts.trees import Pair
from mothr.benchmark.errors import MothrError
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


def parts_with_roots(models: ModelSet) -> list[tuple[list[int], list[int]]]:
    """Returns (models, true roots) of each part, as positions: one root for each given tree, or all roots if no trees are given.

    Raises:
        MothrError: The truth was not given.
    """
    truth, ids = models.given.truth, models.ids
    if truth is None:
        raise MothrError("an oracle needs the truth; it can only be run on a data set whose truth is open")
    if models.given.trees is None:
        return [(list(range(len(ids))), [place for place, node in enumerate(ids) if not truth.parents[node]])]
    descendants = dict.fromkeys(ids, 0)
    for node in ids:
        for ancestor in truth.ancestors(node):
            descendants[ancestor] += 1
    depth = {node: truth.depth(node) for node in ids}
    return [
        (part, [min(part, key=lambda place: (depth[ids[place]], -descendants[ids[place]]))])
        for part in given_parts(models)
    ]


@dataclass(frozen=True)
class OracleStar:
    """A star at each true root: every other model is a child of the nearest root."""

    distance: str = "rms"
    """Distance to the roots if there are several, a name of ``mothr list distances``."""
    layers: str = "matrices"
    """Tensors that the distance uses; see :class:`mothr.benchmark.weights.layers.Layers`."""

    kind: ClassVar[MethodKind] = "oracle"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset({"truth"})

    def __post_init__(self) -> None:
        check_symmetric(self.distance, self.layers)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns the stars; ``rng`` is not used."""
        edges: list[Pair] = []
        for part, roots in parts_with_roots(models):
            several = len(roots) > 1
            distances = finite_distances(models, self.distance, Layers.parse(self.layers)) if several else None
            edges += star(part, roots, distances)
        return predict_edges(models, edges)


@dataclass(frozen=True)
class OracleSpanningTree:
    """The undirected minimum spanning forest with one true root in each tree, directed away from the root."""

    distance: str = "rms"
    """Length of an edge, a name of ``mothr list distances``."""
    layers: str = "matrices"
    """Tensors that the distance uses; see :class:`mothr.benchmark.weights.layers.Layers`."""

    kind: ClassVar[MethodKind] = "oracle"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset({"truth"})

    def __post_init__(self) -> None:
        check_symmetric(self.distance, self.layers)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns the spanning forest; ``rng`` is not used."""
        distances = finite_distances(models, self.distance, Layers.parse(self.layers))
        edges = [edge for part, roots in parts_with_roots(models) for edge in spanning_forest(part, roots, distances)]
        return predict_edges(models, edges)


MOTHER_TRUE_DIRECTION = replace(MOTHER_V2, direction="oracle")
"""MoTHer with the true direction of every pair: what its distance and its tree search lose."""
