"""Classification: the objective of the families ``vit``, ``dinov2`` and ``bert``."""

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import nn

from mothr.generators.data.registry import Subset
from mothr.generators.values.objective import BatchLoss


class Backbone(Protocol):
    """What classification needs to know of a family."""

    @property
    def hidden_size(self) -> int:
        """Width of the states."""

    def classes(self, task: str) -> int:
        """Returns the number of classes of ``task``."""

    def examples(self, task: str, subset: Subset) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the examples of one subset of ``task``, (n, ...), and their labels, int64 (n,)."""

    def features(self, model: nn.Module, examples: torch.Tensor) -> torch.Tensor:
        """Returns the heads' input (n, hidden_size) for ``examples``, which are on the device of ``model``."""


class Classification:
    """One or more tasks with one linear head each: batches, loss and accuracy.

    The heads are stored in one matrix. The logits of other tasks are masked, so each example is classified
    within its own task.
    """

    metric = "accuracy"

    def __init__(
        self, tasks: Sequence[str], family: Backbone, generator: torch.Generator, device: torch.device
    ) -> None:
        self.tasks = tuple(tasks)
        self.device = device
        self._family = family
        sizes = [family.classes(task) for task in tasks]
        self.chance = sum(1 / size for size in sizes) / len(sizes)
        self._starts = [sum(sizes[:index]) for index in range(len(sizes))]
        columns = torch.arange(sum(sizes))
        self._masks = torch.stack(
            [(columns < start) | (columns >= start + size) for start, size in zip(self._starts, sizes, strict=True)]
        )
        self._masks = self._masks.to(device)
        self.head: nn.Linear = nn.Linear(family.hidden_size, sum(sizes))
        nn.init.normal_(self.head.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.head.bias)
        self.head.to(device)
        self._train = self._gather("train")
        self._sizes = torch.tensor(sizes)

    def _gather(self, subset: Subset) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the examples of all tasks, their labels as columns of the head, and the positions of their
        tasks."""
        parts = [self._family.examples(task, subset) for task in self.tasks]
        examples = torch.cat([examples for examples, _ in parts])
        labels = torch.cat([labels + start for (_, labels), start in zip(parts, self._starts, strict=True)])
        owners = torch.cat([torch.full_like(labels, index) for index, (_, labels) in enumerate(parts)])
        return examples, labels, owners

    def parameters(self) -> list[nn.Parameter]:
        """Returns the parameters of the heads, which are trained together with the backbone."""
        return list(self.head.parameters())

    def loss(self, model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Returns the mean cross-entropy of one random batch."""
        examples, labels, owners = self._train
        rows = torch.randint(len(labels), (batch_size,), generator=generator)
        logits = self._logits(model, examples[rows], owners[rows])
        return nn.functional.cross_entropy(logits, labels[rows].to(self.device))

    def _logits(self, model: nn.Module, examples: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
        return self.head(self._features(model, examples)).masked_fill(
            self._masks[owners.to(self.device)], float("-inf")
        )

    def _features(self, model: nn.Module, examples: torch.Tensor) -> torch.Tensor:
        return self._family.features(model, examples.to(self.device))

    def evaluate(self, model: nn.Module) -> float:
        """Returns the accuracy on the test examples, averaged over tasks."""
        return self.measure(model)[0]

    def test_loss(self, model: nn.Module) -> float:
        """Returns the cross-entropy on the test examples, in nats, averaged over tasks."""
        return self.measure(model)[1]

    @torch.no_grad()
    def measure(self, model: nn.Module) -> tuple[float, float]:
        """Returns the accuracy and the cross-entropy on the test examples."""
        examples, labels, owners = self._gather("test")
        parts = torch.arange(len(labels)).split(256)
        logits = torch.cat([self._logits(model, examples[rows], owners[rows]).cpu() for rows in parts])
        correct = (logits.argmax(1) == labels).float()
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        accuracy, loss = (
            sum(float(values[owners == index].mean()) for index in range(len(self.tasks))) / len(self.tasks)
            for values in (correct, losses)
        )
        return accuracy, loss

    def with_label_noise(self, fraction: float, generator: torch.Generator) -> "Classification":
        """Returns this objective, with the same heads, where ``fraction`` of the training examples have the
        label of another class of their task.

        The wrong labels are drawn once. All other classes have equal probability.
        """
        examples, labels, owners = self._train
        rows = torch.randperm(len(labels), generator=generator)[: round(fraction * len(labels))]
        starts, sizes = torch.tensor(self._starts)[owners[rows]], self._sizes[owners[rows]]
        shift = 1 + (torch.rand(len(rows), generator=generator, dtype=torch.float64) * (sizes - 1)).long()
        wrong = labels.clone()
        wrong[rows] = starts + (labels[rows] - starts + shift) % sizes
        noisy = copy.copy(self)
        noisy._train = examples, wrong, owners
        return noisy

    @property
    def tested_on(self) -> int:
        """Number of test examples."""
        return sum(len(self._family.examples(task, "test")[1]) for task in self.tasks)

    @torch.no_grad()
    def outputs(self, model: nn.Module) -> torch.Tensor:
        """Returns the logits (at most 64, classes of all tasks) of evenly spaced test examples, without
        masks."""
        examples, _, _ = self._gather("test")
        rows = torch.linspace(0, len(examples) - 1, min(64, len(examples))).long()
        return self.head(self._features(model, examples[rows])).cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """Returns copies of the heads' weight (classes of all tasks, width) and bias."""
        return {name: value.detach().cpu().clone() for name, value in self.head.state_dict().items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Loads heads that :meth:`state` returned for the same tasks."""
        self.head.load_state_dict(dict(state))

    def distillation_loss(self, teacher: nn.Module, teacher_objective: "Classification") -> BatchLoss:
        """Returns a student's loss: Kullback-Leibler divergence of the classes from the teacher's, in nats
        (Hinton et al. 2015)."""
        examples, _, owners = self._train

        def loss(model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
            rows = torch.randint(len(owners), (batch_size,), generator=generator)
            with torch.no_grad():
                target = teacher_objective._logits(teacher, examples[rows], owners[rows]).softmax(-1)
            predicted = self._logits(model, examples[rows], owners[rows]).log_softmax(-1)
            return nn.functional.kl_div(predicted.clamp(min=-1e4), target, reduction="batchmean")

        return loss
