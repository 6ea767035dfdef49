"""What gives lineage away in the weights of a finished data set, in figures: for the card, so that nobody finds it by accident."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from mothr.benchmark.data.dataset import Truth
from mothr.benchmark.weights.model_set import ModelSet

Pairs = NDArray[np.intp]
PAIRS = 40
"""The most pairs of a kind that are compared."""
RANKED_PAIRS, RANKED_TENSORS = 8, 8
"""The most pairs of a kind, and matrices of each, whose difference's rank is found: a decomposition each."""
FARTHEST = 4
"""Pairs up to so many edges apart are compared by distance."""
ROUNDING = float(np.finfo(np.float32).eps)
"""Singular values of a difference below this share of the weights' norm are rounding."""


@dataclass
class Comparison:
    """How much the two models of a pair differ, over all pairs of one kind."""

    pairs: Pairs
    """(m, 2) positions in the model set."""
    tensors: int = 0
    """Tensors compared, over all pairs."""
    identical: int = 0
    """Of these, equal in every bit."""
    rows: int = 0
    """Rows compared, of matrices that are not identical."""
    untouched: int = 0
    """Of these, equal in every bit."""
    difference: float = 0.0
    """Sum of squares of all differences."""
    weights: float = 0.0
    """Sum of squares of all weights, mean of the two models."""
    ranks: tuple[float, ...] = ()
    """Rank of each decomposed difference, as a share of the largest that is possible."""
    absolute: tuple[int, ...] = ()
    """The same as a number."""

    @property
    def row(self) -> tuple[str, ...]:
        """Its cells in the card's table."""
        identical = f"{self.identical / self.tensors:.0%}" if self.tensors else "-"
        return (
            str(len(self.pairs)),
            identical,
            f"{self.untouched / self.rows:.0%}" if self.rows else "-",
            f"{(self.difference / self.weights) ** 0.5:.2g}" if self.weights else "-",
            f"{np.mean(self.absolute):.1f} ({np.mean(self.ranks):.0%})" if self.ranks else "-",
        )


def shortcuts(models: ModelSet, truth: Truth) -> list[str]:
    """Returns lines of Markdown: a table of how alike two models are, by what they are to each other, and what stands out."""
    kinds = kinds_of_pairs(truth, models.ids)
    if not kinds:
        return []
    compared = {kind: Comparison(pairs) for kind, pairs in kinds.items()}
    ranked = _ranked(models)
    rows: Counter[str] = Counter()
    edges = [kind for kind in kinds if kind.startswith("parent")]
    for name, positions, stack in models.stacks():
        place = {position: at for at, position in enumerate(positions)}
        values = stack.numpy()
        for kind, comparison in compared.items():
            pairs = np.array(
                [(place[a], place[b]) for a, b in comparison.pairs if a in place and b in place], dtype=np.intp
            ).reshape(-1, 2)
            exact = _exact(models, name, positions)
            found = _add(comparison, values, pairs, exact if name in ranked else None)
            if kind in edges and found > 0.01:
                rows[name] = max(rows[name], round(100 * found))
    lines = [
        "| two models | pairs | identical tensors | untouched rows of the others | difference | its rank |",
        "|---|---|---|---|---|---|",
        *(f"| {kind} | {' | '.join(comparison.row)} |" for kind, comparison in compared.items()),
        "",
        f"Means over up to {PAIRS} pairs of a kind: tensors and rows that are equal bit for bit; root mean square of the difference "
        "relative to that of the weights; rank of the difference of a matrix that differs, also as a share of the largest possible.",
    ]
    for name, share in rows.most_common(3):
        lines.append(f"- Between parent and child, {share} % of the rows of `{name}` are untouched.")
    copies = len(models) - len({checkpoint.digest for checkpoint in models.checkpoints})
    if copies:
        lines.append(f"- {copies} models are the same as another one, bit for bit.")
    return lines


