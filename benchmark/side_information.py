"""Side information: what a method is given beside the weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mothr.benchmark.graph import ModelGraph, NodeId

GivenName = Literal["metadata", "tree_count", "trees", "truth"]
"""What a method can be told beside the weights."""
Need = Literal["metadata", "tree_count", "truth"]
"""What a method can declare that it needs in every setting."""
MethodKind = Literal["method", "null", "oracle", "metadata"]
"""The kinds of methods.

``method`` reads weights. ``null`` ignores them, or the direction of the edges: its scores are chance levels. ``oracle`` is given the
truth, or a part of it: its scores are upper bounds. ``metadata`` reads file names, sizes and configurations beside the weights.
"""


@dataclass(frozen=True)
class SideInformation:
    """What the harness tells a method beside the weights. Empty in the setting ``open``, unless the method needs more."""

    trees: Mapping[NodeId, int] | None = None
    """The partition: which Model Tree each model is in (setting ``known-trees``)."""
    tree_count: int | None = None
    """The number of Model Trees (methods that declare ``needs = {"tree_count"}``)."""
    metadata: Mapping[NodeId, Mapping[str, Any]] | None = None
    """What the files say beside weights: name, sizes, times (methods that declare ``needs = {"metadata"}``)."""
    truth: ModelGraph | None = None
    """The answer itself (oracles, which declare ``needs = {"truth"}`` and are never ranked)."""

    def names(self) -> list[GivenName]:
        """Returns the names of what was told, sorted, as recorded in a result."""
        return [fact for fact in get_args(GivenName) if getattr(self, fact) is not None]

    def to_json(self) -> dict[str, Any]:
        """Returns what was told as JSON values."""
        return {
            "trees": self.trees,
            "tree_count": self.tree_count,
            "metadata": self.metadata,
            "truth": self.truth and self.truth.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SideInformation":
        """Returns what :meth:`to_json` gave."""
        truth = value["truth"]
        return cls(
            value["trees"],
            value["tree_count"],
            value["metadata"],
            None if truth is None else ModelGraph.from_json(truth),
        )

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "SideInformation":
        """Returns the same knowledge about models called ``names[id]``."""
        return replace(
            self,
            trees=None if self.trees is None else {names[node]: tree for node, tree in self.trees.items()},
            metadata=None if self.metadata is None else {names[node]: value for node, value in self.metadata.items()},
            truth=None if self.truth is None else self.truth.relabel(names),
        )
