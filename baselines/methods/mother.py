"""MoTHer: models are clustered into trees; each cluster is one minimum directed spanning tree (MDST).

Idea: an edge costs the distance of its two models. It costs more if the direction score says the opposite direction: the
cost matrix is M = D + lambda mean(D) K, with the distances D and K[i, j] = 1 if the score says that j is the parent of i.

Source: Horwitz, Shul, Hoshen: Unsupervised Model Tree Heritage Recovery, ICLR 2025, arXiv 2405.18432, from the papers'
descriptions. The weaknesses of the publication are kept: the training stage and the number of trees are given, only some
square matrices are used, and the distance of v1 misses large changes of one sign and depends on the other models.

Which publication: ``mother-v1`` is the public code of May 2024 and the first arXiv version, ``mother-v2`` is the ICLR version.
On 20 fully fine-tuned trees, this implementation of v2 gave the same edges as the authors' public code in 19 trees, and a tree
of equal cost in the other; of 840 ranks between LoRA models, none differed. This was measured once, outside the published
records. The models that the authors published weights of have not been tested here.

Departures, with the reason:

* Ties: the published code breaks them by the order in which models are listed. Here content digests break them, so that
  neither names nor order matter. Rootings that cost the same exist in every model family, since the charge is constant:
  :meth:`MoTHer.rootings` returns all of them, and ``mothr ablate`` and ``mothr claims`` count them and average over them.
* Rank (LoRA): the published tolerance is numpy's default, which finds full rank in weights stored in 16 bits. Here the
  tolerance is the noise of storage (:func:`mothr.baselines.parts.distances.rank`).
* The distance of v1 takes differences over all ordered pairs of a tree, so that the listing order does not matter. The edge
  i -> j uses w_i - w_j. A tensor that is equal in all models of a tree has the scaling 0 / 0 and is left out.
* Models with different tensors are compared on the tensors that both hold. A pair without a common tensor counts as twice as
  far apart as the farthest pair that can be compared.
* The largest gap chooses the number of trees if it is not given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.parts.arborescence import ROOT, arborescence, optimal_rootings
from mothr.baselines.parts.checks import check_at_least
from mothr.baselines.parts.clustering import MIN_GAP, given_trees, largest_gap, ward
from mothr.baselines.parts.directions import Stage, evidence, find_direction, kind_of, needs_of
from mothr.baselines.parts.distances import distances, find_distance, finite_distances
from mothr.baselines.parts.learned import tuned_on
from mothr.baselines.parts.trees import subset, tree_labels, tree_positions
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.combine import EVIDENCE_RULES
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True)
class MoTHer:
    """Clusters of models, each spanned by the directed tree of least cost: distances, and a charge against the direction score.

    The defaults are those of v2 for fully fine-tuned ViTs. If the trees are given (setting ``known-trees``), the method
    finds one tree with one root in each of them. Otherwise it clusters first.
    """

    version: ClassVar[str] = "1"

    distance: str = "rms"
    """Distance of an edge, a name of ``mothr list distances``."""
    distance_layers: str = "square-attention"
    """Tensors that the distance uses; see :class:`mothr.benchmark.weights.layers.Layers`."""
    direction: str = "kurtosis"
    """Direction score, a name of ``mothr list directions``; ``oracle`` needs the truth."""
    direction_layers: str = "square-output"
    """Tensors that the direction score uses. As published: ``square-output`` for ViT and Llama, ``value`` for LoRA,
    ``square-matrices`` for Stable Diffusion."""
    direction_combine: str | None = "sum"
    """How the scores of tensors are combined: ``sum`` (published), ``elements``, ``vote``, or None for the score's default."""
    stage: Stage = "specialisation"
    """``specialisation``: the parent has the higher kurtosis. ``generalisation`` (Stable Diffusion): the lower one. It
    reverses only the scores that depend on the stage."""
    lambda_: float = 0.3
    """Charge for an edge against the direction score. Unit: the mean distance."""
    clustering: str = "mean_abs"
    """Symmetric distance by which models are clustered into trees."""
    clustering_layers: str = "square-matrices"
    """Tensors that the clustering uses."""
    n_trees: int | None = None
    """Number of trees. None: as given, or by the largest gap if it is not given. 0: always by the largest gap."""
    min_gap: float = MIN_GAP
    """Least ratio of merge heights that cuts the models into trees; see :func:`mothr.baselines.parts.clustering.largest_gap`."""

    def __post_init__(self) -> None:
        find_distance(self.distance)
        find_direction(self.direction)
        if find_distance(self.clustering).feature.kind != "distance":
            raise MothrError(
                f"clustering {self.clustering!r}: not a symmetric distance, so it cannot cluster; choose another"
            )
        for layers in (self.distance_layers, self.direction_layers, self.clustering_layers):
            Layers.parse(layers)
        if self.direction_combine is not None and self.direction_combine not in EVIDENCE_RULES:
            raise unknown_name("way to combine scores", self.direction_combine, EVIDENCE_RULES)
        if self.stage not in ("specialisation", "generalisation"):
            raise unknown_name("stage", self.stage, ("specialisation", "generalisation"))
        check_at_least(self, 0, "lambda_", "min_gap")
        if self.n_trees is not None and self.n_trees < 0:
            raise MothrError(
                f"n_trees is {self.n_trees}; give a number >= 1, 0 for the largest gap, or none for the given number"
            )

    @property
    def kind(self) -> MethodKind:
        """The kind of method, which follows from the direction score."""
        return kind_of(self.direction)

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """The splits that the direction score was fitted on."""
        return tuned_on(self.direction)

    @property
    def needs(self) -> frozenset[Need]:
        """The side information that the method needs: the number of trees unless it is set, and the truth for ``oracle``."""
        count: frozenset[Need] = frozenset({"tree_count"} if self.n_trees is None else ())
        return count | needs_of(self.direction)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns one tree with one root for each part of ``models``; only the direction ``random`` uses ``rng``."""
        labels = self._partition(models)
        parents: dict[NodeId, tuple[NodeId, ...]] = {}
        for positions in tree_positions(labels):
            part = subset(models, positions)
            parents |= _parents(part.ids, arborescence(self._cost(part, rng)))
        return Prediction(ModelGraph(parents), trees=tree_labels(models, labels))

    def rootings(self, models: ModelSet, rng: np.random.Generator) -> list[list[ModelGraph]]:
        """Returns the optimal rootings of each part of ``models``: a tree of least cost for each root that has one.

        The charge against the direction score is the same for all edges. So roots whose trees have equally many edges
        against the score can cost the same, and the prediction is one of them. The random numbers are those of a call.
        """
        parts = []
        for positions in tree_positions(self._partition(models)):
            part = subset(models, positions)
            rootings = optimal_rootings(self._cost(part, rng))
            parts.append([ModelGraph(_parents(part.ids, parents)) for parents in rootings.values()])
        return parts

    def _partition(self, models: ModelSet) -> NDArray[np.int64]:
        """Returns the tree of each model, (n,), numbered in the order in which trees first appear."""
        given = given_trees(models)
        if given is not None:
            return given
        matrix = distances(models, self.clustering, Layers.parse(self.clustering_layers))
        n_trees = models.given.tree_count if self.n_trees is None else self.n_trees
        return ward(matrix, n_trees) if n_trees else largest_gap(matrix, self.min_gap)

    def _cost(self, models: ModelSet, rng: np.random.Generator) -> NDArray[np.float64]:
        """Returns the edge costs of the models of one tree, (n, n): D + lambda mean(D) K."""
        if len(models) == 1:
            return np.zeros((1, 1))
        cost = finite_distances(models, self.distance, Layers.parse(self.distance_layers))
        layers, how = Layers.parse(self.direction_layers), self.direction_combine
        scores = evidence(models, self.direction, layers, rng, how=how, stage=self.stage)
        return cost + self.lambda_ * cost.mean() * (scores < 0)


def _parents(ids: Sequence[NodeId], parents: NDArray[np.int64]) -> dict[NodeId, tuple[NodeId, ...]]:
    """Returns the parents of each model from the (n,) positions of :func:`mothr.baselines.parts.arborescence.arborescence`."""
    return {ids[child]: () if parent == ROOT else (ids[parent],) for child, parent in enumerate(parents)}


MOTHER_V1 = MoTHer(distance="signed_max")
"""MoTHer as in the public code of May 2024 and the first arXiv version (2405.18432v1), for fully fine-tuned ViTs."""
MOTHER_V2 = MoTHer()
"""MoTHer as in the ICLR version of the paper (2405.18432v2) and its code, for fully fine-tuned ViTs."""
MOTHER_LORA = MoTHer(
    distance="rank",
    distance_layers="value",
    direction_layers="value",
    clustering="rank",
    clustering_layers="square-matrices",
)
"""MoTHer as published for models that were fine-tuned with LoRA and merged into dense weights.

Both the rank and the direction score are computed on the value projections, the layers that the authors use for LoRA."""
