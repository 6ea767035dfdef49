"""ModelGraph: the graph type of both truth and prediction."""

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
    """A Model Graph: a directed acyclic graph with one node for each model and an edge from each parent to its child.

    Every instance is valid, because the constructor checks it.

    Raises:
        MothrError: A parent is not a node, a node names a parent twice, or there is a cycle.
    """

    parents: Mapping[NodeId, tuple[NodeId, ...]]
    """Node -> its parents: none for a root, several for a merge. The constructor sorts nodes and parents. Read-only."""

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
        _ = self._order  # raises an error if there is a cycle

    @classmethod
    def from_edges(cls, nodes: Iterable[NodeId], edges: Iterable[Edge]) -> "ModelGraph":
        """Returns the graph with these nodes and (parent, child) edges.

        Raises:
            MothrError: An edge names an unknown node, an edge is given twice, or there is a cycle.
        """
        parents: dict[NodeId, list[NodeId]] = {node: [] for node in nodes}
        for parent, child in edges:
            if child not in parents:
                raise MothrError(f"edge {parent!r} -> {child!r} ends at an unknown node")
            parents[child].append(parent)
        return cls({node: tuple(named) for node, named in parents.items()})

    @classmethod
    def from_json(cls, value: Any, where: str = "graph") -> "ModelGraph":
        """Returns the graph that is written as ``{id: [parent id, ...]}``.

        Args:
            value: A JSON value, as :meth:`to_json` returns it.
            where: The name of the source in error messages.

        Raises:
            MothrError: ``value`` has another structure, or the graph is not valid.
        """
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
        """All nodes in topological order: parents before children."""
        order, missing = list(self.roots), {node: len(named) for node, named in self.parents.items()}
        for node in order:  # the loop appends to the list
            for child in self._children[node]:
                missing[child] -= 1
                if not missing[child]:
                    order.append(child)
        if len(order) < len(missing):
            try:
                TopologicalSorter(
                    self.parents
                ).prepare()  # ten times slower than the loop, but its error names the cycle
            except CycleError as error:
                raise MothrError(f"cycle: {' -> '.join(error.args[1])}; a model cannot descend from itself") from None
        return tuple(order)

    @cached_property
    def _ancestors(self) -> dict[NodeId, frozenset[NodeId]]:
        ancestors: dict[NodeId, frozenset[NodeId]] = {}
        for node in self._order:
            parents = self.parents[node]
            ancestors[node] = frozenset(parents).union(*(ancestors[parent] for parent in parents))
        return ancestors

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
        """The Model Trees: the weakly connected components, sorted by their smallest node."""
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
        """The graph of each Model Tree, in the order of ``trees``."""
        return tuple(self.subgraph(tree) for tree in self.trees)

    def tree_labels(self, numbers: Mapping[NodeId, int | None]) -> list[int]:
        """Returns the label of each of ``trees``: the number that a truth gives its models under ``tree``.

        A Model Tree whose models have several numbers, as below a merge of two trees, has the smallest of them. A Model
        Tree without a number, or with the number of an earlier one, as below a root that is not in the data set, gets the
        next number that no model has. So labels are distinct, and a truth without numbers gives 0, 1, 2, ...

        Args:
            numbers: node -> the number of its Model Tree; None or absent if the truth gives none.
        """
        unused = 1 + max((number for number in numbers.values() if number is not None), default=-1)
        labels: list[int] = []
        for tree in self.trees:
            known = [number for node in tree if (number := numbers.get(node)) is not None]
            label = min(known, default=unused)
            if label in labels or not known:
                label, unused = unused, unused + 1
            labels.append(label)
        return labels

    def ancestors(self, node: NodeId) -> frozenset[NodeId]:
        """Returns all nodes that ``node`` descends from, without the node itself."""
        return self._ancestors[node]

    def root_of(self, node: NodeId) -> frozenset[NodeId]:
        """Returns the roots that ``node`` descends from: the node itself for a root, several below a merge of trees."""
        return self._roots_of[node]

    @cached_property
    def _roots_of(self) -> dict[NodeId, frozenset[NodeId]]:
        roots: dict[NodeId, frozenset[NodeId]] = {}
        for node in self._order:
            parents = self.parents[node]
            roots[node] = frozenset().union(*(roots[parent] for parent in parents)) if parents else frozenset({node})
        return roots

    def depth(self, node: NodeId) -> int:
        """Returns the number of edges on the longest path from a root to ``node``."""
        return self._depths[node]

    @cached_property
    def _depths(self) -> dict[NodeId, int]:
        depths: dict[NodeId, int] = {}
        for node in self._order:
            depths[node] = max((depths[parent] + 1 for parent in self.parents[node]), default=0)
        return depths

    def children(self, node: NodeId) -> tuple[NodeId, ...]:
        """Returns the nodes that have ``node`` as a parent, sorted."""
        return self._children[node]

    @cached_property
    def _children(self) -> dict[NodeId, tuple[NodeId, ...]]:
        children: dict[NodeId, list[NodeId]] = {node: [] for node in self.parents}
        for parent, child in self.edges:
            children[parent].append(child)
        return {node: tuple(nodes) for node, nodes in children.items()}

    def relabel(self, names: Mapping[NodeId, NodeId]) -> "ModelGraph":
        """Returns the same graph with each ``node`` renamed to ``names[node]``.

        Raises:
            MothrError: A node has no new name, or two nodes have the same new name.
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
        """Returns the graph of ``nodes`` with the edges among them.

        Raises:
            MothrError: One of ``nodes`` is not a node of this graph.
        """
        selected = set(nodes)
        for node in sorted(selected - set(self.parents)):
            raise MothrError(f"unknown node {node!r}; a subgraph holds nodes of the graph")
        return ModelGraph({node: tuple(p for p in self.parents[node] if p in selected) for node in selected})

    def restricted(self, nodes: Iterable[NodeId]) -> "ModelGraph":
        """Returns the true graph of ``nodes`` if all other models are missing.

        The parents of a node are its nearest ancestors among ``nodes``. A node without such an ancestor is a
        root. So a tree whose root is missing can become several trees.

        Raises:
            MothrError: One of ``nodes`` is not a node of this graph.
        """
        selected = set(self.subgraph(nodes).nodes)
        nearest: dict[NodeId, frozenset[NodeId]] = {}
        for node in self._order:
            nearest[node] = frozenset().union(
                *({parent} if parent in selected else nearest[parent] for parent in self.parents[node])
            )
        return ModelGraph({node: tuple(nearest[node]) for node in selected})

    def _repr_svg_(self) -> str:
        """Returns the graph as SVG, which notebooks show."""
        from mothr.benchmark.drawing import graph_svg  # only notebooks need it

        return graph_svg(self, "Model Graph")
