"""Distributions: what a field of a drawn recipe may hold instead of a value, and how its value is drawn.

A distribution is a TOML table with exactly one of the keys in :data:`KINDS`. Examples:
``{ choice = ["adamw", "sgd"], weights = [3, 1] }``, ``{ uniform = [2, 6] }``, ``{ log_uniform = [1e-5, 3e-3] }``,
``{ sample = ["digits", "shape-x"], size = 2 }``, ``{ chance = 0.1, value = 0.01 }``.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import AfterValidator, Field, ValidationError, model_validator

from mothr.benchmark.errors import MothrError
from mothr.benchmark.faults import faults
from mothr.generators.values.training import Fraction, Table

KINDS = ("choice", "uniform", "log_uniform", "sample", "chance")
"""The keys that make a table a distribution."""
Scope = Literal["recipe", "kind", "tree", "edge"]
"""How often a field is drawn: once a recipe, once for each ``[[edges]]`` entry, once a tree, or once an edge."""
DIGITS = 4
"""Significant digits of drawn real numbers. Fewer digits than a float has make a draw the same on all machines."""


class _Absent:
    """The result of a ``chance`` that does not come true: the field is left out."""


ABSENT = _Absent()
LARGEST = 2**63
"""Integers from here on cannot be drawn, because NumPy draws them with 64 bits."""


def _number(value: Any) -> Any:
    """Returns ``value``; raises ValueError if it is no number, or too large to be drawn."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
        raise ValueError(f"{value!r} is not a number below 2^63; give a finite number")
    return value


Number = Annotated[Any, AfterValidator(_number)]


