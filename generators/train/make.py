"""Makes one node: the files of its sources -> its own model folder, and then a mark that the node is
complete."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from mothr.benchmark.data.dataset import COMPANIONS, fix_times
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.storage import write_error, write_json
from mothr.benchmark.weights.discovery import open_checkpoint
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.sources.source import fetch
from mothr.generators.train import root_cache
from mothr.generators.train.context import Context
from mothr.generators.train.machine import set_deterministic
from mothr.generators.train.merges import draw_mixing
from mothr.generators.train.model_files import save_model, weight_file, write_tensors
from mothr.generators.train.train import train
from mothr.generators.train.transforms import transform
from mothr.generators.values.objective import Objective
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.transforms import Merge

HEADS = "heads.safetensors"
PERMUTATION_TOLERANCE = 1e-3
"""A permuted copy computes the same function if no output changes by more than this fraction of the largest
output."""


def make(node: PlannedNode, sources: tuple[PlannedNode, ...], context: Context) -> None:
    """Makes ``node`` from its finished ``sources``, together with the checkpoints that are kept during its
    training.

    Raises:
        MothrError: the disk or the GPU's memory is full, the sources do not fit together, or a permuted copy
            computes another function.
    """
    work = _new_work_folder(node.id, context)
    if context.device == "cuda":
        set_deterministic(context.family.repeats_on_gpu)
    try:
        if node.root is not None:
            record = _make_root(node, context, work)
        elif node.edge is not None:
            record = _make_child(node, sources[0], context, work)
        elif node.training is not None:
            record = _make_student(node, sources[0], context, work)
        else:
            record = _make_copy(node, sources, context, work)
        _finish(node.id, record, work, context, node.withheld)
    except OSError as error:
        raise write_error(context.new_folder(node.id, node.withheld), error) from error
    except torch.OutOfMemoryError as error:
        raise MothrError(
            f"node {node.path}: the GPU's memory is full; run it again with fewer --workers, or with --device cpu"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _new_work_folder(node: NodeId, context: Context) -> Path:
    """Returns the path of this process's temporary folder for ``node``, and removes what an interrupted run
    left there."""
    work = context.state / "work" / f"{node}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    return work


def _finish(node: NodeId, record: dict[str, Any], work: Path, context: Context, withheld: bool = False) -> None:
    """Moves a complete model from ``work`` to its place, then writes ``record`` as the mark that it is done."""
    target = context.new_folder(node, withheld)
    shutil.rmtree(target, ignore_errors=True)  # left by a run that stopped before the mark was written
    os.replace(work, target)
    write_json(context.state / "done" / node, record)


def _train(
    node: PlannedNode, model: nn.Module, objective: Objective, context: Context, **options: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """Trains ``model`` as ``node`` says, writes the planned checkpoints, and keeps the heads at the end.

    Returns the trained model and its training record.
    """
    training = node.training
    assert training is not None
    checkpoints = dict(node.checkpoints)

    def write_checkpoint(step: int, checkpoint: nn.Module, record: dict[str, Any]) -> None:
        work = _new_work_folder(checkpoints[step], context)
        save_model(context.family, checkpoint, work)
        _finish(checkpoints[step], {"training": record} if record else {}, work, context)

    model, record = train(
        model,
        objective,
        training,
        node.seed,
        on_step=_step_counter(node, context),
        checkpoint_steps=tuple(checkpoints),
        on_checkpoint=write_checkpoint,
        **options,
    )
    if context.family.has_heads:
        write_tensors(objective.state(), context.heads(node.id))
    return model, record


def _step_counter(node: PlannedNode, context: Context) -> Callable[[int], None]:
    """Returns a function that writes the current step to a file, at most once a second, for the progress
    bar."""
    last = time.monotonic()

    def count(step: int) -> None:
        nonlocal last
        if time.monotonic() - last > 1:
            last = time.monotonic()
            (context.state / "steps" / node.id).write_text(str(step))

    return count


# Roots


def _make_root(node: PlannedNode, context: Context, work: Path) -> dict[str, Any]:
    """Restores a root from the cache, or trains it and stores it there; returns its record.

    A root with a source starts from the weights of its source, and is left unchanged if it has no training.
    """
    root, family = node.root, context.family
    assert root is not None
    if root.source is not None and root.training is None:
        save_model(family, fetch(root.source, family), work)
        return {}
    companions = context.companions(node)

    def destination(name: str) -> Path:
        """Returns the path in the data set of a file of the cache entry."""
        if companions is not None and name.startswith(f"{COMPANIONS}/"):
            return companions / name.removeprefix(f"{COMPANIONS}/")
        return context.heads(node.id) if name == HEADS else work / name

    # The cache holds no checkpoints. A hidden split must not leave its roots there.
    entry = root_cache.entry_of(node, context) if not node.checkpoints and not context.hidden else None
    if entry is not None:
        training = root_cache.restore(entry, destination)
        if training is not None:
            fix_times(work)
            return {"training": training}
    training = _train_root(node, context, work)
    if entry is not None:
        files = _files_below(work) | ({HEADS: context.heads(node.id)} if family.has_heads else {})
        if companions is not None:
            files |= {f"{COMPANIONS}/{name}": path for name, path in _files_below(companions).items()}
        root_cache.store(entry, files, training)
    return {"training": training}


def _train_root(node: PlannedNode, context: Context, work: Path) -> dict[str, Any]:
    """Trains a root, after the frozen parts that its tree shares, and writes it to ``work``; returns its
    training record."""
    root, family, device = node.root, context.family, torch.device(context.device)
    assert root is not None
    companions = context.companions(node)
    if companions is not None:
        shutil.rmtree(companions, ignore_errors=True)
        family.companions(root.seed, companions, device, _step_counter(node, context))
        fix_times(companions)
    start: dict[str, str | float]
    if root.source is not None:
        model, start = fetch(root.source, family), {"source": str(root.source)}
    else:
        assert root.init is not None
        model = family.build(root.init, root.init_std, torch_generator(node.seed, "weights"))
        start = {"init": root.init, "init_std": root.init_std}
    model, training = _train(node, model.to(device), context.objective(node, fresh_heads=True), context)
    save_model(family, model, work)
    return {**training, **start}


def _files_below(folder: Path) -> dict[str, Path]:
    """Returns the files below ``folder`` by their relative paths."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


