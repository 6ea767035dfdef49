"""Whether a model has what its alleged parent added to the model before it, tensor by tensor.

A child starts from its parent's weights, so its way from the model above holds the parent's update with coefficient 1, beside an
update of its own. Training on other data takes some of it back, and there where it was large: a child of a UNet may keep three
fifths of the first singular components of the update, and nine tenths of the last ones. A sibling is the other way round. What two models
learned alike is in the first components; of the last ones, where each of them has its own chance, it has nothing.

Two that learned the same data the same way have much of each other's last components, too, and lie nearer to each other than to their
parent. But taken for a child, such a sibling spends its way on undoing what it has not. Where two updates are of like length, that is one
half of its squared length or more, whatever they share; a child's way is its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from mothr.baselines.parts.precision import squared_error
from mothr.baselines.parts.ranks import as_matrices
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.features import Feature, compute
from mothr.benchmark.weights.layers import Key, Layers

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
SHRUNK = 0.1
"""Share of an update's energy along the weights it began with, above which these were shrunk or grew; chance gives one in their number."""
TAKEN = 0.1
"""Standard deviation, in a tensor of a true child, of the share of its way that undoes the update."""
SIDE = 256
"""Most rows and columns of a matrix that are looked at, evenly spaced: a part of a child has its part of the update."""


class Lacking(NamedTuple):
    """What m models lack of the updates of their alleged parents."""

    share: Array
    """Share of tensors that lack the update, (m,), each weighted by how surely that can be told."""
    undone: Array
    """Share of the squared way from the parent that undoes the update, (m,): as much as is sure, two standard deviations below the mean of
    all tensors in which the child went any way, those that the parent left alone included."""


def lacking(models: ModelSet, triples: NDArray[np.intp], layers: Layers) -> Lacking:
    """Returns what models lack of their parents' updates.

    With the singular value decomposition sum_i s_i u_i v_i^T of p - a, the update of parent p of the model a above it, the coefficient of
    some of its components in c - a, the way to the child c, is sum_i s_i u_i^T (c - a) v_i / sum_i s_i^2. What the child
    added by itself moves it by chance, more where it shares rows or columns with the update; and where the components are no
    larger than what storing the three in few bits leaves of error, the tensor hardly counts. With k the coefficient of the last
    components, the child undoes (1 - k) |p - a|^2 of its way |c - p|^2.

    Args:
        models: The models.
        triples: (m, 3) positions of child, parent, and the model above the parent.
        layers: Tensors that are looked at. Those that one of the three lacks are passed over, and so are those where the parent is the
            model above, save that the child undoes nothing there; where none is left both shares are 0.
    """
    triples = np.asarray(triples, dtype=np.intp).reshape(-1, 3)
    keys = layers.select_from(models)
    found = np.zeros(
        (3, 2, len(keys), len(triples))
    )  # coefficient of the last components and of all, share undone: value and weight
    errors = _errors(models, keys, layers)
    by_update: dict[tuple[int, int], list[int]] = {}
    for column, (_, parent, above) in enumerate(triples.tolist()):
        by_update.setdefault((parent, above), []).append(column)
    for row, key in enumerate(keys):
        held = set(models.shapes[key])
        for ends, columns in by_update.items():
            if not held.issuperset(ends):
                continue
            begun, before = _read(models, key[0], ends)
            update = _Update.between(begun, before)
            for column in columns:
                triple = triples[column].tolist()
                if triple[0] in held:
                    child, error = _read(models, key[0], triple[:1])[0], float(errors[row, triple].sum())
                    if update is not None:
                        found[..., row, column] = _judged(child, update, error)
                    else:
                        found[2, :, row, column] = _undone(
                            1.0, 0.0, float((child - begun).square().sum()), 0.0, error * child.numel()
                        )
    last, whole, undone = found
    share: Array = np.maximum(_share(last[0], last[1], LAST), _share(whole[0], whole[1], WHOLE))
    return Lacking(share, _at_least(undone[0], undone[1]))


def _at_least(value: Array, weight: Array) -> Array:
    """Returns the mean by weight of values (tensors, m), less two standard deviations, (m,); no less than 0."""
    total = np.where((weight > 0).any(axis=0), weight.sum(axis=0), np.inf)
    lower: Array = np.maximum(0.0, (value * weight).sum(axis=0) / total - 2 / np.sqrt(total))
    return lower


def _share(coefficient: Array, weight: Array, least: float) -> Array:
    """Returns the share, by weight, of coefficients (tensors, m) that are less than they may be, (m,).

    What chance would give a true child is taken off: the share that is expected and one standard deviation of that.
    """
    counted = weight > 0
    total = np.where(counted.any(axis=0), weight.sum(axis=0), 1.0)
    typical = np.maximum(1.0, (coefficient * weight).sum(axis=0) / total)
    least_each = np.where(typical > 1, np.maximum(least, EVEN * typical), least)
    by_chance = ndtr((least_each - typical) * NOISE * np.where(counted, weight, 1.0) ** 0.5)
    expected = (by_chance * weight).sum(axis=0) + (by_chance * (1 - by_chance) * weight**2).sum(axis=0) ** 0.5
    without: Array = (np.where(coefficient < least_each, weight, 0.0).sum(axis=0) - expected) / total
    return np.maximum(0.0, without)


