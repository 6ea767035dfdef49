"""Measures all statistics of the models of one tree. The weights are read once for each kind of measurement."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.baselines.linea.fitted.candidates import Candidates
from mothr.baselines.linea.fitted.pairs import Matrix, PairSums
from mothr.baselines.linea.fitted.sides import sides
from mothr.baselines.linea.fitted.triples import TripleSums
from mothr.baselines.parts.directions import DIRECTIONS
from mothr.baselines.parts.distances import DISTANCES, distances, flat
from mothr.benchmark.weights.combine import Array, TensorValues
from mothr.benchmark.weights.features import compute, compute_pairs, stream
from mothr.benchmark.weights.layers import Key, Layers
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.streaming import Feature, Pairs

SMALLEST_SIDE = 8
"""Rows and columns that a matrix has at least. A smaller one counts as a vector: chance moves its statistics."""
SMALL_SHARE = 0.25
"""Share of the weights that are small. Pruning zeroes the smallest weights, and most of these at every usual share."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The statistics of n models with k candidate parents each."""

    candidates: Candidates
    """The candidate parents."""
    pairs: dict[str, Array]
    """Statistics of a candidate and a model, (n, k) each."""
    triples: dict[str, Array]
    """Statistics of a candidate's candidate, a candidate and a model, (n, k, k) each."""
    central: Array
    """Logarithm of the mean squared distance of each model to its candidates, over the mean of all models, (n,)."""


def small_weights_lost(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the share of the small weights of s that c has lost, at [s, c], (k, k): 1 - <c, s> / <s, s> over them.

    The small weights are the smallest SMALL_SHARE of those of s that are not 0. The value is 1 if c is s after pruning, also
    after more training, and near 0 for any other child.
    """
    rows = flat(stack)
    everything = np.arange(len(rows))
    return np.stack([_lost(rows, place, everything) for place in range(len(rows))])


def _lost_by_pairs(stack: torch.Tensor, dtypes: tuple[str, ...], pairs: Pairs) -> Array:
    """Returns :func:`small_weights_lost` of m pairs (s, c), (m,)."""
    rows, lost = flat(stack), np.zeros(len(pairs))
    for place in np.unique(pairs[:, 0]):
        here = pairs[:, 0] == place
        lost[here] = _lost(rows, int(place), pairs[here, 1])
    return lost


def _lost(rows: torch.Tensor, place: int, others: NDArray[np.intp]) -> Array:
    """Returns the share of the small weights of the row ``place`` that each row of ``others`` has lost, (len(others),)."""
    sizes = rows[place].abs()
    nonzero = sizes[sizes > 0]
    if not len(nonzero):
        return np.zeros(len(others))
    limit = torch.kthvalue(nonzero, max(1, int(SMALL_SHARE * len(nonzero)))).values
    chosen = torch.nonzero((sizes > 0) & (sizes <= limit))[:, 0]
    small = rows[place, chosen].double()
    kept: Array = (rows[torch.from_numpy(others)][:, chosen].double() @ small / (small @ small)).numpy()
    return 1 - kept


LOST = Feature("small_weights_lost", 1, "pair", small_weights_lost, _lost_by_pairs)
"""The feature of :func:`small_weights_lost`."""
_NORM, _INDEPENDENCE = [
    feature for name in ("norm", "residual_independence") if (feature := DIRECTIONS[name].feature) is not None
]


def measure(models: ModelSet, layers: Layers, most_candidates: int) -> Evidence:
    """Returns the statistics of the models of one tree.

    Args:
        models: At least two models.
        layers: The tensors to compare; heads should not be among them.
        most_candidates: Number of nearest models that may be the parent of a model.

    Raises:
        MothrError: ``layers`` selects no tensor, or a weight is NaN or infinite.
    """
    matrices = _matrices(models, layers)
    candidates = Candidates.nearest(distances(models, "frobenius", matrices), most_candidates)
    pairs, triples, measured = PairSums(candidates), TripleSums(candidates), _Measured.of(models, matrices, candidates)
    for key, (positions, rms) in stream(models, DISTANCES["rms"].feature, layers):
        elements = int(np.prod(key[1]))
        squared = _scattered(rms**2 * elements, positions, len(models))
        pairs.add_tensor(squared)
        if matrices.holds(*key):
            pairs.add_matrix(measured.matrix(key, squared, elements))
            triples.add_matrix(squared, elements)
    of_triples = triples.statistics()
    of_pairs = pairs.statistics() | sides(candidates, of_triples["update.kept"])
    return Evidence(candidates, of_pairs, of_triples, _central(pairs.sums["scaled"]))


def _central(scaled: Array) -> Array:
    mean = scaled.mean(axis=1)
    central: Array = np.log(np.maximum(mean / max(float(mean.mean()), np.finfo(float).tiny), 1e-9))
    return central


def _matrices(models: ModelSet, layers: Layers) -> Layers:
    """Returns the matrices among ``layers``, without small ones; ``layers`` itself if the models are equal in all of these."""
    large = [key for key in layers.select_from(models) if _smaller_side(key[1]) >= SMALLEST_SIDE]
    chosen = replace(layers, among=frozenset(name for name, _ in large))
    return chosen if large and distances(models, "frobenius", chosen).any() else layers


def _smaller_side(shape: tuple[int, ...]) -> int:
    sides = [side for side in shape if side > 1]
    return min(sides[0], int(np.prod(sides[1:]))) if len(sides) > 1 else 1


@dataclass(frozen=True, eq=False)
class _Measured:
    """What is measured on single models and on pairs, by matrix."""

    models: ModelSet
    """The n models."""
    pairs: Pairs
    """Unordered pairs of a model and its candidate, (m, 2)."""
    norms: dict[Key, TensorValues]
    """Squared norms of the models that hold a matrix, (k,)."""
    independence: dict[Key, Array]
    """Residual independence of each pair, (m,)."""
    lost: tuple[dict[Key, Array], dict[Key, Array]]
    """Share of the small weights of the first model that the second has lost, (m,), and the reverse."""

    @classmethod
    def of(cls, models: ModelSet, layers: Layers, candidates: Candidates) -> "_Measured":
        ordered = np.stack(
            [candidates.parents.ravel(), np.repeat(np.arange(len(models)), candidates.parents.shape[1])], axis=1
        )
        pairs = np.unique(np.sort(ordered, axis=1), axis=0)
        return cls(
            models,
            pairs,
            compute(models, [_NORM], layers)[_NORM.name],
            compute_pairs(models, _INDEPENDENCE, layers, pairs),
            (compute_pairs(models, LOST, layers, pairs), compute_pairs(models, LOST, layers, pairs[:, ::-1])),
        )

    def matrix(self, key: Key, squared: Array, elements: int) -> Matrix:
        """Returns all measurements of one matrix."""
        n, (first, second) = len(self.models), self.pairs.T
        positions, norms = self.norms[key]
        independence, lost = np.zeros((n, n)), np.zeros((n, n))
        independence[first, second] = self.independence[key]
        independence[second, first] = -self.independence[key]
        lost[first, second], lost[second, first] = self.lost[0][key], self.lost[1][key]
        return Matrix(elements, squared, _scattered(norms, positions, n), independence, lost)


def _scattered(values: Array, positions: Sequence[int], n: int) -> Array:
    """Returns values (k,) or (k, k) of the models at ``positions`` as (n,) or (n, n), with NaN for all others."""
    full = np.full((n,) * values.ndim, np.nan)
    full[np.ix_(*[positions] * values.ndim)] = values
    return full
