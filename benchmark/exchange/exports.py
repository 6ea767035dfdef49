"""Export of a predicted or a true Model Graph: reading it, leaving out uncertain edges, and the table of formats."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.exchange import graph_formats
from mothr.benchmark.graph import ModelGraph
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.records.store import RUNS, read_prediction
from mothr.benchmark.storage import read_json


@dataclass(frozen=True, slots=True)
class Format:
    """One format in which a graph can be written."""

    write: Callable[[Prediction], str]
    """Returns the graph as text in this format."""
    endings: tuple[str, ...]
    """The endings of file names that stand for this format."""
    refused: str = ""
    """Characters that a model's name may not hold, as in a character class of a regular expression. Lone surrogates
    are always refused, since UTF-8 cannot encode them."""


NOT_XML = r"\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff"
"""The characters that XML cannot hold."""
FORMATS = {
    "text": Format(graph_formats.text_tree, (".txt",)),
    "node-link": Format(graph_formats.node_link, (".json",)),
    "graphml": Format(graph_formats.graphml, (".graphml",), NOT_XML),
    "gexf": Format(graph_formats.gexf, (".gexf",), NOT_XML),
    "newick": Format(graph_formats.newick, (".nwk", ".newick"), r"\x00-\x1f\x7f-\x9f\u2028\u2029"),
    "dot": Format(graph_formats.dot, (".dot", ".gv"), r"\x00"),
    "mermaid": Format(graph_formats.mermaid, (".mmd", ".mermaid")),
    "csv": Format(graph_formats.csv_table, (".csv",)),
    "hub": Format(graph_formats.hub, (".yaml", ".yml")),
    "cyclonedx": Format(graph_formats.cyclonedx, (".cdx.json",)),
}
"""Name -> format."""


def read(path: Path) -> Prediction:
    """Returns the graph in ``path``.

    Args:
        path: a prediction file, a run (``runs.jsonl#<id>`` or an old record file), a ``truth.json``, a data set, or the
            results folder of a split.

    Raises:
        MothrError: there is no graph there, or the graph is not legal.
    """
    if path.is_dir():
        from mothr.benchmark.data import dataset  # here, since it imports torch, which takes long

        return dataset.open_truth(path).prediction
    if path.name.partition("#")[0] != RUNS:
        value = read_json(path)
        if isinstance(value, dict) and "nodes" in value:
            from mothr.benchmark.data import dataset

            return dataset.read_truth(path).prediction
    return read_prediction(path)


def confident(prediction: Prediction, min_confidence: float) -> Prediction:
    """Returns ``prediction`` without the edges whose confidence is below ``min_confidence``.

    A model that loses all its parents counts as abstained. An edge without a confidence stays.

    Raises:
        MothrError: ``min_confidence`` is not in [0, 1], or no edge has a confidence.
    """
    if not 0 <= min_confidence <= 1:
        raise MothrError(f"the least confidence is {min_confidence}; it must be in [0, 1]")
    if not prediction.confidence:
        raise MothrError("no edge of this graph has a confidence; leave --min-confidence out")
    confidence = {edge: value for edge, value in prediction.confidence.items() if value >= min_confidence}
    dropped = prediction.confidence.keys() - confidence.keys()
    edges = [edge for edge in prediction.graph.edges if edge not in dropped]
    graph = ModelGraph.from_edges(prediction.graph.nodes, edges)
    orphans = {child for _, child in dropped if not graph.parents[child]}
    relations = {node: relation for node, relation in (prediction.relations or {}).items() if node not in orphans}
    return replace(
        prediction, graph=graph, confidence=confidence, abstained=prediction.abstained | orphans, relations=relations
    )


def format_of(path: Path) -> str:
    """Returns the name of the format that the ending of ``path`` stands for.

    Raises:
        MothrError: the ending stands for no format.
    """
    endings = {ending: name for name, form in FORMATS.items() for ending in form.endings}
    matching = [ending for ending in endings if path.name.lower().endswith(ending)]
    if not matching:
        raise MothrError(
            f"{path}: {unknown_name('ending', path.suffix.lower(), endings)}; or name the format with --format"
        )
    return endings[max(matching, key=len)]


def render(prediction: Prediction, name: str) -> str:
    """Returns the graph as text in the format called ``name``. The text ends with a newline.

    Raises:
        MothrError: there is no such format, or it cannot hold the graph or a model's name.
    """
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    for node in prediction.graph.nodes:
        if character := re.search(rf"[\ud800-\udfff{FORMATS[name].refused}]", node):
            raise MothrError(
                f"the name of the model {node!r} has the character {character[0]!r}, which {name} cannot hold; "
                "rename the model"
            )
    return FORMATS[name].write(prediction)
