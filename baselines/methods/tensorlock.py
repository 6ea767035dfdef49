"""TensorLock: a model's nearest neighbours are its relatives, and of two relatives the one of lower effective rank is the parent.

Written from a description of two sentences: the distance of two models is the mean L2 distance over their tensors, and
lineage runs from lower to higher effective rank, the exponential of the entropy of the normalised singular values (Roy and
Vetterli 2007), mean over tensors. Where this differs, and why:

* a model's parent is the nearest of the models of lower effective rank. With the nearest neighbour alone most models of a
  forest would get no parent or two, since the nearest neighbour of a parent is a child; this rule gives each tree one root;
* the L2 distance of a tensor is divided by the root of its element count, so that large tensors do not drown the others;
* where the trees are not told, models are related if the cosine of their weights says so, as in Linea.

The rank rises where an update adds directions that the parent's weights lack. Weights that have all directions alike lose
rank by an update of few (LoRA), which turns the answer round; weight decay by itself moves nothing, since shares do not change.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mothr.baselines.methods.nulls import check_undirected, lengths
from mothr.baselines.parts.directions import statistic
from mothr.baselines.parts.trees import check_related, nearest_before, parts, prediction, related_trees
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import Need
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet


@dataclass(frozen=True)
class TensorLock:
    """Each model is the child of the nearest model whose effective rank is lower."""

    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()

    layers: str = "body"
    """Tensors that everything looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "rms"
    """What nearest means, a name of ``mothr list distances``."""
    related: float = 0.1
    """Cosine of two models' weights, mean over tensors, above which they are of one tree where the trees are not told."""

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)
        check_related(self.related)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest whose trees are rooted at the model of lowest effective rank; ``rng`` is not used."""
        layers = Layers.parse(self.layers)
        labels = related_trees(models, layers, self.related)
        far = lengths(models, self.distance, self.layers)
        rank = statistic(models, "effective_rank", layers)
        orders = [part[rank[part].argsort(kind="stable")].tolist() for part in parts(labels)]
        return prediction(models, labels, [edge for order in orders for edge in nearest_before(far, order)])
