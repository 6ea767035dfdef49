"""The metric of motifs: the subgraphs of three models, for all triples of nodes of a Model Graph."""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mothr.benchmark.graph import ModelGraph, NodeId

MOTIFS = (
    "unrelated",
    "siblings",
    "parent-child and an unrelated model",
    "parent with two children",
    "merge of two",
    "grandparent-parent-child",
    "shortcut",
)
"""The relations that three models can have. A shortcut is a grandparent that is also a parent."""
MAX_CACHED_NODES = 128
"""Up to this number of nodes all triples are made once and stored. The indices of 341,376 triples take 8 MB."""
Triples = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
"""(m,) indices of the pairs ab, ac and bc of m triples a < b < c in the sorted list of all pairs of nodes."""


def motif_accuracy(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the mean over motifs of the share of node triples that are correct: (1/|M|) sum over m in M of c_m / n_m.

    M are the motifs of :data:`MOTIFS` that occur in the truth. n_m is the number of triples with the true motif
    m. c_m is the number of these triples whose predicted motif is the same, with the same node in each role.
    The mean is over motifs, because nearly all triples of a forest are unrelated and would dominate a mean over
    triples.

    Range [0, 1], higher is better. The chance level depends on the truth. None if the truth has fewer than 3
    nodes.
    """
    n = len(truth.nodes)
    if n < 3:
        return None
    true, named = (_relations(graph, truth.nodes) for graph in (truth, predicted))
    both = (4 * true + named)[np.triu_indices(n, k=1)].astype(np.uint16)  # short integers are gathered faster
    counts = np.zeros(16**3, dtype=np.intp)
    for ab, ac, bc in _triples(n) if n <= MAX_CACHED_NODES else _triples_by_node(n):
        counts += np.bincount(256 * both[ab] + 16 * both[ac] + both[bc], minlength=len(counts))
    motif, equal = _motif_table()
    totals = np.bincount(motif, weights=counts, minlength=len(MOTIFS))
    correct = np.bincount(motif[equal], weights=counts[equal], minlength=len(MOTIFS))
    return float((correct[totals > 0] / totals[totals > 0]).mean())


def _triples_by_node(n: int) -> Iterator[Triples]:
    """Yields all triples of nodes a < b < c, those of one a at a time. So the memory grows with n^2, not with n^3."""
    b, c = np.triu_indices(n, k=1)
    for node in range(n - 2):
        first = int(np.searchsorted(b, node))  # index of the pair of this node and the next node
        bc = np.arange(first + n - 1 - node, len(b))
        yield first + b[bc] - node - 1, first + c[bc] - node - 1, bc


@cache
def _triples(n: int) -> tuple[Triples, ...]:
    """Returns all triples of nodes. They are stored, because many predictions are scored on trees of the same size."""
    ab, ac, bc = (np.concatenate(part) for part in zip(*_triples_by_node(n), strict=True))
    return ((ab, ac, bc),)


def _relations(graph: ModelGraph, names: tuple[NodeId, ...]) -> np.ndarray:
    """Returns the relation of each pair, (n, n) uint8: 0 none, 1 row is parent, 2 column is parent, 3 shared parent."""
    index = {node: position for position, node in enumerate(names)}
    edges = [(parent, index[node]) for node in names for parent in graph.parents[node]]
    row_of = {parent: row for row, parent in enumerate({parent for parent, _ in edges})}
    is_child = np.zeros((len(row_of), len(names)), dtype=np.float32)  # [parent, node]
    is_child[[row_of[parent] for parent, _ in edges], [child for _, child in edges]] = 1
    codes = np.where(is_child.T @ is_child > 0, np.uint8(3), np.uint8(0))
    known = [(index[parent], child) for parent, child in edges if parent in index]
    parents, children = ([edge[side] for edge in known] for side in (0, 1))
    codes[parents, children], codes[children, parents] = 1, 2
    return codes


@cache
def _motif_table() -> tuple[np.ndarray, np.ndarray]:
    """Returns for each key the position of the true motif, and whether the predicted motif is equal to it.

    A key has one digit to base 16 for each of the pairs ab, ac and bc: 4 x true relation + predicted relation,
    with the codes of :func:`_relations`.
    """
    canonical, motif = np.arange(64), np.zeros(64, dtype=np.intp)
    for key in range(64):
        codes = [key // 16, key // 4 % 4, key % 4]
        pairs = zip(("ab", "ac", "bc"), codes, strict=True)
        edges = [pair if code == 1 else pair[::-1] for pair, code in pairs if code in (1, 2)]
        if edges:  # a motif with an edge is defined by its edges, so siblings are ignored
            codes = [code % 3 for code in codes]
            canonical[key] = 16 * codes[0] + 4 * codes[1] + codes[2]
        if len(edges) == 2:
            shared_parent, shared_child = (edges[0][side] == edges[1][side] for side in (0, 1))
            name = (
                "parent with two children"
                if shared_parent
                else "merge of two"
                if shared_child
                else "grandparent-parent-child"
            )
        elif edges:
            name = "shortcut" if len(edges) == 3 else "parent-child and an unrelated model"
        else:
            name = "siblings" if 3 in codes else "unrelated"
        motif[key] = MOTIFS.index(name)
    ab, ac, bc = np.unravel_index(np.arange(16**3), (16, 16, 16))
    true, named = 16 * (ab // 4) + 4 * (ac // 4) + bc // 4, 16 * (ab % 4) + 4 * (ac % 4) + bc % 4
    return motif[true], canonical[true] == canonical[named]
