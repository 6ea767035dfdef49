"""Models that were derived without training: duplicates, reordered copies, quantized or pruned copies, merges; and their descendants.

These models are set aside before the tree is spanned. Otherwise they would be mistaken for parents: a merge, for example,
lies between its sources.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.linea.copies import Copies, find_copies
from mothr.baselines.linea.merges import Merges, find_merges
from mothr.baselines.linea.spanning import distances_with_ties_broken
from mothr.baselines.parts.arborescence import orient, spanning_tree
from mothr.baselines.parts.checks import check_at_least, check_between
from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.parts.distances import distances
from mothr.baselines.parts.trees import Pair, subset
from mothr.benchmark.graph import NodeId
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

Parents = dict[NodeId, tuple[NodeId, ...]]
"""Parents of models; several for a merge."""


@dataclass(frozen=True, slots=True)
class Descendants:
    """How the descendants of derived models are recognised."""

    max_distance_ratio: float = 0.98
    """A child of a derived model d is nearer to d than to each source of d: its squared distance to d is below this many
    times that to the source."""
    max_cosine: float = 0.2
    """Largest absolute cosine, at d, between the ways to its child and to a source of d. An update is orthogonal to them."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "max_distance_ratio")
        check_between(self, 0, 1, "max_cosine")

    def may_be_child(self, squared: Array, source: int, derived: int, node: int) -> bool:
        """Returns whether ``node`` may be a child of ``derived``, whose source is ``source``.

        Args:
            squared: (n, n) squared Frobenius distances.
            source: Position of a source of the derived model.
            derived: Position of the derived model.
            node: Position of the possible child.
        """
        return bool(
            squared[derived, node] < self.max_distance_ratio * squared[source, node]
            and abs(_cosine_at(squared, source, derived, node)) <= self.max_cosine
        )


@dataclass(frozen=True, slots=True)
class DerivedModels:
    """The models of one tree that were derived without training."""

    parents: Parents
    """The sources of each derived model."""
    quantized: frozenset[NodeId]
    """Those that have fewer bits than their source."""


def find_duplicates(models: ModelSet) -> dict[NodeId, NodeId]:
    """Returns {model: the first model that is equal bit for bit}; the first models themselves are left out."""
    first: dict[str, NodeId] = {}
    return {
        checkpoint.id: original
        for checkpoint in models.checkpoints
        if (original := first.setdefault(checkpoint.digest, checkpoint.id)) != checkpoint.id
    }


def find_derived(
    models: ModelSet,
    reordered_groups: Iterable[Sequence[NodeId]],
    distance: str,
    layers: Layers,
    copies: Copies,
    merges: Merges,
) -> DerivedModels:
    """Returns the reordered copies, then the quantized and pruned copies among the rest, then the merges among the rest.

    Args:
        models: The models of one tree, without duplicates.
        reordered_groups: Models that hold the same numbers in different orders.
        distance: Distance that chooses the source of reordered copies.
        layers: The tensors to compare.
        copies: Thresholds for copies.
        merges: Thresholds for merges.
    """
    parents = _sources_of_reordered(models, reordered_groups, distance, layers)
    rest = without(models, parents)
    found_copies = find_copies(rest, layers, copies)
    parents |= {rest.ids[node]: (rest.ids[copy.source],) for node, copy in found_copies.items()}
    quantized = frozenset(rest.ids[node] for node, copy in found_copies.items() if copy.quantized)
    rest = without(models, parents)
    parents |= {
        rest.ids[node]: tuple(rest.ids[source] for source in sources)
        for node, sources in find_merges(rest, layers, merges).items()
    }
    return DerivedModels(parents, quantized)


def _sources_of_reordered(
    models: ModelSet, groups: Iterable[Sequence[NodeId]], distance: str, layers: Layers
) -> Parents:
    """Returns {reordered copy: (its source,)}. The source is the group's model that is nearest to a model outside the group."""
    parents: Parents = {}
    place = {node: position for position, node in enumerate(models.ids)}
    for group in groups:
        members = [place[node] for node in group if node in place]
        matrix = distances(models, distance, layers)
        others = [position for position in range(len(models)) if position not in members]
        source, *copies = sorted(members, key=lambda position: (matrix[position, others].min(initial=np.inf), position))
        parents |= {models.ids[copy]: (models.ids[source],) for copy in copies}
    return parents


