"""TensorLock: the nearest neighbours of a model are its relatives; of two relatives the one of lower effective rank is the parent.

Idea: training adds directions to the weights of the parent, so the effective rank rises along an edge.

Source: a description of two sentences. The distance of two models is the mean L2 distance over their tensors. Lineage runs
from lower to higher effective rank, exp(entropy of the normalised singular values) (Roy and Vetterli 2007), mean over tensors.

Departures, with the reason:

* The parent of a model is the nearest model of lower effective rank. With the nearest neighbour alone most models of a
  forest would have no parent or two, since the nearest neighbour of a parent is a child. This rule gives each tree one root.
* The L2 distance of a tensor is divided by the root of its element count, so that large tensors do not dominate.
* If the trees are not given, models are related by the cosine of their weights, as in Linea.

A limit of the idea: weights that use all directions alike lose effective rank by an update of low rank (LoRA). The
direction is then reversed. Weight decay alone changes nothing, since the normalised singular values stay equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mothr.baselines.parts.checks import check_relatedness
from mothr.baselines.parts.directions import statistic
from mothr.baselines.parts.distances import check_symmetric, finite_distances
from mothr.baselines.parts.trees import forest_prediction, nearest_predecessor, related_trees, tree_positions
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import Need
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True)
class TensorLock:
    """Each model is the child of the nearest model whose effective rank is lower."""

    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()
    renamed: ClassVar[Mapping[str, str]] = {"related": "relatedness_threshold"}

    layers: str = "body"
    """Tensors that all steps use; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "rms"
    """Distance that decides which model is nearest, a name of ``mothr list distances``."""
    relatedness_threshold: float = 0.1
    """Cosine of the weights of two models, mean over tensors, above which they are in one tree. Used if no trees are given."""

    def __post_init__(self) -> None:
        check_symmetric(self.distance, self.layers)
        check_relatedness(self.relatedness_threshold)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest whose trees are rooted at the model of lowest effective rank; ``rng`` is not used."""
        layers = Layers.parse(self.layers)
        labels = related_trees(models, layers, self.relatedness_threshold)
        distances = finite_distances(models, self.distance, layers)
        rank = statistic(models, "effective_rank", layers)
        orders = [part[rank[part].argsort(kind="stable")].tolist() for part in tree_positions(labels)]
        return forest_prediction(
            models, labels, [edge for order in orders for edge in nearest_predecessor(distances, order)]
        )
