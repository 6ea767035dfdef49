"""Statistics of one tensor, from its weights or from its singular values. Direction scores compare them along an edge.

The functions of weights take rows (k, elements) float64, one row for each of k models, and return (k,) float64. The functions
of singular values take (k, smaller side) float64, descending, and return (k,) float64. With w the N weights of a row, mean m,
the central moments are m_r = mean((w - m)^r), and z = (w - m) / sqrt(m_2).
"""

import math
import warnings
import zlib

import numpy as np
import torch
from scipy import stats

from mothr.benchmark.weights.combine import Array

SPREAD = 0.02
"""Standard deviation of new matrices in transformers (``initializer_range`` of ViT, Llama, BERT and GPT)."""
OUTLIER = 3.0
"""Standard deviations beyond which a weight is an outlier. Matrices of a few thousand weights have hardly any beyond four."""


def kurtosis(rows: Array) -> Array:
    """Returns the excess kurtosis m_4 / m_2^2 - 3 of each row (Fisher, biased); NaN for a constant row.

    MoTHer, arXiv 2405.18432: the direction score.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a constant row, for which NaN is the wanted result
        return np.asarray(stats.kurtosis(rows, axis=1))


def abs_kurtosis(rows: Array) -> Array:
    """Returns the absolute excess kurtosis of each row. It measures the distance from a Gaussian in either direction."""
    return np.abs(kurtosis(rows))


def negentropy(rows: Array) -> Array:
    """Returns Hyvarinen's approximation of the negentropy of each row, >= 0; 0 if Gaussian, NaN for a constant row.

    J = k1 mean(z exp(-z^2 / 2))^2 + k2 (mean(exp(-z^2 / 2)) - sqrt(1 / 2))^2 with k1 = 36 / (8 sqrt(3) - 9) and
    k2 = 24 / (16 sqrt(3) - 27) (Hyvarinen, New approximations of differential entropy, NIPS 1997).
    """
    z = _standardised(rows)
    bell = np.exp(-(z**2) / 2)
    odd, even = (z * bell).mean(axis=1), bell.mean(axis=1) - np.sqrt(0.5)
    return 36 / (8 * np.sqrt(3) - 9) * odd**2 + 24 / (16 * np.sqrt(3) - 27) * even**2


def norm(rows: Array) -> Array:
    """Returns the squared Frobenius norm |w|^2 of each row."""
    return (rows**2).sum(axis=1)


def largest(rows: Array) -> Array:
    """Returns the largest absolute value max |w| of each row."""
    return np.abs(rows).max(axis=1)


def std(rows: Array) -> Array:
    """Returns the standard deviation sqrt(m_2) of each row."""
    return rows.std(axis=1)


def l1_over_l2(rows: Array) -> Array:
    """Returns |w|_1 / (sqrt(N) |w|_2) of each row, in (0, 1]; smaller for heavier tails, NaN for a zero row."""
    return np.abs(rows).mean(axis=1) / _positive_or_nan(np.sqrt((rows**2).mean(axis=1)))


def outliers(rows: Array) -> Array:
    """Returns the share of weights with |z| > OUTLIER in each row; NaN for a constant row."""
    z = _standardised(rows)
    return np.where(np.isnan(z[:, 0]), np.nan, (np.abs(z) > OUTLIER).mean(axis=1))


def _standardised(rows: Array) -> Array:
    """Returns z, (k, elements); NaN for a row that is constant up to rounding (the same limit as scipy's)."""
    spread = rows.std(axis=1)
    spread[spread <= np.finfo(float).eps * np.abs(rows.mean(axis=1))] = np.nan
    return (rows - rows.mean(axis=1)[:, None]) / _positive_or_nan(spread)[:, None]


def _positive_or_nan(values: Array) -> Array:
    return np.where(values > 0, values, np.nan)


def effective_rank(values: Array) -> Array:
    """Returns exp(H(p)) with p = s / sum(s) and H the entropy, s the singular values; NaN for a zero matrix.

    Roy and Vetterli, The effective rank, EUSIPCO 2007; the direction score of TensorLock.
    """
    shares = values / _positive_or_nan(values.sum(axis=1))[:, None]
    return np.where(np.isnan(shares[:, 0]), np.nan, np.exp(stats.entropy(np.nan_to_num(shares, nan=1.0), axis=1)))


def stable_rank(values: Array) -> Array:
    """Returns sum(s^2) / max(s)^2, the squared Frobenius norm over the squared spectral norm; NaN for a zero matrix."""
    return (values**2).sum(axis=1) / _positive_or_nan(values[:, 0] ** 2)


def spectral_norm(values: Array) -> Array:
    """Returns the largest singular value."""
    return values[:, 0]


# --- distance to the initialisation ---


def initialised(shape: tuple[int, ...]) -> torch.Tensor:
    """Returns a new tensor (*shape) float64, equal for each call with this shape.

    The distribution is the default of transformers and diffusers. A matrix is Gaussian with standard deviation SPREAD. A
    kernel of three or more sides is uniform in [-b, b] with b = 1 / sqrt(fan-in), as in torch. A vector is zero; see
    :func:`distance_to_init`. Families with another initialisation (diffusers' linear layers are uniform) are not
    distinguished, since the shape of a tensor does not say what it belongs to.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(str(tuple(shape)).encode()))
    sides = [side for side in shape if side > 1]
    if len(sides) < 2:
        return torch.zeros(shape, dtype=torch.float64)
    if len(sides) == 2:
        return SPREAD * torch.randn(shape, generator=generator, dtype=torch.float64)
    return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) / math.sqrt(math.prod(shape[1:]))


def distance_to_init(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the squared distance |w - w_0|^2 to a fresh initialisation w_0, (k,) (Neural Phylogeny, Yu and Wang, ICLR 2025).

    w_0 is that of :func:`initialised`. A vector starts as zeros (biases) or ones (scales of a normalisation); the nearer of
    the two is used. The distance is squared, so that the sum over tensors is that of the whole model. w_0 is not the
    initialisation that training started from, so it is orthogonal to the weights up to chance. Up to a constant, the score
    is therefore the squared norm |w|^2.

    Args:
        stack: (k, *shape), one tensor of k models.
        dtypes: How they are stored; not used.
    """
    fresh = initialised(tuple(stack.shape[1:]))
    vector = sum(side > 1 for side in stack.shape[1:]) < 2
    squared = [
        min(float((row.double() - start).square().sum()) for start in ((fresh, fresh + 1) if vector else (fresh,)))
        for row in stack
    ]
    return np.array(squared)
