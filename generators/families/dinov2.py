"""DINOv2's Vision Transformers (``Dinov2Model`` of transformers), trained on picture tasks; a root may be the
published model."""

from pathlib import Path
from typing import ClassVar

import torch
from pydantic import model_validator
from torch import nn

from mothr.generators.families.initialisation import initialise
from mothr.generators.families.vit import ViT

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of each colour over ImageNet, as DINOv2 standardises its pictures."""
GRID = 37
"""Number of patches along each side for which positions are stored. Positions of smaller pictures are
interpolated."""


class Dinov2(ViT):
    """The configuration of one DINOv2 backbone: a ViT with a learned scale on each branch and positions for
    pictures of any size."""

    architecture: ClassVar[str] = "dinov2"
    # Positions are fitted to small pictures by bicubic interpolation, whose gradient is not deterministic on a GPU.
    repeats_on_gpu: ClassVar[bool] = False
    mlp_layers: ClassVar[tuple[str, str]] = ("mlp.fc1", "mlp.fc2")

    @model_validator(mode="after")
    def _check_ratio(self) -> "Dinov2":
        if self.mlp_size % self.hidden_size:
            raise ValueError(
                f"model.mlp_size {self.mlp_size} is not a multiple of model.hidden_size {self.hidden_size}"
            )
        return self

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh backbone: matrices drawn from ``init`` with ``generator``, biases 0, norm weights
        and scales 1."""
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
        return Dinov2Model.from_pretrained(folder, dtype=torch.float32)

    def pixels(self, pictures: torch.Tensor) -> torch.Tensor:
        """Returns pictures, uint8 (n, 3, s, s), as the model's input: float32 (n, 3, image_size, image_size),
        standardised."""
        unit = (super().pixels(pictures) + 1) / 2
        mean, spread = (unit.new_tensor(values)[:, None, None] for values in (MEAN, SPREAD))
        return (unit - mean) / spread

    def summary(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the heads' input: the mean over patches, because after only the first blocks the class
        token holds little information."""
        return states[:, 1:].mean(dim=1)
