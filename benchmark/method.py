"""What a method is, what it may be told, what it answers, and how one is found by name."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.graph import Edge, ModelGraph, NodeId

if TYPE_CHECKING:
    import numpy as np

    from mothr.benchmark.weights import ModelSet

ENTRY_POINTS = "mothr.methods"
Need = Literal["tree_count", "metadata", "truth"]


@dataclass(frozen=True)
class Told:
    """What the harness tells a method beside the weights. Empty in the setting ``open``, unless the method needs more."""

    trees: Mapping[NodeId, int] | None = None
    """The partition: which Model Tree each model is in (setting ``known-trees``)."""
    tree_count: int | None = None
    """The number of Model Trees (methods that declare ``needs = {"tree_count"}``)."""
    metadata: Mapping[NodeId, Mapping[str, Any]] | None = None
    """What the files say beside weights: name, sizes, times (methods that declare ``needs = {"metadata"}``)."""
    truth: ModelGraph | None = None
    """The answer itself (oracles, which declare ``needs = {"truth"}`` and are never ranked)."""

    def names(self) -> tuple[str, ...]:
        """Returns the names of what was told, sorted, as recorded in a result."""
        return tuple(sorted(item.name for item in fields(self) if getattr(self, item.name) is not None))

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "Told":
        """Returns the same knowledge about models called ``names[id]``."""
        return replace(
            self,
            trees=None if self.trees is None else {names[node]: tree for node, tree in self.trees.items()},
            metadata=None if self.metadata is None else {names[node]: value for node, value in self.metadata.items()},
            truth=None if self.truth is None else self.truth.relabel(names),
        )


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

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "Prediction":
        """Returns the same prediction about models called ``names[id]``."""
        confidence = self.confidence
        return Prediction(
            graph=self.graph.relabel(names),
            confidence=None if confidence is None else {(names[p], names[c]): value for (p, c), value in confidence.items()},
            trees=None if self.trees is None else {names[node]: tree for node, tree in self.trees.items()},
            abstained=frozenset(names[node] for node in self.abstained),
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
        return value

    @classmethod
    def from_json(cls, value: Any, where: str = "prediction") -> "Prediction":
        """Returns the prediction in the content of a prediction file; ``where`` names the source in errors."""
        if not isinstance(value, dict) or "parents" not in value:
            raise MothrError(f"{where}: a prediction is an object with the key 'parents'; see the README for an example")
        if value.get("schema_version") != 1:
            raise MothrError(f"{where}: schema_version is {value.get('schema_version')!r}; this version reads 1")
        known = {"schema_version", "parents", "confidence", "trees", "abstained"}
        for key in value:
            if key not in known:
                raise MothrError(f"{where}: {unknown_name('key', str(key), known)}")
        graph = ModelGraph.from_json(value["parents"], where)
        confidence = value.get("confidence")
        if confidence is not None:
            confidence = _confidence(confidence, graph, where)
        for key in ("trees", "abstained"):
            expected = dict if key == "trees" else list
            named = value.get(key)
            if named is None:
                continue
            if not isinstance(named, expected):
                raise MothrError(f"{where}: {key!r} must be a JSON {'object' if expected is dict else 'list'}")
            for node in named:
                if node not in graph.parents:
                    raise MothrError(f"{where}: {key!r} names the unknown model {node!r}")
        trees = value.get("trees")
        if trees is not None and not all(type(label) is int for label in trees.values()):
            raise MothrError(f"{where}: the values of 'trees' must be whole numbers")
        return cls(graph, confidence, trees, frozenset(value.get("abstained") or ()))


def _confidence(value: Any, graph: ModelGraph, where: str) -> dict[Edge, float]:
    found: dict[Edge, float] = {}
    if not isinstance(value, dict) or not all(isinstance(named, dict) for named in value.values()):
        raise MothrError(f"{where}: 'confidence' must be {{child: {{parent: probability}}}}")
    for child, named in value.items():
        for parent, probability in named.items():
            if parent not in graph.parents.get(child, ()):
                raise MothrError(f"{where}: confidence of {parent!r} -> {child!r}, which is no predicted edge")
            if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
                raise MothrError(f"{where}: confidence of {parent!r} -> {child!r} is {probability!r}; it must be in [0, 1]")
            found[parent, child] = float(probability)
    return found


@runtime_checkable
class Method(Protocol):
    """Anything that is called with models and a random generator and returns a Prediction.

    By convention a frozen dataclass whose fields are its hyper-parameters, with two class attributes: ``version``
    (a string, changed whenever answers change) and ``needs`` (see :data:`Need`; absent means the weights suffice).
    """

    def __call__(self, models: "ModelSet", rng: "np.random.Generator", /) -> Prediction:
        """Returns the predicted Model Graph of ``models``."""


def method_names() -> list[str]:
    """Returns the registered method names, sorted."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def find_method(name: str, settings: Mapping[str, str] | None = None) -> Method:
    """Returns the method registered as ``name`` or found at ``module:attribute``, with ``settings`` applied.

    Args:
        name: a registered name, or ``module:attribute`` of an importable object.
        settings: field -> value as text, converted to the type of the field's present value.

    Raises:
        MothrError: no such name, the import fails, the object is no method, or a setting does not fit.
    """
    points = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in points:
        found = points[name].load()
    elif ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise MothrError(f"method {name!r} cannot be imported: {error}; is its folder on PYTHONPATH?") from error
    else:
        raise unknown_name("method", name, points)
    method = found() if inspect.isclass(found) else found
    if not isinstance(method, Method) or not callable(method):
        raise MothrError(f"method {name!r} is a {type(method).__name__}, which cannot be called with (models, rng)")
    return _apply(method, name, settings or {})


def _apply(method: Method, name: str, settings: Mapping[str, str]) -> Method:
    if not settings:
        return method
    if not is_dataclass(method) or isinstance(method, type):
        raise MothrError(f"method {name!r} has no fields to set; only dataclass methods take --set")
    hints = inspect.get_annotations(type(method), eval_str=True)
    values = {}
    for key, text in settings.items():
        if key not in {item.name for item in fields(method)}:
            raise unknown_name(f"field of {name}", key, (item.name for item in fields(method)))
        values[key] = _convert(text, hints.get(key, str), f"--set {key}={text}")
    try:
        return replace(method, **values)
    except (TypeError, ValueError) as error:
        raise MothrError(f"method {name!r}: {error}") from error


def _convert(text: str, hint: Any, where: str) -> Any:
    kinds = get_args(hint) or (hint,)
    if type(None) in kinds and text.lower() == "none":
        return None
    if bool in kinds:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise MothrError(f"{where}: expected true or false")
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    if str in kinds or any(isinstance(kind, str) for kind in kinds):
        return text
    raise MothrError(f"{where}: the value does not fit {hint}")


def parameters(method: Method) -> dict[str, Any]:
    """Returns the hyper-parameters of ``method`` as recorded in results: its dataclass fields, else nothing."""
    return asdict(method) if is_dataclass(method) and not isinstance(method, type) else {}


def needs(method: Method) -> frozenset[Need]:
    """Returns what ``method`` must be told beside the weights."""
    declared = frozenset(getattr(method, "needs", ()))
    for need in declared:
        if need not in get_args(Need):
            raise unknown_name("need", need, get_args(Need))
    return declared
