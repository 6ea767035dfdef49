"""The commands ``mothr fit-direction`` and ``mothr pairs``."""

from pathlib import Path
from typing import Annotated

import typer

from mothr.baselines.cli.options import DatasetArgument, DatasetsArgument, require_dev_splits
from mothr.benchmark.cli.command import Json, say, table
from mothr.benchmark.weights.engine import one_thread


def fit_direction(
    data: DatasetsArgument,
    out: Annotated[
        Path, typer.Option(help="The file to write. The direction score 'learned' reads baselines/parts/learned.toml.")
    ],
    as_json: Json = False,
) -> None:
    """Fit the direction score 'learned' on dev splits, and print its accuracy on each split when the fit leaves it out.

    Example: mothr fit-direction data/vthr-ft-dev data/llama-ft-dev --out baselines/parts/learned.toml
    """
    from mothr.baselines.studies import fitting

    one_thread()
    require_dev_splits(data)
    result = fitting.fit([fitting.edge_scores(folder) for folder in data])
    fitting.write(result, out)
    rows = [
        {"left out": split, "edges": str(result.edges[split]), "right": f"{accuracy:.3f}", "log loss": f"{loss:.3f}"}
        for split, (accuracy, loss) in result.left_out.items()
    ]
    left_out = {split: list(scores) for split, scores in result.left_out.items()}
    value = {"out": str(out), "edges": dict(result.edges), "left_out": left_out}
    say(value, as_json, lambda: f"{table(rows)}\n{out}: {len(result.terms)} terms")


def pairs(
    dataset: DatasetArgument,
    results: Annotated[
        Path, typer.Option(help="Folder of results; the file is written into the sub-folder of the split.")
    ] = Path("results"),
    as_json: Json = False,
) -> None:
    """Compute the distance and the direction evidence of every pair of models of each true tree, for the board's page.

    The result is pairs.json. The page shows it beside a prediction. No method reads it, and no metric uses it.

    Example: mothr pairs data/vthr-ft --results results
    """
    from mothr.baselines.studies.pair_evidence import split_pair_evidence
    from mothr.benchmark.board.pairs import write
    from mothr.benchmark.data.dataset import copy_to_results, open_truth
    from mothr.benchmark.records.store import folder_name

    one_thread()
    truth = open_truth(dataset)
    folder = results / folder_name(truth.split, truth.version)
    copy_to_results(dataset, folder)
    split_pairs = split_pair_evidence(dataset)
    path = write(split_pairs, folder)
    count = sum(len(tree.distances) for tree in split_pairs.trees)
    value = {
        "file": str(path),
        "trees": len(split_pairs.trees),
        "pairs": count,
        "distance": split_pairs.distance,
        "direction": split_pairs.direction,
        "layers": split_pairs.layers,
    }
    say(value, as_json, f"{path}: {count} pairs of {len(split_pairs.trees)} trees")
