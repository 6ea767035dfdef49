"""Neighbour joining: the tree whose path lengths fit the distances, over models that are leaves and inner nodes alike.

Saitou and Nei, The neighbor-joining method, Mol. Biol. Evol. 4, 1987; the branch lengths are those of Studier and Keppler 1988.
Updates of different models are nearly orthogonal, so the squared distance of two models is nearly the sum of the squared
lengths of the edges between them, which is what the algorithm asks for. Written from the papers' descriptions.

Where this differs from what was published, and why:

* neighbour joining puts all that was observed at the leaves of a binary tree and hidden nodes inside. Here a parent was
  observed, too: it hangs from its place inside the tree by an edge of length near zero, and a parent of many children is a
  chain of hidden nodes with near-zero edges between them. So each hidden node is merged into a model, over the edges of
  least total length (:func:`contract`). An ancestor that is not among the models thus gives its place to the nearest one;
* the joined tree has no root; it is rooted where the evidence of a direction score, summed over all edges, is highest;
* where the trees are not told, models are related if the cosine of their weights says so, as in Linea.

The confidence of an edge is the share of quartets of its tree that keep the four-point condition (Buneman 1971): how treelike
the distances of that tree are, which needs no labels and says nothing about the direction.
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.methods.nulls import check_undirected, lengths
from mothr.baselines.parts.directions import find_direction, kind_of
from mothr.baselines.parts.learned import tuned_on
from mothr.baselines.parts.trees import Pair, check_related, forest, parts, related_trees
from mothr.benchmark.errors import MothrError
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

QUARTETS = 50_000
"""As many quartets are looked at; where there are more, as many are drawn."""


def join(distances: Array) -> list[tuple[int, int, float]]:
    """Returns the edges (node, node, length) of the neighbour-joining tree (Saitou and Nei 1987).

    The n given nodes are 0 ... n - 1, hidden ones n, n + 1, ... in the order in which they are made. Joins the pair of least
    (m - 2) d[i, j] - r[i] - r[j], r the row sums over the m nodes left; ties go to the pair of lower position. Lengths may be
    negative where distances are not additive.

    Args:
        distances: (n, n), symmetric, finite, meant to be sums of edge lengths.
    """
    d, nodes, edges = np.array(distances, dtype=np.float64), list(range(len(distances))), list[tuple[int, int, float]]()
    made = len(nodes)
    while (m := len(nodes)) > 2:
        sums = d.sum(axis=1)
        gain = (m - 2) * d - sums[:, None] - sums[None, :]
        gain[np.tril_indices(m)] = np.inf
        i, j = divmod(int(gain.argmin()), m)
        to_i = d[i, j] / 2 + (sums[i] - sums[j]) / (2 * (m - 2))
        edges += [(nodes[i], made, float(to_i)), (nodes[j], made, float(d[i, j] - to_i))]
        d[i] = d[:, i] = (d[i] + d[j] - d[i, j]) / 2
        d[i, i] = 0.0
        d = np.delete(np.delete(d, j, axis=0), j, axis=1)
        nodes[i], made = made, made + 1
        del nodes[j]
    return [*edges, (nodes[0], nodes[1], float(d[0, 1]))] if len(nodes) == 2 else edges


def contract(edges: list[tuple[int, int, float]], n: int) -> list[Pair]:
    """Returns the edges of the tree that is left of ``edges`` when each hidden node is merged into one of the nodes 0 ... n - 1.

    Of all ways to do so this one merges over edges of least total length: the shortest edge goes first, and one is kept
    only where both of its ends hold a given node already (Kruskal's rule with all given nodes taken for one).
    """
    holds = {node: node if node < n else None for edge in edges for node in edge[:2]}
    group = {node: [node] for node in holds}
    kept = []
    for first, second, _ in sorted(edges, key=lambda edge: edge[2]):
        one, two = group[first], group[second]
        owners = {holds[one[0]], holds[two[0]]} - {None}
        if len(owners) == 2:
            kept.append((first, second))
            continue
        one += two
        for node in one:
            group[node], holds[node] = one, next(iter(owners), None)
    tree = [(holds[first], holds[second]) for first, second in kept]
    return sorted((min(i, j), max(i, j)) for i, j in tree if i is not None and j is not None)


def four_point_share(distances: Array, slack: float = 0.05) -> float:
    """Returns the share of quartets that satisfy the four-point condition, in [0, 1]; NaN for fewer than four models.

    Distances are path lengths of a tree exactly if of the sums d[i, j] + d[k, l], d[i, k] + d[j, l] and d[i, l] + d[j, k] the
    two largest are equal, for all i, j, k, l (Buneman 1971). Of more than QUARTETS quartets as many are drawn, always the same.

    Args:
        distances: (n, n), symmetric.
        slack: By what share of the largest sum the second may fall short of it.
    """
    n = len(distances)
    if n < 4:
        return float("nan")
    if comb(n, 4) <= QUARTETS:
        quartets = np.array(list(combinations(range(n), 4)))
    else:
        drawn = np.sort(np.random.default_rng(0).integers(n, size=(2 * QUARTETS, 4)), axis=1)
        quartets = drawn[(np.diff(drawn, axis=1) > 0).all(axis=1)][:QUARTETS]
    i, j, k, l = quartets.T  # noqa: E741 - as the condition is written
    sums = np.sort(
        [distances[i, j] + distances[k, l], distances[i, k] + distances[j, l], distances[i, l] + distances[j, k]],
        axis=0,
    )
    return float((sums[2] - sums[1] <= slack * sums[2]).mean())


@dataclass(frozen=True)
class NeighbourJoining:
    """The neighbour-joining tree of squared distances, hidden nodes merged into models, rooted by summed direction evidence."""

    version: ClassVar[str] = "1"

    layers: str = "body"
    """Tensors that everything looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "frobenius"
    """What is squared, a name of ``mothr list distances``; this one's squares add up over tensors, too."""
    direction: str = "residual_independence"
    """Direction score, a name of ``mothr list directions``."""
    related: float = 0.1
    """Cosine of two models' weights, mean over tensors, above which they are of one tree where the trees are not told."""
    slack: float = 0.05
    """By what share the two largest sums of a quartet may differ; it moves confidence, not the answer."""

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)
        find_direction(self.direction)
        check_related(self.related)
        if not 0 <= self.slack < 1:
            raise MothrError(f"slack is {self.slack}; it must be at least 0 and below 1")

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """The splits that its direction score was fitted on, if it was."""
        return tuned_on(self.direction)

    @property
    def kind(self) -> MethodKind:
        """The kind of method: ``null`` with the direction ``random``, ``oracle`` with the direction ``oracle``."""
        return kind_of(self.direction)

    @property
    def needs(self) -> frozenset[Need]:
        """What it must be told beside the weights: nothing, save the truth for the direction ``oracle``."""
        return frozenset({"truth"}) if self.direction == "oracle" else frozenset()

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest, each edge with the share of treelike quartets of its tree; ``rng`` is for the direction ``random``."""
        layers = Layers.parse(self.layers)
        labels = related_trees(models, layers, self.related)
        squared = lengths(models, self.distance, self.layers) ** 2

        def span(part: NDArray[np.intp]) -> list[Pair]:
            tree = contract(join(squared[np.ix_(part, part)]), len(part))
            return [(int(part[i]), int(part[j])) for i, j in tree]

        found = forest(models, labels, span, self.direction, layers, rng)
        treelike = [four_point_share(squared[np.ix_(part, part)], self.slack) for part in parts(labels)]
        trees = found.trees or {}
        confidence = {edge: treelike[trees[edge[0]]] for edge in found.graph.edges}
        return Prediction(
            found.graph, {edge: share for edge, share in confidence.items() if not np.isnan(share)}, found.trees
        )
