"""Measures traces in the weights of a finished data set that reveal its lineage. The card shows them, so that
they are known."""

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
"""Largest number of pairs of one kind that are compared."""
RANKED_PAIRS, RANKED_TENSORS = 8, 8
"""Largest number of pairs of one kind, and of matrices of a pair, for which the rank of the difference is
computed."""
FARTHEST = 4
"""Largest number of edges between the two models of a pair that has a row of its own."""
ROUNDING = float(np.finfo(np.float32).eps)
"""Singular values of a difference below this fraction of the weights' norm count as rounding errors."""


@dataclass(slots=True)
class Comparison:
    """The differences between the two models of a pair, over all pairs of one kind."""

    pairs: Pairs
    """(m, 2) int: positions in the model set."""
    tensors: int = 0
    """Number of compared tensors, over all pairs."""
    identical: int = 0
    """Number of these tensors that are bit-identical."""
    rows: int = 0
    """Number of compared rows, of matrices that are not identical."""
    untouched: int = 0
    """Number of these rows that are bit-identical."""
    difference: float = 0.0
    """Sum of the squares of all differences."""
    weights: float = 0.0
    """Sum of the squares of all weights, averaged over the two models."""
    ranks: tuple[float, ...] = ()
    """Rank of each decomposed difference, divided by the largest possible rank."""
    absolute: tuple[int, ...] = ()
    """Rank of each decomposed difference."""

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of its row in the card's table."""
        identical = f"{self.identical / self.tensors:.0%}" if self.tensors else "-"
        return (
            str(len(self.pairs)),
            identical,
            f"{self.untouched / self.rows:.0%}" if self.rows else "-",
            f"{(self.difference / self.weights) ** 0.5:.2g}" if self.weights else "-",
            f"{np.mean(self.absolute):.1f} ({np.mean(self.ranks):.0%})" if self.ranks else "-",
        )


def shortcuts(models: ModelSet, truth: Truth) -> list[str]:
    """Returns lines of Markdown: a table of the differences between two models by their relation, and
    remarkable tensors."""
    kinds = kinds_of_pairs(truth, models.ids)
    if not kinds:
        return []
    compared = {kind: Comparison(pairs) for kind, pairs in kinds.items()}
    ranked = _ranked(models)
    rows: Counter[str] = Counter()
    edges = [kind for kind in kinds if kind.startswith("parent")]
    for name, positions, stack in models.stacks():
        row_of = {position: row for row, position in enumerate(positions)}
        values = stack.numpy()
        for kind, comparison in compared.items():
            pairs = np.array(
                [(row_of[a], row_of[b]) for a, b in comparison.pairs if a in row_of and b in row_of], dtype=np.intp
            ).reshape(-1, 2)
            exact = _exact(models, name, positions)
            untouched = _add(comparison, values, pairs, exact if name in ranked else None)
            if kind in edges and untouched > 0.01:
                rows[name] = max(rows[name], round(100 * untouched))
    lines = [
        "| two models | pairs | identical tensors | untouched rows of the others | difference | its rank |",
        "|---|---|---|---|---|---|",
        *(f"| {kind} | {' | '.join(comparison.row)} |" for kind, comparison in compared.items()),
        "",
        f"Means over at most {PAIRS} pairs of a kind. Identical and untouched mean equal bit for bit. The difference is its root mean "
        "square divided by that of the weights. The rank is that of the difference of a matrix; in brackets, divided by the largest "
        "possible rank.",
    ]
    for name, share in rows.most_common(3):
        lines.append(f"- Between parent and child, {share} % of the rows of `{name}` are untouched.")
    copies = len(models) - len({checkpoint.digest for checkpoint in models.checkpoints})
    if copies:
        lines.append(f"- {copies} models are bit-identical to another model.")
    return lines


def kinds_of_pairs(truth: Truth, ids: Sequence[str]) -> Mapping[str, Pairs]:
    """Returns kind -> at most ``PAIRS`` drawn pairs, (m, 2) positions in ``ids``. Kinds without a pair are
    left out.

    The kind of an edge is the child's subtype. The kind of another pair in a tree is the number of edges
    between the two models.
    """
    rng = np.random.default_rng(0)  # the card of a data set is the same on every call
    position = {node: index for index, node in enumerate(ids)}
    edges = [(position[parent], position[child]) for parent, child in truth.graph.edges]
    kinds: dict[str, list[tuple[int, int]]] = {}
    for (parent, child), (_, name) in zip(edges, truth.graph.edges, strict=True):
        kinds.setdefault(f"parent and child ({truth.nodes[name].subtype or truth.nodes[name].relation})", []).append(
            (parent, child)
        )
    children: dict[tuple[str, ...], list[int]] = {}
    for node in truth.nodes:
        if truth.nodes[node].parents:
            children.setdefault(truth.nodes[node].parents, []).append(position[node])
    siblings = [(a, b) for group in children.values() for index, a in enumerate(group) for b in group[index + 1 :]]
    kinds["siblings"] = siblings
    rows_and_columns = np.array(edges, dtype=np.intp).reshape(-1, 2).T
    graph: csr_array[np.float64] = csr_array((np.ones(len(edges)), rows_and_columns), shape=(len(ids), len(ids)))
    hops = shortest_path(graph, directed=False, unweighted=True)
    for count in range(2, FARTHEST + 1):
        kinds[f"{count} edges apart"] = [(int(a), int(b)) for a, b in np.argwhere(np.triu(hops == count))]
    kinds["of different trees"] = [(int(a), int(b)) for a, b in np.argwhere(np.triu(np.isinf(hops)))]
    drawn = {
        kind: [pairs[index] for index in sorted(rng.permutation(len(pairs))[:PAIRS])] for kind, pairs in kinds.items()
    }
    return {kind: np.array(pairs, dtype=np.intp) for kind, pairs in drawn.items() if pairs}


def _ranked(models: ModelSet) -> set[str]:
    """Returns names of matrices for which ranks are computed: evenly spaced among those that differ between
    most models."""
    differing = [
        name
        for (name, shape), positions in models.shapes.items()
        if len(shape) == 2
        and len({models.checkpoints[position].digests[name] for position in positions}) > len(positions) // 2
    ]
    chosen = np.unique(np.linspace(0, len(differing) - 1, min(RANKED_TENSORS, len(differing))).astype(int))
    return {differing[index] for index in chosen}


def _exact(models: ModelSet, name: str, positions: Sequence[int]) -> NDArray[np.bool_]:
    """Returns (n,) bool: whether each model stores the tensor with at least 32 bits, so that rounding does
    not hide the rank."""
    return np.array([models.checkpoints[position].tensors[name].dtype in ("F32", "F64") for position in positions])


def _add(comparison: Comparison, values: NDArray[np.float32], pairs: Pairs, exact: NDArray[np.bool_] | None) -> float:
    """Adds one tensor to ``comparison``; returns the fraction of untouched rows, over pairs in which the
    tensor is not identical.

    Args:
        comparison: The comparison; it is changed.
        values: (n, *shape) float32: the tensor in all models that have it.
        pairs: (m, 2) int: rows of ``values``.
        exact: (n,) bool: models for which ranks are computed; None for none.
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
