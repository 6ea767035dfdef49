"""Copies, told from weights: models that are another one in fewer bits, with zeros in it, or in another order."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mothr.baselines.parts.directions import statistic
from mothr.baselines.parts.distances import distances, flat
from mothr.benchmark.weights.checkpoint import ModelSet
from mothr.benchmark.weights.combine import Array
from mothr.benchmark.weights.features import Feature, combine_statistics, stream
from mothr.benchmark.weights.layers import Key, Layers

NEARLY = 1.2
"""A copy's source is looked for among the models that are at most so many times as far from it as the nearest: the rounding errors of
two copies of one model are nearly orthogonal, so that another copy is hardly farther than the source. Of a model with many zeros all
others are tried: they are in the same places in pruned copies of different models, which may so be nearest to each other."""
AGREEING = 0.999
"""Share of the entries that must be what copying gives; libraries round a few of them otherwise."""
ZEROS = 0.01
"""A pruned copy has at least this share of zeros more than its source."""
LEVELS = (127, 7)
"""Largest integers of symmetric 8- and 4-bit quantization."""
PRUNED = "pruned"
"""The way of copying that puts in zeros."""


@dataclass(frozen=True)
class Copy:
    """What a copy was made from, and how."""

    source: int
    """Position of the model that it is a copy of."""
    rounded: bool
    """Whether it has fewer bits; otherwise zeros."""


def copies(models: ModelSet, layers: Layers) -> dict[int, Copy]:
    """Returns {position of a copy: what it was made from}; a source is never a copy itself. ``models`` are those of one tree.

    A copy is quantized (16-bit floats; 8- or 4-bit integers with a scale a channel or a tensor, however they are stored), or pruned
    (the same but for zeros). Bit-identical models are no copies of each other, since nothing says which was first.
    """
    far = distances(models, "relative", layers)
    far = np.where(far == 0, np.inf, far)  # itself, and the same numbers stored otherwise
    keys = [key for key in layers.select_from(models) if len(models.shapes[key]) == len(models)]
    sparse = combine_statistics(dict(stream(models, _ZEROS, layers)), len(models), "elements") >= ZEROS
    found: dict[int, list[Copy]] = {}
    for node in range(len(models)):
        near = np.flatnonzero(np.isfinite(far[node]) & ((far[node] <= NEARLY * far[node].min()) | sparse[node]))
        nearest = near[np.argsort(far[node, near], kind="stable")].tolist()
        sources = [
            Copy(source, ways != {PRUNED})
            for source in nearest
            if (ways := ways_of_copying(models, source, node, keys))
        ]
        if sources:
            found[node] = sources
    return {
        node: originals[0]
        for node, sources in found.items()
        if (originals := [one for one in sources if one.source not in found])
    }


def ways_of_copying(models: ModelSet, source: int, node: int, keys: Sequence[Key]) -> set[str]:
    """Returns the ways of copying that give each tensor of ``node`` from that of ``source``; none if no tensor differs."""
    ways: set[str] | None = None
    for name, _ in keys:
        original, copy = models.stack(name, (source, node))
        if torch.equal(original, copy):
            continue
        here = _ways(original, copy)
        ways = here if ways is None else ways & here
        if not ways:
            break
    return ways or set()


def _ways(original: torch.Tensor, copy: torch.Tensor) -> set[str]:
    """Returns the ways of copying that give ``copy`` from ``original``."""
    found = set()
    for name, precision in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        if _mostly(original.to(precision).to(copy.dtype) == copy):
            found.add(name)
    for largest in LEVELS:
        for axes in (tuple(range(1, original.ndim)), tuple(range(original.ndim))):
            scale = original.abs().amax(dim=axes, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / largest
            steps = (original / scale).round()
            if _mostly(
                (copy - steps * scale).abs() <= 0.01 * scale + 2.0**-8 * (steps * scale).abs()
            ):  # perhaps stored in 16 bits
                found.add(f"{largest}, {len(axes)} axes")
    zeros = copy == 0
    if (zeros & (original != 0)).double().mean() >= ZEROS and _mostly((copy == original) | zeros):
        found.add(PRUNED)
    return found


def _zeros(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    return (flat(stack) == 0).double().mean(dim=1).numpy()


_ZEROS = Feature("zeros", 1, "statistic", _zeros)
"""The share of zeros in a tensor, (k,)."""


def _mostly(agrees: torch.Tensor) -> bool:
    return float(agrees.double().mean()) >= AGREEING


def reordered(models: ModelSet, layers: Layers) -> list[tuple[int, ...]]:
    """Returns groups of models that hold the same numbers in different orders, positions ascending: permuted copies of each other.

    They are told by each tensor's sorted values, the same to the last bit. Of models with the same numbers in the same order, only
    the first is named.
    """
    keys = layers.select_from(models)
    norms = statistic(models, "norm", layers, how="sum")  # order plays no part in it, and few models need to be sorted
    groups: dict[str, dict[tuple[str, ...], int]] = {}
    for position in range(len(models)):
        if np.isclose(norms, norms[position], rtol=1e-6, atol=0).sum() < 2:
            continue
        found = hashlib.sha256()
        for name, shape in keys:
            if position in models.shapes[name, shape]:
                found.update(f"{name}|{shape}|".encode())
                found.update(flat(models.stack(name, (position,)))[0].sort().values.double().numpy().tobytes())
        digests = models.checkpoints[position].digests
        order = tuple(digests[name] for name, shape in keys if position in models.shapes[name, shape])
        groups.setdefault(found.hexdigest(), {}).setdefault(order, position)
    return [tuple(group.values()) for group in groups.values() if len(group) > 1]
