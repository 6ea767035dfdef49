"""The command ``mothr``."""

import inspect
import json
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from mothr.benchmark import __version__
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.records.record import Setting
from mothr.benchmark.weights.engine import engine, one_thread

app = typer.Typer(
    help="Recover who was fine-tuned from whom, from weights alone: generate forests, run methods, score them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output, for machines.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the method; repeatable.")
]
WorkersOption = Annotated[
    int, typer.Option(min=1, help="Processes that read and compare weights, each with one thread.")
]
MemoryOption = Annotated[
    float, typer.Option(min=0, help="GiB that comparing weights may take, by all processes together.")
]
LabelsOption = Annotated[
    Path | None, typer.Option(help="The folder of a hidden split's labels, as 'mothr generate --labels' wrote it.")
]
CATALOGUES = "mothr.catalogues"
COMMANDS = "mothr.commands"
SHOWN = ("edge_f1", "edge_accuracy", "ancestor_f1", "undirected_f1", "direction_accuracy")
"""Metrics that ``run`` prints."""


def main() -> None:
    """Runs the command line: prints warnings and a MothrError as one line each; leaves with its status."""
    warnings.formatwarning = one_line
    for point in sorted(entry_points(group=COMMANDS), key=lambda point: point.name):
        for command in point.load():
            app.command()(command)
    try:
        app()
    except MothrError as error:
        print(f"{error.heading}: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Returns a warning as it is shown: to users in one line, to developers (deprecations, numerics) with its place."""
    place = "" if issubclass(category, UserWarning) else f"{filename}:{lineno}: {category.__name__}: "
    return f"warning: {place}{message}\n"


def say(value: Any, as_json: bool, text: str | Callable[[], str]) -> None:
    """Prints ``value`` as JSON, or ``text`` for people."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False, allow_nan=False))
    else:
        print(text if isinstance(text, str) else text())


def table(rows: list[dict[str, str]]) -> str:
    """Returns ``rows`` as aligned text with a heading."""
    if not rows:
        return "(none)"
    names = list(rows[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    lines = [{name: name for name in names}, *rows]
    return "\n".join("  ".join(str(row[name]).ljust(widths[name]) for name in names).rstrip() for row in lines)


def version(show: bool) -> None:
    """Prints the version and leaves."""
    if show:
        print(f"mothr {__version__}")
        raise typer.Exit


@app.callback()
def start(
    show: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Recover who was fine-tuned from whom, from weights alone: generate forests, run methods, score them."""


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="recipes, methods, distances, directions or metrics.")],
    as_json: Json = False,
) -> None:
    """List what there is to choose from.

    Example: mothr list methods
    """
    points = {point.name: point for point in entry_points(group=CATALOGUES)}
    if what == "methods":
        rows = method_rows()
    elif what in points:
        rows = points[what].load()()
    else:
        raise unknown_name("list", what, [*points, "methods"])
    shown = [{name: cell(value) for name, value in row.items() if name != "fields"} for row in rows]
    say(rows, as_json, lambda: table(shown))


def method_rows() -> list[dict[str, Any]]:
    """Returns a row for each registered method: name, kind, side information, version, description, and the schema of its fields."""
    from dataclasses import asdict

    from mothr.benchmark.run.method import about
    from mothr.benchmark.run.registry import find_method, method_names
    from mothr.benchmark.run.settings import fields_of

    rows = []
    for name in method_names():
        method = find_method(name)
        declared = about(method, name)
        rows.append(
            {
                "name": name,
                "kind": declared.kind,
                "given": sorted(declared.needs),
                "version": declared.version,
                "description": getattr(method, "description", None) or (inspect.getdoc(method) or "").split("\n")[0],
                "fields": [asdict(field) for field in fields_of(method)],
            }
        )
    return rows


@app.command()
def verify(
    dataset: Annotated[Path, typer.Argument(help="A folder that 'mothr generate' wrote.")],
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Also try to tell parents from all but the weights; needs the truth.")
    ] = False,
    labels: LabelsOption = None,
    as_json: Json = False,
) -> None:
    """Check a data set: hashes, shapes, finite values, truth, nodes that learned, files that tell nothing.

    Example: mothr verify data/vthr-ft --leaks
    """
    from dataclasses import asdict

    from mothr.benchmark.data import verify as checks

    verdict = checks.verify(dataset, labels)
    problems, lines = list(verdict.problems), list(verdict.notes)
    value: dict[str, Any] = {"models": verdict.models, "notes": verdict.notes, "problems": problems}
    if leaks:
        from mothr.benchmark.data.leaks import audit

        found = audit(dataset, labels)
        value["leaks"] = asdict(found)
        lines += [f"leaks: {line}" for line in found.lines]
        if found.leaks:
            problems.append("parents can be told without the weights; see the lines on leaks")
    lines += [f"problem: {problem}" for problem in problems] + [
        "sound" if not problems else f"{len(problems)} problems"
    ]
    say({"ok": not problems, **value}, as_json, "\n".join(lines))
    if problems:
        raise typer.Exit(1)


