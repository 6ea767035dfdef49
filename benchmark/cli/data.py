"""Commands on data sets: ``verify``, ``describe``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mothr.benchmark.cli.command import Json, LabelsOption, say, table


def verify(
    dataset: Annotated[Path, typer.Argument(help="A folder that 'mothr generate' wrote.")],
    leaks: Annotated[
        bool,
        typer.Option("--leaks", help="Also try to predict parents from everything but the weights; needs the truth."),
    ] = False,
    labels: LabelsOption = None,
    as_json: Json = False,
) -> None:
    """Check a data set: hashes, shapes, finite values, truth, that models learned, and that file names tell nothing.

    Example: mothr verify data/vthr-ft --leaks
    """
    from dataclasses import asdict

    from mothr.benchmark.data import verify as checks

    verdict = checks.verify(dataset, labels)
    problems, lines = list(verdict.problems), list(verdict.notes)
    value: dict[str, Any] = {"models": verdict.models, "notes": verdict.notes, "problems": problems}
    if leaks:
        from mothr.benchmark.data.leaks import audit

        report = audit(dataset, labels)
        value["leaks"] = asdict(report)
        lines += [f"leaks: {line}" for line in report.lines]
        if report.leaks:
            problems.append("parents can be predicted without the weights; see the lines on leaks")
    lines += [f"problem: {problem}" for problem in problems]
    lines.append("sound" if not problems else f"{len(problems)} problems")
    say({"ok": not problems, **value}, as_json, "\n".join(lines))
    if problems:
        raise typer.Exit(1)


def describe(
    dataset: Annotated[Path, typer.Argument(help="A data set with its truth.")],
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="OTHER",
            help="Show it beside a data set, or beside the updates.json of an earlier --out; repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write updates.svg, the figure, and updates.json, its numbers, to."),
    ] = None,
    labels: LabelsOption = None,
    as_json: Json = False,
) -> None:
    """Describe a data set: what varies in it, and quantiles of lengths, directions and ranks of the updates along its true edges.

    Example: mothr describe data/vthr-ft --compare data/llama-ft --out described
    """
    from mothr.benchmark.data import update_figure, update_summary
    from mothr.benchmark.data.dataset import open_manifest, open_models, open_truth
    from mothr.benchmark.data.updates import measure
    from mothr.benchmark.data.variety import variety
    from mothr.benchmark.storage import write_text
    from mothr.benchmark.weights.engine import one_thread

    one_thread()
    others = [summary for other in compare or () for summary in update_summary.open_summaries(other)]
    truth, manifest, models = open_truth(dataset, labels), open_manifest(dataset), open_models(dataset)
    own = update_summary.summarise(measure(models, truth), truth, manifest.name, manifest.version)
    summaries, varying = [own, *others], variety(truth, models)
    files = [out / "updates.svg", out / "updates.json"] if out is not None else []
    if files:
        write_text(
            files[0], update_figure.updates_svg(summaries, f"How the models of {own.name} v{own.version} differ")
        )
        update_summary.write_summaries(files[1], summaries)
    value = {
        "datasets": [summary.model_dump(mode="json", exclude_none=True) for summary in summaries],
        "varies": [row.to_json() for row in varying],
        "files": [str(path) for path in files],
    }

    def text() -> str:
        rows = [{"what": f"{row.name} ({row.n:,} {row.of})", "values": row.text} for row in varying]
        quantiles = [
            {key: cell for key, cell in row.items() if key != "formula"} for row in update_summary.rows(summaries)
        ]
        return "\n".join([
            f"{own.name} v{own.version}: {own.models} models, {own.trees} trees, {own.edges} edges", "",
            table(rows), "", table(quantiles), "", update_summary.GLOSSARY, *map(str, files),
        ])  # fmt: skip

    say(value, as_json, text)
