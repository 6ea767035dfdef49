"""Small Vision Transformers (transformers' ViT) trained on picture tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator
from torch import nn

from mothr.generators.data import drawing, images
from mothr.generators.families.initialisation import initialise

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")


class ViT(BaseModel):
    """The configuration of one ViT backbone; heads are trained with it and left out of the files.

    A head's shape would name the task, so what is stored is the backbone alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "numpy", "matplotlib", "pillow", "scikit-learn")
    stored: ClassVar[str] = "Only backbones are stored: a head's shape would name the task."
    measured: ClassVar[str] = "Accuracy on the test part of their task (roots: mean over their mixture) before and after training."
    fresh: ClassVar[str] = "Each child gets a fresh head, which is not stored."
    shortcuts: ClassVar[tuple[str, ...]] = ()

    hidden_size: PositiveInt
    """Width of the residual stream."""
    layers: PositiveInt
    """Number of blocks."""
    heads: PositiveInt
    """Attention heads."""
    mlp_size: PositiveInt
    """Width of the hidden layer of each MLP."""
    patch_size: PositiveInt
    """Side of a patch in pixels; pictures are 32 x 32."""

    @model_validator(mode="after")
    def _divides(self) -> "ViT":
        if self.hidden_size % self.heads:
            raise ValueError(f"model.hidden_size {self.hidden_size} is no multiple of model.heads {self.heads}")
        if drawing.SIDE % self.patch_size:
            raise ValueError(f"model.patch_size {self.patch_size} does not divide the side of the pictures, {drawing.SIDE}")
        return self

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises MothrError if one of ``tasks`` does not exist."""
        for task in tasks:
            images.find(task)

    def check_lora(self, ranks: Sequence[int], targets: Sequence[str]) -> None:
        """Raises ValueError if a target is no linear layer of a block, or a rank is above the width."""
        for target in targets:
            if target not in LINEAR_LAYERS:
                raise ValueError(f"lora.targets: {target!r} is no linear layer of this family; choose from {', '.join(LINEAR_LAYERS)}")
        for rank in ranks:
            if rank > self.hidden_size:
                raise ValueError(f"lora.ranks: rank {rank} is above the model's width {self.hidden_size}; it would be no low-rank update")

    def data(self, task: str) -> tuple[str, str]:
        """Returns what the pictures of ``task`` are, and where they come from under which licence."""
        found = images.find(task)
        return found.description, found.source

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns nothing: the pictures depend on the code and ``packages`` alone."""
        return {}

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh backbone: matrices drawn from ``init`` with ``generator``, biases 0, norm weights 1."""
        from transformers import ViTConfig, ViTModel  # takes seconds to import, and most commands never build a model

        config = ViTConfig(
            hidden_size=self.hidden_size, num_hidden_layers=self.layers, num_attention_heads=self.heads,
            intermediate_size=self.mlp_size, image_size=drawing.SIDE, patch_size=self.patch_size,
        )
        model = ViTModel(config, add_pooling_layer=False)
        initialise(model, init, std, generator)
        return model

    def load(self, folder: Path) -> nn.Module:
        """Returns the backbone stored in ``folder``."""
        from transformers import ViTModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        return ViTModel.from_pretrained(folder, add_pooling_layer=False)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes ``model`` to ``folder`` with its own ``save_pretrained``."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # one bar for a whole data set is enough
        model.save_pretrained(folder)

    def objective(self, tasks: Sequence[str], generator: torch.Generator, device: torch.device) -> "Classification":
        """Returns what a backbone is trained and tested on for ``tasks``, with fresh heads."""
        return Classification(tasks, self.hidden_size, generator, device)


class Classification:
    """One or more picture tasks with a linear head each: the batches, the loss and the accuracy.

    The heads are one matrix; the logits of other tasks are masked, so each example is judged within its own task.
    """

    metric = "accuracy"

    def __init__(self, tasks: Sequence[str], width: int, generator: torch.Generator, device: torch.device) -> None:
        self.tasks = tuple(tasks)
        self.device = device
        sizes = [len(images.find(task).classes) for task in tasks]
        self.chance = sum(1 / size for size in sizes) / len(sizes)
        self._starts = [sum(sizes[:index]) for index in range(len(sizes))]
        columns = torch.arange(sum(sizes))
        self._masks = torch.stack([(columns < start) | (columns >= start + size) for start, size in zip(self._starts, sizes, strict=True)])
        self._masks = self._masks.to(device)
        self.head = nn.Linear(width, sum(sizes))
        nn.init.normal_(self.head.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.head.bias)
        self.head.to(device)
        self._train = self._gather("train")

    def _gather(self, part: images.Part) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the pictures of all tasks, their labels as columns of the head, and their task's position."""
        parts = [images.load(task, part) for task in self.tasks]
        pictures = torch.cat([pictures for pictures, _ in parts])
        labels = torch.cat([labels + start for (_, labels), start in zip(parts, self._starts, strict=True)])
        owners = torch.cat([torch.full_like(labels, index) for index, (_, labels) in enumerate(parts)])
        return pictures, labels, owners

    def parameters(self) -> list[nn.Parameter]:
        """Returns the heads' parameters, which train along with the backbone."""
        return list(self.head.parameters())

    def loss(self, model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Returns the mean cross-entropy of one random batch."""
        pictures, labels, owners = self._train
        rows = torch.randint(len(labels), (batch_size,), generator=generator)
        logits = self._logits(model, pictures[rows], owners[rows])
        return nn.functional.cross_entropy(logits, labels[rows].to(self.device))

    def _logits(self, model: nn.Module, pictures: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
        values = pictures.to(self.device).float() / 127.5 - 1
        features = model(pixel_values=values).last_hidden_state[:, 0]
        return self.head(features).masked_fill(self._masks[owners.to(self.device)], float("-inf"))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> float:
        """Returns the accuracy on the test parts, averaged over tasks."""
        pictures, labels, owners = self._gather("test")
        right = torch.cat([
            self._logits(model, pictures[rows], owners[rows]).argmax(1).cpu() == labels[rows]
            for rows in torch.arange(len(labels)).split(256)
        ]).float()
        return sum(float(right[owners == index].mean()) for index in range(len(self.tasks))) / len(self.tasks)

    @property
    def tested_on(self) -> int:
        """Number of test examples."""
        return sum(len(images.load(task, "test")[1]) for task in self.tasks)
