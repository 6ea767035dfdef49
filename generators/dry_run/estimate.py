"""Estimates the cost of a recipe whose models all have the same sizes.

Fresh models of the recipe's sizes are trained for a few timed steps. The rest is counted or computed.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mothr.generators.data import vision
from mothr.generators.dry_run.cost import BASE_BYTES, Estimate, TrainingCost
from mothr.generators.dry_run.measuring import (
    fresh,
    measure,
    name_of,
    objective_of,
    one_torch_thread,
    seconds_of_companions,
)
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe.drawn import AnyRecipe
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.recipe.schema import Recipe
from mothr.generators.recipe.topology import plan, tasks_of
from mothr.generators.values.training import Lora


def estimate(recipe: Recipe, device: str, workers: int) -> Estimate:
    """Returns the cost of ``recipe`` on ``device`` with ``workers`` processes of one thread each.

    Peak memory = base + 4 bytes x (parameters + trained parameters x (1 gradient + s)) + activations. The
    optimizer state s is two values per parameter for AdamW and Adam and at most one for the others. An average of
    the weights and a kept start count as one more each. The teacher of a student counts as a second model.

    Time = the maximum of two values: all work divided by the number of processes, and the longest chain of
    models that wait for each other. Processes on one GPU share it, so there all work is divided by one.
    """
    family = FAMILIES[recipe.family](**recipe.model)
    nodes = plan(recipe)
    groups: dict[tuple[Any, ...], list[PlannedNode]] = {}
    for node in nodes:
        if node.training is not None and node.checkpoint_of is None:
            groups.setdefault(_key(node), []).append(node)
    with one_torch_thread(device), tempfile.TemporaryDirectory() as place:
        parameters, companion_seconds, kinds = _measure_all(family, groups, torch.device(device), Path(place))
    seconds = {
        node.id: kind.seconds_a_step * node.steps + 2 * kind.seconds_a_test
        for group, kind in zip(groups.values(), kinds, strict=True)
        for node in group
    }
    for node in nodes:
        if node.root is not None and node.id in seconds:
            seconds[node.id] += companion_seconds
    total, longest = sum(seconds.values()), longest_chain(nodes, seconds)
    workers = min(workers, len(nodes))
    parallel = workers if device == "cpu" else 1
    included = [node for node in nodes if not node.withheld]
    return Estimate(
        recipe=recipe.name,
        models=len(included),
        trees=len({node.tree for node in included}),
        steps=sum(kind.steps for kind in kinds),
        parameters=parameters,
        disk_bytes=sum(disk_bytes_of(node, parameters) for node in included),
        peak_bytes=max(
            (peak_bytes_of(kind, parameters, group) for kind, group in zip(kinds, groups.values(), strict=True)),
            default=BASE_BYTES,
        ),
        hours=max(total / parallel, longest) / 3600,
        device=device,
        workers=workers,
        kinds=kinds,
        downloads=downloads(recipe),
    )


def downloads(recipe: AnyRecipe) -> tuple[str, ...]:
    """Returns the roots and data sets that must be downloaded to generate ``recipe``."""
    roots = [f"root {node.root.name}: {node.root.source}" for node in plan(recipe) if node.root and node.root.source]
    return (
        *roots,
        *(f"task {task}: {vision.TASKS.find(task).source}" for task in tasks_of(recipe) if task in vision.TASKS),
    )


def _key(node: PlannedNode) -> tuple[str, int, str, str | None, Lora | None]:
    """Returns the properties of ``node`` that its training cost depends on."""
    assert node.training is not None
    lora = node.edge.lora if node.edge else None
    return name_of(node), node.training.batch_size, node.training.optimizer, node.training.trained, lora


def _measure_all(
    family: Family, groups: dict[tuple[Any, ...], list[PlannedNode]], device: torch.device, place: Path
) -> tuple[int, float, tuple[TrainingCost, ...]]:
    """Returns a model's number of parameters, the seconds to train the frozen parts of a tree, and the cost
    of each kind of training."""
    parameters = sum(value.numel() for value in fresh(family).parameters())
    companions, companion_seconds = None, 0.0
    if family.has_companions:
        companions = place / "companions"
        root = next(node.root for group in groups.values() for node in group if node.root)
        companion_seconds = seconds_of_companions(family, root, companions, device)
    kinds = []
    for (name, *_), group in groups.items():
        kinds.append(
            measure(name, family, objective_of(group[0], family, device, companions), group, parameters, device)
        )
    return parameters, companion_seconds, tuple(kinds)


# Counting


def longest_chain(nodes: Sequence[PlannedNode], seconds: dict[str, float]) -> float:
    """Returns the seconds of the longest chain of models; each model waits for its sources."""
    finish: dict[str, float] = {}
    for node in nodes:
        finish[node.id] = seconds.get(node.id, 0.0) + max((finish[source] for source in node.sources), default=0.0)
    return max(finish.values(), default=0.0)


def disk_bytes_of(node: PlannedNode, parameters: int) -> int:
    """Returns the bytes of the weights of ``node``, which have float32 unless it is a quantized copy."""
    spec = node.derived.transform if node.derived else None
    if spec is None or spec.kind != "quantized":
        return 4 * parameters
    stored = spec.precision if spec.stored == "as-is" else spec.stored
    return {"int8": 1, "float16": 2, "bfloat16": 2}.get(stored, 4) * parameters


def peak_bytes_of(kind: TrainingCost, parameters: int, group: Sequence[PlannedNode]) -> int:
    """Returns the memory of a process that trains a node of ``group``."""
    training = group[0].training
    assert training is not None
    values = 1 + (2 if training.optimizer in ("adamw", "adam") else 1)
    values += sum(value is not None for value in (training.ema, training.tail_average, training.l2_sp))
    models = 2 if kind.name == "student" else 1
    return BASE_BYTES + 4 * (models * parameters + values * kind.trained) + kind.activation_bytes
