"""Spanning trees of a set of models: the minimum directed spanning tree (MDST), the undirected one, and its orientation."""

import math
from collections import deque
from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

from mothr.benchmark.errors import MothrError

Node = TypeVar("Node", bound=Hashable)
ROOT = -1
"""Parent of a root in the array that :func:`arborescence` returns."""


def arborescence(cost: np.ndarray, root_cost: np.ndarray | float | None = None) -> np.ndarray:
    """Returns the minimum directed spanning tree, or forest: the parent of each node, (n,) int64, -1 for a root.

    The algorithm is that of Chu-Liu and Edmonds. It grows one path of cheapest incoming edges and contracts each cycle
    that the path closes (Gabow, Galil, Spencer and Tarjan, Combinatorica 1986). The costs are dense rows, so time and
    memory are O(n^2). Ties go to the parent of lower position, and to a parent rather than to being a root.

    Args:
        cost: (n, n) float. ``cost[i, j]`` is the cost of the edge i -> j; ``inf`` forbids the edge. The diagonal is ignored.
        root_cost: The cost of being a root, (n,) or one number for all nodes; ``inf`` forbids it. The costs then decide
            the number of roots. None asks for one root at no cost. The number of roots is then minimised first and the
            cost second, exactly, without a large penalty. If the allowed edges permit no single root, the result has
            as few roots as they permit.

    Returns:
        (n,) int64 positions of the parents.

    Raises:
        MothrError: A shape is wrong, a cost is NaN or -inf, or a node can neither be a root nor be reached from one.
    """
    entering, root = _checked_costs(cost, root_cost)
    search = _Search(entering, root, roots_are_a_last_resort=root_cost is None)
    for start in range(len(entering)):
        if not search.done[start]:
            search.grow_path(start)
    return search.parents()


def optimal_rootings(cost: np.ndarray, tolerance: float = 1e-9) -> dict[int, np.ndarray]:
    """Returns each node that is the root of some minimum directed spanning tree, with one such tree: {root: parents, (n,)}.

    For each node the cheapest tree with this node as its root is found, in O(n^2) each. The node is optimal if this tree
    costs at most ``tolerance`` more than the cheapest of all, in units of the mean absolute edge cost of the cheapest one.
    The tolerance covers the rounding of sums of the same costs in another order. If several trees have the same root and
    the same cost, which happens only if edge costs are equal, one of them stands for all.

    Args:
        cost: (n, n) float, as for :func:`arborescence`.
        tolerance: Largest difference between two costs that count as equal.

    Returns:
        The optimal roots, ascending; at least one.

    Raises:
        MothrError: The costs are malformed, or the allowed edges permit no tree with a single root.
    """
    cost = np.asarray(cost, dtype=np.float64)
    if (arborescence(cost) == ROOT).sum() != 1:
        raise MothrError("no tree with a single root exists, so there is no optimal rooting; allow more edges")
    trees: dict[int, np.ndarray] = {}
    for root in range(len(cost)):
        try:
            trees[root] = arborescence(cost, np.where(np.arange(len(cost)) == root, 0.0, np.inf))
        except MothrError:  # some node cannot be reached from this root
            continue
    edge_costs = {
        root: [float(cost[parent, child]) for child, parent in enumerate(parents) if parent != ROOT]
        for root, parents in trees.items()
    }
    totals = {root: math.fsum(costs) for root, costs in edge_costs.items()}
    cheapest = min(totals, key=totals.__getitem__)
    margin = tolerance * float(np.mean(np.abs(edge_costs[cheapest]))) if edge_costs[cheapest] else 0.0
    return {root: parents for root, parents in trees.items() if totals[root] <= totals[cheapest] + margin}


