"""Launders one model: weights and sizes of a source -> weights and sizes of a copy that hides where it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from mothr.benchmark.errors import MothrError
from mothr.generators.families import FAMILIES
from mothr.generators.train.launder import depth, edits, mixing, symmetry, width
from mothr.generators.train.launder.layout import HEAD, Layout, layout_of
from mothr.generators.train.launder.stream import Weights
from mothr.generators.train.merges import rounded_to
from mothr.generators.values.laundered_sizes import result_model
from mothr.generators.values.laundering import (
    AllSymmetries,
    AnyLaundering,
    BlocksAdded,
    BlocksDropped,
    BlocksRepeated,
    Decoy,
    Diluted,
    DummyNeurons,
    NoiseAdded,
    Projected,
    Reordered,
    Rescaled,
    Rotated,
    RowChanged,
    SignFlipped,
    Upcycled,
    VocabularyReplaced,
    Widened,
)


@dataclass(frozen=True, slots=True)
class Laundered:
    """A laundered model."""

    weights: dict[str, torch.Tensor]
    """The tensors as in ``model.safetensors``."""
    model: dict[str, Any]
    """The ``[model]`` table of the result."""
    head: dict[str, torch.Tensor]
    """The heads of its objective; empty if the family has none."""
    fixed: tuple[str, ...] = ()
    """Names of the tensors in ``weights`` that a training must not change: those that a decoy shares with its source."""


def launder(
    spec: AnyLaundering,
    family_name: str,
    model: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    head: Mapping[str, torch.Tensor],
    generator: torch.Generator,
    other: Mapping[str, torch.Tensor] | None = None,
) -> Laundered:
    """Returns the model that ``spec`` makes of a source. The arguments stay unchanged.

    Arithmetic is in float64, and each result is rounded once: to the precision of its source, but at least to float32.

    Args:
        spec: What is done.
        family_name: Name of the family in recipes: ``vit`` or ``llama``.
        model: The source's ``[model]`` table.
        weights: The source's tensors, as in ``model.safetensors``.
        head: The heads of the source's objective, ``weight`` and ``bias``; empty for a family without heads. Where the
            model's output changes, the result's head is changed with it.
        generator: Generator of all draws.
        other: For ``diluted``, the tensors of a model of the same sizes.

    Raises:
        ValueError: the family has no such kind, or a size would not be possible.
        MothrError: a tensor is absent, of another shape, not finite or not of floating point, or ``other`` is absent
            or of other sizes.
    """
    sizes = result_model(spec, family_name, model)
    work: Weights = {name: _checked(name, tensor, spec) for name, tensor in weights.items()}
    heads = {name: _checked(f"head.{name}", tensor, spec) for name, tensor in head.items()}
    fixed: tuple[str, ...] = ()
    layout = _layout(spec, family_name, model, sizes, work, heads)
    if isinstance(spec, Diluted):
        if other is None:
            raise MothrError("diluted: needs the weights of a second model of the same sizes; give them as other")
        mixing.dilute(work, {name: _checked(name, tensor, spec) for name, tensor in other.items()}, spec.share)
    elif isinstance(spec, Decoy):
        fixed = mixing.make_decoy(work, layout, spec, FAMILIES[family_name](**model), generator)
        heads = mixing.fresh_heads(heads, generator)
    else:
        work |= {f"{HEAD}.{name}": tensor for name, tensor in heads.items()}
        _CHANGES[type(spec)](work, layout, spec, generator)
        heads = {name: work.pop(f"{HEAD}.{name}") for name in heads}
    dtypes = {tensor.dtype for tensor in weights.values()}
    dtype = torch.float64 if torch.float64 in dtypes else torch.float32
    return Laundered(
        {name: rounded_to(name, tensor, dtype) for name, tensor in work.items()},
        sizes,
        {name: rounded_to(f"head.{name}", tensor, dtype) for name, tensor in heads.items()},
        fixed,
    )


def _checked(name: str, tensor: torch.Tensor, spec: AnyLaundering) -> torch.Tensor:
    """Returns ``tensor`` in float64.

    Raises:
        MothrError: it is not of floating point, or holds NaN or infinite values.
    """
    if not tensor.is_floating_point():
        raise MothrError(f"{spec.kind}: tensor {name!r} holds integers; read the model as floating point first")
    if not torch.isfinite(tensor).all():
        raise MothrError(
            f"{spec.kind}: tensor {name!r} holds NaN or infinite values; launder models with finite weights only"
        )
    return tensor.double()


def _layout(
    spec: AnyLaundering,
    family_name: str,
    model: Mapping[str, Any],
    sizes: Mapping[str, Any],
    weights: Weights,
    heads: Weights,
) -> Layout:
    """Returns the layout of the source; unties its head in ``weights`` if the result has an untied one.

    Raises:
        MothrError: a tensor is absent or does not fit the sizes, or a ViT whose output changes has no head.
    """
    layout = layout_of(family_name, model)
    if layout.head == HEAD and not heads:
        if isinstance(spec, _CHANGES_OUTPUT) and (not isinstance(spec, Widened) or spec.part == "all"):
            raise MothrError(
                f"{spec.kind}: changes the output of a ViT, so the head must change with it; give the head of the source"
            )
        layout = replace(layout, head=None)
    for name, axis, size in layout.axes(model["mlp_size"]):
        shape = tuple(weights[name].shape) if name in weights else None
        if name == f"{HEAD}.weight" and "weight" in heads:
            shape = tuple(heads["weight"].shape)
        if shape is None or len(shape) <= axis or shape[axis] != size:
            text = "is absent" if shape is None else f"has shape {shape}"
            raise MothrError(
                f"{spec.kind}: tensor {name!r} {text}, but the sizes of the model ask for {size} on axis {axis}; "
                "give the [model] table of the source"
            )
    if model.get("tied") and not sizes.get("tied"):
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
        layout = layout_of(family_name, sizes)
    return layout


def _all_symmetries(weights: Weights, layout: Layout, spec: AllSymmetries, generator: torch.Generator) -> None:
    symmetry.rotate(weights, layout, generator)
    symmetry.rescale(weights, layout, spec.spread, generator)
    symmetry.flip_signs(weights, layout, generator)
    symmetry.reorder(weights, layout, generator)


_CHANGES_OUTPUT = (Rotated, Reordered, AllSymmetries, Widened)
"""Kinds that change the output of a ViT, so that its head must change with it; ``Widened`` with part = "all" only."""
_CHANGES: dict[type[Any], Callable[[Weights, Layout, Any, torch.Generator], None]] = {
    Rotated: lambda weights, layout, spec, generator: symmetry.rotate(weights, layout, generator),
    Rescaled: lambda weights, layout, spec, generator: symmetry.rescale(weights, layout, spec.spread, generator),
    SignFlipped: lambda weights, layout, spec, generator: symmetry.flip_signs(weights, layout, generator),
    Reordered: lambda weights, layout, spec, generator: symmetry.reorder(weights, layout, generator),
    AllSymmetries: _all_symmetries,
    DummyNeurons: width.add_dummy_neurons,
    Widened: width.widen,
    BlocksRepeated: lambda weights, layout, spec, generator: depth.repeat_blocks(weights, layout, spec.fraction),
    BlocksAdded: lambda weights, layout, spec, generator: depth.add_blocks(weights, layout, spec.fraction),
    BlocksDropped: lambda weights, layout, spec, generator: depth.drop_blocks(
        weights, layout, spec.fraction, generator
    ),
    Upcycled: lambda weights, layout, spec, generator: depth.upcycle(weights, layout, spec.experts, generator),
    Projected: edits.project,
    RowChanged: lambda weights, layout, spec, generator: edits.change_row(weights, layout, generator),
    VocabularyReplaced: lambda weights, layout, spec, generator: edits.replace_vocabulary(
        weights, layout, spec.fraction, generator
    ),
    NoiseAdded: lambda weights, layout, spec, generator: edits.add_noise(weights, spec.level, generator),
}
"""The change that each kind makes in place to float64 weights; a head of a ViT is among these as ``head``."""
