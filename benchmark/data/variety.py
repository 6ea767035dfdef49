"""Counts what varies in a data set: shapes of trees, kinds of edges, storage, sizes, and the settings of the training.

Everything is read from the truth and from the headers of the weight files. No weight is read.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mothr.benchmark.data.dataset import Truth, TruthNode
from mothr.benchmark.weights.model_set import ModelSet

Value = float | str
MEASURED = frozenset({"metric", "chance", "tested_on", "seed", "of", "mixing", "teacher", "kind", "source", "seconds"})
"""Entries of ``training`` and ``transform`` that are no settings: results, seeds, ids; ``kind`` is the kind of the edge."""
MEASURED_ENDINGS = ("before", "after", "first", "last")
"""Endings of the names of further results, such as ``loss_first``."""
COUNTED = 8
"""Largest number of different values that are listed with their counts. More numbers are shown as quantiles."""
LONGEST = 200
"""Largest number of characters of such a list. Instead of a longer list of settings, the number of values is shown."""
LEVELS = (0, 25, 50, 75, 100)
"""The quantiles of numbers, in percent."""


@dataclass(frozen=True, slots=True)
class Varying:
    """The values of one quantity over all trees, models or edges of a data set."""

    name: str
    """What it is."""
    of: str
    """What has one value each: ``trees``, ``models``, ``edges``, ``roots``, ``children``."""
    n: int
    """Number of values."""
    counts: tuple[tuple[Value, int], ...]
    """(value, how many have it): at most :data:`COUNTED` numbers, or all words; sorted by number, or the most frequent first."""
    distinct: int
    """Number of different values."""
    quantiles: tuple[float, ...]
    """Quantiles at :data:`LEVELS`; empty if the values are words."""

    @property
    def text(self) -> str:
        """The values in one line: quantiles of many different numbers, else values with counts."""
        if self.quantiles and self.distinct > len(self.counts):
            smallest, low, median, high, largest = map(_number, self.quantiles)
            return f"{smallest} to {largest}; median {median}, quartiles {low} and {high}"
        listed = [
            f"{_number(value) if isinstance(value, float) else value} ({count:,})" for value, count in self.counts
        ]
        text = ", ".join(listed)
        return text if len(text) <= LONGEST or self.of == "edges" else f"{self.distinct:,} different values"

    def to_json(self) -> dict[str, Any]:
        """Returns the values as a JSON object."""
        return {
            "name": self.name,
            "of": self.of,
            "n": self.n,
            "counts": [{"value": value, "count": count} for value, count in self.counts],
            "distinct": self.distinct,
            "quantiles": dict(zip(map(str, LEVELS), self.quantiles, strict=True)) if self.quantiles else None,
        }


def variety(truth: Truth, models: ModelSet) -> list[Varying]:
    """Returns the values of each quantity: first of trees, then of edges and models, then of training settings.

    A setting of the training is left out if all models have the same value of it.
    """
    graph = truth.graph
    rows = [
        _varying("models of a tree", "trees", [float(len(tree)) for tree in graph.trees]),
        _varying("depth of a tree", "trees", [float(max(map(graph.depth, tree))) for tree in graph.trees]),
        _varying("depth of a model", "models", [float(graph.depth(node)) for node in graph.nodes]),
        _varying(
            "children of a parent", "parents", [float(n) for node in graph.nodes if (n := len(graph.children(node)))]
        ),
        _varying("kind of edge", "edges", [_kind(truth.nodes[child]) for _, child in graph.edges]),
        _varying("models left out between parent and child", "edges", _gaps(truth)),
        _varying("storage", "models", [_storage(models, index) for index in range(len(models))]),
        _varying("parameters", "models", [float(_parameters(models, index)) for index in range(len(models))]),
    ]
    kept = [
        row for row in rows if row.n and (row.name != "models left out between parent and child" or row.quantiles[-1])
    ]
    return kept + list(_settings(truth))


def _kind(node: TruthNode) -> str:
    return " ".join(dict.fromkeys(word for word in (node.relation, node.subtype) if word)) or "unknown"


def _gaps(truth: Truth) -> list[Value]:
    return [float(truth.nodes[child].withheld or 0) for _, child in truth.graph.edges]


def _storage(models: ModelSet, index: int) -> str:
    """Returns the number formats of a model, such as ``F32`` or ``F32+I8``."""
    return "+".join(sorted({info.dtype for info in models.checkpoints[index].tensors.values()}))


def _parameters(models: ModelSet, index: int) -> int:
    return sum(math.prod(info.shape) for info in models.checkpoints[index].tensors.values())


def _settings(truth: Truth) -> Iterator[Varying]:
    """Yields the settings that differ between some two models, of roots and of the other models apart."""
    values: dict[str, dict[str, list[Value]]] = {"roots": {}, "children": {}}
    for node in truth.nodes.values():
        group = values["children" if node.parents else "roots"]
        for name, value in _settings_of(node):
            group.setdefault(name.replace("_", " "), []).append(value)
    for of, settings in values.items():
        for name, found in settings.items():
            if len(set(found)) > 1:
                yield _varying(name, of, found)


def _settings_of(node: TruthNode) -> Iterator[tuple[str, Value]]:
    """Yields (name, value) of each setting of the training, of the transform, and of what else was drawn for the model."""
    training, transform = list(_leaves(node.training or {})), list(_leaves(node.transform or {}))
    yield from training
    kind = (node.transform or {}).get("kind", "transform")
    yield from ((f"{kind}: {name}", value) for name, value in transform)
    known = {name for name, _ in training + transform}
    for path, value in _leaves(node.drawn or {}):
        words = re.findall(r"[A-Za-z_]+", path)
        # A drawn setting of the training stands in the record of the training, too; one of ``ranks`` as ``rank``.
        if known.isdisjoint(words) and known.isdisjoint(word.removesuffix("s") for word in words):
            yield " ".join(words), value


def _leaves(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yields (name, value) of each setting of a record. A list is one value; an inner table gives one for each entry."""
    for name, value in record.items():
        if name in MEASURED or name.endswith(MEASURED_ENDINGS) or value is None:
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name} ")
        elif isinstance(value, bool):
            yield prefix + name, "yes" if value else "no"
        elif isinstance(value, int | float):
            yield prefix + name, float(value)
        elif isinstance(value, list | tuple):
            yield prefix + name, ", ".join(map(str, value)) or "none"
        else:
            yield prefix + name, str(value)


def _varying(name: str, of: str, values: Sequence[Value]) -> Varying:
    counts = Counter(values)
    numbers = [value for value in values if isinstance(value, float)]
    numeric = len(numbers) == len(values) > 0
    frequent = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    if numeric:
        frequent = sorted(frequent[:COUNTED], key=lambda item: float(item[0]))
    quantiles = tuple(float(value) for value in np.percentile(numbers, LEVELS)) if numeric else ()
    return Varying(name, of, len(values), tuple(frequent), len(counts), quantiles)


def _number(value: float) -> str:
    """Returns a whole number with all its digits, any other number with three significant digits."""
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"
