"""Prediction: the result of a method on a set of models. A prediction file holds one prediction as JSON."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, SupportsFloat, SupportsIndex, get_args

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.graph import Edge, ModelGraph, NodeId

SCHEMA_VERSION = 1
"""The version of the prediction file that this module reads and writes."""
Relation = Literal["finetune", "adapter", "merge", "quantized"]
"""How a model was made from its parents. These are the four relations of the Hugging Face Hub."""
RELATIONS: tuple[Relation, ...] = get_args(Relation)
_JSON_PARTS: dict[str, tuple[type, str]] = {
    "confidence": (dict, "must be {child: {parent: probability}}"),
    "trees": (dict, "must be a JSON object"),
    "abstained": (list, "must be a JSON list"),
    "relations": (dict, "must be a JSON object"),
}
"""Optional key of a prediction file -> the Python type of its value, and the message for a value of another type."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted Model Graph, with optional probabilities, cluster labels, abstentions and relations.

    Every instance is valid: the constructor checks each part against the graph. It stores copies with plain
    Python numbers, so that later changes of the arguments have no effect and every instance can be written as
    JSON.

    Raises:
        MothrError: A part names an unknown model or an edge that is not predicted, or holds a value out of
            range.
    """

    graph: ModelGraph
    """Every model with its predicted parents."""
    confidence: Mapping[Edge, float] | None = None
    """Probability of each predicted (parent, child) edge, in [0, 1]. Edges may be left out."""
    trees: Mapping[NodeId, int] | None = None
    """Cluster label of each model, if the method clusters models independently of the graph. Models may be left out."""
    abstained: frozenset[NodeId] = frozenset()
    """Models whose parents the method declines to predict."""
    relations: Mapping[NodeId, Relation] | None = None
    """How a model was made from its predicted parents. Models may be left out."""

    def __post_init__(self) -> None:
        if not isinstance(self.graph, ModelGraph):
            raise MothrError(
                f"the graph of a prediction is a {type(self.graph).__name__}; it must be a ModelGraph, "
                "such as ModelGraph({'a': (), 'b': ('a',)})"
            )
        # A subclass can replace the checks of ModelGraph by none.
        graph = self.graph if type(self.graph) is ModelGraph else ModelGraph(self.graph.parents)
        checked = {
            "graph": graph,
            "confidence": None if self.confidence is None else _checked_confidence(self.confidence, graph),
            "trees": None if self.trees is None else _checked_trees(self.trees, graph),
            "abstained": frozenset(_known_models("abstained", self.abstained, graph)),
            "relations": None if self.relations is None else _checked_relations(self.relations, graph),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def of(self, ids: Iterable[NodeId], what: str) -> "Prediction":
        """Returns this prediction after a check that its models are exactly ``ids``.

        Args:
            ids: The models that the prediction must name, each once.
            what: The name of the prediction in the error message.

        Raises:
            MothrError: The prediction leaves out a model of ``ids``, or names another model.
        """
        known, named = set(ids), set(self.graph.nodes)
        for fault, wrong in (("leaves out", known - named), ("adds", named - known)):
            if wrong:
                models = "1 model" if len(wrong) == 1 else f"{len(wrong)} models"
                raise MothrError(
                    f"{what} {fault} {models}, {min(wrong)!r} among them; name each of the {len(known)} once"
                )
        return self

    def _repr_svg_(self) -> str:
        """Returns the predicted graph as SVG, which notebooks show."""
        return self.graph._repr_svg_()

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "Prediction":
        """Returns the same prediction with each model ``id`` renamed to ``names[id]``.

        Raises:
            MothrError: A model has no new name, or two models have the same new name.
        """
        graph = self.graph.relabel(names)
        confidence, trees, relations = self.confidence, self.trees, self.relations
        return Prediction(
            graph=graph,
            confidence=None if confidence is None else {(names[p], names[c]): x for (p, c), x in confidence.items()},
            trees=None if trees is None else {names[node]: label for node, label in trees.items()},
            abstained=frozenset(names[node] for node in self.abstained),
            relations=None if relations is None else {names[node]: relation for node, relation in relations.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the content of a prediction file. Its ``confidence`` is ``{child: {parent: probability}}``."""
        value: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "parents": self.graph.to_json()}
        if self.confidence is not None:
            by_child: dict[NodeId, dict[NodeId, float]] = {}
            for (parent, child), probability in sorted(self.confidence.items()):
                by_child.setdefault(child, {})[parent] = probability
            value["confidence"] = by_child
        if self.trees is not None:
            value["trees"] = dict(sorted(self.trees.items()))
        if self.abstained:
            value["abstained"] = sorted(self.abstained)
        if self.relations is not None:
            value["relations"] = dict(sorted(self.relations.items()))
        return value

    @classmethod
    def from_json(cls, value: Any, where: str = "prediction") -> "Prediction":
        """Returns the prediction that a prediction file holds.

        Args:
            value: The content of the file, as :meth:`to_json` returns it.
            where: The name of the source in error messages, for example the path of the file.

        Raises:
            MothrError: ``value`` is not the content of a prediction file, or the prediction is not valid.
        """
        if not isinstance(value, dict) or "parents" not in value:
            raise MothrError(
                f"{where}: a prediction is an object with the key 'parents'; see the README for an example"
            )
        version = value.get("schema_version")
        if version != SCHEMA_VERSION:
            raise MothrError(f"{where}: schema_version is {version!r}; this version reads {SCHEMA_VERSION}")
        known = {"schema_version", "parents", *_JSON_PARTS}
        for key in value:
            if key not in known:
                raise MothrError(f"{where}: {unknown_name('key', str(key), known)}")
        graph = ModelGraph.from_json(value["parents"], where)
        parts = {key: value[key] for key in _JSON_PARTS if value.get(key) is not None}
        for key, part in parts.items():
            expected, message = _JSON_PARTS[key]
            if not isinstance(part, expected):
                raise MothrError(f"{where}: {key!r} {message}")
        try:
            if "confidence" in parts:
                parts["confidence"] = _flat_confidence(parts["confidence"])
            return cls(graph, **parts)
        except MothrError as error:
            raise MothrError(f"{where}: {error}") from None


