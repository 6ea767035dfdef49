"""The sizes of a laundered model, computed from the sizes of its source before anything is trained."""

from collections.abc import Callable, Mapping
from typing import Any

from mothr.generators.values.laundering import (
    AllSymmetries,
    AnyLaundering,
    BlocksAdded,
    BlocksDropped,
    BlocksRepeated,
    DummyNeurons,
    Rotated,
    Upcycled,
    VocabularyReplaced,
    Widened,
)

FAMILIES = ("vit", "llama")
"""Names of the families whose models can be laundered."""
Sizes = Mapping[str, Any]
"""A recipe's ``[model]`` table."""


def check(spec: AnyLaundering, family_name: str, model: Sizes) -> None:
    """Raises ValueError if a model of these sizes cannot be laundered as ``spec`` says."""
    result_model(spec, family_name, model)


def result_model(spec: AnyLaundering, family_name: str, model: Sizes) -> dict[str, Any]:
    """Returns the ``[model]`` table of the result of ``spec``.

    Args:
        spec: The laundering.
        family_name: Name of the source's family in recipes.
        model: The ``[model]`` table of the source.

    Raises:
        ValueError: the family has no such kind, or a size would not be possible.
    """
    if family_name not in FAMILIES:
        raise ValueError(
            f"transform.kind: {spec.kind!r} is defined for the families {' and '.join(FAMILIES)}, not for {family_name!r}; "
            "choose another kind or family"
        )
    if family_name != "llama" and isinstance(spec, Upcycled | VocabularyReplaced):
        raise ValueError(
            f"transform.kind: {spec.kind!r} is defined for the family 'llama' only, not for {family_name!r}; choose another kind"
        )
    changed: dict[str, Any] = {}
    for kinds, change in _CHANGES:
        if isinstance(spec, kinds):
            changed = change(spec, family_name, model)
    return {**model, **changed}


def blocks_of(fraction: float, layers: int) -> int:
    """Returns the number of blocks that are a fraction of all blocks: rounded, and at least one."""
    return max(1, round(fraction * layers))


def new_neurons(spec: DummyNeurons, mlp_size: int) -> int:
    """Returns the number of dummy neurons of one MLP: an even number, at least two, and no more than ``mlp_size``."""
    return min(max(2, 2 * round(spec.fraction * mlp_size / 2)), mlp_size - mlp_size % 2)


def _untied(spec: AnyLaundering, family_name: str, model: Sizes) -> dict[str, Any]:
    """Returns ``tied`` = False where the head was tied: gains of the final norm move into the head, and not into the
    embeddings."""
    return {"tied": False} if model.get("tied") else {}


def _more_neurons(spec: DummyNeurons, family_name: str, model: Sizes) -> dict[str, Any]:
    size = model["mlp_size"]
    if size < 2:
        raise ValueError("transform.kind: 'dummy-neurons' needs model.mlp_size of at least 2; enlarge it")
    return {"mlp_size": size + new_neurons(spec, size)}


def _wider(spec: Widened, family_name: str, model: Sizes) -> dict[str, Any]:
    mlp_size = round(spec.factor * model["mlp_size"])
    if mlp_size == model["mlp_size"]:
        raise ValueError(
            f"transform.factor: {spec.factor} times model.mlp_size {model['mlp_size']} adds no neuron; choose a larger factor"
        )
    if spec.part == "mlp":
        return {"mlp_size": mlp_size}
    if family_name == "vit" and spec.factor != 2:
        raise ValueError(
            f"transform.factor: {spec.factor} changes what a LayerNorm computes, because some channels are copied and others are not; "
            "choose factor = 2, or part = 'mlp'"
        )
    changed = {"mlp_size": mlp_size}
    for name in ("hidden_size", "heads"):
        changed[name] = _times(spec.factor, name, model)
    if "kv_heads" in model and spec.factor * model["kv_heads"] % 1 == 0:
        changed["kv_heads"] = _times(spec.factor, "kv_heads", model)
    kv_heads = changed.get("kv_heads", model.get("kv_heads", 1))
    if changed["heads"] % kv_heads:
        raise ValueError(
            f"transform.factor: {spec.factor} times model.heads {model['heads']} is not a multiple of model.kv_heads {kv_heads}; "
            "choose factor = 2, or part = 'mlp'"
        )
    return changed


def _times(factor: float, name: str, model: Sizes) -> int:
    size = factor * model[name]
    if size % 1:
        raise ValueError(
            f"transform.factor: {factor} times model.{name} {model[name]} is not a whole number; choose factor = 2, or part = 'mlp'"
        )
    return int(size)


def _deeper(spec: BlocksAdded | BlocksRepeated, family_name: str, model: Sizes) -> dict[str, Any]:
    return {"layers": model["layers"] + blocks_of(spec.fraction, model["layers"])}


def _shallower(spec: BlocksDropped, family_name: str, model: Sizes) -> dict[str, Any]:
    layers = model["layers"] - blocks_of(spec.fraction, model["layers"])
    if layers < 1:
        raise ValueError(
            f"transform.fraction: {spec.fraction} of model.layers {model['layers']} leaves no block; choose more layers or another kind"
        )
    return {"layers": layers}


def _experts(spec: Upcycled, family_name: str, model: Sizes) -> dict[str, Any]:
    if model.get("experts") is not None:
        raise ValueError(
            f"transform.kind: 'upcycled' needs one MLP in each block, but model.experts is {model['experts']}; choose another kind"
        )
    return {"experts": spec.experts}


_CHANGES: tuple[tuple[Any, Callable[[Any, str, Sizes], dict[str, Any]]], ...] = (
    ((Rotated, AllSymmetries), _untied),
    (DummyNeurons, _more_neurons),
    (Widened, _wider),
    ((BlocksAdded, BlocksRepeated), _deeper),
    (BlocksDropped, _shallower),
    (Upcycled, _experts),
)
"""Kinds of laundering that change sizes, and how they do."""
