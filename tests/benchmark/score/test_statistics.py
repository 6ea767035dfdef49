"""Intervals and tests over trees: known values, agreement with scipy, and coverage by simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test
from scipy.stats import t as student

from mothr.benchmark.errors import MothrError
from mothr.benchmark.score.statistics import (
    EXACT,
    bootstrap_interval,
    holm,
    mean_interval,
    shared_ranks,
    sign_flip_test,
)


def test_mean_interval_is_students():
    found = mean_interval([0.2, 0.4, 0.9])
    low, high = student.interval(0.95, 2, loc=0.5, scale=np.std([0.2, 0.4, 0.9], ddof=1) / np.sqrt(3))
    assert (found.mean, found.n) == (pytest.approx(0.5), 3)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    wider = mean_interval([0.2, 0.4, 0.9], level=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_mean_interval_is_clipped_to_the_range():
    found = mean_interval([0.2, 0.4, 0.9], within=(0, 1))
    assert (found.low, found.high) == (0, 1)


def test_one_tree_has_no_interval():
    found = mean_interval([0.7])
    assert (found.mean, found.low, found.high, found.n) == (0.7, None, None, 1)


@pytest.mark.parametrize(
    "interval", [mean_interval, lambda values, **options: bootstrap_interval(values, "bca", **options)]
)
def test_equal_trees_are_judged_by_their_number_alone(interval):
    found = interval([1.0] * 5, within=(0, 1))
    exact = binomtest(5, 5).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == (pytest.approx(exact.low), 1.0)
    wrong = interval([0.0] * 5, within=(0, 1))
    assert (wrong.low, wrong.high) == (0.0, pytest.approx(1 - exact.low))
    between = interval([0.5] * 5, within=(-1, 1))
    assert (between.low, between.high) == (
        pytest.approx(0.5 - 1.5 * (1 - exact.low)),
        pytest.approx(0.5 + 0.5 * (1 - exact.low)),
    )
    assert interval([1.0] * 20, within=(0, 1)).low > 0.83
    assert interval([1.0, 1.0]).low is None  # no range, so nothing is known of other trees


def test_bootstraps_draw_trees_and_cover_too_little_at_five():
    rng, covered, narrow = np.random.default_rng(0), 0, 0
    for _ in range(400):
        scores = rng.binomial(20, rng.beta(7, 3, 5)) / 20
        found = bootstrap_interval(scores, "percentile", within=(0, 1), rng=rng, draws=300)
        assert scores.min() <= found.low <= found.mean <= found.high <= scores.max()
        covered += found.low <= 0.7 <= found.high
        narrow += found.high - found.low < (wide := mean_interval(scores)).high - wide.low
    assert 0.78 < covered / 400 < 0.91
    assert narrow == 400
    pinned = [bootstrap_interval([0.1, 0.5, 0.6, 0.9], "bca") for _ in range(2)]
    assert pinned[0] == pinned[1]
    with pytest.raises(MothrError, match="unknown kind of bootstrap 'bcaa'; did you mean bca"):
        bootstrap_interval([0.1, 0.5], "bcaa")


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
def test_intervals_cover_the_truth_as_often_as_they_say(trees):
    # Edge accuracy of trees of 20 edges, the trees differing in how hard they are (mean 0.7, bounded, skewed).
    rng = np.random.default_rng(trees)
    covered = 0
    for _ in range(3000):
        found = mean_interval(rng.binomial(20, rng.beta(7, 3, trees)) / 20, within=(0, 1))
        covered += found.low <= 0.7 <= found.high
    assert 0.93 <= covered / 3000 <= 0.97


def test_five_trees_cannot_reach_five_percent():
    assert sign_flip_test([0.9] * 5, [0.1, 0.2, 0.3, 0.0, 0.5]) == pytest.approx(0.0625)


def test_sign_flip_equals_scipy():
    rng = np.random.default_rng(0)
    for trees in (2, 4, 7, 9):
        a, b = rng.integers(0, 5, trees) / 4, rng.integers(0, 5, trees) / 4  # with ties among the sums
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
    difficulty = np.linspace(0, 1, 8)  # trees differ far more than the methods do
    assert sign_flip_test(difficulty + 0.01, difficulty) == pytest.approx(2 / 2**8)


def test_drawn_patterns_agree_with_all_of_them():
    rng = np.random.default_rng(2)
    difference = rng.normal(0.5, 1, EXACT)
    exact = sign_flip_test(difference, np.zeros(EXACT))
    longer = np.concatenate([difference, np.full(4, 1e-9)])  # all but zero: the same p-value, but too many to enumerate
    assert sign_flip_test(longer, np.zeros(EXACT + 4), np.random.default_rng(3)) == pytest.approx(exact, abs=0.01)
    assert sign_flip_test(longer, np.zeros(EXACT + 4)) == sign_flip_test(longer, np.zeros(EXACT + 4))
    assert sign_flip_test(np.ones(40), np.zeros(40)) >= 2.0**-EXACT  # never zero


def test_sign_flip_keeps_its_level():
    rng = np.random.default_rng(4)
    found = [sign_flip_test(*rng.beta(7, 3, (2, 10))) for _ in range(1000)]
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize(
    ("a", "b", "message"), [([1.0], [1.0, 2.0], "1 scores against 2"), ([1.0, float("nan")], [1.0, 2.0], "finite")]
)
def test_sign_flip_refuses(a, b, message):
    with pytest.raises(MothrError, match=message):
        sign_flip_test(a, b)


def test_holm():
    # Sorted: 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_methods_that_cannot_be_told_apart_share_a_rank():
    rng = np.random.default_rng(5)
    tree = rng.random(20) * 0.2
    scores = {
        "good": 0.7 + tree + rng.normal(0, 0.01, 20),
        "as good": 0.7 + tree + rng.normal(0, 0.01, 20),
        "bad": 0.3 + tree,
        "worst": 0.1 + tree,
    }
    assert shared_ranks(scores) == {"good": 1, "as good": 1, "bad": 3, "worst": 4}
    assert shared_ranks({name: -found for name, found in scores.items()}, better="lower") == shared_ranks(scores)


def test_five_trees_rank_all_methods_alike():
    assert set(shared_ranks({"a": [1.0] * 5, "b": [0.5] * 5, "c": [0.0] * 5}).values()) == {1}


def test_ranks_follow_the_means():
    # "steady" is beaten by "best" beyond doubt; "wild" has a lower mean but is too wild to tell: it may not rank before "steady".
    trees = 20
    scores = {
        "best": np.full(trees, 0.9),
        "steady": np.full(trees, 0.8),
        "wild": np.where(np.arange(trees) < 15, 1.0, 0.1),
    }
    assert scores["wild"].mean() < scores["steady"].mean()
    assert shared_ranks(scores) == {"best": 1, "steady": 2, "wild": 2}


def test_ranking_one_or_none():
    assert shared_ranks({"alone": [0.5, 0.6]}) == {"alone": 1}
    assert shared_ranks({}) == {}
