"""Times an ablation of 1,100 runs on 105 models whose features are in the cache. Run on demand; it takes one or two minutes."""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from mothr.baselines.studies import ablation, ablation_report
from mothr.baselines.studies.datasets import OpenedDataset
from mothr.benchmark import __version__
from mothr.benchmark.data.dataset import fix_times, write_manifest

PARENTS = (None, *[0] * 4, *[1 + node // 4 for node in range(16)])
"""Parent of each node of a tree: 1 + 4 + 16, as in VTHR."""
GRID = ablation.AblationGrid(
    distances=("rms", "cosine"),
    weights=(0.0, 0.1, 0.2, 0.3, 1.0),
    layers=("matrices", "attention", "mlp", "value", "output"),
)
SEEDS = 6
"""Runs of the direction score 'random'. 50 panels of 15 scores, the truth and 6 random runs are 1,100 runs."""


def build(folder: Path, layers: int, side: int) -> Path:
    """Writes a data set of five trees of 21 models to ``folder``, and returns ``folder``.

    The tensors are named as in ViTs. Roots have heavy tails, and updates are Gaussian.
    """
    rng, nodes, shapes = np.random.default_rng(0), {}, {}
    for layer in range(layers):
        block = f"encoder.layer.{layer}"
        shapes |= {f"{block}.attention.attention.{part}.weight": (side, side) for part in ("query", "key", "value")}
        shapes |= {f"{block}.attention.output.dense.weight": (side, side), f"{block}.layernorm_before.weight": (side,)}
        shapes |= {
            f"{block}.intermediate.dense.weight": (2 * side, side),
            f"{block}.output.dense.weight": (side, 2 * side),
        }
    for tree in range(5):
        ids, weights = [rng.bytes(6).hex() for _ in PARENTS], []
        for node, parent in enumerate(PARENTS):
            draw, scale = (rng.laplace, 0.1) if parent is None else (rng.normal, 0.03)
            parent_weights = dict.fromkeys(shapes, 0.0) if parent is None else weights[parent]
            weights.append({name: parent_weights[name] + draw(0, scale, size=shape) for name, shape in shapes.items()})
            place = folder / "models" / ids[node]
            place.mkdir(parents=True)
            save_file(
                {name: value.astype(np.float32) for name, value in weights[-1].items()}, place / "model.safetensors"
            )
            nodes[ids[node]] = {"parents": [] if parent is None else [ids[parent]], "tree": tree}
    (folder / "truth.json").write_text(
        json.dumps({"schema_version": 1, "split": "bench", "version": 1, "nodes": nodes})
    )
    fix_times(folder / "models")
    write_manifest(
        folder, name="bench", version=1, family="vit", mothr_version=__version__, recipe_sha256="0" * 64, environment={}
    )
    return folder


def timed(function, *arguments):
    """Returns (result, wall-clock seconds, processor seconds); the times differ if other processes use the machine."""
    wall, processor = time.perf_counter(), time.process_time()
    return function(*arguments), time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Prints the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--layers", type=int, default=4, help="transformer layers of each model (default 4, as in vthr-ft)"
    )
    parser.add_argument("--side", type=int, default=32, help="width of each model; it matters only to the first pass")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        os.environ["MOTHR_CACHE"] = str(temporary / "cache")
        data = build(temporary / "data", arguments.layers, arguments.side)
        all_features = ablation.AblationGrid(distances=GRID.distances, layers=GRID.layers[:1])
        _, first, _ = timed(ablation.run, all_features, data, "known-trees", 1)
        records, wall, processor = timed(ablation.run, GRID, data, "known-trees", SEEDS)
        (temporary / "out").mkdir()
        rows, scoring, scoring_processor = timed(ablation.summary, records)
        table, roots, roots_processor = timed(ablation.table_with_roots, records, OpenedDataset.open(data))
        files, writing, writing_processor = timed(ablation_report.write, temporary / "out", records, rows, table, data)
    figures = {
        "models": 5 * len(PARENTS), "runs": len(records), "layers": arguments.layers, "side": arguments.side,
        "first_pass_seconds": first,
        "seconds": wall + scoring + roots + writing,
        "processor_seconds": processor + scoring_processor + roots_processor + writing_processor,
        "writing_seconds": writing,
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"first pass, which computes the features: {first:.1f} s")
    print(
        f"{len(records)} runs over {figures['models']} models, scored, and the files {', '.join(files)}: {figures['seconds']:.1f} s"
    )
    print(
        f"processor time, as on a machine without other processes: {figures['processor_seconds']:.1f} s; "
        f"of the total, writing took {writing:.1f} s"
    )


if __name__ == "__main__":
    main()
