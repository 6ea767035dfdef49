"""Merges, told from weights: which models of a tree are mixtures of others.

A linear merge lies on the line, or in the triangle, between its parents, and a spherical one near it. A fine-tuned model does not:
its update is nearly orthogonal to every other, so what lies between its parent and its child leaves half of the way unexplained.
A TIES merge is its parents' common ancestor with entries of theirs put in.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.baselines.parts.distances import distances, flat
from mothr.baselines.parts.precision import squared_error
from mothr.baselines.parts.ranks import as_matrices
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Key, Layers

Sources = tuple[int, ...]
"""Positions of the models that one was made from, ascending."""
NEAR = 16
"""So many models nearest to one are tried as its parents."""
TRIED = 8
"""Of the pairs and triples of these, the weights of so many are looked at."""
LEAST_SHARE = 0.1
"""A parent's mixing weight is at least this."""
LIKELY = 0.25
"""Unexplained share of the squared distance to the nearest parent, above which weights are not looked at. Between the parent and the
child of a fine-tuned model it is 1/2, between a parent and two children 1/3."""
CERTAIN = 0.001
"""The same after each tensor got mixing weights of its own and rounding was taken off: that of a merge is below. Of models that went on
with one training, each by steps of its own length, half a per cent was seen."""
SAMPLE = 1 << 10
"""Entries of a tensor that are compared one by one, evenly spread."""
SAME = 2.0**-18
"""Entries that differ by no more than this share are the same but for the arithmetic of merging."""
KEPT = 0.3
"""A TIES merge has at least this share of its base's entries."""
PATCHED, OWN = 0.75, 0.05
"""Of the others, at least so many are entries of its parents, and so many of each parent alone. The paper keeps a fifth of each
parent's changes; where two agree on a sign the entry is a mean, which is neither's."""


def mixtures(models: ModelSet, layers: Layers) -> dict[int, Sources]:
    """Returns {position of a merge: positions of the models it was made from}; ``models`` are those of one tree.

    Where several mixtures explain a model, one of parents that are no mixtures themselves is taken, with the fewest of them, the
    farthest apart: models that were mixed from the same two lie on one line.
    """
    if len(models) < 3:
        return {}
    squared = distances(models, "frobenius", layers) ** 2
    keys = [key for key in layers.select_from(models) if len(models.shapes[key]) == len(models)]
    found = {node: [sources] for node, sources in _patchworks(models, keys).items()}
    for node in range(len(models)):
        found.setdefault(node, []).extend(
            sources for sources in _between(squared, node) if _explained(models, node, sources, keys)
        )
    mixed = {node for node, choices in found.items() if choices}
    chosen = {}
    for node in mixed:
        pure = [sources for sources in found[node] if not mixed & set(sources)]
        if pure:
            chosen[node] = min(
                pure, key=lambda sources: (len(sources), -float(squared[np.ix_(sources, sources)].sum()))
            )
    return chosen


# Linear and spherical


def _between(squared: Array, node: int) -> list[Sources]:
    """Returns the pairs and triples of near models between which ``node`` lies, by squared distances (n, n) alone; the best TRIED."""
    order = np.argsort(squared[node], kind="stable")
    near = [int(other) for other in order if other != node and 0 < squared[node, other] < np.inf][:NEAR]
    found: list[tuple[float, Sources]] = []
    for size in (2, 3):
        chosen = np.array(list(combinations(sorted(near), size)), dtype=np.intp).reshape(-1, size)
        left = _left(squared, node, chosen) / squared[node][chosen].min(axis=1)
        found += [(float(left[at]), tuple(chosen[at].tolist())) for at in np.flatnonzero(left <= LIKELY)]
    return [sources for _, sources in sorted(found)[:TRIED]]


