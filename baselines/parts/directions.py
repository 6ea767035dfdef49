"""Direction scores: which of two related models is the parent.

A score is one number for each model, which is compared along an edge, or one number for each pair. ``learned`` is a weighted
sum of other scores; see :mod:`mothr.baselines.parts.learned`. ``README.md`` in the folder above says how to add one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.baselines.parts import statistics
from mothr.baselines.parts.distances import energies, flat
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
"""MoTHer's training stage: during specialisation the parent has the higher kurtosis, during generalisation the child."""
SAME = 1e-12
"""Largest standard deviation of a residual, in units of that of the weights, at which two tensors count as equal up to scale.

It lies between the rounding of float64 (2e-16 times the root of the element count) and any update that float32 can store (6e-8)."""

# --- pair scores ---


def norm_ratio(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns (|v|^2 - |u|^2) / |v - u|^2 at [u, v], (k, k); NaN if u equals v.

    It is near +1 if v is u plus an independent update.
    """
    return _norm_growth(energies(flat(stack)), stack[0].numel())


def _norm_growth(sums: tuple[Array, ...], elements: int) -> Array:
    squared, first, second = sums
    return (second - first) / np.where(squared > 0, squared, np.nan)


def residual_independence(stack: torch.Tensor, dtypes: tuple[str, ...], pairs: NDArray[np.intp]) -> Array:
    """Returns how much better "u -> v" explains each pair (u, v) than "v -> u", (m,) float64; NaN if v is a multiple of u.

    The idea is that of LiNGAM (Shimizu et al. 2006; for pairs Hyvarinen and Smith 2013). A child is v = b u + update, and the
    update is independent of the parent u. The residual of the wrong regression depends on its regressor, unless both are
    Gaussian. With x, y the standardised weights of u, v and r = corr(x, y), the residuals are e_y = y - r x and
    e_x = x - r y. Dependence is f(e, z) = |corr(tanh(e / std(e)), z)| + |corr(e, tanh(z))|. The score is
    f(e_x, y) - f(e_y, x), positive for u -> v.

    Args:
        stack: (k, *shape), one tensor of k models.
        dtypes: How they are stored; not used.
        pairs: (m, 2) positions in the stack.
    """
    rows = flat(stack)
    scores = np.full(len(pairs), np.nan)
    for start in range(0, len(pairs), step := max(1, CHUNK // (8 * rows.shape[1]))):
        chosen = torch.from_numpy(np.asarray(pairs[start : start + step], dtype=np.int64))
        x, y = (_standardised(rows[side].double()) for side in chosen.T)
        r = (x * y).mean(dim=1, keepdim=True)
        e_x, e_y = x - r * y, y - r * x
        score = _dependence(e_x, y) - _dependence(e_y, x)
        same = e_x.square().mean(dim=1).sqrt() < SAME
        scores[start : start + step] = score.masked_fill(same, torch.nan).numpy()
    return scores


def _standardised(rows: torch.Tensor) -> torch.Tensor:
    """Returns rows of mean 0 and standard deviation 1; NaN for constant ones."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    return centred / centred.square().mean(dim=1, keepdim=True).sqrt()


def _dependence(e: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Returns f(e, z) of rows (m, elements), (m,); see :func:`residual_independence`."""
    e = _standardised(e)
    return (_standardised(torch.tanh(e)) * z).mean(dim=1).abs() + (e * _standardised(torch.tanh(z))).mean(dim=1).abs()


def _residual_independence_of_all_pairs(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    first, second = np.triu_indices(len(stack), 1)
    scores = np.zeros((len(stack), len(stack)))
    scores[first, second] = residual_independence(stack, dtypes, np.stack([first, second], axis=1))
    scores -= scores.T
    np.fill_diagonal(scores, np.nan)
    return scores


# --- features of one tensor ---


def statistic_of_weights(function: Callable[[Array], Array]) -> Feature:
    """Returns the feature that applies ``function``, (k, elements) -> (k,), to the weights of a tensor; named as the function."""
    return Feature(function.__name__, 1, "statistic", partial(_by_weights, function))


def _by_weights(function: Callable[[Array], Array], stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    rows = flat(stack)
    parts = rows.split(max(1, CHUNK // rows.shape[1]))
    return np.concatenate([function(part.double().numpy()) for part in parts])


def statistic_of_spectrum(function: Callable[[Array], Array]) -> Feature:
    """Returns the feature that applies ``function``, (k, smaller side) -> (k,), to the singular values of a tensor."""
    return Feature(function.__name__, 1, "statistic", partial(_by_spectrum, function))


def _by_spectrum(function: Callable[[Array], Array], stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    matrices = as_matrices(stack)
    parts = matrices.split(max(1, CHUNK // matrices[0].numel()))
    return function(torch.cat([torch.linalg.svdvals(part.double()) for part in parts]).numpy())


# --- the table ---


@dataclass(frozen=True, slots=True)
class Direction:
    """A direction score: a number for each tensor, its sign, and how tensors are combined."""

    feature: Feature | None
    """What is computed of each tensor; None for ``learned``, ``random`` and ``oracle``."""
    parent: Literal["higher", "lower", "pair"]
    """The parent has the ``higher`` or the ``lower`` value; ``pair``: u is the parent if the score of (u, v) is positive."""
    combine: str
    """How tensors are combined by default: ``elements``, ``sum`` or ``vote``;
    see :func:`mothr.benchmark.weights.combine.combine_scores`."""
    description: str
    """The score in one line."""
    source: str
    """Paper, or "this project"."""
    staged: bool = False
    """Whether the sign is reversed in the stage ``generalisation``; ``parent`` is that of ``specialisation``."""


_OURS, _MOTHER, _CANDIDATE = "this project", "MoTHer (arXiv 2405.18432)", "candidate for ablations"
_KURTOSIS, _ABS_KURTOSIS = statistic_of_weights(statistics.kurtosis), statistic_of_weights(statistics.abs_kurtosis)
_NEGENTROPY, _NORM = statistic_of_weights(statistics.negentropy), statistic_of_weights(statistics.norm)
_RATIO = Feature("norm_ratio", 1, "pair", norm_ratio, slices=Slices(energies, np.add, _norm_growth))
_TO_INIT = Feature("distance_to_init", 1, "statistic", statistics.distance_to_init)
_EFFECTIVE_RANK = statistic_of_spectrum(statistics.effective_rank)
_STABLE_RANK, _SPECTRAL = (
    statistic_of_spectrum(statistics.stable_rank),
    statistic_of_spectrum(statistics.spectral_norm),
)
_LARGEST, _STD = statistic_of_weights(statistics.largest), statistic_of_weights(statistics.std)
_TAILS, _OUTLIERS = statistic_of_weights(statistics.l1_over_l2), statistic_of_weights(statistics.outliers)
_RESIDUAL = Feature("residual_independence", 1, "pair", _residual_independence_of_all_pairs, residual_independence)

DIRECTIONS = {
    "kurtosis": Direction(_KURTOSIS, "higher", "elements", "excess kurtosis", _MOTHER, staged=True),
    "abs_kurtosis": Direction(
        _ABS_KURTOSIS, "higher", "elements", "absolute excess kurtosis, one rule for both stages", _OURS
    ),
    "negentropy": Direction(_NEGENTROPY, "higher", "elements", "distance from a Gaussian, after Hyvarinen", _OURS),
    "norm": Direction(_NORM, "lower", "sum", "squared Frobenius norm: an update adds its energy", "folklore"),
    "norm_ratio": Direction(_RATIO, "pair", "elements", "growth of the squared norm over the squared distance", _OURS),
    "distance_to_init": Direction(
        _TO_INIT, "lower", "sum", "squared distance to a freshly drawn initialisation", "Neural Phylogeny (ICLR 2025)"
    ),
    "effective_rank": Direction(
        _EFFECTIVE_RANK, "lower", "sum", "exp of the entropy of the singular values", "TensorLock"
    ),
    "stable_rank": Direction(_STABLE_RANK, "lower", "sum", "squared Frobenius over squared spectral norm", _CANDIDATE),
    "spectral_norm": Direction(_SPECTRAL, "lower", "sum", "largest singular value", _CANDIDATE),
    "max_abs": Direction(_LARGEST, "lower", "sum", "largest absolute weight", _CANDIDATE),
    "l1_over_l2": Direction(
        _TAILS, "lower", "elements", "L1 over L2 norm: smaller where tails are heavy", _CANDIDATE, staged=True
    ),
    "std": Direction(_STD, "lower", "elements", "standard deviation", _CANDIDATE),
    "outliers": Direction(
        _OUTLIERS,
        "higher",
        "elements",
        f"share beyond {statistics.OUTLIER:g} standard deviations",
        _CANDIDATE,
        staged=True,
    ),
    "residual_independence": Direction(
        _RESIDUAL, "pair", "elements", "which of two the update is independent of (LiNGAM)", _OURS
    ),
    "learned": Direction(None, "pair", "elements", "log-odds by a sum of other scores, fitted on dev splits", _OURS),
    "random": Direction(None, "pair", "elements", "a coin for each pair", "lower bound"),
    "oracle": Direction(
        None, "pair", "elements", "the truth: whether the first is an ancestor of the second", "upper bound"
    ),
}
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


# --- scores of models and of pairs ---


def statistic(
    models: ModelSet, name: str, layers: Layers, *, how: str | None = None, cache: Cache = "default"
) -> Array:
    """Returns the score of each model, (n,) float64, for a direction score of one model; NaN if it is undefined.

    Args:
        models: The models.
        name: A key of :data:`DIRECTIONS` whose ``parent`` is not ``pair``.
        layers: The tensors.
        how: How tensors are combined; None for the score's default.
        cache: Where results are kept; see :func:`mothr.benchmark.weights.features.compute`.

    Raises:
        MothrError: The direction is unknown, or it is a score of pairs.
    """
    direction = find_direction(name)
    if direction.feature is None or direction.feature.kind != "statistic":
        raise MothrError(f"direction {name!r} compares two models and has no value for one; use evidence()")
    per_tensor = compute(models, [direction.feature], layers, cache=cache)[direction.feature.name]
    return combine_statistics(per_tensor, len(models), how or direction.combine)


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
    """Returns the direction scores of all pairs, (n, n) float64, antisymmetric: positive at [i, j] for i -> j, 0 if undecided.

    Args:
        models: The models; ``oracle`` reads their ``given.truth``.
        name: A key of :data:`DIRECTIONS`.
        layers: The tensors. Tensors for which the score is undefined (constant ones) are left out.
        rng: The generator of ``random``; no other score uses it.
        how: How tensors are combined: ``elements``, ``sum`` or ``vote``. None for the score's default, the only way of ``learned``.
        stage: ``generalisation`` reverses the scores whose sign depends on the stage.
        cache: Where results are kept; see :func:`mothr.benchmark.weights.features.compute`.
        progress: Whether to show a bar on stderr.

    Raises:
        MothrError: The name is unknown, or the score is undefined for all tensors.
    """
    direction, n = find_direction(name), len(models)
    if name == "learned":
        return log_odds(lambda other, rule: evidence(models, other, layers, how=rule, cache=cache, progress=progress))
    feature = direction.feature
    if feature is None:
        return _coin(n, rng) if name == "random" else _truth(models)

    def combined() -> Array:
        rule = how or direction.combine
        if direction.parent == "pair":
            return combine_pairs(stream(models, feature, layers, cache=cache, progress=progress), n, rule)
        per_tensor = compute(models, [feature], layers, cache=cache, progress=progress)[feature.name]
        if all(np.isnan(array).all() for _, array in per_tensor.values()):
            count = len(per_tensor)
            raise MothrError(
                f"direction {name!r} is undefined for all {count} tensors of layers {str(layers)!r}; choose others"
            )
        reverse = (direction.parent == "lower") != (direction.staged and stage == "generalisation")
        scores = combine_pairs(per_tensor, n, rule)
        return -scores if reverse else scores

    return remember(models, ("direction", name, layers, how, stage), combined, cache)


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
    """Returns the direction scores of m pairs, (m,) float64: positive at row (i, j) for i -> j, 0 if undecided.

    The arguments are those of :func:`evidence`, and ``pairs``, (m, 2) positions. A score that must read every weight of both
    models is computed for these pairs only.
    """
    direction, pairs = find_direction(name), np.asarray(pairs, dtype=np.intp).reshape(-1, 2)
    if name == "learned":
        return log_odds(lambda other, rule: pair_scores(models, other, pairs, layers, how=rule, cache=cache))
    if direction.feature is not None and direction.feature.on_pairs is not None:
        per_tensor = compute_pairs(models, direction.feature, layers, pairs, cache=cache)
        return np.nan_to_num(combine_scores(per_tensor.items(), how or direction.combine), nan=0.0)
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
    is_ancestor = np.array([[float(first in truth.ancestors(second)) for second in ids] for first in ids])
    return is_ancestor - is_ancestor.T


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
