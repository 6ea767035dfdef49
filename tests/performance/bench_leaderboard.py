"""Times the leaderboard over 5,000 made-up result files, its memory, and the size of its page. Run on demand; takes a minute or two."""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.records.store import write
from mothr.benchmark.score import metrics
from mothr.benchmark.storage import sha256_of, write_json

SHAPE = tuple(None if node == 0 else (node - 1) // 4 for node in range(21))
"""Parent of each node of a tree: 1 + 4 + 16, as in VTHR."""
METHODS, SEEDS, SETTINGS = 24, 3, ("known-trees", "open")
"""Rows of a board, runs of a row, and boards of a split: 144 records a split."""
SURE = 3
"""Methods of a board that say how sure they are."""
WORDS = ("body", "value", "square-attention", "square-output", "norm_ratio", "residual_independence", "effective_rank")
PACKAGES = dict.fromkeys(
    ("python", "torch", "numpy", "scipy", "scikit-learn", "pandas", "safetensors", "transformers"), "2.4.6"
)


def forest(trees: int) -> ModelGraph:
    """Returns the true forest of ``trees`` trees, its nodes called by their number."""
    nodes = {}
    for tree in range(trees):
        for node, above in enumerate(SHAPE):
            nodes[f"{21 * tree + node:04d}"] = () if above is None else (f"{21 * tree + above:04d}",)
    return ModelGraph(nodes)


def spoiled(truth: ModelGraph, share: float, rng: np.random.Generator) -> ModelGraph:
    """Returns ``truth`` where so many nodes are given another parent, or none."""
    order = sorted(truth.nodes, key=lambda node: (truth.depth(node), rng.random()))
    parents = dict(truth.parents)
    for place, node in enumerate(order):
        if rng.random() < share:
            parents[node] = (order[rng.integers(place)],) if place and rng.random() < 0.9 else ()
    return ModelGraph(parents)


def answers(trees: int, rng: np.random.Generator) -> list[tuple[ModelGraph, dict]]:
    """Returns an answer for each method and seed with its scores; they depend on the shape alone and not on names."""
    truth, found = forest(trees), []
    for number in range(METHODS * SEEDS):
        predicted = spoiled(truth, number // SEEDS / METHODS, rng)
        found.append(
            (predicted, {"metrics": metrics.score(truth, predicted), "per_tree": metrics.per_tree(truth, predicted)})
        )
    return found


def build(folder: Path, records: int) -> int:
    """Returns how many result files it wrote into ``folder``: at least ``records``, whole splits, every fourth of ten trees."""
    rng, written = np.random.default_rng(0), 0
    scored = {trees: answers(trees, rng) for trees in (5, 10)}
    for split in range(-(-records // (METHODS * SEEDS * len(SETTINGS)))):
        trees = 10 if split % 4 == 3 else 5
        truth = forest(trees)
        names = {node: rng.bytes(6).hex() for node in truth.nodes}
        place = folder / f"split-{split:02d}-v1"
        write_json(place / "manifest.json", {"name": f"split-{split:02d}", "family": "vit"})
        nodes = {names[node]: {"parents": [names[above] for above in named], "relation": "finetune", "task": f"task {node[-1]}"}
                 for node, named in truth.parents.items()}  # fmt: skip
        write_json(place / "truth.json", {"schema_version": 1, "split": place.name[:-3], "version": 1, "nodes": nodes})
        for setting in SETTINGS:
            for number, (predicted, scores) in enumerate(scored[trees]):
                method, seed = divmod(number, SEEDS)
                parents = predicted.relabel(names)
                sure = {child: {named[0]: rng.random()} for child, named in parents.parents.items() if named}
                record = RunRecord(
                    split=place.name[:-3], split_version=1, manifest_sha256=sha256_of(place / "manifest.json"), setting=setting,
                    method=("null-" if method > METHODS - 6 else "") + f"method-{method % 12}", method_version="1",
                    kind="null" if method > METHODS - 6 else "method", parameters={name: WORDS[(method + at) % len(WORDS)] for at, name in enumerate(("direction", "layers", "distance"))},
                    seed=seed, given=[] if setting == "open" else ["trees"], status="ok", parents=parents.to_json(), device="cpu",
                    confidence=sure if method < SURE else None, seconds=round(float(rng.lognormal()), 3), mothr_version="0.1.0",
                    peak_bytes=int(rng.integers(1e8, 1e9)), commit=None, dirty=None, packages=PACKAGES, date="2026-01-31T12:00:00Z",
                    **scores,
                )  # fmt: skip
                write(record, folder)
                written += 1
    return written


def main() -> None:
    """Prints the time, the memory and the size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5000, help="result files, at least (default 5000)")
    parser.add_argument("--keep", type=Path, help="a new folder for the results and the page, which are else deleted")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        place = arguments.keep or Path(name)
        records = build(place / "results", arguments.records)
        code = "from mothr.benchmark.cli.main import main; main()"
        command = [sys.executable, "-c", code, "leaderboard", str(place / "results"), "--out", str(place / "board")]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (place / "board" / "index.html").stat().st_size
    found = {
        "records": records, "seconds": wall, "processor_seconds": used.ru_utime + used.ru_stime, "peak_bytes": 1024 * used.ru_maxrss,
        "page_bytes": size,
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{records} result files: {wall:.1f} s, of the processor alone {found['processor_seconds']:.1f} s")
    print(f"largest resident memory: {found['peak_bytes'] / 1e6:.0f} MB; the page: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
