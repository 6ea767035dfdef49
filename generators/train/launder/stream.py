"""Changes of the residual stream and of single layers, in place, on float64 weights."""

from collections.abc import Callable

import torch

from mothr.generators.train.launder.layout import Layout

Weights = dict[str, torch.Tensor]
"""Tensor name -> float64 tensor. The functions of this package change such a dict in place."""
Change = Callable[[torch.Tensor, int], torch.Tensor]
"""Receives a tensor and the axis of its channels; returns the tensor with changed channels."""


def unchanged(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """Returns ``tensor``."""
    return tensor


def change_stream(
    weights: Weights,
    layout: Layout,
    write: Change,
    read: Change,
    gain: Change = unchanged,
    shift: Change = unchanged,
) -> None:
    """Changes the channels of the residual stream wherever they occur.

    Args:
        weights: The model.
        layout: Its layers.
        write: Change of what writes to the stream: embeddings, output layers and their biases.
        read: Change of the input channels (axis 1) of layers that read a norm.
        gain: Change of the gains of norms.
        shift: Change of the biases of norms.
    """
    for name, axis in layout.embeddings:
        weights[name] = write(weights[name], axis)
    for layer in layout.writers():
        change_rows(weights, layer, write)
    for norm, readers in layout.norms():
        weights[f"{norm}.weight"] = gain(weights[f"{norm}.weight"], 0)
        if layout.layer_norms:
            weights[f"{norm}.bias"] = shift(weights[f"{norm}.bias"], 0)
        for layer in readers:
            change_columns(weights, layer, read)


def change_rows(weights: Weights, layer: str, change: Change) -> None:
    """Changes the output channels of a linear layer: the rows of its matrix, and its bias if it has one."""
    for name in (f"{layer}.weight", f"{layer}.bias"):
        if name in weights:
            weights[name] = change(weights[name], 0)


def change_columns(weights: Weights, layer: str, change: Change) -> None:
    """Changes the input channels of a linear layer: the columns of its matrix."""
    weights[f"{layer}.weight"] = change(weights[f"{layer}.weight"], 1)


def taken(order: torch.Tensor) -> Change:
    """Returns the change that puts channel ``order[j]`` at place j."""
    return lambda tensor, axis: tensor.index_select(axis, order)


def times(factors: torch.Tensor) -> Change:
    """Returns the change that multiplies channel j by ``factors[j]``."""
    return lambda tensor, axis: tensor * factors.reshape([-1 if place == axis else 1 for place in range(tensor.ndim)])


def taken_times(order: torch.Tensor, factors: torch.Tensor) -> Change:
    """Returns the change that puts channel ``order[j]``, multiplied by ``factors[j]``, at place j."""
    return lambda tensor, axis: times(factors)(taken(order)(tensor, axis), axis)


def turned(matrix: torch.Tensor) -> Change:
    """Returns the change that multiplies each vector of channels by ``matrix`` from the left."""
    return lambda tensor, axis: torch.tensordot(matrix, tensor, dims=([1], [axis])).movedim(0, axis)


def centred(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """Returns ``tensor`` minus its mean over channels."""
    return tensor - tensor.mean(dim=axis, keepdim=True)


def fold_norms(weights: Weights, layout: Layout) -> None:
    """Moves the gains and biases of all norms into the layers that read them. Gains become 1, biases 0.

    A layer with weight W and bias b that reads a norm with gain g and bias c gets weight W diag(g) and bias b + W c.
    The head must not be tied.
    """
    for norm, readers in layout.norms():
        gain = weights[f"{norm}.weight"]
        for layer in readers:
            if layout.layer_norms:
                weights[f"{layer}.bias"] = (
                    weights[f"{layer}.bias"] + weights[f"{layer}.weight"] @ weights[f"{norm}.bias"]
                )
            change_columns(weights, layer, times(gain))
        weights[f"{norm}.weight"] = torch.ones_like(gain)
        if layout.layer_norms:
            weights[f"{norm}.bias"] = torch.zeros_like(gain)
