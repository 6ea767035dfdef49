"""Side information: the information that a method is given beside the weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mothr.benchmark.graph import ModelGraph, NodeId

GivenName = Literal["metadata", "tree_count", "trees", "truth"]
"""The names of the parts of the side information."""
Need = Literal["metadata", "tree_count", "truth"]
"""The parts that a method can declare as needed in every setting."""
MethodKind = Literal["method", "null", "oracle", "metadata"]
"""The kinds of methods.

``method`` reads weights. ``null`` ignores them, or the direction of the edges: its scores are chance levels.
``oracle`` is given the truth, or a part of it: its scores are upper bounds. ``metadata`` reads file names,
sizes and configurations beside the weights.
"""


@dataclass(frozen=True, slots=True)
class SideInformation:
    """The information that a method is given beside the weights.

    In the setting ``open`` it is empty, except for the parts that the method declares as needed.
    """

    trees: Mapping[NodeId, int] | None = None
    """The partition: the label of the Model Tree of each model. Given in the setting ``known-trees``."""
    tree_count: int | None = None
    """The number of Model Trees. Given to methods that declare ``needs = {"tree_count"}``."""
    metadata: Mapping[NodeId, Mapping[str, Any]] | None = None
    """Names, sizes, times and configuration of the files of each model.

    Given to methods that declare ``needs = {"metadata"}``.
    """
    truth: ModelGraph | None = None
    """The true graph. Given to oracles: they declare ``needs = {"truth"}``, and they are never ranked."""

    def names(self) -> list[GivenName]:
        """Returns the names of the parts that are present, sorted, as a run record holds them."""
        return [name for name in get_args(GivenName) if getattr(self, name) is not None]

    def to_json(self) -> dict[str, Any]:
        """Returns the side information as a JSON value."""
        return {
            "trees": self.trees,
            "tree_count": self.tree_count,
            "metadata": self.metadata,
            "truth": self.truth and self.truth.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SideInformation":
        """Returns the side information that :meth:`to_json` wrote."""
        truth = value["truth"]
        return cls(
            value["trees"],
            value["tree_count"],
            value["metadata"],
            None if truth is None else ModelGraph.from_json(truth),
        )

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "SideInformation":
        """Returns the same information with each model ``id`` renamed to ``names[id]``."""
        return replace(
            self,
            trees=None if self.trees is None else {names[node]: tree for node, tree in self.trees.items()},
            metadata=None if self.metadata is None else {names[node]: value for node, value in self.metadata.items()},
            truth=None if self.truth is None else self.truth.relabel(names),
        )
