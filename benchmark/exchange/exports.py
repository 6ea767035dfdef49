"""Export of a recovered or a true graph: where it is read from, which edges are kept, and the table of formats."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.exchange import formats
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.store import read_prediction
from mothr.benchmark.storage import read_json


def read(path: Path) -> Prediction:
    """Returns the graph in a prediction file, a result file or a truth, or the truth of a data set's or a split's results folder.

    Raises:
        MothrError: there is no graph there, or it is not a legal one.
    """
    if path.is_dir():
        from mothr.benchmark.data import dataset

        return dataset.open_truth(path).prediction
    value = read_json(path)
    if isinstance(value, dict) and "nodes" in value:
        from mothr.benchmark.data import dataset

        return dataset.read_truth(path).prediction
    return read_prediction(path)


def confident(prediction: Prediction, least: float) -> Prediction:
    """Returns ``prediction`` without the edges of a confidence below ``least``; a model that so loses every parent counts as abstained.

    An edge of which the method gives no confidence stays.

    Raises:
        MothrError: ``least`` is no probability, or no edge has a confidence.
    """
    if not 0 <= least <= 1:
        raise MothrError(f"the least confidence is {least}; it must be in [0, 1]")
    if not prediction.confidence:
        raise MothrError("no edge of this graph has a confidence; leave --min-confidence out")
    kept = {edge: value for edge, value in prediction.confidence.items() if value >= least}
    dropped = prediction.confidence.keys() - kept.keys()
    graph = ModelGraph.from_edges(
        prediction.graph.nodes, [edge for edge in prediction.graph.edges if edge not in dropped]
    )
    orphans = {child for _, child in dropped if not graph.parents[child]}
    relations = {node: relation for node, relation in (prediction.relations or {}).items() if node not in orphans}
    return replace(
        prediction, graph=graph, confidence=kept, abstained=prediction.abstained | orphans, relations=relations
    )


@dataclass(frozen=True)
class Format:
    """One format a graph can be written in."""

    write: Callable[[Prediction], str]
    """Returns the graph as text in this format."""
    endings: tuple[str, ...]
    """How names of its files end."""
    refused: str = ""
    """Characters that no name may hold, as in a regular expression's set; lone surrogates, which UTF-8 lacks, are always refused."""


NOT_XML = r"\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff"
FORMATS = {
    "text": Format(formats.text_tree, (".txt",)),
    "node-link": Format(formats.node_link, (".json",)),
    "graphml": Format(formats.graphml, (".graphml",), NOT_XML),
    "gexf": Format(formats.gexf, (".gexf",), NOT_XML),
    "newick": Format(formats.newick, (".nwk", ".newick"), r"\x00-\x1f\x7f-\x9f\u2028\u2029"),
    "dot": Format(formats.dot, (".dot", ".gv"), r"\x00"),
    "mermaid": Format(formats.mermaid, (".mmd", ".mermaid")),
    "csv": Format(formats.csv_table, (".csv",)),
    "hub": Format(formats.hub, (".yaml", ".yml")),
    "cyclonedx": Format(formats.cyclonedx, (".cdx.json",)),
}
"""Every format by name."""


def format_of(path: Path) -> str:
    """Returns the name of the format that the ending of ``path`` stands for.

    Raises:
        MothrError: it stands for none.
    """
    endings = {ending: name for name, form in FORMATS.items() for ending in form.endings}
    found = [ending for ending in endings if path.name.lower().endswith(ending)]
    if not found:
        raise MothrError(
            f"{path}: {unknown_name('ending', path.suffix.lower(), endings)}; or name the format with --format"
        )
    return endings[max(found, key=len)]


def render(prediction: Prediction, name: str) -> str:
    """Returns the graph as text in the format called ``name``, its last line ended.

    Raises:
        MothrError: there is no such format, or it cannot hold the graph or a name in it.
    """
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    for node in prediction.graph.nodes:
        if bad := re.search(rf"[\ud800-\udfff{FORMATS[name].refused}]", node):
            raise MothrError(
                f"the name of the model {node!r} has the character {bad[0]!r}, which {name} cannot hold; rename the model"
            )
    return FORMATS[name].write(prediction)