class _Search:
    """The state of one search for the cheapest arborescence of n nodes.

    A *set* is a group of contracted nodes: sets 0 ... n - 1 are the single nodes, later ones are contracted cycles.
    A *slot* is a row of the arrays; it stands for the largest set that contains its node. A cycle keeps one slot of its
    members and gives up the others.
    """

    def __init__(self, entering: np.ndarray, root: np.ndarray, *, roots_are_a_last_resort: bool) -> None:
        n = len(entering)
        self.nodes = np.arange(n)
        self.roots_are_a_last_resort = roots_are_a_last_resort
        self.entering = entering
        """(n, n). ``entering[s, t]`` is the reduced cost of the cheapest edge from slot t into slot s."""
        self.edge = n * self.nodes[:, None] + self.nodes
        """(n, n). ``edge[s, t]`` is that edge i -> j, as the number n j + i."""
        self.root: list[float] = root.tolist()
        """Reduced cost of the edge from the virtual root into each slot. Lists are faster than arrays for single entries."""
        self.root_node = list(range(n))
        """The node that this edge enters."""
        self.enclosing = [-1] * n
        """For each set, the contracted set that it went into; -1 for none."""
        self.chosen = [(ROOT, -1)] * n
        """For each set, the (parent, node) edge that enters it."""
        self.set_of = list(range(n))
        """The set that each slot stands for."""
        self.path_position = [-1] * n
        """Position of each slot on the present path; -1 for none."""
        self.done = [False] * n
        """Whether a slot is connected to the virtual root, or was given up to a cycle."""

    def grow_path(self, start: int) -> None:
        """Follows the cheapest incoming edges from slot ``start`` until the path reaches the virtual root or a finished slot."""
        path = [start]
        self.path_position[start] = 0
        while True:
            source = self._choose_edge_into(path[-1])
            if source is None or self.done[source]:
                break
            if self.path_position[source] >= 0:
                cycle = sorted(path[self.path_position[source] :])
                del path[self.path_position[source] :]
                source = self._contract(cycle)
            self.path_position[source] = len(path)
            path.append(source)
        for slot in path:
            self.done[slot], self.path_position[slot] = True, -1

    def _choose_edge_into(self, slot: int) -> int | None:
        """Chooses the cheapest edge into ``slot`` and returns the slot that it comes from; None for the virtual root."""
        source = int(self.entering[slot].argmin())
        least, as_root = float(self.entering[slot, source]), self.root[slot]
        if least == np.inf if self.roots_are_a_last_resort else as_root < least:
            if as_root == np.inf:
                raise _infeasible()
            self.chosen[self.set_of[slot]] = (ROOT, self.root_node[slot])
            return None
        if least == np.inf:
            raise _infeasible()
        node, parent = divmod(int(self.edge[slot, source]), len(self.nodes))
        self.chosen[self.set_of[slot]] = (parent, node)
        self.entering[slot] -= least
        self.root[slot] -= least
        return source

    def _contract(self, cycle: list[int]) -> int:
        """Contracts the slots of a cycle, ascending, into the first of them and returns it."""
        representative, given_up, contracted = cycle[0], cycle[1:], len(self.enclosing)
        self.enclosing.append(-1)
        self.chosen.append((ROOT, -1))
        for slot in cycle:
            self.enclosing[self.set_of[slot]] = contracted
            self.path_position[slot] = -1
            self.done[slot] = True
        self.done[representative], self.set_of[representative] = False, contracted
        slots = np.array(cycle)
        cheapest = slots[self.entering[slots].argmin(axis=0)]
        self.edge[representative], self.entering[representative] = (
            self.edge[cheapest, self.nodes],
            self.entering[cheapest, self.nodes],
        )
        cheapest = slots[self.entering[:, slots].argmin(axis=1)]
        self.edge[:, representative] = self.edge[self.nodes, cheapest]
        self.entering[:, representative] = self.entering[self.nodes, cheapest]
        best_root = min(cycle, key=self.root.__getitem__)
        self.root[representative], self.root_node[representative] = self.root[best_root], self.root_node[best_root]
        self.entering[:, given_up] = np.inf
        self.entering[representative, representative] = np.inf
        return representative

    def parents(self) -> np.ndarray:
        """Returns the parents of the n nodes, (n,) int64. The edge into a contracted set replaces that of the member it enters."""
        n, settled = len(self.nodes), [False] * len(self.enclosing)
        for outer in range(len(self.enclosing) - 1, n - 1, -1):
            if settled[outer]:  # an enclosing set has handed its edge down through this one
                continue
            member = self.chosen[outer][1]
            while member != outer:
                self.chosen[member] = self.chosen[outer]
                settled[member] = True
                member = self.enclosing[member]
        return np.array([parent for parent, _ in self.chosen[:n]], dtype=np.int64)


