"""Prediction: what a method answers about a set of models, and the prediction file that holds it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.graph import Edge, ModelGraph, NodeId

Relation = Literal["finetune", "adapter", "merge", "quantized"]
"""How a model came from its parents: the Hub's own four."""


@dataclass(frozen=True)
class Prediction:
    """What a method answers."""

    graph: ModelGraph
    """Every model with its predicted parents."""
    confidence: Mapping[Edge, float] | None = None
    """Probability of each predicted (parent, child) edge, in [0, 1]."""
    trees: Mapping[NodeId, int] | None = None
    """Cluster labels, where the method has them apart from the graph."""
    abstained: frozenset[NodeId] = field(default_factory=frozenset)
    """Models whose parents the method declines to name."""
    relations: Mapping[NodeId, Relation] | None = None
    """How models came from their parents, for those of which the method says it."""

    def of(self, ids: Iterable[NodeId], what: str) -> "Prediction":
        """Returns it, if it is of exactly the models ``ids``.

        Raises:
            MothrError: it is not; ``what`` names it there.
        """
        known, named = set(ids), set(self.graph.nodes)
        for fault, wrong in (("leaves out", known - named), ("adds", named - known)):
            if wrong:
                models = "1 model" if len(wrong) == 1 else f"{len(wrong)} models"
                raise MothrError(
                    f"{what} {fault} {models}, {min(wrong)!r} among them; name each of the {len(known)} once"
                )
        return self

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "Prediction":
        """Returns the same prediction about models called ``names[id]``."""
        confidence, relations = self.confidence, self.relations
        return Prediction(
            graph=self.graph.relabel(names),
            confidence=None
            if confidence is None
            else {(names[p], names[c]): value for (p, c), value in confidence.items()},
            trees=None if self.trees is None else {names[node]: tree for node, tree in self.trees.items()},
            abstained=frozenset(names[node] for node in self.abstained),
            relations=None if relations is None else {names[node]: relation for node, relation in relations.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the content of a prediction file; confidence is ``{child: {parent: probability}}``."""
        value: dict[str, Any] = {"schema_version": 1, "parents": self.graph.to_json()}
        if self.confidence is not None:
            nested: dict[NodeId, dict[NodeId, float]] = {}
            for (parent, child), probability in sorted(self.confidence.items()):
                nested.setdefault(child, {})[parent] = float(probability)
            value["confidence"] = nested
        if self.trees is not None:
            value["trees"] = {node: int(self.trees[node]) for node in sorted(self.trees)}
        if self.abstained:
            value["abstained"] = sorted(self.abstained)
        if self.relations is not None:
            value["relations"] = {node: self.relations[node] for node in sorted(self.relations)}
        return value

    @classmethod
    def from_json(cls, value: Any, where: str = "prediction") -> "Prediction":
        """Returns the prediction in the content of a prediction file; ``where`` names the source in errors."""
        if not isinstance(value, dict) or "parents" not in value:
            raise MothrError(
                f"{where}: a prediction is an object with the key 'parents'; see the README for an example"
            )
        if value.get("schema_version") != 1:
            raise MothrError(f"{where}: schema_version is {value.get('schema_version')!r}; this version reads 1")
        known = {"schema_version", "parents", "confidence", "trees", "abstained", "relations"}
        for key in value:
            if key not in known:
                raise MothrError(f"{where}: {unknown_name('key', str(key), known)}")
        graph = ModelGraph.from_json(value["parents"], where)
        confidence = value.get("confidence")
        if confidence is not None:
            confidence = _confidence(confidence, graph, where)
        for key in ("trees", "abstained", "relations"):
            expected = list if key == "abstained" else dict
            named = value.get(key)
            if named is None:
                continue
            if not isinstance(named, expected):
                raise MothrError(f"{where}: {key!r} must be a JSON {'object' if expected is dict else 'list'}")
            for node in named:
                if not isinstance(node, str) or node not in graph.parents:
                    raise MothrError(f"{where}: {key!r} names the unknown model {node!r}")
        trees = value.get("trees")
        if trees is not None and not all(type(label) is int for label in trees.values()):
            raise MothrError(f"{where}: the values of 'trees' must be whole numbers")
        relations = value.get("relations")
        for node, relation in (relations or {}).items():
            if relation not in get_args(Relation):
                raise MothrError(f"{where}: {unknown_name(f'relation of {node!r}', str(relation), get_args(Relation))}")
            if not graph.parents[node]:
                raise MothrError(
                    f"{where}: {node!r} is said to be a {relation}, and no parent of it is named; name one or leave it out"
                )
        return cls(graph, confidence, trees, frozenset(value.get("abstained") or ()), relations)


def _confidence(value: Any, graph: ModelGraph, where: str) -> dict[Edge, float]:
    found: dict[Edge, float] = {}
    if not isinstance(value, dict) or not all(isinstance(named, dict) for named in value.values()):
        raise MothrError(f"{where}: 'confidence' must be {{child: {{parent: probability}}}}")
    for child, named in value.items():
        for parent, probability in named.items():
            if parent not in graph.parents.get(child, ()):
                raise MothrError(f"{where}: confidence of {parent!r} -> {child!r}, which is no predicted edge")
            if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
                raise MothrError(
                    f"{where}: confidence of {parent!r} -> {child!r} is {probability!r}; it must be in [0, 1]"
                )
            found[parent, child] = float(probability)
    return found
