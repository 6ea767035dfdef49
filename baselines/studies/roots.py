"""The root of a Model Tree: the excess kurtosis of its weights, and how much of its initial weights weight decay has left.

Whether kurtosis tells parent from child depends on both. So each result on kurtosis is grouped by them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.parts.directions import DIRECTIONS
from mothr.benchmark.data.dataset import TruthNode
from mothr.benchmark.weights.checkpoint import Checkpoint
from mothr.benchmark.weights.features import compute
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

ROOT_LAYERS = MOTHER_V2.direction_layers
"""Tensors whose kurtosis is a root's own: those that MoTHer's score uses, the square output matrices of attention."""
KURTOSIS_LIMITS = (-0.5, 0, 0.5, 1.5)
"""Limits of the classes of a root's kurtosis. A uniform distribution has -1.2, a Gaussian 0, a Laplace distribution 3. An update that
does not depend on the weights moves kurtosis towards 0, so that its sign matters most."""
DECOUPLED = ("adamw", "adafactor", "sign")
"""Optimizers that multiply a weight by 1 - rate * decay in each step, apart from the gradient."""
INITIAL_SHARE_LIMITS = (0.1, 0.5, 0.8, 0.9)
"""Limits of the classes of the share of the initial weights."""


def root_kurtosis(root: Checkpoint) -> float | None:
    """Returns the mean excess kurtosis (Fisher, biased) of the root's :data:`ROOT_LAYERS`; None if it is undefined.

    Each matrix has one value, m_4 / m_2^2 - 3 over all its weights, and counts equally: the mean is the score of MoTHer,
    which is their sum, over their number. It is undefined if the root has no such matrix, or if all are constant.
    """
    models, layers, feature = ModelSet((root,)), Layers.parse(ROOT_LAYERS), DIRECTIONS["kurtosis"].feature
    if feature is None or not any(layers.holds(name, shape) for name, shape in models.shapes):
        return None
    per_tensor = compute(models, [feature], layers)[feature.name]
    values = np.array([array[0] for _, array in per_tensor.values()])
    return None if np.isnan(values).all() else float(np.nanmean(values))


def root_sizes(root: Checkpoint) -> tuple[int | None, int]:
    """Returns the width and the number of layers of a model: the rows of its first :data:`ROOT_LAYERS` matrix, and their number.

    The width is None, and the number 0, if the model has no such matrix. The first is that of the first name in the alphabet.
    """
    layers = Layers.parse(ROOT_LAYERS)
    rows = [shape[0] for name, shape in root.shapes if layers.holds(name, shape)]
    return (rows[0] if rows else None, len(rows))


def root_training(records: Sequence[TruthNode]) -> dict[str, float | str | None]:
    """Returns ``root_steps``, ``root_optimizer`` and ``root_weight_decay`` of the roots of a tree; None where one is not recorded.

    Numbers are means over the roots, names are joined by "and".

    Args:
        records: What the truth records of the roots.
    """
    trainings = [record.training or {} for record in records]
    optimizers = sorted({name for training in trainings if (name := training.get("optimizer"))})
    return {
        "root_steps": mean_of_known(training.get("steps") for training in trainings),
        "root_optimizer": " and ".join(optimizers) or None,
        "root_weight_decay": mean_of_known(training.get("weight_decay") for training in trainings),
    }


def tree_shape(records: Iterable[TruthNode]) -> str | None:
    """Returns the shape that was drawn for a tree, such as ``chain``; None if the truth does not record it.

    Args:
        records: What the truth records of the models of the tree.
    """
    shapes = {shape for record in records if (shape := (record.drawn or {}).get("topology.shape"))}
    return " and ".join(sorted(shapes)) or None


def is_original_root(record: TruthNode) -> bool:
    """Returns whether the truth describes a root of a Model Tree, and not a model whose root is withheld.

    A model whose ancestors are all withheld has no parents in the data set either, but it has a relation to them, a depth
    above 0, or a number of withheld models.
    """
    return not (record.parents or record.relation or record.depth or record.withheld)


def kind_of_node(record: TruthNode) -> str:
    """Returns how a model was made from its parents: full, lora, pretraining, merge, quantized, pruned, ..."""
    if record.relation in ("merge", "quantized"):
        return record.relation
    return record.subtype or record.relation or "unrecorded"


def initialisation(records: Iterable[TruthNode]) -> str | None:
    """Returns the distribution that the root weights of a tree were drawn from; None if the truth does not record it.

    If the root's own training was saved from its first step, the record is at the node where that training ended.

    Args:
        records: What the truth records of the models of the tree.
    """
    recorded = {init for record in records if (init := (record.training or {}).get("init"))}
    return " and ".join(sorted(recorded)) or None


def initial_share(training: Mapping[str, Any]) -> float | None:
    """Returns the share of each initial weight that weight decay has left at the end of a training, in [0, 1].

    Decoupled weight decay multiplies a weight by 1 - lr_t decay in step t, so the share is the product over all steps.
    Here it is exp(-decay sum_t lr_t), which is the same to first order. The sum follows from the steps, the largest
    learning rate, the warm-up and the schedule.

    Args:
        training: Record of the training in the truth. A record without ``schedule`` means a cosine to zero.

    Returns:
        The share; 1 without weight decay. None if the record lacks a value, or if the optimizer is none of
        :data:`DECOUPLED`: then weight decay is a part of the gradient, and the share depends on the gradients.
    """
    if training.get("weight_decay") == 0:
        return 1.0
    names = ("steps", "learning_rate", "weight_decay", "warmup")
    if training.get("optimizer") not in DECOUPLED or any(training.get(name) is None for name in names):
        return None
    steps, rate, decay, warmup = (float(training[name]) for name in names)
    rising = max(1.0, round(warmup * steps))
    rest = max(0.0, steps - rising)
    # Sums over steps: (rising + 1) / 2 of a linear rise, and (rest + 1) / 2 of a fall to zero, linear or along a cosine.
    after = rest if training.get("schedule") == "constant" else (rest + 1) / 2 if rest else 0.0
    return float(np.exp(-decay * rate * ((rising + 1) / 2 + after)))


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Returns the mean of the values that are not None; None if there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def interval_name(value: float, limits: Sequence[float]) -> str:
    """Returns the name of the interval between two of the ascending ``limits`` that holds ``value``.

    The lower limit belongs to an interval, the upper one to the next.
    """
    return interval_names(limits)[int(np.searchsorted(limits, value, side="right"))]


def interval_names(limits: Sequence[float]) -> list[str]:
    """Returns the names of the intervals that ascending ``limits`` separate, in ascending order."""
    between = [f"{low:g} to {high:g}" for low, high in pairwise(limits)]
    return [f"below {limits[0]:g}", *between, f"{limits[-1]:g} or more"]
