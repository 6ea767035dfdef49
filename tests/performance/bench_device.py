"""Compares training on a GPU with training on two cores: the same loop, batches and seeds.

    python tests/performance/bench_device.py
 Two cores are two processes with one torch thread each, as in ``mothr generate --workers 2``. The GPU is used
by one process, and then by ``--workers`` processes. Each process makes a few steps that do not count, waits
for the others, and then trains. The rate is the number of steps per second of all processes. A ViT-S (22
million parameters, pictures of 224 x 224) must be MIN_SPEEDUP times as fast on the GPU. The small ViT of
vthr-ft shows a model that does not use a GPU fully. Without a GPU the program prints that and exits.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import torch
from bench_training import Untested

from mothr.generators.families.vit import ViT
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.train.machine import set_deterministic
from mothr.generators.train.train import train
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Training

MIN_SPEEDUP = 5.0
SIZES = {
    "ViT-S": (ViT(hidden_size=384, layers=12, heads=6, mlp_size=1536, patch_size=16, image_size=224), 16),
    "vthr-ft": (ViT(**(recipe := load_recipe("vthr-ft")).model), recipe.edges[0].training.batch_size),
}
WARMUP_STEPS = 1
"""Steps that do not count, because they allocate memory."""

_barrier: Barrier


def start(barrier: Barrier) -> None:
    """Sets one torch thread in a worker, and the barrier at which it waits for the others."""
    global _barrier
    _barrier = barrier
    torch.set_num_threads(1)


def seconds(size: str, device: str, steps: int) -> float:
    """Returns the seconds that this process takes for ``steps`` steps while the others do the same."""
    family, batch = SIZES[size]
    if device == "cuda":
        set_deterministic(family.repeats_on_gpu)
    target = torch.device(device)
    model = family.build("truncated-normal", 0.02, torch_generator(0, "weights")).to(target)
    objective = Untested(family.objective(("shape-kind",), torch_generator(0, "head"), target))
    start_time = 0.0

    def stamp(step: int) -> None:
        nonlocal start_time
        if step == WARMUP_STEPS:
            _settle(device)
            _barrier.wait()
            start_time = time.perf_counter()

    train(
        model, objective, Training(steps=WARMUP_STEPS + steps, batch_size=batch, learning_rate=1e-4), 1, on_step=stamp
    )
    _settle(device)
    return time.perf_counter() - start_time


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def rate(size: str, device: str, workers: int, steps: int) -> float:
    """Returns the number of steps per second of ``workers`` processes."""
    context = get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=start, initargs=(context.Barrier(workers),)
    ) as pool:
        times = list(pool.map(seconds, [size] * workers, [device] * workers, [steps] * workers))
    return workers * steps / max(times)


def main() -> None:
    """Prints the table; exits with status 1 if the GPU is not fast enough for ViT-S."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--steps", type=int, default=4, help="steps on the processor; the GPU takes ten times as many")
    parser.add_argument(
        "--workers", type=int, default=8, help="processes that share the GPU in the last row of each size"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here: nothing to compare")
    rows, cores = [], 0.0
    for size in options.sizes.split(","):
        for device, workers in [("cpu", 2), *(("cuda", workers) for workers in sorted({1, options.workers}))]:
            steps_per_second = rate(size, device, workers, options.steps * (10 if device == "cuda" else 1))
            cores = steps_per_second if device == "cpu" else cores
            on = "2 cores" if device == "cpu" else f"{torch.cuda.get_device_name()}, {workers} processes"
            rows.append(
                {
                    "size": size,
                    "on": on,
                    "steps_a_second": round(steps_per_second, 3),
                    "ratio": round(steps_per_second / cores, 2),
                }
            )
            if not options.json:  # at once, because the CPU is slow
                print(*rows[-1].values(), sep=" | ", flush=True)
    if options.json:
        print(json.dumps(rows))
    sys.exit(
        0
        if all(row["ratio"] >= MIN_SPEEDUP for row in rows if row["size"] == "ViT-S" and row["on"] != "2 cores")
        else 1
    )


if __name__ == "__main__":
    main()
