"""Optimizers and schedules: training settings -> what changes the weights at each step."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from mothr.generators.values.training import Training


class Lion(torch.optim.Optimizer):
    """Moves each weight by the learning rate, along the sign of the momentum.

    With gradient g and momentum m, a step is w <- (1 - rate * decay) w - rate * sign(b1 m + (1 - b1) g), and then
    m <- b2 m + (1 - b2) g (Chen et al. 2023, arXiv 2302.06675, algorithm 2).

    Args:
        params: Parameters, or groups of them with options of their own.
        lr: The learning rate: the length of each weight's step.
        betas: b1 and b2.
        weight_decay: Decay of the weights, multiplied by the learning rate.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is needed here
        """Changes the parameters that have a gradient."""
        for group in self.param_groups:
            (b1, b2), rate = group["betas"], group["lr"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                weight.mul_(1 - rate * group["weight_decay"])
                weight.sub_(torch.lerp(weight.grad, momentum, b1).sign_(), alpha=rate)
                momentum.lerp_(weight.grad, 1 - b2)


def optimizer(
    weights: Sequence[nn.Parameter], heads: Sequence[nn.Parameter], training: Training
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Returns the optimizer of ``weights`` and ``heads``, and the schedule of its learning rates."""
    if training.head_rate is None:
        groups = _groups([*weights, *heads], training.weight_decay)
    else:
        groups = [
            *_groups(weights, training.weight_decay),
            *({**group, "lr": training.head_rate} for group in _groups(heads, training.weight_decay)),
        ]
    result: torch.optim.Optimizer
    match training.optimizer:
        case "adamw":
            result = torch.optim.AdamW(groups, lr=training.learning_rate)
        case "sgd":
            result = torch.optim.SGD(groups, lr=training.learning_rate, momentum=0.9)
        case "adam":
            result = torch.optim.Adam(groups, lr=training.learning_rate)
        case "adafactor":
            result = torch.optim.Adafactor(groups, lr=training.learning_rate)
        case "sign":
            result = Lion(groups, lr=training.learning_rate)
    return result, torch.optim.lr_scheduler.LambdaLR(result, schedule(training))


def _groups(parameters: Sequence[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Returns two groups of ``parameters``: matrices with weight decay, and vectors without."""
    return [
        {"params": [value for value in parameters if value.ndim > 1], "weight_decay": decay},
        {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
    ]


def schedule(training: Training) -> Callable[[int], float]:
    """Returns the function from a step, counted from 0, to the fraction of the largest learning rate.

    It rises linearly over the warm-up. Then it falls to zero along a cosine or a line, or stays.
    """
    warmup_steps = max(1, round(training.warmup * training.steps))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        passed, rest = step - warmup_steps, max(1, training.steps - warmup_steps)
        match training.schedule:
            case None:
                # The bytes of published models depend on the order of these operations.
                return 0.5 * (1 + math.cos(math.pi * passed / rest))
            case "linear":
                return max(0.0, 1 - passed / rest)
            case "constant":
                return 1.0

    return factor
