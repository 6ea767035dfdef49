"""Distances between two models: what each tensor says, and how the tensors are combined."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.distance import squareform

from mothr.baselines import invariant, spectra
from mothr.benchmark.errors import unknown_name
from mothr.benchmark.features import Array, Cache, Feature, combine_distances, compute
from mothr.benchmark.layers import Layers
from mothr.benchmark.weights import ModelSet

CHUNK = 1 << 20
"""Elements of a temporary array, beside the stack itself (8 MiB in float64)."""
RANK_MARGIN = 1.25
"""A singular value counts if it exceeds this many times the bound on what rounding leaves. Calibrated on Gaussian, heavy-tailed
and outlier-ridden weights of 8 x 8 to 384 x 384 stored as float32, float16, bfloat16 and int8: the largest singular value of
the noise was 0.2 to 0.6 of the bound after one merge and 0.4 to 1.2 after chains of three."""


def flat(stack: torch.Tensor) -> torch.Tensor:
    """Returns a stack (k, *shape) as rows, (k, elements)."""
    return stack.reshape(len(stack), -1)


def as_matrices(stack: torch.Tensor) -> torch.Tensor:
    """Returns a stack (k, *shape) as matrices, (k, first side, all others); sides of one are dropped, a vector is one row."""
    sides = [side for side in stack.shape[1:] if side > 1]
    return stack.reshape(len(stack), sides[0] if len(sides) > 1 else 1, -1)


def squared_distances(rows: torch.Tensor) -> torch.Tensor:
    """Returns the squared Euclidean distances of the rows of (k, elements) as (k, k) float64.

    |x|^2 + |y|^2 - 2 x.y over rows centred across models, since what all models share would drown their differences; pairs
    so near that digits were lost are subtracted element by element instead.
    """
    k, size = rows.shape
    gram = torch.zeros(k, k, dtype=torch.float64)
    for part in rows.split(max(1, CHUNK // k), dim=1):
        centred = part.double()
        centred = centred - centred.mean(dim=0)
        gram += centred @ centred.T
    sums = gram.diagonal()[:, None] + gram.diagonal()[None, :]
    squared = sums - 2 * gram
    near = torch.triu(squared < 1e-6 * sums, diagonal=1).nonzero()
    for some in near.split(max(1, CHUNK // size)):
        difference = rows[some[:, 0]].double() - rows[some[:, 1]].double()
        squared[some[:, 0], some[:, 1]] = squared[some[:, 1], some[:, 0]] = difference.square().sum(dim=1)
    return squared.clamp_(min=0).fill_diagonal_(0)


def rms(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the root mean square of the difference, (k, k) (MoTHer, arXiv 2405.18432v2, l_FT)."""
    rows = flat(stack)
    return (squared_distances(rows) / rows.shape[1]).sqrt().numpy()


