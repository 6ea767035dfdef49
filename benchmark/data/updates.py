"""Measures how the models of a data set differ along its true edges: lengths, directions and ranks of updates.

Three models in a line are the ancestor a, the parent p and the child c. The parent's update is u = p - a. All differences
are taken over the tensors that the models share: equal name and shape, floating point. Integers without scales, and the
scales of stored integers, are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothr.benchmark.data.dataset import Truth
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.weights.checkpoint import Checkpoint
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

Values = NDArray[np.float64]
Key = tuple[str, tuple[int, ...]]
"""Name and shape of a tensor."""
RANKED = 8
"""Largest number of matrices of one edge whose effective rank is computed."""
PAIRS = 1000
"""Largest number of pairs of siblings, and of nephew and uncle, that are compared in one tree."""
SLICE = 1 << 20
"""Elements of the float64 arrays that are computed at a time: 8 MiB."""


@dataclass(frozen=True, slots=True)
class EdgeUpdate:
    """The update of one true edge from the parent p to the child c. A value is None where it is not defined."""

    tree: int
    """The position of the Model Tree in ``truth.graph.trees``."""
    parent: NodeId
    """The parent p."""
    child: NodeId
    """The child c."""
    kind: str
    """The subtype of the relation, or the relation if there is no subtype."""
    relative_length: float | None
    """|c - p| / |p|, Frobenius norms over all shared tensors; None if p is zero."""
    length_over_parents: float | None
    """|c - p| / |p - a|; None if p has not exactly one parent, or equals it."""
    coefficient: float | None
    """<c - a, u> / |u|^2, the coefficient of c - a on u; None where ``length_over_parents`` is None."""
    tensors_touched: float | None
    """Share of the shared tensors in which any byte differs; None if no tensor is shared."""
    effective_rank: float | None
    """Effective rank of c - p, mean over at most :data:`RANKED` touched matrices; None if no matrix is touched."""
    effective_rank_share: float | None
    """The same, each divided by the largest possible rank of its matrix."""


@dataclass(frozen=True, slots=True)
class PairUpdate:
    """One number for two models of one tree."""

    tree: int
    """The position of the Model Tree in ``truth.graph.trees``."""
    first: NodeId
    """The first sibling; or the nephew n, a child of the uncle's sibling."""
    second: NodeId
    """The second sibling; or the uncle c, a child of the nephew's grandparent p."""
    value: float
    """For siblings, the cosine of their updates. For a nephew, <n - p, c - p> / |c - p|^2."""


@dataclass(frozen=True, slots=True)
class Updates:
    """The updates of all true edges of a data set, and pairs of updates."""

    edges: tuple[EdgeUpdate, ...]
    """One for each true edge."""
    siblings: tuple[PairUpdate, ...]
    """One for each pair of siblings, at most :data:`PAIRS` of a tree. Merged models are left out."""
    nephews: tuple[PairUpdate, ...]
    """One for each nephew and each of its uncles, at most :data:`PAIRS` of a tree. Merged models are left out."""

    def values(self, name: str) -> Values:
        """Returns the defined values of a statistic: a number field of :class:`EdgeUpdate`, or ``sibling_cosine`` or
        ``uncle_coefficient``."""
        if name in ("sibling_cosine", "uncle_coefficient"):
            pairs = self.siblings if name == "sibling_cosine" else self.nephews
            return np.array([pair.value for pair in pairs], dtype=np.float64)
        found = (getattr(edge, name) for edge in self.edges)
        return np.array([value for value in found if value is not None], dtype=np.float64)


def measure(models: ModelSet, truth: Truth, layers: str = "all") -> Updates:
    """Returns the updates of all true edges.

    One tensor of one tree is in memory at a time, and each tensor is read once.

    Args:
        models: The models.
        truth: The truth about them.
        layers: The tensors that are compared, see :class:`mothr.benchmark.weights.layers.Layers`.

    Raises:
        MothrError: A model of the truth is missing, a value is NaN or infinite, or a file is damaged.
    """
    position = {node: index for index, node in enumerate(models.ids)}
    if missing := sorted(truth.nodes.keys() - position.keys()):
        raise MothrError(f"model {missing[0]}: is in the truth, but not among the models; give the whole data set")
    selected = Layers.parse(layers)
    edges: list[EdgeUpdate] = []
    siblings: list[PairUpdate] = []
    nephews: list[PairUpdate] = []
    for number, graph in enumerate(truth.graph.tree_graphs):
        tree = _Tree(models, graph, number, position, selected)
        for key, rows in tree.holders.items():
            tree.add(key, rows)
        edges += tree.edge_updates(truth)
        siblings += tree.pair_updates(tree.siblings, "siblings")
        nephews += tree.pair_updates(tree.nephews, "nephews")
    return Updates(tuple(edges), tuple(siblings), tuple(nephews))


