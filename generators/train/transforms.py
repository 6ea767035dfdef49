"""Transforms weights without training: merges, quantized, pruned, noised and permuted copies, and duplicates.
 Weights are state dicts as in safetensors files. Every function returns a new dict of contiguous tensors and
does not change its arguments. Arithmetic is in float64. Results have the precision of their source, unless
they are quantized.
"""

from collections.abc import Sequence

import torch

from mothr.benchmark.errors import MothrError
from mothr.generators.train.merges import Weights, merged, rounded_to
from mothr.generators.values.symmetry import Symmetry
from mothr.generators.values.transforms import (
    AnyTransform,
    Distil,
    Duplicate,
    Merge,
    Noise,
    Permute,
    Precision,
    Prune,
    Quantize,
    Storage,
)


def transform(
    spec: AnyTransform,
    sources: Sequence[Weights],
    *,
    generator: torch.Generator,
    base: Weights | None = None,
    mixing: Sequence[float] = (),
    symmetries: Sequence[Symmetry] = (),
) -> dict[str, torch.Tensor]:
    """Returns the weights that the transform ``spec`` makes of ``sources``.

    Args:
        spec: The transform.
        sources: The models that are merged, or the one model that is copied.
        generator: Generator of noise, permutations and dropped entries.
        base: For TIES and DARE, the nearest common ancestor of ``sources``.
        mixing: For a merge, one weight per source.
        symmetries: For a permutation, the symmetries of the family.

    Raises:
        MothrError: a weight is NaN or infinite, the models have different architectures, or a weight is too
            large for the precision.
    """
    for weights in [*sources, *([base] if base is not None else [])]:
        for name, tensor in weights.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise MothrError(
                    f"tensor {name!r} holds NaN or infinite values; {spec.kind} models are made from finite ones only"
                )
    if isinstance(spec, Merge):
        return merged(sources, spec.method, mixing, base, spec.density, generator)
    if len(sources) != 1:
        raise MothrError(f"{spec.kind}: given {len(sources)} models; it is made from exactly one")
    match spec:
        case Quantize():
            return quantized(sources[0], spec.precision, spec.stored)
        case Prune():
            return pruned(sources[0], spec.share)
        case Noise():
            return noised(sources[0], spec.level, generator)
        case Permute():
            return permuted(sources[0], symmetries, generator)
        case Duplicate():
            return {name: _copy(tensor) for name, tensor in sources[0].items()}
        case Distil():
            raise MothrError("distilled: a student is trained, not made from its teacher's weights; give it a training")


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _is_matrix(tensor: torch.Tensor) -> bool:
    """Returns whether a tensor is a matrix or kernel: at least two sides are longer than 1. A class token (1,
    1, n) is a vector."""
    return tensor.is_floating_point() and sum(side > 1 for side in tensor.shape) >= 2


def quantized(weights: Weights, precision: Precision, stored: Storage = "as-is") -> dict[str, torch.Tensor]:
    """Returns ``weights`` rounded to ``precision``, stored as they are or in floating point.

    Integer quantization is symmetric: a number is a scale times an integer in -127..127 (int8) or -7..7
    (int4). Each channel of axis 0 has one scale: its largest magnitude divided by 127 or 7. Stored as it is,
    an int8 matrix (channels, ...) is followed by its float32 scales ``<name>_scale`` of shape (channels, 1,
    ...), as in compressed-tensors.

    Raises:
        MothrError: a magnitude is above the largest number of a 16-bit precision, or safetensors cannot store
            the precision as it is.
    """
    if precision == "int4" and stored == "as-is":
        raise MothrError("safetensors has no 4-bit integers; choose stored = 'float16' or 'float32'")
    result = {}
    for name, tensor in weights.items():
        rounded = _copy(tensor)
        if not tensor.is_floating_point():
            result[name] = rounded
            continue
        if precision in ("float16", "bfloat16"):
            rounded = rounded_to(name, tensor, getattr(torch, precision))
        elif _is_matrix(tensor):
            integers, scale = _quantization_steps(tensor, 127 if precision == "int8" else 7)
            if stored == "as-is":
                result |= {name: integers.to(torch.int8).contiguous(), f"{name}_scale": scale.contiguous()}
                continue
            rounded = integers * scale
        result[name] = rounded if stored == "as-is" else rounded_to(name, rounded, getattr(torch, stored))
    return result


def _quantization_steps(tensor: torch.Tensor, largest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the integers in -largest..largest nearest to ``tensor`` / scale, and the scales (channels, 1,
    ...), both float32."""
    matrix = tensor.float()
    scale = matrix.abs().amax(dim=tuple(range(1, matrix.ndim)), keepdim=True) / largest
    scale[scale < torch.finfo(torch.float32).tiny] = (
        1.0  # a channel of zeros, or of numbers that are too small for a scale
    )
    return (matrix / scale).round().clamp(-largest, largest), scale


def pruned(weights: Weights, share: float) -> dict[str, torch.Tensor]:
    """Returns ``weights`` with the round(share x size) smallest magnitudes of each matrix set to zero.
    Vectors are unchanged."""
    result = {name: _copy(tensor) for name, tensor in weights.items()}
    for tensor in result.values():
        if _is_matrix(tensor):
            smallest = tensor.abs().flatten().argsort(stable=True)[: round(share * tensor.numel())]
            tensor.view(-1)[smallest] = 0
    return result


def noised(weights: Weights, level: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Returns ``weights`` plus Gaussian noise with ``level`` times the standard deviation of each tensor."""
    result = {name: _copy(tensor) for name, tensor in weights.items()}
    for name in sorted(result):  # so that the draw does not depend on the order of the dict
        tensor = result[name]
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            result[name] = rounded_to(
                name, tensor.double() + level * tensor.double().std(correction=0) * noise, tensor.dtype
            )
    return result


def permuted(weights: Weights, symmetries: Sequence[Symmetry], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Returns ``weights`` with the blocks of each symmetry in a random order that differs from the present one.

    Raises:
        MothrError: there is nothing to permute, or a symmetry names an absent tensor or an axis that cannot
            be cut into its blocks.
    """
    symmetries = [symmetry for symmetry in symmetries if symmetry.blocks > 1]
    if not symmetries:
        raise MothrError("permuted: this family of models has no symmetries; remove this kind from the recipe")
    result = {name: _copy(tensor) for name, tensor in weights.items()}
    for symmetry in symmetries:
        starts = range(0, symmetry.segments * symmetry.blocks, symmetry.blocks)
        order = torch.cat([start + _random_order(symmetry.blocks, generator) for start in starts])
        for name, axis in symmetry.axes:
            if name not in result:
                raise MothrError(
                    f"tensor {name!r}: a symmetry names it, but the model does not have it; these are weights of another family"
                )
            tensor = result[name]
            if tensor.shape[axis] % len(order):
                raise MothrError(
                    f"tensor {name!r} of shape {tuple(tensor.shape)}: axis {axis} cannot be cut into {len(order)} equal blocks; "
                    "the symmetry belongs to another configuration"
                )
            blocks = tensor.unflatten(axis, (len(order), -1))
            result[name] = blocks.index_select(axis, order).flatten(axis, axis + 1).contiguous()
    return result


def _random_order(size: int, generator: torch.Generator) -> torch.Tensor:
    """Returns a random permutation, (size,) int64. All permutations except the identity have equal
    probability."""
    while True:
        order = torch.randperm(size, generator=generator)
        if not torch.equal(order, torch.arange(size)):
            return order
