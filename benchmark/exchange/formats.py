"""The formats that a graph is exported in: each a pure function of a Prediction that returns text.

Names may come from folders of strangers, so each format escapes them by its own rules.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mothr.benchmark import __version__
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.prediction import Prediction, Relation

if TYPE_CHECKING:
    import networkx


def relation(prediction: Prediction, node: NodeId) -> Relation | None:
    """Returns how ``node`` came from its parents: as the method says, else ``merge`` for one of several parents, else none."""
    said = (prediction.relations or {}).get(node)
    return said or ("merge" if len(prediction.graph.parents[node]) > 1 else None)


def edges(prediction: Prediction) -> Iterator[tuple[NodeId, NodeId, dict[str, Any]]]:
    """Yields (parent, child, what is known of the edge: ``relation``, ``confidence``), sorted by child."""
    for parent, child in prediction.graph.edges:
        facts = {
            "relation": relation(prediction, child),
            "confidence": (prediction.confidence or {}).get((parent, child)),
        }
        yield parent, child, {key: value for key, value in facts.items() if value is not None}


def in_short(facts: dict[str, Any]) -> str:
    """Returns what is known of an edge as a short label, empty where nothing is."""
    words = [facts["relation"]] if "relation" in facts else []
    return " ".join(words + ([f"{facts['confidence']:.2f}"] if "confidence" in facts else []))


def digraph(prediction: Prediction) -> "networkx.DiGraph":
    """Returns the graph for networkx: nodes with ``tree`` and, where so, ``abstained``; edges with what is known of them."""
    import networkx

    graph = networkx.DiGraph()
    places = {node: place for place, tree in enumerate(prediction.graph.trees) for node in tree}
    for node in prediction.graph.nodes:
        graph.add_node(node, tree=int((prediction.trees or places).get(node, places[node])))
        if node in prediction.abstained:
            graph.nodes[node]["abstained"] = True
    for parent, child, facts in edges(prediction):
        graph.add_edge(parent, child, **facts)
    return graph


def node_link(prediction: Prediction) -> str:
    """Returns networkx's node-link JSON: lists of ``nodes`` and ``edges``."""
    import networkx

    return _json(networkx.node_link_data(digraph(prediction), edges="edges"))


def graphml(prediction: Prediction) -> str:
    """Returns GraphML."""
    import networkx

    return "\n".join(networkx.generate_graphml(digraph(prediction))) + "\n"


def gexf(prediction: Prediction) -> str:
    """Returns GEXF, the format of Gephi, without the day it was written on: the same graph gives the same bytes."""
    import networkx

    text = "\n".join(networkx.generate_gexf(digraph(prediction))) + "\n"
    return re.sub(r' lastmodifieddate="[^"]*"', "", text, count=1)  # stands before the first name


def newick(prediction: Prediction) -> str:
    """Returns one line a Model Tree in Newick, every name quoted: bare ones could be read as numbers.

    Raises:
        MothrError: a model has several parents.
    """
    graph = prediction.graph
    for merge in [node for node, parents in graph.parents.items() if len(parents) > 1]:
        named = ", ".join(map(repr, graph.parents[merge]))
        raise MothrError(
            f"Newick holds trees alone, and {merge!r} has several parents ({named}); choose another format, such as graphml"
        )
    pieces: list[str] = []
    for root in graph.roots:
        waiting: list[tuple[str, NodeId | None]] = [(";\n", None), ("", root)]
        while waiting:  # not recursive: a chain may be deeper than Python's stack
            text, node = waiting.pop()
            pieces.append(text)
            if node is not None:
                children = graph.children(node)
                name = node.replace("'", "''")
                waiting.append((f"{')' if children else ''}'{name}'", None))
                waiting.extend(("," if place else "(", child) for place, child in reversed(list(enumerate(children))))
    return "".join(pieces)


def dot(prediction: Prediction) -> str:
    """Returns a digraph in DOT, the language of Graphviz; nodes are called by their names."""
    lines = ["digraph {"]
    for node in prediction.graph.nodes:
        # Graphviz reads entities and newlines in labels, which are the names unless given.
        shown = _dot(node).replace("&", "&amp;").replace("\n", "\\n")
        label = [f"label={shown}"] if shown != _dot(node) else []
        label += ["style=dashed"] if node in prediction.abstained else []
        lines.append(f"  {_dot(node)}{' [' + ', '.join(label) + ']' if label else ''};")
    for parent, child, facts in edges(prediction):
        given = {**facts, "label": in_short(facts)} if facts else {}
        known = ", ".join(f"{key}={_dot(str(value))}" for key, value in given.items())
        lines.append(f"  {_dot(parent)} -> {_dot(child)}{f' [{known}]' if known else ''};")
    return "\n".join([*lines, "}", ""])


