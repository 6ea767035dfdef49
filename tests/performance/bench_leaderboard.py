"""Time and memory of the leaderboard over 5,000 made-up runs, and the sizes of its pages.

Run it by hand; it takes a minute or two: ``python tests/performance/bench_leaderboard.py``.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.records.store import write
from mothr.benchmark.score import metrics
from mothr.benchmark.storage import sha256_of, write_json

SHAPE = tuple(None if node == 0 else (node - 1) // 4 for node in range(21))
"""Parent of each node of a tree: 1 + 4 + 16, as in VTHR."""
METHODS, SEEDS, SETTINGS = 24, 3, ("known-trees", "open")
"""Rows of a board, runs of a row, and boards of a split: 144 runs a split."""
NULLS = 5
"""Rows of a board that are nulls."""
CONFIDENT = 3
"""Rows of a board with confidences."""
WORDS = ("body", "value", "square-attention", "square-output", "norm_ratio", "residual_independence", "effective_rank")
PACKAGES = dict.fromkeys(
    ("python", "torch", "numpy", "scipy", "scikit-learn", "pandas", "safetensors", "transformers"), "2.4.6"
)
Scored = tuple[ModelGraph, dict[str, Any]]
"""A prediction and its scores."""


def forest(trees: int) -> ModelGraph:
    """Returns the true forest of ``trees`` trees, its nodes named by number."""
    nodes = {}
    for tree in range(trees):
        for node, parent in enumerate(SHAPE):
            nodes[f"{21 * tree + node:04d}"] = () if parent is None else (f"{21 * tree + parent:04d}",)
    return ModelGraph(nodes)


def spoiled(truth: ModelGraph, share: float, rng: np.random.Generator) -> ModelGraph:
    """Returns ``truth`` with another parent, or none, for the given share of the nodes."""
    order = sorted(truth.nodes, key=lambda node: (truth.depth(node), rng.random()))
    parents = dict(truth.parents)
    for place, node in enumerate(order):
        if rng.random() < share:
            parents[node] = (order[rng.integers(place)],) if place and rng.random() < 0.9 else ()
    return ModelGraph(parents)


def predictions(trees: int, rng: np.random.Generator) -> list[Scored]:
    """Returns a prediction for each method and seed with its scores, which do not depend on the names of nodes."""
    truth, found = forest(trees), []
    for number in range(METHODS * SEEDS):
        predicted = spoiled(truth, number // SEEDS / METHODS, rng)
        scores = {"metrics": metrics.score(truth, predicted), "per_tree": metrics.per_tree(truth, predicted)}
        found.append((predicted, scores))
    return found


def put_split(place: Path, truth: ModelGraph, names: dict[str, str]) -> None:
    """Writes the manifest and the truth of a split into its folder."""
    name = place.name.removesuffix("-v1")
    write_json(place / "manifest.json", {"name": name, "family": "vit"})
    nodes = {
        names[node]: {
            "parents": [names[parent] for parent in parents],
            "relation": "finetune",
            "task": f"task {node[-1]}",
        }
        for node, parents in truth.parents.items()
    }
    write_json(place / "truth.json", {"schema_version": 1, "split": name, "version": 1, "nodes": nodes})


def runs(place: Path, scored: list[Scored], names: dict[str, str], rng: np.random.Generator) -> Iterator[RunRecord]:
    """Yields the runs of one split."""
    manifest = sha256_of(place / "manifest.json")
    for setting in SETTINGS:
        for number, (predicted, scores) in enumerate(scored):
            method, seed = divmod(number, SEEDS)
            parents = predicted.relabel(names)
            confidence = {child: {named[0]: rng.random()} for child, named in parents.parents.items() if named}
            null = method >= METHODS - NULLS
            fields = ("direction", "layers", "distance")
            yield RunRecord(
                split=place.name.removesuffix("-v1"), split_version=1, manifest_sha256=manifest, setting=setting,
                method=("null-" if null else "") + f"method-{method % 12}", method_version="1",
                kind="null" if null else "method", seed=seed, given=[] if setting == "open" else ["trees"],
                parameters={name: WORDS[(method + position) % len(WORDS)] for position, name in enumerate(fields)},
                status="ok", parents=parents.to_json(), confidence=confidence if method < CONFIDENT else None,
                seconds=round(float(rng.lognormal()), 3), peak_bytes=int(rng.integers(1e8, 1e9)), device="cpu",
                mothr_version="0.1.0", commit=None, dirty=None, packages=PACKAGES, date="2026-01-31T12:00:00Z", **scores,
            )  # fmt: skip


def build(folder: Path, wanted: int) -> int:
    """Returns the number of runs written into ``folder``: at least ``wanted``, whole splits, every fourth of ten trees."""
    rng, written = np.random.default_rng(0), 0
    scored = {trees: predictions(trees, rng) for trees in (5, 10)}
    for split in range(-(-wanted // (METHODS * SEEDS * len(SETTINGS)))):
        trees = 10 if split % 4 == 3 else 5
        truth = forest(trees)
        names = {node: rng.bytes(6).hex() for node in truth.nodes}
        place = folder / f"split-{split:02d}-v1"
        put_split(place, truth, names)
        records = list(runs(place, scored[trees], names, rng))
        write(records, folder)
        written += len(records)
    return written


def main() -> None:
    """Prints time, memory and sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5000, help="least number of runs (default 5000)")
    parser.add_argument("--keep", type=Path, help="a new folder for results and pages; without it they are deleted")
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
        index = (place / "board" / "index.html").stat().st_size
        splits = [path.stat().st_size for path in (place / "board").glob("*/index.html")]
    found = {
        "records": records, "seconds": wall, "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": 1024 * used.ru_maxrss, "index_bytes": index, "largest_split_page_bytes": max(splits),
        "all_pages_bytes": index + sum(splits),
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{records} runs: {wall:.1f} s, of the processor alone {found['processor_seconds']:.1f} s")
    print(f"largest resident memory: {found['peak_bytes'] / 1e6:.0f} MB")
    print(f"index: {index / 1e6:.2f} MB; largest page of a split: {max(splits) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
