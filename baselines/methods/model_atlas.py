"""Model Atlas: each model is the child of the nearest model that was uploaded before it.

Idea: a parent is published before its children, so upload times give the direction, and distances give the parent.

Source: Horwitz, Kurer, Kahana, Amar, Hoshen: We Should Chart an Atlas of All the World's Models, arXiv 2503.10633, from the
paper's description. Within a connected component models are taken in the order of their upload times. Each is joined to the
nearest earlier one. Copies at distance zero are joined to each other, and quantised models are leaves. The method reads
times, so it is a metadata method.

Departures, with the reason:

* The time is that of the file, since no upload times exist here. The method's generator orders models of equal time; no
  other metadata (names, sizes) is read. All files of a data set of this project have the same time. So there the order is
  chance by construction, and only the distances say something.
* A model is quantised if most elements of its matrices are stored in eight bits or fewer. A copy that was rounded and then
  written in floating point is not recognised.
* The paper's priors of checkpoint trajectories (snakes) against hyper-parameter sweeps (fans) are left out. They compare
  distances with upload times within one user's models.
* If the trees are not given, models are related by the cosine of their weights, as in Linea.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from mothr.baselines.parts.checks import check_relatedness
from mothr.baselines.parts.distances import check_symmetric, finite_distances
from mothr.baselines.parts.trees import Pair, forest_prediction, nearest_predecessor, related_trees, tree_positions
from mothr.benchmark.errors import MothrError
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.checkpoint import Checkpoint
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

EIGHT_BITS = ("I8", "U8", "F8_E4M3", "F8_E5M2")
"""Storage types of eight bits, in the words of safetensors."""


def is_quantised(model: Checkpoint) -> bool:
    """Returns whether most elements of a model's matrices are stored in eight bits or fewer."""
    elements = {True: 0, False: 0}
    for info in model.tensors.values():
        if len(info.shape) >= 2:
            elements[info.dtype in EIGHT_BITS] += prod(info.shape)
    return elements[True] > elements[False]


@dataclass(frozen=True)
class ModelAtlas:
    """Each model is the child of the nearest earlier one; quantised models and later copies have no children."""

    kind: ClassVar[MethodKind] = "metadata"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset({"metadata"})
    renamed: ClassVar[Mapping[str, str]] = {"related": "relatedness_threshold"}

    layers: str = "body"
    """Tensors that all steps use; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "frobenius"
    """Distance that decides which model is nearest, a name of ``mothr list distances``."""
    relatedness_threshold: float = 0.1
    """Cosine of the weights of two models, mean over tensors, above which they are in one tree. Used if no trees are given."""

    def __post_init__(self) -> None:
        check_symmetric(self.distance, self.layers)
        check_relatedness(self.relatedness_threshold)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest whose trees are rooted at their first models; ``rng`` orders models of equal time.

        The first of several copies at distance zero is the parent of the others, and of all models near to them. Quantised
        models come after all others, whatever their times. They are parents only in a tree of quantised models.

        Raises:
            MothrError: No metadata was given.
        """
        metadata = models.given.metadata
        if metadata is None:
            raise MothrError("model-atlas orders models by file times, and none were given; use 'mothr run'")
        layers = Layers.parse(self.layers)
        labels = related_trees(models, layers, self.relatedness_threshold)
        distances = finite_distances(models, self.distance, layers)
        quantised = [is_quantised(model) for model in models.checkpoints]
        times = [float(metadata.get(node, {}).get("mtime", 0)) for node in models.ids]
        coin = rng.permutation(len(models)).tolist()
        edges: list[Pair] = []
        for part in tree_positions(labels):
            order = sorted(part.tolist(), key=lambda node: (quantised[node], times[node], coin[node]))
            edges += nearest_predecessor(distances, order, leaf_only=[node for node in order if quantised[node]])
        return forest_prediction(models, labels, edges)
