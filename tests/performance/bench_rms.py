"""Times RMS distances of all pairs by blocked products against a loop over pairs, in the same run, with memory and error.

Run it on demand. At the size of VTHR it writes 12 GB of weights first and removes them afterwards:
``python tests/performance/bench_rms.py --layers 48 --side 768 --share 0.01 --folder FOLDER``.
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
from safetensors import safe_open
from safetensors.numpy import save_file

from mothr.baselines.parts.distances import distances
from mothr.benchmark.weights.discovery import open_folder
from mothr.benchmark.weights.engine import use_resources
from mothr.benchmark.weights.layers import Layers

SHAPE = (None, *[0] * 4, *[1 + node // 4 for node in range(16)])
"""Parent of each node of a tree: 1 + 4 + 16, as in VTHR."""
TREES = 5


def build(folder: Path, layers: int, side: int) -> list[Path]:
    """Returns the files of five trees of 21 models: roots, and updates of a thousandth to a tenth of their size."""
    rng, files, names = np.random.default_rng(0), [], [f"layers.{layer}.weight" for layer in range(layers)]
    for tree in range(TREES):
        tree_weights = []
        for node, parent in enumerate(SHAPE):
            scale = np.float32(0.02 if parent is None else 0.02 * 10 ** rng.uniform(-3, -1))
            weights = {name: scale * rng.standard_normal((side, side), dtype=np.float32) for name in names}
            if parent is not None:
                weights = {name: update + tree_weights[parent][name] for name, update in weights.items()}
            tree_weights.append(weights if node < 5 else {})  # leaves have no children
            files.append(folder / f"{tree}-{node:02}.safetensors")
            save_file(weights, files[-1])
    return files


def pair(first: Path, second: Path, double: bool = False) -> float:
    """Returns the mean over tensors of the RMS of the difference of two models."""
    with safe_open(first, "pt") as file_1, safe_open(second, "pt") as file_2:
        dtype, distances_of_tensors = torch.float64 if double else torch.float32, []
        for name in file_1.keys():  # noqa: SIM118 (the file is no mapping)
            difference = file_1.get_tensor(name).to(dtype) - file_2.get_tensor(name).to(dtype)
            distances_of_tensors.append(float(difference.square().mean().sqrt()))
    return float(np.mean(distances_of_tensors))


def loop(files: list[Path], pairs: list[tuple[int, int]]) -> list[float]:
    """Returns the distance of each pair, one by one."""
    return [pair(files[i], files[j]) for i, j in pairs]


def timed(function, *arguments):
    """Returns (result, wall-clock seconds, processor seconds). The two differ if other programs use the machine."""
    wall, processor = time.perf_counter(), time.process_time()
    return function(*arguments), time.perf_counter() - wall, time.process_time() - processor


def engine(folder: Path, budget: int) -> dict:
    """Returns the distances, times and peak of memory of this process, which does nothing else."""
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    models, opening, _ = timed(open_folder, folder)
    with use_resources(budget=budget):
        matrix, wall, processor = timed(lambda: distances(models, "rms", Layers("matrices"), cache=None))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "ids": models.ids,
        "distances": matrix,
        "opening": opening,
        "wall": wall,
        "processor": processor,
        "peak": peak,
        "before": before,
    }


def main() -> None:
    """Prints the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4, help="matrices of each of the 105 models (default 4)")
    parser.add_argument("--side", type=int, default=384, help="side of each (default 384)")
    parser.add_argument(
        "--share", type=float, default=0.05, help="share of the pairs that the loop is timed on (default 0.05)"
    )
    parser.add_argument("--budget", type=int, default=1024, help="memory budget in MiB (default 1024)")
    parser.add_argument("--folder", type=Path, help="where to write the weights (default: where temporary files go)")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        files = build(Path(name), arguments.layers, arguments.side)
        rng, n = np.random.default_rng(1), len(files)
        all_pairs = [(i, j) for i in range(n) for j in range(i)]
        sample = [
            all_pairs[place]
            for place in rng.choice(len(all_pairs), max(1, int(arguments.share * len(all_pairs))), replace=False)
        ]
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            ours = pool.submit(engine, Path(name), arguments.budget << 20).result()
        _, loop_wall, loop_processor = timed(loop, files, sample)
        place_of = {id: position for position, id in enumerate(ours["ids"])}
        near = [(i, i - i % len(SHAPE)) for i in range(n) if i % len(SHAPE)][
            :20
        ]  # children and their roots, the nearest pairs: the hardest case
        errors = []
        for i, j in [*sample[:20], *near]:
            exact = pair(files[i], files[j], double=True)
            errors.append(abs(ours["distances"][place_of[files[i].stem], place_of[files[j].stem]] / exact - 1))
    scale = len(all_pairs) / len(sample)
    figures = {
        "models": n, "layers": arguments.layers, "side": arguments.side, "gigabytes": n * arguments.layers * arguments.side**2 * 4 / 1e9,
        "seconds": ours["wall"], "processor_seconds": ours["processor"], "hashing_seconds": ours["opening"],
        "loop_seconds": loop_wall * scale, "loop_processor_seconds": loop_processor * scale, "loop_pairs": len(sample),
        "ratio": loop_wall * scale / ours["wall"], "processor_ratio": loop_processor * scale / ours["processor"],
        "peak_megabytes": ours["peak"] / 1024, "of_which_before_megabytes": ours["before"] / 1024,
        "largest_relative_error": max(errors),
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(figures))
        return
    print(
        f"{n} models x {arguments.layers} matrices of {arguments.side} x {arguments.side}, {figures['gigabytes']:.1f} GB"
    )
    print(
        f"blocked: {figures['seconds']:.1f} s ({figures['processor_seconds']:.1f} s of processor), after {ours['opening']:.1f} s of hashing"
    )
    print(
        f"loop: {figures['loop_seconds']:.0f} s ({figures['loop_processor_seconds']:.0f} s of processor), from {len(sample)} pairs"
    )
    print(
        f"ratio {figures['ratio']:.1f} ({figures['processor_ratio']:.1f} by processor time); peak {figures['peak_megabytes']:.0f} MB"
    )
    print(f"largest relative error against float64: {figures['largest_relative_error']:.1e}")


if __name__ == "__main__":
    main()
