"""DINOv2's Vision Transformers (transformers' Dinov2Model), whose roots may be the real ones, trained on picture tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import model_validator
from torch import nn

from mothr.generators.families.initialisation import initialise
from mothr.generators.families.vit import ViT
from mothr.generators.values.symmetry import Symmetry

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of each colour over ImageNet, by which DINOv2's pictures were standardised."""
GRID = 37
"""Patches along each side that positions are stored for; those of smaller pictures are interpolated."""


class Dinov2(ViT):
    """The configuration of one DINOv2 backbone: a ViT with a learned scale on each branch, and positions for any size of picture."""

    architecture: ClassVar[str] = "dinov2"
    repeats_on_gpu: ClassVar[bool] = (
        False  # positions are fitted to small pictures by bicubic interpolation, whose gradient has no order
    )

    @model_validator(mode="after")
    def _has_whole_ratio(self) -> "Dinov2":
        if self.mlp_size % self.hidden_size:
            raise ValueError(f"model.mlp_size {self.mlp_size} is no multiple of model.hidden_size {self.hidden_size}")
        return self

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh backbone: matrices drawn from ``init`` with ``generator``, biases 0, norm weights and scales 1."""
        from transformers import Dinov2Config, Dinov2Model

        model = Dinov2Model(Dinov2Config(
            hidden_size=self.hidden_size, num_hidden_layers=self.layers, num_attention_heads=self.heads,
            mlp_ratio=self.mlp_size // self.hidden_size, image_size=GRID * self.patch_size, patch_size=self.patch_size,
        ))  # fmt: skip
        initialise(model, init, std, generator)
        return model

    def load(self, folder: Path) -> nn.Module:
        """Returns the backbone stored in ``folder``."""
        from transformers import Dinov2Model
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        return Dinov2Model.from_pretrained(folder)

    def pixels(self, pictures: torch.Tensor) -> torch.Tensor:
        """Returns pictures, uint8 (n, 3, s, s), as the model reads them: float32 (n, 3, image_size, image_size), standardised."""
        unit = (super().pixels(pictures) + 1) / 2
        mean, spread = (unit.new_tensor(values)[:, None, None] for values in (MEAN, SPREAD))
        return (unit - mean) / spread

    def summary(self, states: torch.Tensor) -> torch.Tensor:
        """Returns what heads read: the mean over patches, since the class token of the first blocks alone has seen little."""
        return states[:, 1:].mean(dim=1)

    def symmetries(self) -> Sequence[Symmetry]:
        """Returns, for each block, those of its attention heads and of the hidden neurons of its MLP, named as in the saved files."""
        found = []
        for block in (f"encoder.layer.{layer}" for layer in range(self.layers)):
            inputs = [
                f"{block}.attention.attention.{part}.{kind}"
                for part in ("query", "key", "value")
                for kind in ("weight", "bias")
            ]
            hidden = [f"{block}.mlp.fc1.{kind}" for kind in ("weight", "bias")]
            found.append(
                Symmetry(self.heads, (*((name, 0) for name in inputs), (f"{block}.attention.output.dense.weight", 1)))
            )
            found.append(Symmetry(self.mlp_size, (*((name, 0) for name in hidden), (f"{block}.mlp.fc2.weight", 1))))
        return found
