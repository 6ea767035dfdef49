"""Model Atlas: each model is the child of the nearest one that was uploaded before it.

Horwitz, Kurer, Kahana, Amar, Hoshen: We Should Chart an Atlas of All the World's Models, arXiv 2503.10633. Written from the
paper's description: within a connected component models are taken in the order of their upload times, each is joined to the
nearest earlier one, copies at distance zero are joined to one another, and quantised models are leaves. It reads times, so it
is a method of metadata, which must be told.

Where this differs from what was published, and why:

* the time is that of the file, since no upload times exist here. Where models have the same time their order is drawn by the
  method's generator, and nothing else that metadata say (names, sizes) is read. All files of a data set of this project have
  the same time, so there the order is chance by construction, and only what the distances tell is left;
* models are quantised if most elements of their matrices are stored in eight bits or fewer. Copies that were rounded and then
  written out in floating point are not recognised;
* the paper's priors of checkpoint trajectories (snakes) against sweeps of hyper-parameters (fans) are left out: they
  compare distances with upload times within a user's models;
* where the trees are not told, models are related if the cosine of their weights says so, as in Linea.
"""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from mothr.baselines.methods.nulls import check_undirected, lengths
from mothr.baselines.parts.trees import check_related, nearest_before, parts, prediction, related_trees
from mothr.benchmark.errors import MothrError
from mothr.benchmark.prediction import Prediction
from mothr.benchmark.side_information import MethodKind, Need
from mothr.benchmark.weights.checkpoint import Checkpoint
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

EIGHT_BITS = ("I8", "U8", "F8_E4M3", "F8_E5M2")


def quantised(model: Checkpoint) -> bool:
    """Returns whether most elements of a model's matrices are stored in eight bits or fewer."""
    sizes = {True: 0, False: 0}
    for info in model.tensors.values():
        if len(info.shape) >= 2:
            sizes[info.dtype in EIGHT_BITS] += prod(info.shape)
    return sizes[True] > sizes[False]


@dataclass(frozen=True)
class ModelAtlas:
    """Each model is the child of the nearest earlier one; quantised models and later copies have no children."""

    kind: ClassVar[MethodKind] = "metadata"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset({"metadata"})

    layers: str = "body"
    """Tensors that everything looks at; see :class:`mothr.benchmark.weights.layers.Layers`."""
    distance: str = "frobenius"
    """What nearest means, a name of ``mothr list distances``."""
    related: float = 0.1
    """Cosine of two models' weights, mean over tensors, above which they are of one tree where the trees are not told."""

    def __post_init__(self) -> None:
        check_undirected(self.distance, self.layers)
        check_related(self.related)

    def __call__(self, models: ModelSet, rng: np.random.Generator) -> Prediction:
        """Returns a forest whose trees are rooted at their first models; ``rng`` orders models of the same time.

        Of copies at distance zero the first is the parent of the others, and of all models that are near to them. Quantised
        models come after all others, whatever their times, and are parents only in a tree of quantised models.

        Raises:
            MothrError: no metadata was told.
        """
        told = models.given.metadata
        if told is None:
            raise MothrError("model-atlas orders models by the times of their files and was told none; use 'mothr run'")
        labels = related_trees(models, Layers.parse(self.layers), self.related)
        far = lengths(models, self.distance, self.layers)
        coarse = [quantised(model) for model in models.checkpoints]
        times = [float(told.get(node, {}).get("mtime", 0)) for node in models.ids]
        coin = rng.permutation(len(models)).tolist()
        edges = []
        for part in parts(labels):
            order = sorted(part.tolist(), key=lambda node: (coarse[node], times[node], coin[node]))
            edges += nearest_before(far, order, barren=[node for node in order if coarse[node]])
        return prediction(models, labels, edges)
