"""The inheritance test: whether a child has the update of its alleged parent, tensor by tensor.

Three models are in a line: ancestor a, parent p, child c; the parent's update is u = p - a. The test has two parts.

*Missing update.* A child starts from its parent's weights. So c - a contains u with coefficient 1, plus the child's own
update. Training on other data removes a part of u, mostly where u is large: a child of a UNet may keep three fifths of the
first singular components of u, and nine tenths of the last ones. A sibling is different: what two siblings learned alike
is in the first components of u. The last components are chance, and a sibling has nothing of them.

*Reverted update.* Two siblings that learned the same data in the same way share many of the last components too. They lie
nearer to each other than to their parent. If such a sibling is taken for a child, then its alleged update c - p mostly
removes what it does not have. For two updates of equal length that is one half of |c - p|^2 or more, whatever the two
share. A true child's update is its own, so it reverts little.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from mothr.baselines.parts.checks import check_at_least, check_between
from mothr.baselines.parts.precision import squared_error
from mothr.baselines.parts.ranks import as_matrices
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.features import compute
from mothr.benchmark.weights.layers import Key, Layers
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.streaming import Feature

Triple = tuple[int, int, int]
"""Positions of a child, its alleged parent, and the model above the parent: (c, p, a)."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """Limits and weights of the inheritance test."""

    max_missing_fraction: float = 0.11
    """Largest fraction of tensors that may lack the parent's update (``missing_update_fraction``)."""
    max_reverted_fraction: float = 0.25
    """Largest fraction of |c - p|^2 that may remove the parent's update (``reverted_fraction``). Siblings have one half or
    more, nephews one third, whatever they learned alike."""
    softness: float = 0.2
    """Width of the step from a certain to an impossible edge, as a fraction of the two limits. It moves confidence only."""
    max_siblings: int = 8
    """Number of nearest siblings of the parent that are tried as the parent instead."""
    tail_energy: float = 0.2
    """Fraction of the squared norm of u that the last singular components (the tail) hold."""
    min_tail_components: float = 0.25
    """Least number of components in the tail, as a fraction of the smaller side of the matrix. An update of low rank, as
    of LoRA, may have fewer; then all its components are in the tail."""
    rank_tolerance: float = 1e-3
    """A singular value of u counts if it is above this fraction of the largest one."""
    min_tail_coefficient: float = 0.7
    """Coefficient of the tail in c - a below which a tensor lacks the update. Of the tensors of true children on the dev
    splits, one in twenty or fewer had less than 0.72."""
    min_update_coefficient: float = 0.35
    """Coefficient of the whole u in c - a below which a tensor lacks the update; one in twenty or fewer had less than 0.45."""
    min_coefficient_ratio: float = 0.65
    """If the mean coefficient is above 1, each tensor must have at least this fraction of the mean. A model that goes on
    in the direction of u does so in all tensors."""
    coefficient_std: float = 0.05
    """Standard deviation of the coefficient between the tensors of a true child, sampling error aside."""
    sampling_std_factor: float = 2.0
    """The sampling error of a coefficient is multiplied by this factor."""
    missing_std_margin: float = 1.0
    """Standard deviations of the expected number of tensors below the limit that are forgiven, beside that number."""
    reverted_std: float = 0.1
    """Standard deviation, in one tensor of a true child, of the reverted fraction."""
    reverted_std_margin: float = 2.0
    """The reverted fraction is taken this many standard errors below its mean over tensors."""
    max_decay_energy: float = 0.1
    """Fraction of the squared norm of an update along the weights that it started from. Above it, the weights were scaled by
    decay, and the scaling is removed first. Chance gives one over the number of weights."""
    min_rounding_ratio: float = 4.0
    """A tensor counts in the reverted fraction if |c - p|^2 is above this many times its squared rounding error."""
    max_side: int = 256
    """Most rows and columns of a matrix that are used, evenly spaced. A part of c has its part of the update."""

    def __post_init__(self) -> None:
        fractions = (
            "tail_energy",
            "min_tail_components",
            "rank_tolerance",
            "max_decay_energy",
            "min_coefficient_ratio",
        )
        check_between(self, 0, 1, *fractions)
        positive = ("max_missing_fraction", "max_reverted_fraction", "softness", "coefficient_std", "reverted_std")
        check_at_least(self, 1e-12, *positive)
        margins = ("sampling_std_factor", "missing_std_margin", "reverted_std_margin", "min_rounding_ratio")
        check_at_least(self, 0, "min_tail_coefficient", "min_update_coefficient", "max_siblings", *margins)
        check_at_least(self, 2, "max_side")

    def probability(self, violation: float) -> float:
        """Returns the probability that a model with this violation (see :class:`InheritanceTest`) is a child: 1/2 at 1."""
        return float(expit((1 - violation) / self.softness))


