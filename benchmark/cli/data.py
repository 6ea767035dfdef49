"""Commands on data sets: ``verify``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mothr.benchmark.cli.command import Json, LabelsOption, say


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
