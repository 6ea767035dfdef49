"""Linea, this project's own method. It needs no side information: not the trees, their number, nor the training stage.

The steps, in the order of the code. Three models in a line are ancestor a, parent p, child c; the update is u = p - a.

1. and 2. *Relate; set derived models aside*: see :mod:`mothr.baselines.linea.assembly`.
3. *Span.* The updates of different models are nearly orthogonal: |c - a|^2 = |c - p|^2 + |p - a|^2. So a sibling is farther
   than the common parent, and the minimum spanning tree of the distances is the undirected Model Tree.
4. *Root.* The root of an undirected tree directs all its edges. The direction evidence of all edges is summed for each
   candidate root; the highest sum wins. A softmax of the sums gives the probabilities of edges.
5. *Check inheritance.* A child contains its parent's update in every tensor, and reverts little of it. A model that fails
   this test is moved to the model above, or below a sibling of the parent whose update it has.
6. *Attach derived models*: see :mod:`mothr.baselines.linea.assembly`.

The relation follows: a model with several sources is a merge, a copy in fewer bits is quantized, all others are fine-tuned.
If no parent has a probability above one half, the method abstains. ``README.md`` in this folder has the formulas.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from scipy.special import softmax

from mothr.baselines.linea.assembly import SharedSteps, assemble
from mothr.baselines.linea.inheritance import Inheritance, InheritanceTest
from mothr.baselines.linea.norm_growth import NormGrowth
from mothr.baselines.linea.reassignment import reassign
from mothr.baselines.linea.spanning import DirectionEvidence, Root, distances_with_ties_broken
from mothr.baselines.parts.arborescence import orient, spanning_tree
from mothr.baselines.parts.checks import check_at_least
from mothr.baselines.parts.trees import Pair
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True)
class Linea(SharedSteps):
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

    sharpness: float = 200.0
    """Log-odds of a direction for each unit of evidence. It decides which roots are candidates, and it moves confidence."""
    norm_growth: NormGrowth = field(default_factory=NormGrowth)
    """Direction evidence by the growth of the squared norm."""
    root: Root = field(default_factory=Root)
    """Choice of the root."""
    inheritance: Inheritance = field(default_factory=Inheritance)
    """The inheritance test."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 0, "sharpness")

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest with the probability of each edge; only the direction ``random`` uses ``rng``."""
        return assemble(models, self, lambda trained, layers: self._edges(trained, layers, rng), rng)

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
