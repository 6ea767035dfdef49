"""How sure a score is: intervals and paired tests over Model Trees.

The unit is always the tree, never the edge: the edges of one tree share one root decision, so resampling them pretends to
more evidence than there is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap
from scipy.stats import t as student

from mothr.benchmark.errors import MothrError, unknown_name

Values = Sequence[float] | NDArray[np.float64]
"""One number for each Model Tree."""
EXACT = 16
"""Up to this many trees that differ, all sign patterns are tried; above it, ``2 ** EXACT`` drawn ones."""
DRAWS = 2000
"""How often a bootstrap draws trees anew."""


@dataclass(frozen=True)
class Interval:
    """A mean over trees and how sure it is."""

    mean: float
    """The mean."""
    low: float | None
    """Lower end of the interval; None where there is one tree, or several that all score the same on no bounded range."""
    high: float | None
    """Upper end of the interval; None where the lower is."""
    n: int
    """The number of trees."""


def mean_interval(values: Values, level: float = 0.95, within: tuple[float, float] = (-math.inf, math.inf)) -> Interval:
    """Returns the mean of one value a tree with its t-interval, clipped to the range ``within`` that values can have.

    A t-interval, since with 5 trees a percentile bootstrap covers 85 % where it says 95. Where all trees score the same there is
    no spread to go by, and the t-interval would have no width; then the ends are those of :func:`_alike`. Near a bound of the
    range, where few trees differ, it covers less than it says: ``tests/performance/bench_coverage.py`` has the figures.

    Raises:
        MothrError: no values, a value that is not finite or not within the range, or a level outside (0, 1).
    """
    array = _checked(values, level, within)
    n, mean = len(array), float(array.mean())
    if array.min() == array.max():
        return _alike(mean, n, level, within)
    half = float(student.ppf((1 + level) / 2, n - 1) * array.std(ddof=1) / math.sqrt(n))
    return Interval(mean, max(mean - half, within[0]), min(mean + half, within[1]), n)


def bootstrap_interval(
    values: Values,
    kind: Literal["percentile", "bca"],
    level: float = 0.95,
    within: tuple[float, float] = (-math.inf, math.inf),
    rng: np.random.Generator | None = None,
    draws: int = DRAWS,
) -> Interval:
    """Returns the mean of one value a tree with its cluster-bootstrap interval: whole trees are drawn, each with all its edges.

    Not what the board shows: the percentile bootstrap (Efron 1979) covers 85 % at 5 trees where it says 95, 90 % at 10 and 93 %
    at 20; correcting its bias and skewness (BCa, Efron 1987) helps by a point. Where all trees score alike, as :func:`mean_interval`.

    Args:
        values: One value a tree, the mean over its seeds.
        kind: ``percentile`` or ``bca``.
        level: How often it should hold the true mean.
        within: The range that values can have.
        rng: Draws the trees; a fixed seed if none is given, so that an interval is the same whenever it is made.
        draws: How often as many trees are drawn as there are.

    Raises:
        MothrError: as :func:`mean_interval`, or an unknown kind.
    """
    if kind not in ("percentile", "bca"):
        raise unknown_name("kind of bootstrap", kind, ("percentile", "bca"))
    array = _checked(values, level, within)
    n, mean = len(array), float(array.mean())
    if array.min() == array.max():
        return _alike(mean, n, level, within)
    rng = np.random.default_rng(0) if rng is None else rng
    found = bootstrap(
        (array,), np.mean, n_resamples=draws, confidence_level=level, method=kind, rng=rng
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), n)


def _checked(values: Values, level: float, within: tuple[float, float]) -> NDArray[np.float64]:
    """Returns ``values`` as an array; raises what :func:`mean_interval` says."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise MothrError("an interval needs one value for each of at least one tree; none was given")
    if not np.isfinite(array).all() or array.min() < within[0] or array.max() > within[1]:
        raise MothrError(
            f"values must be finite and within [{within[0]:g}, {within[1]:g}], not {min(values)} to {max(values)}"
        )
    if not 0 < level < 1:
        raise MothrError(f"the level is {level}; it must be between 0 and 1, such as 0.95")
    return array


