"""Merges: models of a tree that are mixtures of two or three others.

* A linear merge lies on the line between its sources, or in the triangle of three. A spherical merge lies near that line.
  A fine-tuned model does not: its update is nearly orthogonal to all others, so between its parent and its child one half
  of the squared distance stays unexplained.
* A TIES merge (Yadav et al. 2023, arXiv 2306.01708) is a common ancestor, its base, with some entries of its sources.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.baselines.parts.checks import check_at_least, check_between
from mothr.baselines.parts.distances import distances, flat
from mothr.baselines.parts.precision import squared_error
from mothr.baselines.parts.ranks import as_matrices
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Key, Layers
from mothr.benchmark.weights.model_set import ModelSet

Sources = tuple[int, ...]
"""Positions of the models that were merged, ascending."""


@dataclass(frozen=True, slots=True)
class Merges:
    """How merges are recognised."""

    max_neighbours: int = 16
    """Number of nearest models that are tried as sources."""
    max_mixtures: int = 8
    """Number of pairs and triples of these whose weights are read: those that explain the squared distances best."""
    min_mixing_weight: float = 0.1
    """Least mixing weight of a source; the mixing weights sum to 1."""
    max_distance_residual: float = 0.25
    """Largest unexplained part of the squared distance for which weights are read. Unit: the squared distance to the
    nearest source. Between the parent and the child of a fine-tuned model it is 1/2, between a parent and two children 1/3."""
    max_residual: float = 0.001
    """Largest unexplained part once each tensor has its own mixing weights and rounding is subtracted. Unit: the squared
    distance to the nearest source. Checkpoints of one training, each with its own learning rate, had 0.005."""
    sample_size: int = 1024
    """Entries of a tensor that are compared one by one for TIES, evenly spaced."""
    equality_tolerance: float = 2.0**-18
    """Two entries are equal if they differ by at most this fraction: the rounding of the arithmetic of merging."""
    min_base_fraction: float = 0.3
    """Least fraction of a TIES merge's entries that equal its base."""
    min_covered_fraction: float = 0.75
    """Least fraction of the other entries that equal an entry of a source. The paper keeps one fifth of each source's
    changes. Where two sources agree on a sign, the entry is a mean and equals neither."""
    min_source_fraction: float = 0.05
    """Least fraction of the other entries that equal those of one source."""
    min_enrichment: float = 2.0
    """A source agrees with a TIES merge on the other entries at least this many times as often as on those of the base. A
    child whose training moved some weights by less than rounding agrees with its parent on both alike."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "max_neighbours", "max_mixtures", "sample_size")
        check_at_least(self, 0, "max_distance_residual", "max_residual", "equality_tolerance", "min_enrichment")
        fractions = ("min_base_fraction", "min_covered_fraction", "min_source_fraction", "min_mixing_weight")
        check_between(self, 0, 1, *fractions)


def find_merges(models: ModelSet, layers: Layers, parameters: Merges | None = None) -> dict[int, Sources]:
    """Returns {position of a merge: positions of its sources}.

    If several mixtures explain a model, the chosen one has sources that are no merges themselves, as few as possible, and
    as far apart as possible. Models that were merged from the same two lie on one line.

    Args:
        models: The models of one tree.
        layers: The tensors to compare.
        parameters: Thresholds; None for the defaults.
    """
    parameters = Merges() if parameters is None else parameters
    if len(models) < 3:
        return {}
    squared = distances(models, "frobenius", layers) ** 2
    keys = [key for key in layers.select_from(models) if len(models.shapes[key]) == len(models)]
    mixtures = {node: [sources] for node, sources in _ties_merges(models, keys, parameters).items()}
    for node in range(len(models)):
        mixtures.setdefault(node, []).extend(
            sources
            for sources in _between(squared, node, parameters)
            if _explains(models, node, sources, keys, parameters.max_residual)
        )
    merged = {node for node, choices in mixtures.items() if choices}
    chosen = {}
    for node in merged:
        choices = [sources for sources in mixtures[node] if not merged & set(sources)]
        if choices:
            chosen[node] = min(
                choices, key=lambda sources: (len(sources), -float(squared[np.ix_(sources, sources)].sum()))
            )
    return chosen


# Linear and spherical merges


def _between(squared: Array, node: int, parameters: Merges) -> list[Sources]:
    """Returns the pairs and triples of near models between which ``node`` lies by squared distances (n, n), the best first."""
    order = np.argsort(squared[node], kind="stable")
    near = [int(neighbour) for neighbour in order if neighbour != node and 0 < squared[node, neighbour] < np.inf]
    near = near[: parameters.max_neighbours]
    scored: list[tuple[float, Sources]] = []
    for size in (2, 3):
        sources = np.array(list(combinations(sorted(near), size)), dtype=np.intp).reshape(-1, size)
        residual = _distance_residual(squared, node, sources, parameters.min_mixing_weight)
        residual = residual / squared[node][sources].min(axis=1)
        fitting = np.flatnonzero(residual <= parameters.max_distance_residual)
        scored += [(float(residual[index]), tuple(sources[index].tolist())) for index in fitting]
    return [sources for _, sources in sorted(scored)[: parameters.max_mixtures]]


def _distance_residual(squared: Array, node: int, sources: NDArray[np.intp], min_weight: float) -> Array:
    """Returns the squared distances from model v = ``node`` to the nearest mixtures of ``sources``, (m, k) positions, as (m,).

    With G[k, l] = (u_k - v) . (u_l - v), which follows from the distances, the mixing weights are G^-1 1, scaled to sum 1
    (as in locally linear embedding, Roweis and Saul 2000). The result is inf if a mixing weight is below ``min_weight``.
    """
    size = sources.shape[1]
    to_node = squared[node][sources]
    with np.errstate(invalid="ignore", divide="ignore"):  # pairs that share no tensor are infinitely far apart
        gram = (to_node[:, :, None] + to_node[:, None, :] - squared[sources[:, :, None], sources[:, None, :]]) / 2
        ridge = 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(size)
        weights = np.linalg.solve(gram + ridge, np.ones((len(sources), size, 1)))[:, :, 0]
        weights /= weights.sum(axis=1, keepdims=True)
        residual = np.einsum("ik,ikl,il->i", weights, gram, weights)
    return np.where(weights.min(axis=1) >= min_weight, np.maximum(residual, 0.0), np.inf)


def _explains(models: ModelSet, node: int, sources: Sources, keys: Sequence[Key], max_residual: float) -> bool:
    """Returns whether mixtures of ``sources`` explain the weights of ``node``, each tensor with its own mixing weights.

    Rounding is subtracted from what stays unexplained. The unit of ``max_residual`` is the squared distance to the nearest
    source.
    """
    residual = nearest = 0.0
    for name, _ in keys:
        stack = models.stack(name, (node, *sources))
        target, *others = flat(stack).double()
        rows = torch.stack(others)
        gram = rows @ rows.T
        ridge = 1e-12 * gram.trace() * torch.eye(len(sources), dtype=gram.dtype)
        weights = torch.linalg.lstsq(gram + ridge, rows @ target).solution
        rounding = squared_error(as_matrices(stack)[0], models.checkpoints[node].tensors[name].dtype)
        residual += max(0.0, float((target - weights @ rows).square().sum()) - rounding)
        nearest += float((rows - target).square().sum(dim=1).min())
    return residual <= max_residual * nearest


# TIES merges


def _ties_merges(models: ModelSet, keys: Sequence[Key], parameters: Merges) -> dict[int, Sources]:
    """Returns {position of a TIES merge: positions of its sources}.

    Two merges of one tree share entries too. So a known merge is never the base or a source of another one, and the
    search is repeated until nothing new is found.
    """
    samples = {name: _sample(models, name, parameters.sample_size) for name, _ in keys}
    equal = np.zeros((len(models), len(models)))
    total = np.zeros_like(equal)
    for rows in samples.values():
        fraction = torch.stack([_equal(rows, row, parameters).double().mean(dim=1) for row in rows]).numpy()
        equal += np.where(fraction < 1, fraction * rows.shape[1], 0.0)
        total += np.where(fraction < 1, rows.shape[1], 0.0)
    equal /= np.maximum(total, 1.0)
    merges: dict[int, Sources] = {}
    while True:
        unmerged, known = [node for node in range(len(models)) if node not in merges], len(merges)
        for node in range(len(models)):
            candidates = [candidate for candidate in unmerged if candidate != node]
            base = max(candidates, key=equal[node].__getitem__, default=node)
            if equal[node, base] < parameters.min_base_fraction:
                continue
            sources = _ties_sources(samples, node, base, candidates, parameters)
            if sources:
                merges[node] = sources
        if len(merges) == known:
            return merges


def _sample(models: ModelSet, name: str, size: int) -> torch.Tensor:
    """Returns evenly spaced entries of one tensor of all models, (n, about ``size``)."""
    rows = flat(models.stack(name, range(len(models))))
    return rows[:, :: -(-rows.shape[1] // size)]


def _equal(rows: torch.Tensor, row: torch.Tensor, parameters: Merges) -> torch.Tensor:
    """Returns which entries of ``rows``, (n, entries), equal those of ``row``, (n, entries) bool."""
    return (rows - row).abs() <= parameters.equality_tolerance * row.abs()


def _ties_sources(
    samples: Mapping[str, torch.Tensor], node: int, base: int, candidates: Sequence[int], parameters: Merges
) -> Sources:
    """Returns those of ``candidates`` whose entries stand where ``node`` differs from ``base``; none if they cover too little."""
    rows = torch.cat([rows for rows in samples.values() if not torch.equal(rows[node], rows[base])], dim=1)
    agrees = _equal(rows, rows[node], parameters)
    changed = ~agrees[base]
    in_changed, in_base = (
        agrees[:, part].double().mean(dim=1) if part.any() else torch.zeros(len(rows)) for part in (changed, ~changed)
    )
    sources = tuple(
        candidate
        for candidate in candidates
        if candidate != base
        and in_changed[candidate] >= parameters.min_source_fraction
        and in_changed[candidate] >= parameters.min_enrichment * in_base[candidate]
    )
    if len(sources) < 2:
        return ()
    covered = float(agrees[list(sources)][:, changed].any(dim=0).double().mean())
    return sources if covered >= parameters.min_covered_fraction else ()
