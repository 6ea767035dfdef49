"""Whether a model has what its alleged parent added to the model before it, tensor by tensor.

A child starts from its parent's weights, so its way from the model above holds the parent's update with coefficient 1, beside an
update of its own. Training on other data takes some of it back, and there where it was large: a child of a UNet may keep three
fifths of the first singular components of the update, and nine tenths of the last ones. A sibling is the other way round. What two models
learned alike is in the first components; of the last ones, where each of them has its own chance, it has nothing.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from mothr.baselines.precision import squared_error
from mothr.baselines.ranks import as_matrices
from mothr.benchmark.combine import Array
from mothr.benchmark.features import Feature, compute
from mothr.benchmark.layers import Key, Layers
from mothr.benchmark.weights import ModelSet

ENERGY, COMPONENTS = 0.2, 0.25
"""The last components are those that hold this share of the update's energy, but no fewer than this share of the side of its matrix; all
where it is of low rank, as LoRA's."""
NONE = 1e-3
"""Share of the largest singular value up to which there is no component."""
LAST, WHOLE = 0.7, 0.35
"""Coefficients of the last components, and of the whole update, below which a tensor lacks it. Of the tensors of true children on dev
splits, one in twenty or fewer had less than 0.72 and 0.45."""
EVEN = 0.65
"""Share of the mean coefficient, where that is above 1, that each tensor must have: who goes on the parent's way does so in all."""
SPREAD, NOISE = 0.05, 2.0
"""Standard deviation of the coefficient in a true child: of its own, and how often that which chance would give is counted."""
SIDE = 256
"""Most rows and columns of a matrix that are looked at, evenly spaced: a part of a child has its part of the update."""


def lacking(models: ModelSet, triples: NDArray[np.intp], layers: Layers) -> Array:
    """Returns the share of tensors in which a model lacks its parent's update, (m,), each weighted by how surely that can be told.

    With the singular value decomposition sum_i s_i u_i v_i^T of p - a, the update of parent p of the model a above it, the coefficient of
    some of its components in c - a, the way to the child c, is sum_i s_i u_i^T (c - a) v_i / sum_i s_i^2. What the child
    added by itself moves it by chance, more where it shares rows or columns with the update; and where the components are no
    larger than what storing the three in few bits leaves of error, the tensor hardly counts.

    Args:
        models: The models.
        triples: (m, 3) positions of child, parent, and the model above the parent.
        layers: Tensors that are looked at. Those where the parent is the model above, or that one of the three lacks, are passed
            over; where none is left the share is 0.
    """
    triples = np.asarray(triples, dtype=np.intp).reshape(-1, 3)
    keys = layers.select_from(models)
    found = np.zeros((len(keys), len(triples), 2, 2))  # of the last components and of all: coefficient and weight
    errors = _errors(models, keys, layers)
    for row, key in enumerate(keys):
        held = set(models.shapes[key])
        for column, triple in enumerate(triples.tolist()):
            if held.issuperset(triple):
                child, parent, above = as_matrices(models.stack(key[0], triple)).double()
                found[row, column] = _coefficients(child, parent, above, float(errors[row, triple].sum()))
    last, whole = (_share(found[:, :, part, 0], found[:, :, part, 1], least) for part, least in enumerate((LAST, WHOLE)))
    return np.maximum(last, whole)


def _share(coefficient: Array, weight: Array, least: float) -> Array:
    """Returns the share, by weight, of coefficients (tensors, m) that are less than they may be, (m,)."""
    total = np.where((weight > 0).any(axis=0), weight.sum(axis=0), 1.0)
    typical = (coefficient * weight).sum(axis=0) / total
    least_each = np.where(typical > 1, np.maximum(least, EVEN * typical), least)
    without: Array = np.where(coefficient < least_each, weight, 0.0).sum(axis=0)
    return without / total


def _coefficients(child: torch.Tensor, parent: torch.Tensor, above: torch.Tensor, error: float) -> list[tuple[float, float]]:
    """Returns the coefficient of the last components, and of all, each with its weight, 0 where there is no update.

    Args:
        child: One tensor of the child, (rows, columns), likewise ``parent`` and ``above``.
        parent: See ``child``.
        above: See ``child``.
        error: Squared error of an entry by storage, of the three together.
    """
    rows, columns = (torch.linspace(0, side - 1, min(side, SIDE)).long() for side in child.shape)
    child, parent, above = (matrix[rows][:, columns] for matrix in (child, parent, above))
    if torch.equal(parent, above):
        return [(0.0, 0.0), (0.0, 0.0)]
    left, size, right = torch.linalg.svd(parent - above, full_matrices=False)
    by_row = left.T @ (child - parent)
    by_column = (child - parent) @ right.T
    energy = size**2
    kept = energy + size * (by_row * right).sum(dim=1)
    chance = energy * torch.maximum(by_row.square().mean(dim=1), by_column.square().mean(dim=0))
    after = energy.flip(0).cumsum(0).flip(0)  # of a component and all behind it
    noise = error**0.5 * (child.shape[0] ** 0.5 + child.shape[1] ** 0.5)  # about the largest singular value of errors
    rank = int((size > max(NONE * float(size[0]), noise)).sum())
    first = max(0, min(int((after > ENERGY * energy.sum()).sum()), rank - int(COMPONENTS * len(size))))
    rounding = error * child.numel() / len(size)
    return [_weighted(energy[part], kept[part], chance[part], rounding) for part in (slice(first, None), slice(None))]


def _weighted(energy: torch.Tensor, kept: torch.Tensor, chance: torch.Tensor, rounding: float) -> tuple[float, float]:
    """Returns the coefficient of k components, given as (k,) each, and its weight: one over the squared deviation that is expected."""
    held = float(energy.sum())
    if held == 0:
        return 0.0, 0.0
    spread = SPREAD**2 + NOISE**2 * float(chance.sum()) / held**2 + (rounding * len(energy) / held) ** 2
    return float(kept.sum()) / held, 1 / spread


def _errors(models: ModelSet, keys: list[Key], layers: Layers) -> Array:
    """Returns the mean squared error that storing leaves of each tensor of each model, (tensors, models); 0 where a model lacks it."""
    errors = np.zeros((len(keys), len(models)))
    kept = compute(models, [_ROUNDING], layers)[_ROUNDING.name]
    for row, key in enumerate(keys):
        positions, values = kept[key]
        errors[row, list(positions)] = values
    return errors


def _mean_squared_error(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    rows = zip(as_matrices(stack), dtypes, strict=True)
    return np.array([squared_error(matrix, dtype) / matrix.numel() for matrix, dtype in rows])


_ROUNDING = Feature("rounding", 1, "statistic", _mean_squared_error)
"""The mean squared error that storing a tensor leaves, (k,)."""
