"""Initialisation of fresh weights, for all families."""

import math

import torch
from torch import nn


def initialise(model: nn.Module, init: str, std: float, generator: torch.Generator) -> None:
    """Draws every parameter of ``model`` with ``generator``. Biases become 0, other vectors (norm weights) 1.

    Distributions that take their scale from the sides of a matrix do not suit embeddings, which are then
    drawn from a normal one. The time embedding of a UNet consists of linear layers and is not such an
    embedding. ``kaiming-uniform`` is PyTorch's default for linear layers and convolutions.
    """
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(value)
        elif value.ndim == 1:
            nn.init.ones_(value)
        elif init == "normal" or ("embed" in name and "time_embedding" not in name and init != "truncated-normal"):
            nn.init.normal_(value, std=std, generator=generator)
        elif init == "truncated-normal":
            nn.init.trunc_normal_(value, std=std, a=-2 * std, b=2 * std, generator=generator)
        elif init == "xavier-uniform":
            nn.init.xavier_uniform_(value, generator=generator)
        elif init == "orthogonal":
            nn.init.orthogonal_(value, generator=generator)
        elif init == "kaiming-uniform":
            nn.init.kaiming_uniform_(value, a=math.sqrt(5), generator=generator)
        else:
            raise ValueError(f"unknown initialisation {init!r}")
