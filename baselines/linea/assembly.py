"""The steps that every version of Linea shares: related models, derived models, and the forest that is put together from both.

1. *Relate.* Two models are related if the cosine of their weights is above a threshold. Weights of independent origin are
   nearly orthogonal. A tree is a connected component of related models. A reordered copy is related to its source.
2. *Set derived models aside.* Duplicates, copies in fewer bits or with zeros, reordered copies and merges are recognised by
   their weights. They and their descendants are left out of the next step.
3. *Find the edges between trained models.* This is what the versions differ in.
4. *Attach derived models* below their sources, and duplicates beside their originals.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.linea.copies import Copies, find_reordered
from mothr.baselines.linea.derived import (
    DerivedModels,
    Descendants,
    Parents,
    find_derived,
    find_descendants,
    find_duplicates,
    join_trees,
    without,
)
from mothr.baselines.linea.merges import Merges
from mothr.baselines.parts.checks import check_between, check_relatedness
from mothr.baselines.parts.directions import find_direction, kind_of, needs_of
from mothr.baselines.parts.distances import check_symmetric
from mothr.baselines.parts.trees import Pair, related_trees, shared_layers, subset, tree_labels, tree_positions
from mothr.benchmark.errors import MothrWarning
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction, Relation
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True, slots=True)
class Confidence:
    """Probabilities that are not computed from evidence."""

    derived: float = 0.99
    """Probability of the edges to a derived model and to its descendants."""
    min_named: float = 0.5
    """An edge is named if its probability is above this; otherwise the method abstains on the child."""

    def __post_init__(self) -> None:
        check_between(self, 0, 1, "derived", "min_named")


@dataclass(frozen=True)
class SharedSteps:
    """The fields of the steps that every version shares."""

    layers: str = "body"
    """Tensors that these steps use; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "relative"
    """Length of an edge, a name of ``mothr list distances``."""
    direction: str = "residual_independence"
    """Direction score, a name of ``mothr list directions``."""
    relatedness_threshold: float = 0.1
    """Cosine of the weights of two models, mean over tensors, above which they are in one tree."""
    min_shared_fraction: float = 0.5
    """Least fraction of the weights of a tree's models that the tensors common to all of them hold. Below it, each pair is
    compared on the tensors that both models hold."""
    detect_derived: bool = True
    """Whether derived models are set aside. If not, every model is treated as fine-tuned."""
    copies: Copies = field(default_factory=Copies)
    """Recognition of copies."""
    merges: Merges = field(default_factory=Merges)
    """Recognition of merges."""
    descendants: Descendants = field(default_factory=Descendants)
    """Recognition of the descendants of derived models."""
    confidence: Confidence = field(default_factory=Confidence)
    """Probabilities that are not computed from evidence."""

    def __post_init__(self) -> None:
        check_symmetric(self.distance, self.layers)
        find_direction(self.direction)
        check_relatedness(self.relatedness_threshold)
        check_between(self, 0, 1, "min_shared_fraction")

    @property
    def kind(self) -> MethodKind:
        """The kind of method, which follows from the direction score."""
        return kind_of(self.direction)

    @property
    def needs(self) -> frozenset[Need]:
        """The side information that the direction score needs."""
        return needs_of(self.direction)


EdgesOf = Callable[[ModelSet, Layers], list[tuple[Pair, float]]]
"""Maps the trained models of one tree and the tensors to compare to (parent, child) pairs, each with its probability."""


def assemble(models: ModelSet, steps: SharedSteps, edges_of: EdgesOf, rng: np.random.Generator) -> Prediction:
    """Returns the forest of ``models``, with ``edges_of`` for step 3; only the direction ``random`` uses ``rng``."""
    assignment = _Assignment()
    labels, trees = related_models(models, steps)
    with warned_before(models.given.trees is None or steps.detect_derived):
        for tree, reordered_groups in trees:
            parts = trained_and_derived(tree, reordered_groups, steps, rng)
            assignment.parents |= dict.fromkeys(parts.trained.ids, ())
            assignment.quantized |= parts.quantized
            assignment.add(parts.derived, steps.confidence.derived)
            for (parent, child), probability in edges_of(parts.trained, parts.layers):
                assignment.add({parts.trained.ids[child]: (parts.trained.ids[parent],)}, probability)
            assignment.add_duplicates(parts.duplicates, steps.confidence.derived)
    return assignment.prediction(models, labels, steps.confidence.min_named)


