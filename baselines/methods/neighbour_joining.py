"""Neighbour joining: the tree whose path lengths fit the distances, with models as leaves and as inner nodes.

Idea: updates of different models are nearly orthogonal. So the squared distance of two models is nearly the sum of the
squared lengths of the edges between them, and neighbour joining recovers a tree from such additive distances.

Source: Saitou and Nei, The neighbor-joining method, Mol. Biol. Evol. 4, 1987; the branch lengths are those of Studier and
Keppler 1988. Written from the papers' descriptions.

Departures, with the reason:

* Neighbour joining puts all observed objects at the leaves of a binary tree, with hidden nodes inside. Here a parent is
  observed too: it hangs from its place inside the tree by an edge of length near zero. A parent of many children is a chain
  of hidden nodes with edges near zero between them. So each hidden node is merged into a model, over the edges of least
  total length (:func:`contract`). An ancestor that is not among the models gives its place to the nearest model.
* The joined tree has no root. The direction evidence, summed over all edges, chooses it.
* If the trees are not given, models are related by the cosine of their weights, as in Linea.

The confidence of an edge is the share of quartets of its tree that satisfy the four-point condition (Buneman 1971). It says
how treelike the distances are. It needs no labels and says nothing about the direction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.parts.checks import check_relatedness
from mothr.baselines.parts.directions import find_direction, kind_of, needs_of
from mothr.baselines.parts.distances import check_symmetric, finite_distances
from mothr.baselines.parts.learned import tuned_on
from mothr.baselines.parts.trees import Pair, related_trees, rooted_forest, tree_positions
from mothr.benchmark.errors import MothrError
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

QUARTETS = 50_000
"""Most quartets that :func:`four_point_share` uses. The standard error of a share of so many is at most
0.5 / sqrt(50000) = 0.002."""


def join(distances: Array) -> list[tuple[int, int, float]]:
    """Returns the edges (node, node, length) of the neighbour-joining tree (Saitou and Nei 1987).

    The n given nodes are 0 ... n - 1; hidden nodes are n, n + 1, ... in the order in which they are made. Each step joins the
    pair of least (m - 2) d[i, j] - r[i] - r[j], with r the row sums over the m remaining nodes. Ties go to the pair of lower
    position. A length may be negative if the distances are not additive.

    Args:
        distances: (n, n), symmetric and finite; nearly sums of edge lengths.
    """
    d, nodes, edges = np.array(distances, dtype=np.float64), list(range(len(distances))), list[tuple[int, int, float]]()
    hidden = len(nodes)
    while (m := len(nodes)) > 2:
        sums = d.sum(axis=1)
        criterion = (m - 2) * d - sums[:, None] - sums[None, :]
        criterion[np.tril_indices(m)] = np.inf
        i, j = divmod(int(criterion.argmin()), m)
        to_i = d[i, j] / 2 + (sums[i] - sums[j]) / (2 * (m - 2))
        edges += [(nodes[i], hidden, float(to_i)), (nodes[j], hidden, float(d[i, j] - to_i))]
        d[i] = d[:, i] = (d[i] + d[j] - d[i, j]) / 2
        d[i, i] = 0.0
        d = np.delete(np.delete(d, j, axis=0), j, axis=1)
        nodes[i], hidden = hidden, hidden + 1
        del nodes[j]
    return [*edges, (nodes[0], nodes[1], float(d[0, 1]))] if len(nodes) == 2 else edges


def contract(edges: list[tuple[int, int, float]], n: int) -> list[Pair]:
    """Returns the edges of the tree ``edges`` after each hidden node was merged into one of the nodes 0 ... n - 1.

    Among all ways to do so, this one merges over edges of least total length. The shortest edge is contracted first. An edge
    is kept only if both its ends already hold a given node (Kruskal's rule with all given nodes as one).
    """
    owner = {node: node if node < n else None for edge in edges for node in edge[:2]}
    group = {node: [node] for node in owner}
    kept = []
    for first, second, _ in sorted(edges, key=lambda edge: edge[2]):
        group_1, group_2 = group[first], group[second]
        owners = {owner[group_1[0]], owner[group_2[0]]} - {None}
        if len(owners) == 2:
            kept.append((first, second))
            continue
        group_1 += group_2
        for node in group_1:
            group[node], owner[node] = group_1, next(iter(owners), None)
    tree = [(owner[first], owner[second]) for first, second in kept]
    return sorted((min(i, j), max(i, j)) for i, j in tree if i is not None and j is not None)


def four_point_share(distances: Array, slack: float = 0.05) -> float:
    """Returns the share of quartets that satisfy the four-point condition, in [0, 1]; NaN for fewer than four models.

    Distances are path lengths of a tree exactly if, for all i, j, k, l, the two largest of the sums d[i, j] + d[k, l],
    d[i, k] + d[j, l] and d[i, l] + d[j, k] are equal (Buneman 1971). If there are more than QUARTETS quartets, that many are
    drawn, with a fixed seed.

    Args:
        distances: (n, n), symmetric.
        slack: Largest difference of the two largest sums, as a fraction of the largest one.
    """
    n = len(distances)
    if n < 4:
        return float("nan")
    if comb(n, 4) <= QUARTETS:
        quartets = np.array(list(combinations(range(n), 4)))
    else:
        drawn = np.sort(np.random.default_rng(0).integers(n, size=(2 * QUARTETS, 4)), axis=1)
        quartets = drawn[(np.diff(drawn, axis=1) > 0).all(axis=1)][:QUARTETS]
    i, j, k, l = quartets.T  # noqa: E741 - the names of the condition
    sums = np.sort(
        [distances[i, j] + distances[k, l], distances[i, k] + distances[j, l], distances[i, l] + distances[j, k]],
        axis=0,
    )
    return float((sums[2] - sums[1] <= slack * sums[2]).mean())


@dataclass(frozen=True)
class NeighbourJoining:
    """The neighbour-joining tree of squared distances, hidden nodes merged into models, rooted by summed direction evidence."""

    version: ClassVar[str] = "1"
    renamed: ClassVar[Mapping[str, str]] = {"related": "relatedness_threshold"}

    layers: str = "body"
    """Tensors that all steps use; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "frobenius"
    """Distance that is squared, a name of ``mothr list distances``. The squares of this one also add up over tensors."""
    direction: str = "residual_independence"
    """Direction score, a name of ``mothr list directions``."""
    relatedness_threshold: float = 0.1
    """Cosine of the weights of two models, mean over tensors, above which they are in one tree. Used if no trees are given."""
    slack: float = 0.05
    """Largest difference of the two largest sums of a treelike quartet, as a fraction. It moves confidence only."""

    def __post_init__(self) -> None:
        check_symmetric(self.distance, self.layers)
        find_direction(self.direction)
        check_relatedness(self.relatedness_threshold)
        if not 0 <= self.slack < 1:
            raise MothrError(f"slack is {self.slack}; it must be at least 0 and below 1")

    @property
    def kind(self) -> MethodKind:
        """The kind of method, which follows from the direction score."""
        return kind_of(self.direction)

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """The splits that the direction score was fitted on."""
        return tuned_on(self.direction)

    @property
    def needs(self) -> frozenset[Need]:
        """The side information that the direction score needs."""
        return needs_of(self.direction)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest; the confidence of an edge is the share of treelike quartets of its tree.

        Only the direction ``random`` uses ``rng``.
        """
        layers = Layers.parse(self.layers)
        labels = related_trees(models, layers, self.relatedness_threshold)
        squared = finite_distances(models, self.distance, layers) ** 2

        def span(part: NDArray[np.intp]) -> list[Pair]:
            return contract(join(squared[np.ix_(part, part)]), len(part))

        forest = rooted_forest(models, labels, span, self.direction, layers, rng)
        treelike = [four_point_share(squared[np.ix_(part, part)], self.slack) for part in tree_positions(labels)]
        trees = forest.trees or {}
        share = {edge: treelike[trees[edge[0]]] for edge in forest.graph.edges}
        confidence = {edge: value for edge, value in share.items() if not np.isnan(value)}
        return Prediction(forest.graph, confidence, forest.trees)
