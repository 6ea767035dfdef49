"""Statistics of a track: several splits with several Model Trees each.

A method's score on a split is the mean over its trees. Its score on a track is the mean over splits, so that each split counts
alike, whatever its number of trees. Two intervals say how certain that score is: one over trees, one over splits. Two methods
are compared by a paired sign-flip test over all trees, stratified by split.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from mothr.benchmark.errors import MothrError
from mothr.benchmark.score.statistics import (
    EXACT,
    Interval,
    Values,
    checked,
    equal_values,
    holm,
    mean_interval,
    ranks_by_tests,
    sign_flip_test,
)

Splits = Sequence[Values]
"""The scores of one method: for each split, one number for each of its trees."""
BLOCK = 2**13
"""Sign patterns that are evaluated at once, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class TrackScore:
    """The mean over splits of the mean over trees, with two intervals around it."""

    mean: float
    """The score."""
    trees: Interval
    """Interval over trees: would the score hold on other trees of the same splits? Its ``n`` is the number of trees."""
    splits: Interval
    """Interval over splits: would the score hold on other splits of this kind? Its ``n`` is the number of splits. It has no ends
    for one split."""


@dataclass(frozen=True, slots=True)
class PairTest:
    """The comparison of two methods on a track."""

    first: str
    """The first method."""
    second: str
    """The second method."""
    difference: float
    """Score of the first method minus that of the second."""
    p: float
    """Two-sided p-value of the stratified sign-flip test."""
    p_holm: float
    """The p-value after Holm's correction for all pairs that were compared together."""


def track_score(splits: Splits, level: float = 0.95, within: tuple[float, float] = (-math.inf, math.inf)) -> TrackScore:
    """Returns the score of a track with its intervals.

    Args:
        splits: the scores of at least one tree of each of at least one split.
        level: probability that an interval covers the true mean.
        within: smallest and largest possible score.

    Raises:
        MothrError: there is no split, or as :func:`mothr.benchmark.score.statistics.mean_interval`.
    """
    means = [float(checked(scores, level, within).mean()) for scores in splits]
    over_splits = mean_interval(means, level, within)
    return TrackScore(over_splits.mean, stratified_interval(splits, level, within), over_splits)


def stratified_interval(splits: Splits, level: float, within: tuple[float, float]) -> Interval:
    """Returns the mean m of K split means, with its t-interval over trees.

    Split k has n_k trees, whose scores have the variance s_k². The variance of m is sum_k v_k / K² with v_k = s_k² / n_k. The
    degrees of freedom are those of Welch (1947) and Satterthwaite (1946): (sum_k v_k)² / sum_k (v_k² / f_k) with f_k = n_k - 1.
    For a split with a single tree, s_k² and f_k are those pooled over the other splits. If no split has two trees, there are no
    ends. If no score differs from the others of its split, the ends are those of
    :func:`mothr.benchmark.score.statistics.equal_values` for all trees together.

    On simulated tracks of 2 to 16 splits with 5 or 20 trees each, 95 % intervals contain the true mean in 92 to 96 % of cases, those
    of a percentile bootstrap over trees in 86 to 94 % (``python tests/performance/bench_coverage.py --tracks``).

    Args:
        splits: as for :func:`track_score`.
        level: probability that the interval covers the true mean.
        within: smallest and largest possible score.
    """
    arrays = [np.asarray(scores, dtype=np.float64) for scores in splits]
    mean, trees = float(np.mean([array.mean() for array in arrays])), sum(map(len, arrays))
    several = [array for array in arrays if len(array) > 1]
    if not several:
        return Interval(mean, None, None, trees)
    if all(array.min() == array.max() for array in arrays):
        return equal_values(mean, trees, level, within)
    freedom = sum(len(array) - 1 for array in several)
    pooled = sum((len(array) - 1) * float(array.var(ddof=1)) for array in several) / freedom
    terms = [
        (float(array.var(ddof=1)) / len(array), len(array) - 1) if len(array) > 1 else (pooled, freedom)
        for array in arrays
    ]
    total = sum(variance for variance, _ in terms)
    degrees = total**2 / sum(variance**2 / own for variance, own in terms)
    half = float(student.ppf((1 + level) / 2, degrees)) * math.sqrt(total) / len(arrays)
    return Interval(mean, max(mean - half, within[0]), min(mean + half, within[1]), trees)