def _checked_costs(cost: np.ndarray, root_cost: np.ndarray | float | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns new arrays: the transposed costs, so that row j holds the edges into j, with diagonal inf; and the root costs."""
    entering = np.array(np.asarray(cost, dtype=np.float64).T, order="C")
    if entering.ndim != 2 or entering.shape[0] != entering.shape[1]:
        raise MothrError(f"the edge costs have shape {np.shape(cost)}; they must be a square matrix")
    np.fill_diagonal(entering, np.inf)
    n = len(entering)
    root = np.asarray(0.0 if root_cost is None else root_cost, dtype=np.float64)
    if root.shape not in ((), (n,)):
        raise MothrError(
            f"the root costs have shape {root.shape}; they must be one number or one for each of the {n} nodes"
        )
    root = np.broadcast_to(root, (n,)).copy()
    for name, array in (("an edge", entering), ("a root", root)):
        if np.isnan(array).any() or np.isneginf(array).any():
            raise MothrError(f"{name} cost is NaN or -inf; a cost must be a number, or inf to forbid the edge or root")
    return entering, root


def _infeasible() -> MothrError:
    return MothrError(
        "no spanning arborescence: a node can neither be a root nor be reached from one; allow more edges or roots"
    )


def spanning_tree(distance: np.ndarray) -> list[tuple[int, int]]:
    """Returns the edges (i, j), i < j, sorted, of the minimum spanning tree of a symmetric (n, n) distance matrix.

    A distance of ``inf`` forbids the edge, so the result may be a forest. Zero is a distance like any other. Ties go to
    the pair of lower position.

    Raises:
        MothrError: The matrix is not square, is not symmetric, or holds NaN.
    """
    distance = np.asarray(distance, dtype=np.float64)
    if distance.ndim != 2 or distance.shape[0] != distance.shape[1]:
        raise MothrError(f"the distances have shape {distance.shape}; they must be a square matrix")
    if np.isnan(distance).any():
        raise MothrError("a distance is NaN; distances must be numbers, or inf where two models cannot be compared")
    if not np.allclose(distance, distance.T):
        raise MothrError("the distances are not symmetric; an undirected tree needs d[i, j] = d[j, i]")
    n = len(distance)
    rows, columns = np.triu_indices(n, k=1)
    values = distance[rows, columns]
    allowed = ~np.isinf(values)
    rows, columns, values = rows[allowed], columns[allowed], values[allowed]
    # scipy reads a zero as "no edge" and breaks ties by its own sort. Ranks from 1 have neither zeros nor ties.
    rank = np.empty(len(values))
    rank[np.argsort(values, kind="stable")] = np.arange(1, len(values) + 1)
    tree = minimum_spanning_tree(csr_array((rank, (rows, columns)), shape=(n, n))).tocoo()
    return sorted((int(min(i, j)), int(max(i, j))) for i, j in zip(*tree.coords, strict=True))


def orient(edges: Iterable[tuple[Node, Node]], root: Node) -> list[tuple[Node, Node]]:
    """Returns the undirected tree ``edges`` as (parent, child) pairs that point away from ``root``, breadth first.

    Edges that cannot be reached from ``root`` are left out.

    Raises:
        MothrError: The edges that can be reached from the root contain a cycle.
    """
    neighbours: dict[Node, list[Node]] = {}
    for first, second in edges:
        neighbours.setdefault(first, []).append(second)
        neighbours.setdefault(second, []).append(first)
    directed: list[tuple[Node, Node]] = []
    seen, queue = {root}, deque([(root, root)])
    while queue:
        node, origin = queue.popleft()
        for neighbour in neighbours.get(node, ()):
            if neighbour == origin:
                continue
            if neighbour in seen:
                raise MothrError(f"the edges around {neighbour!r} form a cycle; only a tree can be oriented")
            seen.add(neighbour)
            directed.append((node, neighbour))
            queue.append((neighbour, node))
    return directed
