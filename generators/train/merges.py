"""Merges several models of one architecture into one: linear, spherical (slerp), TIES and DARE merges."""

import math
from collections.abc import Mapping, Sequence

import torch

from mothr.benchmark.errors import MothrError
from mothr.generators.values.transforms import DARE_DENSITY, TIES_DENSITY, Merge, MergeMethod

Weights = Mapping[str, torch.Tensor]
"""A state dict: tensor name -> tensor, as in a safetensors file."""
PARALLEL = 1e-4
"""Angle in radians. Tensors with a smaller angle between them, or as close to opposite, are merged linearly.
The arc is then undefined, or differs from the straight line by less than the square of the angle, which is
below the resolution of float32."""


def merged(
    models: Sequence[Weights],
    method: MergeMethod,
    mixing: Sequence[float],
    base: Weights | None = None,
    density: float | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, torch.Tensor]:
    """Returns the merge of ``models``. Integer tensors are taken from the first model.

    Args:
        models: The models W_1, W_2, ..., with the same tensor names and shapes.
        method: ``linear``: sum_i a_i W_i with mixing weights a_i. ``slerp``: spherical interpolation of each
            tensor (Shoemake 1985); mixing weights (1, 0) give the first model, (0, 1) the second. ``ties``:
            Yadav et al. 2023 (arXiv 2306.01708), see :func:`_ties`. ``dare``: Yu et al. 2024 (arXiv 2311.03099), see
            :func:`_dare`.
        mixing: One weight a_i per model, 0 or more, with sum 1.
        base: For ``ties`` and ``dare``, the model that all models were fine-tuned from.
        density: For ``ties`` and ``dare``, the fraction of each task vector that is kept.
        generator: For ``dare``, the generator of the entries that are dropped.

    Raises:
        MothrError: names or shapes differ, or the arguments do not fit together.
    """
    if not models or len(mixing) != len(models):
        raise MothrError(f"merge: given {len(mixing)} mixing weights for {len(models)} models; each model needs one")
    if not (min(mixing) >= 0 and abs(sum(mixing) - 1) <= 1e-6):
        raise MothrError(
            f"merge: mixing weights {tuple(mixing)} must be 0 or more and sum to 1; divide them by their sum"
        )
    for model in [*models[1:], *([base] if base is not None else [])]:
        _check_same_architecture(models[0], model)
    names = [name for name, tensor in models[0].items() if tensor.is_floating_point()]
    if method in ("ties", "dare"):
        if base is None:
            raise MothrError(
                f"merge: {method} needs the models' common ancestor; give its weights as base, or choose linear"
            )
        if method == "ties":
            result = _ties(models, names, mixing, base, TIES_DENSITY if density is None else density)
        else:
            result = _dare(models, names, mixing, base, DARE_DENSITY if density is None else density, generator)
    elif method == "slerp":
        if len(models) != 2:
            raise MothrError(f"merge: slerp is defined between 2 models, not {len(models)}; choose linear or ties")
        result = {name: _slerp(models[0][name].double(), models[1][name].double(), mixing) for name in names}
    else:
        result = {name: _linear([model[name].double() for model in models], mixing) for name in names}
    return {name: rounded_to(name, result.get(name, tensor), tensor.dtype) for name, tensor in models[0].items()}


def _check_same_architecture(first: Weights, second: Weights) -> None:
    for name in sorted(first.keys() | second.keys()):
        shapes = [tuple(weights[name].shape) if name in weights else None for weights in (first, second)]
        if shapes[0] != shapes[1]:
            texts = ["is absent" if shape is None else f"has shape {shape}" for shape in shapes]
            raise MothrError(
                f"tensor {name!r} {texts[0]} in one model and {texts[1]} in another; merge models of one architecture only"
            )


def _linear(tensors: Sequence[torch.Tensor], mixing: Sequence[float]) -> torch.Tensor:
    return torch.stack([share * tensor for share, tensor in zip(mixing, tensors, strict=True)]).sum(dim=0)


