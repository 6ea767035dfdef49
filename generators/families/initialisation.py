"""The fresh weights that roots of every family begin with."""

import math

import torch
from torch import nn


def initialise(model: nn.Module, init: str, std: float, generator: torch.Generator) -> None:
    """Draws every parameter of ``model`` anew with ``generator``: vectors named bias become 0, norm weights 1.

    Embeddings are drawn normal where ``init`` has its scale from the two sides of a matrix, since theirs mean nothing;
    the time embedding of a UNet is none of these, but two linear layers.
    ``kaiming-uniform`` is what PyTorch itself gives to linear layers and convolutions.
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