def effective_rank(matrix: NDArray[Any]) -> float | None:
    """Returns exp(-sum q_i log q_i) with q_i = s_i^2 / sum s^2, where s are the singular values of ``matrix``.

    The definition is that of Roy and Vetterli (2007), with energies s^2 instead of singular values s: rounding errors
    have many singular values, but little energy. A kernel is read as (outputs, all other axes). None if all values are zero.
    """
    rows = matrix.reshape(len(matrix), -1).astype(np.float64)
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    energy = np.clip(np.linalg.eigvalsh(gram), 0.0, None)
    if not energy.any():
        return None
    shares = energy[energy > 0] / energy.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def weights_of(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Returns name -> shape of the tensors that are compared: floating point, or integers with scales, and not empty."""
    names = checkpoint.tensors
    return {
        name: info.shape
        for name, info in names.items()
        if (info.scale is not None or info.dtype.startswith(("F", "BF")))
        and 0 not in info.shape
        and not (name.endswith("_scale") and name.removesuffix("_scale") in names)
    }


class _Tree:
    """One Model Tree: its edges, and the sums over tensors that its statistics are computed from."""

    def __init__(
        self, models: ModelSet, graph: ModelGraph, number: int, position: Mapping[NodeId, int], layers: Layers
    ) -> None:
        self.models, self.graph, self.number = models, graph, number
        self.positions = [position[node] for node in graph.nodes]
        row = {node: index for index, node in enumerate(graph.nodes)}
        self.edges: tuple[Edge, ...] = graph.edges
        self.parents = np.array([row[parent] for parent, _ in self.edges], dtype=np.intp)
        self.children = np.array([row[child] for _, child in self.edges], dtype=np.intp)
        edge_to = {child: index for index, (_, child) in enumerate(self.edges) if len(graph.parents[child]) == 1}
        # Positions of edges. A chain: the parent's edge, the child's edge. Siblings: their edges. A nephew: its own edge,
        # the edge of its parent, the edge of its uncle.
        self.chains = _array([(edge_to[p], index) for index, (p, _) in enumerate(self.edges) if p in edge_to], 2)
        self.siblings = _drawn(_array(list(_sibling_edges(graph, edge_to)), 2), number)
        self.nephews = _drawn(_array(list(_nephew_edges(graph, edge_to)), 3), number)
        self.holders: dict[Key, list[int]] = {}
        checkpoints = [models.checkpoints[index] for index in self.positions]
        self.weights = [
            {name: shape for name, shape in weights_of(checkpoint).items() if layers.holds(name, shape)}
            for checkpoint in checkpoints
        ]
        for index, shapes in enumerate(self.weights):
            for key in shapes.items():
                self.holders.setdefault(key, []).append(index)
        self.touched: list[float | None] = []
        self.ranked: dict[Key, list[int]] = {}
        self._compare_digests(checkpoints)
        self.ranks: list[list[tuple[float, float]]] = [[] for _ in self.edges]
        count = len(self.edges)
        self.parent_energy, self.energy = np.zeros(count), np.zeros(count)
        # Columns: an inner product of two updates, and the energies of both, over the tensors that all models share.
        self.sums = {
            "chains": np.zeros((len(self.chains), 3)),
            "siblings": np.zeros((len(self.siblings), 3)),
            "nephews": np.zeros((len(self.nephews), 3)),
        }

    def _compare_digests(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Finds the share of touched tensors of each edge, and the matrices whose rank is computed: evenly spaced among
        the touched ones."""
        for index, (p, c) in enumerate(zip(self.parents, self.children, strict=True)):
            shared = [key for key in self.weights[p].items() if self.weights[c].get(key[0]) == key[1]]
            first, second = checkpoints[p].digests, checkpoints[c].digests
            touched = [key for key in shared if first[key[0]] != second[key[0]]]
            self.touched.append(len(touched) / len(shared) if shared else None)
            matrices = [key for key in touched if len(key[1]) > 1 and min(key[1][0], np.prod(key[1][1:])) > 1]
            chosen = np.unique(np.linspace(0, len(matrices) - 1, min(RANKED, len(matrices))).astype(int))
            for place in chosen:
                self.ranked.setdefault(matrices[place], []).append(index)

    def add(self, key: Key, holders: Sequence[int]) -> None:
        """Adds one tensor, which the models in the rows ``holders`` of the tree have, to all sums."""
        place = np.full(len(self.positions), -1)
        place[list(holders)] = np.arange(len(holders))
        present = np.flatnonzero((place[self.parents] >= 0) & (place[self.children] >= 0))
        if not len(present):
            return
        stack = self.models.stack(key[0], [self.positions[row] for row in holders]).numpy()
        p, c = place[self.parents[present]], place[self.children[present]]
        for index in self.ranked.get(key, ()):
            first, second = place[self.parents[index]], place[self.children[index]]
            difference = stack[second] - stack[first]
            rank = effective_rank(difference)
            if rank is not None:  # stored in another number format, but of equal values
                largest = min(len(difference), difference.size // len(difference))
                self.ranks[index].append((rank, rank / largest))
        gram, energy = _products(stack.reshape(len(stack), -1), p, c)
        self.parent_energy[present] += energy[p]
        self.energy[present] += np.diag(gram)
        full = np.full((len(self.edges),) * 2, np.nan)  # NaN: one of the two edges lacks this tensor
        full[np.ix_(present, present)] = gram
        self._add_products(full)

    def _add_products(self, gram: Values) -> None:
        """Adds the inner products of the updates in one tensor, (edges, edges), to the sums of pairs of edges."""
        energy = np.diag(gram)
        upper, lower = self.chains.T
        first, second = self.siblings.T
        own, parents, uncles = self.nephews.T
        terms = {
            "chains": (gram[lower, upper], energy[upper], energy[lower]),
            "siblings": (gram[first, second], energy[first], energy[second]),
            "nephews": (gram[own, uncles] + gram[parents, uncles], energy[uncles], energy[own]),
        }
        for name, columns in terms.items():
            rows = np.column_stack(columns)
            self.sums[name] += np.where(np.isnan(rows).any(axis=1, keepdims=True), 0.0, rows)

    def edge_updates(self, truth: Truth) -> Iterator[EdgeUpdate]:
        """Yields the update of each edge."""
        chain_of = {int(lower): row for row, (_, lower) in enumerate(self.chains)}
        for index, (parent, child) in enumerate(self.edges):
            product, way, length = (
                self.sums["chains"][chain_of[index]].tolist() if index in chain_of else (0.0, 0.0, 0.0)
            )
            start, ranks = float(self.parent_energy[index]), self.ranks[index]
            node = truth.nodes[child]
            yield EdgeUpdate(
                tree=self.number,
                parent=parent,
                child=child,
                kind=node.subtype or node.relation or "unknown",
                relative_length=float(np.sqrt(self.energy[index] / start)) if start else None,
                length_over_parents=float(np.sqrt(length / way)) if way else None,
                coefficient=1.0 + product / way if way else None,  # c - a = (c - p) + u
                tensors_touched=self.touched[index],
                effective_rank=float(np.mean([rank for rank, _ in ranks])) if ranks else None,
                effective_rank_share=float(np.mean([share for _, share in ranks])) if ranks else None,
            )

    def pair_updates(self, pairs: NDArray[np.intp], name: str) -> Iterator[PairUpdate]:
        """Yields the number of each pair of siblings or of nephew and uncle, where it is defined."""
        for edges, (product, first, second) in zip(pairs.tolist(), self.sums[name].tolist(), strict=True):
            divisor = float(np.sqrt(first * second)) if name == "siblings" else first
            if divisor:
                nodes = (self.edges[edges[0]][1], self.edges[edges[-1]][1])
                yield PairUpdate(self.number, *nodes, value=product / divisor)


def _products(stack: NDArray[Any], parents: NDArray[np.intp], children: NDArray[np.intp]) -> tuple[Values, Values]:
    """Returns the inner products of the updates c - p, (m, m), and the energies of the models, (k,), for m edges.

    Args:
        stack: (k, elements), float32 or float64: one tensor of k models.
        parents: (m,) rows of the parents.
        children: (m,) rows of the children.
    """
    gram, energy = np.zeros((len(parents), len(parents))), np.zeros(len(stack))
    width = max(1, SLICE // max(len(stack), len(parents)))
    for start in range(0, stack.shape[1], width):
        part = stack[:, start : start + width].astype(np.float64)
        energy += np.einsum("ij,ij->i", part, part)
        updates = part[children] - part[parents]
        gram += updates @ updates.T
    return gram, energy


def _sibling_edges(graph: ModelGraph, edge_to: Mapping[NodeId, int]) -> Iterator[tuple[int, int]]:
    for node in graph.nodes:
        edges = [edge_to[child] for child in graph.children(node) if child in edge_to]
        yield from ((first, second) for index, first in enumerate(edges) for second in edges[index + 1 :])


def _nephew_edges(graph: ModelGraph, edge_to: Mapping[NodeId, int]) -> Iterator[tuple[int, int, int]]:
    for node in graph.nodes:
        children = [child for child in graph.children(node) if child in edge_to]
        for sibling in children:
            nephews = [edge_to[nephew] for nephew in graph.children(sibling) if nephew in edge_to]
            uncles = [edge_to[uncle] for uncle in children if uncle != sibling]
            yield from ((nephew, edge_to[sibling], uncle) for nephew in nephews for uncle in uncles)


def _array(rows: Sequence[tuple[int, ...]], width: int) -> NDArray[np.intp]:
    return np.array(rows, dtype=np.intp).reshape(-1, width)


def _drawn(rows: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """Returns at most :data:`PAIRS` rows, the same on every call."""
    if len(rows) <= PAIRS:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), PAIRS, replace=False))]
