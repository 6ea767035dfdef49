"""Neural Phylogeny: cluster the models; in each cluster the parent is the model nearest to a fresh initialisation.

Yu and Wang, Neural Phylogeny: Fine-Tuning Relationship Detection among Neural Networks, ICLR 2025: the learning-free methods,
written from the paper's abstract and a description of its score. Training leads away from the initialisation, so of two
related models the parent is the one nearer to it; the true initialisation is unknown, and a fake one, drawn in the same way,
stands in. Where this differs from what was published, and why:

* K-means and its relatives are replaced by Ward linkage, which minimises the same variance within clusters from distances
  alone; the number of clusters is chosen by the largest gap where the trees are not told;
* the fake initialisation is not that of the family, which nobody tells (:func:`mothr.baselines.parts.initialisation.initialised`).

As published a cluster has one parent and all others are its children. In a forest of several generations that names a
grandchild's root, not its parent; ``shape = nearest`` takes the nearest of the models that are nearer to the initialisation.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from mothr.baselines.methods.nulls import check_undirected, lengths
from mothr.baselines.parts.clustering import given_trees, largest_gap
from mothr.baselines.parts.directions import statistic
from mothr.baselines.parts.trees import nearest_before, parts, prediction
from mothr.benchmark.errors import unknown_name
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import Need
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True)
class NeuralPhylogeny:
    """Clusters of models, each with the model nearest to a fresh initialisation for its root."""

    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()

    layers: str = "body"
    """Tensors that everything looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "frobenius"
    """Distance that clusters, a name of ``mothr list distances``."""
    shape: Literal["star", "nearest"] = "star"
    """``star``: all models of a cluster are children of its root; ``nearest``: of the nearest model before them."""

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)
        if self.shape not in ("star", "nearest"):
            raise unknown_name("shape", self.shape, ("star", "nearest"))

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest of one tree for each cluster; ``rng`` is not used."""
        far = lengths(models, self.distance, self.layers)
        told = given_trees(models)
        labels = largest_gap(far) if told is None else told
        away = statistic(models, "distance_to_init", Layers.parse(self.layers))
        orders = [part[away[part].argsort(kind="stable")].tolist() for part in parts(labels)]
        if self.shape == "star":
            return prediction(models, labels, [(order[0], child) for order in orders for child in order[1:]])
        return prediction(models, labels, [edge for order in orders for edge in nearest_before(far, order)])
