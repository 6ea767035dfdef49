"""Mixtures of two models: a source diluted with a stranger, and a stranger that shares tensors with a source."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from mothr.benchmark.errors import MothrError
from mothr.generators.families import Family
from mothr.generators.train.launder.layout import Layout
from mothr.generators.train.launder.stream import Weights
from mothr.generators.values.laundering import Decoy

HEAD_STD = 0.02
"""Standard deviation of fresh heads, as in the objectives of this package."""

PARAMETERS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.attention\.(query|key|value)\.", lambda match: f".attention.{match[1][0]}_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.block_sparse_moe\.gate\.", ".mlp.gate."),
    (r"\.block_sparse_moe\.experts\.\d+\.w[13]\.weight$", ".mlp.experts.gate_up_proj"),
    (r"\.block_sparse_moe\.experts\.\d+\.w2\.weight$", ".mlp.experts.down_proj"),
)
"""Patterns in the names of stored tensors, and what stands in their place in the names of transformers' parameters."""


def dilute(weights: Weights, other: Mapping[str, torch.Tensor], share: float) -> None:
    """Replaces each tensor w of a model by (1 - share) w + share w', where w' is that of ``other``, in float64.

    Raises:
        MothrError: the other model has other tensors.
    """
    for name in sorted(weights.keys() | other.keys()):
        shapes = [tuple(model[name].shape) if name in model else None for model in (weights, other)]
        if shapes[0] != shapes[1]:
            texts = ["is absent" if shape is None else f"has shape {shape}" for shape in shapes]
            raise MothrError(
                f"diluted: tensor {name!r} {texts[0]} in the source and {texts[1]} in the other model; choose one of equal sizes"
            )
        weights[name] = (1 - share) * weights[name] + share * other[name]


def make_decoy(
    weights: Weights, layout: Layout, spec: Decoy, family: Family, generator: torch.Generator
) -> tuple[str, ...]:
    """Replaces all tensors but the shared ones by those of a fresh model; returns the names of the shared ones."""
    shared = tuple(sorted(name for name in weights if _is_shared(name, layout, spec)))
    with tempfile.TemporaryDirectory() as folder:  # a model's names in files differ from those of its parameters
        family.save(family.build(spec.init, spec.init_std, generator), Path(folder))
        fresh = load_file(Path(folder) / "model.safetensors")
    for name, tensor in fresh.items():
        if name not in shared:
            weights[name] = tensor.double()
    return shared


def fresh_heads(heads: Mapping[str, torch.Tensor], generator: torch.Generator) -> Weights:
    """Returns fresh heads of the same shapes: normal weights, biases 0."""
    fresh = {name: torch.zeros_like(tensor) for name, tensor in sorted(heads.items())}
    if "weight" in fresh:
        fresh["weight"].normal_(std=HEAD_STD, generator=generator)
    return fresh


def freeze(network: nn.Module, fixed: Sequence[str]) -> None:
    """Stops the training of the parameters of ``network`` that hold the tensors ``fixed`` of its file.

    Raises:
        MothrError: no parameter holds one of these tensors.
    """
    missing = set(fixed)
    for name, value in network.named_parameters():
        held = {stored for stored in fixed if _parameter(stored) == name}
        if held:
            value.requires_grad_(False)
            missing -= held
    if missing:
        raise MothrError(
            f"decoy: no parameter of the model holds the tensor {min(missing)!r}; give the decoy's own model"
        )


def _parameter(stored: str) -> str:
    """Returns the name of the parameter that holds the tensor ``stored`` of a file."""
    for pattern, replacement in PARAMETERS:
        stored = re.sub(pattern, replacement, stored)
    return stored


def _is_shared(name: str, layout: Layout, spec: Decoy) -> bool:
    """Returns whether a decoy keeps the tensor ``name`` of its source."""
    if spec.shared == "embeddings":
        return name in {embedding for embedding, _ in layout.embeddings}
    if spec.shared == "first-block":
        return name.startswith(layout.blocks[0].prefix)
    return name.rpartition(".")[0] in {norm for norm, _ in layout.norms()}
