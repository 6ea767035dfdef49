"""Estimates the cost of a recipe on this machine, before anything is downloaded or trained.
 Fresh models of the recipe's sizes are trained for a few timed steps, on data that needs no download. The
rest is counted or computed.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mothr.generators.data import vision
from mothr.generators.families import FAMILIES, Family
from mothr.generators.recipe.drawn import AnyRecipe
from mothr.generators.recipe.node import PlannedNode
from mothr.generators.recipe.topology import plan, tasks_of
from mothr.generators.train.train import train
from mothr.generators.values.objective import Objective
from mothr.generators.values.seeds import torch_generator
from mothr.generators.values.training import Lora

STEPS = 5
"""Number of steps of each kind of training. All but the first, which allocates memory, are timed."""
MAX_OPERATIONS = 2e11
"""Largest number of operations (6 x parameters x positions x examples) of a timed step on a CPU. A larger
step is timed with fewer examples, and its time is scaled up."""
BASE_BYTES = 520 << 20
"""Memory of a worker process without a model: interpreter, torch, transformers, data (measured)."""
STAND_IN = "digits"
"""The task that replaces a task with downloaded pictures; time and memory do not depend on the pictures."""


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """The cost of one kind of training in a recipe."""

    name: str
    """``root``, ``full fine-tuning``, ``LoRA`` or ``student``."""
    models: int
    """Number of models that are trained this way."""
    steps: int
    """Optimizer steps of all these models together."""
    batch_size: int
    """Examples per step."""
    timed_batch_size: int
    """Examples per timed step. If it is smaller than ``batch_size``, the time was scaled up."""
    seconds_a_step: float
    """Median time of a step on this machine, in seconds."""
    seconds_a_test: float
    """Time of one of the two tests of each model, in seconds. If steps were scaled up: a third of the
    training time of as many examples."""
    trained: int
    """Number of trained parameters."""
    activation_bytes: int
    """Memory that one step keeps for its backward pass, in bytes."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a recipe."""

    recipe: str
    """Name of the recipe."""
    models: int
    """Number of models in the data set."""
    trees: int
    """Number of Model Trees."""
    steps: int
    """Total number of optimizer steps."""
    parameters: int
    """Number of parameters of one model."""
    disk_bytes: int
    """Size of all model files, in bytes."""
    peak_bytes: int
    """Peak memory of one worker process, or on a GPU of its memory, in bytes."""
    hours: float
    """Time on ``device`` with ``workers`` processes, in hours, if nothing else runs there."""
    device: str
    """The device that was timed."""
    workers: int
    """Number of processes."""
    kinds: tuple[TrainingCost, ...]
    """Cost of each kind of training."""
    downloads: tuple[str, ...]
    """Models and data that are downloaded first."""

    def to_json(self) -> dict[str, Any]:
        """Returns the estimate as plain values."""
        return asdict(self)


