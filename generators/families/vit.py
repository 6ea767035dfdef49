"""Small Vision Transformers (``ViTModel`` of transformers), trained on picture tasks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator
from torch import nn

from mothr.benchmark.data.dataset import Truth
from mothr.generators.data import drawing, picture_tasks
from mothr.generators.data.registry import Subset
from mothr.generators.families.classification import Classification
from mothr.generators.families.initialisation import initialise
from mothr.generators.families.lora import check_lora
from mothr.generators.values.symmetry import Symmetry

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")


class ViT(BaseModel):
    """The configuration of one ViT backbone.

    A classification head is trained together with the backbone. Only the backbone is stored, because a head's
    shape would name the task.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: ClassVar[str] = "vit"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "numpy", "matplotlib", "pillow", "scikit-learn")
    stored: ClassVar[str] = "Only backbones are stored, because a head's shape would name the task."
    measured: ClassVar[str] = (
        "The metric is the accuracy on the test examples of a model's task (for roots: mean over their tasks), before and after training."
    )
    fresh: ClassVar[str] = "Each child gets a fresh head, which is not stored."
    shortcuts: ClassVar[tuple[str, ...]] = ()
    has_heads: ClassVar[bool] = True
    has_companions: ClassVar[bool] = False
    repeats_on_gpu: ClassVar[bool] = True
    mlp_layers: ClassVar[tuple[str, str]] = ("intermediate.dense", "output.dense")
    """Names of the two linear layers of an MLP in the saved files."""

    hidden_size: PositiveInt
    """Width of the residual stream."""
    layers: PositiveInt
    """Number of blocks."""
    heads: PositiveInt
    """Attention heads."""
    mlp_size: PositiveInt
    """Width of the hidden layer of each MLP."""
    patch_size: PositiveInt
    """Side of a patch in pixels."""
    image_size: PositiveInt = drawing.SIDE
    """Side of the pictures in pixels. Drawn pictures have a side of 32 and are enlarged."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "ViT":
        if self.hidden_size % self.heads:
            raise ValueError(f"model.hidden_size {self.hidden_size} is not a multiple of model.heads {self.heads}")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"model.patch_size {self.patch_size} does not divide the side of the pictures, {self.image_size}"
            )
        return self

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises MothrError if one of ``tasks`` does not exist."""
        for task in tasks:
            picture_tasks.find(task)

    def check_lora(self, ranks: Sequence[int], targets: Sequence[str]) -> None:
        """Raises ValueError if a target is not a linear layer of a block, or if a rank is above the width."""
        check_lora(ranks, targets, dict.fromkeys(LINEAR_LAYERS, self.hidden_size))

    def data(self, task: str) -> tuple[str, str]:
        """Returns a description of the pictures of ``task``, and their origin and licence."""
        picture_task = picture_tasks.find(task)
        return picture_task.description, picture_task.source

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns the hash of each task with downloaded pictures. Drawn pictures depend only on the code and
        on ``packages``."""
        return {
            task: picture_tasks.digest(task, self.image_size) for task in tasks if picture_tasks.is_downloaded(task)
        }

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh backbone: matrices drawn from ``init`` with ``generator``, biases 0, norm weights
        1."""
        from transformers import ViTConfig, ViTModel  # this import takes seconds, and most commands build no model

        config = ViTConfig(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.mlp_size,
            image_size=self.image_size,
            patch_size=self.patch_size,
        )
        model = ViTModel(config, add_pooling_layer=False)
        initialise(model, init, std, generator)
        return model

    def load(self, folder: Path) -> nn.Module:
        """Returns the backbone stored in ``folder``."""
        from transformers import ViTModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        return ViTModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)

    def save(self, model: Any, folder: Path) -> None:
        """Writes ``model`` to ``folder`` by its ``save_pretrained``."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # the data set has one progress bar of its own
        model.save_pretrained(folder)

    def companions_key(self) -> None:
        """Returns None: the models of a tree share no frozen parts."""

    def companions(self, seed: int, folder: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
        """Writes nothing: the models of a tree share no frozen parts."""

    def symmetries(self) -> Sequence[Symmetry]:
        """Returns two symmetries per block: of its attention heads, and of the hidden neurons of its MLP.
        Names are those in the files."""
        first, second = self.mlp_layers
        symmetries = []
        for block in (f"encoder.layer.{layer}" for layer in range(self.layers)):
            inputs = [f"{block}.attention.attention.{matrix}" for matrix in ("query", "key", "value")]
            for blocks, layers, output in (
                (self.heads, inputs, f"{block}.attention.output.dense.weight"),
                (self.mlp_size, [f"{block}.{first}"], f"{block}.{second}.weight"),
            ):
                rows = [(f"{layer}.{kind}", 0) for layer in layers for kind in ("weight", "bias")]
                symmetries.append(Symmetry(blocks, (*rows, (output, 1))))
        return symmetries

    def show(self, out: Path, truth: Truth) -> Sequence[str]:
        """Returns nothing: the outputs are classes only."""
        return ()

    def objective(
        self, tasks: Sequence[str], generator: torch.Generator, device: torch.device, companions: Path | None = None
    ) -> "Classification":
        """Returns the objective of ``tasks`` with fresh heads."""
        return Classification(tasks, self, generator, device)

    def classes(self, task: str) -> int:
        """Returns the number of classes of ``task``."""
        return len(picture_tasks.find(task).classes)

    def examples(self, task: str, subset: Subset) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the pictures of one subset of ``task``, uint8 (n, 3, s, s), and their labels, int64 (n,)."""
        return picture_tasks.load(task, subset, self.image_size)

    def features(self, model: nn.Module, examples: torch.Tensor) -> torch.Tensor:
        """Returns the heads' input (n, hidden_size) for pictures."""
        return self.summary(model(pixel_values=self.pixels(examples)).last_hidden_state)

    def pixels(self, pictures: torch.Tensor) -> torch.Tensor:
        """Returns the model's input for pictures, uint8 (n, 3, s, s): float32 (n, 3, image_size, image_size)
        in -1..1."""
        values = pictures.float() / 127.5 - 1
        if values.shape[-1] == self.image_size:
            return values
        return nn.functional.interpolate(values, size=self.image_size, mode="bilinear", align_corners=False)

    def summary(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the heads' input (n, hidden_size) from the last states (n, 1 + patches, hidden_size): the
        state of the class token."""
        return states[:, 0]
