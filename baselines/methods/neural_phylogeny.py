"""Neural Phylogeny: models are clustered; in each cluster the parent is the model nearest to a fresh initialisation.

Idea: training moves weights away from their initialisation. Of two related models the nearer one to it is the parent. The
true initialisation is unknown, so a new one is drawn from the same distribution.

Source: Yu and Wang, Neural Phylogeny: Fine-Tuning Relationship Detection among Neural Networks, ICLR 2025. The learning-free
methods, from the paper's abstract and a description of its score.

Departures, with the reason:

* Ward linkage replaces K-means and its relatives. It minimises the same variance within clusters from distances alone. The
  largest gap chooses the number of clusters if the trees are not given.
* The fresh initialisation is not that of the family, which is unknown
  (:func:`mothr.baselines.parts.statistics.initialised`).

As published, a cluster has one parent and all others are its children. In a forest of several generations this names the
root of a grandchild instead of its parent. ``shape = nearest`` takes the nearest model that is nearer to the initialisation.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from mothr.baselines.parts.checks import check_at_least
from mothr.baselines.parts.clustering import MIN_GAP, given_trees, largest_gap
from mothr.baselines.parts.directions import statistic
from mothr.baselines.parts.distances import check_symmetric, finite_distances
from mothr.baselines.parts.trees import forest_prediction, nearest_predecessor, tree_positions
from mothr.benchmark.errors import unknown_name
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import Need
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True)
class NeuralPhylogeny:
    """Clusters of models; the model nearest to a fresh initialisation is the root of its cluster."""

    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()

    layers: str = "body"
    """Tensors that all steps use; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "frobenius"
    """Distance for clustering, a name of ``mothr list distances``."""
    shape: Literal["star", "nearest"] = "star"
    """``star``: all models of a cluster are children of its root. ``nearest``: the parent is the nearest model that is
    nearer to the initialisation."""
    min_gap: float = MIN_GAP
    """Least ratio of merge heights that cuts the models into trees; see :func:`mothr.baselines.parts.clustering.largest_gap`."""

    def __post_init__(self) -> None:
        check_symmetric(self.distance, self.layers)
        check_at_least(self, 0, "min_gap")
        if self.shape not in ("star", "nearest"):
            raise unknown_name("shape", self.shape, ("star", "nearest"))

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest of one tree for each cluster; ``rng`` is not used."""
        layers = Layers.parse(self.layers)
        distances = finite_distances(models, self.distance, layers)
        given = given_trees(models)
        labels = largest_gap(distances, self.min_gap) if given is None else given
        to_init = statistic(models, "distance_to_init", layers)
        orders = [part[to_init[part].argsort(kind="stable")].tolist() for part in tree_positions(labels)]
        if self.shape == "star":
            return forest_prediction(models, labels, [(order[0], child) for order in orders for child in order[1:]])
        return forest_prediction(
            models, labels, [edge for order in orders for edge in nearest_predecessor(distances, order)]
        )
