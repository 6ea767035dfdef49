"""Linea with a fitted model: the forest with the most expected right parents under a distribution over all forests.

:mod:`mothr.baselines.linea.assembly` has the shared steps. Between trained models, this version measures statistics of all
candidate pairs and triples, turns them into a distribution over rooted forests by a fitted model, and names the forest with
the largest expected number of right parents. The confidence of an edge is its probability in that distribution.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from mothr.baselines.linea.assembly import Confidence, SharedSteps, assemble
from mothr.baselines.linea.fitted.measure import Evidence, measure
from mothr.baselines.linea.fitted.model import ForestModel, fitted
from mothr.baselines.parts.checks import check_at_least
from mothr.baselines.parts.trees import Pair, shared_layers
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

EVIDENCE_LAYERS = "backbone"
"""Tensors that statistics are measured on. Vectors tell models apart whose matrices are equal. The weights of the model were
fitted on this choice, so it is no field."""


@dataclass(frozen=True)
class FittedLinea(SharedSteps):
    """The most probable parents under a distribution over rooted forests, whose weights were fitted on drawn dev splits."""

    version: ClassVar[str] = "9"

    most_candidates: int = 24
    """Number of nearest models that may be the parent of a model."""
    confidence: Confidence = field(default_factory=lambda: Confidence(min_named=0.0))
    """Probabilities that are not computed from evidence, and when the method abstains."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "most_candidates")

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """The splits that the model was fitted on."""
        return fitted().fitted_on

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest with the probability of each edge; a given tree has one root. ``rng`` is not used."""
        return assemble(models, self, lambda trained, _: self.edges(trained, fitted()), rng)

    def edges(self, models: ModelSet, model: ForestModel) -> list[tuple[Pair, float]]:
        """Returns the (parent, child) edges between the trained models of one tree, each with its probability."""
        if len(models) < 2:
            return []
        distribution = model.distribution(self.evidence(models))
        return distribution.best_edges(one_root=models.given.trees is not None)

    def evidence(self, models: ModelSet) -> Evidence:
        """Returns the statistics of the trained models of one tree, at least two."""
        layers = shared_layers(models, Layers.parse(EVIDENCE_LAYERS), self.min_shared_fraction)
        return measure(models, layers, self.most_candidates)