def _alike(mean: float, n: int, level: float, within: tuple[float, float]) -> Interval:
    """Returns the interval of ``n`` trees that all score ``mean``; without ends where there is one tree or no range.

    Supposes nothing but the range: fewer than 1 - ((1 - level) / 2)^(1 / n) of all trees lie below (above) it, else n would
    hardly all score alike, and these may lie at the very bound. Of 5 trees with the score 1 it makes 0.48 to 1, of 20 0.83 to 1:
    for right or wrong, the exact binomial interval (Clopper and Pearson 1934).
    """
    if n == 1 or not np.isfinite(within).all():
        return Interval(mean, None, None, n)
    others = 1 - ((1 - level) / 2) ** (1 / n)
    return Interval(mean, mean - others * (mean - within[0]), mean + others * (within[1] - mean), n)


def sign_flip_test(a: Values, b: Values, rng: np.random.Generator | None = None) -> float:
    """Returns the two-sided p-value of the paired sign-flip test (Fisher 1935) that two methods score alike.

    ``a[i]`` and ``b[i]`` are the two scores of tree i. Exact where up to ``EXACT`` trees differ; with 5 trees the smallest
    possible value is 2 / 32 = 0.0625. Above that, ``2 ** EXACT`` sign patterns are drawn, the observed one counted among them.

    Args:
        a: Scores of one method, one a tree.
        b: Scores of the other, of the same trees.
        rng: Draws the patterns; a fixed seed if none is given, so that a board is the same whenever it is made.

    Raises:
        MothrError: different lengths, or a score that is not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise MothrError(
            f"{len(a)} scores against {len(b)}; a paired test needs both methods' scores of the same trees"
        )
    difference = first - second
    if not np.isfinite(difference).all():
        raise MothrError("a score is not finite; a paired test needs a number for each tree")
    difference = difference[difference != 0]  # flipping a zero changes nothing
    n = len(difference)
    # scipy's permutation_test gives the same, some hundred times slower, and a board has many pairs.
    if n <= EXACT:
        negative = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        negative = (np.random.default_rng(0) if rng is None else rng).integers(0, 2, (2**EXACT, n))
        negative[0] = 0
    totals = np.abs((1 - 2 * negative) @ difference)
    return float(np.mean(totals >= abs(difference.sum()) - 1e-12 * np.abs(difference).sum()))


def holm(p_values: Values) -> list[float]:
    """Returns the p-values adjusted for their number, in the order given (Holm 1979)."""
    array = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(array, kind="stable")
    steps = array[order] * np.arange(len(array), 0, -1)
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def shared_ranks(
    scores: Mapping[str, Values],
    level: float = 0.05,
    better: Literal["higher", "lower"] = "higher",
    rng: np.random.Generator | None = None,
) -> dict[str, int]:
    """Returns the rank of each method, 1 the best; methods that the trees cannot tell apart share one.

    A method ranks behind each one that is better at ``level`` (sign-flip test over trees, Holm-corrected over all pairs) and
    never before one of better or equal mean.

    Args:
        scores: Method -> one score a tree, the same trees in the same order.
        level: The family-wise error that is allowed.
        better: Whether higher or lower scores are better.
        rng: As in :func:`sign_flip_test`.

    Raises:
        MothrError: as in :func:`sign_flip_test`.
    """
    sign = 1.0 if better == "higher" else -1.0
    values = {name: sign * np.asarray(found, dtype=np.float64) for name, found in scores.items()}
    pairs = list(combinations(sorted(values), 2))
    adjusted = holm([sign_flip_test(values[first], values[second], rng) for first, second in pairs])
    means = {name: float(found.mean()) for name, found in values.items()}
    ahead = dict.fromkeys(values, 0)
    for (first, second), p_value in zip(pairs, adjusted, strict=True):
        if p_value <= level and means[first] != means[second]:
            ahead[first if means[first] < means[second] else second] += 1
    return {name: 1 + max(ahead[other] for other in values if means[other] >= means[name]) for name in values}
