"""Scores of tracks, their intervals, and the paired test that is stratified by split."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import t as student

from mothr.benchmark.errors import MothrError
from mothr.benchmark.score.ranking import (
    Agreement,
    paired_tests,
    rank_agreement,
    stratified_interval,
    track_ranks,
    track_score,
)
from mothr.benchmark.score.statistics import EXACT, mean_interval, sign_flip_test

UNIT = (0.0, 1.0)


def test_a_track_score_is_the_mean_over_splits_whatever_their_numbers_of_trees():
    score = track_score([[1.0, 0.8], [0.5, 0.3, 0.1, 0.3]], within=UNIT)
    assert score.mean == pytest.approx((0.9 + 0.3) / 2)
    assert (score.trees.n, score.splits.n) == (6, 2)
    assert score.splits == mean_interval([0.9, 0.3], within=UNIT)


def test_the_interval_over_trees_is_that_of_welch_and_satterthwaite():
    splits = [np.array([0.9, 0.7, 0.8]), np.array([0.2, 0.6, 0.4, 0.4])]
    parts = [split.var(ddof=1) / len(split) for split in splits]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    half = student.ppf(0.975, freedom) * math.sqrt(sum(parts)) / 2
    interval = stratified_interval(splits, 0.95, UNIT)
    assert (interval.low, interval.high) == pytest.approx((0.6 - half, 0.6 + half))


def test_one_split_has_its_own_t_interval_over_trees_and_none_over_splits():
    values = [0.9, 0.7, 0.8, 0.5]
    score, plain = track_score([values], within=UNIT), mean_interval(values, within=UNIT)
    assert (score.trees.low, score.trees.high) == pytest.approx((plain.low, plain.high))
    assert (score.splits.low, score.splits.high, score.splits.n) == (None, None, 1)


def test_a_split_with_one_tree_has_the_variance_of_the_others():
    interval = stratified_interval([[0.9, 0.7], [0.5]], 0.95, UNIT)
    pooled = np.var([0.9, 0.7], ddof=1)
    parts, freedom = (pooled / 2, pooled), 1  # both terms rest on one degree of freedom
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / freedom + parts[1] ** 2 / freedom)
    half = student.ppf(0.975, degrees) * math.sqrt(sum(parts)) / 2
    assert (interval.low, interval.high) == (pytest.approx(max(0.65 - half, 0)), pytest.approx(min(0.65 + half, 1)))
    alone = stratified_interval([[0.9], [0.5]], 0.95, UNIT)
    assert (alone.mean, alone.low, alone.high, alone.n) == (pytest.approx(0.7), None, None, 2)


def test_equal_trees_give_the_exact_interval_of_all_trees():
    assert stratified_interval([[1.0] * 5] * 4, 0.95, UNIT) == mean_interval([1.0] * 20, within=UNIT)
    mixed = stratified_interval([[1.0] * 5, [0.5] * 5], 0.95, UNIT)
    q = 1 - 0.025 ** (1 / 10)
    assert (mixed.low, mixed.high) == pytest.approx((0.75 - 0.75 * q, 0.75 + 0.25 * q))


def test_the_intervals_cover_the_true_mean():
    """Six splits of five trees with means and spreads of their own; 95 % intervals over trees, 400 times."""
    rng = np.random.default_rng(0)
    a, b = np.array([[7, 3], [3, 7], [1, 1], [9, 2], [4, 4], [2, 5]]).T
    truth, covered = float(np.mean(a / (a + b))), 0
    for _ in range(400):
        interval = stratified_interval(list(rng.beta(a[:, None], b[:, None], (6, 5))), 0.95, UNIT)
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / 400 <= 0.98


# --- the paired test ---


def brute_force(first, second):
    """The p-value from all sign patterns of the mean over splits of the mean over trees, computed without weights."""
    differences = [np.subtract(*pair) for pair in zip(first, second, strict=True)]
    observed = abs(np.mean([difference.mean() for difference in differences]))
    reached, patterns = 0, 0
    for signs in product((-1, 1), repeat=sum(map(len, differences))):
        parts = np.split(np.array(signs), np.cumsum([len(difference) for difference in differences])[:-1])
        statistic = np.mean([(part * difference).mean() for part, difference in zip(parts, differences, strict=True)])
        reached += abs(statistic) >= observed - 1e-12
        patterns += 1
    return reached / patterns


def test_the_p_value_is_exact_for_few_trees():
    """By hand: differences 0.2, 0.2 and 0.4 have the weights 1/4, 1/4 and 1/2; only +++ and --- of 8 patterns reach 0.3."""
    [test] = paired_tests({"a": [[0.9, 0.7], [0.8]], "b": [[0.7, 0.5], [0.4]]})
    assert (test.first, test.second) == ("a", "b")
    assert test.difference == pytest.approx(0.25 * 0.2 + 0.25 * 0.2 + 0.5 * 0.4)
    assert test.p == test.p_holm == 2 / 8


def test_the_p_value_equals_that_of_all_patterns():
    rng = np.random.default_rng(1)
    for _ in range(5):
        first, second = ([rng.integers(0, 5, size) / 4 for size in (1, 3, 4)] for _ in range(2))
        [test] = paired_tests({"a": first, "b": second})
        assert test.p == pytest.approx(brute_force(first, second))


def test_splits_are_strata():
    """A large split cannot outvote a small one: -1 on the only tree of one split weighs as much as +1 on three of the other."""
    scores = {"a": [[1.0, 1.0, 1.0], [0.0]], "b": [[0.0, 0.0, 0.0], [1.0]]}
    [test] = paired_tests(scores)
    assert test.difference == pytest.approx(0)
    assert test.p == 1.0
    assert sign_flip_test(np.concatenate(scores["a"]), np.concatenate(scores["b"])) < 1.0  # without strata


def test_drawn_patterns_agree_with_the_exact_test_and_are_the_same_each_time():
    rng = np.random.default_rng(2)
    first = [rng.normal(0.25, 1, EXACT // 2), rng.normal(0.5, 1, EXACT // 2)]
    zero = [np.zeros(EXACT // 2)] * 2
    [exact] = paired_tests({"a": first, "b": zero})
    longer = [np.append(split, [1e-9] * 3) for split in first]  # too many trees for the exact test
    scale = (EXACT // 2 + 3) / (EXACT // 2)
    drawn = paired_tests({"a": longer, "b": [np.zeros(len(split)) for split in longer]})
    assert drawn[0].p == pytest.approx(exact.p, abs=0.01)
    assert drawn[0].difference * scale == pytest.approx(exact.difference, abs=1e-6)
    assert drawn == paired_tests({"a": longer, "b": [np.zeros(len(split)) for split in longer]})
    [clear] = paired_tests({"a": [np.ones(40)], "b": [np.zeros(40)]})
    assert clear.p >= 2.0**-EXACT  # the observed pattern is counted


def test_the_false_positive_rate_is_the_level():
    rng = np.random.default_rng(3)
    p_values = [paired_tests({name: [rng.beta(7, 3, 4), rng.beta(3, 7, 6)] for name in "ab"})[0].p for _ in range(600)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_p_values_are_corrected_for_all_pairs():
    """8 trees: a differs from b and c everywhere (p = 2/256, times 3, then times 2), b and c are equal."""
    tests = paired_tests({"a": [[0.9] * 8], "b": [[0.5] * 8], "c": [[0.5] * 8]})
    assert {(test.first, test.second): (test.p, test.p_holm) for test in tests} == {
        ("a", "b"): (2 / 256, 3 * 2 / 256),
        ("a", "c"): (2 / 256, 3 * 2 / 256),
        ("b", "c"): (1.0, 1.0),
    }
    assert track_ranks({"a": 0.9, "b": 0.5, "c": 0.5}, tests) == {"a": 1, "b": 2, "c": 2}
    assert track_ranks({"a": 0.9, "b": 0.5, "c": 0.5}, tests, level=0.01) == {"a": 1, "b": 1, "c": 1}


def test_two_trees_never_separate_methods():
    tests = paired_tests({"a": [[1.0], [1.0]], "b": [[0.0], [0.0]]})
    assert tests[0].p == 0.5
    assert set(track_ranks({"a": 1.0, "b": 0.0}, tests).values()) == {1}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": [[1.0], [0.5]], "b": [[1.0]]}, "'b' and 'a' have scores of different trees"),
        ({"a": [[1.0, 0.5]], "b": [[1.0]]}, "scores of different trees"),
        ({"a": [[float("nan")]], "b": [[1.0]]}, "not finite"),
    ],
)
def test_unequal_trees_are_refused(scores, message):
    with pytest.raises(MothrError, match=message):
        paired_tests(scores)


def test_one_method_and_none():
    assert paired_tests({"a": [[1.0]]}) == paired_tests({}) == []
    assert track_ranks({"a": 1.0}, []) == {"a": 1}
    with pytest.raises(MothrError, match="at least one tree"):
        track_score([[]], within=UNIT)


def test_the_agreement_of_two_rankings_is_kendalls_tau_of_the_means():
    first = {"a": [0.9, 0.7], "b": [0.6, 0.6], "c": [0.1, 0.3]}
    same = {"a": [0.5, 0.5, 0.8], "b": [0.4, 0.4, 0.4], "c": [0.1, 0.2, 0.3]}
    swapped = same | {"a": [0.3, 0.3, 0.3]}
    assert rank_agreement(first, same).tau == 1
    assert rank_agreement(first, swapped).tau == pytest.approx(1 / 3)  # two pairs in the same order, one reversed
    assert rank_agreement(first, {name: [-value for value in values] for name, values in same.items()}).tau == -1


def test_the_interval_of_an_agreement_shrinks_with_the_number_of_trees():
    rng = np.random.default_rng(0)
    widths = []
    for trees in (5, 200):
        sides = [{str(k): rng.normal(0.05 * k, 0.2, trees) for k in range(12)} for _ in range(2)]
        agreement = rank_agreement(*sides, draws=300)
        assert agreement.low <= agreement.tau <= agreement.high
        assert agreement.methods == 12
        widths.append(agreement.high - agreement.low)
    assert widths[1] < widths[0] / 2


def test_methods_that_all_tie_have_no_agreement():
    tied = {"a": [0.5, 0.25], "b": [0.25, 0.5]}
    assert rank_agreement(tied, {"a": [1.0], "b": [0.0]}) == Agreement(None, None, None, 2)


def test_a_tree_with_an_undefined_score_is_left_out():
    first = {"a": [0.9, np.nan], "b": [0.1, 1.0]}
    assert rank_agreement(first, {"a": [1.0], "b": [0.0]}).tau == 1


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"a": [1.0], "c": [0.0]}, "same two or more methods"),
        ({"a": [1.0], "b": [0.0, 1.0]}, "different trees"),
        ({"a": [np.nan], "b": [0.0]}, "no tree has a score of every method"),
    ],
)
def test_rankings_without_shared_methods_or_trees_are_refused(second, message):
    with pytest.raises(MothrError, match=message):
        rank_agreement({"a": [0.9], "b": [0.1]}, second)
