"""The direction score ``learned``: a weighted sum of other scores, fitted on dev splits only and stored in ``learned.toml``.

For two related models u and v, the log-odds that u is the parent are sum_k weight_k tanh(score_k(u, v) / scale_k). Every term
is antisymmetric, so there is no constant. No term adds more than its weight. ``mothr fit-direction`` writes the file.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mothr.benchmark.weights.combine import Array

FILE = Path(__file__).with_name("learned.toml")


@dataclass(frozen=True, slots=True)
class Term:
    """One score in the sum."""

    direction: str
    """A name of ``mothr list directions``."""
    combine: str
    """How its tensors are combined; see :func:`mothr.benchmark.weights.combine.combine_scores`."""
    scale: float
    """Value of the score at which the term has 0.76 (tanh 1) of its largest size."""
    weight: float
    """Largest log-odds that the term adds."""

    def of(self, values: Array) -> Array:
        """Returns the log-odds that the term adds for scores ``values``, of the same shape."""
        return self.weight * np.tanh(values / self.scale)


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def terms() -> tuple[Term, ...]:
    """Returns the fitted terms."""
    return tuple(Term(**row) for row in _file()["terms"])


def tuned_on(direction: str) -> tuple[str, ...]:
    """Returns the splits that a direction score was fitted on; none for any other than ``learned``."""
    return tuple(_file()["fitted_on"]) if direction == "learned" else ()


def log_odds(score: Callable[[str, str], Array]) -> Array:
    """Returns the log-odds that the first of each pair is the parent, of the shape of ``score(direction, combine)``."""
    return np.sum([term.of(score(term.direction, term.combine)) for term in terms()], axis=0)
