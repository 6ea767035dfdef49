"""Commands for models of one's own: ``export``."""

from pathlib import Path
from typing import Annotated

import typer

from mothr.benchmark.cli.command import Json, say


def export(
    source: Annotated[Path, typer.Argument(help="A prediction, result or truth file, or a data set or results folder with its truth.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; standard output if left out.")] = None,
    form: Annotated[str | None, typer.Option("--format", metavar="FORMAT", help=(
        "text, node-link, graphml, gexf, newick, dot, mermaid, csv, hub or cyclonedx; if left out, by the ending of --out, else text."
    ))] = None,
    min_confidence: Annotated[float | None, typer.Option(help="Leave out edges with a lower confidence.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a predicted or true graph as a graph, drawing, table, model card or bill of materials; or show it as a tree.

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