class UpdateLoss(NamedTuple):
    """What the children of m triples lack of the updates of their alleged parents."""

    missing_update_fraction: Array
    """Fraction of tensors that lack the update, (m,), each tensor weighted by the precision of its coefficient."""
    reverted_fraction: Array
    """Fraction of |c - p|^2 that removes the update, (m,): a lower bound over the tensors in which c and p differ,
    including those in which p equals a."""


@dataclass(frozen=True)
class InheritanceTest:
    """The inheritance test of many triples. Results are kept, since trees with different roots contain the same triples."""

    models: ModelSet
    """The models of one tree."""
    layers: Layers
    """The tensors that are compared."""
    parameters: Inheritance
    """Limits and weights."""
    results: dict[Triple, float] = field(default_factory=dict)
    """The violation of each triple that was tested."""

    def __call__(self, triples: Iterable[Triple]) -> list[float]:
        """Returns the violation of each triple (child, parent, model above the parent).

        violation = max(missing_update_fraction / max_missing_fraction, reverted_fraction / max_reverted_fraction).
        A violation above 1 means that the child does not inherit the update.
        """
        requested = list(triples)
        new = sorted(set(requested) - self.results.keys())
        if new:
            missing, reverted = update_loss(self.models, np.array(new, dtype=np.intp), self.layers, self.parameters)
            violations = np.maximum(
                missing / self.parameters.max_missing_fraction, reverted / self.parameters.max_reverted_fraction
            )
            self.results.update(zip(new, violations.tolist(), strict=True))
        return [self.results[triple] for triple in requested]


def update_loss(
    models: ModelSet, triples: NDArray[np.intp], layers: Layers, parameters: Inheritance | None = None
) -> UpdateLoss:
    """Returns what the children of m triples lack of the updates of their alleged parents.

    Let u = p - a = sum_i s_i x_i y_i^T be the singular value decomposition of one tensor of the update. The coefficient of
    a set of components in c - a is

        k = sum_i s_i x_i^T (c - a) y_i / sum_i s_i^2.

    The child's own update changes k by chance, more so if it shares rows or columns with u. A tensor in which the
    components are no larger than the rounding errors of the three models hardly counts. With k of the last components,
    the child reverts (1 - k) |u|^2 of |c - p|^2.

    Args:
        models: The models.
        triples: (m, 3) positions of child, parent, and the model above the parent.
        layers: The tensors to compare. A tensor that one of the three models lacks is left out. A tensor in which p equals
            a says nothing about the missing fraction; the child reverts nothing there. If no tensor is left, both
            fractions are 0.
        parameters: Limits and weights; None for the defaults.
    """
    parameters = Inheritance() if parameters is None else parameters
    triples = np.asarray(triples, dtype=np.intp).reshape(-1, 3)
    keys = layers.select_from(models)
    # Axes: coefficient of the tail, coefficient of the whole update, reverted fraction; value and weight; tensor; triple.
    evidence = np.zeros((3, 2, len(keys), len(triples)))
    rounding = _rounding_errors(models, keys, layers)
    columns_by_update: dict[tuple[int, int], list[int]] = {}
    for column, (_, parent, ancestor) in enumerate(triples.tolist()):
        columns_by_update.setdefault((parent, ancestor), []).append(column)
    for row, key in enumerate(keys):
        holders = set(models.shapes[key])
        for update_pair, columns in columns_by_update.items():
            if not holders.issuperset(update_pair):
                continue
            parent_matrix, ancestor_matrix = _matrices(models, key[0], update_pair, parameters.max_side)
            update = _Update.between(parent_matrix, ancestor_matrix, parameters)
            for column in columns:
                triple = triples[column].tolist()
                if triple[0] in holders:
                    child = _matrices(models, key[0], triple[:1], parameters.max_side)[0]
                    error = float(rounding[row, triple].sum())
                    evidence[..., row, column] = (
                        _without_update(child - parent_matrix, error, parameters)
                        if update is None
                        else update.evidence(child, error)
                    )
    tail, whole, reverted = evidence
    missing: Array = np.maximum(
        _fraction_below(tail[0], tail[1], parameters.min_tail_coefficient, parameters),
        _fraction_below(whole[0], whole[1], parameters.min_update_coefficient, parameters),
    )
    return UpdateLoss(missing, _lower_bound(reverted[0], reverted[1], parameters.reverted_std_margin))


