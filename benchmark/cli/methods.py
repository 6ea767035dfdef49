"""Commands on methods: ``run``, ``predict``, ``score``, ``check``, ``submit``."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mothr.benchmark.cli.command import (
    Json,
    LabelsOption,
    MemoryOption,
    SetOption,
    WorkersOption,
    cell,
    field_values,
    say,
    table,
)
from mothr.benchmark.errors import MothrError
from mothr.benchmark.records.record import Setting
from mothr.benchmark.weights.engine import one_thread

if TYPE_CHECKING:
    from mothr.benchmark.records.record import RunRecord
    from mothr.benchmark.run.outcome import RunRequest
    from mothr.benchmark.run.plan import Plan, Planned

SHOWN = ("edge_f1", "edge_accuracy", "ancestor_f1", "undirected_f1", "direction_accuracy")
"""The metrics that ``run`` prints."""


def run(
    methods: Annotated[
        str, typer.Argument(metavar="METHOD", help="A name, module:attribute, several with commas, 'all', or a plan.")
    ],
    dataset: Annotated[Path, typer.Argument(help="A folder that 'mothr generate' wrote, with its truth.")],
    setting: Annotated[Setting | None, typer.Option(help="What methods are given; both settings if left out.")] = None,
    settings: SetOption = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Number of runs, each with new ids and its own generator; 1 if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results; it gets a folder for each split.")] = Path("results"),
    workers: WorkersOption = 1,
    memory: MemoryOption = 2,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds after which a run is stopped.")] = 3600,
    memory_limit: Annotated[
        float, typer.Option(min=0, help="GiB that the processes of a run may hold before they are stopped.")
    ] = 16,
    missing: Annotated[bool, typer.Option("--missing", help="Make only the runs that --out lacks.")] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run methods here, without limits or isolation.")
    ] = False,
    labels: LabelsOption = None,
    as_json: Json = False,
) -> None:
    """Run methods on a data set, score them, and add the records to the results.

    In the setting known-trees, methods are given the partition of the models into trees; in open, the weights alone. Each run is a
    process of its own. It sees copies of the models under new ids and, on Linux, no other data and no TCP network.
    A plan is a TOML file of methods with their fields and seeds. The plan of the board is results/plan.toml.

    Example: mothr run mother-v2 data/vthr-ft --setting known-trees --out scores

    Example: mothr run results/plan.toml data/vthr-ft --out scores
    """
    from mothr.benchmark.data import dataset as datasets
    from mothr.benchmark.records import store
    from mothr.benchmark.records.superseded import later_version
    from mothr.benchmark.run import plan
    from mothr.benchmark.run.execute import execute
    from mothr.benchmark.run.in_process import InProcess
    from mothr.benchmark.run.isolation import Isolated, Limits

    requested = plan.requested(methods, field_values(settings or []), seeds)
    chosen = plan.settings_for(setting, hidden=labels is not None)
    truth = datasets.open_truth(dataset, labels)
    planned = _planned(requested, methods, truth.split, hidden=labels is not None)
    place = out / store.folder_name(truth.split, truth.version)
    requests = plan.requests(planned, chosen)
    if missing and place.is_dir():
        requests = plan.missing(requests, store.read_all(place))
    executor = InProcess(workers, memory) if in_process else Isolated(Limits(seconds, memory_limit, workers, memory))
    records = execute(requests, dataset, truth, executor, hidden=labels is not None)
    if (later := later_version(place)) is not None:
        warnings.warn(f"{place.name} is superseded by {later.superseded_by}: {later.reason}", stacklevel=2)
    datasets.copy_to_results(dataset, place)
    rows = _written(records, out, truth.split, len(requests))
    order = [(item.method, item.fields) for item in planned]
    rows.sort(key=lambda row: (order.index((row["method"], row["fields"])), chosen.index(row["setting"]), row["seed"]))
    _report(rows, as_json, with_fields=any(fields for _, fields in order))


def _report(rows: list[dict[str, Any]], as_json: bool, *, with_fields: bool) -> None:
    """Prints a row for each run.

    Raises:
        MothrError: a run failed.
    """
    left_out = {"error"} if with_fields else {"error", "fields"}
    say(rows, as_json, lambda: table([{name: cell(row[name]) for name in row if name not in left_out} for row in rows]))
    failed = [row for row in rows if row["status"] != "ok"]
    if failed:
        raise MothrError(
            f"{len(failed)} of {len(rows)} runs failed; the first, {failed[0]['method']}: {failed[0]['error']}"
        )


def _planned(requested: "Plan", methods: str, split: str, *, hidden: bool) -> list["Planned"]:
    """Returns the methods to run on a split. Oracles of this package are left out of ``all`` and plans if the truth is hidden.

    Raises:
        MothrError: there is none.
    """
    from mothr.benchmark.run.method import kind
    from mothr.benchmark.run.registry import find_method, is_own

    planned = requested.on(split)
    if hidden and (methods == "all" or methods.endswith(".toml")):
        planned = [item for item in planned if not is_own(item.method) or kind(find_method(item.method)) != "oracle"]
    if not planned:
        raise MothrError(f"{methods}: has nothing to run on the split {split!r}; see the 'splits' of its rows")
    return planned


def _written(
    records: Iterable[tuple["RunRequest", "RunRecord"]], out: Path, split: str, count: int
) -> list[dict[str, Any]]:
    """Writes each record when its run ends. Returns a row for each of them."""
    from tqdm import tqdm

    from mothr.benchmark.records.store import RunWriter

    rows: list[dict[str, Any]] = []
    with RunWriter(out) as writer:
        for request, record in tqdm(records, desc=split, unit="run", total=count, disable=count < 2):
            path = writer.add(record)
            row = {
                "method": request.method, "fields": request.fields, "setting": record.setting, "seed": record.seed,
                "status": record.status, "error": record.error, **{name: record.metrics.get(name) for name in SHOWN},
                "file": f"{path}#{record.run_id}",
            }  # fmt: skip
            rows.append(row)
    return rows


def predict(
    method: Annotated[str, typer.Argument(help="A registered name or module:attribute.")],
    folder: Annotated[
        Path,
        typer.Argument(help="A data set, or a folder of models: each sub-folder or each .safetensors file is one."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write the prediction; standard output if left out.")
    ] = None,
    settings: SetOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the method's random generator.")] = 0,
    workers: WorkersOption = 1,
    memory: MemoryOption = 2,
    as_json: Json = False,
) -> None:
    """Predict the Model Graph of a folder of models, from weights alone. 'mothr export' shows the prediction as a tree.

    Example: mothr predict linea models/ --out prediction.json
    """
    from mothr.benchmark.interface import recover
    from mothr.benchmark.storage import write_json

    given = field_values(settings or [])
    prediction = recover(folder, method, settings=given, seed=seed, workers=workers, memory=memory)
    value = prediction.to_json()
    if out is not None:
        write_json(out, value)
        say(value, as_json, f"{out}: parents of {len(prediction.graph.nodes)} models")
    else:
        say(value, True, "")


def check(
    method: Annotated[str, typer.Argument(help="A registered name or module:attribute.")],
    settings: SetOption = None,
    as_json: Json = False,
) -> None:
    """Check that a method keeps the rules, on tiny forests: one line for each rule, with the remedy where it fails.

    Example: mothr check mine:nearest_to_first
    """
    from mothr.benchmark.run.check import check_method
    from mothr.benchmark.run.registry import find_method

    one_thread()
    findings = check_method(find_method(method, field_values(settings or [])))
    rows = [{"rule": finding.rule, "status": finding.status, "finding": finding.text} for finding in findings]
    failed = sum(finding.status == "FAILED" for finding in findings)
    verdict = f"{failed} of {len(findings)} rules failed" if failed else "it keeps the rules"
    say({"method": method, "ok": not failed, "rules": rows}, as_json, lambda: f"{table(rows)}\n{method}: {verdict}")
    if failed:
        raise typer.Exit(1)


def score(
    predictions: Annotated[Path, typer.Argument(help="A prediction file, or a result file.")],
    dataset: Annotated[Path, typer.Argument(help="The data set with its truth, or a results folder of its split.")],
    labels: LabelsOption = None,
    as_json: Json = False,
) -> None:
    """Score a prediction file against the truth. Chance is the mean score of random forests on the same truth.

    Example: mothr score prediction.json data/vthr-ft
    """
    import numpy as np

    from mothr.benchmark.data import dataset as datasets
    from mothr.benchmark.records.store import read_prediction
    from mothr.benchmark.run import outcome
    from mothr.benchmark.score.chance import chance
    from mothr.benchmark.score.metrics import METRICS

    prediction = read_prediction(predictions)
    truth = datasets.open_truth(dataset, labels)
    try:
        scores = outcome.score(prediction, truth)
    except MothrError as error:
        raise MothrError(f"{predictions}: {error}") from None
    by_chance = chance(truth.prediction, np.random.default_rng(0))
    rows = [
        {
            "metric": name,
            "value": cell(number),
            "chance": cell(by_chance[name]),
            "better": METRICS[name].better,
            "answers": METRICS[name].answers,
        }
        for name, number in scores.whole.items()
    ]
    value = {"metrics": dict(scores.whole), "per_tree": [dict(tree) for tree in scores.trees], "chance": by_chance}
    say(value, as_json, lambda: table(rows))


def submit(
    source: Annotated[
        str, typer.Argument(metavar="FOLDER|METHOD", help="A folder with submission.yaml, or module:attribute.")
    ],
    only_check: Annotated[bool, typer.Option("--check", help="Only list what is wrong, and write nothing.")] = False,
    out: Annotated[
        Path, typer.Option(help="The folder of submissions; the results it lies in hold the splits' manifests.")
    ] = Path("results/submissions"),
    name: Annotated[str | None, typer.Option(help="For a METHOD: its name on the board.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="For a METHOD: who made it; repeatable.")] = None,
    code: Annotated[str | None, typer.Option(help="For a METHOD: where its code is, https://...")] = None,
    as_json: Json = False,
) -> None:
    """Check predictions or a method, offline, and add them to the submissions. The maintainers score submissions.

    Example: mothr submit --check star
    """
    from mothr.benchmark.exchange import submission as submissions
    from mothr.benchmark.exchange import submission_check

    one_thread()
    checked = submission_check.check(source, out.parent, name=name, authors=author, code=code)
    rows = [{"what": finding.rule, "status": finding.status, "finding": finding.text} for finding in checked.findings]
    wrong = sum(finding.status != "ok" for finding in checked.findings)
    place = (
        submissions.write(checked.submission, checked.contents, out)
        if checked.submission and not wrong and not only_check
        else None
    )
    verdict = (
        f"{wrong} to mend"
        if wrong
        else f"written to {place}; commit it and open a pull request"
        if place
        else "it can be submitted"
    )
    value = {"ok": not wrong, "findings": rows, "folder": place and str(place)}
    say(value, as_json, lambda: f"{table(rows)}\n{source}: {verdict}")
    if wrong:
        raise typer.Exit(1)