class Distribution(Table):
    """What the value of a field is drawn from."""

    choice: tuple[Any, ...] | None = None
    """The options. An option may be a table that holds distributions itself."""
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Relative frequencies of the options; absent: all are equal."""
    also: dict[str, Any] | None = None
    """With options that are tables: fields that every option has, unless it names its own value for them."""
    uniform: tuple[Number, Number] | None = None
    """Smallest and largest value of a uniform distribution. If both are integers, integers are drawn."""
    log_uniform: tuple[Number, Number] | None = None
    """Smallest and largest value. The logarithm is uniform. If both are integers, the value is rounded to one."""
    sample: tuple[Any, ...] | None = None
    """A list, from which ``size`` different items are drawn."""
    size: Any = None
    """Number of items of a sample; it may be a distribution."""
    chance: Fraction | None = None
    """The probability that the field has the value ``value``. Otherwise the field is left out."""
    value: Any = None
    """The value of a field with a ``chance``; it may be a distribution."""
    per: Scope | None = None
    """How often the field is drawn. Absent: once an edge inside ``[[edges]]``, and once a tree elsewhere."""
    at_most: str | None = None
    """Name of a field of ``[model]``. Drawn numbers are at most the value of this field."""

    @model_validator(mode="after")
    def _check(self) -> "Distribution":
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"a distribution has exactly one of {', '.join(KINDS)}")
        for kind in ("choice", "sample"):
            if getattr(self, kind) == ():
                raise ValueError(f"{kind}: the list of options is empty; name at least one option")
        for kind in ("uniform", "log_uniform"):
            ends = getattr(self, kind)
            if ends is not None and ends[0] > ends[1]:
                raise ValueError(
                    f"{kind}: the range [{ends[0]:g}, {ends[1]:g}] is empty; name the smaller number first"
                )
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform: {self.log_uniform[0]:g} has no logarithm; the range must be above 0")
        if self.weights is not None and len(self.weights) != len(self.choice or ()):
            raise ValueError(
                f"weights: {len(self.weights)} weights for {len(self.choice or ())} options of choice; give one for each"
            )
        for name, owner in (("size", "sample"), ("value", "chance")):
            if (getattr(self, name) is None) != (getattr(self, owner) is None):
                raise ValueError(f"{owner} and {name} belong together; give both or neither")
        if self.also is not None and not all(isinstance(option, Mapping) for option in self.choice or (None,)):
            raise ValueError("also: adds fields to the options of choice, so every option must be a table")
        if self.at_most is not None and (self.sample is not None or self.chance is not None):
            raise ValueError("at_most: only choice, uniform and log_uniform draw numbers; remove it")
        return self

    def draw(self, rng: np.random.Generator, largest: float = math.inf) -> Any:
        """Returns one value, :data:`ABSENT`, or for a sample the list of its items in their order of drawing.

        Args:
            rng: The generator of the draw.
            largest: The largest number that may be drawn.

        Raises:
            ValueError: No number is small enough, or the sample is larger than its list.
        """
        if self.choice is not None:
            return self._option(rng, largest)
        if self.sample is not None:
            if not isinstance(self.size, int) or not 0 < self.size <= len(self.sample):
                raise ValueError(
                    f"size: {self.size!r} items cannot be drawn from {len(self.sample)}; "
                    f"give a whole number from 1 to {len(self.sample)}"
                )
            return [self.sample[index] for index in rng.permutation(len(self.sample))[: self.size]]
        if self.chance is not None:
            return self.value if rng.random() < self.chance else ABSENT
        return self._drawn_number(rng, largest)

    def _drawn_number(self, rng: np.random.Generator, largest: float) -> float:
        lowest, highest = self.uniform or self.log_uniform or (0, 0)
        whole = isinstance(lowest, int) and isinstance(highest, int)
        highest = min(highest, largest)
        if lowest > highest:
            raise ValueError(f"the smallest number, {lowest:g}, is above {self.at_most} = {largest:g}; lower the range")
        if self.log_uniform is not None:
            drawn = math.exp(rng.uniform(math.log(lowest), math.log(highest)))
            return min(max(round(drawn), int(lowest)), int(highest)) if whole else _rounded(drawn)
        return int(rng.integers(int(lowest), int(highest) + 1)) if whole else _rounded(rng.uniform(lowest, highest))

    def _option(self, rng: np.random.Generator, largest: float) -> Any:
        options = self.choice or ()
        weights = self.weights or (1.0,) * len(options)
        allowed = [
            index
            for index, option in enumerate(options)
            if not (isinstance(option, int | float) and not isinstance(option, bool) and option > largest)
        ]
        if not allowed:
            raise ValueError(f"choice: every option is above {self.at_most} = {largest:g}; add a smaller option")
        shares = np.array([weights[index] for index in allowed])
        option = options[allowed[rng.choice(len(allowed), p=shares / shares.sum())]]
        return option if self.also is None else {**self.also, **option}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def is_distribution(value: Any) -> bool:
    """Returns whether ``value``, read from TOML, is a distribution."""
    return isinstance(value, Mapping) and any(kind in value for kind in KINDS)


def check_distributions(value: Any, path: str = "", scopes: Sequence[Scope] = get_args(Scope)) -> None:
    """Checks every distribution in ``value``, those inside other distributions too.

    Args:
        value: A part of a recipe, as read from TOML.
        path: Its place in the recipe, for messages.
        scopes: The values that ``per`` may have in this part.

    Raises:
        MothrError: A distribution is malformed; the message names its place.
    """
    for place, table in _distributions(value, path):
        per = _parse(table, place).per
        if per is not None and per not in scopes:
            raise MothrError(f"{place}: per: {per!r} is for fields of [[edges]]; choose from {', '.join(scopes)}")


def _distributions(value: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if is_distribution(value):
        yield path, value
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _distributions(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _distributions(part, f"{path}[{index}]")


def _parse(table: Mapping[str, Any], path: str) -> Distribution:
    try:
        return Distribution.model_validate(table)
    except ValidationError as error:
        raise MothrError(f"{path}: {'; '.join(faults(error, Distribution))}") from None


@dataclass(frozen=True, slots=True)
class Drawer:
    """Draws the fields of one part of a recipe at one scope, and records what it drew."""

    scope: Scope
    """Fields of other scopes are left as they are."""
    default: Scope
    """The scope of fields that name none."""
    generator: Callable[[str], np.random.Generator]
    """Returns the generator of the field at a path. So a draw does not depend on the other fields."""
    model: Mapping[str, Any]
    """The drawn ``[model]`` table, for ``at_most``."""
    drawn: dict[str, Any]
    """Receives path -> value of every drawn field."""
    place: str = ""
    """The recipe and the tree or node, which error messages begin with."""

    def draw(self, value: Any, path: str = "") -> Any:
        """Returns ``value`` with every field of this scope drawn.

        Raises:
            MothrError: A distribution is malformed, or nothing can be drawn from it; the message names its place.
        """
        if is_distribution(value):
            return self._draw_field(value, path)
        if isinstance(value, Mapping):
            parts = {key: self.draw(part, f"{path}.{key}" if path else key) for key, part in value.items()}
            return {key: part for key, part in parts.items() if part is not ABSENT}
        if isinstance(value, list | tuple):
            items = [self.draw(part, f"{path}[{index}]") for index, part in enumerate(value)]
            return [item for item in items if item is not ABSENT]
        return value

    def _draw_field(self, table: Mapping[str, Any], path: str) -> Any:
        distribution = _parse(table, self.place + path)
        if (distribution.per or self.default) != self.scope:
            return dict(table)
        if distribution.size is not None:
            distribution = distribution.model_copy(update={"size": self.draw(distribution.size, f"{path}.size")})
        try:
            value = distribution.draw(self.generator(path), self._largest(distribution, path))
        except ValueError as error:
            raise MothrError(f"{self.place}{path}: {error}") from None
        if isinstance(value, Mapping):  # a distribution inside another one has a path, and so a generator, of its own
            return self.draw(value, f"{path}.value" if is_distribution(value) else path)
        if value is not ABSENT:
            self.drawn[path] = value
        return value

    def _largest(self, distribution: Distribution, path: str) -> float:
        if distribution.at_most is None:
            return math.inf
        value = self.model.get(distribution.at_most)
        if not isinstance(value, int | float):
            raise MothrError(
                f"{self.place}{path}: at_most names {distribution.at_most!r}, which is not a number of [model]; "
                + (
                    f"choose from {', '.join(sorted(self.model))}"
                    if self.model
                    else "it is for fields outside of [model]"
                )
            )
        return value
