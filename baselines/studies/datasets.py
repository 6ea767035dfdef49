"""Data sets with known truth, opened for a study: their models, their edges, and how each child was made.

The truth groups edges and marks a prediction as right or wrong. No direction score and no distance reads it.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothr.baselines.parts.directions import pair_scores
from mothr.baselines.studies.child_fields import kind_with_setting, storage, task_rule, training_fields
from mothr.baselines.studies.measurements import Measurement
from mothr.baselines.studies.roots import (
    initial_share,
    initialisation,
    is_original_root,
    kind_of_node,
    mean_of_known,
    root_kurtosis,
    root_sizes,
    root_training,
    tree_shape,
)
from mothr.benchmark.data import dataset
from mothr.benchmark.data.dataset import Truth, TruthNode
from mothr.benchmark.data.updates import measure
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import Edge, ModelGraph, NodeId
from mothr.benchmark.records.record import RunRecord
from mothr.benchmark.run.execute import execute
from mothr.benchmark.run.in_process import InProcess
from mothr.benchmark.run.outcome import RunRequest
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.layers import Layers
from mothr.benchmark.weights.model_set import ModelSet

EDGE_FIELDS = (
    "family",
    "kind",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "steps",
    "batch_size",
    "schedule",
    "trained",
    "averaging",
    "label_noise",
    "l2_sp",
    "rank",
    "lora",
    "task",
    "task_rule",
    "stored",
    "init",
    "root_kurtosis",
    "root_initial_share",
    "root_steps",
    "root_optimizer",
    "root_weight_decay",
    "width",
    "layers",
    "shape",
    "depth",
    "withheld",
    "way",
)
"""What is known about an edge: how the child was made, its task was chosen and it is stored; the tree's root, that is its initialisation,
the mean excess kurtosis of its attention output matrices, the share of its initial weights that weight decay has left, its training, its
width and its number of layers; the shape of the tree; the depth of the child; the number of withheld models between parent and child;
and |c - p| / |p - a|, how far the child went over how far its parent went. Kurtosis, sizes, storage and way are read from the weights,
all else from the truth."""
WAY_LAYERS = "body"
"""Tensors that ways are measured on: without heads, which belong to a task and not to the model."""
TRANSFORM_SETTINGS: Mapping[str, str] = {
    "quantized": "precision", "merge": "method", "pruned": "share", "noised": "level",
}  # fmt: skip
"""Kind of a child that was made without training -> the setting of its transform that says how strong the change is."""


@dataclass(frozen=True, eq=False)
class OpenedDataset:
    """A data set with known truth whose models are open."""

    folder: Path
    """Folder of the data set."""
    truth: Truth
    """True parents of each model, and how each model was made."""
    models: ModelSet
    """The models."""
    family: str
    """Family of the models, as the manifest names it."""

    @classmethod
    def open(cls, folder: Path) -> "OpenedDataset":
        """Returns the data set in ``folder``.

        Raises:
            MothrError: The data set has no truth, is unfinished, or a file cannot be read.
        """
        truth = dataset.open_truth(folder)
        return cls(folder, truth, dataset.open_models(folder), dataset.open_manifest(folder).family)

    @cached_property
    def graph(self) -> ModelGraph:
        """The true Model Graph."""
        return self.truth.graph

    @cached_property
    def tree_of(self) -> dict[NodeId, int]:
        """Index of the Model Tree of each model."""
        return self.truth.trees

    @cached_property
    def position(self) -> dict[NodeId, int]:
        """Position of each model in ``models.ids``."""
        return {node: position for position, node in enumerate(self.models.ids)}

    @cached_property
    def origins(self) -> tuple[str, ...]:
        """Digest of the root weights of each tree, 12 hex digits.

        Two trees whose roots hold the same weights have the same origin, also if they are in two data sets.
        """
        origins = []
        for tree in self.graph.trees:
            roots = [node for node in tree if not self.graph.parents[node]]
            digests = sorted(self.models.checkpoints[self.position[root]].digest for root in roots)
            origins.append(hashlib.sha256("".join(digests).encode()).hexdigest()[:12])
        return tuple(origins)

    @cached_property
    def initialisations(self) -> tuple[str | None, ...]:
        """Distribution that the root weights of each tree were drawn from; None if the truth does not record it."""
        return tuple(initialisation(self.truth.nodes[node] for node in tree) for tree in self.graph.trees)

    @cached_property
    def root_fields(self) -> tuple[Mapping[str, Any], ...]:
        """What is known of the root of each tree: the fields of :data:`EDGE_FIELDS` from ``init`` to ``shape``; None where unknown.

        Kurtosis and share are means over the roots of the tree; there are several below a merge of trees. A tree whose
        root is withheld has neither, and no record of the root's training; see
        :func:`mothr.baselines.studies.roots.is_original_root`. ``width`` and ``layers`` are those of the first of the
        models without a parent in the data set, since all models of a tree nearly always have the same sizes.
        """
        fields = []
        for tree, init in zip(self.graph.trees, self.initialisations, strict=True):
            records = [self.truth.nodes[node] for node in tree]
            originals = [node for node in tree if is_original_root(self.truth.nodes[node])]
            roots = [self.models.checkpoints[self.position[node]] for node in tree if not self.graph.parents[node]]
            kurtosis = mean_of_known(root_kurtosis(self.models.checkpoints[self.position[node]]) for node in originals)
            share = mean_of_known(initial_share(self.truth.nodes[node].training or {}) for node in originals)
            width, layers = root_sizes(roots[0])
            fields.append(
                {
                    "init": init,
                    "root_kurtosis": kurtosis,
                    "root_initial_share": share,
                    **root_training([self.truth.nodes[node] for node in originals]),
                    "width": width,
                    "layers": layers or None,
                    "shape": tree_shape(records),
                }
            )
        return tuple(fields)

    @cached_property
    def ways(self) -> dict[Edge, float]:
        """|c - p| / |p - a| over :data:`WAY_LAYERS` for each edge that has it: ``length_over_parents`` of
        :class:`mothr.benchmark.data.updates.EdgeUpdate`."""
        found = measure(self.models, self.truth, WAY_LAYERS).edges
        return {(edge.parent, edge.child): way for edge in found if (way := edge.length_over_parents) is not None}

    @cached_property
    def edges(self) -> tuple[tuple[Edge, ...], ...]:
        """The edges of each tree."""
        edges: list[list[Edge]] = [[] for _ in self.graph.trees]
        for edge in self.graph.edges:
            edges[self.tree_of[edge[1]]].append(edge)
        return tuple(tuple(tree_edges) for tree_edges in edges)

    def kind(self, node: NodeId) -> str:
        """Returns how ``node`` was made from its parents; see :func:`mothr.baselines.studies.roots.kind_of_node`."""
        return kind_of_node(self.truth.nodes[node])

    def kinds(self, tree: int) -> str:
        """Returns the kinds of all edges of a tree, joined by "and"; "many kinds" if there are more than three.

        Where one of several kinds was drawn for each edge, every tree is "drawn kinds": the trees are of one law, whatever was drawn.
        """
        drawn = any(self.truth.nodes[node].drawn for node in self.graph.trees[tree])
        kinds = sorted({self.kind(child) for _, child in (self.graph.edges if drawn else self.edges[tree])})
        if drawn and len(kinds) > 1:
            return "drawn kinds"
        return " and ".join(kinds) if len(kinds) <= 3 else "many kinds"

    def training(self, edge: Edge) -> dict[str, Any]:
        """Returns the training record of the child of ``edge``.

        If parent and child are checkpoints of one training, ``steps`` is the number of steps between them.
        """
        parent, child = (self.truth.nodes[node].training or {} for node in edge)
        if "steps" in child and "seed" in child and child["seed"] == parent.get("seed"):
            return {**child, "steps": child["steps"] - parent["steps"]}
        return child

    def edge_fields(self, edge: Edge) -> dict[str, Any]:
        """Returns the value of each of :data:`EDGE_FIELDS` for ``edge``; None if it is not known."""
        parent, child = (self.truth.nodes[node] for node in edge)
        training, kind = self.training(edge), self.kind(edge[1])
        return {
            **{name: training.get(name) for name in EDGE_FIELDS},
            "family": self.family,
            "kind": kind_with_setting(kind, child, TRANSFORM_SETTINGS.get(kind)),
            **training_fields(child),
            "task": _task(parent, child),
            "task_rule": task_rule(child),
            "stored": storage(self.models.checkpoints[self.position[edge[1]]]),
            **self.root_fields[self.tree_of[edge[1]]],
            "depth": self.graph.depth(edge[1]),
            "withheld": child.withheld or 0,
            "way": self.ways.get(edge),
        }

    def run(self, requests: Iterable[RunRequest]) -> list[RunRecord]:
        """Returns the record of each run on this data set; the methods run in this process."""
        executor = InProcess(models=self.models)
        return [record for _, record in execute(requests, self.folder, self.truth, executor)]

    def subset(self, positions: Sequence[int]) -> "OpenedDataset":
        """Returns the data set with the models at ``positions`` only.

        In its truth, the parent of a model is its nearest ancestor in the subset. Nothing else is recorded of a model.
        """
        models = ModelSet(tuple(self.models.checkpoints[position] for position in positions))
        graph = self.graph.restricted(models.ids)
        nodes = {node: TruthNode(parents=parents) for node, parents in graph.parents.items()}
        truth = Truth(split=self.truth.split, version=self.truth.version, nodes=nodes)
        return OpenedDataset(self.folder, truth, models, self.family)

    def measurement(
        self,
        tree: int,
        measure: str,
        value: float,
        *,
        panel: str = "",
        series: str = "",
        x: float | str = "",
        items: int = 1,
    ) -> Measurement:
        """Returns ``value`` as a measurement of the Model Tree with index ``tree``; see :class:`Measurement`."""
        split, origin = self.truth.split, self.origins[tree]
        return Measurement(measure, panel, series, x, self.family, split, tree, origin, float(value), items)


def _task(parent: TruthNode, child: TruthNode) -> str | None:
    """Returns whether the child was trained on its parent's task; None if the child was not trained."""
    if child.training is None or child.task is None:
        return None
    return "parent's task" if child.task == parent.task else "new task"


