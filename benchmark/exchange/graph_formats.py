"""The formats in which a graph is exported: each is a pure function from a Prediction to text.

Names of models may come from strangers. Each format therefore escapes them by its own rules.
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
    """Returns the predicted relation of ``node`` to its parents; without one, ``merge`` if it has several parents."""
    predicted = (prediction.relations or {}).get(node)
    return predicted or ("merge" if len(prediction.graph.parents[node]) > 1 else None)


def edges(prediction: Prediction) -> Iterator[tuple[NodeId, NodeId, dict[str, Any]]]:
    """Yields (parent, child, attributes), sorted by child. Attributes are ``relation`` and ``confidence``, if known."""
    for parent, child in prediction.graph.edges:
        attributes = {
            "relation": relation(prediction, child),
            "confidence": (prediction.confidence or {}).get((parent, child)),
        }
        yield parent, child, {key: value for key, value in attributes.items() if value is not None}


def label(attributes: dict[str, Any]) -> str:
    """Returns the attributes of an edge as a short label; empty if there are none."""
    words = [attributes["relation"]] if "relation" in attributes else []
    return " ".join(words + ([f"{attributes['confidence']:.2f}"] if "confidence" in attributes else []))


def digraph(prediction: Prediction) -> "networkx.DiGraph":
    """Returns the graph for networkx.

    A node has its ``tree``, and ``abstained`` if the method abstained. An edge has the attributes of :func:`edges`.
    """
    import networkx

    graph = networkx.DiGraph()
    components = {node: number for number, tree in enumerate(prediction.graph.trees) for node in tree}
    for node in prediction.graph.nodes:
        graph.add_node(node, tree=int((prediction.trees or components).get(node, components[node])))
        if node in prediction.abstained:
            graph.nodes[node]["abstained"] = True
    for parent, child, attributes in edges(prediction):
        graph.add_edge(parent, child, **attributes)
    return graph


def node_link(prediction: Prediction) -> str:
    """Returns networkx's node-link JSON: the lists ``nodes`` and ``edges``."""
    import networkx

    return _json(networkx.node_link_data(digraph(prediction), edges="edges"))


def graphml(prediction: Prediction) -> str:
    """Returns GraphML."""
    import networkx

    return "\n".join(networkx.generate_graphml(digraph(prediction))) + "\n"


def gexf(prediction: Prediction) -> str:
    """Returns GEXF, the format of Gephi, without the date of writing: the same graph gives the same bytes."""
    import networkx

    text = "\n".join(networkx.generate_gexf(digraph(prediction))) + "\n"
    return re.sub(r' lastmodifieddate="[^"]*"', "", text, count=1)  # the date is before the first name


def newick(prediction: Prediction) -> str:
    """Returns Newick, one line for each Model Tree. Every name is quoted, since a bare name could be read as a number.

    Raises:
        MothrError: a model has several parents.
    """
    graph = prediction.graph
    for merge in [node for node, parents in graph.parents.items() if len(parents) > 1]:
        parents = ", ".join(map(repr, graph.parents[merge]))
        raise MothrError(
            f"Newick holds trees alone, and {merge!r} has several parents ({parents}); "
            "choose another format, such as graphml"
        )
    pieces: list[str] = []
    for root in graph.roots:
        stack: list[tuple[str, NodeId | None]] = [(";\n", None), ("", root)]
        while stack:  # not recursive: a chain may be deeper than Python's stack
            text, node = stack.pop()
            pieces.append(text)
            if node is not None:
                children = graph.children(node)
                name = node.replace("'", "''")
                stack.append((f"{')' if children else ''}'{name}'", None))
                stack.extend(("," if index else "(", child) for index, child in reversed(list(enumerate(children))))
    return "".join(pieces)


def dot(prediction: Prediction) -> str:
    """Returns a digraph in DOT, the language of Graphviz. The ids of its nodes are the models' names."""
    lines = ["digraph {"]
    for node in prediction.graph.nodes:
        # Without a label, Graphviz shows the name, and reads entities and newlines in it.
        shown = _dot(node).replace("&", "&amp;").replace("\n", "\\n")
        attributes = [f"label={shown}"] if shown != _dot(node) else []
        attributes += ["style=dashed"] if node in prediction.abstained else []
        lines.append(f"  {_dot(node)}{' [' + ', '.join(attributes) + ']' if attributes else ''};")
    for parent, child, known in edges(prediction):
        given = {**known, "label": label(known)} if known else {}
        listed = ", ".join(f"{key}={_dot(str(value))}" for key, value in given.items())
        lines.append(f"  {_dot(parent)} -> {_dot(child)}{f' [{listed}]' if listed else ''};")
    return "\n".join([*lines, "}", ""])


