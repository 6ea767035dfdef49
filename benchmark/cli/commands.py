"""The commands for answers and records, joined to ``mothr`` through an entry point: exporting, scoring, submitting, the board."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mothr.benchmark.cli.main import Json, LabelsOption, cell, say, table
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.engine import one_thread


def export(
    source: Annotated[Path, typer.Argument(help="A prediction, result or truth file, or a data set or results folder with its truth.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; standard output if left out.")] = None,
    form: Annotated[str | None, typer.Option("--format", metavar="FORMAT", help=(
        "text, node-link, graphml, gexf, newick, dot, mermaid, csv, hub or cyclonedx; left out, told from the ending of --out, else text."
    ))] = None,
    min_confidence: Annotated[float | None, typer.Option(help="Leave out edges of a lower confidence.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a recovered or true graph for other tools: graphs, drawings, tables, model cards, bills of materials; or show it as a tree.

    Example: mothr export prediction.json --out lineage.graphml
    """
    from mothr.benchmark.exchange import exports
    from mothr.benchmark.storage import write_text

    name = form or (exports.format_of(out) if out else "text")
    prediction = exports.read(source)
    if min_confidence is not None:
        prediction = exports.confident(prediction, min_confidence)
    text = exports.render(prediction, name)
    counts = {"format": name, "models": len(prediction.graph.nodes), "edges": len(prediction.graph.edges)}
    if out is not None:
        write_text(out, text)
        say({"file": str(out), **counts}, as_json, f"{out}: {counts['models']} models, {counts['edges']} edges")
    else:
        say({**counts, "content": text}, as_json, text.removesuffix("\n"))


def score(
    predictions: Annotated[Path, typer.Argument(help="A prediction file, or a result file.")],
    dataset: Annotated[Path, typer.Argument(help="The data set with its truth, or a results folder of its split.")],
    labels: LabelsOption = None,
    as_json: Json = False,
) -> None:
    """Score a prediction file against the truth, beside what guessing scores on it.

    Example: mothr score prediction.json data/vthr-ft
    """
    import numpy as np

    from mothr.benchmark.data import dataset as datasets
    from mothr.benchmark.records.store import read_prediction
    from mothr.benchmark.run import evaluate
    from mothr.benchmark.score.chance import chance
    from mothr.benchmark.score.metrics import METRICS

    prediction = read_prediction(predictions)
    truth = datasets.open_truth(dataset, labels)
    try:
        scores = evaluate.score(prediction, truth)
    except MothrError as error:
        raise MothrError(f"{predictions}: {error}") from None
    guessed = chance(truth.prediction, np.random.default_rng(0))
    rows = [
        {
            "metric": name,
            "value": cell(number),
            "chance": cell(guessed[name]),
            "better": METRICS[name].better,
            "answers": METRICS[name].answers,
        }
        for name, number in scores.whole.items()
    ]
    value = {"metrics": dict(scores.whole), "per_tree": [dict(tree) for tree in scores.trees], "chance": guessed}
    say(value, as_json, lambda: table(rows))


