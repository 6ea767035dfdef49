"""Measures the speed-up of generating with two worker processes instead of one.

    python tests/performance/bench_generate.py --shrink 10

``--shrink`` divides the steps of the recipe; 1 measures the recipe itself.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.recipe.schema import Recipe


def shrunk(recipe: Recipe, factor: int) -> Recipe:
    """Returns the recipe with its steps divided by ``factor``."""

    def fewer(spec):
        return spec.model_copy(
            update={"training": spec.training.model_copy(update={"steps": max(1, spec.training.steps // factor)})}
        )

    return recipe.model_copy(
        update={"roots": tuple(map(fewer, recipe.roots)), "edges": tuple(map(fewer, recipe.edges))}
    )


def seconds(recipe: Recipe, workers: int) -> float:
    """Returns the wall-clock time of a complete data set in seconds, without cached roots and with new worker
    processes."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["MOTHR_CACHE"] = str(Path(place, "cache"))
        start = time.perf_counter()
        generate(recipe, Path(place, "data"), workers=workers)
        return time.perf_counter() - start


def main() -> None:
    """Times one and two workers, and prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="vthr-ft")
    parser.add_argument("--shrink", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    recipe = shrunk(load_recipe(options.recipe), options.shrink)
    times = {workers: seconds(recipe, workers) for workers in (2, 1)}
    row = {
        "recipe": options.recipe,
        "shrink": options.shrink,
        "one_worker_s": times[1],
        "two_workers_s": times[2],
        "ratio": times[1] / times[2],
    }
    print(json.dumps(row) if options.json else "\n".join(f"{key:14} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
