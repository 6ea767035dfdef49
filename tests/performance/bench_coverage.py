"""Measures how often 95 % intervals over trees contain the true mean, by simulation. Run on demand; it takes two minutes.

Four intervals are compared: the board's, the plain t-interval, and two cluster bootstraps over trees: percentile
(Efron 1979) and BCa (bias-corrected and accelerated, Efron 1987). With --tracks, the interval over trees of a track of several
splits is compared with a percentile bootstrap that resamples the trees of each split.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import bootstrap
from scipy.stats import t as student

from mothr.benchmark.score.ranking import stratified_interval
from mothr.benchmark.score.statistics import mean_interval

TREES = (5, 10, 20)
"""Numbers of trees in a forest."""
EDGES = 20
"""Edges of a tree; a score is the number of correct edges divided by this number."""
LEVEL = 0.95
REQUIRED_COVERAGE = (0.93, 0.97)
"""Range in which the coverage of a 95 % interval should lie."""
RESAMPLES = 500
"""Resamples of one bootstrap."""
BOOTSTRAP_SHARE = 4
"""A bootstrap is slow, so it gets one forest in this many."""

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""Returns the scores of n trees."""
IntervalEnds = Callable[[np.ndarray], tuple[float, float]]
"""Returns the ends of an interval for the mean of the scores of the trees."""


def graded(a: float, b: float) -> Draw:
    """Returns scores of trees that differ in difficulty: the probability of a correct edge is drawn from beta(a, b)."""
    return lambda rng, n: rng.binomial(EDGES, rng.beta(a, b, n)) / EDGES


def discrete(values: tuple[float, ...], probabilities: tuple[float, ...]) -> Draw:
    """Returns scores that take few values."""
    return lambda rng, n: rng.choice(values, n, p=probabilities)


def right_on_half(rng: np.random.Generator, n: int) -> np.ndarray:
    """Returns scores of a direction score that suits half of the trees: 9 in 10 edges are correct there, 1 in 10 elsewhere."""
    return rng.binomial(EDGES, np.where(rng.random(n) < 0.5, 0.9, 0.1)) / EDGES


DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "graded, mean 0.7": (graded(7, 3), 0.7),
    "graded, mean 0.5, all scores equally likely": (graded(1, 1), 0.5),
    "graded, mean 0.3": (graded(3, 7), 0.3),
    "right on half of the trees": (right_on_half, 0.5),
    "graded, mean 0.9": (graded(9, 1), 0.9),
    "right skeleton, random root: 1, 0.95 or 0.9": (
        discrete((1, 0.95, 0.9), (1 / 21, 4 / 21, 16 / 21)),
        (1 + 4 * 0.95 + 16 * 0.9) / 21,
    ),
    "perfect, or two edges wrong in half of the trees": (discrete((1, 0.9), (0.5, 0.5)), 0.95),
    "perfect, or two edges wrong in a fifth": (discrete((1, 0.9), (0.8, 0.2)), 0.98),
    "all or nothing, mean 0.7": (discrete((1, 0), (0.7, 0.3)), 0.7),
}
"""Name -> how the scores of trees are drawn, and their true mean."""


def plain_t(values: np.ndarray) -> tuple[float, float]:
    """Returns the ends of the t-interval; its width is 0 if all trees have the same score."""
    half = student.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def board(values: np.ndarray) -> tuple[float, float]:
    """Returns the ends of the interval that the board shows."""
    interval = mean_interval(values, LEVEL, (0, 1))
    return interval.low, interval.high