def _lower_bound(value: Array, weight: Array, margin: float) -> Array:
    """Returns the weighted mean of values (tensors, m), less ``margin`` standard errors, (m,); at least 0."""
    total = np.where((weight > 0).any(axis=0), weight.sum(axis=0), np.inf)
    lower: Array = np.maximum(0.0, (value * weight).sum(axis=0) / total - margin / np.sqrt(total))
    return lower


def _fraction_below(coefficient: Array, weight: Array, minimum: float, parameters: Inheritance) -> Array:
    """Returns the weighted fraction of coefficients (tensors, m) that are below their limit, (m,).

    The fraction that a true child has by chance is subtracted: its expected value and a margin of standard deviations.
    """
    counted = weight > 0
    total = np.where(counted.any(axis=0), weight.sum(axis=0), 1.0)
    typical = np.maximum(1.0, (coefficient * weight).sum(axis=0) / total)
    limit = np.where(typical > 1, np.maximum(minimum, parameters.min_coefficient_ratio * typical), minimum)
    by_chance = ndtr((limit - typical) * parameters.sampling_std_factor * np.where(counted, weight, 1.0) ** 0.5)
    spread = (by_chance * (1 - by_chance) * weight**2).sum(axis=0) ** 0.5
    expected = (by_chance * weight).sum(axis=0) + parameters.missing_std_margin * spread
    below: Array = (np.where(coefficient < limit, weight, 0.0).sum(axis=0) - expected) / total
    return np.maximum(0.0, below)


def _matrices(models: ModelSet, name: str, positions: Sequence[int], max_side: int) -> list[torch.Tensor]:
    """Returns one tensor of each model at ``positions`` as a matrix, (rows, columns) float64, at most ``max_side`` each way."""
    matrices = as_matrices(models.stack(name, positions))
    rows, columns = (torch.linspace(0, side - 1, min(side, max_side)).long() for side in matrices.shape[1:])
    return list(matrices[:, rows][:, :, columns].double())


@dataclass(frozen=True)
class _Update:
    """One tensor of the update u = p - a as its singular value decomposition left @ diag(size) @ right."""

    parent: torch.Tensor
    """p, (rows, columns)."""
    ancestor: torch.Tensor
    """a, (rows, columns)."""
    left: torch.Tensor
    """(rows, k)."""
    size: torch.Tensor
    """Singular values, (k,), descending."""
    right: torch.Tensor
    """(k, columns)."""
    parameters: Inheritance
    """Limits and weights."""

    @classmethod
    def between(cls, parent: torch.Tensor, ancestor: torch.Tensor, parameters: Inheritance) -> "_Update | None":
        """Returns the update, or None if it is zero. A part that only scales a (weight decay) is removed.

        A child cannot inherit a scaling, and a sibling cannot lack it.
        """
        update = parent - ancestor
        scale = _coefficient_of(ancestor, parent)
        if (scale - 1) ** 2 * float(ancestor.square().sum()) > parameters.max_decay_energy * float(
            update.square().sum()
        ):
            update = parent - scale * ancestor
        if not update.square().any():
            return None
        left, size, right = torch.linalg.svd(update, full_matrices=False)
        return cls(parent, ancestor, left, size, right, parameters)

    def child_update(self, child: torch.Tensor) -> torch.Tensor:
        """Returns c - p, (rows, columns), after the child's weight decay is undone: decay also shrinks the inherited u."""
        parent_scale = _coefficient_of(self.ancestor, self.parent)
        child_scale = _coefficient_of(self.ancestor, child)
        difference = child - self.parent
        if min(parent_scale, child_scale) > 0 and (child_scale - parent_scale) ** 2 * float(
            self.ancestor.square().sum()
        ) > self.parameters.max_decay_energy * float(difference.square().sum()):
            return child * (parent_scale / child_scale) - self.parent
        return difference

    def evidence(self, child: torch.Tensor, error: float) -> list[tuple[float, float]]:
        """Returns (value, weight) of the tail's coefficient, of the whole coefficient, and of the reverted fraction.

        A weight is 0 if the tensor says nothing.

        Args:
            child: One tensor of the child, (rows, columns).
            error: Squared rounding error of one entry, of child, parent and ancestor together.
        """
        difference, size = self.child_update(child), self.size
        by_row = self.left.T @ difference
        by_column = difference @ self.right.T
        energy = size**2
        retained = energy + size * (by_row * self.right).sum(dim=1)
        variance = energy * torch.maximum(by_row.square().mean(dim=1), by_column.square().mean(dim=0))
        tail = self._tail(energy, difference, error)
        rounding = error * difference.numel()
        coefficients = [
            self._coefficient(energy[part], retained[part], variance[part], rounding / len(size))
            for part in (tail, slice(None))
        ]
        tail_variance = float(variance[tail].sum() / energy[tail].sum() / energy[tail].sum())
        reverted = _reverted_fraction(
            coefficients[0][0],
            float(energy.sum()),
            float(difference.square().sum()),
            tail_variance,
            rounding,
            self.parameters,
        )
        return [*coefficients, reverted]

    def _tail(self, energy: torch.Tensor, difference: torch.Tensor, error: float) -> slice:
        """Returns the places of the last components; see :class:`Inheritance`."""
        rows, columns = difference.shape
        remaining = energy.flip(0).cumsum(0).flip(0)  # energy of a component and of all behind it
        noise = error**0.5 * (rows**0.5 + columns**0.5)  # about the largest singular value of rounding errors
        rank = int((self.size > max(self.parameters.rank_tolerance * float(self.size[0]), noise)).sum())
        start = int((remaining > self.parameters.tail_energy * energy.sum()).sum())
        least = max(1, int(self.parameters.min_tail_components * len(self.size)))
        return slice(max(0, min(start, rank - least)), None)

    def _coefficient(
        self, energy: torch.Tensor, retained: torch.Tensor, variance: torch.Tensor, rounding: float
    ) -> tuple[float, float]:
        """Returns the coefficient of k components, given as (k,) each, and its weight: one over its expected variance."""
        total = float(energy.sum())
        if total == 0:
            return 0.0, 0.0
        parameters = self.parameters
        sampling = parameters.sampling_std_factor**2 * float(variance.sum()) / total / total
        expected = parameters.coefficient_std**2 + sampling + (rounding * len(energy) / total) ** 2
        return float(retained.sum()) / total, 1 / expected


