"""Spanning trees of a set of models: the minimum directed one (MDST), its edge probabilities, and the undirected one."""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

from mothr.benchmark.errors import MothrError

Node = TypeVar("Node", bound=Hashable)
ROOT = -1
TOLERANCE = 1e-6  # how far rounding may move a probability


def arborescence(cost: np.ndarray, root_cost: np.ndarray | float | None = None) -> np.ndarray:
    """Returns the parent of each node in the spanning arborescence (or forest) of least total cost, (n,) int, -1 for a root.

    Chu-Liu/Edmonds by growing one path of cheapest in-edges and contracting its cycles (Gabow, Galil, Spencer and Tarjan,
    Combinatorica 1986) over dense rows: O(n^2) time and memory. Ties go to the node of lower position, and to a parent
    rather than to being a root.

    Args:
        cost: (n, n), ``cost[i, j]`` of the edge i -> j; ``inf`` where it is not allowed. The diagonal is ignored.
        root_cost: cost of being a root, (n,) or one number for all; ``inf`` where it is not allowed. The number of roots is
            then chosen by cost. None asks for exactly one root, at no cost: the number of roots is minimised before the cost
            (exactly, as a lexicographic pair; no large penalty is added). Where the allowed edges permit no single root
            there are as few as they permit.

    Raises:
        MothrError: a wrong shape, NaN or -inf, or some node that can neither be a root nor be reached from one.
    """
    entering, root_costs = _prepare(cost, root_cost)
    n = len(entering)
    if n == 0:
        return np.empty(0, dtype=np.int64)
    nodes = np.arange(n)
    # Slot s stands for a set of contracted nodes. entering[s, t] is the reduced cost of the best edge i -> j from the set t to the
    # set s, edge[s, t] = n j + i that edge; root[s] and root_head[s] are the same for the edge from the virtual root.
    edge = n * nodes[:, None] + nodes
    root, root_head = root_costs.tolist(), list(range(n))  # lists, since these are looked at one by one
    # A set, single nodes being 0..n-1 and contracted ones n.., knows the set it went into and its chosen (parent, node) edge.
    within, chosen = [-1] * n, [(ROOT, -1)] * n
    set_of = list(range(n))
    place = [-1] * n  # position of a slot on the path
    done = [False] * n  # slots whose way up to the virtual root is found, and those contracted into another

    for start in range(n):
        if done[start]:
            continue
        path = [start]
        place[start] = 0
        while True:
            slot = path[-1]
            source = int(entering[slot].argmin())
            best = float(entering[slot, source])
            if root[slot] < best if root_cost is not None else best == np.inf:
                if root[slot] == np.inf:
                    raise _infeasible()
                chosen[set_of[slot]] = (ROOT, root_head[slot])
                break
            if best == np.inf:
                raise _infeasible()
            head, tail = divmod(int(edge[slot, source]), n)
            chosen[set_of[slot]] = (tail, head)
            entering[slot] -= best
            root[slot] -= best
            if done[source]:
                break
            if place[source] < 0:
                place[source] = len(path)
                path.append(source)
                continue
            cycle = sorted(path[place[source] :])
            del path[place[source] :]
            keep, gone = cycle[0], cycle[1:]
            within.append(-1)
            chosen.append((ROOT, -1))
            for member in cycle:
                within[set_of[member]] = len(within) - 1
                place[member] = -1
                done[member] = True
            set_of[keep] = len(within) - 1
            members = np.array(cycle)
            pick = members[entering[members].argmin(axis=0)]
            edge[keep], entering[keep] = edge[pick, nodes], entering[pick, nodes]
            pick = members[entering[:, members].argmin(axis=1)]
            edge[:, keep], entering[:, keep] = edge[nodes, pick], entering[nodes, pick]
            best_root = min(cycle, key=root.__getitem__)
            root[keep], root_head[keep] = root[best_root], root_head[best_root]
            entering[:, gone] = np.inf
            entering[keep, keep] = np.inf
            done[keep], place[keep] = False, len(path)
            path.append(keep)
        for slot in path:
            done[slot], place[slot] = True, -1
    return _expand(within, chosen, n)