def bootstrapped(method: str, rng: np.random.Generator) -> IntervalEnds:
    """Returns the function that gives the ends of a bootstrap interval; if all trees have the same score, the board's ends."""

    def ends(values: np.ndarray) -> tuple[float, float]:
        if values.min() == values.max():
            return board(values)
        result = bootstrap(
            (values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method=method, rng=rng
        ).confidence_interval
        return float(result.low), float(result.high)

    return ends


def coverage(interval: IntervalEnds, forests: Sequence[np.ndarray], mean: float) -> float:
    """Returns the share of forests whose interval contains the true mean."""
    ends = np.array([interval(scores) for scores in forests])
    return float(np.mean((ends[:, 0] <= mean + 1e-9) & (ends[:, 1] >= mean - 1e-9)))


def measure(forests: int) -> list[dict[str, float | str]]:
    """Returns a row for each distribution and number of trees: the coverage of each interval.

    The column ``alike`` is the share of forests in which all trees have the same score.
    """
    rows: list[dict[str, float | str]] = []
    for name, (draw, mean) in DISTRIBUTIONS.items():
        for trees in TREES:
            rng = np.random.default_rng(trees)
            scores = [draw(rng, trees) for _ in range(forests)]
            few = scores[: forests // BOOTSTRAP_SHARE]
            rows.append(
                {
                    "shape": name,
                    "trees": trees,
                    "alike": float(np.mean([tree_scores.min() == tree_scores.max() for tree_scores in scores])),
                    "board": coverage(board, scores, mean),
                    "plain t": coverage(plain_t, scores, mean),
                    "percentile": coverage(bootstrapped("percentile", rng), few, mean),
                    "bca": coverage(bootstrapped("bca", rng), few, mean),
                }
            )
    return rows


def measure_tracks(tracks: int) -> list[dict[str, float | str]]:
    """Returns a row for each number of splits and of trees a split: the coverage of both intervals over trees of a track."""
    names, rows = list(DISTRIBUTIONS), []
    for splits in (2, 8, 16):
        for trees in (5, 20):
            rng, covered = np.random.default_rng(splits), np.zeros(2)
            for _ in range(tracks):
                chosen = [DISTRIBUTIONS[names[number]] for number in rng.integers(len(names), size=splits)]
                scores = [np.asarray(draw(rng, trees), dtype=np.float64) for draw, _ in chosen]
                mean = np.mean([mean for _, mean in chosen])
                interval = stratified_interval(scores, LEVEL, (0, 1))
                resampled = [own[rng.integers(trees, size=(RESAMPLES, trees))].mean(axis=1) for own in scores]
                tails = (1 - LEVEL) / 2, (1 + LEVEL) / 2
                ends = [(interval.low, interval.high), np.quantile(np.mean(resampled, axis=0), tails)]
                covered += [low - 1e-9 <= mean <= high + 1e-9 for low, high in ends]
            board_share, bootstrap_share = (float(share) for share in covered / tracks)
            rows.append(
                {
                    "shape": f"track of {splits} splits",
                    "trees": trees,
                    "alike": 0.0,
                    "board": board_share,
                    "percentile": bootstrap_share,
                }
            )
    return rows


def print_table(rows: Sequence[Mapping[str, float | str]]) -> None:
    """Prints the rows, and for each interval how many rows lie in the required range."""
    low, high = REQUIRED_COVERAGE
    print(f"share of intervals that contain the true mean, nominal {LEVEL:.0%}; * is outside {low:.0%} to {high:.0%}")
    columns = [name for name in rows[0] if name not in ("shape", "trees")]
    print(f"{'scores of a tree':50}{'trees':>6}" + "".join(f"{name:>12}" for name in columns))
    for row in rows:
        cells = [
            f"{row[name]:11.1%}" + ("*" if name != "alike" and not low <= row[name] <= high else " ")
            for name in columns
        ]
        print(f"{row['shape']:50}{row['trees']:>6}" + "".join(cells))
    for name in columns[1:]:
        shares = [row[name] for row in rows]
        inside = sum(low <= share <= high for share in shares)
        print(f"{name}: {min(shares):.1%} to {max(shares):.1%}; {inside} of {len(shares)} within the required range")


def main() -> None:
    """Prints the coverage of each interval at each number of trees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--forests", type=int, default=4000, help="forests drawn for each row; bootstraps get a quarter of them"
    )
    parser.add_argument("--tracks", action="store_true", help="intervals of tracks instead of single splits")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()
    rows = measure_tracks(arguments.forests) if arguments.tracks else measure(arguments.forests)
    if arguments.json:
        print(json.dumps(rows))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
