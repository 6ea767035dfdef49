"""Makes one node: the files of its sources -> its own model folder, and then a mark that the node is
complete."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mothr.benchmark.data.dataset import COMPANIONS, fix_times
from mothr.benchmark.data.learning import learned
from mothr.benchmark.errors import MothrError
from mothr.benchmark.graph import NodeId
from mothr.benchmark.storage import write_error, write_json
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.sources.source import fetch
from mothr.generators.train import root_cache
from mothr.generators.train.context import Context
from mothr.generators.train.copies import make_copy, make_edge_copy, make_start
from mothr.generators.train.launder import freeze
from mothr.generators.train.machine import set_deterministic
from mothr.generators.train.model_files import save_model, store_as, write_tensors
from mothr.generators.train.train import Diverged, train
from mothr.generators.values.objective import Objective
from mothr.generators.values.seeds import torch_generator

HEADS = "heads.safetensors"
REPEATS = 5
"""How often a training of a drawn recipe that diverges or teaches nothing is repeated at most."""
MAX_STEPS = 10_000
"""Largest number of steps of a repetition: those of the longest training that a drawn recipe of this package names."""


def make(node: PlannedNode, sources: tuple[PlannedNode, ...], context: Context) -> None:
    """Makes ``node`` from its finished ``sources``, together with the checkpoints that are kept during its
    training.

    Raises:
        MothrError: the disk or the GPU's memory is full, the sources do not fit together, or a copy
            that must keep the function of its source computes another one.
    """
    work = _new_work_folder(node.id, context)
    if context.device == "cuda":
        set_deterministic(context.family.repeats_on_gpu)
    try:
        if node.root is not None:
            record = _make_root(node, context, work)
        elif node.edge is not None:
            record = _make_child(node, sources, context, work)
        elif node.training is not None:
            record = _make_student(node, sources[0], context, work)
        else:
            record = make_copy(node, sources, context, work)
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


def _train_drawn(
    node: PlannedNode, context: Context, begin: Callable[[], tuple[nn.Module, Objective]], **options: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """Trains as :func:`_train`. In a drawn recipe, a training that fails is repeated, :data:`REPEATS` times at most.

    Ranges of rates and steps that span what people use hold trainings that diverge, and trainings that teach nothing.
    Nobody publishes such a model. A training that diverges is repeated with a tenth of its learning rate. One that
    teaches nothing is repeated with four times its steps or, if these were above :data:`MAX_STEPS`, with four times its
    rate. The record has the rate and the steps that were used.

    Args:
        node: The node.
        context: The settings of the data set.
        begin: Returns the model at its start and the objective.
        options: As for :func:`mothr.generators.train.train.train`.
    """
    continued = node.edge is not None and node.edge.tasks is None
    for last in [False] * REPEATS + [True]:
        model, objective = begin()
        try:
            trained, record = _train(node, model, objective, context, **options)
        except Diverged:
            if node.model is None or last:
                raise
            node = node.with_training(rate_factor=0.1)
            continue
        if node.model is None:
            break
        record = {**record, **({"continued": True} if continued else {})}
        if last or learned(record):
            break
        node = node.with_training(**_larger(node))
    return trained, record


def _larger(node: PlannedNode) -> dict[str, int]:
    """Returns by what the training of ``node`` is multiplied if it taught nothing."""
    return (
        {"step_factor": 4} if node.training is not None and 4 * node.training.steps <= MAX_STEPS else {"rate_factor": 4}
    )


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
        store_as(work, node.stored)
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
            store_as(work, node.stored)
            return {"training": training}
    training = _train_root(node, context, work)
    if entry is not None:
        files = _files_below(work) | ({HEADS: context.heads(node.id)} if family.has_heads else {})
        if companions is not None:
            files |= {f"{COMPANIONS}/{name}": path for name, path in _files_below(companions).items()}
        root_cache.store(entry, files, training)
    store_as(work, node.stored)
    return {"training": training}


def _train_root(node: PlannedNode, context: Context, work: Path) -> dict[str, Any]:
    """Trains a root, after the frozen parts that its tree shares, and writes it to ``work``; returns its
    training record."""
    root, family, device = node.root, context.family, torch.device(context.device)
    assert root is not None
    companions = context.companions(node)
    if companions is not None:
        _make_companions(node, context, companions)

    def begin() -> tuple[nn.Module, Objective]:
        if root.source is not None:
            model = fetch(root.source, family)
        else:
            assert root.init is not None
            model = family.build(root.init, root.init_std, torch_generator(node.seed, "weights"))
        return model.to(device), context.objective(node, fresh_heads=True)

    model, training = _train_drawn(node, context, begin)
    save_model(family, model, work)
    if root.source is not None:
        return {**training, "source": str(root.source)}
    return {**training, "init": root.init, "init_std": root.init_std}


def _make_companions(node: PlannedNode, context: Context, folder: Path) -> None:
    """Trains the frozen parts that a tree shares, and writes them to ``folder``.

    Parts that several trees share are trained once on a machine and kept in the cache.
    """
    root, key = node.root, context.family.companions_key()
    assert root is not None

    def train_into(target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        context.family.companions(root.seed, target, torch.device(context.device), _step_counter(node, context))

    if key is None:
        train_into(folder)
    else:
        with root_cache.locked(root_cache.companions_entry(key, context)) as entry:
            if root_cache.restore(entry, folder.joinpath) is None:
                train_into(folder)
                root_cache.store(entry, _files_below(folder), {})
    fix_times(folder)


def _files_below(folder: Path) -> dict[str, Path]:
    """Returns the files below ``folder`` by their relative paths."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


# Children and students


def _make_child(node: PlannedNode, sources: tuple[PlannedNode, ...], context: Context, work: Path) -> dict[str, Any]:
    """Makes a child: transforms the weights of its sources, or trains on, or both; returns its record.

    All arithmetic has float32 or more. In a drawn recipe the result is rounded to its stored precision at the end.
    """
    edge = node.edge
    assert edge is not None
    if edge.training is None:
        return make_edge_copy(node, sources, context, work)
    folder = context.state / "work" / f"{node.id}.{os.getpid()}.start"
    try:
        start = make_start(node, sources, context, folder)

        def begin() -> tuple[nn.Module, Objective]:
            model = context.family.load(start.folder).to(torch.device(context.device))
            freeze(model, start.fixed)
            objective = context.objective(node, fresh_heads=True)
            if edge.tasks is None and start.heads:  # the parent's training continues, with the parent's heads
                objective.load_state(start.heads)
            return model, objective

        drawn = node.model is not None
        model, training = _train_drawn(node, context, begin, lora=edge.lora, rank=node.rank, measure_test_loss=drawn)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    save_model(context.family, model, work)
    store_as(work, node.stored)
    return {"training": training, **({"transform": start.record} if start.record else {})}


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