def _dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def mermaid(prediction: Prediction) -> str:
    """Returns a Mermaid flowchart.

    Nodes are numbered, since an id in Mermaid cannot be any text. A character of a name that is no letter, no digit and
    not one of ``_-./`` becomes a character code. An empty name, which Mermaid refuses, becomes a space.
    """
    lines, ids = ["flowchart TD"], {node: f"n{number}" for number, node in enumerate(prediction.graph.nodes)}
    for node, node_id in ids.items():
        name = "".join(sign if sign.isalnum() or sign in " _-./" else f"#{ord(sign)};" for sign in node)
        lines.append(f'  {node_id}["{name or "#32;"}"]{":::abstained" if node in prediction.abstained else ""}')
    for parent, child, attributes in edges(prediction):
        text = f'|"{label(attributes)}"|' if attributes else ""
        lines.append(f"  {ids[parent]} -->{text} {ids[child]}")
    if prediction.abstained:
        lines.append("  classDef abstained stroke-dasharray: 4")
    return "\n".join([*lines, ""])


def csv_table(prediction: Prediction) -> str:
    """Returns the edges as CSV (RFC 4180): parent, child, relation, confidence. Models without an edge are absent."""
    text = io.StringIO()
    # With the default line end, CRLF, the writer quotes names that hold a newline of either kind.
    table = csv.DictWriter(text, ["parent", "child", "relation", "confidence"])
    table.writeheader()
    table.writerows({"parent": parent, "child": child, **attributes} for parent, child, attributes in edges(prediction))
    return text.getvalue()


def text_tree(prediction: Prediction) -> str:
    """Returns lines for a terminal, with children indented below their parents. Names cannot control the terminal.

    A model with several parents is shown below each of them, with an asterisk. Its descendants are shown once.
    """
    graph, labels = prediction.graph, {(parent, child): label(known) for parent, child, known in edges(prediction)}
    lines: list[str] = []
    shown: set[NodeId] = set()
    stack: list[tuple[NodeId, NodeId | None, str, str]] = [(root, None, "", "") for root in reversed(graph.roots)]
    while stack:
        node, parent, indent, branch = stack.pop()
        name = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in node)
        words = ["*"] if len(graph.parents[node]) > 1 else []
        words += [labels[parent, node]] if parent is not None and labels[parent, node] else []
        words += ["(abstained)"] if node in prediction.abstained else []
        lines.append("  ".join([f"{indent}{branch}{name}", *words]))
        if node not in shown:
            shown.add(node)
            inner = indent + {"": "", "├── ": "│   ", "└── ": "    "}[branch]
            children = reversed(graph.children(node))
            stack += [(child, node, inner, "├── " if index else "└── ") for index, child in enumerate(children)]
    if len(lines) > len(graph.nodes):
        lines += ["", "* has several parents: it is shown below each, its descendants below the first only"]
    return "".join(f"{line}\n" for line in lines)


def hub(prediction: Prediction) -> str:
    """Returns front matter for Hugging Face model cards: a YAML document for each model, which begins with ``---``.

    ``base_model_relation`` is one of the Hub's four relations. It is left out if it is unknown; the Hub then infers it.
    """
    import yaml

    def quoted(text: str) -> str:  # always: 12 hex digits such as 123456789e12 are a number in YAML 1.2
        return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).strip()

    lines = []
    for node, parents in prediction.graph.parents.items():
        lines += ["---", f"model_name: {quoted(node)}"]
        lines += [f"base_model: {quoted(parents[0])}"] if len(parents) == 1 else []
        lines += ["base_model:", *(f"- {quoted(parent)}" for parent in parents)] if len(parents) > 1 else []
        lines += [f"base_model_relation: {relation(prediction, node)}"] if relation(prediction, node) else []
    return "".join(f"{line}\n" for line in lines)


def cyclonedx(prediction: Prediction) -> str:
    """Returns a bill of materials: CycloneDX 1.6 (ECMA-424) as JSON.

    A model is a component. Its parents are the ancestors in its pedigree. The confidence of an edge is evidence of the
    ancestor's identity. Relations and abstentions are properties ``mothr:...``.
    """
    ancestors: dict[NodeId, list[dict[str, Any]]] = {}
    for parent, child, attributes in edges(prediction):
        ancestor: dict[str, Any] = {"type": "machine-learning-model", "name": parent}
        if "confidence" in attributes:
            confidence = attributes["confidence"]
            method = {"technique": "binary-analysis", "confidence": confidence}
            identity = [{"field": "name", "confidence": confidence, "methods": [method]}]
            ancestor["evidence"] = {"identity": identity}
        ancestors.setdefault(child, []).append(ancestor)
    components = [_component(prediction, node, ancestors.get(node, [])) for node in prediction.graph.nodes]
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


def _component(prediction: Prediction, node: NodeId, ancestors: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns one model as a component of a CycloneDX bill of materials."""
    # With the prefix, a reference is never empty, and never looks like a link to another bill.
    component: dict[str, Any] = {"type": "machine-learning-model", "bom-ref": f"model:{node}", "name": node}
    if ancestors:
        component["pedigree"] = {"ancestors": ancestors}
    values = {
        "mothr:relation": relation(prediction, node),
        "mothr:abstained": "true" if node in prediction.abstained else None,
    }
    if properties := [{"name": name, "value": value} for name, value in values.items() if value]:
        component["properties"] = properties
    return component


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