@contextmanager
def warned_before(is_known: bool) -> Iterator[None]:
    """Silences warnings inside the block if a step has already warned about tensors that some models lack."""
    with warnings.catch_warnings():
        if is_known:
            warnings.simplefilter("ignore", MothrWarning)
        yield


def related_models(
    models: ModelSet, steps: SharedSteps
) -> tuple[NDArray[np.int64], list[tuple[ModelSet, list[tuple[NodeId, ...]]]]]:
    """Returns the tree of each model, (n,), and for each tree its models and the groups of reordered copies in it: step 1."""
    layers = Layers.parse(steps.layers)
    labels = related_trees(models, layers, steps.relatedness_threshold)
    with warned_before(models.given.trees is None):
        reordered = find_reordered(models, layers) if steps.detect_derived else []
    if models.given.trees is None:
        labels = join_trees(labels, reordered)
    trees = []
    for positions in tree_positions(labels):
        members = set(positions.tolist())
        groups = [tuple(models.ids[place] for place in group) for group in reordered if set(group) <= members]
        trees.append((subset(models, positions), groups))
    return labels, trees


@dataclass(frozen=True)
class TreeParts:
    """The models of one tree, by how they were made."""

    trained: ModelSet
    """The models that were trained, as far as their weights tell."""
    layers: Layers
    """The tensors to compare them on."""
    derived: Parents
    """Sources of the derived models and of their descendants."""
    quantized: frozenset[NodeId]
    """Derived models that have fewer bits than their source."""
    duplicates: dict[NodeId, NodeId]
    """Models that are equal to another one, and that one."""


def trained_and_derived(
    models: ModelSet, reordered_groups: Sequence[tuple[NodeId, ...]], steps: SharedSteps, rng: np.random.Generator
) -> TreeParts:
    """Returns the models of one tree by how they were made: step 2."""
    duplicates = find_duplicates(models) if steps.detect_derived else {}
    models = without(models, duplicates)
    layers = shared_layers(models, Layers.parse(steps.layers), steps.min_shared_fraction)
    derived = DerivedModels({}, frozenset())
    if steps.detect_derived:
        derived = find_derived(models, reordered_groups, steps.distance, layers, steps.copies, steps.merges)
    descendants = find_descendants(
        models, derived.parents, steps.distance, steps.direction, layers, steps.descendants, rng
    )
    outside = derived.parents | descendants
    return TreeParts(without(models, outside), layers, outside, derived.quantized, duplicates)


@dataclass
class _Assignment:
    """The parents that were found, tree by tree."""

    parents: Parents = field(default_factory=dict)
    """Parents of each model; none for a root."""
    confidence: dict[Edge, float] = field(default_factory=dict)
    """Probability of each (parent, child) edge."""
    quantized: set[NodeId] = field(default_factory=set)
    """Models that have fewer bits than their source."""

    def add(self, parents: Parents, probability: float) -> None:
        """Adds the edges to the models in ``parents``, all with the same probability."""
        self.parents |= parents
        self.confidence |= {(parent, node): probability for node, above in parents.items() for parent in above}

    def add_duplicates(self, duplicates: Mapping[NodeId, NodeId], probability: float) -> None:
        """Adds {duplicate: original}: a duplicate has the parents of its original; that of a root is the root's child.

        Nothing says which of two equal models was first. For a root the duplicate is taken to be the later one.
        """
        for duplicate, original in duplicates.items():
            parents = self.parents[original] or (original,)
            self.add({duplicate: parents}, self.confidence.get((parents[0], original), probability))
            self.quantized |= {duplicate} if original in self.quantized else set()

    def prediction(self, models: ModelSet, labels: NDArray[np.int64], min_named: float) -> Prediction:
        """Returns the prediction about ``models`` in their trees ``labels``, (n,); it abstains up to ``min_named``."""
        named = {
            node: parents
            for node in models.ids
            if (parents := self.parents[node]) and self.confidence[parents[0], node] > min_named
        }
        abstained = frozenset(node for node in models.ids if self.parents[node] and node not in named)
        return Prediction(
            graph=ModelGraph({node: named.get(node, ()) for node in models.ids}),
            confidence={edge: value for edge, value in self.confidence.items() if edge[1] in named},
            trees=tree_labels(models, labels),
            abstained=abstained,
            relations={node: self._relation(node, parents) for node, parents in named.items()},
        )

    def _relation(self, node: NodeId, parents: Sequence[NodeId]) -> Relation:
        return "merge" if len(parents) > 1 else "quantized" if node in self.quantized else "finetune"