def _prepare(cost: np.ndarray, root_cost: np.ndarray | float | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns (cost transposed, so that row j holds the edges into j, with an infinite diagonal; root cost), as new arrays."""
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
    for what, array in (("an edge", entering), ("a root", root)):
        if np.isnan(array).any() or np.isneginf(array).any():
            raise MothrError(f"{what} cost is NaN or -inf; costs must be numbers, or inf where not allowed")
    return entering, root


def _infeasible() -> MothrError:
    return MothrError("no spanning arborescence: some node can neither be a root nor be reached from one; allow more")


def _expand(within: list[int], chosen: list[tuple[int, int]], n: int) -> np.ndarray:
    """Returns the parents of the n nodes: a contracted set's edge replaces the one its entered member had chosen."""
    settled = [False] * len(within)
    for outer in range(len(within) - 1, n - 1, -1):
        if settled[outer]:  # the edge into an enclosing set has been handed down through this one
            continue
        member = chosen[outer][1]
        while member != outer:
            chosen[member] = chosen[outer]
            settled[member] = True
            member = within[member]
    return np.array([parent for parent, _ in chosen[:n]], dtype=np.int64)


def marginals(
    cost: np.ndarray, root_cost: np.ndarray | float | None, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probability of each edge, (n, n), and of being a root, (n,), where P(forest) ~ exp(-cost / temperature).

    The directed matrix-tree theorem (Tutte 1948; as used by Koo, Globerson, Carreras and Collins, EMNLP 2007): one inverse
    of the Laplacian, O(n^3). Where rounding spoils that (a temperature far below the gaps between the costs) the nodes are
    eliminated one by one in the logarithmic domain instead, which is much slower and good at any temperature.

    Args:
        cost: (n, n) as in :func:`arborescence`.
        root_cost: as in :func:`arborescence`; None is the distribution over trees of exactly one root, all roots alike.
        temperature: above 0; towards 0 all probability goes to the cheapest forest.

    Raises:
        MothrError: as in :func:`arborescence`, no tree of one root where ``root_cost`` is None, or a temperature not above 0.
    """
    entering, root = _prepare(cost, root_cost)
    if not temperature > 0:
        raise MothrError(f"the temperature is {temperature}; it must be above 0")
    single = root_cost is None
    if (arborescence(cost, root_cost) == ROOT).sum() > 1 and single:
        raise _infeasible()
    if len(entering) == 0:
        return np.empty((0, 0)), np.empty(0)
    # The costs into one node may be shifted together: each forest holds just one of them. So the cheapest becomes 0.
    least = entering.min(axis=1) if single else np.minimum(entering.min(axis=1), root)
    least[np.isinf(least)] = 0.0
    log_weight = (least[:, None] - entering) / temperature  # [j, i] of the edge i -> j
    log_root = (
        least - (least.max() if single else root)
    ) / temperature  # all at once may be shifted where there is one root
    found = _by_inverse(np.exp(log_weight), np.exp(log_root), single)
    edge, being_root = _by_elimination(log_weight, log_root, single) if found is None else found
    return np.clip(edge.T, 0, 1), np.clip(being_root, 0, 1)


def _by_inverse(weight: np.ndarray, root: np.ndarray, single: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the marginals of the edges, [j, i] of i -> j, and of the roots; None where rounding may move them by TOLERANCE.

    Koo et al. 2007, sections 3.1 (any number of roots: the root weights join the diagonal, and
    ``mu[i, j] = w[i, j] (L^-1[j, j] - L^-1[j, i])``) and 3.2 (one root: they replace the edges out of the first node).
    """
    laplacian = np.diag(weight.sum(axis=1)) - weight
    if single:
        laplacian[:, 0] = root
    else:
        laplacian += np.diag(root)
    try:
        inverse = np.linalg.inv(laplacian)
    except np.linalg.LinAlgError:
        return None
    if not np.linalg.norm(laplacian, 1) * np.linalg.norm(inverse, 1) * np.finfo(np.float64).eps < TOLERANCE:
        return None
    diagonal, other = np.diag(inverse).copy(), inverse.T.copy()
    being_root = root * (inverse[0] if single else diagonal)
    if single:
        diagonal[0] = other[:, 0] = 0.0
    return weight * (diagonal[:, None] - other), being_root


def _by_elimination(log_weight: np.ndarray, log_root: np.ndarray, single: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the same as :func:`_by_inverse`, by eliminating nodes without a subtraction (Grassmann, Taksar and Heyman 1985).

    Eliminating node k gives the remaining ones the edges i -> k -> j on top of theirs, ``a[i, j] += a[i, k] a[k, j] / d[k]``,
    where ``d[k]`` is the total weight into k. The marginals, derivatives of log Z by log a, follow backwards.
    """
    n = len(log_root)
    if single:  # so light that a second root never pays
        finite = log_weight[np.isfinite(log_weight)]
        log_root = log_root - log_root.max() - 50.0 - n * (10.0 - finite.min(initial=0.0))
    # Node 0 is the virtual root. Every `stride`-th stage is kept and those between are made again: memory is n^2.5, not n^3.
    stage = np.full((n + 1, n + 1), -np.inf)
    stage[1:, 0], stage[1:, 1:] = log_root, log_weight
    stride = int(np.sqrt(n)) + 1
    kept = [stage]
    while len(stage) > 1:
        stage = _eliminate(stage)
        if len(stage) % stride == 0:
            kept.append(stage)
    edge = np.zeros((1, 1))
    while kept:
        stages = [kept.pop()]
        while len(stages[-1]) > len(edge):
            stages.append(_eliminate(stages[-1]))
        for after, before in zip(stages[:0:-1], stages[-2::-1], strict=True):
            edge = _restore(before, after, edge)
    return edge[1:, 1:], edge[1:, 0]


def _eliminate(stage: np.ndarray) -> np.ndarray:
    """Returns the logarithmic weights (m, m) with the last node eliminated, (m - 1, m - 1)."""
    after: np.ndarray = np.logaddexp(
        stage[:-1, :-1], stage[:-1, -1:] + stage[-1:, :-1] - np.logaddexp.reduce(stage[-1])
    )
    np.fill_diagonal(after, -np.inf)
    return after


def _restore(before: np.ndarray, after: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Returns the marginals (m, m) before the last node was eliminated, from those after it, (m - 1, m - 1)."""
    share = before[-1, :-1] - np.logaddexp.reduce(before[-1])
    possible = np.where(np.isneginf(after), 0.0, after)  # where no edge was possible its marginal is 0 anyway
    through = edge * np.exp(before[:-1, -1:] + share - possible)
    found = np.zeros_like(before)
    found[:-1, :-1] = edge * np.exp(before[:-1, :-1] - possible)
    found[:-1, -1] = through.sum(axis=1)
    found[-1, :-1] = through.sum(axis=0) + np.exp(share) * (1 - through.sum())
    return found


def spanning_tree(distance: np.ndarray) -> list[tuple[int, int]]:
    """Returns the edges (i, j), i < j, sorted, of the minimum spanning tree of a symmetric (n, n) distance matrix.

    Pairs at distance ``inf`` are not joined, so the result may be a forest. Zero is a distance like any other. Ties go to
    the pair of lower position.

    Raises:
        MothrError: the matrix is not square, not symmetric, or holds NaN.
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
    # scipy takes a zero for "no edge" and breaks ties as its sort happens to; ranks from 1 have neither zeros nor ties.
    rank = np.empty(len(values))
    rank[np.argsort(values, kind="stable")] = np.arange(1, len(values) + 1)
    tree = minimum_spanning_tree(csr_array((rank, (rows, columns)), shape=(n, n))).tocoo()
    return sorted((int(min(i, j)), int(max(i, j))) for i, j in zip(*tree.coords, strict=True))


def orient(edges: Iterable[tuple[Node, Node]], root: Node) -> list[tuple[Node, Node]]:
    """Returns the undirected tree ``edges`` as (parent, child) pairs pointing away from ``root``, nearest first.

    Edges that ``root`` does not reach are left out.

    Raises:
        MothrError: the edges reached from the root hold a cycle.
    """
    near: dict[Node, list[Node]] = {}
    for first, second in edges:
        near.setdefault(first, []).append(second)
        near.setdefault(second, []).append(first)
    found: list[tuple[Node, Node]] = []
    seen, queue = {root}, deque([(root, root)])
    while queue:
        node, origin = queue.popleft()
        for other in near.get(node, ()):
            if other == origin:
                continue
            if other in seen:
                raise MothrError(f"the edges around {other!r} form a cycle; only a tree can be oriented")
            seen.add(other)
            found.append((node, other))
            queue.append((other, node))
    return found