@app.command()
def run(
    methods: Annotated[
        str, typer.Argument(metavar="METHOD", help="A name, module:attribute, several with commas, 'all', or a plan.")
    ],
    dataset: Annotated[Path, typer.Argument(help="A folder that 'mothr generate' wrote, with its truth.")],
    setting: Annotated[Setting | None, typer.Option(help="What methods are told; both settings if left out.")] = None,
    settings: SetOption = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs, each with ids and generator drawn anew; one if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results; a sub-folder a split is made in it.")] = Path("results"),
    workers: WorkersOption = 1,
    memory: MemoryOption = 2,
    seconds: Annotated[float, typer.Option(min=0, help="How long a run may take before it is stopped.")] = 3600,
    memory_limit: Annotated[
        float, typer.Option(min=0, help="GiB that a run's processes may hold before they are stopped.")
    ] = 16,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only runs that --out lacks: what was interrupted goes on.")
    ] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run methods here, with no limits and nothing kept apart.")
    ] = False,
    labels: LabelsOption = None,
    as_json: Json = False,
) -> None:
    """Run methods on a data set, score them, and write one result file a run.

    Each run is a process of its own that sees copies of the models under ids drawn anew, and, on Linux, no other data and no TCP network.

    A plan is a TOML file of methods with their fields and seeds; results/plan.toml is that of the board.

    Example: mothr run mother-v2 data/vthr-ft --setting known-trees --out scores

    Example: mothr run results/plan.toml data/vthr-ft --out scores
    """
    from tqdm import tqdm

    from mothr.benchmark.data import dataset as datasets
    from mothr.benchmark.records import store
    from mothr.benchmark.records.superseded import later_version
    from mothr.benchmark.run import execute as runs
    from mothr.benchmark.run import plan
    from mothr.benchmark.run.isolation import Limits

    asked, told = (
        plan.asked(methods, field_values(settings or []), seeds),
        runs.settings_for(setting, hidden=labels is not None),
    )
    truth = datasets.open_truth(dataset, labels)
    planned = asked.on(truth.split)
    if labels is not None and (methods == "all" or methods.endswith(".toml")):
        planned = [one for one in planned if not one.method.startswith("oracle-")]
    if not planned:
        raise MothrError(f"{methods}: has nothing to run on the split {truth.split!r}; see the 'splits' of its rows")
    limits = Limits(seconds, memory_limit, workers, memory)
    place = out / store.folder_name(truth.split, truth.version)
    wanted = runs.listed(planned, told)
    if missing and place.is_dir():
        wanted = runs.lacking(wanted, store.read_all(place))
    made = runs.run(wanted, dataset, truth, limits, hidden=labels is not None, in_process=in_process)
    if (later := later_version(place)) is not None:
        warnings.warn(f"{place.name} is superseded by {later.superseded_by}: {later.reason}", stacklevel=2)
    datasets.keep_beside_results(dataset, place)
    rows: list[dict[str, Any]] = []
    with store.RunWriter(out) as writer:
        for one, record in tqdm(made, desc=truth.split, unit="run", total=len(wanted), disable=len(wanted) < 2):
            path = writer.add(record)
            shown = {key: record.metrics.get(key) for key in SHOWN}
            row = {
                "method": record.method,
                "fields": one.planned.fields,
                "setting": record.setting,
                "seed": record.seed,
            }
            rows.append(
                {**row, "status": record.status, "error": record.error, **shown, "file": f"{path}#{record.run_id}"}
            )
    order = [(one.method, one.fields) for one in planned]
    rows.sort(key=lambda row: (order.index((row["method"], row["fields"])), told.index(row["setting"]), row["seed"]))
    visible = [
        key for key in (*rows, {})[0] if key != "error" and (key != "fields" or any(fields for _, fields in order))
    ]
    say(
        rows,
        as_json,
        lambda: table([{key: cell(value) for key, value in row.items() if key in visible} for row in rows]),
    )
    failed = [row for row in rows if row["status"] != "ok"]
    if failed:
        raise MothrError(
            f"{len(failed)} of {len(rows)} runs failed; the first, {failed[0]['method']}: {failed[0]['error']}"
        )


@app.command()
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
    seed: Annotated[int, typer.Option(min=0, help="Seed of the method's generator.")] = 0,
    workers: WorkersOption = 1,
    memory: MemoryOption = 2,
    as_json: Json = False,
) -> None:
    """Recover the Model Graph of a folder of models, from weights alone; no truth is needed. 'mothr export' shows it as a tree.

    Example: mothr predict linea models/ --out prediction.json
    """
    from mothr.benchmark.data import dataset as datasets
    from mothr.benchmark.run import evaluate
    from mothr.benchmark.run.method import needs
    from mothr.benchmark.run.registry import find_method
    from mothr.benchmark.side_information import SideInformation
    from mothr.benchmark.storage import write_json

    found = find_method(method, field_values(settings or []))
    if "truth" in needs(found):
        raise MothrError(f"method {method!r} is an oracle: it needs the truth, and predict has none; use 'mothr run'")
    models = datasets.open_models(folder)
    told = (
        SideInformation(metadata=datasets.metadata(folder, models.ids))
        if "metadata" in needs(found)
        else SideInformation()
    )
    with engine(workers, memory):
        value = evaluate.predict(found, models.with_given(told), seed).to_json()
    if out is not None:
        write_json(out, value)
        say(value, as_json, f"{out}: parents of {len(models)} models")
    else:
        say(value, True, "")


@app.command()
def check(
    method: Annotated[str, typer.Argument(help="A registered name or module:attribute.")],
    settings: SetOption = None,
    as_json: Json = False,
) -> None:
    """Check that a method keeps the rules, on tiny forests: one line a rule, with what to do where it fails.

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


def field_values(settings: list[str]) -> dict[str, str]:
    """Returns ``["field=value", ...]`` as a dictionary."""
    found = {}
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise MothrError(f"--set {text}: write it as field=value")
        found[key] = value
    return found


def cell(value: Any) -> str:
    """Returns a value as a cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
