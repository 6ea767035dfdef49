"""Times everything that lineage takes over very many tiny models: distances of all pairs or of candidates alone, and direction
evidence along the spanning tree; and the same models given to Linea as a method. Run on demand.

In full: ``python tests/performance/bench_many_models.py --dense 1000 --sparse 10000 --linea 1000``.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

from mothr.baselines.candidates import neighbours, projections
from mothr.baselines.linea.method import Linea
from mothr.baselines.parts.arborescence import spanning_tree
from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.parts.distances import distances, pair_distances
from mothr.benchmark.weights.checkpoint import open_folder
from mothr.benchmark.weights.features import computing
from mothr.benchmark.weights.layers import Layers

LAYERS = Layers("matrices")
SHAPES = {f"layers.{layer}.{part}.weight": (32, 32) for layer in range(2) for part in ("query", "value", "mlp")}
SIZE = 50
"""Models of a tree; each one's parent is drawn from those before it."""


def build(folder: Path, n: int) -> set[tuple[str, str]]:
    """Writes n models: heavy-tailed roots, and children with Gaussian updates; returns the true edges."""
    rng, edges = np.random.default_rng(0), set()
    for start in range(0, n, SIZE):
        held = []
        for node in range(min(SIZE, n - start)):
            above = int(rng.integers(node)) if node else None
            old = dict.fromkeys(SHAPES, 0.0) if above is None else held[above]
            draw, scale = (rng.laplace, 0.1) if above is None else (rng.normal, 0.03)
            held.append({name: old[name] + draw(0, scale, size=shape) for name, shape in SHAPES.items()})
            save_file(
                {name: value.astype(np.float32) for name, value in held[-1].items()},
                folder / f"{start + node:06}.safetensors",
            )
            if above is not None:
                edges.add((f"{start + above:06}", f"{start + node:06}"))
    return edges


def dense(models) -> list[tuple[int, int]]:
    """Returns the spanning tree of all pairs' distances; two kinds of distance are computed."""
    distances(models, "cosine", LAYERS, cache=None)
    return spanning_tree(distances(models, "relative", LAYERS, cache=None))


def sparse(models) -> list[tuple[int, int]]:
    """Returns the spanning forest of the distances of candidates."""
    pairs = neighbours(projections(models, LAYERS))
    far = pair_distances(models, "relative", pairs, LAYERS, cache=None)
    tree = minimum_spanning_tree(csr_array((far, tuple(pairs.T)), shape=(len(models),) * 2)).tocoo()
    return sorted(zip(*(side.tolist() for side in tree.coords), strict=True))


def lineage(folder: Path, way: str, budget: int) -> dict:
    """Returns the directed edges, seconds of each step, and the peak of memory of this process, which does nothing else."""
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    marks = {"start": time.perf_counter()}
    models = open_folder(folder)
    marks["opening"] = time.perf_counter()
    with computing(budget=budget):
        if way == "linea":
            edges = Linea()(models, np.random.default_rng(0)).graph.edges
            marks["answer"] = time.perf_counter()
        else:
            tree = np.array({"dense": dense, "sparse": sparse}[way](models), dtype=np.intp).reshape(-1, 2)
            marks["distances"] = time.perf_counter()
            says = pair_scores(models, "residual_independence", tree, LAYERS, cache=None)
            marks["directions"] = time.perf_counter()
            turned = np.where((says > 0)[:, None], tree, tree[:, ::-1])
            edges = [(models.ids[i], models.ids[j]) for i, j in turned.tolist()]
    seconds = dict(zip(list(marks)[1:], np.diff(list(marks.values())).tolist(), strict=True))
    return {
        "edges": edges,
        "seconds": seconds,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "before": before,
    }


def measured(folder: Path | None, way: str, n: int, budget: int) -> dict:
    """Returns the figures of one way and one number of models."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        truth = build(Path(name), n)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            ours = pool.submit(lineage, Path(name), way, budget << 20).result()
    found = set(ours["edges"])
    either = {frozenset(edge) for edge in truth} & {frozenset(edge) for edge in found}
    return {
        "way": way, "models": n, "seconds": ours["seconds"], "peak_megabytes": ours["peak"] / 1024,
        "of_which_before_megabytes": ours["before"] / 1024, "true_edges": len(truth), "named": len(found),
        "found_undirected": len(either), "found_directed": len(truth & found),
    }  # fmt: skip


def main() -> None:
    """Prints the times, the memory and how many edges are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dense", type=int, default=200, help="models of which all pairs are compared (default 200)")
    parser.add_argument(
        "--sparse", type=int, default=1000, help="models of which candidates are compared (default 1000)"
    )
    parser.add_argument("--linea", type=int, default=200, help="models that Linea is given (default 200)")
    parser.add_argument("--budget", type=int, default=512, help="memory budget in MiB (default 512)")
    parser.add_argument("--folder", type=Path, help="where to write the weights (default: where temporary files go)")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()

    rows = [
        measured(arguments.folder, way, getattr(arguments, way), arguments.budget)
        for way in ("dense", "sparse", "linea")
    ]
    if arguments.json:
        print(json.dumps({"budget_megabytes": arguments.budget, "rows": rows}))
        return
    for row in rows:
        steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in row["seconds"].items())
        print(
            f"{row['models']} models, {row['way']}: {sum(row['seconds'].values()):.1f} s ({steps}); peak {row['peak_megabytes']:.0f} MB, "
            f"of which {row['of_which_before_megabytes']:.0f} before; {row['named']} edges named, of {row['true_edges']} true ones "
            f"{row['found_undirected']} found, {row['found_directed']} with their direction"
        )


if __name__ == "__main__":
    main()