def _read(models: ModelSet, name: str, positions: Sequence[int]) -> list[torch.Tensor]:
    """Returns one tensor of each model at ``positions`` as a matrix, (rows, columns), float64; a part of it if it is large."""
    matrices = as_matrices(models.stack(name, positions))
    rows, columns = (torch.linspace(0, side - 1, min(side, SIDE)).long() for side in matrices.shape[1:])
    return list(matrices[:, rows][:, :, columns].double())


@dataclass(frozen=True)
class _Update:
    """What a parent added to the model above it, left @ diag(size) @ right, (rows, columns)."""

    parent: torch.Tensor
    above: torch.Tensor
    left: torch.Tensor
    size: torch.Tensor
    right: torch.Tensor

    @classmethod
    def between(cls, parent: torch.Tensor, above: torch.Tensor) -> "_Update | None":
        """Returns the update, or None if there is none.

        What decay alone took from the model above is no part of it: that is nothing a child could have and a sibling could not.
        """
        change = parent - above
        scale = _share_of(parent, above)
        if (scale - 1) ** 2 * float(above.square().sum()) > SHRUNK * float(change.square().sum()):
            change = parent - scale * above
        if not change.square().any():
            return None
        return cls(parent, above, *torch.linalg.svd(change, full_matrices=False))

    def way(self, child: torch.Tensor) -> torch.Tensor:
        """Returns the way from the parent to a child, (rows, columns).

        Weight decay shrinks all that a child came with, its parent's update as well, and is taken back.
        """
        ours, its = _share_of(self.parent, self.above), _share_of(child, self.above)
        difference = child - self.parent
        if min(ours, its) > 0 and (its - ours) ** 2 * float(self.above.square().sum()) > SHRUNK * float(
            difference.square().sum()
        ):
            return child * (ours / its) - self.parent
        return difference


def _share_of(matrix: torch.Tensor, above: torch.Tensor) -> float:
    """Returns the coefficient of ``above`` in ``matrix``, (rows, columns) each; 1 where it is zero."""
    squared = float(above.square().sum())
    return float((matrix * above).sum()) / squared if squared > 0 else 1.0


def _judged(child: torch.Tensor, update: _Update, error: float) -> list[tuple[float, float]]:
    """Returns the coefficient of the last components, that of all, and the share undone, each with its weight, 0 where it says nothing.

    Args:
        child: One tensor of the child, (rows, columns).
        update: Its alleged parent's.
        error: Squared error of an entry by storage, of child, parent and the model above together.
    """
    way, size = update.way(child), update.size
    by_row = update.left.T @ way
    by_column = way @ update.right.T
    energy = size**2
    kept = energy + size * (by_row * update.right).sum(dim=1)
    chance = energy * torch.maximum(by_row.square().mean(dim=1), by_column.square().mean(dim=0))
    after = energy.flip(0).cumsum(0).flip(0)  # of a component and all behind it
    noise = error**0.5 * (way.shape[0] ** 0.5 + way.shape[1] ** 0.5)  # about the largest singular value of errors
    rank = int((size > max(NONE * float(size[0]), noise)).sum())
    last = slice(
        max(0, min(int((after > ENERGY * energy.sum()).sum()), rank - max(1, int(COMPONENTS * len(size))))), None
    )
    rounding = error * way.numel()
    found = [_weighted(energy[part], kept[part], chance[part], rounding / len(size)) for part in (last, slice(None))]
    deviation = float(chance[last].sum() / energy[last].sum() / energy[last].sum())
    return [*found, _undone(found[0][0], float(energy.sum()), float(way.square().sum()), deviation, rounding)]


def _undone(coefficient: float, squared: float, way: float, chance: float, rounding: float) -> tuple[float, float]:
    """Returns the share of the child's way that undoes the parent's update, and its weight; both are 0 where the way is rounding.

    Args:
        coefficient: Of the last components.
        squared: Squared length of the update; where it is 0 there is nothing to undo.
        way: Squared length of the way from the parent to the child.
        chance: Variance of ``coefficient`` by what the child added.
        rounding: Squared length of what storage leaves of error.
    """
    if way <= 4 * rounding:
        return 0.0, 0.0
    share = ((1 - coefficient) * squared - rounding) / way if squared > 0 else 0.0
    return share, 1 / (TAKEN**2 + chance * (squared / way) ** 2)


def _weighted(energy: torch.Tensor, kept: torch.Tensor, chance: torch.Tensor, rounding: float) -> tuple[float, float]:
    """Returns the coefficient of k components, given as (k,) each, and its weight: one over the squared deviation that is expected."""
    held = float(energy.sum())
    if held == 0:
        return 0.0, 0.0
    spread = SPREAD**2 + NOISE**2 * float(chance.sum()) / held / held + (rounding * len(energy) / held) ** 2
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
