"""Times rank distances of all pairs by sketches against torch.linalg.matrix_rank pair by pair, in the same run.

Run it on demand.

At the size of VTHR: ``python tests/performance/bench_rank.py --matrices 12 --side 768 --pairs 24``.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mothr.baselines.parts.distances import distances
from mothr.benchmark.weights.discovery import open_folder
from mothr.benchmark.weights.layers import Layers

SHAPE = (None, *[0] * 4, *[1 + node // 4 for node in range(16)])
"""Parent of each node of the tree: 1 + 4 + 16, as in VTHR."""
STORED = ("F32", "F16", "BF16", "I8")


def stored(weights: torch.Tensor, kind: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Returns the tensors that a file stores for ``weights``, by ending of the name, and the values that they represent."""
    if kind == "I8":
        scale = weights.abs().amax(dim=1, keepdim=True) / 127
        steps = (weights / scale).round()
        return {"": steps.to(torch.int8), "_scale": scale}, steps * scale
    converted = weights.to({"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind])
    return {"": converted}, converted.float()


def build(folder: Path, kind: str, matrices: int, side: int, size: float) -> np.ndarray:
    """Writes a tree of 21 models with merged LoRA updates of ranks 4 to 16; returns the true ranks of all differences, (21, 21)."""
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    ranks = rng.integers(4, 17, size=len(SHAPE))
    values: list[dict[str, torch.Tensor]] = []
    for node, parent in enumerate(SHAPE):
        content, values = {}, [*values, {}]
        for layer in range(matrices):
            name = f"layers.{layer}.weight"
            if parent is None:
                weights = 0.02 * torch.randn(side, side, generator=generator)
            else:
                left, right = (torch.randn(side, int(ranks[node]), generator=generator) for _ in range(2))
                update = left @ right.T
                weights = values[parent][name] + update * (size * 0.02 * side / update.norm())
            tensors, values[node][name] = stored(weights, kind)
            content |= {f"{name}{ending}": tensor.contiguous() for ending, tensor in tensors.items()}
        save_file(content, folder / f"{node:02}.safetensors")
    lines = [{0}]  # each node with its ancestors
    for node, parent in enumerate(SHAPE[1:], start=1):
        lines.append({node, *lines[parent]})
    return np.array([[sum(ranks[node] for node in (first ^ second)) for second in lines] for first in lines])


def timed(function, *arguments):
    """Returns (result, wall-clock seconds, processor seconds). The two differ if other programs use the machine."""
    wall, processor = time.perf_counter(), time.process_time()
    return function(*arguments), time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Prints the times and their ratio for each way to store the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matrices", type=int, default=2, help="matrices of each of the 21 models (default 2)")
    parser.add_argument("--side", type=int, default=512, help="side of each (default 512)")
    parser.add_argument("--pairs", type=int, default=8, help="differences that matrix_rank is timed on (default 8)")
    parser.add_argument("--size", type=float, default=0.1, help="norm of an update over that of the root (default 0.1)")
    parser.add_argument("--folder", type=Path, help="where to write the weights (default: where temporary files go)")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    rng, n, rows = np.random.default_rng(1), len(SHAPE), []
    all_pairs = [(i, j) for i in range(n) for j in range(i)]
    for kind in STORED:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            truth = build(Path(name), kind, arguments.matrices, arguments.side, arguments.size)
            models = open_folder(Path(name))
            computed, wall, processor = timed(
                lambda models=models: distances(models, "rank", Layers("matrices"), cache=None)
            )
            order = [models.ids.index(f"{node:02}") for node in range(n)]
            computed = computed[np.ix_(order, order)] / arguments.matrices
            stacks = models.stack("layers.0.weight", order)
        sample = [all_pairs[place] for place in rng.choice(len(all_pairs), arguments.pairs, replace=False)]
        differences = [stacks[i] - stacks[j] for i, j in sample]
        theirs, loop_wall, loop_processor = timed(
            lambda matrices=differences: [int(torch.linalg.matrix_rank(matrix)) for matrix in matrices]
        )
        scale = arguments.matrices * len(all_pairs) / len(sample)
        rows.append({
            "stored": kind, "seconds": wall, "processor_seconds": processor,
            "loop_seconds": loop_wall * scale, "loop_processor_seconds": loop_processor * scale,
            "ratio": loop_wall * scale / wall, "processor_ratio": loop_processor * scale / processor,
            "pairs": len(all_pairs), "right": int((computed == truth)[np.tril_indices(n, -1)].sum()),
            "of_loop": len(sample), "right_of_loop": sum(int(rank == truth[pair]) for rank, pair in zip(theirs, sample, strict=True)),
            "same_as_loop": sum(int(rank == computed[pair]) for rank, pair in zip(theirs, sample, strict=True)),
        })  # fmt: skip
    if arguments.json:
        shape = {"models": n, "matrices": arguments.matrices, "side": arguments.side, "size": arguments.size}
        print(json.dumps({**shape, "rows": rows}))
        return
    print(
        f"{n} models x {arguments.matrices} matrices of {arguments.side} x {arguments.side}, updates {arguments.size:g} of the root"
    )
    for row in rows:
        print(
            f"{row['stored']:>4}: {row['seconds']:.2f} s, loop {row['loop_seconds']:.0f} s, ratio {row['ratio']:.0f} "
            f"({row['processor_ratio']:.0f} by processor time); {row['right']} of {row['pairs']} ranks right, "
            f"by matrix_rank {row['right_of_loop']} of {row['of_loop']}"
        )


if __name__ == "__main__":
    main()
