"""A fresh initialisation of a tensor of any shape, and the distance of models from it."""

import math
import zlib

import numpy as np
import torch

from mothr.benchmark.weights.combine import Array

SPREAD = 0.02
"""Standard deviation of new matrices in transformers (``initializer_range`` of ViT, Llama, BERT and GPT)."""


def initialised(shape: tuple[int, ...]) -> torch.Tensor:
    """Returns a new tensor (*shape) float64, equal for each call with this shape.

    The distribution is the default of transformers and diffusers. A matrix is Gaussian with standard deviation SPREAD. A
    kernel of three or more sides is uniform in [-b, b] with b = 1 / sqrt(fan-in), as in torch. A vector is zero; see
    :func:`distance_to_init`. Families with another initialisation (diffusers' linear layers are uniform) are not
    distinguished, since the shape of a tensor does not say what it belongs to.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(str(tuple(shape)).encode()))
    sides = [side for side in shape if side > 1]
    if len(sides) < 2:
        return torch.zeros(shape, dtype=torch.float64)
    if len(sides) == 2:
        return SPREAD * torch.randn(shape, generator=generator, dtype=torch.float64)
    return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) / math.sqrt(math.prod(shape[1:]))


def distance_to_init(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the squared distance |w - w_0|^2 to a fresh initialisation w_0, (k,) (Neural Phylogeny, Yu and Wang, ICLR 2025).

    w_0 is that of :func:`initialised`. A vector starts as zeros (biases) or ones (scales of a normalisation); the nearer of
    the two is used. The distance is squared, so that the sum over tensors is that of the whole model. w_0 is not the
    initialisation that training started from, so it is orthogonal to the weights up to chance. Up to a constant, the score
    is therefore the squared norm |w|^2.

    Args:
        stack: (k, *shape), one tensor of k models.
        dtypes: How they are stored; not used.
    """
    fresh = initialised(tuple(stack.shape[1:]))
    vector = sum(side > 1 for side in stack.shape[1:]) < 2
    squared = [
        min(float((row.double() - start).square().sum()) for start in ((fresh, fresh + 1) if vector else (fresh,)))
        for row in stack
    ]
    return np.array(squared)