def find_descendants(
    models: ModelSet,
    derived: Parents,
    distance: str,
    direction: str,
    layers: Layers,
    parameters: Descendants,
    rng: np.random.Generator,
) -> Parents:
    """Returns {model: (its parent,)} of the descendants of derived models.

    A child of a derived model d is joined to d in the minimum spanning tree of all models, may be a child by
    :meth:`Descendants.may_be_child` for each source of d, and the direction score says d -> child. The child's own
    descendants are the models behind it in the spanning tree without the other derived models.

    Args:
        models: The models of one tree, without duplicates.
        derived: The sources of the derived models.
        distance: Length of an edge.
        direction: Direction score.
        layers: The tensors to compare.
        parameters: Thresholds.
        rng: The generator of the direction ``random``.
    """
    parents: Parents = {}
    if not derived:
        return parents
    lengths = distances_with_ties_broken(models, distance, layers)
    children = _possible_children(models, derived, lengths, layers, parameters)
    pairs = np.array(children, dtype=np.intp).reshape(-1, 2)
    scores = pair_scores(models, direction, pairs, layers, rng) if children else np.empty(0)
    ids = models.ids
    for (origin, child), score in zip(children, scores, strict=True):
        rest = [place for place, node in enumerate(ids) if node not in derived or place == origin]
        span = [(rest[first], rest[second]) for first, second in spanning_tree(lengths[np.ix_(rest, rest)])]
        behind = orient([edge for edge in span if origin not in edge], child)
        branch: Parents = {ids[node]: (ids[parent],) for parent, node in [(origin, child), *behind]}
        if score > 0 and not branch.keys() & _ancestors(ids[origin], derived | parents):
            parents |= branch
    return parents


def _possible_children(
    models: ModelSet, derived: Parents, lengths: Array, layers: Layers, parameters: Descendants
) -> list[Pair]:
    """Returns the (derived model, possible child) edges of the minimum spanning tree of all models, as positions."""
    squared = distances(models, "frobenius", layers) ** 2
    ids, place = models.ids, {node: position for position, node in enumerate(models.ids)}
    edges = [edge for pair in spanning_tree(lengths) for edge in (pair, pair[::-1])]
    return [
        (origin, node)
        for origin, node in edges
        if ids[origin] in derived
        and ids[node] not in derived
        and ids[node] not in derived[ids[origin]]
        and all(parameters.may_be_child(squared, place[source], origin, node) for source in derived[ids[origin]])
    ]


def without(models: ModelSet, nodes: Iterable[NodeId]) -> ModelSet:
    """Returns the models that are not in ``nodes``."""
    left_out = set(nodes)
    return subset(models, [position for position, node in enumerate(models.ids) if node not in left_out])


def join_trees(labels: NDArray[np.int64], groups: Iterable[Sequence[int]]) -> NDArray[np.int64]:
    """Returns the labels (n,), numbered from 0, after the trees of the models in each group were made one tree."""
    for first, *others in groups:
        labels = np.where(np.isin(labels, labels[others]), labels[first], labels)
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _cosine_at(squared: Array, first: int, corner: int, second: int) -> float:
    """Returns the cosine of the angle at ``corner`` between two models, by squared distances (n, n); 0 if it is undefined."""
    product = squared[first, corner] * squared[corner, second]
    if not 0 < product < np.inf:
        return 0.0
    return float((squared[first, corner] + squared[corner, second] - squared[first, second]) / (2 * np.sqrt(product)))


def _ancestors(node: NodeId, parents: Parents) -> set[NodeId]:
    """Returns the ancestors of ``node`` by ``parents``, which may leave some models out."""
    ancestors, waiting = set[NodeId](), [node]
    while waiting:
        new = set(parents.get(waiting.pop(), ())) - ancestors
        ancestors |= new
        waiting += new
    return ancestors
