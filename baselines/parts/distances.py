"""Distances between two models: one of each tensor, and how the tensors are combined.

In the docstrings x and y are the weights of one tensor of two models, flattened to N numbers. A function of one tensor takes a
stack (k, *shape) of k models and returns (k, k) float64. ``README.md`` in the folder above says how to add a distance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from mothr.baselines.parts import invariant
from mothr.baselines.parts.ranks import ENERGY, RANK_MARGIN, as_matrices, energy_rank, rank, rank_of_pairs, spectral
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.weights.combine import Array, combine_distances, combine_pair_distances
from mothr.benchmark.weights.features import compute_pairs, stream
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.result_cache import Cache, remember
from mothr.benchmark.weights.streaming import CHUNK, Feature, Pairs, Slices, device


def flat(stack: torch.Tensor) -> torch.Tensor:
    """Returns a stack (k, *shape) as rows, (k, elements)."""
    return stack.reshape(len(stack), -1)


def energies(rows: torch.Tensor, pairs: Pairs | None = None) -> tuple[Array, Array, Array]:
    """Returns |x - y|^2, |x|^2 and |y|^2 of the rows of (k, elements).

    Args:
        rows: (k, elements).
        pairs: (m, 2) positions of rows; None for all pairs.

    Returns:
        Arrays of shape (k, k), (k, 1) and (1, k) for all pairs, or three of shape (m,) for given pairs; float64.
    """
    k, elements = rows.shape
    norms, squared = np.zeros(k), np.zeros((k, k))
    room = np.empty((2, k, max(1, min(elements, CHUNK // (4 * k)))))
    for part in rows.split(room.shape[2], dim=1):
        values, centred = room[:, :, : part.shape[1]]
        np.copyto(values, part.numpy())
        norms += np.einsum("ij,ij->i", values, values)
        if pairs is None:
            squared += _squared(values, centred)
    if pairs is None:
        return squared, norms[:, None], norms[None, :]
    return _over(rows, pairs, lambda difference: difference.square().sum(dim=1)), norms[pairs[:, 0]], norms[pairs[:, 1]]


def _squared(rows: Array, centred: Array) -> Array:
    """Returns the squared distances of the rows of (k, elements), (k, k), with a relative error below 1e-8.

    The formula is |x|^2 + |y|^2 - 2 x.y, over rows that are centred across models: the part that all models share would
    swamp their differences. Rows that are so near that digits were lost are centred again as a group of their own. If such
    a group is all rows, its near pairs are subtracted element by element.

    Args:
        rows: (k, elements) float64.
        centred: Scratch memory of the same shape; it is overwritten.
    """
    np.subtract(rows, rows.mean(axis=0), out=centred)
    gram = centred @ centred.T if device().type == "cpu" else _product(torch.from_numpy(centred).to(device()))
    energy = gram.diagonal()[:, None] + gram.diagonal()[None, :]
    squared = np.maximum(energy - 2 * gram, 0)
    np.fill_diagonal(squared, 0)
    near = np.triu(squared < 1e-6 * energy, 1)
    if not near.any():
        return squared
    count, groups = connected_components(near, directed=False)
    if count == 1:
        i, j = np.nonzero(near)
        squared[i, j] = squared[j, i] = [
            ((rows[first] - rows[second]) ** 2).sum() for first, second in zip(i, j, strict=True)
        ]
        return squared
    for group in range(count):
        members = np.flatnonzero(groups == group)
        if len(members) > 1:
            squared[np.ix_(members, members)] = _squared(rows[members], centred[: len(members)])
    return squared


def _product(rows: torch.Tensor) -> Array:
    return (rows @ rows.T).cpu().numpy()


def _over(rows: torch.Tensor, pairs: Pairs, function: Callable[[torch.Tensor], torch.Tensor]) -> Array:
    """Returns ``function`` of the differences x - y, (some, elements) float64, of m given pairs of rows, (m,)."""
    positions = torch.from_numpy(np.asarray(pairs, dtype=np.int64))
    parts = positions.split(max(1, CHUNK // rows.shape[1]))
    return torch.cat([function(rows[part[:, 0]].double() - rows[part[:, 1]].double()) for part in parts]).numpy()


def _root_mean(sums: tuple[Array, ...], elements: int) -> Array:
    return np.sqrt(sums[0] / elements)


def rms(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns |x - y| / sqrt(N), (k, k) (MoTHer, arXiv 2405.18432v2, l_FT)."""
    return _root_mean(energies(flat(stack)), stack[0].numel())


