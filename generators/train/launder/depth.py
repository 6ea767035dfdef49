"""Deeper and shallower models, and mixtures of experts."""

from collections.abc import Iterator, Sequence

import torch

from mothr.generators.train.launder.layout import Layout, expert_mlp
from mothr.generators.train.launder.stream import Weights
from mothr.generators.values.laundered_sizes import blocks_of

ROUTER_STD = 0.02
"""Standard deviation of fresh routers, as in transformers' MixtralConfig."""


def repeat_blocks(weights: Weights, layout: Layout, fraction: float) -> None:
    """Lets the middle blocks occur twice: the first blocks, to beyond the middle, are followed by the last blocks, from
    before the middle.

    With n blocks and k repeated ones these are the first and the last (n + k) / 2 blocks, as in depth up-scaling
    (Kim et al. 2023).
    """
    layers = len(layout.blocks)
    repeated = blocks_of(fraction, layers)
    first = (layers + repeated + 1) // 2
    arrange_blocks(weights, layout, [*range(first), *range(first - repeated, layers)])


def add_blocks(weights: Weights, layout: Layout, fraction: float) -> None:
    """Adds copies of blocks whose output layers are zero, each behind its source; the sources are evenly spaced, and the
    last block is among them (Wu et al. 2024)."""
    layers = len(layout.blocks)
    new = blocks_of(fraction, layers)
    copied = {(number + 1) * layers // new - 1 for number in range(new)}
    order: list[int] = []
    added = []
    for block in range(layers):
        order.append(block)
        if block in copied:
            added.append(len(order))
            order.append(block)
    arrange_blocks(weights, layout, order)
    old = layout.blocks[0].prefix
    for place in added:
        prefix = _numbered(old, place)
        for layer in (layout.blocks[0].output, *(mlp.output for mlp in layout.blocks[0].mlps)):
            for name in (f"{layer}.weight", f"{layer}.bias"):
                if name in weights:
                    target = name.replace(old, prefix, 1)
                    weights[target] = torch.zeros_like(weights[target])


def drop_blocks(weights: Weights, layout: Layout, fraction: float, generator: torch.Generator) -> None:
    """Leaves out random blocks."""
    layers = len(layout.blocks)
    dropped = set(torch.randperm(layers, generator=generator)[: blocks_of(fraction, layers)].tolist())
    arrange_blocks(weights, layout, [block for block in range(layers) if block not in dropped])


def arrange_blocks(weights: Weights, layout: Layout, order: Sequence[int]) -> None:
    """Puts block ``order[j]`` at place j."""
    blocks = [dict(_of_block(weights, block.prefix)) for block in layout.blocks]
    for block, tensors in zip(layout.blocks, blocks, strict=True):
        for name in tensors:
            del weights[block.prefix + name]
    for place, number in enumerate(order):
        prefix = _numbered(layout.blocks[0].prefix, place)
        weights.update({prefix + name: tensor.clone() for name, tensor in blocks[number].items()})


def _of_block(weights: Weights, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in weights.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), tensor


def _numbered(first: str, number: int) -> str:
    """Returns the prefix of block ``number``, from that of block 0."""
    return f"{first.removesuffix('0.')}{number}."


def upcycle(weights: Weights, layout: Layout, experts: int, generator: torch.Generator) -> None:
    """Replaces each MLP by a mixture of experts, all equal to it, and a router with normal weights."""
    for block in layout.blocks:
        (mlp,) = block.mlps
        tensors = [weights.pop(f"{layer}.weight") for layer in (*mlp.inputs, mlp.output)]
        for expert in range(experts):
            target = expert_mlp(block.prefix, expert)
            for layer, tensor in zip((*target.inputs, target.output), tensors, strict=True):
                weights[f"{layer}.weight"] = tensor.clone()
        router = torch.randn(experts, layout.hidden_size, generator=generator, dtype=torch.float64)
        weights[f"{block.prefix}block_sparse_moe.gate.weight"] = ROUTER_STD * router
