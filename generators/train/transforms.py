"""Weights -> weights without training: merges, quantized, pruned, noised and permuted copies, duplicates.

Weights are state dicts as they lie in safetensors files. Every function returns a new dict with the same names and contiguous
tensors and leaves what it is given unchanged; arithmetic is in float64, and results are stored in the precision of their source.
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

# From weights to weights


def transform(
    spec: AnyTransform,
    sources: Sequence[Weights],
    *,
    generator: torch.Generator,
    base: Weights | None = None,
    mixing: Sequence[float] = (),
    symmetries: Sequence[Symmetry] = (),
) -> dict[str, torch.Tensor]:
    """Returns what ``spec`` makes of ``sources``.

    Args:
        spec: what to do.
        sources: the models to be merged, or the one model that is copied.
        generator: what noise and permutations are drawn from.
        base: for TIES, the nearest common ancestor of ``sources``.
        mixing: for a merge, one weight a source.
        symmetries: for a permutation, those of the family.

    Raises:
        MothrError: a weight is NaN or infinite, models do not fit together, or weights do not fit into the precision asked for.
    """
    for weights in [*sources, *([base] if base is not None else [])]:
        for name, tensor in weights.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise MothrError(
                    f"tensor {name!r} holds NaN or infinite values; {spec.kind} models are made from finite ones only"
                )
    if isinstance(spec, Merge):
        return merged(sources, spec.method, mixing, base, spec.density)
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
            raise MothrError("distilled: a student is trained, not made from its teacher's weights")


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _is_matrix(tensor: torch.Tensor) -> bool:
    """Returns whether a tensor is a matrix or a kernel; sides of one do not count, so a class token (1, 1, n) is a vector."""
    return tensor.is_floating_point() and sum(side > 1 for side in tensor.shape) >= 2


def quantized(weights: Weights, precision: Precision, stored: Storage = "as-is") -> dict[str, torch.Tensor]:
    """Returns ``weights`` rounded to ``precision``, and stored so or in floating point.

    Integers are symmetric, rounded to the nearest of -127..127 (int8) or -7..7 (int4) times a scale for each channel of axis 0,
    which is its largest magnitude over 127 or 7. Stored as-is, an int8 matrix (channels, ...) lies beside its float32 scales
    ``<name>_scale`` of shape (channels, 1, ...), as compressed-tensors writes ``weight`` and ``weight_scale``.

    Raises:
        MothrError: a magnitude is above the largest number of a 16-bit precision, or safetensors cannot store it as-is.
    """
    if precision == "int4" and stored == "as-is":
        raise MothrError("safetensors has no 4-bit integers; choose stored = 'float16' or 'float32'")
    found = {}
    for name, tensor in weights.items():
        rounded = _copy(tensor)
        if not tensor.is_floating_point():
            found[name] = rounded
            continue
        if precision in ("float16", "bfloat16"):
            rounded = rounded_to(name, tensor, getattr(torch, precision))
        elif _is_matrix(tensor):
            steps, scale = _steps(tensor, 127 if precision == "int8" else 7)
            if stored == "as-is":
                found |= {name: steps.to(torch.int8).contiguous(), f"{name}_scale": scale.contiguous()}
                continue
            rounded = steps * scale
        found[name] = rounded if stored == "as-is" else rounded_to(name, rounded, getattr(torch, stored))
    return found


def _steps(tensor: torch.Tensor, largest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns whole numbers -largest..largest like ``tensor`` and their scales (channels, 1, ...), both float32."""
    matrix = tensor.float()
    scale = matrix.abs().amax(dim=tuple(range(1, matrix.ndim)), keepdim=True) / largest
    scale[scale < torch.finfo(torch.float32).tiny] = 1.0  # a channel of zeros, or of numbers too small for a scale
    return (matrix / scale).round().clamp(-largest, largest), scale


def pruned(weights: Weights, share: float) -> dict[str, torch.Tensor]:
    """Returns ``weights`` with the round(share x size) smallest magnitudes of each matrix set to zero; vectors stay as they are."""
    found = {name: _copy(tensor) for name, tensor in weights.items()}
    for tensor in found.values():
        if _is_matrix(tensor):
            smallest = tensor.abs().flatten().argsort(stable=True)[: round(share * tensor.numel())]
            tensor.view(-1)[smallest] = 0
    return found


def noised(weights: Weights, level: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Returns ``weights`` plus Gaussian noise of ``level`` times each tensor's standard deviation; a constant tensor gets none."""
    found = {name: _copy(tensor) for name, tensor in weights.items()}
    for name in sorted(found):  # the order of a dict plays no part in what is drawn
        tensor = found[name]
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            found[name] = rounded_to(
                name, tensor.double() + level * tensor.double().std(correction=0) * noise, tensor.dtype
            )
    return found


def permuted(weights: Weights, symmetries: Sequence[Symmetry], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Returns ``weights`` with the blocks of each of ``symmetries`` in a random order, never the one they had.

    Raises:
        MothrError: there is nothing to permute, or a symmetry names an absent tensor or an axis that cannot be cut into its blocks.
    """
    symmetries = [symmetry for symmetry in symmetries if symmetry.blocks > 1]
    if not symmetries:
        raise MothrError(
            "permuted: this family of models names no blocks that can change places; take this kind out of the recipe"
        )
    found = {name: _copy(tensor) for name, tensor in weights.items()}
    for symmetry in symmetries:
        starts = range(0, symmetry.segments * symmetry.blocks, symmetry.blocks)
        order = torch.cat([start + _other_order(symmetry.blocks, generator) for start in starts])
        for name, axis in symmetry.axes:
            if name not in found:
                raise MothrError(
                    f"tensor {name!r}: named by a symmetry, but the model has none; these are weights of another family"
                )
            tensor = found[name]
            if tensor.shape[axis] % len(order):
                raise MothrError(
                    f"tensor {name!r} of shape {tuple(tensor.shape)}: axis {axis} cannot be cut into {len(order)} equal blocks; "
                    "the symmetry is of another configuration"
                )
            blocks = tensor.unflatten(axis, (len(order), -1))
            found[name] = blocks.index_select(axis, order).flatten(axis, axis + 1).contiguous()
    return found


def _other_order(size: int, generator: torch.Generator) -> torch.Tensor:
    """Returns a random order of ``size`` things, (size,) int64; all orders but the present one are equally likely."""
    while True:
        order = torch.randperm(size, generator=generator)
        if not torch.equal(order, torch.arange(size)):
            return order
