"""Small Vision Transformers (transformers' ViT) trained on picture tasks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator
from torch import nn

from mothr.benchmark.data.dataset import Truth
from mothr.generators.data import drawing, picture_tasks
from mothr.generators.data.registry import Subset
from mothr.generators.families.initialisation import initialise
from mothr.generators.values.symmetry import Symmetry

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")


class ViT(BaseModel):
    """The configuration of one ViT backbone; heads are trained with it and left out of the files.

    A head's shape would name the task, so what is stored is the backbone alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: ClassVar[str] = "vit"
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "numpy", "matplotlib", "pillow", "scikit-learn")
    stored: ClassVar[str] = "Only backbones are stored: a head's shape would name the task."
    measured: ClassVar[str] = (
        "Accuracy on the test part of their task (roots: mean over their mixture) before and after training."
    )
    fresh: ClassVar[str] = "Each child gets a fresh head, which is not stored."
    shortcuts: ClassVar[tuple[str, ...]] = ()
    has_heads: ClassVar[bool] = True
    has_companions: ClassVar[bool] = False
    repeats_on_gpu: ClassVar[bool] = True

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
    """Side of the pictures in pixels; drawn ones, which are 32 wide, are enlarged to it."""

    @model_validator(mode="after")
    def _divides(self) -> "ViT":
        if self.hidden_size % self.heads:
            raise ValueError(f"model.hidden_size {self.hidden_size} is no multiple of model.heads {self.heads}")
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
        """Raises ValueError if a target is no linear layer of a block, or a rank is above the width."""
        for target in targets:
            if target not in LINEAR_LAYERS:
                raise ValueError(
                    f"lora.targets: {target!r} is no linear layer of this family; choose from {', '.join(LINEAR_LAYERS)}"
                )
        for rank in ranks:
            if rank > self.hidden_size:
                raise ValueError(
                    f"lora.ranks: rank {rank} is above the model's width {self.hidden_size}; it would be no low-rank update"
                )

    def data(self, task: str) -> tuple[str, str]:
        """Returns what the pictures of ``task`` are, and where they come from under which licence."""
        found = picture_tasks.find(task)
        return found.description, found.source

    def data_digests(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Returns the hash of each task's downloaded pictures; drawn ones depend on the code and ``packages`` alone."""
        return {
            task: picture_tasks.digest(task, self.image_size) for task in tasks if picture_tasks.is_downloaded(task)
        }

    def build(self, init: str, std: float, generator: torch.Generator) -> nn.Module:
        """Returns a fresh backbone: matrices drawn from ``init`` with ``generator``, biases 0, norm weights 1."""
        from transformers import ViTConfig, ViTModel  # takes seconds to import, and most commands never build a model

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
        return ViTModel.from_pretrained(folder, add_pooling_layer=False)

    def save(self, model: Any, folder: Path) -> None:
        """Writes ``model`` to ``folder`` with its own ``save_pretrained``."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # one bar for a whole data set is enough
        model.save_pretrained(folder)

    def companions(self, seed: int, folder: Path, device: torch.device, on_step: Callable[[int], None]) -> None:
        """Writes nothing: the models of a tree share nothing that is frozen."""

    def symmetries(self) -> Sequence[Symmetry]:
        """Returns, for each block, those of its attention heads and of the hidden neurons of its MLP, named as in the saved files."""
        found = []
        for block in (f"encoder.layer.{layer}" for layer in range(self.layers)):
            inputs = [
                f"{block}.attention.attention.{part}.{kind}"
                for part in ("query", "key", "value")
                for kind in ("weight", "bias")
            ]
            hidden = [f"{block}.intermediate.dense.{kind}" for kind in ("weight", "bias")]
            found.append(
                Symmetry(self.heads, (*((name, 0) for name in inputs), (f"{block}.attention.output.dense.weight", 1)))
            )
            found.append(
                Symmetry(self.mlp_size, (*((name, 0) for name in hidden), (f"{block}.output.dense.weight", 1)))
            )
        return found

    def show(self, out: Path, truth: Truth) -> Sequence[str]:
        """Returns nothing: there is nothing to look at."""
        return ()

    def objective(
        self, tasks: Sequence[str], generator: torch.Generator, device: torch.device, companions: Path | None = None
    ) -> "Classification":
        """Returns what a backbone is trained and tested on for ``tasks``, with fresh heads."""
        return Classification(tasks, self, generator, device)

    def pixels(self, pictures: torch.Tensor) -> torch.Tensor:
        """Returns pictures, uint8 (n, 3, s, s), as the model reads them: float32 (n, 3, image_size, image_size), from -1 to 1."""
        values = pictures.float() / 127.5 - 1
        if values.shape[-1] == self.image_size:
            return values
        return nn.functional.interpolate(values, size=self.image_size, mode="bilinear", align_corners=False)

    def summary(self, states: torch.Tensor) -> torch.Tensor:
        """Returns what heads read (n, hidden_size) of the last states (n, 1 + patches, hidden_size): the class token's."""
        return states[:, 0]


class Classification:
    """One or more picture tasks with a linear head each: the batches, the loss and the accuracy.

    The heads are one matrix; the logits of other tasks are masked, so each example is judged within its own task.
    """

    metric = "accuracy"

    def __init__(self, tasks: Sequence[str], family: ViT, generator: torch.Generator, device: torch.device) -> None:
        self.tasks = tuple(tasks)
        self.device = device
        self._family = family
        sizes = [len(picture_tasks.find(task).classes) for task in tasks]
        self.chance = sum(1 / size for size in sizes) / len(sizes)
        self._starts = [sum(sizes[:index]) for index in range(len(sizes))]
        columns = torch.arange(sum(sizes))
        self._masks = torch.stack(
            [(columns < start) | (columns >= start + size) for start, size in zip(self._starts, sizes, strict=True)]
        )
        self._masks = self._masks.to(device)
        self.head = nn.Linear(family.hidden_size, sum(sizes))
        nn.init.normal_(self.head.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.head.bias)
        self.head.to(device)
        self._train = self._gather("train")

    def _gather(self, subset: Subset) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the pictures of all tasks, their labels as columns of the head, and their task's position."""
        parts = [picture_tasks.load(task, subset, self._family.image_size) for task in self.tasks]
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
        return self.head(self._features(model, pictures)).masked_fill(
            self._masks[owners.to(self.device)], float("-inf")
        )

    def _features(self, model: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
        return self._family.summary(model(pixel_values=self._family.pixels(pictures.to(self.device))).last_hidden_state)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> float:
        """Returns the accuracy on the test parts, averaged over tasks."""
        pictures, labels, owners = self._gather("test")
        right = torch.cat(
            [
                self._logits(model, pictures[rows], owners[rows]).argmax(1).cpu() == labels[rows]
                for rows in torch.arange(len(labels)).split(256)
            ]
        ).float()
        return sum(float(right[owners == index].mean()) for index in range(len(self.tasks))) / len(self.tasks)

    @property
    def tested_on(self) -> int:
        """Number of test examples."""
        return sum(len(picture_tasks.load(task, "test", self._family.image_size)[1]) for task in self.tasks)

    @torch.no_grad()
    def outputs(self, model: nn.Module) -> torch.Tensor:
        """Returns the logits (at most 64, classes of all tasks) of evenly spread test pictures, without the masks."""
        pictures, _, _ = self._gather("test")
        rows = torch.linspace(0, len(pictures) - 1, min(64, len(pictures))).long()
        return self.head(self._features(model, pictures[rows])).cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """Returns copies of the heads' weight (classes of all tasks, width) and bias."""
        return {name: value.detach().cpu().clone() for name, value in self.head.state_dict().items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes over heads that ``state`` gave for the same tasks."""
        self.head.load_state_dict(dict(state))

    def distillation_loss(
        self, teacher: nn.Module, taught: "Classification"
    ) -> Callable[[nn.Module, int, torch.Generator], torch.Tensor]:
        """Returns the loss of a student: Kullback-Leibler divergence from the teacher's classes, in nats (Hinton et al. 2015)."""
        pictures, _, owners = self._train

        def loss(model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
            rows = torch.randint(len(owners), (batch_size,), generator=generator)
            with torch.no_grad():
                wanted = taught._logits(teacher, pictures[rows], owners[rows]).softmax(-1)
            given = self._logits(model, pictures[rows], owners[rows]).log_softmax(-1)
            return nn.functional.kl_div(given.clamp(min=-1e4), wanted, reduction="batchmean")

        return loss