def open_datasets(folders: Sequence[Path], layers: str) -> list[OpenedDataset]:
    """Returns the opened data sets.

    Args:
        folders: Folders of the data sets.
        layers: Choice of tensors, see :class:`mothr.benchmark.weights.layers.Layers`; it is checked on each data set.

    Raises:
        MothrError: A data set has no truth, is unfinished or damaged, is named twice, or has no tensor of ``layers``.
    """
    folder_of: dict[str, Path] = {}
    for folder in folders:  # truths first, since they are quick to read
        split = dataset.open_truth(folder).split
        if split in folder_of:
            raise MothrError(
                f"{folder}: {folder_of[split]} holds the same split, {split}, so its trees would count twice; name it once"
            )
        folder_of[split] = folder
    opened = [OpenedDataset.open(folder) for folder in folders]
    for data in opened:
        Layers.parse(layers).select_from(data.models)
    return opened


def defined_pair_scores(
    models: ModelSet, direction: str, pairs: NDArray[np.intp], layers: Layers, rng: np.random.Generator | None = None
) -> Array | None:
    """Returns :func:`mothr.baselines.parts.directions.pair_scores`; None if the score is undefined for these models."""
    try:
        return pair_scores(models, direction, pairs, layers, rng)
    except MothrError as error:
        if "undefined" not in str(error):
            raise
        return None
