"""Direction scores: which of two related models is the parent.

Each is one number a model, compared along an edge, or one a pair; ``learned`` is a sum of others, see :mod:`mothr.baselines.parts.learned`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from mothr.baselines.parts.distances import energies, flat
from mothr.baselines.parts.initialisation import distance_to_init
from mothr.baselines.parts.learned import log_odds
from mothr.baselines.parts.ranks import as_matrices
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.combine import Array, combine_pairs, combine_scores, combine_statistics
from mothr.benchmark.weights.features import compute, compute_pairs, stream
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.result_cache import Cache, remember
from mothr.benchmark.weights.streaming import CHUNK, Feature, Slices

Stage = Literal["specialisation", "generalisation"]
OUTLIER = 3.0
"""Standard deviations from which an element is an outlier: matrices of a few thousand elements hardly hold any beyond four."""
SAME = 1e-12
"""Spread of a residual, in standard deviations of the weights, below which two tensors are one up to scale."""

# --- statistics: rows (k, elements) float64 -> (k,) ---


def kurtosis(rows: Array) -> Array:
    """Returns the excess kurtosis m4 / m2^2 - 3 of each row (Fisher, biased; MoTHer), NaN for a constant row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a constant row, for which NaN is the answer wanted
        return np.asarray(stats.kurtosis(rows, axis=1))


def abs_kurtosis(rows: Array) -> Array:
    """Returns the absolute excess kurtosis of each row."""
    return np.abs(kurtosis(rows))


def negentropy(rows: Array) -> Array:
    """Returns Hyvarinen's approximation of the negentropy of each row, >= 0 and 0 if Gaussian, NaN for a constant row.

    k1 E[z exp(-z^2/2)]^2 + k2 (E[exp(-z^2/2)] - sqrt(1/2))^2 of the standardised z, k1 = 36 / (8 sqrt(3) - 9),
    k2 = 24 / (16 sqrt(3) - 27) (Hyvarinen, New approximations of differential entropy, NIPS 1997).
    """
    z = _standardised(rows)
    bell = np.exp(-(z**2) / 2)
    odd, even = (z * bell).mean(axis=1), bell.mean(axis=1) - np.sqrt(0.5)
    return 36 / (8 * np.sqrt(3) - 9) * odd**2 + 24 / (16 * np.sqrt(3) - 27) * even**2


def norm(rows: Array) -> Array:
    """Returns the squared Frobenius norm of each row."""
    return (rows**2).sum(axis=1)


def largest(rows: Array) -> Array:
    """Returns the largest absolute value of each row."""
    return np.abs(rows).max(axis=1)


def std(rows: Array) -> Array:
    """Returns the standard deviation of each row."""
    return rows.std(axis=1)


def l1_over_l2(rows: Array) -> Array:
    """Returns |w|_1 / (sqrt(N) |w|_2) of each row, in (0, 1]: smaller the heavier the tails; NaN for a zero row."""
    return np.abs(rows).mean(axis=1) / _or_nan(np.sqrt((rows**2).mean(axis=1)))


def outliers(rows: Array) -> Array:
    """Returns the share of elements of each row beyond OUTLIER standard deviations, NaN for a constant row."""
    z = _standardised(rows)
    return np.where(np.isnan(z[:, 0]), np.nan, (np.abs(z) > OUTLIER).mean(axis=1))


def _standardised(rows: Array) -> Array:
    spread = rows.std(axis=1)
    spread[spread <= np.finfo(float).eps * np.abs(rows.mean(axis=1))] = (
        np.nan
    )  # constant but for rounding, as scipy has it
    return (rows - rows.mean(axis=1)[:, None]) / _or_nan(spread)[:, None]


def _or_nan(values: Array) -> Array:
    return np.where(values > 0, values, np.nan)


# --- statistics of singular values: (k, min(m, n)) float64, descending -> (k,) ---


def effective_rank(values: Array) -> Array:
    """Returns exp(entropy of the singular values over their sum) (Roy and Vetterli 2007; TensorLock); NaN for a zero matrix."""
    shares = values / _or_nan(values.sum(axis=1))[:, None]
    return np.where(np.isnan(shares[:, 0]), np.nan, np.exp(stats.entropy(np.nan_to_num(shares, nan=1.0), axis=1)))


def stable_rank(values: Array) -> Array:
    """Returns the squared Frobenius norm over the squared spectral norm; NaN for a zero matrix."""
    return (values**2).sum(axis=1) / _or_nan(values[:, 0] ** 2)