def _flat_confidence(by_child: Mapping[NodeId, Any]) -> dict[Edge, float]:
    """Returns ``{child: {parent: probability}}`` as ``{(parent, child): probability}``."""
    for probabilities in by_child.values():
        if not isinstance(probabilities, dict):
            raise MothrError(f"'confidence' {_JSON_PARTS['confidence'][1]}")
    return {(parent, child): value for child, named in by_child.items() for parent, value in named.items()}


def _checked_confidence(confidence: Mapping[Edge, SupportsFloat], graph: ModelGraph) -> dict[Edge, float]:
    """Returns a copy with plain floats.

    Raises:
        MothrError: A key is not a predicted edge, or a value is not a number in [0, 1].
    """
    edges = frozenset(graph.edges)
    copy: dict[Edge, float] = {}
    for edge, value in confidence.items():
        if edge not in edges:
            parent, child = edge
            raise MothrError(f"confidence of {parent!r} -> {child!r}, which is no predicted edge")
        number = float(value) if isinstance(value, float | SupportsFloat) and not isinstance(value, bool) else None
        if number is None or not 0 <= number <= 1:
            shown = value if number is None else number
            raise MothrError(f"confidence of {edge[0]!r} -> {edge[1]!r} is {shown!r}; it must be in [0, 1]")
        copy[edge] = number
    return copy


def _checked_trees(trees: Mapping[NodeId, SupportsIndex | SupportsFloat], graph: ModelGraph) -> dict[NodeId, int]:
    """Returns a copy with plain integers.

    Raises:
        MothrError: A model is unknown, or a label is not a whole number.
    """
    return {node: _whole_number(node, trees[node]) for node in _known_models("trees", trees, graph)}


def _whole_number(node: NodeId, label: SupportsIndex | SupportsFloat) -> int:
    if not isinstance(label, bool):
        if isinstance(label, int | SupportsIndex):  # int first: a check of a protocol is slow
            return operator.index(label)
        if isinstance(label, float) and label.is_integer():
            return int(label)
    raise MothrError(f"the values of 'trees' must be whole numbers; the label of {node!r} is {label!r}")


def _checked_relations(relations: Mapping[NodeId, Relation], graph: ModelGraph) -> dict[NodeId, Relation]:
    """Returns a copy.

    Raises:
        MothrError: A model is unknown or has no predicted parent, or a relation is unknown.
    """
    for node in _known_models("relations", relations, graph):
        relation = relations[node]
        if relation not in RELATIONS:
            raise MothrError(str(unknown_name(f"relation of {node!r}", str(relation), RELATIONS)))
        if not graph.parents[node]:
            raise MothrError(
                f"the relation of {node!r} is {relation!r}, but {node!r} has no predicted parent; "
                f"name a parent or leave the relation out"
            )
    return dict(relations)


def _known_models(part: str, named: Iterable[NodeId], graph: ModelGraph) -> list[NodeId]:
    """Returns the ids in ``named``; raises an error that names ``part`` if one of them is no model of ``graph``."""
    nodes = list(named)
    for node in nodes:
        if not isinstance(node, str) or node not in graph.parents:
            raise MothrError(f"{part!r} names the unknown model {node!r}")
    return nodes
