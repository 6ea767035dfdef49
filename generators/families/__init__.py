"""One file a family of models: how to build, load, save and train one, and what a card says of it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import nn

from mothr.generators.families.dinov2 import Dinov2
from mothr.generators.families.llama import Llama
from mothr.generators.families.stable_diffusion import StableDiffusion
from mothr.generators.families.vit import ViT

if TYPE_CHECKING:
    from mothr.benchmark.data.dataset import Truth
    from mothr.generators.values.objective import Objective
    from mothr.generators.values.symmetry import Symmetry


class Family(Protocol):
    """The configuration of one model: what a recipe's ``[model]`` table is read into."""

    architecture: ClassVar[str]
    """What ``config.json`` calls the architecture of models that may be given as roots; empty where none can be."""
    packages: ClassVar[tuple[str, ...]]
    """Packages whose versions decide what a root is: torch, and those that data and models come from."""
    stored: ClassVar[str]
    """A sentence for the card on what the model files hold."""
    measured: ClassVar[str]
    """A sentence for the card on the metric."""
    fresh: ClassVar[str]
    """A sentence for the card on what of a child does not come from its parent; empty if nothing."""
    shortcuts: ClassVar[tuple[str, ...]]
    """Sentences for the card on what full fine-tuning leaves in the weights that gives lineage away."""

    has_heads: ClassVar[bool]
    """Whether objectives have heads of their own, which are kept while a data set is made, but not stored in it."""
    has_companions: ClassVar[bool]
    """Whether the models of a tree share frozen parts, which are made with its root and stored beside the models."""
    repeats_on_gpu: ClassVar[bool]
    """Whether all that its models do has a fixed order of adding up on a GPU, too, so that bytes are the same every time."""

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises MothrError if one of ``tasks`` does not exist."""

    def check_lora(self, ranks: Sequence[int], targets: Sequence[str]) -> None:
        """Raises ValueError if a target is no linear layer of a block, or a rank makes no low-rank update of it."""

    def data(self, task: str) -> tuple[str, str]:
        """Returns what the data of ``task`` is, and where it comes from under which licence."""

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns the hash of each task's data where it depends on more than the code and ``packages``."""

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh model whose weights are drawn from ``init`` with ``generator``."""

    def load(self, folder: Path) -> nn.Module:
        """Returns the model stored in ``folder``."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes ``model`` to ``folder`` with its own ``save_pretrained``."""

    def companions(self, seed: int, folder: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
        """Trains and writes to ``folder`` the frozen parts that all models of the tree of ``root`` share."""

    def objective(
        self, tasks: Sequence[str], generator: torch.Generator, device: torch.device, companions: Path | None = None
    ) -> "Objective":
        """Returns what a model is trained and tested on for ``tasks``, with fresh heads and its tree's ``companions``."""

    def symmetries(self) -> "Sequence[Symmetry]":
        """Returns the permutations of neurons and heads that leave a model's function unchanged."""

    def show(self, out: Path, truth: "Truth") -> Sequence[str]:
        """Returns lines of Markdown for the card about what the models of the data set ``out`` do; writes pictures beside it."""


FAMILIES: dict[str, type[Family]] = {"vit": ViT, "dinov2": Dinov2, "llama": Llama, "sd": StableDiffusion}
"""Each family's name in recipes -> its configuration."""