def spectral_norm(values: Array) -> Array:
    """Returns the largest singular value."""
    return values[:, 0]


# --- pair scores ---


def norm_ratio(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns (|v|^2 - |u|^2) / |v - u|^2 at [u, v], (k, k), near +1 where v is u and an independent update; NaN if equal."""
    return _growth(energies(flat(stack)), stack[0].numel())


def _growth(sums: tuple[Array, ...], elements: int) -> Array:
    squared, first, second = sums
    return (second - first) / _or_nan(squared)


def residual_independence(stack: torch.Tensor, dtypes: tuple[str, ...], pairs: NDArray[np.intp]) -> Array:
    """Returns how much better "u -> v" explains each pair (u, v) than "v -> u", (m,); NaN if one is a multiple of the other.

    The idea of LiNGAM (Shimizu et al. 2006; for pairs Hyvarinen and Smith 2013): a child is b parent + update, and the update
    is independent of the parent, while the residual of the wrong regression depends on its regressor unless both are Gaussian.
    With x, y the standardised weights of u, v and r = corr(x, y), the residuals are e_y = y - r x and e_x = x - r y; dependence
    is f(e, z) = |corr(tanh(e / std(e)), z)| + |corr(e, tanh(z))|; the score is f(e_x, y) - f(e_y, x), positive for u -> v.
    """
    rows = flat(stack)
    scores = np.full(len(pairs), np.nan)
    for start in range(0, len(pairs), step := max(1, CHUNK // (8 * rows.shape[1]))):
        chosen = torch.from_numpy(np.asarray(pairs[start : start + step], dtype=np.int64))
        x, y = (_unit(rows[side].double()) for side in chosen.T)
        r = (x * y).mean(dim=1, keepdim=True)
        e_x, e_y = x - r * y, y - r * x
        found = _dependence(e_x, y) - _dependence(e_y, x)
        same = e_x.square().mean(dim=1).sqrt() < SAME
        scores[start : start + step] = found.masked_fill(same, torch.nan).numpy()
    return scores


def _unit(rows: torch.Tensor) -> torch.Tensor:
    """Returns rows of mean 0 and standard deviation 1; NaN for constant ones."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    return centred / centred.square().mean(dim=1, keepdim=True).sqrt()


def _dependence(e: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    e = _unit(e)
    return (_unit(torch.tanh(e)) * z).mean(dim=1).abs() + (e * _unit(torch.tanh(z))).mean(dim=1).abs()


def _on_all_pairs(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    first, second = np.triu_indices(len(stack), 1)
    found = np.zeros((len(stack), len(stack)))
    found[first, second] = residual_independence(stack, dtypes, np.stack([first, second], axis=1))
    found -= found.T
    np.fill_diagonal(found, np.nan)
    return found


# --- the table ---


def _of_rows(function: Callable[[Array], Array]) -> Feature:
    return Feature(function.__name__, 1, "statistic", partial(_by_rows, function))


def _by_rows(function: Callable[[Array], Array], stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    rows = flat(stack)
    parts = rows.split(max(1, CHUNK // rows.shape[1]))
    return np.concatenate([function(part.double().numpy()) for part in parts])


def _of_spectrum(function: Callable[[Array], Array]) -> Feature:
    return Feature(function.__name__, 1, "statistic", partial(_by_spectra, function))


def _by_spectra(function: Callable[[Array], Array], stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    matrices = as_matrices(stack)
    parts = matrices.split(max(1, CHUNK // matrices[0].numel()))
    return function(torch.cat([torch.linalg.svdvals(part.double()) for part in parts]).numpy())


@dataclass(frozen=True)
class Direction:
    """A direction score: a number of each tensor, its sign, and how tensors are combined."""

    feature: Feature | None
    """What is computed of each tensor; None for what is learned, the coin and the truth."""
    parent: Literal["higher", "lower", "pair"]
    """Which model of a pair is taken for the parent; ``pair``: the first of (u, v) where the score is positive."""
    combine: str
    """How tensors are combined by default: ``how`` in :func:`mothr.benchmark.weights.combine.combine_scores`."""
    description: str
    """What it is, in one line."""
    source: str
    """Where it comes from."""
    staged: bool = False
    """Whether the sign turns round in the stage ``generalisation``; ``parent`` is that of ``specialisation``."""


_OURS, _MOTHER, _CANDIDATE = "this project", "MoTHer (arXiv 2405.18432)", "candidate for ablations"
_TO_INIT = Feature("distance_to_init", 1, "statistic", distance_to_init)
_RATIO = Feature("norm_ratio", 1, "pair", norm_ratio, slices=Slices(energies, np.add, _growth))
_RESIDUAL = Feature("residual_independence", 1, "pair", _on_all_pairs, residual_independence)

_TABLE: dict[str, tuple[Feature | None, Literal["higher", "lower", "pair"], str, str, str]] = {
    "kurtosis": (_of_rows(kurtosis), "higher", "elements", "excess kurtosis", _MOTHER),
    "abs_kurtosis": (
        _of_rows(abs_kurtosis),
        "higher",
        "elements",
        "absolute excess kurtosis, one rule for both stages",
        _OURS,
    ),
    "negentropy": (_of_rows(negentropy), "higher", "elements", "distance from a Gaussian, after Hyvarinen", _OURS),
    "norm": (_of_rows(norm), "lower", "sum", "squared Frobenius norm: an update adds its energy", "folklore"),
    "norm_ratio": (_RATIO, "pair", "elements", "growth of the squared norm over the squared distance", _OURS),
    "distance_to_init": (
        _TO_INIT,
        "lower",
        "sum",
        "squared distance to a freshly drawn initialisation",
        "Neural Phylogeny (ICLR 2025)",
    ),
    "effective_rank": (
        _of_spectrum(effective_rank),
        "lower",
        "sum",
        "exp of the entropy of the singular values",
        "TensorLock",
    ),
    "stable_rank": (
        _of_spectrum(stable_rank),
        "lower",
        "sum",
        "squared Frobenius over squared spectral norm",
        _CANDIDATE,
    ),
    "spectral_norm": (_of_spectrum(spectral_norm), "lower", "sum", "largest singular value", _CANDIDATE),
    "max_abs": (_of_rows(largest), "lower", "sum", "largest absolute weight", _CANDIDATE),
    "l1_over_l2": (
        _of_rows(l1_over_l2),
        "lower",
        "elements",
        "L1 over L2 norm: smaller where tails are heavy",
        _CANDIDATE,
    ),
    "std": (_of_rows(std), "lower", "elements", "standard deviation", _CANDIDATE),
    "outliers": (_of_rows(outliers), "higher", "elements", f"share beyond {OUTLIER:g} standard deviations", _CANDIDATE),
    "residual_independence": (
        _RESIDUAL,
        "pair",
        "elements",
        "which of two the update is independent of (LiNGAM)",
        _OURS,
    ),
    "learned": (None, "pair", "elements", "log-odds by a sum of other scores, fitted on dev splits", _OURS),
    "random": (None, "pair", "elements", "a coin for each pair", "lower bound"),
    "oracle": (None, "pair", "elements", "the truth: whether the first is an ancestor of the second", "upper bound"),
}
_STAGED = ("kurtosis", "l1_over_l2", "outliers")

DIRECTIONS = {name: Direction(*row, staged=name in _STAGED) for name, row in _TABLE.items()}
"""The direction scores by name."""


def find_direction(name: str) -> Direction:
    """Returns the direction score called ``name``, or raises MothrError with the nearest names."""
    if name not in DIRECTIONS:
        raise unknown_name("direction", name, DIRECTIONS)
    return DIRECTIONS[name]


def kind_of(direction: str) -> MethodKind:
    """Returns the kind of a method with this direction score: ``random`` makes it a null, ``oracle`` an oracle."""
    kinds: dict[str, MethodKind] = {"random": "null", "oracle": "oracle"}
    return kinds.get(direction, "method")


def needs_of(direction: str) -> frozenset[Need]:
    """Returns the side information that a direction score needs: the truth for ``oracle``, nothing for any other."""
    return frozenset({"truth"}) if direction == "oracle" else frozenset()


def statistic(
    models: ModelSet, name: str, layers: Layers, *, how: str | None = None, cache: Cache = "default"
) -> Array:
    """Returns the score of each model, (n,), for a direction that is one number a model; NaN where it is undefined.

    Raises:
        MothrError: the direction is unknown or is no statistic.
    """
    found = find_direction(name)
    if found.feature is None or found.feature.kind != "statistic":
        raise MothrError(f"direction {name!r} compares two models and has no value for one; use evidence()")
    per_tensor = compute(models, [found.feature], layers, cache=cache)[found.feature.name]
    return combine_statistics(per_tensor, len(models), how or found.combine)


def evidence(
    models: ModelSet,
    name: str,
    layers: Layers,
    rng: np.random.Generator | None = None,
    *,
    how: str | None = None,
    stage: Stage = "specialisation",
    cache: Cache = "default",
    progress: bool = False,
) -> Array:
    """Returns what a direction score says of all pairs, (n, n), antisymmetric: positive at [i, j] says i -> j, 0 cannot tell.

    Args:
        models: The models; ``oracle`` reads their ``told.truth``.
        name: A key of :data:`DIRECTIONS`.
        layers: Which tensors; those where the score is undefined (constant tensors) are left out.
        rng: What ``random`` tosses with; no other score uses it.
        how: How tensors are combined: ``elements``, ``sum`` or ``vote``; None for the score's own way, the only one of ``learned``.
        stage: ``generalisation`` turns the scores round whose sign depends on the stage.
        cache: Where per-tensor results are kept; see :func:`mothr.benchmark.weights.features.compute`.
        progress: Whether to show a bar on stderr.

    Raises:
        MothrError: an unknown name, or a score that is undefined for all tensors.
    """
    found, n = find_direction(name), len(models)
    if name == "learned":
        return log_odds(lambda other, rule: evidence(models, other, layers, how=rule, cache=cache, progress=progress))
    if (feature := found.feature) is None:
        return _coin(n, rng) if name == "random" else _truth(models)

    def answer() -> Array:
        if found.parent == "pair":
            return combine_pairs(
                stream(models, feature, layers, cache=cache, progress=progress), n, how or found.combine
            )
        per_tensor = compute(models, [feature], layers, cache=cache, progress=progress)[feature.name]
        if all(np.isnan(array).all() for _, array in per_tensor.values()):
            count = len(per_tensor)
            raise MothrError(
                f"direction {name!r} is undefined for all {count} tensors of layers {str(layers)!r}; choose others"
            )
        turned = (found.parent == "lower") != (found.staged and stage == "generalisation")
        scores = combine_pairs(per_tensor, n, how or found.combine)
        return -scores if turned else scores

    return remember(models, ("direction", name, layers, how, stage), answer, cache)


def pair_scores(
    models: ModelSet,
    name: str,
    pairs: NDArray[np.intp],
    layers: Layers,
    rng: np.random.Generator | None = None,
    *,
    how: str | None = None,
    stage: Stage = "specialisation",
    cache: Cache = "default",
) -> Array:
    """Returns what a direction score says of m given pairs, (m,): positive for row (i, j) says i -> j, 0 cannot tell.

    As :func:`evidence`, but a score that must look at every weight of both models does so for these pairs alone.
    """
    found, pairs = find_direction(name), np.asarray(pairs, dtype=np.intp).reshape(-1, 2)
    if name == "learned":
        return log_odds(lambda other, rule: pair_scores(models, other, pairs, layers, how=rule, cache=cache))
    if found.feature is not None and found.feature.on_pairs is not None:
        per_tensor = compute_pairs(models, found.feature, layers, pairs, cache=cache)
        return np.nan_to_num(combine_scores(per_tensor.items(), how or found.combine), nan=0.0)
    return evidence(models, name, layers, rng, how=how, stage=stage, cache=cache)[pairs[:, 0], pairs[:, 1]]


def _coin(n: int, rng: np.random.Generator | None) -> Array:
    if rng is None:
        raise MothrError("direction 'random' needs a random generator: pass rng")
    upper = np.triu(rng.choice([-1.0, 1.0], size=(n, n)), 1)
    return upper - upper.T


def _truth(models: ModelSet) -> Array:
    truth = models.given.truth
    if truth is None:
        raise MothrError("direction 'oracle' needs the truth; it can only be run on a data set whose truth is open")
    ids = models.ids
    above = np.array([[float(first in truth.ancestors(second)) for second in ids] for first in ids])
    return above - above.T


def catalogue() -> list[dict[str, str]]:
    """Returns a row for each direction score: name, description, parent, combination over tensors, source."""
    return [
        {
            "name": name,
            "description": item.description,
            "parent": {"pair": "first of the pair"}.get(item.parent, item.parent)
            + (" (the other in generalisation)" if item.staged else ""),
            "combine": item.combine,
            "source": item.source,
        }
        for name, item in DIRECTIONS.items()
    ]
