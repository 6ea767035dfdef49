"""The training loop of one model: start weights and an objective -> trained weights and a record of the
training."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mothr.benchmark.errors import MothrError
from mothr.generators.train.optimizers import optimizer
from mothr.generators.train.trainable import Average, StartPenalty, merged, restrict, with_lora
from mothr.generators.values.objective import BatchLoss, Objective
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora, Training

OnCheckpoint = Callable[[int, nn.Module, dict[str, Any]], None]
"""Receives a checkpoint: its step, the dense model (LoRA updates merged) and the training record so far."""


class Diverged(MothrError):
    """The loss of a training became NaN or infinite."""


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
    measure_test_loss: bool
    """Whether the mean loss on the test examples is recorded."""
    before: tuple[float, float | None]
    """The metric before training, and the test loss if it is recorded."""
    losses: torch.Tensor
    """(steps,) float32: the loss of each step. One tensor for all steps does not keep the memory of each step
    alive."""

    def record(self, model: nn.Module, steps: int) -> dict[str, Any]:
        """Returns the record of ``model`` after ``steps`` steps: the metric before and after, mean losses, and
        all settings."""
        after, loss_after = _test(self.objective, model, self.measure_test_loss)
        before, loss_before = self.before
        ends = max(1, steps // 20)
        curve = self.losses[:steps].cpu()
        test_losses = {}
        if loss_before is not None and loss_after is not None:
            test_losses = {"test_loss_before": round(loss_before, 6), "test_loss_after": round(loss_after, 6)}
        update: dict[str, Any] = {}
        if self.lora is not None and self.rank is not None:
            update = {
                "rank": self.rank,
                "alpha": self.lora.alpha_over_rank * self.rank,
                "targets": list(self.lora.targets),
                **self.lora.model_dump(include={"dora", "rslora"}, exclude_none=True),
            }
        return {
            "metric": self.objective.metric,
            "before": round(before, 6),
            "after": round(after, 6),
            "chance": round(self.objective.chance, 6),
            "tested_on": self.objective.tested_on,
            "loss_first": round(float(curve[:ends].mean()), 6),
            "loss_last": round(float(curve[-ends:].mean()), 6),
            **test_losses,
            "seed": self.seed,
            **self.training.model_dump(mode="json", exclude={"keep_every"}, exclude_none=True),
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
    measure_test_loss: bool = False,
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
        seed: Seed of batches, of wrong labels, and of fresh low-rank updates.
        lora: The low-rank update that is trained instead of the weights.
        rank: The rank of this update.
        loss: What is minimised, if it is not the objective's own loss. It has no labels that could be wrong.
        measure_test_loss: Whether the record has the mean loss on the test examples, before and after.
        on_step: Called after each step with its number.
        checkpoint_steps: Steps after which ``on_checkpoint`` is called; 0 means before the first step.
        on_checkpoint: Receives a checkpoint.

    Raises:
        MothrError: ``training`` chooses blocks where there are none, or it diverged. Whether it fits ``lora`` and the
            family is checked before, in the recipe.
    """
    model, objective = _prepared(model, objective, training, seed, lora, rank)
    recorder = Recorder(
        objective, training, seed, lora, rank, measure_test_loss, _test(objective, model, measure_test_loss),
        torch.zeros(training.steps, device=next(model.parameters()).device),
    )  # fmt: skip

    def keep(step: int) -> None:
        if on_checkpoint is not None and step in checkpoint_steps:
            dense = copy.deepcopy(model)
            record = {**recorder.record(model, step), "steps": step} if step else {}
            on_checkpoint(step, merged(dense) if lora is not None else dense, record)

    keep(0)
    for step, value in enumerate(_steps(model, objective, training, seed, loss or objective.loss), start=1):
        recorder.losses[step - 1] = value
        on_step(step)
        keep(step)
    _check_losses(recorder.losses, training)
    record = recorder.record(model, training.steps)
    return (merged(model) if lora is not None else model.requires_grad_(True)), record


def _prepared(
    model: nn.Module, objective: Objective, training: Training, seed: int, lora: Lora | None, rank: int | None
) -> tuple[nn.Module, Objective]:
    """Returns the model, with low-rank updates or frozen weights, and the objective, with wrong labels, that
    ``training`` and ``lora`` ask for."""
    if training.label_noise is not None:
        objective = objective.with_label_noise(training.label_noise, torch_generator(seed, "label noise"))
    if lora is not None:
        assert rank is not None
        model = with_lora(model, lora, rank, seed)
    restrict(model, training.trained)
    return model.eval(), objective  # these small models are trained without dropout


def _test(objective: Objective, model: nn.Module, with_loss: bool) -> tuple[float, float | None]:
    """Returns the metric on the test examples, and the mean loss on them if ``with_loss`` is set."""
    return objective.measure(model) if with_loss else (objective.evaluate(model), None)


def _check_losses(losses: torch.Tensor, training: Training) -> None:
    """Raises Diverged if a loss is NaN or infinite."""
    wrong = (~losses.isfinite()).nonzero()
    if len(wrong):
        raise Diverged(
            f"training: the loss is {float(losses[wrong[0, 0]])} at step {int(wrong[0, 0]) + 1} of {training.steps}; "
            f"choose a learning_rate below {training.learning_rate:g}"
        )


def _steps(
    model: nn.Module, objective: Objective, training: Training, seed: int, loss: BatchLoss
) -> Iterator[torch.Tensor]:
    """Trains ``model`` and the heads of ``objective``, and yields the loss of each step without the penalty.

    After the last step the parameters are set to their average, if one is stored.
    """
    weights = [value for value in model.parameters() if value.requires_grad]
    parameters = [*weights, *objective.parameters()]
    changing, schedule = optimizer(weights, objective.parameters(), training)
    penalty = StartPenalty(weights, training.l2_sp) if training.l2_sp is not None else None
    averaged = training.ema is not None or training.tail_average is not None
    average = Average(parameters, training) if averaged else None
    generator = torch_generator(seed, "batches")
    for step in range(1, training.steps + 1):
        value = loss(model, training.batch_size, generator)
        changing.zero_grad(set_to_none=True)
        (value if penalty is None else value + penalty()).backward()
        nn.utils.clip_grad_norm_(parameters, training.clip)
        changing.step()
        schedule.step()
        if average is not None:
            average.update(step)
            if step == training.steps:
                average.apply()
        yield value.detach()
