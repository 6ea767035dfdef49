"""Compares the training loop with a bare PyTorch loop over the same model and batches, in one process.

    python tests/performance/bench_training.py
 Both loops have the same batches, optimizer, schedule and clipping. Their repetitions alternate, so that
other work on the machine affects both. The ratio is (time of the bare loop) / (time of our loop). It must be
at least 0.90; 1 means no overhead.
"""

import argparse
import copy
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from mothr.generators.families import FAMILIES
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.train.train import train
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Training

MIN_RATIO = 0.90
RECIPES = {"vit": "vthr-ft", "llama": "llama-ft", "sd": "sd-ft"}


def bare(model: nn.Module, objective, training: Training, seed: int) -> None:
    """Trains like a plain script: AdamW, warm-up and cosine, clipping, and nothing else."""
    weights = [*model.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW([
        {"params": [value for value in weights if value.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [value for value in weights if value.ndim <= 1], "weight_decay": 0.0},
    ], lr=training.learning_rate)  # fmt: skip
    warmup_steps = max(1, round(training.warmup * training.steps))
    rest = max(1, training.steps - warmup_steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            (step + 1) / warmup_steps
            if step < warmup_steps
            else 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / rest))
        ),
    )
    generator = torch_generator(seed, "batches")
    model.eval()
    for _ in range(training.steps):
        loss = objective.loss(model, training.batch_size, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, training.clip)
        optimizer.step()
        schedule.step()


class Untested:
    """An objective without its tests before and after training, which take the same time for both loops."""

    def __init__(self, objective) -> None:
        self.objective = objective

    def __getattr__(self, name: str):
        return getattr(self.objective, name)

    def evaluate(self, model: nn.Module) -> float:
        """Returns 0 without a test."""
        return 0.0


def compare(family_name: str, steps: int, repetitions: int) -> dict[str, object]:
    """Returns the ratio of the two loops' times: its median over repetitions, and a 95 % interval from order
    statistics."""
    recipe = load_recipe(RECIPES[family_name])
    family = FAMILIES[recipe.family](**recipe.model)
    edge = recipe.edges[0]
    training = edge.training.model_copy(update={"steps": steps})
    with tempfile.TemporaryDirectory() as folder:
        if family.has_companions:  # the time of a step does not depend on the quality of the frozen parts
            brief = family.model_copy(update={"vae_steps": 1, "text_steps": 1})
            brief.companions(recipe.roots[0].seed, Path(folder), torch.device("cpu"), lambda step: None)
        objective = family.objective(edge.tasks[:1], torch_generator(0, "head"), torch.device("cpu"), Path(folder))
    start = family.build("normal", 0.02, torch_generator(0, "weights"))
    heads = objective.state()

    def timed(loop) -> float:
        model = copy.deepcopy(start)
        objective.load_state(heads)
        begin = time.perf_counter()
        loop(model)
        timed.trained = model
        return time.perf_counter() - begin

    def ours(model: nn.Module) -> None:
        train(model, Untested(objective), training, 1)

    def theirs(model: nn.Module) -> None:
        bare(model, objective, training, 1)

    results = []
    for loop in (ours, theirs):
        timed(loop)
        results.append(timed.trained.state_dict())
    same = all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    ratios, speeds = [], []
    for repetition in range(repetitions):
        order = (ours, theirs) if repetition % 2 else (theirs, ours)
        times = {loop: timed(loop) for loop in order}
        ratios.append(times[theirs] / times[ours])
        speeds.append(steps / times[ours])
    low, high = interval(ratios)
    return {
        "family": family_name,
        "recipe": recipe.name,
        "batch": training.batch_size,
        "steps": steps,
        "repetitions": repetitions,
        "same_weights": same,
        "steps_a_second": round(statistics.median(speeds), 2),
        "ratio": round(statistics.median(ratios), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "passes": statistics.median(ratios) >= MIN_RATIO,
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Returns a 95 % interval of the median: the order statistics outside of which binomial(n, 1/2) has 2.5 %
    on each side."""
    ordered, count = sorted(values), len(values)
    below, total = 0, 0.0
    while below < count // 2 and total + math.comb(count, below) / 2**count <= 0.025:
        total += math.comb(count, below) / 2**count
        below += 1
    edge = max(0, below - 1)
    return ordered[edge], ordered[count - 1 - edge]


def main() -> None:
    """Times all families and prints the table; exits with status 1 if the loop is too slow or gives other
    weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(RECIPES))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [compare(name, options.steps, options.repetitions) for name in options.families.split(",")]
    if options.json:
        print(json.dumps(rows))
    else:
        print(" | ".join(rows[0]))
        for row in rows:
            print(" | ".join(map(str, row.values())))
    sys.exit(0 if all(row["passes"] and row["same_weights"] for row in rows) else 1)


if __name__ == "__main__":
    main()
