"""How fast models train on a GPU beside two cores: the same loop, batches and seeds, in the same run.

    python tests/performance/bench_device.py

Two cores are two processes of one torch thread each, as ``mothr generate --workers 2`` has them; the GPU is shared by one process,
and by as many as ``--workers`` says. Each process takes a few steps first that do not count, waits for the others, then trains; the
rate is the steps of all of them a second. A ViT-S (22 million parameters, pictures of 224 x 224) has to be LEAST times as fast on the
GPU; the small ViT of vthr-ft shows where a GPU has too little to do. Without a GPU there is nothing to compare, and it says so.
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

LEAST = 5.0
SIZES = {
    "ViT-S": (ViT(hidden_size=384, layers=12, heads=6, mlp_size=1536, patch_size=16, image_size=224), 16),
    "vthr-ft": (ViT(**(recipe := load_recipe("vthr-ft")).model), recipe.edges[0].training.batch_size),
}
WARM = 1
"""Steps that do not count: they allocate."""

_together: Barrier


def start(together: Barrier) -> None:
    """Gives a worker one torch thread, and the barrier at which it waits for the others."""
    global _together
    _together = together
    torch.set_num_threads(1)


def seconds(size: str, device: str, steps: int) -> float:
    """Returns how long this process takes for ``steps`` steps while the others do the same."""
    family, batch = SIZES[size]
    if device == "cuda":
        set_deterministic(family.repeats_on_gpu)
    place = torch.device(device)
    model = family.build("truncated-normal", 0.02, torch_generator(0, "weights")).to(place)
    objective = Untested(family.objective(("shape-kind",), torch_generator(0, "head"), place))
    begun = 0.0

    def stamp(step: int) -> None:
        nonlocal begun
        if step == WARM:
            _settle(device)
            _together.wait()
            begun = time.perf_counter()

    train(model, objective, Training(steps=WARM + steps, batch_size=batch, learning_rate=1e-4), 1, on_step=stamp)
    _settle(device)
    return time.perf_counter() - begun


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def rate(size: str, device: str, workers: int, steps: int) -> float:
    """Returns the steps a second of ``workers`` processes."""
    context = get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=start, initargs=(context.Barrier(workers),)
    ) as pool:
        times = list(pool.map(seconds, [size] * workers, [device] * workers, [steps] * workers))
    return workers * steps / max(times)


def main() -> None:
    """Prints the table; leaves with status 1 if the GPU is not fast enough at ViT-S size."""
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
            found = rate(size, device, workers, options.steps * (10 if device == "cuda" else 1))
            cores = found if device == "cpu" else cores
            on = "2 cores" if device == "cpu" else f"{torch.cuda.get_device_name()}, {workers} processes"
            rows.append({"size": size, "on": on, "steps_a_second": round(found, 3), "ratio": round(found / cores, 2)})
            if not options.json:  # at once: the processor takes its time
                print(*rows[-1].values(), sep=" | ", flush=True)
    if options.json:
        print(json.dumps(rows))
    sys.exit(
        0 if all(row["ratio"] >= LEAST for row in rows if row["size"] == "ViT-S" and row["on"] != "2 cores") else 1
    )


if __name__ == "__main__":
    main()