def _dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def mermaid(prediction: Prediction) -> str:
    """Returns a Mermaid flowchart. Nodes are numbered, since Mermaid's ids hold no free text; what is not a letter, a digit or one of
    a few signs becomes a character code, and an empty name, which Mermaid refuses, a space.
    """
    lines, ids = ["flowchart TD"], {node: f"n{place}" for place, node in enumerate(prediction.graph.nodes)}
    for node, short in ids.items():
        name = "".join(sign if sign.isalnum() or sign in " _-./" else f"#{ord(sign)};" for sign in node)
        lines.append(f'  {short}["{name or "#32;"}"]{":::abstained" if node in prediction.abstained else ""}')
    for parent, child, facts in edges(prediction):
        label = f'|"{in_short(facts)}"|' if facts else ""
        lines.append(f"  {ids[parent]} -->{label} {ids[child]}")
    if prediction.abstained:
        lines.append("  classDef abstained stroke-dasharray: 4")
    return "\n".join([*lines, ""])


def csv_table(prediction: Prediction) -> str:
    """Returns the edges as CSV (RFC 4180): parent, child, relation, confidence. A model without any edge is not in it."""
    text = io.StringIO()
    table = csv.DictWriter(
        text, ["parent", "child", "relation", "confidence"]
    )  # its line ends make it quote both kinds of newline
    table.writeheader()
    table.writerows({"parent": parent, "child": child, **facts} for parent, child, facts in edges(prediction))
    return text.getvalue()


def text_tree(prediction: Prediction) -> str:
    """Returns the graph as lines for a terminal, children indented below their parents; names cannot steer the terminal.

    A model with several parents is shown under each, with an asterisk, and what descends from it under the first alone.
    """
    graph, known = prediction.graph, {(parent, child): in_short(facts) for parent, child, facts in edges(prediction)}
    lines: list[str] = []
    shown: set[NodeId] = set()
    waiting: list[tuple[NodeId, NodeId | None, str, str]] = [(root, None, "", "") for root in reversed(graph.roots)]
    while waiting:
        node, parent, before, branch = waiting.pop()
        name = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in node)
        words = ["*"] if len(graph.parents[node]) > 1 else []
        words += [known[parent, node]] if parent is not None and known[parent, node] else []
        words += ["(abstained)"] if node in prediction.abstained else []
        lines.append("  ".join([f"{before}{branch}{name}", *words]))
        if node not in shown:
            shown.add(node)
            inside = before + {"": "", "├── ": "│   ", "└── ": "    "}[branch]
            below = reversed(graph.children(node))
            waiting += [(child, node, inside, "├── " if place else "└── ") for place, child in enumerate(below)]
    if len(lines) > len(graph.nodes):
        lines += ["", "* has several parents: shown under each, what descends from it under the first alone"]
    return "".join(f"{line}\n" for line in lines)


def hub(prediction: Prediction) -> str:
    """Returns front matter for Hugging Face model cards, a YAML document a model, which begins with ``---``.

    ``base_model_relation`` is one of the Hub's own four, and left out where it is not known: the Hub then infers it.
    """
    import yaml

    def quoted(text: str) -> str:  # always: 12 hex digits such as 123456789e12 are a number to YAML 1.2
        return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).strip()

    lines = []
    for node, parents in prediction.graph.parents.items():
        lines += ["---", f"model_name: {quoted(node)}"]
        lines += [f"base_model: {quoted(parents[0])}"] if len(parents) == 1 else []
        lines += ["base_model:", *(f"- {quoted(parent)}" for parent in parents)] if len(parents) > 1 else []
        lines += [f"base_model_relation: {relation(prediction, node)}"] if relation(prediction, node) else []
    return "".join(f"{line}\n" for line in lines)


def cyclonedx(prediction: Prediction) -> str:
    """Returns a bill of materials, CycloneDX 1.6 (ECMA-424) as JSON: a component a model, its parents the ancestors in its pedigree.

    An edge's confidence is evidence of the ancestor's identity; relations and abstentions are properties ``mothr:...``.
    """
    ancestors: dict[NodeId, list[dict[str, Any]]] = {}
    for parent, child, facts in edges(prediction):
        ancestor: dict[str, Any] = {"type": "machine-learning-model", "name": parent}
        if "confidence" in facts:
            method = {"technique": "binary-analysis", "confidence": facts["confidence"]}
            ancestor["evidence"] = {
                "identity": [{"field": "name", "confidence": facts["confidence"], "methods": [method]}]
            }
        ancestors.setdefault(child, []).append(ancestor)
    components = []
    for node in prediction.graph.nodes:
        # The prefix keeps a reference from being empty or looking like a link to another bill.
        component: dict[str, Any] = {"type": "machine-learning-model", "bom-ref": f"model:{node}", "name": node}
        if node in ancestors:
            component["pedigree"] = {"ancestors": ancestors[node]}
        said = {
            "mothr:relation": relation(prediction, node),
            "mothr:abstained": "true" if node in prediction.abstained else None,
        }
        if properties := [{"name": name, "value": value} for name, value in said.items() if value]:
            component["properties"] = properties
        components.append(component)
    tools = {"components": [{"type": "application", "name": "mothr", "version": __version__}]}
    return _json(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {"tools": tools},
            "components": components,
        }
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
