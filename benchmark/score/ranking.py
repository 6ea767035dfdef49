"""Statistics of a track: several splits with several Model Trees each.

A method's score on a split is the mean over its trees. Its score on a track is the mean over splits, so that each split counts
alike, whatever its number of trees. Two intervals say how certain that score is: one over trees, one over splits. Two methods
are compared by a paired sign-flip test over all trees, stratified by split. Kendall's tau says how far two sets of trees rank the same
methods alike.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau
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


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two sets of trees rank the same methods alike."""

    tau: float | None
    """Kendall's tau-b of the methods' mean scores, from -1 (reversed) to 1 (equal). None if all methods tie on one side."""
    low: float | None
    """Lower end of the percentile bootstrap interval over trees; None without tau or draws."""
    high: float | None
    """Upper end."""
    methods: int
    """Number of methods."""


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


def rank_agreement(
    first: Mapping[str, Values], second: Mapping[str, Values], level: float = 0.95, draws: int = 2000
) -> Agreement:
    """Returns how far two sets of trees rank the same methods alike.

    Kendall's tau-b (Kendall 1945) is the share of pairs of methods in the same order, minus that in the opposite order,
    corrected for ties. The interval is a percentile bootstrap. In each draw, the trees of each set are drawn with
    replacement, the same ones for all methods. Noise hides true differences between methods, so tau between few trees is
    below that between many, and the interval lies lower than a symmetric one.

    Args:
        first: method -> its score on each tree of the first set. A tree with an undefined score (NaN) is left out.
        second: the same methods on the trees of the second set, whose number may differ.
        level: probability that the interval covers the true tau.
        draws: number of bootstrap draws; 0 for no interval.

    Raises:
        MothrError: the methods differ or are fewer than two, a method lacks a tree, or no tree has all scores.
    """
    if first.keys() != second.keys() or len(first) < 2:
        raise MothrError(
            f"an agreement of rankings needs the same two or more methods on both sides, not {len(first)} and {len(second)}"
        )
    sides = [_complete_trees([side[name] for name in sorted(first)]) for side in (first, second)]
    rng = np.random.default_rng(0)
    tau = _tau(*(side.mean(axis=1) for side in sides))
    if tau is None:
        return Agreement(None, None, None, len(first))
    resampled = (
        _tau(*(side[:, rng.integers(side.shape[1], size=side.shape[1])].mean(axis=1) for side in sides))
        for _ in range(draws)
    )
    known = [value for value in resampled if value is not None]
    if not known:
        return Agreement(tau, None, None, len(first))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Agreement(tau, float(low), float(high), len(first))


def _complete_trees(scores: Sequence[Values]) -> NDArray[np.float64]:
    """Returns the scores as an array of shape (methods, trees), without the trees on which a score is undefined."""
    if len({len(values) for values in scores}) != 1:
        raise MothrError("two methods have scores of different trees; an agreement of rankings needs the same ones")
    array = np.asarray(scores, dtype=np.float64)
    array = array[:, np.isfinite(array).all(axis=0)]
    if not array.shape[1]:
        raise MothrError("no tree has a score of every method; an agreement of rankings needs at least one")
    return array


def _tau(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Returns Kendall's tau-b of two arrays of means; None if all means of one are equal. Rounding makes equal means tie."""
    tau = float(kendalltau(first.round(9), second.round(9)).statistic)
    return None if math.isnan(tau) else round(tau, 12)  # scipy gives 1 - 1e-16 for equal orders
