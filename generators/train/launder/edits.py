"""Edits: a direction projected out, a row or tokens drawn anew, noise."""

import torch

from mothr.generators.train.launder.layout import HEAD, Layout
from mothr.generators.train.launder.stream import Change, Weights, change_rows
from mothr.generators.train.launder.width import drawn_like
from mothr.generators.values.laundering import Projected


def project(weights: Weights, layout: Layout, spec: Projected, generator: torch.Generator) -> None:
    """Multiplies the part along a random unit vector v of all that writes to the residual stream by 1 - strength.

    A writer with matrix W (channels, n) becomes W - a v (v^T W), with a = strength. If norms are preserved, each row
    of a matrix and each embedding is then scaled back to its former norm.
    """
    direction = torch.randn(layout.hidden_size, generator=generator, dtype=torch.float64)
    direction /= direction.norm()

    def along(tensor: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns ``tensor`` with a changed part along the direction; the channels are on ``axis``."""
        part = torch.tensordot(direction, tensor, dims=([0], [axis]))
        changed = tensor - spec.strength * torch.tensordot(direction, part, dims=0).movedim(0, axis)
        if spec.norm_preserving and tensor.ndim > 1:
            rest = list(range(1, tensor.ndim)) if axis == 0 else [axis]
            before, after = (value.square().sum(dim=rest, keepdim=True).sqrt() for value in (tensor, changed))
            changed = changed * torch.where(after > 0, before / after, 1.0)
        return changed

    write: Change = along
    for name, axis in layout.embeddings:
        weights[name] = write(weights[name], axis)
    for layer in layout.writers():
        change_rows(weights, layer, write)


def change_row(weights: Weights, layout: Layout, generator: torch.Generator) -> None:
    """Draws one row of one matrix of the blocks anew, with the mean and standard deviation of the matrix."""
    layers = list(layout.layers())
    layer = layers[int(torch.randint(len(layers), (), generator=generator))]
    matrix = weights[f"{layer}.weight"].clone()
    row = int(torch.randint(len(matrix), (), generator=generator))
    matrix[row] = drawn_like(matrix, tuple(matrix.shape[1:]), generator)
    weights[f"{layer}.weight"] = matrix


def replace_vocabulary(weights: Weights, layout: Layout, fraction: float, generator: torch.Generator) -> None:
    """Draws the rows of a random fraction of the tokens anew, at least one, in the embeddings and in an untied head.

    Each channel is normal, with the mean and standard deviation of this channel over the other tokens.
    """
    names = [name for name, _ in layout.embeddings] + ([] if layout.head is None else [f"{layout.head}.weight"])
    size = len(weights[names[0]])
    order = torch.randperm(size, generator=generator)
    new = min(max(1, round(fraction * size)), size - 1)
    for name in names:
        matrix = weights[name].clone()
        kept = matrix[order[new:]]
        noise = torch.randn(new, matrix.shape[1], generator=generator, dtype=torch.float64)
        matrix[order[:new]] = kept.mean(dim=0) + kept.std(dim=0, correction=0) * noise
        weights[name] = matrix


def add_noise(weights: Weights, level: float, generator: torch.Generator) -> None:
    """Adds Gaussian noise to all tensors but the head of a ViT, with ``level`` times the mean absolute value of each
    tensor."""
    for name in sorted(weights):
        if name.rpartition(".")[0] == HEAD:
            continue
        tensor = weights[name]
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        weights[name] = tensor + level * tensor.abs().mean() * noise