def rescore(
    results: Annotated[Path, typer.Argument(help="The folder of results, or that of one split.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail where a stored metric is not what scoring gives.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score every result file again, from its own prediction and the truth beside it, and write the metrics that changed.

    Example: mothr rescore results --check
    """
    from tqdm import tqdm

    from mothr.benchmark.board import rescore as again

    found = list(tqdm(again.rescore(results, write=not check), unit="record", disable=None, file=sys.stderr))
    differing, faulty = [one for one in found if one.differs], [one for one in found if one.fault]
    hidden = sum(not one.scored for one in found)
    value = {
        "records": len(found),
        "without_truth": hidden,
        "differing": {str(one.path): one.differs for one in differing},
        "faulty": {str(one.path): one.fault for one in faulty},
        "written": 0 if check else len(differing),
    }
    lines = [str(one) for one in found if one.fault or (check and one.differs)]
    lines.append(
        f"{len(found)} records: {len(differing)} {'differ' if check else 'rewritten'}, {len(faulty)} cannot be scored"
    )
    lines += [f"{hidden} have no truth beside them"] if hidden else []
    say(value, as_json, "\n".join(lines))
    if faulty or (check and differing):
        raise typer.Exit(1)


def submit(
    source: Annotated[
        str, typer.Argument(metavar="FOLDER|METHOD", help="A folder with submission.yaml, or module:attribute.")
    ],
    only_check: Annotated[bool, typer.Option("--check", help="Say what is wrong, and write nothing.")] = False,
    out: Annotated[
        Path, typer.Option(help="The folder of submissions; the results it lies in hold the splits' manifests.")
    ] = Path("results/submissions"),
    name: Annotated[str | None, typer.Option(help="Of a METHOD: what the board is to call it.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="Of a METHOD: who made it; repeatable.")] = None,
    code: Annotated[str | None, typer.Option(help="Of a METHOD: where its code is, https://...")] = None,
    as_json: Json = False,
) -> None:
    """Check predictions or a method, offline, and put them among the submissions, from where the maintainers score them.

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


def score_submissions(
    results: Annotated[Path, typer.Argument(help="The folder of results, with the submissions in it.")] = Path(
        "results"
    ),
    data: Annotated[
        Path, typer.Option(help="The splits' weights, a folder each; methods are run on those there are.")
    ] = Path("data"),
    labels: Annotated[
        Path | None, typer.Option(help="Holds the labels of hidden splits, each at <split>-v<k>.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of a method on each board.")] = 1,
    as_json: Json = False,
) -> None:
    """Turn submissions into results: predictions are scored as self-run, methods are run here as verified. For the maintainers.

    Example: mothr score-submissions results --data data
    """
    from dataclasses import asdict

    from mothr.benchmark.exchange.submission_scores import ScoringInputs, score_submissions

    one_thread()
    lines = [asdict(line) for line in score_submissions(ScoringInputs(results, data, labels, seeds))]
    say(lines, as_json, lambda: table(lines))
    if failed := [line["submission"] for line in lines if line["status"] == "FAILED"]:
        raise MothrError(f"{len(failed)} of the submissions cannot be scored: {', '.join(failed)}")


def leaderboard(
    results: Annotated[Path, typer.Argument(help="The folder of results.")],
    out: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("board"),
    as_json: Json = False,
) -> None:
    """Write the board: index.html, a page with every forest drawn as predicted over true, and README.md, its tables.

    The page shows the regime map, too, where 'mothr map DATA ... --out RESULTS/regimes' wrote one, and how far models are from each
    other where 'mothr pairs' wrote it.

    Example: mothr leaderboard results --out board
    """
    from mothr.benchmark.board import leaderboard as boards

    page, tables = boards.write_both(results, out)
    say({"page": str(page), "tables": str(tables)}, as_json, f"open {page} in a browser")


def gaps(
    results: Annotated[Path, typer.Argument(help="The folder of results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """List what a board lacks: runs that are absent, skipped, or of other weights.

    A board is to hold what plan.toml in that folder says, of methods in their present version; without one, every method on every split.
    Splits that a later version supersedes lack nothing.

    Example: mothr gaps results
    """
    from dataclasses import asdict

    from mothr.benchmark.board import board as boards
    from mothr.benchmark.records.store import read_all
    from mothr.benchmark.run import plan

    records = read_all(results)
    found = boards.gaps(boards.latest(boards.rows(records), results), plan.beside(results))
    lacking = sum(len(gap.seeds) for gap in found)
    text = [*map(str, found), f"{lacking} runs are missing beside the {len(records)} there are"]
    say({"records": len(records), "missing": lacking, "gaps": [asdict(gap) for gap in found]}, as_json, "\n".join(text))


def compare(
    first: Annotated[
        str, typer.Argument(help="METHOD, METHOD@SETTING, and ,FIELD=VALUE where it was run with several.")
    ],
    second: Annotated[str, typer.Argument(help="The method to compare it with, written likewise.")],
    results: Annotated[Path, typer.Argument(help="The folder of results.")] = Path("results"),
    metric: Annotated[str, typer.Option(help="A metric of single trees.")] = "edge_f1",
    as_json: Json = False,
) -> None:
    """Compare two methods tree by tree, with a paired test on every split that both were run on.

    Example: mothr compare linea mother-v2@known-trees,direction=kurtosis,direction_layers=square-output results
    """
    from dataclasses import asdict

    from mothr.benchmark.board import compare as comparing

    found = comparing.compare(results, comparing.Choice.parse(first), comparing.Choice.parse(second), metric)
    value = {"metric": metric, "first": first, "second": second, "splits": [asdict(one) for one in found]}
    say(
        value,
        as_json,
        lambda: f"{table(comparing.table(found))}\n{metric}: {first} is {comparing.pooled(found)}, against {second}",
    )


commands = (export, score, rescore, submit, score_submissions, leaderboard, gaps, compare)
"""What the entry point adds to ``mothr``."""
