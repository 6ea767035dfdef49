"""Llamas whose MLPs are mixtures of experts (``MixtralForCausalLM`` of transformers), for the field ``experts`` of the
family ``llama``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mothr.generators.families.initialisation import initialise
from mothr.generators.values.symmetry import Symmetry

READ_BY = 2
"""Number of experts that each token uses, as in Mixtral (arXiv 2401.04088). Their weights are divided by their sum."""
ROTARY_BASE = 10_000.0
"""Base of the rotary frequencies, as in the Llamas of this package; Mixtral's own is 10^6."""
EPSILON = 1e-6
"""Constant of the RMS norms, as in the Llamas of this package; Mixtral's own is 1e-5."""
EXPERTS_IMPLEMENTATION = "eager"
"""The experts run one after another. It is as fast as the grouped product in small models, and has deterministic bytes."""


def build(settings: Mapping[str, Any], experts: int, init: str, std: float, generator: torch.Generator) -> nn.Module:
    """Returns a fresh model with ``experts`` experts in each block.

    Args:
        settings: The arguments of ``LlamaConfig`` that describe the same model with one MLP in each block.
        experts: Number of experts in each block.
        init: Distribution of the matrices; each matrix of each expert is drawn on its own.
        std: Standard deviation of the two normal distributions.
        generator: Generator of all draws.
    """
    from transformers import MixtralConfig, MixtralForCausalLM  # takes seconds, and most commands build no model

    rotary = {"rope_type": "default", "rope_theta": ROTARY_BASE}
    config = MixtralConfig(
        **settings,
        num_local_experts=experts,
        num_experts_per_tok=READ_BY,
        rope_parameters=rotary,
        rms_norm_eps=EPSILON,
        experts_implementation=EXPERTS_IMPLEMENTATION,
    )
    model = MixtralForCausalLM(config)
    initialise(model, init, std, generator)
    for name, value in model.named_parameters():
        if value.ndim == 3:  # all experts in one tensor, gate and up in one matrix
            parts = value.data.chunk(2, dim=1) if name.endswith("gate_up_proj") else (value.data,)
            matrices = [part[expert] for expert in range(experts) for part in parts]
            initialise(nn.ParameterList([nn.Parameter(matrix) for matrix in matrices]), init, std, generator)
    return model


def load(folder: Path) -> nn.Module:
    """Returns the model stored in ``folder``."""
    from transformers import MixtralForCausalLM

    return MixtralForCausalLM.from_pretrained(
        folder, dtype=torch.float32, experts_implementation=EXPERTS_IMPLEMENTATION
    )


def mlp_symmetries(block: str, experts: int, neurons: int) -> Sequence[Symmetry]:
    """Returns one symmetry per expert of the block with this prefix: of its hidden neurons. Names are those in the
    files."""
    symmetries = []
    for expert in range(experts):
        gate, down, up = (f"{block}.block_sparse_moe.experts.{expert}.w{number}.weight" for number in (1, 2, 3))
        symmetries.append(Symmetry(neurons, ((gate, 0), (up, 0), (down, 1))))
    return symmetries
