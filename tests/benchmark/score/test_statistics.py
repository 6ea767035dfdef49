"""Intervals and tests over trees: known values, agreement with scipy, and simulated coverage."""

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test
from scipy.stats import t as student

from mothr.benchmark.errors import MothrError
from mothr.benchmark.score.statistics import (
    EXACT,
    holm,
    mean_interval,
    shared_ranks,
    sign_flip_test,
)


def test_mean_interval_is_the_t_interval():
    result = mean_interval([0.2, 0.4, 0.9])
    low, high = student.interval(0.95, 2, loc=0.5, scale=np.std([0.2, 0.4, 0.9], ddof=1) / np.sqrt(3))
    assert (result.mean, result.n) == (pytest.approx(0.5), 3)
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
    wider = mean_interval([0.2, 0.4, 0.9], level=0.99)
    assert wider.low < result.low < result.high < wider.high


def test_mean_interval_is_clipped_to_the_range():
    result = mean_interval([0.2, 0.4, 0.9], within=(0, 1))
    assert (result.low, result.high) == (0, 1)


def test_one_tree_has_no_interval():
    result = mean_interval([0.7])
    assert (result.mean, result.low, result.high, result.n) == (0.7, None, None, 1)


def test_the_interval_of_equal_scores_depends_on_their_number():
    result = mean_interval([1.0] * 5, within=(0, 1))
    exact = binomtest(5, 5).proportion_ci(0.95, "exact")
    assert (result.low, result.high) == (pytest.approx(exact.low), 1.0)
    wrong = mean_interval([0.0] * 5, within=(0, 1))
    assert (wrong.low, wrong.high) == (0.0, pytest.approx(1 - exact.low))
    between = mean_interval([0.5] * 5, within=(-1, 1))
    assert (between.low, between.high) == (
        pytest.approx(0.5 - 1.5 * (1 - exact.low)),
        pytest.approx(0.5 + 0.5 * (1 - exact.low)),
    )
    assert mean_interval([1.0] * 20, within=(0, 1)).low > 0.83
    assert mean_interval([1.0, 1.0]).low is None  # the range is unbounded


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "none was given"),
        ([0.5, float("nan")], {}, "finite"),
        ([0.5, 1.5], {"within": (0, 1)}, r"within \[0, 1\]"),
        ([0.5, 0.6], {"level": 95}, "level is 95"),
    ],
)
def test_mean_interval_refuses(values, options, message):
    with pytest.raises(MothrError, match=message):
        mean_interval(values, **options)


@pytest.mark.parametrize("trees", [5, 10, 20])
def test_the_coverage_of_intervals_is_near_their_level(trees):
    # Edge accuracy of trees with 20 edges. The difficulty of trees varies: mean 0.7, bounded, skewed.
    rng = np.random.default_rng(trees)
    covered = 0
    for _ in range(3000):
        result = mean_interval(rng.binomial(20, rng.beta(7, 3, trees)) / 20, within=(0, 1))
        covered += result.low <= 0.7 <= result.high
    assert 0.93 <= covered / 3000 <= 0.97


def test_five_trees_cannot_reach_five_percent():
    assert sign_flip_test([0.9] * 5, [0.1, 0.2, 0.3, 0.0, 0.5]) == pytest.approx(0.0625)


def test_sign_flip_equals_scipy():
    rng = np.random.default_rng(0)
    for trees in (2, 4, 7, 9):
        a, b = rng.integers(0, 5, trees) / 4, rng.integers(0, 5, trees) / 4  # some sums are equal
        expected = permutation_test(
            (a, b),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
        ).pvalue
        assert sign_flip_test(a, b) == pytest.approx(expected)


def test_sign_flip_is_two_sided_and_paired():
    rng = np.random.default_rng(1)
    a, b = rng.random(8), rng.random(8)
    assert sign_flip_test(a, b) == pytest.approx(sign_flip_test(b, a))
    assert sign_flip_test(a, a) == 1.0
    difficulty = np.linspace(0, 1, 8)  # trees differ much more than methods
    assert sign_flip_test(difficulty + 0.01, difficulty) == pytest.approx(2 / 2**8)


def test_drawn_patterns_agree_with_the_exact_test():
    rng = np.random.default_rng(2)
    difference = rng.normal(0.5, 1, EXACT)
    exact = sign_flip_test(difference, np.zeros(EXACT))
    longer = np.concatenate(
        [difference, np.full(4, 1e-9)]
    )  # nearly zero: the same p-value, but too many trees for the exact test
    assert sign_flip_test(longer, np.zeros(EXACT + 4), np.random.default_rng(3)) == pytest.approx(exact, abs=0.01)
    assert sign_flip_test(longer, np.zeros(EXACT + 4)) == sign_flip_test(longer, np.zeros(EXACT + 4))
    assert sign_flip_test(np.ones(40), np.zeros(40)) >= 2.0**-EXACT  # the observed pattern is counted


def test_the_false_positive_rate_of_the_sign_flip_test_is_its_level():
    rng = np.random.default_rng(4)
    result = [sign_flip_test(*rng.beta(7, 3, (2, 10))) for _ in range(1000)]
    assert np.mean(np.array(result) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize(
    ("a", "b", "message"), [([1.0], [1.0, 2.0], "1 scores against 2"), ([1.0, float("nan")], [1.0, 2.0], "finite")]
)
def test_sign_flip_refuses(a, b, message):
    with pytest.raises(MothrError, match=message):
        sign_flip_test(a, b)


def test_holm():
    # Sorted: 0.005, 0.01, 0.03, 0.04. Multiplied by 4, 3, 2, 1. Then the running maximum.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_methods_without_a_significant_difference_share_a_rank():
    rng = np.random.default_rng(5)
    tree = rng.random(20) * 0.2
    scores = {
        "good": 0.7 + tree + rng.normal(0, 0.01, 20),
        "as good": 0.7 + tree + rng.normal(0, 0.01, 20),
        "bad": 0.3 + tree,
        "worst": 0.1 + tree,
    }
    assert shared_ranks(scores) == {"good": 1, "as good": 1, "bad": 3, "worst": 4}
    assert shared_ranks({name: -values for name, values in scores.items()}, better="lower") == shared_ranks(scores)


def test_five_trees_are_too_few_for_different_ranks():
    assert set(shared_ranks({"a": [1.0] * 5, "b": [0.5] * 5, "c": [0.0] * 5}).values()) == {1}


def test_ranks_follow_the_means():
    # "best" is significantly better than "steady". "wild" has a lower mean than "steady" and a large variance, so its difference
    # from "best" is not significant. It must not rank before "steady".
    trees = 20
    scores = {
        "best": np.full(trees, 0.9),
        "steady": np.full(trees, 0.8),
        "wild": np.where(np.arange(trees) < 15, 1.0, 0.1),
    }
    assert scores["wild"].mean() < scores["steady"].mean()
    assert shared_ranks(scores) == {"best": 1, "steady": 2, "wild": 2}


def test_ranks_of_one_method_and_of_none():
    assert shared_ranks({"alone": [0.5, 0.6]}) == {"alone": 1}
    assert shared_ranks({}) == {}
