"""Linea, this project's own method: told nothing, it joins related models, spans them, and roots each tree by evidence.

1. Two models are related if their weights still point the same way. Weights of independent origin are orthogonal but for
   chance, so this needs no number of trees: a tree is what a chain of related pairs holds together.
2. Updates of different models are nearly orthogonal, so a sibling is farther than the parent both came from, and the
   minimum spanning tree of the distances is the undirected Model Tree.
3. In a tree of known shape the root decides all directions. The evidence of every edge is summed for each candidate, which
   outvotes single edges that point the wrong way; the same sums give the probability of each direction.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from mothr.baselines.arborescence import orient, spanning_tree
from mothr.baselines.clustering import told_trees
from mothr.baselines.directions import find_direction, pair_scores
from mothr.baselines.distances import distances, replace_infinite
from mothr.baselines.nulls import check_undirected
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge, ModelGraph
from mothr.benchmark.layers import Layers
from mothr.benchmark.method import Need, Prediction
from mothr.benchmark.weights import ModelSet


@dataclass(frozen=True)
class Linea:
    """Related models are spanned by a minimum spanning tree, rooted where the direction evidence of all edges agrees best."""

    version: ClassVar[str] = "1"

    tuned_on: ClassVar[tuple[str, ...]] = ("vthr-ft-dev", "vthr-lora-f-dev", "llama-ft-dev")

    layers: str = "body"
    """Tensors that everything looks at; see :class:`mothr.benchmark.layers.Layers`."""
    distance: str = "relative"
    """Length of an edge, a name of ``mothr list distances``."""
    direction: str = "residual_independence"
    """Direction score, a name of ``mothr list directions``."""
    related: float = 0.1
    """Cosine of two models' weights, mean over tensors, above which they are of one tree."""
    sharpness: float = 200.0
    """Log-odds of a direction for each unit of evidence; it moves confidence, not the answer."""

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)
        find_direction(self.direction)
        if not 0 < self.related < 1:
            raise MothrError(f"related is {self.related}; it must lie between 0 and 1")
        if not 0 <= self.sharpness < np.inf:
            raise MothrError(f"sharpness is {self.sharpness}; it must be a finite number >= 0")

    @property
    def needs(self) -> frozenset[Need]:
        """What it must be told beside the weights: nothing, save the truth for the direction ``oracle``."""
        return frozenset({"truth"}) if self.direction == "oracle" else frozenset()

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest with the probability of each edge's direction; ``rng`` is for the direction ``random`` alone."""
        layers = Layers.parse(self.layers)
        labels = self._trees(models, layers)
        far = replace_infinite(distances(models, self.distance, layers))
        parts = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
        spans = [[(int(part[i]), int(part[j])) for i, j in spanning_tree(far[np.ix_(part, part)])] for part in parts]
        joined = [edge for span in spans for edge in span]
        says = pair_scores(models, self.direction, np.array(joined, dtype=np.intp), layers, rng) if joined else np.zeros(0)
        evidence = dict(zip(joined, says.tolist(), strict=True))
        ids, edges, confidence = models.ids, list[Edge](), dict[Edge, float]()
        for part, span in zip(parts, spans, strict=True):
            tree, certain = self._root(part, span, evidence)
            for (parent, child), probability in zip(tree, certain, strict=True):
                edges.append((ids[parent], ids[child]))
                confidence[ids[parent], ids[child]] = probability
        trees = {node: int(label) for node, label in zip(ids, labels, strict=True)}
        return Prediction(ModelGraph.from_edges(ids, edges), confidence, trees)

    def _trees(self, models: ModelSet, layers: Layers) -> NDArray[np.int64]:
        """Returns the tree of each model, (n,), numbered in the order in which trees first appear."""
        told = told_trees(models)
        if told is not None:
            return told
        _, labels = connected_components(distances(models, "cosine", layers) < 1 - self.related, directed=False)
        return np.asarray(labels, dtype=np.int64)

    def _root(
        self, part: NDArray[np.intp], span: list[tuple[int, int]], evidence: dict[tuple[int, int], float]
    ) -> tuple[list[tuple[int, int]], list[float]]:
        """Returns the (parent, child) edges of the best rooted ``span``, with the probability of each one's direction."""
        if not span:
            return [], []
        first = int(part[0])
        outward = orient(span, first)
        gain = {edge: evidence[edge] if edge in evidence else -evidence[edge[::-1]] for edge in outward}
        total = {first: sum(gain.values())}
        for parent, child in outward:  # moving the root over an edge turns that edge alone
            total[child] = total[parent] - 2 * gain[parent, child]
        root = max(part.tolist(), key=lambda node: total[node])
        weight = np.exp(self.sharpness * (np.array([total[node] for node in part.tolist()]) - total[root]))
        share = dict(zip(part.tolist(), (weight / weight.sum()).tolist(), strict=True))
        tree = orient(span, root)
        below = dict(share)
        for parent, child in reversed(tree):
            below[parent] += below[child]
        return tree, [1 - min(1.0, below[child]) for _, child in tree]

