"""How often intervals over trees hold the true mean, by simulation on scores like ours. Run on demand; takes two minutes."""

import argparse
import json
from collections.abc import Callable

import numpy as np
from scipy.stats import t as student

from mothr.benchmark.score.statistics import bootstrap_interval, mean_interval

TREES = (5, 10, 20)
EDGES = 20
"""Edges of a tree; every score is a number of right ones over this."""
LEVEL = 0.95
ASKED = (0.93, 0.97)
"""Where the coverage of a nominal 95 % should lie."""

Draw = Callable[[np.random.Generator, int], np.ndarray]


def graded(a: float, b: float) -> Draw:
    """Trees differ in how hard they are: the share of right edges of each is beta(a, b)."""
    return lambda rng, n: rng.binomial(EDGES, rng.beta(a, b, n)) / EDGES


def chosen(values: tuple[float, ...], shares: tuple[float, ...]) -> Draw:
    """Trees take one of a few scores."""
    return lambda rng, n: rng.choice(values, n, p=shares)


def works_or_not(rng: np.random.Generator, n: int) -> np.ndarray:
    """A direction score that suits half of the trees: 9 in 10 edges are right there, and 1 in 10 elsewhere."""
    return rng.binomial(EDGES, np.where(rng.random(n) < 0.5, 0.9, 0.1)) / EDGES


SHAPES: dict[str, tuple[Draw, float]] = {
    "graded, mean 0.7": (graded(7, 3), 0.7),
    "graded, mean 0.5, every score as likely": (graded(1, 1), 0.5),
    "graded, mean 0.3": (graded(3, 7), 0.3),
    "works on half of the trees": (works_or_not, 0.5),
    "graded, mean 0.9": (graded(9, 1), 0.9),
    "right skeleton, random root: 1, 0.95 or 0.9": (
        chosen((1, 0.95, 0.9), (1 / 21, 4 / 21, 16 / 21)),
        (1 + 4 * 0.95 + 16 * 0.9) / 21,
    ),
    "perfect, or two edges wrong in half of the trees": (chosen((1, 0.9), (0.5, 0.5)), 0.95),
    "perfect, or two edges wrong in a fifth": (chosen((1, 0.9), (0.8, 0.2)), 0.98),
    "all or nothing, mean 0.7": (chosen((1, 0), (0.7, 0.3)), 0.7),
}
"""Shape -> how scores are drawn, and their true mean."""


def plain_t(values: np.ndarray) -> tuple[float, float]:
    """Returns the ends of the t-interval, of no width where all trees score alike."""
    half = student.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def on_board(values: np.ndarray) -> tuple[float, float]:
    """Returns the ends of the interval that the board shows."""
    found = mean_interval(values, LEVEL, (0, 1))
    return found.low, found.high


def main() -> None:
    """Prints the coverage of each interval at each number of trees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--forests", type=int, default=4000, help="forests drawn for each row, a quarter of them for bootstraps"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()
    rows = []
    for shape, (draw, mean) in SHAPES.items():
        for trees in TREES:
            rng = np.random.default_rng(trees)
            kinds = {"board": on_board, "plain t": plain_t}
            for kind in ("percentile", "bca"):
                kinds[kind] = lambda values, kind=kind, rng=rng: (
                    (found := bootstrap_interval(values, kind, LEVEL, (0, 1), rng, 500)).low, found.high
                )  # fmt: skip
            row = {"shape": shape, "trees": trees}
            scores = [draw(rng, trees) for _ in range(arguments.forests)]
            row["alike"] = float(np.mean([one.min() == one.max() for one in scores]))
            for kind, interval in kinds.items():
                ends = np.array(
                    [interval(one) for one in scores[: arguments.forests // (1 if kind in ("board", "plain t") else 4)]]
                )
                row[kind] = float(np.mean((ends[:, 0] <= mean + 1e-9) & (ends[:, 1] >= mean - 1e-9)))
            rows.append(row)
    if arguments.json:
        print(json.dumps(rows))
        return
    print(
        f"share of intervals that hold the true mean, nominal {LEVEL:.0%}; * is outside {ASKED[0]:.0%} to {ASKED[1]:.0%}"
    )
    kinds = [name for name in rows[0] if name not in ("shape", "trees")]
    print(f"{'scores of a tree':50}{'trees':>6}" + "".join(f"{kind:>12}" for kind in kinds))
    for row in rows:
        cells = [
            f"{row[kind]:11.1%}" + ("*" if kind != "alike" and not ASKED[0] <= row[kind] <= ASKED[1] else " ")
            for kind in kinds
        ]
        print(f"{row['shape']:50}{row['trees']:>6}" + "".join(cells))
    for kind in kinds[1:]:
        found = [row[kind] for row in rows]
        inside = sum(ASKED[0] <= share <= ASKED[1] for share in found)
        print(f"{kind}: {min(found):.1%} to {max(found):.1%}; {inside} of {len(found)} within what is asked")


if __name__ == "__main__":
    main()
