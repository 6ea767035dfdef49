"""The training loop of one model: start weights and an objective -> trained weights and a record of the
training."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mothr.generators.values.objective import BatchLoss, Objective
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora, Training

OnCheckpoint = Callable[[int, nn.Module, dict[str, Any]], None]
"""Receives a checkpoint: its step, the dense model (LoRA updates merged) and the training record so far."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Builds the training records of one model."""

    objective: Objective
    """What the model is trained and tested on."""
    training: Training
    """Training settings."""
    seed: int
    """Seed of batches and low-rank updates."""
    lora: Lora | None
    """The low-rank update, if one is trained."""
    rank: int | None
    """Its rank."""
    before: float
    """The metric before training."""
    losses: torch.Tensor
    """(steps,) float32: the loss of each step. One tensor for all steps does not keep the memory of each step
    alive."""

    def record(self, after: float, steps: int) -> dict[str, Any]:
        """Returns the record after ``steps`` steps: the metric before and ``after``, mean losses, and all
        settings."""
        ends = max(1, steps // 20)
        curve = self.losses[:steps].cpu()
        update = {}
        if self.lora is not None and self.rank is not None:
            update = {
                "rank": self.rank,
                "alpha": self.lora.alpha_over_rank * self.rank,
                "targets": list(self.lora.targets),
            }
        return {
            "metric": self.objective.metric,
            "before": round(self.before, 6),
            "after": round(after, 6),
            "chance": round(self.objective.chance, 6),
            "tested_on": self.objective.tested_on,
            "loss_first": round(float(curve[:ends].mean()), 6),
            "loss_last": round(float(curve[-ends:].mean()), 6),
            "seed": self.seed,
            **self.training.model_dump(mode="json", exclude={"keep_every"}),
            **update,
        }


def train(
    model: nn.Module,
    objective: Objective,
    training: Training,
    seed: int,
    *,
    lora: Lora | None = None,
    rank: int | None = None,
    loss: BatchLoss | None = None,
    on_step: Callable[[int], None] = lambda step: None,
    checkpoint_steps: Sequence[int] = (),
    on_checkpoint: OnCheckpoint | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the trained model and its training record.

    With ``lora``, only the low-rank updates and the objective's own parameters are trained. The updates are
    added to the dense weights at the end, so the result has the same tensors as ``model``.

    Args:
        model: The start of the training; it is changed.
        objective: What the model is trained and tested on.
        training: Steps, optimizer and other settings.
        seed: Seed of batches and of fresh low-rank updates.
        lora: The low-rank update that is trained instead of the weights.
        rank: The rank of this update.
        loss: What is minimised, if it is not the objective's own loss.
        on_step: Called after each step with its number.
        checkpoint_steps: Steps after which ``on_checkpoint`` is called; 0 means before the first step.
        on_checkpoint: Receives a checkpoint.
    """
    if lora is not None:
        assert rank is not None
        model = _with_lora(model, lora, rank, seed)
    weights = [value for value in model.parameters() if value.requires_grad]
    parameters = [*weights, *objective.parameters()]
    optimizer, schedule = _optimizer(parameters, training)
    generator = torch_generator(seed, "batches")
    model.eval()  # these small models are trained without dropout
    losses = torch.zeros(training.steps, device=weights[0].device)
    recorder = Recorder(objective, training, seed, lora, rank, objective.evaluate(model), losses)

    def keep(step: int) -> None:
        if on_checkpoint is not None and step in checkpoint_steps:
            dense = copy.deepcopy(model)
            record = {**recorder.record(objective.evaluate(model), step), "steps": step} if step else {}
            on_checkpoint(step, _merged(dense) if lora is not None else dense, record)

    keep(0)
    for step in range(1, training.steps + 1):
        value = (loss or objective.loss)(model, training.batch_size, generator)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, training.clip)
        optimizer.step()
        schedule.step()
        losses[step - 1] = value.detach()
        on_step(step)
        keep(step)
    record = recorder.record(objective.evaluate(model), training.steps)
    return (model if lora is None else _merged(model)), record


def _optimizer(
    parameters: list[nn.Parameter], training: Training
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Returns the optimizer and its schedule: linear warm-up, then a cosine to zero."""
    groups = [
        {"params": [value for value in parameters if value.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if training.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=training.learning_rate)
    else:
        optimizer = torch.optim.SGD(groups, lr=training.learning_rate, momentum=0.9)
    warmup_steps = max(1, round(training.warmup * training.steps))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, training.steps - warmup_steps)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _merged(adapted: Any) -> nn.Module:
    """Returns the dense model with its low-rank updates added to the weights."""
    return adapted.merge_and_unload()


def _with_lora(model: nn.Module, lora: Lora, rank: int, seed: int) -> nn.Module:
    """Returns ``model``, frozen, with fresh low-rank updates B A: A is drawn uniformly, B is zero."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=lora.alpha_over_rank * rank, target_modules=list(lora.targets), lora_dropout=0.0
    )
    adapted = get_peft_model(model, config)
    generator = torch_generator(seed, "lora")
    for name, value in adapted.named_parameters():
        if "lora_A" in name:
            drawn = torch.empty_like(
                value, device="cpu"
            )  # drawn on the CPU, so that every device gets the same numbers
            value.data.copy_(nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator))
    return adapted
