"""ModelGraph: the one graph type, for truth and for prediction."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from mothr.benchmark.errors import MothrError

NodeId = str
Edge = tuple[NodeId, NodeId]


@dataclass(frozen=True)
class ModelGraph:
    """A Model Graph: each node with its parents. Any instance is a legal answer, since construction checks it.

    Raises:
        MothrError: a parent that is no node, a parent named twice, or a cycle.
    """

    parents: Mapping[NodeId, tuple[NodeId, ...]]
    """Parents of each node: none for a root, several for a merge. Sorted on construction; read only."""

    def __post_init__(self) -> None:
        parents = {node: tuple(sorted(self.parents[node])) for node in sorted(self.parents)}
        for node, named in parents.items():
            for parent in named:
                if parent not in parents:
                    raise MothrError(
                        f"node {node!r} has the unknown parent {parent!r}; parents must be nodes themselves"
                    )
            if len(set(named)) < len(named):
                raise MothrError(f"node {node!r} names a parent twice: {', '.join(named)}")
        object.__setattr__(self, "parents", parents)
        _ = self._order  # raises on a cycle

    @classmethod
    def from_edges(cls, nodes: Iterable[NodeId], edges: Iterable[Edge]) -> "ModelGraph":
        """Returns the graph of ``nodes`` with the (parent, child) pairs ``edges``."""
        parents: dict[NodeId, list[NodeId]] = {node: [] for node in nodes}
        for parent, child in edges:
            if child not in parents:
                raise MothrError(f"edge {parent!r} -> {child!r} ends at an unknown node")
            parents[child].append(parent)
        return cls({node: tuple(named) for node, named in parents.items()})

    @classmethod
    def from_json(cls, value: Any, where: str = "graph") -> "ModelGraph":
        """Returns the graph of ``{id: [parent id, ...]}``; ``where`` names the source in errors."""
        if not isinstance(value, dict):
            raise MothrError(
                f"{where}: parents must be an object of id -> list of parent ids, not {type(value).__name__}"
            )
        for node, named in value.items():
            if not isinstance(named, list) or not all(isinstance(parent, str) for parent in named):
                raise MothrError(f"{where}: the parents of {node!r} must be a list of ids, not {named!r}")
        try:
            return cls({node: tuple(named) for node, named in value.items()})
        except MothrError as error:
            raise MothrError(f"{where}: {error}") from None

    def to_json(self) -> dict[NodeId, list[NodeId]]:
        """Returns ``{id: [parent id, ...]}``, sorted."""
        return {node: list(named) for node, named in self.parents.items()}

    @cached_property
    def _order(self) -> tuple[NodeId, ...]:
        """All nodes, parents before children."""
        found, missing = list(self.roots), {node: len(named) for node, named in self.parents.items()}
        for node in found:  # which grows meanwhile
            for child in self._children[node]:
                missing[child] -= 1
                if not missing[child]:
                    found.append(child)
        if len(found) < len(missing):
            try:
                TopologicalSorter(self.parents).prepare()  # ten times slower, but it names the cycle
            except CycleError as error:
                raise MothrError(f"cycle: {' -> '.join(error.args[1])}; a model cannot descend from itself") from None
        return tuple(found)

    @cached_property
    def _ancestors(self) -> dict[NodeId, frozenset[NodeId]]:
        found: dict[NodeId, frozenset[NodeId]] = {}
        for node in self._order:
            named = self.parents[node]
            found[node] = frozenset(named).union(*(found[parent] for parent in named))
        return found

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """All nodes, sorted."""
        return tuple(self.parents)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All (parent, child) pairs, sorted by child."""
        return tuple((parent, child) for child, named in self.parents.items() for parent in named)

    @cached_property
    def roots(self) -> tuple[NodeId, ...]:
        """The nodes without a parent, sorted."""
        return tuple(node for node, named in self.parents.items() if not named)

    @cached_property
    def trees(self) -> tuple[frozenset[NodeId], ...]:
        """The weakly connected components (Model Trees), ordered by their smallest node."""
        leader = {node: node for node in self.parents}

        def find(node: NodeId) -> NodeId:
            while leader[node] != node:
                leader[node] = leader[leader[node]]
                node = leader[node]
            return node

        for parent, child in self.edges:
            first, second = sorted((find(parent), find(child)))
            leader[second] = first
        groups: dict[NodeId, set[NodeId]] = {}
        for node in self.parents:
            groups.setdefault(find(node), set()).add(node)
        return tuple(frozenset(groups[key]) for key in sorted(groups))

    @cached_property
    def tree_graphs(self) -> tuple["ModelGraph", ...]:
        """Each Model Tree as a graph of its own, in the order of ``trees``."""
        return tuple(self.subgraph(tree) for tree in self.trees)

    def ancestors(self, node: NodeId) -> frozenset[NodeId]:
        """Returns every node that ``node`` descends from."""
        return self._ancestors[node]

    def root_of(self, node: NodeId) -> frozenset[NodeId]:
        """Returns the roots that ``node`` descends from: itself for a root, several below a merge across trees."""
        return self._roots_of[node]

    @cached_property
    def _roots_of(self) -> dict[NodeId, frozenset[NodeId]]:
        found: dict[NodeId, frozenset[NodeId]] = {}
        for node in self._order:
            named = self.parents[node]
            found[node] = frozenset().union(*(found[parent] for parent in named)) if named else frozenset({node})
        return found

    def depth(self, node: NodeId) -> int:
        """Returns the number of edges on the longest path from a root to ``node``."""
        return self._depths[node]

    @cached_property
    def _depths(self) -> dict[NodeId, int]:
        found: dict[NodeId, int] = {}
        for node in self._order:
            found[node] = max((found[parent] + 1 for parent in self.parents[node]), default=0)
        return found

    def children(self, node: NodeId) -> tuple[NodeId, ...]:
        """Returns the nodes that name ``node`` as a parent, sorted."""
        return self._children[node]

    @cached_property
    def _children(self) -> dict[NodeId, tuple[NodeId, ...]]:
        found: dict[NodeId, list[NodeId]] = {node: [] for node in self.parents}
        for parent, child in self.edges:
            found[parent].append(child)
        return {node: tuple(named) for node, named in found.items()}

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "ModelGraph":
        """Returns the same graph with each node called ``names[node]``.

        Raises:
            MothrError: a node has no new name, or two have the same.
        """
        missing = [node for node in self.parents if node not in names]
        if missing:
            raise MothrError(f"no new name for node {missing[0]!r}; name every node")
        if len({names[node] for node in self.parents}) < len(self.parents):
            raise MothrError("two nodes have the same new name; names must differ")
        return ModelGraph(
            {names[node]: tuple(names[parent] for parent in named) for node, named in self.parents.items()}
        )

    def subgraph(self, nodes: Iterable[NodeId]) -> "ModelGraph":
        """Returns the graph of ``nodes`` alone, with the edges among them.

        Raises:
            MothrError: one of ``nodes`` is no node.
        """
        kept = set(nodes)
        for node in sorted(kept - set(self.parents)):
            raise MothrError(f"unknown node {node!r}; a subgraph holds nodes of the graph")
        return ModelGraph({node: tuple(p for p in self.parents[node] if p in kept) for node in kept})

    def restricted(self, nodes: Iterable[NodeId]) -> "ModelGraph":
        """Returns what is true of ``nodes`` where all others are missing: each hangs from its nearest ancestors among them.

        A node without such an ancestor is a root, so that a tree whose root is missing may fall into several.

        Raises:
            MothrError: one of ``nodes`` is no node.
        """
        kept = set(self.subgraph(nodes).nodes)
        nearest: dict[NodeId, frozenset[NodeId]] = {}
        for node in self._order:
            nearest[node] = frozenset().union(
                *({parent} if parent in kept else nearest[parent] for parent in self.parents[node])
            )
        return ModelGraph({node: tuple(nearest[node]) for node in kept})
