"""Checks of a method's fields: each raises an error that names the field, its value and the allowed range."""

import math

from mothr.benchmark.errors import MothrError


def check_between(owner: object, low: float, high: float, *names: str) -> None:
    """Raises MothrError unless each field of ``owner`` in ``names`` is a number from ``low`` to ``high``, both included."""
    for name in names:
        value = getattr(owner, name)
        if not low <= value <= high:
            raise MothrError(f"{name} is {value}; it must lie between {low:g} and {high:g}")


def check_at_least(owner: object, low: float, *names: str) -> None:
    """Raises MothrError unless each field of ``owner`` in ``names`` is a finite number >= ``low``."""
    for name in names:
        value = getattr(owner, name)
        if not low <= value < math.inf:
            raise MothrError(f"{name} is {value}; it must be a finite number >= {low:g}")


def check_relatedness(threshold: float) -> None:
    """Raises MothrError unless ``threshold`` can be the cosine above which two models are in one tree: 0 < threshold < 1."""
    if not 0 < threshold < 1:
        raise MothrError(f"relatedness_threshold is {threshold}; it must lie between 0 and 1")