def paired_tests(scores: Mapping[str, Splits], pairs: Sequence[tuple[str, str]] | None = None) -> list[PairTest]:
    """Returns the comparison of pairs of methods.

    Null hypothesis: both methods score equally on every tree. Let d_ki be the difference on tree i of split k. Under the null
    hypothesis its sign is random. The statistic is the mean over splits of the mean over trees of d_ki. The p-value is the share
    of sign patterns whose statistic is at least as large in size as the observed one. If at most ``EXACT`` trees differ, all
    patterns are counted. Otherwise ``2 ** EXACT`` patterns are drawn with a fixed seed, the same for all pairs, and the observed
    one is among them.

    Args:
        scores: method -> its scores; the same splits and trees in the same order.
        pairs: the methods to compare, for which Holm's correction is made. None for every two methods, sorted by their names.

    Raises:
        MothrError: two methods have scores of different trees, or a score is not finite.
    """
    names = sorted(scores)
    pairs = list(combinations(names, 2)) if pairs is None else pairs
    if not pairs:
        return []
    sizes = [len(split) for split in scores[names[0]]]
    for name in names:
        if [len(split) for split in scores[name]] != sizes:
            raise MothrError(
                f"{name!r} and {names[0]!r} have scores of different trees; a paired test needs the same ones"
            )
    weights = np.concatenate([np.full(size, 1 / (len(sizes) * size)) for size in sizes])
    weighted = {name: np.concatenate([np.asarray(split, dtype=np.float64) for split in scores[name]]) for name in names}
    if not all(np.isfinite(values).all() for values in weighted.values()):
        raise MothrError("a score is not finite; a paired test needs a number for each tree")
    differences = np.array([(weighted[first] - weighted[second]) * weights for first, second in pairs])
    p_values = _p_values(differences)
    adjusted = holm(p_values)
    return [
        PairTest(first, second, float(difference.sum()), p, p_holm)
        for (first, second), difference, p, p_holm in zip(pairs, differences, p_values, adjusted, strict=True)
    ]


def _p_values(differences: NDArray[np.float64]) -> list[float]:
    """Returns the p-value of the sign-flip test for each row of weighted differences, of shape (pairs, trees)."""
    p_values = np.empty(len(differences))
    exact = np.count_nonzero(differences, axis=1) <= EXACT
    for position in np.flatnonzero(exact):
        p_values[position] = sign_flip_test(differences[position], np.zeros(differences.shape[1]))
    drawn = differences[~exact].T
    if drawn.size:
        smallest = np.abs(drawn.sum(axis=0)) - 1e-12 * np.abs(drawn).sum(axis=0)
        signs = np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.int8), (2**EXACT, len(drawn)))
        signs[0] = 1
        reached = np.zeros(drawn.shape[1], dtype=np.int64)
        for start in range(0, len(signs), BLOCK):
            reached += (np.abs(signs[start : start + BLOCK].astype(np.float64) @ drawn) >= smallest).sum(axis=0)
        p_values[~exact] = reached / len(signs)
    return [float(p) for p in p_values]


def track_ranks(scores: Mapping[str, float], tests: Sequence[PairTest], level: float = 0.05) -> dict[str, int]:
    """Returns the rank of each method of a track; see :func:`mothr.benchmark.score.statistics.ranks_by_tests`.

    Args:
        scores: method -> score; higher is better.
        tests: the comparison of every two methods.
        level: family-wise error rate.
    """
    return ranks_by_tests(scores, {(test.first, test.second): test.p_holm for test in tests}, level)
