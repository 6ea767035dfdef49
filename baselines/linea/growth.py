"""Growth: whether the squared norm of a model grew by the energy of its update, as where the update is independent of the weights."""

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.parts.directions import statistic
from mothr.baselines.parts.distances import pair_distances
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers

PLAIN = 1.5
"""Growth beyond which, either way, more is at work than an update: weights shrink by decay, or grow as the training of a root goes on.
Of fine-tuned ViTs and small Llamas on dev splits but for ``vit-regimes-dev``, 0.3 to 1.4 was seen; of those that went on with a root's own,
0.4 to 1.9; on two of the six edges of ``smollm2-ft-dev``, more."""


def growth(models: ModelSet, pairs: NDArray[np.intp], layers: Layers) -> Array:
    """Returns (|v|^2 - |u|^2) / |v - u|^2 of each pair (u, v) over all tensors of ``layers``, (m,); 0 where it is beyond :data:`PLAIN`.

    It is 1 if v is u and an update orthogonal to it, -1 if u is v and such an update; at most 1 of what is returned. It tells parent
    from child where weights are so Gaussian, or updates so small, that no score of their distribution does; weight decay undoes it.

    Args:
        models: Models that all hold the tensors of ``layers``.
        pairs: (m, 2) positions in ``models.ids``.
        layers: Which tensors.
    """
    norms = statistic(models, "norm", layers, how="sum")
    squared = layers.elements(models) * pair_distances(models, "frobenius", pairs, layers) ** 2
    grown = norms[pairs[:, 1]] - norms[pairs[:, 0]]
    told = (squared > 0) & (np.abs(grown) <= PLAIN * squared)
    found: Array = np.where(told, np.clip(grown / np.where(told, squared, 1.0), -1.0, 1.0), 0.0)
    return found
