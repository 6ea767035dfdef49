"""Commands on the board: ``leaderboard``, ``rescore``, ``gaps``, ``score-submissions``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mothr.benchmark.cli.command import Json, say, table
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.engine import one_thread


def leaderboard(
    results: Annotated[Path, typer.Argument(help="The folder of results.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("board"),
    summary: Annotated[
        bool, typer.Option("--summary", help="Print a short Markdown table of all tracks, and write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the leaderboard: an index page and a page for each split (HTML), and the same tables as Markdown.

    The index page opens on the tracks that RESULTS/tracks.toml defines: each method's mean over the splits of a track, with
    intervals and ranks. --json has them as well. The page of a split draws each prediction over the true forest. It shows
    distances between models if 'mothr pairs' wrote them.
    The index page shows the map of training regimes if 'mothr map DATA --out RESULTS/regimes' wrote it.

    Example: mothr leaderboard results --out board
    """
    from mothr.benchmark.board import leaderboard as boards
    from mothr.benchmark.board.tracks.standings import to_json

    if summary:
        text, tracks = boards.readme_table(results)
        say({"table": text, "tracks": to_json(tracks)}, as_json, text.rstrip())
        return
    written = boards.write_both(results, out)
    value = {"page": str(written.page), "tables": str(written.tables), "tracks": to_json(written.tracks)}
    say(value, as_json, f"open {written.page} in a browser")


def rescore(
    results: Annotated[Path, typer.Argument(help="The folder of results, or that of one split.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a stored metric differs from what scoring gives.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score every record again, from its own prediction and the truth of its split, and write the metrics that changed.

    Example: mothr rescore results --check
    """
    from tqdm import tqdm

    from mothr.benchmark.board import rescore as again

    compared = list(tqdm(again.rescore(results, write=not check), unit="record", disable=None, file=sys.stderr))
    differing, faulty = (
        [record for record in compared if record.differs],
        [record for record in compared if record.fault],
    )
    hidden = sum(not record.scored for record in compared)
    value = {
        "records": len(compared),
        "without_truth": hidden,
        "differing": {str(record.path): record.differs for record in differing},
        "faulty": {str(record.path): record.fault for record in faulty},
        "written": 0 if check else len(differing),
    }
    lines = [str(record) for record in compared if record.fault or (check and record.differs)]
    lines.append(
        f"{len(compared)} records: {len(differing)} {'differ' if check else 'rewritten'}, {len(faulty)} cannot be scored"
    )
    lines += [f"{hidden} have no truth beside them"] if hidden else []
    say(value, as_json, "\n".join(lines))
    if faulty or (check and differing):
        raise typer.Exit(1)


def gaps(
    results: Annotated[Path, typer.Argument(help="The folder of results.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """List the runs that a board lacks: absent, skipped, or made on other weights.

    The plan of the board is plan.toml in that folder: methods with their fields, in their present version. Without
    a plan, every method is
    expected on every split. A split that a later version supersedes lacks nothing.

    Example: mothr gaps results
    """
    from dataclasses import asdict

    from mothr.benchmark.board import board as boards
    from mothr.benchmark.records.store import read_all
    from mothr.benchmark.run import plan

    records = read_all(results)
    absent = boards.gaps(boards.latest(boards.rows(records), results), plan.of_results(results))
    count = sum(len(gap.seeds) for gap in absent)
    text = [*map(str, absent), f"{count} runs are missing beside the {len(records)} there are"]
    say({"records": len(records), "missing": count, "gaps": [asdict(gap) for gap in absent]}, as_json, "\n".join(text))


def score_submissions(
    results: Annotated[Path, typer.Argument(help="The folder of results, with the submissions in it.")] = Path(
        "results"
    ),
    data: Annotated[
        Path,
        typer.Option(help="Holds the weights of the splits, a folder each; methods run on the splits that are there."),
    ] = Path("data"),
    labels: Annotated[
        Path | None, typer.Option(help="Holds the labels of hidden splits, each at <split>-v<k>.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of a method on each board.")] = 1,
    as_json: Json = False,
) -> None:
    """Score submissions: predictions count as self-run, methods are run here and count as verified. For the maintainers.

    Example: mothr score-submissions results --data data
    """
    from dataclasses import asdict

    from mothr.benchmark.exchange.submission_scores import ScoringInputs, score_submissions

    one_thread()
    lines = [asdict(line) for line in score_submissions(ScoringInputs(results, data, labels, seeds))]
    say(lines, as_json, lambda: table(lines))
    if failed := [line["submission"] for line in lines if line["status"] == "FAILED"]:
        raise MothrError(f"{len(failed)} of the submissions cannot be scored: {', '.join(failed)}")
