"""One model: parent's weights + training -> child's weights, with what it learned."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from mothr.generators.values.objective import Objective
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora, Training

Kept = Callable[[int, nn.Module, dict[str, Any]], None]
"""What is told of a checkpoint: its step, the model (whole, updates merged) and the record so far."""


def train(
    model: nn.Module,
    objective: Objective,
    training: Training,
    seed: int,
    *,
    lora: Lora | None = None,
    rank: int | None = None,
    loss: Callable[[nn.Module, int, torch.Generator], torch.Tensor] | None = None,
    on_step: Callable[[int], None] = lambda step: None,
    keep: Sequence[int] = (),
    on_kept: Kept | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the trained model and the record of what it learned.

    With ``lora``, only low-rank updates (and the objective's own parameters) train; they are merged into the dense
    weights at the end, so what comes back has the shape of what went in.

    Args:
        model: what training starts from; it is changed.
        objective: what it is trained and tested on.
        training: steps, optimizer and so on.
        seed: of batches and fresh updates.
        lora: the low-rank update that trains instead of the weights.
        rank: its rank.
        loss: what is minimised, if not the objective's own loss.
        on_step: called after each step with its number.
        keep: the steps after which ``on_kept`` is called; 0 is before the first.
        on_kept: takes a checkpoint.
    """
    if lora is not None:
        assert rank is not None
        model = _with_lora(model, lora, rank, seed)
    weights = [value for value in model.parameters() if value.requires_grad]
    optimizer, schedule = _optimizer([*weights, *objective.parameters()], training)
    generator = torch_generator(seed, "batches")
    model.eval()  # dropout is off in evaluation and in these small models' training alike
    before = objective.evaluate(model)
    losses = torch.zeros(
        training.steps, device=weights[0].device
    )  # a tensor a step, kept, would pin the memory that the step had used

    def record(after: float, steps: int) -> dict[str, Any]:
        edge = max(1, steps // 20)
        curve = losses[:steps].cpu()
        return {
            "metric": objective.metric,
            "before": round(before, 6),
            "after": round(after, 6),
            "chance": round(objective.chance, 6),
            "tested_on": objective.tested_on,
            "loss_first": round(float(curve[:edge].mean()), 6),
            "loss_last": round(float(curve[-edge:].mean()), 6),
            "seed": seed,
            **training.model_dump(mode="json", exclude={"keep_every"}),
            **(
                {}
                if lora is None or rank is None
                else {"rank": rank, "alpha": lora.alpha_over_rank * rank, "targets": list(lora.targets)}
            ),
        }

    def checkpoint(step: int) -> None:
        if on_kept is not None and step in keep:
            whole = copy.deepcopy(model)
            learned = {**record(objective.evaluate(model), step), "steps": step} if step else {}
            on_kept(step, _merged(whole) if lora is not None else whole, learned)

    checkpoint(0)
    for step in range(1, training.steps + 1):
        value = (loss or objective.loss)(model, training.batch_size, generator)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_([*weights, *objective.parameters()], training.clip)
        optimizer.step()
        schedule.step()
        losses[step - 1] = value.detach()
        on_step(step)
        checkpoint(step)
    after = objective.evaluate(model)
    if lora is not None:
        model = _merged(model)
    return model, record(after, training.steps)


def _optimizer(
    parameters: list[nn.Parameter], training: Training
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    groups = [
        {"params": [value for value in parameters if value.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if training.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=training.learning_rate)
    else:
        optimizer = torch.optim.SGD(groups, lr=training.learning_rate, momentum=0.9)
    warm = max(1, round(training.warmup * training.steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, training.steps - warm)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _merged(adapted: Any) -> nn.Module:
    """Returns the model that low-rank updates were made for, with these in its weights."""
    return adapted.merge_and_unload()


def _with_lora(model: nn.Module, lora: Lora, rank: int, seed: int) -> nn.Module:
    """Returns ``model`` frozen, with fresh low-rank updates drawn from a generator of their own (A uniform, B zero)."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=lora.alpha_over_rank * rank, target_modules=list(lora.targets), lora_dropout=0.0
    )
    adapted = get_peft_model(model, config)
    generator = torch_generator(seed, "lora")
    for name, value in adapted.named_parameters():
        if "lora_A" in name:
            drawn = torch.empty_like(value, device="cpu")  # the same numbers on every device
            value.data.copy_(nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator))
    return adapted
