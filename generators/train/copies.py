"""Makes models from the weights of finished models: copies, merges, and the start of a child's training."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mothr.benchmark.data.dataset import fix_times
from mothr.benchmark.errors import MothrError
from mothr.benchmark.weights.discovery import open_checkpoint
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.train.context import Context
from mothr.generators.train.merges import draw_mixing
from mothr.generators.train.model_files import store_as, weight_file, write_tensors
from mothr.generators.train.transforms import transform
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.transforms import AnyTransform, Merge, Quantize

SAME_FUNCTION_TOLERANCE = 1e-3
"""A permuted copy computes the same function if no output changes by more than this fraction of the largest
output."""
Weights = dict[str, torch.Tensor]


def make_copy(node: PlannedNode, sources: Sequence[PlannedNode], context: Context, work: Path) -> dict[str, Any]:
    """Makes a node by transforming the weights of its sources; returns its record, with the sources' metrics
    before and after."""
    assert node.derived is not None
    return {"transform": _copy(node, node.derived.transform, sources, context, work)}


def make_edge_copy(node: PlannedNode, sources: Sequence[PlannedNode], context: Context, work: Path) -> dict[str, Any]:
    """Makes a node of a drawn recipe that is not trained; returns its record, with metrics before and after.

    A quantized copy is stored as its transform says, and any other copy in the precision of the node. The heads of the
    copy are those of its first source.
    """
    assert node.edge is not None
    assert node.edge.transform is not None
    record = _copy(node, node.edge.transform, sources, context, work)
    if not isinstance(node.edge.transform, Quantize):
        store_as(work, node.stored)
    heads = context.heads(sources[0].id)
    if heads.is_file():
        shutil.copyfile(heads, context.heads(node.id))
    return {"transform": record}


def write_start(
    node: PlannedNode, sources: Sequence[PlannedNode], context: Context, folder: Path
) -> dict[str, Any] | None:
    """Writes the weights, float32, that the training of a child starts from to ``folder``.

    They are the parent's weights, or what the transform of the child's edge makes of them. Returns the record of the
    transform, or None.
    """
    assert node.edge is not None
    spec, first = node.edge.transform, context.model_folder(sources[0].id)
    shutil.copytree(first, folder)
    if spec is None:
        write_tensors(_floats(load_file(weight_file(first))), weight_file(folder))
        return None
    if isinstance(spec, Quantize):  # only numbers in floating point can be trained
        spec = spec.model_copy(update={"stored": "float32"})
    weights, record = _transformed(node, spec, sources, context)
    write_tensors(_floats(weights), weight_file(folder))
    return record


def _copy(
    node: PlannedNode, spec: AnyTransform, sources: Sequence[PlannedNode], context: Context, work: Path
) -> dict[str, Any]:
    """Writes the copy to ``work`` and returns its record.

    The copy is measured with float32 weights, as a reader of the data set sees them. Then its own precision is written.
    """
    first = context.model_folder(sources[0].id)
    path = work / weight_file(first).name
    weights, record = _transformed(node, spec, sources, context)
    shutil.copytree(first, work)
    write_tensors(weights, path)
    checkpoint = open_checkpoint(work, node.id)
    write_tensors({name: checkpoint.read(name).float() for name in checkpoint.tensors}, path)
    before, after, metric = _measure_copy(node, spec, sources, context, work)
    write_tensors(weights, path)
    fix_times(work)
    mixing = {key: record.pop(key) for key in ("mixing",) if key in record}
    return {**record, "metric": metric, "before": before, "after": after, "seed": node.seed, **mixing}


def _transformed(
    node: PlannedNode, spec: AnyTransform, sources: Sequence[PlannedNode], context: Context
) -> tuple[Weights, dict[str, Any]]:
    """Returns the weights that ``spec`` makes of the sources, and the record of what was done."""
    mixing = draw_mixing(spec, torch_generator(node.seed, "mixing")) if isinstance(spec, Merge) else ()
    ancestor = node.common_ancestor
    weights = transform(
        spec,
        [_weights(source, context) for source in sources],
        base=load_file(weight_file(context.model_folder(ancestor))) if ancestor else None,
        mixing=mixing,
        symmetries=context.family.symmetries(),
        generator=torch_generator(node.seed, "transform"),
    )
    record = {**spec.model_dump(mode="json", exclude_none=True), "of": [source.id for source in sources]}
    if mixing:
        record["mixing"] = [round(share, 6) for share in mixing]
    return weights, record


def _weights(source: PlannedNode, context: Context) -> Weights:
    """Returns the weights of a source; those of a drawn recipe as float32, in which all of its arithmetic starts."""
    weights = load_file(weight_file(context.model_folder(source.id)))
    return weights if source.model is None else _floats(weights)


def _floats(weights: Weights) -> Weights:
    return {name: tensor.float() for name, tensor in weights.items()}


def _measure_copy(
    node: PlannedNode, spec: AnyTransform, sources: Sequence[PlannedNode], context: Context, work: Path
) -> tuple[list[float], list[float], str]:
    """Tests the sources and the copy in ``work`` on the objective of each source.

    Returns the metrics of the sources, the metrics of the copy, and the name of the metric.

    Raises:
        MothrError: the node is a permuted copy, and its outputs differ from its source's.
    """
    family, device = context.family, torch.device(context.device)
    before, after, metric = [], [], ""
    for source in sources:
        objective = context.objective(source, fresh_heads=False)
        metric = objective.metric
        original = family.load(context.model_folder(source.id)).to(device).eval()
        copy = family.load(work).to(device).eval()
        before.append(round(objective.evaluate(original), 6))
        after.append(round(objective.evaluate(copy), 6))
        if spec.kind == "permuted":
            _check_same_function(node, objective.outputs(original), objective.outputs(copy))
    return before, after, metric


def _check_same_function(node: PlannedNode, expected: torch.Tensor, outputs: torch.Tensor) -> None:
    change = float((expected - outputs).abs().max() / expected.abs().max())
    if not change <= SAME_FUNCTION_TOLERANCE:
        raise MothrError(
            f"node {node.path}: its permuted copy computes another function (an output changes by {change:.2g} of the largest output); "
            "correct the symmetries of its family"
        )