def _slerp(first: torch.Tensor, second: torch.Tensor, mixing: Sequence[float]) -> torch.Tensor:
    """Returns (sin(a t) first + sin(b t) second) / sin(t), with mixing weights a, b and the angle t between
    the tensors.

    The merge is linear if the angle is undefined (a zero tensor), or if it is within :data:`PARALLEL` of 0 or
    of half a turn.
    """
    norms = first.norm() * second.norm()
    cosine = float((first * second).sum() / norms) if norms > 0 else 1.0
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    if math.sin(angle) < PARALLEL:
        return _linear((first, second), mixing)
    return _linear((first, second), [math.sin(share * angle) / math.sin(angle) for share in mixing])


def _ties(
    models: Sequence[Weights], names: Sequence[str], mixing: Sequence[float], base: Weights, density: float
) -> dict[str, torch.Tensor]:
    """Returns the base plus the merged task vector. The task vector of a model is the model minus the base,
    over all of its tensors.

    Trim: only the fraction ``density`` of largest magnitudes of each task vector is kept; all other entries
    are set to zero. Elect: the sign of each entry is that of the weighted sum. Merge: the weighted mean of
    the non-zero entries with this sign. The paper's method is the case of equal mixing weights and of its
    factor lambda = 1.
    """
    start = torch.cat([base[name].double().flatten() for name in names])
    vectors = torch.stack(
        [_trimmed(torch.cat([model[name].double().flatten() for name in names]) - start, density) for model in models]
    )
    shares = torch.tensor(mixing, dtype=torch.float64)[:, None]
    elected = (shares * vectors).sum(dim=0).sign()
    agree = shares * ((vectors.sign() == elected) & (vectors != 0))
    result = start + (agree * vectors).sum(dim=0) / agree.sum(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    parts = result.split([base[name].numel() for name in names])
    return {name: part.reshape(base[name].shape) for name, part in zip(names, parts, strict=True)}


def _dare(
    models: Sequence[Weights],
    names: Sequence[str],
    mixing: Sequence[float],
    base: Weights,
    density: float,
    generator: torch.Generator | None,
) -> dict[str, torch.Tensor]:
    """Returns the base plus the weighted sum of the task vectors. Each entry of a task vector is kept with
    probability ``density`` and divided by it, or else is zero."""
    result = {}
    for name in sorted(names):  # the draws do not depend on the order of the dict
        start, total = base[name].double(), torch.zeros_like(base[name], dtype=torch.float64)
        for share, model in zip(mixing, models, strict=True):
            kept = torch.rand(start.shape, generator=generator, dtype=torch.float64) < density
            total += share * kept * (model[name].double() - start) / density
        result[name] = start + total
    return result


def _trimmed(vector: torch.Tensor, density: float) -> torch.Tensor:
    """Returns ``vector`` with only its round(density x size) entries of largest magnitude, and ties with
    them; the others are zero."""
    count, magnitude = round(density * vector.numel()), vector.abs()
    if count == 0:
        return torch.zeros_like(vector)
    return vector.where(magnitude >= magnitude.kthvalue(vector.numel() - count + 1).values, 0.0)


def rounded_to(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns a contiguous copy of ``tensor`` rounded to ``dtype``.

    Raises:
        MothrError: a magnitude is above the largest number of ``dtype``.
    """
    cast = tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)
    if not torch.isfinite(cast).all():
        raise MothrError(
            f"tensor {name!r}: its largest magnitude {float(tensor.abs().max()):.6g} is above {torch.finfo(dtype).max:.6g}, the largest "
            f"{str(dtype).removeprefix('torch.')} number; choose another precision"
        )
    return cast


def draw_mixing(merge: Merge, generator: torch.Generator) -> tuple[float, ...]:
    """Returns one mixing weight for each parent of a merge; their sum is one."""
    low, high = merge.mixing_range
    drawn = low + (high - low) * torch.rand(merge.parents, generator=generator, dtype=torch.float64)
    return tuple((drawn / drawn.sum()).tolist())
