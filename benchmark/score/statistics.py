"""Statistics of scores: confidence intervals and paired tests over Model Trees.

The independent unit is the tree, not the edge. The edges of one tree depend on one choice of the root, so
treating them as independent would overstate the evidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from mothr.benchmark.errors import MothrError

Values = Sequence[float] | NDArray[np.float64]
"""One number for each Model Tree."""
EXACT = 16
"""Up to this number of trees with a difference, the sign-flip test is exact.

Above it, ``2 ** EXACT`` sign patterns are drawn.
"""


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean over trees and its confidence interval."""

    mean: float
    """The mean."""
    low: float | None
    """Lower end of the interval. None for one tree, and for equal scores on an unbounded range."""
    high: float | None
    """Upper end of the interval. None if the lower end is None."""
    n: int
    """Number of trees."""


def mean_interval(values: Values, level: float = 0.95, within: tuple[float, float] = (-math.inf, math.inf)) -> Interval:
    """Returns the mean m of n values with the t-interval m ± t_{n-1, (1+level)/2} s / sqrt(n).

    s is the standard deviation of the values. The interval is clipped to the range ``within``. If all values
    are equal, the t-interval would have the width 0; the ends are then those of :func:`equal_values`. The
    interval is a t-interval, because a percentile bootstrap of 5 trees covers the mean in 85 % instead of 95 %
    of cases. Near a bound of the range the coverage is lower than the level:
    ``tests/performance/bench_coverage.py`` measures it.

    Args:
        values: One value for each tree.
        level: Probability that the interval covers the true mean.
        within: Smallest and largest possible value.

    Raises:
        MothrError: There is no value, a value is not finite or not in the range, or the level is not in (0, 1).
    """
    array = checked(values, level, within)
    n, mean = len(array), float(array.mean())
    if array.min() == array.max():
        return equal_values(mean, n, level, within)
    half = float(student.ppf((1 + level) / 2, n - 1) * array.std(ddof=1) / math.sqrt(n))
    return Interval(mean, max(mean - half, within[0]), min(mean + half, within[1]), n)


def checked(values: Values, level: float, within: tuple[float, float]) -> NDArray[np.float64]:
    """Returns ``values`` as an array after the checks of :func:`mean_interval`."""
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


def equal_values(mean: float, n: int, level: float, within: tuple[float, float]) -> Interval:
    """Returns the interval of n trees with the same score; without ends for one tree or an unbounded range.

    The only assumption is the range [a, b]. Let q be the share of all trees that score lower (or higher) than
    the mean m. If q were larger than 1 - ((1 - level) / 2)^(1 / n), n equal scores would be unlikely. In the
    worst case these trees score a (or b), so the interval is [m - q (m - a), m + q (b - m)]. For 5 trees with
    the score 1 this gives 0.48 to 1, for 20 trees 0.83 to 1. For scores that are 0 or 1 it is the exact
    binomial interval (Clopper and Pearson 1934).
    """
    if n == 1 or not np.isfinite(within).all():
        return Interval(mean, None, None, n)
    q = 1 - ((1 - level) / 2) ** (1 / n)
    return Interval(mean, mean - q * (mean - within[0]), mean + q * (within[1] - mean), n)


def sign_flip_test(a: Values, b: Values, rng: np.random.Generator | None = None) -> float:
    """Returns the two-sided p-value of the paired sign-flip test (Fisher 1935).

    Null hypothesis: both methods score equally.

    Let d_i = a_i - b_i be the difference on tree i. Under the null hypothesis the sign of each d_i is random.
    The p-value is the share of sign patterns s with |sum_i s_i d_i| >= |sum_i d_i|. Trees with d_i = 0 are left
    out. If at most ``EXACT`` trees remain, all patterns are counted; with 5 trees the smallest possible p-value
    is 2 / 32 = 0.0625. Otherwise ``2 ** EXACT`` patterns are drawn, and the observed pattern is one of them.

    Args:
        a: Scores of the first method, one for each tree.
        b: Scores of the second method on the same trees.
        rng: Draws the patterns. None uses a fixed seed, so that a board does not change when it is made again.

    Raises:
        MothrError: The lengths differ, or a score is not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise MothrError(
            f"{len(a)} scores against {len(b)}; a paired test needs both methods' scores of the same trees"
        )
    difference = first - second
    if not np.isfinite(difference).all():
        raise MothrError("a score is not finite; a paired test needs a number for each tree")
    difference = difference[difference != 0]
    n = len(difference)
    # scipy.stats.permutation_test gives the same result, but it is about a hundred times slower.
    if n <= EXACT:
        negative = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        negative = (np.random.default_rng(0) if rng is None else rng).integers(0, 2, (2**EXACT, n))
        negative[0] = 0
    totals = np.abs((1 - 2 * negative) @ difference)
    return float(np.mean(totals >= abs(difference.sum()) - 1e-12 * np.abs(difference).sum()))


def holm(p_values: Values) -> list[float]:
    """Returns the p-values after the step-down adjustment of Holm (1979), in the given order.

    For sorted p-values p_(1) <= ... <= p_(m), the adjusted value of p_(k) is min(1, max over j <= k of (m - j +
    1) p_(j)).
    """
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
    """Returns the rank of each method, 1 for the best. Methods without a significant difference share a rank.

    Let b be the number of methods that are significantly better (sign-flip test over trees, Holm-adjusted over
    all pairs). The rank of a method is 1 + the largest b of all methods with an equal or better mean, itself
    included. So no method ranks before a method with a better mean.

    Args:
        scores: Method -> one score for each tree; the same trees in the same order.
        level: Significance level: the family-wise error rate.
        better: Whether higher or lower scores are better.
        rng: As in :func:`sign_flip_test`.

    Raises:
        MothrError: As in :func:`sign_flip_test`.
    """
    sign = 1.0 if better == "higher" else -1.0
    values = {name: sign * np.asarray(tree_scores, dtype=np.float64) for name, tree_scores in scores.items()}
    pairs = list(combinations(sorted(values), 2))
    adjusted = holm([sign_flip_test(values[first], values[second], rng) for first, second in pairs])
    means = {name: float(tree_scores.mean()) for name, tree_scores in values.items()}
    return ranks_by_tests(means, dict(zip(pairs, adjusted, strict=True)), level)


def ranks_by_tests(
    means: Mapping[str, float], p_values: Mapping[tuple[str, str], float], level: float
) -> dict[str, int]:
    """Returns the rank of each method, as :func:`shared_ranks` defines it.

    Args:
        means: method -> its mean; higher is better.
        p_values: each two methods -> the adjusted p-value of their difference.
        level: significance level: the family-wise error rate.
    """
    better_methods = dict.fromkeys(means, 0)
    for (first, second), p_value in p_values.items():
        if p_value <= level and means[first] != means[second]:
            better_methods[first if means[first] < means[second] else second] += 1
    return {name: 1 + max(better_methods[rival] for rival in means if means[rival] >= means[name]) for name in means}
