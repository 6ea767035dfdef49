"""Statistics of pairs: which candidate is nearest to a model, and which of two models was trained from the other.

s is the candidate parent of c. In one tensor of N weights, D = |s - c|^2 is the squared distance, and |x|^2 the squared norm
of x. A statistic is larger the more it speaks for s -> c. The statistics of direction change their sign if s and c change
places. The others compare s with the best other candidate of c.
"""

from dataclasses import dataclass, field

import numpy as np

from mothr.baselines.linea.fitted.candidates import Candidates
from mothr.benchmark.weights.combine import Array

FARTHEST = 50.0
"""Largest logarithm of a ratio of squared distances that counts. The smallest change of one float32 weight is 2^-24 of it. So
the ratio of two squared distances is about 2^48 N for N weights, e^49 for N = 10^7: only a distance of 0 is cut."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """What is measured on one matrix of n models; NaN if a model lacks the matrix."""

    elements: int
    """N."""
    squared: Array
    """D, (n, n)."""
    norms: Array
    """|x|^2, (n,)."""
    independence: Array
    """Residual independence of s -> c at [s, c], (n, n); see :func:`mothr.baselines.parts.directions.residual_independence`."""
    lost: Array
    """Share of the small weights of s that c has lost at [s, c], (n, n)."""


@dataclass
class PairSums:
    """Sums over tensors for each candidate s of each model c, (n, k)."""

    candidates: Candidates
    """The candidates of each model."""
    sums: dict[str, Array] = field(default_factory=dict)
    """The sums by name, (n, k) each."""

    def add_tensor(self, squared: Array) -> None:
        """Adds one tensor of any shape, also a vector. ``squared`` is D, (n, n); NaN if a model lacks the tensor."""
        distance = self.candidates.of_pairs(squared)
        self._add("tensors", np.isfinite(distance))
        self._add("equal", distance == 0)

    def add_matrix(self, matrix: Matrix) -> None:
        """Adds one matrix."""
        s, c = self.candidates.parents, self.candidates.children
        distance = self.candidates.of_pairs(matrix.squared)
        held, elements = np.isfinite(distance), matrix.elements
        distance = np.where(held, distance, 0.0)
        ranked = np.where(held, distance, np.inf)
        nearest = held & (ranked == ranked.min(axis=1, keepdims=True))
        self._add("matrices", held)
        self._add("elements", held * elements)
        positive = matrix.squared[matrix.squared > 0]
        self._add("squared", distance)
        self._add("scaled", distance / (np.median(positive) if positive.size else 1.0))
        self._add("nearest", nearest / np.maximum(nearest.sum(axis=1, keepdims=True), 1))
        score = np.nan_to_num(self.candidates.of_pairs(matrix.independence))
        self._add("differing", score != 0)
        self._add("independence", score * elements)
        self._add("independence_z", score * np.sqrt(elements))
        self._add("independence_sign", np.sign(score))
        gain = np.where(held, matrix.norms[c] - matrix.norms[s], 0.0)
        self._add("gain", gain)
        self._add("gain_share", np.clip(_ratio(gain, distance), -1, 1))
        self._add("lost", np.nan_to_num(self.candidates.of_pairs(matrix.lost)) * elements)
        self._add("regained", np.nan_to_num(self.candidates.of_pairs(matrix.lost.T)) * elements)
        self._add_decay("", np.where(held, matrix.norms[s], 0.0), (gain - distance) / 2, distance, elements)
        self._add_decay("reverse_", np.where(held, matrix.norms[c], 0.0), (-gain - distance) / 2, distance, elements)

    def _add_decay(self, prefix: str, energy: Array, product: Array, distance: Array, elements: int) -> None:
        """Adds the sums of the regression of <c - s, s> on |s|^2, weighted by one over the variance of <c - s, s> by chance."""
        weight = _ratio(elements, distance * energy)
        self._add(f"{prefix}product", product * energy * weight)
        self._add(f"{prefix}energy", energy**2 * weight)
        self._add(f"{prefix}rest", product**2 * weight)

    def _add(self, name: str, values: Array) -> None:
        self.sums[name] = self.sums[name] + values if name in self.sums else np.asarray(values, dtype=np.float64)

    def statistics(self) -> dict[str, Array]:
        """Returns the statistics by name, (n, k) each, at [c, i] for the candidate s = parents[c, i]."""
        total = self.sums
        tensors, elements = np.maximum(total["tensors"], 1), np.maximum(total["elements"], 1)
        matrices, differing = np.maximum(total["matrices"], 1), np.maximum(total["differing"], 1)
        lost = np.clip(total["lost"] / elements, 0, 1) - np.clip(total["regained"] / elements, 0, 1)
        return {
            "near.distance": _nearer(total["squared"]),
            "near.nearest": _above_others(total["nearest"] / matrices),
            "near.equal": _above_others(total["equal"] / tensors),
            "direction.independence": 100 * total["independence"] / elements,
            "direction.independence_z": total["independence_z"] / np.sqrt(differing),
            "direction.independence_sign": total["independence_sign"] / differing,
            "direction.growth": np.clip(_ratio(total["gain"], total["squared"]), -3, 3),
            "direction.growth_by_matrix": total["gain_share"] / matrices,
            "direction.decay": self._unexplained("reverse_") - self._unexplained(""),
            "direction.small_weights_lost": lost,
        }

    def _unexplained(self, prefix: str) -> Array:
        """Returns log(1 + sum of w (<c - s, s> + b |s|^2)^2), (n, k), with the decay b in [0, 1] that makes the sum least."""
        product, energy, rest = (self.sums[f"{prefix}{name}"] for name in ("product", "energy", "rest"))
        decay = np.clip(_ratio(product, energy), -1, 0)
        unexplained: Array = np.log1p(np.maximum(rest - 2 * decay * product + decay**2 * energy, 0))
        return unexplained


def _ratio(numerator: Array | float, denominator: Array) -> Array:
    """Returns the ratio where the denominator is positive, else 0."""
    ratio: Array = np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1.0), 0.0)
    return ratio


def _nearer(squared: Array) -> Array:
    """Returns log(least squared distance of another candidate / that of s), (n, k); positive for the nearest candidate alone."""
    logs = np.log(np.maximum(squared, np.finfo(float).tiny))
    return np.clip(_above_others(-logs, FARTHEST), -FARTHEST, FARTHEST)


def _above_others(values: Array, alone: float = 0.0) -> Array:
    """Returns each value less the largest one of the other candidates, (n, k); ``alone`` if there is no other."""
    if values.shape[1] < 2:
        return np.full(values.shape, alone)
    first, second = -np.sort(-values, axis=1)[:, :2].T[:, :, None]
    is_first = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(is_first, values.argmax(axis=1)[:, None], True, axis=1)
    above: Array = values - np.where(is_first, second, first)
    return above
