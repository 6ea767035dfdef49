"""Times lineage recovery over very many tiny models, in two ways.

* ``dense``: the distances of all pairs, the spanning tree, and the direction scores along its edges;
* ``linea``: the method Linea.

Run it on demand. In full: ``python tests/performance/bench_many_models.py --dense 1000 --linea 1000``.
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

from mothr.baselines.linea.method import Linea
from mothr.baselines.parts.arborescence import spanning_tree
from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.parts.distances import distances
from mothr.benchmark.weights.discovery import open_folder
from mothr.benchmark.weights.engine import use_resources
from mothr.benchmark.weights.layers import Layers

LAYERS = Layers("matrices")
SHAPES = {f"layers.{layer}.{part}.weight": (32, 32) for layer in range(2) for part in ("query", "value", "mlp")}
SIZE = 50
"""Models in a tree. The parent of each is drawn from those before it."""


def build(folder: Path, n: int) -> set[tuple[str, str]]:
    """Writes n models: heavy-tailed roots, and children with Gaussian updates; returns the true edges."""
    rng, edges = np.random.default_rng(0), set()
    for start in range(0, n, SIZE):
        tree = []
        for node in range(min(SIZE, n - start)):
            parent = int(rng.integers(node)) if node else None
            origin = dict.fromkeys(SHAPES, 0.0) if parent is None else tree[parent]
            draw, scale = (rng.laplace, 0.1) if parent is None else (rng.normal, 0.03)
            tree.append({name: origin[name] + draw(0, scale, size=shape) for name, shape in SHAPES.items()})
            save_file(
                {name: value.astype(np.float32) for name, value in tree[-1].items()},
                folder / f"{start + node:06}.safetensors",
            )
            if parent is not None:
                edges.add((f"{start + parent:06}", f"{start + node:06}"))
    return edges


def dense(models) -> list[tuple[int, int]]:
    """Returns the spanning tree of the distances of all pairs. Two distances are computed, as in a method that also clusters."""
    distances(models, "cosine", LAYERS, cache=None)
    return spanning_tree(distances(models, "relative", LAYERS, cache=None))


def lineage(folder: Path, way: str, budget: int) -> dict:
    """Returns the directed edges, seconds of each step, and the peak of memory of this process, which does nothing else."""
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    marks = {"start": time.perf_counter()}
    models = open_folder(folder)
    marks["opening"] = time.perf_counter()
    with use_resources(budget=budget):
        if way == "linea":
            edges = Linea()(models, np.random.default_rng(0)).graph.edges
            marks["answer"] = time.perf_counter()
        else:
            tree = np.array(dense(models), dtype=np.intp).reshape(-1, 2)
            marks["distances"] = time.perf_counter()
            scores = pair_scores(models, "residual_independence", tree, LAYERS, cache=None)
            marks["directions"] = time.perf_counter()
            directed = np.where((scores > 0)[:, None], tree, tree[:, ::-1])
            edges = [(models.ids[parent], models.ids[child]) for parent, child in directed.tolist()]
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
    parser.add_argument("--linea", type=int, default=200, help="models that Linea is given (default 200)")
    parser.add_argument("--budget", type=int, default=512, help="memory budget in MiB (default 512)")
    parser.add_argument("--folder", type=Path, help="where to write the weights (default: where temporary files go)")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()

    rows = [measured(arguments.folder, way, getattr(arguments, way), arguments.budget) for way in ("dense", "linea")]
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
