"""Measures the memory of generating for forests with more models, and for larger models.

    python tests/performance/bench_generate_memory.py
 Each forest is made by a process of its own with one worker and one optimizer step per model. The figures are
the peak resident sizes of the planning process and of its worker. The ratio of the largest forest to the
smallest must be at most 1.1. The row with a larger model shows that the figures do react to memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from mothr.generators.generate import generate
from mothr.generators.recipe.loading import load_recipe
from mothr.generators.recipe.schema import Recipe, Topology

MAX_RATIO = 1.1
FORESTS = {"1 + 3": (3,), "1 + 3 + 9": (3, 3), "1 + 3 + 9 + 27": (3, 3, 3)}


def forest(branching: tuple[int, ...], hidden_size: int) -> Recipe:
    """Returns a recipe for one tree of small ViTs, trained for one step each."""
    recipe = load_recipe("vthr-ft")
    once = {"steps": 1, "batch_size": 8}
    root, edge = recipe.roots[0], recipe.edges[0]
    return recipe.model_copy(update={
        "model": {**recipe.model, "hidden_size": hidden_size, "mlp_size": 4 * hidden_size}, "topology": Topology(branching=branching),
        "roots": (root.model_copy(update={"training": root.training.model_copy(update=once)}),),
        "edges": (edge.model_copy(update={"training": edge.training.model_copy(update=once)}),),
    })  # fmt: skip


def measure(branching: tuple[int, ...], hidden_size: int) -> None:
    """Generates in this process, and prints the peak memory of this process and of its worker in MiB."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["MOTHR_CACHE"] = str(Path(place, "cache"))
        generate(forest(branching, hidden_size), Path(place, "data"), workers=1, progress=False)
    print(
        json.dumps(
            [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        )
    )


def peaks(name: str, hidden_size: int) -> dict[str, object]:
    """Returns a row of the table, measured in a new process."""
    command = [
        sys.executable,
        __file__,
        "--measure",
        ",".join(map(str, FORESTS[name])),
        "--hidden-size",
        str(hidden_size),
    ]
    planner, worker = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    return {"forest": name, "hidden size": hidden_size, "planner_mib": round(planner), "worker_mib": round(worker)}


def main() -> None:
    """Prints the table; exits with status 1 if memory grows with the number of models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.measure:
        measure(tuple(map(int, options.measure.split(","))), options.hidden_size)
        return
    rows = [peaks(name, options.hidden_size) for name in FORESTS] + [peaks("1 + 3", 8 * options.hidden_size)]
    ratios = {part: rows[2][part] / rows[0][part] for part in ("planner_mib", "worker_mib")}
    result = {"rows": rows, "ratios": ratios, "passes": max(ratios.values()) <= MAX_RATIO}
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join([" | ".join(rows[0]), *(" | ".join(map(str, row.values())) for row in rows)]))
        print(", ".join(f"{part} {ratio:.3f}" for part, ratio in ratios.items()))
    sys.exit(0 if result["passes"] else 1)


if __name__ == "__main__":
    main()
