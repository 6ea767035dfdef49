"""Makes models from the weights of finished models: copies, merges, and the start of a child's training."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mothr.benchmark.data.dataset import fix_times
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.discovery import open_checkpoint
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.train.context import Context
from mothr.generators.train.launder import launder
from mothr.generators.train.merges import draw_mixing
from mothr.generators.train.model_files import save_model, store_as, weight_file, write_tensors
from mothr.generators.train.transforms import transform
from mothr.generators.values.laundering import AnyLaundering, LaunderingTable
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.transforms import AnyTransform, Merge, Quantize

SAME_FUNCTION_TOLERANCE = 1e-3
"""A copy computes the same function if no output changes by more than this fraction of the largest output."""
FRESH_STD = 0.02
"""Standard deviation of the fresh weights of a model folder, which are then replaced."""
Weights = dict[str, torch.Tensor]
AnySpec = AnyTransform | AnyLaundering


def make_copy(node: PlannedNode, sources: Sequence[PlannedNode], context: Context, work: Path) -> dict[str, Any]:
    """Makes a node by transforming the weights of its sources; returns its record, with the sources' metrics
    before and after."""
    assert node.derived is not None
    return {"transform": _copy(node, node.derived.transform, sources, context, work)}


def make_edge_copy(node: PlannedNode, sources: Sequence[PlannedNode], context: Context, work: Path) -> dict[str, Any]:
    """Makes a node of a drawn recipe that is not trained; returns its record, with metrics before and after.

    A quantized copy is stored as its transform says, and any other copy in the precision of the node. The heads of the
    copy are those of its first source, changed where a laundering changes the model's output.
    """
    assert node.edge is not None
    assert node.edge.transform is not None
    record = _copy(node, node.edge.transform, sources, context, work)
    if not isinstance(node.edge.transform, Quantize):
        store_as(work, node.stored)
    return {"transform": record}


@dataclass(frozen=True, slots=True)
class Start:
    """What the training of a child starts from."""

    folder: Path
    """The folder of the model."""
    record: dict[str, Any] | None
    """The record of the transform of the child's edge, if it has one."""
    heads: Mapping[str, torch.Tensor]
    """The heads of the parent, changed where a laundering changes the model's output; empty if there are none."""
    fixed: tuple[str, ...] = ()
    """Names of the tensors that the training must not change."""


def make_start(node: PlannedNode, sources: Sequence[PlannedNode], context: Context, folder: Path) -> Start:
    """Returns what the training of a child starts from: its parent, or what the transform of the child's edge makes of
    its sources, which is written to ``folder``.

    Raises:
        MothrError: the transform must leave the function of the parent unchanged, and it does not.
    """
    assert node.edge is not None
    spec = node.edge.transform
    if spec is None:
        return Start(context.model_folder(sources[0].id), None, _heads(sources[0], context))
    if isinstance(spec, Quantize):  # only numbers in floating point can be trained
        spec = spec.model_copy(update={"stored": "float32"})
    result = _write_transformed(node, spec, sources, context, folder)
    return Start(folder, result.record, result.heads, result.fixed)


# Transforms


@dataclass(frozen=True, slots=True)
class Transformed:
    """The result of a transform."""

    weights: Weights
    """The tensors, in the precision that they are stored in."""
    record: dict[str, Any]
    """What was done."""
    heads: Weights
    """The heads; empty if the family has none, or the source has none of its own."""
    fixed: tuple[str, ...] = ()
    """Names of the tensors that a training must not change."""


def _copy(
    node: PlannedNode, spec: AnySpec, sources: Sequence[PlannedNode], context: Context, work: Path
) -> dict[str, Any]:
    """Writes the copy to ``work``, and its heads if the recipe is a drawn one; returns its record.

    The copy is measured with float32 weights, as a reader of the data set sees them. Then its own precision is written.
    """
    result = _write_transformed(node, spec, sources, context, work)
    before, after, metric = _measure_copy(node, spec, sources, context, work, result.heads)
    write_tensors(result.weights, weight_file(work))
    fix_times(work)
    if node.model is not None and result.heads:
        write_tensors(result.heads, context.heads(node.id))
    mixing = {key: result.record.pop(key) for key in ("mixing",) if key in result.record}
    return {**result.record, "metric": metric, "before": before, "after": after, "seed": node.seed, **mixing}


def _write_transformed(
    node: PlannedNode, spec: AnySpec, sources: Sequence[PlannedNode], context: Context, folder: Path
) -> Transformed:
    """Writes the model that ``spec`` makes of the sources to ``folder``, with float32 weights, and checks its function.

    Returns what was written, in its own precision.
    """
    result = _transformed(node, spec, sources, context)
    _write_model(node, sources, context, result.weights, folder)
    checkpoint = open_checkpoint(folder, node.id)
    write_tensors({name: checkpoint.read(name).float() for name in checkpoint.tensors}, weight_file(folder))
    if spec.preserves_function if isinstance(spec, LaunderingTable) else spec.kind == "permuted":
        _check_same_function(node, spec, sources[0], context, folder, result.heads)
    return result


