"""Times the dense minimum directed spanning tree against networkx, in the same run.

Run it on demand: ``python tests/performance/bench_arborescence.py``. networkx takes minutes.
"""

import argparse
import json
import time

import networkx
import numpy as np

from mothr.baselines.parts.arborescence import arborescence


def costs(n: int, seed: int) -> np.ndarray:
    """Returns symmetric (n, n) costs: Euclidean distances of points. Symmetric costs close many cycles, as distances of models do."""
    points = np.random.default_rng(seed).random((n, 4))
    return np.linalg.norm(points[:, None] - points, axis=2)


def dense(cost: np.ndarray) -> float:
    """Returns the cost of the arborescence figures by the dense solver."""
    return float(sum(cost[parent, child] for child, parent in enumerate(arborescence(cost)) if parent >= 0))


def sparse(cost: np.ndarray) -> float:
    """Returns the cost of the arborescence figures by networkx."""
    n = len(cost)
    graph = networkx.DiGraph()
    graph.add_weighted_edges_from((i, j, cost[i, j]) for i in range(n) for j in range(n) if i != j)
    return float(networkx.minimum_spanning_arborescence(graph).size(weight="weight"))


def timed(function, *arguments, repeats: int = 1):
    """Returns (result, processor seconds of the fastest of ``repeats`` calls). A busy machine changes processor time little."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        result = function(*arguments)
        best = min(best, time.process_time() - start)
    return result, best


def main() -> None:
    """Prints the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=300, help="nodes of the comparison with networkx (default 300)")
    parser.add_argument("--large", type=int, default=1000, help="nodes of the dense solver alone (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the costs")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()

    cost = costs(arguments.nodes, arguments.seed)
    ours, ours_seconds = timed(dense, cost, repeats=3)
    theirs, theirs_seconds = timed(sparse, cost)
    if abs(ours - theirs) > 1e-9 * abs(theirs):
        raise SystemExit(f"the two costs differ: {ours} (dense) and {theirs} (networkx)")
    large = costs(arguments.large, arguments.seed)
    _, large_seconds = timed(dense, large, repeats=3)
    figures = {
        "nodes": arguments.nodes,
        "dense_seconds": ours_seconds,
        "networkx_seconds": theirs_seconds,
        "networkx_version": networkx.__version__,
        "ratio": theirs_seconds / ours_seconds,
        "large_nodes": arguments.large,
        "large_dense_seconds": large_seconds,
    }
    if arguments.json:
        print(json.dumps(figures))
        return
    print(
        f"n = {arguments.nodes}: dense {ours_seconds:.3f} s, networkx {theirs_seconds:.1f} s, same cost, ratio {figures['ratio']:.0f}"
    )
    print(f"n = {arguments.large}: dense {large_seconds:.3f} s")


if __name__ == "__main__":
    main()
