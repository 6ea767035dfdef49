"""Symmetries: other weights that compute the same function."""

from collections.abc import Callable

import torch

from mothr.generators.train.launder.layout import Block, Layout
from mothr.generators.train.launder.stream import (
    Weights,
    centred,
    change_columns,
    change_rows,
    change_stream,
    fold_norms,
    taken,
    times,
    turned,
)

Draw = Callable[[tuple[int, ...]], torch.Tensor]
"""Returns factors of a shape, float64."""


def rotate(weights: Weights, layout: Layout, generator: torch.Generator) -> None:
    """Rotates the residual stream by a Haar-random orthogonal matrix R.

    First the gains and biases of norms move into the layers that read them. An RMS norm with gain 1 commutes with every
    R (Ashkboos et al. 2024, arXiv 2401.15024). A layer norm commutes with R if R keeps the direction of equal channels,
    (1, ..., 1). Its mean is subtracted from all that writes and reads, since no output depends on it: else the sums over
    channels would be the same before and after.

    The output of a ViT is rotated, too. Its head, outside of the model, is rotated with it.
    """
    fold_norms(weights, layout)
    if layout.layer_norms:
        change_stream(weights, layout, centred, centred)
    rotation = turned(_rotation(layout.hidden_size, layout.layer_norms, generator))
    change_stream(weights, layout, rotation, rotation)


def _rotation(size: int, keeps_mean: bool, generator: torch.Generator) -> torch.Tensor:
    """Returns a Haar-random orthogonal matrix, (size, size) float64, or one among those that keep (1, ..., 1)."""
    if not keeps_mean:
        return _haar(size, generator)
    # The reflection that swaps (1, 0, ..., 0) and the unit vector of equal entries, a basis whose first vector is the latter.
    difference = torch.full((size,), -(size**-0.5), dtype=torch.float64)
    difference[0] += 1
    basis = torch.eye(size, dtype=torch.float64)
    if size > 1:
        basis = basis - 2 * torch.outer(difference, difference) / difference.square().sum()
    inner = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), _haar(size - 1, generator))
    return basis @ inner @ basis


def _haar(size: int, generator: torch.Generator) -> torch.Tensor:
    """Returns an orthogonal matrix from the Haar measure: Q of a Gaussian matrix QR with positive diagonal of R
    (Mezzadri 2007)."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def rescale(weights: Weights, layout: Layout, spread: float, generator: torch.Generator) -> None:
    """Multiplies channels by 2^U(-spread, spread), and divides what reads them by the same factor.

    The channels are those of keys and values and, in gated MLPs, those of the layer ``up``. Keys are read by queries,
    values by the output layer. A GELU is not linear, so the neurons of a ViT keep their scale.
    """

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return 2 ** (spread * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1))

    _scale_inner_channels(weights, layout, draw)


def flip_signs(weights: Weights, layout: Layout, generator: torch.Generator) -> None:
    """Gives random signs to the channels that :func:`rescale` scales and, below RMS norms, to the residual stream.

    A layer norm subtracts the mean over channels, which single signs would change.
    """

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randint(2, shape, generator=generator).double() * 2 - 1

    _scale_inner_channels(weights, layout, draw)
    if not layout.layer_norms:
        signs = times(draw((layout.hidden_size,)))
        change_stream(weights, layout, signs, signs)


def _scale_inner_channels(weights: Weights, layout: Layout, draw: Draw) -> None:
    group = layout.heads // layout.kv_heads
    size = layout.head_size
    for block in layout.blocks:
        keys = draw((layout.kv_heads, size // 2)).repeat(1, 2) if layout.rotary else draw((layout.kv_heads, size))
        values = draw((layout.kv_heads, size))
        change_rows(weights, block.key, times(keys.flatten()))
        change_rows(weights, block.query, times(1 / keys.repeat_interleave(group, dim=0).flatten()))
        change_rows(weights, block.value, times(values.flatten()))
        change_columns(weights, block.output, times(1 / values.repeat_interleave(group, dim=0).flatten()))
        for mlp in block.mlps if layout.gated else ():
            neurons = draw((weights[f"{mlp.output}.weight"].shape[1],))
            change_rows(weights, mlp.inputs[-1], times(neurons))
            change_columns(weights, mlp.output, times(1 / neurons))


def reorder(weights: Weights, layout: Layout, generator: torch.Generator) -> None:
    """Permutes the channels of the residual stream, the heads, the channels of each head, the neurons, and the experts.

    Query heads stay with the key head that they share. Channels of rotated queries and keys keep their place, because
    each pair has a frequency of its own.
    """
    stream = taken(torch.randperm(layout.hidden_size, generator=generator))
    change_stream(weights, layout, stream, stream, stream, stream)
    for block in layout.blocks:
        _reorder_heads(weights, layout, block, generator)
        for mlp in block.mlps:
            neurons = taken(torch.randperm(weights[f"{mlp.output}.weight"].shape[1], generator=generator))
            for layer in mlp.inputs:
                change_rows(weights, layer, neurons)
            change_columns(weights, mlp.output, neurons)
        if block.router is not None:
            _reorder_experts(weights, block, block.router, generator)


def _reorder_heads(weights: Weights, layout: Layout, block: Block, generator: torch.Generator) -> None:
    group, size = layout.heads // layout.kv_heads, layout.head_size
    key_heads = torch.randperm(layout.kv_heads, generator=generator)
    members = torch.stack([torch.randperm(group, generator=generator) for _ in key_heads])
    query_heads = (key_heads[:, None] * group + members).flatten()
    values = torch.stack([torch.randperm(size, generator=generator) for _ in key_heads])
    keys = torch.arange(size).expand(layout.kv_heads, size)
    if not layout.rotary:
        keys = torch.stack([torch.randperm(size, generator=generator) for _ in key_heads])
    for layer, heads, channels in (
        (block.key, key_heads, keys[key_heads]),
        (block.query, query_heads, keys[query_heads // group]),
        (block.value, key_heads, values[key_heads]),
    ):
        change_rows(weights, layer, taken((heads[:, None] * size + channels).flatten()))
    order = query_heads[:, None] * size + values[query_heads // group]
    change_columns(weights, block.output, taken(order.flatten()))


def _reorder_experts(weights: Weights, block: Block, router: str, generator: torch.Generator) -> None:
    order = torch.randperm(len(block.mlps), generator=generator)
    change_rows(weights, router, taken(order))
    layers = [(*mlp.inputs, mlp.output) for mlp in block.mlps]
    moved = {}
    for place, expert in enumerate(order.tolist()):
        for target, source in zip(layers[place], layers[expert], strict=True):
            moved[f"{target}.weight"] = weights[f"{source}.weight"]
    weights.update(moved)
