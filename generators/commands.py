"""The commands that make data sets. An entry point adds them to ``mothr``."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mothr.benchmark.cli.command import Command, Json, say
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.engine import one_thread
from mothr.generators.real import commands as real

if TYPE_CHECKING:
    from mothr.benchmark.data.dataset import Truth
    from mothr.benchmark.graph import ModelGraph
    from mothr.generators.recipe.drawn import AnyRecipe

WORKERS = typer.Option(min=1, help="Number of processes with one thread each; default: the number of cores.")


def generate(
    recipe: Annotated[str, typer.Argument(help="A name from 'mothr list recipes', or the path of a .toml file.")],
    out: Annotated[Path, typer.Option(help="The data set's folder: new, empty, or from an interrupted run.")],
    workers: Annotated[int | None, WORKERS] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    draw: Annotated[
        int | None, typer.Option(min=1, help="Number of the draw, for a recipe whose fields are drawn. Default: 1.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate time, memory, disk and downloads.")] = False,
    hidden: Annotated[
        Path | None,
        typer.Option(
            metavar="SECRETFILE",
            help="Make a hidden split: derive all seeds from the secret in this file. "
            "If the file does not exist, a secret is drawn and written to it.",
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="The folder for the labels of a hidden split.")] = None,
    as_json: Json = False,
) -> None:
    """Fine-tune the models of a recipe and write a data set. After an interruption, the same command continues.

    Example: mothr generate vthr-ft --out data/vthr-ft --workers 2

    Example: mothr generate hub-vit --draw 3 --out data/hub-vit-3
    """
    from mothr.generators.recipe.loading import load_recipe, newer

    checked = load_recipe(recipe, draw)
    from mothr.generators.generate import choose_device
    from mothr.generators.generate import generate as make
    from mothr.generators.hidden import Hidden, read_secret

    if (hidden is None) != (labels is None):
        raise MothrError(
            "--hidden and --labels: a hidden split needs both; give a file for its secret and a folder for its labels"
        )
    if (name := newer(checked)) is not None:
        warnings.warn(
            f"{checked.name} v{checked.version} is superseded by {name}; generate that one, unless you repeat an old result",
            stacklevel=2,
        )

    if dry_run:
        _say_cost(checked, choose_device(device), workers or _cores(), as_json)
        return
    hidden_split = Hidden(read_secret(hidden, out), labels) if hidden is not None and labels is not None else None
    manifest = make(checked, out, workers=workers or _cores(), device=device, hidden=hidden_split)
    value = {"out": str(out), "name": manifest.name, "version": manifest.version, "models": len(manifest.models)}
    check = f"mothr verify {out}{f' --labels {labels}' if labels else ''}"
    say(
        value,
        as_json,
        f"{out}: {manifest.name} v{manifest.version}, {len(manifest.models)} models; check it with: {check}",
    )


def _say_cost(recipe: "AnyRecipe", device: str, workers: int, as_json: bool) -> None:
    """Prints the estimated cost of ``recipe``."""
    from mothr.benchmark.cli.command import table
    from mothr.generators.dry_run.cost import rows
    from mothr.generators.dry_run.drawn import estimate_drawn
    from mothr.generators.dry_run.estimate import estimate
    from mothr.generators.recipe.drawn import DrawnRecipe

    match recipe:
        case DrawnRecipe():
            cost = estimate_drawn(recipe, device, workers)
        case _:
            cost = estimate(recipe, device, workers)
    say(cost.to_json(), as_json, lambda: table(rows(cost)))


def pin(
    recipe: Annotated[str, typer.Argument(help="A name from 'mothr list recipes', or the path of a .toml file.")],
    out: Annotated[Path, typer.Option(help="The recipe to write, a .toml file.")],
    as_json: Json = False,
) -> None:
    """Write a recipe with the current revision on the Hub of each of its roots, so that it can be generated.

    Example: mothr pin paper-ft --out my-paper-ft.toml
    """
    import tomli_w

    from mothr.benchmark.storage import write_text
    from mothr.generators.recipe.loading import load_recipe, resolved
    from mothr.generators.recipe.topology import sources_of
    from mothr.generators.sources.hub import latest_revision

    loaded = load_recipe(recipe)
    without_revision = {source.hub for source in sources_of(loaded) if source.hub and not source.revision}
    pinned = {hub: latest_revision(hub) for hub in sorted(without_revision)}
    value = resolved(loaded)
    for root in value.get("roots", [value.get("root", {})]):
        if root.get("source", {}).get("hub") in pinned:
            root["source"]["revision"] = pinned[root["source"]["hub"]]
    write_text(out, tomli_w.dumps(value))
    say({"out": str(out), "pinned": pinned}, as_json, f"{out}: {loaded.name} with the revisions of {len(pinned)} roots")


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for data, results and page.")] = Path("quickstart"),
    workers: Annotated[int | None, WORKERS] = None,
    as_json: Json = False,
) -> None:
    """Make a small forest, recover it with every method, score the results, and write the page. Takes a few
    minutes.

    Example: mothr quickstart --out quickstart
    """
    from mothr.benchmark.board import leaderboard
    from mothr.benchmark.cli import command as cli
    from mothr.benchmark.data import dataset
    from mothr.benchmark.data.verify import verify
    from mothr.benchmark.records import store
    from mothr.benchmark.run.execute import execute
    from mothr.benchmark.run.in_process import InProcess
    from mothr.benchmark.run.outcome import RunRequest
    from mothr.benchmark.run.plan import SETTINGS
    from mothr.benchmark.run.registry import method_names
    from mothr.generators.generate import generate as make
    from mothr.generators.recipe.loading import load_recipe

    recipe = load_recipe("quickstart")
    data, results = out / "data", out / "results"
    typer.echo(f"1/4 fine-tuning {recipe.description.lower()}", err=True)
    make(recipe, data, workers=workers or _cores())
    verdict = verify(data)
    if verdict.problems:
        raise MothrError(f"{data}: {verdict.problems[0]}")
    names = method_names()
    typer.echo(f"2/4 recovering it with {len(names)} methods", err=True)
    one_thread()
    truth = dataset.open_truth(data)
    dataset.copy_to_results(data, results / store.folder_name(truth.split, truth.version))
    requests = [RunRequest(name, setting=setting) for name in names for setting in SETTINGS]
    records = []
    with store.RunWriter(results) as writer:
        for request, record in execute(requests, data, truth, InProcess()):
            writer.add(record)
            if request.setting == "open":
                records.append(record)
    typer.echo("3/4 scoring", err=True)
    records.sort(key=lambda record: -(record.metrics.get("edge_f1") or 0))
    table = [
        {"method": r.method, "given": ", ".join(r.given) or "-", "edge_f1": cli.cell(r.metrics.get("edge_f1"))}
        for r in records
    ]
    typer.echo("4/4 writing the page", err=True)
    page = leaderboard.write_pages(results, out / "board")
    linea = next(record for record in records if record.method == "linea")
    picture = out / "board" / "quickstart.svg"
    _draw(truth, linea.prediction().graph, picture)
    value = {"page": str(page), "picture": str(picture), "methods": table}
    say(value, as_json, f"{cli.table(table)}\n\nopen {page} in a browser")


def _draw(truth: "Truth", predicted: "ModelGraph", path: Path) -> None:
    """Writes a picture of the predicted graph over the true one; the labels of the nodes are their tasks."""
    from mothr.benchmark import drawing
    from mothr.benchmark.storage import write_text

    labels = {node: (value.task or "").split("+")[0] if value.depth else "root" for node, value in truth.nodes.items()}
    title = "Recovered by Linea from weights alone"
    write_text(path, drawing.forest_svg(truth.graph, predicted.parents, title, labels))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


commands = (Command("Start", quickstart), Command("Data", generate), *real.commands, Command("Data", pin))
"""What the entry point adds to ``mothr``."""
