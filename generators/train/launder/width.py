"""Wider models: dummy neurons, and wider layers that compute the same function."""

import math

import torch

from mothr.generators.train.launder.layout import Layout, Mlp
from mothr.generators.train.launder.stream import (
    Change,
    Weights,
    change_columns,
    change_rows,
    change_stream,
    taken,
    taken_times,
    times,
)
from mothr.generators.values.laundered_sizes import new_neurons
from mothr.generators.values.laundering import DummyNeurons, Widened


def add_dummy_neurons(weights: Weights, layout: Layout, spec: DummyNeurons, generator: torch.Generator) -> None:
    """Adds neurons to each MLP, at random places among the others. Together they add nothing to its output.

    New weights are normal, with the mean and standard deviation of the matrix or bias that they are added to.
    ``zero``: output weights are 0. ``cancelling``: two neurons have equal input weights, and output weights w and -w.
    ``split``: a new neuron has the input weights of an old one; it gets the fraction t of the output weights, with
    t from U(0.25, 0.75), and the old one keeps 1 - t.
    """
    for block in layout.blocks:
        for mlp in block.mlps:
            size = weights[f"{mlp.output}.weight"].shape[1]
            new = new_neurons(spec, size)
            _add_neurons(weights, mlp, spec.how, new, generator)
            order = torch.empty(size + new, dtype=torch.int64)
            places = torch.randperm(size + new, generator=generator)[:new]
            old = torch.ones(size + new, dtype=torch.bool)
            old[places] = False
            order[places], order[old] = torch.arange(size, size + new), torch.arange(size)
            for layer in mlp.inputs:
                change_rows(weights, layer, taken(order))
            change_columns(weights, mlp.output, taken(order))


def _add_neurons(weights: Weights, mlp: Mlp, how: str, new: int, generator: torch.Generator) -> None:
    """Appends ``new`` neurons to one MLP."""
    output = weights[f"{mlp.output}.weight"]
    size = output.shape[1]
    if how == "split":
        copied = torch.randperm(size, generator=generator)[:new]
        order = torch.cat([torch.arange(size), copied])
        for layer in mlp.inputs:
            change_rows(weights, layer, taken(order))
        share = 0.25 + 0.5 * torch.rand(new, generator=generator, dtype=torch.float64)
        kept = torch.ones(size, dtype=torch.float64)
        kept[copied] = 1 - share
        change_columns(weights, mlp.output, taken_times(order, torch.cat([kept, share])))
        return
    pairs = how == "cancelling"

    def extended(tensor: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns ``tensor`` with random rows appended; a pair of neurons has equal rows."""
        rows = drawn_like(tensor, (new // 2 if pairs else new, *tensor.shape[1:]), generator)
        return torch.cat([tensor, rows, rows] if pairs else [tensor, rows])

    for layer in mlp.inputs:
        change_rows(weights, layer, extended)
    columns = torch.zeros(len(output), new, dtype=torch.float64)
    if pairs:
        half = drawn_like(output, (len(output), new // 2), generator)
        columns = torch.cat([half, -half], dim=1)
    weights[f"{mlp.output}.weight"] = torch.cat([output, columns], dim=1)


def drawn_like(tensor: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Returns normal numbers with the mean and the standard deviation of ``tensor``, float64."""
    spread = tensor.std(correction=0)
    return tensor.mean() + spread * torch.randn(shape, generator=generator, dtype=torch.float64)


def widen(weights: Weights, layout: Layout, spec: Widened, generator: torch.Generator) -> None:
    """Widens a model without a change of its function (Net2WiderNet, Chen et al. 2016), then adds noise.

    New neurons, heads and channels are copies of old ones, drawn without replacement. What reads a neuron or head that now
    occurs m times is divided by m. Noise is added to every matrix whose shape has changed.
    """
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    for block in layout.blocks:
        for mlp in block.mlps:
            size = weights[f"{mlp.output}.weight"].shape[1]
            order, counts = _copies(size, round(spec.factor * size), generator)
            for layer in mlp.inputs:
                change_rows(weights, layer, taken(order))
            change_columns(weights, mlp.output, taken_times(order, 1 / counts[order]))
    if spec.part == "all":
        _widen_heads(weights, layout, spec.factor, generator)
        _widen_stream(weights, layout, round(spec.factor * layout.hidden_size), generator)
    if spec.noise:
        for name in sorted(weights):
            tensor = weights[name]
            if tensor.ndim > 1 and tensor.shape != shapes[name]:
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                weights[name] = tensor + spec.noise * tensor.std(correction=0) * noise


def _copies(size: int, wider: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the sources of ``wider`` places, int64 (wider,), and how often each of ``size`` sources occurs, float64.

    The first ``size`` places keep their sources. The others, at most ``size``, get different random ones.
    """
    order = torch.cat([torch.arange(size), torch.randperm(size, generator=generator)[: wider - size]])
    return order, torch.bincount(order, minlength=size).double()


def _widen_heads(weights: Weights, layout: Layout, factor: float, generator: torch.Generator) -> None:
    """Adds attention heads: copies of key heads with all their query heads or, where the number of key heads would not
    be whole, copies of query heads that share the same key head."""
    group, size = layout.heads // layout.kv_heads, layout.head_size
    for block in layout.blocks:
        if factor * layout.kv_heads % 1 == 0:
            key_heads, _ = _copies(layout.kv_heads, int(factor * layout.kv_heads), generator)
            query_heads = (key_heads[:, None] * group + torch.arange(group)).flatten()
        else:
            key_heads = torch.arange(layout.kv_heads)
            wider = int(factor * layout.heads) // layout.kv_heads
            members = torch.stack([_copies(group, wider, generator)[0] for _ in key_heads])
            query_heads = (key_heads[:, None] * group + members).flatten()
        counts = torch.bincount(query_heads, minlength=layout.heads).double()
        channels = torch.arange(size)
        keys, queries = ((heads[:, None] * size + channels).flatten() for heads in (key_heads, query_heads))
        change_rows(weights, block.query, taken(queries))
        change_rows(weights, block.key, taken(keys))
        change_rows(weights, block.value, taken(keys))
        shares = (1 / counts[query_heads]).repeat_interleave(size)
        change_columns(weights, block.output, taken_times(queries, shares))


def _widen_stream(weights: Weights, layout: Layout, wider: int, generator: torch.Generator) -> None:
    """Adds copies of channels to the residual stream.

    With c^2 = wider / hidden_size, a channel that occurs m times is written with the factor s = c / sqrt(m), so that the
    mean square over channels stays the same, and read with the factor s / c^2. If all channels occur twice, s = 1, and
    means over channels stay the same, too, as layer norms need.
    """
    order, counts = _copies(layout.hidden_size, wider, generator)
    square = wider / layout.hidden_size
    factors = math.sqrt(square) / counts[order].sqrt()
    write: Change = taken_times(order, factors)
    change_stream(weights, layout, write, taken_times(order, factors / square), taken(order), write)
    if layout.head is None:  # the head reads by the matrix of the embeddings, so the gain before it takes its factor
        gain = f"{layout.final_norm}.weight"
        weights[gain] = times(torch.full((wider,), 1 / square, dtype=torch.float64))(weights[gain], 0)
