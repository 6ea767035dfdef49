"""The interface between a family of models and the training loop: the loss and the metric of some tasks."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

BatchLoss = Callable[[nn.Module, int, torch.Generator], torch.Tensor]
"""(model, batch size, generator) -> loss of one random batch, a scalar."""


class Objective(Protocol):
    """What a model is trained and tested on."""

    metric: str
    """Name of the metric that ``evaluate`` returns."""
    chance: float
    """Value of the metric for guessing."""

    @property
    def tested_on(self) -> int:
        """Number of test examples."""

    def parameters(self) -> list[nn.Parameter]:
        """Returns the objective's own parameters (heads), which are trained together with the model."""

    def loss(self, model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Returns the loss of one random batch."""

    def evaluate(self, model: nn.Module) -> float:
        """Returns the metric on the test examples."""

    def test_loss(self, model: nn.Module) -> float:
        """Returns the mean loss on the test examples, the same every time. It moves even if the metric does
        not."""

    def measure(self, model: nn.Module) -> tuple[float, float]:
        """Returns :meth:`evaluate` and :meth:`test_loss`, from one pass over the test examples."""

    def with_label_noise(self, fraction: float, generator: torch.Generator) -> "Objective":
        """Returns this objective, with the same heads, where ``fraction`` of the training labels are wrong.

        Test examples are unchanged. ``generator`` decides which labels are wrong.
        """

    def outputs(self, model: nn.Module) -> torch.Tensor:
        """Returns the model's outputs, float32, on a small fixed sample of the test examples, to compare the
        functions of two models."""

    def state(self) -> dict[str, torch.Tensor]:
        """Returns copies of the objective's own parameters by name; empty if it has none."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Loads parameters that :meth:`state` returned for the same tasks."""

    def distillation_loss(self, teacher: nn.Module, teacher_objective: Any) -> BatchLoss:
        """Returns the loss of a student that imitates ``teacher`` with the heads of ``teacher_objective``, of
        the same class."""