# Children, students and copies


def _make_child(node: PlannedNode, parent: PlannedNode, context: Context, work: Path) -> dict[str, Any]:
    """Fine-tunes the parent's weights; returns the child's record."""
    assert node.edge is not None
    model = context.family.load(context.model_folder(parent.id)).to(torch.device(context.device))
    objective = context.objective(node, fresh_heads=True)
    if node.edge.tasks is None and context.family.has_heads:  # the parent's training continues, with the parent's heads
        objective.load_state(load_file(context.heads(parent.id)))
    model, training = _train(node, model, objective, context, lora=node.edge.lora, rank=node.rank)
    save_model(context.family, model, work)
    return {"training": training}


def _make_student(node: PlannedNode, teacher_node: PlannedNode, context: Context, work: Path) -> dict[str, Any]:
    """Trains fresh weights to imitate the outputs of a teacher; returns the student's record.

    The weights are initialised like the root of the teacher's tree.
    """
    root = node.initialised_like
    assert root is not None
    assert root.init is not None
    family, device = context.family, torch.device(context.device)
    teacher_objective = context.objective(teacher_node, fresh_heads=False)
    teacher = family.load(context.model_folder(teacher_node.id)).to(device).eval()
    model = family.build(root.init, root.init_std, torch_generator(node.seed, "weights")).to(device)
    objective = context.objective(node, fresh_heads=True)
    loss = objective.distillation_loss(teacher, teacher_objective)
    model, training = _train(node, model, objective, context, loss=loss)
    save_model(family, model, work)
    training = {**training, "init": root.init, "init_std": root.init_std}
    return {"training": training, "transform": {"kind": "distilled", "teacher": teacher_node.id}}


def _make_copy(node: PlannedNode, sources: tuple[PlannedNode, ...], context: Context, work: Path) -> dict[str, Any]:
    """Makes a node by transforming the weights of its sources; returns its record, with the sources' metrics
    before and after."""
    assert node.derived is not None
    spec, family = node.derived.transform, context.family
    first = context.model_folder(sources[0].id)
    path = work / weight_file(first).name
    mixing = draw_mixing(spec, torch_generator(node.seed, "mixing")) if isinstance(spec, Merge) else ()
    ancestor = node.common_ancestor
    weights = transform(
        spec,
        [load_file(weight_file(context.model_folder(source.id))) for source in sources],
        base=load_file(weight_file(context.model_folder(ancestor))) if ancestor else None,
        mixing=mixing,
        symmetries=family.symmetries(),
        generator=torch_generator(node.seed, "transform"),
    )
    shutil.copytree(first, work)
    write_tensors(weights, path)
    # The copy is measured with float32 weights, as a reader of the data set sees them. Then the stored precision is written.
    checkpoint = open_checkpoint(work, node.id)
    write_tensors({name: checkpoint.read(name).float() for name in checkpoint.tensors}, path)
    before, after, metric = _measure_copy(node, sources, context, work)
    write_tensors(weights, path)
    fix_times(work)
    record = {
        **spec.model_dump(mode="json", exclude_none=True),
        "of": [source.id for source in sources],
        "metric": metric,
        "before": before,
        "after": after,
        "seed": node.seed,
    }
    if mixing:
        record["mixing"] = [round(share, 6) for share in mixing]
    return {"transform": record}


def _measure_copy(
    node: PlannedNode, sources: tuple[PlannedNode, ...], context: Context, work: Path
) -> tuple[list[float], list[float], str]:
    """Tests the sources and the copy in ``work`` on the objective of each source.

    Returns the metrics of the sources, the metrics of the copy, and the name of the metric.

    Raises:
        MothrError: the node is a permuted copy, and its outputs differ from its source's.
    """
    assert node.derived is not None
    family, device = context.family, torch.device(context.device)
    before, after, metric = [], [], ""
    for source in sources:
        objective = context.objective(source, fresh_heads=False)
        metric = objective.metric
        original = family.load(context.model_folder(source.id)).to(device).eval()
        copy = family.load(work).to(device).eval()
        before.append(round(objective.evaluate(original), 6))
        after.append(round(objective.evaluate(copy), 6))
        if node.derived.transform.kind == "permuted":
            _check_same_function(node, objective.outputs(original), objective.outputs(copy))
    return before, after, metric


def _check_same_function(node: PlannedNode, expected: torch.Tensor, outputs: torch.Tensor) -> None:
    change = float((expected - outputs).abs().max() / expected.abs().max())
    if not change <= PERMUTATION_TOLERANCE:
        raise MothrError(
            f"node {node.path}: its permuted copy computes another function (an output changes by {change:.2g} of the largest output); "
            "correct the symmetries of its family"
        )
