"""A probability distribution over rooted forests of n models, given a score of each edge and of each root.

The probability of a forest F is

    P(F) = exp(sum of s[i, j] over its edges i -> j + sum of r[j] over its roots j) / Z.

The matrix-tree theorem (Tutte 1948) gives Z as the determinant of a Laplacian matrix: Z = det L with L[j, j] = exp(r[j]) +
sum over i of exp(s[i, j]) and L[i, j] = -exp(s[i, j]). The inverse of L gives the probability of every edge (Koo et al. 2007,
Structured Prediction Models via the Matrix-Tree Theorem, section 3).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.parts.arborescence import arborescence
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.combine import Array

LEAST_ODDS = 2.0**-30
"""Odds of every edge and root against the best one into the same node, at least.

The condition number of L is then at most about n / LEAST_ODDS. Float64 has 53 bits, so an edge probability keeps 53 - 30 = 23
bits, less log2 n: an error of 1e-4 for a thousand models.
"""


@dataclass(frozen=True, eq=False)
class ForestDistribution:
    """The distribution over all rooted forests. Products of weights are proportional to probabilities."""

    edges: Array
    """Weight of the edge i -> j at [i, j], (n, n), not negative; 0 on the diagonal and for edges that are not allowed."""
    roots: Array
    """Weight of j as a root, (n,), not negative."""
    log_scale: float = 0.0
    """Logarithm of the product of the factors that the weights were divided by, one factor for each node."""

    @classmethod
    def from_scores(cls, edges: Array, roots: Array) -> "ForestDistribution":
        """Returns the distribution for finite edge scores, (n, n), and root scores, (n,). The diagonal is ignored.

        Raises:
            MothrError: A shape is wrong, or a score is not finite.
        """
        n = len(roots)
        edges, roots = np.array(edges, dtype=np.float64), np.asarray(roots, dtype=np.float64)
        np.fill_diagonal(edges, 0.0) if edges.shape == (n, n) else None
        if edges.shape != (n, n) or roots.shape != (n,):
            raise MothrError(
                f"the edge scores have shape {edges.shape} and the root scores {roots.shape}; (n, n) and (n,) are needed"
            )
        if not (np.isfinite(edges).all() and np.isfinite(roots).all()):
            raise MothrError("a score of an edge or of a root is not finite; each score must be a number")
        np.fill_diagonal(edges, -np.inf)
        highest = np.maximum(edges.max(axis=0, initial=-np.inf), roots)
        weights = np.exp(edges - highest) + LEAST_ODDS
        np.fill_diagonal(weights, 0.0)
        return cls(weights, np.exp(roots - highest) + LEAST_ODDS, float(highest.sum()))

    def restricted(self, edges: NDArray[np.bool_], roots: NDArray[np.bool_]) -> "ForestDistribution":
        """Returns the distribution over the forests that have only the given edges, (n, n), and roots, (n,).

        Its normaliser over that of the whole distribution is the probability of such a forest.
        """
        return ForestDistribution(self.edges * edges, self.roots * roots, self.log_scale)

    @cached_property
    def _laplacian(self) -> Array:
        laplacian: Array = np.diag(self.edges.sum(axis=0) + self.roots) - self.edges
        return laplacian

    @cached_property
    def log_normaliser(self) -> float:
        """log Z; -inf if no forest is allowed."""
        _, log_determinant = np.linalg.slogdet(self._laplacian)
        return float(log_determinant) + self.log_scale

    @cached_property
    def probabilities(self) -> tuple[Array, Array]:
        """Probability of each edge i -> j at [i, j], (n, n), and of each root, (n,). Those into one node sum to 1."""
        inverse = np.linalg.inv(self._laplacian)
        own = np.diag(inverse)
        edges = np.clip(self.edges * (own - inverse.T), 0.0, 1.0)
        roots = np.clip(self.roots * own, 0.0, 1.0)
        total = edges.sum(axis=0) + roots
        return edges / total, roots / total

    @cached_property
    def one_root_probabilities(self) -> tuple[Array, Array]:
        """The same as ``probabilities`` under the condition that there is one root (Koo et al. 2007, the case of a single root).

        The condition is dropped if no forest has one root.
        """
        laplacian = np.diag(self.edges.sum(axis=0)) - self.edges
        laplacian[0] = self.roots
        if not np.linalg.slogdet(laplacian)[0] > 0:
            return self.probabilities
        inverse = np.linalg.inv(laplacian)
        own, crossed = np.diag(inverse).copy(), inverse.T.copy()
        own[0], crossed[0] = 0.0, 0.0
        edges = np.clip(self.edges * (own - crossed), 0.0, 1.0)
        roots = np.clip(self.roots * inverse[:, 0], 0.0, 1.0)
        total = edges.sum(axis=0) + roots
        return edges / total, roots / total

    def best_forest(self, *, one_root: bool = False) -> NDArray[np.int64]:
        """Returns the forest with the largest expected number of right parents: the parent of each node, (n,), -1 for a root.

        With ``one_root`` the forest has as few roots as the allowed edges permit: one, if they connect all nodes.
        """
        edges, roots = self.one_root_probabilities if one_root else self.probabilities
        # A root more costs more than all parents together gain, so the fewest roots are chosen.
        return arborescence(np.where(self.edges > 0, -edges, np.inf), (len(roots) + 1) * one_root - roots)

    def best_edges(self, *, one_root: bool = False) -> list[tuple[tuple[int, int], float]]:
        """Returns the (parent, child) edges of :meth:`best_forest`, each with its probability."""
        probability, _ = self.one_root_probabilities if one_root else self.probabilities
        parents = self.best_forest(one_root=one_root).tolist()
        return [
            ((parent, child), float(probability[parent, child])) for child, parent in enumerate(parents) if parent >= 0
        ]