def _write_model(
    node: PlannedNode, sources: Sequence[PlannedNode], context: Context, weights: Weights, folder: Path
) -> None:
    """Writes a model folder with ``weights``. A laundering may change sizes, so its config is written anew."""
    if node.model is not None and node.model != sources[0].model:
        fresh = context.family.build("normal", FRESH_STD, torch_generator(node.seed, "shape"))
        save_model(context.family, fresh, folder)
    else:
        shutil.copytree(context.model_folder(sources[0].id), folder)
    write_tensors(weights, weight_file(folder))


def _transformed(node: PlannedNode, spec: AnySpec, sources: Sequence[PlannedNode], context: Context) -> Transformed:
    """Returns what ``spec`` makes of the sources."""
    record = {**spec.model_dump(mode="json", exclude_none=True), "of": [source.id for source in sources]}
    generator = torch_generator(node.seed, "transform")
    heads = _heads(sources[0], context) if node.model is not None else {}
    if isinstance(spec, LaunderingTable):
        other = _weights(sources[1], context) if spec.needs_other else None
        source_model, weights = sources[0].model or {}, _weights(sources[0], context)
        laundered = launder(spec, context.family_name, source_model, weights, heads, generator, other)
        return Transformed(laundered.weights, record, laundered.head, laundered.fixed)
    mixing = draw_mixing(spec, torch_generator(node.seed, "mixing")) if isinstance(spec, Merge) else ()
    ancestor = node.common_ancestor
    weights = transform(
        spec,
        [_weights(source, context) for source in sources],
        base=load_file(weight_file(context.model_folder(ancestor))) if ancestor else None,
        mixing=mixing,
        symmetries=context.family.symmetries(),
        generator=generator,
    )
    if mixing:
        record["mixing"] = [round(share, 6) for share in mixing]
    return Transformed(weights, record, heads)


def _weights(source: PlannedNode, context: Context) -> Weights:
    """Returns the weights of a source; those of a drawn recipe as float32, in which all of its arithmetic starts."""
    weights = load_file(weight_file(context.model_folder(source.id)))
    return weights if source.model is None else _floats(weights)


def _floats(weights: Weights) -> Weights:
    return {name: tensor.float() for name, tensor in weights.items()}


def _heads(source: PlannedNode, context: Context) -> Weights:
    """Returns the heads that were kept when ``source`` was made; empty if there are none."""
    path = context.heads(source.id)
    return load_file(path) if path.is_file() else {}


# Measuring


def _measure_copy(
    node: PlannedNode,
    spec: AnySpec,
    sources: Sequence[PlannedNode],
    context: Context,
    work: Path,
    heads: Weights,
) -> tuple[list[float], list[float], str]:
    """Tests the sources and the copy in ``work`` on the objective of each source.

    Returns the metrics of the sources, the metrics of the copy, and the name of the metric.
    """
    device = torch.device(context.device)
    copy = context.family.load(work).to(device).eval()
    before, after, metric = [], [], ""
    for source in sources[:1] if isinstance(spec, LaunderingTable) else sources:
        own = context.of_node(source)
        objective = own.objective(source, fresh_heads=False)
        metric = objective.metric
        original = own.family.load(context.model_folder(source.id)).to(device).eval()
        before.append(round(objective.evaluate(original), 6))
        if isinstance(spec, LaunderingTable):  # the copy has an architecture and heads of its own
            objective = context.objective(source, fresh_heads=not heads, heads=heads)
        after.append(round(objective.evaluate(copy), 6))
    return before, after, metric


def _check_same_function(
    node: PlannedNode, spec: AnySpec, source: PlannedNode, context: Context, folder: Path, heads: Weights
) -> None:
    """Checks that the model in ``folder``, with ``heads``, has the outputs of its source, with the source's heads.

    Raises:
        MothrError: an output differs by more than :data:`SAME_FUNCTION_TOLERANCE`.
    """
    device = torch.device(context.device)
    tested = source if source.tasks else node  # a root without training has no tasks
    fresh = not context.heads(tested.id).is_file()  # without heads of the source, both models get the same fresh ones

    def outputs(place: Context, model: Path, own_heads: Weights | None) -> torch.Tensor:
        objective = place.objective(tested, fresh_heads=fresh, heads=own_heads)
        return objective.outputs(place.family.load(model).to(device).eval())

    expected = outputs(context.of_node(source), context.model_folder(source.id), None)
    change = float((expected - outputs(context, folder, heads)).abs().max() / expected.abs().max())
    if not change <= SAME_FUNCTION_TOLERANCE:
        raise MothrError(
            f"node {node.path}: its {spec.kind} copy computes another function (an output changes by {change:.2g} of the largest output); "
            "correct the symmetries of its family"
        )
