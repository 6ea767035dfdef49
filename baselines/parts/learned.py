"""The direction score ``learned``: a weighted sum of other scores, fitted on dev splits alone and kept in ``learned.toml``.

For two related models u and v the log-odds that u is the parent are sum_k weight_k tanh(score_k(u, v) / scale_k): every term is
antisymmetric, so there is no constant, and none adds more than its weight, however large its score. ``mothr fit-direction`` makes the file.
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


@dataclass(frozen=True)
class Term:
    """One score in the sum."""

    direction: str
    """A name of ``mothr list directions``."""
    combine: str
    """How its tensors are combined, see :func:`mothr.benchmark.weights.combine.combine_scores`."""
    scale: float
    """The value of the score at which it says three quarters of what it ever says."""
    weight: float
    """Log-odds that it adds at most."""

    def of(self, values: Array) -> Array:
        """Returns what the term adds, of any shape, for scores ``values``."""
        return self.weight * np.tanh(values / self.scale)


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def terms() -> tuple[Term, ...]:
    """Returns the terms that were fitted."""
    return tuple(Term(**row) for row in _file()["terms"])


def tuned_on(direction: str) -> tuple[str, ...]:
    """Returns the splits whose truth had a part in the direction score: those that ``learned`` was fitted on, none for any other."""
    return tuple(_file()["fitted_on"]) if direction == "learned" else ()


def log_odds(score: Callable[[str, str], Array]) -> Array:
    """Returns the log-odds that the first of each pair is the parent, shaped as what ``score(direction, combine)`` gives."""
    return np.sum([term.of(score(term.direction, term.combine)) for term in terms()], axis=0)
