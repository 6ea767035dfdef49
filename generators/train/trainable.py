"""Which weights a training changes, what draws them back to their start, and which average of them is stored."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from mothr.benchmark.errors import MothrError
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora, Trained, Training

BLOCK = re.compile(r"(?:^|\.)(?:layers?|(down_blocks)|(up_blocks))\.(\d+)\.|(?:^|\.)(mid_block)\.")
"""The part of a parameter's name that names its block."""


def restrict(model: nn.Module, trained: Trained | None) -> None:
    """Freezes the weights of ``model`` that ``trained`` leaves out. Frozen weights keep their bits.

    Raises:
        MothrError: a choice of blocks is asked for, but no parameter's name holds the number of a block.
    """
    if trained is None:
        return
    chosen = trained_names({name: value.ndim for name, value in model.named_parameters()}, trained)
    for name, value in model.named_parameters():
        value.requires_grad_(name in chosen)


def trained_names(axes: Mapping[str, int], trained: Trained) -> set[str]:
    """Returns the names of the parameters that ``trained`` selects.

    Blocks are those of a transformer, in their order. The blocks of a UNet are, in this order, its stages down,
    its middle, and its stages up; each holds several residual and attention layers.

    Args:
        axes: Number of axes of each parameter, by name.
        trained: The choice.

    Raises:
        MothrError: no name holds the number of a block.
    """
    if trained == "vectors":
        return {name for name, number in axes.items() if number <= 1}
    blocks = {name: _block(name) for name in axes}
    order = sorted({block for block in blocks.values() if block is not None})
    if not order:
        raise MothrError(f"training.trained: {trained!r} needs numbered blocks, and this model has none; remove it")
    if trained == "last-layers":
        kept = set(order[-math.ceil(len(order) / 3) :])
        return {name for name, block in blocks.items() if (block in kept if block is not None else _is_norm(name))}
    frozen = set(order[::2])
    return {name for name, block in blocks.items() if block not in frozen}


def _is_norm(name: str) -> bool:
    """Returns whether a parameter outside of the blocks belongs to the final norm."""
    return "norm" in name.lower() and "embeddings" not in name


def _block(name: str) -> tuple[int, int] | None:
    """Returns the place of the block that a parameter belongs to, or None if it is outside of all blocks.

    A place sorts after the places that are computed before it.
    """
    match = BLOCK.search(name)
    if match is None:
        return None
    _, up, number, middle = match.groups()
    return (1, 0) if middle else (2 if up else 0, int(number))


class StartPenalty:
    """The penalty a/2 |w - w0|^2 on the distance between weights w and their start w0 (L2-SP, Li et al. 2018)."""

    def __init__(self, weights: Sequence[nn.Parameter], coefficient: float) -> None:
        self._weights = list(weights)
        self._start = [value.detach().clone() for value in weights]
        self._coefficient = coefficient

    def __call__(self) -> torch.Tensor:
        """Returns the penalty of the present weights, a scalar."""
        pairs = zip(self._weights, self._start, strict=True)
        return self._coefficient / 2 * torch.stack([(now - start).square().sum() for now, start in pairs]).sum()


class Average:
    """The average of some parameters over the steps of a training: exponential (``ema``) or over its end."""

    def __init__(self, parameters: Sequence[nn.Parameter], training: Training) -> None:
        self._parameters = list(parameters)
        self._values: list[Any] = [value.detach().clone() for value in parameters]
        self._decay = training.ema
        self._first = training.steps - max(1, round((training.tail_average or 0.0) * training.steps)) + 1

    def update(self, step: int) -> None:
        """Adds the parameters after ``step``, counted from 1."""
        parameters: list[Any] = self._parameters
        if self._decay is not None:
            get_ema_multi_avg_fn(min(self._decay, (1 + step) / (10 + step)))(self._values, parameters, 0)
        elif step >= self._first:
            get_swa_multi_avg_fn()(self._values, parameters, step - self._first)

    @torch.no_grad()
    def apply(self) -> None:
        """Sets the parameters to their average."""
        for value, average in zip(self._parameters, self._values, strict=True):
            value.copy_(average)


# Low-rank updates


def with_lora(model: nn.Module, lora: Lora, rank: int, seed: int) -> nn.Module:
    """Returns ``model``, frozen, with fresh low-rank updates B A: A is drawn uniformly, B is zero."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=lora.alpha_over_rank * rank, target_modules=list(lora.targets), lora_dropout=0.0,
        use_dora=bool(lora.dora), use_rslora=bool(lora.rslora),
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    generator = torch_generator(seed, "lora")
    for name, value in adapted.named_parameters():
        if "lora_A" in name:
            drawn = torch.empty_like(
                value, device="cpu"
            )  # drawn on the CPU, so that every device gets the same numbers
            value.data.copy_(nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator))
    return adapted


def merged(adapted: Any) -> nn.Module:
    """Returns the dense model with its low-rank updates added to the weights."""
    return adapted.merge_and_unload()