def _left(squared: Array, node: int, sources: NDArray[np.intp]) -> Array:
    """Returns the squared distances from ``node`` to the nearest mixtures of ``sources``, (m, models of each) positions, as (m,).

    They are inf where one of the models has hardly a share in it. With G[k, l] = (u_k - v) . (u_l - v), told from distances, the
    mixing weights are G^-1 1 scaled to sum one (as in locally linear embedding, Roweis and Saul 2000).
    """
    size = sources.shape[1]
    away = squared[node][sources]
    with np.errstate(invalid="ignore", divide="ignore"):  # pairs that share no tensor are infinitely far apart
        gram = (away[:, :, None] + away[:, None, :] - squared[sources[:, :, None], sources[:, None, :]]) / 2
        ridge = 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(size)
        shares = np.linalg.solve(gram + ridge, np.ones((len(sources), size, 1)))[:, :, 0]
        shares /= shares.sum(axis=1, keepdims=True)
        left = np.einsum("ik,ikl,il->i", shares, gram, shares)
    return np.where(shares.min(axis=1) >= LEAST_SHARE, np.maximum(left, 0.0), np.inf)


def _explained(models: ModelSet, node: int, sources: Sources, keys: Sequence[Key]) -> bool:
    """Returns whether ``sources`` explain the weights of ``node``, each tensor with mixing weights of its own, up to rounding."""
    left = near = 0.0
    for name, _ in keys:
        stack = models.stack(name, (node, *sources))
        target, *given = flat(stack).double()
        parents = torch.stack(given)
        gram = parents @ parents.T
        ridge = 1e-12 * gram.trace() * torch.eye(len(sources), dtype=gram.dtype)
        mix = torch.linalg.lstsq(gram + ridge, parents @ target).solution
        rounding = squared_error(as_matrices(stack)[0], models.checkpoints[node].tensors[name].dtype)
        left += max(0.0, float((target - mix @ parents).square().sum()) - rounding)
        near += float((parents - target).square().sum(dim=1).min())
    return left <= CERTAIN * near


# TIES (Yadav et al. 2023, arXiv 2306.01708)


def _patchworks(models: ModelSet, keys: Sequence[Key]) -> dict[int, Sources]:
    """Returns the TIES merges.

    Where a merge does not have its base's entry it has a parent's; where it has, it is no likelier to agree with that parent. A child
    whose training moved some weights by less than rounding agrees with its parent on both alike.
    """
    samples = {name: _sample(models, name) for name, _ in keys}
    equal = np.zeros((len(models), len(models)))
    total = np.zeros_like(equal)
    for rows in samples.values():
        share = torch.stack([_same(rows, row).double().mean(dim=1) for row in rows]).numpy()
        equal += np.where(share < 1, share * rows.shape[1], 0.0)
        total += np.where(share < 1, rows.shape[1], 0.0)
    equal /= np.maximum(total, 1.0)
    found: dict[int, Sources] = {}
    while (
        True
    ):  # merges of one tree share entries, too: one that is known is no longer taken for another's base or parent
        plain, known = [node for node in range(len(models)) if node not in found], len(found)
        for node in range(len(models)):
            others = [other for other in plain if other != node]
            base = max(others, key=equal[node].__getitem__, default=node)
            parents = _parents_of_patchwork(samples, node, base, others) if equal[node, base] >= KEPT else ()
            if parents:
                found[node] = parents
        if len(found) == known:
            return found


def _sample(models: ModelSet, name: str) -> torch.Tensor:
    rows = flat(models.stack(name, range(len(models))))
    return rows[:, :: -(-rows.shape[1] // SAMPLE)]


def _same(rows: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    return (rows - row).abs() <= SAME * row.abs()


def _parents_of_patchwork(samples: Mapping[str, torch.Tensor], node: int, base: int, others: Sequence[int]) -> Sources:
    """Returns those of ``others`` whose entries stand where ``node`` differs from ``base``; none if they are few, or not most of these."""
    rows = torch.cat([rows for rows in samples.values() if not torch.equal(rows[node], rows[base])], dim=1)
    agrees = _same(rows, rows[node])
    changed = ~agrees[base]
    on, off = (
        agrees[:, side].double().mean(dim=1) if side.any() else torch.zeros(len(rows)) for side in (changed, ~changed)
    )
    parents = tuple(other for other in others if other != base and on[other] >= OWN and on[other] >= 2 * off[other])
    covered = float(agrees[list(parents)][:, changed].any(dim=0).double().mean()) if len(parents) >= 2 else 0.0
    return parents if covered >= PATCHED else ()
