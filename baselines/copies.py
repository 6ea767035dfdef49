"""Copies, told from weights: models that are another one in fewer bits, with zeros in it, or in another order."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from mothr.baselines.directions import statistic
from mothr.baselines.distances import distances, flat
from mothr.benchmark.layers import Key, Layers
from mothr.benchmark.weights import ModelSet

NEARLY = 1.2
"""A copy's source is looked for among the models that are at most so many times as far from it as the nearest: the rounding errors of
two copies of one model are nearly orthogonal, so that another copy is hardly farther than the source."""
AGREEING = 0.999
"""Share of the entries that must be what copying gives; libraries round a few of them otherwise."""
ZEROS = 0.01
"""A pruned copy has at least this share of zeros more than its source."""
LEVELS = (127, 7)
"""Largest integers of symmetric 8- and 4-bit quantization."""


def copies(models: ModelSet, layers: Layers) -> dict[int, int]:
    """Returns {position of a copy: position of its source}; a source is never a copy itself. ``models`` are those of one tree.

    A copy is quantized (16-bit floats; 8- or 4-bit integers with a scale a channel or a tensor, however they are stored), or pruned
    (the same but for zeros). Bit-identical models are no copies of each other, since nothing says which was first.
    """
    far = distances(models, "relative", layers)
    far[far == 0] = np.inf  # itself, and the same numbers stored otherwise
    keys = [key for key in layers.select_from(models) if len(models.shapes[key]) == len(models)]
    found: dict[int, list[int]] = {}
    for node in range(len(models)):
        near = np.flatnonzero(np.isfinite(far[node]) & (far[node] <= NEARLY * far[node].min())).tolist()
        sources = [source for source in near if is_copy(models, source, node, keys)]
        if sources:
            found[node] = sorted(sources, key=lambda source, node=node: (far[node, source], source))
    return {node: originals[0] for node, sources in found.items() if (originals := [s for s in sources if s not in found])}


def is_copy(models: ModelSet, source: int, node: int, keys: Sequence[Key]) -> bool:
    """Returns whether each tensor of ``node`` is that of ``source`` in fewer bits, or but for zeros, and one of them differs."""
    ways: set[str] | None = None
    for name, _ in keys:
        original, copy = models.stack(name, (source, node))
        if torch.equal(original, copy):
            continue
        here = _ways(original, copy)
        ways = here if ways is None else ways & here
        if not ways:
            return False
    return bool(ways)


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
            if _mostly((copy - steps * scale).abs() <= 0.01 * scale + 2.0**-8 * (steps * scale).abs()):  # perhaps stored in 16 bits
                found.add(f"{largest}, {len(axes)} axes")
    zeros = copy == 0
    if (zeros & (original != 0)).double().mean() >= ZEROS and _mostly((copy == original) | zeros):
        found.add("pruned")
    return found


def _mostly(agrees: torch.Tensor) -> bool:
    return float(agrees.double().mean()) >= AGREEING


def reordered(models: ModelSet, layers: Layers) -> list[tuple[int, ...]]:
    """Returns groups of models that hold the same numbers in different orders, positions ascending: permuted copies of each other.

    They are told by each tensor's sorted values, the same to the last bit.
    """
    keys = layers.select_from(models)
    norms = statistic(models, "norm", layers, how="sum")  # order plays no part in it, and few models need to be sorted
    groups: dict[str, list[int]] = {}
    for position in range(len(models)):
        if np.isclose(norms, norms[position], rtol=1e-6, atol=0).sum() < 2:
            continue
        found = hashlib.sha256()
        for name, shape in keys:
            if position in models.shapes[name, shape]:
                found.update(f"{name}|{shape}|".encode())
                found.update(flat(models.stack(name, (position,)))[0].sort().values.double().numpy().tobytes())
        groups.setdefault(found.hexdigest(), []).append(position)
    return [tuple(group) for group in groups.values() if len({models.checkpoints[position].digest for position in group}) > 1]