def _l1(rows: torch.Tensor, pairs: Pairs | None = None) -> tuple[Array]:
    if pairs is not None:
        return (_over(rows, pairs, lambda difference: difference.abs().sum(dim=1)),)
    parts = rows.split(max(1, CHUNK // len(rows)), dim=1)
    sums = [torch.nn.functional.pdist(part.double(), p=1) for part in parts]
    return (squareform(torch.stack(sums).sum(dim=0).numpy()),)


def _mean(sums: tuple[Array, ...], elements: int) -> Array:
    return sums[0] / elements


def mean_abs(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns |x - y|_1 / N, (k, k) (MoTHer, arXiv 2405.18432, clustering of fully fine-tuned models)."""
    return _mean(_l1(flat(stack)), stack[0].numel())


def _largest(rows: torch.Tensor, pairs: Pairs | None = None) -> tuple[Array]:
    if pairs is not None:
        return (_over(rows, pairs, lambda difference: difference.abs().amax(dim=1)),)
    parts = rows.split(max(1, CHUNK // len(rows)), dim=1)
    maxima = [torch.nn.functional.pdist(part.double(), p=float("inf")) for part in parts]
    return (squareform(torch.stack(maxima).amax(dim=0).numpy()),)


def _first(state: tuple[Array, ...], elements: int) -> Array:
    return state[0]


def max_abs(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns max |x - y|, (k, k) (MoTHer, arXiv 2405.18432v1, the formula of the paper)."""
    return _largest(flat(stack))[0]


def _signed(rows: torch.Tensor, pairs: Pairs | None = None) -> tuple[Array]:
    if pairs is not None:
        return (_over(rows, pairs, lambda difference: difference.amax(dim=1)),)
    maxima = torch.full((len(rows), len(rows)), -torch.inf, dtype=rows.dtype)
    for part in rows.split(max(1, CHUNK // len(rows)), dim=1):
        for i in range(len(rows)):
            maxima[i] = torch.maximum(maxima[i], (part[i] - part).amax(dim=1))
    return (maxima.double().numpy(),)


def signed_max(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the largest signed difference max(w_i - w_j) at [i, j], (k, k), not symmetric, 0 on the diagonal.

    MoTHer's public code of May 2024 scales it to (d - min) / (max - min), with the smallest and the largest difference over all
    ordered pairs of a tree. The entry [j, i] is minus the smallest of w_i - w_j. So the smallest over all pairs is minus the
    largest one, and this matrix suffices (``scaled-max`` of :func:`mothr.benchmark.weights.combine.combine_distances`).
    """
    return _signed(flat(stack))[0]


def _angle(sums: tuple[Array, ...], elements: int) -> Array:
    squared, first, second = sums
    norms = np.sqrt(first), np.sqrt(second)
    product = norms[0] * norms[1]
    angle = np.maximum(squared - (norms[0] - norms[1]) ** 2, 0) / (2 * np.where(product > 0, product, 1))
    return np.where(product > 0, angle, np.where((first == 0) & (second == 0), 0.0, 1.0))


def cosine(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns 1 - x.y / (|x| |y|), (k, k); 1 from a zero tensor to any other, 0 between two zero tensors."""
    return _angle(energies(flat(stack)), stack[0].numel())


def _over_norms(sums: tuple[Array, ...], elements: int) -> Array:
    squared, first, second = sums
    means = (np.sqrt(first) + np.sqrt(second)) / 2
    return np.sqrt(squared) / np.where(means > 0, means, 1)


def relative(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns |x - y| / ((|x| + |y|) / 2), (k, k); 0 between two zero tensors. It is at most 2."""
    return _over_norms(energies(flat(stack)), stack[0].numel())


@dataclass(frozen=True, slots=True)
class Distance:
    """A distance between models: a distance of each tensor, and how the tensors are combined."""

    feature: Feature
    """What is computed of each tensor."""
    combine: str
    """How tensors are combined: ``how`` of :func:`mothr.benchmark.weights.combine.combine_distances`."""
    description: str
    """The distance in one line."""
    source: str
    """Paper, "folklore" or "this project"."""


def _of_form(
    form: Callable[[torch.Tensor], torch.Tensor], distance: Callable[[torch.Tensor, tuple[str, ...]], Array]
) -> Feature:
    return Feature(form.__name__, 1, "distance", partial(_between_forms, form, distance))


def _between_forms(
    form: Callable[[torch.Tensor], torch.Tensor],
    distance: Callable[[torch.Tensor, tuple[str, ...]], Array],
    stack: torch.Tensor,
    dtypes: tuple[str, ...],
) -> Array:
    return distance(form(as_matrices(stack)), dtypes)


def _of_differences(function: Callable[[torch.Tensor], torch.Tensor]) -> Feature:
    return Feature(function.__name__, 1, "distance", partial(_on_all, function), partial(_on_pairs, function))


def _on_all(function: Callable[[torch.Tensor], torch.Tensor], stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    pairs = np.stack(np.triu_indices(len(stack), 1), axis=1)
    return squareform(_on_pairs(function, stack, dtypes, pairs))


def _on_pairs(
    function: Callable[[torch.Tensor], torch.Tensor], stack: torch.Tensor, dtypes: tuple[str, ...], pairs: Pairs
) -> Array:
    matrices, positions = as_matrices(stack), torch.from_numpy(np.asarray(pairs, dtype=np.int64))
    parts = positions.split(max(1, CHUNK // matrices[0].numel()))
    return torch.cat(
        [function(matrices[part[:, 0]].double() - matrices[part[:, 1]].double()) for part in parts]
    ).numpy()


def _aligned(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    return invariant.aligned(as_matrices(stack))


_OURS, _MOTHER = "this project", "MoTHer (arXiv 2405.18432)"
_RMS = Feature("rms", 1, "distance", rms, slices=Slices(energies, np.add, _root_mean))
_RELATIVE = Feature("relative", 1, "distance", relative, slices=Slices(energies, np.add, _over_norms))
_COSINE = Feature("cosine", 1, "distance", cosine, slices=Slices(energies, np.add, _angle))
_MEAN_ABS = Feature("mean_abs", 1, "distance", mean_abs, slices=Slices(_l1, np.add, _mean))
_MAX_ABS = Feature("max_abs", 1, "distance", max_abs, slices=Slices(_largest, np.maximum, _first))
_SIGNED_MAX = Feature("signed_max", 1, "pair", signed_max, slices=Slices(_signed, np.maximum, _first))
_RANK = Feature("rank", 2, "distance", rank, rank_of_pairs, parameters=(("margin", RANK_MARGIN),))
_ENERGY_RANK, _SPECTRAL = _of_differences(energy_rank), _of_differences(spectral)
_SORTED, _VALUES = _of_form(invariant.sorted_weights, mean_abs), _of_form(invariant.singular_values, relative)
_NORMS = _of_form(invariant.norm_profile, relative)
_ALIGNED = Feature("aligned", 1, "distance", _aligned)

DISTANCES = {
    "rms": Distance(_RMS, "mean", "root mean square of the difference", f"{_MOTHER}, v2"),
    "frobenius": Distance(
        _RMS, "quadratic", "Frobenius norm of all differences over the root of the element count", "folklore"
    ),
    "relative": Distance(_RELATIVE, "mean", "Frobenius norm of the difference over the mean norm", _OURS),
    "cosine": Distance(_COSINE, "mean", "one minus the cosine of the angle", "folklore"),
    "mean_abs": Distance(_MEAN_ABS, "sum", "mean absolute difference", f"{_MOTHER}, clustering"),
    "max_abs": Distance(_MAX_ABS, "max", "largest absolute difference", f"{_MOTHER}, v1 paper"),
    "signed_max": Distance(
        _SIGNED_MAX, "scaled-max", "largest w_i - w_j, scaled by the models of its tree", f"{_MOTHER}, v1 code"
    ),
    "rank": Distance(
        _RANK, "sum", "rank of the difference, above the noise of storage", f"{_MOTHER}, LoRA; tolerance: {_OURS}"
    ),
    "energy_rank": Distance(
        _ENERGY_RANK, "sum", f"singular values of the difference that hold {ENERGY:.0%} of its energy", _OURS
    ),
    "spectral": Distance(_SPECTRAL, "mean", "largest singular value of the difference", "folklore"),
    "sorted_weights": Distance(
        _SORTED, "mean", "Wasserstein-1 of the weights' distributions; any reordering is at 0", "folklore"
    ),
    "singular_values": Distance(
        _VALUES, "mean", "relative L2 of the singular values; reordered rows or columns are at 0", "folklore"
    ),
    "norm_profile": Distance(
        _NORMS, "mean", "relative L2 of the sorted norms of rows and columns; the same are at 0", _OURS
    ),
    "aligned": Distance(
        _ALIGNED, "mean", "relative, after rows or columns are matched", "after Git Re-Basin (Ainsworth et al. 2023)"
    ),
}
"""The distances by name."""


def find_distance(name: str) -> Distance:
    """Returns the distance called ``name``, or raises MothrError with the nearest names."""
    if name not in DISTANCES:
        raise unknown_name("distance", name, DISTANCES)
    return DISTANCES[name]


def distances(
    models: ModelSet,
    name: str,
    layers: Layers,
    *,
    among: Sequence[int] | None = None,
    cache: Cache = "default",
    progress: bool = False,
) -> Array:
    """Returns the (n, n) distances of ``models``, float64, by the distance called ``name``; inf for pairs without a common tensor.

    Args:
        models: The models.
        name: A key of :data:`DISTANCES`.
        layers: The tensors.
        among: Positions of the models to compare; the result is then (len(among), len(among)). None for all models.
        cache: Where results are kept; see :func:`mothr.benchmark.weights.features.compute`.
        progress: Whether to show a bar on stderr.
    """
    distance = find_distance(name)

    def combined() -> Array:
        per_tensor = stream(models, distance.feature, layers, cache=cache, progress=progress)
        return combine_distances(per_tensor, len(models), distance.combine, among)

    return remember(models, ("distance", name, layers, None if among is None else tuple(among)), combined, cache)


def pair_distances(models: ModelSet, name: str, pairs: Pairs, layers: Layers, *, cache: Cache = "default") -> Array:
    """Returns the distances of m pairs, (m,) float64; inf for pairs without a common tensor. Only the named models are read.

    Args:
        models: The models.
        name: A key of :data:`DISTANCES`.
        pairs: (m, 2) positions in ``models.ids``.
        layers: The tensors.
        cache: Where results are kept; see :func:`mothr.benchmark.weights.features.compute`.

    Raises:
        MothrError: The distance is unknown, or it depends on all pairs.
    """
    distance, pairs = find_distance(name), np.asarray(pairs, dtype=np.intp).reshape(-1, 2)
    per_tensor = compute_pairs(models, distance.feature, layers, pairs, cache=cache)
    return combine_pair_distances(per_tensor, len(pairs), distance.combine)


def replace_infinite(matrix: Array) -> Array:
    """Returns the distances with each inf replaced by twice the largest finite one, or by 1 if that is 0."""
    largest = matrix[np.isfinite(matrix)].max(initial=0.0)
    return np.where(np.isinf(matrix), 2 * largest if largest > 0 else 1.0, matrix)


def finite_distances(models: ModelSet, name: str, layers: Layers) -> Array:
    """Returns the (n, n) distances of :func:`distances`, with inf replaced as by :func:`replace_infinite`."""
    return replace_infinite(distances(models, name, layers))


def check_symmetric(distance: str, layers: str) -> None:
    """Raises MothrError unless ``distance`` is the name of a symmetric distance and ``layers`` a choice of tensors."""
    if find_distance(distance).feature.kind != "distance":
        raise MothrError(
            f"distance {distance!r} is not symmetric, so no undirected spanning tree exists; choose another"
        )
    Layers.parse(layers)


def catalogue() -> list[dict[str, str]]:
    """Returns a row for each distance: name, description, combination over tensors, source."""
    return [
        {"name": name, "description": item.description, "combine": item.combine, "source": item.source}
        for name, item in DISTANCES.items()
    ]
