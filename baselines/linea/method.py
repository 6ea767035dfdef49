"""Linea, this project's own method. It needs no side information: not the trees, their number, nor the training stage.

The steps, in the order of the code. Three models in a line are ancestor a, parent p, child c; the update is u = p - a.

1. *Relate.* Two models are related if the cosine of their weights is above a threshold. Weights of independent origin are
   nearly orthogonal. A tree is a connected component of related models. A reordered copy is related to its source.
2. *Set derived models aside.* Duplicates, copies in fewer bits or with zeros, reordered copies and merges are recognised by
   their weights. They and their descendants are left out of the next steps.
3. *Span.* The updates of different models are nearly orthogonal: |c - a|^2 = |c - p|^2 + |p - a|^2. So a sibling is farther
   than the common parent, and the minimum spanning tree of the distances is the undirected Model Tree.
4. *Root.* The root of an undirected tree directs all its edges. The direction evidence of all edges is summed for each
   candidate root; the highest sum wins. A softmax of the sums gives the probabilities of edges.
5. *Check inheritance.* A child contains its parent's update in every tensor, and reverts little of it. A model that fails
   this test is moved to the model above, or below a sibling of the parent whose update it has.
6. *Attach derived models* below their sources, and duplicates beside their originals.

The relation follows: a model with several sources is a merge, a copy in fewer bits is quantized, all others are fine-tuned.
If no parent has a probability above one half, the method abstains. ``README.md`` in this folder has the formulas.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

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
from mothr.baselines.linea.inheritance import Inheritance, InheritanceTest
from mothr.baselines.linea.merges import Merges
from mothr.baselines.linea.norm_growth import NormGrowth
from mothr.baselines.linea.reassignment import reassign
from mothr.baselines.linea.spanning import DirectionEvidence, Root, distances_with_ties_broken
from mothr.baselines.parts.arborescence import orient, spanning_tree
from mothr.baselines.parts.checks import check_at_least, check_between, check_relatedness
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
class Linea:
    """Related models are spanned by a minimum spanning tree, rooted where the direction evidence of all edges agrees best."""

    version: ClassVar[str] = "8"
    renamed: ClassVar[Mapping[str, str]] = {
        "related": "relatedness_threshold", "made": "detect_derived", "growth": "norm_growth.weight",
    }  # fmt: skip
    tuned_on: ClassVar[tuple[str, ...]] = (
        "dinov2-ft-dev", "llama-ft-dev", "llama-missing-dev", "llama-siblings-dev", "sd-ft-dev", "smollm2-ft-dev", "vit-continued-dev",
        "vit-duplicates-dev", "vit-merge-dev", "vit-missing-dev", "vit-mixed-dev", "vit-noised-dev", "vit-permuted-dev", "vit-pruned-dev",
        "vit-quantized-dev", "vit-regimes-dev", "vit-trajectory-dev", "vthr-ft-dev", "vthr-lora-f-dev", "vthr-lora-v-dev",
    )  # fmt: skip

    layers: str = "body"
    """Tensors that all steps use; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "relative"
    """Length of an edge, a name of ``mothr list distances``."""
    direction: str = "residual_independence"
    """Direction score, a name of ``mothr list directions``."""
    relatedness_threshold: float = 0.1
    """Cosine of the weights of two models, mean over tensors, above which they are in one tree."""
    min_shared_fraction: float = 0.5
    """Least fraction of the weights of a tree's models that the tensors common to all of them hold. Below it, each pair is
    compared on the tensors that both models hold."""
    sharpness: float = 200.0
    """Log-odds of a direction for each unit of evidence. It decides which roots are candidates, and it moves confidence."""
    detect_derived: bool = True
    """Whether derived models are set aside. If not, every model is treated as fine-tuned."""
    norm_growth: NormGrowth = field(default_factory=NormGrowth)
    """Direction evidence by the growth of the squared norm."""
    root: Root = field(default_factory=Root)
    """Choice of the root."""
    inheritance: Inheritance = field(default_factory=Inheritance)
    """The inheritance test."""
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
        check_at_least(self, 0, "sharpness")

    @property
    def kind(self) -> MethodKind:
        """The kind of method, which follows from the direction score."""
        return kind_of(self.direction)

    @property
    def needs(self) -> frozenset[Need]:
        """The side information that the direction score needs."""
        return needs_of(self.direction)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest with the probability of each edge; only the direction ``random`` uses ``rng``."""
        layers = Layers.parse(self.layers)
        labels = related_trees(models, layers, self.relatedness_threshold)
        assignment = _Assignment()
        with warnings.catch_warnings():
            if models.given.trees is None:  # related_trees has already warned about tensors that some models lack
                warnings.simplefilter("ignore", MothrWarning)
            reordered = find_reordered(models, layers) if self.detect_derived else []
            if self.detect_derived:
                warnings.simplefilter("ignore", MothrWarning)
            if models.given.trees is None:
                labels = join_trees(labels, reordered)
            for positions in tree_positions(labels):
                groups = [
                    tuple(models.ids[place] for place in group)
                    for group in reordered
                    if set(group) <= set(positions.tolist())
                ]
                self._assign_tree(subset(models, positions), groups, layers, rng, assignment)
        return assignment.prediction(models, labels, self.confidence.min_named)

    def _assign_tree(
        self,
        models: ModelSet,
        reordered_groups: Sequence[tuple[NodeId, ...]],
        layers: Layers,
        rng: np.random.Generator,
        assignment: "_Assignment",
    ) -> None:
        """Adds the parents of the models of one tree to ``assignment``: steps 2 to 6."""
        duplicates = find_duplicates(models) if self.detect_derived else {}
        models = without(models, duplicates)
        layers = shared_layers(models, layers, self.min_shared_fraction)
        derived = DerivedModels({}, frozenset())
        if self.detect_derived:
            derived = find_derived(models, reordered_groups, self.distance, layers, self.copies, self.merges)
        descendants = find_descendants(
            models, derived.parents, self.distance, self.direction, layers, self.descendants, rng
        )
        outside = derived.parents | descendants
        trained = without(models, outside)
        assignment.parents |= dict.fromkeys(trained.ids, ())
        assignment.quantized |= derived.quantized
        assignment.add(outside, self.confidence.derived)
        for (parent, child), probability in self._edges(trained, layers, rng):
            assignment.add({trained.ids[child]: (trained.ids[parent],)}, probability)
        assignment.add_duplicates(duplicates, self.confidence.derived)

    def _edges(self, models: ModelSet, layers: Layers, rng: np.random.Generator) -> list[tuple[Pair, float]]:
        """Returns the (parent, child) edges of the models' best rooted tree, each with its probability: steps 3 to 5.

        Each candidate root gives a tree, which the inheritance test repairs. The best tree has the highest summed evidence.
        With the softmax over the trees as their probabilities, the probability of an edge is the sum over the trees that
        have it, each times the probability that the child inherits the update. It is 0 for models at distance 0.
        """
        distances = distances_with_ties_broken(models, self.distance, layers)
        span = spanning_tree(distances)
        if not span:
            return []
        evidence_of = DirectionEvidence(models, layers, self.distance, self.direction, self.root, self.norm_growth, rng)
        evidence = evidence_of(span)
        test = InheritanceTest(models, layers, self.inheritance)
        trees = [
            reassign(orient(span, root), distances, test, self.inheritance.max_siblings)
            for root in self.root.candidates(span, evidence, self.sharpness)
        ]
        new = {(parent, child) for parent_of, _ in trees for child, parent in parent_of.items()} - evidence.keys()
        evidence |= evidence_of(sorted({(min(pair), max(pair)) for pair in new}))
        sums = np.array([sum(evidence[parent, child] for child, parent in parent_of.items()) for parent_of, _ in trees])
        probability = Counter[Pair]()
        for (parent_of, violations), weight in zip(trees, softmax(self.sharpness * sums).tolist(), strict=True):
            probability.update(
                {
                    (parent, child): weight * self.inheritance.probability(violations[child])
                    for child, parent in parent_of.items()
                    if distances[parent, child] > 0
                }
            )
        best, _ = trees[int(sums.argmax())]
        return [((parent, child), min(1.0, probability[parent, child])) for child, parent in best.items()]


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
