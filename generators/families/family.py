"""The interface of a model family: what the generators need to build, train and describe its models."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from mothr.benchmark.data.dataset import Truth
from mothr.generators.values.objective import Objective
from mothr.generators.values.symmetry import Symmetry


class Family(Protocol):
    """The configuration of one model: a recipe's ``[model]`` table is read into it."""

    architecture: ClassVar[str]
    """``model_type`` in the ``config.json`` of models that can be roots; empty if no existing model can be a
    root."""
    packages: ClassVar[tuple[str, ...]]
    """Packages whose versions decide the weights of a root: torch, and the packages of its model and data."""
    stored: ClassVar[str]
    """A sentence for the card about the content of the model files."""
    measured: ClassVar[str]
    """A sentence for the card about the metric."""
    fresh: ClassVar[str]
    """A sentence for the card about the parts of a child that are not taken from its parent; empty if there
    are none."""
    shortcuts: ClassVar[tuple[str, ...]]
    """Sentences for the card about traces of full fine-tuning in the weights that reveal the lineage."""
    has_heads: ClassVar[bool]
    """Whether objectives have heads of their own. They are kept while a data set is made, but are not stored
    in it."""
    has_companions: ClassVar[bool]
    """Whether the models of a tree share frozen parts. These are made together with the root and stored
    beside the models."""
    repeats_on_gpu: ClassVar[bool]
    """Whether all operations of its models are deterministic on a GPU, so that the bytes are the same every
    time."""

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises MothrError if one of ``tasks`` does not exist."""

    def check_lora(self, ranks: Sequence[int], targets: Sequence[str]) -> None:
        """Raises ValueError if a target is not a linear layer of a block, or if a rank is too large for it."""

    def data(self, task: str) -> tuple[str, str]:
        """Returns a description of the data of ``task``, and its origin and licence."""

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns the hash of the data of each task that depends on more than the code and the versions of
        ``packages``."""

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh model whose weights are drawn from the distribution ``init`` with ``generator``."""

    def load(self, folder: Path) -> nn.Module:
        """Returns the model that is stored in ``folder``."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes ``model`` to ``folder`` by its ``save_pretrained``."""

    def companions_key(self) -> Mapping[str, Any] | None:
        """Returns the settings that decide the frozen parts, if these have a seed of their own and so several trees
        share them; else None."""

    def companions(self, seed: int, folder: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
        """Trains the frozen parts that all models of one tree share, from the seed of its root, and writes
        them to ``folder``."""

    def objective(
        self, tasks: Sequence[str], generator: torch.Generator, device: torch.device, companions: Path | None = None
    ) -> Objective:
        """Returns the objective of ``tasks``, with fresh heads, for models of the tree that owns
        ``companions``."""

    def symmetries(self) -> Sequence[Symmetry]:
        """Returns the permutations of neurons and heads that leave a model's function unchanged."""

    def show(self, out: Path, truth: Truth) -> Sequence[str]:
        """Returns lines of Markdown for the card about the outputs of the models in the data set ``out``;
        writes pictures beside it."""
