"""What all nodes of one data set have in common while they are made: the family, the device, and where files
go."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mothr.benchmark.data.dataset import COMPANIONS, MODELS
from mothr.benchmark.graph import NodeId
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.values.objective import Objective
from mothr.generators.values.seeds import torch_generator

STATE = ".unfinished"
"""Folder inside the data set that exists only while the data set is made."""
WITHHELD = "withheld"
"""Folder inside ``STATE`` for models that are not part of the data set."""


@dataclass(frozen=True, slots=True)
class Context:
    """The settings with which all nodes of a data set are made. It is sent to the worker processes."""

    family_name: str
    """Name of the family in the recipe."""
    model: Mapping[str, Any]
    """The recipe's ``[model]`` table, or in a drawn recipe that of one tree."""
    out: Path
    """The data set's folder."""
    device: str
    """``cpu`` or ``cuda``."""
    hidden: bool = False
    """Whether the split is hidden. Its roots are not cached, because the cache would show which models are
    roots."""

    @property
    def family(self) -> Family:
        """The family with the recipe's model configuration."""
        return FAMILIES[self.family_name](**self.model)

    @property
    def state(self) -> Path:
        """The folder of temporary files."""
        return self.out / STATE

    def of_node(self, node: PlannedNode) -> "Context":
        """Returns the context with the model configuration of ``node``; in a drawn recipe each tree has its own."""
        return self if node.model is None else replace(self, model=node.model)

    def new_folder(self, node: NodeId, withheld: bool) -> Path:
        """Returns the folder that the files of a model are written to."""
        return (self.state / WITHHELD if withheld else self.out / MODELS) / node

    def model_folder(self, node: NodeId) -> Path:
        """Returns the folder of a finished model, withheld or not."""
        folder = self.new_folder(node, withheld=False)
        return folder if folder.is_dir() else self.new_folder(node, withheld=True)

    def companions(self, node: PlannedNode) -> Path | None:
        """Returns the folder of the frozen parts that the models of the node's tree share; None if the family
        has none."""
        return self.out / COMPANIONS / str(node.root_number) if self.family.has_companions else None

    def heads(self, node: NodeId) -> Path:
        """Returns the file of a finished node's heads, which are not part of the data set."""
        return self.state / "heads" / f"{node}.safetensors"

    def objective(
        self, node: PlannedNode, *, fresh_heads: bool, heads: Mapping[str, torch.Tensor] | None = None
    ) -> Objective:
        """Returns the objective of ``node``, with freshly drawn heads, with ``heads``, or with the heads that were
        kept when the node was made."""
        objective = self.family.objective(
            node.tasks, torch_generator(node.seed, "head"), torch.device(self.device), self.companions(node)
        )
        if not fresh_heads and self.family.has_heads:
            objective.load_state(heads or load_file(self.heads(node.id)))
        return objective
