"""One file a family of models: how to build, load, save and train one, and what a card says of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import nn

from mothr.generators.families.llama import Llama
from mothr.generators.families.vit import ViT

if TYPE_CHECKING:
    from mothr.generators.train import Objective


class Family(Protocol):
    """The configuration of one model: what a recipe's ``[model]`` table is read into."""

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

    def objective(self, tasks: Sequence[str], generator: torch.Generator, device: torch.device) -> "Objective":
        """Returns what a model is trained and tested on for ``tasks``."""


FAMILIES: dict[str, type[Family]] = {"vit": ViT, "llama": Llama}
"""Each family's name in recipes -> its configuration."""
