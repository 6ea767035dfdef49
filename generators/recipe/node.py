"""One planned node of a forest: its id, its parents, and how it will be made."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mothr.benchmark.graph import NodeId
from mothr.generators.recipe.schema import Derived, EdgeKind, Precision, Root
from mothr.generators.values.seeds import derive
from mothr.generators.values.training import Training
from mothr.generators.values.transforms import Merge, Quantize


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One model that will be made."""

    id: NodeId
    """12 hex digits that carry no information about the node."""
    path: str
    """Position in the plan. ``2/0/3``: the third root, its first child, the fourth child of that child.
    ``2/0@50``: a checkpoint during the training of ``2/0``. ``2/0+1.0``: the first node of the recipe's
    second ``[[derived]]`` entry, made from ``2/0``."""
    parents: tuple[NodeId, ...]
    """The true parents: none for a root, several for a merge. Withheld nodes are replaced by their nearest
    ancestors in the data set."""
    sources: tuple[NodeId, ...]
    """The models from which the node is made. They must be finished first."""
    root_number: int
    """Position in the recipe of the root that the node descends from; for a distilled student, of its
    teacher's root."""
    tree: int
    """Number of its Model Tree: the number of its root. Each distilled student is a tree of its own, numbered
    after the roots."""
    depth: int
    """Number of edges between the root and the node, including edges to withheld nodes."""
    tasks: tuple[str, ...]
    """The tasks of its last training: a mixture for a root, one task for a child, the tasks of its sources
    for a derived node."""
    seed: int
    """Seed of all random draws while the node is made."""
    root: Root | None = None
    """For a root: its entry in the recipe."""
    edge: EdgeKind | None = None
    """For a child: the kind of edge from its parent."""
    derived: Derived | None = None
    """For a derived node: its entry in the recipe."""
    initialised_like: Root | None = None
    """For a distilled student: the root of its teacher's tree. The student's weights are drawn from the same
    initialisation."""
    rank: int | None = None
    """LoRA rank, if the edge has one."""
    common_ancestor: NodeId | None = None
    """For a derived node: the nearest common ancestor of its sources."""
    checkpoint_of: NodeId | None = None
    """For a checkpoint: the node during whose training it is kept."""
    checkpoints: tuple[tuple[int, NodeId], ...] = ()
    """(step, id) of each checkpoint that is kept during the node's training."""
    step: int | None = None
    """For a checkpoint: the step after which it is kept; 0 means fresh weights."""
    model: Mapping[str, Any] | None = None
    """In a drawn recipe: the configuration of this model."""
    stored: Precision | None = None
    """In a drawn recipe: the precision in which the model is stored."""
    drawn: Mapping[str, Any] | None = None
    """In a drawn recipe: path -> value of every field that was drawn for this node; for a root, for its tree."""
    withheld: bool = False
    """Whether the node is left out of the data set."""
    withheld_ancestors: int = 0
    """Number of withheld nodes between the node and its parent."""

    @property
    def training(self) -> Training | None:
        """The training settings; None for a node that is made without training."""
        entry = self.root or self.edge or self.derived
        assert entry is not None
        return entry.training

    def with_training(self, rate_factor: float = 1.0, step_factor: int = 1) -> "PlannedNode":
        """Returns the root or child with its learning rate and its number of steps multiplied by these factors."""
        assert self.training is not None
        rate = float(f"{self.training.learning_rate * rate_factor:.4g}")
        steps = self.training.steps * step_factor
        training = self.training.model_copy(update={"learning_rate": rate, "steps": steps})
        if self.root is not None:
            return replace(self, root=self.root.model_copy(update={"training": training}))
        assert self.edge is not None
        return replace(self, edge=self.edge.model_copy(update={"training": training}))

    @property
    def steps(self) -> int:
        """Number of optimizer steps, as a measure of work. A node without a training of its own counts as one
        step."""
        return self.training.steps if self.training and self.checkpoint_of is None else 1


def id_of(seed: int, name: str, path: str) -> NodeId:
    """Returns the id of the node at ``path``: 12 hex digits of a salted hash, which carry no information about the
    node."""
    return hashlib.sha256(f"{derive(seed, 'salt')}|{name}|{path}".encode()).hexdigest()[:12]


def relation_of(node: PlannedNode) -> tuple[Literal["finetune", "merge", "quantized"] | None, str | None]:
    """Returns the relation of ``node`` to its parents and the subtype, as ``truth.json`` names them.

    The Hub has no relation for pruned, noised and permuted copies. People label such copies as fine-tuned,
    and so does the truth.
    """
    if node.derived is not None:
        transform = node.derived.transform
        if transform.kind == "merge":
            return "merge", transform.method
        if transform.kind == "quantized":
            return "quantized", transform.precision
        return ("finetune" if node.parents else None), transform.kind
    if node.edge is not None:
        spec = node.edge.transform
        if isinstance(spec, Merge):
            return "merge", node.edge.subtype
        if isinstance(spec, Quantize) and node.edge.training is None:
            return "quantized", spec.precision
        return ("finetune" if node.parents else None), node.edge.subtype
    return ("finetune", "pretraining") if node.parents else (None, None)
