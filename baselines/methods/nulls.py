"""Null methods: what guessing gives. A score means nothing without these rows beside it.

Each gives one tree with one root for every part of the partition it is told, and one tree over all models where it is told
none. Nodes are taken in digest order, so that neither ids nor listing order say anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Any, ClassVar

import numpy as np

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.parts.arborescence import orient, spanning_tree
from mothr.baselines.parts.distances import distances, find_distance, replace_infinite
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

MENTION = 4  # a name shorter than this may stand in a configuration by accident


def parts(models: ModelSet) -> list[list[NodeId]]:
    """Returns the told Model Trees, or all models as one, each in digest order and the parts by their first model."""
    told = models.given.trees
    if told is None:
        return [list(models.ids)]
    found: dict[int, list[NodeId]] = {}
    for node in models.ids:
        found.setdefault(told[node], []).append(node)
    return list(found.values())


def answer(models: ModelSet, edges: Iterable[Edge]) -> Prediction:
    """Returns the prediction of the (parent, child) pairs ``edges``."""
    return Prediction(ModelGraph.from_edges(models.ids, edges))


@dataclass(frozen=True)
class RandomTree:
    """A random recursive tree: in a random order, each model's parent is drawn from those before it."""

    kind: ClassVar[MethodKind] = "null"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a random tree for each part."""
        edges: list[Edge] = []
        for part in parts(models):
            order = [part[place] for place in rng.permutation(len(part))]
            edges += [(order[rng.integers(place)], order[place]) for place in range(1, len(order))]
        return answer(models, edges)


@dataclass(frozen=True)
class NullStar:
    """A star: all models are children of one, drawn at random."""

    kind: ClassVar[MethodKind] = "null"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a star at a random root for each part."""
        edges: list[Edge] = []
        for part in parts(models):
            root = part[rng.integers(len(part))]
            edges += [(root, node) for node in part if node != root]
        return answer(models, edges)


@dataclass(frozen=True)
class NullSpanningTree:
    """The undirected minimum spanning tree, directed away from a model drawn at random."""

    distance: str = "rms"
    """Length of an edge, a name of ``mothr list distances``."""
    layers: str = "matrices"
    """Tensors the distance looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""

    kind: ClassVar[MethodKind] = "null"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns the minimum spanning tree of each part, from a random root."""
        far = lengths(models, self.distance, self.layers)
        place = {node: position for position, node in enumerate(models.ids)}
        edges: list[Edge] = []
        for part in parts(models):
            positions = [place[node] for node in part]
            tree = spanning_tree(far[np.ix_(positions, positions)])
            edges += [(part[parent], part[child]) for parent, child in orient(tree, int(rng.integers(len(part))))]
        return answer(models, edges)


def check_undirected(distance: str, layers: str) -> None:
    """Raises MothrError unless ``distance`` is a symmetric distance and ``layers`` a choice of tensors."""
    if find_distance(distance).feature.kind != "distance":
        raise MothrError(
            f"distance {distance!r} is not symmetric, so it has no undirected spanning tree; choose another"
        )
    Layers.parse(layers)


def lengths(models: ModelSet, distance: str, layers: str) -> np.ndarray:
    """Returns the finite (n, n) lengths of all edges; models that share no tensor are farther apart than any others."""
    return replace_infinite(distances(models, distance, Layers.parse(layers)))


@dataclass(frozen=True)
class Metadata:
    """Reads lineage off files, never weights: their times, names, sizes, configurations. At chance where nothing leaks."""

    kind: ClassVar[MethodKind] = "null"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset({"metadata"})

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns for each part the tree that its files suggest.

        Models are put in the order of their times, then by length of name (a child's often extends its parent's), by name and
        by size. The parent is the earlier model that the configuration mentions by name, else the one whose name this one
        extends, else the one that shares the longest beginning, else the nearest in size; ``rng`` settles what is left.

        Raises:
            MothrError: no metadata was told.
        """
        told = models.given.metadata
        if told is None:
            raise MothrError("null-metadata reads what files say beside weights and was told nothing; use 'mothr run'")
        edges: list[Edge] = []
        for part in parts(models):
            coin = dict(zip(part, rng.permutation(len(part)).tolist(), strict=True))
            files = {node: _File.read(told.get(node, {}), node, coin[node]) for node in part}
            order = sorted(
                files.values(), key=lambda file: (file.mtime, len(file.name), file.name, file.size, file.coin)
            )
            for place, file in enumerate(order[1:], start=1):
                edges.append((max(order[:place], key=file.resembles).node, file.node))
        return answer(models, edges)


@dataclass(frozen=True)
class _File:
    node: NodeId
    name: str
    size: float
    mtime: float
    config: str
    coin: int

    @classmethod
    def read(cls, told: Any, node: NodeId, coin: int) -> "_File":
        name = str(told.get("name", "")).removesuffix(".safetensors")
        return cls(
            node, name, float(told.get("bytes", 0)), float(told.get("mtime", 0)), str(told.get("config", "")), coin
        )

    def resembles(self, other: "_File") -> tuple[int, int, int, float, int]:
        """Returns how much speaks for ``other`` as the parent; more is more."""
        mentioned = len(other.name) if len(other.name) >= MENTION and other.name in self.config else 0
        extended = len(other.name) if self.name.startswith(other.name) else 0
        shared = len(commonprefix((self.name, other.name)))  # noqa: RUF071 - letter by letter is what is meant
        return mentioned, extended, shared, -abs(self.size - other.size), other.coin


MOTHER_RANDOM_DIRECTION = replace(MOTHER_V2, direction="random")
"""MoTHer with a coin for its direction score: what its distance and its tree search are worth by themselves."""
