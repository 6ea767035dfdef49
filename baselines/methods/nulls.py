"""Null methods: what guessing scores. The score of a method means nothing without these rows beside it.

Idea: a null ignores the weights, or ignores which of two models is the parent. Its score is a chance level.

Each null predicts one tree with one root for every given Model Tree, or one tree over all models if no partition is given.
Models are taken in the order of their content digests, so that neither ids nor the listing order matter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Any, ClassVar

import numpy as np

from mothr.baselines.methods.mother import MOTHER_V2
from mothr.baselines.parts.arborescence import orient, spanning_tree
from mothr.baselines.parts.distances import check_symmetric, finite_distances
from mothr.baselines.parts.trees import Pair
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


def given_parts(models: ModelSet) -> list[list[int]]:
    """Returns the positions of each given Model Tree, ascending, or all positions as one tree if none is given.

    The trees are in the order of their first models.
    """
    trees = models.given.trees
    if trees is None:
        return [list(range(len(models)))]
    parts: dict[int, list[int]] = {}
    for position, node in enumerate(models.ids):
        parts.setdefault(trees[node], []).append(position)
    return list(parts.values())


def predict_edges(models: ModelSet, edges: Iterable[Pair]) -> Prediction:
    """Returns the prediction of the (parent, child) pairs ``edges``, given as positions."""
    ids = models.ids
    return Prediction(ModelGraph.from_edges(ids, [(ids[parent], ids[child]) for parent, child in edges]))


def star(part: Sequence[int], roots: Sequence[int], distances: Array | None = None) -> list[Pair]:
    """Returns (parent, child) pairs: every model of ``part`` that is no root is a child of the nearest root.

    Args:
        part: Positions of the models.
        roots: Positions of the roots. Of two equally near roots the first is the parent.
        distances: (n, n); None allows one root only.
    """
    non_roots = [node for node in part if node not in roots]
    if distances is None or len(roots) == 1:
        return [(roots[0], node) for node in non_roots]
    return [(roots[int(distances[node, list(roots)].argmin())], node) for node in non_roots]


def spanning_forest(part: Sequence[int], roots: Sequence[int], distances: Array) -> list[Pair]:
    """Returns (parent, child) pairs: the minimum spanning forest of ``part`` with one root in each tree, directed away from it.

    Args:
        part: Positions of the models.
        roots: Positions of the roots.
        distances: (n, n).
    """
    between = distances[np.ix_(part, part)]
    places = [part.index(root) for root in roots]
    between[np.ix_(places, places)] = -1.0  # shorter than any distance: the roots are joined first, and then cut apart
    edges = [pair for pair in spanning_tree(between) if not set(pair) <= set(places)]
    return [(part[parent], part[child]) for root in places for parent, child in orient(edges, root)]


@dataclass(frozen=True)
class RandomTree:
    """A random recursive tree: models are put in a random order, and each model's parent is drawn from those before it."""

    kind: ClassVar[MethodKind] = "null"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a random tree for each part."""
        edges: list[Pair] = []
        for part in given_parts(models):
            order = [part[index] for index in rng.permutation(len(part))]
            edges += [(order[rng.integers(index)], order[index]) for index in range(1, len(order))]
        return predict_edges(models, edges)


@dataclass(frozen=True)
class NullStar:
    """A star: all models are children of one model, which is drawn at random."""

    kind: ClassVar[MethodKind] = "null"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a star at a random root for each part."""
        parts = given_parts(models)
        return predict_edges(
            models, [edge for part in parts for edge in star(part, [part[int(rng.integers(len(part)))]])]
        )


@dataclass(frozen=True)
class NullSpanningTree:
    """The undirected minimum spanning tree, directed away from a model that is drawn at random."""

    distance: str = "rms"
    """Length of an edge, a name of ``mothr list distances``."""
    layers: str = "matrices"
    """Tensors that the distance uses; see :class:`mothr.benchmark.weights.layers.Layers`."""

    kind: ClassVar[MethodKind] = "null"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        check_symmetric(self.distance, self.layers)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns the minimum spanning tree of each part, from a random root."""
        distances = finite_distances(models, self.distance, Layers.parse(self.layers))
        edges: list[Pair] = []
        for part in given_parts(models):
            edges += spanning_forest(part, [part[int(rng.integers(len(part)))]], distances)
        return predict_edges(models, edges)


@dataclass(frozen=True)
class Metadata:
    """Reads lineage from files and never from weights: times, names, sizes, configurations. At chance if nothing leaks."""

    min_name_length: int = 4
    """Least length of a model's name that is looked for in a configuration. A shorter name may occur by accident."""

    kind: ClassVar[MethodKind] = "null"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset({"metadata"})

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns for each part the tree that its files suggest.

        Models are ordered by time, then by length of name (a child's name often extends its parent's), by name and by
        size. The parent is an earlier model. The first of these rules that finds one decides: the configuration mentions
        its name; the child's name extends its name; the two names share the longest beginning; the sizes are nearest.
        ``rng`` breaks the remaining ties.

        Raises:
            MothrError: No metadata was given.
        """
        metadata = models.given.metadata
        if metadata is None:
            raise MothrError("null-metadata reads file names, times and sizes, and none were given; use 'mothr run'")
        edges: list[Edge] = []
        for part in given_parts(models):
            nodes = [models.ids[position] for position in part]
            coin = dict(zip(nodes, rng.permutation(len(nodes)).tolist(), strict=True))
            files = [_File.read(metadata.get(node, {}), node, coin[node]) for node in nodes]
            files.sort(key=lambda file: (file.mtime, len(file.name), file.name, file.size, file.coin))
            for index, file in enumerate(files[1:], start=1):
                edges.append(
                    (
                        max(files[:index], key=lambda candidate: file.similarity(candidate, self.min_name_length)).node,
                        file.node,
                    )
                )
        return Prediction(ModelGraph.from_edges(models.ids, edges))


@dataclass(frozen=True, slots=True)
class _File:
    """What the files of one model say beside the weights."""

    node: NodeId
    """Id of the model."""
    name: str
    """Name of the file or folder."""
    size: float
    """Bytes."""
    mtime: float
    """Time of the last change, in seconds."""
    config: str
    """Text of ``config.json``."""
    coin: int
    """A random number that breaks ties."""

    @classmethod
    def read(cls, metadata: Any, node: NodeId, coin: int) -> "_File":
        """Returns the metadata of one model; what is absent is 0 or empty."""
        return cls(
            node=node,
            name=str(metadata.get("name", "")).removesuffix(".safetensors"),
            size=float(metadata.get("bytes", 0)),
            mtime=float(metadata.get("mtime", 0)),
            config=str(metadata.get("config", "")),
            coin=coin,
        )

    def similarity(self, candidate: "_File", min_name_length: int) -> tuple[int, int, int, float, int]:
        """Returns how likely ``candidate`` is the parent, as a tuple to be compared; larger is likelier."""
        mentioned = (
            len(candidate.name) if len(candidate.name) >= min_name_length and candidate.name in self.config else 0
        )
        extended = len(candidate.name) if self.name.startswith(candidate.name) else 0
        shared = len(commonprefix((self.name, candidate.name)))  # noqa: RUF071 - letter by letter is what is meant
        return mentioned, extended, shared, -abs(self.size - candidate.size), candidate.coin


MOTHER_RANDOM_DIRECTION = replace(MOTHER_V2, direction="random")
"""MoTHer with a coin as its direction score: what its distance and its tree search achieve alone."""