def estimate(recipe: AnyRecipe, device: str, workers: int) -> Estimate:
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
    with _one_thread(device), tempfile.TemporaryDirectory() as place:
        parameters, companion_seconds, kinds = _measure_all(family, groups, torch.device(device), Path(place))
    seconds = {
        node.id: kind.seconds_a_step * node.steps + 2 * kind.seconds_a_test
        for group, kind in zip(groups.values(), kinds, strict=True)
        for node in group
    }
    for node in nodes:
        if node.root is not None and node.id in seconds:
            seconds[node.id] += companion_seconds
    total, longest_chain = sum(seconds.values()), _longest(nodes, seconds)
    workers = min(workers, len(nodes))
    parallel = workers if device == "cpu" else 1
    included = [node for node in nodes if not node.withheld]
    return Estimate(
        recipe=recipe.name,
        models=len(included),
        trees=len({node.tree for node in included}),
        steps=sum(kind.steps for kind in kinds),
        parameters=parameters,
        disk_bytes=sum(_disk_bytes(node, parameters) for node in included),
        peak_bytes=max(
            (_peak_bytes(kind, parameters, group) for kind, group in zip(kinds, groups.values(), strict=True)),
            default=BASE_BYTES,
        ),
        hours=max(total / parallel, longest_chain) / 3600,
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
    name = "student" if node.derived else "root" if node.root else "LoRA" if lora else "full fine-tuning"
    return name, node.training.batch_size, node.training.optimizer, node.training.trained, lora


# Measuring


def _measure_all(
    family: Family, groups: dict[tuple[Any, ...], list[PlannedNode]], device: torch.device, place: Path
) -> tuple[int, float, tuple[TrainingCost, ...]]:
    """Returns a model's number of parameters, the seconds to train the frozen parts of a tree, and the cost
    of each kind of training."""
    parameters = sum(value.numel() for value in _fresh(family).parameters())
    companions, companion_seconds = None, 0.0
    if family.has_companions:
        companions = place / "companions"
        root = next(node.root for group in groups.values() for node in group if node.root)
        companion_seconds = _companions(family, root, companions, device)
    kinds = []
    for (name, *_), group in groups.items():
        tasks = dict.fromkeys(STAND_IN if task in vision.TASKS else task for task in group[0].tasks)
        objective = family.objective(tuple(tasks), torch_generator(0, "head"), device, companions)
        kinds.append(_measure(name, family, objective, group, parameters, device))
    return parameters, companion_seconds, tuple(kinds)


def _measure(
    name: str, family: Family, objective: Objective, group: Sequence[PlannedNode], parameters: int, device: torch.device
) -> TrainingCost:
    """Returns the cost of the kind of training that the nodes of ``group`` have, measured with the largest
    rank among them."""
    model, node = _fresh(family).to(device), max(group, key=lambda node: node.rank or 0)
    training = node.training
    assert training is not None
    most = training.batch_size if device.type == "cuda" else int(MAX_OPERATIONS / (6 * parameters * _positions(family)))
    batch = max(1, min(training.batch_size, most))
    stamps: list[float] = []

    def stamp(step: int) -> None:
        stamps.append(_now(device))

    counter, tested = _ActivationCounter(), _TimedObjective(objective, device, timed=batch == training.batch_size)
    brief = training.model_copy(update={"steps": STEPS, "batch_size": batch})
    loss = counter.counting(objective.loss)
    teacher = _fresh(family).to(device).eval() if name == "student" else None
    if teacher is not None:
        loss = counter.counting(objective.distillation_loss(teacher, objective))
    train(model, tested, brief, 0, lora=node.edge.lora if node.edge else None, rank=node.rank, loss=loss, on_step=stamp)
    seconds = statistics.median(later - earlier for earlier, later in itertools.pairwise(stamps))
    scale = training.batch_size / batch
    test = tested.seconds if tested.timed else seconds / batch * vision.SIZES["test"] / 3
    return TrainingCost(
        name=name,
        models=len(group),
        steps=sum(node.steps for node in group),
        batch_size=training.batch_size,
        timed_batch_size=batch,
        seconds_a_step=seconds * scale,
        seconds_a_test=test,
        trained=counter.trained,
        activation_bytes=round(counter.bytes * scale),
    )


def _now(device: torch.device) -> float:
    """Returns the CPU time of this process, or on a GPU the wall-clock time, in seconds."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _fresh(family: Family) -> nn.Module:
    return family.build("normal", 0.02, torch_generator(0, "weights"))


def _positions(family: Family) -> int:
    """Returns the approximate number of positions per example: bytes, patches, or pixels of the latents of a
    UNet."""
    side, patch = getattr(family, "image_size", 0), getattr(family, "patch_size", 1)
    return getattr(family, "context", 0) or (side // patch) ** 2 or 64


class _TimedObjective:
    """An objective whose tests are timed, or left out if they would take too long."""

    def __init__(self, objective: Objective, device: torch.device, timed: bool) -> None:
        self._objective = objective
        self._device = device
        self.timed = timed
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def evaluate(self, model: nn.Module) -> float:
        """Returns the metric and records its time."""
        start = _now(self._device)
        value = self._objective.evaluate(model) if self.timed else 0.0
        self.seconds = _now(self._device) - start
        return value


class _ActivationCounter:
    """Counts the bytes that a step keeps for its backward pass, and the trained parameters."""

    def __init__(self) -> None:
        self.bytes = 0
        self.trained = 0

    def counting(self, loss: Any) -> Any:
        """Returns ``loss``; its first call is counted."""

        def counted(model: nn.Module, batch_size: int, generator: torch.Generator) -> torch.Tensor:
            if self.bytes:
                return loss(model, batch_size, generator)
            self.trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
            weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
            seen: dict[int, int] = {}

            def keep(value: torch.Tensor) -> torch.Tensor:
                storage = value.untyped_storage()
                if storage.data_ptr() not in weights:
                    seen[storage.data_ptr()] = storage.nbytes()
                return value

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
                result = loss(model, batch_size, generator)
            self.bytes = sum(seen.values())
            return result

        return counted


def _companions(family: Any, root: Any, folder: Path, device: torch.device) -> float:
    """Trains the frozen parts of a tree for a few steps, and returns the estimated time of all steps in
    seconds."""
    fields = {name: value for name, value in family if name.endswith("_steps")}
    stamps = [_now(device)]
    brief = family.model_copy(update=dict.fromkeys(fields, STEPS))
    brief.companions(root.seed, folder, device, lambda step: stamps.append(_now(device)))
    taken = stamps[-1] - stamps[0]
    return taken / (STEPS * len(fields)) * sum(fields.values())


@contextmanager
def _one_thread(device: str) -> Any:
    """Sets one torch thread, as in worker processes."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Counting


def _longest(nodes: Sequence[PlannedNode], seconds: dict[str, float]) -> float:
    """Returns the seconds of the longest chain of models; each model waits for its sources."""
    finish: dict[str, float] = {}
    for node in nodes:
        finish[node.id] = seconds.get(node.id, 0.0) + max((finish[source] for source in node.sources), default=0.0)
    return max(finish.values(), default=0.0)


def _disk_bytes(node: PlannedNode, parameters: int) -> int:
    spec = node.derived.transform if node.derived else None
    if spec is None or spec.kind != "quantized":
        return 4 * parameters
    stored = spec.precision if spec.stored == "as-is" else spec.stored
    return {"int8": 1, "float16": 2, "bfloat16": 2}.get(stored, 4) * parameters


def _peak_bytes(kind: TrainingCost, parameters: int, group: Sequence[PlannedNode]) -> int:
    training = group[0].training
    assert training is not None
    values = 1 + (2 if training.optimizer in ("adamw", "adam") else 1)
    values += sum(value is not None for value in (training.ema, training.tail_average, training.l2_sp))
    models = 2 if kind.name == "student" else 1
    return BASE_BYTES + 4 * (models * parameters + values * kind.trained) + kind.activation_bytes


def rows(cost: Estimate) -> list[dict[str, str]]:
    """Returns the estimate as the rows of a table for people."""
    first = {
        "recipe": cost.recipe,
        "models": str(cost.models),
        "trees": str(cost.trees),
        "steps": f"{cost.steps:,}",
        "parameters per model": f"{cost.parameters:,}",
        "disk": _size(cost.disk_bytes),
        "peak memory per process": f"{_size(cost.peak_bytes)} = {_size(BASE_BYTES)} + weights + gradients + optimizer + activations",
        f"time on {cost.device}, {cost.workers} processes": _duration(cost.hours),
    }
    table = [{"what": name, "value": value} for name, value in first.items()]
    for kind in cost.kinds:
        scaled = (
            ""
            if kind.timed_batch_size == kind.batch_size
            else f" (timed with {kind.timed_batch_size} of them and scaled up)"
        )
        table.append(
            {
                "what": kind.name,
                "value": f"{kind.models} models, {kind.steps:,} steps of {kind.batch_size}, "
                f"{1000 * kind.seconds_a_step:.0f} ms each{scaled}",
            }
        )
    return table + [{"what": "downloaded first", "value": text} for text in cost.downloads]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _duration(hours: float) -> str:
    return (
        f"{hours:.1f} hours"
        if hours >= 1
        else f"{60 * hours:.0f} minutes"
        if hours >= 1 / 30
        else f"{3600 * hours:.0f} seconds"
    )
