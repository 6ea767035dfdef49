"""MoTHer: cluster the models into trees, then one minimum directed spanning tree a cluster.

Horwitz, Shul, Hoshen: Unsupervised Model Tree Heritage Recovery, ICLR 2025, arXiv 2405.18432. Written from the papers'
descriptions. It keeps the weaknesses of what was published: the stage and the number of trees are told to it, only some square
matrices are looked at, and the distance of v1 misses large changes of one sign and depends on the other models of its tree.

Where this differs from what was published, and why:

* ties: the published code breaks them by the order in which models are listed; here by content digest, so that neither
  names nor order say anything;
* rank (LoRA): the published tolerance is numpy's default, which finds full rank in weights stored in 16 bits; here it is the
  noise of the storage (:func:`mothr.baselines.parts.distances.rank`);
* v1's distance takes differences over all ordered pairs of a tree, so that listing order plays no part. The edge i -> j uses
  w_i - w_j. In a tensor that is the same in all models of a tree the scaling is 0 / 0; it is left out;
* models whose tensors differ are compared on what both hold; pairs with nothing in common count as twice as far apart as the
  farthest that can be compared;
* the number of trees is chosen by the largest gap where nobody tells it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.parts.arborescence import arborescence
from mothr.baselines.parts.clustering import given_trees, largest_gap, ward
from mothr.baselines.parts.directions import Stage, evidence, find_direction, kind_of
from mothr.baselines.parts.distances import distances, find_distance, replace_infinite
from mothr.baselines.parts.learned import tuned_on
from mothr.benchmark.errors import MothrError, unknown_name
from mothr.benchmark.graph import ModelGraph, NodeId
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.combine import EVIDENCE_RULES
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True)
class MoTHer:
    """Clusters of models, each spanned by the directed tree of least distance, with a charge on edges against the direction score.

    The defaults are those of v2 for fully fine-tuned ViTs. SideInformation the trees (setting ``known-trees``), it
    finds one tree with one root
    in each; else it clusters first.
    """

    version: ClassVar[str] = "1"

    distance: str = "rms"
    """Distance of an edge, a name of ``mothr list distances``."""
    distance_layers: str = "square-attention"
    """Tensors the distance looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""
    direction: str = "kurtosis"
    """Direction score, a name of ``mothr list directions``; ``oracle`` needs the truth."""
    direction_layers: str = "square-output"
    """Tensors the direction score looks at. As published: ``square-output`` for ViT and Llama, ``value`` for LoRA,
    ``square-matrices`` for Stable Diffusion."""
    direction_combine: str | None = "sum"
    """How tensors are combined to the score: ``sum`` (published), ``elements``, ``vote``, or None for the score's own way."""
    stage: Stage = "specialisation"
    """``specialisation``: the parent has the higher kurtosis; ``generalisation`` (Stable Diffusion): the lower. It turns round
    only those scores that depend on it."""
    lambda_: float = 0.3
    """Weight of the direction against the distance, in units of the mean distance."""
    clustering: str = "mean_abs"
    """Distance by which models are clustered into trees; a symmetric one."""
    clustering_layers: str = "square-matrices"
    """Tensors the clustering looks at."""
    n_trees: int | None = None
    """Number of trees to cluster into. None: as told, or by the largest gap where it is not; 0: always by the largest gap."""

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
        if not 0 <= self.lambda_ < np.inf:
            raise MothrError(f"lambda_ is {self.lambda_}; it must be a finite number >= 0")
        if self.n_trees is not None and self.n_trees < 0:
            raise MothrError(
                f"n_trees is {self.n_trees}; give a number >= 1, 0 for the largest gap, or none for the number told"
            )

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """The splits that its direction score was fitted on, if it was."""
        return tuned_on(self.direction)

    @property
    def kind(self) -> MethodKind:
        """The kind of method: ``null`` with the direction ``random``, ``oracle`` with the direction ``oracle``."""
        return kind_of(self.direction)

    @property
    def needs(self) -> frozenset[Need]:
        """What it must be told beside the weights: the number of trees unless that is set, and the truth for ``oracle``."""
        count: set[Need] = {"tree_count"} if self.n_trees is None else set()
        truth: set[Need] = {"truth"} if self.direction == "oracle" else set()
        return frozenset(count | truth)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns one tree with one root for each part of ``models``; ``rng`` is for the direction ``random`` alone."""
        labels = self._partition(models)
        parents: dict[NodeId, tuple[NodeId, ...]] = {}
        for label in range(int(labels.max()) + 1):
            part = tuple(models.checkpoints[position] for position in np.flatnonzero(labels == label))
            parents |= self._tree(ModelSet(part, models.given), rng)
        return Prediction(
            ModelGraph(parents), trees={node: int(label) for node, label in zip(models.ids, labels, strict=True)}
        )

    def _partition(self, models: ModelSet) -> NDArray[np.int64]:
        """Returns the tree of each model, (n,), numbered in the order in which trees first appear."""
        told = given_trees(models)
        if told is not None:
            return told
        found = distances(models, self.clustering, Layers.parse(self.clustering_layers))
        n_trees = models.given.tree_count if self.n_trees is None else self.n_trees
        return ward(found, n_trees) if n_trees else largest_gap(found)

    def _tree(self, models: ModelSet, rng: np.random.Generator) -> dict[NodeId, tuple[NodeId, ...]]:
        """Returns the parents of the models of one tree: the MDST of D + lambda mean(D) K, K[i, j] = 1 if j -> i is likelier."""
        ids = models.ids
        if len(models) == 1:
            return {ids[0]: ()}
        far = replace_infinite(distances(models, self.distance, Layers.parse(self.distance_layers)))
        says = evidence(
            models,
            self.direction,
            Layers.parse(self.direction_layers),
            rng,
            how=self.direction_combine,
            stage=self.stage,
        )
        parents = arborescence(far + self.lambda_ * far.mean() * (says < 0))
        return {ids[child]: () if parent < 0 else (ids[parent],) for child, parent in enumerate(parents)}


MOTHER_V1 = MoTHer(distance="signed_max")
"""As in the code of July 2024 (arXiv 2405.18432v1), for fully fine-tuned ViTs."""
MOTHER_V2 = MoTHer()
"""As in the later paper and code, for fully fine-tuned ViTs."""
MOTHER_LORA = MoTHer(
    distance="rank",
    distance_layers="value",
    direction_layers="value",
    clustering="rank",
    clustering_layers="square-matrices",
)
"""As published for models fine-tuned with LoRA, merged into dense weights."""
