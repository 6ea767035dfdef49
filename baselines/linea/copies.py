"""Copies: models that are another model in fewer bits, with some weights set to zero, or with their neurons reordered."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mothr.baselines.parts.checks import check_at_least, check_between
from mothr.baselines.parts.directions import statistic
from mothr.baselines.parts.distances import distances, flat
from mothr.benchmark.weights.combine import Array, combine_statistics
from mothr.benchmark.weights.features import stream
from mothr.benchmark.weights.layers import Key, Layers
from mothr.benchmark.weights.model_set import ModelSet
from mothr.benchmark.weights.streaming import Feature

PRUNED = "pruned"
"""Name of the transformation that sets weights to zero."""


@dataclass(frozen=True, slots=True)
class Copies:
    """How copies are recognised."""

    max_distance_ratio: float = 1.2
    """A source is looked for among the models whose distance is at most this many times that of the nearest model. The
    rounding errors of two copies of one model are nearly orthogonal, so another copy is hardly farther than the source.
    For a model with many zeros all other models are tried: pruned copies of different models have zeros at the same
    places and may be nearest to each other."""
    min_agreement: float = 0.999
    """Least fraction of a tensor's weights that must equal the transformed source. Libraries round a few differently."""
    min_zero_fraction: float = 0.01
    """Least fraction of weights that are zero in a pruned copy and not in its source."""
    integer_levels: tuple[int, ...] = (127, 7)
    """Largest integers of the symmetric quantizations that are tried: 127 for 8 bits, 7 for 4 bits."""
    step_tolerance: float = 0.01
    """Largest deviation of a quantized weight from its integer times the scale. Unit: the scale."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "max_distance_ratio")
        check_between(self, 0, 1, "min_agreement", "min_zero_fraction", "step_tolerance")


@dataclass(frozen=True, slots=True)
class Copy:
    """The source of a copy, and the kind of copy."""

    source: int
    """Position of the model that was copied."""
    quantized: bool
    """Whether the copy has fewer bits; otherwise it was pruned."""


def find_copies(models: ModelSet, layers: Layers, parameters: Copies | None = None) -> dict[int, Copy]:
    """Returns {position of a copy: its source and kind}. A source is never a copy itself.

    A copy is quantized (16-bit floats; 8- or 4-bit integers with one scale for each channel or for the tensor, however
    they are stored), or pruned (equal to the source except for zeros). Models that are equal bit for bit are not copies
    of each other, because nothing says which was first.

    Args:
        models: The models of one tree.
        layers: The tensors to compare.
        parameters: Thresholds; None for the defaults.
    """
    parameters = Copies() if parameters is None else parameters
    relative = distances(models, "relative", layers)
    relative = np.where(relative == 0, np.inf, relative)  # the model itself, and equal numbers stored in another type
    keys = [key for key in layers.select_from(models) if len(models.shapes[key]) == len(models)]
    zeros = combine_statistics(dict(stream(models, _ZEROS, layers)), len(models), "elements")
    sparse = zeros >= parameters.min_zero_fraction
    possible: dict[int, list[Copy]] = {}
    for node in range(len(models)):
        own = relative[node]
        near = np.flatnonzero(np.isfinite(own) & ((own <= parameters.max_distance_ratio * own.min()) | sparse[node]))
        nearest = near[np.argsort(own[near], kind="stable")].tolist()
        sources = [
            Copy(source, names != {PRUNED})
            for source in nearest
            if (names := transformations(models, source, node, keys, parameters))
        ]
        if sources:
            possible[node] = sources
    return {
        node: originals[0]
        for node, sources in possible.items()
        if (originals := [copy for copy in sources if copy.source not in possible])
    }


def transformations(models: ModelSet, source: int, node: int, keys: Sequence[Key], parameters: Copies) -> set[str]:
    """Returns the names of the transformations that map each tensor of ``source`` to that of ``node``; none if all are equal."""
    names: set[str] | None = None
    for name, _ in keys:
        original, copy = models.stack(name, (source, node))
        if torch.equal(original, copy):
            continue
        fitting = _fitting_transformations(original, copy, parameters)
        names = fitting if names is None else names & fitting
        if not names:
            break
    return names or set()


def _fitting_transformations(original: torch.Tensor, copy: torch.Tensor, parameters: Copies) -> set[str]:
    """Returns the names of the transformations that map one tensor to another of the same shape."""

    def agree(equal: torch.Tensor) -> bool:
        return float(equal.double().mean()) >= parameters.min_agreement

    names = set()
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        if agree(original.to(dtype).to(copy.dtype) == copy):
            names.add(name)
    for largest in parameters.integer_levels:
        for axes in (tuple(range(1, original.ndim)), tuple(range(original.ndim))):
            scale = original.abs().amax(dim=axes, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / largest
            rounded = (original / scale).round() * scale
            stored_in_16_bits = 2.0**-8 * rounded.abs()  # bfloat16 keeps 8 significant bits
            if agree((copy - rounded).abs() <= parameters.step_tolerance * scale + stored_in_16_bits):
                names.add(f"{largest}, {len(axes)} axes")
    zeros = copy == 0
    new_zeros = (zeros & (original != 0)).double().mean()
    if new_zeros >= parameters.min_zero_fraction and agree((copy == original) | zeros):
        names.add(PRUNED)
    return names


def _zero_fraction(stack: torch.Tensor, dtypes: tuple[str, ...]) -> Array:
    return (flat(stack) == 0).double().mean(dim=1).numpy()


_ZEROS = Feature("zeros", 1, "statistic", _zero_fraction)
"""The fraction of zeros in a tensor, (k,)."""


def find_reordered(models: ModelSet, layers: Layers) -> list[tuple[int, ...]]:
    """Returns groups of models that hold the same numbers in different orders, as ascending positions.

    Models are in one group if the sorted values of each tensor are equal bit for bit. Of models with the same numbers in
    the same order only the first is in the group.
    """
    keys = layers.select_from(models)
    # The order has no influence on the norm, so only models of equal norm are sorted. 1e-6 is far above rounding.
    norms = statistic(models, "norm", layers, how="sum")
    groups: dict[str, dict[tuple[str, ...], int]] = {}
    for position in range(len(models)):
        if np.isclose(norms, norms[position], rtol=1e-6, atol=0).sum() < 2:
            continue
        own = [(name, shape) for name, shape in keys if position in models.shapes[name, shape]]
        sorted_values = hashlib.sha256()
        for name, shape in own:
            sorted_values.update(f"{name}|{shape}|".encode())
            sorted_values.update(flat(models.stack(name, (position,)))[0].sort().values.double().numpy().tobytes())
        digests = models.checkpoints[position].digests
        order = tuple(digests[name] for name, _ in own)
        groups.setdefault(sorted_values.hexdigest(), {}).setdefault(order, position)
    return [tuple(group.values()) for group in groups.values() if len(group) > 1]