def _without_update(difference: torch.Tensor, error: float, parameters: Inheritance) -> list[tuple[float, float]]:
    """Returns the evidence of a tensor in which p equals a: no coefficients, and nothing that c - p could revert."""
    squared = float(difference.square().sum())
    reverted = _reverted_fraction(1.0, 0.0, squared, 0.0, error * difference.numel(), parameters)
    return [(0.0, 0.0), (0.0, 0.0), reverted]


def _coefficient_of(ancestor: torch.Tensor, matrix: torch.Tensor) -> float:
    """Returns the coefficient of ``ancestor`` in ``matrix``, <matrix, ancestor> / |ancestor|^2; 1 if ``ancestor`` is zero."""
    squared = float(ancestor.square().sum())
    return float((matrix * ancestor).sum()) / squared if squared > 0 else 1.0


def _reverted_fraction(
    coefficient: float,
    squared_update: float,
    squared_difference: float,
    variance: float,
    rounding: float,
    parameters: Inheritance,
) -> tuple[float, float]:
    """Returns the fraction of |c - p|^2 that reverts the update, and its weight; both are 0 if c - p is rounding error.

    Args:
        coefficient: Coefficient of the last components in c - a.
        squared_update: |u|^2; 0 if there is nothing to revert.
        squared_difference: |c - p|^2.
        variance: Variance of ``coefficient`` by the child's own update.
        rounding: Squared rounding error of the whole tensor.
        parameters: Limits and weights.
    """
    if squared_difference <= parameters.min_rounding_ratio * rounding:
        return 0.0, 0.0
    fraction = ((1 - coefficient) * squared_update - rounding) / squared_difference if squared_update > 0 else 0.0
    return fraction, 1 / (parameters.reverted_std**2 + variance * (squared_update / squared_difference) ** 2)


def _rounding_errors(models: ModelSet, keys: list[Key], layers: Layers) -> Array:
    """Returns the mean squared rounding error of each tensor of each model, (tensors, models); 0 if a model lacks it."""
    errors = np.zeros((len(keys), len(models)))
    per_tensor = compute(models, [_ROUNDING], layers)[_ROUNDING.name]
    for row, key in enumerate(keys):
        positions, values = per_tensor[key]
        errors[row, list(positions)] = values
    return errors


def _mean_squared_error(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    rows = zip(as_matrices(stack), dtypes, strict=True)
    return np.array([squared_error(matrix, dtype) / matrix.numel() for matrix, dtype in rows])


_ROUNDING = Feature("rounding", 1, "statistic", _mean_squared_error)
"""The mean squared rounding error of a tensor as stored, (k,)."""
