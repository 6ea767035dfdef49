"""Whether a model learned something, by its training record."""

import math
from collections.abc import Mapping
from typing import Any

FIGURES = ("before", "after", "chance", "tested_on")
"""Keys of a training record that say whether the model learned."""


def has_figures(record: Mapping[str, Any]) -> bool:
    """Returns whether all of :data:`FIGURES` are in ``record`` and are numbers."""
    try:
        before, after, chance, count = (float(record[key]) for key in FIGURES)
    except (KeyError, TypeError, ValueError):
        return False
    return math.isfinite(before + after + chance) and 0 < count < math.inf


def learned(record: Mapping[str, Any]) -> bool:
    """Returns whether a training taught something.

    The metric after training must exceed the metric before, and chance + 2 sqrt(chance (1 - chance) / n) for n test
    samples. A small update may leave the metric unchanged. If the record has the loss on the test samples, it is
    therefore enough that this loss fell. A training that continues another one may bring nothing new. If the record
    says so, by ``continued``, it is enough that the metric after training exceeds chance.

    Args:
        record: A record with :data:`FIGURES`.
    """
    before, after, chance, count = (float(record[key]) for key in FIGURES)
    by_chance = chance + 2 * (max(chance * (1 - chance), 0.0) / count) ** 0.5
    if record.get("continued"):
        return bool(after > by_chance)
    loss_before, loss_after = record.get("test_loss_before"), record.get("test_loss_after")
    loss_fell = isinstance(loss_before, float) and isinstance(loss_after, float) and loss_after < loss_before
    return bool(after > max(before, by_chance) or loss_fell)
