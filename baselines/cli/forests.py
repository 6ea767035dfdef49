"""The commands ``mothr fit-linea`` and ``mothr validate``."""

from pathlib import Path
from typing import Annotated

import typer

from mothr.baselines.cli.options import DatasetsArgument, OutputOption, comma_separated, json_rows, require_dev_splits
from mothr.benchmark.cli.command import Json, say, table
from mothr.benchmark.weights.engine import one_thread

FIELDS = "family,kind,optimizer,learning_rate,steps,weight_decay,task_rule,stored,init,shape"
PenaltyOption = Annotated[
    float | None, typer.Option(help="L2 penalty of the weights; left out: chosen by the log loss on trees left out.")
]


def fit_linea(
    data: DatasetsArgument,
    out: Annotated[Path, typer.Option(help="The file to write. linea-fitted reads baselines/linea/fitted/model.toml.")],
    penalty: PenaltyOption = None,
    as_json: Json = False,
) -> None:
    """Fit the model of the method linea-fitted on drawn dev splits, and print its log loss on trees that the fit left out.

    Example: mothr fit-linea data/hub-vit-dev data/hub-llama-dev --out baselines/linea/fitted/model.toml
    """
    from mothr.baselines.studies.datasets import open_datasets
    from mothr.baselines.studies.forests import fitting
    from mothr.baselines.studies.forests.examples import examples_of

    one_thread()
    require_dev_splits(data)
    found = [example for dataset in open_datasets(data, "body") for example in examples_of(dataset)]
    losses = fitting.losses_left_out(found, fitting.PENALTIES if penalty is None else (penalty,))
    chosen = min(losses, key=losses.__getitem__)
    model = fitting.fit(found, chosen)
    fitting.write(model, chosen, losses[chosen], out)
    rows = [{"penalty": f"{value:g}", "log loss": f"{loss:.3f}"} for value, loss in losses.items()]
    weights = sum(len(part) for round_ in (model.first, model.second) for part in (round_.edges, round_.roots))
    value = {"out": str(out), "trees": len(found), "penalty": chosen, "log_loss": losses}
    say(
        value,
        as_json,
        lambda: f"{table(rows)}\n{out}: {weights} weights, fitted on {len(found)} trees, penalty {chosen:g}",
    )


def validate(
    data: DatasetsArgument,
    out: OutputOption,
    leave_out: Annotated[
        str, typer.Option(help="Fields of edges whose values are left out in turn, separated by commas; 'split' too.")
    ] = FIELDS,
    against: Annotated[
        str, typer.Option(help="Methods to compare with, names of 'mothr list methods', separated by commas.")
    ] = "neighbour-joining,linea",
    penalty: PenaltyOption = None,
    as_json: Json = False,
) -> None:
    """Fit linea-fitted on all regimes but one and score it on that one, for each regime in turn.

    A regime is a value of a field of an edge, such as the optimizer sgd. The scored trees are left out of the fit as well.
    --out gets regimes.csv, with a row for each regime and method, and edges.csv, with a row for each edge.

    Example: mothr validate data/hub-vit-dev data/hub-llama-dev --leave-out family,kind,optimizer --out validation
    """
    from mothr.baselines.studies.datasets import EDGE_FIELDS
    from mothr.baselines.studies.forests.validation import validate as validate_regimes
    from mothr.baselines.studies.output import output_folder
    from mothr.benchmark.errors import unknown_name
    from mothr.benchmark.run.registry import find_method

    one_thread()
    require_dev_splits(data)
    fields = comma_separated("--leave-out", leave_out)
    for name in fields:
        if name not in (*EDGE_FIELDS, "split"):
            raise unknown_name("field", name, (*EDGE_FIELDS, "split"))
    others = {name: find_method(name) for name in comma_separated("--against", against)}
    with output_folder(out) as folder:
        result = validate_regimes(data, fields, others, penalty)
        result.regimes.to_csv(folder / "regimes.csv", index=False, float_format="%.4f")
        result.edges.to_csv(folder / "edges.csv", index=False, float_format="%.4f")
    rows = [
        {
            **{name: str(row[name]) for name in ("field", "regime", "method", "edges", "trees")},
            "found": f"{row['found']:.2f} ({row['low']:.2f}-{row['high']:.2f})",
            "p": "" if row["p"] is None else f"{row['p']:.3f}",
        }
        for row in json_rows(result.regimes)
    ]
    value = {"out": str(out), "rows": json_rows(result.regimes)}
    say(
        value,
        as_json,
        lambda: f"{table(rows)}\np: paired test against linea-fitted, after Holm; {out}: regimes.csv, edges.csv",
    )
