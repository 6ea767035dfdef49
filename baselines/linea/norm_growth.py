"""Norm growth: whether the squared norm of a model is larger by the squared length of its update.

It is larger by that much if the update is orthogonal to the weights: |c|^2 = |p|^2 + |c - p|^2 for parent p and child c.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.parts.checks import check_at_least
from mothr.baselines.parts.directions import statistic
from mothr.baselines.parts.distances import pair_distances
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True, slots=True)
class NormGrowth:
    """How much norm growth counts beside the direction score."""

    weight: float = 0.003
    """Evidence for u -> v if v is larger than u by the whole squared distance. Unit: that of the direction score."""
    max_ratio: float = 1.5
    """Largest |growth| that counts. Unit: the squared distance. A pair with more has also lost weights to decay, or has gone
    on with the training of its root. Fine-tuned ViTs and small Llamas of the dev splits had 0.3 to 1.4, models that went
    on with their root's training 0.4 to 1.9."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "weight", "max_ratio")


def norm_growth(models: ModelSet, pairs: NDArray[np.intp], layers: Layers, max_ratio: float) -> Array:
    """Returns (|v|^2 - |u|^2) / |v - u|^2 of each pair (u, v), cut to [-1, 1], (m,) float64.

    The value is 1 if v is u plus an orthogonal update, and -1 if u is v plus such an update. It is 0 if the two models are
    equal, or if its size is above ``max_ratio``. Weight decay lowers it.

    Args:
        models: Models that all hold the tensors of ``layers``.
        pairs: (m, 2) positions in ``models.ids``.
        layers: The tensors; their squared norms are summed.
        max_ratio: Largest size before the cut; see :class:`NormGrowth`.
    """
    norms = statistic(models, "norm", layers, how="sum")
    squared = layers.elements(models) * pair_distances(models, "frobenius", pairs, layers) ** 2
    difference = norms[pairs[:, 1]] - norms[pairs[:, 0]]
    counted = (squared > 0) & (np.abs(difference) <= max_ratio * squared)
    growth: Array = np.where(counted, np.clip(difference / np.where(counted, squared, 1.0), -1.0, 1.0), 0.0)
    return growth