def kinds_of_pairs(truth: Truth, ids: Sequence[str]) -> Mapping[str, Pairs]:
    """Returns for each kind of pair up to ``PAIRS`` drawn ones, (m, 2) positions in ``ids``; kinds without a pair are left out.

    Edges are told apart by the child's subtype; other pairs of a tree by the number of edges between them.
    """
    rng = np.random.default_rng(0)  # the card of a data set is the same on every call
    position = {node: at for at, node in enumerate(ids)}
    edges = [(position[parent], position[child]) for parent, child in truth.graph.edges]
    found: dict[str, list[tuple[int, int]]] = {}
    for (parent, child), (_, name) in zip(edges, truth.graph.edges, strict=True):
        found.setdefault(f"parent and child ({truth.nodes[name].subtype or truth.nodes[name].relation})", []).append(
            (parent, child)
        )
    families: dict[tuple[str, ...], list[int]] = {}
    for node in truth.nodes:
        if truth.nodes[node].parents:
            families.setdefault(truth.nodes[node].parents, []).append(position[node])
    siblings = [(a, b) for group in families.values() for at, a in enumerate(group) for b in group[at + 1 :]]
    found["siblings"] = siblings
    ends = np.array(edges, dtype=np.intp).reshape(-1, 2).T
    graph: csr_array[np.float64] = csr_array((np.ones(len(edges)), ends), shape=(len(ids), len(ids)))
    hops = shortest_path(graph, directed=False, unweighted=True)
    for count in range(2, FARTHEST + 1):
        found[f"{count} edges apart"] = [(int(a), int(b)) for a, b in np.argwhere(np.triu(hops == count))]
    found["of different trees"] = [(int(a), int(b)) for a, b in np.argwhere(np.triu(np.isinf(hops)))]
    drawn = {kind: [pairs[at] for at in sorted(rng.permutation(len(pairs))[:PAIRS])] for kind, pairs in found.items()}
    return {kind: np.array(pairs, dtype=np.intp) for kind, pairs in drawn.items() if pairs}


def _ranked(models: ModelSet) -> set[str]:
    """Returns the matrices whose differences' ranks are found: of those that differ at all, some from first to last."""
    differing = [
        name
        for (name, shape), positions in models.shapes.items()
        if len(shape) == 2 and len({models.checkpoints[at].digests[name] for at in positions}) > len(positions) // 2
    ]
    chosen = np.unique(np.linspace(0, len(differing) - 1, min(RANKED_TENSORS, len(differing))).astype(int))
    return {differing[at] for at in chosen}


def _exact(models: ModelSet, name: str, positions: Sequence[int]) -> NDArray[np.bool_]:
    """Returns (n,) whether each model stores the tensor with at least 32 bits, so that rounding does not hide its rank."""
    return np.array([models.checkpoints[at].tensors[name].dtype in ("F32", "F64") for at in positions])


def _add(comparison: Comparison, values: NDArray[np.float32], pairs: Pairs, exact: NDArray[np.bool_] | None) -> float:
    """Adds one tensor to ``comparison``; returns the share of its rows that are untouched where it is not identical.

    Args:
        comparison: What is added to.
        values: (n, *shape) the tensor in all models that hold it.
        pairs: (m, 2) places in ``values``.
        exact: (n,) of which models the rank is found; None for none.
    """
    rows = untouched = decomposed = 0
    for a, b in pairs:
        first, second = values[a], values[b]
        equal = first == second
        comparison.tensors += 1
        comparison.weights += float(np.vdot(first, first).astype(np.float64) + np.vdot(second, second)) / 2
        if equal.all():
            comparison.identical += 1
            continue
        difference = first - second
        comparison.difference += float(np.vdot(difference, difference))
        if first.ndim > 1:
            rows += len(first)
            untouched += int(equal.reshape(len(first), -1).all(axis=1).sum())
        if exact is not None and exact[a] and exact[b] and decomposed < RANKED_PAIRS:
            decomposed += 1
            rank = int((np.linalg.svd(difference, compute_uv=False) > ROUNDING * np.linalg.norm(first)).sum())
            comparison.absolute += (rank,)
            comparison.ranks += (rank / min(difference.shape),)
    comparison.rows += rows
    comparison.untouched += untouched
    return untouched / rows if rows else 0.0
