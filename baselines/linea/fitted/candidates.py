"""Candidate parents: the models of one tree that may be the parent of each model, as an array of fixed width.

Statistics of pairs have the shape (n, k): n models, and the k candidates of each. Statistics of triples have the shape
(n, k, k): model c, its candidate s = parents[c, i], and the candidate g = parents[s, j] of s, that is g -> s -> c.
So they need O(n k^2) memory instead of O(n^3).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mothr.benchmark.weights.combine import Array


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidate parents of each of n models, k for each."""

    parents: NDArray[np.intp]
    """Positions of the candidates, (n, k), the nearest first. A model is no candidate of its own."""

    @classmethod
    def nearest(cls, distances: Array, most: int) -> "Candidates":
        """Returns the ``most`` nearest models of each model, or all others if there are fewer.

        Args:
            distances: (n, n), symmetric. Of equally near models the earlier one comes first.
            most: Largest number of candidates.
        """
        lengths = distances.copy()
        np.fill_diagonal(lengths, np.inf)
        order = np.argsort(lengths, axis=1, kind="stable")
        return cls(order[:, : min(most, len(distances) - 1)])

    @property
    def children(self) -> NDArray[np.intp]:
        """The model that each candidate is a candidate of, (n, 1)."""
        return np.arange(len(self.parents), dtype=np.intp)[:, None]

    @cached_property
    def grandparents(self) -> NDArray[np.intp]:
        """Positions of g = parents[s, j] for s = parents[c, i], (n, k, k), at [c, i, j]."""
        return self.parents[self.parents]

    @cached_property
    def is_triple(self) -> NDArray[np.bool_]:
        """Whether g, s and c at [c, i, j] are three models, (n, k, k): g may be c itself."""
        return self.grandparents != self.children[:, :, None]

    @cached_property
    def slots(self) -> NDArray[np.intp]:
        """The place i of model s among the candidates of model c, (n, n) at [c, s]; -1 if it is no candidate."""
        slots = np.full((len(self.parents),) * 2, -1, dtype=np.intp)
        slots[self.children, self.parents] = np.arange(self.parents.shape[1])
        return slots

    def of_pairs(self, matrix: Array) -> Array:
        """Returns the entries [s, c] of an (n, n) array for each candidate s of each model c, (n, k)."""
        entries: Array = matrix[self.parents, self.children]
        return entries

    def matrix(self, values: Array, missing: float) -> Array:
        """Returns (n, n) with the (n, k) ``values`` of candidates s of c at [s, c], and ``missing`` everywhere else."""
        full = np.full((len(self.parents),) * 2, missing)
        full[self.parents, self.children] = values
        return full
