"""How much memory generating takes when a forest has more models, and when its models are larger, in the same run.

    python tests/performance/bench_generate_memory.py

Each forest is made from nothing by a process of its own with one worker, with one optimizer step a model. Figures are the largest
resident sizes of the process that plans and of its worker. More models must cost next to nothing: the ratio of the largest forest
to the smallest is at most 1.1. A larger model shows what the figures can see.
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

MOST = 1.1
FORESTS = {"1 + 3": (3,), "1 + 3 + 9": (3, 3), "1 + 3 + 9 + 27": (3, 3, 3)}


def forest(branching: tuple[int, ...], hidden_size: int) -> Recipe:
    """Returns one tree of small ViTs that are hardly trained."""
    recipe = load_recipe("vthr-ft")
    once = {"steps": 1, "batch_size": 8}
    root, edge = recipe.roots[0], recipe.edges[0]
    return recipe.model_copy(update={
        "model": {**recipe.model, "hidden_size": hidden_size, "mlp_size": 4 * hidden_size}, "topology": Topology(branching=branching),
        "roots": (root.model_copy(update={"training": root.training.model_copy(update=once)}),),
        "edges": (edge.model_copy(update={"training": edge.training.model_copy(update=once)}),),
    })  # fmt: skip


def measure(branching: tuple[int, ...], hidden_size: int) -> None:
    """Generates in this process and prints its peak and its worker's, in MiB."""
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
    """Prints the table; leaves with status 1 if memory grows with the number of models."""
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
    found = {"rows": rows, "ratios": ratios, "passes": max(ratios.values()) <= MOST}
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join([" | ".join(rows[0]), *(" | ".join(map(str, row.values())) for row in rows)]))
        print(", ".join(f"{part} {ratio:.3f}" for part, ratio in ratios.items()))
    sys.exit(0 if found["passes"] else 1)


if __name__ == "__main__":
    main()