def mean_abs(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the mean absolute difference, (k, k) (MoTHer, clustering of fully fine-tuned models)."""
    rows = flat(stack)
    parts = rows.split(max(1, CHUNK // len(rows)), dim=1)
    found = [torch.nn.functional.pdist(part.double(), p=1) for part in parts]
    return squareform(torch.stack(found).sum(dim=0).numpy() / rows.shape[1])


def max_abs(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the largest absolute difference, (k, k) (MoTHer, arXiv 2405.18432v1, as the paper has it)."""
    rows = flat(stack)
    parts = rows.split(max(1, CHUNK // len(rows)), dim=1)
    found = [torch.nn.functional.pdist(part.double(), p=float("inf")) for part in parts]
    return squareform(torch.stack(found).amax(dim=0).numpy())


def signed_max(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the largest signed difference max(w_i - w_j) at [i, j], (k, k), not symmetric, 0 on the diagonal.

    The raw material of MoTHer v1's code formula. Its scaling needs the smallest and the largest difference over all ordered
    pairs of a tree; since [j, i] is minus the smallest of w_i - w_j, the smallest over pairs is minus the largest, so this
    matrix suffices (``scaled-max`` in :func:`combine_distances`).
    """
    rows = flat(stack)
    found = torch.full((len(rows), len(rows)), -torch.inf, dtype=rows.dtype)
    for part in rows.split(max(1, CHUNK // len(rows)), dim=1):
        for i in range(len(rows)):
            found[i] = torch.maximum(found[i], (part[i] - part).amax(dim=1))
    return found.double().numpy()


def cosine(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns one minus the cosine of the angle between the flattened tensors, (k, k); 1 from a zero tensor to any other."""
    rows = flat(stack)
    norms = rows.double().norm(dim=1)
    found = squared_distances(rows.double() / norms.clamp(min=torch.finfo(torch.float64).tiny)[:, None]) / 2
    zero = norms == 0
    found[zero[:, None] != zero[None, :]] = 1
    return found.numpy()


def relative(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the Frobenius norm of the difference over the mean of the two norms, (k, k); 0 between zero tensors."""
    rows = flat(stack)
    norms = rows.double().norm(dim=1)
    means = (norms[:, None] + norms[None, :]) / 2
    return (squared_distances(rows).sqrt() / means.clamp(min=torch.finfo(torch.float64).tiny)).numpy()


def rank(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the rank of W_i - W_j, (k, k), told apart from rounding (MoTHer, l_LoRA, but for the tolerance).

    A merged update is rounded to the precision it is stored in, and rounding noise has full rank: numpy's default tolerance
    turns a rank of 16 into some 350 of 384 where weights were stored in 16 bits. Noise of independent entries of sizes e_ij
    has singular values up to about max_i |e_i.| + max_j |e_.j| (Bandeira and van Handel 2016; for weights of one size, u rms
    (sqrt(m) + sqrt(n)) with u the unit roundoff), and rounding errors are in proportion to the spacing of stored numbers at
    w_ij. A singular value counts if it exceeds RANK_MARGIN times that bound, the two models' taken as the sides of a right
    angle. An update below the noise floor cannot be told from none: the rank is then 0, or what stands out of the floor.

    The precision is that of the stored numbers, or a coarser one (float16, bfloat16, int8 with one scale a row or a tensor)
    in which all of them happen to be representable. A parent exact in a coarse precision, with a child merged in a finer
    one, is therefore measured too coarsely: from the weights alone that cannot be told from a rounded child. Weights
    rounded to int8 and then to bfloat16 are taken for bfloat16, so their rank comes out too high.
    """
    matrices = as_matrices(stack)
    k, rows, columns = matrices.shape
    floors = torch.stack([_noise(matrix, dtype) for matrix, dtype in zip(matrices, dtypes, strict=True)])
    found = torch.zeros(k, k, dtype=torch.float64)
    exact = max(rows, columns) * torch.finfo(torch.float64).eps  # what the decomposition itself leaves
    for some in torch.triu_indices(k, k, 1).T.split(max(1, CHUNK // (rows * columns))):
        i, j = some.T
        differences, floor = matrices[i].double() - matrices[j].double(), RANK_MARGIN * torch.hypot(floors[i], floors[j])
        ranks = torch.full((len(some),), float(min(rows, columns)), dtype=torch.float64)
        doubtful = ~_surely_full(differences, floor)
        values = torch.linalg.svdvals(differences[doubtful])
        floor = torch.maximum(floor[doubtful], exact * values[:, 0])
        ranks[doubtful] = (values > floor[:, None]).sum(dim=1).double()
        found[i, j] = found[j, i] = ranks
    return found.numpy()


def _surely_full(matrices: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """Returns, for each matrix, True only if all its singular values exceed ``floor``; most pairs of unrelated models do.

    Then A A^T - f^2 I has a Cholesky factor, ten times cheaper than singular values. A millionth of the Frobenius norm is
    added to f, since squaring loses half of the digits.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    gram = wide @ wide.mT
    bound = floor + 1e-6 * gram.diagonal(dim1=1, dim2=2).sum(dim=1).sqrt()
    gram.diagonal(dim1=1, dim2=2).sub_(bound.square()[:, None])
    positive: torch.Tensor = torch.linalg.cholesky_ex(gram).info == 0
    return positive & (bound > 0)


_STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_STORED |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def _noise(matrix: torch.Tensor, dtype: str) -> torch.Tensor:
    """Returns the bound on the singular values, float64, that rounding to the effective precision leaves."""
    error = _rounding(matrix, dtype).double()
    return error.norm(dim=1).max() + error.norm(dim=0).max()


def _rounding(matrix: torch.Tensor, dtype: str) -> torch.Tensor:
    """Returns the largest rounding error that each element can have."""
    magnitude = matrix.abs()
    if dtype not in _STORED:  # integers, times scales where they have some
        if torch.equal(matrix, matrix.round()):
            return torch.full_like(magnitude, 0.5)
        largest = _int8_range(matrix, torch.finfo(torch.float32).eps)
        return ((magnitude.amax() if largest is None else largest) / 254).expand_as(magnitude)
    stored = _STORED[dtype]
    if stored in (torch.float64, torch.float32):
        narrower = [torch.bfloat16, torch.float16] + [torch.float32] * (stored == torch.float64)
        stored = next((kind for kind in narrower if torch.equal(matrix.to(kind).to(matrix.dtype), matrix)), stored)
    limits = torch.finfo(stored)
    largest = _int8_range(matrix, limits.eps) if matrix.shape[1] > 8 else None
    if largest is not None:
        return (largest / 254).expand_as(magnitude)
    return magnitude.clamp(min=limits.smallest_normal) * (limits.eps / 2)


def _int8_range(matrix: torch.Tensor, eps: float) -> torch.Tensor | None:
    """Returns the largest magnitudes of the rows, (rows, 1), or of all, (1, 1), if all entries are whole 127ths of them; else None."""
    slack = 127 * eps / 2 + 1e-3  # how far from a whole step a rounded product of an integer and a scale may be
    for largest in (matrix.abs().amax(dim=1, keepdim=True), matrix.abs().amax().reshape(1, 1)):
        steps = 127 * (matrix / largest.clamp(min=torch.finfo(matrix.dtype).tiny))
        if slack < 0.25 and ((steps - steps.round()).abs() < slack).all():
            return largest
    return None


@dataclass(frozen=True)
class Distance:
    """A distance between models: one of each tensor, and how the tensors are combined."""

    feature: Feature
    """What is computed of each tensor."""
    combine: str
    """How tensors are combined: ``how`` in :func:`combine_distances`."""
    description: str
    """What it is, in one line."""
    source: str
    """Where it comes from."""


def _of_form(form: Callable[[torch.Tensor], torch.Tensor], distance: Callable[[torch.Tensor, tuple[str, ...]], Array]) -> Feature:
    return Feature(form.__name__, 1, "distance", lambda stack, dtypes: distance(form(as_matrices(stack)), dtypes))


def _of_differences(function: Callable[[torch.Tensor], torch.Tensor]) -> Feature:
    def distance(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
        matrices = as_matrices(stack)
        found = torch.zeros(len(stack), len(stack), dtype=torch.float64)
        for some in torch.triu_indices(len(stack), len(stack), 1).T.split(max(1, CHUNK // matrices[0].numel())):
            i, j = some.T
            found[i, j] = found[j, i] = function(matrices[i].double() - matrices[j].double())
        return found.numpy()

    return Feature(function.__name__, 1, "distance", distance)


_OURS, _MOTHER = "this project", "MoTHer (arXiv 2405.18432)"
_RMS = Feature("rms", 1, "distance", rms)
_RELATIVE = Feature("relative", 1, "distance", relative)
_COSINE = Feature("cosine", 1, "distance", cosine)
_MEAN_ABS = Feature("mean_abs", 1, "distance", mean_abs)
_MAX_ABS = Feature("max_abs", 1, "distance", max_abs)
_SIGNED_MAX = Feature("signed_max", 1, "pair", signed_max)
_RANK = Feature("rank", 1, "distance", rank)
_ENERGY_RANK, _SPECTRAL = _of_differences(spectra.energy_rank), _of_differences(spectra.spectral)
_SORTED, _VALUES = _of_form(invariant.sorted_weights, mean_abs), _of_form(invariant.singular_values, relative)
_NORMS = _of_form(invariant.norm_profile, relative)
_ALIGNED = Feature("aligned", 1, "distance", lambda stack, dtypes: invariant.aligned(as_matrices(stack)))

DISTANCES = {
    "rms": Distance(_RMS, "mean", "root mean square of the difference", f"{_MOTHER}, v2"),
    "frobenius": Distance(_RMS, "quadratic", "Frobenius norm of all differences over the root of the element count", "folklore"),
    "relative": Distance(_RELATIVE, "mean", "Frobenius norm of the difference over the mean norm", _OURS),
    "cosine": Distance(_COSINE, "mean", "one minus the cosine of the angle", "folklore"),
    "mean_abs": Distance(_MEAN_ABS, "sum", "mean absolute difference", f"{_MOTHER}, clustering"),
    "max_abs": Distance(_MAX_ABS, "max", "largest absolute difference", f"{_MOTHER}, v1 paper"),
    "signed_max": Distance(_SIGNED_MAX, "scaled-max", "largest w_i - w_j, scaled by the models of its tree", f"{_MOTHER}, v1 code"),
    "rank": Distance(_RANK, "sum", "rank of the difference, above the noise of storage", f"{_MOTHER}, LoRA; tolerance: {_OURS}"),
    "energy_rank": Distance(_ENERGY_RANK, "sum", f"singular values of the difference that hold {spectra.ENERGY:.0%} of its energy", _OURS),
    "spectral": Distance(_SPECTRAL, "mean", "largest singular value of the difference", "folklore"),
    "sorted_weights": Distance(_SORTED, "mean", "Wasserstein-1 of the weights' distributions; any reordering is at 0", "folklore"),
    "singular_values": Distance(_VALUES, "mean", "relative L2 of the singular values; reordered rows or columns are at 0", "folklore"),
    "norm_profile": Distance(_NORMS, "mean", "relative L2 of the sorted norms of rows and columns; the same are at 0", _OURS),
    "aligned": Distance(_ALIGNED, "mean", "relative, after rows or columns are matched", "after Git Re-Basin (Ainsworth et al. 2023)"),
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
    """Returns the (n, n) distances of ``models`` by the distance called ``name``; inf for pairs that share no tensor.

    Args:
        models: The models.
        name: A key of :data:`DISTANCES`.
        layers: Which tensors.
        among: Positions to restrict the answer to.
        cache: Where per-tensor results are kept; see :func:`mothr.benchmark.features.compute`.
        progress: Whether to show a bar on stderr.
    """
    found = find_distance(name)
    per_tensor = compute(models, [found.feature], layers, cache=cache, progress=progress)[found.feature.name]
    return combine_distances(per_tensor, len(models), found.combine, among)


def replace_infinite(matrix: Array) -> Array:
    """Returns distances with each inf replaced by twice the largest finite one (1 if that is 0), for what needs numbers."""
    largest = matrix[np.isfinite(matrix)].max(initial=0.0)
    return np.where(np.isinf(matrix), 2 * largest if largest > 0 else 1.0, matrix)


def catalogue() -> list[dict[str, str]]:
    """Returns a row for each distance: name, description, combination over tensors, source."""
    return [
        {"name": name, "description": item.description, "combine": item.combine, "source": item.source}
        for name, item in DISTANCES.items()
    ]
