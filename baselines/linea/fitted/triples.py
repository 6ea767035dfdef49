"""Statistics of triples: how well "g -> s -> c" explains the weights of three models.

Let u = s - g be the update of the alleged parent s, and D(x, y) = |x - y|^2 in one matrix. The coefficient of u in c - g is

    K = <u, c - g> / |u|^2 = (D(g, s) + D(g, c) - D(s, c)) / (2 D(g, s)).

A child starts from s, so K is near 1. A sibling of s that started from g has K near 0. Two siblings whose updates are
correlated may have any K, also one far above 1. The share of the child's way c - s that reverts u is

    U = -<c - s, u> / |c - s|^2 = (1 - K) |u|^2 / |c - s|^2.

It is near 0 for a child, 1/2 for a sibling with an update of equal length, and 1 if c lies between g and s. All of this
follows from squared distances, so no weight is read for a triple.
"""

from dataclasses import dataclass, field

import numpy as np

from mothr.baselines.linea.fitted.candidates import Candidates
from mothr.benchmark.weights.combine import Array

COEFFICIENT_RANGE = (-2.0, 3.0)
"""The coefficient of one matrix is cut to this range before a mean over matrices is taken, so that the mean is not that of
one matrix in which g and s hardly differ. It leaves two units below a sibling (0) and above a child (1)."""
UNKNOWN = 0.5
"""Coefficient of a triple of which no matrix tells anything: as far from a sibling as from a child."""
LARGEST_ERROR = 0.2
"""Standard error of the coefficient at which it counts by half. Child and sibling are 1 apart, five of these errors."""


@dataclass
class TripleSums:
    """Sums over matrices for all triples of candidates; :meth:`add_matrix` takes one matrix after the other."""

    candidates: Candidates
    """The candidates of each model."""
    sums: dict[str, Array] = field(default_factory=dict)
    """The sums by name, (n, k, k) each."""
    coefficients: list[Array] = field(default_factory=list)
    """K of each matrix, (n, k, k) float32; NaN where the matrix tells nothing."""

    def add_matrix(self, squared: Array, elements: int) -> None:
        """Adds one matrix.

        Args:
            squared: D, (n, n) squared distances; NaN if a model lacks the matrix.
            elements: Number of weights of the matrix.
        """
        positive = squared[squared > 0]
        if not positive.size:
            return
        c, s, g = (
            self.candidates.children[:, :, None],
            self.candidates.parents[:, :, None],
            self.candidates.grandparents,
        )
        update, way, last = squared[g, s], squared[g, c], np.broadcast_to(squared[s, c], g.shape)
        held = np.isfinite(update) & np.isfinite(way) & np.isfinite(last)
        counted = self.candidates.is_triple & held & (update > 0)
        product = np.where(counted, update + way - last, 0.0) / 2
        coefficient = np.divide(product, update, out=np.full(update.shape, np.nan), where=counted)
        scale = float(np.median(positive))
        weight = np.where(counted, update / scale, 0.0)
        # Variance of one weight of the child's own update. A part of the smallest distance keeps equal models finite.
        variance = (
            np.minimum(np.where(counted, way, 1.0), np.where(counted, last, 1.0)) + 1e-4 * positive.min()
        ) / elements
        self._add("coefficient", weight * np.clip(np.nan_to_num(coefficient), *COEFFICIENT_RANGE))
        self._add("weight", weight)
        self._add("product", product / variance)
        self._add("precision", np.where(counted, update, 0.0) / variance)
        self._add("update", np.where(held, update, 0.0) / scale)
        self._add("last", np.where(held, last, 0.0) / scale)
        self.coefficients.append(coefficient.astype(np.float32))

    def _add(self, name: str, values: Array) -> None:
        self.sums[name] = self.sums[name] + values if name in self.sums else values

    def statistics(self) -> dict[str, Array]:
        """Returns the statistics by name, (n, k, k) each, at [c, i, j]; all are 0 where g, s and c are not three models."""
        shape = self.candidates.grandparents.shape
        if not self.coefficients:
            return dict.fromkeys(NAMES, np.zeros(shape))
        total, known = self.sums, self.sums["weight"] > 0
        mean = np.where(known, total["coefficient"] / np.where(known, total["weight"], 1.0), UNKNOWN)
        precise = np.where(known, total["product"] / np.where(known, total["precision"], 1.0), UNKNOWN)
        # A share of 1 / (1 + (error / LARGEST_ERROR)^2), where the squared error is one over the precision.
        trust = np.where(known, 1 / (1 + 1 / np.where(known, total["precision"], 1.0) / LARGEST_ERROR**2), 0.0)
        median = np.where(known, _median(np.stack(self.coefficients)), UNKNOWN)
        reverted = np.where(known, (1 - mean) * total["update"] / np.maximum(total["last"], 1e-12), 0.0)
        values = {
            "mean": mean - UNKNOWN,
            "kept": 0.5 - np.clip(reverted, -1, 2),
            **_around("precise", precise, trust),
            **_around("median", median, np.where(known, 1.0, 0.0)),
        }
        return {f"update.{name}": np.where(self.candidates.is_triple, value, 0.0) for name, value in values.items()}


def _around(name: str, coefficient: Array, trust: Array) -> dict[str, Array]:
    """Returns three statistics of a coefficient: minus its excess over 1, minus its lack below 1, and its distance from 0."""
    return {
        f"{name}_not_above": -trust * np.maximum(0, coefficient - 1),
        f"{name}_not_below": -trust * np.maximum(0, 1 - coefficient),
        f"{name}_not_zero": trust * np.abs(coefficient),
    }


def _median(coefficients: Array) -> Array:
    """Returns the median over matrices, of (matrices, n, k, k), where a matrix is not NaN; UNKNOWN if all are."""
    nothing = np.isnan(coefficients).all(axis=0)
    median: Array = np.nanmedian(np.where(nothing, UNKNOWN, coefficients), axis=0)
    return median


NAMES = tuple(
    f"update.{name}"
    for name in (
        "mean",
        "kept",
        *(f"{kind}_not_{what}" for kind in ("precise", "median") for what in ("above", "below", "zero")),
    )
)
"""The names of the statistics."""
