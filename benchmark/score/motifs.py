"""The metric of motifs: how three models are related, for all triples of a Model Graph."""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mothr.benchmark.graph import ModelGraph, NodeId

MOTIFS = (
    "unrelated",
    "siblings",
    "parent-child and a stranger",
    "parent with two children",
    "merge of two",
    "grandparent-parent-child",
    "shortcut",
)
"""How three models may be related; a shortcut is a grandparent that is a parent as well."""
SMALL = 128
"""Up to so many nodes all triples are looked at together; the places of 341,376 of them take 8 MB."""
Triples = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
"""(m,) places of the pairs ab, ac and bc of m triples a < b < c among all pairs of nodes, which are sorted."""


def motif_accuracy(truth: ModelGraph, predicted: ModelGraph) -> float | None:
    """Returns the share of node triples whose motif is right, averaged over the motifs that occur; None below 3 nodes.

    The motifs are :data:`MOTIFS`; right means the same motif with the same node in each part. Averaged over motifs, since
    nearly all triples of a forest are unrelated and would hide the rest.
    """
    n = len(truth.nodes)
    if n < 3:
        return None
    true, found = (_relations(graph, truth.nodes) for graph in (truth, predicted))
    both = (4 * true + found)[np.triu_indices(n, k=1)].astype(
        np.uint16
    )  # short, since moving keys about takes longer than making them
    counts = np.zeros(16**3, dtype=np.intp)
    for ab, ac, bc in _triples(n) if n <= SMALL else _triples_by_node(n):
        counts += np.bincount(256 * both[ab] + 16 * both[ac] + both[bc], minlength=len(counts))
    motif, same = _motif_table()
    totals = np.bincount(motif, weights=counts, minlength=len(MOTIFS))
    right = np.bincount(motif[same], weights=counts[same], minlength=len(MOTIFS))
    return float((right[totals > 0] / totals[totals > 0]).mean())


def _triples_by_node(n: int) -> Iterator[Triples]:
    """Yields all triples of nodes a < b < c, those of one a at a time: memory is n^2, not n^3."""
    b, c = np.triu_indices(n, k=1)
    for node in range(n - 2):
        first = int(np.searchsorted(b, node))  # the pair of this node and the next
        bc = np.arange(first + n - 1 - node, len(b))
        yield first + b[bc] - node - 1, first + c[bc] - node - 1, bc


@cache
def _triples(n: int) -> tuple[Triples, ...]:
    """Returns all triples of nodes at once: a tree's are asked for again and again."""
    ab, ac, bc = (np.concatenate(part) for part in zip(*_triples_by_node(n), strict=True))
    return ((ab, ac, bc),)


def _relations(graph: ModelGraph, names: tuple[NodeId, ...]) -> np.ndarray:
    """Returns how each pair is related, (n, n) int: 0 not, 1 row is parent, 2 column is parent, 3 they share a parent."""
    place = {node: position for position, node in enumerate(names)}
    edges = [(parent, place[node]) for node in names for parent in graph.parents[node]]
    family = {parent: position for position, parent in enumerate({parent for parent, _ in edges})}
    member = np.zeros((len(family), len(names)), dtype=np.float32)
    member[[family[parent] for parent, _ in edges], [child for _, child in edges]] = 1
    codes = np.where(member.T @ member > 0, np.uint8(3), np.uint8(0))
    known = [(place[parent], child) for parent, child in edges if parent in place]
    above, below = ([edge[side] for edge in known] for side in (0, 1))
    codes[above, below], codes[below, above] = 1, 2
    return codes


@cache
def _motif_table() -> tuple[np.ndarray, np.ndarray]:
    """Returns the true motif's position, and whether the predicted one is right, for each key of two graphs' relations.

    A key has a digit to base 16 for each of the pairs ab, ac and bc: 4 times the true relation plus the predicted one.
    """
    canonical, motif = np.arange(64), np.zeros(64, dtype=np.intp)
    for key in range(64):
        codes = [key // 16, key // 4 % 4, key % 4]
        pairs = zip(("ab", "ac", "bc"), codes, strict=True)
        edges = [pair if code == 1 else pair[::-1] for pair, code in pairs if code in (1, 2)]
        if edges:  # beside an edge, who is whose sibling is no part of the motif
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
            name = "shortcut" if len(edges) == 3 else "parent-child and a stranger"
        else:
            name = "siblings" if 3 in codes else "unrelated"
        motif[key] = MOTIFS.index(name)
    ab, ac, bc = np.unravel_index(np.arange(16**3), (16, 16, 16))
    true, found = 16 * (ab // 4) + 4 * (ac // 4) + bc // 4, 16 * (ab % 4) + 4 * (ac % 4) + bc % 4
    return motif[true], canonical[true] == canonical[found]
