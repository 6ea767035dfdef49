"""A fresh initialisation for tensors of any shape, and how far models are from it."""

import math
import zlib

import numpy as np
import torch

from mothr.benchmark.weights.combine import Array

SPREAD = 0.02
"""Standard deviation of new matrices in transformers (``initializer_range`` of ViT, Llama, BERT and GPT)."""


def initialised(shape: tuple[int, ...]) -> torch.Tensor:
    """Returns a new tensor (*shape) float64, the same each time that this shape is asked for.

    As transformers and diffusers make them by default: a matrix is Gaussian of standard deviation SPREAD; a kernel of three
    or more sides is uniform within one over the root of its fan-in, as torch has it. A vector is zeros here; see
    :func:`distance_to_init`. Families that begin otherwise (diffusers' linear layers are uniform, too) are not told apart,
    since a tensor's shape does not say what it belongs to.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(str(tuple(shape)).encode()))
    sides = [side for side in shape if side > 1]
    if len(sides) < 2:
        return torch.zeros(shape, dtype=torch.float64)
    if len(sides) == 2:
        return SPREAD * torch.randn(shape, generator=generator, dtype=torch.float64)
    return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) / math.sqrt(math.prod(shape[1:]))


def distance_to_init(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    """Returns the squared distance |w - w_0|^2 to a fresh initialisation, (k,) (Neural Phylogeny, Yu and Wang, ICLR 2025).

    The fake initialisation w_0 is that of :func:`initialised`; a vector begins as zeros (biases) or ones (scales of
    normalisation), and the nearer of the two is meant. Squares, so that their sum over tensors is that of the whole model.
    w_0 is drawn anew, not the one that training began with, so it is orthogonal to any weights but for chance: beside a
    constant what is left is the squared norm.
    """
    fresh = initialised(tuple(stack.shape[1:]))
    vector = sum(side > 1 for side in stack.shape[1:]) < 2
    found = [
        min(float((row.double() - start).square().sum()) for start in ((fresh, fresh + 1) if vector else (fresh,)))
        for row in stack
    ]
    return np.array(found)
